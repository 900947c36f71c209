//! Asking a machine for its host key, and a person whether it is the right one.
//!
//! What an unknown machine answers is believed only after a person has compared it.

use crate::output;
use base::config::SshAddress;
use base::{Error, Result, process};
use queue::PublicKey;
use std::time::Duration;

/// The host key that the machine shows and a person confirms.
///
/// # Errors
/// When the machine does not answer, nobody sits at a terminal, or the answer is no.
pub fn confirmed(address: &SshAddress) -> Result<String> {
    let key = best(&scanned(address)?).ok_or_else(|| Error::not_now(format!("{address} shows no host key that is usable")))?;
    let fingerprint = key.fingerprint(ssh_key::HashAlg::Sha256);
    output::warning(&format!("{address} shows the host key {fingerprint} ({})", key.algorithm()));
    output::warning("compare it with what the machine itself says: ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub");
    match output::ask("Is it the right one? yes or no: ").as_deref() {
        Some("yes") => queue::access::openssh(&key),
        Some(_) => Err(Error::refused("the host key was not confirmed; nothing was changed")),
        None => {
            Err(Error::usage("a scanned host key must be confirmed by a person at a terminal")
                .hint("Give the key with --host-key instead."))
        }
    }
}

fn scanned(address: &SshAddress) -> Result<String> {
    let mut command = process::command("ssh-keyscan");
    command.args(["-T", "10"]);
    if let Some(port) = address.port {
        command.args(["-p", &port.to_string()]);
    }
    // The parser of addresses lets no host begin with '-'.
    command.arg(&address.host);
    let output = process::run_ok(command, 1 << 20, Duration::from_secs(60))
        .map_err(|error| error.context(format!("could not ask {address} for its host key")))?;
    Ok(String::from_utf8_lossy(&output).into_owned())
}

/// The key of the best kind among lines of `HOST KIND KEY`.
fn best(lines: &str) -> Option<PublicKey> {
    let keys = lines
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(_, key)| queue::signature::parse_public_key(key.trim()).ok());
    keys.max_by_key(|key| match key.algorithm() {
        ssh_key::Algorithm::Ed25519 => 3,
        ssh_key::Algorithm::Ecdsa { .. } => 2,
        _ => 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_kind_is_taken() {
        let ed = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        let found = best(&format!("# host:22 SSH-2.0\nhost garbage\nhost {ed}\n")).unwrap();
        assert_eq!(found.to_openssh().unwrap().trim(), ed);
        assert!(best("").is_none() && best("host\n").is_none());
    }
}
