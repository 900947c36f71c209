//! What watches a machine from outside, as both configurations name it: the file in which node_exporter finds metrics, and
//! addresses that are pinged.
//!
//! Writes nothing and calls nobody.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A file that is written anew all the time: absolute, and with an end by which node_exporter knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub struct MetricsFile(PathBuf);

impl TryFrom<PathBuf> for MetricsFile {
    type Error = Error;
    fn try_from(path: PathBuf) -> Result<Self> {
        if path.is_absolute() && path.extension().is_some_and(|end| end == "prom") {
            return Ok(Self(path));
        }
        Err(Error::usage(format!(
            "metrics is {:?}, and must be an absolute path that ends in .prom, as in \"/var/lib/prometheus/node-exporter/nightsafe.prom\"",
            path.display().to_string()
        )))
    }
}

impl Deref for MetricsFile {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

/// The longest address, in bytes.
const URL_LIMIT: usize = 1000;

/// An address that hears how backups go, as healthchecks.io has it: `URL/start`, `URL` for success, `URL/fail`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct PingUrl(String);

impl TryFrom<String> for PingUrl {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        let wrong = |why: &str| {
            // Whoever knows the address can make a backup look good: it is not shown.
            Err(Error::usage(format!("ping is no usable address: {why}")).hint("Write as in \"https://hc-ping.com/UUID\"."))
        };
        let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
            return wrong("it begins with neither https:// nor http://");
        };
        if text.len() > URL_LIMIT || !text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b)) {
            return wrong("it is too long, or holds what no address does");
        }
        let host = rest.split('/').next().unwrap_or_default();
        if host.is_empty() || host.contains('@') {
            return wrong("it names no host, or a user");
        }
        if rest.contains(['?', '#']) {
            return wrong("it has a query or a fragment, behind which /start and /fail cannot stand");
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl PingUrl {
    /// The address, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_used() {
        let file = |text: &str| MetricsFile::try_from(PathBuf::from(text));
        assert_eq!(&*file("/var/lib/a.prom").unwrap(), Path::new("/var/lib/a.prom"));
        for bad in ["", "a.prom", "/a", "/a.txt", "/a.prom.tmp", "/.prom"] {
            assert!(file(bad).is_err(), "{bad}");
        }
        let url = |text: &str| PingUrl::try_from(text.to_owned());
        assert_eq!(url("https://hc-ping.com/a/").unwrap().as_str(), "https://hc-ping.com/a");
        assert!(url("http://127.0.0.1:8000/ping/a").is_ok() && url("http://[::1]:80/x").is_ok());
        for bad in [
            "",
            "ftp://a/b",
            "https://",
            "https:///x",
            "https://u:secret@h/x",
            "https://h/x?secret",
            "https://h/x#secret",
            "https://h/a b",
            "https://h/\n",
        ] {
            let error = url(bad).unwrap_err().render();
            assert!(error.contains("ping") && !error.contains("secret"), "{bad}: {error}");
        }
    }
}
