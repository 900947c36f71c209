//! `nightsafe-server`: the node. It takes requests that the gate handed over, fetches what they name, and answers.
//!
//! Never needs a key that opens archives: it sees, keeps and checks ciphertext.

mod access;
mod alerts;
mod audit;
mod become_owner;
mod cgit;
mod commands;
mod dial;
mod digest;
mod done;
mod enrol;
mod given;
mod groups;
mod keys;
mod metrics;
mod node;
mod output;
mod overview;
mod owners;
mod poll;
mod prune;
mod scrub;
mod silence;
mod state;
mod verify;
mod web;

use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Keep backups of other machines: take their signed requests, pull what they offer, answer with signed receipts.
#[derive(Debug, Parser)]
#[command(name = "nightsafe-server", version, max_term_width = 100)]
struct Cli {
    /// The node's configuration.
    #[arg(long, global = true, value_name = "FILE", env = "NIGHTSAFE_SERVER_CONFIG", default_value = "/etc/nightsafe/node.toml")]
    config: PathBuf,
    /// Say what is being done; twice for more.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(commands::init::Args),
    Client(commands::client::Args),
    Restorer(commands::restorer::Args),
    Adopt(commands::adopt::Args),
    ImportGitosis(commands::import_gitosis::Args),
    Poll(commands::poll::Args),
    Watch(commands::watch::Args),
    Web(commands::web::Args),
    Status(commands::status::Args),
    Metrics(commands::metrics::Args),
    Snapshots(commands::snapshots::Args),
    Prune(commands::prune::Args),
    Hold(commands::hold::Hold),
    Unhold(commands::hold::Unhold),
    Forget(commands::forget::Args),
    Keys(commands::keys::Args),
    Log(commands::log::Args),
    AdminRecover(commands::admin_recover::Args),
    Scrub(commands::scrub::Args),
    Config(commands::config::Args),
}

/// The command line, for whoever writes its manual.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The program: reads its command line, does what it says, and tells how it went by the exit code.
pub fn main() -> ExitCode {
    // git starts this very program as its ssh.
    transport::wrapper::run_if_asked();
    let understood = Cli::command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match understood {
        Ok(understood) => understood,
        Err(error) => return output::usage(&error.format(&mut Cli::command())).into(),
    };
    // Others of the group may read what the node keeps, nobody may write it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
    show::logging::start(cli.verbose, Some(tracing::Level::WARN));
    let config = &cli.config;
    if let Err(error) = as_owner(&cli, &matches) {
        return output::finish(Err(error)).into();
    }
    let result = match &cli.command {
        Command::Init(args) => commands::init::run(args, config),
        Command::Client(args) => commands::client::run(args, config),
        Command::Restorer(args) => commands::restorer::run(args, config),
        Command::ImportGitosis(args) => commands::import_gitosis::run(args, config),
        Command::Adopt(args) => commands::adopt::run(args, config),
        Command::Poll(args) => commands::poll::run(args, config),
        Command::Watch(args) => commands::watch::run(args, config),
        Command::Web(args) => commands::web::run(args, config),
        Command::Status(args) => commands::status::run(args, config),
        Command::Metrics(args) => commands::metrics::run(args, config),
        Command::Snapshots(args) => commands::snapshots::run(args, config),
        Command::Prune(args) => commands::prune::run(args, config),
        Command::Hold(args) => commands::hold::hold(args, config),
        Command::Unhold(args) => commands::hold::unhold(args, config),
        Command::Forget(args) => commands::forget::run(args, config),
        Command::Keys(args) => commands::keys::run(args, config),
        Command::Log(args) => commands::log::run(args, config),
        Command::AdminRecover(args) => commands::admin_recover::run(args, config),
        Command::Scrub(args) => commands::scrub::run(args, config),
        Command::Config(args) => commands::config::run(args, config),
    };
    output::finish(result).into()
}

/// Root becomes the data's owner, but where only root can do what is asked for.
fn as_owner(cli: &Cli, matches: &ArgMatches) -> base::Result<()> {
    let data = match &cli.command {
        Command::AdminRecover(_) => return Ok(()),
        Command::Init(args) => Some(args.data()),
        _ => None,
    };
    let learn = |gate: &str| if let Command::Config(args) = &cli.command { args.remember_sshd(gate) } else { None };
    let line = (&Cli::command(), matches);
    become_owner::unless_root_owns(&become_owner::Asked { config: &cli.config, data, learn: &learn, line })
}
