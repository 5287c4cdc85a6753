//! What the server answers: status lines, headers and bodies as bytes.
//!
//! Owns the status codes that the server uses (RFC 2326, section 11) and the form of a response. A reason phrase says what
//! is wrong and what to do next, because it is all that ffmpeg, GStreamer and most VMSs show of an error.

use std::fmt::Write;

/// A status code with its standard reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16, pub &'static str);

impl Status {
    /// 200
    pub const OK: Self = Self(200, "OK");
    /// 400
    pub const BAD_REQUEST: Self = Self(400, "Bad Request");
    /// 404
    pub const NOT_FOUND: Self = Self(404, "Not Found");
    /// 406
    pub const NOT_ACCEPTABLE: Self = Self(406, "Not Acceptable");
    /// 451
    pub const PARAMETER_NOT_UNDERSTOOD: Self = Self(451, "Parameter Not Understood");
    /// 454
    pub const SESSION_NOT_FOUND: Self = Self(454, "Session Not Found");
    /// 455
    pub const NOT_VALID_IN_STATE: Self = Self(455, "Method Not Valid in This State");
    /// 457
    pub const INVALID_RANGE: Self = Self(457, "Invalid Range");
    /// 459
    pub const AGGREGATE_NOT_ALLOWED: Self = Self(459, "Aggregate Operation Not Allowed");
    /// 461
    pub const UNSUPPORTED_TRANSPORT: Self = Self(461, "Unsupported Transport");
    /// 500
    pub const INTERNAL: Self = Self(500, "Internal Server Error");
    /// 501
    pub const NOT_IMPLEMENTED: Self = Self(501, "Not Implemented");
    /// 503
    pub const UNAVAILABLE: Self = Self(503, "Service Unavailable");
    /// 505
    pub const VERSION: Self = Self(505, "RTSP Version Not Supported");
    /// 551
    pub const OPTION_NOT_SUPPORTED: Self = Self(551, "Option Not Supported");
}

/// A refusal: the status, and the sentence that a user reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: Status,
    /// What is wrong and what to do, in place of the standard reason.
    pub reason: String,
}

impl Refusal {
    /// With a sentence of its own.
    pub fn new(status: Status, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::new(status, "")
    }
}

/// A response under construction.
#[derive(Clone, Debug)]
pub struct Response {
    status: Status,
    reason: String,
    headers: Vec<(&'static str, String)>,
    body: Option<(&'static str, String)>,
}

impl Response {
    /// An empty response.
    pub fn new(status: Status) -> Self {
        Self { status, reason: String::new(), headers: Vec::new(), body: None }
    }

    /// A refusal as a response.
    pub fn refusal(refusal: Refusal) -> Self {
        Self { reason: refusal.reason, ..Self::new(refusal.status) }
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a body; `Content-Type` and `Content-Length` are set.
    pub fn body(mut self, content_type: &'static str, body: String) -> Self {
        self.body = Some((content_type, body));
        self
    }

    /// The bytes to send. `cseq` is the request's, verbatim.
    pub fn write(&self, cseq: Option<&str>) -> Vec<u8> {
        let mut out = String::with_capacity(256 + self.body.as_ref().map_or(0, |b| b.1.len()));
        let reason = if self.reason.is_empty() { self.status.1 } else { &self.reason };
        let _ = write!(out, "RTSP/1.0 {} {}\r\n", self.status.0, one_line(reason));
        if let Some(cseq) = cseq {
            let _ = write!(out, "CSeq: {}\r\n", one_line(cseq));
        }
        let _ = write!(out, "Server: tapdeck/{}\r\n", env!("CARGO_PKG_VERSION"));
        for (name, value) in &self.headers {
            let _ = write!(out, "{name}: {}\r\n", one_line(value));
        }
        if let Some((content_type, body)) = &self.body {
            let _ = write!(out, "Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
        }
        out.push_str("\r\n");
        if let Some((_, body)) = &self.body {
            out.push_str(body);
        }
        out.into_bytes()
    }
}

/// Nothing that a client sent may break out of its line; long values are cut.
fn one_line(value: &str) -> String {
    value.chars().map(|c| if c.is_control() { ' ' } else { c }).take(4096).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_stays_in_its_lines() {
        let r = Response::refusal(Refusal::new(Status::NOT_FOUND, "no 'a\r\nX: y'")).header("Public", "PLAY");
        let text = String::from_utf8(r.write(Some("7"))).expect("text");
        assert!(text.starts_with("RTSP/1.0 404 no 'a  X: y'\r\nCSeq: 7\r\nServer: tapdeck/"), "{text}");
        assert!(text.ends_with("Public: PLAY\r\n\r\n"));
        let ok = Response::new(Status::OK).body("application/sdp", "v=0\r\n".into()).write(None);
        assert!(ok.ends_with(b"Content-Length: 5\r\n\r\nv=0\r\n"));
    }
}
