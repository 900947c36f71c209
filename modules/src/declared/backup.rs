//! The way in: the declared commands make what is archived, as one snapshot.
//!
//! Knows words and folders; what the commands do is theirs.

use super::commands::{command, run, run_in};
use super::settings::{Settings, Take, Words};
use super::words::{Place, Values};
use crate::archived::{self, Staging};
use crate::{ClientContext, choosing, settings};
use archive::backup::{BackupSpec, Prepared, Source, Streams, backup_streams, backup_tree};
use archive::choose::Choice;
use base::{Dataset, Error, Monitor, Result, beneath};
use rustix::fs::OFlags;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Runs what makes the snapshot. Nothing is left in the staging folder, and nothing left running.
pub(super) fn back_up(context: &ClientContext<'_>, dataset: &Dataset, table: &Settings, spec: &BackupSpec<'_>) -> Result<Prepared> {
    if table.uses_path() && dataset.path().starts_with('/') {
        settings::reachable(context.config, dataset)?;
    }
    let values = Values { path: dataset.path(), dataset: &dataset.to_string(), staging: None, target: None };
    if let Some(words) = &table.check {
        run(table, words, &values, context.monitor).map_err(|error| error.context(format!("the check of {dataset} failed")))?;
    }
    let staging = if table.stages() { Some(Staging::make(context.config, context.id.as_str())?) } else { None };
    let made = archive(context, dataset, table, spec, &values, staging.as_ref());
    if let Some(staging) = staging {
        staging.remove(context.monitor);
    }
    made
}

fn archive(
    context: &ClientContext<'_>,
    dataset: &Dataset,
    table: &Settings,
    spec: &BackupSpec<'_>,
    values: &Values<'_>,
    staging: Option<&Staging>,
) -> Result<Prepared> {
    if let Some(words) = &table.prepare {
        context.monitor.task(&format!("preparing {dataset}"), None);
        prepare(table, words, values, staging, context.monitor)
            .map_err(|error| error.context(format!("{dataset} could not be prepared")))?;
    }
    if let Some(staging) = staging
        && table.is_folder()
    {
        return backup_tree(spec, Source::Opened(staged(staging, "")?));
    }
    backup_streams(spec, |streams| put_all(streams, context, dataset, table, values, staging))
}

/// Runs the command that prepares; when it will not write into a folder that is there, once more without one.
fn prepare(table: &Settings, words: &Words, values: &Values<'_>, staging: Option<&Staging>, monitor: &dyn Monitor) -> Result<()> {
    let Some(staging) = staging else { return run(table, words, values, monitor) };
    let folder = staging.data();
    let values = Values { staging: Some(folder.as_os_str()), ..*values };
    let error = match run_in(Some(staging), table, words, &values, monitor) {
        Ok(()) => return not_empty(staging),
        Err(error) => error,
    };
    // As `trac-admin hotcopy` does, which "can't overwrite existing" folders. Such a folder must be empty to be removed.
    let insists = words.iter().any(|word| word.is(Place::Staging)) && error.one_line().contains("exist");
    if !insists || std::fs::remove_dir(&folder).is_err() {
        return Err(error);
    }
    run_in(Some(staging), table, words, &values, monitor)?;
    not_empty(staging)
}

/// A backup of nothing is none.
fn not_empty(staging: &Staging) -> Result<()> {
    let wrong = |what: &str| Err(Error::failed(format!("the command ended well and {what}")).hint("See what it says in the log."));
    match std::fs::symlink_metadata(staging.data()) {
        Err(_) => wrong("left no staging folder"),
        Ok(meta) if !meta.is_dir() => wrong("left something else in the place of the staging folder"),
        Ok(_) if std::fs::read_dir(staging.data()).is_ok_and(|mut names| names.next().is_none()) => wrong("left the staging folder empty"),
        Ok(_) => Ok(()),
    }
}

/// Opens a path in what the commands were given, following no link that one of them made.
fn staged(staging: &Staging, inner: &str) -> Result<OwnedFd> {
    let folder = beneath::folder(staging.folder())?;
    let path = if inner.is_empty() { Staging::inner().to_owned() } else { Staging::inner().join(inner) };
    beneath::open(&folder, &path, READ).map_err(|error| error.context(format!("the command left no {{staging}}/{inner} to be archived")))
}

/// A FIFO must not wait for its other end.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// One thing that is put into the snapshot.
enum Part<'a> {
    Stream(&'a Words),
    Tree(OwnedFd, Choice),
}

/// Puts streams and trees in the order of their paths in the catalog.
fn put_all(
    streams: &mut Streams<'_, '_>,
    context: &ClientContext<'_>,
    dataset: &Dataset,
    table: &Settings,
    values: &Values<'_>,
    staging: Option<&Staging>,
) -> Result<()> {
    let mut parts: Vec<(String, &str, Part<'_>)> = Vec::new();
    for (name, words) in &table.streams {
        parts.push((name.clone(), name, Part::Stream(words)));
    }
    for (name, take) in &table.take {
        let (fd, is_folder) = open(context, dataset, take, staging)?;
        parts.push((if is_folder { format!("{name}/") } else { name.clone() }, name, Part::Tree(fd, chosen(context, dataset, take)?)));
    }
    parts.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (_, name, part) in parts {
        context.monitor.task(&format!("reading {name} of {dataset}"), None);
        match part {
            Part::Stream(words) => {
                let command = command(table, words, values)?;
                archived::dump(streams, name, command, &format!("{name} of {dataset}"), table.time_limit, context.monitor)?;
            }
            Part::Tree(fd, choice) => streams.tree(name, Source::Opened(fd), &choice)?,
        }
    }
    Ok(())
}

/// What of a tree is taken: of the dataset's own path as its settings say, of the staging folder everything.
fn chosen(context: &ClientContext<'_>, dataset: &Dataset, take: &Take) -> Result<Choice> {
    if take.staged { Ok(Choice::default()) } else { choosing::choice(context.config, dataset, &take.path(dataset)) }
}

/// Opens a tree, and says whether it is a folder.
fn open(context: &ClientContext<'_>, dataset: &Dataset, take: &Take, staging: Option<&Staging>) -> Result<(OwnedFd, bool)> {
    let fd = if take.staged {
        staged(staging.ok_or_else(|| Error::failed("there is no staging folder"))?, &take.inner)?
    } else {
        settings::absolute(dataset)?;
        let base = context.config.base_of(dataset).ok_or_else(|| settings::not_allowed(dataset))?;
        beneath::open_absolute(Path::new(base), &take.path(dataset), READ)?
    };
    let is_folder = rustix::fs::fstat(&fd).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir());
    Ok((fd, is_folder))
}
