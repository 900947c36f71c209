//! Ids of requests: they sort by the time they were made and are unique for a client.
//!
//! Order and age are never taken from them: whoever makes an id chooses what it says.

use crate::clock;
use crate::error::{Error, Result};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest part of an id that numbers parts.
const PART_DIGITS: usize = 4;

/// How many bytes the id of a whole request has.
const WHOLE: usize = 25;

/// An id such as `20261120T031500Z-3f9a1c7e`: UTC to the second and 32 random bits. That of a part of a long backup has the
/// part's number behind it, `20261120T031500Z-3f9a1c7e.3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

impl RequestId {
    /// A new id for this moment.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self> {
        let mut random = [0u8; 4];
        getrandom::fill(&mut random).map_err(|e| Error::failed(format!("no random bytes from the system: {e}")))?;
        let time = clock::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        Ok(Self(format!("{time}-{}", crate::digest::to_hex(&random))))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part's number, 1 to [`RequestId::MOST_PARTS`], where it is the id of a part.
    pub fn part(&self) -> Option<u16> {
        self.0.get(WHOLE + 1..)?.parse().ok()
    }

    /// The id of the whole, also of a part.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self(self.0[..WHOLE].to_owned())
    }

    /// The id of the whole's part `number`.
    ///
    /// # Errors
    /// When there can be no part of that number.
    pub fn with_part(&self, number: u16) -> Result<Self> {
        if !(1..=Self::MOST_PARTS).contains(&number) {
            return Err(Error::failed(format!("a backup has at most {} parts, and this would be its part {number}", Self::MOST_PARTS))
                .hint("Raise the limit of spool in client.toml: larger parts are fewer."));
        }
        Ok(Self(format!("{}.{number}", &self.0[..WHOLE])))
    }

    /// When it was made, in the word of whoever made it: to be shown to people, and nothing else.
    pub fn said_time(&self) -> Option<Timestamp> {
        let (time, _) = self.0.split_once('-')?;
        DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp())
    }

    /// This id, where it is that of a whole request.
    ///
    /// # Errors
    /// Of kind usage when it is a part's.
    pub fn only_whole(self) -> Result<Self> {
        match self.part() {
            None => Ok(self),
            Some(_) => Err(Error::usage(format!("{self} is the id of a part; the whole is {}", self.whole()))),
        }
    }

    /// The highest number of a part.
    pub const MOST_PARTS: u16 = 9999;
}

impl std::str::FromStr for RequestId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bytes = text.as_bytes();
        let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
        let good = bytes.len() >= WHOLE
            && digits(0..8)
            && bytes[8] == b'T'
            && digits(9..15)
            && &bytes[15..17] == b"Z-"
            && bytes[17..WHOLE].iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && (bytes.len() == WHOLE || is_part(&bytes[WHOLE..]));
        if good {
            Ok(Self(text.into()))
        } else {
            Err(Error::usage(format!("{text:?} is no request's id; one looks like 20261120T031500Z-3f9a1c7e")))
        }
    }
}

/// Whether `bytes` are a point and a number from 1 to 9999, in its one spelling.
fn is_part(bytes: &[u8]) -> bool {
    let Some((b'.', digits @ [b'1'..=b'9', ..])) = bytes.split_first() else { return false };
    digits.len() <= PART_DIGITS && digits.iter().all(u8::is_ascii_digit)
}

impl TryFrom<String> for RequestId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let id = RequestId::generate().unwrap();
        assert_eq!(id.as_str().parse::<RequestId>().unwrap(), id);
        for bad in [
            "",
            "20261120T031500Z-3f9a1c7",
            "20261120T031500Z-3F9A1C7E",
            "2026112äT031500Z-3f9a1c7",
            "20261120t031500Z-3f9a1c7e",
            "../261120T031500Z-3f9a1c7e",
            "20261120T031500Z-3f9a1c7e.",
            "20261120T031500Z-3f9a1c7e.0",
            "20261120T031500Z-3f9a1c7e.01",
            "20261120T031500Z-3f9a1c7e.10000",
            "20261120T031500Z-3f9a1c7e.+1",
            "20261120T031500Z-3f9a1c7e.1.1",
            "20261120T031500Z-3f9a1c7e.1 ",
            "20261120T031500Z-3f9a1c7e-1",
            "20261120T031500Z-3f9a1c7e/1",
            "20261120T031500Z-3f9a1c7e.a",
        ] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn parts() {
        let whole: RequestId = "20261120T031500Z-3f9a1c7e".parse().unwrap();
        assert_eq!((whole.part(), whole.whole()), (None, whole.clone()));
        assert!(whole.clone().only_whole().is_ok());
        for number in [1, 10, 9999] {
            let part = whole.with_part(number).unwrap();
            assert_eq!(part.as_str().parse::<RequestId>().unwrap(), part);
            assert_eq!((part.part(), part.whole()), (Some(number), whole.clone()));
            assert_eq!(part.with_part(2).unwrap(), whole.with_part(2).unwrap());
            assert!(part.only_whole().is_err());
        }
        assert!(whole.with_part(0).is_err() && whole.with_part(10_000).is_err());
    }
}
