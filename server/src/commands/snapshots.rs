//! `snapshots`: what the node keeps, by client and dataset.
//!
//! Reads what the node wrote down; proves nothing, that is for whoever restores.

use crate::node::Node;
use crate::output;
use archive::store::{Marks, Store, StoredSnapshot};
use base::{ByteSize, Error, Exit, Monitor, Name, Result, Span, clock};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
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

#[derive(Serialize)]
struct Row {
    client: String,
    dataset: String,
    snapshot: String,
    seq: u64,
    submitted: String,
    received: String,
    order: u64,
    bytes: u64,
    bytes_stored: u64,
    packs: u64,
    unreadable: u64,
    held: bool,
    held_reason: Option<String>,
    /// By which smaller one.
    pinned: Option<String>,
    condemned_since: Option<String>,
    goes: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let mut rows = Vec::new();
    for client in clients(&node, args.client.as_ref())? {
        let store = Store::open(&node.config.client_path(&client))?;
        for snapshot in store.readable_snapshots(&output::Complaints)? {
            let marks = store.marks(&snapshot.id).unwrap_or_else(|error| {
                output::Complaints.problem(&error);
                Marks::default()
            });
            rows.push((client.clone(), snapshot, marks));
        }
    }
    let grace = node.config.prune.grace;
    if args.json {
        output::json(&rows.iter().map(|(client, snapshot, marks)| row(client, snapshot, marks, grace)).collect::<Vec<_>>())?;
    } else {
        let cells: Vec<Vec<String>> = rows.iter().map(|(client, snapshot, marks)| cells(client, snapshot, marks, grace)).collect();
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

/// When a snapshot goes that is condemned now, if nothing changes.
pub fn goes(marks: &Marks, grace: Span) -> Option<Timestamp> {
    let since = marks.condemned.as_ref()?.since;
    Some(SignedDuration::try_from(grace.0).ok().and_then(|grace| since.checked_add(grace).ok()).unwrap_or(Timestamp::MAX))
}

fn row(client: &Name, snapshot: &StoredSnapshot, marks: &Marks, grace: Span) -> Row {
    Row {
        client: client.to_string(),
        dataset: snapshot.dataset.to_string(),
        snapshot: snapshot.id.to_string(),
        seq: snapshot.seq,
        submitted: snapshot.submitted.to_string(),
        received: snapshot.received.to_string(),
        order: snapshot.order,
        bytes: snapshot.bytes,
        bytes_stored: snapshot.bytes_stored,
        packs: snapshot.packs,
        unreadable: snapshot.unreadable,
        held: marks.held.is_some(),
        held_reason: marks.held.as_ref().and_then(|held| held.reason.clone()),
        pinned: marks.pinned.as_ref().filter(|pinned| !pinned.cleared).map(|pinned| pinned.by.to_string()),
        condemned_since: marks.condemned.as_ref().map(|condemned| condemned.since.to_string()),
        goes: goes(marks, grace).map(|time| time.to_string()),
    }
}

/// What a person should know of a snapshot, beside what it is.
fn notes(snapshot: &StoredSnapshot, marks: &Marks, grace: Span) -> String {
    let mut notes = Vec::new();
    if snapshot.unreadable > 0 {
        notes.push(format!("{} unreadable", snapshot.unreadable));
    }
    if let Some(held) = &marks.held {
        notes.push(held.reason.as_ref().map_or_else(|| "held".to_owned(), |reason| format!("held: {reason}")));
    }
    if marks.is_pinned() {
        notes.push("pinned: the next one is much smaller".to_owned());
    }
    if let Some(time) = goes(marks, grace) {
        notes.push(format!("condemned, goes in {}", clock::until(time)));
    }
    notes.join(", ")
}

fn cells(client: &Name, snapshot: &StoredSnapshot, marks: &Marks, grace: Span) -> Vec<String> {
    vec![
        client.to_string(),
        snapshot.dataset.to_string(),
        snapshot.id.to_string(),
        snapshot.received.to_string(),
        clock::ago(snapshot.received),
        if snapshot.packs == 0 { ByteSize(snapshot.bytes_stored).to_string() } else { ByteSize(snapshot.bytes).to_string() },
        notes(snapshot, marks, grace),
    ]
}
