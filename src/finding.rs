//! Finding the stream that someone means.

use crate::failure::{Failure, nearest};
use capture::CaptureTime;
use reconstruct::footage::{Footage, FootageError, Selector, StreamInfo};
use crate::times;

impl From<FootageError> for Failure {
    fn from(error: FootageError) -> Self {
        Self::failed(error)
    }
}

/// The one stream that goes by this id or name. A camera's name does when the camera has a single track.
pub fn one_stream(footage: &Footage, wanted: &str) -> Result<StreamInfo, Failure> {
    let mut found = footage.select(&Selector::named(wanted))?;
    if let Some(exact) = found.iter().position(|s| s.name == wanted || s.id.0.to_string() == wanted) {
        return Ok(found.swap_remove(exact));
    }
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => Err(unknown(footage, wanted)?),
        _ => {
            let names: Vec<&str> = found.iter().map(|s| s.name.as_str()).collect();
            Err(Failure::failed(format_args!("`{wanted}` has several streams")).next(format_args!("name one of {}", names.join(", "))))
        }
    }
}

fn unknown(footage: &Footage, wanted: &str) -> Result<Failure, Failure> {
    let all = footage.streams()?;
    let known = all.iter().flat_map(|s| [s.name.as_str(), s.own_name.as_str()]);
    let mut likely = nearest(wanted, known);
    likely.dedup();
    let failure = Failure::failed(format_args!("there is no stream `{wanted}` in this store"));
    Ok(match (likely.is_empty(), all.len()) {
        (false, _) => failure.next(format_args!("did you mean {}?", likely.join(", "))),
        (true, 0) => failure.next("the store has no streams at all"),
        (true, _) => failure.next("`tapdeck streams` lists them"),
    })
}

/// Refuses a range in which a stream has nothing, and says what it has.
pub fn check_range(stream: &StreamInfo, (from, to): (CaptureTime, CaptureTime)) -> Result<(), Failure> {
    let (Some(first), Some(last)) = (stream.first, stream.last) else {
        return Err(Failure::failed(format_args!("{} has no footage left", stream.name)).next("retention has deleted it"));
    };
    match first < to && last >= from {
        true => Ok(()),
        false => Err(Failure::failed(format_args!("{} has no footage in that time", stream.name)).next(format_args!(
            "it reaches from {} to {}",
            times::short(first),
            times::short(last)
        ))),
    }
}
