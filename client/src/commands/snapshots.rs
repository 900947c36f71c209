//! `nightsafe snapshots`: what can be restored.

use crate::Globals;
use crate::output::{self, Table};
use crate::recall::choose::Offered;
use crate::recall::epochs::{Depth, survey};
use crate::recall::keys::GivenKeys;
use crate::recall::{self, Recall};
use base::{Address, ByteSize, Exit, Result};
use serde::Serialize;
use show::progress::Progress;
use std::collections::BTreeSet;

/// List the snapshots that a node or a store offers, in the order of acceptance.
///
/// The listing is the node's word. What is restored is proven from the client's signature.
#[derive(Debug, clap::Args)]
pub struct Snapshots {
    /// Only this dataset, [CLIENT:]MODULE:PATH.
    dataset: Option<String>,
    #[command(flatten)]
    keys: GivenKeys,
    #[command(flatten)]
    from: recall::From,
    /// An array of objects instead of a table.
    #[arg(long)]
    json: bool,
}

/// One snapshot, and whether the key that was given opens it.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    offered: Offered,
    /// Without a key, and for what is not encrypted, there is no claim.
    opens: Option<bool>,
}

impl Snapshots {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        let recall = Recall::open(globals, self.from)?;
        let mut offered = recall.source.list()?;
        let near = |text: &str| {
            let address = Address::parse(text, &modules::names(None));
            address.map_err(|error| crate::recall::choose::near(error, text, &offered, recall.own_name()))
        };
        let wanted = self.dataset.as_deref().map(near).transpose()?;
        if let Some(address) = wanted {
            let client = crate::recall::choose::client_of(&address, recall.own_name(), &offered)?;
            // A wrong name is an error with the nearest names, as for restore.
            crate::recall::choose::choose(&offered, &client, &address.dataset, &crate::recall::choose::At::Newest)?;
            offered.retain(|one| one.client == client && one.dataset == address.dataset);
        }
        let Some(identities) = self.keys.load()? else {
            let rows: Vec<Row> = offered.into_iter().map(|offered| Row { offered, opens: None }).collect();
            output::listing(self.json, &rows, |rows| table(rows, false))?;
            return Ok(Exit::Done);
        };
        let progress = Progress::new();
        let survey = survey(&recall, &identities, &offered, Depth::Newest, &progress)?;
        drop(progress);
        let closed: BTreeSet<_> = survey.epochs.iter().flat_map(|epoch| &epoch.unopened).collect();
        let known: BTreeSet<_> = survey.epochs.iter().map(|epoch| (&epoch.client, epoch.epoch.as_str())).collect();
        let rows: Vec<Row> = offered
            .into_iter()
            .map(|offered| {
                let proven = offered.epoch.as_deref().is_some_and(|epoch| known.contains(&(&offered.client, epoch)));
                Row { opens: proven.then(|| !closed.contains(&offered.snapshot)), offered }
            })
            .collect();
        output::listing(self.json, &rows, |rows| table(rows, true))?;
        for problem in &survey.problems {
            output::note(format_args!("nightsafe: {}", base::text::printable(problem)));
        }
        Ok(if survey.problems.is_empty() { Exit::Done } else { Exit::Incomplete })
    }
}

fn table(rows: &[Row], with_keys: bool) -> Table {
    let with_groups = rows.iter().any(|row| row.offered.group.is_some());
    let heads = ["SNAPSHOT", "ACCEPTED", "NUMBER", "SIZE", "OPENS", "DATASET", "GROUP"];
    let shown = |head: &&str| (with_keys || *head != "OPENS") && (with_groups || *head != "GROUP");
    let heads: Vec<&'static str> = heads.into_iter().filter(shown).collect();
    let mut table = Table::new(&heads, "There are no snapshots yet.");
    for Row { offered: one, opens } in rows {
        let size = if one.bytes == 0 { String::new() } else { ByteSize(one.bytes).to_string() };
        let mut cells = vec![one.snapshot.to_string(), one.received.to_string(), one.seq.to_string(), size];
        if with_keys {
            cells.push(opens.map_or("", |opens| if opens { "yes" } else { "NO" }).into());
        }
        cells.push(format!("{}:{}", one.client, one.dataset));
        if with_groups {
            cells.push(one.group.as_ref().map(base::Group::shown).unwrap_or_default());
        }
        table.row(cells);
    }
    table
}
