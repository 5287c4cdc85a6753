//! Times as people give them and read them: RFC 3339, `now`, or relative to now (`-10m`).
//!
//! Only capture time passes through here. Output is always RFC 3339 in UTC, so that what a command prints can be given
//! to the next one as it is.

use capture::CaptureTime;
use std::time::{Duration, SystemTime};
use thiserror::Error;

/// Why a text is no time.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TimeError {
    /// Neither RFC 3339 nor relative.
    #[error(
        "`{0}` is not a time: give RFC 3339 with its zone (2026-11-21T14:30:00Z, 2026-11-21T15:30:00+01:00) or relative to now (-10m, -1h30m, now)"
    )]
    Unreadable(String),
    /// A form that names no instant at all, such as 31 February.
    #[error("`{text}` is not a possible time: {why}")]
    Impossible {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The interval ends before it begins.
    #[error("the time range is empty: --from {from} is not before --to {to}")]
    Empty {
        /// RFC 3339.
        from: String,
        /// RFC 3339.
        to: String,
    },
}

/// The recorder's clock, now.
pub fn now() -> CaptureTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    CaptureTime::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// One time as given on the command line; `now` is what relative times are relative to.
pub fn parse(text: &str, now: CaptureTime) -> Result<CaptureTime, TimeError> {
    let trimmed = text.trim();
    if trimmed == "now" {
        return Ok(now);
    }
    if let Some(ago) = trimmed.strip_prefix('-') {
        return Ok(now.minus(parse_duration(ago).ok_or_else(|| TimeError::Unreadable(text.to_owned()))?));
    }
    if let Some(ahead) = trimmed.strip_prefix('+') {
        return Ok(now.plus(parse_duration(ahead).ok_or_else(|| TimeError::Unreadable(text.to_owned()))?));
    }
    let looks_like_a_date = trimmed.len() >= 10
        && trimmed.as_bytes()[4] == b'-'
        && trimmed.as_bytes()[..4].iter().all(u8::is_ascii_digit);
    const REACH: &str = "capture times reach from the year 1678 to 2262";
    let timestamp: jiff::Timestamp = trimmed.parse().map_err(|error: jiff::Error| {
        let has_zone =
            trimmed.ends_with(['Z', 'z']) || trimmed.get(10..).is_some_and(|t| t.contains(['+', '-']));
        match looks_like_a_date && has_zone {
            // The last hours of 9999, too, which no instant can be counted to.
            true if trimmed.starts_with("9999-") => {
                TimeError::Impossible { text: text.to_owned(), why: REACH.to_owned() }
            }
            true => TimeError::Impossible { text: text.to_owned(), why: error.to_string() },
            false => TimeError::Unreadable(text.to_owned()),
        }
    })?;
    match i64::try_from(timestamp.as_nanosecond()) {
        Ok(nanos) => Ok(CaptureTime::from_nanos(nanos)),
        Err(_) => Err(TimeError::Impossible { text: text.to_owned(), why: REACH.to_owned() }),
    }
}

/// `--from` and `--to` together; what is left out is unbounded.
pub fn parse_range(
    from: Option<&str>,
    to: Option<&str>,
    now: CaptureTime,
) -> Result<(CaptureTime, CaptureTime), TimeError> {
    let from = from.map(|text| parse(text, now)).transpose()?.unwrap_or(CaptureTime::MIN);
    let to = to.map(|text| parse(text, now)).transpose()?.unwrap_or(CaptureTime::MAX);
    if from > to {
        return Err(TimeError::Empty { from: rfc3339(from), to: rfc3339(to) });
    }
    Ok((from, to))
}

/// `90s`, `10m`, `1h30m`, `2d`, `500ms`: at least one number with its unit, nothing else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, tail) = rest.split_at(unit_len);
        let piece = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" | "min" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3_600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            "w" => Duration::from_secs(number.checked_mul(604_800)?),
            _ => return None,
        };
        total = total.checked_add(piece)?;
        rest = tail;
    }
    Some(total)
}

/// RFC 3339 in UTC with all nanoseconds: for JSON.
pub fn rfc3339(time: CaptureTime) -> String {
    format_with(time, 9)
}

/// RFC 3339 in UTC with milliseconds: for tables.
pub fn short(time: CaptureTime) -> String {
    format_with(time, 3)
}

fn format_with(time: CaptureTime, digits: i16) -> String {
    if time == CaptureTime::MIN {
        return "the beginning".to_owned();
    }
    match jiff::Timestamp::from_nanosecond(i128::from(time.nanos())) {
        Ok(timestamp) => format!("{timestamp:.*}", usize::try_from(digits).unwrap_or(9)),
        Err(_) => "the end".to_owned(),
    }
}

/// `3 d 4 h`, `2 h 5 min`, `1 min 30 s`, `12.3 s`: how long something lasted, for people.
pub fn lasting(nanos: i64) -> String {
    let seconds = nanos.max(0) / 1_000_000_000;
    match seconds {
        86_400.. => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
        3_600.. => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        60.. => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{}.{} s", seconds, nanos.max(0) % 1_000_000_000 / 100_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: CaptureTime = CaptureTime::from_nanos(1_795_262_400_000_000_000);

    #[test]
    fn relative_times_count_from_now() {
        assert_eq!(parse("now", NOON), Ok(NOON));
        assert_eq!(parse("-10m", NOON), Ok(NOON.minus(Duration::from_secs(600))));
        assert_eq!(parse("-1h30m", NOON), Ok(NOON.minus(Duration::from_secs(5_400))));
        assert_eq!(parse("+5s", NOON), Ok(NOON.plus(Duration::from_secs(5))));
    }

    #[test]
    fn unreadable_and_impossible_times_are_told_apart() {
        for text in ["", "-", "yesterday", "10m", "-10", "-10x", "2026-11-21", "2026-11-21T14:00:00"] {
            assert!(matches!(parse(text, NOON), Err(TimeError::Unreadable(_))), "{text}");
        }
        for text in
            ["2026-02-31T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", "9000-01-01T00:00:00Z"]
        {
            assert!(matches!(parse(text, NOON), Err(TimeError::Impossible { .. })), "{text}");
        }
        for text in ["9000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
            let said = parse(text, NOON).unwrap_err().to_string();
            assert!(said.ends_with("capture times reach from the year 1678 to 2262"), "{said}");
        }
    }

    #[test]
    fn an_empty_range_is_refused() {
        assert!(matches!(parse_range(Some("now"), Some("-1s"), NOON), Err(TimeError::Empty { .. })));
        assert_eq!(parse_range(None, None, NOON), Ok((CaptureTime::MIN, CaptureTime::MAX)));
    }

    #[test]
    fn durations_read_naturally() {
        assert_eq!(lasting(12_345_000_000), "12.3 s");
        assert_eq!(lasting(90_000_000_000), "1 min 30 s");
        assert_eq!(lasting(7_500_000_000_000), "2 h 5 min");
        assert_eq!(lasting(273_600_000_000_000), "3 d 4 h");
    }

    proptest! {
        #[test]
        fn printed_times_read_back_exactly(nanos in 0i64..4_102_444_800_000_000_000) {
            let time = CaptureTime::from_nanos(nanos);
            prop_assert_eq!(parse(&rfc3339(time), NOON), Ok(time));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse(&text, NOON);
        }
    }
}
