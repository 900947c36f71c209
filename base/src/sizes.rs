//! Sizes and spans of time as people write them in configurations.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A number of bytes, written `200 GiB`, `64 MiB`, `512 KiB`, `2 TiB` or `1000 B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

impl std::str::FromStr for ByteSize {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        UNITS
            .iter()
            .find_map(|(unit, shift)| {
                let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
                number.checked_mul(1u64 << shift).map(ByteSize)
            })
            .ok_or_else(|| Error::usage(format!("{text:?} is no size; write a whole number and B, KiB, MiB, GiB or TiB, as in 200 GiB")))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in UNITS {
            let one = 1u64 << shift;
            if shift > 0 && self.0 >= one {
                #[expect(clippy::cast_precision_loss, reason = "shown with one digit behind the point")]
                return write!(f, "{:.1} {unit}", self.0 as f64 / one as f64);
            }
        }
        write!(f, "{} B", self.0)
    }
}

impl TryFrom<String> for ByteSize {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        UNITS
            .iter()
            .find(|(_, shift)| size.0.trailing_zeros() >= *shift || size.0 == 0 && *shift == 0)
            .map_or_else(|| format!("{} B", size.0), |(unit, shift)| format!("{} {unit}", size.0 >> shift))
    }
}

/// A span of time, written `30s`, `10m`, `6h`, `1d` or `2w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

const SPANS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

impl std::str::FromStr for Span {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        SPANS
            .iter()
            .find_map(|(unit, seconds)| {
                let number: u64 = text.strip_suffix(*unit)?.parse().ok()?;
                number.checked_mul(*seconds).map(|s| Span(Duration::from_secs(s)))
            })
            .ok_or_else(|| Error::usage(format!("{text:?} is no span of time; write a whole number and s, m, h, d or w, as in 6h")))
    }
}

impl TryFrom<String> for Span {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        let seconds = span.0.as_secs();
        SPANS
            .iter()
            .find(|(_, unit)| seconds.is_multiple_of(*unit) && seconds > 0)
            .map_or_else(|| "0s".into(), |(letter, unit)| format!("{}{letter}", seconds / unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bad_text() {
        for bad in ["", "5", "GiB", "-1 GiB", "1.5 GiB", "99999999999 TiB", "1 GB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        for bad in ["", "5", "h", "1.5h", "99999999999999999w", "1 h"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn both_survive_their_text(n: u64, seconds in 0u64..1_000_000_000_000) {
            prop_assert_eq!(String::from(ByteSize(n)).parse::<ByteSize>().unwrap(), ByteSize(n));
            let span = Span(Duration::from_secs(seconds));
            prop_assert_eq!(String::from(span).parse::<Span>().unwrap(), span);
        }
    }
}
