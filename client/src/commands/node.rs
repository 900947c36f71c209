//! `nightsafe node`: what this machine believes of a node.

mod add;

pub use add::{is_same, keys_of_account, own_line};

use crate::{Globals, output, trust};
use base::config::ClientConfig;
use base::config::client::ClientNode;
use base::{At, Error, Exit, FileLock, Name, Result, atomic, names};
use queue::signature::parse_public_key;
use std::io::BufRead;

/// What this machine believes of a node.
#[derive(Debug, clap::Args)]
pub struct Node {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, clap::Subcommand)]
enum NodeCommand {
    Add(add::Add),
    Trust(Trust),
}

/// Believe receipts of a node that another key signs from now on, or a history that begins anew.
///
/// Ask the node's administrator first, over another way than the node itself. The key stands in place of receipts_key in
/// the configuration until that file is removed (STATE/trusted/NODE.pub).
#[derive(Debug, clap::Args)]
struct Trust {
    /// The node.
    node: Name,
    /// The new public key: its text, or a file with it.
    #[arg(required_unless_present = "new_history")]
    key: Option<String>,
    /// Forget the receipts seen so far: the administrator has set the node back.
    #[arg(long)]
    new_history: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Node {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        match self.command {
            NodeCommand::Add(add) => add.run(globals),
            NodeCommand::Trust(trust) => trust.run(&super::load(globals)?),
        }
    }
}

impl Trust {
    fn run(self, config: &ClientConfig) -> Result<Exit> {
        let node = config.node(&self.node).ok_or_else(|| {
            Error::usage(format!("the configuration has no node {}", self.node))
                .hint(names::hint(self.node.as_str(), config.nodes.iter().map(|node| node.name.as_str())))
        })?;
        if let Some(key) = &self.key {
            self.pin(config, node, key)?;
        }
        if self.new_history {
            self.begin_anew(config, node)?;
        }
        Ok(Exit::Done)
    }

    fn pin(&self, config: &ClientConfig, node: &ClientNode, key: &str) -> Result<()> {
        let text = if key.starts_with("ssh-") || key.starts_with("ecdsa-") || key.starts_with("sk-") {
            key.to_owned()
        } else {
            std::fs::read_to_string(key).at("read the key", key)?
        };
        let new = parse_public_key(&text)?;
        let old = trust::receipts_key(config, node)?;
        if old.key_data() == new.key_data() {
            output::line(format_args!("{} has this key already.", node.name));
            return Ok(());
        }
        let (old, shown) = (trust::fingerprint(&old), trust::fingerprint(&new));
        self.confirm(&format!("Receipts of {} are believed when {old} signs them. Believe {shown} instead?", node.name))?;
        trust::pin(config, node, &new)?;
        output::line(format_args!("Receipts of {} are now believed when {shown} signs them.", node.name));
        Ok(())
    }

    fn begin_anew(&self, config: &ClientConfig, node: &ClientNode) -> Result<()> {
        self.confirm(&format!("Forget the receipts of {} that were seen so far, and believe what it offers now?", node.name))?;
        let lock = crate::state::lock_path(config, &node.name);
        let Some(_lock) = FileLock::try_now(&lock)? else {
            return Err(Error::not_now(format!("{} is being sent to just now", node.name)).hint("Stop nightsafe watch first."));
        };
        let path = config.receipts_path(&node.name);
        let aside = path.with_extension(format!("before-{}", base::clock::now().as_second()));
        // Kept, because it is evidence.
        if path.exists() {
            atomic::rename(&path, &aside)?;
        }
        output::line(format_args!("The receipts seen so far are kept in {}.", aside.display()));
        Ok(())
    }

    fn confirm(&self, question: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        if !output::can_ask() {
            return Err(Error::usage("this must be confirmed by a person")
                .hint("Run it on a terminal, or with --yes when you have compared the key."));
        }
        output::note(format_args!("{question} [y/N]"));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).at("read from", "the terminal")?;
        if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Error::refused("nothing was changed")) }
    }
}
