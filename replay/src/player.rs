//! One session's task: fetches packets, waits until they are due, renumbers them, sends them and the sender reports.
//!
//! Acts only; when what is due is decided by [`Pacer`], with which numbers by [`Rewriter`]. A slow client holds up its own
//! task and nothing else: on demand it simply waits, live it skips to the next clean point, and a TCP client that takes nothing at
//! all for the stall time-out is given up.

use crate::config::Config;
use crate::events::{Started, Ticket, TrackStart};
use crate::feed::{Feed, LiveFeed, StoreFeed, wall_clock};
use crate::merge::{MergedReader, Queue, Start, Wanted};
use crate::outlet::{Frame, Outlet, PortPairs, TrackOutlet, open_track};
use crate::pacer::{Mode, Pacer, Presentation as PresentationTime};
use crate::presentation::Presentation;
use crate::response::{Refusal, Status};
use crate::rewrite::Rewriter;
use crate::rtcp::{self, Report};
use crate::sdp;
use crate::server::Note;
use crate::session::{Carriage, ConnectionId, Plan, SessionKey, SessionTrack};
use crate::source::{MediaKind, Source, SourceError};
use crate::stats::ClientCounters;
use crate::writer::SharedWriter;
use capture::CaptureTime;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

/// What the server tells a player. At most a few wait: each connection has one request under way.
pub enum Command {
    /// Set a track up.
    Prepare {
        /// To answer with.
        ticket: Ticket,
        /// The track.
        track: SessionTrack,
        /// The connection's writer, if it travels interleaved.
        writer: Option<SharedWriter>,
    },
    /// Get ready.
    Play {
        /// To answer with.
        ticket: Ticket,
        /// What.
        plan: Plan,
    },
    /// The client has its answer: send.
    Go,
    /// Stop sending.
    Pause {
        /// To answer with.
        ticket: Ticket,
    },
    /// End one track; the others go on.
    Remove {
        /// To answer with.
        ticket: Ticket,
        /// The track's place in the presentation.
        index: usize,
    },
    /// End.
    Close {
        /// To answer with when everything is said; `None` when nobody is there to be answered.
        ticket: Option<Ticket>,
    },
}

/// What a player shares with its server.
pub struct PlayerContext {
    /// The session.
    pub session: SessionKey,
    /// What it plays.
    pub presentation: Arc<Presentation>,
    /// The footage.
    pub source: Arc<dyn Source>,
    /// The limits.
    pub config: Config,
    /// UDP ports.
    pub ports: Arc<PortPairs>,
    /// Its counters.
    pub counters: Arc<ClientCounters>,
    /// Answers go here.
    pub notes: mpsc::Sender<Note>,
}

struct Slot {
    index: usize,
    rewriter: Rewriter,
    /// What listens at its UDP ports, and holds them. Dropped, they end, but a while later.
    receivers: JoinSet<()>,
}

/// The task.
pub struct Player {
    context: PlayerContext,
    commands: mpsc::Receiver<Command>,
    /// `None` where a track was torn down: packets and outlet go by the place.
    slots: Vec<Option<Slot>>,
    outlet: Outlet,
    /// The connection that carries its interleaved tracks.
    carrier: Option<ConnectionId>,
    last_play: Option<Instant>,
    /// A command that came while a batch was on its way.
    stashed: Option<Command>,
}

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

struct Play {
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
    /// A player without tracks.
    pub fn new(context: PlayerContext, commands: mpsc::Receiver<Command>) -> Self {
        let outlet = Outlet::new(context.counters.clone());
        Self { context, commands, slots: vec![], outlet, carrier: None, last_play: None, stashed: None }
    }

    /// Runs until the session is closed.
    pub async fn run(mut self) {
        let asked = loop {
            let command = match self.stashed.take() {
                Some(command) => command,
                None => match self.commands.recv().await {
                    Some(command) => command,
                    None => break None,
                },
            };
            match command {
                Command::Prepare { ticket, track, writer } => self.prepare(ticket, track, writer).await,
                Command::Play { ticket, plan } => {
                    self.play(ticket, plan).await;
                    self.context.counters.playing.store(0, Relaxed);
                }
                Command::Pause { ticket } => self.note(Note::Paused { ticket, position: None }).await,
                Command::Go => {}
                Command::Remove { ticket, index } => {
                    self.remove(ticket, index, None).await;
                }
                Command::Close { ticket } => break ticket,
            }
        };
        let notes = self.context.notes.clone();
        self.close().await;
        if let Some(ticket) = asked {
            let _ = notes.send(Note::TornDown { ticket }).await;
        }
    }

    /// When this returns, its ports are closed: its client may set up again at once, and there may be no others.
    async fn close(mut self) {
        drop(self.outlet);
        for slot in self.slots.iter_mut().flatten() {
            slot.receivers.shutdown().await;
        }
    }

    async fn note(&self, note: Note) {
        // The server is gone only when everything ends.
        let _ = self.context.notes.send(note).await;
    }

    /// Its client takes nothing any more: what is partly out will never be whole, so that only closing is left of the connection. To be
    /// said before any answer that would be written into the rest.
    async fn lost(&self) {
        if let Some(connection) = self.carrier {
            self.note(Note::Lost { connection }).await;
        }
    }

    async fn prepare(&mut self, ticket: Ticket, track: SessionTrack, writer: Option<SharedWriter>) {
        let opened = open_track(track.carriage, &self.context.ports);
        let result = match (opened, self.context.presentation.tracks.get(track.index)) {
            (Ok((way, told)), Some(info)) => {
                let rate = info.clock_rate.unwrap_or(match info.media {
                    MediaKind::Audio => NonZeroU32::new(8000).unwrap_or(NonZeroU32::MIN),
                    _ => NonZeroU32::new(90_000).unwrap_or(NonZeroU32::MIN),
                });
                // Two halves of one random number: both are to be unpredictable, not independent of each other.
                let random = getrandom::u64().unwrap_or(u64::from(track.ssrc) << 7);
                let known = sdp::payload_types(info);
                let main = sdp::main_payload_type(info);
                let rewriter =
                    Rewriter::new(track.ssrc, (random >> 48) as u16 >> 1, random as u32, rate, main, known);
                let mut receivers = JoinSet::new();
                if let TrackOutlet::Udp { rtp, rtcp } = &way {
                    for socket in [rtp, rtcp] {
                        receivers.spawn(receive(
                            socket.clone(),
                            self.context.session,
                            self.context.notes.clone(),
                        ));
                    }
                }
                let slot = Some(Slot { index: track.index, rewriter, receivers });
                if let Carriage::Interleaved { connection, .. } = track.carriage {
                    self.carrier = Some(connection);
                }
                let free = self.slots.iter().position(Option::is_none);
                self.outlet.add(free.unwrap_or(self.slots.len()), way, writer);
                match free {
                    Some(n) => self.slots[n] = slot,
                    None => self.slots.push(slot),
                }
                Ok(told)
            }
            (Err(e), _) => {
                tracing::warn!(error = %e, "no UDP ports for a client");
                Err(Refusal::new(Status::UNAVAILABLE, "no UDP ports are left; ask for RTP/AVP/TCP"))
            }
            (Ok(_), None) => Err(Status::INTERNAL.into()),
        };
        self.note(Note::Prepared { ticket, result }).await;
    }

    /// Ends a track: with a BYE if it plays, and its ports closed before the answer. The packets of the others that wait are sent meanwhile.
    /// False if the client takes nothing.
    async fn remove(&mut self, ticket: Ticket, index: usize, play: Option<&mut Play>) -> bool {
        let mut taken = true;
        if let Some(n) = self.slots.iter().position(|s| s.as_ref().is_some_and(|s| s.index == index)) {
            if let Some(play) = play {
                play.drop_slot(n);
                self.say(n, true, moment(play));
                // Nothing of the recorder's waits for this client.
                play.queue.detach();
                self.outlet.detach();
                let flushed = tokio::time::timeout(self.context.config.stall_timeout, self.outlet.flush());
                taken = matches!(flushed.await, Ok(Ok(())));
            }
            self.outlet.remove(n);
            if let Some(mut slot) = self.slots[n].take() {
                slot.receivers.shutdown().await;
            }
        }
        if !taken {
            self.lost().await;
        }
        self.note(Note::TornDown { ticket }).await;
        taken
    }

    async fn play(&mut self, ticket: Ticket, plan: Plan) {
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

/// Reads what a client sends to a UDP port: RTCP is a sign of life, anything else opens its firewall.
async fn receive(socket: Arc<UdpSocket>, session: SessionKey, notes: mpsc::Sender<Note>) {
    let mut buffer = vec![0; 2048];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(n) => {
                if rtcp::is_sign_of_life(&buffer[..n]) && notes.send(Note::Receipt { session }).await.is_err()
                {
                    return;
                }
            }
            // The answer to one of our datagrams; the sender counts them too.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

#[cfg(test)]
#[path = "player_tests.rs"]
mod tests;
