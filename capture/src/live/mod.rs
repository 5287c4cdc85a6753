//! Live taps: one thread an interface, from libpcap's ring (TPACKET_V3) into a [`ShardWriter`], and nothing else.
//!
//! The thread polls with a bound, so that a quiet link neither hides the end of the recording nor the passing of time; it
//! publishes after every batch; it never waits for the disk. What is lost is counted where it was lost.

mod counters;
mod device;
mod filter;
mod privilege;
mod statistics;

pub use counters::{Counters, TapStats};
pub use device::{LiveError, interfaces};
pub use filter::widen;
pub use privilege::keep_only_net_raw;

use crate::import::wall_clock;
use crate::journal::{JournalRecord, Provenance};
use crate::priority::tap_priority;
use crate::shard::{Appended, RECORD_HEADER_LEN, ShardWriter, WhenFull, WriterOptions, WriterWatch};
use crate::store::{NewTap, Store, WriterLock};
use crate::{CaptureTime, LinkType, MAX_PACKET_LEN, SourceId, StoreError, TapId};
use counters::Shared;
use device::Device;
use rustix::event::{PollFd, PollFlags, Timespec};
use statistics::Seconds;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Packets taken from the ring before they are published.
const BATCH: usize = 512;
/// How often totals are brought up to date, or as often as the ring is looked at when it never gets empty (`LOOK`).
const COUNT: Duration = Duration::from_millis(200);
/// How long a tap waits before it tries to open an interface again that went away.
const REOPEN: Duration = Duration::from_millis(500);
/// How far the packets of one ring can be out of order.
const REORDERED: Duration = Duration::from_millis(5);
/// Room that is asked for before a batch, at least: 512 full Ethernet frames have it.
const LEAST_ROOM: u64 = 1 << 20;
/// The longest the ring is looked at before statistics are due again, and before a stop is seen.
const LOOK: Duration = Duration::from_millis(500);
/// The longest a tap waits for the packets from which on it was asked to go on elsewhere: its clock may be another, or the disk full.
const CHANGE_WITHIN: Duration = Duration::from_secs(2);
/// The longest a stop waits for the disk to make room for what is in the ring.
const STOP: Duration = Duration::from_secs(10);
/// The longest one look at the ring takes, and so a stop.
const POLL_NANOS: i64 = 50_000_000;

/// How an interface is tapped.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// The interface's name.
    pub interface: String,
    /// A filter in libpcap's language; the kernel applies it. See [`widen`].
    pub filter: Option<String>,
    /// Take the filter as it is, without later fragments and tagged frames being added to it.
    pub filter_exact: bool,
    /// Longest capture of a packet in bytes.
    pub snaplen: u32,
    /// The kernel's ring, in bytes.
    pub ring_bytes: u32,
    /// How long the kernel holds back an unfinished block of the ring, in milliseconds: the least latency at low rates.
    pub block_timeout_ms: u32,
    /// See frames that are not for this host; a mirror port's never are.
    pub promiscuous: bool,
    /// How its shards are written.
    pub writer: WriterOptions,
}

impl LiveConfig {
    /// The defaults for an interface.
    pub fn new(interface: impl Into<String>) -> Self {
        Self {
            interface: interface.into(),
            filter: None,
            filter_exact: false,
            // GRO frames are longer than 65,535 bytes with their headers; the ring's memory doesn't depend on it.
            snaplen: MAX_PACKET_LEN,
            ring_bytes: 128 << 20,
            block_timeout_ms: 10,
            promiscuous: true,
            writer: WriterOptions::default(),
        }
    }
}

impl LiveConfig {
    /// Opens the interface and closes it again: what is wrong with it or its filter is told before anything is made for it.
    pub fn check(&self) -> Result<(), LiveError> {
        let small = Self { ring_bytes: 1 << 20, promiscuous: false, ..self.clone() };
        Device::open(&small).map(drop)
    }
}

/// How a tap ended.
#[derive(Debug)]
pub struct Stopped {
    /// Totals.
    pub stats: TapStats,
    /// What the journal is to know since [`LiveTap::take_records`] was asked last.
    pub records: Vec<JournalRecord>,
    /// Whether everything is on disk.
    pub result: Result<(), StoreError>,
}

/// A running tap.
#[derive(Debug)]
pub struct LiveTap {
    tap: TapId,
    interface: String,
    link: LinkType,
    snaplen: u32,
    options: WriterOptions,
    shared: Arc<Shared>,
    disk: WriterWatch,
    /// The tap that it was asked to go on with.
    next: Option<(TapId, WriterWatch)>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
    seconds: Seconds,
}

/// A tap that is ready to be gone on with.
#[derive(Debug)]
pub struct Prepared(ShardWriter);

/// A tap's part of a recording that is at its end: what it has is still on its way to the disk.
#[derive(Debug)]
pub struct Leaving(Option<ShardWriter>);

impl Leaving {
    /// Brings everything to disk and seals.
    pub fn finish(self) -> Result<(), StoreError> {
        self.0.map_or(Ok(()), ShardWriter::finish)
    }
}

impl LiveTap {
    /// Opens the interface, makes its tap in the store and starts to record.
    pub fn start(
        store: &Store,
        lock: &WriterLock,
        source: SourceId,
        config: LiveConfig,
    ) -> Result<Self, LiveError> {
        let device = Device::open(&config)?;
        let options = WriterOptions { when_full: WhenFull::Drop, ..config.writer };
        let (link, snaplen) = (device.link(), config.snaplen);
        let tap = captured(source, &config.interface, link, snaplen);
        let writer = ShardWriter::open(store, lock, tap, options)?;
        let (tap, interface, disk) = (writer.tap(), config.interface.clone(), writer.watch());
        let shared = Arc::new(Shared::default());
        let body = {
            let shared = shared.clone();
            move || {
                tap_priority();
                Loop {
                    batch_bytes: LEAST_ROOM,
                    most_room: (config.writer.staging_bytes / 4)
                        .min(config.writer.shard_size / 2)
                        .max(LEAST_ROOM),
                    config,
                    device: Some(device),
                    away: None,
                    up: wall_clock(),
                    writer,
                    change: None,
                    shared,
                    counters: Counters::default(),
                }
                .run()
            }
        };
        let thread = std::thread::Builder::new().name(format!("tap-{interface}")).spawn(body);
        let thread = Some(thread.map_err(StoreError::io("starting a thread for", store.dir()))?);
        let seconds = Seconds::new(tap, wall_clock());
        Ok(Self { tap, interface, link, snaplen, options, shared, disk, next: None, thread, seconds })
    }

    /// Makes a tap in another source, for [`go_on`](Self::go_on).
    pub fn prepare(
        &self,
        store: &Store,
        lock: &WriterLock,
        source: SourceId,
    ) -> Result<Prepared, StoreError> {
        let tap = captured(source, &self.interface, self.link, self.snaplen);
        ShardWriter::open(store, lock, tap, self.options).map(Prepared)
    }

    /// Asks the capture thread to go on there with the first packet that is captured at `from` or later: not one is lost between the two. Several
    /// taps are asked with the same time, a little ahead, so that all that lies in one part is before all that lies in the next;
    /// and all before the first of them is [awaited](Self::gone_on).
    pub fn go_on(&mut self, Prepared(writer): Prepared, from: CaptureTime) {
        self.next = Some((writer.tap(), writer.watch()));
        self.shared.offer(writer, from);
    }

    /// Waits until it has. Gives what is left to do of the tap before, and what the journal is to know of it.
    pub fn gone_on(&mut self) -> (Leaving, Vec<JournalRecord>) {
        let before = self.shared.left(|| self.running());
        let Some((tap, disk)) = self.next.take() else { return (Leaving(before), Vec::new()) };
        let records = self.seconds.go_on(tap, self.stats());
        (self.tap, self.disk) = (tap, disk);
        (Leaving(before), records)
    }

    /// A look at its way to the disk.
    pub fn watch(&self) -> WriterWatch {
        self.disk.clone()
    }

    /// The tap's number in the store.
    pub fn tap(&self) -> TapId {
        self.tap
    }

    /// The interface's name.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Totals since the start; they are brought up to date several times a second.
    pub fn stats(&self) -> TapStats {
        let (queued_bytes, queue_bytes) = self.disk.queue();
        TapStats { queued_bytes, queue_bytes, ..self.shared.load() }
    }

    /// What keeps packets from being recorded at the moment: a disk that is full, an interface that is gone.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble().or_else(|| self.disk.trouble())
    }

    /// Whether the thread still runs.
    pub fn running(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }

    /// What the journal is to know since this was asked last: losses, and every ten times the statistics. To be called once a second.
    pub fn take_records(&mut self) -> Vec<JournalRecord> {
        self.seconds.pass(self.stats(), false)
    }

    /// Takes what is in the ring, brings everything to disk and seals.
    pub fn stop(mut self) -> Stopped {
        self.shared.stop.store(true, Ordering::Release);
        let result = match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        };
        let records = self.seconds.pass(self.stats(), true);
        Stopped { stats: self.stats(), records, result }
    }
}

impl Drop for LiveTap {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn captured(source: SourceId, interface: &str, link: LinkType, snaplen: u32) -> NewTap {
    NewTap { source, name: interface.to_owned(), link, snaplen, provenance: Provenance::Captured }
}

/// The thread's own state.
struct Loop {
    config: LiveConfig,
    /// `None` while the interface is away.
    device: Option<Device>,
    /// Since when the interface is away or down, and only then.
    away: Option<CaptureTime>,
    /// When it was last seen up.
    up: CaptureTime,
    writer: ShardWriter,
    change: Option<Change>,
    shared: Arc<Shared>,
    counters: Counters,
    /// Room to ask for before the next batch: twice what the last one took, up to a quarter of staging.
    batch_bytes: u64,
    most_room: u64,
}

/// A change to another writer that is under way.
struct Change {
    /// The one that is not in use: the next one, and once it is `done` the one before.
    other: ShardWriter,
    /// Packets from then on go to the next one.
    from: CaptureTime,
    asked: Instant,
    done: bool,
}

impl Change {
    /// The next packet goes to the other writer; what the one before has is published, and nothing more comes to it.
    #[cold]
    fn make(&mut self, writer: &mut ShardWriter) {
        writer.publish();
        writer.set_watermark(self.from);
        std::mem::swap(&mut self.other, writer);
        self.done = true;
    }

    /// Whether packets were waited for long enough.
    fn overdue(&self) -> bool {
        !self.done && self.asked.elapsed() > CHANGE_WITHIN
    }
}

impl Loop {
    fn run(mut self) -> Result<(), StoreError> {
        let mut next_stats = Instant::now();
        loop {
            let stopping = self.shared.stop.load(Ordering::Acquire);
            if self.shared.asked.load(Ordering::Acquire)
                && let Some((other, from)) = self.shared.offered()
            {
                self.change = Some(Change { other, from, asked: Instant::now(), done: false });
            }
            self.change_over();
            match self.device.is_some() {
                true => self.look(stopping),
                false if !stopping => self.reopen(),
                false => {}
            }
            if stopping || Instant::now() >= next_stats {
                next_stats = Instant::now() + COUNT;
                self.count(stopping);
            }
            if stopping {
                break;
            }
        }
        self.change_over();
        self.back();
        self.writer.finish()
    }

    /// Sees to a change of writers that is due without a packet having said so, or that a packet has made.
    fn change_over(&mut self) {
        let Some(mut change) = self.change.take() else { return };
        let nothing_comes = self.device.is_none() && wall_clock() >= change.from;
        if !change.done && (nothing_comes || change.overdue()) {
            change.make(&mut self.writer);
        }
        if !change.done {
            self.change = Some(change);
            return;
        }
        // What the tap misses in either part explains gaps of that part.
        if let Some(from) = self.away.take() {
            note_away(&mut change.other, from);
            self.away = Some(wall_clock());
        }
        // What was counted until now goes to the tap before; a batch in which the change was made is not divided.
        self.count(true);
        self.shared.leave(change.other);
    }

    /// The interface is back, or the recording ends without it: evidence for the gaps that this made.
    fn back(&mut self) {
        if let Some(from) = self.away.take() {
            note_away(&mut self.writer, from);
        }
    }

    /// Takes everything that is ready; waits for it first, unless the recording ends.
    fn look(&mut self, stopping: bool) {
        let Some(device) = &mut self.device else { return };
        if !stopping {
            let mut fds = [PollFd::from_borrowed_fd(device.capture.as_fd(), PollFlags::IN)];
            let _ = rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: POLL_NANOS }));
        }
        // A stop must end on a link that is never quiet: what comes after it is not awaited.
        let (started, asked) = (Instant::now(), wall_clock());
        loop {
            // What there is no room for stays in the ring, which is a second staging that way. Not when the disk refuses, for that
            // may last.
            if !self.writer.has_room(self.batch_bytes) && !self.writer.refused(self.batch_bytes) {
                let leaving = !stopping && changes(&self.shared, self.change.as_ref());
                if !leaving && started.elapsed() < if stopping { STOP } else { LOOK } {
                    std::thread::sleep(Duration::from_micros(500));
                    continue;
                }
                self.batch_bytes = (self.batch_bytes / 2).max(LEAST_ROOM);
                if !stopping {
                    return;
                }
            }
            let held_back = Duration::from_millis(2 * u64::from(self.config.block_timeout_ms));
            let mut batch_bytes = 0;
            let before = wall_clock();
            let (writer, change, counters) = (&mut self.writer, &mut self.change, &mut self.counters);
            let mut last = CaptureTime::MIN;
            let taken = device.capture.dispatch(Some(BATCH), |packet| {
                // Nanoseconds stand in `tv_usec`: the capture was opened with that precision.
                #[allow(clippy::useless_conversion)]
                let time = CaptureTime::from_secs_nanos(
                    packet.header.ts.tv_sec.into(),
                    packet.header.ts.tv_usec.into(),
                );
                last = time;
                if let Some(change) = change
                    && !change.done
                    && time >= change.from
                {
                    change.make(writer);
                }
                batch_bytes += u64::from(packet.header.caplen) + RECORD_HEADER_LEN;
                match writer.append(time, packet.header.len, packet.data) {
                    Appended::Stored => counters.stored(packet.header.caplen),
                    Appended::Dropped => counters.dropped_ours += 1,
                }
            });
            match taken {
                // What came before the stop may be in a block that the kernel has not closed yet.
                Ok(0) if stopping && started.elapsed() < held_back => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                Ok(0) => {
                    // The ring was empty: what the kernel still holds back is younger than its block time-out.
                    let until = before.minus(held_back);
                    self.writer.set_watermark(until);
                    if let Some(change) = self.change.as_mut().filter(|c| !c.done && until >= c.from) {
                        change.make(&mut self.writer);
                    }
                    return;
                }
                Ok(_) => {
                    self.batch_bytes = (2 * batch_bytes).clamp(LEAST_ROOM, self.most_room);
                    self.writer.publish();
                    // A link that is never idle has to say as well how far it is: its packets come in order, but for
                    // those that two processors took at the same moment.
                    self.writer.set_watermark(last.minus(REORDERED));
                }
                Err(error) => {
                    self.writer.publish();
                    tracing::warn!(interface = %self.config.interface, "the interface went away: {error}");
                    self.shared
                        .set_trouble(Some(format!("interface {} is gone: {error}", self.config.interface)));
                    self.device = None;
                    self.away.get_or_insert_with(wall_clock);
                    return;
                }
            }
            // A stop takes all that was captured before it; what has no room after so long is counted as lost.
            let enough = if stopping {
                last >= asked || started.elapsed() > 2 * STOP
            } else {
                started.elapsed() > LOOK || changes(&self.shared, self.change.as_ref())
            };
            if enough {
                return;
            }
        }
    }

    fn reopen(&mut self) {
        // In small steps, each of which says that nothing came: other taps wait for this one.
        for _ in 0..5 {
            std::thread::sleep(REOPEN / 5);
            self.writer.set_watermark(wall_clock());
        }
        // One that came back as another kind of link would make the shard a lie.
        if let Ok(device) = Device::open(&self.config)
            && device.link() == self.writer.link()
        {
            tracing::info!(interface = %self.config.interface, "the interface is back");
            self.counters.reopened();
            self.shared.reopened.fetch_add(1, Ordering::Relaxed);
            self.device = Some(device);
            self.shared.set_trouble(None);
            self.back();
        }
    }

    fn count(&mut self, last: bool) {
        if let Some(device) = &mut self.device
            && let Ok(stat) = device.capture.stats()
        {
            self.counters.kernel(stat.received, stat.dropped);
        }
        self.counters.nic(device::statistic(&self.config.interface, "rx_missed_errors"));
        let up = device::is_up(&self.config.interface);
        if self.device.is_some()
            && let Some(up) = up
        {
            self.note_link(up);
        }
        self.shared.store(&self.counters, self.device.is_some() && up == Some(true), last);
    }

    /// An interface that is only set down does not end the capture, which goes on when it is up again: that there was nothing to capture
    /// meanwhile has to be looked for.
    fn note_link(&mut self, up: bool) {
        match up {
            true => {
                self.back();
                self.up = wall_clock();
            }
            false => _ = self.away.get_or_insert(self.up),
        }
    }
}

/// Whether a change of writers has something to be done for it between two looks at the ring.
fn changes(shared: &Shared, change: Option<&Change>) -> bool {
    shared.asked.load(Ordering::Acquire) || change.is_some_and(|change| change.done || change.overdue())
}

/// Nothing could be captured since then: evidence for the gaps that this made.
fn note_away(writer: &mut ShardWriter, from: CaptureTime) {
    let tap = writer.tap();
    writer.note(&JournalRecord::InterfaceAway { tap, from, to: wall_clock() });
}

#[cfg(test)]
mod tests;
