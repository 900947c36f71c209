//! What a client may use of the node, beside how much it may keep (`quota`).
//!
//! Counts and measures nothing: whoever serves the client does.

use base::{ByteSize, Error, Span, names};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::num::NonZeroU32;
use std::str::FromStr;

/// The slowest that a client may be read.
const SLOWEST: ByteSize = ByteSize(16 << 10);

/// How many sessions a client may have open at once where the list says nothing. One that sends has two at most, and a few
/// more for a while that its line lost.
pub const SESSIONS: u16 = 16;
/// Of how many sessions a client can do with: the wait for receipts, what it pushes or fetches, a command of a person's, and one
/// that its line lost.
const FEWEST: u16 = 4;
/// The most sessions of one client.
const MOST: u16 = 1000;

/// Every limit, and how a value of it is written.
const LIMITS: [(&str, &str); 7] = [
    ("bytes_a_day", "50GiB"),
    ("requests_a_day", "500"),
    ("packs", "50000"),
    ("fetches", "1"),
    ("time", "6h"),
    ("bandwidth", "20MiB"),
    ("sessions", "16"),
];

/// The limits of one client, or of `[defaults]`; where nothing stands there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// How much is fetched of it within 24 hours.
    pub bytes_a_day: Option<ByteSize>,
    /// How many of its requests are taken within 24 hours; parts of a long backup count as well.
    pub requests_a_day: Option<NonZeroU32>,
    /// How many packs one snapshot may refer to.
    pub packs: Option<NonZeroU32>,
    /// How much is fetched of it at once: 1, or an archive and a mirror side by side.
    #[serde(default, deserialize_with = "fetches")]
    pub fetches: Option<u8>,
    /// How long one request may be fetched.
    #[serde(default, deserialize_with = "time")]
    pub time: Option<Span>,
    /// How many bytes are fetched of it in a second, by each fetch.
    #[serde(default, deserialize_with = "bandwidth")]
    pub bandwidth: Option<ByteSize>,
    /// How many sessions it may have open at the gate at once.
    #[serde(default, deserialize_with = "sessions")]
    pub sessions: Option<u16>,
}

fn fetches<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u8>, D::Error> {
    match u8::deserialize(from)? {
        n @ 1..=2 => Ok(Some(n)),
        _ => Err(D::Error::custom("fetches is 1, or 2 for an archive and a mirror side by side")),
    }
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Span>, D::Error> {
    let time = Span::deserialize(from)?;
    if time.0.is_zero() { Err(D::Error::custom("time is at least 1s; to take nothing, write paused = true")) } else { Ok(Some(time)) }
}

fn bandwidth<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ByteSize>, D::Error> {
    let size = ByteSize::deserialize(from)?;
    if size < SLOWEST { Err(D::Error::custom("bandwidth is bytes in a second, at least \"16 KiB\"")) } else { Ok(Some(size)) }
}

fn sessions<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    match u16::deserialize(from)? {
        n @ FEWEST..=MOST => Ok(Some(n)),
        _ => Err(D::Error::custom(format!("sessions is a number from {FEWEST} to {MOST}"))),
    }
}

/// One limit to be changed: `packs=500`, or `packs=default` for what `[defaults]` says.
#[derive(Debug, Clone)]
pub struct Change {
    name: &'static str,
    value: Option<toml::Value>,
}

impl FromStr for Change {
    type Err = Error;

    /// # Errors
    /// Of kind usage, with the nearest right name, or what a value is like.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let (name, value) = (name.trim(), value.trim());
        let Some((name, example)) = LIMITS.into_iter().find(|(known, _)| *known == name) else {
            return Err(Error::usage(format!("there is no limit {name:?}. {}", names::hint(name, LIMITS.map(|(known, _)| known)))));
        };
        if value == "default" {
            return Ok(Self { name, value: None });
        }
        let wrong = |why: &str| Error::usage(format!("{why}; write it as in {name}={example}, or {name}=default for what [defaults] says"));
        // What is counted is a number in the list, everything else a text.
        let value = match (example.parse::<i64>(), value.parse::<i64>()) {
            (Err(_), _) => toml::Value::String(value.into()),
            (Ok(_), Ok(number)) => toml::Value::Integer(number),
            (Ok(_), Err(_)) => return Err(wrong(&format!("{value:?} is no number"))),
        };
        let change = Self { name, value: Some(value) };
        match change.within(Limits::default()) {
            Ok(_) => Ok(change),
            Err(error) => Err(wrong(error.message().trim_end())),
        }
    }
}

impl Change {
    fn within(&self, limits: Limits) -> Result<Limits, toml::de::Error> {
        let mut table = toml::Table::try_from(limits).map_err(toml::de::Error::custom)?;
        match &self.value {
            Some(value) => table.insert(self.name.into(), value.clone()),
            None => table.remove(self.name),
        };
        table.try_into()
    }
}

impl std::fmt::Display for Change {
    /// As it stands in the list.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value}", self.name),
            None => write!(f, "{} as by default", self.name),
        }
    }
}

impl Limits {
    /// These, with one of them changed.
    ///
    /// # Errors
    /// When they cannot be written down, which no list gives cause for.
    pub fn with(self, change: &Change) -> Result<Self, Error> {
        change.within(self).map_err(|error| Error::failed(format!("could not set {change}")).because(error))
    }

    /// How many sessions may be open at once.
    pub fn sessions(self) -> u16 {
        self.sessions.unwrap_or(SESSIONS)
    }

    /// These, and where they say nothing, `others`.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            bytes_a_day: self.bytes_a_day.or(others.bytes_a_day),
            requests_a_day: self.requests_a_day.or(others.requests_a_day),
            packs: self.packs.or(others.packs),
            fetches: self.fetches.or(others.fetches),
            time: self.time.or(others.time),
            bandwidth: self.bandwidth.or(others.bandwidth),
            sessions: self.sessions.or(others.sessions),
        }
    }

    /// As they stand in the list; empty where there are none.
    pub fn to_toml(self) -> String {
        let quoted = |text: String| format!("\"{text}\"");
        let fields = [
            ("bytes_a_day", self.bytes_a_day.map(|size| quoted(size.into()))),
            ("requests_a_day", self.requests_a_day.map(|n| n.to_string())),
            ("packs", self.packs.map(|n| n.to_string())),
            ("fetches", self.fetches.map(|n| n.to_string())),
            ("time", self.time.map(|span| quoted(span.into()))),
            ("bandwidth", self.bandwidth.map(|size| quoted(size.into()))),
            ("sessions", self.sessions.map(|n| n.to_string())),
        ];
        let said: Vec<String> = fields.into_iter().filter_map(|(name, value)| Some(format!("{name} = {}", value?))).collect();
        if said.is_empty() { String::new() } else { format!("{{ {} }}", said.join(", ")) }
    }
}

/// How the words of every refusal begin that a limit is the reason of.
pub const OVER: &str = "over the limit";

/// Why a request is refused: the limit as the list has it, and what was found.
pub fn over(name: &str, value: impl std::fmt::Display, found: impl std::fmt::Display) -> String {
    format!("{OVER} {name} = {value}: {found}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Sample {
        limits: Limits,
    }

    fn read(text: &str) -> Result<Limits, String> {
        toml::from_str(&format!("limits = {text}")).map(|sample: Sample| sample.limits).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "{ bytes_a_day = \"50 GiB\", requests_a_day = 500, packs = 50000, fetches = 2, time = \"6h\", bandwidth = \"20 MiB\", sessions = 32 }",
            "{ fetches = 1 }",
        ] {
            assert_eq!(read(text).unwrap().to_toml(), text);
        }
        assert_eq!(read("{}").unwrap(), Limits::default());
        assert_eq!(Limits::default().to_toml(), "");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (text, word) in [
            ("{ requests = 5 }", "unknown field"),
            ("{ bytes_a_day = 5 }", "string"),
            ("{ bytes_a_day = \"5\" }", "size"),
            ("{ requests_a_day = 0 }", "zero"),
            ("{ packs = -1 }", "-1"),
            ("{ fetches = 0 }", "fetches is 1"),
            ("{ fetches = 3 }", "fetches is 1"),
            ("{ time = \"0s\" }", "paused"),
            ("{ bandwidth = \"1 KiB\" }", "at least"),
            ("{ sessions = 3 }", "from 4 to 1000"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn each_is_set_and_taken_away_by_its_name() {
        let mut limits = Limits::default();
        for (name, example) in LIMITS {
            limits = limits.with(&format!("{name}={example}").parse().unwrap()).unwrap();
        }
        let text = "{ bytes_a_day = \"50 GiB\", requests_a_day = 500, packs = 50000, fetches = 1, time = \"6h\", bandwidth = \"20 MiB\", sessions = 16 }";
        assert_eq!(limits.to_toml(), text);
        for (name, _) in LIMITS {
            limits = limits.with(&format!("{name}=default").parse().unwrap()).unwrap();
        }
        assert_eq!(limits, Limits::default());
        assert_eq!("packs = 5".parse::<Change>().unwrap().to_string(), "packs = 5");
        assert_eq!("time=1d".parse::<Change>().unwrap().to_string(), "time = \"1d\"");
        assert_eq!("time=default".parse::<Change>().unwrap().to_string(), "time as by default");
    }

    #[test]
    fn a_wrong_one_says_what_is_right() {
        for (text, words) in [
            ("request_a_day=5", "there is no limit \"request_a_day\". Did you mean requests_a_day or bytes_a_day?"),
            ("quota=5", "There is: bandwidth, bytes_a_day"),
            ("", "no limit \"\""),
            ("packs", "\"\" is no number; write it as in packs=50000"),
            ("packs=none", "or packs=default"),
            ("packs=0", "zero"),
            ("packs=-1", "-1"),
            ("packs=5000000000", "5000000000"),
            ("bytes_a_day=5", "is no size"),
            ("time=0s", "paused"),
            ("fetches=3", "fetches is 1"),
            ("bandwidth=1KiB", "at least"),
            ("sessions=1", "from 4 to 1000; write it as in sessions=16"),
        ] {
            let error = text.parse::<Change>().unwrap_err().one_line();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_clients_own_come_before_those_of_all() {
        let all = read("{ packs = 5, fetches = 1 }").unwrap();
        assert_eq!(read("{ packs = 9, time = \"1h\" }").unwrap().or(all).to_toml(), "{ packs = 9, fetches = 1, time = \"1h\" }");
    }
}
