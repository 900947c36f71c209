//! The client half: a copy made by SQLite, stored as the file that it is a copy of, and the way back.
//!
//! Leaves the folder that the administrator allowed by no link.

use super::NAME;
use super::copy::Database;
use super::program::Settings;
use crate::{ClientContext, ClientModule, Destination, Fate, Lane, Look, LookContext, PreparedRequest, RestoreContext, RestoreReport};
use crate::{RestoreSource, Seen, archived, settings};
use base::config::ClientConfig;
use base::{Dataset, Error, Result};
use std::path::{Path, PathBuf};

pub(crate) struct Client;

pub(crate) const CLIENT: Client = Client;

impl ClientModule for Client {
    fn name(&self) -> &str {
        NAME
    }

    fn lane(&self) -> Lane {
        Lane::Archive
    }

    fn settings(&self, config: &ClientConfig) -> Result<()> {
        Settings::of(config).map(drop)
    }

    fn check(&self, config: &ClientConfig, dataset: &Dataset) -> Result<()> {
        let path = settings::reachable(config, dataset)?;
        if path.is_dir() {
            return Err(Error::usage(format!("{} is a folder", path.display())).hint("Name the database's own file."));
        }
        Ok(())
    }

    fn look(&self, context: &LookContext<'_>, dataset: &Dataset) -> Result<Look> {
        self.check(context.config, dataset)?;
        let database = open(context.config, dataset)?;
        (context.tell)(&Seen { name: dataset.path().as_bytes(), fate: Fate::Taken(database.size()) });
        Ok(Look { entries: Some(1), bytes: Some(database.size()), ..Look::default() })
    }

    fn prepare(&self, context: &ClientContext<'_>, dataset: &Dataset) -> Result<PreparedRequest> {
        let options = Settings::of(context.config)?;
        let database = open(context.config, dataset)?;
        archived::client::prepare(context, dataset, |spec| {
            context.monitor.task(&format!("copying {}", dataset.path()), None);
            let name = format!("{}.{}", context.node.name, context.id);
            let copy = database.copy(context.config, &name, &options, context.monitor)?;
            let prepared = archive::backup::backup_copy(spec, &mut &copy.file, &database.file);
            copy.remove(context.monitor);
            prepared
        })
    }

    fn restore(&self, context: &RestoreContext<'_>, source: RestoreSource) -> Result<RestoreReport> {
        let RestoreSource::Archive(reader) = source else {
            return Err(Error::failed(format!("the snapshot of {} is no archive", context.dataset)));
        };
        context.refuse_database_options("an SQLite database")?;
        if let Destination::Folder(target) = context.to {
            check_beside(target)?;
        }
        archived::restore(context, &reader, "an SQLite database")
    }
}

fn open(config: &ClientConfig, dataset: &Dataset) -> Result<Database> {
    let path = settings::absolute(dataset)?;
    let base = config.base_of(dataset).ok_or_else(|| settings::not_allowed(dataset))?;
    Database::open(Path::new(base), path)
}

/// What SQLite kept beside another database of this name would be taken for this one's, and spoil it.
fn check_beside(target: &Path) -> Result<()> {
    for end in ["-wal", "-journal", "-shm"] {
        let mut beside = target.as_os_str().to_owned();
        beside.push(end);
        let beside = PathBuf::from(beside);
        if beside.symlink_metadata().is_ok() {
            return Err(Error::refused(format!("{} is there, and belongs to a database that is not this one", beside.display()))
                .hint("End the program that uses it, and move it away together with that database; or name another target."));
        }
    }
    Ok(())
}
