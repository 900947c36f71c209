//! Questions to a server, through the `mariadb` program: which databases there are and what is in them.
//!
//! Changes nothing by itself; `run` does what it is told.

use super::names::{hex, identifier, is_system};
use super::programs::{As, Settings};
use base::{At, Error, Result, process};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// How long a question to the server may take.
const TIME: Duration = Duration::from_secs(120);
/// How long its answer may be.
const ANSWER: usize = 64 << 20;
/// A pipe takes as much before anybody reads it.
const QUESTION: usize = 60 << 10;

/// A server that can be asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server<'a> {
    pub settings: &'a Settings,
}

/// A table that no transaction protects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Loose {
    pub table: String,
    pub engine: String,
}

impl Server<'_> {
    /// Runs SQL, which goes in by a pipe, and gives rows of columns. What may hold tabs or line feeds is asked for in hex.
    ///
    /// # Errors
    /// With the server's words.
    pub fn run(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        if sql.len() > QUESTION {
            return Err(Error::failed("a question to the server is too long"));
        }
        let mut command = self.settings.client(As::Configured);
        command.args(["--batch", "--raw", "--skip-column-names", "--binary-mode"]);
        let (reader, mut writer) = std::io::pipe().at("make", "a pipe")?;
        writer.write_all(sql.as_bytes()).at("write to", "a pipe")?;
        drop(writer);
        command.stdin(reader);
        let name = command.get_program().to_owned();
        let output = process::run(command, ANSWER, TIME).map_err(|error| error.hint(MISSING))?;
        if !output.status.success() {
            let name = name.to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
            return Err(process::failure(&name, &output));
        }
        let text = String::from_utf8(output.stdout).map_err(|error| Error::failed("the server's answer is no UTF-8").because(error))?;
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// The single value that a question has as its answer.
    pub fn value(&self, sql: &str) -> Result<String> {
        let rows = self.run(sql)?;
        rows.into_iter().next().and_then(|row| row.into_iter().next()).ok_or_else(|| Error::failed("the server gave no answer"))
    }

    /// A column of names, which the question asks for in hex.
    fn names(&self, sql: &str) -> Result<Vec<String>> {
        self.run(sql)?.iter().filter_map(|row| row.first()).map(|name| unhex(name)).collect()
    }

    /// The databases that the account may see, without the server's own.
    pub fn databases(&self) -> Result<Vec<String>> {
        let all = self.names("SELECT HEX(CONVERT(SCHEMA_NAME USING utf8mb4)) FROM information_schema.SCHEMATA")?;
        Ok(all.into_iter().filter(|name| !is_system(name)).collect())
    }

    /// Whether there is a database of this name.
    pub fn has(&self, name: &str) -> Result<bool> {
        // As the server compares them: on some systems case makes no difference.
        let sql = format!("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}", hex(name));
        Ok(self.value(&sql)? != "0")
    }

    /// How many tables, views, routines and events a database holds.
    pub fn content(&self, name: &str) -> Result<u64> {
        let name = hex(name);
        let count = self.value(&format!(
            "SELECT (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {name}) + \
             (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name}) + \
             (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name})"
        ))?;
        count.parse().map_err(|_| Error::failed(format!("the server counted {count:?}")))
    }

    /// How many bytes the server believes a database's tables to have.
    pub fn size(&self, name: &str) -> Result<u64> {
        let sql = format!(
            "SELECT CAST(COALESCE(SUM(DATA_LENGTH), 0) AS UNSIGNED) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {}",
            hex(name)
        );
        let size = self.value(&sql)?;
        size.parse().map_err(|_| Error::failed(format!("the server gave {size:?} as a size")))
    }

    /// What a dump of the tables does not say: the defaults of the database itself, as SQL that changes the one in use.
    ///
    /// # Errors
    /// Of kind failed when it is not there.
    pub fn head(&self, name: &str) -> Result<String> {
        let sql = format!(
            "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
            hex(name)
        );
        let rows = self.run(&sql)?;
        let Some([charset, collation]) = rows.first().map(Vec::as_slice) else {
            return Err(Error::failed(format!("there is no database {name}, or this account may not see it")));
        };
        let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !word(charset) || !word(collation) {
            return Err(Error::failed(format!("the server gave {charset:?} and {collation:?} as character set and collation")));
        }
        Ok(format!("ALTER DATABASE CHARACTER SET {charset} COLLATE {collation};\n"))
    }

    /// The tables that no transaction protects: what changes in them while they are dumped may be half in the dump.
    pub fn loose(&self, name: &str) -> Result<Vec<Loose>> {
        let sql = format!(
            "SELECT HEX(CONVERT(t.TABLE_NAME USING utf8mb4)), t.ENGINE FROM information_schema.TABLES t \
             JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
             WHERE t.TABLE_SCHEMA = {} AND t.TABLE_TYPE LIKE '%TABLE%' AND e.TRANSACTIONS <> 'YES' ORDER BY 1",
            hex(name)
        );
        let row = |row: Vec<String>| match row.as_slice() {
            [table, engine] => Ok(Loose { table: unhex(table)?, engine: engine.clone() }),
            _ => Err(Error::failed("the server's answer has other columns than were asked for")),
        };
        self.run(&sql)?.into_iter().map(row).collect()
    }

    /// The option files that the programs read without being told to, or the one that is configured; those that are there.
    pub fn option_files(&self) -> Result<Vec<PathBuf>> {
        if let Some(file) = &self.settings.defaults_file {
            return Ok(vec![file.clone()]);
        }
        let help = self.help()?;
        let line = help.lines().skip_while(|line| !line.starts_with("Default options are read from")).nth(1).unwrap_or_default();
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let files = line.split_whitespace().filter_map(|file| match file.strip_prefix("~/") {
            Some(file) => home.as_ref().map(|home| home.join(file)),
            None => Some(file.into()),
        });
        Ok(files.filter(|file| file.is_file()).collect())
    }

    /// Whether the client can be told to run no command of its own, whatever its input says.
    pub fn has_sandbox(&self) -> Result<bool> {
        Ok(self.help()?.lines().any(|line| line.trim_start().starts_with("--sandbox")))
    }

    fn help(&self) -> Result<String> {
        let mut command = self.settings.client(As::Configured);
        command.args(["--help", "--verbose"]);
        process::run_ok(command, 1 << 20, TIME).map(|help| String::from_utf8_lossy(&help).into_owned()).map_err(|error| error.hint(MISSING))
    }

    /// Makes a database.
    pub fn create(&self, name: &str) -> Result<()> {
        self.run(&format!("CREATE DATABASE {}", identifier(name))).map(drop)
    }

    /// Removes a database that was made a moment ago.
    pub fn drop(&self, name: &str) -> Result<()> {
        self.run(&format!("DROP DATABASE {}", identifier(name))).map(drop)
    }
}

/// What helps when a program is not there.
pub(super) const MISSING: &str =
    "MariaDB's programs come with the package mariadb-client; [module.mariadb] in client.toml says where the server is.";

/// Text that the server gave in hex.
fn unhex(text: &str) -> Result<String> {
    let wrong = || Error::failed(format!("the server gave {text:?} where a name in hex was asked for"));
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_hex() {
        assert_eq!(unhex("61C3A409").unwrap(), "aä\t");
        assert_eq!(unhex("").unwrap(), "");
        for bad in ["6", "zz", "ff", "ä1"] {
            assert!(unhex(bad).is_err(), "{bad}");
        }
    }
}
