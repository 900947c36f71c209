//! `nightsafe send`: one round of the sender, for cron.

use base::config::ClientConfig;
use base::{Exit, Result};

/// Prepare what waits, bring the requests to the nodes, and take in their receipts.
///
/// It carries requests, not data: the node fetches the data itself, at its own time. Under cron nothing is printed when
/// all is well; a node that is away is tried again at growing intervals.
#[derive(Debug, clap::Args)]
pub struct Send {
    /// Try nodes that failed before, though their next try is not due yet.
    #[arg(long)]
    now: bool,
}

impl Send {
    pub fn run(self, config: ClientConfig) -> Result<Exit> {
        crate::send::once(config, self.now)
    }
}
