//! What this machine can say of itself without being told: its host key, and where it is reached.
//!
//! Reads public files alone.

use crate::access;
use crate::signature::parse_public_key;
use base::config::SshAddress;
use base::{At, Error, Result, untrusted};
use std::fs::File;
use std::path::Path;

/// Where sshd keeps the public halves of its keys, the best kind first.
pub const HOST_KEYS: [&str; 3] = ["/etc/ssh/ssh_host_ed25519_key.pub", "/etc/ssh/ssh_host_ecdsa_key.pub", "/etc/ssh/ssh_host_rsa_key.pub"];

/// The longest such file.
const LIMIT: usize = 16 << 10;

/// The host keys that this machine's sshd keeps where it usually does, as far as they can be read.
pub fn host_keys() -> Vec<String> {
    let key = |path: &Path| access::openssh(&parse_public_key(&text_of(path)?)?);
    HOST_KEYS.iter().filter_map(|path| key(Path::new(path)).ok()).collect()
}

/// The host key, `ssh-ed25519 AAAA…`: the given one (its text, or a file that holds it), else that of this machine's sshd.
/// `None` where it has none.
///
/// # Errors
/// Of kind usage when the given one is no key; with the path when a file cannot be read.
pub fn host_key(given: Option<&str>) -> Result<Option<String>> {
    if let Some(given) = given {
        let is_text = ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| given.trim_start().starts_with(kind));
        let text = if is_text { given.to_owned() } else { text_of(Path::new(given))? };
        let key = parse_public_key(&text).map_err(|error| error.context("the host key is not usable"))?;
        return access::openssh(&key).map(Some);
    }
    let found = HOST_KEYS.iter().map(Path::new).find(|path| path.exists());
    found.map(|path| access::openssh(&parse_public_key(&text_of(path)?)?)).transpose()
}

fn text_of(path: &Path) -> Result<String> {
    let file = File::open(path).at("open the host key", path).map_err(|error| error.with_kind(base::Kind::Usage))?;
    let bytes = untrusted::read_bounded(file, LIMIT).at("read", path)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::usage(format!("{} is no text", path.display())))?;
    if text.contains("PRIVATE KEY") {
        return Err(Error::usage(format!("{} is a private key", path.display())).hint("Name the file beside it that ends in .pub."));
    }
    Ok(text)
}

/// `user` at this machine's own name. Whether others find it under that name, nobody here knows.
///
/// # Errors
/// Of kind usage when the name cannot stand in an address.
pub fn address(user: &str) -> Result<SshAddress> {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy().to_ascii_lowercase();
    format!("{user}@{host}").parse().map_err(|error: Error| error.hint("Say with --address USER@HOST how this machine is reached."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_host_key_is_text_or_a_file() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        let dir = tempfile::tempdir().unwrap();
        let (good, private) = (dir.path().join("host.pub"), dir.path().join("host"));
        std::fs::write(&good, format!("{key} root@h\n")).unwrap();
        std::fs::write(&private, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        for given in [key, &format!("{key} x"), good.to_str().unwrap()] {
            assert_eq!(host_key(Some(given)).unwrap().as_deref(), Some(key));
        }
        for (bad, words) in
            [("/does/not/exist", "open the host key"), (private.to_str().unwrap(), "ends in .pub"), ("ssh-ed25519 AAAA", "not usable")]
        {
            assert!(host_key(Some(bad)).unwrap_err().render().contains(words), "{bad}");
        }
    }
}
