//! A store with recordings of made traffic in small shards, indexed as it is written.

use crate::fold::tests::wire::{CAMERA, Captured, Talk, VMS, Wire, framed, pictures, rtp};
use crate::footage::LiveHub;
use crate::index::Index;
use crate::indexer::{LiveIndexer, delete_shard, drop_deleted};
use capture::{
    CaptureTime, LinkType, NewTap, Provenance, Retention, ShardWriter, SourceId, SourceKind, Store, WhenFull,
    WriterLock, WriterOptions,
};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SHARD: u64 = 2 << 20;

/// A port of the camera or of the VMS.
pub fn end(camera: bool, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(if camera { CAMERA } else { VMS }, port)
}

/// A camera that is watched over TCP and over UDP by sessions that were described at the beginning, short sessions in between,
/// lost packets, and much that is no video. `run` tells runs apart.
pub fn traffic(run: i64, rounds: u16) -> Vec<Captured> {
    let mut w = Wire::at(1_000_000 * run);
    let first = 40_000 + run as u16 * 1_000;
    let mut tcp = Talk::open(&mut w, end(false, first), end(true, 554));
    tcp.describe(&mut w);
    let transport = "RTP/AVP/TCP;unicast;interleaved=0-1";
    tcp.set_up(&mut w, 0, transport, transport);
    tcp.play(&mut w);
    let mut udp = Talk::open(&mut w, end(false, first + 1), end(true, 8554));
    udp.describe(&mut w);
    let transport = "RTP/AVP;unicast;client_port=5000-5001";
    udp.set_up(&mut w, 0, transport, &format!("{transport};server_port=6970-6971"));
    udp.play(&mut w);
    for round in 0..rounds {
        let packets = pictures(0xaaaa, round.wrapping_mul(24), 11);
        let stream: Vec<u8> = packets.iter().take(24).flat_map(|p| framed(0, p)).collect();
        tcp.answer(&mut w, &stream, 1_448);
        for (n, packet) in pictures(7, round.wrapping_mul(24), 11).iter().take(24).enumerate() {
            if round % 13 != 5 || n != 9 {
                w.udp(end(true, 6970), end(false, 5000), packet);
            }
        }
        for n in 0..20 {
            let (from, to) = if n % 4 == 0 { (false, true) } else { (true, false) };
            w.udp(end(from, 9_000), end(to, 9_001), &[n; 1_400]);
        }
        if round % 16 == 7 {
            tcp.exchange(&mut w, "GET_PARAMETER", "rtsp://198.18.0.11/cam", "", "", "");
            udp.exchange(&mut w, "GET_PARAMETER", "rtsp://198.18.0.11/cam", "", "", "");
        }
        if round % 40 == 21 {
            // Comes, is watched and goes; the sound of no dialogue at all beside it.
            let mut talk = Talk::open(&mut w, end(false, first + 100 + round), end(true, 554));
            talk.describe(&mut w);
            talk.set_up(&mut w, 1, "RTP/AVP/TCP;interleaved=0-1", "RTP/AVP/TCP;interleaved=0-1");
            talk.play(&mut w);
            let sound = |n: u16| rtp(0, u32::from(round), n, u32::from(n) * 160, false, &[0xd5; 160]);
            let stream: Vec<u8> = (0..60).flat_map(|n| framed(0, &sound(n))).collect();
            talk.answer(&mut w, &stream, 700);
            for n in 0..60 {
                w.udp(end(true, 7_000 + round), end(false, 7_001 + round), &sound(n));
            }
            talk.tear_down(&mut w);
        }
        w.wait(100);
    }
    tcp.tear_down(&mut w);
    udp.tear_down(&mut w);
    w.frames
}

/// The second tap hears what the VMS says.
pub fn on_two_taps(mut frames: Vec<Captured>) -> Vec<Captured> {
    for frame in &mut frames {
        let from_vms = frame.data[26..30] == VMS.octets();
        frame.tap = if from_vms { 2 } else { 1 };
    }
    frames
}

/// Two mirrors of one switch: each frame is heard on both taps, 50 µs apart, now on the one first and now on the other.
pub fn on_both_taps(frames: Vec<Captured>) -> Vec<Captured> {
    let mut both = Vec::new();
    for (n, mut frame) in frames.into_iter().enumerate() {
        frame.tap = if n % 3 == 0 { 2 } else { 1 };
        let mut copy = frame.clone();
        (copy.tap, copy.time) = (3 - frame.tap, frame.time.plus(Duration::from_micros(50)));
        both.extend([frame, copy]);
    }
    both.sort_by_key(|frame| frame.time);
    both
}

/// The second tap hears what is no video, which fills its shards; of the video it hears some only now and then, with long rests.
pub fn now_and_then_on_the_second(mut frames: Vec<Captured>, rest: usize) -> Vec<Captured> {
    for (n, frame) in frames.iter_mut().enumerate() {
        let port = u16::from_be_bytes([frame.data[34], frame.data[35]]);
        frame.tap = if matches!(port, 9_000 | 9_001) || n % rest < 60 { 2 } else { 1 };
    }
    frames
}

pub struct Recording {
    pub store: Store,
    pub lock: Arc<WriterLock>,
    _dir: tempfile::TempDir,
}

impl Recording {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let lock = Arc::new(store.lock().unwrap());
        Self { store, lock, _dir: dir }
    }

    pub fn writers(
        &self,
        source: SourceId,
        frames: &[Captured],
        sync_interval: Duration,
    ) -> Vec<ShardWriter> {
        let Self { store, lock, .. } = self;
        let open = |n: u32| {
            let tap = NewTap {
                source,
                name: format!("eth{n}"),
                link: LinkType::ETHERNET,
                snaplen: 65_535,
                provenance: Provenance::Captured,
            };
            let options = WriterOptions {
                shard_size: SHARD,
                staging_bytes: 8 << 20,
                when_full: WhenFull::Wait,
                sync_interval,
                ..Default::default()
            };
            ShardWriter::open(store, lock, tap, options).unwrap()
        };
        let taps = frames.iter().map(|f| f.tap).max().unwrap_or(1);
        (1..=taps).map(open).collect()
    }

    /// A run in which the last `late` packets are indexed and not durable when `at_the_end` takes the store as it stands.
    pub fn lose_power(&self, frames: &[Captured], late: usize, at_the_end: impl FnOnce(&Store)) -> u64 {
        let Self { store, lock, .. } = self;
        let index = Index::open(&store.index_dir()).unwrap();
        let source = store.open_source(lock, SourceKind::Live, CaptureTime::MIN).unwrap();
        let interval = Duration::from_secs(3);
        let mut writers = self.writers(source, frames, interval);
        let indexer = LiveIndexer::start(store, lock, &index, &LiveHub::new(), source).unwrap();
        let mut written = 0;
        let (durable, lost) = frames.split_at(frames.len() - late);
        for part in [durable, lost] {
            write(&mut writers, part);
            written += part.len() as u64;
            let give_up = Instant::now() + Duration::from_secs(60);
            // The last packet of one tap may wait for the other tap.
            while indexer.stats().packets + 2 < written && Instant::now() < give_up {
                assert!(indexer.flush(Duration::from_secs(60)));
                std::thread::sleep(Duration::from_millis(20));
            }
            if part.len() == durable.len() {
                // A round of syncing, and the next is far.
                std::thread::sleep(interval + interval / 5);
            }
        }
        index.sync().unwrap();
        at_the_end(store);
        for writer in writers {
            writer.finish().unwrap();
        }
        indexer.finish().unwrap().packets
    }

    /// A run of a recorder that keeps `max_bytes`.
    pub fn run(&self, frames: &[Captured], max_bytes: u64) {
        let Self { store, lock, .. } = self;
        let index = Index::open(&store.index_dir()).unwrap();
        drop_deleted(store, &index).unwrap();
        let source = store.open_source(lock, SourceKind::Live, CaptureTime::MIN).unwrap();
        let mut writers = self.writers(source, frames, WriterOptions::default().sync_interval);
        let indexer = LiveIndexer::start(store, lock, &index, &LiveHub::new(), source).unwrap();
        for some in frames.chunks(2_000) {
            write(&mut writers, some);
            assert!(indexer.flush(Duration::from_secs(60)));
            self.retain(&index, max_bytes);
        }
        for writer in writers {
            writer.finish().unwrap();
        }
        indexer.finish().unwrap();
        store.close_source(source, frames.len() as u64, None, None).unwrap();
        self.retain(&index, max_bytes);
    }

    pub fn retain(&self, index: &Index, max_bytes: u64) {
        let bounds = Retention { max_bytes: Some(max_bytes), ..Default::default() };
        for shard in bounds.plan(&self.store.shards(), 0, 1 << 60, CaptureTime::MIN) {
            delete_shard(&self.store, &self.lock, index, shard).unwrap();
        }
    }

    pub fn dump(&self) -> String {
        dump(&Index::open(&self.store.index_dir()).unwrap())
    }
}

/// Both taps say often how far they are: a tap that is quiet for long is not waited for, and then the order would be another.
pub fn write(writers: &mut [ShardWriter], frames: &[Captured]) {
    for some in frames.chunks(50) {
        for frame in some {
            let len = frame.data.len() as u32;
            writers[frame.tap as usize - 1].append(frame.time, len, &frame.data);
        }
        for writer in &mut *writers {
            writer.publish();
            writer.set_watermark(some.last().unwrap().time);
        }
    }
}

pub fn dump(index: &Index) -> String {
    let mut text = Vec::new();
    index.dump(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// The first lines that differ.
pub fn assert_same(before: &str, after: &str) {
    if before != after {
        let at = before.lines().zip(after.lines()).position(|(a, b)| a != b);
        let at = at.unwrap_or(before.lines().count().min(after.lines().count()));
        let line = |text: &str| text.lines().nth(at).unwrap_or("(end)").to_owned();
        panic!(
            "{} and {} lines; line {at} differs:\n  {}\n  {}",
            before.lines().count(),
            after.lines().count(),
            line(before),
            line(after)
        );
    }
}
