//! Finding the framing again.
//!
//! A candidate is a `$` with a plausible channel and length before something of version 2. It is believed when the places at
//! which the next frames must then begin hold such headers too (or an RTSP message): two of them, or one on a channel that was
//! seen before. A segment that begins with an RTSP request or reply is believed at once. The bytes are kept until then, so
//! that nothing is lost from the first good frame on.

use crate::span::Location;
use capture::CaptureTime;
use serde::{Deserialize, Serialize};

/// Candidates that wait for more bytes; later ones are not taken up.
const CANDIDATES_MAX: usize = 64;
/// Channels above this are not used by anything known, unless they were seen.
const CHANNEL_MAX: u8 = 31;
/// The shortest content: a receiver report without blocks.
const CONTENT_MIN: u16 = 8;

/// Bytes that are searched.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Search {
    #[serde(with = "serde_bytes")]
    buffer: Vec<u8>,
    /// Ascending; together they cover `buffer`.
    chunks: Vec<Chunk>,
    /// Position after the last byte or hole.
    end: u64,
    /// Candidates that are neither believed nor refuted.
    candidates: Vec<u64>,
    /// Index into `chunks` and position: everything before was looked through.
    scanned: (usize, u64),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Chunk {
    /// Position of its first byte; positions count holes, too.
    position: u64,
    /// Where it begins in the buffer.
    begin: usize,
    len: usize,
    at: Location,
    time: CaptureTime,
}

enum Chain {
    Believed,
    Refuted,
    /// Not enough bytes yet; so many frames agree.
    Waits {
        links: u32,
        next: u64,
    },
}

/// Whether a packet that begins with `bytes` may begin an RTSP conversation.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    begins_message(bytes) || bytes.first_chunk::<5>().is_some_and(|h| is_frame(h, &[0; 4]))
}

fn begins_message(bytes: &[u8]) -> bool {
    let bytes = &bytes[..bytes.len().min(64)];
    // What is believed here must be taken for a message when it is read again.
    if !bytes.first_chunk::<4>().is_some_and(|first| super::text::begins(*first)) {
        return false;
    }
    if bytes.starts_with(b"RTSP/1.") || bytes.starts_with(b"RTSP/2.") {
        return true;
    }
    let Some(space) = bytes.iter().position(|&b| b == b' ').filter(|&n| (4..=16).contains(&n)) else {
        return false;
    };
    let rest = &bytes[space + 1..];
    bytes[..space].iter().all(|b| b.is_ascii_uppercase() || *b == b'_')
        && (rest.starts_with(b"rtsp://") || rest.starts_with(b"rtspu://") || rest.starts_with(b"* RTSP/"))
}

fn seen(channels: &[u64; 4], channel: u8) -> bool {
    channels[usize::from(channel >> 6)] >> (channel & 63) & 1 == 1
}

fn is_frame(header: &[u8; 5], channels: &[u64; 4]) -> bool {
    let len = u16::from_be_bytes([header[2], header[3]]);
    header[0] == b'$'
        && (header[1] <= CHANNEL_MAX || seen(channels, header[1]))
        && len >= CONTENT_MIN
        && header[4] >> 6 == 2
}

impl Search {
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    pub fn add(&mut self, bytes: &[u8], at: Location, time: CaptureTime) {
        if bytes.is_empty() {
            return;
        }
        let (position, begin, len) = (self.end, self.buffer.len(), bytes.len());
        self.chunks.push(Chunk { position, begin, len, at, time });
        self.buffer.extend_from_slice(bytes);
        self.end += len as u64;
    }

    pub fn add_hole(&mut self, len: u64) {
        self.end += len;
    }

    /// The position from which on framing is known.
    pub fn found(&mut self, channels: &[u64; 4]) -> Option<u64> {
        let waiting = std::mem::take(&mut self.candidates);
        for candidate in waiting {
            if self.try_candidate(candidate, channels) {
                return Some(candidate);
            }
        }
        while let Some(position) = self.next_candidate() {
            if self.begins_chunk_with_message(position) || self.try_candidate(position, channels) {
                return Some(position);
            }
        }
        None
    }

    /// At the end of the stream: the first candidate that at least one more frame, or the end itself, agrees with.
    pub fn likely(&mut self, channels: &[u64; 4]) -> Option<u64> {
        let end = self.end;
        self.candidates.iter().copied().find(|&candidate| match self.chain(candidate, channels) {
            Chain::Believed => true,
            Chain::Refuted => false,
            Chain::Waits { links, next } => links > 1 || next == end,
        })
    }

    /// Bytes held before `position`.
    pub fn bytes_before(&self, position: u64) -> u64 {
        let before = |c: &Chunk| position.saturating_sub(c.position).min(c.len as u64);
        self.chunks.iter().map(before).sum()
    }

    pub fn into_chunks(self: Box<Self>, from: u64) -> Chunks {
        Chunks { search: self, next: 0, position: from }
    }

    fn try_candidate(&mut self, candidate: u64, channels: &[u64; 4]) -> bool {
        match self.chain(candidate, channels) {
            Chain::Believed => true,
            Chain::Refuted => false,
            Chain::Waits { .. } => {
                if self.candidates.len() < CANDIDATES_MAX {
                    self.candidates.push(candidate);
                }
                false
            }
        }
    }

    /// The next place that begins a segment with a letter, or holds a `$`.
    fn next_candidate(&mut self) -> Option<u64> {
        while let Some(chunk) = self.chunks.get(self.scanned.0) {
            let offset = self.scanned.1.saturating_sub(chunk.position) as usize;
            let bytes = &self.buffer[chunk.begin..chunk.begin + chunk.len];
            let letter = offset == 0 && bytes[0].is_ascii_uppercase();
            let found =
                if letter { Some(0) } else { memchr::memchr(b'$', &bytes[offset.min(bytes.len())..]) };
            if let Some(n) = found {
                let position = chunk.position + (offset + n) as u64;
                self.scanned.1 = position + 1;
                return Some(position);
            }
            self.scanned = (self.scanned.0 + 1, chunk.position + chunk.len as u64);
        }
        None
    }

    fn begins_chunk_with_message(&self, position: u64) -> bool {
        let n = self.chunks.partition_point(|c| c.position < position);
        self.chunks
            .get(n)
            .is_some_and(|c| c.position == position && begins_message(&self.buffer[c.begin..c.begin + c.len]))
    }

    fn chain(&self, candidate: u64, channels: &[u64; 4]) -> Chain {
        let mut position = candidate;
        let mut known = false;
        for links in 0.. {
            if links > if known { 1 } else { 2 } {
                break;
            }
            let header = match self.read(position) {
                Bytes::Here(header) => header,
                Bytes::NotYet => return Chain::Waits { links, next: position },
                // The header that would decide is lost: two that agreed must do.
                Bytes::Lost if links > 1 => break,
                Bytes::Lost => return Chain::Refuted,
            };
            if !is_frame(&header, channels) {
                let message = links > 0 && super::text::begins([header[0], header[1], header[2], header[3]]);
                return if message { Chain::Believed } else { Chain::Refuted };
            }
            known |= links == 0 && seen(channels, header[1]);
            position += 4 + u64::from(u16::from_be_bytes([header[2], header[3]]));
        }
        Chain::Believed
    }

    fn read(&self, position: u64) -> Bytes {
        if position + 5 > self.end {
            return Bytes::NotYet;
        }
        let mut n = self.chunks.partition_point(|c| c.position + c.len as u64 <= position);
        let mut header = [0; 5];
        for (byte, position) in header.iter_mut().zip(position..) {
            if self.chunks.get(n).is_some_and(|c| c.position + c.len as u64 <= position) {
                n += 1;
            }
            match self.chunks.get(n) {
                Some(c) if c.position <= position => {
                    *byte = self.buffer[c.begin + (position - c.position) as usize];
                }
                _ => return Bytes::Lost,
            }
        }
        Bytes::Here(header)
    }
}

enum Bytes {
    Here([u8; 5]),
    NotYet,
    Lost,
}

/// The bytes of a search, to be read again.
pub(super) struct Chunks {
    search: Box<Search>,
    next: usize,
    /// Everything before it was read.
    position: u64,
}

impl Chunks {
    /// The hole before it, the bytes (none behind the last hole), where they lie, when they were captured.
    pub fn next_chunk(&mut self) -> Option<(u64, &[u8], Location, CaptureTime)> {
        loop {
            let Some(chunk) = self.search.chunks.get(self.next) else {
                let hole = self.search.end.saturating_sub(self.position);
                let last = self.search.chunks.last()?;
                self.position = self.search.end;
                return (hole > 0).then_some((hole, &[][..], last.at, last.time));
            };
            self.next += 1;
            let end = chunk.position + chunk.len as u64;
            if end <= self.position {
                continue;
            }
            let hole = chunk.position.saturating_sub(self.position);
            let skip = self.position.saturating_sub(chunk.position) as usize;
            self.position = end;
            let bytes = &self.search.buffer[chunk.begin + skip..chunk.begin + chunk.len];
            return Some((hole, bytes, chunk.at.plus(skip as u32), chunk.time));
        }
    }
}
