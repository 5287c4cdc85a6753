//! What is recorded is played whole: RTP packets in fragments of IP datagrams, sequences that begin anew.

use super::recording::Recording;
use crate::fold::tests::scenarios::{fragmented, restarted};
use crate::footage::{Footage, Start};
use crate::index::Index;
use capture::CaptureTime;

/// What comes before the first fragment is in no flow that has ports.
#[test]
fn they_are_read_whole_in_whatever_order_they_came() {
    for order in [[0, 1, 2], [0, 2, 1], [2, 1, 0], [1, 0, 2]] {
        let r = Recording::new();
        r.run(&fragmented(order).frames, 1 << 30);
        let footage = Footage::with(r.store.clone(), Index::open(&r.store.index_dir()).unwrap(), None);
        let stream = footage.streams().unwrap()[0].id;
        let mut cursor = footage.cursor(stream, CaptureTime::MIN, CaptureTime::MAX, Start::Exact).unwrap();
        for n in 0..20 {
            let packet = cursor.next().unwrap().unwrap_or_else(|| panic!("{order:?}: packet {n} is missing"));
            let mut bytes = vec![0; packet.len as usize];
            assert!(packet.copy_to(0, &mut bytes));
            let content = [&[0x65][..], &vec![n as u8 | 1; 3000]].concat();
            assert_eq!((packet.seq as u16, &bytes[12..]), (n, &content[..]), "{order:?}");
        }
        assert!(cursor.next().unwrap().is_none());
    }
}

/// The first packet of the new sequence is believed with the second.
#[test]
fn a_sequence_that_begins_anew_is_read_from_its_first_packet() {
    let (wire, packets) = restarted();
    let r = Recording::new();
    r.run(&wire.frames, 1 << 30);
    let footage = Footage::with(r.store.clone(), Index::open(&r.store.index_dir()).unwrap(), None);
    let stream = footage.streams().unwrap()[0].id;
    let mut cursor = footage.cursor(stream, CaptureTime::MIN, CaptureTime::MAX, Start::Exact).unwrap();
    let mut seqs = Vec::new();
    while let Some(packet) = cursor.next().unwrap() {
        seqs.push(packet.seq as u16);
    }
    assert_eq!(seqs.len(), packets);
    assert!(seqs.contains(&30_000), "the first of the new sequence");
}
