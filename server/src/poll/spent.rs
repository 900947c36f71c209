//! What a client has used of the node within 24 hours, counted by the hour, so that little is kept and room comes back bit
//! by bit.
//!
//! Knows no clock: callers say what time it is. Losing the file costs a day's count, never data.

use base::ByteSize;
use jiff::Timestamp;
use queue::access::{Limits, limits};
use serde::{Deserialize, Serialize};

const HOUR: i64 = 3600;
/// How many hours count.
const DAY: i64 = 24;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Requests that were taken in.
    Requests,
    /// Bytes that came over the network, whatever became of them.
    Bytes,
}

/// The counts of one client, kept as `spent.toml` in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    version: i64,
    #[serde(default, rename = "hour")]
    hours: Vec<Hour>,
}

/// One hour's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Hour {
    /// Hours since 1970.
    at: i64,
    requests: u64,
    bytes: u64,
}

impl Default for Spent {
    fn default() -> Self {
        Self { version: base::config::VERSION, hours: Vec::new() }
    }
}

fn hour(now: Timestamp) -> i64 {
    now.as_second().div_euclid(HOUR)
}

impl Hour {
    /// Whether it counts: also when the clock was set back, but not for longer than a day.
    fn counts(&self, now: Timestamp) -> bool {
        (hour(now) - self.at).abs() < DAY
    }

    fn of(&self, count: Count) -> u64 {
        match count {
            Count::Requests => self.requests,
            Count::Bytes => self.bytes,
        }
    }
}

impl Spent {
    /// Takes note of so much more.
    pub fn note(&mut self, count: Count, more: u64, now: Timestamp) {
        self.hours.retain(|hour| hour.counts(now));
        let at = hour(now);
        let place = self.hours.partition_point(|hour| hour.at < at);
        if self.hours.get(place).is_none_or(|hour| hour.at != at) {
            self.hours.insert(place, Hour { at, requests: 0, bytes: 0 });
        }
        let hour = &mut self.hours[place];
        match count {
            Count::Requests => hour.requests = hour.requests.saturating_add(more),
            Count::Bytes => hour.bytes = hour.bytes.saturating_add(more),
        }
    }

    /// How much it was within a day.
    pub fn used(&self, count: Count, now: Timestamp) -> u64 {
        self.hours.iter().filter(|hour| hour.counts(now)).fold(0, |sum, hour| sum.saturating_add(hour.of(count)))
    }

    /// When there will be room for `needed` more under `limit`; `None` when no day has room for that.
    pub fn free_at(&self, count: Count, limit: u64, needed: u64, now: Timestamp) -> Option<Timestamp> {
        let mut used = self.used(count, now);
        let fits = |used: u64| used.saturating_add(needed) <= limit;
        if fits(used) {
            return Some(now);
        }
        for hour in self.hours.iter().filter(|hour| hour.counts(now)) {
            used = used.saturating_sub(hour.of(count));
            if fits(used) {
                return Timestamp::from_second((hour.at + DAY) * HOUR).ok();
            }
        }
        None
    }

    /// Why a client does not get `needed` more under the limit `name`, which is `value` in the list; `None` when it does.
    /// `show` writes an amount.
    pub fn over(
        &self,
        count: Count,
        (name, limit, value): (&str, u64, &str),
        needed: u64,
        now: Timestamp,
        show: &dyn Fn(u64) -> String,
    ) -> Option<String> {
        let used = self.used(count, now);
        if needed == 0 || used.saturating_add(needed) <= limit {
            return None;
        }
        let when = match self.free_at(count, limit, needed, now) {
            Some(time) => format!("possible again from {time} on"),
            None => "no day has room for that, so the node's administrator must raise the limit".into(),
        };
        Some(limits::over(name, value, format!("{} within 24 hours, and this needs {} more; {when}", show(used), show(needed))))
    }
}

/// How much of a limit is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Used {
    /// The limit's name, as it stands in the list.
    pub limit: &'static str,
    /// How much is used; of a day's limits within 24 hours.
    pub used: u64,
    /// How much may be.
    pub most: u64,
}

impl Used {
    /// What is used of the limits of a day, where there are any.
    pub fn of_day(limits: &Limits, spent: &Spent, now: Timestamp) -> Vec<Self> {
        let bytes = limits.bytes_a_day.map(|most| Self { limit: "bytes_a_day", used: spent.used(Count::Bytes, now), most: most.0 });
        let most = limits.requests_a_day.map(|most| u64::from(most.get()));
        let requests = most.map(|most| Self { limit: "requests_a_day", used: spent.used(Count::Requests, now), most });
        bytes.into_iter().chain(requests).collect()
    }

    /// Whether nine tenths of it are used, or more.
    pub fn is_near(&self) -> bool {
        u128::from(self.used) * 10 >= u128::from(self.most) * 9
    }
}

impl Used {
    /// The same, and within which time.
    pub fn said(&self) -> String {
        if self.limit == "quota" { self.to_string() } else { format!("{self} within 24 hours") }
    }
}

impl std::fmt::Display for Used {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.limit == "requests_a_day" {
            write!(f, "{} {} of {}", self.limit, self.used, self.most)
        } else {
            write!(f, "{} {} of {}", self.limit, ByteSize(self.used), ByteSize(self.most))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Count::{Bytes, Requests};

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(500_000 * HOUR + hours * HOUR + 60).unwrap()
    }

    #[test]
    fn room_comes_back_by_the_hour() {
        let mut spent = Spent::default();
        for (hours, bytes) in [(0, 10), (1, 20), (1, 5), (5, 40)] {
            spent.note(Bytes, bytes, at(hours));
            spent.note(Requests, 1, at(hours));
        }
        for (now, used, requests) in [(5, 75, 4), (23, 75, 4), (24, 65, 3), (25, 40, 1), (28, 40, 1), (29, 0, 0)] {
            assert_eq!((spent.used(Bytes, at(now)), spent.used(Requests, at(now))), (used, requests), "{now}");
        }
        // (limit, needed) → the hour from which on it is possible.
        for (limit, needed, hours) in [(80, 6, Some(24)), (80, 16, Some(25)), (80, 80, Some(29)), (80, 81, None)] {
            let expected = hours.map(|hours| Timestamp::from_second((500_000 + hours) * HOUR).unwrap());
            assert_eq!(spent.free_at(Bytes, limit, needed, at(6)), expected, "{limit} {needed}");
        }
        assert_eq!(spent.free_at(Bytes, 80, 5, at(6)), Some(at(6)));
    }

    #[test]
    fn what_is_near_its_limit_is_said_in_its_own_unit() {
        let mut spent = Spent::default();
        spent.note(Bytes, 9 << 30, at(0));
        spent.note(Requests, 8, at(0));
        let limits = |text: &str| {
            let changes: Vec<limits::Change> = text.split(' ').map(|text| text.parse().unwrap()).collect();
            changes.iter().try_fold(Limits::default(), |limits, change| limits.with(change)).unwrap()
        };
        let used = Used::of_day(&limits("bytes_a_day=10GiB requests_a_day=9 packs=1"), &spent, at(3));
        let words: Vec<(String, bool)> = used.iter().map(|used| (used.to_string(), used.is_near())).collect();
        assert_eq!(words, [("bytes_a_day 9.0 GiB of 10.0 GiB".into(), true), ("requests_a_day 8 of 9".into(), false)]);
        assert!(Used::of_day(&limits("packs=1"), &spent, at(3)).is_empty());
        assert_eq!(Used::of_day(&limits("bytes_a_day=1GiB"), &spent, at(24))[0].used, 0);
    }

    #[test]
    fn a_clock_that_was_wrong_blocks_for_no_longer_than_a_day() {
        let mut spent = Spent::default();
        spent.note(Bytes, 10, at(10_000));
        assert_eq!((spent.used(Bytes, at(0)), spent.used(Bytes, at(9_990))), (0, 10));
        spent.note(Bytes, 1, at(0));
        assert_eq!(spent, {
            let mut new = Spent::default();
            new.note(Bytes, 1, at(0));
            new
        });
        spent.note(Bytes, u64::MAX, at(0));
        assert_eq!(spent.used(Bytes, at(0)), u64::MAX);
    }

    #[test]
    fn words_name_limit_figure_and_time() {
        let mut spent = Spent::default();
        spent.note(Requests, 3, at(0));
        let over = |needed| spent.over(Requests, ("requests_a_day", 3, "3"), needed, at(0), &|n| n.to_string());
        let words = over(1).unwrap();
        assert_eq!(
            words,
            "over the limit requests_a_day = 3: 3 within 24 hours, and this needs 1 more; possible again from 2027-01-16T08:00:00Z on"
        );
        assert!(over(4).unwrap().contains("must raise the limit"));
        assert_eq!(over(0), None);
    }

    #[test]
    fn it_survives_its_file() {
        let mut spent = Spent::default();
        spent.note(Bytes, 7, at(0));
        let text = toml::to_string(&spent).unwrap();
        assert_eq!(toml::from_str::<Spent>(&text).unwrap(), spent);
    }
}
