//! How MariaDB's programs are called: where they are, and which server they ask as whom.
//!
//! Runs nothing itself, and hands no password on.

use super::NAME;
use base::config::ClientConfig;
use base::{Error, Result, Span, process};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The table `[module.mariadb]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The server's host. Default: what the option files say, else the local socket.
    host: Option<String>,
    /// The server's port.
    port: Option<u16>,
    /// The server's socket.
    socket: Option<PathBuf>,
    /// The account that dumps and restores.
    user: Option<String>,
    /// The only option file that is read, as in `/etc/mysql/debian.cnf`.
    pub defaults_file: Option<PathBuf>,
    /// The folder of the programs. Default: where programs are looked for.
    bin: Option<PathBuf>,
    /// How long a dump may take.
    #[serde(default = "crate::settings::time_limit")]
    pub time_limit: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self { host: None, port: None, socket: None, user: None, defaults_file: None, bin: None, time_limit: crate::settings::time_limit() }
    }
}

/// Who a program logs in as.
#[derive(Debug, Clone, Copy)]
pub(super) enum As<'a> {
    /// The account that is configured here or in option files.
    Configured,
    /// The account that the option file names, which includes all else.
    File(&'a Path),
}

impl Settings {
    /// Reads and checks the table.
    ///
    /// # Errors
    /// Of kind usage, with the field.
    pub fn of(config: &ClientConfig) -> Result<Self> {
        let settings: Self = crate::settings::table(config, NAME)?;
        let plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        let text = [&settings.host, &settings.user].into_iter().flatten().all(|text| plain(text));
        let paths = [&settings.socket, &settings.defaults_file, &settings.bin];
        if !text || !paths.into_iter().flatten().all(|path| path.is_absolute() && path.to_str().is_some_and(plain)) {
            return Err(Error::usage(
                "[module.mariadb] is wrong: host and user must not be empty; socket, defaults_file and bin must be absolute paths",
            ));
        }
        if settings.socket.is_some() && (settings.host.is_some() || settings.port.is_some()) {
            return Err(Error::usage("[module.mariadb] is wrong: a server is reached by its socket or by host and port, not by both"));
        }
        Ok(settings)
    }

    /// `mariadb-dump` (or what it was called before) asking the configured server.
    pub fn dump(&self) -> Command {
        self.program(&["mariadb-dump", "mysqldump"], As::Configured)
    }

    /// `mariadb`, or what it was called before.
    pub fn client(&self, who: As<'_>) -> Command {
        self.program(&["mariadb", "mysql"], who)
    }

    /// Where a program is, by the first of its names that is installed.
    pub fn find(&self, names: &[&str]) -> PathBuf {
        let folders: Vec<PathBuf> = self.bin.clone().map_or_else(|| std::env::split_paths(process::PATH).collect(), |bin| vec![bin]);
        let places = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
        // When there is none, the error is to name the program that is missing.
        places.into_iter().find(|path| path.is_file()).unwrap_or_else(|| names[0].into())
    }

    fn program(&self, names: &[&str], who: As<'_>) -> Command {
        let mut command = process::command(self.find(names));
        // Option files must be named first.
        let file = match who {
            As::Configured => self.defaults_file.as_deref(),
            As::File(path) => Some(path),
        };
        if let Some(file) = file {
            command.arg(format!("--defaults-file={}", file.display()));
        }
        if let Some(host) = &self.host {
            command.arg(format!("--host={host}"));
        }
        if let Some(port) = self.port {
            command.arg(format!("--port={port}"));
        }
        if let Some(socket) = &self.socket {
            command.arg(format!("--socket={}", socket.display()));
        }
        if let (Some(user), As::Configured) = (&self.user, who) {
            command.arg(format!("--user={user}"));
        }
        // A client whose pipe says an editor or a pager would be run gets one that does nothing.
        command.env("EDITOR", "false").env("VISUAL", "false").env("PAGER", "cat");
        command.arg("--default-character-set=utf8mb4").arg("--max-allowed-packet=1G");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(table: &str) -> Result<Settings> {
        Settings::of(&base::config::parse("c", format!("version = 1\n[module.mariadb]\n{table}").as_bytes()).unwrap())
    }

    #[test]
    fn the_table() {
        let settings_of =
            settings("host = \"db\"\nport = 3307\nuser = \"backup\"\ndefaults_file = \"/etc/b.cnf\"\nbin = \"/opt/m\"").unwrap();
        let command = settings_of.dump();
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_str().unwrap()).collect();
        assert_eq!(command.get_program(), "mariadb-dump");
        assert_eq!(arguments[..4], ["--defaults-file=/etc/b.cnf", "--host=db", "--port=3307", "--user=backup"]);
        let other = settings_of.client(As::File(Path::new("/tmp/x")));
        let arguments: Vec<_> = other.get_args().map(|argument| argument.to_str().unwrap()).collect();
        assert_eq!(arguments[..3], ["--defaults-file=/tmp/x", "--host=db", "--port=3307"]);
        assert!(!arguments.iter().any(|argument| argument.starts_with("--user")));
        let bad = [
            "hots = \"a\"",
            "port = 70000",
            "bin = \"bin\"",
            "user = \"\"",
            "host = \"a\\nb\"",
            "password = \"x\"",
            "socket = \"s\"",
            "socket = \"/s\"\nport = 1",
            "defaults_file = \"~/.my.cnf\"",
            "time_limit = \"soon\"",
        ];
        for bad in bad {
            assert!(settings(bad).is_err(), "{bad}");
        }
    }
}
