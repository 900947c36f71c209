//! The time. One place reads the clock, so that tests can set it.

use jiff::Timestamp;

/// Now, to the second. `NIGHTSAFE_NOW` (RFC 3339) in the environment stands in for the clock in tests.
pub fn now() -> Timestamp {
    let now = std::env::var("NIGHTSAFE_NOW").ok().and_then(|text| text.parse().ok()).unwrap_or_else(Timestamp::now);
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// How long ago `then` was, in the largest fitting unit, as in "3 h" or "2 d"; "0 s" for the future.
pub fn ago(then: Timestamp) -> String {
    in_words(now().as_second().saturating_sub(then.as_second()))
}

/// How long it is until `then`, in the same words; "0 s" for the past.
pub fn until(then: Timestamp) -> String {
    in_words(then.as_second().saturating_sub(now().as_second()))
}

fn in_words(seconds: i64) -> String {
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
