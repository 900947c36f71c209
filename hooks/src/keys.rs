//! `keys`: one look-up in the published `authorized_keys`, for sshd's `AuthorizedKeysCommand`.
//!
//! Prints what the poller wrote, never anything made here.

use base::config::NodeConfig;
use base::{At, Exit, Result, untrusted};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// The largest file that is looked through.
const LIMIT: usize = 64 << 20;

/// Prints the line of the key `kind` `key`, and nothing when it has none.
///
/// # Errors
/// With the path.
pub fn look_up(config: &Path, kind: &str, key: &str) -> Result<ExitCode> {
    let path = NodeConfig::load(config)?.access_path().join("authorized_keys");
    let text = untrusted::read(&path, LIMIT)?.bytes;
    if let Some(line) = find(&String::from_utf8_lossy(&text), kind, key) {
        writeln!(std::io::stdout(), "{line}").at("write to", "stdout")?;
    }
    Ok(Exit::Done.into())
}

fn find<'a>(text: &'a str, kind: &str, key: &str) -> Option<&'a str> {
    let plain = |word: &str, more: &[u8]| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b));
    if !plain(kind, b"-@.") || !plain(key, b"+/=") {
        return None;
    }
    let wanted = format!(",restrict {kind} {key}");
    let is_it = |line: &&str| {
        line.starts_with("command=\"")
            && line.find(&wanted).is_some_and(|at| matches!(line.as_bytes().get(at + wanted.len()), None | Some(b' ')))
    };
    text.lines().find(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_one_line() {
        let text = "# x\ncommand=\"g client a\",restrict ssh-ed25519 AAAA a\ncommand=\"g client b\",restrict ssh-ed25519 AAAAB b\n";
        assert!(find(text, "ssh-ed25519", "AAAAB").unwrap().contains("client b"));
        assert!(find(text, "ssh-ed25519", "AAAA").unwrap().contains("client a"));
        for (kind, key) in [
            ("ssh-ed25519", "AAA"),
            ("ssh-rsa", "AAAA"),
            ("", ""),
            ("ssh-ed25519", ""),
            ("ssh-ed25519", "AAAA a"),
            ("ssh-ed25519", "AAAA\n"),
        ] {
            assert!(find(text, kind, key).is_none(), "{kind} {key:?}");
        }
    }
}
