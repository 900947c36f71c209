//! Pruning: what goes, when, and the steps that take it away. Needs no key.
//!
//! Three calls, so that whoever keeps a log can write down each before the next: [`Store::prune_plan`] only looks;
//! [`Store::prune_mark`] notes what is condemned, pinned or spared; [`Store::prune_carry_out`] decides once more under the
//! store lock and takes away what has been condemned for as long as the grace. What was taken lies in `trash/`
//! until [`Store::empty_trash`], so that a crash cannot make the log forget it.
//!
//! A snapshot goes by one rename; its packs go after that rename is durable, and only those that no root names.

use super::layout::{ACCEPTED, folder};
use super::marks::{By, Marks};
use super::pack_use::{PackFile, Uses, pack_files};
use super::retention::{Candidate, Policy, Reason, much_smaller, retain};
use super::usage::Usage;
use super::{Store, StoredSnapshot};
use base::{Accepted, At, Blake3, Dataset, Monitor, RequestId, Result, atomic, crash, untrusted};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::time::Duration;

/// After this long an unfinished mark was left by a killed process.
const ABANDONED: Duration = Duration::from_secs(86_400);

/// What pruning goes by.
#[derive(Clone)]
pub struct PruneRules<'a> {
    /// What is to be kept of each dataset.
    pub policy: &'a dyn Fn(&Dataset) -> Policy,
    /// Whether these are the rules in force, or some that a person gave for once.
    pub by: By,
    /// Only this dataset is looked at; nothing is condemned, spared or taken of others.
    pub only: Option<&'a Dataset>,
    /// The node's clock.
    pub now: Timestamp,
    /// Where its days begin and end.
    pub zone: TimeZone,
    /// How long a snapshot stays condemned, and how old a pack must be that no root names.
    pub grace: Duration,
    /// Hears of each root that is read, and of each step that takes something away.
    pub monitor: &'a dyn Monitor,
}

impl std::fmt::Debug for PruneRules<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PruneRules({:?}, {:?}, {}, {:?})", self.by, self.only, self.now, self.grace)
    }
}

/// What is to become of one snapshot.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The snapshot.
    pub snapshot: StoredSnapshot,
    /// Why it is kept; without any it is condemned.
    pub reasons: Vec<Reason>,
    /// Its marks as they are now.
    pub marks: Marks,
    /// Packs of it are lost, or its manifest cannot be read.
    pub damaged: bool,
    /// Bytes of packs that no other root names.
    pub own_bytes: u64,
    /// What is news about it.
    pub change: Option<Change>,
    /// When it goes, if nothing changes.
    pub goes: Option<Timestamp>,
}

/// What is new about a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is condemned from now on.
    Condemned,
    /// It was condemned, and is not any more.
    Spared,
}

/// What pruning would do.
#[derive(Debug, Clone, Default)]
pub struct PrunePlan {
    /// The snapshots looked at, by dataset and order of acceptance.
    pub snapshots: Vec<Planned>,
    /// Snapshots to be pinned, each with the much smaller one after it.
    pub pins: Vec<(RequestId, RequestId)>,
    /// Bytes of packs that no root will name once all that is condemned is gone.
    pub frees: u64,
    /// Roots that cannot be read. While there are any, no pack is removed.
    pub unreadable: Vec<String>,
}

impl PrunePlan {
    /// Whether there is anything to be written down.
    pub fn is_news(&self) -> bool {
        !self.pins.is_empty() || self.snapshots.iter().any(|planned| planned.change.is_some())
    }
}

/// What pruning took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The snapshots, with the node's note where it could be read.
    pub snapshots: Vec<(RequestId, Option<Accepted>)>,
    /// How many packs.
    pub packs: u64,
    /// Bytes of the packs.
    pub bytes: u64,
    /// Roots that could not be read, which is why no pack was removed.
    pub unreadable: Vec<String>,
}

/// One step of carrying a plan out. A crash between any two leaves every kept snapshot whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Move {
    /// From here on whoever asks for the usage counts.
    Uncount,
    /// A snapshot's folder goes to the trash: it is no root any more.
    Take(RequestId),
    /// That is durable.
    Settle,
    /// A pack that no root names.
    Unlink(Blake3),
    /// One that was damaged.
    UnlinkDamaged(Blake3),
    /// The usage is right again.
    Count(u64),
}

impl Store {
    /// What pruning by `rules` would do. Takes no lock and writes nothing.
    ///
    /// # Errors
    /// When a snapshot's note or mark cannot be read: nothing is decided by half a list.
    pub fn prune_plan(&self, rules: &PruneRules<'_>) -> Result<PrunePlan> {
        let (mut plan, mut uses) = self.decide(rules)?;
        let condemned = plan.snapshots.iter().filter(|planned| planned.reasons.is_empty()).map(|planned| planned.snapshot.id.clone());
        self.without(&mut uses, &condemned.collect())?;
        // A pack that no root names as it is is on its way in, or young, or has been given up before.
        plan.frees = uses.packs.values().filter(|pack| pack.roots == 0).map(|pack| pack.size).sum();
        plan.unreadable = uses.unreadable.into_values().collect();
        Ok(plan)
    }

    fn decide(&self, rules: &PruneRules<'_>) -> Result<(PrunePlan, Uses)> {
        let snapshots = self.snapshots()?;
        let names: HashMap<RequestId, u32> = (0u32..).zip(&snapshots).map(|(n, snapshot)| (snapshot.id.clone(), n)).collect();
        let uses = self.uses(&names, rules.monitor)?;
        let mut own: HashMap<u32, u64> = HashMap::new();
        for pack in uses.packs.values().filter(|pack| pack.roots == 1) {
            *own.entry(pack.owner).or_default() += pack.size;
        }
        let mut plan = PrunePlan::default();
        let mut datasets: BTreeMap<String, Vec<StoredSnapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            if rules.only.is_none_or(|only| *only == snapshot.dataset) {
                datasets.entry(snapshot.dataset.to_string()).or_default().push(snapshot);
            }
        }
        for snapshots in datasets.into_values() {
            self.plan_dataset(rules, snapshots, &uses, &mut plan)?;
        }
        for planned in &mut plan.snapshots {
            planned.own_bytes = names.get(&planned.snapshot.id).and_then(|n| own.get(n)).copied().unwrap_or(0);
        }
        Ok((plan, uses))
    }

    fn plan_dataset(&self, rules: &PruneRules<'_>, snapshots: Vec<StoredSnapshot>, uses: &Uses, plan: &mut PrunePlan) -> Result<()> {
        let Some(first) = snapshots.first() else { return Ok(()) };
        let policy = (rules.policy)(&first.dataset);
        let marks = snapshots.iter().map(|snapshot| self.marks(&snapshot.id)).collect::<Result<Vec<_>>>()?;
        let facts = |snapshot: &StoredSnapshot| uses.snapshots.get(&snapshot.id).copied();
        let counts = |snapshot: &StoredSnapshot| facts(snapshot).and_then(|(counts, _)| counts);
        let mut pins = Vec::new();
        for (pair, marks) in snapshots.windows(2).zip(&marks) {
            let shrunk = counts(&pair[0]).zip(counts(&pair[1])).is_some_and(|(before, after)| much_smaller(&before, &after));
            if shrunk && marks.pinned.is_none() {
                pins.push((pair[0].id.clone(), pair[1].id.clone()));
            }
        }
        let by = |marks: &Marks| marks.condemned.as_ref().map(|condemned| condemned.by);
        let candidates: Vec<Candidate> = snapshots
            .iter()
            .zip(&marks)
            .map(|(snapshot, marks)| Candidate {
                id: snapshot.id.clone(),
                received: snapshot.received,
                // A mirror's snapshot has no packs to lose.
                damaged: facts(snapshot).is_some_and(|(_, whole)| !whole),
                held: marks.held.is_some(),
                pinned: marks.is_pinned() || pins.iter().any(|(pinned, _)| *pinned == snapshot.id),
                mends: snapshot.repairs.iter().any(|lost| uses.packs.contains_key(lost) && !uses.present.contains_key(lost)),
                forgotten: by(marks) == Some(By::Forget),
                given_up: by(marks) == Some(By::Command) && rules.by != By::Command,
            })
            .collect();
        let reasons = retain(&candidates, &policy, rules.now, &rules.zone);
        let grace = SignedDuration::try_from(rules.grace).unwrap_or(SignedDuration::MAX);
        for (((snapshot, marks), candidate), reasons) in snapshots.into_iter().zip(marks).zip(candidates).zip(reasons) {
            let change = match (reasons.is_empty(), &marks.condemned) {
                (true, None) => Some(Change::Condemned),
                (false, Some(_)) => Some(Change::Spared),
                _ => None,
            };
            let since = marks.condemned.as_ref().map_or(rules.now, |condemned| condemned.since);
            let goes = reasons.is_empty().then(|| since.checked_add(grace).unwrap_or(Timestamp::MAX));
            plan.snapshots.push(Planned { snapshot, reasons, marks, damaged: candidate.damaged, own_bytes: 0, change, goes });
        }
        plan.pins.append(&mut pins);
        Ok(())
    }

    /// Notes what a plan found; `name` is what the plan is called in the log.
    ///
    /// # Errors
    /// With the path; what was noted until then stays, and the same again notes the rest.
    pub fn prune_mark(&self, plan: &PrunePlan, rules: &PruneRules<'_>, name: &str) -> Result<()> {
        if !plan.is_news() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let there = |id: &RequestId| self.layout.snapshot(id).is_dir();
        for (id, by) in plan.pins.iter().filter(|(id, _)| there(id)) {
            self.pin(id, by, rules.now)?;
        }
        for planned in plan.snapshots.iter().filter(|planned| there(&planned.snapshot.id)) {
            match planned.change {
                Some(Change::Condemned) => self.condemn(&planned.snapshot.id, rules.by, name, rules.now)?,
                Some(Change::Spared) => self.spare(&planned.snapshot.id)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Decides again, under the store lock, and takes away the snapshots that have been condemned for as long as the grace,
    /// and the packs that no root names and that are older than the grace. What was taken stays in `trash/`, and is told
    /// again, until [`Store::empty_trash`].
    ///
    /// # Errors
    /// With the path. Whatever was done until then leaves every kept snapshot whole, and the same again does the rest.
    pub fn prune_carry_out(&self, rules: &PruneRules<'_>) -> Result<Pruned> {
        // A client that never sent anything has no store; pruning makes none.
        if !self.layout.snapshots().is_dir() {
            return Ok(Pruned::default());
        }
        let _lock = self.lock()?;
        let (moves, mut pruned) = self.moves(rules)?;
        for step in &moves {
            self.carry_out(step)?;
            rules.monitor.entries(1);
        }
        self.sweep_marks()?;
        pruned.snapshots = self.trashed()?;
        Ok(pruned)
    }

    /// The whole of pruning in one call, for stores whose owner keeps no log of it.
    ///
    /// # Errors
    /// As the three steps.
    pub fn prune(&self, rules: &PruneRules<'_>) -> Result<Pruned> {
        self.prune_mark(&self.prune_plan(rules)?, rules, "prune")?;
        let pruned = self.prune_carry_out(rules)?;
        self.empty_trash()?;
        Ok(pruned)
    }

    /// The steps that are due now. The lock is held.
    pub(super) fn moves(&self, rules: &PruneRules<'_>) -> Result<(Vec<Move>, Pruned)> {
        let (plan, mut uses) = self.decide(rules)?;
        let due: BTreeSet<RequestId> = plan
            .snapshots
            .iter()
            .filter(|planned| planned.reasons.is_empty())
            .filter(|planned| planned.marks.condemned.as_ref().is_some_and(|condemned| condemned.is_due(rules.now, rules.grace)))
            .map(|planned| planned.snapshot.id.clone())
            .collect();
        self.without(&mut uses, &due)?;
        let mut pruned = Pruned { unreadable: uses.unreadable.values().cloned().collect(), ..Pruned::default() };
        let mut packs = Vec::new();
        if uses.unreadable.is_empty() {
            let grace = SignedDuration::try_from(rules.grace).unwrap_or(SignedDuration::MAX);
            let is_old = |file: &PackFile| grace.is_zero() || file.modified.checked_add(grace).is_ok_and(|time| time <= rules.now);
            let unnamed = |digest: &Blake3| uses.packs.get(digest).is_none_or(|pack| pack.roots == 0);
            for (folder, step) in
                [(&uses.present, Move::Unlink as fn(Blake3) -> Move), (&pack_files(&self.layout.all_damaged())?, Move::UnlinkDamaged)]
            {
                for (digest, file) in folder.iter().filter(|(digest, file)| is_old(file) && unnamed(digest)) {
                    pruned.packs += 1;
                    pruned.bytes += file.size;
                    packs.push(step(*digest));
                }
            }
        }
        if due.is_empty() && packs.is_empty() {
            return Ok((Vec::new(), pruned));
        }
        // Asked before anything goes: the order must not begin again at a lower place.
        let order = Usage::get(&self.layout)?.order;
        let mut moves = vec![Move::Uncount];
        moves.extend(due.into_iter().map(Move::Take));
        moves.push(Move::Settle);
        moves.extend(packs);
        moves.push(Move::Count(order));
        Ok((moves, pruned))
    }

    /// Does one step. The lock is held.
    pub(super) fn carry_out(&self, step: &Move) -> Result<()> {
        let layout = &self.layout;
        match step {
            Move::Uncount => {
                Usage::invalidate(layout)?;
                folder(&layout.trash())
            }
            Move::Take(id) => {
                let to = layout.trash().join(id.as_str());
                atomic::remove_tree(&to)?;
                fs::rename(layout.snapshot(id), &to).at("rename to", &to)?;
                crash::point("renamed");
                Ok(())
            }
            Move::Settle => {
                atomic::sync_folder(&layout.trash())?;
                atomic::sync_folder(&layout.snapshots())
            }
            Move::Unlink(digest) => atomic::remove(&layout.pack(digest)),
            Move::UnlinkDamaged(digest) => atomic::remove(&layout.damaged(digest)),
            Move::Count(order) => {
                let counted = Usage::count(layout)?;
                Usage::new(counted.bytes, counted.order.max(*order)).keep(layout)
            }
        }
    }

    /// Removes marks that were left half written by a process that was killed long ago.
    fn sweep_marks(&self) -> Result<()> {
        let folder = self.layout.snapshots();
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            atomic::sweep_drafts(&entry.at("list", &folder)?.path(), ABANDONED);
        }
        Ok(())
    }

    /// What lies in the trash.
    fn trashed(&self) -> Result<Vec<(RequestId, Option<Accepted>)>> {
        let trash = self.layout.trash();
        let entries = match fs::read_dir(&trash) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.at("list", &trash)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.at("list", &trash)?;
            if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<RequestId>().ok()) {
                let note = untrusted::read(&entry.path().join(ACCEPTED), base::ACCEPTED_LIMIT);
                found.push((id, note.and_then(|note| Accepted::parse(ACCEPTED, &note.bytes)).ok()));
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }

    /// Removes what pruning took away. To be called when that was written down.
    ///
    /// # Errors
    /// With the path.
    pub fn empty_trash(&self) -> Result<()> {
        atomic::remove_tree(&self.layout.trash())
    }
}

#[cfg(test)]
#[path = "prune_tests.rs"]
mod tests;
