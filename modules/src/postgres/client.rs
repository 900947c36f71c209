//! The client half: what the configuration names, looked at, dumped and brought back.
//!
//! Does not know how PostgreSQL's programs are called.

use super::settings::{Place, Settings};
use super::{NAME, backup, restore};
use crate::{
    ClientContext, ClientModule, Fate, Lane, Look, LookContext, PreparedRequest, RestoreContext, RestoreReport, RestoreSource, Seen,
    archived,
};
use archive::backup::backup_streams;
use base::config::ClientConfig;
use base::{Dataset, Error, Result};

pub(crate) struct Client;

pub(crate) const CLIENT: Client = Client;

fn place(config: &ClientConfig, dataset: &Dataset) -> Result<Place> {
    Settings::of(Some(config))?.place(dataset.path())
}

impl ClientModule for Client {
    fn name(&self) -> &str {
        NAME
    }

    fn lane(&self) -> Lane {
        Lane::Archive
    }

    fn settings(&self, config: &ClientConfig) -> Result<()> {
        Settings::of(Some(config)).map(drop)
    }

    fn check(&self, config: &ClientConfig, dataset: &Dataset) -> Result<()> {
        place(config, dataset).map(drop)
    }

    fn reach(&self, config: &ClientConfig, dataset: &Dataset) -> Result<()> {
        backup::reach(&place(config, dataset)?).map(drop)
    }

    fn look(&self, context: &LookContext<'_>, dataset: &Dataset) -> Result<Look> {
        let place = place(context.config, dataset)?;
        let from = backup::reach(&place)?;
        let mut look = Look { entries: Some(0), bytes: Some(0), ..Look::default() };
        for database in from.databases()?.into_iter().filter(|one| place.database.as_ref().is_none_or(|name| *name == one.name)) {
            let fate = match database.size {
                Some(size) if database.open => Fate::Taken(size),
                _ => Fate::Unreadable("the role may not connect to it"),
            };
            (context.tell)(&Seen { name: database.name.as_bytes(), fate });
            match fate {
                Fate::Taken(size) => {
                    look.entries = look.entries.map(|entries| entries + 1);
                    look.bytes = look.bytes.map(|bytes| bytes.saturating_add(size));
                }
                _ => look.unreadable += 1,
            }
        }
        look.lines.push("Sizes are those on the server's disk, with indexes; a dump has none, and is mostly smaller.".into());
        if place.database.is_none() {
            look.lines.push("Roles and tablespaces are taken too.".into());
        }
        Ok(look)
    }

    fn prepare(&self, context: &ClientContext<'_>, dataset: &Dataset) -> Result<PreparedRequest> {
        let place = place(context.config, dataset)?;
        archived::client::prepare(context, dataset, |spec| {
            let from = backup::reach(&place)?;
            backup_streams(spec, |streams| backup::fill(streams, &from, place.database.as_deref(), spec.secrets, context.monitor))
        })
    }

    fn restore(&self, context: &RestoreContext<'_>, source: RestoreSource) -> Result<RestoreReport> {
        match source {
            RestoreSource::Archive(reader) => restore::restore(context, &reader),
            RestoreSource::Mirror { .. } | RestoreSource::Nothing => {
                Err(Error::failed(format!("the snapshot of {} is no archive", context.dataset)))
            }
        }
    }
}
