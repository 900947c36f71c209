//! The client half: a walk below the dataset's path, and the way back into a folder.
//!
//! Leaves the folder that the administrator allowed by no link.

use super::NAME;
use crate::{ClientContext, ClientModule, Lane, PreparedRequest, RestoreContext, RestoreReport, RestoreSource, archived, settings};
use archive::backup::Source;
use base::config::ClientConfig;
use base::{Dataset, Error, Result, beneath};
use rustix::fs::OFlags;
use std::path::Path;

pub(crate) struct Client;

pub(crate) const CLIENT: Client = Client;

impl ClientModule for Client {
    fn name(&self) -> &str {
        NAME
    }

    fn lane(&self) -> Lane {
        Lane::Archive
    }

    fn check(&self, config: &ClientConfig, dataset: &Dataset) -> Result<()> {
        settings::reachable(config, dataset).map(drop)
    }

    fn prepare(&self, context: &ClientContext<'_>, dataset: &Dataset) -> Result<PreparedRequest> {
        let path = settings::absolute(dataset)?;
        let base = context.config.base_of(dataset).ok_or_else(|| settings::not_allowed(dataset))?;
        // A FIFO must not wait for its other end.
        let root = beneath::open_absolute(Path::new(base), path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        context.monitor.task(&format!("reading {}", path.display()), None);
        archived::client::prepare(context, dataset, |spec| archive::backup::backup_tree(spec, Source::Opened(root)))
    }

    fn restore(&self, context: &RestoreContext<'_>, source: RestoreSource) -> Result<RestoreReport> {
        let RestoreSource::Archive(reader) = source else {
            return Err(Error::failed(format!("the snapshot of {} is no archive", context.dataset)));
        };
        archived::restore(context, &reader, "a tree of files")
    }
}
