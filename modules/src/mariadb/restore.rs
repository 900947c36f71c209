//! The way back: into new databases, or as the files that the dumps are.
//!
//! Changes no database that has anything in it, and trusts no dump unless it is told to.

use super::account::Account;
use super::feed::{Fed, Feed};
use super::names::{ALL, DUMP, FOLDER, USERS, check, database, stream};
use super::programs::{As, Settings};
use super::script::Plan;
use super::server::Server;
use crate::{Destination, RestoreContext, RestoreReport, archived};
use archive::entry::Entry;
use archive::snapshot::SnapshotReader;
use base::{Error, Result};

/// One dump and where it goes.
struct Job {
    entry: Entry,
    to: String,
}

/// See [`crate::ClientModule::restore`].
pub(super) fn restore(context: &RestoreContext<'_>, reader: &SnapshotReader) -> Result<RestoreReport> {
    let several = context.dataset.path() == ALL;
    match context.to {
        Destination::Folder(_) | Destination::Stdout => {
            context.refuse_database_options("files and standard output")?;
            // A database may be named as such, or by its file.
            let named = |path: &String| if several && !path.contains('/') && path != USERS { stream(path) } else { path.clone() };
            let paths: Vec<String> = context.paths.iter().map(named).collect();
            archived::restore(&RestoreContext { paths: &paths, ..*context }, reader, "a dump")
        }
        Destination::Server => Work::new(context, reader)?.users(several),
        Destination::Database(name) => {
            context.files.refuse("a database")?;
            let jobs = if several { of_several(context, reader, name)? } else { of_one(context, reader, name)? };
            Work::new(context, reader)?.databases(jobs, several)
        }
    }
}

fn of_one(context: &RestoreContext<'_>, reader: &SnapshotReader, name: &str) -> Result<Vec<Job>> {
    if !context.paths.is_empty() {
        return Err(Error::usage("a dump has no paths in it").hint("Name tables with --table T, or leave the paths out."));
    }
    Ok(vec![Job { entry: find(reader, DUMP)?, to: check(name)?.to_owned() }])
}

fn of_several(context: &RestoreContext<'_>, reader: &SnapshotReader, name: &str) -> Result<Vec<Job>> {
    let mut there = Vec::new();
    for entry in reader.below(FOLDER.as_bytes())? {
        let entry = entry?;
        if let Some(database) = std::str::from_utf8(&entry.path).ok().and_then(database) {
            there.push(Job { entry, to: database });
        }
    }
    let listed = there.iter().map(|job| job.to.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = context.paths.iter().find(|path| !there.iter().any(|job| job.to == **path)) {
        return Err(Error::failed(format!("the snapshot has no database {unknown}")).hint(format!("It has these: {listed}.")));
    }
    if name == ALL {
        there.retain(|job| context.paths.is_empty() || context.paths.contains(&job.to));
        there.iter().try_for_each(|job| check(&job.to).map(drop))?;
        return Ok(there);
    }
    let [path] = context.paths else {
        return Err(Error::usage("the snapshot holds several databases, and one place to go to was named").hint(format!(
            "Name one of them before --into-db, or give --into-db '*' for each under its own name. It has these: {listed}."
        )));
    };
    let to = check(name)?.to_owned();
    Ok(there.into_iter().filter(|job| job.to == *path).map(|job| Job { to: to.clone(), ..job }).collect())
}

fn find(reader: &SnapshotReader, path: &str) -> Result<Entry> {
    reader.find(path.as_bytes())?.ok_or_else(|| Error::failed(format!("the snapshot holds no {path}")))
}

/// One restore on its way.
struct Work<'a> {
    context: &'a RestoreContext<'a>,
    reader: &'a SnapshotReader,
    settings: Settings,
}

impl<'a> Work<'a> {
    fn new(context: &'a RestoreContext<'a>, reader: &'a SnapshotReader) -> Result<Self> {
        let settings = context.config.map_or_else(|| Ok(Settings::default()), Settings::of)?;
        Ok(Self { context, reader, settings })
    }

    fn server(&self) -> Server<'_> {
        Server { settings: &self.settings }
    }

    /// Users and grants. Each stands for itself, so that one that the server does not take leaves the others.
    fn users(&self, several: bool) -> Result<RestoreReport> {
        if !several {
            return Err(Error::usage("users and grants are in snapshots of mariadb:*").hint("Leave --globals out, or name mariadb:*."));
        }
        let entry = find(self.reader, USERS)?;
        self.context.monitor.task("restoring users and grants", None);
        let fed = self.feed(As::Configured, None, Plan::default(), true)?.run(self.reader, &entry, self.context.monitor)?;
        self.context.monitor.entries(1);
        Ok(RestoreReport { entries: 1, bytes: fed.bytes, problems: fed.refused, ..RestoreReport::default() })
    }

    fn databases(&self, jobs: Vec<Job>, several: bool) -> Result<RestoreReport> {
        let server = self.server();
        let mut absent = Vec::new();
        for job in &jobs {
            let there = server.has(&job.to)?;
            if there && server.content(&job.to)? > 0 {
                return Err(Error::refused(format!("the database {} is there and is not empty", job.to))
                    .hint("Name a database that does not exist yet; it will be made."));
            }
            absent.push(!there);
        }
        // Definers of what follows are among the users.
        let mut report = if several && self.context.globals { self.users(true)? } else { RestoreReport::default() };
        for (job, absent) in jobs.iter().zip(absent) {
            let fed = self.database(job, absent, &mut report.notes)?;
            report.entries += 1;
            report.bytes += fed.bytes;
            self.context.monitor.entries(1);
        }
        Ok(report)
    }

    fn database(&self, job: &Job, absent: bool, notes: &mut Vec<String>) -> Result<Fed> {
        let (server, name) = (self.server(), job.to.as_str());
        self.context.monitor.task(&format!("restoring into the database {name}"), None);
        if absent {
            server.create(name)?;
        }
        let plan = Plan { database: Some(name.to_owned()), without_definers: !self.context.globals, tables: self.context.tables.to_vec() };
        let run = |who: As<'_>, plan: Plan| {
            let fed = self.feed(who, Some(name), plan, false)?.run(self.reader, &job.entry, self.context.monitor);
            let again = format!("What was restored so far is in the database {name}; drop it before you try again.");
            let fed = fed.map_err(|error| error.context(format!("could not restore into the database {name}. {again}")))?;
            if fed.missing.is_empty() {
                return Ok(fed);
            }
            if absent {
                server.drop(name)?;
            }
            Err(Error::failed(format!("the dump has no table {}", fed.missing.join(", ")))
                .hint("Views, routines and events come back with the whole database only."))
        };
        if self.context.globals {
            return run(As::Configured, plan);
        }
        let account = Account::make(server, name)?;
        let fed = run(As::File(account.file()), plan)?;
        let definer = account.name.clone();
        let count = account.settle(name)?;
        if count > 0 {
            notes.push(format!(
                "{count} views, routines, triggers and events of the database {name} now run as {definer}, which owns that database and \
                 nothing else. If you trust the dump, --globals has them run as who they ran before."
            ));
        }
        Ok(fed)
    }

    fn feed<'f>(&'f self, who: As<'f>, database: Option<&'f str>, plan: Plan, all: bool) -> Result<Feed<'f>> {
        Ok(Feed { settings: &self.settings, who, sandbox: self.server().has_sandbox()?, database, plan, all })
    }
}
