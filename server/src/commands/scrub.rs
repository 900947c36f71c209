//! `scrub`: reads again what is kept and says what is damaged.
//!
//! The work is in `crate::scrub`; here is what is asked and how it is told.

use crate::node::Node;
use crate::output;
use crate::scrub::{self, Scrubbed, Share, damage::Entry};
use base::{ByteSize, Exit, Name, Result};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::Path;

/// Read what is kept once more and say what is damaged: packs against their names, snapshots against their signatures,
/// mirrors object by object.
///
/// Each run takes the share whose turn it is, what was not looked at for longest first; without --percent or --all that
/// which `scrub` in node.toml says, else 4 %. A damaged pack goes to the folder damaged/ of its client, and the client is
/// asked to send again what it still has. Prints nothing under cron when all is well. Exit codes: 0 nothing is damaged, or
/// the client has sent again what it had (only `nightsafe verify` with a key says whether that is all of it); 1 damage was
/// found, now or before; 75 another scrub is at work.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what is kept of this client.
    client: Option<Name>,
    /// The share, in percent, as in 4 or 0.5.
    #[arg(long, value_name = "N", value_parser = percent, conflicts_with = "all")]
    percent: Option<f64>,
    /// Everything.
    #[arg(long)]
    all: bool,
    /// Act on what was found even if most of it seems to be damaged. Without this nothing is moved then, because a disk
    /// that is away looks just so.
    #[arg(long)]
    believe: bool,
    /// Print an array of objects, one a client.
    #[arg(long)]
    json: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= 100.0);
    number.ok_or_else(|| "write a share above 0 and up to 100, as in 4".to_owned())
}

#[derive(Serialize)]
struct Row<'a> {
    client: &'a str,
    packs: u64,
    bytes: u64,
    snapshots: u64,
    repositories: u64,
    mended: &'a [String],
    doubt: Option<&'a str>,
    damage: Vec<Damage<'a>>,
}

#[derive(Serialize)]
struct Damage<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    repair_claimed: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let default = node.config.scrub.as_ref().map_or(base::config::ScrubConfig::PERCENT, |scrub| scrub.percent);
    let percent = if args.all { 100.0 } else { args.percent.unwrap_or(default) };
    let names = node.clients(args.client.as_ref())?;
    let (all, errors) = scrub::run(&node, &names, Share { percent, believe: args.believe }, &output::Watched::default())?;
    let mut exit = Exit::Done;
    let mut rows = Vec::new();
    for scrubbed in &all {
        let claims = scrub::claims(&node, &scrubbed.client);
        let damage = scrubbed.damage.iter().map(|entry| Damage { entry, repair_claimed: claims.of(entry).map(ToString::to_string) });
        let damage: Vec<Damage<'_>> = damage.collect();
        if scrubbed.doubt.is_some() || damage.iter().any(|damage| damage.repair_claimed.is_none()) {
            exit = Exit::Failed;
        }
        rows.push((scrubbed, damage));
    }
    if args.json {
        output::json(&rows.into_iter().map(|(scrubbed, damage)| row(scrubbed, damage)).collect::<Vec<_>>())?;
    } else {
        rows.iter().try_for_each(|(scrubbed, damage)| show(scrubbed, damage))?;
    }
    for error in errors {
        output::complain(&error);
        exit = Exit::Failed;
    }
    crate::alerts::tell(&node);
    Ok(exit)
}

fn row<'a>(scrubbed: &'a Scrubbed, damage: Vec<Damage<'a>>) -> Row<'a> {
    Row {
        client: scrubbed.client.as_str(),
        packs: scrubbed.packs,
        bytes: scrubbed.bytes,
        snapshots: scrubbed.snapshots,
        repositories: scrubbed.repositories,
        mended: &scrubbed.mended,
        doubt: scrubbed.doubt.as_deref(),
        damage,
    }
}

fn show(scrubbed: &Scrubbed, damage: &[Damage<'_>]) -> Result<()> {
    if std::io::stdout().is_terminal() {
        let (packs, bytes) = (scrubbed.packs, ByteSize(scrubbed.bytes));
        output::line(&format!(
            "{}: {packs} packs ({bytes}), {} snapshots and {} repositories were read",
            scrubbed.client, scrubbed.snapshots, scrubbed.repositories
        ))?;
    }
    for line in &scrubbed.mended {
        output::line(&format!("{}: {line}", scrubbed.client))?;
    }
    if let Some(doubt) = &scrubbed.doubt {
        output::warning(&format!("{}: {doubt}. If it is true, say --believe", scrubbed.client));
    }
    for Damage { entry, repair_claimed } in damage {
        output::line(&entry.line(&scrubbed.client))?;
        output::line(&format!("  snapshots: {}", entry.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")))?;
        if let Some(by) = repair_claimed {
            output::line(&format!("  repair claimed by {by}; nightsafe verify with a key says what is whole"))?;
        }
    }
    Ok(())
}
