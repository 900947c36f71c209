//! When what failed for the moment is tried again: for each request, and for each lane of a client.
//!
//! Does not know why something failed; the words are kept for `status`.

use base::{RequestId, backoff};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One thing that is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// How often in a row it failed.
    pub failures: u32,
    /// When it first failed.
    pub since: Timestamp,
    /// Not to be tried before.
    pub next: Timestamp,
    /// What was said the last time.
    pub words: String,
}

/// What one client waits for, kept as `retry.toml` in its folder. Keys are ids of requests and names of lanes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    version: i64,
    /// What was granted when something last failed, as a digest.
    grant: Option<String>,
    /// The waits.
    #[serde(default)]
    pub wait: BTreeMap<String, Wait>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { version: base::config::VERSION, grant: None, wait: BTreeMap::new() }
    }
}

impl Retry {
    /// Whether `key` may be tried now.
    pub fn due(&self, key: &str, now: Timestamp) -> bool {
        // A clock that was set back must not make a wait of years: nothing waits longer than the longest wait.
        self.wait.get(key).is_none_or(|wait| now >= wait.next || wait.next.duration_since(now).unsigned_abs() > backoff::LONGEST)
    }

    /// How often `key` failed in a row.
    pub fn failures(&self, key: &str) -> u32 {
        self.wait.get(key).map_or(0, |wait| wait.failures)
    }

    /// `key` failed with `words`; `random` in 0..=1 spreads the next tries. True when it had not failed before.
    pub fn failed(&mut self, key: &str, words: String, now: Timestamp, random: f64) -> bool {
        let before = self.wait.get(key);
        let failures = before.map_or(0, |wait| wait.failures).saturating_add(1);
        let since = before.map_or(now, |wait| wait.since);
        let delay = SignedDuration::try_from(backoff::delay(failures, random)).unwrap_or(SignedDuration::from_hours(1));
        let next = now.checked_add(delay).unwrap_or(now);
        self.wait.insert(key.to_owned(), Wait { failures, since, next, words }).is_none()
    }

    /// `key` worked, or is of no interest any more. True when there was something to forget.
    pub fn worked(&mut self, key: &str) -> bool {
        self.wait.remove(key).is_some()
    }

    /// Forgets requests that are not among the `unanswered` any more.
    pub fn forget_answered(&mut self, unanswered: &[RequestId]) {
        self.wait.retain(|key, _| key.parse().map_or(true, |id: RequestId| unanswered.contains(&id)));
    }

    /// Notes under which grant something failed.
    pub fn failed_under(&mut self, grant: String) {
        self.grant = Some(grant);
    }

    /// Whatever did not work may work by what was changed: lets everything be tried at once under another grant than that
    /// under which it failed. True when there is something to try.
    pub fn under(&mut self, grant: &str, now: Timestamp) -> bool {
        let changed = !self.wait.is_empty() && self.grant.as_deref() != Some(grant);
        if changed {
            self.grant = Some(grant.to_owned());
            self.hurry(now);
        }
        changed
    }

    /// Lets everything be tried at once, and keeps how often it failed.
    pub fn hurry(&mut self, now: Timestamp) {
        for wait in self.wait.values_mut() {
            wait.next = wait.next.min(now);
        }
    }

    /// The next time after `after` at which something may be tried.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.wait.values().map(|wait| wait.next).filter(|next| *next > after).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn waits_grow_and_end_with_success() {
        let mut retry = Retry::default();
        assert!(retry.due("a", at(0)));
        assert!(retry.failed("a", "no route".into(), at(0), 0.0));
        assert!(!retry.due("a", at(4)) && retry.due("a", at(5)));
        assert!(!retry.failed("a", "no route".into(), at(5), 0.0));
        assert!(!retry.due("a", at(14)) && retry.due("a", at(15)));
        assert_eq!((retry.wait["a"].since, retry.failures("a"), retry.next_after(at(5))), (at(0), 2, Some(at(15))));
        assert_eq!(retry.next_after(at(15)), None);
        retry.hurry(at(6));
        assert!(retry.due("a", at(6)) && retry.failures("a") == 2);
        retry.failed_under("x".into());
        assert!(!retry.under("x", at(6)) && retry.under("y", at(6)) && !retry.under("y", at(6)));
        assert!(retry.worked("a") && retry.due("a", at(6)) && retry.next_after(at(0)).is_none());
    }

    #[test]
    fn what_is_answered_is_not_waited_for() {
        let mut retry = Retry::default();
        let ids = [RequestId::generate().unwrap(), RequestId::generate().unwrap()];
        for key in ["archives", "hand-over", ids[0].as_str(), ids[1].as_str()] {
            retry.failed(key, "no route".into(), at(0), 0.0);
        }
        retry.forget_answered(&ids[..1]);
        let mut left = vec!["archives", "hand-over", ids[0].as_str()];
        left.sort_unstable();
        assert_eq!(retry.wait.keys().collect::<Vec<_>>(), left);
    }

    #[test]
    fn a_clock_set_back_does_not_stop_retries() {
        let mut retry = Retry::default();
        retry.failed("a", String::new(), at(1_000_000), 0.0);
        assert!(retry.due("a", at(0)));
    }

    #[test]
    fn survives_its_file() {
        let mut retry = Retry::default();
        retry.failed("20261120T031500Z-3f9a1c7e", "said \"no\"\nand more".into(), at(0), 0.5);
        let text = toml::to_string(&retry).unwrap();
        assert_eq!(base::config::parse::<Retry>("r", text.as_bytes()).unwrap(), retry);
    }
}
