//! The client half: a walk below the dataset's path, and the way back into a folder.
//!
//! Leaves the folder that the administrator allowed by no link.

use super::NAME;
use crate::{
    ClientContext, ClientModule, Fate, Frozen, Lane, Look, LookContext, PreparedRequest, RestoreContext, RestoreReport, RestoreSource,
    Seen, archived, choosing, settings,
};
use archive::backup::Source;
use archive::look;
use base::config::ClientConfig;
use base::{At, Dataset, Error, Result, beneath};
use rustix::fs::OFlags;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

pub(crate) struct Client;

/// Opens the dataset's folder or file, from the folder that the administrator allowed, without following a link.
fn open(config: &ClientConfig, dataset: &Dataset) -> Result<OwnedFd> {
    let path = settings::absolute(dataset)?;
    let base = config.base_of(dataset).ok_or_else(|| settings::not_allowed(dataset))?;
    // Looked at before it is opened: opening a device can do something already.
    let found = std::fs::File::from(beneath::open_absolute(Path::new(base), path, OFlags::PATH)?);
    suitable(&found.metadata().at("look at", path)?, path)?;
    // A FIFO that came in between must not wait for its other end.
    beneath::open_absolute(Path::new(base), path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// Opens the dataset where a snapshot of its file system has it. Nothing in there can be changed any more; what stood in the place
/// of one of its folders when it was made may be a link all the same.
fn open_frozen(frozen: &Frozen) -> Result<OwnedFd> {
    let root = beneath::folder(&frozen.root)?;
    let explain = |error: Error| error.context(format!("{} cannot be read in its snapshot", frozen.alive.join(&frozen.inner).display()));
    let found = std::fs::File::from(beneath::open(&root, &frozen.inner, OFlags::PATH).map_err(explain)?);
    suitable(&found.metadata().at("look at", &frozen.inner)?, &frozen.inner)?;
    beneath::open(&root, &frozen.inner, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map_err(explain)
}

pub(crate) const CLIENT: Client = Client;

impl ClientModule for Client {
    fn name(&self) -> &str {
        NAME
    }

    fn lane(&self) -> Lane {
        Lane::Archive
    }

    fn check(&self, config: &ClientConfig, dataset: &Dataset) -> Result<()> {
        let path = settings::reachable(config, dataset)?;
        // What this user may not see, the sender may.
        path.metadata().map_or(Ok(()), |meta| suitable(&meta, path))
    }

    fn settings(&self, config: &ClientConfig) -> Result<()> {
        settings::none(config, NAME)?;
        choosing::check(config, NAME)
    }

    fn dataset_settings(&self) -> &'static [&'static str] {
        choosing::WITH_SNAPSHOT
    }

    fn look(&self, context: &LookContext<'_>, dataset: &Dataset) -> Result<Look> {
        let root = open(context.config, dataset)?;
        let choice = choosing::choice(context.config, dataset, Path::new(dataset.path()))?;
        context.monitor.task(&format!("looking through {}", dataset.path()), None);
        let tell = |name: &[u8], fate: look::Fate<'_>| {
            let fate = match &fate {
                look::Fate::Taken(bytes) => Fate::Taken(*bytes),
                look::Fate::LeftOut(why) => Fate::LeftOut(why),
                look::Fate::Unreadable(why) => Fate::Unreadable(why),
            };
            (context.tell)(&Seen { name, fate });
        };
        let found = look::look(Source::Opened(root), &choice, &tell, context.monitor)?;
        Ok(Look {
            entries: Some(found.entries),
            bytes: Some(found.bytes),
            unreadable: found.unreadable,
            left_out: found.left_out,
            lines: Vec::new(),
        })
    }

    fn prepare(&self, context: &ClientContext<'_>, dataset: &Dataset) -> Result<PreparedRequest> {
        let root = match context.frozen {
            Some(frozen) => open_frozen(frozen)?,
            None => open(context.config, dataset)?,
        };
        context.monitor.task(&format!("reading {}", dataset.path()), None);
        archived::client::prepare(context, dataset, |spec| {
            // Once all folders are there that a backup itself writes to: these are left out by what they are.
            let mut choice = choosing::choice(context.config, dataset, Path::new(dataset.path()))?;
            if let Some(frozen) = context.frozen {
                choosing::leave_out_own_of(&mut choice, context.config, frozen);
            }
            archive::backup::backup_chosen(spec, Source::Opened(root), &choice)
        })
    }

    fn restore(&self, context: &RestoreContext<'_>, source: RestoreSource) -> Result<RestoreReport> {
        let RestoreSource::Archive(reader) = source else {
            return Err(Error::failed(format!("the snapshot of {} is no archive", context.dataset)));
        };
        archived::restore(context, &reader, "a tree of files")
    }
}

/// Whether a dataset can be made of this.
fn suitable(meta: &std::fs::Metadata, path: &Path) -> Result<()> {
    if meta.is_dir() || meta.is_file() {
        return Ok(());
    }
    let kind = meta.file_type();
    let what = match () {
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => "a symbolic link",
    };
    Err(Error::usage(format!("{} is {what}, and a dataset is a folder or a file", path.display()))
        .hint("Name the folder that it is in; FIFOs, devices and links are kept within folders."))
}
