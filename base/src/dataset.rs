//! Datasets: what is backed up, written `module:path`, and with its client `client:module:path`.
//!
//! Does not know which modules exist, and opens no path.

use crate::error::{Error, Result};
use crate::name::Name;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest path of a dataset, in bytes.
pub const PATH_LIMIT: usize = 1024;

/// One dataset of a client, as in `files:/var/www` or `postgres:shop`.
///
/// The path is UTF-8 without control characters, at most [`PATH_LIMIT`] bytes. One that starts with `/` is lexically
/// clean: no empty, `.` or `..` component and no slash at the end (but for `/` itself).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dataset {
    module: String,
    path: String,
}

impl Dataset {
    /// Checks module and path; the path must be clean already.
    ///
    /// # Errors
    /// Of kind usage, with the rule that was broken.
    pub fn new(module: &str, path: &str) -> Result<Self> {
        if !is_module(module) {
            return Err(Error::usage(format!("{module:?} cannot be a module's name")));
        }
        let wrong = |why: &str| Err(Error::usage(format!("{path:?} cannot be a dataset's path: {why}")));
        if path.is_empty() || path.len() > PATH_LIMIT {
            return wrong("it must have 1 to 1024 bytes");
        }
        if path.chars().any(char::is_control) {
            return wrong("it holds a control character");
        }
        if path.starts_with('-') {
            return wrong("it begins with '-'");
        }
        if path.starts_with('/') && path != clean(path) {
            return wrong("it is not in its shortest form (no '//', '/./', '/../', no '/' at the end)");
        }
        if !path.starts_with('/') && path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return wrong("it must be absolute, or a plain name");
        }
        Ok(Self { module: module.into(), path: path.into() })
    }

    /// As [`Dataset::new`], but an absolute path is brought to its shortest form first, without looking at the disk.
    ///
    /// # Errors
    /// As [`Dataset::new`].
    pub fn cleaned(module: &str, path: &str) -> Result<Self> {
        if path.starts_with('/') { Self::new(module, &clean(path)) } else { Self::new(module, path) }
    }

    /// The module's name.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The path, or for databases the name.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Whether `text` has the form of a module's name.
fn is_module(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && text.len() <= 32
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The shortest form of an absolute path, without looking at the disk.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.module, self.path)
    }
}

impl std::str::FromStr for Dataset {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some((module, path)) => Self::new(module, path),
            None => Err(Error::usage(format!("{text:?} is no dataset; write MODULE:PATH, as in files:/var/www"))),
        }
    }
}

impl TryFrom<String> for Dataset {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Dataset> for String {
    fn from(dataset: Dataset) -> Self {
        dataset.to_string()
    }
}

/// A dataset with the client it belongs to, where that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The client, when the text named one.
    pub client: Option<Name>,
    /// The dataset.
    pub dataset: Dataset,
}

impl Address {
    /// Reads `[client:]module:path`; a first word that is one of `modules` is the module.
    ///
    /// Other modules are declared where the backup was made, and need not be known here. So the form decides: what is
    /// followed by a module's name and a second colon is a client, as in `web1:trac:/srv/trac`, and anything else is a
    /// module, as in `trac:/srv/trac:old`. A client may be called as such a module is.
    ///
    /// # Errors
    /// Of kind usage.
    pub fn parse(text: &str, modules: &[&str]) -> Result<Self> {
        let (first, rest) = text.split_once(':').ok_or_else(|| {
            Error::usage(format!("{text:?} is no dataset")).hint("Write [CLIENT:]MODULE:PATH, as in web1:files:/var/www.")
        })?;
        if !modules.contains(&first)
            && let Some((module, path)) = rest.split_once(':')
            && is_module(module)
        {
            return Ok(Self { client: Some(Name::new(first)?), dataset: Dataset::cleaned(module, path)? });
        }
        Ok(Self { client: None, dataset: Dataset::cleaned(first, rest)? })
    }
}

/// A pattern over datasets: `files:/var/www`, `git:/srv/git/**` (that folder and everything below), `git:/srv/git/*`
/// (one level), `postgres:*`, `*` (everything).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatasetPattern(String);

impl DatasetPattern {
    /// Checks the pattern.
    ///
    /// # Errors
    /// Of kind usage.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let wrong = || {
            Error::usage(format!(
                "{text:?} is no pattern of datasets; write MODULE:PATH, where the path may end in /* or /**, or be *; or a single * for everything"
            ))
        };
        if text == "*" {
            return Ok(Self(text));
        }
        let (module, path) = text.split_once(':').ok_or_else(wrong)?;
        // The star stands for a whole last component only, so that a pattern says what it covers at one look.
        let fixed = path.strip_suffix("/**").or_else(|| path.strip_suffix("/*")).unwrap_or(path);
        let fixed = if fixed == "*" || fixed.is_empty() && path.starts_with("/*") { "x" } else { fixed };
        if fixed.contains('*') || Dataset::new(module, fixed).is_err() {
            return Err(wrong());
        }
        Ok(Self(text))
    }

    /// Whether `dataset` is one of those that the pattern names.
    pub fn matches(&self, dataset: &Dataset) -> bool {
        if self.0 == "*" {
            return true;
        }
        let Some((module, path)) = self.0.split_once(':') else { return false };
        if module != dataset.module {
            return false;
        }
        if let Some(base) = path.strip_suffix("/**") {
            return dataset.path == base
                || base.is_empty() && dataset.path == "/"
                || dataset.path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
        }
        if let Some(base) = path.strip_suffix("/*") {
            return dataset
                .path
                .strip_prefix(base)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|name| !name.is_empty() && !name.contains('/'));
        }
        path == "*" || path == dataset.path
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DatasetPattern {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<DatasetPattern> for String {
    fn from(pattern: DatasetPattern) -> Self {
        pattern.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn datasets() {
        for good in ["files:/", "files:/var/www", "postgres:shop", "postgres:main/shop", "git:/a b", "files:/ä"] {
            assert_eq!(good.parse::<Dataset>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "files",
            "files:",
            "files:/a/",
            "files:/a/../b",
            "files:/./a",
            "files://a",
            "files:a/../b",
            "files:-x",
            "Files:/a",
            "files:/a\nb",
            "-x:/a",
            ":/a",
        ] {
            assert!(bad.parse::<Dataset>().is_err(), "{bad:?}");
        }
        assert_eq!(Dataset::cleaned("files", "/a//b/./c/../d/").unwrap().path(), "/a/b/d");
        assert_eq!(Dataset::cleaned("files", "/../..").unwrap().path(), "/");
    }

    #[test]
    fn addresses() {
        let modules = ["files", "git"];
        assert_eq!(Address::parse("files:/a:b", &modules).unwrap().client, None);
        assert_eq!(Address::parse("web1:files:/a:b", &modules).unwrap().dataset.path(), "/a:b");
        let read = |text: &str| {
            let address = Address::parse(text, &modules).unwrap();
            (address.client.map_or(String::new(), |client| client.to_string()), address.dataset.to_string())
        };
        let cases = [
            // A module that nobody declared here.
            ("trac:/srv/trac", "", "trac:/srv/trac"),
            ("web1:trac:/srv/trac", "web1", "trac:/srv/trac"),
            ("web1:ldap:main", "web1", "ldap:main"),
            ("ldap:main", "", "ldap:main"),
            ("trac:/srv/a:b", "", "trac:/srv/a:b"),
            ("trac:/srv/a:b:c", "", "trac:/srv/a:b:c"),
            ("web1:trac:/srv/a:b", "web1", "trac:/srv/a:b"),
            // A client that is called as a declared module is, with its own and with other modules.
            ("trac:trac:/srv/trac", "trac", "trac:/srv/trac"),
            ("trac:trac:main", "trac", "trac:main"),
            ("trac:files:/srv", "trac", "files:/srv"),
            ("trac:trac:trac:x", "trac", "trac:trac:x"),
            // A built-in module is never a client.
            ("git:files:/srv", "", "git:files:/srv"),
            ("files:/a//b/../c", "", "files:/a/c"),
        ];
        for (text, client, dataset) in cases {
            assert_eq!(read(text), (client.into(), dataset.into()), "{text}");
        }
        for bad in
            ["/a", "web1", "web1:", "Web1:/a", "a b:files:/a", "web1:trac:", "web1:trac:-x", "admin:files:/a", "../x:trac:/a", ":x", ""]
        {
            assert!(Address::parse(bad, &modules).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns() {
        let cases = [
            ("files:/var/www", "files:/var/www", true),
            ("files:/var/www", "files:/var/www/a", false),
            ("files:/**", "files:/", true),
            ("files:/**", "files:/a/b", true),
            ("git:/srv/git/**", "git:/srv/git", true),
            ("git:/srv/git/**", "git:/srv/git/a/b.git", true),
            ("git:/srv/git/**", "git:/srv/gitx", false),
            ("git:/srv/git/*", "git:/srv/git/a.git", true),
            ("git:/srv/git/*", "git:/srv/git/a/b.git", false),
            ("git:/srv/git/*", "git:/srv/git", false),
            ("postgres:*", "postgres:shop", true),
            ("postgres:*", "files:/shop", false),
            ("*", "dummy:x", true),
        ];
        for (pattern, dataset, expected) in cases {
            let pattern = DatasetPattern::new(pattern).unwrap();
            assert_eq!(pattern.matches(&dataset.parse().unwrap()), expected, "{pattern:?} {dataset}");
        }
        for bad in ["", "files", "files:", "files:/a/../**", "files:/a*", "files:/*/b", "**", "files:/a/***"] {
            assert!(DatasetPattern::new(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn cleaning_gives_what_new_accepts(path in "/[a-z./]{0,30}") {
            let dataset = Dataset::cleaned("files", &path).unwrap();
            prop_assert_eq!(dataset.to_string().parse::<Dataset>().unwrap(), dataset);
        }
    }
}
