//! One PLAY, from opening its feed to the BYE: fetches packets, waits until they are due, renumbers them, sends them and the sender
//! reports, until a command or the end stops it.
//!
//! Acts only; when what is due is decided by [`Pacer`], with which numbers by [`Rewriter`](crate::rewrite::Rewriter). A slow
//! client simply waits on demand, live it skips to the next clean point, and a TCP client that takes nothing at all for the stall
//! time-out is given up.

use super::{Command, Player};
use crate::events::{Started, Ticket, TrackStart};
use crate::feed::{Feed, LiveFeed, StoreFeed, wall_clock};
use crate::merge::{MergedReader, Queue, Start, Wanted};
use crate::outlet::Frame;
use crate::pacer::{Mode, Pacer, Presentation as PresentationTime};
use crate::response::{Refusal, Status};
use crate::rtcp::{self, Report};
use crate::server::Note;
use crate::session::Plan;
use crate::source::SourceError;
use crate::stats::ClientCounters;
use capture::CaptureTime;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::time::{sleep, sleep_until};

/// Packets that are due within this are sent together: one call instead of several, and no timer for each.
const COALESCE: Duration = Duration::from_millis(4);
/// What a slow client keeps waiting longer than this is copied out of the recorder's memory.
const DETACH_AFTER: Duration = Duration::from_millis(200);
/// Live packets older than this are not worth sending to a client that does not keep up.
const LIVE_LAG_MAX: Duration = Duration::from_secs(3);
/// What is read before PLAY is answered: enough to begin with.
const FIRST_READ_BYTES: usize = 32 * 1024;
/// How long a player waits for its own answer to be written.
const GO_TIMEOUT: Duration = Duration::from_secs(15);
/// So many refused datagrams in a row: nobody listens there.
const REFUSED_MAX: u32 = 50;
/// Time between the last packet and BYE.
const BYE_AFTER: Duration = Duration::from_millis(250);
/// Time for the last words.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Its server is gone.
const CLOSE: Command = Command::Close { ticket: None };
const CNAME: &str = "tapdeck";

/// The feed that plays, and how far it is.
pub(super) struct Play {
    feed: Feed,
    queue: Queue,
    pacer: Pacer,
    live_since: Option<CaptureTime>,
    next_report: Instant,
    resume_at: Option<CaptureTime>,
}

impl Play {
    fn drop_slot(&mut self, slot: usize) {
        self.feed.drop_slot(slot);
        self.queue.drop_slot(slot);
    }

    /// Where a client that pauses now goes on, which has not been sent what begins at `unsent`; live there is no such place.
    fn position(&self, unsent: Option<CaptureTime>) -> Option<CaptureTime> {
        let next = unsent.or(self.queue.front().map(|p| p.time)).or(self.resume_at);
        self.live_since.is_none().then_some(next).flatten()
    }
}

enum Sent {
    All,
    Interrupted,
    Lost,
}

impl Player {
    pub(super) async fn play(&mut self, ticket: Ticket, plan: Plan) {
        let (mut play, first) = match self.open(plan).await {
            Ok(opened) => opened,
            Err(refusal) => return self.note(Note::Started { ticket, result: Err(refusal) }).await,
        };
        let now = Instant::now();
        let elapsed = self.last_play.map_or(Duration::ZERO, |t| now.saturating_duration_since(t));
        self.last_play = Some(now);
        let mut tracks = Vec::with_capacity(self.slots.len());
        for slot in self.slots.iter_mut().flatten() {
            slot.rewriter.begin_play(i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX));
            let (seq, rtptime) = (slot.rewriter.next_seq(), slot.rewriter.timestamp_at_start(0));
            tracks.push(TrackStart { index: slot.index, seq, rtptime });
        }
        self.note(Note::Started { ticket, result: Ok(Started { first, tracks }) }).await;
        if !self.wait_for_go().await {
            return;
        }
        let now = Instant::now();
        play.pacer.start(now);
        play.next_report = now + self.context.config.report_interval;
        self.context.counters.playing.store(1, Relaxed);
        self.report(&mut play, false);
        let ended = self.run_play(&mut play).await;
        if ended {
            self.note(Note::Ended { session: self.context.session }).await;
            self.take_leave(&mut play).await;
        }
    }

    /// BYE, a while after the last packet. Over UDP it has a socket of its own and would overtake the last ones: ffmpeg stops reading at it. And
    /// GStreamer (1.22) may wait for ever when it comes while its jitter buffer still has the last packet, over TCP too.
    async fn take_leave(&mut self, play: &mut Play) {
        let due = sleep(BYE_AFTER);
        tokio::pin!(due);
        loop {
            let command = tokio::select! {
                command = self.commands.recv() => command.unwrap_or(CLOSE),
                () = &mut due => break,
            };
            match command {
                // It crossed the news of the end.
                Command::Pause { ticket } => {
                    self.note(Note::Paused { ticket, position: play.position(None) }).await;
                }
                Command::Go => {}
                Command::Remove { ticket, index } => {
                    if !self.remove(ticket, index, Some(play)).await {
                        return;
                    }
                }
                // Who seeks meanwhile goes on without.
                Command::Play { .. } => {
                    self.stashed = Some(command);
                    return;
                }
                Command::Prepare { .. } | Command::Close { .. } => {
                    self.stashed = Some(command);
                    break;
                }
            }
        }
        self.report(play, true);
        self.last_words().await;
    }

    /// Opens the feed and reads its first packets: the answer to PLAY says where they begin.
    async fn open(&self, plan: Plan) -> Result<(Play, Option<CaptureTime>), Refusal> {
        let source = self.context.source.clone();
        let config = self.context.config.clone();
        let to = if let Plan::Recorded { to, .. } = plan { to } else { CaptureTime::MAX };
        let tracks = &self.context.presentation.tracks;
        let wanted: Vec<Wanted> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(slot, s)| {
                tracks.get(s.as_ref()?.index).map(|t| Wanted { slot, id: t.id, media: t.media, to })
            })
            .collect();
        let opened = tokio::task::spawn_blocking(move || -> Result<Option<(Feed, Queue)>, SourceError> {
            let chunk = config.read_ahead_bytes / 2;
            if plan == Plan::Live {
                let feed = LiveFeed::open(&source, &wanted, config.live_queue_packets, chunk)?;
                return Ok(feed.map(|f| (Feed::Live(f), Queue::default())));
            }
            let mut reader = MergedReader::open(&*source, &wanted, Start::from(plan))?;
            let queue = reader.read(FIRST_READ_BYTES, wall_clock())?;
            Ok(Some((Feed::Store(StoreFeed::new(reader, chunk)), queue)))
        })
        .await;
        let (feed, queue) = match opened {
            Ok(Ok(Some(opened))) => opened,
            Ok(Ok(None)) => {
                let reason = "nobody records this now: add ?from=TIME to play what was recorded";
                return Err(Refusal::new(Status::UNAVAILABLE, reason));
            }
            Ok(Err(e)) => {
                tracing::warn!(error = %e, stream = self.context.presentation.name, "PLAY failed");
                return Err(Refusal::new(Status::INTERNAL, e.to_string()));
            }
            Err(e) => return Err(Refusal::new(Status::INTERNAL, e.to_string())),
        };
        let mut play = Play {
            feed,
            queue,
            pacer: Pacer::new(Mode::Live, CaptureTime::MIN, Instant::now()),
            live_since: None,
            next_report: Instant::now(),
            resume_at: None,
        };
        if let Feed::Live(_) = play.feed {
            // The picture that stands at once; a stream without any packet in the store begins when one comes.
            let _ = play.feed.fill(&mut play.queue).await;
        }
        let first = play.queue.front().map(|p| p.time);
        let (mode, zero) = match plan {
            Plan::Live => (Mode::Live, first.unwrap_or_else(wall_clock)),
            Plan::Recorded { from, .. } => {
                let zero = first.unwrap_or(from);
                let preroll = Duration::from_nanos(u64::try_from(from.nanos_since(zero)).unwrap_or(0));
                (Mode::Recorded { preroll }, zero)
            }
        };
        play.live_since = (plan == Plan::Live).then_some(zero);
        play.pacer = Pacer::new(mode, zero, Instant::now());
        Ok((play, (plan != Plan::Live).then_some(zero)))
    }

    async fn wait_for_go(&mut self) -> bool {
        let until = Instant::now() + GO_TIMEOUT;
        loop {
            match tokio::time::timeout_at(until.into(), self.commands.recv()).await {
                Ok(Some(Command::Go)) => return true,
                // Asked for on another connection.
                Ok(Some(Command::Remove { ticket, index })) => {
                    self.remove(ticket, index, None).await;
                }
                Ok(Some(other)) => {
                    self.stashed = Some(other);
                    return false;
                }
                Ok(None) | Err(_) => return false,
            }
        }
    }

    /// True at the end of what was asked for, false when something else is to be done.
    async fn run_play(&mut self, play: &mut Play) -> bool {
        loop {
            self.take_due(play);
            if !self.outlet.is_empty() {
                match self.send(play).await {
                    Sent::All if self.outlet.refused() >= REFUSED_MAX => {
                        self.note(Note::Refused { session: self.context.session }).await;
                    }
                    Sent::All => {}
                    Sent::Interrupted if self.interrupted(play).await => continue,
                    Sent::Interrupted => return false,
                    Sent::Lost => {
                        self.lost().await;
                        return false;
                    }
                }
            }
            if play.feed.ended() && play.queue.is_empty() {
                if !self.outlet.is_empty() {
                    // A slow client has not taken the last of it yet.
                    continue;
                }
                return true;
            }
            let due = play.queue.front().map(|p| {
                let place = play.pacer.clone().place(p.time, Instant::now());
                play.pacer.due(place)
            });
            if due.is_some_and(|d| d <= Instant::now() + COALESCE) {
                // A client or source that never waits must not keep the worker to itself.
                tokio::task::consume_budget().await;
                if let Ok(command) = self.commands.try_recv() {
                    self.stashed = Some(command);
                    if !self.interrupted(play).await {
                        return false;
                    }
                }
                continue;
            }
            let wants = play.feed.wants(&play.queue, self.context.config.read_ahead_bytes);
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    self.stashed = Some(command.unwrap_or(CLOSE));
                    if !self.interrupted(play).await {
                        return false;
                    }
                }
                filled = play.feed.fill(&mut play.queue), if wants => {
                    if let Err(e) = filled {
                        tracing::warn!(error = %e, stream = self.context.presentation.name, "replay ends early");
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
                () = sleep_until(play.next_report.into()) => self.report(play, false),
            }
        }
    }

    /// Moves what is due from the queue to the outlet, renumbered.
    fn take_due(&mut self, play: &mut Play) {
        let now = Instant::now();
        while self.outlet.bytes() < self.context.config.batch_bytes {
            if !self.take_if_due(play, now, now + COALESCE) {
                break;
            }
        }
        if now >= play.next_report {
            self.report(play, false);
        }
    }

    /// Moves the next packet, unless there is none that is due `by` then.
    fn take_if_due(&mut self, play: &mut Play, now: Instant, by: Instant) -> bool {
        let Some(packet) = play.queue.front() else { return false };
        let mut pacer = play.pacer.clone();
        let place = pacer.place(packet.time, now);
        let due = pacer.due(place);
        if due > by {
            return false;
        }
        play.pacer = pacer;
        let Some((slot, packet)) = play.queue.pop() else { return false };
        let counters = &self.context.counters;
        counters.set_position(packet.time);
        let lag = match play.live_since {
            Some(_) => {
                Duration::from_nanos(u64::try_from(wall_clock().nanos_since(packet.time)).unwrap_or(0))
            }
            None => now.saturating_duration_since(due),
        };
        counters.lag_ns.store(u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        play.resume_at = Some(packet.time);
        let Some(Some(s)) = self.slots.get_mut(slot) else { return true };
        match s.rewriter.rewrite(&packet, place.0) {
            Ok(rewritten) => self.outlet.push(Frame::rtp(slot, packet, &rewritten)),
            Err(_) => ClientCounters::add(&counters.unsent, 1),
        }
        true
    }

    /// Sends the outlet's frames. Meanwhile a live feed is emptied, so that nothing of the recorder's waits for this client.
    async fn send(&mut self, play: &mut Play) -> Sent {
        let stalled = Instant::now() + self.context.config.stall_timeout;
        let mut detach_at = Instant::now() + DETACH_AFTER;
        let before = self.context.counters.packets.load(Relaxed);
        loop {
            let live = matches!(&play.feed, Feed::Live(f) if !f.in_preroll() && !f.ended());
            tokio::select! {
                biased;
                flushed = self.outlet.flush() => {
                    if let Feed::Live(f) = &mut play.feed {
                        ClientCounters::add(&self.context.counters.skipped, f.take_skipped());
                    }
                    return if flushed.is_ok() { Sent::All } else { Sent::Lost };
                }
                command = self.commands.recv() => {
                    self.stashed = Some(command.unwrap_or(CLOSE));
                    return Sent::Interrupted;
                }
                _ = play.feed.fill(&mut play.queue), if live => {
                    self.bound_live_queue(play);
                    if Instant::now() >= detach_at {
                        play.queue.detach();
                    }
                }
                () = sleep_until(detach_at.into()), if detach_at < stalled => {
                    self.outlet.detach();
                    play.queue.detach();
                    detach_at += DETACH_AFTER;
                }
                () = sleep_until(stalled.into()) => {
                    // Slow is not stalled: some frames went out, so it may take as long again.
                    let progress = self.context.counters.packets.load(Relaxed) != before;
                    return if progress { Sent::All } else { Sent::Lost };
                }
            }
        }
    }

    fn bound_live_queue(&self, play: &mut Play) {
        let Feed::Live(feed) = &mut play.feed else { return };
        let old = play.queue.front().is_some_and(|p| p.time.plus(LIVE_LAG_MAX) < wall_clock());
        if play.queue.bytes() > self.context.config.live_queue_bytes || old {
            feed.skip(&mut play.queue);
        }
    }

    /// A command came: what is partly out is finished, the rest is dropped. True if only a track ended, and everything else goes on.
    async fn interrupted(&mut self, play: &mut Play) -> bool {
        if let Some(Command::Remove { ticket, index }) = self.stashed {
            self.stashed = None;
            return self.remove(ticket, index, Some(play)).await;
        }
        let (begun, unsent) = self.outlet.keep_begun();
        // Who goes on begins with all of a moment: of this one the client has a part already.
        let rest =
            |play: &Play| unsent.is_none() && begun.is_some() && play.queue.front().map(|p| p.time) == begun;
        let now = Instant::now();
        while rest(play) && self.take_if_due(play, now, now + COALESCE) {}
        if !self.outlet.is_idle() {
            let finished = tokio::time::timeout(self.context.config.stall_timeout, self.outlet.flush()).await;
            if !matches!(finished, Ok(Ok(()))) {
                self.lost().await;
                return false;
            }
        }
        self.outlet.drop_unsent();
        match self.stashed.take() {
            Some(Command::Pause { ticket }) => {
                self.note(Note::Paused { ticket, position: play.position(unsent) }).await;
            }
            Some(close @ Command::Close { .. }) => {
                self.report(play, true);
                self.last_words().await;
                self.stashed = Some(close);
            }
            // Anything else is for the idle player; PLAY is how clients seek.
            other => self.stashed = other,
        }
        false
    }

    async fn last_words(&mut self) {
        let said = tokio::time::timeout(LAST_WORDS, self.outlet.flush()).await;
        if !matches!(said, Ok(Ok(()))) && self.outlet.is_torn() {
            self.lost().await;
        }
        self.outlet.drop_unsent();
    }

    /// A track leaves while the others play on: its last word is its BYE. False if the client takes nothing.
    pub(super) async fn part_with(&mut self, n: usize, play: &mut Play) -> bool {
        play.drop_slot(n);
        self.say(n, true, moment(play));
        // Nothing of the recorder's waits for this client.
        play.queue.detach();
        self.outlet.detach();
        let flushed = tokio::time::timeout(self.context.config.stall_timeout, self.outlet.flush());
        matches!(flushed.await, Ok(Ok(())))
    }

    /// Sender reports of all tracks, with BYE at the end.
    fn report(&mut self, play: &mut Play, bye: bool) {
        let moment = moment(play);
        for n in 0..self.slots.len() {
            self.say(n, bye, moment);
        }
        play.next_report = Instant::now() + self.context.config.report_interval;
    }

    /// A track's sender report of a moment.
    fn say(&mut self, n: usize, bye: bool, (wall, now): (CaptureTime, PresentationTime)) {
        let Some(Some(slot)) = self.slots.get_mut(n) else { return };
        let (packets, octets) = slot.rewriter.sent();
        let report = Report {
            ssrc: slot.rewriter.ssrc(),
            wall_ns: wall.nanos(),
            rtp: slot.rewriter.report_timestamp(now.0),
            packets,
            octets,
        };
        let data = if bye { rtcp::goodbye(&report, CNAME) } else { rtcp::sender_report(&report, CNAME) };
        self.outlet.push(Frame::rtcp(n, data));
    }
}

/// Now, by the time of day and by the time that is played.
fn moment(play: &Play) -> (CaptureTime, PresentationTime) {
    let wall = wall_clock();
    let now = match play.live_since {
        Some(zero) => PresentationTime(wall.nanos_since(zero)),
        None => play.pacer.now(Instant::now()),
    };
    (wall, now)
}
