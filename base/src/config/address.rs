//! Where ssh logs in, as configurations and the access list write it.

use crate::error::{Error, Result};
use serde::Deserialize;

/// `user@host` or `user@host:port`; IPv6 addresses in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SshAddress {
    /// The login name.
    pub user: String,
    /// The host's name or address, without brackets.
    pub host: String,
    /// The port, where it is not ssh's own choice.
    pub port: Option<u16>,
}

impl std::str::FromStr for SshAddress {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::usage(format!("{text:?} is no ssh address; write USER@HOST or USER@HOST:PORT"));
        let (user, rest) = text.split_once('@').ok_or_else(wrong)?;
        let (host, port) = if let Some(rest) = rest.strip_prefix('[') {
            let (host, tail) = rest.split_once(']').ok_or_else(wrong)?;
            (host, tail.strip_prefix(':').or_else(|| tail.is_empty().then_some("")).ok_or_else(wrong)?)
        } else {
            rest.split_once(':').unwrap_or((rest, ""))
        };
        let port = if port.is_empty() { None } else { Some(port.parse().map_err(|_| wrong())?) };
        let plain = |s: &str, more: &[u8]| {
            !s.is_empty() && s.len() <= 255 && !s.starts_with('-') && s.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        if !plain(user, b"._-") || !plain(host, b".-_:%") {
            return Err(wrong());
        }
        Ok(Self { user: user.into(), host: host.into(), port })
    }
}

impl TryFrom<String> for SshAddress {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl std::fmt::Display for SshAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}@[{}]", self.user, self.host)?;
        } else {
            write!(f, "{}@{}", self.user, self.host)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_addresses() {
        for (text, port) in [("gate@host", None), ("a@127.0.0.1:2222", Some(2222)), ("a@[::1]:22", Some(22)), ("a@[::1]", None)] {
            let address: SshAddress = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.port), (text, port));
        }
        for bad in ["", "host", "@host", "a@", "-a@host", "a@-oProxyCommand=x", "a@h:x", "a@h:70000", "a b@h", "a@h/x", "a@[::1", "a@h;x"] {
            assert!(bad.parse::<SshAddress>().is_err(), "{bad}");
        }
    }
}
