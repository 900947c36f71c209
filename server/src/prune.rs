//! Pruning the stores of a node: which rules hold for whom, and each step in the log before the next.
//!
//! Does not decide what goes (`archive::store::retention`) nor takes it away (`archive::store`).

use crate::access;
use crate::audit::Audit;
use crate::done::Done;
use crate::node::Node;
use archive::store::retention::Policy;
use archive::store::{By, PrunePlan, PruneRules, Pruned, Store};
use base::{Dataset, Error, FileLock, Keep, Monitor, Name, Result, Span, clock};
use jiff::tz::TimeZone;

/// What is asked for; nothing is what the timetable asks for.
#[derive(Debug, Default)]
pub struct Asked {
    /// Only this client, and only this dataset of it.
    pub only: Option<(Name, Option<Dataset>)>,
    /// These rules instead of those of the access list.
    pub keep: Option<Keep>,
    /// Another grace than that of `node.toml`.
    pub grace: Option<Span>,
    /// Only look.
    pub dry_run: bool,
}

/// What became of one client's store.
#[derive(Debug)]
pub struct Outcome {
    /// The client.
    pub client: Name,
    /// What was found.
    pub plan: PrunePlan,
    /// What was taken away.
    pub pruned: Pruned,
}

/// The job of the timetable.
///
/// # Errors
/// The first that happened; the other clients were pruned all the same.
pub fn daily(node: &Node) -> Result<()> {
    let outcomes = run(node, &Asked::default(), &base::Silent)?;
    outcomes.into_iter().map(|(_, outcome)| outcome.and_then(|outcome| complete(&outcome))).fold(Ok(()), Result::and)
}

/// Whether everything could be done.
///
/// # Errors
/// When packs had to stay because a root could not be read.
pub fn complete(outcome: &Outcome) -> Result<()> {
    let unreadable = if outcome.plan.unreadable.is_empty() { &outcome.pruned.unreadable } else { &outcome.plan.unreadable };
    let Some(first) = unreadable.first() else { return Ok(()) };
    let more = if unreadable.len() > 1 { format!(", and {} more", unreadable.len() - 1) } else { String::new() };
    Err(Error::failed(format!("{}: no pack was removed, as it is not known which are needed: {first}{more}", outcome.client))
        .hint("nightsafe-server scrub looks at what is damaged, and has it sent again where it can."))
}

/// Prunes, or only looks; each client with what became of it. Progress goes to `monitor`.
///
/// # Errors
/// When the configuration or the access list cannot be read, or another one prunes. What goes wrong with one client is
/// that client's.
pub fn run(node: &Node, asked: &Asked, monitor: &dyn Monitor) -> Result<Vec<(Name, Result<Outcome>)>> {
    let least = node.config.least_grace();
    let grace = asked.grace.unwrap_or(node.config.prune.grace);
    if grace < least {
        return Err(Error::refused(format!("the floor of this node allows no grace under {}", String::from(least)))
            .hint("Whoever owns the node may lower it, in floor of node.toml."));
    }
    let list = access::current(node)?.list;
    let _lock = if asked.dry_run { None } else { Some(lock(node)?) };
    let names = node.clients(asked.only.as_ref().map(|(client, _)| client))?;
    let zone = TimeZone::system();
    let one = |client: &Name| {
        let policy = |dataset: &Dataset| {
            let (keep, expect) = list.keeping(client, dataset);
            let floor = node.config.floor.as_ref().and_then(|floor| floor.keep.clone());
            Policy { keep: asked.keep.clone().or_else(|| keep.cloned()), expect, floor }
        };
        let rules = PruneRules {
            policy: &policy,
            by: if asked.keep.is_some() { By::Command } else { By::Policy },
            only: asked.only.as_ref().and_then(|(_, dataset)| dataset.as_ref()),
            now: clock::now(),
            zone: zone.clone(),
            grace: grace.0,
            monitor,
        };
        of_client(node, client, &rules, asked.dry_run)
    };
    Ok(names.into_iter().map(|client| (client.clone(), one(&client).map_err(|error| error.context(client.to_string())))).collect())
}

fn of_client(node: &Node, client: &Name, rules: &PruneRules<'_>, dry_run: bool) -> Result<Outcome> {
    rules.monitor.task(&format!("looking at what is kept of {client}"), None);
    let store = Store::open(&node.config.client_path(client))?;
    let plan = store.prune_plan(rules)?;
    let mut pruned = Pruned::default();
    if !dry_run {
        let audit = Audit::of(node, client);
        if plan.is_news() {
            store.prune_mark(&plan, rules, &audit.plan(&plan, rules.grace)?)?;
        }
        rules.monitor.task(&format!("pruning {client}"), None);
        pruned = store.prune_carry_out(rules)?;
        if !pruned.snapshots.is_empty() || pruned.packs > 0 {
            audit.result(&pruned)?;
        }
        store.empty_trash()?;
    }
    let outcome = Outcome { client: client.clone(), plan, pruned };
    // By a person's own rules less may have gone than the list says.
    if !dry_run && rules.by == By::Policy && rules.only.is_none() && complete(&outcome).is_ok() {
        Done::Prune.note(store.path(), rules.now)?;
    }
    Ok(outcome)
}

/// Keeps two from pruning, holding or forgetting at once, so that the log has them in their order.
///
/// # Errors
/// Of kind not-now when another one does.
pub fn lock(node: &Node) -> Result<FileLock> {
    node.check_owner()?;
    node.prepare()?;
    FileLock::try_now(&node.state_path().join("prune.lock"))?
        .ok_or_else(|| Error::not_now("somebody else is pruning on this node").hint("Try again when that is done."))
}
