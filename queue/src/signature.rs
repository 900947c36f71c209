//! SSH signatures on commits, made and read exactly as git does: namespace `git`, over the raw commit without its
//! `gpgsig` header.
//!
//! Says which key signed. Whether that key may is for the caller to decide.

use base::{At, Error, Result};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, SshSig};
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use ssh_key::PublicKey;

/// The namespace of git's signatures.
pub const NAMESPACE: &str = "git";
/// The largest commit object that is read, in bytes.
pub const COMMIT_LIMIT: usize = 64 * 1024;
/// The largest file with a key that is read, in bytes.
const KEY_LIMIT: usize = 64 * 1024;
/// How long a person has to touch a hardware key or to answer the agent.
const AGENT_TIME: Duration = Duration::from_secs(120);

/// Something that signs: a private key, or the agent that has one.
#[derive(Debug)]
pub struct Signer {
    public: PublicKey,
    by: By,
}

#[derive(Debug)]
enum By {
    /// The key itself.
    Key(Box<PrivateKey>),
    /// `ssh-keygen` with this file: a public key that the agent has the private half of, or a private RSA key (the
    /// library's own RSA signatures are neither reliable nor safe against an observer of their timing).
    Program {
        file: PathBuf,
        /// Where that agent listens; `None`: where the environment says.
        socket: Option<PathBuf>,
    },
}

impl Signer {
    /// Reads an OpenSSH private key that has no passphrase.
    ///
    /// # Errors
    /// With the path, and with the way out when the key has a passphrase or another format.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::from_copy(path, path)
    }

    /// As [`Signer::from_file`], for a copy in `path` of a file that people know as `named`.
    ///
    /// # Errors
    /// As [`Signer::from_file`], with the name that people know.
    pub fn from_copy(path: &Path, named: &Path) -> Result<Self> {
        let file = File::open(path).at("open the key", named)?;
        let known = named.display();
        if file.metadata().at("stat", named)?.permissions().mode() & 0o007 != 0 {
            return Err(Error::usage(format!("the private key {known} can be read by every user"))
                .hint(format!("Run chmod 600 {known}, and make a new key if others work on this machine.")));
        }
        let bytes = base::untrusted::read_bounded(file, KEY_LIMIT).at("read the key", named)?;
        let key = PrivateKey::from_openssh(&bytes).map_err(|error| {
            Error::usage(format!("{known} is no private key that is taken here"))
                .because(error)
                .hint(format!("Make one with ssh-keygen -t ed25519 (ecdsa with 256 bits and rsa are taken as well), or bring an old file to the format with ssh-keygen -p -f {known}."))
        })?;
        if key.is_encrypted() {
            return Err(Error::usage(format!("the key {known} has a passphrase")).hint(format!(
                "Add it to your ssh agent (ssh-add {known}) and give --admin-key {known}.pub, so that the agent signs; a service needs a key without a passphrase."
            )));
        }
        let public = bare(key.public_key());
        check_kind(&public)?;
        let by = if key.algorithm().is_rsa() { By::Program { file: path.to_owned(), socket: None } } else { By::Key(Box::new(key)) };
        Ok(Self { public, by })
    }

    /// A signer that asks the ssh agent, through the `ssh-keygen` program, for the key whose public half is in `public`.
    /// This is the way for keys with a passphrase and for hardware keys.
    ///
    /// # Errors
    /// With the path, when there is no public key in it.
    pub fn from_agent(public: &Path) -> Result<Self> {
        Self::from_agent_at(public, None)
    }

    /// As [`Signer::from_agent`]; the agent that listens at `socket`, or the one that the environment names.
    fn from_agent_at(public: &Path, socket: Option<&Path>) -> Result<Self> {
        let file = File::open(public).at("open the public key", public)?;
        let bytes = base::untrusted::read_bounded(file, KEY_LIMIT).at("read the public key", public)?;
        let text = String::from_utf8_lossy(&bytes);
        let key = parse_public_key(text.trim()).map_err(|error| error.context(format!("{} holds no public key", public.display())))?;
        Ok(Self { public: key, by: By::Program { file: public.to_owned(), socket: socket.map(Path::to_owned) } })
    }

    /// The public half, without a comment.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `payload` in git's namespace; the armored signature, with a line end at its end.
    ///
    /// # Errors
    /// When the key or the agent does not sign.
    pub fn sign(&self, payload: &[u8]) -> Result<String> {
        let armored = match &self.by {
            By::Key(key) => key
                .sign(NAMESPACE, HashAlg::Sha512, payload)
                .and_then(|signature| signature.to_pem(LineEnding::LF))
                .map_err(|error| Error::failed("the key does not sign").because(error))?,
            By::Program { file, socket } => program_signature(file, socket.as_deref(), payload)?,
        };
        // A signature that does not verify is better found here than at the other end.
        let signer = verify_armored(&armored, payload)?;
        if signer != self.public {
            return Err(Error::failed("another key signed than the one that was asked"));
        }
        Ok(armored.trim_end().to_owned() + "\n")
    }
}

fn program_signature(key: &Path, socket: Option<&Path>, payload: &[u8]) -> Result<String> {
    // The payload goes in through a file in memory: the program reads it from its standard input.
    let memory =
        rustix::fs::memfd_create("nightsafe-payload", rustix::fs::MemfdFlags::CLOEXEC).at("make a file in memory for", "ssh-keygen")?;
    let mut memory = File::from(memory);
    memory.write_all(payload).at("write to", "ssh-keygen")?;
    memory.rewind().at("write to", "ssh-keygen")?;
    let mut command = base::process::command("ssh-keygen");
    command.args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"]).arg(key).stdin(memory);
    if let Some(socket) = socket {
        command.env("SSH_AUTH_SOCK", socket);
    }
    let output = base::process::run_ok(command, KEY_LIMIT, AGENT_TIME).map_err(|error| {
        error
            .context(format!("ssh-keygen did not sign with {}", key.display()))
            .hint("Is the ssh agent running (SSH_AUTH_SOCK), and does ssh-add -L list this key?")
    })?;
    String::from_utf8(output).map_err(|_| Error::failed("ssh-keygen printed no signature"))
}

/// Reads one public key in OpenSSH's form, as in `ssh-ed25519 AAAA… comment`. The comment is dropped, so that keys
/// compare equal when they are the same key.
///
/// # Errors
/// Of kind usage, also for kinds of keys that are not safe or not known.
pub fn parse_public_key(text: &str) -> Result<PublicKey> {
    let text = text.trim();
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Error::usage("a public key is one line").hint("Give each key by itself."));
    }
    let key = PublicKey::from_openssh(text).map_err(|error| {
        Error::usage(format!("{:?} is no public key", excerpt(text)))
            .because(error)
            .hint("Give the line of a .pub file, as in \"ssh-ed25519 AAAA… name\".")
    })?;
    let key = bare(&key);
    check_kind(&key)?;
    Ok(key)
}

fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The key without its comment.
fn bare(key: &PublicKey) -> PublicKey {
    PublicKey::new(key.key_data().clone(), "")
}

/// Whether keys of this kind are taken at all.
fn check_kind(key: &PublicKey) -> Result<()> {
    let good = match key.key_data() {
        ssh_key::public::KeyData::Rsa(rsa) => {
            let bits = rsa.n.as_positive_bytes().map_or(0, |n| n.len() * 8);
            (2048..=4096).contains(&bits)
        }
        _ => matches!(
            key.algorithm(),
            Algorithm::Ed25519
                | Algorithm::SkEd25519
                | Algorithm::SkEcdsaSha2NistP256
                | Algorithm::Ecdsa { curve: ssh_key::EcdsaCurve::NistP256 }
        ),
    };
    if good {
        return Ok(());
    }
    Err(Error::usage(format!("keys of the kind {} are not used here", key.algorithm()))
        .hint("Use ssh-ed25519 (best), ecdsa-sha2-nistp256, their hardware (sk) forms, or ssh-rsa with 2048 to 4096 bits."))
}

/// The key that made `armored` over `payload`.
///
/// # Errors
/// Of kind refused, when it is no signature of this payload in git's namespace.
fn verify_armored(armored: &str, payload: &[u8]) -> Result<PublicKey> {
    let signature = SshSig::from_pem(armored.trim_end()).map_err(|error| Error::refused("the signature cannot be read").because(error))?;
    if signature.version() != 1 || !signature.reserved().is_empty() {
        return Err(Error::refused("the signature is of an unknown version"));
    }
    if signature.namespace() != NAMESPACE {
        return Err(Error::refused(format!("the signature is for {:?}, not for git", signature.namespace())));
    }
    let key = PublicKey::new(signature.public_key().clone(), "");
    check_kind(&key).map_err(|error| error.with_kind(base::Kind::Refused))?;
    key.verify(NAMESPACE, payload, &signature)
        .map_err(|error| Error::refused("the signature does not belong to this commit").because(error))?;
    Ok(key)
}

/// A commit whose signature is right for the key that it names.
#[derive(Debug, Clone)]
pub struct SignedCommit {
    /// The tree's id, 40 hex digits.
    pub tree: String,
    /// The parents' ids, 40 hex digits each.
    pub parents: Vec<String>,
    /// The line behind `author`.
    pub author: String,
    /// The committer's time, seconds since 1970.
    pub time: i64,
    /// The message.
    pub message: String,
    /// What was signed: the raw commit without its signature.
    pub signed_payload: Vec<u8>,
    /// The key that made the signature, without a comment.
    pub key: PublicKey,
}

impl SignedCommit {
    /// Whether message and author can be shown as they stand, as `git log` does: no characters that steer a terminal.
    pub(crate) fn can_be_shown(&self) -> bool {
        let harmless = |line: &str| base::text::printable(line) == line;
        self.message.split(['\n', '\t']).all(harmless) && harmless(&self.author)
    }
}

/// Reads a raw commit (without git's object header) and verifies its signature with the key that the signature names.
/// The caller must compare [`SignedCommit::key`] with the keys that may sign.
///
/// Headers are exactly `tree`, `parent`s, `author`, `committer` and one `gpgsig`, in this order; git itself writes no
/// other ones for such commits, and whatever else could stand there has a meaning that we would not look at.
///
/// # Errors
/// Of kind refused, with the rule that is broken.
pub fn read_commit(raw: &[u8]) -> Result<SignedCommit> {
    if raw.len() > COMMIT_LIMIT {
        return Err(Error::refused(format!("the commit is longer than {COMMIT_LIMIT} bytes")));
    }
    let text = std::str::from_utf8(raw).map_err(|_| Error::refused("the commit is not UTF-8 text"))?;
    if text.contains('\0') {
        return Err(Error::refused("the commit holds a zero byte"));
    }
    let (head, message) = text.split_once("\n\n").ok_or_else(|| Error::refused("the commit has no message"))?;
    let mut lines = head.split('\n').peekable();
    let tree = hex40(header(&mut lines, "tree")?)?;
    let mut parents = Vec::new();
    while lines.peek().is_some_and(|line| line.starts_with("parent ")) {
        parents.push(hex40(header(&mut lines, "parent")?)?);
        if parents.len() > 16 {
            return Err(Error::refused("the commit has more than 16 parents"));
        }
    }
    let author = header(&mut lines, "author")?;
    identity_time(author)?;
    let committer = header(&mut lines, "committer")?;
    let time = identity_time(committer)?;
    let mut armored = match lines.peek() {
        None => {
            return Err(
                Error::refused("the commit is not signed").hint("Sign it with an ssh key: git config gpg.format ssh, git commit -S.")
            );
        }
        Some(line) if !line.starts_with("gpgsig ") => {
            return Err(Error::refused(format!("the commit has a header {:?} that is not allowed here", excerpt(line))));
        }
        Some(_) => header(&mut lines, "gpgsig")?.to_owned() + "\n",
    };
    for line in lines {
        let Some(line) = line.strip_prefix(' ') else {
            return Err(Error::refused(format!("the commit has a header {:?} behind its signature", excerpt(line))));
        };
        armored.push_str(line);
        armored.push('\n');
    }
    // The head without `gpgsig` and its continuation is what git gave to the signer.
    let end = head.find("\ngpgsig ").ok_or_else(|| Error::refused("the commit is not signed"))?;
    let signed_payload = [&head[..end], "\n\n", message].concat().into_bytes();
    let key = verify_armored(&armored, &signed_payload)?;
    Ok(SignedCommit { tree, parents, author: author.to_owned(), time, message: message.to_owned(), signed_payload, key })
}

fn header<'a>(lines: &mut impl Iterator<Item = &'a str>, name: &str) -> Result<&'a str> {
    lines
        .next()
        .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .ok_or_else(|| Error::refused(format!("the commit has no header {name} where it must stand")))
}

/// 40 lowercase hex digits.
pub(crate) fn hex40(text: &str) -> Result<String> {
    if text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(text.to_owned());
    }
    Err(Error::refused(format!("{:?} is no object's id", excerpt(text))))
}

/// The time of `NAME <EMAIL> SECONDS ZONE`.
fn identity_time(line: &str) -> Result<i64> {
    let wrong = || Error::refused(format!("{:?} does not say who made the commit and when", excerpt(line)));
    if line.chars().any(char::is_control) {
        return Err(wrong());
    }
    let (who, when) = line.rsplit_once("> ").ok_or_else(wrong)?;
    let (name, email) = who.split_once('<').ok_or_else(wrong)?;
    let (seconds, zone) = when.split_once(' ').ok_or_else(wrong)?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let zone_is_right = zone.strip_prefix(['+', '-']).is_some_and(|z| z.len() == 4 && digits(z));
    if name.contains('>') || email.contains(['<', '>']) || !zone_is_right || !digits(seconds) || seconds.len() > 12 {
        return Err(wrong());
    }
    seconds.parse().map_err(|_| wrong())
}

/// The raw commit: `payload` (headers, empty line, message) with the signature where git puts it.
pub(crate) fn with_signature(payload: &str, armored: &str) -> Option<Vec<u8>> {
    let (head, message) = payload.split_once("\n\n")?;
    Some(format!("{head}\ngpgsig {}\n\n{message}", armored.trim_end().replace('\n', "\n ")).into_bytes())
}

#[cfg(test)]
#[path = "signature_tests.rs"]
pub(crate) mod tests;
