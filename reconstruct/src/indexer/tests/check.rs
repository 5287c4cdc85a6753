//! What does not fit between index and shards is found, with its place.

use super::recording::{Recording, traffic};
use crate::index::{
    DirectoryEntry, Index, IndexBatch, IndexReport, L1Block, L1Builder, L1Key, L1Reader, L2Block, L2Key,
    PacketEntry, Sums,
};
use capture::{ByteRange, RecordAt, ShardInfo, verify_shard};

struct Bench {
    r: Recording,
    index: Index,
    shard: ShardInfo,
}

impl Bench {
    fn new() -> Self {
        let r = Recording::new();
        r.run(&traffic(1, 90), u64::MAX);
        let index = Index::open(&r.store.index_dir()).unwrap();
        let shard = r.store.shards()[1].clone();
        Self { r, index, shard }
    }

    fn check_up_to(&self, up_to: u64, unreadable: &[ByteRange]) -> IndexReport {
        let mut sums = Sums::default();
        let intact = |at: &RecordAt| !unreadable.iter().any(|r| (r.from..r.to).contains(&at.offset));
        verify_shard(&self.r.store, &self.shard, &mut |at| {
            if at.offset < up_to && intact(at) {
                sums.add(at);
            }
        })
        .unwrap();
        let mut walk = |seen: &mut dyn FnMut(&RecordAt)| {
            verify_shard(&self.r.store, &self.shard, &mut |at| {
                if intact(at) {
                    seen(at)
                }
            })
            .unwrap();
        };
        self.index.check_shard(&self.shard, up_to, unreadable, &sums, &mut walk).unwrap()
    }

    fn check(&self) -> IndexReport {
        self.check_up_to(self.index.indexed_up_to(&self.shard).unwrap().unwrap(), &[])
    }

    /// A block of the first level, with its packets.
    fn block(&self) -> (L1Key, Vec<PacketEntry>) {
        let mut found = None;
        self.index
            .l1_of_shard(self.shard.id, |key, bytes| {
                found = Some((key, L1Reader::new(bytes).unwrap().map(Result::unwrap).collect()));
                Ok(false)
            })
            .unwrap();
        found.unwrap()
    }

    fn put(&self, change: impl FnOnce(&mut IndexBatch)) {
        let mut batch = IndexBatch::new();
        change(&mut batch);
        self.index.commit(batch).unwrap();
    }
}

#[test]
fn each_fault_is_found_where_it_is() {
    let b = Bench::new();
    let sound = b.check();
    assert!(sound.sound(), "{sound:?}");
    assert_eq!((sound.rows, sound.indexed_bytes), (b.shard.packets, b.shard.bytes));

    // One packet is missing in the index, and another is said to be longer than it is.
    let (key, mut entries) = b.block();
    let whole = entries.clone();
    let missing = entries.remove(3);
    entries[1].captured_len += 1;
    let rebuilt = |entries: &[PacketEntry]| {
        let mut builder = L1Builder::new(key.flow, key.shard);
        entries.iter().for_each(|e| _ = builder.push(e));
        builder.encode_partial().unwrap()
    };
    b.put(|batch| batch.put_l1(rebuilt(&entries)));
    let found = b.check();
    let mut expected = vec![entries[1].offset, missing.offset];
    expected.sort_unstable();
    assert_eq!((found.without_row, found.without_record), (expected, vec![entries[1].offset]));

    // Packets that are nowhere: in the middle of a record, and behind the shard's end.
    let (mut inside, mut behind) = (whole.clone(), whole.clone());
    inside[2].offset += 1;
    behind.push(PacketEntry { offset: b.shard.bytes + 50, ..whole[0] });
    b.put(|batch| batch.put_l1(rebuilt(&inside)));
    let found = b.check();
    assert_eq!((found.without_row, found.without_record), (vec![whole[2].offset], vec![whole[2].offset + 1]));
    b.put(|batch| batch.put_l1(rebuilt(&behind)));
    let found = b.check();
    assert_eq!(
        (found.without_row.as_slice(), found.without_record),
        ([].as_slice(), vec![b.shard.bytes + 50])
    );

    // A block that can't be read.
    b.put(|batch| batch.put_l1(L1Block { key, bytes: vec![9, 9, 9] }));
    let found = b.check();
    assert!(found.unreadable[0].contains(&format!("first level, flow {}", key.flow.0)), "{found:?}");
    assert!(!found.without_row.is_empty());
    b.put(|batch| batch.put_l1(rebuilt(&whole)));
    assert!(b.check().sound());

    // The index is ahead of the shard, and behind it.
    b.put(|batch| batch.put_position(b.shard.tap, b.shard.id, b.shard.bytes + 8));
    assert_eq!(b.check().beyond, Some(b.shard.bytes + 8));
    b.put(|batch| batch.put_position(b.shard.tap, b.shard.id, 24));
    assert!(b.check().sound(), "what comes behind the position is not expected yet");
    b.put(|batch| batch.put_position(b.shard.tap, capture::ShardId(b.shard.id.0 - 1), 24));
    assert_eq!(b.index.indexed_up_to(&b.shard).unwrap(), None);
    b.put(|batch| batch.put_position(b.shard.tap, b.shard.id, b.shard.bytes));

    // Where the shard itself is damaged the index is not to blame.
    let hole = ByteRange { from: 500_000, to: 600_000 };
    assert!(b.check_up_to(b.shard.bytes, &[hole]).sound());

    // The second level.
    let segment = b.index.segments().unwrap()[0].id;
    let at = L2Key { shard: b.shard.id, segment, block: 0 };
    let stream = b.index.segment(segment).unwrap().unwrap().stream;
    let mut directory = None;
    let row = |e: DirectoryEntry| {
        directory = (e.block == at).then_some(e.row).or(directory);
        true
    };
    b.index.directory(stream, i64::MIN, i64::MAX, row).unwrap();
    let bytes = vec![9, 9, 9];
    b.put(|batch| batch.put_l2(L2Block { key: at, stream, bytes, directory: directory.unwrap() }));
    let found = b.check();
    assert!(found.unreadable[0].contains(&format!("second level, segment {}", segment.0)), "{found:?}");
    assert!(found.without_row.is_empty() && !found.sound());

    // Nothing of it.
    b.index.drop_shard(b.shard.id, &[]).unwrap();
    let found = b.check();
    assert_eq!((found.rows, found.without_row.len()), (0, 16), "of many the first are named");
}
