use super::*;
use crate::index::{BLOCK_ENTRIES_MAX, BlockError, L1Key};
use proptest::prelude::*;

fn header() -> impl Strategy<Value = HeaderFields> {
    prop_oneof![
        Just(HeaderFields::None),
        (any::<u16>(), any::<u32>(), any::<bool>(), 0u8..128).prop_map(
            |(seq, timestamp, marker, payload_type)| {
                HeaderFields::Rtp { seq, timestamp, marker, payload_type }
            }
        ),
        (any::<u32>(), any::<u8>()).prop_map(|(seq, flags)| HeaderFields::Tcp { seq, flags }),
    ]
}

prop_compose! {
    fn any_packet()(offset: u64, nanos: i64, captured_len: u32, original_len: u32, payload_offset: u16, payload_len: u32, header in header()) -> PacketEntry {
        PacketEntry { offset, time: CaptureTime::from_nanos(nanos), captured_len, original_len, payload_offset, payload_len, header }
    }
}

/// What the index keeps of a time.
fn kept(p: &PacketEntry) -> PacketEntry {
    PacketEntry { time: CaptureTime::from_nanos(p.time.millis().saturating_mul(1_000_000)), ..*p }
}

/// A plausible RTP flow among `flows` others, with a few exceptions.
fn rtp_flow(n: u32, flows: u64, seed: u64) -> Vec<PacketEntry> {
    let mut x = seed | 1;
    let mut random = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let (mut offset, mut time, mut timestamp) = (24, 1_700_000_000_000_000_000i64, 5u32);
    (0..n)
        .map(|i| {
            let marker = i % 12 == 11;
            let len = if marker { 300 + (random() % 900) as u32 } else { 1342 };
            let p = PacketEntry {
                offset,
                time: CaptureTime::from_nanos(time),
                captured_len: len,
                original_len: len,
                payload_offset: 42,
                payload_len: len - 42,
                header: HeaderFields::Rtp { seq: i as u16, timestamp, marker, payload_type: 96 },
            };
            offset += 16 + u64::from(len) + (random() % (2 * flows)) * 1358;
            time += 2_600_000 + (random() % 200_000) as i64;
            timestamp = timestamp.wrapping_add(if marker { 3000 } else { 0 });
            p
        })
        .collect()
}

fn encode(packets: &[PacketEntry]) -> Vec<u8> {
    let mut b = L1Builder::new(FlowId(1), ShardId(1));
    packets.iter().for_each(|p| {
        b.push(p);
    });
    b.roll(ShardId(2)).expect("not empty").bytes
}

proptest! {
    #[test]
    fn whatever_is_pushed_is_read_again(packets in prop::collection::vec(any_packet(), 1..100)) {
        let read: Vec<_> = L1Reader::new(encode(&packets)).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(read, packets.iter().map(kept).collect::<Vec<_>>());
    }

    #[test]
    fn an_open_block_goes_on_where_it_was(packets in prop::collection::vec(any_packet(), 2..60), at in 1usize..59) {
        let at = at.min(packets.len() - 1);
        let mut b = L1Builder::new(FlowId(1), ShardId(1));
        packets[..at].iter().for_each(|p| { b.push(p); });
        let open = b.encode_partial().unwrap();
        let mut resumed = L1Builder::resume(open.key, &open.bytes).unwrap();
        prop_assert_eq!(resumed.next_entry(), at as u32);
        packets[at..].iter().for_each(|p| { resumed.push(p); });
        prop_assert_eq!(resumed.roll(ShardId(2)).unwrap().bytes, encode(&packets));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(reader) = L1Reader::new(&bytes) {
            reader.for_each(drop);
        }
    }

    #[test]
    fn no_damage_makes_the_reader_panic(at in any::<prop::sample::Index>(), to: u8, cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(&rtp_flow(200, 20, 7));
        let n = bytes.len();
        bytes[at.index(n)] = to;
        bytes.truncate(1 + cut.index(n));
        if let Ok(reader) = L1Reader::new(&bytes) {
            prop_assert!(reader.entries() <= BLOCK_ENTRIES_MAX);
            reader.for_each(drop);
        }
    }
}

#[test]
fn blocks_are_numbered_by_their_first_entry() {
    let mut b = L1Builder::new(FlowId(3), ShardId(8));
    let packets = rtp_flow(BLOCK_ENTRIES_MAX + 1, 10, 1);
    for (i, p) in packets.iter().enumerate() {
        if b.full() {
            let block = b.roll(ShardId(8)).unwrap();
            assert_eq!(block.key, L1Key { shard: ShardId(8), flow: FlowId(3), block: 0 });
        }
        assert_eq!(b.push(p), i as u32);
    }
    assert_eq!(b.roll(ShardId(9)).unwrap().key.block, 1);
    assert_eq!((b.next_entry(), b.shard()), (0, ShardId(9)));
    assert!(b.roll(ShardId(9)).is_none());
}

#[test]
fn a_cut_block_and_a_foreign_one_say_so() {
    let bytes = encode(&rtp_flow(3, 1, 1));
    let last = L1Reader::new(&bytes[..bytes.len() - 1]).unwrap().last().unwrap();
    assert_eq!(last, Err(BlockError::Truncated { entry: 2 }));
    assert_eq!(L1Reader::new([9u8, 0, 0]).err(), Some(BlockError::Layout { found: 9 }));
    assert_eq!(L1Reader::new([0u8; 0]).err(), Some(BlockError::Truncated { entry: 0 }));
}

/// 200 interleaved flows of 1,300-byte RTP packets: at most 4.2 bytes a packet.
#[test]
fn bytes_a_packet_over_udp() {
    let packets = rtp_flow(1000, 200, 42);
    let bytes = encode(&packets);
    let each = (bytes.len() + 16) as f64 / packets.len() as f64;
    println!("first level, UDP, 200 flows interleaved: {each:.2} bytes a packet, key included");
    assert!(each <= 4.2, "{each}");
}

/// The same over TCP: full segments of one connection among 200.
#[test]
fn bytes_a_packet_over_tcp() {
    let mut seq = 1u32;
    let packets: Vec<_> = rtp_flow(1000, 200, 43)
        .into_iter()
        .map(|p| {
            let payload_len = p.captured_len - 66;
            let flags = if p.captured_len < 1342 { PSH_ACK } else { ACK };
            let header = HeaderFields::Tcp { seq, flags };
            seq = seq.wrapping_add(payload_len);
            PacketEntry { payload_offset: 66, payload_len, header, ..p }
        })
        .collect();
    let each = (encode(&packets).len() + 16) as f64 / packets.len() as f64;
    println!("first level, TCP, 200 flows interleaved: {each:.2} bytes a packet, key included");
    assert!(each <= 4.2, "{each}");
}

/// A stream that is alone in its shards: positions follow at once.
#[test]
fn bytes_a_packet_alone() {
    let mut end = 24;
    let packets: Vec<_> = rtp_flow(1000, 1, 44)
        .into_iter()
        .map(|p| {
            let offset = end;
            end += 16 + u64::from(p.captured_len);
            PacketEntry { offset, ..p }
        })
        .collect();
    let each = (encode(&packets).len() + 16) as f64 / packets.len() as f64;
    println!("first level, one flow alone: {each:.2} bytes a packet, key included");
    assert!(each <= 1.5, "{each}");
}
