//! Mirrors and the node's own histories: a share of them has every object read and hashed, and is put in order.
//!
//! Knows no objects; git reads them.

use super::damage::{Found, What};
use crate::node::Node;
use archive::store::{Store, Turns};
use base::{Dataset, Error, Monitor, Name, RequestId, Result, Silent};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The longest time for one repository.
const TIME: Duration = Duration::from_secs(12 * 3600);

/// What was found.
#[derive(Debug, Default)]
pub struct Checked {
    /// How many were read.
    pub looked: u64,
    /// What is damaged.
    pub found: Vec<Found>,
    /// What was looked at and is whole.
    pub whole: Vec<What>,
}

/// What is damaged of the histories that are no client's: who may do what, and what was taken away. They are small, and read
/// each time.
pub fn of_the_node(node: &Node) -> Vec<Error> {
    let paths = [node.config.admin_path(), node.config.audit_path()];
    let damage = |path: &PathBuf| {
        let problems = modules::check_repository(path, TIME).unwrap_or_else(|error| vec![error.one_line()]);
        let why = problems.into_iter().next()?;
        let error = Error::failed(format!("{} is damaged: {why}", path.display()));
        Some(error.hint("Put a copy of that folder back."))
    };
    paths.iter().filter(|path| path.is_dir()).filter_map(damage).collect()
}

/// Looks at the share of a client's repositories whose turn it is.
///
/// # Errors
/// When they cannot be listed; one that git cannot look at is damaged.
pub fn check(node: &Node, client: &Name, store: &Store, percent: f64, monitor: &dyn Monitor) -> Result<Checked> {
    let folder = node.config.client_path(client);
    let mirrors = folder.join("mirrors");
    let mut touched: BTreeMap<Dataset, Vec<RequestId>> = BTreeMap::new();
    for snapshot in store.readable_snapshots(&Silent)? {
        // Nothing else keeps no packs and yet a snapshot.
        if snapshot.packs == 0 {
            touched.entry(snapshot.accepted.dataset.clone()).or_default().push(snapshot.accepted.id);
        }
    }
    let mut all: BTreeMap<String, (What, PathBuf, Option<Dataset>)> = BTreeMap::new();
    let mut checked = Checked::default();
    for path in modules::mirrors(&mirrors)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dataset =
            touched.keys().find(|dataset| modules::mirror_name(dataset) == name).cloned().or_else(|| modules::mirrored(&path).ok());
        all.insert(format!("mirror/{name}"), (What::Mirror(name), path, dataset));
    }
    for (name, path) in [("log", node.config.log_path(client)), ("receipts", node.config.receipts_path(client))] {
        if path.is_dir() {
            all.insert(format!("history/{name}"), (What::History(name.into()), path, None));
        }
    }
    let touches = |dataset: &Option<Dataset>| -> Vec<(Dataset, RequestId)> {
        let Some(dataset) = dataset else { return Vec::new() };
        touched.get(dataset).into_iter().flatten().map(|id| (dataset.clone(), id.clone())).collect()
    };
    for dataset in touched.keys() {
        let name = modules::mirror_name(dataset);
        if !mirrors.join(&name).is_dir() {
            checked.found.push(Found { what: What::Mirror(name), why: "it is not there".into(), touches: touches(&Some(dataset.clone())) });
        }
    }
    let mut turns = Turns::begin(&folder.join("mirrors.turns"), all.keys().cloned());
    let due = turns.due_of("mirror/", percent).into_iter().chain(turns.due_of("history/", percent));
    for name in due.collect::<Vec<_>>() {
        let Some((what, path, dataset)) = all.remove(&name) else { continue };
        monitor.task(&format!("checking {}", path.display()), None);
        checked.looked += 1;
        let problems = modules::check_repository(&path, TIME).unwrap_or_else(|error| vec![error.one_line()]);
        let is_mirror = matches!(what, What::Mirror(_));
        match problems.first() {
            None => {
                if is_mirror {
                    modules::mark_whole(&path)?;
                    if let Err(error) = modules::keep_mirror(&path, TIME) {
                        monitor.problem(&error.context(format!("{} could not be put in order", path.display())));
                    }
                }
                turns.done(&name);
                checked.whole.push(what);
            }
            Some(why) => {
                if is_mirror {
                    modules::mark_damaged(&path)?;
                }
                turns.again(&name);
                let why = if is_mirror { why.clone() } else { format!("{}: {why}", path.display()) };
                let why = if problems.len() == 1 { why } else { format!("{why} (and {} lines more)", problems.len() - 1) };
                checked.found.push(Found { what, why, touches: touches(&dataset) });
            }
        }
        turns.keep()?;
    }
    Ok(checked)
}
