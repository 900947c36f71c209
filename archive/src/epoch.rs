//! Keys: the client's chunk secret, the epoch key that packs are sealed to, and the identities that open it.
//!
//! Knows nothing of where manifests and packs are kept.

mod ask;
mod identity;
mod key_file;
mod open;
mod recipients;
mod secrets;
#[cfg(test)]
mod tests;

pub use age::secrecy;
pub use ask::{Ask, Nobody};
pub use identity::IdentityFile;
pub use key_file::{KEY_FILE_BYTES, KEY_FILES, KeyFile};
pub use open::{EpochKey, open_epoch};
pub use recipients::{check_recipients, is_epoch_recipient};
pub use secrets::{ChunkId, Secrets};

pub(crate) use open::encrypt;

use crate::entry::newer;
use crate::manifest::EpochPublic;
use age::secrecy::ExposeSecret;
use base::{Error, Result, atomic};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use recipients::Recipients;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The key that a client seals to for one set of recipients and at most a year. The client has its public half only.
#[derive(Debug, Clone)]
pub struct Epoch {
    public: EpochPublic,
    recipient: age::x25519::Recipient,
}

/// `S/epochs/<node>.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EpochFile {
    version: u64,
    made: Timestamp,
    epoch: EpochPublic,
}

/// How long an epoch lasts, in seconds.
const YEAR: i64 = 365 * 86_400;

impl Epoch {
    /// The epoch kept in the file `path` if it is one for these recipients and not older than a year; else a new one,
    /// which replaces it. Packs of another epoch are not deduplicated against.
    ///
    /// Plugins of recipients are started for a new epoch alone, and nobody is there whom they could ask.
    ///
    /// # Errors
    /// Of kind usage when a recipient cannot be used; otherwise with the path, or with what a plugin said.
    pub fn current(path: &Path, recipients: &[String], now: Timestamp) -> Result<Self> {
        let recipients = Recipients::parse(recipients)?;
        if let Some(file) = load_file(path)?
            && file.epoch.recipients == recipients.texts()
            && now.as_second().saturating_sub(file.made.as_second()) < YEAR
        {
            return Self::of(file.epoch);
        }
        let identity = age::x25519::Identity::generate();
        let public = seal(&identity, &recipients, &(Arc::new(Nobody) as Arc<dyn Ask>))?;
        let file = EpochFile { version: 1, made: now, epoch: public };
        let text = toml::to_string(&file).map_err(|e| Error::failed("could not write the epoch").because(e))?;
        if let Some(folder) = path.parent() {
            atomic::make_folder(folder, 0o700)?;
        }
        atomic::write(path, text.as_bytes(), 0o600)?;
        Self::of(file.epoch)
    }

    fn of(public: EpochPublic) -> Result<Self> {
        let recipient =
            public.recipient.parse().map_err(|e: &str| Error::failed(format!("{:?} is no age recipient: {e}", public.recipient)))?;
        Ok(Self { public, recipient })
    }

    /// What manifests say of the epoch.
    pub fn public(&self) -> &EpochPublic {
        &self.public
    }

    /// What packs and sealed parts are encrypted to.
    pub fn recipient(&self) -> &age::x25519::Recipient {
        &self.recipient
    }
}

/// The identity of an epoch, sealed to `recipients`.
fn seal(identity: &age::x25519::Identity, recipients: &Recipients, ask: &Arc<dyn Ask>) -> Result<EpochPublic> {
    let secret = format!("{}\n", identity.to_string().expose_secret());
    let key_file = recipients.encrypt(secret.as_bytes(), ask)?;
    if key_file.len() > crate::limits::KEY_FILE {
        return Err(Error::usage("there are too many recipients: the key file for them would be longer than 64 KiB")
            .hint("Let several people share a key, or give fewer recipients."));
    }
    Ok(EpochPublic {
        recipient: identity.to_public().to_string(),
        recipients: recipients.texts().to_vec(),
        key_file: STANDARD.encode(key_file),
    })
}

fn load_file(path: &Path) -> Result<Option<EpochFile>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = base::untrusted::read(path, 1 << 20)?.bytes;
    let wrong = |why: String| {
        Error::failed(format!("{} cannot be used: {why}", path.display()))
            .hint("Remove the file to begin a new epoch; the next backup then sends everything once.")
    };
    let text = String::from_utf8(bytes).map_err(|e| wrong(e.to_string()))?;
    let file: EpochFile = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    if file.version != 1 { Err(newer(&path.display().to_string())) } else { Ok(Some(file)) }
}
