//! The way there: one database, or all of a server with its roles, as streams of one snapshot.
//!
//! Does not know what becomes of the streams.

use super::ask::{Answering, Database};
use super::settings::Place;
use super::{DUMP, GLOBALS, names};
use crate::archived;
use archive::backup::Streams;
use archive::epoch::Secrets;
use base::{Error, Monitor, Result};

/// Asks the server of `place`.
///
/// # Errors
/// As [`Answering::reach`].
pub(super) fn reach(place: &Place) -> Result<Answering> {
    Answering::reach(place.server.clone(), place.database.as_deref())
}

/// Puts what `database` names, or everything, into `streams`.
///
/// # Errors
/// When anything of it could not be dumped whole.
pub(super) fn fill(
    streams: &mut Streams<'_, '_>,
    from: &Answering,
    database: Option<&str>,
    secrets: &Secrets,
    monitor: &dyn Monitor,
) -> Result<()> {
    if let Some(database) = database {
        return dump(streams, DUMP, from, database, monitor);
    }
    let mut files = Vec::new();
    for Database { name, open, .. } in from.databases()? {
        if !open {
            let why = "it was not dumped: the role may not connect to it; GRANT CONNECT ON DATABASE lets it";
            streams.unreadable(&name, why.into())?;
        } else if names::check(&name).is_err() {
            streams.unreadable(&name, "it was not dumped: PostgreSQL's programs take no name with control characters".into())?;
        } else {
            files.push((names::file_of(&name), name));
        }
    }
    files.sort();
    for (file, name) in files {
        dump(streams, &file, from, &name, monitor)?;
    }
    globals(streams, from, secrets, monitor)
}

/// One database in pg_dump's custom form: of the forms that stream and from which a table can be restored, it is the one
/// that changes as little as its data (docs/postgres.md has the figures). Not compressed, for the same reason.
fn dump(streams: &mut Streams<'_, '_>, file: &str, from: &Answering, database: &str, monitor: &dyn Monitor) -> Result<()> {
    monitor.task(&format!("dumping the database {database}"), None);
    let mut command = from.program("pg_dump", database);
    // A lock that somebody holds for hours must not hold up every other archive.
    command.args(["--format=custom", "--compress=0", "--lock-wait-timeout=600000"]);
    let made = archived::dump(streams, file, command, &format!("the database {database}"), from.server.time_limit.0, monitor);
    made.map(drop).map_err(advise)
}

/// Roles, their memberships and settings, and tablespaces.
fn globals(streams: &mut Streams<'_, '_>, from: &Answering, secrets: &Secrets, monitor: &dyn Monitor) -> Result<()> {
    monitor.task("dumping the roles", None);
    let mut command = from.program_at_home("pg_dumpall");
    command.args(["--globals-only", "--lock-wait-timeout=600000"]);
    let may = from.ask_at_home("SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')")? == ["t"];
    match from.server.role_passwords {
        Some(true) if !may => return Err(not_allowed()),
        Some(true) => {}
        None if may => {}
        None => {
            command.arg("--no-role-passwords");
            let why = "roles' passwords are not in it: the role may not read them; see role_passwords in docs/postgres.md";
            streams.unreadable(GLOBALS, why.into())?;
        }
        Some(false) => {
            command.arg("--no-role-passwords");
        }
    }
    if from.tools.version.knows_restrict() {
        // Otherwise it differs in every dump.
        command.arg(format!("--restrict-key={}", secrets.word("nightsafe 2026 restrict key of dumps")));
    }
    let made = archived::dump(streams, GLOBALS, command, "the roles", from.server.time_limit.0, monitor);
    made.map(drop).map_err(advise)
}

fn not_allowed() -> Error {
    Error::failed("roles' passwords are asked for by role_passwords = true, and the role may not read them")
        .hint("GRANT SELECT ON pg_authid TO the role, or set role_passwords = false.")
}

/// Adds what helps, where the words of pg_dump are known.
fn advise(error: Error) -> Error {
    let words = error.one_line();
    let has = |text: &str| words.contains(text);
    if has("large object") && has("permission denied") {
        error.hint("pg_read_all_data does not cover large objects: GRANT SELECT ON LARGE OBJECT, or set lo_compat_privileges for the role.")
    } else if has("row-level security") {
        error.hint("ALTER ROLE … BYPASSRLS lets the role dump all rows of such tables.")
    } else if has("permission denied") {
        error.hint("GRANT pg_read_all_data TO the role lets it dump everything; docs/postgres.md has the SQL.")
    } else if has("lock timeout") || has("LOCK TABLE") {
        error.hint("Somebody held a lock on a table for more than 10 minutes. Submit the dataset again when it is free.")
    } else {
        error
    }
}
