//! How things stand with one node: when it was last reached, what went wrong since, when it is tried again.
//!
//! The decisions are pure functions of the clock and the last state; nothing here talks to a node.

use crate::state;
use base::config::ClientConfig;
use base::{Dataset, Error, Name, Result, atomic, backoff, clock};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The longest such file that is read.
const LIMIT: usize = 256 * 1024;

/// After this long without contact a person is told.
const LONG: SignedDuration = SignedDuration::from_hours(24);

/// How many warnings are kept.
const WARNINGS: usize = 8;

/// Something that a person should know and that is no failure of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warning {
    /// When it was first seen.
    pub at: Timestamp,
    /// What it is, as a sentence, with what to do.
    pub text: String,
}

/// `S/retry/<node>.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    version: i64,
    /// The newest commit of our queue that the node is known to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
    /// The newest commit of the receipts with which everything up to it is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<String>,
    /// When the node last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Timestamp>,
    /// How many tries in a row have failed.
    #[serde(default)]
    pub failures: u32,
    /// When the first of them was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// When the next try is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
    /// When it was last told that the node is away for long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Timestamp>,
    /// What went wrong, in the words of whoever said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why the node's receipts are not believed. Until a person has looked, nothing is freed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
    /// By how many seconds our clock is behind the node's, at least: its last receipt is from so far in the future.
    #[serde(default)]
    pub clock_behind: i64,
    /// When the node was last given something again because it had asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heal_asked: Option<Timestamp>,
    /// Datasets whose next backup brings again what was in packs that the node has lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heal: Vec<Dataset>,
    /// Why the gate does not take the line that this machine dials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial_trouble: Option<String>,
    /// What a person should know, the newest last.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

impl Contact {
    /// What is known of `node`; an empty state where nothing is, or where the file is damaged.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn load(config: &ClientConfig, node: &Name) -> Result<Self> {
        let path = state::retry_path(config, node);
        if !path.exists() {
            return Ok(Self { version: base::config::VERSION, ..Self::default() });
        }
        let file = base::untrusted::read(&path, LIMIT)?;
        let parsed = base::config::parse(&path.display().to_string(), &file.bytes);
        // It holds nothing that cannot be found out again.
        Ok(parsed.unwrap_or_else(|error: Error| {
            let mut anew = Self { version: base::config::VERSION, ..Self::default() };
            anew.warn(clock::now(), format!("What was known of {node} is damaged and begun anew: {}", error.one_line()));
            anew
        }))
    }

    /// Writes it down.
    ///
    /// # Errors
    /// With the path.
    pub fn save(&self, config: &ClientConfig, node: &Name) -> Result<()> {
        let text = toml::to_string(self).map_err(|e| Error::failed("could not write the state of a node").because(e))?;
        atomic::write(&state::retry_path(config, node), text.as_bytes(), 0o644)
    }

    /// The node has answered.
    pub fn reached(&mut self, now: Timestamp) {
        *self = Self {
            last_contact: Some(now),
            failures: 0,
            failing_since: None,
            next_try: None,
            error: None,
            told: None,
            ..std::mem::take(self)
        };
    }

    /// A try has failed, with these words.
    pub fn failed(&mut self, now: Timestamp, words: &str, random: f64) {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        let wait = backoff::delay(self.failures, random);
        // To the second, as people read it.
        let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX).saturating_add(1);
        self.next_try = Timestamp::from_second(now.as_second().saturating_add(seconds)).ok();
        self.error = Some(words.to_owned());
    }

    /// Whether the node may be tried now. A clock that was set back does not make us wait for longer than the longest
    /// wait there is.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.next_try.is_none_or(|next| next <= now || next.duration_since(now).unsigned_abs() > backoff::LONGEST)
    }

    /// Whether it is time to say that the node is away: after a day, and then once a day.
    pub fn is_long_gone(&mut self, now: Timestamp) -> bool {
        let over = |since: Timestamp| now.duration_since(since) >= LONG;
        let tell = self.failing_since.is_some_and(over) && self.told.is_none_or(over);
        if tell {
            self.told = Some(now);
        }
        tell
    }

    /// Keeps a warning, once.
    pub fn warn(&mut self, now: Timestamp, text: String) {
        if self.warnings.iter().any(|warning| warning.text == text) {
            return;
        }
        tracing::warn!("{text}");
        self.warnings.push(Warning { at: now, text });
        if self.warnings.len() > WARNINGS {
            self.warnings.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn failures_add_up_and_contact_ends_them() {
        let mut contact = Contact { version: 1, ..Contact::default() };
        assert!(contact.is_due(at(0)));
        contact.failed(at(100), "no route", 0.0);
        assert!(!contact.is_due(at(105)) && contact.is_due(at(106)));
        contact.failed(at(105), "no route", 0.0);
        assert_eq!((contact.failures, contact.failing_since), (2, Some(at(100))));
        assert!(!contact.is_due(at(115)) && contact.is_due(at(116)));
        contact.warn(at(1), "x".into());
        contact.warn(at(2), "x".into());
        contact.reached(at(120));
        assert_eq!((contact.failures, contact.error.clone(), contact.last_contact), (0, None, Some(at(120))));
        assert!(contact.is_due(at(120)) && contact.warnings.len() == 1);
    }

    #[test]
    fn a_long_absence_is_told_once_a_day() {
        let (mut contact, day) = (Contact::default(), 86_400);
        contact.failed(at(0), "x", 0.0);
        let told: Vec<bool> = [day - 1, day, day + 1, 2 * day - 1, 2 * day].map(|second| contact.is_long_gone(at(second))).to_vec();
        assert_eq!(told, [false, true, false, false, true]);
    }

    #[test]
    fn a_clock_set_back_does_not_stop_retries() {
        let mut contact = Contact::default();
        contact.failed(at(1_000_000), "x", 0.0);
        assert!(contact.is_due(at(0)));
    }

    #[test]
    fn it_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("version = 1\nstate = \"{}\"", dir.path().display());
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        std::fs::create_dir(dir.path().join("retry")).unwrap();
        let node = Name::new("n1").unwrap();
        let mut contact = Contact::load(&config, &node).unwrap();
        contact.failed(at(5), "it's \"away\"\nfar", 0.5);
        contact.warn(at(6), "another machine".into());
        contact.save(&config, &node).unwrap();
        assert_eq!(Contact::load(&config, &node).unwrap(), contact);
    }
}
