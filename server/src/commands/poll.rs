//! `poll`: one pass, for cron.
//!
//! Prints only what is new and wrong; what was told before is in `status`.

use crate::metrics;
use crate::node::Node;
use crate::poll::{Poller, SWEEP, crew, meanwhile, quiet, sweep_due, timetable};
use base::{Exit, Kind, Result};
use std::path::Path;
use std::time::Instant;

/// Take in what the gate handed over, fetch what was asked for, and answer. `nightsafe send` carries requests; this is
/// what moves data.
///
/// Prints nothing when all is well. Exits 75 when something did not work for now and will be tried again, and when another
/// poll or watch runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look at every client and let the gate do its upkeep, as happens every 10 minutes.
    #[arg(long)]
    sweep: bool,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    if !args.sweep && quiet::still(&node)? {
        metrics::write_if_old(&node);
        // What only time makes wrong is found by the sweep.
        return ended(timetable::run_due(&node, timetable::JOBS)?);
    }
    let sweep = args.sweep || sweep_due(&node);
    let Some(poller) = Poller::open(node, sweep)? else {
        // No news for cron, which starts it again in a minute.
        tracing::info!("another poll or watch works on this node");
        return Ok(Exit::NotNow);
    };
    let mut names = poller.look(sweep)?;
    if sweep {
        // Fetching may take hours, and whoever watches the note would believe that nobody looks.
        poller.note_sweep()?;
    }
    poller.gather_lines()?;
    names.extend(poller.with_requests());
    let serve = |names| meanwhile::looking(&poller, SWEEP, || crew::serve_once(&poller, names));
    serve(names)?;
    // A client that sends for ever must not keep cron from what is done once a day; the next poll goes on.
    let begun = Instant::now();
    while poller.unfinished() && begun.elapsed() < SWEEP {
        serve(poller.look(false)?)?;
    }
    if sweep {
        poller.tidy()?;
    }
    quiet::begin(&poller)?;
    let (worst, node) = (poller.worst()?, poller.node.clone());
    // The next poll need not wait for what is done once a day.
    drop(poller);
    let daily = timetable::run_due(&node, timetable::JOBS)?;
    crate::alerts::tell(&node);
    crate::digest::send(&node);
    metrics::write(&node);
    ended(worst.or(daily))
}

fn ended(worst: Option<Kind>) -> Result<Exit> {
    match worst {
        None => Ok(Exit::Done),
        Some(Kind::NotNow) => Ok(Exit::NotNow),
        // Each thing was told when it was new; cron must not send it again every minute.
        Some(kind) => Ok(kind.into()),
    }
}
