//! An account for one restore: it may do everything in one database and nothing anywhere else.
//!
//! Why: a dump comes from a client that may be taken over. With this account the server itself refuses what reaches further.

use super::names::{hex, identifier, pattern};
use super::server::Server;
use base::{At, Error, Result, atomic};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What names of such accounts begin with.
const PREFIX: &str = "nightsafe_";

/// The account, and the option file that logs in as it. Both go when this is dropped, unless it was kept.
pub(super) struct Account<'a> {
    server: Server<'a>,
    /// Quoted, as SQL takes it.
    quoted: String,
    /// As the server shows it.
    pub name: String,
    file: PathBuf,
    kept: bool,
}

impl<'a> Account<'a> {
    /// Makes one that owns `database`.
    ///
    /// # Errors
    /// With the server's words.
    pub fn make(server: Server<'a>, database: &str) -> Result<Self> {
        let host = server.value("SELECT SUBSTRING_INDEX(USER(), '@', -1)")?;
        let user = format!("{PREFIX}{}", random()?);
        // Letters of both kinds, digits and another sign, as servers with rules for passwords ask for.
        let password = format!("Ns-1{}{}{}", random()?, random()?, random()?);
        let file = option_file(&server, &user, &password)?;
        let account = Self {
            server,
            quoted: format!("{}@{}", identifier(&user), identifier(&host)),
            name: format!("{user}@{host}"),
            file,
            kept: false,
        };
        let made = server.run(&format!(
            "CREATE USER {0} IDENTIFIED BY '{password}';\nGRANT ALL PRIVILEGES ON {1}.* TO {0};",
            account.quoted,
            pattern(database)
        ));
        made.map_err(|error| {
            error.context("could not make the account that a restore works with").hint(
                "The account that restores needs CREATE USER, and all privileges with GRANT OPTION; \
                 or restore the dump with --target DIR and load it yourself.",
            )
        })?;
        Ok(account)
    }

    /// The option file that logs in as this account.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What came back now runs as this account where it names no other: then the account stays, and nobody can log in as
    /// it. Says how many views, routines, triggers and events there are.
    ///
    /// # Errors
    /// With the server's words.
    pub fn settle(mut self, database: &str) -> Result<u64> {
        let (name, database) = (hex(&self.name), hex(database));
        let count = self.server.value(&format!(
            "SELECT (SELECT COUNT(*) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {database} AND DEFINER = {name}) + \
             (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {database} AND DEFINER = {name}) + \
             (SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {database} AND DEFINER = {name}) + \
             (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {database} AND DEFINER = {name})"
        ))?;
        let count: u64 = count.parse().map_err(|_| Error::failed(format!("the server counted {count:?}")))?;
        if count > 0 {
            self.server.run(&format!("ALTER USER {} ACCOUNT LOCK", self.quoted))?;
            self.kept = true;
        }
        Ok(count)
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        let _ = atomic::remove(&self.file);
        if !self.kept {
            // Best effort, as the error that led here is the one to tell: it can do nothing outside of the new database.
            let _ = self.server.run(&format!("DROP USER IF EXISTS {}", self.quoted));
        }
    }
}

/// 16 random hex digits.
fn random() -> Result<String> {
    let number = getrandom::u64().map_err(|error| Error::failed(format!("no random bytes from the system: {error}")))?;
    Ok(format!("{number:016x}"))
}

/// Writes an option file that says the same as those that are read otherwise, and then another account: what comes last
/// counts.
fn option_file(server: &Server<'_>, user: &str, password: &str) -> Result<PathBuf> {
    let mut text = String::new();
    for file in server.option_files()? {
        text.push_str(&format!("!include {}\n", file.display()));
    }
    text.push_str(&format!("[client]\nuser={user}\npassword={password}\n"));
    let path = std::env::temp_dir().join(format!("{user}.cnf"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).at("create", &path)?;
    if let Err(error) = file.write_all(text.as_bytes()) {
        let _ = atomic::remove(&path);
        return Err(error).at("write", &path);
    }
    Ok(path)
}
