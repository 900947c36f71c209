//! Digests as the formats write them: the algorithm's name, a colon, lowercase hex.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;
use std::io::{self, Write};

/// Lowercase hex of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of lowercase hex, exactly 32 of them.
fn from_hex32(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut out = [0u8; 32];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

macro_rules! digest_type {
    ($name:ident, $prefix:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The 64 lowercase hex digits, without the algorithm's name.
            pub fn hex(&self) -> String {
                to_hex(&self.0)
            }

            /// Reads 64 lowercase hex digits.
            pub fn from_hex(text: &str) -> Option<Self> {
                from_hex32(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, ":{}"), self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                text.strip_prefix(concat!($prefix, ":")).and_then(Self::from_hex).ok_or_else(|| {
                    Error::failed(format!(concat!("{:?} is no digest; ", $prefix, ": and 64 lowercase hex digits are expected"), text))
                })
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(digest: $name) -> Self {
                digest.to_string()
            }
        }
    };
}

digest_type!(Blake3, "blake3", "A BLAKE3 digest, written `blake3:` and 64 hex digits.");
digest_type!(Sha256, "sha256", "A SHA-256 digest, written `sha256:` and 64 hex digits.");

impl Blake3 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// A writer that takes the SHA-256 of what it passes on.
pub struct Hashed<W> {
    to: W,
    hasher: sha2::Sha256,
}

impl<W> Hashed<W> {
    /// Passes on to `to`.
    pub fn new(to: W) -> Self {
        Self { to, hasher: sha2::Sha256::new() }
    }

    /// What it passed on to, and the digest of that.
    pub fn finish(self) -> (W, Sha256) {
        (self.to, Sha256(self.hasher.finalize().into()))
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on_is_hashed() {
        let mut hashed = Hashed::new(Vec::new());
        hashed.write_all(b"ab").unwrap();
        hashed.write_all(b"c").unwrap();
        assert_eq!(hashed.finish(), (b"abc".to_vec(), Sha256::of(b"abc")));
    }

    #[test]
    fn text_form() {
        let digest = Sha256::of(b"");
        assert_eq!(digest.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(digest.to_string().parse::<Sha256>().unwrap(), digest);
        for bad in ["", "sha256:", "blake3:00", &format!("sha256:{}", "A".repeat(64)), &format!("sha1:{}", "0".repeat(64))] {
            assert!(bad.parse::<Sha256>().is_err(), "{bad}");
        }
    }
}
