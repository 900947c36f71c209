//! Opening an epoch: its identity out of a key file, and what was encrypted to it.
//!
//! Believes no key file: what comes out must have the public half that the proven manifest names.

use super::IdentityFile;
use super::key_file::{KEY_FILES, KeyFile};
use super::recipients::in_words as not_encrypted;
use crate::limits;
use crate::manifest::EpochPublic;
use base::{Error, Result};
use std::fmt;
use std::io::{Read, Write};

/// The secret half of an epoch's key, as a keyholder gets it: opens packs and sealed parts.
#[derive(Clone)]
pub struct EpochKey {
    pub(super) identity: age::x25519::Identity,
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochKey")
    }
}

impl EpochKey {
    /// A reader of what was encrypted to the epoch; it seeks where `source` does.
    ///
    /// # Errors
    /// When it is no age file, or one for another key.
    pub fn decrypt<R: Read>(&self, source: R) -> Result<age::stream::StreamReader<R>> {
        let failed = |e: age::DecryptError| Error::failed("could not decrypt").because(in_words(e));
        age::Decryptor::new(source).map_err(failed)?.decrypt(std::iter::once(&self.identity as &dyn age::Identity)).map_err(failed)
    }

    /// Decrypts a small thing at once, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// As [`EpochKey::decrypt`], and when it is longer or was changed.
    pub fn decrypt_all(&self, bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
        let reader = self.decrypt(bytes)?;
        base::untrusted::read_bounded(reader, limit).map_err(|e| Error::failed("could not decrypt").because(e))
    }

    /// The epoch's recipient.
    pub fn recipient(&self) -> String {
        self.identity.to_public().to_string()
    }
}

/// Encrypts a small thing at once.
pub(crate) fn encrypt<'a>(recipients: impl Iterator<Item = &'a dyn age::Recipient>, plain: &[u8]) -> Result<Vec<u8>> {
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(not_encrypted)?;
    let failed = |e: std::io::Error| Error::failed("could not encrypt").because(e);
    let mut out = Vec::with_capacity(plain.len() + 512);
    let mut writer = encryptor.wrap_output(&mut out).map_err(failed)?;
    writer.write_all(plain).and_then(|()| writer.finish().map(|_| ())).map_err(failed)?;
    Ok(out)
}

/// Decrypts a small age file with one identity; `None` when it is not for it.
///
/// # Errors
/// When it is no age file, was changed, or a plugin fails.
pub(super) fn read_all(bytes: &[u8], identity: &dyn age::Identity, limit: usize) -> Result<Option<Vec<u8>>> {
    let failed = |e: age::DecryptError| match e {
        age::DecryptError::Plugin(errors) => {
            let words: Vec<String> = errors.iter().map(super::ask::plugin_words).collect();
            Error::failed(format!("an age plugin could not open it: {}", words.join("; ")))
        }
        other => Error::failed("it cannot be opened").because(in_words(other)),
    };
    let reader = match age::Decryptor::new(bytes).map_err(failed)?.decrypt(std::iter::once(identity)) {
        Err(age::DecryptError::NoMatchingKeys | age::DecryptError::KeyDecryptionFailed) => return Ok(None),
        other => other.map_err(failed)?,
    };
    base::untrusted::read_bounded(reader, limit).map(Some).map_err(|e| Error::failed("it is damaged").because(e))
}

/// What age could not do. Its own texts are translations that it looks up, in builds for tests from files that are only
/// there on the machine that built it.
fn in_words(error: age::DecryptError) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        age::DecryptError::Io(error) => error.into(),
        age::DecryptError::InvalidHeader | age::DecryptError::UnknownFormat => {
            "it is no age file that this version reads, or its head was changed".into()
        }
        age::DecryptError::InvalidMac | age::DecryptError::DecryptionFailed => "it was changed after it was encrypted".into(),
        age::DecryptError::NoMatchingKeys | age::DecryptError::KeyDecryptionFailed => {
            "it was encrypted to another key, or its head was changed".into()
        }
        age::DecryptError::ExcessiveWork { .. } => "its passphrase takes longer to check than is allowed here".into(),
        other => format!("{other:?}").into(),
    }
}

/// Opens an epoch: with the key file of the proven manifest, and where that is for others, with key files that were
/// added later (`added` gets them; it is asked only then). What was opened before is not opened again.
///
/// # Errors
/// When none of the identities opens it (it then says for whom the snapshot was made), or what comes out is not the
/// key that the manifest names.
pub fn open_epoch(epoch: &EpochPublic, identities: &IdentityFile, added: &dyn Fn() -> Result<Vec<KeyFile>>) -> Result<EpochKey> {
    if let Some(key) = identities.known(&epoch.recipient) {
        return Ok(key);
    }
    let own = epoch.key_file_bytes().and_then(|bytes| open_one(&bytes, &epoch.recipient, identities));
    let found = match own {
        Ok(Some(key)) => Ok(key),
        // The manifest's own is for others, or damaged; another one may still do.
        own => match open_added(epoch, identities, added) {
            Ok(Some(key)) => Ok(key),
            added => Err(own.and(added).err().unwrap_or_else(|| wrong_identity(epoch))),
        },
    };
    found.inspect(|key| identities.remember(&epoch.recipient, key))
}

fn wrong_identity(epoch: &EpochPublic) -> Error {
    let made_for = epoch.recipients.iter().map(|text| base::text::printable(text)).collect::<Vec<_>>().join(", ");
    Error::failed(format!("wrong identity: this snapshot was made for {made_for}"))
        .hint("Give the identity file of one of these keys with --identity, or have a keyholder add yours (nightsafe keys add-recipient).")
}

fn open_added(epoch: &EpochPublic, identities: &IdentityFile, added: &dyn Fn() -> Result<Vec<KeyFile>>) -> Result<Option<EpochKey>> {
    let mut trouble = None;
    for file in added()?.into_iter().filter(|file| file.epoch.recipient == epoch.recipient).take(KEY_FILES) {
        match file.epoch.key_file_bytes().and_then(|bytes| open_one(&bytes, &epoch.recipient, identities)) {
            Ok(Some(key)) => return Ok(Some(key)),
            Ok(None) => {}
            // Whoever made it: it is passed over, and told only where nothing else opens.
            Err(error) => trouble = Some(error.context("a key file that was added cannot be used")),
        }
    }
    trouble.map_or(Ok(None), Err)
}

fn open_one(bytes: &[u8], recipient: &str, identities: &IdentityFile) -> Result<Option<EpochKey>> {
    let opened = identities.decrypt(bytes, limits::KEY_FILE).map_err(|e| e.context("could not open the key file"))?;
    let Some(plain) = opened else { return Ok(None) };
    let text = std::str::from_utf8(&plain).unwrap_or_default().trim_end();
    let identity: age::x25519::Identity = text.parse().map_err(|e| Error::failed(format!("the key file holds no age identity: {e}")))?;
    if identity.to_public().to_string() != recipient {
        return Err(Error::refused("the key file holds another key than the manifest names; somebody has changed it"));
    }
    Ok(Some(EpochKey { identity }))
}
