//! The server half: fetches exactly the ids of the signed list, checks them, and moves the mirror's refs by a plan.
//!
//! Takes no name, path or option from the source: what is fetched are ids, from the path that the request names.

use super::mirror::{Mirror, mirrors_size, packs_size};
use super::plan::{label, losses, moves, plan, plan_aside};
use super::refs::RefList;
use super::{LIST_LIMIT, lfs, mirror_name, unsaid, upkeep};
use crate::allowance::Slowed;
use crate::{Fetched, Lane, ServerContext, ServerModule, archived};
use archive::store::{Content, Quota, Stats};
use base::{Claim, Error, Kind, Payload, Result, Sha256, atomic};
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use transport::{FetchOutcome, GitFetch, Peer, Sftp};

/// How many LFS objects that could not be had a receipt names.
const LFS_LIMIT: usize = 10;

/// From how many packs on they are put together.
const PACKS_LIMIT: usize = 64;

pub(crate) struct Server;

pub(crate) const SERVER: Server = Server;

/// Where the repository is. The tests have one without a network.
pub(super) trait Source {
    /// What `git ls-remote --symref` prints.
    fn list(&self, time: Duration) -> Result<Vec<u8>>;
    /// Fetches ids into `repository`.
    fn fetch(&self, repository: &Path, refspecs: &[String], options: GitFetch) -> Result<FetchOutcome>;
    /// What git-lfs keeps there, an id and a size in each line. It may be read for `time`.
    fn lfs_list(&self, time: Duration) -> Result<Vec<u8>>;
    /// One object of these; `false` when it is not there any more.
    fn lfs_object(&self, id: &Sha256, size: u64, to: &mut dyn Write) -> Result<bool>;
}

struct FromPeer<'a> {
    context: &'a ServerContext<'a>,
    /// The repository's path, as the request names it.
    path: &'a str,
    sftp: OnceCell<Sftp>,
}

impl<'a> FromPeer<'a> {
    fn new(context: &'a ServerContext<'a>, claim: &'a Claim) -> Self {
        Self { context, path: claim.dataset.path(), sftp: OnceCell::new() }
    }

    fn sftp(&self, time: Duration) -> Result<&Sftp> {
        if let Some(open) = self.sftp.get() {
            return Ok(open);
        }
        let opened = (self.context.git_peer)()?.sftp_for(time)?;
        Ok(self.sftp.get_or_init(|| opened))
    }
}

impl Source for FromPeer<'_> {
    fn list(&self, time: Duration) -> Result<Vec<u8>> {
        (self.context.git_peer)()?.git_ls_remote(self.path, 4 * LIST_LIMIT, time)
    }

    fn fetch(&self, repository: &Path, refspecs: &[String], options: GitFetch) -> Result<FetchOutcome> {
        (self.context.git_peer)()?.git_try_fetch(repository, self.path, refspecs, options)
    }

    fn lfs_list(&self, time: Duration) -> Result<Vec<u8>> {
        self.sftp(time)?.read(&format!("lfs-list{}", self.path), LIST_LIMIT)
    }

    fn lfs_object(&self, id: &Sha256, size: u64, to: &mut dyn Write) -> Result<bool> {
        let mut slowed = Slowed::new(to, self.context.allowance.bandwidth);
        let came =
            self.sftp(self.context.time)?.try_pull(&format!("lfs/{}{}", id.hex(), self.path), size, &mut slowed, self.context.monitor)?;
        Ok(came.is_some())
    }
}

impl ServerModule for Server {
    fn lane(&self) -> Lane {
        Lane::Git
    }

    fn fetch(&self, context: &ServerContext<'_>, claim: &Claim, attachment: Option<&[u8]>) -> Result<Fetched> {
        // What the request was signed for decides; a sealed repository is an archive like any other.
        if !matches!(claim.payload, Payload::Manifest(_)) {
            return fetch_from(&FromPeer::new(context, claim), context, claim, attachment);
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
    let (mut fetched, mut grown, mut lfs) = (0, 0, Lfs::default());
    // A damaged mirror shows its source nothing that it has, so that everything comes anew.
    let anew = upkeep::wants_all(&path);
    let mends = anew || upkeep::is_half_mended(&path);
    // Where nothing is fetched, what was found out of the objects holds.
    let mut kinds = mirror.kinds(&ids)?;
    let mut whole = !anew && kinds.len() == ids.len() && mirror.is_whole(&ids)?;
    if !whole {
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
        // Before git's own objects: who is killed in between finds those missing, and does all of it again.
        let brought = match fetch_lfs(source, context, &mirror, room, anew, left())? {
            Ok(brought) => brought,
            Err(reason) => return refused(reason),
        };
        let room = room.map(|room| room.saturating_sub(brought.bytes));
        let left_today = context.allowance.left.map(|left| left.saturating_sub(brought.bytes));
        let most = room.into_iter().chain(left_today).min();
        let staging = context.store.incoming(&claim.id).join("git");
        mirror.staging(&staging, anew)?;
        // Ids alone: no name that a client chose takes part, and no ref is made of thousands that nobody would look at.
        let refspecs: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let options = GitFetch { time: left(), file_limit: most, rate: context.allowance.bandwidth, fsck: true, heads: true };
        let came = source.fetch(&staging, &refspecs, options);
        // Whatever became of it, it came over the network.
        fetched = packs_size(&staging)?;
        context.monitor.bytes(fetched);
        lfs = brought;
        if came.as_ref().is_ok_and(|came| matches!(came, FetchOutcome::Unfit(_)))
            && let Some(left) = left_today.filter(|left| Some(*left) == most && fetched >= *left)
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
        fetched += lfs.bytes;
        whole = git_saw_whole(&staging, &ids);
        grown = mirror.adopt(&staging, anew)? + lfs.bytes;
        atomic::remove_tree(&staging)?;
        kinds = mirror.kinds(&ids)?;
        whole = whole || mirror.is_whole(&ids)?;
    }
    if mends && let Err(error) = upkeep::mend(&path, context.time) {
        context.monitor.problem(&error.context(format!("the mirror of {} is still damaged", claim.dataset)));
    }
    if let Some(reason) = unfit(&list, &ids, &kinds, whole) {
        return refused(reason);
    }
    if lfs.is_used {
        let named = lfs::pointers(&path, &ids, &["--not", "--all"], context.time)?;
        let absent = lfs::missing(&path, named, false)?;
        if let Some(first) = absent.keys().next() {
            let words = format!("{} objects that it names in new commits are not there, as {}", absent.len(), first.hex());
            lfs.failed.push(words);
            lfs.failed.extend(lfs.unlisted.take());
        }
    }
    let mut changed = move_refs(&mirror, context, claim, &list, &bytes)?;
    changed.extend(lfs.failed.iter().take(LFS_LIMIT).map(|words| format!("LFS: {words}")));
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

/// What became of what git-lfs keeps beside a repository.
#[derive(Default)]
struct Lfs {
    /// Whether there is any, or nobody knows.
    is_used: bool,
    /// Bytes that came.
    bytes: u64,
    /// What could not be had.
    failed: Vec<String>,
    /// Why it is not known what there is. Said only where something is missed.
    unlisted: Option<String>,
}

/// Brings over what git-lfs keeps at the source and is not here, each object held against its name. Where it cannot be had at
/// all, the repository is no worse for it. Gives the reason where a rule forbids it.
fn fetch_lfs(
    source: &dyn Source,
    context: &ServerContext<'_>,
    mirror: &Mirror,
    room: Option<u64>,
    anew: bool,
    time: Duration,
) -> Result<std::result::Result<Lfs, String>> {
    let offered = match source.lfs_list(time).and_then(|bytes| lfs::parse_list(&bytes)) {
        Ok(offered) => offered,
        Err(error) => {
            return Ok(Ok(Lfs { is_used: true, unlisted: Some(error.one_line()), ..Lfs::default() }));
        }
    };
    let is_used = !offered.is_empty() || mirror.path().join("lfs").is_dir();
    let wanted = lfs::missing(mirror.path(), offered, anew)?;
    let needed = wanted.values().fold(0u64, |sum, size| sum.saturating_add(*size));
    if room.is_some_and(|room| needed > room) {
        return Ok(Err(format!("over quota: what git-lfs keeps needs {needed} bytes, more than are left")));
    }
    if needed > 0
        && let Some(reason) = (context.allowance.today)(needed)
    {
        return Ok(Err(reason));
    }
    let failed = lfs::put_all(mirror.path(), &wanted, |id, size, to| source.lfs_object(id, size, to))?;
    let bytes = wanted.iter().filter(|(id, _)| lfs::place(mirror.path(), id).is_file()).map(|(_, size)| size).sum();
    Ok(Ok(Lfs { is_used, bytes, failed, unlisted: None }))
}

/// Whether the fetch into `staging` has gone from each of `ids` to all that it leads to, and found it there or in the mirror. Git
/// notes in `FETCH_HEAD` what it has seen whole, and nothing else: what a source says to be cut off (`shallow`) comes without a
/// complaint, and is not noted. To find it out a second time takes as long as the first.
fn git_saw_whole(staging: &Path, ids: &[&str]) -> bool {
    // Where it cannot be read nobody knows, and it is looked for.
    let Ok(file) = base::untrusted::read(&staging.join("FETCH_HEAD"), 4 * LIST_LIMIT) else { return false };
    let bytes = file.bytes;
    let seen: HashSet<&[u8]> = bytes.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b'\t').next()).collect();
    ids.iter().all(|id| seen.contains(id.as_bytes()))
}

/// Why the objects that are here now, of these kinds, do not make the list, if they do not.
fn unfit(list: &RefList, ids: &[&str], kinds: &HashMap<String, String>, whole: bool) -> Option<String> {
    if let Some(id) = ids.iter().find(|id| !kinds.contains_key(**id)) {
        return Some(format!("the source did not send the object {id}"));
    }
    let branch = list.refs.iter().find(|(name, id)| name.starts_with(b"refs/heads/") && kinds.get(*id).is_none_or(|kind| kind != "commit"));
    if let Some((name, id)) = branch {
        return Some(format!(
            "the source's branch {} points at {id}, which is no commit",
            base::text::printable(&String::from_utf8_lossy(name))
        ));
    }
    (!whole).then(|| "the source sent a history that is not whole".into())
}

/// Brings the mirror's refs to the list, unless a later one was there before. Gives what the receipt has to say of it. Who is
/// to hear of it, and what is to be said, is written down before anything moves.
fn move_refs(mirror: &Mirror, context: &ServerContext<'_>, claim: &Claim, list: &RefList, bytes: &[u8]) -> Result<Vec<String>> {
    let held = mirror.refs()?;
    let now = mirror.list(&held.refs)?;
    let label = label(&held.refs, &context.received.strftime("%Y%m%dT%H%M%SZ").to_string())?;
    let plan = if claim.seq < mirror.seq() {
        plan_aside(&now, list, &label)
    } else {
        mirror.set_seq(claim.seq)?;
        let forward: HashSet<_> = mirror.forward(moves(&now, list))?;
        let plan = plan(&now, list, &forward, &label);
        let losses = losses(&now, list, &plan, &forward, context.losses);
        if !losses.is_empty() {
            (context.heed)(&losses.join("; "))?;
        }
        plan
    };
    let mut changed = unsaid::note(mirror.path(), claim, &plan.changed, |id| Ok(context.store.accepted(id)?.is_some()))?;
    mirror.carry_out(&plan, held, claim.id.as_str(), bytes)?;
    // In front, where no number of other lines pushes it out.
    changed.splice(0..0, list.told_of_left_out().map(|words| format!("of the source, {words}")));
    Ok(changed)
}
