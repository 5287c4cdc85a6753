//! From what a URL asks for to what can be played: tracks and a window of time, or the sentence that says why not.
//!
//! Owns the rules: a URL without times is live while somebody records the stream; on a store that nobody writes
//! it is everything that was recorded, so that a file that was just imported plays by its name. A window is cut to what
//! there is, so that its length is one that can be shown, and begins with the packet that is sent first. Lookups read the
//! index: they run on the blocking pool.

use crate::config::Config;
use crate::response::{Refusal, Status};
use crate::source::{MediaKind, Source, SourceError, StartAt, TrackInfo};
use crate::target::Target;
use capture::CaptureTime;

/// The time that a presentation covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// From now on.
    Live,
    /// npt 0 is `from`; `to` is later than `from`.
    Recorded {
        /// Start: the clean point that `asked` is played from. npt can't be negative (RFC 2326, section 3.6), so npt 0 must not lie
        /// behind a packet that is sent.
        from: CaptureTime,
        /// The start that was asked for, cut to what there is. Not before `from`; what lies between is pre-roll.
        asked: CaptureTime,
        /// End, included.
        to: CaptureTime,
    },
}

impl Window {
    /// Length in nanoseconds, for a recorded window.
    pub fn length_ns(self) -> Option<i64> {
        match self {
            Self::Live => None,
            Self::Recorded { from, to, .. } => Some(to.nanos_since(from)),
        }
    }
}

/// What one URL stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presentation {
    /// What it is called in the description.
    pub name: String,
    /// Path and query, for `tapdeck status`.
    pub label: String,
    /// At least one track.
    pub tracks: Vec<TrackInfo>,
    /// Its time.
    pub window: Window,
}

/// The shortest window: VLC seeks only in a range whose end is greater than 0.
const WINDOW_NS_MIN: i64 = 1_000_000;

/// Finds what `target` asks for. Blocks on the index.
pub fn look_up(
    source: &dyn Source,
    target: &Target,
    now: CaptureTime,
    config: &Config,
) -> Result<Presentation, Refusal> {
    let failed = |e: SourceError| {
        tracing::warn!(error = %e, url = target.base, "lookup failed");
        Refusal::new(Status::INTERNAL, e.to_string())
    };
    let mut tracks = source.find(&target.selection).map_err(failed)?;
    if tracks.is_empty() {
        return Err(nothing_matches(target));
    }
    let live_wanted = target.from.is_none() && target.to.is_none() && source.records();
    let window = if live_wanted {
        live_window(&mut tracks, now, config)?
    } else {
        let (asked, to) = recorded_range(&mut tracks, target, now)?;
        let played = &tracks[..tracks.len().min(config.tracks_max)];
        Window::Recorded { from: first_sent(source, played, asked, to).map_err(failed)?, asked, to }
    };
    if tracks.len() > config.tracks_max {
        tracing::warn!(
            url = target.base,
            tracks = tracks.len(),
            "more tracks than one presentation may have"
        );
        tracks.truncate(config.tracks_max);
    }
    let name = match (&tracks[..], &target.selection.name) {
        ([only], _) => only.name.clone(),
        (_, Some(name)) => name.clone(),
        ([first, ..], None) => first.camera.clone(),
        ([], None) => String::new(),
    };
    Ok(Presentation { name, label: target.label.clone(), tracks, window })
}

fn nothing_matches(target: &Target) -> Refusal {
    let s = &target.selection;
    let mut what = Vec::new();
    if let Some(name) = &s.name {
        what.push(format!("no stream or camera is called '{name}'"));
    }
    if let Some(id) = &s.id {
        what.push(format!("no stream has the id '{id}'"));
    }
    if let Some(source) = &s.source {
        what.push(format!("no stream comes from {source}"));
    }
    if let Some(codec) = &s.codec {
        what.push(format!("no stream is '{codec}'"));
    }
    let joined = if what.len() > 1 { "nothing matches all conditions" } else { &what[0] };
    Refusal::new(Status::NOT_FOUND, format!("{joined}; 'tapdeck streams' lists what there is"))
}

fn live_window(tracks: &mut Vec<TrackInfo>, now: CaptureTime, config: &Config) -> Result<Window, Refusal> {
    let last = tracks.iter().map(|t| t.last).max().unwrap_or(CaptureTime::MIN);
    let oldest = now.minus(config.live_age_max);
    if last < oldest {
        let reason = format!("no packets since {}: add ?from=TIME to play what was recorded", display(last));
        return Err(Refusal::new(Status::UNAVAILABLE, reason));
    }
    tracks.retain(|t| t.last >= oldest);
    Ok(Window::Live)
}

/// What is asked for, cut to what there is.
fn recorded_range(
    tracks: &mut Vec<TrackInfo>,
    target: &Target,
    now: CaptureTime,
) -> Result<(CaptureTime, CaptureTime), Refusal> {
    let asked_from = target.from.map_or(CaptureTime::MIN, |t| t.resolve(now));
    let asked_to = target.to.map_or(CaptureTime::MAX, |t| t.resolve(now));
    if asked_from > asked_to {
        return Err(Refusal::new(Status::BAD_REQUEST, "from is later than to"));
    }
    let first = tracks.iter().map(|t| t.first).min().unwrap_or(CaptureTime::MAX);
    let last = tracks.iter().map(|t| t.last).max().unwrap_or(CaptureTime::MIN);
    tracks.retain(|t| t.first <= asked_to && t.last >= asked_from);
    if tracks.is_empty() {
        let reason =
            format!("nothing of that time: it was recorded from {} to {}", display(first), display(last));
        return Err(Refusal::new(Status::NOT_FOUND, reason));
    }
    let first = tracks.iter().map(|t| t.first).min().unwrap_or(first);
    let last = tracks.iter().map(|t| t.last).max().unwrap_or(last);
    let from = asked_from.max(first);
    let shortest = CaptureTime::from_nanos(from.nanos().saturating_add(WINDOW_NS_MIN));
    Ok((from, asked_to.min(last).max(shortest)))
}

/// The earliest packet that a PLAY of `asked` sends. Everything but pictures begins with the pictures.
fn first_sent(
    source: &dyn Source,
    tracks: &[TrackInfo],
    asked: CaptureTime,
    to: CaptureTime,
) -> Result<CaptureTime, SourceError> {
    let mut first = asked;
    for track in tracks.iter().filter(|t| t.media == MediaKind::Video && t.first < asked) {
        if let Some(packet) = source.reader(track.id, asked, to, StartAt::CleanPointBefore)?.next()? {
            first = first.min(packet.time);
        }
    }
    Ok(first)
}

fn display(t: CaptureTime) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(t.nanos())) {
        Ok(t) => t.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        Err(_) => t.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{SyntheticSource, track};

    fn t(s: i64) -> CaptureTime {
        CaptureTime::from_secs_nanos(s, 0)
    }

    /// As these have no packets, no clean point lies before the start.
    fn recorded(from: i64, to: i64) -> Window {
        Window::Recorded { from: t(from), asked: t(from), to: t(to) }
    }

    fn ask(source: &SyntheticSource, url: &str) -> Result<Presentation, Refusal> {
        let target = Target::parse(url).expect("url");
        look_up(source, &target, t(10_000), &Config::default())
    }

    fn store() -> SyntheticSource {
        let tracks = vec![track(1, "cam-video", "cam", 1000, 2000), track(2, "cam-audio", "cam", 1500, 2500)];
        SyntheticSource { tracks, ..SyntheticSource::default() }
    }

    #[test]
    fn a_store_that_nobody_writes_plays_everything() {
        let p = ask(&store(), "rtsp://h/cam").expect("plays");
        assert_eq!((p.tracks.len(), p.window), (2, recorded(1000, 2500)));
        let p = ask(&store(), "rtsp://h/cam-video").expect("plays");
        assert_eq!((p.name.as_str(), p.window.length_ns()), ("cam-video", Some(1_000_000_000_000)));
    }

    #[test]
    fn windows_are_cut_to_what_there_is() {
        let p = ask(&store(), "rtsp://h/cam?from=500&to=1200").expect("plays");
        assert_eq!((p.tracks.len(), p.window), (1, recorded(1000, 1200)));
        let p = ask(&store(), "rtsp://h/cam?from=-8200s").expect("plays");
        assert_eq!(p.window, recorded(1800, 2500));
        let p = ask(&store(), "rtsp://h/cam?from=2500&to=2500").expect("plays");
        assert_eq!(p.window.length_ns(), Some(WINDOW_NS_MIN));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let mut recording = store();
        recording.records = true;
        for (source, url, status, says) in [
            (&store(), "rtsp://h/nix", 404, "no stream or camera is called 'nix'; 'tapdeck streams'"),
            (&store(), "rtsp://h/?codec=av1", 404, "no stream is 'av1'"),
            (&store(), "rtsp://h/cam?codec=av1", 404, "nothing matches all"),
            (&store(), "rtsp://h/cam?from=3000", 404, "recorded from 1970-01-01T00:16:40.000Z to"),
            (&store(), "rtsp://h/cam?from=3&to=2", 400, "later"),
            (&recording, "rtsp://h/cam", 503, "add ?from="),
        ] {
            let e = ask(source, url).expect_err(url);
            assert_eq!(e.status.0, status, "{url}");
            assert!(e.reason.contains(says), "{url}: {}", e.reason);
        }
    }

    #[test]
    fn live_takes_the_tracks_that_come_in_now() {
        let mut s = store();
        s.records = true;
        s.tracks[0].last = t(9_999);
        let p = ask(&s, "rtsp://h/cam").expect("live");
        assert_eq!((p.tracks.len(), p.window), (1, Window::Live));
    }
}
