//! What a client may use of the node, beside how much it may keep (`quota`).
//!
//! Counts and measures nothing: whoever serves the client does.

use base::{ByteSize, Span};
use serde::{Deserialize, Deserializer, de::Error};
use std::num::NonZeroU32;

/// The slowest that a client may be read.
const SLOWEST: ByteSize = ByteSize(16 << 10);

/// The limits of one client, or of `[defaults]`; where nothing stands there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
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

impl Limits {
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
            "{ bytes_a_day = \"50 GiB\", requests_a_day = 500, packs = 50000, fetches = 2, time = \"6h\", bandwidth = \"20 MiB\" }",
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
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_clients_own_come_before_those_of_all() {
        let all = read("{ packs = 5, fetches = 1 }").unwrap();
        assert_eq!(read("{ packs = 9, time = \"1h\" }").unwrap().or(all).to_toml(), "{ packs = 9, fetches = 1, time = \"1h\" }");
    }
}
