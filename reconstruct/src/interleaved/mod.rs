//! A TCP byte stream of an RTSP connection, split into interleaved frames and RTSP text (RFC 2326 §10.12).
//!
//! ```text
//! '$' | channel (8) | length (16) | that many bytes of RTP or RTCP
//! ```
//!
//! Owns the framing. Of a frame it touches the 4 bytes before it and the first [`HEAD_MAX`] of its content (fewer where nothing is to be
//! seen in them), the rest is told as pieces of captured packets: a frame in order costs some 150 ns (measured where most straddle
//! two segments), whatever its length. Of RTSP text it only finds the end of
//! a message (empty line, Content-Length); understanding it is [`crate::rtsp`]'s.
//!
//! When the place of the next frame is lost (a hole, stray bytes, a stream picked up in the middle) it searches: see
//! [`search`]. A stream that is no RTSP is searched for [`SEARCH_MAX`] bytes at most and then only looked at where packets
//! begin.

mod search;
mod text;

use crate::codec::continues_unit;
use crate::rtcp::looks_like_rtcp;
use crate::rtp;
use crate::span::{Piece, Slice};
use capture::CaptureTime;
use search::Search;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use text::{Message, Step};

/// Bytes kept of a frame's content.
pub const HEAD_MAX: usize = 256;
/// Bytes kept of its payload, if that goes on with a unit of an earlier one: the headers. Each cache line that is not copied is one less to
/// wait for.
const FRAGMENT_HEADERS: usize = 16;
/// Bytes that are searched, and kept meanwhile: three frames of the greatest length and some.
pub const SEARCH_MAX: usize = 256 << 10;
/// Pieces of one frame: one of 64 KiB in segments of 536 bytes has 123. Further ones count as missing.
pub const PIECES_MAX: usize = 1024;

/// What is found in the byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterleavedEvent<'a> {
    /// An interleaved frame.
    Frame(Frame<'a>),
    /// The next bytes of an RTSP (or HTTP) message.
    Text(Slice<'a>),
    /// The message is complete.
    TextEnd,
    /// The message that had begun will not be completed.
    Broken,
    /// Bytes that are neither frame nor text, or whose framing was lost.
    Skipped {
        /// How many.
        bytes: u64,
    },
}

/// An interleaved frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Channel.
    pub channel: u8,
    /// Length of the content.
    pub len: u16,
    /// The first bytes of the content: at most [`HEAD_MAX`], only up to the first hole, and of a later fragment of a unit maybe not more than the
    /// headers.
    pub head: &'a [u8],
    /// Where the content lies, in order; holes are left out.
    pub pieces: &'a [Piece],
    /// Bytes that are missing; 0 for a whole frame.
    pub missing: u32,
    /// When the first of its bytes was captured.
    pub first_time: CaptureTime,
    /// When the last of its bytes was captured.
    pub time: CaptureTime,
}

/// What the framing went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterleavedStats {
    /// Frames, damaged ones included.
    pub frames: u64,
    /// Frames with missing bytes.
    pub damaged: u64,
    /// Times that framing was lost or had to be picked up.
    pub searches: u64,
    /// Bytes that belong to nothing.
    pub skipped: u64,
    /// RTSP messages that were cut short.
    pub broken: u64,
}

/// A frame that straddles segments.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Partial {
    channel: u8,
    len: u16,
    remaining: u32,
    missing: u32,
    #[serde(with = "serde_bytes")]
    head: Vec<u8>,
    pieces: SmallVec<[Piece; 4]>,
    first_time: CaptureTime,
}

/// Up to 4 bytes of a frame's or a message's beginning that straddle segments.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Stash {
    bytes: SmallVec<[u8; 4]>,
    runs: SmallVec<[(Piece, CaptureTime); 2]>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
enum State {
    /// Where a frame or a message begins, at the very start of the connection.
    #[default]
    Beginning,
    /// Where a frame or a message begins.
    Boundary,
    /// In the first 4 bytes.
    Header(Stash),
    /// In the frame of `partial`.
    Frame,
    Text(Box<Message>),
    Searching(Box<Search>),
    /// No RTSP so far: only the beginnings of packets are looked at.
    Dormant,
}

/// The framing of one direction of a connection. See the module's text.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Interleaved {
    state: State,
    partial: Partial,
    /// Channels of the frames so far, one bit each.
    channels: [u64; 4],
    stats: InterleavedStats,
}

/// A search that found its place: the bytes from `from` on are to be read again.
struct Found {
    search: Box<Search>,
    from: u64,
}

impl Interleaved {
    /// What the framing went through.
    pub fn stats(&self) -> InterleavedStats {
        self.stats
    }

    /// Whether frames or messages have been found and where the next one begins is known.
    pub fn is_synchronised(&self) -> bool {
        !matches!(self.state, State::Beginning | State::Searching(_) | State::Dormant)
    }

    /// Bytes up to where the next frame or message begins, as far as that is known: for who can fetch them ahead.
    #[inline]
    pub fn until_next(&self) -> Option<usize> {
        match self.state {
            State::Frame => Some(self.partial.remaining as usize),
            State::Boundary => Some(0),
            _ => None,
        }
    }

    /// Whether nothing of RTSP was found and only the beginnings of packets are still looked at.
    pub fn is_dormant(&self) -> bool {
        matches!(self.state, State::Dormant)
    }

    /// Captured packets that what is begun has pieces in; many while it searches.
    pub fn pieces_under_way(&self) -> usize {
        match &self.state {
            State::Frame => self.partial.pieces.len(),
            State::Header(stash) => stash.runs.len(),
            State::Searching(_) => PIECES_MAX,
            State::Beginning | State::Boundary | State::Text(_) | State::Dormant => 0,
        }
    }

    /// Whether it can go on where another capture goes on with the byte stream: where the next frame begins is known, or it is within one.
    pub fn can_go_on(&self) -> bool {
        matches!(self.state, State::Boundary | State::Header(_) | State::Frame)
    }

    /// Bytes kept for a search.
    pub fn held_bytes(&self) -> usize {
        if let State::Searching(search) = &self.state { search.held() } else { 0 }
    }

    /// A byte stream begins: with its first byte if `syn`.
    pub fn handle_start(&mut self, syn: bool, sink: &mut impl FnMut(&InterleavedEvent<'_>)) {
        self.finish(sink);
        self.channels = [0; 4];
        self.state = State::Beginning;
        if !syn {
            self.search();
        }
    }

    /// Takes the next bytes.
    #[inline]
    pub fn handle_data(&mut self, data: &Slice<'_>, sink: &mut impl FnMut(&InterleavedEvent<'_>)) {
        if let Some(found) = self.read(*data, sink) {
            self.read_again(found, sink);
        }
    }

    /// Takes a hole of `len` bytes.
    pub fn handle_hole(&mut self, len: u64, sink: &mut impl FnMut(&InterleavedEvent<'_>)) {
        match &mut self.state {
            State::Frame => {
                let within = len.min(u64::from(self.partial.remaining)) as u32;
                self.partial.missing += within;
                self.partial.remaining -= within;
                if self.partial.remaining == 0 {
                    self.end_frame(self.partial.first_time, sink);
                }
                if u64::from(within) < len {
                    self.search();
                }
            }
            State::Text(message) => {
                let known = message.skip_hole(len);
                self.break_text(sink);
                if known {
                    return;
                }
                self.search();
            }
            State::Header(stash) => {
                let bytes = stash.bytes.len() as u64;
                self.skipped(bytes, sink);
                self.search();
            }
            State::Boundary | State::Beginning => self.search(),
            State::Searching(search) => search.add_hole(len),
            State::Dormant => {}
        }
    }

    /// The byte stream ends: hands on what a search can make likely.
    pub fn finish(&mut self, sink: &mut impl FnMut(&InterleavedEvent<'_>)) {
        if let State::Searching(search) = &mut self.state
            && let Some(from) = search.likely(&self.channels)
        {
            let found = Found { search: std::mem::take(search), from };
            self.state = State::Boundary;
            self.read_again(found, sink);
        }
        match std::mem::take(&mut self.state) {
            State::Frame => {
                self.partial.missing += self.partial.remaining;
                self.partial.remaining = 0;
                self.end_frame(self.partial.first_time, sink);
            }
            State::Text(_) => self.break_text(sink),
            State::Header(stash) => self.skipped(stash.bytes.len() as u64, sink),
            State::Searching(search) => self.skipped(search.held() as u64, sink),
            State::Beginning | State::Boundary | State::Dormant => {}
        }
        self.state = State::Beginning;
    }

    fn search(&mut self) {
        self.stats.searches += 1;
        self.state = State::Searching(Box::default());
    }

    fn skipped(&mut self, bytes: u64, sink: &mut impl FnMut(&InterleavedEvent<'_>)) {
        if bytes > 0 {
            self.stats.skipped += bytes;
            sink(&InterleavedEvent::Skipped { bytes });
        }
    }

    fn break_text(&mut self, sink: &mut impl FnMut(&InterleavedEvent<'_>)) {
        self.stats.broken += 1;
        sink(&InterleavedEvent::Broken);
    }

    /// Reads what a search found. That can lead into the next search, and that one can find its place before the bytes of the
    /// first are used up: they stand on a stack.
    #[cold]
    fn read_again(&mut self, found: Found, sink: &mut impl FnMut(&InterleavedEvent<'_>)) {
        self.skipped(found.search.bytes_before(found.from), sink);
        let mut stack = vec![found.search.into_chunks(found.from)];
        while let Some(chunks) = stack.last_mut() {
            let Some((hole, bytes, at, time)) = chunks.next_chunk() else {
                stack.pop();
                continue;
            };
            if hole > 0 {
                self.handle_hole(hole, sink);
            }
            if let Some(found) = self.read(Slice { bytes, at, time }, sink) {
                self.skipped(found.search.bytes_before(found.from), sink);
                stack.push(found.search.into_chunks(found.from));
            }
        }
    }

    #[inline]
    fn read(&mut self, mut s: Slice<'_>, sink: &mut impl FnMut(&InterleavedEvent<'_>)) -> Option<Found> {
        while !s.bytes.is_empty() {
            let taken = match &mut self.state {
                State::Boundary => match self.whole_frame(&s, sink) {
                    Some(taken) => taken,
                    None => self.begin(&s),
                },
                State::Frame => self.go_on_frame(&s, sink),
                State::Searching(_) => return self.go_on_search(&s, sink),
                State::Text(message) => {
                    let (n, step) = message.read(s.bytes);
                    if !message.is_broken() && n > 0 {
                        sink(&InterleavedEvent::Text(s.first(n)));
                    }
                    match step {
                        Step::More => {}
                        Step::End => {
                            if !message.is_broken() {
                                sink(&InterleavedEvent::TextEnd);
                            }
                            self.state = State::Boundary;
                        }
                        Step::Nonsense => {
                            self.break_text(sink);
                            self.search();
                        }
                    }
                    n
                }
                State::Header(_) => self.go_on_header(&s, sink),
                State::Beginning => self.begin(&s),
                State::Dormant => {
                    if !search::may_begin(s.bytes) {
                        return None;
                    }
                    self.search();
                    0
                }
            };
            s.advance(taken);
        }
        None
    }

    /// The usual case: a whole frame lies in the segment. Like all that reads, it says how many bytes it took.
    #[inline]
    fn whole_frame(&mut self, s: &Slice<'_>, sink: &mut impl FnMut(&InterleavedEvent<'_>)) -> Option<usize> {
        let (&[dollar, channel, high, low], content) = s.bytes.split_first_chunk::<4>()?;
        let len = u16::from_be_bytes([high, low]);
        let content = content.get(..usize::from(len))?;
        if dollar != b'$' || !is_version_2(content) {
            return None;
        }
        self.count_frame(channel);
        let piece = [s.at.plus(4).piece(u32::from(len))];
        sink(&InterleavedEvent::Frame(Frame {
            channel,
            len,
            head: &content[..content.len().min(HEAD_MAX)],
            pieces: if len == 0 { &[] } else { &piece },
            missing: 0,
            first_time: s.time,
            time: s.time,
        }));
        Some(4 + usize::from(len))
    }

    fn count_frame(&mut self, channel: u8) {
        self.stats.frames += 1;
        self.channels[usize::from(channel >> 6)] |= 1 << (channel & 63);
    }

    /// At a boundary, when it is not simply a whole frame.
    fn begin(&mut self, s: &Slice<'_>) -> usize {
        let first = s.bytes[0];
        if matches!(first, b'\r' | b'\n') {
            // Empty lines between messages.
            return 1;
        }
        let Some(&header) = s.bytes.first_chunk::<4>() else {
            let mut stash = Stash::default();
            stash.bytes.extend_from_slice(s.bytes);
            stash.runs.push((s.piece(), s.time));
            self.state = State::Header(stash);
            return s.bytes.len();
        };
        if header[0] == b'$' && is_version_2(&s.bytes[4..]) {
            self.begin_frame(header, s.time);
            return 4;
        }
        if text::begins(header) {
            self.state = State::Text(Box::default());
        } else if matches!(self.state, State::Beginning) {
            self.state = State::Dormant;
        } else {
            self.search();
        }
        0
    }

    fn go_on_header(&mut self, s: &Slice<'_>, sink: &mut impl FnMut(&InterleavedEvent<'_>)) -> usize {
        let State::Header(stash) = &mut self.state else { return 0 };
        let taken = s.first(4 - stash.bytes.len().min(4));
        stash.bytes.extend_from_slice(taken.bytes);
        stash.runs.push((taken.piece(), taken.time));
        let n = taken.bytes.len();
        let Ok(header) = <[u8; 4]>::try_from(&stash.bytes[..]) else { return n };
        let State::Header(stash) = std::mem::take(&mut self.state) else { return n };
        let first_time = stash.runs.first().map_or(s.time, |r| r.1);
        if header[0] == b'$' {
            self.begin_frame(header, first_time);
        } else if text::begins(header) {
            let mut message = Box::<Message>::default();
            message.read(&header);
            self.state = State::Text(message);
            let mut begin = 0;
            for (piece, time) in &stash.runs {
                let bytes = &header[begin..begin + piece.len as usize];
                sink(&InterleavedEvent::Text(Slice { bytes, at: piece.at(), time: *time }));
                begin += piece.len as usize;
            }
        } else {
            self.search();
            let State::Searching(search) = &mut self.state else { return n };
            let mut begin = 0;
            for (piece, time) in &stash.runs {
                search.add(&header[begin..begin + piece.len as usize], piece.at(), *time);
                begin += piece.len as usize;
            }
        }
        n
    }

    fn begin_frame(&mut self, header: [u8; 4], time: CaptureTime) {
        let len = u16::from_be_bytes([header[2], header[3]]);
        let partial = &mut self.partial;
        partial.head.clear();
        partial.pieces.clear();
        (partial.channel, partial.len, partial.remaining) = (header[1], len, u32::from(len));
        (partial.missing, partial.first_time) = (0, time);
        self.state = State::Frame;
    }

    fn go_on_frame(&mut self, s: &Slice<'_>, sink: &mut impl FnMut(&InterleavedEvent<'_>)) -> usize {
        let partial = &mut self.partial;
        let taken = &s.bytes[..s.bytes.len().min(partial.remaining as usize)];
        let n = taken.len();
        let wanted = head_wanted(if partial.head.is_empty() { taken } else { &partial.head });
        if partial.missing == 0 && partial.head.len() < wanted {
            let room = wanted - partial.head.len();
            partial.head.extend_from_slice(&taken[..n.min(room)]);
        }
        partial.remaining -= n as u32;
        if partial.pieces.len() < PIECES_MAX {
            if n > 0 {
                partial.pieces.push(s.at.piece(n as u32));
            }
        } else {
            partial.missing += n as u32;
        }
        if partial.remaining == 0 {
            self.end_frame(s.time, sink);
        }
        n
    }

    fn end_frame(&mut self, time: CaptureTime, sink: &mut impl FnMut(&InterleavedEvent<'_>)) {
        self.state = State::Boundary;
        self.count_frame(self.partial.channel);
        let partial = &self.partial;
        self.stats.damaged += u64::from(partial.missing > 0);
        sink(&InterleavedEvent::Frame(Frame {
            channel: partial.channel,
            len: partial.len,
            head: &partial.head,
            pieces: &partial.pieces,
            missing: partial.missing,
            first_time: partial.first_time,
            time,
        }));
    }

    fn go_on_search(&mut self, s: &Slice<'_>, sink: &mut impl FnMut(&InterleavedEvent<'_>)) -> Option<Found> {
        let State::Searching(search) = &mut self.state else { return None };
        search.add(s.bytes, s.at, s.time);
        if let Some(from) = search.found(&self.channels) {
            let found = Found { search: std::mem::take(search), from };
            self.state = State::Boundary;
            return Some(found);
        }
        if search.held() > SEARCH_MAX {
            let bytes = search.held() as u64;
            let known = self.stats.frames > 0;
            self.state = if known { State::Searching(Box::default()) } else { State::Dormant };
            self.skipped(bytes, sink);
        }
        None
    }
}

/// How much of a frame is looked at that begins so.
#[inline]
fn head_wanted(begin: &[u8]) -> usize {
    // RTP (RFC 3550 section 5.1) without padding, of which the last byte tells, and without extension.
    let Some(&first) = begin.first().filter(|first| **first >> 4 == 0b1000) else { return HEAD_MAX };
    let payload_at = rtp::HEADER_LEN + 4 * usize::from(first & 0x0f);
    let payload = begin.get(payload_at..).unwrap_or_default();
    if continues_unit(payload) && !looks_like_rtcp(begin) { payload_at + FRAGMENT_HEADERS } else { HEAD_MAX }
}

/// RTP and RTCP both begin with version 2; nothing to see yet is no objection, nor is an empty frame.
#[inline]
fn is_version_2(content: &[u8]) -> bool {
    content.first().is_none_or(|b| b >> 6 == 2)
}

#[cfg(test)]
mod tests;
