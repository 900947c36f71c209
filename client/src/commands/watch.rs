//! `nightsafe watch`: the sender as a daemon.

use base::config::ClientConfig;
use base::{Exit, Result};

/// Do what send does, the moment there is something to do, until SIGTERM.
///
/// A new request wakes it; while one waits for its receipt, a connection to the node is held open. Every minute it looks
/// at everything, whatever woke it or not.
#[derive(Debug, clap::Args)]
pub struct Watch {}

impl Watch {
    pub fn run(self, config: ClientConfig) -> Result<Exit> {
        crate::send::daemon::run(config)
    }
}
