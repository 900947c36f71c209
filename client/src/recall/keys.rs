//! The keyholder's own keys, as commands are given them.
//!
//! Does not know what they open.

use crate::asking::Person;
use archive::epoch::IdentityFile;
use base::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The options of every command that opens archives.
#[derive(Debug, clap::Args)]
pub struct Keys {
    /// A keyholder's age identity or ssh key. May be given several times; passphrases are asked for at the terminal.
    #[arg(long, env = "NIGHTSAFE_IDENTITY", value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// Take passphrases and PINs from the lines of this file, in the order in which they are asked for, or all from its
    /// only line. /dev/fd/3 and <(command) are files too.
    #[arg(long, env = "NIGHTSAFE_PASSPHRASE_FILE", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Keys {
    /// Reads the keys; asks for nothing yet. `None` when none was given.
    ///
    /// # Errors
    /// With the file and what to do.
    pub fn load(&self) -> Result<Option<IdentityFile>> {
        if self.identity.is_empty() {
            return Ok(None);
        }
        let paths: Vec<&Path> = self.identity.iter().map(PathBuf::as_path).collect();
        IdentityFile::load_all(&paths, Arc::new(Person::new(self.passphrase_file.clone()))).map(Some)
    }

    /// As [`Keys::load`], for a command that does nothing without a key.
    ///
    /// # Errors
    /// Of kind usage when none was given.
    pub fn required(&self) -> Result<IdentityFile> {
        self.load()?
            .ok_or_else(|| Error::usage("no identity was given").hint("Give a keyholder's key with --identity or NIGHTSAFE_IDENTITY."))
    }
}

/// The options of listings, which open nothing unless they are told to: nobody wants to be asked for a passphrase there.
#[derive(Debug, clap::Args)]
pub struct GivenKeys {
    /// Say what this age identity or ssh key cannot open. May be given several times.
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// Take passphrases and PINs from the lines of this file, as restore does.
    #[arg(long, env = "NIGHTSAFE_PASSPHRASE_FILE", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl GivenKeys {
    /// Reads the keys. `None` when none was given.
    ///
    /// # Errors
    /// With the file and what to do.
    pub fn load(&self) -> Result<Option<IdentityFile>> {
        Keys { identity: self.identity.clone(), passphrase_file: self.passphrase_file.clone() }.load()
    }

    /// As [`GivenKeys::load`]; where none was given, the one in NIGHTSAFE_IDENTITY, if it needs nobody.
    ///
    /// # Errors
    /// With the file and what to do.
    pub fn or_silent(&self) -> Result<Option<IdentityFile>> {
        let set = std::env::var_os("NIGHTSAFE_IDENTITY").filter(|path| !path.is_empty());
        match (self.identity.is_empty(), set) {
            // Whether it can be used is the matter of commands that use it.
            (true, Some(path)) => Ok(IdentityFile::load(Path::new(&path)).ok().filter(|identities| !identities.needs_a_person())),
            _ => self.load(),
        }
    }
}
