//! What a keyholder has: age identities, ssh private keys, identities of plugins; locked ones are unlocked when needed.
//!
//! Knows no manifest and no epoch; asks nobody before it has to.

use super::ask::{Ask, ForPlugin, Nobody, no_plugin};
use super::open::{EpochKey, read_all};
use age::plugin::IdentityPluginV1;
use age::secrecy::SecretString;
use base::{At, Error, Result, Sha256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The longest identity file, in bytes.
const LIMIT: usize = 1 << 20;

type Ready = Box<dyn age::Identity + Send + Sync>;
/// A plugin by its name, with all its identities.
type Plugin = (String, Ready);

/// What a keyholder has: age identities, ssh private keys and identities of plugins, of one file or of several.
///
/// A passphrase is asked for once, and only when nothing else opens; what opened an epoch is remembered, so that each
/// epoch costs one operation of a hardware key however many snapshots are read.
pub struct IdentityFile {
    inner: Mutex<Inner>,
    ask: Arc<dyn Ask>,
}

#[derive(Default)]
struct Inner {
    /// Usable without asking.
    ready: Vec<Ready>,
    plugins: Vec<Plugin>,
    locked: Vec<Locked>,
    known: HashMap<String, EpochKey>,
}

/// What needs a passphrase first.
enum Locked {
    /// An ssh key, and the tag by which an age file names it.
    Ssh { path: String, tag: String, key: age::ssh::Identity },
    /// An identity file that `age -p` encrypted.
    File { path: String, bytes: Vec<u8> },
    /// Could not be unlocked; nobody is asked again.
    Broken { words: String, hint: Option<&'static str> },
}

impl std::fmt::Debug for IdentityFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdentityFile")
    }
}

impl IdentityFile {
    /// Reads one file: `AGE-SECRET-KEY-1…` and `AGE-PLUGIN-…` lines, an ssh private key, or an identity file that is
    /// encrypted with a passphrase. Nobody is asked for it.
    ///
    /// # Errors
    /// With the path and what to do.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_all(&[path], Arc::new(Nobody))
    }

    /// As [`IdentityFile::load`] for several files; `ask` is asked for passphrases and by plugins.
    ///
    /// # Errors
    /// With the path and what to do.
    pub fn load_all(paths: &[&Path], ask: Arc<dyn Ask>) -> Result<Self> {
        let mut found = Found::default();
        for path in paths {
            let file = std::fs::File::open(path).at("open the identity file", path)?;
            let bytes = base::untrusted::read_bounded(file, LIMIT).at("read the identity file", path)?;
            found
                .take(&bytes, &path.display().to_string())
                .map_err(|e| e.context(format!("could not use the identity file {}", path.display())))?;
        }
        found.finish(ask)
    }

    /// As [`IdentityFile::load`] for a file's content.
    ///
    /// # Errors
    /// With what to do.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut found = Found::default();
        found.take(bytes, "given")?;
        found.finish(Arc::new(Nobody))
    }

    /// Whether a person may have to do something for it: type a passphrase, plug in a key, touch it.
    pub fn needs_a_person(&self) -> bool {
        let inner = self.lock();
        !inner.locked.is_empty() || !inner.plugins.is_empty()
    }

    /// Who is asked.
    pub(super) fn ask(&self) -> &Arc<dyn Ask> {
        &self.ask
    }

    /// The key of the epoch with this recipient, if it was opened before.
    pub(super) fn known(&self, recipient: &str) -> Option<EpochKey> {
        self.lock().known.get(recipient).cloned()
    }

    /// Remembers an epoch's key.
    pub(super) fn remember(&self, recipient: &str, key: &EpochKey) {
        self.lock().known.insert(recipient.into(), key.clone());
    }

    /// Decrypts a small age file with whatever opens it: first keys that need nothing, then plugins, then what has a
    /// passphrase. `None` when it is for none of them.
    ///
    /// # Errors
    /// When it is no age file or was changed; when a plugin fails or a passphrase is wrong, and nothing else opens it.
    pub(super) fn decrypt(&self, bytes: &[u8], limit: usize) -> Result<Option<Vec<u8>>> {
        let mut inner = self.lock();
        let mut trouble = None;
        let plugins = inner.plugins.iter().map(|(_, plugin)| plugin);
        for key in inner.ready.iter().chain(plugins) {
            match read_all(bytes, key.as_ref(), limit) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => trouble = Some(error),
            }
        }
        let mut i = 0;
        while i < inner.locked.len() {
            if let Locked::Ssh { tag, .. } = &inner.locked[i]
                && !names_tag(bytes, tag)
            {
                i += 1;
                continue;
            }
            match self.unlock(&inner.locked[i]) {
                Ok(found) => {
                    inner.locked.remove(i);
                    let (ready, plugins) = found.keys(&self.ask)?;
                    let plugins_from = inner.plugins.len();
                    let ready_from = inner.ready.len();
                    inner.ready.extend(ready);
                    inner.plugins.extend(plugins);
                    let new = inner.ready[ready_from..].iter().chain(inner.plugins[plugins_from..].iter().map(|(_, plugin)| plugin));
                    for key in new {
                        match read_all(bytes, key.as_ref(), limit) {
                            Ok(None) => {}
                            Ok(found) => return Ok(found),
                            Err(error) => trouble = Some(error),
                        }
                    }
                }
                Err((words, hint)) => {
                    let error = Error::failed(words.clone());
                    trouble = Some(if let Some(hint) = hint { error.hint(hint) } else { error });
                    inner.locked[i] = Locked::Broken { words, hint };
                    i += 1;
                }
            }
        }
        trouble.map_or(Ok(None), Err)
    }

    /// Asks for a passphrase and unlocks; otherwise why not.
    fn unlock(&self, locked: &Locked) -> std::result::Result<Found, (String, Option<&'static str>)> {
        let ask = |what: String| -> std::result::Result<SecretString, (String, Option<&'static str>)> {
            self.ask.secret(&what).ok_or_else(|| {
                let hint = "Run it at a terminal, or give the passphrase in a file or a descriptor with --passphrase-file.";
                (format!("the {} was not given", what.replacen("Passphrase", "passphrase", 1)), Some(hint))
            })
        };
        let mut found = Found::default();
        match locked {
            Locked::Ssh { path, key, .. } => {
                let passphrase = ask(format!("Passphrase of the ssh key {path}"))?;
                let age::ssh::Identity::Encrypted(encrypted) = key else { return Ok(found) };
                let unlocked =
                    encrypted.decrypt(passphrase).map_err(|_| (format!("that is not the passphrase of the ssh key {path}"), None))?;
                found.ready.push(Box::new(age::ssh::Identity::from(unlocked)));
            }
            Locked::File { path, bytes } => {
                let passphrase = ask(format!("Passphrase of the identity file {path}"))?;
                let identity = age::scrypt::Identity::new(passphrase);
                let wrong = || (format!("that is not the passphrase of the identity file {path}"), None);
                let decryptor = age::Decryptor::new(&bytes[..]).map_err(|_| (format!("{path} was cut off"), None))?;
                let reader = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(|error| match error {
                    age::DecryptError::ExcessiveWork { .. } => {
                        (format!("the passphrase of {path} takes longer to check than is allowed here"), None)
                    }
                    _ => wrong(),
                })?;
                let plain = base::untrusted::read_bounded(reader, LIMIT).map_err(|error| (format!("{path}: {error}"), None))?;
                found.take_plain(&plain, path).map_err(|error| (format!("{path}: {}", error.one_line()), None))?;
            }
            Locked::Broken { words, hint } => return Err((words.clone(), *hint)),
        }
        Ok(found)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an age file's head names the ssh key with this tag.
fn names_tag(bytes: &[u8], tag: &str) -> bool {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(crate::limits::KEY_FILE)]);
    let of = |line: &str| {
        let mut words = line.strip_prefix("-> ssh-")?.split(' ');
        words.next()?;
        words.next().map(|found| found == tag)
    };
    text.lines().take_while(|line| !line.starts_with("---")).filter_map(of).any(|same| same)
}

/// What was read of files.
#[derive(Default)]
struct Found {
    ready: Vec<Ready>,
    plugins: Vec<age::plugin::Identity>,
    locked: Vec<Locked>,
}

impl Found {
    fn finish(self, ask: Arc<dyn Ask>) -> Result<IdentityFile> {
        let mut this = self;
        let locked = std::mem::take(&mut this.locked);
        let (ready, plugins) = this.keys(&ask)?;
        Ok(IdentityFile { inner: Mutex::new(Inner { ready, plugins, locked, known: HashMap::new() }), ask })
    }

    /// The keys that are ready, and the plugins that were found.
    fn keys(self, ask: &Arc<dyn Ask>) -> Result<(Vec<Ready>, Vec<Plugin>)> {
        let mut names: Vec<&str> = self.plugins.iter().map(age::plugin::Identity::plugin).collect();
        names.sort_unstable();
        names.dedup();
        let mut plugins: Vec<Plugin> = Vec::new();
        for name in names {
            let asking = ForPlugin { ask: Arc::clone(ask), program: format!("age-plugin-{name}") };
            let plugin = IdentityPluginV1::new(name, &self.plugins, asking)
                .map_err(|_| no_plugin(name).context(format!("the identity AGE-PLUGIN-{}-… cannot be used", name.to_uppercase())))?;
            plugins.push((name.to_owned(), Box::new(plugin)));
        }
        Ok((self.ready, plugins))
    }

    /// Takes in a file's content.
    fn take(&mut self, bytes: &[u8], path: &str) -> Result<()> {
        if let Some(plain) = dearmored(bytes)? {
            let decryptor = age::Decryptor::new(&plain[..])
                .map_err(|_| Error::usage("it is an age file that this version does not read, or it was cut off"))?;
            if !decryptor.is_scrypt() {
                return Err(Error::usage("it is an age file that is encrypted to keys and not with a passphrase")
                    .hint("Decrypt it first with age -d, into a place that only you can read."));
            }
            self.locked.push(Locked::File { path: path.into(), bytes: plain });
            return Ok(());
        }
        self.take_plain(bytes, path)
    }

    fn take_plain(&mut self, bytes: &[u8], path: &str) -> Result<()> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::usage("it is not text"))?;
        if text.trim_start().starts_with("-----BEGIN") { self.take_ssh(text.trim_start(), path) } else { self.take_lines(text) }
    }

    fn take_ssh(&mut self, text: &str, path: &str) -> Result<()> {
        let key = age::ssh::Identity::from_buffer(text.as_bytes(), None)
            .map_err(|e| Error::usage("it is no ssh private key that can be read").because(e))?;
        match key {
            age::ssh::Identity::Unencrypted(_) => self.ready.push(Box::new(key)),
            age::ssh::Identity::Encrypted(_) => {
                let public = age::ssh::Recipient::try_from(key.clone())
                    .map_err(|_| Error::usage("it is an encrypted ssh key whose public half cannot be read"))?;
                self.locked.push(Locked::Ssh { path: path.into(), tag: tag_of(&public.to_string()), key });
            }
            age::ssh::Identity::Unsupported(age::ssh::UnsupportedKey::EncryptedPem) => {
                return Err(Error::usage("the ssh key is in an old format, which protects its passphrase badly")
                    .hint("Bring a copy of it into the new one: ssh-keygen -o -p -f COPY."));
            }
            age::ssh::Identity::Unsupported(age::ssh::UnsupportedKey::EncryptedSsh(cipher)) => {
                return Err(Error::usage(format!("the ssh key is encrypted with {}, which is not read", base::text::printable(&cipher)))
                    .hint("Encrypt a copy of it anew: ssh-keygen -p -Z aes256-ctr -f COPY."));
            }
            age::ssh::Identity::Unsupported(_) => {
                return Err(Error::usage("keys of this type cannot decrypt; ssh-ed25519 and ssh-rsa can"));
            }
        }
        Ok(())
    }

    fn take_lines(&mut self, text: &str) -> Result<()> {
        let before = self.ready.len() + self.plugins.len();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The line is a secret: the message names its number alone.
            let wrong = |e: &str| Error::usage(format!("line {} is no age identity: {e}", number + 1));
            if line.starts_with("AGE-PLUGIN-") {
                self.plugins.push(line.parse().map_err(|e: &str| wrong(e))?);
            } else if line.starts_with("age1") || line.starts_with("ssh-") {
                return Err(wrong("it is a public key").hint("Give the file with the secret half, which begins with AGE-SECRET-KEY-1."));
            } else {
                self.ready.push(Box::new(line.parse::<age::x25519::Identity>().map_err(wrong)?));
            }
        }
        if self.ready.len() + self.plugins.len() == before {
            return Err(Error::usage("it holds no identity").hint("A line that begins with AGE-SECRET-KEY-1 or AGE-PLUGIN- is expected."));
        }
        Ok(())
    }
}

/// The bytes of an age file without its armor; `None` when it is no age file.
fn dearmored(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    if bytes.starts_with(b"age-encryption.org/") {
        return Ok(Some(bytes.to_vec()));
    }
    let start = bytes.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(0);
    if !bytes[start..].starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----") {
        return Ok(None);
    }
    let reader = age::armor::ArmoredReader::new(&bytes[start..]);
    base::untrusted::read_bounded(reader, LIMIT).map(Some).map_err(|e| Error::usage("its armor cannot be read").because(e))
}

/// The tag by which an age file names an ssh key: the first 4 bytes of SHA-256 of the public key, in base64.
fn tag_of(public: &str) -> String {
    let key = public.split(' ').nth(1).and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    STANDARD_NO_PAD.encode(&Sha256::of(&key).0[..4])
}
