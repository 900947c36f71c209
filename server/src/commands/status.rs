//! `status`: how each client stands: what came, what is stored, what waits, what does not work and since when.
//!
//! Prints the node's overview and gathers nothing itself; changes nothing, unless alarms are to be forgotten.

use crate::node::Node;
use crate::output;
use crate::overview::{self, Client, Dataset, Overview};
use crate::poll::alarms;
use base::{ByteSize, Error, Exit, Name, Result, clock};
use serde_json::{Value, json};
use std::path::Path;

/// Show what came from each client, what is stored, what waits and what does not work.
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
    let overview = overview::gather(&node, args.client.as_ref())?;
    if args.json {
        output::json(&rows(&overview)?)?;
    } else {
        show(&overview)?;
    }
    if args.forget_alarms {
        alarms::forget(&node.state_path())?;
        for client in &overview.clients {
            alarms::forget(&node.config.data.join(&client.client))?;
        }
    }
    Ok(Exit::Done)
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
    let rows: Vec<Vec<String>> = overview.clients.iter().map(cells).collect();
    output::table(&["CLIENT", "LAST REQUEST", "WAITING", "BEING FETCHED", "USED", "QUOTA", ""], &rows)?;
    let mut stored = Vec::new();
    for client in &overview.clients {
        for dataset in &client.datasets {
            stored.push(vec![
                client.client.clone(),
                dataset.dataset.clone(),
                dataset.received.map_or_else(|| "never".into(), |time| format!("{} ago", clock::ago(time))),
                dataset.snapshots.to_string(),
                dataset.snapshot.clone().unwrap_or_default(),
                notes(dataset),
            ]);
        }
    }
    if !stored.is_empty() {
        output::line("")?;
    }
    output::table(&["CLIENT", "DATASET", "LAST STORED", "SNAPSHOTS", "NEWEST", ""], &stored)?;
    let wrong = overview::wrong(overview);
    if !wrong.is_empty() {
        output::line("")?;
    }
    wrong.iter().try_for_each(|line| output::line(line))
}

fn cells(client: &Client) -> Vec<String> {
    let note = match (client.listed, client.paused) {
        (false, _) => "not in the list any more",
        (true, true) => "paused",
        (true, false) => "",
    };
    vec![
        client.client.clone(),
        client.last_received.map_or_else(|| "never".into(), |time| format!("{} ago", clock::ago(time))),
        client.waiting.to_string(),
        client.being_fetched.to_string(),
        ByteSize(client.bytes_used).to_string(),
        client.quota.map_or_else(|| "none".into(), |quota| ByteSize(quota).to_string()),
        note.into(),
    ]
}
