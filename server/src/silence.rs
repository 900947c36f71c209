//! Silence: from when on it is an event that nothing comes of a dataset. What is expected is the access list's word, or what
//! was usual.
//!
//! Pure; knows neither disk nor clock, nor who is told.

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many arrivals of a dataset are remembered: a week of daily ones, so that a free weekend is among them.
const ARRIVALS: usize = 8;
/// From so many on there is something usual.
const USUAL: usize = 4;
/// What comes in less time after another counts as one with it.
const TOGETHER: SignedDuration = SignedDuration::from_hours(1);
/// How many datasets of one client are remembered.
const DATASETS: usize = 1000;

/// A dataset of which nothing comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// When the last snapshot came.
    pub since: Timestamp,
    /// How often one was to come, in words.
    pub expected: String,
}

/// Notes that a snapshot came; true when that is to be kept. What a hook asked for has no rhythm and is not to be noted.
pub fn note(came: &mut BTreeMap<String, Vec<Timestamp>>, dataset: &str, now: Timestamp) -> bool {
    if !came.contains_key(dataset) && came.len() >= DATASETS {
        return false;
    }
    let times = came.entry(dataset.to_owned()).or_default();
    let before = times.len();
    // A clock that was set back has made them up.
    times.retain(|time| *time <= now);
    if before == times.len() && times.last().is_some_and(|last| now.duration_since(*last) < TOGETHER) {
        return false;
    }
    times.push(now);
    times.drain(..times.len().saturating_sub(ARRIVALS));
    true
}

/// Whether a dataset is silent whose snapshots `came` at these times, the oldest first. It is when a snapshot is late by half
/// of what was `expected` (zero where nobody says: then the longest of the last gaps), and by an hour at least.
pub fn of(expected: Duration, came: &[Timestamp], now: Timestamp) -> Option<Silence> {
    let last = *came.last()?;
    let (every, said) = rhythm(expected, came)?;
    let late = now.duration_since(last).saturating_sub(every);
    (late >= TOGETHER.max(every / 2)).then(|| {
        let words = in_words(every);
        Silence { since: last, expected: if said { format!("every {words}") } else { format!("every {words}, as it was before") } }
    })
}

/// How often a dataset comes: as was `expected` (zero where nobody says), and then the second is true, or else as was usual:
/// the longest of the last gaps, where it came often enough to say.
pub fn rhythm(expected: Duration, came: &[Timestamp]) -> Option<(SignedDuration, bool)> {
    let said = SignedDuration::try_from(expected).ok().filter(|expected| !expected.is_zero()).map(|every| (every, true));
    let usual = || {
        let longest = came.windows(2).map(|pair| pair[1].duration_since(pair[0])).max()?;
        (came.len() >= USUAL).then_some((longest, false))
    };
    said.or_else(usual)
}

fn in_words(span: SignedDuration) -> String {
    match (span.as_secs().max(0) + 1799) / 3600 {
        0 => format!("{} min", (span.as_secs().max(0) + 59) / 60),
        hours @ 1..=47 => format!("{hours} h"),
        hours => format!("{} d", (hours + 12) / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
    }

    fn came(hours: &[i64]) -> Vec<Timestamp> {
        let mut all = BTreeMap::new();
        for hour in hours {
            note(&mut all, "x", at(*hour));
        }
        all.remove("x").unwrap_or_default()
    }

    #[test]
    fn what_is_expected_may_be_late_by_half() {
        assert_eq!(of(DAY, &[], at(0)), None, "nothing ever came, so nothing is missed");
        assert_eq!(of(DAY, &came(&[0]), at(35)), None);
        assert_eq!(of(DAY, &came(&[0]), at(36)), Some(Silence { since: at(0), expected: "every 24 h".into() }));
        // Of what is expected often an hour more is nothing.
        assert_eq!(of(Duration::from_secs(600), &came(&[0]), at(1)), None);
        assert!(of(Duration::from_secs(600), &came(&[0]), at(2)).is_some());
    }

    #[test]
    fn where_nobody_says_the_longest_gap_is_usual() {
        assert_eq!(of(Duration::ZERO, &came(&[0, 24, 48]), at(9999)), None, "too few to say");
        let week = came(&[0, 24, 48, 72, 96, 168, 192]);
        assert_eq!(of(Duration::ZERO, &week, at(192 + 72 + 35)), None);
        let silence = of(Duration::ZERO, &week, at(192 + 72 + 36)).unwrap();
        assert_eq!((silence.since, silence.expected.as_str()), (at(192), "every 3 d, as it was before"));
        // What the list says goes before.
        assert!(of(DAY, &week, at(192 + 36)).is_some());
    }

    #[test]
    fn a_clock_that_was_set_back_is_forgotten() {
        assert_eq!(came(&[0, 24, 9999, 48]), [at(0), at(24), at(48)]);
        let mut all = BTreeMap::new();
        assert!(note(&mut all, "x", at(0)) && !note(&mut all, "x", at(0)) && note(&mut all, "x", at(1)));
        for n in 0..2 * DATASETS {
            note(&mut all, &n.to_string(), at(0));
        }
        assert_eq!(all.len(), DATASETS);
    }

    proptest! {
        #[test]
        fn who_comes_as_before_is_never_silent(gaps in prop::collection::vec(1i64..200, 3..30), late in 0i64..100) {
            let mut hours = vec![0];
            for gap in gaps {
                hours.push(hours[hours.len() - 1] + gap);
            }
            let times = came(&hours);
            prop_assert!(times.len() <= ARRIVALS && times.is_sorted());
            let longest = times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_hours()).max().unwrap_or(0);
            let now = at(hours[hours.len() - 1] + longest.min(late));
            prop_assert_eq!(of(Duration::ZERO, &times, now), None);
        }
    }
}
