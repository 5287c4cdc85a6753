//! One session's task: sets its tracks up, plays them, ends them.
//!
//! Acts only, on what the server tells it, and answers each of that. A slow client holds up its own task and nothing else.

mod play;

use crate::config::Config;
use crate::events::Ticket;
use crate::outlet::{Outlet, PortPairs, TrackOutlet, open_track};
use crate::presentation::Presentation;
use crate::response::{Refusal, Status};
use crate::rewrite::Rewriter;
use crate::rtcp;
use crate::sdp;
use crate::server::Note;
use crate::session::{Carriage, ConnectionId, Plan, SessionKey, SessionTrack};
use crate::source::{MediaKind, Source};
use crate::stats::ClientCounters;
use crate::writer::SharedWriter;
use play::Play;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

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
                taken = self.part_with(n, play).await;
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
