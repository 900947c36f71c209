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
use base::{Blake3, Error, Result, atomic};
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
    /// Of what `epoch` says. A key file that a bit has changed in opens nothing, and nobody would notice before a restore.
    check: Blake3,
    epoch: EpochPublic,
}

/// What [`EpochFile::check`] is for an epoch.
fn check(epoch: &EpochPublic) -> Blake3 {
    let lines = [&epoch.recipient, &epoch.key_file].into_iter().chain(&epoch.recipients);
    Blake3::of(lines.fold(String::new(), |text, line| text + line + "\n").as_bytes())
}

/// How long an epoch lasts, in seconds.
const YEAR: i64 = 365 * 86_400;

impl Epoch {
    /// The epoch kept in the file `path` if it is whole, one for these recipients and not older than a year; else a new one,
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
        let file = EpochFile { version: 1, made: now, check: check(&public), epoch: public };
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

/// The file; none as well where it is damaged: a new epoch costs no more than that the next backup sends everything once.
fn load_file(path: &Path) -> Result<Option<EpochFile>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = base::untrusted::read(path, 1 << 20)?.bytes;
    let version = |text: &str| text.parse::<toml::Table>().ok()?.get("version")?.as_integer();
    if std::str::from_utf8(&bytes).ok().and_then(version).is_some_and(|version| version != 1) {
        return Err(newer(&path.display().to_string()));
    }
    let file = std::str::from_utf8(&bytes).map_err(|e| e.to_string()).and_then(|text| toml::from_str(text).map_err(|e| e.to_string()));
    let file: Result<EpochFile, String> = file;
    match file {
        Ok(file) if file.check == check(&file.epoch) => Ok(Some(file)),
        Ok(_) => {
            tracing::warn!("{} is damaged: a new epoch begins", path.display());
            Ok(None)
        }
        Err(why) => {
            tracing::warn!("{} is damaged ({}): a new epoch begins", path.display(), base::text::printable(&why));
            Ok(None)
        }
    }
}
