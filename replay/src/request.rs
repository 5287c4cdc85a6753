//! What clients send: RTSP requests and interleaved frames, cut out of a TCP connection's bytes.
//!
//! Owns the framing of RFC 2326 sections 4 to 6 and 10.12, leniently: bare line feeds, blank lines between messages,
//! spaces before the colon, folded header lines and bytes that are not UTF-8 are taken. Refuses messages that are larger
//! than the limit and bytes that are no RTSP. Costs one copy of each message; media never passes through here.

/// What a request asks to be done (RFC 2326, section 10).
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Anything else.
    Other(String),
}

impl Method {
    fn parse(word: &str) -> Self {
        match word {
            "OPTIONS" => Self::Options,
            "DESCRIBE" => Self::Describe,
            "SETUP" => Self::Setup,
            "PLAY" => Self::Play,
            "PAUSE" => Self::Pause,
            "TEARDOWN" => Self::Teardown,
            "GET_PARAMETER" => Self::GetParameter,
            "SET_PARAMETER" => Self::SetParameter,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The request URI, verbatim.
    pub uri: String,
    /// True for `RTSP/1.0`.
    pub version_1_0: bool,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of that name; names are compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    /// All headers of that name.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The parameters that the body of a GET_PARAMETER or SET_PARAMETER names, one a line, with a value behind a colon or without
    /// (RFC 2326, sections 10.8 and 10.9). None in a body of blank lines: live555 sends an empty name so.
    pub fn parameters(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.body);
        let names = text.lines().map(|line| line.split(':').next().unwrap_or_default());
        let clean = names.map(|name| name.chars().filter(|c| !c.is_control()).collect::<String>());
        clean.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    }
}

/// One whole thing out of the byte stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A request.
    Request(Request),
    /// An interleaved frame: the client's RTCP.
    Interleaved {
        /// Channel.
        channel: u8,
        /// Payload.
        data: Vec<u8>,
    },
}

/// The connection can't be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A message is larger than the limit.
    #[error("a request of more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// What came is no RTSP message.
    #[error("not an RTSP request")]
    NotRtsp,
    /// A length can't be read.
    #[error("a Content-Length that is no number")]
    BadLength,
}

/// Cuts a connection's bytes into messages. After an error it must not be used again.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are done with.
    start: usize,
    limit: usize,
}

const FRAME_HEADER_LEN: usize = 4;

impl Decoder {
    /// Refuses requests of more than `limit` bytes, header and body together.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, limit }
    }

    /// Adds what was read. The caller drains [`poll`](Self::poll) before it adds more: so the buffer stays bounded by
    /// one message and one read.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, `None` when more bytes are needed.
    pub fn poll(&mut self) -> Result<Option<Incoming>, DecodeError> {
        loop {
            let rest = &self.buffer[self.start..];
            match rest.first() {
                None => return Ok(None),
                Some(b'\r' | b'\n' | b' ' | b'\t' | 0) => self.start += 1,
                Some(b'$') => return Ok(self.poll_frame()),
                Some(_) => match self.poll_message()? {
                    Poll::Message(request) => return Ok(Some(Incoming::Request(request))),
                    Poll::Skipped => {}
                    Poll::More => return Ok(None),
                },
            }
        }
    }

    fn poll_frame(&mut self) -> Option<Incoming> {
        let rest = &self.buffer[self.start..];
        let header = rest.get(..FRAME_HEADER_LEN)?;
        let (channel, len) = (header[1], usize::from(u16::from_be_bytes([header[2], header[3]])));
        let data = rest.get(FRAME_HEADER_LEN..FRAME_HEADER_LEN + len)?.to_vec();
        self.start += FRAME_HEADER_LEN + len;
        Some(Incoming::Interleaved { channel, data })
    }

    fn poll_message(&mut self) -> Result<Poll, DecodeError> {
        let rest = &self.buffer[self.start..];
        let too_large = DecodeError::TooLarge { limit: self.limit };
        let Some(head_len) = head_len(rest) else {
            // A first line that is complete and no RTSP is refused at once: an HTTP client would wait for ever.
            if let Some(end) = rest.iter().position(|&b| b == b'\n') {
                check_first_line(&rest[..end])?;
            }
            return if rest.len() > self.limit { Err(too_large) } else { Ok(Poll::More) };
        };
        let head = String::from_utf8_lossy(&rest[..head_len]).into_owned();
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default().trim_end();
        check_first_line(first.as_bytes())?;
        let headers = parse_headers(lines);
        let body_len = match headers.iter().find(|(n, _)| n.eq_ignore_ascii_case("Content-Length")) {
            Some((_, v)) => v.parse::<usize>().map_err(|_| DecodeError::BadLength)?,
            None => 0,
        };
        if head_len.saturating_add(body_len) > self.limit {
            return Err(too_large);
        }
        let Some(body) = rest.get(head_len..head_len + body_len) else { return Ok(Poll::More) };
        let body = body.to_vec();
        self.start += head_len + body_len;
        if first.starts_with("RTSP/") {
            // A response: we ask nothing of clients, so nothing waits for it.
            return Ok(Poll::Skipped);
        }
        let mut words = first.split_ascii_whitespace();
        let method = Method::parse(words.next().unwrap_or_default());
        let version_1_0 = first.ends_with("RTSP/1.0");
        let uri = words.next().filter(|w| !w.starts_with("RTSP/")).unwrap_or("*").to_owned();
        Ok(Poll::Message(Request { method, uri, version_1_0, headers, body }))
    }
}

enum Poll {
    Message(Request),
    Skipped,
    More,
}

/// Length of the header with its blank line.
fn head_len(bytes: &[u8]) -> Option<usize> {
    let mut line_start = 0;
    for (i, &b) in bytes.iter().enumerate() {
        if b != b'\n' {
            continue;
        }
        let line = &bytes[line_start..i];
        if line.is_empty() || line == b"\r" {
            return Some(i + 1);
        }
        line_start = i + 1;
    }
    None
}

fn check_first_line(line: &[u8]) -> Result<(), DecodeError> {
    let line = line.trim_ascii();
    let is_response = line.starts_with(b"RTSP/");
    let is_request = line.rsplit(|&b| b == b' ').next().is_some_and(|w| w.starts_with(b"RTSP/"));
    if is_response || is_request { Ok(()) } else { Err(DecodeError::NotRtsp) }
}

fn parse_headers<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            // A folded line belongs to the header before it (RFC 2326, section 15.1, LWS).
            if let Some((_, value)) = headers.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(decoder: &mut Decoder) -> Vec<Incoming> {
        std::iter::from_fn(|| decoder.poll().expect("decodes")).collect()
    }

    const DIALOGUE: &[u8] = b"\r\nOPTIONS rtsp://h/a RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x01\x00\x03abcSET_PARAMETER rtsp://h/a RTSP/1.0\nCSeq :2\nX: a,\n  b\nContent-Length: 4\n\nbodyRTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\nPLAY rtsp://h/a/ RTSP/1.0\r\nCSeq: 3\r\nUser-Agent: \xff\r\n\r\n";

    #[test]
    fn messages_and_frames_are_cut_at_every_split_point() {
        let mut whole = Decoder::new(1000);
        whole.handle_bytes(DIALOGUE);
        let expected = all(&mut whole);
        assert_eq!(expected.len(), 4);
        let Incoming::Request(r) = &expected[2] else { panic!("a request") };
        assert_eq!((r.header("cseq"), r.header("x"), &r.body[..]), (Some("2"), Some("a, b"), &b"body"[..]));
        for split in 0..DIALOGUE.len() {
            let mut d = Decoder::new(1000);
            d.handle_bytes(&DIALOGUE[..split]);
            let mut got = all(&mut d);
            d.handle_bytes(&DIALOGUE[split..]);
            got.extend(all(&mut d));
            assert_eq!(got, expected, "split at {split}");
        }
    }

    #[test]
    fn what_is_too_large_or_no_rtsp_is_refused() {
        let mut d = Decoder::new(100);
        d.handle_bytes(&[b'A'; 101]);
        assert_eq!(d.poll(), Err(DecodeError::TooLarge { limit: 100 }));
        let mut d = Decoder::new(100);
        d.handle_bytes(b"PLAY * RTSP/1.0\r\nContent-Length: 90\r\n\r\n");
        assert_eq!(d.poll(), Err(DecodeError::TooLarge { limit: 100 }));
        let mut d = Decoder::new(100);
        d.handle_bytes(b"GET / HTTP/1.1\r\n");
        assert_eq!(d.poll(), Err(DecodeError::NotRtsp));
        let mut d = Decoder::new(100);
        d.handle_bytes(b"PLAY * RTSP/1.0\r\nContent-Length: -1\r\n\r\n");
        assert_eq!(d.poll(), Err(DecodeError::BadLength));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_grow(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut d = Decoder::new(256);
            for chunk in bytes.chunks(97) {
                d.handle_bytes(chunk);
                loop {
                    match d.poll() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
                prop_assert!(d.buffer.len() <= 65_539 + 97);
            }
        }
    }
}
