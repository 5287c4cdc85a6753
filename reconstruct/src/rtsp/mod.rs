//! RTSP dialogues, overheard.
//!
//! Owns messages, the pairing of requests with responses, and what a dialogue says about media: described, set up, playing,
//! ended. Refuses to speak: nothing here makes a message.

mod dialogue;
mod event;
pub mod headers;
pub mod message;
mod pairing;
mod reader;
mod reading;
pub mod uri;

pub use dialogue::{Closed, Dialogue};
pub use event::{
    Described, End, Ended, EndedHow, Event, Evidence, Exchange, Playing, RtpInfo, SessionAt, TrackSetUp,
    Transport,
};
pub use message::{CSeq, Message, Method, Parsed, leading_blank, looks_like_rtsp, parse};
pub use reader::{MAX_BUFFERED, MessageReader};
pub use uri::{NormalUri, normalise_control_uri, resolve};
