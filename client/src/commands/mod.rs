//! The commands, one file each.

mod cancel;
mod config_check;
mod diff;
mod dry_run;
mod find;
mod init;
mod keys;
mod log;
mod ls;
mod metrics;
mod mount;
mod node;
mod restore;
mod retry;
mod send;
mod snapshots;
mod status;
mod submit;
mod verify;
mod watch;

use crate::Globals;
use base::config::ClientConfig;
use base::{Exit, Result};

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Init(init::Init),
    Submit(submit::Submit),
    Send(send::Send),
    Watch(watch::Watch),
    Status(status::Status),
    Metrics(metrics::Metrics),
    Cancel(cancel::Cancel),
    Retry(retry::Retry),
    Log(log::Log),
    Snapshots(snapshots::Snapshots),
    Ls(ls::Ls),
    Mount(mount::Mount),
    Find(find::Find),
    Diff(diff::Diff),
    Restore(restore::Restore),
    Keys(keys::Keys),
    Verify(verify::Verify),
    Node(node::Node),
    Config(config_check::Config),
}

/// Runs one command.
///
/// # Errors
/// Whatever the command says.
pub fn run(globals: &Globals, command: Command) -> Result<Exit> {
    match command {
        Command::Init(command) => command.run(globals),
        Command::Submit(command) => command.run(&load(globals)?),
        Command::Send(command) => command.run(load(globals)?),
        Command::Watch(command) => command.run(load(globals)?),
        Command::Status(command) => command.run(&load(globals)?),
        Command::Metrics(command) => command.run(&load(globals)?),
        Command::Cancel(command) => command.run(&load(globals)?),
        Command::Retry(command) => command.run(&load(globals)?),
        Command::Log(command) => command.run(&load(globals)?),
        Command::Snapshots(command) => command.run(globals),
        Command::Ls(command) => command.run(globals),
        Command::Mount(command) => command.run(globals),
        Command::Find(command) => command.run(globals),
        Command::Diff(command) => command.run(globals),
        Command::Restore(command) => command.run(globals),
        Command::Keys(command) => command.run(globals),
        Command::Verify(command) => command.run(globals),
        Command::Node(command) => command.run(globals),
        Command::Config(command) => command.run(globals),
    }
}

/// Reads the configuration.
///
/// # Errors
/// Of kind usage, with file, line and field.
pub fn load(globals: &Globals) -> Result<ClientConfig> {
    let config = ClientConfig::load(&globals.config).map_err(|error| {
        if globals.config.exists() { error } else { error.hint("Run nightsafe init, or say with --config where the configuration is.") }
    })?;
    modules::check_settings(&config).map_err(|error| base::config::not_usable(&globals.config, error))?;
    Ok(config)
}
