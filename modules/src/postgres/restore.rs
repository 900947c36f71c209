//! The way back: into a new database by `pg_restore`, or as the file `dump`.
//!
//! Changes no database that has tables in it.

use super::DUMP;
use super::client::{read_words, shown};
use super::programs::{Settings, check_name, dbname};
use crate::{Destination, RestoreContext, RestoreReport};
use archive::restore::{RestoreSpec, restore_tree};
use archive::snapshot::SnapshotReader;
use base::process::Running;
use base::{At, Error, Result, process};
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

/// How long a question to the server may take.
const TIME: Duration = Duration::from_secs(60);

/// Counts what a restore would meet: everything that is in no schema of the server's own and belongs to no extension, and
/// schemas beside the one that every database has.
const CONTENT: &str = "SELECT (SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname <> 'public' AND nspname <> 'information_schema' \
    AND nspname NOT LIKE 'pg\\_%') + (SELECT count(*) FROM \
    (SELECT relnamespace AS n, oid FROM pg_catalog.pg_class UNION ALL SELECT pronamespace, oid FROM pg_catalog.pg_proc \
    UNION ALL SELECT typnamespace, oid FROM pg_catalog.pg_type) o JOIN pg_catalog.pg_namespace s ON s.oid = o.n \
    WHERE s.nspname <> 'information_schema' AND s.nspname NOT LIKE 'pg\\_%' \
    AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e'))";

/// See [`crate::ClientModule::restore`].
pub(super) fn restore(context: &RestoreContext<'_>, reader: &SnapshotReader) -> Result<RestoreReport> {
    if !context.paths.is_empty() {
        return Err(Error::usage("a database comes back as a whole")
            .hint("Restore the dump with --target DIR, and choose from it with pg_restore --list."));
    }
    match context.to {
        Destination::Stdout => Err(Error::usage("a database comes back to a database or to a folder")
            .hint("Add --into-db NAME for a new database, or --target DIR for the file DIR/dump.")),
        Destination::Server => context.refuse_database_options("this snapshot").map(|()| RestoreReport::default()),
        Destination::Folder(target) => {
            restore_tree(reader, RestoreSpec { paths: Vec::new(), target, options: context.files, monitor: context.monitor })
        }
        Destination::Database(name) => {
            context.files.refuse("a database")?;
            context.refuse_database_options("this snapshot")?;
            into_database(context, reader, check_name(name)?)
        }
    }
}

fn into_database(context: &RestoreContext<'_>, reader: &SnapshotReader, name: &str) -> Result<RestoreReport> {
    let settings = context.config.map_or_else(|| Ok(Settings::default()), Settings::of)?;
    let entry = reader.find(DUMP.as_bytes())?.ok_or_else(|| Error::failed("the snapshot holds no dump"))?;
    prepare_database(&settings, name)?;
    context.monitor.task(&format!("restoring into the database {name}"), Some(reader.public().counts.bytes));
    let mut command = settings.program("pg_restore");
    command.args(["--exit-on-error", "-d"]).arg(dbname(name));
    let mut child = Running(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().at("start", "pg_restore")?);
    let (Some(stdin), Some(stderr)) = (child.0.stdin.take(), child.0.stderr.take()) else {
        return Err(Error::failed("pg_restore was started without pipes"));
    };
    let words = std::thread::spawn(move || read_words(stderr));
    let mut counted = Counted { to: stdin, bytes: 0, monitor: context.monitor };
    let fed = reader.read_file(&entry, &mut counted);
    let bytes = counted.bytes;
    if fed.is_err() {
        // Before its input ends: it must not take the beginning for the whole.
        let _ = child.0.kill();
    }
    drop(counted);
    let status = child.0.wait().at("wait for", "pg_restore")?;
    let words = shown(&words.join().unwrap_or_default());
    let hint = format!("What was restored so far is in the database {name}; drop it before you try again.");
    if !status.success() && !words.is_empty() {
        return Err(Error::failed(format!("pg_restore failed ({status}): {words}")).hint(hint));
    }
    fed.map_err(|error| error.hint(hint.clone()))?;
    if !status.success() {
        return Err(Error::failed(format!("pg_restore failed ({status}) and said nothing")).hint(hint));
    }
    context.monitor.entries(1);
    Ok(RestoreReport { entries: 1, bytes, ..RestoreReport::default() })
}

/// Makes the database, or finds one that is empty.
fn prepare_database(settings: &Settings, name: &str) -> Result<()> {
    let ask = |database: &str, question: &str| {
        let mut command = settings.program("psql");
        command.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "-d"]).arg(dbname(database)).arg("-c").arg(question);
        process::run_ok(command, 65_536, TIME).map(|answer| String::from_utf8_lossy(&answer).trim().to_owned())
    };
    if ask("postgres", &format!("SELECT count(*) FROM pg_catalog.pg_database WHERE datname = '{}'", name.replace('\'', "''")))? == "0" {
        let mut command = settings.program("createdb");
        // The dump brings what a template could have put there already.
        command.args(["--template=template0", "--", name]);
        return process::run_ok(command, 65_536, TIME).map(|_| ());
    }
    if ask(name, CONTENT)? == "0" {
        return Ok(());
    }
    Err(Error::refused(format!("the database {name} is there and is not empty"))
        .hint("Name a database that does not exist yet; it will be made."))
}

/// Counts what passes.
struct Counted<'a, W> {
    to: W,
    bytes: u64,
    monitor: &'a dyn base::Monitor,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.bytes += n as u64;
        self.monitor.bytes(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}
