//! Which response answers which request.
//!
//! Owns the requests that wait for an answer, in both directions of a connection. A response belongs to the request with its
//! CSeq; when no request has it, to the oldest that waits, since RTSP answers in order (RFC 2326 section 12.17) and cameras
//! answer rejected keep-alives with a wrong number. After a hole in the requests' direction, only the number counts.
//! Refuses: more than [`MAX_WAITING`] requests that wait; the oldest is then told without a response.
//! Costs: a search in at most [`MAX_WAITING`] requests for each response.

use std::collections::VecDeque;

use capture::CaptureTime;
use serde::{Deserialize, Serialize};

use super::message::{CSeq, Message};

/// Requests of one direction that wait for their answers.
pub const MAX_WAITING: usize = 32;
/// Responses that came before their requests (the two directions of a connection can be captured out of order).
const MAX_EARLY: usize = 4;
/// How far the two directions can be apart, in nanoseconds.
pub const SKEW_NS: i64 = 1_000_000_000;

/// A message with its capture time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timed {
    pub(super) time: CaptureTime,
    pub(super) message: Message,
}

/// A request, a response, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) request: Option<Timed>,
    pub(super) response: Option<Timed>,
}

/// The requests of one end and the responses of the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pairing {
    /// In the order in which they were sent.
    waiting: VecDeque<Timed>,
    /// Answers whose requests were not there yet; they were told already.
    early: VecDeque<Timed>,
    /// Requests may have been missed since the last pair.
    holed: bool,
}

impl Pairing {
    /// A request. What is given back are requests that will not be answered any more, and a pair if the answer was early.
    pub(super) fn handle_request(&mut self, request: Timed) -> Option<Pair> {
        let cseq = request.message.cseq();
        let early = self.early.iter().position(|r| {
            cseq.is_some() && r.message.cseq() == cseq && request.time.nanos_since(r.time).abs() <= SKEW_NS
        });
        if let Some(response) = early.and_then(|at| self.early.remove(at)) {
            return Some(Pair { request: Some(request), response: Some(response) });
        }
        self.waiting.push_back(request);
        if self.waiting.len() > MAX_WAITING {
            return self.waiting.pop_front().map(unanswered);
        }
        None
    }

    /// A final response. Requests that were passed over are given as unanswered before the pair.
    pub(super) fn handle_response(&mut self, response: Timed, told: &mut impl FnMut(Pair)) {
        match self.request_of(response.message.cseq()) {
            Some(at) => {
                for request in self.waiting.drain(..at) {
                    told(unanswered(request));
                }
                self.holed = false;
                told(Pair { request: self.waiting.pop_front(), response: Some(response) });
            }
            None => {
                if self.early.len() == MAX_EARLY {
                    self.early.pop_front();
                }
                self.early.push_back(response.clone());
                told(Pair { request: None, response: Some(response) });
            }
        }
    }

    fn request_of(&self, cseq: Option<CSeq>) -> Option<usize> {
        let same = self.waiting.iter().position(|r| cseq.is_some() && r.message.cseq() == cseq);
        let by_order = || (!self.holed && !self.waiting.is_empty()).then_some(0);
        same.or_else(by_order)
    }

    /// Bytes of the requests' direction are missing.
    pub(super) fn handle_hole(&mut self) {
        self.holed = true;
    }

    /// The connection is over: everything that still waits.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Pair> {
        self.early.clear();
        self.waiting.drain(..).map(unanswered)
    }
}

fn unanswered(request: Timed) -> Pair {
    Pair { request: Some(request), response: None }
}
