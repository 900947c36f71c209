//! Names of clients, nodes and people in the access list.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A name that matches `[a-z0-9][a-z0-9.-]{0,62}` and means nothing else: it is used as a folder's name, so the words
/// that the node uses for folders of its own, and the names of modules, are not allowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Words that a name must not be: folders of the node's own, and the built-in modules.
const RESERVED: &[&str] = &["admin", "log", "access", "state", "run", "wake", "git", "files", "postgres", "mariadb", "sqlite", "dummy"];

impl Name {
    /// Checks `text`.
    ///
    /// # Errors
    /// Of kind usage, with the rule that it breaks.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-');
        if !first || !rest || text.len() > 63 {
            return Err(Error::usage(format!(
                "{text:?} cannot be a name; use 1 to 63 of a-z, 0-9, '.' and '-', beginning with a letter or a digit"
            )));
        }
        // `x.git` and `x.lock` would be a repository's or a lock's name beside the folder of client `x`.
        if RESERVED.contains(&text.as_str()) || text.ends_with(".git") || text.ends_with(".lock") || text.contains("..") {
            return Err(Error::usage(format!("{text:?} has a meaning of its own and cannot be a name")));
        }
        Ok(Self(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl std::str::FromStr for Name {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "web1", "0", "a.b-c", &"x".repeat(63)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            ".a",
            "A",
            "a b",
            "a/b",
            "a_b",
            "é",
            "admin",
            "log",
            "access",
            "state",
            "run",
            "wake",
            "git",
            "a..b",
            "a.git",
            "a.lock",
            "a\n",
            &"x".repeat(64),
        ] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
    }
}
