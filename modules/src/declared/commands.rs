//! Declared commands as they are started: words filled in, environment and folder set, run to their end.
//!
//! Does not know what they are for.

use super::settings::{Settings, Words};
use super::words::{Values, Word};
use crate::archived::Group;
use crate::archived::Staging;
use base::{Error, Monitor, Result, process, text};
use rustix::fs::Access;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How much of what a command says is shown.
const SHOWN: usize = 2000;

/// The command, ready to be started; what it prints is thrown away unless the caller wants it.
///
/// # Errors
/// When the working folder is not there, or the program is not.
pub(super) fn command(settings: &Settings, words: &Words, values: &Values<'_>) -> Result<Command> {
    let filled: Vec<OsString> = words.iter().map(|word| word.fill(values)).collect::<Result<_>>()?;
    let folder = PathBuf::from(settings.folder.fill(values)?);
    if !folder.is_dir() {
        return Err(Error::failed(format!("the working folder {} is not there", folder.display())));
    }
    // Looked for here, because starting it would not say what is missing: the program or its folder.
    let mut command = process::command(program(settings, words, values)?);
    command.args(&filled[1..]).current_dir(folder).stdout(Stdio::null());
    for (name, word) in &settings.env {
        command.env(name, word.fill(values)?);
    }
    Ok(command)
}

/// Where the program of a command is.
///
/// # Errors
/// When it is nowhere, or may not be run.
pub(super) fn program(settings: &Settings, words: &Words, values: &Values<'_>) -> Result<PathBuf> {
    let name = words.first().and_then(Word::text).unwrap_or_default();
    let can_run = |path: &Path| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok();
    if name.starts_with('/') {
        let path = Path::new(name);
        return if can_run(path) { Ok(path.into()) } else { Err(Error::failed(format!("{name} is not a program that can be run here"))) };
    }
    let path = settings.env.get("PATH").map_or_else(|| Ok(process::PATH.into()), |word| word.fill(values))?;
    let found =
        std::env::split_paths(&path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(|path| can_run(path));
    found.ok_or_else(|| {
        Error::failed(format!("there is no program {name} in {}", Path::new(&path).display()))
            .hint("Install it, or write its absolute path; the environment of whoever runs nightsafe does not count.")
    })
}

/// Runs a command to its end, for at most as long as the settings say; what it says goes to the log.
///
/// # Errors
/// When it cannot be started, fails or takes longer, with its own words. Nothing of its process group is left running.
pub(super) fn run(settings: &Settings, words: &Words, values: &Values<'_>, monitor: &dyn Monitor) -> Result<()> {
    run_in(None, settings, words, values, monitor)
}

/// As [`run`], for a command that was given `staging`: it is ended with that when we are not there any more to do it.
///
/// # Errors
/// As [`run`].
pub(super) fn run_in(
    staging: Option<&Staging>,
    settings: &Settings,
    words: &Words,
    values: &Values<'_>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut group = Group::start(command(settings, words, values)?, settings.time_limit)?;
    if let Some(staging) = staging {
        staging.note(group.leader()?)?;
    }
    let said = group.finish()?;
    tell(&group.name, &said, monitor);
    Ok(())
}

/// Tells the log what a command said that went well.
pub(super) fn tell(name: &str, said: &[u8], monitor: &dyn Monitor) {
    let said = text::excerpt(said, SHOWN);
    if !said.is_empty() {
        monitor.problem(&Error::failed(format!("{name} said: {said}")));
    }
}

/// The command as a person would read it.
pub(super) fn shown(words: &Words, values: &Values<'_>) -> String {
    // What is not known yet keeps its name.
    let values = Values {
        staging: values.staging.or(Some(OsStr::new("{staging}"))),
        target: values.target.or(Some(OsStr::new("{target}"))),
        ..*values
    };
    let words = words.iter().map(|word| word.fill(&values).unwrap_or_default().to_string_lossy().into_owned());
    let quoted = words.map(|word| {
        let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "/._-=:,@%+{}".contains(c));
        if plain { word } else { format!("'{}'", text::printable(&word).replace('\'', "'\\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}
