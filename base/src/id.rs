//! Ids of requests: they sort by the time they were made and are unique for a client.
//!
//! Order and age are never taken from them: whoever makes an id chooses what it says.

use crate::clock;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An id such as `20261120T031500Z-3f9a1c7e`: UTC to the second and 32 random bits.
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
}

impl std::str::FromStr for RequestId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bytes = text.as_bytes();
        let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
        let good = bytes.len() == 25
            && digits(0..8)
            && bytes[8] == b'T'
            && digits(9..15)
            && &bytes[15..17] == b"Z-"
            && bytes[17..].iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good {
            Ok(Self(text.into()))
        } else {
            Err(Error::usage(format!("{text:?} is no request's id; one looks like 20261120T031500Z-3f9a1c7e")))
        }
    }
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
        ] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad}");
        }
    }
}
