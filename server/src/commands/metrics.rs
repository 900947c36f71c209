//! `metrics`: how the node stands, for Prometheus.

use crate::node::Node;
use crate::{metrics, output, overview};
use base::{Exit, Result};
use std::path::Path;

/// Print how the node and every client stand as metrics for Prometheus, in its text format.
///
/// The same as what metrics in node.toml has written to a file, and as the web page gives out at /metrics.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, config: &Path) -> Result<Exit> {
    output::text(&metrics::render(&overview::gather(&Node::load(config)?, None)?))?;
    Ok(Exit::Done)
}
