//! What is done around a dataset or a group: commands before and after, a snapshot of the file system; and when it is due.

use crate::Span;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest that a command before or after may be allowed.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// The programs that are run around a dataset or a group; an empty one is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    /// Before it is read.
    pub before: Vec<String>,
    /// After it was read, whatever happened.
    pub after: Vec<String>,
    /// How long each may run.
    pub time_limit: Duration,
}

impl Commands {
    /// As a table has them.
    pub(super) fn new(before: &[String], after: &[String], time_limit: Option<Span>) -> Self {
        Self {
            before: before.to_vec(),
            after: after.to_vec(),
            time_limit: time_limit.map_or(Duration::from_secs(600), |Span(limit)| limit),
        }
    }

    /// Whether there is nothing to be run.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// Checks what can be known without running them; `limited` is whether a time limit was written down.
    pub(super) fn check(&self, limited: bool) -> Result<()> {
        if limited && self.is_empty() {
            return Err(Error::usage("command_time_limit is for before and after, and there is neither"));
        }
        for (field, words) in [("before", &self.before), ("after", &self.after)] {
            let Some(program) = words.first() else { continue };
            if program.is_empty() || words.iter().any(|word| word.contains('\0')) {
                return Err(Error::usage(format!("{field} names no program"))
                    .hint("It is a program and its arguments, each a text: [\"systemctl\", \"stop\", \"shop\"]. There is no shell."));
            }
        }
        if self.time_limit.is_zero() || self.time_limit > LONGEST {
            return Err(Error::usage("command_time_limit must be from 1s to 7d"));
        }
        Ok(())
    }
}

/// Which program makes a snapshot of the file system that a dataset lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotWith {
    /// A read-only snapshot of the subvolume.
    Btrfs,
    /// A snapshot of the ZFS dataset.
    Zfs,
    /// A snapshot of the logical volume.
    Lvm,
}

impl SnapshotWith {
    /// The word for it, as the configuration has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Zfs => "zfs",
            Self::Lvm => "lvm",
        }
    }
}

/// Checks the time after which something is due.
pub(super) fn check_every(every: Option<Span>) -> Result<()> {
    match every {
        Some(Span(span)) if span.is_zero() || span > Duration::from_secs(366 * 86_400) => {
            Err(Error::usage("every must be from 1s to 366d").hint("It is how old the last success may become, as in \"6h\"."))
        }
        _ => Ok(()),
    }
}
