//! What it costs to get packets into a shard, two ways, alternated: (a) written through the shard's own mapping, pages faulted in
//! ahead by a second thread and written back behind; (b) tapdeck's way, staging slots and direct writes. Prints
//! the capture thread's wall and CPU nanoseconds a packet, the process' CPU, and the longest stall of one append.
//!
//! `cargo run --release -p tapdeck-capture --example append_cost -- DIR [GIGABYTES] [ROUNDS] [PACKETS_PER_SECOND]`
#![allow(unsafe_code)]

use capture::{
    CaptureTime, LinkType, NewTap, Provenance, ShardWriter, SourceKind, Store, WhenFull, WriterOptions,
};
use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PACKET_LEN: usize = 1_200;
const SHARD: u64 = 256 << 20;
const AHEAD: u64 = 64 << 20;
const PIECE: u64 = 4 << 20;
const BATCH: u64 = 64;

#[derive(Default)]
struct Cost {
    packets: u64,
    wall: Duration,
    thread_cpu: Duration,
    process_cpu: Duration,
    longest_batch: Duration,
    /// From the first packet until the last byte was durable.
    synced: Duration,
}

fn cpu(clock: rustix::time::ClockId) -> Duration {
    let t = rustix::time::clock_gettime(clock);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// Calls `append` for each packet, at a rate if one is given, and `publish` after each batch.
fn drive<W>(
    packets: u64,
    rate: u64,
    w: &mut W,
    mut append: impl FnMut(&mut W, u64, &[u8]),
    mut publish: impl FnMut(&mut W),
) -> Cost {
    // Not one packet in the cache again and again: as if out of a ring of 64 MiB.
    let ring = vec![0x5a_u8; 64 << 20];
    let mut cost = Cost { packets, ..Cost::default() };
    let (begun, thread) = (Instant::now(), cpu(rustix::time::ClockId::ThreadCPUTime));
    let mut n = 0;
    while n < packets {
        if let Some(due) = (n * 1_000_000_000).checked_div(rate).map(Duration::from_nanos) {
            while let Some(early) = due.checked_sub(begun.elapsed()) {
                std::thread::sleep(early.min(Duration::from_millis(1)));
            }
        }
        let batch = Instant::now();
        for _ in 0..BATCH {
            let at = (n as usize * 2_048) % (ring.len() - 2_048);
            append(w, n, &ring[at..at + PACKET_LEN]);
            n += 1;
        }
        publish(w);
        cost.longest_batch = cost.longest_batch.max(batch.elapsed());
    }
    (cost.wall, cost.thread_cpu) = (begun.elapsed(), cpu(rustix::time::ClockId::ThreadCPUTime) - thread);
    cost
}

fn staged(dir: &Path, packets: u64, rate: u64) -> Result<Cost, Box<dyn Error>> {
    let begun = Instant::now();
    let store = Store::create(dir)?;
    let lock = store.lock()?;
    let source = store.open_source(&lock, SourceKind::Live, CaptureTime::from_nanos(0))?;
    let tap = NewTap {
        source,
        name: "bench".into(),
        link: LinkType::ETHERNET,
        snaplen: 65_535,
        provenance: Provenance::Captured,
    };
    let options = WriterOptions { shard_size: SHARD, when_full: WhenFull::Wait, ..WriterOptions::default() };
    let mut writer = ShardWriter::open(&store, &lock, tap, options)?;
    let append = |w: &mut ShardWriter, n: u64, data: &[u8]| {
        w.append(CaptureTime::from_nanos(n as i64), PACKET_LEN as u32, data);
    };
    let mut cost = drive(packets, rate, &mut writer, append, ShardWriter::publish);
    writer.finish()?;
    cost.synced = begun.elapsed();
    Ok(cost)
}

/// One shard of way (a).
struct Mapped {
    map: memmap2::MmapRaw,
    at: usize,
    written: Arc<AtomicU64>,
    helper: std::thread::JoinHandle<()>,
}

impl Mapped {
    fn open(dir: &Path, n: u64) -> Result<Self, Box<dyn Error>> {
        let file =
            File::options().read(true).write(true).create_new(true).open(dir.join(format!("{n}.pcap")))?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, SHARD)?;
        let map = memmap2::MmapOptions::new().len(SHARD as usize).map_raw(&file)?;
        let (written, start) = (Arc::new(AtomicU64::new(0)), map.as_mut_ptr() as usize);
        populate(start, 0, AHEAD);
        let helper = {
            let written = written.clone();
            std::thread::spawn(move || Self::helper(&file, start, &written))
        };
        Ok(Self { map, at: 24, written, helper })
    }

    /// Faults pages in ahead of the writer, writes them back and lets go of them behind it.
    fn helper(file: &File, start: usize, written: &AtomicU64) {
        let (mut ahead, mut behind) = (AHEAD, 0);
        loop {
            let at = written.load(Ordering::Acquire);
            while ahead < (at + AHEAD).min(SHARD) {
                populate(start, ahead, PIECE);
                ahead += PIECE;
            }
            while behind + PIECE <= at {
                // SAFETY: a range of a file that is open; the call takes no pointers.
                unsafe {
                    libc::sync_file_range(
                        std::os::fd::AsRawFd::as_raw_fd(&file.as_fd()),
                        behind as i64,
                        PIECE as i64,
                        libc::SYNC_FILE_RANGE_WRITE,
                    )
                };
                if behind >= 4 * PIECE {
                    // SAFETY: whole pages inside the mapping; dropped from this process' tables only, the file keeps them.
                    unsafe {
                        libc::madvise(
                            (start + (behind - 4 * PIECE) as usize) as *mut _,
                            PIECE as usize,
                            libc::MADV_DONTNEED,
                        )
                    };
                }
                behind += PIECE;
            }
            if at >= SHARD - 4_096 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = file.sync_data();
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn put(&mut self, bytes: &[u8]) {
        // SAFETY: the caller leaves a page at the end, so the bytes are inside the mapping, whose file is reserved.
        unsafe { self.map.as_mut_ptr().add(self.at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.at += bytes.len();
    }
}

fn populate(start: usize, offset: u64, len: u64) {
    const MADV_POPULATE_WRITE: i32 = 23;
    // SAFETY: whole pages inside the mapping of a reserved file.
    unsafe { libc::madvise((start + offset as usize) as *mut _, len as usize, MADV_POPULATE_WRITE) };
}

struct MappedWriter<'a> {
    dir: &'a Path,
    current: Mapped,
    shards: u64,
    helpers: Vec<std::thread::JoinHandle<()>>,
    // Opened ahead, as tapdeck does.
    next: Option<std::thread::JoinHandle<Mapped>>,
}

impl MappedWriter<'_> {
    fn prepare(&mut self) {
        self.shards += 1;
        let (dir, n) = (self.dir.to_owned(), self.shards);
        self.next =
            Some(std::thread::spawn(move || Mapped::open(&dir, n).expect("a bench directory with room")));
    }

    fn append(&mut self, n: u64, data: &[u8]) {
        if self.current.at + 16 + data.len() > SHARD as usize - 4_096 {
            let next = self.next.take().expect("prepared").join().expect("opened");
            let full = std::mem::replace(&mut self.current, next);
            full.written.store(SHARD, Ordering::Release);
            // Its mapping has to outlive its helper.
            let Mapped { map, helper, .. } = full;
            self.helpers.push(std::thread::spawn(move || {
                let _ = helper.join();
                drop(map);
            }));
            self.prepare();
        }
        let len = data.len() as u32;
        let mut header = [0; 16];
        header[0..4].copy_from_slice(&((n / 1_000_000_000) as u32).to_le_bytes());
        header[4..8].copy_from_slice(&((n % 1_000_000_000) as u32).to_le_bytes());
        header[8..12].copy_from_slice(&len.to_le_bytes());
        header[12..16].copy_from_slice(&len.to_le_bytes());
        self.current.put(&header);
        self.current.put(data);
    }
}

fn mapped(dir: &Path, packets: u64, rate: u64) -> Result<Cost, Box<dyn Error>> {
    let begun = Instant::now();
    let mut writer =
        MappedWriter { dir, current: Mapped::open(dir, 0)?, shards: 0, helpers: Vec::new(), next: None };
    writer.prepare();
    let mut cost = drive(packets, rate, &mut writer, MappedWriter::append, |w| {
        w.current.written.store(w.current.at as u64, Ordering::Release);
    });
    for last in [Some(writer.current), writer.next.take().and_then(|n| n.join().ok())].into_iter().flatten() {
        last.written.store(SHARD, Ordering::Release);
        let _ = last.helper.join();
    }
    for helper in writer.helpers {
        let _ = helper.join();
    }
    cost.synced = begun.elapsed();
    Ok(cost)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: u64| arguments.get(at).and_then(|a| a.parse().ok()).unwrap_or(or);
    let Some(dir) = arguments.first() else {
        return Err("usage: append_cost DIR [GIGABYTES] [ROUNDS] [PPS]".into());
    };
    let (gigabytes, rounds, rate) = (number(1, 2), number(2, 3), number(3, 0));
    let packets = gigabytes * 1_000_000_000 / PACKET_LEN as u64;
    for round in 1..=rounds {
        for (name, way) in [("(a) mapped", mapped as fn(&Path, u64, u64) -> _), ("(b) staged", staged)] {
            let dir = Path::new(dir).join(format!("append-cost-{round}"));
            std::fs::create_dir_all(&dir)?;
            let before = cpu(rustix::time::ClockId::ProcessCPUTime);
            let mut cost: Cost = way(&dir, packets, rate)?;
            cost.process_cpu = cpu(rustix::time::ClockId::ProcessCPUTime) - before;
            let each = |d: Duration| d.as_nanos() as u64 / cost.packets;
            println!(
                "round {round} {name}: {} ns wall, {} ns CPU a packet in the capture thread; {} ns CPU in all; longest batch of {BATCH} {:.1} ms; {:.2} GB/s until synced",
                each(cost.wall),
                each(cost.thread_cpu),
                each(cost.process_cpu),
                cost.longest_batch.as_secs_f64() * 1e3,
                (cost.packets * PACKET_LEN as u64) as f64 / cost.synced.as_secs_f64() / 1e9,
            );
            std::fs::remove_dir_all(&dir)?;
        }
    }
    Ok(())
}
