//! Recipients of every kind that age has: its own keys, ssh public keys, keys of plugins.
//!
//! Starts a plugin when something is sealed to its keys, and not before.

use super::ask::{Ask, ForPlugin, no_plugin, plugin_words};
use age::plugin::RecipientPluginV1;
use base::{Error, Result};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How long sealing may take: plugins can wait for a key that nobody plugs in.
const TIME: Duration = Duration::from_secs(120);

/// One recipient.
#[derive(Clone)]
enum Key {
    X25519(age::x25519::Recipient),
    Tag(age::tag::Recipient),
    TagPq(Box<age::tagpq::Recipient>),
    Ssh(age::ssh::Recipient),
    Plugin(age::plugin::Recipient),
}

/// Recipients as keys, and as the texts that people know them by (sorted, without comments).
#[derive(Clone)]
pub(super) struct Recipients {
    keys: Vec<Key>,
    texts: Vec<String>,
}

impl Recipients {
    /// Reads them and starts no plugin.
    ///
    /// # Errors
    /// Of kind usage, with the one that cannot be used.
    pub(super) fn parse(texts: &[String]) -> Result<Self> {
        let mut all = Vec::new();
        for text in texts {
            all.push(parse(text.trim())?);
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|a, b| a.0 == b.0);
        if all.is_empty() {
            return Err(Error::usage("nobody could open the archive: no recipient is configured").hint(
                "Write `recipients = [\"age1…\"]` into client.toml; `age-keygen` makes a key, whose secret half stays off this machine.",
            ));
        }
        let (texts, keys) = all.into_iter().unzip();
        Ok(Self { keys, texts })
    }

    /// The recipients as text, sorted, each once.
    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Encrypts a small thing to all of them. Plugins may ask; they have two minutes where nobody waits for them.
    ///
    /// # Errors
    /// With what a plugin said, or when one is missing.
    pub(super) fn encrypt(&self, plain: &[u8], ask: &Arc<dyn Ask>) -> Result<Vec<u8>> {
        if !self.keys.iter().any(|key| matches!(key, Key::Plugin(_))) {
            return encrypt_to(&self.resolve(ask)?, plain);
        }
        self.resolve(ask)?;
        // A plugin that hangs must not hold up the backups of other things for ever; its thread is left to itself.
        let (sender, receiver) = channel();
        let (this, ask, plain) = (self.clone(), Arc::clone(ask), plain.to_vec());
        std::thread::spawn(move || {
            let _ = sender.send(this.resolve(&ask).and_then(|keys| encrypt_to(&keys, &plain)));
        });
        receiver.recv_timeout(TIME).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => Error::not_now(format!(
                    "{} did not answer for {} s, and nothing could be sealed to its keys",
                    self.plugins().iter().map(|name| format!("age-plugin-{name}")).collect::<Vec<_>>().join(" or "),
                    TIME.as_secs()
                )),
                RecvTimeoutError::Disconnected => Error::failed("a plugin of age could not be spoken to"),
            })
        })
    }

    /// The names of the plugins, each once.
    fn plugins(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.keys.iter().filter_map(|key| if let Key::Plugin(key) = key { Some(key.plugin()) } else { None }).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What age encrypts to: one for each key, and one for all keys of a plugin.
    fn resolve(&self, ask: &Arc<dyn Ask>) -> Result<Vec<Box<dyn age::Recipient>>> {
        let mut resolved: Vec<Box<dyn age::Recipient>> = Vec::new();
        let mut of_plugins = Vec::new();
        for key in &self.keys {
            match key {
                Key::X25519(key) => resolved.push(Box::new(key.clone())),
                Key::Tag(key) => resolved.push(Box::new(key.clone())),
                Key::TagPq(key) => resolved.push(key.clone()),
                Key::Ssh(key) => resolved.push(Box::new(key.clone())),
                Key::Plugin(key) => of_plugins.push(key.clone()),
            }
        }
        for name in self.plugins() {
            let asking = ForPlugin { ask: Arc::clone(ask), program: format!("age-plugin-{name}") };
            let plugin = RecipientPluginV1::new(name, &of_plugins, &[], asking).map_err(|_| {
                let keys: Vec<String> = of_plugins.iter().filter(|key| key.plugin() == name).map(ToString::to_string).collect();
                no_plugin(name).context(format!("nothing can be sealed to {}", keys.join(", ")))
            })?;
            resolved.push(Box::new(plugin));
        }
        Ok(resolved)
    }
}

/// Encrypts to what was resolved.
fn encrypt_to(keys: &[Box<dyn age::Recipient>], plain: &[u8]) -> Result<Vec<u8>> {
    super::open::encrypt(keys.iter().map(AsRef::as_ref), plain)
}

/// The error for what could not be encrypted, without the library's own translations where that is possible.
pub(super) fn in_words(error: age::EncryptError) -> Error {
    match error {
        age::EncryptError::Plugin(errors) => {
            let words: Vec<String> = errors.iter().map(plugin_words).collect();
            Error::failed(format!("an age plugin could not seal: {}", words.join("; ")))
        }
        age::EncryptError::IncompatibleRecipients { .. } => {
            Error::usage("the recipients cannot be used together: some are meant to withstand quantum computers and others are not")
                .hint("Give recipients of one kind alone; a key file that any of them opens is as weak as the weakest.")
        }
        age::EncryptError::Io(error) => Error::failed("could not encrypt").because(error),
        other => Error::failed(format!("could not encrypt: {other:?}")),
    }
}

/// Whether the age recipients of client.toml can be used, plugins included, without using them.
///
/// # Errors
/// Of kind usage, with what is wrong.
pub fn check_recipients(recipients: &[String]) -> Result<()> {
    Recipients::parse(recipients)?.resolve(&(Arc::new(super::Nobody) as Arc<dyn Ask>)).map(|_| ())
}

/// Whether this is an epoch's recipient as it is written everywhere: `age1` and 58 letters and digits, in small letters.
pub fn is_epoch_recipient(text: &str) -> bool {
    text.parse::<age::x25519::Recipient>().is_ok_and(|key| key.to_string() == text)
}

fn parse(text: &str) -> Result<(String, Key)> {
    let wrong = |why: &str| Error::usage(format!("{text:?} cannot be a recipient: {why}"));
    if text.starts_with("AGE-SECRET-KEY-") || text.starts_with("AGE-PLUGIN-") {
        // Not repeated in the message: it is a secret.
        return Err(Error::usage("a recipient is a secret key")
            .hint("Put the public half there, which begins with age1, and keep the secret off this machine."));
    }
    if text.starts_with("ssh-") {
        let key: age::ssh::Recipient = text.parse().map_err(|e| wrong(&format!("{e:?}")))?;
        return Ok((key.to_string(), Key::Ssh(key)));
    }
    if text.starts_with("sk-") || text.starts_with("ecdsa-") {
        return Err(wrong("age can encrypt to ssh-ed25519 and ssh-rsa keys, and to no other kind of ssh key")
            .hint("For a hardware key, take a plugin of age, as age-plugin-yubikey or age-plugin-fido2-hmac."));
    }
    if let Ok(key) = text.parse::<age::x25519::Recipient>() {
        return Ok((key.to_string(), Key::X25519(key)));
    }
    if text.starts_with("age1tag1")
        && let Ok(key) = text.parse::<age::tag::Recipient>()
    {
        return Ok((text.into(), Key::Tag(key)));
    }
    if text.starts_with("age1tagpq1")
        && let Ok(key) = text.parse::<age::tagpq::Recipient>()
    {
        return Ok((text.into(), Key::TagPq(Box::new(key))));
    }
    match text.parse::<age::plugin::Recipient>() {
        Ok(key) => Ok((text.into(), Key::Plugin(key))),
        Err(why) if text.starts_with("age1") => {
            Err(wrong(&format!("it is not whole ({why})")).hint("Copy the whole line, without spaces."))
        }
        Err(_) => Err(wrong("it is neither an age key (age1…) nor an ssh-ed25519 or ssh-rsa public key")),
    }
}
