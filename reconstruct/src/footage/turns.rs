//! Whose packet is next, where several taps captured at the same time.

use capture::CaptureTime;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Taps, numbered from 0, take turns by the capture times of their next packets. A tap's packets stay in its order when its clock steps back.
#[derive(Debug, Default)]
pub struct Turns {
    due: BinaryHeap<Reverse<(CaptureTime, usize)>>,
    latest: Vec<CaptureTime>,
}

impl Turns {
    /// A tap goes on with a packet of this time or, where that is not known yet, with none before it.
    pub fn enter(&mut self, tap: usize, time: CaptureTime) {
        if self.latest.len() <= tap {
            self.latest.resize(tap + 1, CaptureTime::MIN);
        }
        self.latest[tap] = self.latest[tap].max(time);
        self.due.push(Reverse((self.latest[tap], tap)));
    }

    /// Whose turn it is: not again before it has [entered](Self::enter) again. `None` when all are at their end.
    pub fn take(&mut self) -> Option<usize> {
        self.due.pop().map(|Reverse((_, tap))| tap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_decide_but_not_among_a_taps_own() {
        let mut taps = [vec![1, 5, 2, 9], vec![3, 4, 6], vec![]].map(|mut times: Vec<i64>| {
            times.reverse();
            times
        });
        let mut turns = Turns::default();
        for (n, tap) in taps.iter().enumerate() {
            tap.last().into_iter().for_each(|time| turns.enter(n, CaptureTime::from_nanos(*time)));
        }
        let mut order = Vec::new();
        while let Some(n) = turns.take() {
            order.extend(taps[n].pop());
            taps[n].last().into_iter().for_each(|time| turns.enter(n, CaptureTime::from_nanos(*time)));
        }
        assert_eq!(order, [1, 3, 4, 5, 2, 6, 9]);
    }
}
