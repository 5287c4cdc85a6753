//! One RTSP message, as it came.
//!
//! Owns the lenient reading of RTSP/1.0 requests and responses (RFC 2326 sections 4 to 7). Cameras send a space before a
//! header's colon, responses without a reason, bytes that are not UTF-8, bare line feeds, the same header twice, no CSeq:
//! all of that is read, and the original bytes are kept whole, since they may have to be sent again.
//! Refuses: heads above [`MAX_HEAD`], bodies above [`MAX_BODY`], anything whose first line does not name RTSP.
//! Costs: one pass over the head for each call of [`parse`]; one copy of the message when it is complete.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Longest start line plus headers that is read, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// Longest body that is read, in bytes.
pub const MAX_BODY: usize = 256 * 1024;

/// The methods of RFC 2326 section 10, and what servers and clients add to them.
const METHODS: [&str; 12] = [
    "OPTIONS",
    "DESCRIBE",
    "SETUP",
    "PLAY",
    "PAUSE",
    "TEARDOWN",
    "GET_PARAMETER",
    "SET_PARAMETER",
    "ANNOUNCE",
    "RECORD",
    "REDIRECT",
    "PLAY_NOTIFY",
];

/// What a request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Method {
    /// OPTIONS
    Options,
    /// DESCRIBE
    Describe,
    /// SETUP
    Setup,
    /// PLAY
    Play,
    /// PAUSE
    Pause,
    /// TEARDOWN
    Teardown,
    /// GET_PARAMETER
    GetParameter,
    /// SET_PARAMETER
    SetParameter,
    /// ANNOUNCE
    Announce,
    /// RECORD
    Record,
    /// REDIRECT
    Redirect,
    /// A method this list does not name; its text is in the message.
    Other,
}

impl Method {
    fn from_token(token: &[u8]) -> Method {
        match token {
            b"OPTIONS" => Method::Options,
            b"DESCRIBE" => Method::Describe,
            b"SETUP" => Method::Setup,
            b"PLAY" => Method::Play,
            b"PAUSE" => Method::Pause,
            b"TEARDOWN" => Method::Teardown,
            b"GET_PARAMETER" => Method::GetParameter,
            b"SET_PARAMETER" => Method::SetParameter,
            b"ANNOUNCE" => Method::Announce,
            b"RECORD" => Method::Record,
            b"REDIRECT" => Method::Redirect,
            _ => Method::Other,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Start {
    /// `uri` is a range of the raw bytes.
    Request {
        method: Method,
        uri_start: u32,
        uri_end: u32,
    },
    Response {
        status: u16,
    },
}

/// A whole request or response with its original bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    #[serde(with = "serde_bytes")]
    raw: Vec<u8>,
    start: Start,
    /// First byte after the start line.
    headers_at: u32,
    /// First byte after the blank line.
    body_at: u32,
}

/// What [`parse`] made of the bytes at the beginning of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// A whole message: the buffer's first [`Message::len`] bytes.
    Message(Message),
    /// The beginning of a message; more bytes are needed.
    Incomplete,
    /// No RTSP message begins here.
    NotRtsp,
    /// A message that exceeds [`MAX_HEAD`] or [`MAX_BODY`].
    TooLarge,
}

/// Whether a message can begin with some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    Yes,
    /// So far, but there are too few bytes to tell.
    Maybe,
    No,
}

/// Whether the first bytes of a connection (or of a TCP segment) are those of an RTSP message. Cheap enough to ask of
/// every segment: most are refused at their first byte. A first line that is cut short counts when its URI is an `rtsp` one.
pub fn looks_like_rtsp(first: &[u8]) -> bool {
    beginning(first) == Beginning::Yes
}

pub(super) fn beginning(buf: &[u8]) -> Beginning {
    // Of the methods and `RTSP/`, none begins with another letter than these.
    if !matches!(buf.first(), None | Some(b'A' | b'D' | b'G' | b'O' | b'P' | b'R' | b'S' | b'T')) {
        return Beginning::No;
    }
    if buf.starts_with(b"RTSP/1.") || buf.starts_with(b"RTSP/2.") {
        return Beginning::Yes;
    }
    if b"RTSP/1.".starts_with(buf) || b"RTSP/2.".starts_with(buf) {
        return Beginning::Maybe;
    }
    for method in METHODS {
        let method = method.as_bytes();
        if buf.len() <= method.len() {
            if method.starts_with(buf) {
                return Beginning::Maybe;
            }
        } else if buf.starts_with(method) && buf[method.len()] == b' ' {
            return names_rtsp(&buf[method.len() + 1..]);
        }
    }
    Beginning::No
}

/// OPTIONS, and by chance other methods, belong to HTTP and SIP as well: the URI or the version must say `rtsp`.
fn names_rtsp(after_method: &[u8]) -> Beginning {
    let n = after_method.len().min(4);
    if after_method[..n].eq_ignore_ascii_case(&b"rtsp"[..n]) {
        return if n == 4 { Beginning::Yes } else { Beginning::Maybe };
    }
    let line_end = after_method.iter().take(MAX_LINE_WITHOUT_SCHEME).position(|&b| b == b'\n' || b == 0);
    let line = &after_method[..line_end.unwrap_or(after_method.len().min(MAX_LINE_WITHOUT_SCHEME))];
    let version = line.windows(6).position(|w| w == b" RTSP/");
    let plain = line[..version.unwrap_or(line.len())].iter().all(|&b| b >= b' ');
    if version.is_some() && plain {
        Beginning::Yes
    } else if line_end.is_none() && line.len() < MAX_LINE_WITHOUT_SCHEME && plain {
        Beginning::Maybe
    } else {
        Beginning::No
    }
}

/// How far the version may stand in a request line whose URI has no `rtsp` scheme.
const MAX_LINE_WITHOUT_SCHEME: usize = 512;

/// Reads the message at the beginning of `buf`, which must not begin with the blank lines that may stand between messages
/// (see [`leading_blank`]).
pub fn parse(buf: &[u8]) -> Parsed {
    match beginning(buf) {
        Beginning::No => return Parsed::NotRtsp,
        Beginning::Maybe => return Parsed::Incomplete,
        Beginning::Yes => {}
    }
    let (first_line_end, body_at) = match head_end(buf) {
        HeadEnd::At { first_line_end, body_at } => (first_line_end, body_at),
        HeadEnd::Incomplete => return Parsed::Incomplete,
        HeadEnd::TooLarge => return Parsed::TooLarge,
        HeadEnd::Binary(_) | HeadEnd::NoStartLine(_) => return Parsed::NotRtsp,
    };
    let Some(start) = start_line(trim_line_end(&buf[..first_line_end])) else { return Parsed::NotRtsp };
    let body_len = content_length(&buf[first_line_end..body_at]);
    if body_len > MAX_BODY {
        return Parsed::TooLarge;
    }
    let len = body_at + body_len;
    if buf.len() < len {
        return Parsed::Incomplete;
    }
    Parsed::Message(Message {
        raw: buf[..len].to_vec(),
        start,
        headers_at: first_line_end as u32,
        body_at: body_at as u32,
    })
}

/// How many bytes to pass over where [`parse`] found no message, so that no later message is missed and no byte is looked at
/// again and again.
pub(super) fn hopeless(buf: &[u8]) -> usize {
    if beginning(buf) != Beginning::Yes {
        return 1;
    }
    match head_end(buf) {
        // No head that begins before a zero byte can end after it.
        HeadEnd::Binary(at) | HeadEnd::NoStartLine(at) => at,
        HeadEnd::At { body_at, .. } => body_at,
        HeadEnd::TooLarge => MAX_HEAD,
        HeadEnd::Incomplete => 1,
    }
}

/// How many bytes of white space stand at the beginning of `buf`. They may precede a message and belong to none.
pub fn leading_blank(buf: &[u8]) -> usize {
    buf.iter().take_while(|b| matches!(b, b'\r' | b'\n' | b' ' | b'\t')).count()
}

enum HeadEnd {
    At {
        first_line_end: usize,
        body_at: usize,
    },
    Incomplete,
    TooLarge,
    /// A zero byte stands here.
    Binary(usize),
    /// The first line, which ends here, is not one of RTSP's.
    NoStartLine(usize),
}

fn head_end(buf: &[u8]) -> HeadEnd {
    let mut first_line_end = None;
    let mut line_start = 0;
    for (i, &b) in buf.iter().take(MAX_HEAD).enumerate() {
        if b == 0 {
            return HeadEnd::Binary(i);
        }
        if b != b'\n' {
            continue;
        }
        let blank = trim_line_end(&buf[line_start..=i]).is_empty();
        match first_line_end {
            None if start_line(trim_line_end(&buf[..=i])).is_none() => return HeadEnd::NoStartLine(i + 1),
            None => first_line_end = Some(i + 1),
            Some(first_line_end) if blank => return HeadEnd::At { first_line_end, body_at: i + 1 },
            Some(_) => {}
        }
        line_start = i + 1;
    }
    if buf.len() >= MAX_HEAD { HeadEnd::TooLarge } else { HeadEnd::Incomplete }
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn start_line(line: &[u8]) -> Option<Start> {
    if let Some(rest) = line.strip_prefix(b"RTSP/") {
        // "RTSP/1.0 200 OK"; the reason may be missing, and the space before it.
        let mut words = rest.split(|&b| b == b' ' || b == b'\t').filter(|w| !w.is_empty());
        words.next()?;
        let code = words.next()?;
        let digits = code.iter().take_while(|b| b.is_ascii_digit()).count();
        let status = std::str::from_utf8(&code[..digits]).ok()?.parse().ok()?;
        return (100..=999).contains(&status).then_some(Start::Response { status });
    }
    let method_end = line.iter().position(|&b| b == b' ')?;
    // The URI goes up to the version: some contain unescaped spaces.
    let version = line.windows(6).rposition(|w| w == b" RTSP/")?;
    if version < method_end {
        return None;
    }
    let uri = trim_span(line, (method_end + 1).min(version), version);
    Some(Start::Request {
        method: Method::from_token(&line[..method_end]),
        uri_start: uri.0 as u32,
        uri_end: uri.1 as u32,
    })
}

fn trim_span(line: &[u8], mut start: usize, mut end: usize) -> (usize, usize) {
    while start < end && line[start].is_ascii_whitespace() {
        start += 1;
    }
    while start < end && line[end - 1].is_ascii_whitespace() {
        end -= 1;
    }
    (start, end)
}

/// The first Content-Length that is a number; 0 without one (RFC 2326 section 12.14: "assumed to be zero").
fn content_length(headers: &[u8]) -> usize {
    Headers { rest: headers }
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"Content-Length") || *name == b"l")
        .find_map(|(_, value)| std::str::from_utf8(value).ok()?.trim().parse().ok())
        .unwrap_or(0)
}

impl Message {
    /// The bytes as they came, head and body.
    pub fn bytes(&self) -> &[u8] {
        &self.raw
    }

    /// Length of the message in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a message is never empty")]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// The body; empty without one.
    pub fn body(&self) -> &[u8] {
        &self.raw[self.body_at as usize..]
    }

    /// The request's method; `None` for a response.
    pub fn method(&self) -> Option<Method> {
        match self.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    /// The request's URI as it came; `None` for a response.
    pub fn uri(&self) -> Option<Cow<'_, str>> {
        match self.start {
            Start::Request { uri_start, uri_end, .. } => {
                Some(String::from_utf8_lossy(&self.raw[uri_start as usize..uri_end as usize]))
            }
            Start::Response { .. } => None,
        }
    }

    /// The response's status code; `None` for a request.
    pub fn status(&self) -> Option<u16> {
        match self.start {
            Start::Request { .. } => None,
            Start::Response { status } => Some(status),
        }
    }

    /// Whether this is a request.
    pub fn is_request(&self) -> bool {
        self.method().is_some()
    }

    /// Names and values of the headers in order, duplicates included, outer white space removed. Folded lines stay in
    /// the value.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        Headers { rest: &self.raw[self.headers_at as usize..self.body_at as usize] }
    }

    /// All values of the headers with this name (in any case), as text; bytes that are not UTF-8 are replaced.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
        self.headers()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| String::from_utf8_lossy(value))
    }

    /// The first value of a header that is not empty.
    pub fn header<'a>(&'a self, name: &'a str) -> Option<Cow<'a, str>> {
        self.values(name).find(|v| !v.is_empty())
    }

    /// The sequence number that pairs a response with its request. `None` when it is missing or no number.
    pub fn cseq(&self) -> Option<CSeq> {
        let value = self.header("CSeq")?;
        let digits = value.trim_start().bytes().take_while(u8::is_ascii_digit).count();
        value.trim_start()[..digits].parse().ok().map(CSeq)
    }
}

/// A request's sequence number on its connection (RFC 2326 section 12.17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CSeq(pub u32);

/// The header lines of a head. Lines without a colon are left out.
struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let mut end = line_len(self.rest);
            // A line that begins with white space continues the one before it (RFC 2326 section 4.2, from RFC 822).
            while matches!(self.rest.get(end), Some(b' ' | b'\t'))
                && !self.rest[..end].trim_ascii().is_empty()
            {
                end += line_len(&self.rest[end..]);
            }
            let (line, rest) = self.rest.split_at(end);
            self.rest = rest;
            if let Some(colon) = line.iter().position(|&b| b == b':') {
                return Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()));
            }
        }
    }
}

fn line_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| b == b'\n').map_or(bytes.len(), |i| i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &[u8]) -> Message {
        match parse(text) {
            Parsed::Message(m) => m,
            other => panic!("{other:?} for {:?}", String::from_utf8_lossy(text)),
        }
    }

    #[test]
    fn request_keeps_its_bytes() {
        let text = b"SETUP rtsp://198.18.0.11:554/cam/stream=0 RTSP/1.0\r\nCSeq: 4\r\nTransport: RTP/AVP/UDP;unicast;client_port=5000-5001\r\n\r\n";
        let m = message(text);
        assert_eq!(m.bytes(), text);
        assert_eq!(m.method(), Some(Method::Setup));
        assert_eq!(m.uri().unwrap(), "rtsp://198.18.0.11:554/cam/stream=0");
        assert_eq!(m.cseq(), Some(CSeq(4)));
        assert_eq!(m.header("transport").unwrap(), "RTP/AVP/UDP;unicast;client_port=5000-5001");
        assert!(m.status().is_none() && m.body().is_empty());
    }

    #[test]
    fn response_with_body() {
        let text = b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 5\r\n\r\nv=0\r\nRTSP/1.0 200 OK\r\n";
        let m = message(text);
        assert_eq!((m.status(), m.body()), (Some(200), &b"v=0\r\n"[..]));
    }

    #[test]
    fn quirk_space_before_colon() {
        let m = message(b"RTSP/1.0 200 OK\r\nCSeq : 7\r\nSession : 1234 ;timeout=60\r\n\r\n");
        assert_eq!(m.cseq(), Some(CSeq(7)));
        assert_eq!(m.header("Session").unwrap(), "1234 ;timeout=60");
    }

    #[test]
    fn quirk_missing_reason() {
        assert_eq!(message(b"RTSP/1.0 200\r\nCSeq: 1\r\n\r\n").status(), Some(200));
        assert_eq!(message(b"RTSP/1.0 454 \r\n\r\n").status(), Some(454));
    }

    #[test]
    fn quirk_line_feeds_only() {
        let m = message(b"RTSP/1.0 200 OK\nCSeq: 1\nContent-Length: 3\n\nabc");
        assert_eq!((m.cseq(), m.body()), (Some(CSeq(1)), &b"abc"[..]));
    }

    #[test]
    fn quirk_not_utf8() {
        let m = message(b"RTSP/1.0 200 OK\r\nServer: \xbf\xaa\xff\r\nCSeq: 1\r\n\r\n");
        assert_eq!(m.cseq(), Some(CSeq(1)));
        assert!(m.bytes().contains(&0xbf));
    }

    #[test]
    fn quirk_duplicate_headers_are_kept_in_order() {
        let m = message(b"RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"a\"\r\nWWW-Authenticate: Basic realm=\"b\"\r\n\r\n");
        let all: Vec<_> = m.values("www-authenticate").collect();
        assert_eq!(all, ["Digest realm=\"a\"", "Basic realm=\"b\""]);
    }

    #[test]
    fn quirk_cseq_missing_or_no_number() {
        assert_eq!(message(b"RTSP/1.0 200 OK\r\n\r\n").cseq(), None);
        assert_eq!(message(b"RTSP/1.0 200 OK\r\nCSeq: x\r\n\r\n").cseq(), None);
        assert_eq!(message(b"RTSP/1.0 200 OK\r\nCSeq:\r\nCSeq: 3\r\n\r\n").cseq(), Some(CSeq(3)));
    }

    #[test]
    fn quirk_spaces_in_the_uri_and_folded_headers() {
        let m = message(b"PLAY rtsp://h/my cam RTSP/1.0\r\nRange: npt=0-\r\n ;time=1\r\nCSeq: 2\r\n\r\n");
        assert_eq!(m.uri().unwrap(), "rtsp://h/my cam");
        assert_eq!(m.cseq(), Some(CSeq(2)));
        assert_eq!(m.headers().count(), 2);
    }

    #[test]
    fn not_rtsp() {
        for text in [
            &b"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            b"OPTIONS sip:x@y SIP/2.0\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"$\x00\x00\x10abcdefgh",
            b"RTSP/1.0 garbage\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
        ] {
            assert_eq!(parse(text), Parsed::NotRtsp, "{:?}", String::from_utf8_lossy(text));
        }
        assert!(!looks_like_rtsp(b"OPTIONS / HTTP/1.1\r\n"));
        assert!(!looks_like_rtsp(b""));
        assert!(looks_like_rtsp(b"DESCRIBE rtsp://h"));
        assert!(looks_like_rtsp(b"OPTIONS * RTSP/1.0\r\n"));
        assert!(looks_like_rtsp(b"GET_PARAMETER /cam RTSP/1.0\r\n"));
        assert!(looks_like_rtsp(b"RTSP/1.0 200 OK"));
    }

    #[test]
    fn bounds() {
        let mut long = b"RTSP/1.0 200 OK\r\nX: ".to_vec();
        long.resize(MAX_HEAD - 1, b'x');
        assert_eq!(parse(&long), Parsed::Incomplete);
        long.push(b'x');
        assert_eq!(parse(&long), Parsed::TooLarge);
        let big = format!("RTSP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1);
        assert_eq!(parse(big.as_bytes()), Parsed::TooLarge);
        let huge = b"RTSP/1.0 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n";
        assert!(matches!(parse(huge), Parsed::Message(_)));
    }
}
