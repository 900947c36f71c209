//! `nightsafe status`: what each dataset is doing, when it was last stored, and how things stand with the nodes.

use crate::contact::Contact;
use crate::history::{Held, History};
use crate::ledger::Ledger;
use crate::output::{self, Table};
use crate::recall::Recall;
use crate::recall::epochs::{Depth, EpochState, Survey, survey};
use crate::recall::keys::GivenKeys;
use base::clock::ago;
use base::config::ClientConfig;
use base::{Dataset, Exit, Name, RequestId, Result, Silent};
use jiff::Timestamp;
use queue::pool::{ClientPool, State};
use serde::Serialize;
use std::collections::BTreeMap;

/// Show what each dataset is doing, when it was last stored, and how things stand with the nodes.
#[derive(Debug, clap::Args)]
pub struct Status {
    #[command(flatten)]
    keys: GivenKeys,
    /// An array of objects instead of tables: datasets first, then nodes.
    #[arg(long)]
    json: bool,
}

/// One dataset at one node.
#[derive(Debug, Serialize)]
struct DatasetRow {
    kind: &'static str,
    dataset: Dataset,
    node: Name,
    state: &'static str,
    request: Option<RequestId>,
    last_success: Option<Timestamp>,
    snapshot: Option<String>,
    unreadable: u64,
    /// The first of that, where this user may know.
    not_read: Vec<String>,
    /// How many sockets were left out.
    skipped: u64,
    failures: u32,
    failing_since: Option<Timestamp>,
    error: Option<String>,
    held: Option<Held>,
}

/// One node.
#[derive(Debug, Serialize)]
struct NodeRow {
    kind: &'static str,
    node: Name,
    last_contact: Option<Timestamp>,
    failures: u32,
    failing_since: Option<Timestamp>,
    next_try: Option<Timestamp>,
    error: Option<String>,
    alarm: Option<String>,
    warnings: Vec<String>,
    /// What the given key opens there; without a key there is no claim.
    epochs: Option<Vec<EpochState>>,
    /// Why nothing can be said of that.
    key_problems: Vec<String>,
}

/// Either, for one JSON array.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Row {
    Dataset(DatasetRow),
    Node(NodeRow),
}

impl Status {
    pub fn run(self, config: &ClientConfig) -> Result<Exit> {
        let datasets = datasets(config)?;
        let mut nodes = nodes(config)?;
        self.look_at_keys(config, &mut nodes)?;
        if self.json {
            let rows: Vec<Row> = datasets.into_iter().map(Row::Dataset).chain(nodes.into_iter().map(Row::Node)).collect();
            output::listing(true, &rows, |_| Table::new(&[], ""))?;
            return Ok(Exit::Done);
        }
        output::listing(false, &datasets, dataset_table)?;
        output::line("");
        output::listing(false, &nodes, node_table)?;
        tell(&datasets, &nodes);
        Ok(Exit::Done)
    }
}

impl Status {
    /// Says of each node that restores can read from what the keyholder's key opens there.
    fn look_at_keys(&self, config: &ClientConfig, rows: &mut [NodeRow]) -> Result<()> {
        let Some(identities) = self.keys.or_silent()? else { return Ok(()) };
        for row in rows.iter_mut() {
            let reachable = config.node(&row.node).is_some_and(|node| node.restore.is_some()) && row.failures == 0;
            if !reachable {
                continue;
            }
            let look = || -> Result<Survey> {
                let recall = Recall::of_node(config, &row.node)?;
                let mut offered = recall.source.list()?;
                // On a client, status is about its own data.
                offered.retain(|one| config.name.as_ref().is_none_or(|own| one.client == *own));
                survey(&recall, &identities, &offered, Depth::Newest, &Silent)
            };
            match look() {
                Ok(survey) => {
                    row.epochs = Some(survey.epochs);
                    row.key_problems = survey.problems;
                }
                Err(error) => row.key_problems = vec![format!("what the key opens could not be checked: {}", error.one_line())],
            }
        }
        Ok(())
    }
}

/// Every dataset that is configured, waits, or was sent before, for each of its nodes.
fn datasets(config: &ClientConfig) -> Result<Vec<DatasetRow>> {
    let mut rows: BTreeMap<(Dataset, Name), DatasetRow> = BTreeMap::new();
    let empty = |dataset: &Dataset, node: &Name| DatasetRow {
        kind: "dataset",
        dataset: dataset.clone(),
        node: node.clone(),
        state: "never asked for",
        request: None,
        last_success: None,
        snapshot: None,
        unreadable: 0,
        not_read: Vec::new(),
        skipped: 0,
        failures: 0,
        failing_since: None,
        error: None,
        held: None,
    };
    for entry in &config.datasets {
        for node in config.nodes_of(&entry.address) {
            rows.insert((entry.address.clone(), node.name.clone()), empty(&entry.address, &node.name));
        }
    }
    for node in &config.nodes {
        for (dataset, past) in History::load(config, &node.name).datasets {
            let row = rows.entry((dataset.clone(), node.name.clone())).or_insert_with(|| empty(&dataset, &node.name));
            row.state = match (past.failures, past.last_success) {
                (1.., _) => "failed",
                (0, Some(_)) => State::Finished.words(),
                (0, None) => row.state,
            };
            row.last_success = past.last_success;
            row.snapshot = past.snapshot;
            row.unreadable = past.unreadable;
            let ledger = row.snapshot.as_deref().map(|id| Ledger::read(config, id)).unwrap_or_default();
            row.not_read = ledger.first(past.unreadable);
            row.skipped = ledger.skipped;
            row.failures = past.failures;
            row.failing_since = past.failing_since;
            row.error = past.error;
            row.held = past.held;
        }
    }
    for (state, file, _) in ClientPool::open(&config.pool_path())?.unfinished()? {
        let dataset = file.dataset()?;
        // What is not prepared, or what a node that is away does not fetch, is waiting, whatever we have done for it.
        let away = config.node(&file.node).is_some_and(|node| Contact::load(config, &node.name).is_ok_and(|contact| contact.failures > 0));
        let row = rows.entry((dataset.clone(), file.node.clone())).or_insert_with(|| empty(&dataset, &file.node));
        row.state = if away || row.held.is_some() { State::Complete.words() } else { state.words() };
        row.request = Some(file.id);
    }
    Ok(rows.into_values().collect())
}

fn nodes(config: &ClientConfig) -> Result<Vec<NodeRow>> {
    let row = |node: &base::config::client::ClientNode| {
        let contact = Contact::load(config, &node.name)?;
        Ok(NodeRow {
            kind: "node",
            node: node.name.clone(),
            last_contact: contact.last_contact,
            failures: contact.failures,
            failing_since: contact.failing_since,
            next_try: contact.next_try,
            error: contact.error,
            alarm: contact.alarm,
            warnings: contact.warnings.into_iter().map(|warning| format!("{}: {}", warning.at, warning.text)).collect(),
            epochs: None,
            key_problems: Vec::new(),
        })
    };
    config.nodes.iter().map(row).collect()
}

fn dataset_table(rows: &[DatasetRow]) -> Table {
    let mut table =
        Table::new(&["DATASET", "NODE", "STATE", "LAST STORED", "REQUEST"], "Nothing was asked for yet; nightsafe submit does.");
    for row in rows {
        let stored = row.last_success.map_or_else(|| "never".into(), |time| format!("{} ago", ago(time)));
        let request = row.request.as_ref().map(ToString::to_string).unwrap_or_default();
        table.row([row.dataset.to_string(), row.node.to_string(), row.state.into(), stored, request]);
    }
    table
}

fn node_table(rows: &[NodeRow]) -> Table {
    let mut table = Table::new(&["NODE", "LAST CONTACT", "NEXT TRY"], "The configuration has no [[node]].");
    for row in rows {
        let contact = row.last_contact.map_or_else(|| "never".into(), |time| format!("{} ago", ago(time)));
        let next = row.next_try.map(|time| time.to_string()).unwrap_or_default();
        table.row([row.node.to_string(), contact, next]);
    }
    table
}

/// What does not fit into columns.
fn tell(datasets: &[DatasetRow], nodes: &[NodeRow]) {
    let mut lines = Vec::new();
    for row in datasets {
        lines.extend(
            row.held
                .as_ref()
                .filter(|_| row.request.is_some())
                .map(|held| format!("{} (since {}; it is tried again)", held.why, held.since)),
        );
        if row.failures > 0 {
            let since = row.failing_since.map(|time| format!(" since {time}")).unwrap_or_default();
            let why = row.error.as_deref().unwrap_or("no reason was given");
            lines.push(format!("{} for {}: failed {}{since}: {why}", row.dataset, row.node, times(row.failures)));
        } else if row.unreadable > 0 {
            lines.push(format!(
                "{} for {}: {} could not be read",
                row.dataset,
                row.node,
                output::count(row.unreadable, "entry", "entries")
            ));
            lines.extend(row.not_read.iter().map(|line| format!("  {line}")));
        }
    }
    for row in nodes {
        if let Some(error) = &row.error {
            let since = row.failing_since.map(|time| format!(" since {time}")).unwrap_or_default();
            lines.push(format!("{}: failed {}{since}: {error}", row.node, times(row.failures)));
        }
        for epoch in row.epochs.iter().flatten().filter(|epoch| !epoch.unopened.is_empty()) {
            let snapshots = output::count(epoch.unopened.len() as u64, "snapshot", "snapshots");
            lines.push(format!(
                "{}: this key does not open {snapshots} of {} from {} to {}; made for {}",
                row.node,
                epoch.client,
                epoch.since,
                epoch.until,
                epoch.recipients.join(", ")
            ));
        }
        lines.extend(row.key_problems.iter().map(|problem| format!("{}: {problem}", row.node)));
        lines.extend(row.alarm.iter().map(|alarm| format!("ALARM: {alarm}")));
        lines.extend(row.warnings.iter().map(|warning| format!("{}: {warning}", row.node)));
    }
    if !lines.is_empty() {
        output::line("");
    }
    for line in lines {
        output::line(base::text::printable(&line));
    }
}

fn times(count: u32) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}
