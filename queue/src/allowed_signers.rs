//! A keyholder's own list of who signs: OpenSSH's `allowed_signers` file.
//!
//! Never comes from a node. Options of ssh that would limit a line and are not carried out here are refused.

use crate::signature::{NAMESPACE, PublicKey, parse_public_key};
use base::{At, Error, Name, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// The keys that may sign, by the names they sign for.
#[derive(Debug, Clone, Default)]
pub struct AllowedSigners {
    keys: BTreeMap<Name, Vec<PublicKey>>,
}

impl AllowedSigners {
    /// The largest file that is read, in bytes.
    pub const LIMIT: usize = 16 << 20;

    /// Reads the file: lines of `NAME[,NAME…] [namespaces="git"] KEYTYPE KEY [comment]`.
    ///
    /// # Errors
    /// Of kind usage, with path and line.
    pub fn load(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).at("open the list of signers", path)?;
        let bytes = base::untrusted::read_bounded(file, Self::LIMIT).at("read", path)?;
        Self::parse(&path.display().to_string(), &bytes)
    }

    /// As [`AllowedSigners::load`]; `name` is what errors call the file.
    ///
    /// # Errors
    /// Of kind usage, with line.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::usage(format!("{name} is not UTF-8 text")))?;
        let mut list = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                list.add(line).map_err(|error| error.context(format!("{name}, line {} is wrong", number + 1)))?;
            }
        }
        Ok(list)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let short = || Error::usage("a name and a key are expected").hint("Write NAME namespaces=\"git\" ssh-ed25519 AAAA….");
        let (names, rest) = line.split_once([' ', '\t']).ok_or_else(short)?;
        let rest = rest.trim_start();
        // What follows is the key, or options and then the key. Options hold no space outside quotes.
        let (options, key) = match parse_public_key(rest) {
            Ok(key) => ("", key),
            Err(error) => {
                let end = end_of_options(rest).ok_or(error)?;
                (&rest[..end], parse_public_key(&rest[end..])?)
            }
        };
        if !options.is_empty() && !is_for_git(options)? {
            return Ok(());
        }
        if names.contains(['*', '?', '!', '"']) {
            return Err(Error::usage(format!("{names} is a pattern")).hint("Name each client on a line of its own."));
        }
        // Other names, mail addresses for instance, stand for people who sign other things.
        for name in names.split(',').filter_map(|name| Name::new(name).ok()) {
            let keys = self.keys.entry(name).or_default();
            if !keys.contains(&key) {
                keys.push(key.clone());
            }
        }
        Ok(())
    }

    /// The keys that may sign for `name`.
    pub fn keys(&self, name: &Name) -> Vec<PublicKey> {
        self.keys.get(name).cloned().unwrap_or_default()
    }

    /// The names that have a key.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.keys.keys()
    }
}

/// Where the first white space outside quotes is.
fn end_of_options(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(at, c)| {
        quoted ^= c == '"';
        (!quoted && (c == ' ' || c == '\t')).then_some(at)
    })
}

/// Whether a line with these options counts for signatures of git.
fn is_for_git(options: &str) -> Result<bool> {
    let not_done =
        || Error::usage(format!("the options {options} are not carried out")).hint("Only namespaces=\"git\" can stand before a key.");
    let list = options.strip_prefix("namespaces=\"").and_then(|rest| rest.strip_suffix('"')).ok_or_else(not_done)?;
    if list.contains(['"', '*', '?', '!']) {
        return Err(not_done());
    }
    Ok(list.split(',').any(|namespace| namespace == NAMESPACE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn lines() {
        let text = format!(
            "# who\n\nweb1 namespaces=\"git\" {KEY} first\nweb2,web3\t{KEY}\nweb4 namespaces=\"file\" {KEY}\n  web5 namespaces=\"file,git\" {KEY} # until …\nme@example.org {KEY}\nweb1 {KEY} again\n"
        );
        let list = AllowedSigners::parse("signers", text.as_bytes()).unwrap();
        let count = |name: &str| list.keys(&Name::new(name).unwrap()).len();
        assert_eq!(["web1", "web2", "web3", "web4", "web5", "other"].map(count), [1, 1, 1, 0, 1, 0]);
        assert_eq!(list.names().count(), 4);
        for bad in [
            "web1",
            "web1 ",
            "web1 AAAA",
            &format!("* {KEY}"),
            &format!("web1 cert-authority {KEY}"),
            &format!("web1 valid-before=\"20300101\" {KEY}"),
            &format!("web1 namespaces=\"git\",cert-authority {KEY}"),
            &format!("web1 namespaces=\"*\" {KEY}"),
            &format!("web1 namespaces=\"git {KEY}"),
        ] {
            let error = AllowedSigners::parse("signers", format!("# c\n{bad}").as_bytes()).unwrap_err();
            assert!(error.one_line().contains("line 2"), "{bad}: {}", error.one_line());
        }
    }
}
