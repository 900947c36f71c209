//! `forget`: giving up a whole dataset, its newest snapshot too.
//!
//! The only way to a dataset's last snapshot; it goes through the log and the grace like everything else.

use super::prune::whole_address;
use crate::audit::Audit;
use crate::node::Node;
use crate::prune::{self, Asked, complete};
use crate::{access, output};
use archive::store::{Store, StoredSnapshot};
use base::{Dataset, Error, Exit, Name, Result, Span, clock};
use std::path::Path;

/// Condemn every snapshot of a dataset, the newest too. They go after the grace; until then --undo takes it back.
///
/// Asks for the dataset once more, unless --yes is given. A mirror stays, as mirrors are never pruned.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The dataset, as in web1:files:/var/www.
    #[arg(value_name = "CLIENT:DATASET", value_parser = whole_address)]
    dataset: (Name, Dataset),
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// How long they stay, as in 3d; 0s removes them now. Default: as in node.toml.
    #[arg(long, value_name = "TIME", conflicts_with = "undo")]
    grace: Option<Span>,
    /// Keep those again that are still there.
    #[arg(long)]
    undo: bool,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let (client, dataset) = &args.dataset;
    let grace = args.grace.unwrap_or(node.config.prune.grace);
    if grace < node.config.least_grace() {
        return Err(Error::refused(format!("the floor of this node allows no grace under {}", String::from(node.config.least_grace()))));
    }
    // The name must be one of this node's, in the list or not.
    node.clients(Some(client))?;
    let store = Store::open(&node.config.client_path(client))?;
    let lock = prune::lock(&node)?;
    let snapshots: Vec<StoredSnapshot> = store.snapshots()?.into_iter().filter(|snapshot| snapshot.dataset == *dataset).collect();
    if snapshots.is_empty() {
        return Err(
            Error::usage(format!("there is no snapshot of {client}:{dataset}")).hint("nightsafe-server snapshots lists what is kept.")
        );
    }
    if args.undo {
        Audit::of(&node, client).deed("remembered", &snapshots, None)?;
        let kept = store.remember(dataset)?;
        output::line(&format!("{} snapshots of {client}:{dataset} are kept again", kept.len()))?;
        return Ok(Exit::Done);
    }
    for snapshot in &snapshots {
        if store.marks(&snapshot.id)?.held.is_some() {
            return Err(Error::refused(format!("the snapshot {} of {client}:{dataset} is held", snapshot.id))
                .hint(format!("nightsafe-server unhold {} lets go of it first.", snapshot.id)));
        }
    }
    confirm(args, snapshots.len())?;
    let commit = Audit::of(&node, client).deed("forgotten", &snapshots, None)?;
    let ids = store.forget(dataset, &commit, clock::now())?;
    drop(lock);
    if grace.0.is_zero() {
        let asked = Asked { only: Some((client.clone(), Some(dataset.clone()))), grace: Some(grace), ..Asked::default() };
        let (mut removed, mut incomplete) = (0, Ok(()));
        let pruned = prune::run(&node, &asked, &output::Watched::default())?;
        for (_, outcome) in pruned {
            let outcome = outcome?;
            removed += outcome.pruned.snapshots.len();
            incomplete = complete(&outcome);
        }
        output::line(&format!("{removed} snapshots of {client}:{dataset} are removed"))?;
        incomplete?;
        return Ok(Exit::Done);
    }
    let span = String::from(grace);
    output::line(&format!("{} snapshots of {client}:{dataset} go after {span}; forget --undo takes it back until then", ids.len()))?;
    let allowed = access::current(&node)?.list.clients.get(client).is_some_and(|grant| grant.allows(dataset));
    if allowed {
        output::line(&format!("{client} may still send it; what comes from now on is kept"))?;
    }
    Ok(Exit::Done)
}

/// The dataset must be named twice: on the command line, and once more.
fn confirm(args: &Args, snapshots: usize) -> Result<()> {
    let (client, dataset) = &args.dataset;
    let name = format!("{client}:{dataset}");
    if args.yes {
        return Ok(());
    }
    match output::ask(&format!("All {snapshots} snapshots of {name} will be removed. Type its name once more: ")) {
        Some(answer) if answer == name => Ok(()),
        Some(_) => Err(Error::refused("that is another name; nothing was changed")),
        None => Err(Error::usage("nobody is there to be asked").hint("Give --yes where no person sits at a terminal.")),
    }
}
