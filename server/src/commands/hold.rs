//! `hold` and `unhold`: snapshots that nothing condemns until a person lets go.
//!
//! Does not know the rules; a hold stands above them.

use crate::audit::Audit;
use crate::node::Node;
use crate::{output, prune};
use archive::store::{Store, StoredSnapshot};
use base::{Error, Exit, Name, RequestId, Result, clock};
use std::path::Path;

/// Keep a snapshot whatever the rules say, until it is let go.
#[derive(Debug, clap::Args)]
pub struct Hold {
    #[command(flatten)]
    which: Which,
    /// Why, for whoever reads it later.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Let a snapshot go that is held, or that is pinned because the next one was much smaller: the rules decide again.
#[derive(Debug, clap::Args)]
pub struct Unhold {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The snapshot's id, as snapshots prints it.
    snapshot: RequestId,
    /// Whose it is, where two clients have one of that id.
    #[arg(long)]
    client: Option<Name>,
}

impl Which {
    /// The one store that has it.
    fn find(&self, node: &Node) -> Result<(Name, Store, StoredSnapshot)> {
        let id = self.snapshot.clone().only_whole()?;
        let mut found = Vec::new();
        for client in node.clients(self.client.as_ref())? {
            let store = Store::open(&node.config.client_path(&client))?;
            if let Some(accepted) = store.accepted(&id)? {
                let path = store.path().join("snapshots").join(id.as_str());
                found.push((client, store, StoredSnapshot { accepted, path }));
            }
        }
        let several = found.len() > 1;
        match found.pop() {
            Some(_) if several => Err(Error::usage(format!("several clients have a snapshot {id}")).hint("Say whose with --client.")),
            Some(one) => Ok(one),
            None => Err(Error::usage(format!("there is no snapshot {id}")).hint("nightsafe-server snapshots lists what is kept.")),
        }
    }
}

/// The longest reason, in bytes.
const REASON: usize = 1000;

/// Runs `hold`.
pub fn hold(args: &Hold, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let reason = args.reason.as_deref();
    if reason.is_some_and(|reason| reason.len() > REASON || base::text::printable(reason) != reason) {
        return Err(Error::usage(format!("a reason is one line of at most {REASON} bytes")));
    }
    let _lock = prune::lock(&node)?;
    let (client, store, snapshot) = args.which.find(&node)?;
    Audit::of(&node, &client).deed("held", std::slice::from_ref(&snapshot), reason)?;
    store.hold(&snapshot.id, reason, clock::now())?;
    output::line(&format!("{} of {client}:{} is held until nightsafe-server unhold lets it go", snapshot.id, snapshot.dataset))?;
    Ok(Exit::Done)
}

/// Runs `unhold`.
pub fn unhold(args: &Unhold, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let _lock = prune::lock(&node)?;
    let (client, store, snapshot) = args.which.find(&node)?;
    let marks = store.marks(&snapshot.id)?;
    if marks.held.is_none() && !marks.is_pinned() {
        return Err(Error::usage(format!("{} is neither held nor pinned", snapshot.id)).hint("nightsafe-server snapshots shows what is."));
    }
    Audit::of(&node, &client).deed("released", std::slice::from_ref(&snapshot), None)?;
    let released = store.unhold(&snapshot.id)?;
    let what = match (released.held, released.pinned) {
        (true, true) => "neither held nor pinned",
        (true, false) => "not held",
        _ => "not pinned",
    };
    output::line(&format!("{} of {client}:{} is {what} any more", snapshot.id, snapshot.dataset))?;
    Ok(Exit::Done)
}
