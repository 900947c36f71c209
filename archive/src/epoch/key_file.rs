//! Key files that are added later: an epoch's identity, sealed to somebody for whom the epoch was not made.
//!
//! Proves nothing by itself: whoever opens one checks what comes out against the manifest that the client signed.

use super::open::EpochKey;
use super::recipients::{Recipients, is_epoch_recipient};
use super::{IdentityFile, seal};
use crate::entry::{newer, unreadable};
use crate::manifest::EpochPublic;
use base::{Error, Name, Result, clock};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many key files of one epoch are looked at.
pub const KEY_FILES: usize = 32;
/// The longest key file, in bytes.
pub const KEY_FILE_BYTES: usize = 128 << 10;
/// How many recipients one may name, and how long each may be.
const RECIPIENTS: usize = 256;
const RECIPIENT_BYTES: usize = 8 << 10;

/// A key file that adds recipients to an epoch. Its `epoch` has the same form as in a manifest's public part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// The format's version.
    pub version: u64,
    /// The client whose epoch it is.
    pub client: Name,
    /// When it was made, by the clock of whoever made it.
    pub made: Timestamp,
    /// The epoch, for whom this file was sealed, and the sealed identity.
    pub epoch: EpochPublic,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl KeyFile {
    /// Seals the epoch that `key` opens to `recipients`. Plugins ask whom `identities` ask.
    ///
    /// # Errors
    /// Of kind usage when a recipient cannot be used; otherwise as a plugin says.
    pub fn seal(key: &EpochKey, client: &Name, recipients: &[String], identities: &IdentityFile) -> Result<Self> {
        let recipients = Recipients::parse(recipients)?;
        let epoch = seal(&key.identity, &recipients, identities.ask())?;
        Ok(Self { version: 1, client: client.clone(), made: clock::now(), epoch })
    }

    /// Reads a key file and checks what can be checked without a key.
    ///
    /// # Errors
    /// Of kind refused, with what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |why: &str| Error::refused(format!("it is no key file: {why}"));
        if bytes.len() > KEY_FILE_BYTES {
            return Err(wrong("it is longer than 128 KiB"));
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|e| unreadable(e).context("it is no key file"))?;
        if version.version != 1 {
            return Err(newer(&format!("a key file of version {}", version.version)));
        }
        let file: Self = serde_json::from_slice(bytes).map_err(|e| unreadable(e).context("it is no key file"))?;
        if !is_epoch_recipient(&file.epoch.recipient) {
            return Err(wrong("it names no epoch"));
        }
        let texts = &file.epoch.recipients;
        if texts.is_empty() || texts.len() > RECIPIENTS || texts.iter().any(|text| text.is_empty() || text.len() > RECIPIENT_BYTES) {
            return Err(wrong("it does not say for whom it is"));
        }
        let sealed = file.epoch.key_file_bytes()?;
        if age::Decryptor::new(&sealed[..]).is_err() {
            return Err(wrong("what it holds is not encrypted with age"));
        }
        Ok(file)
    }

    /// The file: one line of JSON.
    ///
    /// # Errors
    /// When it would be too long.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self).map_err(|e| Error::failed("could not write the key file").because(e))?;
        line.push(b'\n');
        // What could not be read again must not be written.
        Self::parse(&line)?;
        Ok(line)
    }
}
