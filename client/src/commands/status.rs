//! `nightsafe status`: what each dataset is doing, when it was last stored, and how things stand with the nodes.

use crate::output::{self, Table};
use crate::overview::{DatasetView, Doing, NodeView, Overview, Wrong};
use crate::recall::Recall;
use crate::recall::epochs::{Depth, EpochState, Survey, survey};
use crate::recall::keys::GivenKeys;
use base::clock::ago;
use base::config::ClientConfig;
use base::{ByteSize, Exit, Result, Silent};
use serde::Serialize;
use show::table::{Cell, Paper, Tone};

/// Show what each dataset is doing, when it was last stored, and how things stand with the nodes.
///
/// Exit 0 when all is well; 3 when a dataset failed, is overdue, is held up or lacks what could not be read, when a node was
/// not reached for a day, or when its receipts are not believed.
#[derive(Debug, clap::Args)]
pub struct Status {
    #[command(flatten)]
    keys: GivenKeys,
    /// An array of objects instead of tables: datasets first, then nodes. docs/json.md says what is in them.
    #[arg(long)]
    json: bool,
}

/// A node, with what a keyholder wants to know of it.
#[derive(Debug, Serialize)]
struct NodeRow {
    #[serde(flatten)]
    view: NodeView,
    /// What the given key opens there; without a key there is no claim.
    epochs: Option<Vec<EpochState>>,
    /// Why nothing can be said of that.
    key_problems: Vec<String>,
}

/// Either, for one JSON array.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Row<'a> {
    Dataset(&'a DatasetView),
    Node(&'a NodeRow),
}

impl Status {
    pub fn run(self, config: &ClientConfig) -> Result<Exit> {
        let overview = Overview::gather(config)?;
        let exit = if overview.is_well() { Exit::Done } else { Exit::Incomplete };
        let Overview { datasets, nodes, .. } = overview;
        let row = |view| NodeRow { view, epochs: None, key_problems: Vec::new() };
        let mut nodes: Vec<NodeRow> = nodes.into_iter().map(row).collect();
        self.look_at_keys(config, &mut nodes)?;
        if self.json {
            let rows: Vec<Row> = datasets.iter().map(Row::Dataset).chain(nodes.iter().map(Row::Node)).collect();
            output::listing(true, &rows, |_| Table::new(&[], ""))?;
            return Ok(exit);
        }
        output::show(&dataset_table(&datasets));
        output::line("");
        output::show(&node_table(&nodes));
        tell(&datasets, &nodes, output::paper());
        Ok(exit)
    }

    /// Says of each node that restores can read from what the keyholder's key opens there.
    fn look_at_keys(&self, config: &ClientConfig, rows: &mut [NodeRow]) -> Result<()> {
        let Some(identities) = self.keys.or_silent()? else { return Ok(()) };
        for row in rows.iter_mut() {
            let reachable = config.node(&row.view.node).is_some_and(|node| node.restore.is_some()) && row.view.failures == 0;
            if !reachable {
                continue;
            }
            let look = || -> Result<Survey> {
                let recall = Recall::of_node(config, &row.view.node)?;
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

fn dataset_table(rows: &[DatasetView]) -> Table {
    // What is expected is a column only where somebody expects something.
    let expected = rows.iter().any(|row| row.expected_seconds.is_some());
    let heads = ["DATASET", "NODE", "STATE", "LAST STORED", "EXPECTED", "SIZE", "REQUEST"];
    let heads: Vec<&str> = heads.into_iter().filter(|head| expected || *head != "EXPECTED").collect();
    let mut table = Table::new(&heads, "Nothing was asked for yet; nightsafe submit does.");
    for row in rows {
        let overdue = row.wrong.contains(&Wrong::Overdue);
        let stored = row.last_success.map_or_else(|| "never".into(), |time| format!("{} ago", ago(time)));
        let mut cells = vec![
            Cell::from(row.dataset.to_string()),
            row.node.to_string().into(),
            Cell::toned(row.state.words(), tone(row)),
            Cell::toned(stored, if overdue { Tone::Bad } else { Tone::Plain }),
        ];
        if expected {
            cells.push(row.expected_seconds.map(every).unwrap_or_default().into());
        }
        cells.push(row.size.bytes.map(|bytes| ByteSize(bytes).to_string()).unwrap_or_default().into());
        cells.push(row.request.as_ref().map(ToString::to_string).unwrap_or_default().into());
        table.row(cells);
    }
    table
}

fn tone(row: &DatasetView) -> Tone {
    match row.state {
        Doing::Failed => Tone::Bad,
        Doing::Stored if row.wrong.is_empty() => Tone::Good,
        Doing::NeverAsked => Tone::Faint,
        _ => Tone::Waits,
    }
}

/// `every 6h`, as the configuration has it.
fn every(seconds: u64) -> String {
    format!("every {}", String::from(base::Span(std::time::Duration::from_secs(seconds))))
}

fn node_table(rows: &[NodeRow]) -> Table {
    let mut table = Table::new(&["NODE", "LAST CONTACT", "NEXT TRY", ""], "The configuration has no [[node]].");
    for NodeRow { view, .. } in rows {
        let contact = view.last_contact.map_or_else(|| "never".into(), |time| format!("{} ago", ago(time)));
        let tone = match (view.wrong.is_empty(), view.failures) {
            (false, _) => Tone::Bad,
            (true, 1..) => Tone::Waits,
            (true, 0) => Tone::Plain,
        };
        let next = view.next_try.map(|time| time.to_string()).unwrap_or_default();
        let line = match view.dialled_in {
            None => "",
            Some(true) => "dialled in",
            Some(false) => "dials when something waits",
        };
        table.row([Cell::from(view.node.to_string()), Cell::toned(contact, tone), next.into(), line.into()]);
    }
    table
}

/// What does not fit into columns: a line for each thing that a person should know, what is wrong in the colour of that.
fn tell(datasets: &[DatasetView], nodes: &[NodeRow], paper: Paper) {
    let lines: Vec<(Tone, String)> = datasets.iter().flat_map(lines_of_dataset).chain(nodes.iter().flat_map(lines_of_node)).collect();
    if !lines.is_empty() {
        output::line("");
    }
    for (tone, line) in lines {
        output::line(paper.paint(&base::text::printable(&line), tone));
    }
}

fn lines_of_dataset(row: &DatasetView) -> Vec<(Tone, String)> {
    let name = format!("{} for {}", row.dataset, row.node);
    let mut lines = Vec::new();
    if let Some(held) = row.held.as_ref().filter(|_| row.request.is_some()) {
        lines.push((Tone::Waits, format!("{} (since {}; it is tried again)", held.why, held.since)));
    }
    if row.wrong.contains(&Wrong::Overdue) {
        let expected = row.expected_seconds.map(every).unwrap_or_default();
        let since = row.last_success.map_or_else(|| "it was never stored".into(), |time| format!("last stored {} ago", ago(time)));
        lines.push((Tone::Bad, format!("{name}: OVERDUE: expected {expected}, {since}")));
    }
    if row.failures > 0 {
        let since = row.failing_since.map(|time| format!(" since {time}")).unwrap_or_default();
        let why = row.error.as_deref().unwrap_or("no reason was given");
        lines.push((Tone::Bad, format!("{name}: failed {}{since}: {why}", times(row.failures))));
    } else if row.unreadable > 0 {
        lines.push((Tone::Waits, format!("{name}: {} could not be read", output::count(row.unreadable, "entry", "entries"))));
        lines.extend(row.not_read.iter().map(|line| (Tone::Plain, format!("  {line}"))));
    }
    lines
}

fn lines_of_node(row: &NodeRow) -> Vec<(Tone, String)> {
    let view = &row.view;
    let mut lines = Vec::new();
    if let Some(error) = &view.error {
        let since = view.failing_since.map(|time| format!(" since {time}")).unwrap_or_default();
        let tone = if view.wrong.contains(&Wrong::Away) { Tone::Bad } else { Tone::Waits };
        lines.push((tone, format!("{}: failed {}{since}: {error}", view.node, times(view.failures))));
    }
    if let Some(trouble) = &view.dial_trouble {
        lines.push((Tone::Waits, format!("{}: does not take our line: {trouble}", view.node)));
    }
    for epoch in row.epochs.iter().flatten().filter(|epoch| !epoch.unopened.is_empty()) {
        let snapshots = output::count(epoch.unopened.len() as u64, "snapshot", "snapshots");
        let line = format!(
            "{}: this key does not open {snapshots} of {} from {} to {}; made for {}",
            view.node,
            epoch.client,
            epoch.since,
            epoch.until,
            epoch.recipients.join(", ")
        );
        lines.push((Tone::Waits, line));
    }
    lines.extend(row.key_problems.iter().map(|problem| (Tone::Waits, format!("{}: {problem}", view.node))));
    lines.extend(view.alarm.iter().map(|alarm| (Tone::Bad, format!("ALARM: {alarm}"))));
    lines.extend(view.warnings.iter().map(|warning| (Tone::Waits, format!("{}: {warning}", view.node))));
    lines
}

fn times(count: u32) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}
