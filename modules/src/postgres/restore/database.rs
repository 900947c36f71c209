//! One dump into one database: what is before the data, the data in parallel, what is after it, and statistics.
//!
//! Nothing is changed on the server before the whole dump has come from the archive and was right.

use super::problems::problems;
use crate::RestoreReport;
use crate::postgres::ask::Answering;
use crate::postgres::sql;
use crate::postgres::target::{Target, own_statements};
use crate::postgres::toc::{Choice, Toc};
use archive::entry::{Entry, EntryKind};
use archive::snapshot::SnapshotReader;
use base::{At, Error, Monitor, Result, process};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// How `pg_restore` finds the dump, which has no name: each of its workers opens it anew.
const ITSELF: &str = "/dev/stdin";
/// The list of a dump is as long as its database has tables, and all that belongs to them.
const LIST: usize = 256 << 20;

/// What is to be done.
pub(super) struct Job<'a> {
    pub to: &'a Answering,
    pub reader: &'a SnapshotReader,
    pub entry: &'a Entry,
    /// The database's name.
    pub name: &'a str,
    /// Only these tables.
    pub tables: &'a [String],
    pub monitor: &'a dyn Monitor,
}

impl Job<'_> {
    /// Restores.
    ///
    /// # Errors
    /// When it ends before it is done; then what is there of it has a name that says so, or is named in the error.
    pub fn run(&self) -> Result<RestoreReport> {
        let is_there = Target::is_there(self.to, self.name)?;
        if is_there && self.tables.is_empty() {
            // Before a long dump is fetched for nothing.
            Target::existing(self.to, self.name, &[])?;
        }
        let (dump, bytes) = self.fetch()?;
        let toc = Toc::parse(&self.list(&dump)?);
        let choice = if self.tables.is_empty() { None } else { Some(toc.choose(self.tables, !is_there)?) };
        let (create, properties) = own_statements(&self.sql_of_database(&dump, &toc)?, self.name)?;
        let tables = choice.as_ref().map(|choice| choice.tables.clone()).unwrap_or_default();
        let target =
            if is_there { Target::existing(self.to, self.name, &tables)? } else { Target::create(self.to, self.name, create.as_deref())? };
        let mut found = self.sections(&dump, &target, choice.as_ref()).map_err(|error| target.broken(error))?;
        let entries = if choice.is_some() { tables.len() as u64 } else { 1 };
        target.finish()?;
        if choice.is_none() {
            found.extend(sql::send(self.to, None, &properties)?);
        }
        self.monitor.entries(entries);
        let problems = found.into_iter().map(|problem| format!("{}: {problem}", self.name)).collect();
        Ok(RestoreReport { entries, bytes, problems, ..RestoreReport::default() })
    }

    /// The dump as a file without a name, which is gone with this process whatever happens.
    fn fetch(&self) -> Result<(File, u64)> {
        let EntryKind::File { size, .. } = self.entry.kind else {
            return Err(Error::failed(format!("{} in the snapshot is no dump", self.entry.shown_path())));
        };
        let folder = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let room = rustix::fs::statvfs(&folder).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize)).at("look at", &folder)?;
        if room < size {
            return Err(Error::not_now(format!(
                "the dump of {} needs {} in {}, and there is room for {}",
                self.name,
                base::ByteSize(size),
                folder.display(),
                base::ByteSize(room)
            ))
            .hint(
                "Set TMPDIR to a folder with more room; or restore without one, slower: nightsafe restore … --stdout | pg_restore -d NAME.",
            ));
        }
        self.monitor.task(&format!("reading the dump of {}", self.name), Some(size));
        let file = tempfile::tempfile_in(&folder).at("make a file in", &folder)?;
        let mut counted = Counted { to: &file, monitor: self.monitor };
        self.reader.read_file(self.entry, &mut counted)?;
        Ok((file, size))
    }

    /// `pg_restore` with the dump for its input.
    fn pg_restore(&self, dump: &File, database: Option<&str>) -> Result<Command> {
        let mut command = match database {
            Some(database) => self.to.program("pg_restore", database),
            None => process::command(self.to.tools.bin.join("pg_restore")),
        };
        command.stdin(dump.try_clone().at("open", "the dump")?);
        Ok(command)
    }

    fn list(&self, dump: &File) -> Result<String> {
        let mut command = self.pg_restore(dump, None)?;
        command.args(["--list", "--verbose", ITSELF]);
        let list = process::run_ok(command, LIST, self.to.server.time_limit.0).map_err(|error| {
            let newer = error.one_line().contains("unsupported version");
            let error = error.context(format!("the dump of {} cannot be read", self.name));
            if newer {
                error.hint("A newer pg_dump made it: install PostgreSQL's programs of that version, and set bin in [module.postgres].")
            } else {
                error
            }
        })?;
        Ok(String::from_utf8_lossy(&list).into_owned())
    }

    /// The SQL about the database itself.
    fn sql_of_database(&self, dump: &File, toc: &Toc) -> Result<String> {
        let list = list_file(&toc.of_database())?;
        let mut command = self.pg_restore(dump, None)?;
        command.arg("--create").arg("-L").arg(list.path()).args(["-f", "-", ITSELF]);
        let text = process::run_ok(command, LIST, self.to.server.time_limit.0)?;
        sql::text_of(text.as_slice())
    }

    /// The three parts one after the other, and statistics; gives what the server would not do.
    fn sections(&self, dump: &File, target: &Target<'_>, choice: Option<&Choice>) -> Result<Vec<String>> {
        let list = choice.map(|choice| list_file(&choice.list)).transpose()?;
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let mut found = Vec::new();
        for (section, what, parallel) in
            [("pre-data", "tables", false), ("data", "data", true), ("post-data", "indexes and constraints", true)]
        {
            self.monitor.task(&format!("restoring {what} of {}", self.name), None);
            let mut command = self.pg_restore(dump, Some(target.now()))?;
            command.arg(format!("--section={section}"));
            if parallel {
                command.arg(format!("--jobs={workers}"));
            }
            if let Some(list) = &list {
                command.arg("-L").arg(list.path());
            }
            command.arg(ITSELF);
            let output = process::run(command, 65_536, self.to.server.time_limit.0)?;
            if !output.status.success() {
                let said = problems(&String::from_utf8_lossy(&output.stderr));
                found.extend(said.ok_or_else(|| process::failure("pg_restore", &output).context(format!("the {what} did not come back")))?);
            }
        }
        self.monitor.task(&format!("analysing {}", self.name), None);
        match choice {
            Some(choice) => {
                for table in &choice.tables {
                    if let Err(error) = self.to.run(Some(target.now()), &format!("ANALYZE {table}")) {
                        found.push(format!("{table} was not analysed: {}", error.one_line()));
                    }
                }
            }
            None => self.to.run(Some(target.now()), "ANALYZE")?,
        }
        Ok(found)
    }
}

/// A list for `--use-list`.
fn list_file(list: &str) -> Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new().at("make a file in", std::env::temp_dir())?;
    let list_path = file.path().to_owned();
    file.write_all(list.as_bytes()).at("write", list_path)?;
    Ok(file)
}

/// Counts what passes.
struct Counted<'a> {
    to: &'a File,
    monitor: &'a dyn Monitor,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.monitor.bytes(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}
