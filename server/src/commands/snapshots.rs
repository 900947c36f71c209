//! `snapshots`: what the node keeps, by client and dataset.
//!
//! Shows what `overview::snapshots` reads, and reads nothing itself.

use crate::node::Node;
use crate::output;
use crate::overview::{self, Snapshot};
use base::{ByteSize, Error, Exit, Name, Result, clock};
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
    for client in clients(&node, args.client.as_ref())? {
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

/// The clients asked for: one, or all that have a folder here, whether or not they are still in the list.
pub fn clients(node: &Node, only: Option<&Name>) -> Result<Vec<Name>> {
    if let Some(name) = only {
        if !node.config.client_path(name).is_dir() {
            return Err(Error::usage(format!("this node keeps nothing of a client {name}")));
        }
        return Ok(vec![name.clone()]);
    }
    let mut names: Vec<Name> = crate::access::current(node)?.list.clients.keys().cloned().collect();
    if let Ok(folders) = std::fs::read_dir(&node.config.data) {
        // The node's own folders have names that no client can have.
        let kept = folders
            .flatten()
            .filter(|entry| entry.path().join("snapshots").is_dir())
            .filter_map(|entry| Name::new(entry.file_name().to_str()?).ok());
        names.extend(kept);
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// What a person should know of a snapshot, beside what it is.
fn notes(snapshot: &Snapshot) -> String {
    let mut notes = Vec::new();
    notes.extend(snapshot.group.as_ref().map(|group| format!("group {group}")));
    if snapshot.unreadable > 0 {
        notes.push(format!("{} unreadable", snapshot.unreadable));
    }
    if snapshot.held {
        notes.push(snapshot.held_reason.as_ref().map_or_else(|| "held".to_owned(), |reason| format!("held: {reason}")));
    }
    if snapshot.pinned.is_some() {
        notes.push("pinned: the next one is much smaller".to_owned());
    }
    if let Some(time) = snapshot.goes {
        notes.push(format!("condemned, goes in {}", clock::until(time)));
    }
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
