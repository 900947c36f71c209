//! Making ssh keys.
//!
//! Does not know what they are for.

use base::{Error, Result, atomic};
use ssh_key::LineEnding;
use ssh_key::private::{Ed25519Keypair, KeypairData, PrivateKey};
use std::path::{Path, PathBuf};

/// Makes a key pair in OpenSSH's form at `path` and `path`.pub, where there is none.
///
/// # Errors
/// With the path, or when the system gives no random bytes.
pub fn make(path: &Path, comment: &str) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).map_err(|error| Error::failed(format!("no random bytes from the system: {error}")))?;
    let unusable = |error: ssh_key::Error| Error::failed("a key could not be made").because(error);
    let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed)), comment).map_err(unusable)?;
    let private = key.to_openssh(LineEnding::LF).map_err(unusable)?;
    let public = key.public_key().to_openssh().map_err(unusable)?;
    // The public half first: where the private one is, both are.
    atomic::write(&with_pub(path), format!("{}\n", public.trim_end()).as_bytes(), 0o644)?;
    atomic::write_new(path, private.as_bytes(), 0o600)
}

/// Where the public half of a key is.
pub fn with_pub(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}
