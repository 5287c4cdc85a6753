//! The server: listens, reads requests, and carries out what the [machine](crate::machine) decides.
//!
//! One task owns the machine; each connection and each session has a task of its own. All their queues are bounded: a
//! connection hands in its next request only when the last one is answered.

use crate::config::Config;
use crate::events::{Event, Now, Started, Ticket};
use crate::feed::wall_clock;
use crate::machine::ServerMachine;
use crate::outlet::PortPairs;
use crate::player::{Command, Player, PlayerContext};
use crate::presentation::{Presentation, look_up};
use crate::request::{Decoder, Incoming, Request};
use crate::response::Refusal;
use crate::rtcp;
use crate::session::{Carriage, ConnectionId, SessionKey};
use crate::source::Source;
use crate::stats::{ClientCounters, ClientFacts, Counters, ServerStats};
use crate::writer::SharedWriter;
use capture::CaptureTime;
use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// Why the server can't listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has the port.
    #[error("port {} on {} is in use: stop the other program, or give another address with --rtsp {}:{}",
        address.port(), address.ip(), address.ip(), address.port().wrapping_add(1).max(1024))]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// Ports below 1024 need a permission.
    #[error("port {} may not be opened by this user: give a port above 1023 with --rtsp {}:8554", address.port(), address.ip())]
    Permission {
        /// The address.
        address: SocketAddr,
    },
    /// The address is not this machine's.
    #[error("{} is no address of this machine: give one of its own with --rtsp, or 0.0.0.0:{} for all", address.ip(), address.port())]
    NotLocal {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("can't listen on {address}: {error}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::PermissionDenied => Self::Permission { address },
            io::ErrorKind::AddrNotAvailable => Self::NotLocal { address },
            _ => Self::Other { address, error },
        }
    }
}

/// A socket with an address, which does not listen yet.
fn bound(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // The connections of a server that just ended don't stand in the way.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket.into())
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// An address that was taken; connections are refused until a server [listens](RtspServer::listen). No thread is needed for it, so
/// that a port below 1024 can be had before privileges are given up.
pub struct Bound {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Takes `address` (port 0: any).
    pub fn to(address: SocketAddr) -> Result<Self, BindError> {
        let bound = bound(address).and_then(|l| Ok((l.local_addr()?, l)));
        let (address, listener) = bound.map_err(|error| BindError::new(address, error))?;
        Ok(Self { listener, address })
    }
}

/// The RTSP server, bound and not yet running.
pub struct RtspServer {
    listener: std::net::TcpListener,
    address: SocketAddr,
    source: Arc<dyn Source>,
    config: Config,
    counters: Arc<Counters>,
}

/// Shows a running server's counters.
#[derive(Clone)]
pub struct ServerHandle {
    counters: Arc<Counters>,
}

impl ServerHandle {
    /// The counters now.
    pub fn stats(&self) -> ServerStats {
        self.counters.snapshot()
    }
}

impl RtspServer {
    /// Will serve `source` at an address that was taken. Needs no runtime yet.
    pub fn new(Bound { listener, address }: Bound, source: impl Source, config: Config) -> Self {
        Self { listener, address, source: Arc::new(source), config, counters: Arc::default() }
    }

    /// From now on connections are taken, and wait for [`run`](Self::run). A recorder that answers records.
    pub fn listen(&self) -> Result<(), BindError> {
        rustix::net::listen(&self.listener, BACKLOG).map_err(|e| BindError::new(self.address, e.into()))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What the operator has to be told about who can watch; `None` on loopback.
    pub fn notice(&self) -> Option<String> {
        (!self.address.ip().is_loopback()).then(|| {
            format!(
                "there are no users yet: whoever reaches {} can watch every stream of this store, live and recorded",
                self.address
            )
        })
    }

    /// For `tapdeck status`, while it runs.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { counters: self.counters.clone() }
    }

    /// The counters now.
    pub fn stats(&self) -> ServerStats {
        self.counters.snapshot()
    }

    /// Serves until `shutdown` completes, then says BYE to every client.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        rustix::net::listen(&self.listener, BACKLOG)?;
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let (notes_tx, mut notes) = mpsc::channel(NOTES_MAX);
        let mut core = Core::new(self.source, self.config, self.counters, notes_tx);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        // Usually no file descriptors are left: others may end meanwhile.
        let (accept_again, mut told) = (tokio::time::sleep(Duration::ZERO), false);
        tokio::pin!(accept_again);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(note) = notes.recv() => core.handle_note(note),
                accepted = listener.accept(), if accept_again.is_elapsed() => match accepted {
                    Ok((stream, peer)) => {
                        told = false;
                        core.accept(stream, peer);
                    }
                    Err(e) => {
                        if !std::mem::replace(&mut told, true) {
                            tracing::warn!(error = %e, "no client can be accepted at the moment");
                        }
                        accept_again.as_mut().reset(tokio::time::Instant::now() + ACCEPT_AGAIN);
                    }
                },
                () = &mut accept_again, if !accept_again.is_elapsed() => {}
                _ = tick.tick() => core.handle_tick(),
            }
        }
        core.machine.handle_shutdown();
        core.drain_events();
        drop(notes);
        let all_gone = async { while core.player_tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, all_gone).await;
        core.connections.values().for_each(|c| c.task.abort());
        Ok(())
    }
}

const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
const NOTES_MAX: usize = 1024;
const COMMANDS_MAX: usize = 16;
const REPLIES_MAX: usize = 8;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1500);
/// What the kernel keeps for a slow TCP client.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// What tasks tell the server's task.
pub enum Note {
    /// A request.
    Request(ConnectionId, Box<Request>),
    /// A client's RTCP in an interleaved frame.
    FrameReceipt(ConnectionId, u8),
    /// Bytes that are no RTSP.
    Garbage(ConnectionId, String),
    /// A connection's end.
    Closed(ConnectionId),
    /// A lookup's result.
    Found(Ticket, Result<Presentation, Refusal>),
    /// A track is set up.
    Prepared {
        /// Which.
        ticket: Ticket,
        /// The server's ports.
        result: Result<Option<(u16, u16)>, Refusal>,
    },
    /// A player is ready.
    Started {
        /// Which.
        ticket: Ticket,
        /// Where it begins.
        result: Result<Started, Refusal>,
    },
    /// A player has stopped.
    Paused {
        /// Which.
        ticket: Ticket,
        /// Where.
        position: Option<CaptureTime>,
    },
    /// A track or a session is over, and what it had is free.
    TornDown {
        /// Which.
        ticket: Ticket,
    },
    /// Everything is sent.
    Ended {
        /// Which.
        session: SessionKey,
    },
    /// A client's RTCP in a datagram.
    Receipt {
        /// Whose.
        session: SessionKey,
    },
    /// A client's UDP ports do not exist.
    Refused {
        /// Whose.
        session: SessionKey,
    },
    /// A client's connection takes nothing any more.
    Lost {
        /// Which one. Its session may have ended before.
        connection: ConnectionId,
    },
}

enum Outgoing {
    Reply { bytes: Vec<u8>, starts: Option<mpsc::Sender<Command>> },
    Disconnect,
}

struct ConnectionHandle {
    replies: mpsc::Sender<Outgoing>,
    writer: SharedWriter,
    task: AbortHandle,
}

struct Core {
    machine: ServerMachine,
    connections: HashMap<ConnectionId, ConnectionHandle>,
    players: HashMap<SessionKey, mpsc::Sender<Command>>,
    player_tasks: JoinSet<()>,
    source: Arc<dyn Source>,
    config: Config,
    ports: Arc<PortPairs>,
    counters: Arc<Counters>,
    notes: mpsc::Sender<Note>,
    next_connection: u64,
}

fn now() -> Now {
    Now { instant: Instant::now(), wall: wall_clock() }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
        // As it was: a link-local address is nothing without its scope.
        IpAddr::V6(_) => address,
    }
}

impl Core {
    fn new(
        source: Arc<dyn Source>,
        config: Config,
        counters: Arc<Counters>,
        notes: mpsc::Sender<Note>,
    ) -> Self {
        // The hasher's keys are random too, and from the system.
        let random = || getrandom::u64().unwrap_or_else(|_| RandomState::new().build_hasher().finish());
        Self {
            machine: ServerMachine::new(config.clone(), Box::new(random)),
            connections: HashMap::new(),
            players: HashMap::new(),
            player_tasks: JoinSet::new(),
            source,
            ports: Arc::new(PortPairs::new(&config.udp_ports)),
            config,
            counters,
            notes,
            next_connection: 0,
        }
    }

    fn accept(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.connections.len() >= self.config.connections_max {
            self.counters.connections_refused.fetch_add(1, Relaxed);
            return;
        }
        let Ok(local) = stream.local_addr() else { return };
        // A listener on [::] sees IPv4 clients at ::ffff:a.b.c.d: to the description, to UDP sockets and to `session_of` they are of IPv4.
        let (peer, local) = (canonical(peer), canonical(local));
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
        self.next_connection += 1;
        let id = ConnectionId(self.next_connection);
        let (reader, writer) = stream.into_split();
        let writer = SharedWriter::new(writer);
        let (replies, outgoing) = mpsc::channel(REPLIES_MAX);
        let task = ConnectionTask {
            id,
            reader,
            writer: writer.clone(),
            outgoing,
            notes: self.notes.clone(),
            decoder: Decoder::new(self.config.request_bytes_max),
            stall_timeout: self.config.stall_timeout,
        };
        let task = tokio::spawn(task.run()).abort_handle();
        self.connections.insert(id, ConnectionHandle { replies, writer, task });
        self.counters.connections.store(self.connections.len() as u64, Relaxed);
        self.machine.handle_connected(id, peer, local, now());
    }

    fn handle_note(&mut self, note: Note) {
        match note {
            Note::Request(id, request) => {
                self.counters.requests.fetch_add(1, Relaxed);
                self.machine.handle_request(id, &request, now());
            }
            Note::FrameReceipt(id, channel) => self.machine.handle_frame_receipt(id, channel, now()),
            Note::Garbage(id, reason) => self.machine.handle_garbage(id, &reason),
            Note::Closed(id) => self.forget(id),
            Note::Found(ticket, found) => self.machine.handle_found(ticket, found, now()),
            Note::Prepared { ticket, result } => self.machine.handle_prepared(ticket, result),
            Note::Started { ticket, result } => self.machine.handle_started(ticket, result),
            Note::Paused { ticket, position } => self.machine.handle_paused(ticket, position),
            Note::TornDown { ticket } => self.machine.handle_torn_down(ticket),
            Note::Ended { session } => self.machine.handle_ended(session, now()),
            Note::Receipt { session } => self.machine.handle_receipt(session, now()),
            Note::Refused { session } => self.machine.handle_refused(session),
            Note::Lost { connection } => {
                tracing::info!(
                    connection = connection.0,
                    "a client takes nothing any more and is disconnected"
                );
                self.forget(connection);
            }
        }
        self.drain_events();
        self.counters.errors.store(self.machine.errors(), Relaxed);
    }

    fn handle_tick(&mut self) {
        self.machine.handle_timeout(now());
        self.drain_events();
        while self.player_tasks.try_join_next().is_some() {}
    }

    fn forget(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            connection.task.abort();
        }
        self.counters.connections.store(self.connections.len() as u64, Relaxed);
        self.machine.handle_disconnected(id);
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            self.carry_out(event);
        }
    }

    fn carry_out(&mut self, event: Event) {
        match event {
            Event::Reply { connection, bytes, starts } => {
                let starts = starts.and_then(|k| self.players.get(&k)).cloned();
                self.send_out(connection, Outgoing::Reply { bytes, starts });
            }
            Event::Disconnect { connection } => self.send_out(connection, Outgoing::Disconnect),
            Event::LookUp { ticket, target } => {
                let (source, notes, config) = (self.source.clone(), self.notes.clone(), self.config.clone());
                tokio::task::spawn_blocking(move || {
                    let found = look_up(&*source, &target, wall_clock(), &config);
                    // The server is gone only when everything ends.
                    let _ = notes.blocking_send(Note::Found(ticket, found));
                });
            }
            Event::Prepare { ticket, session, presentation, track, peer, user_agent } => {
                let carrier = match track.carriage {
                    Carriage::Interleaved { connection, .. } => Some(connection),
                    Carriage::Udp { .. } => None,
                };
                let transport = if carrier.is_some() { "tcp" } else { "udp" };
                let writer = carrier.and_then(|c| self.connections.get(&c)).map(|c| c.writer.clone());
                if !self.players.contains_key(&session) {
                    self.start_player(session, presentation, peer, user_agent, transport);
                }
                self.command(session, Command::Prepare { ticket, track, writer });
            }
            Event::Play { ticket, session, plan } => {
                self.command(session, Command::Play { ticket, plan });
            }
            Event::Pause { ticket, session } => {
                self.command(session, Command::Pause { ticket });
            }
            Event::Remove { ticket, session, index } => {
                if !self.command(session, Command::Remove { ticket, index }) {
                    self.machine.handle_torn_down(ticket);
                }
            }
            Event::Close { ticket, session } => {
                let taken = self.command(session, Command::Close { ticket: Some(ticket) });
                self.players.remove(&session);
                self.counters.remove(session.0);
                if !taken {
                    self.machine.handle_torn_down(ticket);
                }
            }
        }
    }

    fn send_out(&mut self, id: ConnectionId, outgoing: Outgoing) {
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.replies.try_send(outgoing).is_err() {
            // It does not take its replies: it can't be helped.
            self.forget(id);
        }
    }

    fn start_player(
        &mut self,
        session: SessionKey,
        presentation: Arc<Presentation>,
        peer: SocketAddr,
        user_agent: String,
        transport: &'static str,
    ) {
        let counters = Arc::new(ClientCounters::default());
        let facts = ClientFacts {
            peer,
            user_agent,
            stream: presentation.label.clone(),
            transport,
            live: presentation.window.length_ns().is_none(),
            counters: counters.clone(),
        };
        self.counters.insert(session.0, facts);
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let context = PlayerContext {
            session,
            presentation,
            source: self.source.clone(),
            config: self.config.clone(),
            ports: self.ports.clone(),
            counters,
            notes: self.notes.clone(),
        };
        self.player_tasks.spawn(Player::new(context, receiver).run());
        self.players.insert(session, commands);
    }

    /// A player that does not take its commands has none left to come: dropping its channel closes it. False if it did not take this one.
    fn command(&mut self, session: SessionKey, command: Command) -> bool {
        let taken = self.players.get(&session).is_some_and(|p| p.try_send(command).is_ok());
        if !taken {
            self.players.remove(&session);
        }
        taken
    }
}

struct ConnectionTask {
    id: ConnectionId,
    reader: OwnedReadHalf,
    writer: SharedWriter,
    outgoing: mpsc::Receiver<Outgoing>,
    notes: mpsc::Sender<Note>,
    decoder: Decoder,
    stall_timeout: Duration,
}

impl ConnectionTask {
    async fn run(mut self) {
        self.serve().await;
        let _ = self.notes.send(Note::Closed(self.id)).await;
    }

    async fn serve(&mut self) {
        let mut buffer = vec![0; 4096];
        let mut answered = true;
        loop {
            while answered {
                match self.decoder.poll() {
                    Ok(None) => break,
                    Ok(Some(Incoming::Request(request))) => {
                        answered = false;
                        if self.notes.send(Note::Request(self.id, Box::new(request))).await.is_err() {
                            return;
                        }
                    }
                    Ok(Some(Incoming::Interleaved { channel, data })) => {
                        if rtcp::is_sign_of_life(&data)
                            && self.notes.send(Note::FrameReceipt(self.id, channel)).await.is_err()
                        {
                            return;
                        }
                    }
                    Err(e) => {
                        answered = false;
                        if self.notes.send(Note::Garbage(self.id, e.to_string())).await.is_err() {
                            return;
                        }
                    }
                }
            }
            tokio::select! {
                read = self.reader.read(&mut buffer), if answered => match read {
                    Ok(0) | Err(_) => return,
                    Ok(n) => self.decoder.handle_bytes(&buffer[..n]),
                },
                outgoing = self.outgoing.recv() => match outgoing {
                    Some(Outgoing::Reply { bytes, starts }) => {
                        let written =
                            tokio::time::timeout(self.stall_timeout, self.writer.write_answer(&bytes));
                        if !matches!(written.await, Ok(Ok(()))) {
                            return;
                        }
                        if let Some(player) = starts {
                            // A player that is gone needs no word.
                            let _ = player.send(Command::Go).await;
                        }
                        answered = true;
                    }
                    Some(Outgoing::Disconnect) => {
                        self.writer.shut_down().await;
                        return;
                    }
                    None => return,
                }
            }
        }
    }
}
