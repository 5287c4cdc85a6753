//! Where an RTSP message ends: after an empty line and as many bytes as its Content-Length says (RFC 2326 §4, §12.14).

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// A header longer than this is no RTSP.
const HEADER_MAX: usize = 64 << 10;
/// A body longer than this is no RTSP.
const BODY_MAX: u64 = 1 << 20;
/// Bytes of a line that are looked at.
const LINE_MAX: usize = 64;

/// A message that is being read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Message {
    line: SmallVec<[u8; LINE_MAX]>,
    header_len: usize,
    body_len: u64,
    /// `Some` once the header has ended: bytes of body to come.
    body_left: Option<u64>,
    /// Bytes of it are missing, only its end is still of interest.
    broken: bool,
}

/// What reading led to.
#[derive(PartialEq, Eq)]
pub(super) enum Step {
    More,
    End,
    /// No RTSP message.
    Nonsense,
}

/// Whether the 4 bytes are the beginning of an RTSP request or reply (or of HTTP, which RTSP can be tunnelled in).
pub(super) fn begins(first: [u8; 4]) -> bool {
    matches!(
        &first,
        b"RTSP"
            | b"OPTI"
            | b"DESC"
            | b"ANNO"
            | b"SETU"
            | b"PLAY"
            | b"PAUS"
            | b"TEAR"
            | b"GET_"
            | b"SET_"
            | b"REDI"
            | b"RECO"
            | b"HTTP"
            | b"GET "
            | b"POST"
    )
}

impl Message {
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Reads on: how many of the bytes belong to the message, and whether it ends with them.
    pub fn read(&mut self, bytes: &[u8]) -> (usize, Step) {
        let mut n = 0;
        while self.body_left.is_none() {
            let rest = &bytes[n..];
            let line_end = memchr::memchr(b'\n', rest);
            let part = &rest[..line_end.unwrap_or(rest.len())];
            let room = LINE_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let taken = part.len() + usize::from(line_end.is_some());
            n += taken;
            self.header_len += taken;
            if self.header_len > HEADER_MAX {
                return (n, Step::Nonsense);
            }
            if line_end.is_none() {
                return (n, Step::More);
            }
            if matches!(&self.line[..], b"" | b"\r") {
                self.body_left = Some(self.body_len);
            } else if let Some(len) = content_length(&self.line) {
                self.body_len = len;
            }
            if self.body_len > BODY_MAX {
                return (n, Step::Nonsense);
            }
            self.line.clear();
        }
        let left = self.body_left.get_or_insert(0);
        let body = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - n);
        *left -= body as u64;
        (n + body, if *left == 0 { Step::End } else { Step::More })
    }

    /// A hole in the message; true when its end is still known.
    pub fn skip_hole(&mut self, len: u64) -> bool {
        self.broken = true;
        match &mut self.body_left {
            Some(left) if *left > len => {
                *left -= len;
                true
            }
            _ => false,
        }
    }
}

/// The value of a Content-Length line, however it is written.
fn content_length(line: &[u8]) -> Option<u64> {
    let colon = line.iter().position(|&b| b == b':')?;
    let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
    // `l` is its short form in SIP; RTSP has none.
    if !name.eq_ignore_ascii_case(b"content-length") {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
