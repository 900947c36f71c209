//! The snapshots that are kept of one client or dataset, with their sizes and marks, the oldest first.
//!
//! Reads what the node wrote down; proves nothing, that is for whoever restores.

use crate::node::Node;
use archive::store::{Marks, Store, StoredSnapshot};
use base::{Dataset, Monitor, Name, Result, Span};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// One snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// Whose data it is.
    pub client: String,
    /// `module:path`.
    pub dataset: String,
    /// Its name, the request's id.
    pub snapshot: String,
    /// The request's number, as the client counts.
    pub seq: u64,
    /// The client's clock.
    pub submitted: Timestamp,
    /// The node's clock at acceptance.
    pub received: Timestamp,
    /// Its place in the order of acceptance.
    pub order: u64,
    /// The data's own size, as the client counted it; 0 for mirrors.
    pub bytes: u64,
    /// Bytes that came over the network.
    pub bytes_fetched: u64,
    /// Bytes by which the store grew.
    pub bytes_stored: u64,
    /// Files, as the client counted them, where that is known.
    pub files: Option<u64>,
    /// How long fetching took.
    pub seconds: u64,
    /// How many packs the manifest names; 0 for mirrors.
    pub packs: u64,
    /// What the client could not read.
    pub unreadable: u64,
    /// The name and the id of the group whose restore point it is part of.
    pub group: Option<String>,
    /// Whether a person holds it.
    pub held: bool,
    /// Why.
    pub held_reason: Option<String>,
    /// By which smaller one it is pinned.
    pub pinned: Option<String>,
    /// Since when it is condemned.
    pub condemned_since: Option<Timestamp>,
    /// When it goes, if nothing changes.
    pub goes: Option<Timestamp>,
}

/// The snapshots of `client`, or of one of its datasets. Those that cannot be read are told to `monitor` and left out.
///
/// # Errors
/// When the client's folder cannot be read.
pub fn snapshots(node: &Node, client: &Name, dataset: Option<&Dataset>, monitor: &dyn Monitor) -> Result<Vec<Snapshot>> {
    let store = Store::open(&node.config.client_path(client))?;
    let mut found = Vec::new();
    for snapshot in store.readable_snapshots(monitor)? {
        if dataset.is_some_and(|dataset| *dataset != snapshot.dataset) {
            continue;
        }
        let marks = store.marks(&snapshot.id).unwrap_or_else(|error| {
            monitor.problem(&error);
            Marks::default()
        });
        found.push(Snapshot::new(client, &snapshot, &marks, node.config.prune.grace));
    }
    Ok(found)
}

/// When a snapshot goes that is condemned now, if nothing changes.
pub fn goes(marks: &Marks, grace: Span) -> Option<Timestamp> {
    let since = marks.condemned.as_ref()?.since;
    Some(SignedDuration::try_from(grace.0).ok().and_then(|grace| since.checked_add(grace).ok()).unwrap_or(Timestamp::MAX))
}

impl Snapshot {
    /// What a person should know of it beside what it is and when it goes.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.group.as_ref().map(|group| format!("group {group}")));
        if self.unreadable > 0 {
            notes.push(format!("{} unreadable", self.unreadable));
        }
        if self.held {
            notes.push(self.held_reason.as_ref().map_or_else(|| "held".to_owned(), |reason| format!("held: {reason}")));
        }
        if self.pinned.is_some() {
            notes.push("pinned: the next one is much smaller".to_owned());
        }
        notes
    }

    fn new(client: &Name, snapshot: &StoredSnapshot, marks: &Marks, grace: Span) -> Self {
        Self {
            client: client.to_string(),
            dataset: snapshot.dataset.to_string(),
            snapshot: snapshot.id.to_string(),
            seq: snapshot.seq,
            submitted: snapshot.submitted,
            received: snapshot.received,
            order: snapshot.order,
            bytes: snapshot.bytes,
            bytes_fetched: snapshot.bytes_fetched,
            bytes_stored: snapshot.bytes_stored,
            files: snapshot.files,
            seconds: snapshot.seconds,
            packs: snapshot.packs,
            unreadable: snapshot.unreadable,
            group: snapshot.group.as_ref().map(base::Group::shown),
            held: marks.held.is_some(),
            held_reason: marks.held.as_ref().and_then(|held| held.reason.clone()),
            pinned: marks.pinned.as_ref().filter(|pinned| !pinned.cleared).map(|pinned| pinned.by.to_string()),
            condemned_since: marks.condemned.as_ref().map(|condemned| condemned.since),
            goes: goes(marks, grace),
        }
    }
}
