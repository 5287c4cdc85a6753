//! Where a player's packets come from: the store, or the recorder.
//!
//! Owns reading ahead (one bounded job at a time on the blocking pool), the hand-over from the last clean point in the store to
//! live packets, and what a slow live client skips. All waiting can be dropped and taken up again.

use crate::merge::{MergedReader, Queue, Start, Wanted};
use crate::parallel::Parallel;
use crate::source::{LiveItem, LivePackets, MediaKind, Source, SourceError, StartAt};
use capture::CaptureTime;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;

/// The time of day, on the clock that captures are stamped by.
pub fn wall_clock() -> CaptureTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    CaptureTime::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

type Job = JoinHandle<(MergedReader, Result<Queue, SourceError>)>;

/// Reads from the store.
pub struct StoreFeed {
    /// `None` while a job has it.
    reader: Option<MergedReader>,
    job: Option<Job>,
    ended: bool,
    chunk_bytes: usize,
    /// Tracks that are not wanted any more; the job may have read on in them.
    dropped: Vec<usize>,
}

impl StoreFeed {
    /// Goes on with an open reader, `chunk_bytes` at a time.
    pub fn new(reader: MergedReader, chunk_bytes: usize) -> Self {
        Self { reader: Some(reader), job: None, ended: false, chunk_bytes, dropped: Vec::new() }
    }

    /// Nothing more comes.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Reads a track no further.
    pub fn drop_slot(&mut self, slot: usize) {
        self.dropped.push(slot);
    }

    /// Waits for the next packets.
    pub async fn fill(&mut self, queue: &mut Queue) -> Result<(), SourceError> {
        if self.ended {
            return Ok(());
        }
        if let Some(mut reader) = self.reader.take() {
            self.dropped.iter().for_each(|&slot| reader.drop_slot(slot));
            let chunk_bytes = self.chunk_bytes;
            self.job = Some(tokio::task::spawn_blocking(move || {
                let batch = reader.read(chunk_bytes, wall_clock());
                (reader, batch)
            }));
        }
        let Some(job) = &mut self.job else {
            self.ended = true;
            return Ok(());
        };
        let outcome = job.await;
        self.job = None;
        let (reader, batch) = outcome.map_err(|e| {
            self.ended = true;
            SourceError::Store(Box::new(e))
        })?;
        self.reader = Some(reader);
        match batch {
            Ok(mut batch) => {
                self.ended = batch.is_empty();
                self.dropped.iter().for_each(|&slot| batch.drop_slot(slot));
                queue.append(batch);
                Ok(())
            }
            Err(e) => {
                self.ended = true;
                Err(e)
            }
        }
    }
}

struct LiveTrack {
    slot: usize,
    media: MediaKind,
    packets: Box<dyn LivePackets>,
    /// The last packet that the store gave, and until when it did.
    stored: Option<(u32, u64)>,
    handoff: CaptureTime,
    /// Whose packets are played.
    parallel: Parallel,
    /// Packets are left out until a clean point.
    skipping: bool,
    /// It has clean points, so it is worth waiting for one.
    has_clean: bool,
    ended: bool,
}

/// Follows the recorder, beginning with the last clean point in the store.
pub struct LiveFeed {
    preroll: StoreFeed,
    tracks: Vec<LiveTrack>,
    skipped: u64,
}

impl LiveFeed {
    /// Subscribes, then opens the store up to where the subscriptions begin. Blocking. `None` when nobody records.
    pub fn open(
        source: &Arc<dyn Source>,
        wanted: &[Wanted],
        capacity: usize,
        chunk_bytes: usize,
    ) -> Result<Option<Self>, SourceError> {
        let mut tracks = Vec::with_capacity(wanted.len());
        let mut stored = Vec::with_capacity(wanted.len());
        for w in wanted {
            let Some(packets) = source.subscribe(w.id, capacity)? else { return Ok(None) };
            let handoff = packets.handoff();
            stored.push(Wanted { to: handoff, ..*w });
            tracks.push(LiveTrack {
                slot: w.slot,
                media: w.media,
                packets,
                stored: None,
                handoff,
                parallel: Parallel::default(),
                skipping: false,
                has_clean: false,
                ended: false,
            });
        }
        let from = stored.iter().map(|w| w.to).min().unwrap_or(CaptureTime::MAX);
        let reader =
            MergedReader::open(&**source, &stored, Start { from, at: StartAt::LiveEdge, whole: false })?;
        Ok(Some(Self { preroll: StoreFeed::new(reader, chunk_bytes), tracks, skipped: 0 }))
    }

    /// Waits for the next packets.
    pub async fn fill(&mut self, queue: &mut Queue) -> Result<(), SourceError> {
        if !self.preroll.ended() {
            let mut batch = Queue::default();
            self.preroll.fill(&mut batch).await?;
            while let Some((slot, packet)) = batch.pop() {
                if let Some(t) = self.tracks.iter_mut().find(|t| t.slot == slot) {
                    t.stored = Some((packet.segment, packet.seq));
                    t.parallel.follow(&packet);
                    t.has_clean |= packet.clean;
                }
                queue.push(slot, packet);
            }
            return Ok(());
        }
        poll_fn(|cx| {
            let mut any = false;
            for track in &mut self.tracks {
                while !track.ended {
                    match track.packets.poll_next(cx) {
                        Poll::Ready(item) => {
                            any = true;
                            self.skipped += track.take(item, queue);
                        }
                        Poll::Pending => break,
                    }
                    if queue.bytes() > FILL_BYTES_MAX {
                        break;
                    }
                }
            }
            if any || self.tracks.iter().all(|t| t.ended) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        Ok(())
    }

    /// Follows a track no longer.
    pub fn drop_slot(&mut self, slot: usize) {
        self.preroll.drop_slot(slot);
        self.tracks.retain(|t| t.slot != slot);
    }

    /// The recorder has ended.
    pub fn ended(&self) -> bool {
        self.preroll.ended() && self.tracks.iter().all(|t| t.ended)
    }

    /// True while the store's part is read.
    pub fn in_preroll(&self) -> bool {
        !self.preroll.ended()
    }

    /// The client is too slow: all that waits is left out, and everything up to the next clean point.
    pub fn skip(&mut self, queue: &mut Queue) {
        self.skipped += queue.clear();
        self.tracks.iter_mut().for_each(LiveTrack::skip);
    }

    /// Packets that were left out since the last call.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

/// One call of [`LiveFeed::fill`] takes no more than about this, whatever waits.
const FILL_BYTES_MAX: usize = 4 * 1024 * 1024;

impl LiveTrack {
    /// Takes an item over, and says how many packets it left out.
    fn take(&mut self, item: Option<LiveItem>, queue: &mut Queue) -> u64 {
        let packet = match item {
            None => {
                self.ended = true;
                return 0;
            }
            Some(LiveItem::Lagged(n)) => {
                // It begins with a clean point again, but maybe that of another session.
                self.skip();
                return n;
            }
            Some(LiveItem::Packet(packet)) => packet,
        };
        let again = packet.time <= self.handoff
            && self.stored.is_some_and(|(segment, seq)| segment == packet.segment && packet.seq <= seq);
        if again {
            return 0;
        }
        let Self { slot, media, parallel, skipping, has_clean, .. } = self;
        let begins_anywhere = *media != MediaKind::Video || !*has_clean;
        let mut left_out = 0;
        parallel.take(packet, begins_anywhere, &mut |packet| {
            *has_clean |= packet.clean;
            if *skipping && !packet.clean {
                left_out += 1;
                return;
            }
            *skipping = false;
            queue.push(*slot, packet);
        });
        left_out
    }

    /// What comes is left out until the next clean point, if there are such.
    fn skip(&mut self) {
        self.skipping = self.media == MediaKind::Video && self.has_clean;
    }
}

/// Either.
pub enum Feed {
    /// On demand.
    Store(StoreFeed),
    /// Live.
    Live(LiveFeed),
}

impl Feed {
    /// Waits for the next packets.
    pub async fn fill(&mut self, queue: &mut Queue) -> Result<(), SourceError> {
        match self {
            Self::Store(f) => f.fill(queue).await,
            Self::Live(f) => f.fill(queue).await,
        }
    }

    /// A track is not wanted any more.
    pub fn drop_slot(&mut self, slot: usize) {
        match self {
            Self::Store(f) => f.drop_slot(slot),
            Self::Live(f) => f.drop_slot(slot),
        }
    }

    /// Nothing more comes.
    pub fn ended(&self) -> bool {
        match self {
            Self::Store(f) => f.ended(),
            Self::Live(f) => f.ended(),
        }
    }

    /// Whether more should be read while `queue` waits.
    pub fn wants(&self, queue: &Queue, read_ahead_bytes: usize) -> bool {
        match self {
            Self::Store(f) => !f.ended && queue.bytes() < read_ahead_bytes / 2,
            Self::Live(f) if f.in_preroll() => queue.bytes() < read_ahead_bytes,
            Self::Live(f) => !f.ended(),
        }
    }
}
