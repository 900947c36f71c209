//! `nightsafe-gate`: all that a key can run. sshd runs it as a forced command, git runs it as a hook, a timer runs its
//! upkeep.
//!
//! Imports `base` and `queue` alone: it knows neither archives nor modules, and fetches nothing. It stands at the door
//! and is a filter, never the authority: the poller checks everything again.

mod admin;
mod dial;
mod export;
mod git;
mod handover;
mod hooks;
mod keys;
mod lfs;
mod limits;
mod log;
mod look;
mod maintain;
mod pace;
mod queues;
mod refs;
mod restorer;
mod serve;
mod sessions;
mod sftp;
mod wait;

use base::{Error, Exit, Name, Result};
use clap::{CommandFactory, Parser, Subcommand};
use queue::verdict::Role;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The gate of Nightsafe: run by sshd as the only command of a key, and by git as a hook.
#[derive(Debug, Parser)]
#[command(name = "nightsafe-gate", version)]
struct Arguments {
    /// node.toml on a node, client.toml for `export`.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Forced command for a client's key, on the node.
    Client {
        /// The client, as the access list names it.
        name: Name,
    },
    /// Forced command for an administrator's key, on the node.
    Admin {
        /// The administrator, as the access list names it.
        name: Name,
    },
    /// Forced command for a restorer's key, on the node.
    Restorer {
        /// The restorer, as the access list names it.
        name: Name,
    },
    /// Forced command for a node's key, on a client: offers the export folder and the git repositories to it.
    Export {
        /// The node, as client.toml names it.
        node: Name,
    },
    /// For sshd's AuthorizedKeysCommand (`keys %t %k`): prints the line of one key from the published list.
    Keys {
        /// The key's type, %t.
        kind: String,
        /// The key in base64, %k.
        key: String,
    },
    /// Repeats hand-overs that a crash lost and tidies the queues; run it by a timer of the gate's user.
    Maintain,
}

/// The command line, for whoever writes its manual.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// The program: what sshd, git or a timer asked of it.
pub fn main() -> ExitCode {
    limits::no_core_files();
    let done = match hooks::asked() {
        Some(hook) => hook.run(),
        None => run(Arguments::parse()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            Exit::from(error.kind()).into()
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let config = &arguments.config;
    match arguments.what {
        What::Client { name } => serve::serve(config, Role::Client(name)),
        What::Admin { name } => serve::serve(config, Role::Admin(name)),
        What::Restorer { name } => serve::serve(config, Role::Restorer(name)),
        What::Export { node } => serve::serve(config, Role::Export(node)),
        What::Keys { kind, key } => keys::look_up(config, &kind, &key),
        What::Maintain => maintain::maintain(config),
    }
}

/// Tells the other end, through ssh or git, what went wrong.
fn complain(error: &Error) {
    // Nobody is left to be told when this fails.
    let _ = writeln!(std::io::stderr(), "nightsafe-gate: {}", error.render());
}
