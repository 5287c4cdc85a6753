//! A power loss cuts shards back to what was durable; the index may have been ahead of them.

use super::recording::{Recording, assert_same, dump, on_two_taps, traffic};
use crate::fold::tests::wire::Captured;
use crate::index::Index;
use crate::indexer::{catch_up, reindex};
use capture::Store;
use std::path::Path;
use std::process::Command;

/// Records `frames`, so that of the last `late` the index knows everything and the disk nothing, and loses power. Gives the packets
/// that the index had.
fn power_loss(frames: &[Captured], late: usize, at: &Path) -> u64 {
    let r = Recording::new();
    r.lose_power(frames, late, |store| {
        // Marks of shards that are being sealed go meanwhile.
        let _ = Command::new("cp").args(["-r"]).arg(store.dir()).arg(at).output().unwrap();
    })
}

fn comes_back(frames: &[Captured], late: usize) {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("store");
    let had = power_loss(frames, late, &at);
    let store = Store::open(&at).unwrap();
    let lock = store.lock().unwrap();
    let recovered = store.recover(&lock).unwrap();
    assert!(recovered.iter().all(|r| !r.complete), "{recovered:?}");
    let left: u64 = store.shards().iter().map(|s| s.packets).sum();
    assert!(left > 0 && left < had, "the index must have been ahead: {left} packets are left of {had}");
    let index = Index::open(&store.index_dir()).unwrap();
    let stats = catch_up(&store, &lock, &index).unwrap();
    assert_eq!(stats.packets, left, "nothing is invented, nothing is left out");
    let mended = dump(&index);
    drop(index);
    let made = reindex(&store, &lock, &mut |_, _| {}).unwrap();
    assert!(made.cold.is_none() && made.packets == left);
    assert_same(&mended, &dump(&Index::open(&store.index_dir()).unwrap()));
}

#[test]
fn an_index_that_is_ahead_is_cut_back_and_folded_again() {
    comes_back(&traffic(1, 150), 500);
}

#[test]
fn a_shard_of_which_nothing_was_durable_goes_from_the_index_as_well() {
    comes_back(&traffic(1, 150), 4_000);
}

#[test]
fn with_two_taps_each_is_cut_back_to_its_own_place() {
    comes_back(&on_two_taps(traffic(1, 300)), 500);
}

#[test]
fn with_two_taps_and_a_shard_that_is_gone() {
    comes_back(&on_two_taps(traffic(1, 300)), 4_000);
}
