use super::*;
use crate::index::{FlowId, L1Builder, L1Key, PacketEntry};
use capture::{CaptureTime, TapId};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// A batch with one more packet of a flow, and a position and a state that say so.
fn batch(builder: &mut L1Builder, n: u64) -> IndexBatch {
    let mut batch = IndexBatch::new();
    let shard = ShardId(n / 5000);
    if builder.full() || builder.shard() != shard {
        builder.roll(shard).into_iter().for_each(|b| batch.put_l1(b));
    }
    builder.push(&PacketEntry {
        offset: 24 + n * 1000,
        time: CaptureTime::from_nanos(n as i64 * 1_000_000),
        captured_len: 984,
        original_len: 984,
        payload_offset: 42,
        payload_len: 942,
        header: crate::index::HeaderFields::None,
    });
    builder.encode_partial().into_iter().for_each(|b| batch.put_l1(b));
    batch.put_position(TapId(1), shard, n);
    batch.put_state(n.to_be_bytes().to_vec());
    batch
}

fn state(index: &Index) -> u64 {
    index.state().unwrap().map_or(0, |s| u64::from_be_bytes(s.try_into().unwrap()))
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = L1Builder::new(FlowId(1), ShardId(0));
    {
        let index = Index::open(dir.path()).unwrap();
        assert_eq!(index.state().unwrap(), None);
        for n in 0..2000 {
            index.commit(batch(&mut builder, n)).unwrap();
        }
        assert!(matches!(Index::open(dir.path()), Err(IndexError::Open { .. })), "one writer");
    }
    let index = Index::open(dir.path()).unwrap();
    assert_eq!(state(&index), 1999);
    assert_eq!(index.positions().unwrap(), [(TapId(1), ShardId(0), 1999)]);
    let key = |block| L1Key { shard: ShardId(0), flow: FlowId(1), block };
    assert_eq!(index.packets(&key(0)).unwrap().len(), 1024);
    assert_eq!(index.packets(&key(1)).unwrap().len(), 976);
    assert!(index.packets(&key(2)).unwrap().is_empty());
}

#[test]
fn another_format_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    for (found, words) in [(FORMAT + 1, "use a newer one"), (0, "tapdeck reindex")] {
        let path = dir.path().join(found.to_string());
        {
            let index = Index::open(&path).unwrap();
            let mut batch = WriteBatch::default();
            let opened = index.opened().unwrap();
            batch.put_cf(&opened.family(Family::Meta), keys::meta(meta::VERSION, 0), encode(&found));
            opened.write(batch).unwrap();
        }
        for error in [Index::open(&path).err(), Index::open_secondary(&path).err()] {
            assert!(error.unwrap().to_string().contains(words));
        }
    }
    let missing = Index::open_secondary(&dir.path().join("none")).err().unwrap();
    assert!(matches!(missing, IndexError::Missing { .. }));
}

#[test]
fn a_damaged_row_is_an_error_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let mut batch = WriteBatch::default();
    let opened = index.opened().unwrap();
    batch.put_cf(&opened.family(Family::Meta), keys::meta(meta::STREAM, 3), [1, 2, 3]);
    let key = L1Key { shard: ShardId(1), flow: FlowId(2), block: 0 };
    batch.put_cf(&opened.family(Family::L1), keys::l1(&key), [1, 200]);
    opened.write(batch).unwrap();
    let error = index.stream(crate::index::StreamId(3)).err().unwrap().to_string();
    assert!(error.contains("meta") && error.contains("7300000003"), "{error}");
    let error = index.packets(&key).err().unwrap().to_string();
    assert!(error.contains("shard 1, flow 2, number 0"), "{error}");
}

/// A reader beside the writer: what it reads is always one commit, never half of one, and never goes back. The writer
/// flushes and compacts under it, so that tables vanish which the reader has not opened.
#[test]
fn a_secondary_follows_the_writer_while_it_writes() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut builder = L1Builder::new(FlowId(1), ShardId(0));
            for n in 1..20_000 {
                index.commit(batch(&mut builder, n)).unwrap();
                if n % 1500 == 0 {
                    index.settle().unwrap();
                }
                if n % 4000 == 0 {
                    let opened = index.opened().unwrap();
                    opened.db().compact_range_cf(&opened.family(Family::L1), None::<&[u8]>, None::<&[u8]>);
                    index.drop_shard(ShardId((n / 5000).saturating_sub(1)), &[]).unwrap();
                }
            }
            done.store(true, Ordering::Release);
        });
        while index.state().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let reader = Index::open_secondary(dir.path()).unwrap();
        assert!(matches!(
            reader.commit(batch(&mut L1Builder::new(FlowId(1), ShardId(0)), 0)),
            Err(IndexError::ReadOnly)
        ));
        let (mut seen, mut looks, mut longest) = (0, 0, Duration::ZERO);
        while !done.load(Ordering::Acquire) {
            let began = Instant::now();
            reader.refresh().unwrap();
            longest = longest.max(began.elapsed());
            let now = state(&reader);
            let position = reader.positions().unwrap()[0].2;
            assert_eq!(now, position, "state and position are of one commit");
            assert!(now >= seen, "{now} after {seen}");
            reader.l1_of_shard(ShardId(now / 5000), |_, _| Ok(true)).unwrap();
            (seen, looks) = (now, looks + 1);
        }
        reader.refresh().unwrap();
        assert_eq!(state(&reader), 19_999);
        println!("{looks} looks while it was written, the longest catching up took {longest:?}");
        assert!(looks > 3);
    });
}

/// An index of flows with one packet in each of their shards, which are written in this order.
fn flows_in_shards(dir: &Path, flows: &[(u32, &[u64])]) -> Index {
    let index = Index::open(dir).unwrap();
    for (flow, shards) in flows {
        for shard in *shards {
            let mut builder = L1Builder::new(FlowId(*flow), ShardId(*shard));
            index.commit(batch(&mut builder, shard * 5000)).unwrap();
        }
        let mut write = IndexBatch::new();
        write.put_flow(&crate::model::FlowRow {
            id: FlowId(*flow),
            key: crate::model::FlowKey {
                src: [198, 18, 0, 1].into(),
                dst: [198, 18, 0, 2].into(),
                sport: 1,
                dport: 2,
                proto: 17,
            },
            taps: Vec::new(),
            vlans: Vec::new(),
            kind: crate::model::FlowKind::Other,
            began: CaptureTime::MIN,
        });
        index.commit(write).unwrap();
    }
    index
}

fn flows_of(index: &Index) -> Vec<u32> {
    index.flows().unwrap().iter().map(|f| f.id.0).collect()
}

#[test]
fn dropping_a_shard_keeps_what_others_refer_to() {
    let dir = tempfile::tempdir().unwrap();
    let index = flows_in_shards(dir.path(), &[(1, &[0, 1]), (2, &[0]), (3, &[1])]);
    index.drop_shard(ShardId(0), &[]).unwrap();
    assert_eq!(flows_of(&index), [1, 3]);
    index.drop_shard(ShardId(1), &[]).unwrap();
    assert!(flows_of(&index).is_empty());
}

/// What was cut off may not come back in the shard that it was in.
#[test]
fn what_is_cut_off_refers_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let index = flows_in_shards(dir.path(), &[(1, &[0, 1]), (2, &[0, 2])]);
    let next = NextIds { flow: FlowId(9), ..Default::default() };
    index.drop_from(ShardId(1), &next).unwrap();
    index.drop_shard(ShardId(0), &[]).unwrap();
    assert!(flows_of(&index).is_empty());
}

/// Two taps write shards 0 and 1 at the same time, and either may be deleted first.
#[test]
fn a_flow_of_two_taps_goes_with_the_last_shard_whichever_that_is() {
    for order in [[0, 1], [1, 0]] {
        let dir = tempfile::tempdir().unwrap();
        let index = flows_in_shards(dir.path(), &[(1, &[0, 1, 0]), (2, &[1, 0, 1]), (3, &[order[0]])]);
        let beside: Vec<_> = (0..order[0]).map(ShardId).collect();
        index.drop_shard(ShardId(order[0]), &beside).unwrap();
        assert_eq!(flows_of(&index), [1, 2], "{order:?}");
        index.drop_shard(ShardId(order[1]), &[]).unwrap();
        assert!(flows_of(&index).is_empty(), "{order:?}");
    }
}
