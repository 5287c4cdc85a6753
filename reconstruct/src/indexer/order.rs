//! Whose packet is next: the taps of one source are merged by capture time, so that the two halves of a dialogue that came in on
//! two interfaces are read as it was spoken.
//!
//! Pure, and decided by the packets alone: live and when a store is indexed again the order is the same, unless a tap was
//! later than the named skew (which is counted).

use capture::CaptureTime;

/// What is known of a tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Its next packet, at this time (never earlier than its packet before).
    Packet(CaptureTime),
    /// Nothing is there now; what comes will not be earlier than this.
    Quiet(CaptureTime),
    /// Nothing will come.
    End,
}

/// Who is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This tap's packet; more of it may follow while they are not later than the time (other taps' turn is behind it).
    Take(usize, CaptureTime),
    /// A tap that is quiet may still come with something earlier.
    Wait,
    /// No tap has anything, and none will.
    End,
}

/// Decides between taps, given in the order of their numbers: the earliest packet, of equal ones the first tap's.
/// `impatient`: don't wait for quiet taps any longer.
pub fn next(heads: &[Head], impatient: bool) -> Next {
    let mut best: Option<(usize, CaptureTime)> = None;
    let mut all_ended = true;
    for (n, head) in heads.iter().enumerate() {
        all_ended &= *head == Head::End;
        if let Head::Packet(time) = head
            && best.is_none_or(|(_, earliest)| *time < earliest)
        {
            best = Some((n, *time));
        }
    }
    let Some((n, time)) = best else { return if all_ended { Next::End } else { Next::Wait } };
    let mut until = CaptureTime::MAX;
    for (m, head) in heads.iter().enumerate().filter(|(m, _)| *m != n) {
        match head {
            Head::Quiet(watermark) if !impatient => {
                if *watermark <= time {
                    return Next::Wait;
                }
                until = until.min(CaptureTime::from_nanos(watermark.nanos() - 1));
            }
            // Equal times are the lower number's.
            Head::Packet(other) => {
                let bound = if n < m { *other } else { CaptureTime::from_nanos(other.nanos() - 1) };
                until = until.min(bound);
            }
            Head::Quiet(_) | Head::End => {}
        }
    }
    Next::Take(n, until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn t(n: i64) -> CaptureTime {
        CaptureTime::from_nanos(n)
    }

    #[test]
    fn a_quiet_tap_is_waited_for_until_its_watermark_has_passed() {
        use Head::*;
        assert_eq!(next(&[Packet(t(5)), Quiet(t(5))], false), Next::Wait);
        assert_eq!(next(&[Packet(t(5)), Quiet(t(6))], false), Next::Take(0, t(5)));
        assert_eq!(next(&[Packet(t(5)), Quiet(t(0))], true), Next::Take(0, CaptureTime::MAX));
        assert_eq!(next(&[Quiet(t(9)), End], false), Next::Wait);
        assert_eq!(next(&[End, End], false), Next::End);
        assert_eq!(next(&[Packet(t(5)), Packet(t(5))], false), Next::Take(0, t(5)));
        assert_eq!(next(&[Packet(t(6)), Packet(t(5))], false), Next::Take(1, t(5)));
    }

    proptest! {
        /// However the packets of three taps become known, the order is that of a stable sort.
        #[test]
        fn the_order_does_not_depend_on_arrival(
            taps in proptest::collection::vec(proptest::collection::vec(0i64..30, 0..20), 3),
            arrivals in proptest::collection::vec(0usize..3, 0..100),
        ) {
            let taps: Vec<Vec<i64>> = taps.into_iter().map(|mut tap| { tap.sort_unstable(); tap }).collect();
            let mut expected: Vec<(i64, usize)> =
                taps.iter().enumerate().flat_map(|(n, tap)| tap.iter().map(move |t| (*t, n))).collect();
            expected.sort_unstable();
            let (mut known, mut folded, mut order) = ([0; 3], [0; 3], Vec::new());
            let steps = arrivals.into_iter().chain((0..3).flat_map(|n| std::iter::repeat_n(n, 21)));
            for tap in steps {
                known[tap] = (known[tap] + 1).min(taps[tap].len() + 1);
                loop {
                    let heads: Vec<Head> = (0..3).map(|n| match taps[n].get(folded[n]) {
                        Some(time) if folded[n] < known[n] => Head::Packet(t(*time)),
                        Some(time) => Head::Quiet(t(*time)),
                        None if known[n] > taps[n].len() => Head::End,
                        None => Head::Quiet(t(30)),
                    }).collect();
                    let Next::Take(n, until) = next(&heads, false) else { break };
                    while folded[n] < known[n].min(taps[n].len()) && t(taps[n][folded[n]]) <= until {
                        order.push((taps[n][folded[n]], n));
                        folded[n] += 1;
                    }
                }
            }
            prop_assert_eq!(order, expected);
        }
    }
}
