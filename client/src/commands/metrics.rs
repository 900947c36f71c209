//! `nightsafe metrics`: how backups of this machine stand, for Prometheus.

use crate::{metrics, output};
use base::config::ClientConfig;
use base::{Exit, Result};

/// Print how the backups of this machine stand as metrics for Prometheus, in its text format.
///
/// The same as what metrics in client.toml has written to a file.
#[derive(Debug, clap::Args)]
pub struct Metrics {}

impl Metrics {
    pub fn run(self, config: &ClientConfig) -> Result<Exit> {
        output::line(metrics::page(config)?.trim_end());
        Ok(Exit::Done)
    }
}
