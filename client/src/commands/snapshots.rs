//! `nightsafe snapshots`: what can be restored.

use crate::Globals;
use crate::output::{self, Table};
use crate::recall::choose::Offered;
use crate::recall::{self, Recall};
use base::{Address, ByteSize, Exit, Result};

/// List the snapshots that a node or a store offers, in the order of acceptance.
///
/// The listing is the node's word. What is restored is proven from the client's signature.
#[derive(Debug, clap::Args)]
pub struct Snapshots {
    /// Only this dataset, [CLIENT:]MODULE:PATH.
    dataset: Option<String>,
    #[command(flatten)]
    from: recall::From,
    /// An array of objects instead of a table.
    #[arg(long)]
    json: bool,
}

impl Snapshots {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        let recall = Recall::open(globals, self.from)?;
        let wanted = self.dataset.as_deref().map(|text| Address::parse(text, &modules::names(None))).transpose()?;
        let mut offered = recall.source.list()?;
        if let Some(address) = wanted {
            let client = crate::recall::choose::client_of(&address, recall.own_name(), &offered)?;
            // A wrong name is an error with the nearest names, as for restore.
            crate::recall::choose::choose(&offered, &client, &address.dataset, &crate::recall::choose::At::Newest)?;
            offered.retain(|one| one.client == client && one.dataset == address.dataset);
        }
        output::listing(self.json, &offered, table)?;
        Ok(Exit::Done)
    }
}

fn table(offered: &[Offered]) -> Table {
    let mut table = Table::new(&["SNAPSHOT", "ACCEPTED", "NUMBER", "SIZE", "DATASET"], "There are no snapshots yet.");
    for one in offered {
        let size = if one.bytes == 0 { String::new() } else { ByteSize(one.bytes).to_string() };
        table.row([
            one.snapshot.to_string(),
            one.received.to_string(),
            one.seq.to_string(),
            size,
            format!("{}:{}", one.client, one.dataset),
        ]);
    }
    table
}
