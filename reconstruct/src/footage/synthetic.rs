//! A store for tests: real shards, made by capture's writer, and an index made by hand from what the test planned.

use super::Footage;
use crate::codec::{Codec, Kind};
use crate::index::{
    Carrier, FlowId, HeaderFields, Index, IndexBatch, L1Builder, L2Builder, MediaEntry, MediaFlags,
    PacketEntry, SegmentId, SessionId, StreamId,
};
use crate::model::{FlowKey, FlowKind, FlowRow, SegmentPart, SegmentRow, StreamKey, StreamRow, Transport};
use crate::span::Piece;
use capture::{
    CaptureTime, LinkType, NewTap, Provenance, ShardId, ShardWriter, SourceKind, Store, WhenFull, WriterLock,
    WriterOptions,
};
use smallvec::smallvec;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where the test's frames have their RTP packet: as Ethernet, IPv4 and UDP would.
const RTP_AT: usize = 42;

/// A packet that a test wants captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) ms: i64,
    pub(super) stream: u32,
    pub(super) segment: u32,
    pub(super) seq: u64,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) flags: MediaFlags,
    pub(super) len: u16,
}

/// Frames of 5 packets, 40 ms apart, a clean point each 10 frames: packets `seqs` of a segment that begins at `ms`.
pub(super) fn video(stream: u32, segment: u32, ms: i64, seqs: std::ops::Range<u64>) -> Vec<Planned> {
    seqs.map(|seq| {
        let (frame, part) = (seq / 5, seq % 5);
        let mut flags = if part == 0 { MediaFlags::AU_START } else { MediaFlags::NONE };
        if part == 0 && frame % 10 == 0 {
            flags |= MediaFlags::CLEAN;
        }
        Planned {
            ms: ms + frame as i64 * 40 + part as i64,
            stream,
            segment,
            seq,
            timestamp: frame as u32 * 3600,
            marker: part == 4,
            flags,
            len: 1300,
        }
    })
    .collect()
}

impl Planned {
    fn frame(&self) -> Vec<u8> {
        let mut f = vec![0; RTP_AT + usize::from(self.len)];
        f[0..4].copy_from_slice(&self.stream.to_be_bytes());
        f[4..8].copy_from_slice(&self.segment.to_be_bytes());
        f[8..16].copy_from_slice(&self.seq.to_be_bytes());
        f[16] = self.flags.0;
        let rtp = &mut f[RTP_AT..];
        rtp[0] = 0x80;
        rtp[1] = 96 | u8::from(self.marker) << 7;
        rtp[2..4].copy_from_slice(&(self.seq as u16).to_be_bytes());
        rtp[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        rtp[8..12].copy_from_slice(&(1000 + self.segment).to_be_bytes());
        rtp[12..20].copy_from_slice(&self.seq.to_be_bytes());
        f
    }

    fn read(time: CaptureTime, f: &[u8]) -> Self {
        let u32_at = |at: usize| u32::from_be_bytes(f[at..at + 4].try_into().unwrap());
        Self {
            ms: time.millis(),
            stream: u32_at(0),
            segment: u32_at(4),
            seq: u64::from_be_bytes(f[8..16].try_into().unwrap()),
            timestamp: u32_at(RTP_AT + 4),
            marker: f[RTP_AT + 1] & 0x80 != 0,
            flags: MediaFlags(f[16]),
            len: (f.len() - RTP_AT) as u16,
        }
    }
}

/// The time that a planned millisecond is captured at: not a whole millisecond.
pub(super) fn time(ms: i64) -> CaptureTime {
    CaptureTime::from_nanos(ms * 1_000_000 + 123_456)
}

pub(super) struct Synthetic {
    pub(super) footage: Footage,
    pub(super) lock: WriterLock,
    pub(super) dir: tempfile::TempDir,
}

impl Synthetic {
    /// Captures the packets in the order in which they are planned into shards of 2 MiB, and indexes them.
    pub(super) fn new(plan: &[Planned]) -> Self {
        Self::of_taps(&[plan])
    }

    /// Likewise with several taps, one after the other.
    pub(super) fn of_taps(plans: &[&[Planned]]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let lock = store.lock().unwrap();
        for plan in plans {
            let mut writer = writer(&store, &lock);
            append(&mut writer, plan);
            writer.finish().unwrap();
        }
        let index = Index::open(&store.index_dir()).unwrap();
        fold(&store, &index, ShardId(0), usize::MAX);
        Self { footage: Footage::with(store, index, None), lock, dir }
    }

    pub(super) fn shards(&self) -> Vec<ShardId> {
        self.footage.store().shards().iter().map(|s| s.id).collect()
    }

    pub(super) fn delete(&self, shard: ShardId) {
        self.footage.store().delete_shard(&self.lock, shard).unwrap();
        self.footage.index().drop_shard(shard, &[]).unwrap();
    }
}

/// A writer of shards of 2 MiB.
pub(super) fn writer(store: &Store, lock: &WriterLock) -> ShardWriter {
    let source = store.open_source(lock, SourceKind::Live, time(0)).unwrap();
    let (name, link, snaplen) = ("test0".into(), LinkType::ETHERNET, 65535);
    let tap = NewTap { source, name, link, snaplen, provenance: Provenance::Captured };
    let options =
        WriterOptions { shard_size: 2 << 20, when_full: WhenFull::Wait, ..WriterOptions::default() };
    ShardWriter::open(store, lock, tap, options).unwrap()
}

/// Captures and publishes the packets in the order in which they are planned.
pub(super) fn append(writer: &mut ShardWriter, plan: &[Planned]) {
    for p in plan {
        let frame = p.frame();
        writer.append(time(p.ms), frame.len() as u32, &frame);
        writer.publish();
    }
}

/// Indexes the shards from `from` on, with a commit each `each` packets.
pub(super) fn fold(store: &Store, index: &Index, from: ShardId, each: usize) {
    let (l1, l2, parts, due) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut fold = Fold { batch: IndexBatch::new(), l1, l2, parts, due };
    let mut packets = 0;
    for info in store.shards() {
        let shard = store.shard(info.id).unwrap();
        let mut at = 24;
        while let Some(chunk) = shard.chunk(at).unwrap() {
            for record in chunk.records() {
                let planned = Planned::read(record.time, record.data);
                fold.packet(info.id, record.offset, record.time, planned, info.id >= from);
                packets += 1;
                if packets % each == 0 {
                    fold.commit_open();
                    index.commit(std::mem::take(&mut fold.batch)).unwrap();
                }
            }
            at = chunk.end();
        }
    }
    fold.commit_open();
    index.commit(fold.batch).unwrap();
}

struct Fold {
    batch: IndexBatch,
    l1: BTreeMap<u32, L1Builder>,
    l2: BTreeMap<u32, L2Builder>,
    parts: BTreeMap<u32, SegmentPart>,
    /// The sequence number that comes next.
    due: BTreeMap<u32, u64>,
}

impl Fold {
    fn packet(&mut self, shard: ShardId, offset: u64, time: CaptureTime, p: Planned, write: bool) {
        let (stream, segment, flow) = (StreamId(p.stream), SegmentId(p.segment), FlowId(p.segment));
        let len = u32::from(p.len);
        let packet = PacketEntry {
            offset,
            time,
            captured_len: len + RTP_AT as u32,
            original_len: len + RTP_AT as u32,
            payload_offset: RTP_AT as u16,
            payload_len: len,
            header: HeaderFields::Rtp {
                seq: p.seq as u16,
                timestamp: p.timestamp,
                marker: p.marker,
                payload_type: 96,
            },
        };
        let l1 = self.l1.entry(p.segment).or_insert_with(|| L1Builder::new(flow, shard));
        if l1.shard() != shard || l1.full() {
            l1.roll(shard)
                .into_iter()
                .filter(|b| write || b.key.shard == shard)
                .for_each(|b| self.batch.put_l1(b));
        }
        let entry = l1.push(&packet);
        let piece = Piece { shard, record: offset, entry, offset: RTP_AT as u32, len };
        let media = MediaEntry {
            seq: p.seq,
            timestamp: p.timestamp,
            marker: p.marker,
            time,
            flags: p.flags,
            len,
            pieces: smallvec![piece],
        };
        let l2 = self.l2.entry(p.segment).or_insert_with(|| L2Builder::new(stream, segment, flow, shard));
        if l2.shard() != shard || !l2.accepts(time) {
            l2.roll(shard).into_iter().for_each(|b| self.batch.put_l2(b));
        }
        let due = self.due.insert(p.segment, p.seq + 1).unwrap_or(p.seq);
        l2.note_lost(p.seq.saturating_sub(due) as i64);
        l2.push(&media.view(), &[Carrier::from(&packet)]);
        if !self.parts.contains_key(&p.segment) {
            self.rows(p, time);
        }
        let part = self.parts.entry(p.segment).or_insert_with(|| empty_part(p, shard, time));
        if part.shard != shard {
            *part = empty_part(p, shard, time);
        }
        part.last = part.last.max(time);
        part.last_seq = part.last_seq.max(p.seq);
        part.packets += 1;
        part.bytes += u64::from(len);
        part.access_units += u64::from(p.flags.contains(MediaFlags::AU_START));
        part.clean_points += u64::from(p.flags.contains(MediaFlags::CLEAN));
        let part = part.clone();
        self.batch.put_part(&part);
    }

    fn rows(&mut self, p: Planned, time: CaptureTime) {
        let camera = IpAddr::V4(Ipv4Addr::new(198, 18, 0, p.stream as u8));
        let viewer = IpAddr::V4(Ipv4Addr::new(198, 19, 0, 1));
        let port = 5000 + p.segment as u16;
        let name = format!("cam{}", p.stream);
        self.batch.put_stream(&StreamRow {
            id: StreamId(p.stream),
            key: StreamKey::Described { camera, uri: "/live".into(), kind: Kind::Video },
            aliases: Vec::new(),
            name: format!("{name}/video"),
            camera: camera.to_string(),
            presentation: name,
            camera_mac: None,
            kind: Kind::Video,
            codec: Some(if p.stream.is_multiple_of(2) { Codec::H265 } else { Codec::H264 }),
            encrypted: false,
            transports: vec![Transport::Udp],
            payload_type: 96,
            clock_rate: None,
            channels: None,
            fmtp: None,
            sdp_media: None,
            uri: None,
            parameter_sets: Vec::new(),
            sdp: true,
            discovered: time,
        });
        self.batch.put_segment(&SegmentRow {
            id: SegmentId(p.segment),
            stream: StreamId(p.stream),
            session: SessionId(p.segment),
            track: 0,
            ssrc: 1000 + p.segment,
            payload_type: 96,
            clock_rate: None,
            flow: FlowId(p.segment),
            src: SocketAddr::new(camera, 5000),
            dst: SocketAddr::new(viewer, port),
            vlans: Vec::new(),
            transport: Transport::Udp,
            source: capture::SourceId(1),
            began: time,
        });
        self.batch.put_flow(&FlowRow {
            id: FlowId(p.segment),
            key: FlowKey { src: camera, dst: viewer, sport: 5000, dport: port, proto: 17 },
            taps: Vec::new(),
            vlans: Vec::new(),
            kind: FlowKind::Media,
            began: time,
        });
    }

    fn commit_open(&mut self) {
        self.l1.values().filter_map(L1Builder::encode_partial).for_each(|b| self.batch.put_l1(b));
        self.l2.values().filter_map(L2Builder::encode_partial).for_each(|b| self.batch.put_l2(b));
    }
}

fn empty_part(p: Planned, shard: ShardId, time: CaptureTime) -> SegmentPart {
    SegmentPart {
        segment: SegmentId(p.segment),
        stream: StreamId(p.stream),
        session: SessionId(p.segment),
        shard,
        first: time,
        last: time,
        first_seq: p.seq,
        last_seq: p.seq,
        packets: 0,
        bytes: 0,
        lost: 0,
        duplicates: 0,
        reordered: 0,
        access_units: 0,
        clean_points: 0,
    }
}
