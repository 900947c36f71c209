//! TOML with one spelling for each value: fields in a fixed order, one a line, plain strings, times in UTC.
//!
//! Does not know which fields a format has.

use base::{Error, Result};
use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, Error as _};

/// Collects the lines of a file.
#[derive(Debug)]
pub struct Lines(String);

impl Lines {
    /// Begins a file of version 1.
    pub fn new() -> Self {
        Self("version = 1\n".into())
    }

    /// A text, in quotes.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        let line = format!("{key} = {}\n", quoted(value));
        self.0.push_str(&line);
        self
    }

    /// A text, where there is one.
    pub fn maybe(&mut self, key: &str, value: Option<impl ToString>) -> &mut Self {
        if let Some(value) = value {
            self.text(key, &value.to_string());
        }
        self
    }

    /// A number.
    pub fn number(&mut self, key: &str, value: u64) -> &mut Self {
        self.0.push_str(&format!("{key} = {value}\n"));
        self
    }

    /// A point in time, to the second.
    pub fn time(&mut self, key: &str, value: Timestamp) -> &mut Self {
        self.0.push_str(&format!("{key} = {}\n", value.strftime("%Y-%m-%dT%H:%M:%SZ")));
        self
    }

    /// A list of texts; nothing when it is empty.
    pub fn list(&mut self, key: &str, values: impl IntoIterator<Item = impl ToString>) -> &mut Self {
        let values: Vec<_> = values.into_iter().map(|value| quoted(&value.to_string())).collect();
        if !values.is_empty() {
            self.0.push_str(&format!("{key} = [{}]\n", values.join(", ")));
        }
        self
    }

    /// The file's bytes.
    pub fn bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).into_bytes()
    }
}

/// A basic TOML string. Fields that hold text are printable, so control characters do not occur; they are escaped all
/// the same, so that no value can begin a line of its own.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Reads a TOML date and time in UTC, to the second.
pub fn time<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Timestamp, D::Error> {
    let text = toml::value::Datetime::deserialize(from)?.to_string();
    let wrong = || D::Error::custom(format!("{text} is no time in UTC to the second, as in 2026-11-20T03:15:00Z"));
    if !text.ends_with('Z') || text.contains('.') {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

/// Reads a text that is printable and has at most `LIMIT` bytes.
pub fn printable<'de, D: Deserializer<'de>, const LIMIT: usize>(from: D) -> std::result::Result<String, D::Error> {
    let text = String::deserialize(from)?;
    check_printable(&text, LIMIT).map_err(|error| D::Error::custom(error.one_line()))?;
    Ok(text)
}

/// As [`printable`], for a field that may be left out.
pub fn maybe_printable<'de, D: Deserializer<'de>, const LIMIT: usize>(from: D) -> std::result::Result<Option<String>, D::Error> {
    printable::<D, LIMIT>(from).map(Some)
}

/// Whether `text` is there, is at most `limit` bytes long and can be shown as it stands.
pub fn check_printable(text: &str, limit: usize) -> Result<()> {
    if text.is_empty() || text.len() > limit {
        return Err(Error::refused(format!("a text of 1 to {limit} bytes is expected, this one has {}", text.len())));
    }
    if base::text::printable(text) != *text {
        return Err(Error::refused(format!("{text:?} holds characters that cannot be shown")));
    }
    Ok(())
}

/// `text` made printable and cut to at most `limit` bytes; a dash where nothing is left.
pub fn fit(text: &str, limit: usize) -> String {
    let mut text = base::text::printable(text.trim());
    if text.len() > limit {
        let mut end = limit.saturating_sub(3);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    if text.is_empty() { "-".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        let time = "2026-11-20T03:15:00Z".parse().unwrap();
        let bytes = Lines::new()
            .text("a", "x\"\\\n=")
            .maybe("b", None::<&str>)
            .number("c", 7)
            .time("d", time)
            .list("e", ["p", "q"])
            .list("f", [""; 0])
            .bytes();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, "version = 1\na = \"x\\\"\\\\\\u000A=\"\nc = 7\nd = 2026-11-20T03:15:00Z\ne = [\"p\", \"q\"]\n");
        assert_eq!(toml::from_str::<toml::Table>(&text).unwrap()["a"].as_str(), Some("x\"\\\n="));
    }

    #[test]
    fn texts_are_fitted() {
        assert_eq!(fit("  ", 10), "-");
        assert_eq!(fit("a\nb", 10), "a\\u{a}b");
        assert_eq!(fit(&"ä".repeat(10), 10), "äää…");
        assert!(check_printable(&fit(&"ä\u{202e}".repeat(100), 64), 64).is_ok());
        for bad in ["", "a\n", "a\u{202e}b", "\x1b[2J", "12345678901"] {
            assert!(check_printable(bad, 10).is_err(), "{bad:?}");
        }
    }
}
