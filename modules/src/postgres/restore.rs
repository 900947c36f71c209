//! The way back: which dumps of a snapshot go to which databases, and the roles; or the files themselves.
//!
//! Does not know how a dump is restored.

mod database;
mod problems;

use super::ask::Answering;
use super::settings::{Place, Settings};
use super::{DUMP, GLOBALS, globals, names, sql};
use crate::{Destination, RestoreContext, RestoreReport, archived};
use archive::snapshot::SnapshotReader;
use base::{Error, Result};
use std::collections::BTreeSet;

/// A dump in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dump {
    /// Its file.
    file: String,
    /// Its database, in the snapshot of a whole server.
    database: Option<String>,
}

/// See [`crate::ClientModule::restore`].
pub(super) fn restore(context: &RestoreContext<'_>, reader: &SnapshotReader) -> Result<RestoreReport> {
    let all = dumps(reader)?;
    match context.to {
        Destination::Folder(_) | Destination::Stdout => {
            context.refuse_database_options("what comes back as files")?;
            let paths = context.paths.iter().map(|path| file_named(&all, path).unwrap_or_else(|| path.clone())).collect::<Vec<_>>();
            archived::restore(&RestoreContext { paths: &paths, ..*context }, reader, "a dump")
        }
        Destination::Server => {
            context.files.refuse("a database server")?;
            if !context.paths.is_empty() {
                return Err(Error::usage("the roles are not in any of the databases").hint("Leave the paths out, or add --into-db NAME."));
            }
            let server = Settings::of(context.config)?.server_of(context.dataset.path())?;
            roles(&Answering::reach(server, None)?, context, reader)
        }
        Destination::Database(name) => {
            context.files.refuse("a database")?;
            let place = Settings::of(context.config)?.place(name)?;
            let jobs = jobs(&chosen(&all, context.paths)?, &place)?;
            if !context.tables.is_empty() && jobs.len() != 1 {
                return Err(Error::usage("tables come back from one database").hint("Name the database behind the dataset."));
            }
            into_databases(context, reader, place, &jobs)
        }
    }
}

fn into_databases(context: &RestoreContext<'_>, reader: &SnapshotReader, place: Place, jobs: &[(Dump, String)]) -> Result<RestoreReport> {
    let to = Answering::reach(place.server, None)?;
    let mut report = if context.globals { roles(&to, context, reader)? } else { RestoreReport::default() };
    let single = jobs.len() == 1;
    for (dump, name) in jobs {
        let entry = reader.find(dump.file.as_bytes())?.ok_or_else(|| Error::failed(format!("the snapshot holds no {}", dump.file)))?;
        let job = database::Job { to: &to, reader, entry: &entry, name, tables: context.tables, monitor: context.monitor };
        match job.run() {
            Ok(restored) => {
                report.entries += restored.entries;
                report.bytes += restored.bytes;
                report.problems.extend(restored.problems);
            }
            Err(error) if single => return Err(error),
            // The others come back all the same.
            Err(error) => report.problems.push(format!("{name} was not restored: {}", error.render().replace("\n  ", ". "))),
        }
    }
    Ok(report)
}

/// All dumps of a snapshot.
fn dumps(reader: &SnapshotReader) -> Result<Vec<Dump>> {
    let mut found = Vec::new();
    for entry in reader.entries() {
        let Ok(file) = String::from_utf8(entry?.path) else { continue };
        let database = names::of_file(&file);
        if database.is_some() || file == DUMP {
            found.push(Dump { file, database });
        }
    }
    Ok(found)
}

/// The file that `path` means: a database by its name, or a file of the snapshot.
fn file_named(all: &[Dump], path: &str) -> Option<String> {
    all.iter().find(|dump| dump.database.as_deref() == Some(path)).map(|dump| dump.file.clone())
}

/// The dumps that `paths` name; all when there are none.
fn chosen(all: &[Dump], paths: &[String]) -> Result<Vec<Dump>> {
    let paths: Vec<&String> = paths.iter().filter(|path| !path.is_empty()).collect();
    if paths.is_empty() {
        return Ok(all.to_vec());
    }
    let named = |path: &&String| {
        let dump = all.iter().find(|dump| dump.database.as_ref() == Some(*path) || dump.file == **path).cloned();
        dump.ok_or_else(|| {
            let there = all.iter().filter_map(|dump| dump.database.as_deref()).collect::<Vec<_>>().join(", ");
            let error = Error::failed(format!("the database {path} is not in the snapshot"));
            if there.is_empty() {
                error.hint("It holds one database, and it needs no name here.")
            } else {
                error.hint(format!("These are: {there}."))
            }
        })
    };
    let found: Vec<Dump> = paths.iter().map(named).collect::<Result<_>>()?;
    Ok(found)
}

/// Which dump goes to which database.
fn jobs(chosen: &[Dump], place: &Place) -> Result<Vec<(Dump, String)>> {
    match (&place.database, chosen) {
        (_, []) => Err(Error::failed("the snapshot holds no database")),
        (Some(name), [dump]) => Ok(vec![(dump.clone(), name.clone())]),
        (Some(_), several) => Err(Error::usage(format!("the snapshot holds {} databases, and one name was given", several.len()))
            .hint("Name the database that is wanted behind the dataset; or give each its own name with --into-db '*'.")),
        (None, several) => {
            let own = |dump: &Dump| {
                let name = dump.database.clone().ok_or_else(|| {
                    Error::usage("the snapshot is of one database, and does not say its name").hint("Say it with --into-db NAME.")
                })?;
                Ok((dump.clone(), name))
            };
            several.iter().map(own).collect()
        }
    }
}

/// Brings back roles and tablespaces that are not there.
fn roles(to: &Answering, context: &RestoreContext<'_>, reader: &SnapshotReader) -> Result<RestoreReport> {
    let entry = reader.find(GLOBALS.as_bytes())?.ok_or_else(|| {
        Error::usage(format!("the snapshot of {} holds no roles", context.dataset))
            .hint("Those of postgres:* do: restore from one with --globals.")
    })?;
    context.monitor.task("restoring the roles", None);
    let mut bytes = Vec::new();
    reader.read_file(&entry, &mut bytes)?;
    let text = sql::text_of(bytes.as_slice())?;
    let names = |question| -> Result<BTreeSet<String>> { Ok(to.ask_at_home(question)?.into_iter().collect()) };
    let there = names("SELECT rolname FROM pg_catalog.pg_roles")?;
    let plan = globals::plan(&text, &there, &names("SELECT spcname FROM pg_catalog.pg_tablespace")?)?;
    let mut problems = plan.problems;
    problems.extend(sql::send(to, None, &plan.statements)?);
    let say = |what: &str, names: &BTreeSet<String>| {
        if !names.is_empty() {
            let all = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            context.monitor.note(&format!("{what}: {all}"));
        }
    };
    let now = names("SELECT rolname FROM pg_catalog.pg_roles UNION ALL SELECT spcname FROM pg_catalog.pg_tablespace")?;
    let made: BTreeSet<String> = plan.made.intersection(&now).cloned().collect();
    say("roles and tablespaces that were made", &made);
    say("roles that are there already and stay as they are", &plan.left);
    say("roles that are superusers now", &plan.superusers);
    if !plan.without_password.is_empty() {
        let all = plan.without_password.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        problems.push(format!("these roles came back without a password, because the snapshot has none: {all}; set one with \\password"));
    }
    Ok(RestoreReport { entries: made.len() as u64, bytes: text.len() as u64, problems, ..RestoreReport::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(database: &str) -> Dump {
        Dump { file: names::file_of(database), database: Some(database.into()) }
    }

    #[test]
    fn which_dump_goes_where() {
        let all = [dump("a"), dump("b/c")];
        let single = [Dump { file: DUMP.into(), database: None }];
        let place = |name: &str| Settings::of(None).unwrap().place(name).unwrap();
        let jobs_of = |all: &[Dump], paths: &[&str], to: &str| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            let jobs = jobs(&chosen(all, &paths)?, &place(to))?;
            Ok::<_, Error>(jobs.into_iter().map(|(dump, name)| format!("{} to {name}", dump.file)).collect::<Vec<_>>())
        };
        assert_eq!(jobs_of(&single, &[], "x").unwrap(), ["dump to x"]);
        assert_eq!(jobs_of(&single, &["dump"], "x").unwrap(), ["dump to x"]);
        assert_eq!(jobs_of(&all, &["a"], "x").unwrap(), ["databases/a.dump to x"]);
        assert_eq!(jobs_of(&all, &["databases/a.dump"], "x").unwrap(), ["databases/a.dump to x"]);
        assert_eq!(jobs_of(&all, &["b/c"], "*").unwrap(), ["databases/b%2Fc.dump to b/c"]);
        assert_eq!(jobs_of(&all, &[], "*").unwrap().len(), 2);
        for (all, paths, to, word) in [
            (&all[..], &[][..], "x", "2 databases"),
            (&all[..], &["nosuch"][..], "x", "nosuch"),
            (&single[..], &["nosuch"][..], "x", "nosuch"),
            (&single[..], &[][..], "*", "one database"),
            (&[][..], &[][..], "x", "no database"),
        ] {
            let error = jobs_of(all, paths, to).unwrap_err();
            assert!(error.one_line().contains(word), "{}", error.one_line());
        }
    }
}
