//! `status`: how each client stands: what came, what is stored, what waits, what does not work and since when.
//!
//! Prints the node's overview and gathers nothing itself; changes nothing, unless alarms are to be forgotten.

use crate::node::Node;
use crate::output;
use crate::overview::{self, Client, Dataset, Overview};
use crate::poll::alarms;
use base::{ByteSize, Error, Exit, Name, Result, clock};
use serde_json::{Value, json};
use show::table::{Cell, Tone};
use std::path::Path;

/// Show what came from each client, what is stored, what waits and what does not work.
///
/// Exit 0 when all is well; 3 when a dataset is silent or was not stored, when something is damaged, and when there are alarms
/// or files that others could change.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this client.
    client: Option<Name>,
    /// Print an array of objects, one a client; the node's own alarms are in one without a client.
    #[arg(long)]
    json: bool,
    /// Forget the alarms that are shown: you have seen them.
    #[arg(long)]
    forget_alarms: bool,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let mut overview = overview::gather(&node, args.client.as_ref())?;
    if args.json {
        output::json(&rows(&overview)?)?;
    } else {
        show(&overview)?;
    }
    if args.forget_alarms {
        alarms::forget(&node.state_path(), &overview.alarms)?;
        overview.alarms.clear();
        for client in &mut overview.clients {
            alarms::forget(&node.config.data.join(&client.client), &client.alarms)?;
            client.alarms.clear();
        }
    }
    Ok(if is_well(&overview) { Exit::Done } else { Exit::Incomplete })
}

/// Whether nothing needs a person. What is only tried again, or near a limit, does not yet; what was sent again, for all that the
/// node can know, not any more.
fn is_well(overview: &Overview) -> bool {
    let client_is = |c: &Client| c.silent.is_empty() && c.trouble.is_empty() && c.alarms.is_empty() && c.unmended().next().is_none();
    overview.alarms.is_empty() && overview.open.is_empty() && overview.clients.iter().all(client_is)
}

/// The objects of `--json`: one a client, and before them one without a client for what is the node's own, if there is any.
fn rows(overview: &Overview) -> Result<Vec<Value>> {
    let row = |client: &Client, open: &[String]| {
        let mut row = serde_json::to_value(client).map_err(|error| Error::failed("could not write JSON").because(error))?;
        row["open"] = json!(open);
        Ok(row)
    };
    let mut rows = Vec::new();
    if !overview.alarms.is_empty() || !overview.open.is_empty() {
        let mut own = row(&Client { alarms: overview.alarms.clone(), ..Client::default() }, &overview.open)?;
        own["client"] = Value::Null;
        rows.push(own);
    }
    for client in &overview.clients {
        rows.push(row(client, &[])?);
    }
    Ok(rows)
}

/// What a person should know of a dataset beside the numbers.
fn notes(of: &Dataset) -> String {
    let count = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let goes = of.goes.map(|time| format!("the first goes in {}", clock::until(time)));
    let notes = [count(of.held, "held"), count(of.pinned, "pinned"), count(of.condemned, "condemned"), goes];
    notes.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn show(overview: &Overview) -> Result<()> {
    output::table(
        &["CLIENT", "LAST REQUEST", "WAITING", "BEING FETCHED", "OLDEST", "USED", "QUOTA", ""],
        &overview.clients.iter().map(cells).collect::<Vec<_>>(),
    )?;
    let stored: Vec<Vec<Cell>> =
        overview.clients.iter().flat_map(|client| client.datasets.iter().map(|dataset| of_dataset(client, dataset))).collect();
    if !stored.is_empty() {
        output::line("")?;
    }
    output::table(&["CLIENT", "DATASET", "LAST STORED", "EXPECTED", "SIZE", "SNAPSHOTS", "NEWEST", ""], &stored)?;
    let wrong = overview::wrong(overview);
    if !wrong.is_empty() {
        output::line("")?;
    }
    wrong.iter().try_for_each(|line| output::toned(line, if line.contains(": ALARM ") { Tone::Bad } else { Tone::Waits }))
}

/// A line of a dataset. The colour of its age is that of what is wrong.
fn of_dataset(client: &Client, dataset: &Dataset) -> Vec<Cell> {
    let silent = client.silent.iter().any(|silent| silent.dataset == dataset.dataset);
    let trouble = client.trouble.iter().any(|trouble| trouble.dataset == dataset.dataset);
    let tone = match (silent || trouble, &dataset.received) {
        (true, _) => Tone::Bad,
        (false, Some(_)) => Tone::Good,
        (false, None) => Tone::Waits,
    };
    let stored = dataset.received.map_or_else(|| "never".into(), |time| format!("{} ago", clock::ago(time)));
    let size = dataset.newest.map_or(0, |newest| newest.bytes);
    vec![
        client.client.as_str().into(),
        dataset.dataset.as_str().into(),
        Cell::toned(stored, tone),
        dataset.expected_seconds.map(|seconds| format!("every {}", clock::in_words(seconds))).unwrap_or_default().into(),
        if size == 0 { String::new() } else { ByteSize(size).to_string() }.into(),
        dataset.snapshots.to_string().into(),
        dataset.snapshot.clone().unwrap_or_default().into(),
        notes(dataset).into(),
    ]
}

fn cells(client: &Client) -> Vec<String> {
    let note = match (client.listed, client.paused, client.dialled_in) {
        (false, ..) => "not in the list any more",
        (true, true, _) => "paused",
        (true, false, Some(true)) => "dialled in",
        (true, false, Some(false)) => "waits for it to dial",
        (true, false, None) => "",
    };
    vec![
        client.client.clone(),
        client.last_received.map_or_else(|| "never".into(), |time| format!("{} ago", clock::ago(time))),
        client.waiting.to_string(),
        client.being_fetched.to_string(),
        client.oldest_request.map(|time| format!("{} ago", clock::ago(time))).unwrap_or_default(),
        ByteSize(client.bytes_used).to_string(),
        client.quota.map_or_else(|| "none".into(), |quota| ByteSize(quota).to_string()),
        note.into(),
    ]
}
