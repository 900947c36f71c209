//! One consistent copy of a database, in a private folder that goes when the copy is stored.
//!
//! Leaves the database, and what SQLite keeps beside it, as any other reader would.

use super::program::{Owner, Settings};
use crate::archived::Staging;
use base::config::ClientConfig;
use base::{At, ByteSize, Error, Kind, Monitor, Result, atomic, beneath, process};
use rustix::fs::OFlags;
use std::fs::{File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What every database begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// What a copy is called in its folder.
const COPY: &str = "copy";
/// So many bytes a second a copy makes at least, by which it is known that writers do not let it come to an end.
const RATE: u64 = 20 << 20;
/// How long a copy that lets writers in is tried at least.
const PATIENCE: Duration = Duration::from_secs(10);

/// A database that was opened, but for SQLite's own handling.
pub(super) struct Database {
    /// The file itself.
    pub file: File,
    path: PathBuf,
    base: PathBuf,
    owner: Owner,
    size: u64,
    /// Writers go on while it is read.
    wal: bool,
}

impl Database {
    /// Opens `path` below `base`, following no link.
    ///
    /// # Errors
    /// When it is not there, or no database.
    pub fn open(base: &Path, path: &Path) -> Result<Self> {
        let file = open(base, path)?;
        let meta = file.metadata().at("stat", path)?;
        let mut head = [0; 20];
        let wrong = |what: &str| Error::failed(format!("{} {what}", path.display()));
        if meta.len() == 0 {
            return Err(wrong("is empty: no database was made in it yet"));
        }
        if meta.len() < 100 || file.read_exact_at(&mut head, 0).is_err() || &head[..16] != MAGIC {
            return Err(wrong("is no SQLite database, or an encrypted one, which only its own program can copy"));
        }
        let owner = Owner { uid: meta.uid(), gid: meta.gid() };
        Ok(Self { owner, size: meta.len(), wal: head[18] == 2, path: path.to_owned(), base: base.to_owned(), file })
    }

    /// The size of its file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Copies it into a folder of its own.
    ///
    /// # Errors
    /// With SQLite's words; then nothing is left of the copy.
    pub fn copy(&self, config: &ClientConfig, name: &str, settings: &Settings, monitor: &dyn Monitor) -> Result<Copy> {
        let staging = Staging::make(config, name)?;
        self.check_room(staging.folder())?;
        let data = staging.data();
        // Its owner writes the copy, into a folder that is nobody else's.
        for folder in staging.folder().ancestors().take(2) {
            std::fs::set_permissions(folder, Permissions::from_mode(0o711)).at("set the mode of", folder)?;
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&data, Some(self.owner.uid), Some(self.owner.gid)).at("set the owner of", &data)?;
        }
        // As the kernel knows it: without links above the folder that was allowed.
        let real = std::fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd())).at("find", &self.path)?;
        let run = |pinned: bool, limit: Duration| {
            let mut command = settings.copy(&real, self.owner, COPY, pinned);
            command.current_dir(&data);
            process::run_ok(command, 1 << 16, limit)
        };
        let limit = settings.time_limit.0;
        let patience = (PATIENCE + Duration::from_secs(self.size / RATE)).min(limit);
        let made = if self.wal {
            // Nobody waits for a reader.
            run(true, limit)
        } else {
            match run(false, patience) {
                Err(error) if error.kind() == Kind::NotNow && patience < limit => {
                    monitor.note(&format!(
                        "{} is written too often to be copied between two writes; writers wait for it now",
                        self.path.display()
                    ));
                    [COPY, "copy-journal"].iter().try_for_each(|file| atomic::remove(&data.join(file)))?;
                    run(true, limit)
                }
                made => made,
            }
        };
        made.map_err(|error| self.explain(error, settings, &data))?;
        // Whoever may write to the folder can put another file in its place, which then was copied with its owner's rights.
        let after = open(&self.base, &self.path)?.metadata().at("stat", &self.path)?;
        let before = self.file.metadata().at("stat", &self.path)?;
        if (after.dev(), after.ino()) != (before.dev(), before.ino()) {
            return Err(
                Error::failed(format!("{} was replaced by another file while it was copied", self.path.display())).hint("Submit it again.")
            );
        }
        let file = beneath::regular_file(beneath::folder(&data)?, Path::new(COPY))?;
        Ok(Copy { file, staging })
    }

    fn check_room(&self, folder: &Path) -> Result<()> {
        let stat = rustix::fs::statvfs(folder).at("look at", folder)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free > self.size.saturating_add(1 << 20) {
            return Ok(());
        }
        Err(Error::not_now(format!(
            "{} needs {} for a copy, and {} has {} left",
            self.path.display(),
            ByteSize(self.size),
            folder.display(),
            ByteSize(free)
        ))
        .hint("Make room there; the copy is removed when it is stored."))
    }

    /// SQLite's words, and what they mean.
    fn explain(&self, error: Error, settings: &Settings, data: &Path) -> Error {
        let words = error.one_line();
        let path = self.path.display();
        let said = |what: String| Error::failed(what).because(std::io::Error::other(words.clone()));
        if error.kind() == Kind::NotNow {
            return said(format!("the copy of {path} took longer than {}", String::from(settings.time_limit)))
                .hint("Set time_limit in [module.sqlite] higher if it needs the time.");
        }
        if words.contains("database is locked") {
            return said(format!("{path} was locked by another program for longer than {}", String::from(settings.lock_wait)))
                .hint("Set lock_wait in [module.sqlite] higher if it needs the time.");
        }
        if words.contains("not a database") {
            return said(format!("{path} is no SQLite database, or an encrypted one, which only its own program can copy"));
        }
        if words.contains(&format!("\"{COPY}\"")) && rustix::process::geteuid().is_root() && self.owner.uid != 0 {
            return said(format!("the owner of {path}, as whom it is copied, cannot get to {}", data.display()))
                .hint("Each folder above must let others through (chmod o+x); spool.dir in client.toml puts it elsewhere.");
        }
        if words.contains("unable to open") || words.contains("readonly") {
            return said(format!("SQLite could not open {path}")).hint(
                "A database in WAL mode needs the right to write to its folder; whoever runs the client, or where that is root the \
                 database's owner, must have it.",
            );
        }
        said(format!("could not copy {path}"))
    }
}

fn open(base: &Path, path: &Path) -> Result<File> {
    // A FIFO must not wait for its other end.
    let file = File::from(beneath::open_absolute(base, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?);
    if !file.metadata().at("stat", path)?.is_file() {
        return Err(Error::failed(format!("{} is not a file", path.display())));
    }
    Ok(file)
}

/// A copy that is whole.
pub(super) struct Copy {
    /// The copy.
    pub file: File,
    staging: Staging,
}

impl Copy {
    /// Removes it.
    pub fn remove(self, monitor: &dyn Monitor) {
        self.staging.remove(monitor);
    }
}
