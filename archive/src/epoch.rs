//! Keys: the client's chunk secret, the epoch key that packs are sealed to, and the identities that open it.
//!
//! Knows nothing of where manifests and packs are kept.

use crate::entry::newer;
use crate::limits;
use crate::manifest::{EpochPublic, Public};
use age::secrecy::ExposeSecret;
use base::{At, Error, Result, atomic};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Read;
use std::path::Path;

/// The client's secret of 32 bytes, by which chunks are known and cut. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    chunk: [u8; 32],
}

/// What a chunk is known by: BLAKE3 of its bytes, keyed with the client's secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 32]);

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base::digest::to_hex(&self.0))
    }
}

impl Secrets {
    /// The secret kept in `folder`, or a new one.
    ///
    /// # Errors
    /// With the path.
    pub fn load_or_create(folder: &Path) -> Result<Self> {
        atomic::make_folder(folder, 0o700)?;
        let path = folder.join("chunk");
        if !path.exists() {
            let mut chunk = [0; 32];
            getrandom::fill(&mut chunk).map_err(|e| Error::failed(format!("no random bytes from the system: {e}")))?;
            // Where another process was first, its secret is the one.
            let written = atomic::write_new(&path, format!("{}\n", base::digest::to_hex(&chunk)).as_bytes(), 0o600);
            if let Err(error) = written
                && !path.exists()
            {
                return Err(error);
            }
        }
        let text = base::untrusted::read(&path, 100)?.bytes;
        let hex = std::str::from_utf8(&text).map(str::trim_end).unwrap_or_default();
        Self::from_hex(hex).ok_or_else(|| {
            Error::failed(format!("{} does not hold 64 hex digits", path.display()))
                .hint("Without the old secret everything is sent again once; remove the file to begin with a new one.")
        })
    }

    /// The secret of these 32 bytes.
    pub fn from_bytes(chunk: [u8; 32]) -> Self {
        Self { chunk }
    }

    /// The secret of these 64 hex digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        base::Blake3::from_hex(hex).map(|bytes| Self { chunk: bytes.0 })
    }

    pub(crate) fn to_hex(&self) -> String {
        base::digest::to_hex(&self.chunk)
    }

    /// What the chunk of these bytes is known by.
    pub fn chunk_id(&self, bytes: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.chunk, bytes).as_bytes())
    }

    /// A hasher for content that comes piece by piece; what it gives for a chunk's bytes is the chunk's id.
    pub fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.chunk)
    }

    /// A text of 64 letters and digits that is always the same for this client and `purpose`, and that nobody else knows.
    pub fn word(&self, purpose: &str) -> String {
        blake3::derive_key(purpose, &self.chunk).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The seed of the content-defined cutting.
    pub(crate) fn cutting_seed(&self) -> u64 {
        let derived = blake3::derive_key("nightsafe 2026 seed of content-defined cutting", &self.chunk);
        derived[..8].iter().rev().fold(0, |seed, byte| seed << 8 | u64::from(*byte))
    }

    /// Whether a catalog's segment of this level ends after the line with this key.
    pub(crate) fn ends_segment(&self, level: u8, key: &[u8]) -> bool {
        let hash = self.hasher().update(&[level]).update(key).finalize();
        hash.as_bytes()[0] & 0xfc == 0
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

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
    /// # Errors
    /// Of kind usage when a recipient cannot be used; otherwise with the path.
    pub fn current(path: &Path, recipients: &[String], now: Timestamp) -> Result<Self> {
        let recipients = Recipients::parse(recipients)?;
        if let Some(file) = load_file(path)?
            && file.epoch.recipients == recipients.texts
            && now.as_second().saturating_sub(file.made.as_second()) < YEAR
        {
            return Self::of(file.epoch);
        }
        let identity = age::x25519::Identity::generate();
        let secret = format!("{}\n", identity.to_string().expose_secret());
        let key_file = encrypt(recipients.keys.iter().map(|key| key.as_ref() as &dyn age::Recipient), secret.as_bytes())?;
        let public =
            EpochPublic { recipient: identity.to_public().to_string(), recipients: recipients.texts, key_file: STANDARD.encode(key_file) };
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

/// Recipients as keys, and as the texts that people know them by (sorted, without comments).
struct Recipients {
    keys: Vec<Box<dyn age::Recipient>>,
    texts: Vec<String>,
}

impl Recipients {
    fn parse(texts: &[String]) -> Result<Self> {
        let mut all = Vec::new();
        for text in texts {
            all.push(parse_recipient(text.trim())?);
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
}

/// Whether an age recipient of client.toml can be used, without using it.
///
/// # Errors
/// Of kind usage, with what is wrong.
pub fn check_recipients(recipients: &[String]) -> Result<()> {
    Recipients::parse(recipients).map(|_| ())
}

fn parse_recipient(text: &str) -> Result<(String, Box<dyn age::Recipient>)> {
    let wrong = |why: &str| Error::usage(format!("{text:?} cannot be a recipient: {why}"));
    if text.starts_with("AGE-SECRET-KEY-") {
        // Not repeated in the message: it is a secret.
        return Err(Error::usage("a recipient in client.toml is a secret key")
            .hint("Put the public half there, which begins with age1, and keep the secret off this machine."));
    }
    if text.starts_with("ssh-") {
        let key: age::ssh::Recipient = text.parse().map_err(|e| wrong(&format!("{e:?}")))?;
        return Ok((key.to_string(), Box::new(key)));
    }
    if let Ok(key) = text.parse::<age::x25519::Recipient>() {
        return Ok((key.to_string(), Box::new(key)));
    }
    if text.parse::<age::plugin::Recipient>().is_ok() || text.starts_with("age1") && text[4..].contains('1') {
        return Err(wrong("keys of age plugins cannot be used by this version")
            .hint("Use a plain age key (age1…) or an ssh key (ssh-ed25519, ssh-rsa)."));
    }
    Err(wrong("it is neither an age key (age1…) nor an ssh-ed25519 or ssh-rsa public key"))
}

/// Encrypts a small thing at once.
pub(crate) fn encrypt<'a>(recipients: impl Iterator<Item = &'a dyn age::Recipient>, plain: &[u8]) -> Result<Vec<u8>> {
    use std::io::Write as _;
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| Error::failed("could not encrypt").because(e);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(|e| failed(e.into()))?;
    let mut out = Vec::with_capacity(plain.len() + 512);
    let mut writer = encryptor.wrap_output(&mut out).map_err(|e| failed(e.into()))?;
    writer.write_all(plain).and_then(|()| writer.finish().map(|_| ())).map_err(|e| failed(e.into()))?;
    Ok(out)
}

/// What a keyholder has: age identities and ssh private keys.
pub struct IdentityFile {
    identities: Vec<Box<dyn age::Identity + Send + Sync>>,
}

impl fmt::Debug for IdentityFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityFile({})", self.identities.len())
    }
}

impl IdentityFile {
    /// Reads `AGE-SECRET-KEY-1…` lines, or an ssh private key without a passphrase.
    ///
    /// # Errors
    /// With the path and what to do.
    pub fn load(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).at("open the identity file", path)?;
        let bytes = base::untrusted::read_bounded(file, 1 << 20).at("read the identity file", path)?;
        Self::parse(&bytes).map_err(|e| e.context(format!("could not use the identity file {}", path.display())))
    }

    /// As [`IdentityFile::load`] for a file's content.
    ///
    /// # Errors
    /// With what to do.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::usage("it is not text"))?;
        let identities = if text.trim_start().starts_with("-----BEGIN") { vec![ssh_identity(text)?] } else { age_identities(text)? };
        Ok(Self { identities })
    }

    fn each(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.identities.iter().map(|identity| identity.as_ref() as &dyn age::Identity)
    }
}

fn ssh_identity(text: &str) -> Result<Box<dyn age::Identity + Send + Sync>> {
    let key = age::ssh::Identity::from_buffer(text.trim_start().as_bytes(), None)
        .map_err(|e| Error::usage("it is no ssh private key that can be read").because(e))?;
    match key {
        age::ssh::Identity::Unencrypted(_) => Ok(Box::new(key)),
        age::ssh::Identity::Encrypted(_) => Err(Error::usage("the ssh key has a passphrase")
            .hint("Make a copy without one for the restore (`ssh-keygen -p -N '' -f COPY`) and remove it afterwards.")),
        age::ssh::Identity::Unsupported(_) => Err(Error::usage("keys of this type cannot decrypt; ssh-ed25519 and ssh-rsa can")),
    }
}

fn age_identities(text: &str) -> Result<Vec<Box<dyn age::Identity + Send + Sync>>> {
    let mut identities: Vec<Box<dyn age::Identity + Send + Sync>> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with("AGE-PLUGIN-") {
            return Err(Error::usage("identities of age plugins cannot be used by this version")
                .hint("Use a plain age identity (AGE-SECRET-KEY-1…) or an ssh key."));
        }
        // The line is a secret: the message names its number alone.
        let key: age::x25519::Identity = line.parse().map_err(|e| Error::usage(format!("line {} is no age identity: {e}", number + 1)))?;
        identities.push(Box::new(key));
    }
    if identities.is_empty() {
        Err(Error::usage("it holds no identity").hint("A line that begins with AGE-SECRET-KEY-1 is expected."))
    } else {
        Ok(identities)
    }
}

/// The secret half of an epoch's key, as a keyholder gets it: opens packs and sealed parts.
#[derive(Clone)]
pub struct EpochKey {
    identity: age::x25519::Identity,
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
        age::DecryptError::ExcessiveWork { .. } => "it was encrypted with a passphrase".into(),
        other => format!("{other:?}").into(),
    }
}

/// Opens the key file in a manifest's public part.
///
/// # Errors
/// When none of the identities opens it (it then says for whom the snapshot was made), or what comes out is not the
/// key that the manifest names.
pub fn open_epoch(public: &Public, identities: &IdentityFile) -> Result<EpochKey> {
    let epoch = &public.epoch;
    let bytes = epoch.key_file_bytes()?;
    let wrong = || {
        let made_for = epoch.recipients.iter().map(|text| base::text::printable(text)).collect::<Vec<_>>().join(", ");
        Error::failed(format!("wrong identity: this snapshot was made for {made_for}"))
            .hint("Give the identity file of one of these keys with --identity.")
    };
    let decryptor =
        age::Decryptor::new(&bytes[..]).map_err(|e| Error::failed("the manifest's key file is damaged").because(in_words(e)))?;
    let reader = decryptor.decrypt(identities.each()).map_err(|e| match e {
        age::DecryptError::NoMatchingKeys | age::DecryptError::KeyDecryptionFailed => wrong(),
        other => Error::failed("could not open the manifest's key file").because(in_words(other)),
    })?;
    let plain = base::untrusted::read_bounded(reader, limits::KEY_FILE)
        .map_err(|e| Error::failed("the manifest's key file is damaged").because(e))?;
    let text = std::str::from_utf8(&plain).unwrap_or_default().trim_end();
    let identity: age::x25519::Identity =
        text.parse().map_err(|e| Error::failed(format!("the manifest's key file holds no age identity: {e}")))?;
    if identity.to_public().to_string() != epoch.recipient {
        return Err(Error::refused("the manifest's key file holds another key than the manifest names; somebody has changed it"));
    }
    Ok(EpochKey { identity })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Counts, Manifest, PackRef, Root, Sealed, SealedPack, SealedRef, VERSION};
    use crate::reference::{Member, RunId};
    use base::{Blake3, Dataset, Name};

    const SSH: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZWQyNTUxOQAAACCzPq7zfqLffKoBDe/eo04kH2XxtSmk9D7RQyf1xUqrYgAAAJgAIAxdACAMXQAAAAtzc2gtZWQyNTUxOQAAACCzPq7zfqLffKoBDe/eo04kH2XxtSmk9D7RQyf1xUqrYgAAAEC2BsIi0QwW2uFscKTUUXNHLsYX4FxlaSDSblbAj7WR7bM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqtiAAAAEHVzZXJAZXhhbXBsZS5jb20BAgMEBQ==\n-----END OPENSSH PRIVATE KEY-----\n";
    const SSH_PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti user@example.com";

    fn identity() -> (String, IdentityFile) {
        let identity = age::x25519::Identity::generate();
        let text = format!("# created: today\n\n{}\n", identity.to_string().expose_secret());
        (identity.to_public().to_string(), IdentityFile::parse(text.as_bytes()).unwrap())
    }

    fn manifest(epoch: &Epoch) -> (Manifest, Sealed) {
        let id: base::RequestId = "20261120T031500Z-3f9a1c7e".parse().unwrap();
        let dataset: Dataset = "files:/a".parse().unwrap();
        let at = Member { run: RunId(1), frame: 2, n: 3 };
        let sealed = Sealed {
            version: VERSION,
            id: id.clone(),
            dataset: dataset.clone(),
            secret: Secrets::from_bytes([7; 32]),
            root: Root { at, id: ChunkId([1; 32]), level: 1 },
            packs: vec![SealedPack { run: RunId(1), first: 0, frames: 3, table: Blake3([2; 32]) }],
            unreadable: vec![crate::manifest::Unreadable { path: b"\xff".to_vec(), why: "no".into() }],
            skipped: vec![crate::manifest::Unreadable { path: b"s".to_vec(), why: "a socket".into() }],
            tags: vec!["t".into()],
            stream: false,
            time: base::clock::now(),
        };
        let public = Public {
            version: VERSION,
            id,
            client: Name::new("web1").unwrap(),
            node: Name::new("node1").unwrap(),
            dataset,
            epoch: epoch.public().clone(),
            packs: vec![PackRef { digest: Blake3([3; 32]), size: 65_536 }],
            counts: Counts { entries: 1, files: 1, bytes: 5, unreadable: 1 },
            sealed: SealedRef { digest: Blake3([0; 32]), size: 0 },
        };
        (Manifest::seal(public, &sealed, epoch.recipient()).unwrap(), sealed)
    }

    #[test]
    fn each_recipient_opens_and_others_are_told_for_whom_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epochs/node1.toml");
        let ((one, one_file), (_, other_file)) = (identity(), identity());
        let epoch = Epoch::current(&path, &[SSH_PUBLIC.into(), one.clone()], base::clock::now()).unwrap();
        let (manifest, sealed) = manifest(&epoch);
        let ssh = IdentityFile::parse(SSH.as_bytes()).unwrap();
        for identities in [&one_file, &ssh] {
            let key = open_epoch(&manifest.public, identities).unwrap();
            assert_eq!(manifest.open(&key).unwrap(), sealed);
        }
        let error = open_epoch(&manifest.public, &other_file).unwrap_err().render();
        assert!(error.contains(&one) && error.contains("ssh-ed25519 AAAA") && !error.contains("example.com"), "{error}");
        // A key file that holds another key than the manifest names.
        let mut swapped = manifest.public.clone();
        swapped.epoch.recipient = one;
        assert!(open_epoch(&swapped, &one_file).unwrap_err().one_line().contains("another key"));
    }

    #[test]
    fn an_epoch_lasts_a_year_and_is_for_one_set_of_recipients() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epochs/node1.toml");
        let ((one, _), (two, _)) = (identity(), identity());
        let now = base::clock::now();
        let at = |days: i64, recipients: &[&String]| {
            let recipients: Vec<String> = recipients.iter().map(|s| (*s).clone()).collect();
            let now = Timestamp::from_second(now.as_second() + days * 86_400).unwrap();
            Epoch::current(&path, &recipients, now).unwrap().public().recipient.clone()
        };
        let first = at(0, &[&one, &two]);
        assert_eq!(at(364, &[&two, &one, &two]), first);
        assert_eq!(at(-3, &[&one, &two]), first);
        let later = at(366, &[&one, &two]);
        assert_ne!(later, first);
        assert_ne!(at(366, &[&one]), later);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("AGE-SECRET"));
        std::fs::write(&path, "version = 2").unwrap();
        assert!(Epoch::current(&path, &[one], now).is_err());
    }

    #[test]
    fn recipients_and_identities_that_cannot_be_used_say_why() {
        let secret = age::x25519::Identity::generate().to_string();
        for (bad, why) in [
            ("", "neither"),
            ("age1", "neither"),
            ("age1yubikey1qgqgqgqg", "plugins"),
            (secret.expose_secret(), "secret key"),
            ("ssh-ed25519", "cannot be a recipient"),
            ("ssh-dss AAAA", "cannot be a recipient"),
            ("bob", "neither"),
        ] {
            let error = check_recipients(&[bad.into()]).unwrap_err();
            assert!(error.render().contains(why) && error.kind() == base::Kind::Usage, "{bad}: {}", error.render());
            assert!(!error.render().contains("AGE-SECRET-KEY-1"), "the secret is repeated");
        }
        assert!(check_recipients(&[]).is_err());
        for (bad, why) in [
            ("", "no identity"),
            ("# only\n", "no identity"),
            ("AGE-PLUGIN-YUBIKEY-1", "plugins"),
            ("AGE-SECRET-KEY-1X", "line 1"),
            ("-----BEGIN X-----\n", "ssh"),
            ("\u{0}", "line 1"),
        ] {
            assert!(IdentityFile::parse(bad.as_bytes()).unwrap_err().render().contains(why), "{bad}");
        }
        assert!(IdentityFile::parse(b"\xff").is_err());
    }

    #[test]
    fn the_secret_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("secret");
        let first = Secrets::load_or_create(&folder).unwrap();
        assert!(first == Secrets::load_or_create(&folder).unwrap());
        assert!(!format!("{first:?}").contains(&first.to_hex()));
        std::fs::write(folder.join("chunk"), "short").unwrap();
        assert!(Secrets::load_or_create(&folder).is_err());
    }

    #[test]
    fn hostile_manifests() {
        let dir = tempfile::tempdir().unwrap();
        let (one, file) = identity();
        let epoch = Epoch::current(&dir.path().join("e.toml"), &[one], base::clock::now()).unwrap();
        let (good, sealed) = manifest(&epoch);
        let bytes = good.to_bytes();
        assert_eq!(Manifest::parse(&bytes).unwrap().digest, Blake3::of(&bytes));
        let line = bytes.iter().position(|b| *b == b'\n').unwrap();
        let text = std::str::from_utf8(&bytes[..line]).unwrap();
        let with = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            [text.replacen(from, to, 1).as_bytes(), &bytes[line..]].concat()
        };
        let digest = "\"digest\":\"blake3:0303";
        let mut bad = vec![
            Vec::new(),
            b"\n".to_vec(),
            b"{}\n".to_vec(),
            bytes[..line].to_vec(),
            bytes[..line + 1].to_vec(),
            bytes[..bytes.len() - 1].to_vec(),
            [&bytes[..], b"x"].concat(),
            vec![b'a'; limits::MANIFEST + 1],
        ];
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"version\":1", "\"version\":1,\"x\":1"),
            ("\"web1\"", "\"../x\""),
            ("files:/a", "files:/a/../b"),
            ("3f9a1c7e", "3F9A1C7E"),
            (digest, "\"digest\":\"blake3:XX03"),
            ("\"size\":65536", "\"size\":0"),
            ("\"size\":65536", "\"size\":-1"),
            ("\"entries\":1", "\"entries\":-1"),
            ("\"recipient\":\"age1", "\"recipient\":\"bge1"),
            ("\"key_file\":\"", "\"key_file\":\"*"),
        ] {
            bad.push(with(from, to));
        }
        let packs = text.find("\"packs\":[").unwrap() + 9;
        let end = packs + text[packs..].find(']').unwrap();
        let pack = &text[packs..end];
        bad.push(with(pack, &format!("{pack},{pack}")));
        bad.push(with(pack, ""));
        bad.push(with(pack, &format!("{pack},{}", pack.replace("0303", "0404").replace("65536", &u64::MAX.to_string()))));
        for bytes in bad {
            assert!(Manifest::parse(&bytes).is_err(), "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
        }
        assert!(Manifest::parse(&with("\"version\":1", "\"version\":2")).unwrap_err().render().contains("newer nightsafe"));
        // The public part of one snapshot with the sealed part of another.
        let key = open_epoch(&good.public, &file).unwrap();
        assert!(Manifest::parse(&with("3f9a1c7e", "3f9a1c7f")).unwrap().open(&key).unwrap_err().one_line().contains("different snapshots"));
        let seal = |change: &dyn Fn(&mut Sealed)| {
            let mut other = sealed.clone();
            change(&mut other);
            Manifest::seal(good.public.clone(), &other, epoch.recipient()).unwrap().open(&key)
        };
        assert!(seal(&|_| ()).is_ok());
        assert!(seal(&|s| s.packs.clear()).is_err());
        assert!(seal(&|s| s.packs[0].frames = 0).is_err());
        assert!(seal(&|s| s.root.level = limits::LEVELS).is_err());
        assert!(seal(&|s| s.dataset = "files:/b".parse().unwrap()).is_err());
        assert!(seal(&|s| s.version = 2).unwrap_err().render().contains("newer"));
    }
}
