//! A running recording: taps, index, retention, hashes, RTSP and the control socket, wired together.
//!
//! Owns the order in which they start and stop, and the once-a-second round: drops into the journal, retention, failure
//! detection, the status document. Each part has threads of its own; none waits for this one.

mod control;
mod housekeeping;
mod importing;
mod news;
mod own_output;
mod rates;
mod room;

use crate::console::Console;
use crate::failure::Failure;
use crate::rtsp::{self, Rtsp};
use crate::status::{InterfaceStatus, RecorderStatus};
use crate::times;
use crate::writing::WrittenStore;
use capture::{
    CaptureTime, ClockWatch, JournalRecord, LiveConfig, LiveError, LiveTap, Retention, SourceId, SourceKind,
    Store, StoreError, TapStats,
};
use housekeeping::{Hashing, Retaining};
use importing::{Importing, Job, Means, Turned};
use news::News;
use rates::Rates;
use reconstruct::footage::{Footage, LiveHub};
use reconstruct::index::{Index, IndexError};
use reconstruct::indexer::{IndexerError, LiveIndexer, Renewal};
use replay::Bound;
use room::Full;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When a recording goes on in a next part, so far ahead is the moment from which on packets belong to that: all taps know of it by then.
const CHANGE_OVER: Duration = Duration::from_millis(50);

pub use control::{Control, Orders};
pub use housekeeping::check_writable;

impl From<LiveError> for Failure {
    /// The sentences of the tap name the remedy themselves.
    fn from(error: LiveError) -> Self {
        match error {
            LiveError::Filter { .. } => Self::usage(error),
            LiveError::Store(error) => error.into(),
            error => Self::failed(error),
        }
    }
}

impl From<IndexerError> for Failure {
    fn from(error: IndexerError) -> Self {
        Self::failed(error)
    }
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        Self::failed(error)
    }
}

/// What is recorded, decided once.
pub struct Plan {
    /// The taps.
    pub taps: Vec<LiveConfig>,
    /// How long it is kept.
    pub retention: Retention,
    /// Room that each shard takes from its beginning on.
    pub shard_size: u64,
    /// Where RTSP is served.
    pub rtsp: Option<SocketAddr>,
}

/// A recording that runs.
pub struct Recorder {
    written: WrittenStore,
    source: SourceId,
    taps: Vec<(LiveTap, Rates)>,
    retention: Retaining,
    index: Index,
    footage: Footage,
    indexer: Arc<LiveIndexer>,
    rtsp: Option<Rtsp>,
    hashing: Hashing,
    importing: Importing,
    clock: ClockWatch,
    news: News,
    started: (Instant, CaptureTime),
    /// What was complained about already, for each tap.
    troubles: Vec<Option<String>>,
}

/// What a recording came to.
#[derive(Default)]
pub struct Summary {
    /// For each tap its interface and final counts.
    pub taps: Vec<(String, TapStats)>,
    /// Streams that the store holds now, if that could be found out.
    pub streams: Option<usize>,
    /// Not all could be brought to its end; a line has said what.
    pub failed: bool,
}

impl Recorder {
    /// Opens the index and all taps, or none of them; who can connect then is told the truth: it records.
    pub fn start(
        written: WrittenStore,
        rtsp: Option<Bound>,
        plan: Plan,
        console: &Console,
    ) -> Result<Self, Failure> {
        let store = written.store.clone();
        let (index, anew) = reconstruct::indexer::open_or_begin(&store, &written.lock)?;
        if let Some(why) = anew {
            console.line(&format!(
                "tapdeck: {why}; that is being done now, beside the recording: nothing can be played, nor watched live, until it is"
            ));
        }
        reconstruct::indexer::drop_deleted(&store, &index)?;
        let mut retention = Retaining::new(&store, plan.retention, plan.shard_size, plan.taps.len())?;
        // The first shards need room as well.
        if let Some(full) = retention.round(&written, &index)? {
            tell(&full, console);
        }
        let hub = LiveHub::new();
        let footage = Footage::with(store.clone(), index.clone(), Some(hub.clone()));
        let server = rtsp.map(|bound| Rtsp::server(bound, footage.clone(), console));
        let own = server.as_ref().map(replay::RtspServer::local_addr);
        let now = times::now();
        let source = store.open_source(&written.lock, SourceKind::Live, now)?;
        let taps = open_taps(&written, source, plan.taps, own)?;
        let indexer = LiveIndexer::start(&store, &written.lock, &index, &hub, source)?;
        let rtsp = server.map(Rtsp::start).transpose()?;
        Ok(Self {
            source,
            troubles: vec![None; taps.len()],
            taps,
            retention,
            news: News::new(index.streams()?.len()),
            index,
            footage,
            indexer: Arc::new(indexer),
            rtsp,
            hashing: Hashing::start(&store)?,
            importing: Importing::default(),
            clock: ClockWatch::default(),
            started: (Instant::now(), now),
            written,
        })
    }

    /// What the control socket may order.
    pub fn orders(&self) -> Orders {
        let means = Means {
            lock: self.written.lock.clone(),
            footage: self.footage.clone(),
            indexer: Arc::downgrade(&self.indexer),
            min_free: self.retention.min_free(),
            max_bytes: self.retention.max_bytes(),
        };
        self.importing.gives_way_to(self.taps.iter().map(|(tap, _)| tap.watch()));
        Orders { means, importing: self.importing.clone() }
    }

    /// The once-a-second round; gives the status document.
    pub fn round(&mut self, console: &Console) -> RecorderStatus {
        self.journal_seconds(console);
        self.watch_clock(console);
        self.retain(console);
        if let Some(turn) = self.importing.wants_turn() {
            // Who waited for it may have gone.
            let _ = turn.send(self.go_on(console).map_err(|error| error.to_string()));
        }
        self.complain(console);
        let received = self.taps.iter().map(|(tap, _)| tap.stats().received).sum();
        self.news.round(times::now(), received, &self.indexer, console);
        self.status()
    }

    /// Losses and statistics stand beside the footage, with the second in which they happened.
    fn journal_seconds(&mut self, console: &Console) {
        for (tap, _) in &mut self.taps {
            for record in tap.take_records() {
                if let Err(error) = noted(&self.written.store, &record) {
                    let what = match record {
                        JournalRecord::Drops(drops) => {
                            format!("{} packets were lost", drops.kernel + drops.nic + drops.ours)
                        }
                        _ => "there are statistics".to_owned(),
                    };
                    console.line(&format!(
                        "tapdeck: {}: {what}, which could not be noted: {error}",
                        tap.interface()
                    ));
                }
            }
        }
    }

    /// The recording goes on in a next part, between two packets of each tap.
    fn go_on(&mut self, console: &Console) -> Result<Turned, StoreError> {
        let WrittenStore { store, lock } = &self.written;
        let (before, next) = (self.source, store.open_source(lock, SourceKind::Live, times::now())?);
        let prepared = self.taps.iter().map(|(tap, _)| tap.prepare(store, lock, next));
        let prepared = match prepared.collect::<Result<Vec<_>, _>>() {
            Ok(prepared) => prepared,
            Err(error) => {
                // It is no part of anything then.
                store.close_source(next, 0, None, None)?;
                return Err(error);
            }
        };
        store.continue_source(next, before)?;
        // A moment that no tap has come to yet: what is in one part is before what is in the next, whichever taps they are.
        let from = times::now().plus(CHANGE_OVER);
        for ((tap, _), prepared) in self.taps.iter_mut().zip(prepared) {
            tap.go_on(prepared, from);
        }
        let mut leaving = Vec::new();
        for (tap, _) in &mut self.taps {
            let (left, records) = tap.gone_on();
            leaving.push(left);
            for record in records {
                if let Err(error) = noted(store, &record) {
                    console.line(&format!(
                        "tapdeck: {}: what was counted could not be noted: {error}",
                        tap.interface()
                    ));
                }
            }
        }
        self.importing.gives_way_to(self.taps.iter().map(|(tap, _)| tap.watch()));
        self.source = next;
        self.indexer.go_on(next);
        Ok(Turned { before, next, leaving })
    }

    /// A clock that is set is noted, so that capture times can be understood later.
    fn watch_clock(&mut self, console: &Console) {
        let Some((at, nanos)) = self.clock.look(times::now(), self.started.0.elapsed()) else { return };
        console.say(format!("the clock was set by {} s", nanos as f64 / 1e9));
        if let Err(error) = self.written.store.append(&JournalRecord::ClockStep { at, nanos }) {
            console.line(&format!("tapdeck: the clock's step could not be noted: {error}"));
        }
    }

    fn retain(&mut self, console: &Console) {
        match self.retention.round(&self.written, &self.index) {
            Ok(full) => full.iter().for_each(|full| tell(full, console)),
            Err(error) => console.line(&format!("tapdeck: retention: {error}")),
        }
    }

    /// Each trouble is told when it comes and when it goes.
    fn complain(&mut self, console: &Console) {
        for ((tap, _), before) in self.taps.iter().zip(&mut self.troubles) {
            let now = tap.trouble();
            if now != *before {
                match &now {
                    Some(trouble) => console.line(&format!("tapdeck: {}: {trouble}", tap.interface())),
                    None => console.say(format!("{}: recording again", tap.interface())),
                }
                *before = now;
            }
        }
    }

    /// True while every tap's thread and the indexer run.
    pub fn is_running(&self) -> bool {
        self.indexer.running() && self.taps.iter().all(|(tap, _)| tap.running())
    }

    fn status(&mut self) -> RecorderStatus {
        let store = &self.written.store;
        let shards = store.shards();
        let at = Instant::now();
        let interfaces = self.taps.iter_mut().map(|(tap, rates)| {
            let stats = tap.stats();
            let (packets_per_second, bytes_per_second) = rates.update(at, stats.packets, stats.bytes);
            InterfaceStatus {
                name: tap.interface().to_owned(),
                up: stats.up,
                packets: stats.packets,
                bytes: stats.bytes,
                packets_per_second,
                bytes_per_second,
                dropped_by_kernel: stats.dropped_kernel,
                dropped_by_nic: stats.dropped_nic,
                dropped_by_us: stats.dropped_ours,
                queued_bytes: stats.queued_bytes,
                queue_bytes: stats.queue_bytes,
                trouble: tap.trouble(),
            }
        });
        let index = self.indexer.stats();
        let server = self.rtsp.as_ref().map(Rtsp::stats).unwrap_or_default();
        let (watched, failed) = self.news.watched();
        RecorderStatus {
            pid: std::process::id(),
            started: times::rfc3339(self.started.1),
            uptime_s: self.started.0.elapsed().as_secs(),
            store: store.dir().display().to_string(),
            shards: shards.len(),
            stored_bytes: shards.iter().map(|shard| shard.bytes).sum(),
            free_bytes: store.free_bytes().unwrap_or(0),
            interfaces: interfaces.collect(),
            index_lag_bytes: index.lag_bytes,
            index_over_bound: index.over_bound,
            index_out_of_order: index.skew_exceeded,
            index_unreadable_bytes: index.unreadable_bytes,
            streams: self.news.streams(),
            rtsp: self.rtsp.as_ref().map(|rtsp| rtsp.address().to_string()),
            clients: server.clients.len(),
            client_packets: server.packets,
            client_dropped: server.clients.iter().map(|client| client.skipped).sum(),
            watched,
            failed,
            events: self.news.events(),
            work: self.work(),
        }
    }

    /// What is done beside the recording at the moment.
    fn work(&self) -> Option<String> {
        let share = |done: u64, total: u64| 100 * done / total.max(1);
        match (self.indexer.renewal(), self.importing.job()) {
            (Renewal::Running { done, total }, _) => {
                Some(format!("the index is being made anew, {} %", share(done, total)))
            }
            (_, (_, Job::Running { done, total })) if done < total => {
                Some(format!("files are being imported, {} %", share(done, total)))
            }
            (_, (_, Job::Running { .. })) => Some("imported files are being indexed".to_owned()),
            _ => None,
        }
    }

    /// Takes what is in the rings, brings everything to disk, finishes the index, seals. A part that fails is told, and the others are
    /// finished all the same.
    pub fn stop(mut self, console: &Console) -> Summary {
        self.importing.end();
        self.journal_seconds(console);
        let mut summary = Summary::default();
        for (tap, _) in self.taps.drain(..) {
            let interface = tap.interface().to_owned();
            let stopped = tap.stop();
            // Before the indexer ends: losses explain gaps.
            for record in &stopped.records {
                summary.told(console, noted(&self.written.store, record));
            }
            let named = stopped.result.map_err(|error| format!("{interface}: {error}"));
            summary.taps.push((interface, stopped.stats));
            summary.told(console, named);
        }
        self.importing.wait();
        let finished = Arc::into_inner(self.indexer).map_or(Ok(()), |indexer| indexer.finish().map(|_| ()));
        summary.told(console, finished);
        drop(self.rtsp.take());
        self.hashing.finish(&self.written.store);
        let packets = self.written.store.packets_of(self.source);
        summary.told(console, self.written.store.close_source(self.source, packets, None, None));
        summary.streams = summary.told(console, self.index.streams()).map(|streams| streams.len());
        summary
    }
}

impl Summary {
    /// What `result` has, or a line that says why it has none.
    fn told<T>(&mut self, console: &Console, result: Result<T, impl Display>) -> Option<T> {
        result
            .inspect_err(|error| {
                console.line(&format!("tapdeck: {error}"));
                self.failed = true;
            })
            .ok()
    }
}

/// That the oldest goes as planned is news; that it goes because of others is trouble.
fn tell(full: &Full, console: &Console) {
    match full {
        Full::First { .. } => console.say(full.to_string()),
        Full::Squeezed { .. } => console.line(&format!("tapdeck: {full}")),
    }
}

/// Statistics have a journal of their own.
fn noted(store: &Store, record: &JournalRecord) -> Result<(), StoreError> {
    match record {
        JournalRecord::Statistics(statistics) => store.append_statistics(statistics),
        other => store.append(other),
    }
}

/// All of them; when one can't be opened, those before it are closed again.
fn open_taps(
    written: &WrittenStore,
    source: SourceId,
    configs: Vec<LiveConfig>,
    server: Option<SocketAddr>,
) -> Result<Vec<(LiveTap, Rates)>, Failure> {
    let mut taps: Vec<(LiveTap, Rates)> = Vec::with_capacity(configs.len());
    let addresses = rtsp::own_addresses().collect();
    for mut config in configs {
        let given = config.filter.clone();
        if let Some(server) = server {
            own_output::leave_out(&mut config, server, &addresses);
        }
        match LiveTap::start(&written.store, &written.lock, source, config) {
            Ok(tap) => taps.push((tap, Rates::default())),
            Err(error) => {
                for (tap, _) in taps {
                    let _ = tap.stop();
                }
                written.store.close_source(source, 0, None, None)?;
                return Err(match (error, given) {
                    // In the words of the one who gave it, without what we added.
                    (LiveError::Filter { reason, .. }, Some(filter)) => LiveError::Filter { filter, reason },
                    (error, _) => error,
                }
                .into());
            }
        }
    }
    Ok(taps)
}
