use super::*;
use crate::index::{
    BLOCK_ENTRIES_MAX, BlockError, FlowId, L1Builder, L2Block, PacketEntry, SegmentId, StreamId,
};
use capture::{CaptureTime, ShardId};
use proptest::prelude::*;
use smallvec::SmallVec;
use smallvec::smallvec;
use std::collections::BTreeMap;

const SHARD: ShardId = ShardId(5);
const FLOW: FlowId = FlowId(7);

/// First-level entries held in memory.
#[derive(Default)]
struct Memory(BTreeMap<(FlowId, u32), PacketEntry>);

impl Carriers for Memory {
    type Error = BlockError;
    fn packet(&mut self, flow: FlowId, entry: u32) -> Result<Option<PacketEntry>, BlockError> {
        Ok(self.0.get(&(flow, entry)).copied())
    }
}

fn at_ms(ms: i64) -> CaptureTime {
    CaptureTime::from_nanos(ms * 1_000_000)
}

fn builder() -> L2Builder {
    L2Builder::new(StreamId(1), SegmentId(2), FLOW, SHARD)
}

fn read(bytes: &[u8], memory: &mut Memory) -> Result<Vec<MediaEntry>, BlockError> {
    let mut reader = L2Reader::new(SHARD, bytes)?;
    let mut entries = Vec::new();
    while let Some(e) = reader.next_entry(memory)? {
        entries.push(e);
    }
    Ok(entries)
}

/// Video in datagrams: frames of 12 packets, a clean point each 25 frames.
fn udp_video(n: u32) -> (Memory, Vec<(MediaEntry, Vec<Carrier>)>) {
    let mut memory = Memory::default();
    let mut media = Vec::new();
    let mut offset = 24;
    for i in 0..n {
        let marker = i % 12 == 11;
        let len = if marker { 500 + i % 700 } else { 1342 };
        let timestamp = 77 + i / 12 * 3000;
        let packet = PacketEntry {
            offset,
            time: at_ms(i64::from(i) * 3),
            captured_len: len,
            original_len: len,
            payload_offset: 42,
            payload_len: len - 42,
            header: HeaderFields::Rtp { seq: (65_000 + i) as u16, timestamp, marker, payload_type: 96 },
        };
        offset += 16 + u64::from(len);
        let mut flags = if i % 12 == 0 { MediaFlags::AU_START } else { MediaFlags::NONE };
        if i % 300 == 0 {
            flags |= MediaFlags::CLEAN | MediaFlags::PARAMETER_SETS;
        }
        let piece = Piece { shard: SHARD, record: packet.offset, entry: i, offset: 42, len: len - 42 };
        let entry = MediaEntry {
            seq: 65_000 + u64::from(i),
            timestamp,
            marker,
            time: packet.time,
            flags,
            len: len - 42,
            pieces: smallvec![piece],
        };
        memory.0.insert((FLOW, i), packet);
        media.push((entry, vec![Carrier::from(&packet)]));
    }
    (memory, media)
}

/// RTP packets of `lens` bytes interleaved in TCP segments of `mss`, with `noise` bytes of another channel's frame
/// before each eighth.
fn tcp_video(lens: &[u32], mss: u32, noise: u32) -> (Memory, Vec<(MediaEntry, Vec<Carrier>)>) {
    let mut memory = Memory::default();
    let mut carriers: BTreeMap<u32, Carrier> = BTreeMap::new();
    let mut stream_at = 0u64;
    let mut frames = Vec::new();
    for (i, &len) in lens.iter().enumerate() {
        if i % 8 == 7 && noise > 0 {
            stream_at += 4 + u64::from(noise);
        }
        stream_at += 4;
        frames.push((stream_at, len));
        stream_at += u64::from(len);
    }
    for entry in 0..=(stream_at / u64::from(mss)) as u32 {
        let packet = PacketEntry {
            offset: 24 + u64::from(entry) * 300_000,
            time: at_ms(i64::from(entry) * 3),
            captured_len: 66 + mss,
            original_len: 66 + mss,
            payload_offset: 66,
            payload_len: mss,
            header: HeaderFields::Tcp { seq: entry.wrapping_mul(mss), flags: 0x10 },
        };
        carriers.insert(entry, Carrier::from(&packet));
        memory.0.insert((FLOW, entry), packet);
    }
    let mut media = Vec::new();
    for (i, (begin, len)) in frames.into_iter().enumerate() {
        let (mut at, end) = (begin, begin + u64::from(len));
        let mut pieces = SmallVec::new();
        let mut of = Vec::new();
        let mut time = CaptureTime::MIN;
        while at < end {
            let entry = (at / u64::from(mss)) as u32;
            let from = (at % u64::from(mss)) as u32;
            let n = (end - at).min(u64::from(mss - from)) as u32;
            let packet = memory.0[&(FLOW, entry)];
            pieces.push(Piece { shard: SHARD, record: packet.offset, entry, offset: 66 + from, len: n });
            of.push(carriers[&entry]);
            time = time.max(packet.time);
            at += u64::from(n);
        }
        let marker = i % 12 == 11;
        let entry = MediaEntry {
            seq: 100 + i as u64,
            timestamp: i as u32 / 12 * 3600,
            marker,
            time,
            flags: if i % 12 == 0 { MediaFlags::AU_START } else { MediaFlags::NONE },
            len,
            pieces,
        };
        media.push((entry, of));
    }
    (memory, media)
}

fn encode(media: &[(MediaEntry, Vec<Carrier>)]) -> L2Block {
    let mut b = builder();
    media.iter().for_each(|(e, c)| b.push(&e.view(), c));
    b.encode_partial().expect("not empty")
}

fn entries(media: &[(MediaEntry, Vec<Carrier>)]) -> Vec<MediaEntry> {
    media.iter().map(|(e, _)| e.clone()).collect()
}

#[test]
fn udp_round_trip_and_its_bytes() {
    let (mut memory, media) = udp_video(1000);
    let block = encode(&media);
    assert_eq!(read(&block.bytes, &mut memory).unwrap(), entries(&media));
    let each = (block.bytes.len() + 16) as f64 / 1000.0;
    println!("second level, UDP: {each:.3} bytes a packet, key included");
    assert!(each <= 0.3, "{each}");
    assert_eq!(block.directory.packets, 1000);
    assert_eq!(block.directory.lost, 0);
    assert_eq!(block.directory.clean, Some(at_ms(0)));
}

#[test]
fn tcp_round_trip_and_its_bytes() {
    let lens: Vec<u32> = (0..1000).map(|i| if i % 12 == 11 { 400 + i % 500 } else { 1304 }).collect();
    for noise in [0, 172] {
        let (mut memory, media) = tcp_video(&lens, 1448, noise);
        let block = encode(&media);
        assert_eq!(read(&block.bytes, &mut memory).unwrap(), entries(&media));
        let each = (block.bytes.len() + 16) as f64 / 1000.0;
        println!("second level, TCP, other channel's frames of {noise} bytes: {each:.2} bytes an RTP packet");
        assert!(each <= if noise == 0 { 0.8 } else { 1.2 }, "{each}");
    }
}

/// Both levels together: 200 flows of 1,300-byte packets interleaved in a shard.
#[test]
fn bytes_a_packet_of_both_levels() {
    let (memory, media) = udp_video(1000);
    let mut l1 = L1Builder::new(FLOW, SHARD);
    let mut x = 9u64;
    let mut offset = 24;
    for packet in memory.0.values() {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        l1.push(&PacketEntry { offset, ..*packet });
        offset += 16 + u64::from(packet.captured_len) + (x >> 33) % 400 * 1358;
    }
    // Blocks, keys, time directory, pointer, last shard of flow and segment.
    let directory = 29 + postcard::to_stdvec(&encode(&media).directory).unwrap().len() + 17 + 29;
    let bytes = l1.encode_partial().unwrap().bytes.len() + encode(&media).bytes.len() + 32 + directory + 28;
    let each = bytes as f64 / 1000.0;
    println!("both levels, UDP, 200 flows interleaved: {each:.2} bytes a packet, all rows and keys included");
    assert!(each <= 5.0, "{each}");
}

#[test]
fn pieces_in_another_shard_and_unknown_carriers_are_kept() {
    let (mut memory, mut media) = tcp_video(&[1300; 40], 1448, 0);
    let elsewhere = Piece { shard: ShardId(3), record: 999_000, entry: 512, offset: 1200, len: 300 };
    media[0].0.pieces.insert(0, elsewhere);
    media[0].0.len += 300;
    media[0].1.clear();
    media[9].1.clear();
    let block = encode(&media);
    assert_eq!(read(&block.bytes, &mut memory).unwrap(), entries(&media));
}

#[test]
fn blocks_follow_one_another() {
    let (_, media) = udp_video(2000);
    let mut b = builder();
    let mut blocks = Vec::new();
    for (e, c) in &media {
        if !b.accepts(e.time) {
            blocks.extend(b.roll(SHARD));
        }
        b.push(&e.view(), c);
    }
    blocks.extend(b.roll(ShardId(6)));
    assert_eq!(blocks.iter().map(|b| b.key.block).collect::<Vec<_>>(), [0, 1]);
    let second = &blocks[1].directory;
    assert_eq!(second.packets, 2000 - BLOCK_ENTRIES_MAX);
    assert_eq!(second.lost, 0);
    let before = second.clean_before.unwrap();
    assert_eq!((before.shard, before.block, before.time), (SHARD, 0, at_ms(900 * 3)));
    // A packet that is far off in time begins a block.
    b.push(&media[0].0.view(), &[]);
    assert!(b.accepts(at_ms(30_000)) && !b.accepts(at_ms(30_001)) && !b.accepts(at_ms(-30_001)));
}

#[test]
fn what_is_missing_is_kept_with_the_open_block() {
    let (_, media) = udp_video(2);
    let mut b = builder();
    b.push(&media[0].0.view(), &media[0].1);
    b.note_lost(7);
    b.note_lost(-2);
    assert_eq!(b.roll(SHARD).unwrap().directory.lost, 5);
    b.push(&media[1].0.view(), &media[1].1);
    b.note_lost(-2);
    assert_eq!(b.roll(SHARD).unwrap().directory.lost, 0);
}

#[test]
fn a_missing_carrier_is_an_error() {
    let (mut memory, media) = udp_video(10);
    memory.0.remove(&(FLOW, 4));
    let block = encode(&media);
    assert_eq!(read(&block.bytes, &mut memory), Err(BlockError::NoCarrier { entry: 4, packet: 4 }));
}

proptest! {
    #[test]
    fn any_lengths_and_segment_sizes_round_trip(lens in prop::collection::vec(13u32..2000, 1..60), mss in 40u32..3000, noise in 0u32..400) {
        let (mut memory, media) = tcp_video(&lens, mss, noise);
        let block = encode(&media);
        prop_assert_eq!(read(&block.bytes, &mut memory).unwrap(), entries(&media));
    }

    #[test]
    fn any_header_round_trips(changes in prop::collection::vec((any::<u64>(), any::<u32>(), any::<bool>(), any::<u8>()), 1..100)) {
        let (mut memory, mut media) = udp_video(changes.len() as u32);
        for ((e, _), (seq, timestamp, marker, flags)) in media.iter_mut().zip(changes) {
            (e.seq, e.timestamp, e.marker, e.flags) = (seq, timestamp, marker, MediaFlags(flags));
        }
        let block = encode(&media);
        prop_assert_eq!(read(&block.bytes, &mut memory).unwrap(), entries(&media));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut memory, _) = udp_video(50);
        let _ = read(&bytes, &mut memory);
        let (mut memory, _) = tcp_video(&[1300; 50], 1448, 0);
        let _ = read(&bytes, &mut memory);
    }

    #[test]
    fn no_damage_makes_the_reader_panic(at in any::<prop::sample::Index>(), to: u8) {
        let (mut memory, media) = tcp_video(&[1300, 700, 30, 9000], 1448, 50);
        let mut bytes = encode(&media).bytes;
        let n = bytes.len();
        bytes[at.index(n)] = to;
        let _ = read(&bytes, &mut memory);
    }

    #[test]
    fn a_builder_kept_in_state_goes_on(at in 1usize..99) {
        let (_, media) = udp_video(100);
        let mut b = builder();
        media[..at].iter().for_each(|(e, c)| b.push(&e.view(), c));
        let kept = postcard::to_stdvec(&b).unwrap();
        let mut b: L2Builder = postcard::from_bytes(&kept).unwrap();
        media[at..].iter().for_each(|(e, c)| b.push(&e.view(), c));
        prop_assert_eq!(b.encode_partial().unwrap(), encode(&media));
    }
}
