//! How PostgreSQL's programs are called: where they are, and which server they ask.
//!
//! Runs nothing itself.

use super::NAME;
use base::config::ClientConfig;
use base::{Error, Result, Span, process};
use serde::Deserialize;
use std::path::PathBuf;
use std::process::Command;

/// Where Debian and its kin keep the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The table `[module.postgres]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The server's host, or the folder of its socket.
    host: Option<String>,
    /// The server's port.
    port: Option<u16>,
    /// The role that dumps.
    user: Option<String>,
    /// The folder of `pg_dump`. Default: that of the newest version installed.
    bin: Option<PathBuf>,
    /// How long a dump may take.
    #[serde(default = "crate::settings::time_limit")]
    pub time_limit: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self { host: None, port: None, user: None, bin: None, time_limit: crate::settings::time_limit() }
    }
}

impl Settings {
    /// Reads and checks the table.
    ///
    /// # Errors
    /// Of kind usage, with the field.
    pub fn of(config: &ClientConfig) -> Result<Self> {
        let settings: Self = crate::settings::table(config, NAME)?;
        let plain = |text: &Option<String>| text.as_ref().is_none_or(|text| !text.is_empty() && !text.chars().any(char::is_control));
        if !plain(&settings.host) || !plain(&settings.user) || settings.bin.as_ref().is_some_and(|bin| !bin.is_absolute()) {
            return Err(Error::usage("[module.postgres] is wrong: host and user must not be empty, bin must be an absolute path"));
        }
        Ok(settings)
    }

    /// One of PostgreSQL's programs, asking the configured server and never for a password.
    pub fn program(&self, name: &str) -> Command {
        let folder = self.bin.clone().or_else(newest);
        let mut command = process::command(folder.map_or_else(|| PathBuf::from(name), |folder| folder.join(name)));
        command.arg("--no-password");
        if let Some(host) = &self.host {
            command.arg(format!("--host={host}"));
        }
        if let Some(port) = self.port {
            command.arg(format!("--port={port}"));
        }
        if let Some(user) = &self.user {
            command.arg(format!("--username={user}"));
        }
        command
    }
}

/// The folder of the newest version installed.
fn newest() -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).ok()?.flatten();
    let numbered = versions.filter_map(|version| Some((version.file_name().to_str()?.parse::<u32>().ok()?, version.path().join("bin"))));
    numbered.filter(|(_, bin)| bin.join("pg_dump").exists()).max().map(|(_, bin)| bin)
}

/// The name of a database, if it can be given to every program without being taken for something else.
///
/// # Errors
/// Of kind usage.
pub(super) fn check_name(name: &str) -> Result<&str> {
    let plain = |c: char| !c.is_control() && !matches!(c, '/' | '*' | '\\' | '"');
    if !name.is_empty() && name.len() <= 63 && !name.starts_with('-') && name.chars().all(plain) {
        return Ok(name);
    }
    let error = Error::usage(format!("{name:?} cannot be a database's name here"));
    Err(if name == "*" || name.contains('/') {
        error
            .hint("Name one database, as in postgres:shop; several clusters, and * for all databases, are not carried out by this release.")
    } else {
        error.hint("This release takes names of 1 to 63 bytes without '/', '*', '\\', '\"' and control characters.")
    })
}

/// The words that name a database whose name was checked: never taken for a connection string of its own.
pub(super) fn dbname(name: &str) -> String {
    format!("dbname='{}'", name.replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(table: &str) -> Result<Settings> {
        Settings::of(&base::config::parse("c", format!("version = 1\n[module.postgres]\n{table}").as_bytes()).unwrap())
    }

    #[test]
    fn names_of_databases() {
        for good in ["shop", "Shop_2.old-x", "my shop", "it's", "host=evil", "ä", &"x".repeat(63)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-d", "a\"b", "postgresql://evil/x", "a/b", "*", "a\\b", "a\nb", &"x".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert_eq!(dbname("host=evil"), "dbname='host=evil'", "a name, never a host to connect to");
        assert_eq!((dbname("my shop").as_str(), dbname("it's").as_str()), ("dbname='my shop'", "dbname='it\\'s'"));
    }

    #[test]
    fn the_table() {
        let command = settings("host = \"/run/pg\"\nport = 5433\nuser = \"backup\"\nbin = \"/opt/pg/bin\"").unwrap().program("pg_dump");
        assert_eq!(command.get_program(), "/opt/pg/bin/pg_dump");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["--no-password", "--host=/run/pg", "--port=5433", "--username=backup"]);
        for bad in ["hots = \"a\"", "port = 70000", "bin = \"bin\"", "user = \"\"", "host = \"a\\nb\""] {
            assert!(settings(bad).is_err(), "{bad}");
        }
    }
}
