//! How the `sqlite3` program is called: as whom, and on which file.
//!
//! Runs nothing itself.

use super::NAME;
use base::config::ClientConfig;
use base::{Error, Result, Span, process};
use serde::Deserialize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The table `[module.sqlite]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The folder of `sqlite3`. Default: where programs are looked for.
    bin: Option<PathBuf>,
    /// How long a copy may take.
    #[serde(default = "crate::settings::time_limit")]
    pub time_limit: Span,
    /// How long a lock is waited for.
    #[serde(default = "lock_wait")]
    pub lock_wait: Span,
}

fn lock_wait() -> Span {
    Span(Duration::from_secs(60))
}

impl Default for Settings {
    fn default() -> Self {
        Self { bin: None, time_limit: crate::settings::time_limit(), lock_wait: lock_wait() }
    }
}

/// A numeric user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Settings {
    /// Reads and checks the table.
    ///
    /// # Errors
    /// Of kind usage, with the field.
    pub fn of(config: &ClientConfig) -> Result<Self> {
        let settings: Self = crate::settings::table(config, NAME)?;
        if settings.bin.as_ref().is_some_and(|bin| !bin.is_absolute()) {
            return Err(Error::usage("[module.sqlite] is wrong: bin must be an absolute path"));
        }
        Ok(settings)
    }

    /// `sqlite3`, about to copy the database at the real path `database` into the file `to` of the folder it runs in. With
    /// `pinned` it reads one state from beginning to end; else it lets writers in between, and begins anew after each.
    ///
    /// Where this process is root and the database somebody else's, it runs as that user: whatever his file makes SQLite do,
    /// he could have done himself, and what SQLite puts beside the database is his.
    pub fn copy(&self, database: &Path, owner: Owner, to: &str, pinned: bool) -> Command {
        let program = self.bin.as_ref().map_or_else(|| PathBuf::from("sqlite3"), |bin| bin.join("sqlite3"));
        let mut command = if rustix::process::geteuid().is_root() && owner.uid != 0 {
            let mut command = process::command("setpriv");
            command.arg(format!("--reuid={}", owner.uid)).arg(format!("--regid={}", owner.gid));
            command.args(["--clear-groups", "--no-new-privs", "--pdeathsig=KILL", "--"]).arg(program);
            command
        } else {
            process::command(program)
        };
        // No file of the user's is read as commands, and no link is followed.
        command.args(["-batch", "-bail", "-init", "/dev/null", "-nofollow", "-cmd"]);
        command.arg(format!(".timeout {}", self.lock_wait.0.as_millis().min(i32::MAX.unsigned_abs().into())));
        command.arg(uri(database));
        if pinned {
            // A transaction that has read something keeps that state.
            command.args(["BEGIN", "PRAGMA schema_version"]);
        }
        command.arg(format!(".backup main {to}"));
        command
    }
}

/// A file as SQLite takes it whatever signs are in its name; one that is not there is not made.
fn uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?mode=rw");
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn names_of_files() {
        assert_eq!(uri(Path::new("/srv/a b?#%'\".db")), "file:/srv/a%20b%3F%23%25%27%22.db?mode=rw");
        assert_eq!(uri(Path::new(OsStr::from_bytes(b"/\xff"))), "file:/%FF?mode=rw");
    }

    #[test]
    fn the_table() {
        let settings =
            |table: &str| Settings::of(&base::config::parse("c", format!("version = 1\n[module.sqlite]\n{table}").as_bytes()).unwrap());
        let here = Owner { uid: 0, gid: 0 };
        let command = settings("bin = \"/opt/s\"\nlock_wait = \"2s\"").unwrap().copy(Path::new("/a"), here, "copy", true);
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_str().unwrap()).collect();
        assert_eq!(command.get_program(), "/opt/s/sqlite3");
        assert_eq!(
            arguments,
            [
                "-batch",
                "-bail",
                "-init",
                "/dev/null",
                "-nofollow",
                "-cmd",
                ".timeout 2000",
                "file:/a?mode=rw",
                "BEGIN",
                "PRAGMA schema_version",
                ".backup main copy"
            ]
        );
        for bad in ["bin = \"s\"", "lock_wait = 3", "path = \"/a\""] {
            assert!(settings(bad).is_err(), "{bad}");
        }
    }
}
