//! Files of several interfaces: the index that an import makes is the one that `reindex` makes.

use super::recording::{Recording, assert_same, dump, on_two_taps, traffic};
use crate::fold::tests::wire::Captured;
use crate::index::Index;
use crate::indexer::{Opened, index_beside, reindex};
use capture::{WriterOptions, import_file};
use std::sync::mpsc::channel;

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = (12 + body.len().next_multiple_of(4)) as u32;
    let mut block = [kind.to_le_bytes(), len.to_le_bytes()].concat();
    block.extend(body);
    block.resize(len as usize - 4, 0);
    block.extend(len.to_le_bytes());
    block
}

/// pcapng, section header and interface description: Ethernet, nanoseconds (draft-ietf-opsawg-pcapng, 4.1 and 4.2).
fn section() -> Vec<u8> {
    block(0x0a0d_0d0a, &[&0x1a2b_3c4du32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat())
}

fn interface() -> Vec<u8> {
    block(1, &[&[1, 0, 0, 0, 0, 0, 0, 0][..], &[9, 0, 1, 0, 9, 0, 0, 0], &[0; 4]].concat())
}

/// Enhanced packet block (4.3); taps are counted from 1, interfaces from 0.
fn packet(frame: &Captured) -> Vec<u8> {
    let (nanos, len) = (frame.time.nanos() as u64, frame.data.len() as u32);
    let words = [u32::from(frame.tap as u16) - 1, (nanos >> 32) as u32, nanos as u32, len, len];
    block(6, &[&words.map(u32::to_le_bytes).concat()[..], &frame.data[..]].concat())
}

/// Imports the file beside an indexer and gives what both made, and the packets that came too late.
fn import(file: &[u8]) -> (String, String, u64) {
    let r = Recording::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("two.pcapng");
    std::fs::write(&path, file).unwrap();
    let index = Index::open(&r.store.index_dir()).unwrap();
    let known = r.store.sources();
    let (open, opened) = channel::<Opened>();
    let late = std::thread::scope(|scope| {
        let (store, index, known) = (&r.store, &index, &known);
        let indexing = scope.spawn(move || index_beside(store, index, known, &opened));
        let options = WriterOptions { shard_size: 2 << 20, ..Default::default() };
        let mut told = move |source, taps| open.send((source, taps)).unwrap();
        import_file(&r.store, &r.lock, &path, options, false, &mut |_, _| true, &mut told).unwrap();
        drop(told);
        indexing.join().unwrap().unwrap().1
    });
    let before = dump(&index);
    drop(index);
    reindex(&r.store, &r.lock, &mut |_, _| {}).unwrap();
    let after = r.dump();
    (before, after, late)
}

#[test]
fn two_interfaces_are_merged_as_they_will_be_again() {
    // The file has them one after the other for a while, as programs write that read one queue at a time.
    let frames = on_two_taps(traffic(1, 300));
    let mut file = [section(), interface(), interface()].concat();
    for some in frames.chunks(3_000) {
        for tap in [2, 1] {
            some.iter().filter(|f| f.tap == tap).for_each(|f| file.extend(packet(f)));
        }
    }
    let (before, after, late) = import(&file);
    assert_eq!(late, 0);
    assert!(before.contains("Teardown"), "the dialogue was read to its end");
    assert_same(&before, &after);
}

#[test]
fn an_interface_that_is_described_late_and_is_early_is_told() {
    let frames = on_two_taps(traffic(1, 60));
    let (one, two): (Vec<_>, Vec<_>) = frames.iter().partition(|f| f.tap == 1);
    let mut file = [section(), interface()].concat();
    one.iter().for_each(|f| file.extend(packet(f)));
    file.extend(interface());
    two.iter().for_each(|f| file.extend(packet(f)));
    let (before, after, late) = import(&file);
    // All but those that came after the last of the other.
    assert!(late > 0 && late as usize <= two.len(), "{late} of {}", two.len());
    assert_ne!(before, after);
}
