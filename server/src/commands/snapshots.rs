//! `snapshots`: what the node keeps, by client and dataset.
//!
//! Shows what `overview::snapshots` reads, and reads nothing itself.

use crate::node::Node;
use crate::output;
use crate::overview::{self, Snapshot};
use base::{ByteSize, Exit, Name, Result, clock};
use std::path::Path;

/// List the snapshots that this node keeps.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those of this client.
    client: Option<Name>,
    /// Print an array of objects.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let mut rows = Vec::new();
    for client in node.clients(args.client.as_ref())? {
        rows.extend(overview::snapshots(&node, &client, None, &output::Complaints)?);
    }
    if args.json {
        output::json(&rows)?;
    } else {
        let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
        output::table(&["CLIENT", "DATASET", "SNAPSHOT", "RECEIVED", "AGE", "SIZE", ""], &cells)?;
    }
    Ok(Exit::Done)
}

/// What a person should know of a snapshot, beside what it is.
fn notes(snapshot: &Snapshot) -> String {
    let mut notes = snapshot.notes();
    notes.extend(snapshot.goes.map(|time| format!("condemned, goes in {}", clock::until(time))));
    notes.join(", ")
}

fn cells(snapshot: &Snapshot) -> Vec<String> {
    vec![
        snapshot.client.clone(),
        snapshot.dataset.clone(),
        snapshot.snapshot.clone(),
        snapshot.received.to_string(),
        clock::ago(snapshot.received),
        ByteSize(if snapshot.packs == 0 { snapshot.bytes_stored } else { snapshot.bytes }).to_string(),
        notes(snapshot),
    ]
}
