//! The way back: as files, or by the command that the restorer's own configuration declares.
//!
//! Runs nothing that comes from the node or the archive: neither does a snapshot say which command there is.

use super::commands::{command, run_in, tell};
use super::settings::{Settings, Words};
use super::words::{Place, Values};
use crate::archived::Staging;
use crate::{Destination, FileOptions, RestoreContext, RestoreReport, archived};
use archive::entry::{Entry, EntryKind};
use archive::restore::{RestoreSpec, restore_tree};
use archive::snapshot::SnapshotReader;
use base::{Error, Result};
use std::ffi::OsStr;
use std::path::Path;

/// See [`crate::ClientModule::restore`].
pub(super) fn restore(name: &str, context: &RestoreContext<'_>, reader: &SnapshotReader) -> Result<RestoreReport> {
    let declared = context.config.filter(|config| config.module.contains_key(name));
    let table = declared.map(|config| Settings::of(config, name)).transpose()?;
    let command = table.as_ref().and_then(|table| Some((table, table.restore.as_ref()?)));
    // A part of it is files, whatever a command could do with the whole.
    let as_files = context.no_command || !context.paths.is_empty() || context.to == Destination::Stdout;
    match command.filter(|_| !as_files) {
        Some((table, words)) => by_command(context, reader, table, words),
        None => {
            if let Destination::Folder(folder) = context.to
                && !folder.is_absolute()
            {
                return Err(Error::usage(format!("{} has no place of its own to come back to", context.dataset))
                    .hint(format!("Say where with --target DIR, or declare a restore command in [module.{name}].")));
            }
            archived::restore(context, reader, &format!("what the module {name} made"))
        }
    }
}

fn by_command(context: &RestoreContext<'_>, reader: &SnapshotReader, table: &Settings, words: &Words) -> Result<RestoreReport> {
    const WHAT: &str = "restored by a command";
    let as_files = "--no-command brings back the files that were archived.";
    context.files.refuse(WHAT).map_err(|error| error.hint(as_files))?;
    context.refuse_database_options("what is restored by a command")?;
    let dataset = context.dataset.to_string();
    let target: &OsStr = match context.to {
        Destination::Folder(folder) => folder.as_os_str(),
        Destination::Database(name) if !name.is_empty() && !name.starts_with('-') && !name.chars().any(char::is_control) => {
            OsStr::new(name)
        }
        Destination::Database(name) => return Err(Error::usage(format!("{name:?} cannot be what a command restores to"))),
        Destination::Server | Destination::Stdout => {
            return Err(Error::usage("a command restores to what --target or --into-db names").hint(as_files));
        }
    };
    let in_place = context.to == Destination::Folder(Path::new(context.dataset.path()));
    if !in_place && !words.iter().any(|word| word.has(Place::Target)) {
        return Err(Error::usage(format!(
            "the restore command of [module.{}] has no {{target}}, so it cannot restore to {}",
            context.dataset.module(),
            target.display()
        ))
        .hint(format!("--in-place runs it as it is; {as_files}")));
    }
    let values = Values { path: context.dataset.path(), dataset: &dataset, staging: None, target: Some(target) };
    if words.iter().any(|word| word.has(Place::Staging)) {
        from_staging(context, reader, table, words, &values)
    } else {
        from_stream(context, reader, table, words, &values)
    }
}

/// Everything into a private folder first, then the command.
fn from_staging(
    context: &RestoreContext<'_>,
    reader: &SnapshotReader,
    table: &Settings,
    words: &Words,
    values: &Values<'_>,
) -> Result<RestoreReport> {
    let config = context.config.ok_or_else(|| Error::usage("there is no configuration that says where a staging folder may be"))?;
    let id = &reader.public().id;
    let staging = Staging::make(config, &format!("restore-{id}-{}", std::process::id()))
        .map_err(|error| error.hint("Set state in client.toml to a folder of yours, or bring back files with --no-command."))?;
    let folder = staging.data();
    let spec = RestoreSpec { paths: Vec::new(), target: &folder, options: FileOptions::default(), monitor: context.monitor };
    let report = restore_tree(reader, spec)?;
    if let Some(first) = report.problems.first() {
        return Err(Error::failed(format!("the snapshot did not come back whole, so the restore command was not run: {first}"))
            .hint("--no-command brings back what there is as files."));
    }
    context.monitor.task(&format!("restoring {}", context.dataset), None);
    run_in(Some(&staging), table, words, &Values { staging: Some(folder.as_os_str()), ..*values }, context.monitor)
        .map_err(|error| error.context(format!("{} was not restored", context.dataset)))?;
    staging.remove(context.monitor);
    Ok(report)
}

/// The only stream into the command's standard input.
fn from_stream(
    context: &RestoreContext<'_>,
    reader: &SnapshotReader,
    table: &Settings,
    words: &Words,
    values: &Values<'_>,
) -> Result<RestoreReport> {
    let (entry, size) = only_file(reader)?;
    context.monitor.task(&format!("restoring {}", context.dataset), Some(size));
    let command = command(table, words, values)?;
    let name = words.first().and_then(super::words::Word::text).unwrap_or_default().to_owned();
    let fed = archived::feed(reader, &entry, command, table.time_limit, context.monitor)
        .map_err(|error| error.context(format!("{} was not restored", context.dataset)))?;
    tell(&name, &fed.words, context.monitor);
    context.monitor.entries(1);
    Ok(RestoreReport { entries: 1, bytes: fed.bytes, ..RestoreReport::default() })
}

fn only_file(reader: &SnapshotReader) -> Result<(Entry, u64)> {
    let mut entries = reader.entries();
    if let (Some(entry), None) = (entries.next().transpose()?, entries.next().transpose()?)
        && let EntryKind::File { size, .. } = entry.kind
    {
        return Ok((entry, size));
    }
    Err(Error::usage("the snapshot is not a single stream, which the restore command could read from its standard input")
        .hint("Write {staging} into the restore command; it is the folder with all that was archived."))
}
