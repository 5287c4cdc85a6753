//! The index made again is the index that the recorder made.

use super::recording::{Recording, assert_same, on_two_taps, traffic};
use crate::indexer::reindex;

fn again(r: &Recording) -> (String, bool) {
    let made = reindex(&r.store, &r.lock, &mut |_, _| {}).unwrap();
    (r.dump(), made.cold.is_some())
}

#[test]
fn after_retention_the_index_made_again_is_the_same() {
    let r = Recording::new();
    r.run(&traffic(1, 400), 6 << 20);
    let before = r.dump();
    assert!(before.contains("198.18.0.11-cam-video"), "named by a description that is deleted");
    assert!(r.store.trimmed(r.store.taps()[0].id).shards >= 3);
    let (after, cold) = again(&r);
    assert!(!cold);
    assert_same(&before, &after);
    // Once more, from what that has left.
    assert_same(&before, &again(&r).0);
    // And so it shows that the state is what does it.
    for shard in r.store.shards() {
        std::fs::remove_file(r.store.state_path(shard.id)).unwrap();
    }
    let (after, cold) = again(&r);
    assert!(cold && after != before);
    // What that index says stays the same from then on.
    assert_same(&after, &again(&r).0);
}

#[test]
fn with_two_taps_too() {
    let r = Recording::new();
    r.run(&on_two_taps(traffic(1, 700)), 8 << 20);
    let before = r.dump();
    let trimmed: Vec<u64> = r.store.taps().iter().map(|t| r.store.trimmed(t.id).shards).collect();
    assert!(trimmed.iter().all(|n| *n > 0), "{trimmed:?}");
    let (after, cold) = again(&r);
    assert!(!cold);
    assert_same(&before, &after);
}

#[test]
fn over_several_runs_of_which_the_first_is_gone() {
    let r = Recording::new();
    r.run(&traffic(1, 200), 5 << 20);
    r.run(&on_two_taps(traffic(2, 200)), 5 << 20);
    r.run(&traffic(3, 60), 5 << 20);
    assert!(r.store.shards().iter().all(|s| s.source.0 > 1));
    let before = r.dump();
    let (after, cold) = again(&r);
    assert!(!cold);
    assert_same(&before, &after);
}

/// Where the first record of a MiB can't be read, nothing of it can.
#[test]
fn a_block_without_a_readable_record_is_passed_over() {
    let r = Recording::new();
    r.run(&on_two_taps(traffic(1, 200)), 1 << 30);
    let shard = r.store.shards().into_iter().find(|s| s.anchors.len() > 1).unwrap();
    let path = r.store.dir().join(format!("shards/{:016}.pcap", shard.id.0));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    for anchor in shard.anchors.iter() {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 16], *anchor).unwrap();
    }
    let made = reindex(&r.store, &r.lock, &mut |_, _| {}).unwrap();
    let all: u64 = r.store.shards().iter().map(|s| s.packets).sum();
    assert_eq!(made.packets, all - shard.packets);
}
