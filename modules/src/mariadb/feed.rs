//! A dump fed into the `mariadb` program, which may do nothing but hand it to the server.
//!
//! Does not know what the dump is to become.

use super::programs::{As, Settings};
use super::script::{Plan, Script};
use crate::archived;
use archive::entry::Entry;
use archive::snapshot::SnapshotReader;
use base::{At, Error, Monitor, Result, text};

/// What is fed, and as whom.
pub(super) struct Feed<'a> {
    pub settings: &'a Settings,
    pub who: As<'a>,
    /// The client can be held to its input twice over.
    pub sandbox: bool,
    /// The database in use; none for users.
    pub database: Option<&'a str>,
    pub plan: Plan,
    /// What the server refuses is skipped; all of it is in the result.
    pub all: bool,
}

/// What came of it.
pub(super) struct Fed {
    pub bytes: u64,
    /// What the server refused, a line each; none unless the feed goes on after errors.
    pub refused: Vec<String>,
    /// Tables that were asked for and are not in the dump.
    pub missing: Vec<String>,
}

impl Feed<'_> {
    /// Feeds the content of `entry`.
    ///
    /// # Errors
    /// With the server's words; what came before them has been done.
    pub fn run(self, reader: &SnapshotReader, entry: &Entry, monitor: &dyn Monitor) -> Result<Fed> {
        let mut command = self.settings.client(self.who);
        // In this mode the client takes nothing of its input for a command of its own, but the delimiter and the character
        // set; and no file of this machine goes to the server.
        command.args(["--binary-mode", "--batch", "--local-infile=0", "--skip-reconnect"]);
        if self.sandbox {
            command.arg("--sandbox");
        }
        if self.all {
            command.arg("--force");
        } else {
            command.arg("--skip-force");
        }
        if let Some(database) = self.database {
            command.arg(format!("--database={database}"));
        }
        let mut missing = Vec::new();
        let fed = archived::feed_by(command, self.settings.time_limit.0, monitor, |input| {
            let mut script = Script::new(input, self.plan);
            reader.read_file(entry, &mut script)?;
            missing = script.finish().at("write to", "mariadb")?;
            Ok(())
        });
        let fed = fed.map_err(hinted)?;
        let refused = String::from_utf8_lossy(&fed.words).lines().filter(|line| line.starts_with("ERROR")).map(text::printable).collect();
        Ok(Fed { bytes: fed.bytes, refused, missing })
    }
}

/// What helps with the errors that come up most.
fn hinted(error: Error) -> Error {
    let words = error.one_line();
    if words.contains("ERROR 1418") || words.contains("ERROR 1419") {
        return error.hint(
            "The server writes a binary log and lets only administrators make functions and triggers: \
             SET GLOBAL log_bin_trust_function_creators = 1 for the time of the restore.",
        );
    }
    if words.contains("max_allowed_packet") || words.contains("ERROR 1153") || words.contains("ERROR 2006") {
        return error
            .hint("A row is longer than the server takes: SET GLOBAL max_allowed_packet = 1073741824 for the time of the restore.");
    }
    if ["ERROR 1044", "ERROR 1142", "ERROR 1227", "ERROR 1143", "ERROR 1370", "ERROR 1045"].iter().any(|code| words.contains(code)) {
        return error.hint(
            "The dump reaches beyond its own database, which a restore does not let it; docs/mariadb.md says how to go on. \
             --globals trusts it with all that your account may do.",
        );
    }
    error
}
