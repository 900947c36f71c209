//! `config check`: says whether the configuration, the keys and the folders are such that the node can work.
//!
//! Changes nothing.

use crate::node::Node;
use crate::{access, groups, output};
use base::{At, Error, Exit, Result};
use clap::Subcommand;
use queue::Signer;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Look at the configuration.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say what is wrong in node.toml, with its keys and its folders; nothing is changed.
    Check {
        /// Send a mail to the addresses in [mail], to see whether it arrives.
        #[arg(long)]
        mail: bool,
    },
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    match args.what {
        What::Check { mail } => check(config, mail),
    }
}

fn check(config: &Path, try_mail: bool) -> Result<Exit> {
    let node = Node::load(config)?;
    let mut wrong = Vec::new();
    let mut see = |result: Result<()>| wrong.extend(result.err());
    for key in [&node.config.pull_key, &node.config.receipts_key] {
        see(private(key).and_then(|()| Signer::from_file(key).map(drop)));
    }
    for folder in [&node.config.data, &node.config.gate] {
        see(std::fs::metadata(folder)
            .at("find the folder", folder)
            .map(drop)
            .map_err(|error| error.hint("nightsafe-server init makes it.")));
    }
    for open in crate::owners::problems(&node, &super::snapshots::clients(&node, None).unwrap_or_default()) {
        see(Err(Error::usage(open)));
    }
    for group in [&node.config.groups.gate, &node.config.groups.mirrors] {
        see(groups::id(group.as_deref()).map(drop));
    }
    see(access::first_admins(&node.config).map(drop));
    if node.config.admin_path().exists() {
        see(access::current(&node).map(drop));
    }
    see(node.gate_program().map(drop));
    match &node.config.mail {
        Some(mail) if try_mail => see(mail::send_test(mail, node.config.name.as_str())),
        Some(mail) => see(mail::check(mail)),
        None if try_mail => see(Err(Error::usage("there is no [mail] in node.toml, so there is nowhere to send a mail to"))),
        None => {}
    }
    for error in &wrong {
        output::complain(error);
    }
    if !wrong.is_empty() {
        return Ok(Exit::Usage);
    }
    output::line(&format!("{} is right; this is node {}", config.display(), node.config.name))?;
    Ok(Exit::Done)
}

/// A private key that others can read is as good as lost.
fn private(key: &Path) -> Result<()> {
    let mode =
        std::fs::metadata(key).at("find the key", key).map_err(|error| error.hint("nightsafe-server init makes it."))?.permissions().mode();
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(Error::usage(format!("{} can be read by others (mode {:03o})", key.display(), mode & 0o777))
            .hint(format!("Run: chmod 600 {}", key.display())))
    }
}
