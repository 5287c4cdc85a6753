//! Finding the stream that someone means.

use crate::failure::{Failure, nearest};
use crate::times;
use capture::CaptureTime;
use reconstruct::footage::{Footage, FootageError, Selector, StreamInfo};

impl From<FootageError> for Failure {
    fn from(error: FootageError) -> Self {
        Self::failed(error)
    }
}

/// The one stream that goes by this id or name. A camera's name does when the camera has a single track.
pub fn one_stream(footage: &Footage, wanted: &str) -> Result<StreamInfo, Failure> {
    let mut found = footage.select(&Selector::named(wanted))?;
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => Err(unknown(&footage.streams()?, wanted)),
        _ => {
            let names: Vec<&str> = found.iter().map(|s| s.name.as_str()).collect();
            let names = names.join(", ");
            Err(Failure::failed(format_args!("`{wanted}` has several streams"))
                .next(format_args!("name one of {names}")))
        }
    }
}

/// There is no such stream, but perhaps one that is spelt nearly so.
pub fn unknown(streams: &[StreamInfo], wanted: &str) -> Failure {
    let known = streams.iter().flat_map(|s| [s.name.as_str(), s.own_name.as_str(), s.camera.as_str()]);
    let mut likely = nearest(wanted, known);
    likely.dedup();
    let failure = Failure::failed(format_args!("there is no stream `{wanted}` in this store"));
    match (likely.is_empty(), streams.is_empty()) {
        (false, _) => {
            failure.next(format_args!("did you mean {}? `tapdeck streams` lists all", likely.join(" or ")))
        }
        (true, true) => failure.next("it has no streams at all"),
        (true, false) => failure.next("`tapdeck streams` lists all"),
    }
}

/// Refuses a range in which a stream has nothing, and says what it has.
pub fn check_range(stream: &StreamInfo, (from, to): (CaptureTime, CaptureTime)) -> Result<(), Failure> {
    let (Some(first), Some(last)) = (stream.first, stream.last) else {
        let failure = Failure::failed(format_args!("{} has no footage left", stream.name));
        return Err(failure.next("retention has deleted it"));
    };
    if first <= to && last >= from {
        return Ok(());
    }
    let failure = Failure::failed(format_args!("{} has no footage in that time", stream.name));
    Err(failure.next(format_args!("it reaches from {} to {}", times::short(first), times::short(last))))
}
