//! `nightsafe mount`: snapshots as folders.

use crate::Globals;
use crate::mount::{self, Snapshots};
use crate::recall::keys::Keys;
use crate::recall::{self, Recall};
use base::{Exit, Result};
use std::path::PathBuf;

/// Show snapshots as folders: DIR/CLIENT/MODULE/PATH/SNAPSHOT, until Ctrl-C.
///
/// Read-only. A snapshot is proven when it is first looked into, and files are fetched when they are read. latest leads to
/// the newest snapshot of a dataset; new ones appear within a minute. Git mirrors are not shown. Needs the kernel's FUSE,
/// and fusermount3 where it is not root who mounts. Exit codes: 0 it was unmounted; 1 it could not be mounted; 2 DIR is no
/// folder for it.
#[derive(Debug, clap::Args)]
pub struct Mount {
    /// An empty folder.
    dir: PathBuf,
    /// Let other users of this machine in too, as far as the files' modes and owners let them.
    #[arg(long)]
    allow_other: bool,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    from: recall::From,
}

impl Mount {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        let identities = self.keys.required()?;
        let recall = Recall::open(globals, self.from)?;
        mount::run(Snapshots::new(recall, identities)?, &self.dir, self.allow_other)
    }
}
