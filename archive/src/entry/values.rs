//! Values of a line that have a text of their own: times and digests of files.
//!
//! Does not know what they belong to.

use base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A time as the catalog has it: whole seconds rounded down, and nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mtime {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// 0 to 999,999,999, always forwards.
    pub nanos: u32,
}

impl fmt::Display for Mtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanos)
    }
}

impl FromStr for Mtime {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (seconds, nanos) = text.split_once('.')?;
            let digits = seconds.strip_prefix('-').unwrap_or(seconds);
            let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
            (plain(digits) && nanos.len() == 9 && plain(nanos)).then_some(())?;
            Some(Self { seconds: seconds.parse().ok()?, nanos: nanos.parse().ok()? })
        };
        parse().ok_or_else(|| Error::failed(format!("{text:?} is no time; seconds, a point and nine digits are expected")))
    }
}

impl TryFrom<String> for Mtime {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Mtime> for String {
    fn from(time: Mtime) -> Self {
        time.to_string()
    }
}

/// The first 16 bytes of the keyed BLAKE3 of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileDigest(pub [u8; 16]);

impl FileDigest {
    /// The stored part of a whole keyed digest.
    pub fn of(digest: &[u8; 32]) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Self(short)
    }
}

impl TryFrom<String> for FileDigest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        // The rest of a digest's hex is filled up, so that one parser serves both lengths.
        let full = base::Blake3::from_hex(&format!("{text:0<64}")).filter(|_| text.len() == 32);
        full.map(|digest| Self::of(&digest.0))
            .ok_or_else(|| Error::failed(format!("{text:?} is no file's digest; 32 hex digits are expected")))
    }
}

impl From<FileDigest> for String {
    fn from(digest: FileDigest) -> Self {
        base::digest::to_hex(&digest.0)
    }
}
