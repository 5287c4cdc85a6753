//! Giving streams and cameras names that last. A name is a record of the journal, so it survives `reindex`.

use crate::failure::Failure;
use crate::finding;
use capture::JournalRecord;
use reconstruct::footage::{Footage, StreamInfo};
use reconstruct::model::{NAME_LEN_MAX, sanitise};

/// The record that gives `name` to the stream, presentation or camera that goes by `wanted`.
pub fn record(footage: &Footage, wanted: &str, name: &str) -> Result<JournalRecord, Failure> {
    check(name)?;
    let streams = footage.streams()?;
    let names = footage.store().names();
    let Some(own) = own_name(&streams, |own| names.get(own).map(String::as_str), wanted) else {
        return Err(finding::unknown(&streams, wanted));
    };
    let taken =
        streams.iter().flat_map(|s| [&s.own_name, &s.camera, &s.presentation]).any(|other| other == name)
            || names.iter().any(|(other, given)| given == name && *other != own);
    if taken && own != name {
        return Err(Failure::failed(format_args!("the name `{name}` is taken")).next("choose another one"));
    }
    Ok(JournalRecord::Named { stream: own, name: name.to_owned() })
}

fn check(name: &str) -> Result<(), Failure> {
    let refused = |why: &str, instead: &str| {
        Err(Failure::usage(format_args!("`{name}` can't be a name: {why}")).next(instead))
    };
    if name.len() > NAME_LEN_MAX {
        return refused("it is too long", &format!("use at most {NAME_LEN_MAX} bytes"));
    }
    if name.is_empty() || sanitise(name) != name {
        let better = sanitise(name);
        let instead =
            if better.is_empty() { "use letters and digits".to_owned() } else { format!("use `{better}`") };
        return refused(
            "it is used as an RTSP path, so it has letters, digits, `.`, `_` and `-` only",
            &instead,
        );
    }
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return refused("a number alone is a stream's id", "add a letter");
    }
    Ok(())
}

/// What the journal knows it by: a stream first, then all tracks of a description, then a camera.
fn own_name<'a>(
    streams: &[StreamInfo],
    given: impl Fn(&str) -> Option<&'a str>,
    wanted: &str,
) -> Option<String> {
    let by_stream =
        |s: &&StreamInfo| s.name == wanted || s.own_name == wanted || s.id.0.to_string() == wanted;
    if let Some(stream) = streams.iter().find(by_stream) {
        return Some(stream.own_name.clone());
    }
    let goes_by = |own: &&String| *own == wanted || given(own) == Some(wanted);
    let presentation = streams.iter().map(|s| &s.presentation).find(goes_by);
    presentation.or_else(|| streams.iter().map(|s| &s.camera).find(goes_by)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_must_do_as_rtsp_paths() {
        for good in ["entrance", "door-2", "cam.1_b"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "a?b", "..", "12", "x".repeat(200).as_str()] {
            assert_eq!(check(bad).unwrap_err().status(), 2, "{bad}");
        }
    }
}
