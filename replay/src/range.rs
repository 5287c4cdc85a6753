//! The `Range` header in its npt and clock forms (RFC 2326, sections 3.6, 3.7 and 12.29).

use capture::CaptureTime;
use jiff::Timestamp;

/// What a client asks to be played. Times are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Relative to the start of the window.
    Npt {
        /// Where to start.
        start: NptStart,
        /// Where to stop, in nanoseconds; `None`: at the end of the window.
        end_ns: Option<i64>,
    },
    /// By capture time.
    Clock {
        /// Where to start.
        start: CaptureTime,
        /// Where to stop.
        end: Option<CaptureTime>,
    },
}

/// The first half of an npt range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NptStart {
    /// `now`, or nothing: go on from where the session stands.
    Here,
    /// At a time, in nanoseconds.
    At(i64),
}

/// Why a `Range` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// The unit is known, the value makes no sense: 457.
    Invalid,
    /// SMPTE or another unit: 501 (RFC 2326, section 12.29).
    UnknownUnit,
}

const SECOND_NS: i64 = 1_000_000_000;
const NS_PER_MS: i64 = 1_000_000;

/// Reads the header.
pub fn parse(header: &str) -> Result<Range, RangeError> {
    let value = header.split(';').next().unwrap_or_default().trim();
    let (unit, value) = value.split_once('=').ok_or(RangeError::Invalid)?;
    let (start, end) = value.split_once('-').ok_or(RangeError::Invalid)?;
    let (start, end) = (start.trim(), end.trim());
    match unit.trim().to_ascii_lowercase().as_str() {
        "npt" => {
            let start = match start {
                "" | "now" => NptStart::Here,
                s => NptStart::At(npt(s).ok_or(RangeError::Invalid)?),
            };
            let end_ns = match end {
                "" => None,
                e => Some(npt(e).ok_or(RangeError::Invalid)?),
            };
            if let (NptStart::At(s), Some(e)) = (start, end_ns)
                && e < s
            {
                return Err(RangeError::Invalid);
            }
            Ok(Range::Npt { start, end_ns })
        }
        "clock" => {
            let start = clock(start).ok_or(RangeError::Invalid)?;
            let end = if end.is_empty() { None } else { Some(clock(end).ok_or(RangeError::Invalid)?) };
            if end.is_some_and(|e| e < start) {
                return Err(RangeError::Invalid);
            }
            Ok(Range::Clock { start, end })
        }
        _ => Err(RangeError::UnknownUnit),
    }
}

/// `12.5` or `h:mm:ss.f` in nanoseconds.
fn npt(s: &str) -> Option<i64> {
    let mut seconds = 0i64;
    let mut parts = s.split(':').peekable();
    if s.split(':').count() > 3 {
        return None;
    }
    let mut fraction = 0;
    while let Some(part) = parts.next() {
        let whole = match part.split_once('.') {
            Some((whole, digits)) if parts.peek().is_none() => {
                fraction = fraction_ns(digits)?;
                whole
            }
            _ => part,
        };
        if whole.is_empty() || !whole.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        seconds = seconds.checked_mul(60)?.checked_add(whole.parse().ok()?)?;
    }
    seconds.checked_mul(SECOND_NS)?.checked_add(fraction)
}

/// Digits behind a decimal point in nanoseconds; what is finer is cut.
pub(crate) fn fraction_ns(digits: &str) -> Option<i64> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nine: String = digits.chars().chain("000000000".chars()).take(9).collect();
    nine.parse().ok()
}

/// `YYYYMMDDThhmmss[.f]Z`.
fn clock(s: &str) -> Option<CaptureTime> {
    let t: Timestamp = s.parse().ok()?;
    i64::try_from(t.as_nanosecond()).ok().map(CaptureTime::from_nanos)
}

/// Seconds with milliseconds, as in `npt=12.345-`. Rounded up: who asks again for the start that a reply named would otherwise
/// ask for a moment before that clean point, and get a whole group of pictures more; and an end that is cut is 0 for the shortest window.
pub fn format_npt(ns: i64) -> String {
    let ms = ns.max(0).unsigned_abs().div_ceil(NS_PER_MS.unsigned_abs());
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// As in `clock=20260102T030405.678Z-`, rounded up as [`format_npt`] does.
pub fn format_clock(time: CaptureTime) -> String {
    let up = (NS_PER_MS - time.nanos().rem_euclid(NS_PER_MS)) % NS_PER_MS;
    match Timestamp::from_nanosecond(i128::from(time.nanos()) + i128::from(up)) {
        Ok(t) => t.strftime("%Y%m%dT%H%M%S.%3fZ").to_string(),
        Err(_) => "19700101T000000Z".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        let at = |start, end_ns| Ok(Range::Npt { start, end_ns });
        let table = [
            ("npt=0.000-", at(NptStart::At(0), None)),
            ("npt=12.5-20", at(NptStart::At(12_500_000_000), Some(20 * SECOND_NS))),
            ("npt=now-", at(NptStart::Here, None)),
            ("npt=-30", at(NptStart::Here, Some(30 * SECOND_NS))),
            ("npt=1:02:03.25-;time=19970123T143720Z", at(NptStart::At(3_723_250_000_000), None)),
            ("npt=5-4", Err(RangeError::Invalid)),
            ("npt=abc-", Err(RangeError::Invalid)),
            ("npt=1.2.3-", Err(RangeError::Invalid)),
            ("npt=99999999999999999999-", Err(RangeError::Invalid)),
            ("npt=1:1:1:1-", Err(RangeError::Invalid)),
            ("npt=", Err(RangeError::Invalid)),
            ("smpte=10:07:33-", Err(RangeError::UnknownUnit)),
            ("", Err(RangeError::Invalid)),
        ];
        for (header, expected) in table {
            assert_eq!(parse(header), expected, "{header}");
        }
        let t = CaptureTime::from_nanos(847_463_580_250_000_000);
        assert_eq!(format_clock(t), "19961108T143300.250Z");
        assert_eq!(parse("clock=19961108T143300.25Z-"), Ok(Range::Clock { start: t, end: None }));
        assert_eq!(
            parse(&format!("clock={}-{}", format_clock(t), format_clock(t))),
            Ok(Range::Clock { start: t, end: Some(t) })
        );
        assert_eq!(parse("clock=20269999T000000Z-"), Err(RangeError::Invalid));
    }

    #[test]
    fn what_a_reply_says_is_not_before_what_it_means() {
        for (ns, said) in [(0, "0.000"), (1, "0.001"), (12_345_000_000, "12.345"), (12_345_678_901, "12.346")]
        {
            assert_eq!(format_npt(ns), said);
            let Ok(Range::Npt { start: NptStart::At(again), .. }) = parse(&format!("npt={said}-")) else {
                panic!("{said} can't be read")
            };
            assert!((ns..ns + NS_PER_MS).contains(&again), "{ns}: {again}");
            let moment = CaptureTime::from_nanos(847_463_580_999_000_000 + ns);
            let clock = format_clock(moment);
            let Ok(Range::Clock { start, .. }) = parse(&format!("clock={clock}-")) else {
                panic!("{clock} can't be read")
            };
            assert!((0..NS_PER_MS).contains(&start.nanos_since(moment)), "{clock}");
        }
    }
}
