//! `nightsafe`, the client: asks nodes to fetch backups, and restores them.
//!
//! This file knows the names of the commands and nothing of what they do.

mod alerts;
mod around;
mod asking;
mod commands;
mod contact;
mod digest;
mod enrol;
mod freeze;
mod history;
mod interrupt;
mod ledger;
mod metrics;
mod mount;
mod outcome;
mod output;
mod overview;
mod pings;
mod recall;
mod schedule;
mod send;
mod state;
mod trust;

use clap::{ArgAction, CommandFactory, Parser};
use std::path::PathBuf;
use std::process::ExitCode;

/// Backups over git and ssh: asks nodes to fetch data, and restores it.
///
/// Exit codes: 0 done (also when there was nothing to do); 1 failed; 2 wrong usage; 3 done, but some data could not be
/// read or restored, or status found something wrong; 4 refused; 75 not now, will be tried again; 128 and the signal's
/// number when a signal ended it.
#[derive(Debug, Parser)]
#[command(name = "nightsafe", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: commands::Command,
}

/// What every command understands.
#[derive(Debug, clap::Args)]
pub struct Globals {
    /// The client's configuration.
    #[arg(long, global = true, env = "NIGHTSAFE_CONFIG", value_name = "FILE", default_value = "/etc/nightsafe/client.toml")]
    pub config: PathBuf,
    /// Tell on stderr what is being done; twice for more.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The command line, for whoever writes its manual.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// The program: reads its command line, does what it says, and tells how it went by the exit code.
pub fn main() -> ExitCode {
    // git starts this very program in place of ssh; then it is nothing else.
    transport::wrapper::run_if_asked();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return output::usage(&error),
    };
    show::logging::start(arguments.globals.verbose, None);
    output::finish(commands::run(&arguments.globals, arguments.command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
