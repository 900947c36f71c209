//! A time of day as configurations have it, `04:00`, and when it comes around in a time zone.
//!
//! Reads no clock and looks up no zone: both are given.

use crate::error::{Error, Result};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Hours and minutes of a day, in 24 hours, written `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DayTime(Time);

impl DayTime {
    /// A time that the program itself names: hours 0 to 23, minutes 0 to 59.
    ///
    /// # Panics
    /// Where they are not, when it is compiled.
    pub const fn at(hours: i8, minutes: i8) -> Self {
        Self(Time::constant(hours, minutes, 0, 0))
    }

    /// The last moment up to and with `now` at which it was this time of day in `zone`. A time that a clock change
    /// leaves out is as much later as the clock was moved; one that comes twice counts the first time.
    pub fn last(&self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        [0, 1, 2].into_iter().filter_map(|days| self.on(now, zone, -days)).find(|time| *time <= now).unwrap_or(Timestamp::MIN)
    }

    /// The next moment after `now` at which it will be this time of day in `zone`.
    pub fn next(&self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        [0, 1, 2].into_iter().filter_map(|days| self.on(now, zone, days)).find(|time| *time > now).unwrap_or(Timestamp::MAX)
    }

    /// This time on the day that is `days` after that of `now`.
    fn on(&self, now: Timestamp, zone: &TimeZone, days: i64) -> Option<Timestamp> {
        let day = zone.to_datetime(now).date().checked_add(days.days()).ok()?;
        zone.to_timestamp(day.to_datetime(self.0)).ok()
    }
}

impl std::str::FromStr for DayTime {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::usage(format!("{text:?} is no time of day; write hours and minutes, as in 04:00"));
        let two = |text: &str| (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<i8>().ok()).flatten();
        let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
        let time = two(hours).zip(two(minutes)).and_then(|(hours, minutes)| Time::new(hours, minutes, 0, 0).ok());
        time.map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for DayTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}

impl TryFrom<String> for DayTime {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DayTime> for String {
    fn from(time: DayTime) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn clock_changes() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let time: DayTime = "02:30".parse().unwrap();
        // In spring the clock goes from 02:00 to 03:00, in autumn from 03:00 back to 02:00.
        for (now, last, next) in [
            ("2026-11-20T03:00:00Z", "2026-11-20T01:30:00Z", "2026-11-21T01:30:00Z"),
            ("2026-11-20T01:30:00Z", "2026-11-20T01:30:00Z", "2026-11-21T01:30:00Z"),
            ("2026-11-20T01:29:59Z", "2026-11-19T01:30:00Z", "2026-11-20T01:30:00Z"),
            ("2026-03-29T00:50:00Z", "2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z"),
            ("2026-03-29T02:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"),
            ("2026-10-25T00:45:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
            ("2026-10-25T01:45:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        ] {
            assert_eq!((time.last(at(now), &zone), time.next(at(now), &zone)), (at(last), at(next)), "{now}");
        }
    }

    #[test]
    fn bad_text() {
        for bad in ["", "4:00", "04", "04:0", "24:00", "12:60", "-1:00", "+4:00", "04:00:00", "04.00", "ä4:00"] {
            assert!(bad.parse::<DayTime>().is_err(), "{bad}");
        }
        assert_eq!("23:59".parse::<DayTime>().unwrap().to_string(), "23:59");
    }

    proptest! {
        #[test]
        fn one_after_the_other(second in 0i64..4_000_000_000, hour in 0i8..24, minute in 0i8..60) {
            let time = DayTime(Time::new(hour, minute, 0, 0).unwrap());
            let now = Timestamp::from_second(second).unwrap();
            for zone in [TimeZone::UTC, TimeZone::get("Europe/Berlin").unwrap(), TimeZone::get("Australia/Lord_Howe").unwrap()] {
                let (last, next) = (time.last(now, &zone), time.next(now, &zone));
                prop_assert!(last <= now && now < next);
                prop_assert!(next.duration_since(last).as_hours() <= 26);
                prop_assert_eq!(time.last(next, &zone), next);
            }
        }
    }
}
