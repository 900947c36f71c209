//! The subcommands, one file each: what is asked on the command line, and which part of the program does it.
//!
//! Does not know how requests are served or lists are signed.

pub mod admin_recover;
pub mod adopt;
pub mod client;
pub mod config;
pub mod forget;
pub mod hold;
pub mod import_gitosis;
pub mod init;
pub mod keys;
pub mod log;
pub mod metrics;
pub mod poll;
pub mod prune;
pub mod restorer;
pub mod scrub;
pub mod snapshots;
pub mod status;
pub mod watch;
pub mod web;

use crate::given;
use base::{At, Error, Result};
use queue::enrol::here;
use queue::{PublicKey, Signer};
use std::path::{Path, PathBuf};

/// Who signs a change of the access list.
#[derive(Debug, Clone, clap::Args)]
pub struct AdminKey {
    /// The private ssh key of an administrator who is in the list; or a public one (.pub), whose other half the ssh agent holds.
    #[arg(long, value_name = "FILE")]
    admin_key: PathBuf,
}

impl AdminKey {
    /// The signer.
    pub fn signer(&self) -> Result<Signer> {
        signer(&self.admin_key)
    }
}

/// A signer from a private key, or from a public one whose other half the agent has.
pub fn signer(file: &Path) -> Result<Signer> {
    let there = given::path(file);
    if file.extension().is_some_and(|extension| extension == "pub") {
        Signer::from_agent(&there).map_err(|error| error.context(format!("{} cannot be used", file.display())))
    } else {
        Signer::from_copy(&there, file)
    }
}

/// The largest file with one public key.
const KEY_LIMIT: usize = 64 << 10;

/// Reads one public key from a file, as `ssh-keygen` writes them.
pub(crate) fn public_key(file: &Path) -> Result<PublicKey> {
    let text = text_of(file)?;
    if text.contains("PRIVATE KEY") {
        return Err(Error::usage(format!("{} is a private key", file.display()))
            .hint("Name the public half, which ends in .pub; the private one stays where it was made."));
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(Error::usage(format!("{} does not hold exactly one public key", file.display())));
    };
    queue::signature::parse_public_key(line).map_err(|error| error.context(format!("{} holds no usable public key", file.display())))
}

/// A host key that was given as text or as a file.
pub(crate) fn host_key(named: &str) -> Result<Option<String>> {
    let there = given::path(Path::new(named));
    // What is no file is handed on as it is.
    here::host_key(Some(there.to_str().unwrap_or(named))).map_err(|error| error.context(format!("--host-key {named}")))
}

fn text_of(file: &Path) -> Result<String> {
    let bytes = given::open(file)
        .and_then(|open| base::untrusted::read_bounded(open, KEY_LIMIT))
        .at("read", file)
        .map_err(|error| error.with_kind(base::Kind::Usage))?;
    String::from_utf8(bytes).map_err(|_| Error::usage(format!("{} is no text", file.display())))
}
