//! `web`: the status page, for people with a browser and for Prometheus.
//!
//! Reads what the poller keeps, and changes nothing.

use crate::node::Node;
use crate::{output, web};
use base::config::Listen;
use base::{Exit, Result};
use std::path::Path;

/// Show how everything stands in a browser; ends at SIGTERM or SIGINT.
///
/// Anybody who reaches it may look: it belongs behind a reverse proxy with a login. Prometheus finds metrics at /metrics.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen, instead of where [web] in the configuration says: ADDRESS:PORT, or a socket's absolute path.
    #[arg(long, value_name = "WHERE")]
    listen: Option<Listen>,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let mut node = Node::load(config)?;
    if let Some(listen) = &args.listen {
        node.config.web.listen = listen.clone();
    }
    if let Listen::Tcp(address) = &node.config.web.listen
        && !address.ip().is_loopback()
    {
        output::warning(&format!(
            "everybody who reaches {address} can see how backups stand, and nothing asks who it is; docs/web.md has a login before it"
        ));
    }
    web::run(node)?;
    Ok(Exit::Done)
}
