//! The server half: fetches exactly the ids of the signed list, checks them, and moves the mirror's refs by a plan.
//!
//! Takes no name, path or option from the source: what is fetched are ids, from the path that the request names.

use super::mirror::{Mirror, mirrors_size, packs_size};
use super::plan::{moves, plan, plan_aside};
use super::refs::RefList;
use super::{LIST_LIMIT, mirror_name, upkeep};
use crate::{Fetched, Lane, ServerContext, ServerModule, archived};
use archive::store::{Content, Quota, Stats};
use base::{Claim, Error, Kind, Payload, Result, Sha256, atomic};
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};
use transport::{FetchOutcome, GitFetch, Peer};

/// From how many packs on they are put together.
const PACKS_LIMIT: usize = 64;

/// How many changed refs a receipt names.
const CHANGED_LIMIT: usize = 100;

pub(crate) struct Server;

pub(crate) const SERVER: Server = Server;

/// Where the repository is. The tests have one without a network.
pub(super) trait Source {
    /// What `git ls-remote --symref` prints.
    fn list(&self, time: Duration) -> Result<Vec<u8>>;
    /// Fetches ids into `repository`.
    fn fetch(&self, repository: &Path, refspecs: &[String], options: GitFetch) -> Result<FetchOutcome>;
}

struct FromPeer<'a>(&'a ServerContext<'a>, &'a str);

impl Source for FromPeer<'_> {
    fn list(&self, time: Duration) -> Result<Vec<u8>> {
        (self.0.git_peer)()?.git_ls_remote(self.1, 4 * LIST_LIMIT, time)
    }

    fn fetch(&self, repository: &Path, refspecs: &[String], options: GitFetch) -> Result<FetchOutcome> {
        (self.0.git_peer)()?.git_try_fetch(repository, self.1, refspecs, options)
    }
}

impl ServerModule for Server {
    fn lane(&self) -> Lane {
        Lane::Git
    }

    fn fetch(&self, context: &ServerContext<'_>, claim: &Claim, attachment: Option<&[u8]>) -> Result<Fetched> {
        // What the request was signed for decides; a sealed repository is an archive like any other.
        if !matches!(claim.payload, Payload::Manifest(_)) {
            return fetch_from(&FromPeer(context, claim.dataset.path()), context, claim, attachment);
        }
        let mut fetched = archived::SERVER.fetch(context, claim, attachment)?;
        let name = mirror_name(&claim.dataset);
        if let Fetched::Stored { changed, .. } = &mut fetched
            && context.mirrors.join(&name).is_dir()
        {
            changed.push(format!("{} is sealed now; what was mirrored before is still in the clear in mirrors/{name}", claim.dataset));
        }
        Ok(fetched)
    }
}

fn refused(reason: impl Into<String>) -> Result<Fetched> {
    Ok(Fetched::Refused { reason: reason.into(), missing: Vec::new() })
}

fn failed(reason: impl std::fmt::Display) -> Result<Fetched> {
    Ok(Fetched::Failed { reason: format!("{reason}; submit it again") })
}

/// What every reason says that finds fault with what was sent, and no other one.
const BLAMED: &str = "the source";

/// The whole way of one request. Where it ends badly and this node's own mirror is damaged, that is no fault of the
/// source's: once more, with everything fetched anew.
pub(super) fn fetch_from(source: &dyn Source, context: &ServerContext<'_>, claim: &Claim, attachment: Option<&[u8]>) -> Result<Fetched> {
    let begun = Instant::now();
    let path = context.mirrors.join(mirror_name(&claim.dataset));
    let ended = try_fetch(source, context, claim, attachment, begun);
    let suspect = match &ended {
        Ok(Fetched::Refused { reason, .. }) => reason.contains(BLAMED),
        Ok(Fetched::Stored { .. } | Fetched::Failed { .. }) => false,
        Err(error) => error.kind() == Kind::Failed,
    };
    if !suspect || !path.is_dir() {
        return ended;
    }
    if upkeep::is_marked(&path) {
        let known = format!("the mirror {} is damaged", path.display());
        return Err(ended.err().unwrap_or_else(|| Error::failed("what its source sends does not make it whole")).context(known));
    }
    let Some(damage) = upkeep::check_repository(&path, context.time)?.into_iter().next() else { return ended };
    upkeep::mark_damaged(&path)?;
    let damage = format!("the mirror {} is damaged: {damage}", path.display());
    context.monitor.problem(&Error::failed(damage.clone()));
    match try_fetch(source, context, claim, attachment, begun) {
        Ok(Fetched::Stored { received, seconds, bytes_fetched, bytes_stored, unreadable, snapshot, refs, mut changed }) => {
            changed.push(format!("{damage}; everything was fetched anew"));
            Ok(Fetched::Stored { received, seconds, bytes_fetched, bytes_stored, unreadable, snapshot, refs, changed })
        }
        Ok(_) => Err(Error::failed(damage).hint("nightsafe-server scrub says whether it is whole again.")),
        Err(error) => Err(error.context(damage)),
    }
}

fn try_fetch(
    source: &dyn Source,
    context: &ServerContext<'_>,
    claim: &Claim,
    attachment: Option<&[u8]>,
    begun: Instant,
) -> Result<Fetched> {
    let left = || context.time.saturating_sub(begun.elapsed()).max(Duration::from_secs(1));
    let Payload::Refs(signed) = claim.payload else {
        return refused("this request was signed for something else than a list of refs");
    };
    let path = context.mirrors.join(mirror_name(&claim.dataset));
    let bytes = match attachment {
        Some(bytes) => bytes.to_vec(),
        // A try before may have come so far that the list is here.
        None => match Mirror::state(&path, claim.id.as_str())? {
            Some(bytes) => bytes,
            None => match source.list(left()) {
                Err(error) if Peer::is_gates_refusal(&error) => return failed(error.one_line()),
                listed => match RefList::from_ls_remote(&listed?) {
                    Ok(list) => list.to_bytes(),
                    Err(error) => return failed(format_args!("the source's list of refs cannot be used: {}", error.one_line())),
                },
            },
        },
    };
    match (Sha256::of(&bytes) == signed, attachment) {
        (true, _) => {}
        (false, Some(_)) => return refused("the list of refs is not the one that was signed"),
        (false, None) => return failed("the repository's refs have changed since the request was made"),
    }
    let list = match RefList::parse(&bytes) {
        Err(error) if error.kind() == Kind::Refused => return refused(error.one_line()),
        other => other?,
    };
    context.monitor.task(&format!("fetching {}", claim.dataset), None);
    let mirror = Mirror::open_or_create(&path, &claim.dataset, context.time)?;
    let elsewhere = mirrors_size(context.mirrors)?;
    let ids = list.ids();
    let (mut fetched, mut grown) = (0, 0);
    // A damaged mirror shows its source nothing that it has, so that everything comes anew.
    let anew = upkeep::wants_all(&path);
    if anew || mirror.kinds(&ids)?.len() < ids.len() || !mirror.is_whole(&ids)? {
        let room = context
            .quota
            .map(|quota| Ok::<_, Error>(quota.saturating_sub(elsewhere.saturating_add(context.store.bytes_used()?))))
            .transpose()?;
        if room == Some(0) {
            return refused("over quota: nothing more of this client is taken in");
        }
        if let Some(reason) = (context.allowance.today)(1) {
            return refused(reason);
        }
        let most = room.into_iter().chain(context.allowance.left).min();
        let staging = context.store.incoming(&claim.id).join("git");
        mirror.staging(&staging, anew)?;
        // Refs of ours alone, numbered: no name that a client chose takes part.
        let refspecs: Vec<String> = ids.iter().enumerate().map(|(n, id)| format!("{id}:refs/nightsafe/incoming/{n}")).collect();
        let options = GitFetch { time: left(), file_limit: most, rate: context.allowance.bandwidth, fsck: true };
        let came = source.fetch(&staging, &refspecs, options);
        // Whatever became of it, it came over the network.
        fetched = packs_size(&staging)?;
        context.monitor.bytes(fetched);
        if came.as_ref().is_ok_and(|came| matches!(came, FetchOutcome::Unfit(_)))
            && let Some(left) = context.allowance.left.filter(|left| Some(*left) == most && fetched >= *left)
            && let Some(reason) = (context.allowance.today)(left.saturating_add(1))
        {
            return refused(reason);
        }
        match came {
            Err(error) if Peer::is_gates_refusal(&error) => return failed(error.one_line()),
            other => match other? {
                FetchOutcome::Fetched => {}
                FetchOutcome::Gone(words) => return failed(format_args!("the source does not have any more what was signed ({words})")),
                FetchOutcome::Unfit(words) => return refused(format!("what the source sent cannot be taken in: {words}")),
            },
        }
        if room.is_some_and(|room| fetched > room) {
            return refused(format!("over quota: the repository needs {fetched} bytes more than are left"));
        }
        grown = mirror.adopt(&staging, anew)?;
        atomic::remove_tree(&staging)?;
    }
    if anew && let Err(error) = upkeep::mend(&path, context.time) {
        context.monitor.problem(&error.context(format!("the mirror of {} is still damaged", claim.dataset)));
    }
    if let Some(reason) = unfit(&mirror, &list, &ids)? {
        return refused(reason);
    }
    let changed = move_refs(&mirror, context, claim, &list, &bytes)?;
    context.monitor.entries(changed.len() as u64);
    // A mirror with many packs is slow, and otherwise as good.
    if let Err(error) = mirror.tidy(PACKS_LIMIT) {
        context.monitor.problem(&error);
    }
    let stats = Stats { bytes_fetched: fetched, seconds: begun.elapsed().as_secs(), bytes_elsewhere: grown };
    let quota = Quota { limit: context.quota, elsewhere: mirrors_size(context.mirrors)? };
    match context.store.accept(claim, Content::Refs(&bytes), context.received, &quota, stats) {
        Ok(accepted) => Ok(Fetched::Stored {
            received: accepted.received,
            seconds: accepted.seconds,
            bytes_fetched: accepted.bytes_fetched,
            bytes_stored: accepted.bytes_stored,
            unreadable: 0,
            snapshot: Some(accepted.id.to_string()),
            refs: Some(signed),
            changed,
        }),
        Err(error) if error.kind() == Kind::Refused => refused(error.one_line()),
        Err(error) => Err(error),
    }
}

/// Why the objects that are here now do not make the list, if they do not.
fn unfit(mirror: &Mirror, list: &RefList, ids: &[&str]) -> Result<Option<String>> {
    let kinds = mirror.kinds(ids)?;
    if let Some(id) = ids.iter().find(|id| !kinds.contains_key(**id)) {
        return Ok(Some(format!("the source did not send the object {id}")));
    }
    let branch = list.refs.iter().find(|(name, id)| name.starts_with(b"refs/heads/") && kinds.get(*id).is_none_or(|kind| kind != "commit"));
    if let Some((name, id)) = branch {
        return Ok(Some(format!(
            "the source's branch {} points at {id}, which is no commit",
            base::text::printable(&String::from_utf8_lossy(name))
        )));
    }
    Ok((!mirror.is_whole(ids)?).then(|| "the source sent a history that is not whole".into()))
}

/// Brings the mirror's refs to the list, unless a later one was there before.
fn move_refs(mirror: &Mirror, context: &ServerContext<'_>, claim: &Claim, list: &RefList, bytes: &[u8]) -> Result<Vec<String>> {
    let now = mirror.list()?;
    let label = mirror.label(&context.received.strftime("%Y%m%dT%H%M%SZ").to_string())?;
    let mut plan = if claim.seq < mirror.seq() {
        plan_aside(&now, list, &label)
    } else {
        mirror.set_seq(claim.seq)?;
        let forward: HashSet<_> = mirror.forward(moves(&now, list))?;
        plan(&now, list, &forward, &label)
    };
    mirror.carry_out(&plan, claim.id.as_str(), bytes)?;
    let more = plan.changed.len().saturating_sub(CHANGED_LIMIT);
    if more > 0 {
        plan.changed.truncate(CHANGED_LIMIT);
        plan.changed.push(format!("and {more} more"));
    }
    // In front, where no number of other lines pushes it out.
    plan.changed.splice(0..0, list.told_of_left_out().map(|words| format!("of the source, {words}")));
    Ok(plan.changed)
}
