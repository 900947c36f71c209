//! Which key a node's receipts must be signed with: the one of `client.toml`, or the one that `node trust` pinned later.
//!
//! Knows nothing of receipts themselves.

use crate::state;
use base::config::ClientConfig;
use base::config::client::ClientNode;
use base::{Error, Kind, Result, atomic};
use queue::signature::{PublicKey, parse_public_key};

/// The longest pinned key that is read.
const LIMIT: usize = 16 * 1024;

/// The key that `node`'s receipts must be signed with.
///
/// # Errors
/// Of kind usage when it cannot be read.
pub fn receipts_key(config: &ClientConfig, node: &ClientNode) -> Result<PublicKey> {
    let path = state::trusted_path(config, &node.name);
    if path.exists() {
        let file = base::untrusted::read(&path, LIMIT)?;
        let text = String::from_utf8_lossy(&file.bytes);
        return parse_public_key(text.trim())
            .map_err(|e| e.context(format!("{} holds no public key", path.display())).with_kind(Kind::Usage));
    }
    parse_public_key(&node.receipts_key)
        .map_err(|e| e.context(format!("receipts_key of the node {} is no public key", node.name)).with_kind(Kind::Usage))
}

/// All keys that `node`'s receipts were believed by: the one of now, the configuration's, and those that were pinned
/// before. What they signed while they were in force holds.
///
/// # Errors
/// As [`receipts_key`].
pub fn receipts_keys(config: &ClientConfig, node: &ClientNode) -> Result<Vec<PublicKey>> {
    let mut keys = vec![receipts_key(config, node)?];
    keys.extend(parse_public_key(&node.receipts_key).ok());
    let path = state::formerly_trusted_path(config, &node.name);
    if path.exists() {
        let file = base::untrusted::read(&path, LIMIT)?;
        keys.extend(String::from_utf8_lossy(&file.bytes).lines().filter_map(|line| parse_public_key(line).ok()));
    }
    Ok(keys)
}

/// Pins `key` in place of what the configuration says.
///
/// # Errors
/// With the path.
pub fn pin(config: &ClientConfig, node: &ClientNode, key: &PublicKey) -> Result<()> {
    atomic::make_folder(&config.state.join("trusted"), 0o755)?;
    // The one that it replaces is written down first: what it signed is still to be proven.
    let formerly = state::formerly_trusted_path(config, &node.name);
    let mut before = if formerly.exists() {
        String::from_utf8_lossy(&base::untrusted::read(&formerly, LIMIT)?.bytes).into_owned()
    } else {
        String::new()
    };
    let line = key_text(&receipts_key(config, node)?)?;
    if !before.lines().any(|known| known == line) {
        before.push_str(&line);
        before.push('\n');
        atomic::write(&formerly, before.as_bytes(), 0o644)?;
    }
    let text = format!("{}\n", key_text(key)?);
    atomic::write(&state::trusted_path(config, &node.name), text.as_bytes(), 0o644)
}

/// A key as one line of text, without its comment.
///
/// # Errors
/// When it cannot be written in OpenSSH's form.
pub fn key_text(key: &PublicKey) -> Result<String> {
    let line = key.to_openssh().map_err(|e| Error::failed("could not write a public key").because(e))?;
    Ok(line.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

/// The key's fingerprint, as ssh-keygen shows it.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(ssh_key::HashAlg::Sha256).to_string()
}
