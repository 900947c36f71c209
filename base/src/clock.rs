//! The time. One place reads the clock, so that tests can set it.

use crate::Span;
use jiff::{SignedDuration, Timestamp};

/// Now, to the second. `NIGHTSAFE_NOW` in the environment stands in for the clock in tests: a time (RFC 3339), or a span by
/// which the clock is put on or back (`+3d`, `-90s`), or the path of a file that holds one of these and may change.
pub fn now() -> Timestamp {
    let real = Timestamp::now();
    let now = std::env::var("NIGHTSAFE_NOW").map_or(real, |text| shown(&text, real).unwrap_or(real));
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// What a clock shows that was set to `text`, when it is `real`ly that time.
fn shown(text: &str, real: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    if text.starts_with('/') {
        return std::fs::read_to_string(text).ok().filter(|inner| !inner.starts_with('/')).and_then(|inner| shown(&inner, real));
    }
    let span = |text: &str| text.parse::<Span>().ok().and_then(|span| SignedDuration::try_from(span.0).ok());
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(on), _) => real.checked_add(span(on)?).ok(),
        (_, Some(back)) => real.checked_sub(span(back)?).ok(),
        _ => text.parse().ok(),
    }
}

/// How long ago `then` was, in the largest fitting unit, as in "3 h" or "2 d"; "0 s" for the future.
pub fn ago(then: Timestamp) -> String {
    in_words(now().as_second().saturating_sub(then.as_second()))
}

/// How long it is until `then`, in the same words; "0 s" for the past.
pub fn until(then: Timestamp) -> String {
    in_words(then.as_second().saturating_sub(now().as_second()))
}

/// So many seconds in the largest fitting unit, in the same words.
pub fn in_words(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// For `#[serde(with = "…")]`: a time as TOML's own kind of date and time, in UTC.
pub mod toml_time {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de, ser};

    /// Writes `time`.
    ///
    /// # Errors
    /// As the serializer's.
    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        time.to_string().parse::<toml::value::Datetime>().map_err(ser::Error::custom)?.serialize(serializer)
    }

    /// Reads a time, which must have an offset.
    ///
    /// # Errors
    /// As the deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let datetime = toml::value::Datetime::deserialize(deserializer)?;
        datetime.to_string().parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_can_be_set() {
        let real: Timestamp = "2026-11-20T03:15:00Z".parse().unwrap();
        let shows = |text: &str, time: &str| assert_eq!(shown(text, real), time.parse().ok(), "{text}");
        shows("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z");
        shows("+3d", "2026-11-23T03:15:00Z");
        shows("-90s\n", "2026-11-20T03:13:30Z");
        for bad in ["", "3d", "+", "+x", "--3d", "/does-not-exist"] {
            assert_eq!(shown(bad, real), None, "{bad}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("clock");
        std::fs::write(&file, "+1h\n").unwrap();
        shows(file.to_str().unwrap(), "2026-11-20T04:15:00Z");
        std::fs::write(&file, file.to_str().unwrap()).unwrap();
        assert_eq!(shown(file.to_str().unwrap(), real), None);
    }
}
