//! Failure detection: which VMS stopped listening, which camera stopped sending.
//!
//! Owns the decision, made from counters that the recorder samples once a second. It is pure: observations and `now` in,
//! events out, no clock and no socket. **Take-over is not here yet**: nothing in this crate sends anything to a camera or
//! a VMS; a failure becomes an event that the recorder shows.
//!
//! Costs about 200 bytes a session that is watched, at most [`detector::MAX_SESSIONS`] of them.

#![forbid(unsafe_code)]

pub mod detector;
pub mod event;
mod watch;

pub use detector::{Detector, Observation, Thresholds};
pub use event::{Event, EventKind, SessionKey};
