//! The tables `[web]` and `[cgit]` of `node.toml`: what people look at with a browser.
//!
//! Opens nothing and listens nowhere.

use crate::error::{Error, Result};
use crate::{Dataset, Name};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The status page, `nightsafe-server web`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebConfig {
    /// Where it listens. Default: [`Listen::DEFAULT`].
    pub listen: Listen,
    /// The names by which browsers know it, as the reverse proxy passes them on, beside `localhost` and loopback addresses.
    pub hosts: Vec<String>,
}

impl WebConfig {
    /// Checks what the types do not say.
    pub(super) fn check(&self) -> Result<()> {
        for host in &self.hosts {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b);
            if host.is_empty() || host.len() > 255 || !host.bytes().all(plain) {
                return Err(Error::usage(format!(
                    "[web] has the host {host:?}; write a name in small letters, as in \"backup.example.org\""
                )));
            }
        }
        Ok(())
    }
}

/// Where the status page listens: an address and a port, or the path of a socket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Listen {
    /// An address of this machine.
    Tcp(SocketAddr),
    /// A socket of the file system, absolute.
    Unix(PathBuf),
}

impl Listen {
    /// Where it listens when nobody says.
    pub const DEFAULT: &str = "127.0.0.1:8017";
}

impl Default for Listen {
    fn default() -> Self {
        Self::Tcp(SocketAddr::from(([127, 0, 0, 1], 8017)))
    }
}

impl std::str::FromStr for Listen {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with('/') {
            // The system takes no longer ones.
            if text.len() > 100 {
                return Err(Error::usage(format!("{text:?} is too long for a socket's path; it may have 100 bytes")));
            }
            return Ok(Self::Unix(text.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            Error::usage(format!(
                "{text:?} is nowhere to listen; write an address and a port, as in \"{}\", or a socket's absolute path",
                Self::DEFAULT
            ))
        })
    }
}

impl TryFrom<String> for Listen {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// cgit, which shows the mirrors. While the table is there, the node writes the list of repositories for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CgitConfig {
    /// Where cgit is, for the status page's links: `/cgit/` on the same host, or a whole URL. Default: there are no links.
    pub url: Option<String>,
    /// What is said of mirrors.
    pub about: Vec<About>,
}

impl CgitConfig {
    /// Checks what the types do not say.
    pub(super) fn check(&self) -> Result<()> {
        if let Some(url) = &self.url {
            let begins = ["/", "https://", "http://"].iter().any(|begin| url.starts_with(begin)) && !url.starts_with("//");
            if !begins || !url.ends_with('/') || url.bytes().any(|b| !b.is_ascii_graphic() || b"\"'<>\\".contains(&b)) {
                return Err(Error::usage(format!("[cgit] has url = {url:?}"))
                    .hint("Write url = \"/cgit/\", or a whole address that begins with https:// and ends with a slash."));
            }
        }
        for about in &self.about {
            for words in about.description.iter().chain(&about.owner) {
                if words.is_empty() || words.len() > 500 || words.chars().any(char::is_control) {
                    return Err(Error::usage(format!("[[cgit.about]] says {words:?}; write one line of at most 500 bytes")));
                }
            }
        }
        Ok(())
    }

    /// What is said of one mirror: its own words before those of its client.
    pub fn about(&self, client: &Name, dataset: &Dataset) -> (Option<&str>, Option<&str>) {
        let of =
            |dataset: Option<&Dataset>| self.about.iter().find(|about| about.of.client == *client && about.of.dataset.as_ref() == dataset);
        let (own, all) = (of(Some(dataset)), of(None));
        let first = |get: fn(&About) -> Option<&str>| own.and_then(get).or_else(|| all.and_then(get));
        (first(|about| about.description.as_deref()), first(|about| about.owner.as_deref()))
    }
}

/// What cgit says of one mirror, or of all mirrors of a client.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Of what: `web1`, or `web1:git:/srv/git/a.git`.
    pub of: Of,
    /// Shown beside its name. Default: the dataset.
    pub description: Option<String>,
    /// Whose it is. Default: the client's name.
    pub owner: Option<String>,
}

/// A client, or one dataset of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Of {
    /// The client.
    pub client: Name,
    /// The dataset; `None` for all.
    pub dataset: Option<Dataset>,
}

impl TryFrom<String> for Of {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        let (client, dataset) = match text.split_once(':') {
            Some((client, dataset)) => (client, Some(dataset.parse()?)),
            None => (text.as_str(), None),
        };
        Ok(Self { client: Name::new(client)?, dataset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Both {
        #[serde(default)]
        web: WebConfig,
        cgit: Option<CgitConfig>,
    }

    fn read(text: &str) -> Result<Both> {
        let both: Both = crate::config::parse("node.toml", format!("version = 1\n{text}").as_bytes())?;
        both.web.check()?;
        both.cgit.as_ref().map_or(Ok(()), CgitConfig::check)?;
        Ok(both)
    }

    #[test]
    fn where_to_listen_and_what_is_said_of_mirrors() {
        assert_eq!(read("").unwrap().web.listen.to_string(), Listen::DEFAULT);
        let both = read(
            "[web]\nlisten = \"/run/nightsafe/web.sock\"\nhosts = [\"backup.example.org\"]\n[cgit]\nurl = \"/cgit/\"\n\
             [[cgit.about]]\nof = \"web1:git:/a.git\"\ndescription = \"The shop\"\n[[cgit.about]]\nof = \"web1\"\nowner = \"ops\"\ndescription = \"x\"",
        )
        .unwrap();
        assert_eq!(both.web.listen, Listen::Unix("/run/nightsafe/web.sock".into()));
        let cgit = both.cgit.unwrap();
        let about = |client: &str, dataset: &str| {
            let (client, dataset) = (Name::new(client).unwrap(), dataset.parse().unwrap());
            let (description, owner) = cgit.about(&client, &dataset);
            (description.map(str::to_owned), owner.map(str::to_owned))
        };
        assert_eq!(about("web1", "git:/a.git"), (Some("The shop".into()), Some("ops".into())));
        assert_eq!(about("web1", "git:/b.git"), (Some("x".into()), Some("ops".into())));
        assert_eq!(about("web2", "git:/a.git"), (None, None));
        for (bad, words) in [
            ("[web]\nlisten = \"8017\"", "line 3: \"8017\" is nowhere to listen"),
            ("[web]\nport = 8017", "unknown field `port`"),
            ("[web]\nhosts = [\"https://x\"]", "small letters"),
            ("[cgit]\nurl = \"cgit\"", "[cgit] has url"),
            ("[cgit]\nurl = \"//evil.example/\"", "[cgit] has url"),
            ("[cgit]\nurl = \"javascript:x/\"", "[cgit] has url"),
            ("[[cgit.about]]\nof = \"web1\"\nowner = \"a\\nb\"", "one line"),
            ("[[cgit.about]]\nof = \"web1:Git:/a.git\"\n", "cannot be a module's name"),
            ("[[cgit.about]]\nof = \"web1:a.git\"\n", "is no dataset"),
        ] {
            let error = read(bad).unwrap_err().one_line();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
