//! Questions to a server, asked by `psql`, and which programs fit it.
//!
//! Changes nothing by itself: what is to be changed it is told.

use super::names::identifier;
use super::settings::Server;
use super::tools::{self, Tools, Version};
use base::{Error, Result, process};
use std::process::Command;
use std::time::Duration;

/// How long a question may take; what changes much has the module's own limit.
const TIME: Duration = Duration::from_secs(60);
/// How long an answer may be.
const LIMIT: usize = 64 << 20;

/// A server that answers.
#[derive(Debug)]
pub(super) struct Answering {
    /// How it is reached.
    pub server: Server,
    /// Its version.
    pub version: Version,
    /// The programs for it.
    pub tools: Tools,
    /// Where its answers can be asked for: a database that is there.
    home: String,
}

/// A database as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Database {
    pub name: String,
    /// Whether this role may connect to it.
    pub open: bool,
    /// Its size on the server's disk, where this role may ask.
    pub size: Option<u64>,
}

/// One of PostgreSQL's programs, asking `server` and never for a password. `database` is never taken for more than a name.
fn command(server: &Server, tools: &Tools, name: &str, database: &str) -> Command {
    let mut command = process::command(tools.bin.join(name));
    command.env("PGCONNECT_TIMEOUT", "30").env("PGAPPNAME", "nightsafe");
    if let Some(file) = &server.passfile {
        command.env("PGPASSFILE", file);
    }
    if let Some(file) = &server.service_file {
        command.env("PGSERVICEFILE", file);
    }
    command.arg("--no-password").arg("-d").arg(server.words(database));
    command
}

/// One question with one field; its rows.
fn ask(server: &Server, tools: &Tools, database: &str, question: &str, time: Duration) -> Result<Vec<String>> {
    let mut command = command(server, tools, "psql", database);
    command.env("PGCLIENTENCODING", "UTF8").args(["-X", "-A", "-t", "-q", "-0", "-v", "ON_ERROR_STOP=1", "-c", question]);
    let answer = process::run_ok(command, LIMIT, time).map_err(|error| {
        let hint = reaching_hint(&error.one_line());
        let error = error.context(format!("{} did not do as it was asked", server.shown()));
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.split_terminator('\0').map(|row| row.trim_end_matches('\n').to_owned()).collect())
}

/// What helps where a server cannot be reached.
fn reaching_hint(words: &str) -> Option<&'static str> {
    let has = |text: &str| words.contains(text);
    if has("no password supplied") || has("password authentication failed") {
        Some(
            "Put the password into .pgpass in the home of the user that runs nightsafe, mode 0600, or name such a file as passfile in [module.postgres].",
        )
    } else if has("Peer authentication failed") || has("does not exist") && has("role") {
        Some("Set user in [module.postgres] to a role that may log in; docs/postgres.md has the SQL that makes one.")
    } else if has("FATAL:  database") && has("does not exist") {
        Some("Look at the database's name: psql --list shows those that are there.")
    } else if has("definition of service") {
        Some("Put the service into ~/.pg_service.conf, or name the file that has it as service_file in [module.postgres].")
    } else if has("could not connect") || has("connection to server") {
        Some("Look whether the server runs, and at host and port in [module.postgres].")
    } else {
        None
    }
}

impl Answering {
    /// Asks the server for its version, and finds the programs that fit. `database` is one that is there, where one is known.
    ///
    /// # Errors
    /// When no program is installed, the server does not answer, or all programs are older than it.
    pub fn reach(server: Server, database: Option<&str>) -> Result<Self> {
        let installed = tools::installed(server.bin.as_deref())?;
        let newest = &installed[0];
        let question = "SHOW server_version_num";
        // There need not be a database postgres, and this role need not be allowed to see it.
        let mut answer = Err(Error::failed("no database was asked"));
        let mut home = String::new();
        for name in database.into_iter().chain(if database.is_none() { &["postgres", "template1"][..] } else { &[] }.iter().copied()) {
            name.clone_into(&mut home);
            answer = ask(&server, newest, name, question, TIME);
            if answer.is_ok() {
                break;
            }
        }
        let answer = answer?;
        let version = answer.first().and_then(|row| Version::of_server(row));
        let version = version.ok_or_else(|| Error::failed(format!("{} did not tell its version", server.shown())))?;
        let tools = tools::fitting(&installed, version)?.clone();
        Ok(Self { server, version, tools, home })
    }

    /// One of the programs for `database`.
    pub fn program(&self, name: &str, database: &str) -> Command {
        command(&self.server, &self.tools, name, database)
    }

    /// One of the programs for no database in particular.
    pub fn program_at_home(&self, name: &str) -> Command {
        self.program(name, &self.home)
    }

    /// Asks a database one question that gives one field a row.
    ///
    /// # Errors
    /// In the server's words.
    pub fn ask(&self, database: &str, question: &str) -> Result<Vec<String>> {
        ask(&self.server, &self.tools, database, question, TIME)
    }

    /// As [`Answering::ask`], of the server.
    ///
    /// # Errors
    /// In the server's words.
    pub fn ask_at_home(&self, question: &str) -> Result<Vec<String>> {
        self.ask(&self.home, question)
    }

    /// Lets a database do something that may take long.
    ///
    /// # Errors
    /// In the server's words.
    pub fn run(&self, database: Option<&str>, statement: &str) -> Result<()> {
        let database = database.unwrap_or(&self.home);
        ask(&self.server, &self.tools, database, statement, self.server.time_limit.0).map(drop)
    }

    /// All databases that allow connections, but for those whose removal was cut off.
    ///
    /// # Errors
    /// In the server's words.
    pub fn databases(&self) -> Result<Vec<Database>> {
        let question = "SELECT may || ' ' || COALESCE(CASE WHEN may THEN pg_catalog.pg_database_size(oid)::text END, '?') || ' ' || datname \
            FROM (SELECT oid, datname, pg_catalog.has_database_privilege(oid, 'CONNECT') AS may FROM pg_catalog.pg_database \
            WHERE datallowconn AND datconnlimit <> -2) d";
        let database = |row: String| {
            let mut parts = row.splitn(3, ' ');
            let (Some(open), Some(size), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(Error::failed(format!("{} described a database in a way that is not understood", self.server.shown())));
            };
            Ok(Database { name: name.into(), open: open == "true", size: size.parse().ok() })
        };
        self.ask_at_home(question)?.into_iter().map(database).collect()
    }

    /// Removes a database that this program made.
    ///
    /// # Errors
    /// In the server's words.
    pub fn drop_database(&self, name: &str) -> Result<()> {
        self.run(None, &format!("DROP DATABASE {}", identifier(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_is_said() {
        for (words, hint) in [
            ("fe_sendauth: no password supplied", "pgpass"),
            ("FATAL:  password authentication failed for user \"b\"", "pgpass"),
            ("FATAL:  Peer authentication failed for user \"b\"", "user"),
            ("FATAL:  role \"b\" does not exist", "user"),
            ("connection to server on socket \"/x\" failed: FATAL:  database \"b\" does not exist", "psql --list"),
            ("definition of service \"x\" not found", "service_file"),
            ("connection to server on socket \"/x\" failed: No such file", "runs"),
        ] {
            assert!(reaching_hint(words).unwrap().contains(hint), "{words}");
        }
        assert_eq!(reaching_hint("syntax error"), None);
    }
}
