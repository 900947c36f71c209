//! The words of retention: which snapshots of a dataset are to be kept, as configurations and commands say it.
//!
//! Knows no snapshots: `archive/src/store/retention.rs` holds them against these rules. There are two ways to write them:
//!
//! - as a table, `{ last = 3, daily = 7, weekly = 4, within = "30d" }`, in the words of restic and borg;
//! - as a string, `"1W:1D,4W:1W,12M:1M"`, in Duplicati's form: within the last week one a day, within the last four weeks
//!   one a week, and so on. Letters as there: `s m h D W M Y`, and `U` for no limit.

use crate::error::{Error, Result};
use crate::sizes::Span;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// The largest number in a rule.
pub const MOST: u32 = 100_000;

/// Which snapshots are kept: those that at least one rule keeps. There is always a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep(Vec<KeepRule>);

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepRule {
    /// The last so many, whatever their age.
    Last(u32),
    /// The first snapshot of each of the last so many hours, days, weeks and so on; the present one is the last.
    Calendar(Unit, u32),
    /// All that came within so long.
    Within(Span),
    /// All, or one for each period, for as long as they are young enough.
    Step(Step),
}

/// `WITHIN:EACH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How old a snapshot may be; `None` for any age.
    pub within: Option<Length>,
    /// The first of each period of this length is kept; `None` for all.
    pub each: Option<Length>,
}

/// A number of units, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// How many.
    pub count: u32,
    /// Of what.
    pub unit: Unit,
}

/// A unit of the calendar. Weeks begin on Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

const LETTERS: [(char, Unit); 7] = [
    ('s', Unit::Second),
    ('m', Unit::Minute),
    ('h', Unit::Hour),
    ('D', Unit::Day),
    ('W', Unit::Week),
    ('M', Unit::Month),
    ('Y', Unit::Year),
];

const WORDS: [(&str, Unit); 5] =
    [("hourly", Unit::Hour), ("daily", Unit::Day), ("weekly", Unit::Week), ("monthly", Unit::Month), ("yearly", Unit::Year)];

/// The words of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "they are the rules of the same names")]
pub struct KeepWords {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hourly: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yearly: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

impl KeepWords {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<KeepWords> for Keep {
    type Error = Error;
    fn try_from(words: KeepWords) -> Result<Self> {
        let KeepWords { last, hourly, daily, weekly, monthly, yearly, within } = words;
        let counts = [("last", last), ("hourly", hourly), ("daily", daily), ("weekly", weekly), ("monthly", monthly), ("yearly", yearly)];
        for (word, count) in counts {
            if count.is_some_and(|count| count == 0 || count > MOST) {
                return Err(Error::usage(format!("{word} must be 1 to {MOST}")).hint("Leave a rule out that is to keep nothing."));
            }
        }
        let calendar = WORDS.iter().zip([hourly, daily, weekly, monthly, yearly]);
        let rules = last
            .map(KeepRule::Last)
            .into_iter()
            .chain(calendar.filter_map(|((_, unit), count)| Some(KeepRule::Calendar(*unit, count?))))
            .chain(within.map(KeepRule::Within));
        Self::new(rules.collect())
    }
}

impl Keep {
    /// Rules, in the order in which they are named.
    ///
    /// # Errors
    /// Of kind usage when there is none, or a span of no length.
    pub fn new(rules: Vec<KeepRule>) -> Result<Self> {
        if rules.is_empty() {
            return Err(Error::usage("it holds no rule, so nothing but the newest would be kept")
                .hint("Write what is to be kept, as in { daily = 7, weekly = 4 }; leave it out to keep everything."));
        }
        if rules.iter().any(|rule| matches!(rule, KeepRule::Within(span) if span.0.is_zero())) {
            return Err(Error::usage("within must be longer than nothing"));
        }
        Ok(Self(rules))
    }

    /// The rules.
    pub fn rules(&self) -> &[KeepRule] {
        &self.0
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = LETTERS.iter().find(|(_, unit)| *unit == self.unit).map_or(' ', |(letter, _)| *letter);
        write!(f, "{}{letter}", self.count)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |length: &Option<Length>| length.map_or_else(|| "U".to_owned(), |length| length.to_string());
        write!(f, "{}:{}", text(&self.within), text(&self.each))
    }
}

impl fmt::Display for KeepRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last(count) => write!(f, "last {count}"),
            Self::Calendar(unit, count) => {
                let word = WORDS.iter().find(|(_, other)| other == unit).map_or("", |(word, _)| word);
                write!(f, "{word} {count}")
            }
            Self::Within(span) => write!(f, "within {}", String::from(*span)),
            Self::Step(step) => step.fmt(f),
        }
    }
}

/// As it stands in a configuration: a TOML table in one line, or a string.
impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.iter().all(|rule| matches!(rule, KeepRule::Step(_))) {
            let steps: Vec<String> = self.0.iter().map(ToString::to_string).collect();
            return write!(f, "\"{}\"", steps.join(","));
        }
        let words: Vec<String> = self
            .0
            .iter()
            .map(|rule| match rule {
                KeepRule::Within(span) => format!("within = \"{}\"", String::from(*span)),
                other => other.to_string().replace(' ', " = "),
            })
            .collect();
        write!(f, "{{ {} }}", words.join(", "))
    }
}

impl FromStr for Length {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let (letter, unit) = LETTERS.iter().find(|(letter, _)| text.ends_with(*letter))?;
            let digits = text.strip_suffix(*letter)?;
            let count: u32 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
            (1..=MOST).contains(&count).then_some(Self { count, unit: *unit })
        };
        read().ok_or_else(|| Error::usage(format!("{text:?} is no length of time; write a whole number and s, m, h, D, W, M or Y, or U")))
    }
}

impl FromStr for Step {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (within, each) = text
            .split_once(':')
            .ok_or_else(|| Error::usage(format!("{text:?} is no step; write how long and one for each what, as in 4W:1W")))?;
        let length = |text: &str| if text == "U" { Ok(None) } else { text.parse().map(Some) };
        // A step of no length keeps all, as in "7D:0s".
        let each = if each.len() > 1 && each.trim_start_matches('0').len() == 1 && each.starts_with('0') { "U" } else { each };
        Ok(Self { within: length(within)?, each: length(each)? })
    }
}

/// `1W:1D,4W:1W`, or the words of a table as a command line has them: `daily=7,weekly=4,within=30d`.
impl FromStr for Keep {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if !text.contains('=') {
            let steps = text.split(',').map(|step| step.trim().parse().map(KeepRule::Step)).collect::<Result<Vec<_>>>()?;
            return Self::new(steps);
        }
        let mut words = KeepWords::default();
        let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
        for part in inner.split(',') {
            let (word, value) = part.split_once('=').ok_or_else(|| Error::usage(format!("{part:?} is no rule; write as in daily=7")))?;
            let (word, value) = (word.trim(), value.trim().trim_matches('"'));
            let place = match word {
                "last" => &mut words.last,
                "hourly" => &mut words.hourly,
                "daily" => &mut words.daily,
                "weekly" => &mut words.weekly,
                "monthly" => &mut words.monthly,
                "yearly" => &mut words.yearly,
                "within" if words.within.is_none() => {
                    words.within = Some(value.parse()?);
                    continue;
                }
                _ => {
                    return Err(Error::usage(format!(
                        "{word:?} is none of last, hourly, daily, weekly, monthly, yearly and within, or stands there twice"
                    )));
                }
            };
            let count = value.parse().map_err(|_| Error::usage(format!("{word} must be a number from 1 to {MOST}, not {value:?}")))?;
            if place.replace(count).is_some() {
                return Err(Error::usage(format!("{word} stands there twice")));
            }
        }
        words.try_into()
    }
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Without the quotes of a string in TOML; a table's words are read back by `FromStr` just as well.
        serializer.serialize_str(self.to_string().trim_matches('"'))
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Keep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table as in { daily = 7, weekly = 4 }, or a string as in \"1W:1D,4W:1W\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Keep, E> {
                text.parse().map_err(|error: Error| E::custom(error.one_line()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Keep, A::Error> {
                let words = KeepWords::deserialize(MapAccessDeserializer::new(map))?;
                Keep::try_from(words).map_err(|error| de::Error::custom(error.one_line()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[expect(dead_code, reason = "only read")]
        version: i64,
        keep: Keep,
    }

    fn read(keep: &str) -> Result<Keep> {
        crate::config::parse("a.toml", format!("version = 1\n\nkeep = {keep}\n").as_bytes()).map(|file: File| file.keep)
    }

    #[test]
    fn both_ways_of_writing() {
        let keep = read("{ last = 3, daily = 7, weekly = 4, monthly = 12, yearly = 5, within = \"30d\" }").unwrap();
        assert_eq!(keep.rules().len(), 6);
        assert_eq!(keep.rules()[1], KeepRule::Calendar(Unit::Day, 7));
        assert_eq!(keep.to_string(), "{ last = 3, daily = 7, weekly = 4, monthly = 12, yearly = 5, within = \"30d\" }");
        let steps = read("\"1W:1D,4W:1W, 12M:1M,U:1Y\"").unwrap();
        assert_eq!(steps.to_string(), "\"1W:1D,4W:1W,12M:1M,U:1Y\"");
        let length = |count, unit| Some(Length { count, unit });
        assert_eq!(steps.rules()[2], KeepRule::Step(Step { within: length(12, Unit::Month), each: length(1, Unit::Month) }));
        assert_eq!(steps.rules()[3], KeepRule::Step(Step { within: None, each: length(1, Unit::Year) }));
        for all in ["7D:U", "7D:0s", "7D:00h"] {
            assert_eq!(all.parse::<Keep>().unwrap().to_string(), "\"7D:U\"");
        }
        assert_eq!("1m:30s,1M:1D".parse::<Keep>().unwrap().rules().len(), 2);
        assert_eq!("daily=7, weekly = 4,within=30d".parse::<Keep>().unwrap(), read("{ daily = 7, weekly = 4, within = \"30d\" }").unwrap());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (keep, words) in [
            ("{}", "holds no rule"),
            ("\"\"", "is no step"),
            ("7", "a table as in"),
            ("[7]", "a table as in"),
            ("{ daily = 0 }", "daily must be 1 to 100000"),
            ("{ daily = 100001 }", "daily must be 1 to"),
            ("{ daily = -1 }", "u32"),
            ("{ daily = \"7\" }", "string"),
            ("{ dayly = 7 }", "dayly"),
            ("{ within = \"0d\" }", "longer than nothing"),
            ("{ within = 30 }", "integer"),
            ("\"1W\"", "\"1W\" is no step"),
            ("\"1W:1D,\"", "\"\" is no step"),
            ("\"1W:1d\"", "\"1d\" is no length"),
            ("\"1w:1D\"", "\"1w\" is no length"),
            ("\"0W:1D\"", "\"0W\" is no length"),
            ("\"-1W:1D\"", "\"-1W\" is no length"),
            ("\"1W:U1\"", "\"U1\" is no length"),
            ("\"1W:ä\"", "no length"),
            ("\"daily=7\\u0000\"", "daily must be a number"),
            ("\"daily=7,daily=8\"", "twice"),
            ("\"within=1d,within=2d\"", "twice"),
        ] {
            let error = read(keep).unwrap_err().one_line();
            assert!(error.contains("a.toml, line 3") && error.contains(words), "{keep}: {error}");
        }
    }

    fn any_length() -> impl Strategy<Value = Option<Length>> {
        prop::option::of((1..=MOST, 0usize..7).prop_map(|(count, unit)| Length { count, unit: LETTERS[unit].1 }))
    }

    fn any_words() -> impl Strategy<Value = Keep> {
        let count = || prop::option::of(1u32..20);
        let within = prop::option::of((1u64..10_000_000).prop_map(|seconds| Span(std::time::Duration::from_secs(seconds))));
        (count(), count(), count(), count(), count(), count(), within).prop_filter_map(
            "a rule",
            |(last, hourly, daily, weekly, monthly, yearly, within)| {
                KeepWords { last, hourly, daily, weekly, monthly, yearly, within }.try_into().ok()
            },
        )
    }

    proptest! {
        #[test]
        fn printing_and_reading_come_round(keep in any_words(), steps in prop::collection::vec((any_length(), any_length()), 1..5)) {
            let steps = Keep::new(steps.into_iter().map(|(within, each)| KeepRule::Step(Step { within, each })).collect()).unwrap();
            for keep in [keep, steps] {
                let text = keep.to_string();
                prop_assert_eq!(&read(&text).unwrap(), &keep, "{}", text);
                prop_assert_eq!(&text.trim_matches('"').parse::<Keep>().unwrap(), &keep, "{}", text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", odd in "[0-9sDWMYU:,=a-z{} \"]{0,30}") {
            let _ = text.parse::<Keep>();
            let _ = odd.parse::<Keep>();
        }
    }
}
