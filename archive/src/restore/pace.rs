//! How many threads make files: as many as were seen to be faster than fewer.
//!
//! Decides by rates that it is told; measures nothing. On one file system two threads make files twice as fast as one, on
//! another they wait for one lock and take three times as long, and that may change while a restore runs (a kernel that
//! looks for free inodes among those that were freed just now does so for minutes).

/// Periods for which a choice stays, when another number was found to be no better.
const STAYS: u32 = 16;

/// The choice, and what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pace {
    most: usize,
    now: usize,
    /// What was chosen, and its rate; none before the first period.
    best: Option<(usize, f64)>,
    /// Periods until another number is tried.
    left: u32,
    upwards: bool,
}

impl Pace {
    /// Begins with one; never more than `most`, which is at least 1.
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), now: 1, best: None, left: 0, upwards: true }
    }

    /// How many threads there should be now.
    pub(super) fn threads(&self) -> usize {
        self.now
    }

    /// A period with that many is over, in which so much was done in a second.
    pub(super) fn period(&mut self, rate: f64) {
        let tried = self.now;
        let (threads, before) = *self.best.get_or_insert((tried, rate));
        if tried == threads {
            self.best = Some((threads, f64::midpoint(before, rate)));
        } else {
            // More of them must be worth it; fewer of them are better where they do as much.
            let better = if tried > threads { rate > before * 1.05 } else { rate > before * 0.97 };
            if better {
                self.best = Some((tried, rate));
            } else {
                self.upwards = !self.upwards;
            }
            self.left = if better { 1 } else { STAYS };
        }
        let (threads, _) = self.best.unwrap_or((tried, rate));
        self.now = threads;
        if self.left > 0 {
            self.left -= 1;
            return;
        }
        // The neighbour in the direction that it went, or the other one at the end.
        for _ in 0..2 {
            let next = if self.upwards { threads + 1 } else { threads - 1 };
            if (1..=self.most).contains(&next) {
                self.now = next;
                return;
            }
            self.upwards = !self.upwards;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How often each number of threads was used in so many periods.
    fn used(most: usize, periods: usize, rate: impl Fn(usize, usize) -> f64) -> Vec<usize> {
        let (mut pace, mut used) = (Pace::new(most), vec![0; most + 1]);
        for i in 0..periods {
            used[pace.threads()] += 1;
            pace.period(rate(i, pace.threads()));
        }
        used
    }

    #[test]
    fn the_faster_number_is_used_nearly_always() {
        // Two are slower than one by far.
        let one = used(4, 200, |_, threads| [0.0, 100.0, 30.0, 20.0, 10.0][threads]);
        assert!(one[1] > 180 && one[3] + one[4] == 0, "{one:?}");
        // No better is not better.
        let same = used(2, 200, |_, _| 100.0);
        assert!(same[1] > 180, "{same:?}");
        let two = used(2, 200, |_, threads| [0.0, 100.0, 150.0][threads]);
        assert!(two[2] > 170, "{two:?}");
        let four = used(4, 200, |_, threads| [0.0, 100.0, 190.0, 270.0, 340.0][threads]);
        assert!(four[4] > 160, "{four:?}");
        // It changes in the middle, for the worse and back.
        let turned =
            used(2, 300, |i, threads| if (100..200).contains(&i) { [0.0, 100.0, 30.0][threads] } else { [0.0, 100.0, 150.0][threads] });
        assert!(turned[1] > 75 && turned[2] > 150, "{turned:?}");
        assert_eq!(used(1, 50, |_, _| 1.0)[1], 50);
    }

    proptest! {
        #[test]
        fn it_stays_in_its_bounds(most in 0usize..6, rates in prop::collection::vec(any::<f64>(), 0..200)) {
            let mut pace = Pace::new(most);
            for rate in rates {
                pace.period(rate);
                prop_assert!((1..=most.max(1)).contains(&pace.threads()));
            }
        }
    }
}
