//! `prune`: what is kept and why, and taking away what is not.
//!
//! The rules are those of the access list, unless some are given here.

use crate::node::Node;
use crate::output;
use crate::prune::{Asked, Outcome, complete, run as prune};
use archive::store::Planned;
use base::{ByteSize, Dataset, Error, Exit, Keep, KeepWords, Name, Result, Span, clock};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// Show which snapshots are kept and why, condemn the others, and remove those whose grace is over.
///
/// Goes by `keep` in the access list and `floor` in node.toml; poll and watch do the same once a day. A snapshot that is
/// condemned goes after the grace, with the packs that nothing else needs. No key is needed, and mirrors are never
/// pruned.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this client, or only this dataset of it.
    #[arg(value_name = "CLIENT[:DATASET]", value_parser = only)]
    only: Option<(Name, Option<Dataset>)>,
    /// Only show what would be done.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// How long snapshots stay condemned before they go, as in 3d; 0s removes them now. Default: as in node.toml.
    #[arg(long, value_name = "TIME")]
    grace: Option<Span>,
    /// Keep the last N, instead of what the access list says. So with all of --keep-….
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep the first of each of the last N hours.
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,
    /// Keep the first of each of the last N days, today included.
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the first of each of the last N weeks.
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the first of each of the last N months.
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// Keep the first of each of the last N years.
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u32>,
    /// Keep all that came within this time, as in 30d.
    #[arg(long, value_name = "TIME")]
    keep_within: Option<Span>,
    /// Print an array of objects, one a client.
    #[arg(long)]
    json: bool,
}

/// `web1` or `web1:files:/var/www`.
fn only(text: &str) -> Result<(Name, Option<Dataset>)> {
    match text.split_once(':') {
        None => Ok((Name::new(text)?, None)),
        Some((client, dataset)) => Ok((Name::new(client)?, Some(dataset_of(dataset)?))),
    }
}

fn dataset_of(text: &str) -> Result<Dataset> {
    let (module, path) = text
        .split_once(':')
        .ok_or_else(|| Error::usage(format!("{text:?} is no dataset; write CLIENT:MODULE:PATH, as in web1:files:/var/www")))?;
    Dataset::cleaned(module, path)
}

/// A dataset with its client, which must be said.
pub fn whole_address(text: &str) -> Result<(Name, Dataset)> {
    let (client, dataset) = only(text)?;
    let wrong = || Error::usage(format!("{text:?} names a client alone; write CLIENT:MODULE:PATH, as in web1:files:/var/www"));
    Ok((client, dataset.ok_or_else(wrong)?))
}

#[derive(Serialize)]
struct Of {
    client: Name,
    /// Bytes that will be free when all that is condemned is gone.
    frees: u64,
    removed: usize,
    removed_packs: u64,
    removed_bytes: u64,
    unreadable: Vec<String>,
    snapshots: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    dataset: String,
    snapshot: String,
    received: String,
    /// Bytes of packs that no other snapshot needs.
    own_bytes: u64,
    damaged: bool,
    kept_by: Vec<String>,
    condemned_since: Option<String>,
    goes: Option<String>,
    removed: bool,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let words = KeepWords {
        last: args.keep_last,
        hourly: args.keep_hourly,
        daily: args.keep_daily,
        weekly: args.keep_weekly,
        monthly: args.keep_monthly,
        yearly: args.keep_yearly,
        within: args.keep_within,
    };
    let keep = if words.is_empty() { None } else { Some(Keep::try_from(words)?) };
    let asked = Asked { only: args.only.clone(), keep, grace: args.grace, dry_run: args.dry_run };
    let mut exit = Exit::Done;
    let mut complain = |error: &Error| {
        output::complain(error);
        exit = error.kind().into();
    };
    let mut outcomes = Vec::new();
    let pruned = prune(&node, &asked, &output::Watched::default())?;
    for (_, outcome) in pruned {
        match outcome {
            Ok(outcome) => {
                complete(&outcome).unwrap_or_else(|error| complain(&error));
                outcomes.push(outcome);
            }
            Err(error) => complain(&error),
        }
    }
    let rows: Vec<Of> = outcomes.iter().map(of_client).collect();
    if args.json {
        output::json(&rows)?;
    } else {
        show(&rows, args.dry_run)?;
    }
    Ok(exit)
}

fn of_client(outcome: &Outcome) -> Of {
    let Outcome { client, plan, pruned } = outcome;
    let gone: BTreeSet<&str> = pruned.snapshots.iter().map(|(id, _)| id.as_str()).collect();
    Of {
        client: client.clone(),
        frees: plan.frees,
        removed: pruned.snapshots.len(),
        removed_packs: pruned.packs,
        removed_bytes: pruned.bytes,
        unreadable: plan.unreadable.clone(),
        snapshots: plan.snapshots.iter().map(|planned| row(planned, gone.contains(planned.snapshot.id.as_str()))).collect(),
    }
}

fn row(planned: &Planned, removed: bool) -> Row {
    let since = planned.marks.condemned.as_ref().map(|condemned| condemned.since);
    Row {
        dataset: planned.snapshot.dataset.to_string(),
        snapshot: planned.snapshot.id.to_string(),
        received: planned.snapshot.received.to_string(),
        own_bytes: planned.own_bytes,
        damaged: planned.damaged,
        kept_by: planned.reasons.iter().map(ToString::to_string).collect(),
        condemned_since: planned.goes.map(|_| since.unwrap_or_else(clock::now).to_string()),
        goes: planned.goes.map(|time| time.to_string()),
        removed,
    }
}

fn show(rows: &[Of], dry_run: bool) -> Result<()> {
    let mut cells = Vec::new();
    for of in rows {
        for row in &of.snapshots {
            let fate = match (&row.goes, row.removed) {
                (_, true) => "removed".to_owned(),
                (None, _) => row.kept_by.join(", "),
                (Some(goes), _) => match goes.parse() {
                    Ok(time) if time > clock::now() => format!("condemned, goes in {}", clock::until(time)),
                    _ => "condemned, goes now".to_owned(),
                },
            };
            let damaged = if row.damaged { " (damaged)" } else { "" };
            cells.push(vec![
                of.client.to_string(),
                row.dataset.clone(),
                row.snapshot.clone(),
                row.received.clone(),
                ByteSize(row.own_bytes).to_string(),
                format!("{fate}{damaged}"),
            ]);
        }
    }
    output::table(&["CLIENT", "DATASET", "SNAPSHOT", "RECEIVED", "ALONE", "KEPT BY"], &cells)?;
    for of in rows {
        let condemned = of.snapshots.iter().filter(|row| row.goes.is_some() && !row.removed).count();
        if condemned > 0 {
            let will = if dry_run { "would be" } else { "are" };
            output::line(&format!("{}: {condemned} {will} condemned; when they are gone, {} are free", of.client, ByteSize(of.frees)))?;
        }
        if of.removed > 0 || of.removed_packs > 0 {
            let bytes = ByteSize(of.removed_bytes);
            output::line(&format!("{}: {} snapshots and {} packs removed, {bytes} are free", of.client, of.removed, of.removed_packs))?;
        }
    }
    Ok(())
}
