//! Accepted parts: roots that hold the packs of a long backup until its manifest comes, and nobody's snapshots.
//!
//! Does not know clocks and policies: the caller says what time it is and how long parts wait.

use super::Store;
use super::layout::{ACCEPTED, folder};
use super::listing::read;
use super::usage::Usage;
use base::{Accepted, At, Error, RequestId, Result, atomic, beneath, crash};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

/// What is behind the name of a part's folder on its way out, in `incoming/`: no fetch has such a name, so what a crash
/// leaves of it is garbage there.
const DROPPED: &str = ".dropped";

/// One accepted part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The id, with the part's number.
    pub id: RequestId,
    /// The node's clock when it was accepted.
    pub received: Timestamp,
}

/// The parts that nobody waits for any more: those of a backup whose newest part came longer than `ttl` ago. A backup may
/// take longer than that, as long as parts keep coming. No I/O.
pub fn abandoned(parts: &[Part], ttl: Duration, now: Timestamp) -> Vec<RequestId> {
    let mut newest: BTreeMap<RequestId, Timestamp> = BTreeMap::new();
    for part in parts {
        let time = newest.entry(part.id.whole()).or_insert(part.received);
        *time = part.received.max(*time);
    }
    // A clock that was set back makes nothing old.
    let old = |time: &Timestamp| Duration::try_from(now.duration_since(*time)).is_ok_and(|age| age > ttl);
    parts.iter().filter(|part| newest.get(&part.id.whole()).is_some_and(old)).map(|part| part.id.clone()).collect()
}

impl Store {
    /// The accepted parts, in the order of their ids.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn parts(&self) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for id in self.part_ids()? {
            let path = self.layout.snapshot(&id);
            let note = beneath::folder(&path).and_then(|folder| read(&folder, ACCEPTED, base::ACCEPTED_LIMIT));
            match note.and_then(|bytes| Accepted::parse(ACCEPTED, &bytes)) {
                Ok(accepted) if accepted.id == id => parts.push(Part { id, received: accepted.received }),
                // Dropped since the folder was listed.
                Err(_) if !path.exists() => {}
                Ok(other) => return Err(Error::failed(format!("the note in {} belongs to {}", path.display(), other.id))),
                Err(error) => return Err(error.context(format!("the part in {} cannot be read", path.display()))),
            }
        }
        Ok(parts)
    }

    fn part_ids(&self) -> Result<BTreeSet<RequestId>> {
        let all = self.layout.parts();
        let names = match fs::read_dir(&all) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            other => other.at("list", &all)?,
        };
        let mut ids = BTreeSet::new();
        for name in names {
            let id = name.at("list", &all)?.file_name().to_str().and_then(|name| name.parse::<RequestId>().ok());
            ids.extend(id.filter(|id| id.part().is_some()));
        }
        Ok(ids)
    }

    /// Drops the parts that are over: those of a stored snapshot, and those that were abandoned, as [`abandoned`] says. Gives
    /// them. Their packs stay until prune finds them without a root.
    ///
    /// # Errors
    /// With the path.
    pub fn tidy_parts(&self, ttl: Duration, now: Timestamp) -> Result<Vec<RequestId>> {
        let parts = self.parts()?;
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let mut over: BTreeSet<RequestId> = abandoned(&parts, ttl, now).into_iter().collect();
        over.extend(parts.into_iter().map(|part| part.id).filter(|id| self.layout.snapshot(&id.whole()).exists()));
        let over: Vec<RequestId> = over.into_iter().collect();
        if !over.is_empty() {
            let _lock = self.lock()?;
            self.drop_parts(&over)?;
        }
        Ok(over)
    }

    /// Drops the parts of the snapshot `id`, which is a root. The caller holds the store lock.
    pub(super) fn drop_parts_of_stored(&self, id: &RequestId) -> Result<()> {
        if id.part().is_some() {
            return Ok(());
        }
        let parts: Vec<RequestId> = self.part_ids()?.into_iter().filter(|part| part.whole() == *id).collect();
        self.drop_parts(&parts)
    }

    /// Each part stops to be a root by one rename. The caller holds the store lock.
    fn drop_parts(&self, parts: &[RequestId]) -> Result<()> {
        if parts.is_empty() {
            return Ok(());
        }
        let mut usage = Usage::get(&self.layout)?;
        Usage::invalidate(&self.layout)?;
        folder(&self.layout.all_incoming())?;
        let garbage = |id: &RequestId| self.layout.all_incoming().join(format!("{id}{DROPPED}"));
        for id in parts {
            let (from, to) = (self.layout.snapshot(id), garbage(id));
            atomic::remove_tree(&to)?;
            match fs::rename(&from, &to) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.at("rename to", &to)?,
            }
            crash::point("renamed");
        }
        atomic::sync_folder(&self.layout.parts())?;
        for id in parts {
            usage.bytes = usage.bytes.saturating_sub(super::usage::bytes_in(&garbage(id))?);
            atomic::remove_tree(&garbage(id))?;
        }
        usage.keep(&self.layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::{Forge, Forged, claim, folder as entry};
    use crate::manifest::{Manifest, PartSealed};
    use crate::store::{Content, Quota, Stats};
    use base::{Claim, Kind};
    use proptest::prelude::*;
    use std::io::Write;

    const NOW: &str = "2026-11-20T04:00:00Z";

    fn forged() -> Forged {
        let mut forge = Forge::new();
        let entries = vec![entry(""), forge.file("a", &[&[7; 30_000]]), forge.file("b", &[&[8; 30_000]])];
        forge.finish(entries)
    }

    /// The manifest and the claim of a part with some of the packs of `whole`.
    fn part(whole: &Forged, number: u16, packs: std::ops::Range<usize>) -> (Manifest, Claim) {
        let mut public = whole.manifest.public.clone();
        public.id = public.id.with_part(number).unwrap();
        public.part = Some(number);
        public.packs = public.packs[packs].to_vec();
        let sealed = PartSealed { version: 1, id: public.id.clone(), dataset: public.dataset.clone(), packs: Vec::new() };
        let manifest = Manifest::seal_part(public, &sealed, &age::x25519::Identity::generate().to_public()).unwrap();
        let claim = claim(&manifest);
        (manifest, claim)
    }

    fn take(store: &Store, from: &Forged, manifest: &Manifest, claim: &Claim) -> Result<Accepted> {
        for pack in store.to_fetch(&claim.id, &manifest.public)? {
            let mut writer = store.begin_pack(&claim.id, &pack)?;
            writer.write_all(&from.packs.packs.lock().unwrap()[&pack.digest]).unwrap();
            writer.finish()?;
        }
        store.accept(claim, Content::Manifest(manifest), NOW.parse().unwrap(), &Quota::default(), Stats::default())
    }

    #[test]
    fn a_part_is_a_root_until_its_whole_comes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let whole = forged();
        let all = whole.manifest.public.packs.len();
        assert!(all >= 2, "data and catalog are in packs of their own");
        let (manifest, claim) = part(&whole, 1, 0..1);
        let accepted = take(&store, &whole, &manifest, &claim).unwrap();
        assert_eq!(accepted, take(&store, &whole, &manifest, &claim).unwrap(), "asked again, it is the same answer");
        // No snapshot, and yet a root that counts.
        assert!(store.snapshots().unwrap().is_empty());
        let roots = store.roots().unwrap();
        assert_eq!((roots.len(), roots[0].part, roots[0].packs.len()), (1, Some(1), 1));
        assert_eq!(store.bytes_used().unwrap(), Usage::count(&store.layout).unwrap().bytes);
        assert!(store.tidy_parts(Duration::from_secs(3600), NOW.parse().unwrap()).unwrap().is_empty());
        // The whole finds the part's pack, and ends it.
        let own = crate::forge::claim(&whole.manifest);
        assert_eq!(store.to_fetch(&own.id, &whole.manifest.public).unwrap().len(), all - 1);
        let stored = take(&store, &whole, &whole.manifest, &own).unwrap();
        assert!(stored.order > accepted.order && store.parts().unwrap().is_empty());
        assert_eq!((store.roots().unwrap().len(), store.snapshots().unwrap().len()), (1, 1));
        assert_eq!(store.bytes_used().unwrap(), Usage::count(&store.layout).unwrap().bytes);
        assert_eq!(fs::read_dir(store.layout.all_incoming()).unwrap().count(), 0);
        // Too late.
        let (manifest, claim) = part(&whole, 2, 1..2);
        let error = take(&store, &whole, &manifest, &claim).unwrap_err();
        assert!(error.kind() == Kind::Refused && error.one_line().contains("no more parts"), "{}", error.one_line());
        store.clean_incoming(&[]).unwrap();
    }

    #[test]
    fn a_crash_after_the_whole_was_stored_leaves_parts_that_the_next_try_drops() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let whole = forged();
        let (manifest, claim) = part(&whole, 1, 0..1);
        take(&store, &whole, &manifest, &claim).unwrap();
        let kept = dir.path().join("kept");
        fs::rename(store.layout.snapshot(&claim.id), &kept).unwrap();
        let own = crate::forge::claim(&whole.manifest);
        take(&store, &whole, &whole.manifest, &own).unwrap();
        for again in [true, false] {
            fs::create_dir_all(store.layout.snapshot(&claim.id)).unwrap();
            for file in fs::read_dir(&kept).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), store.layout.snapshot(&claim.id).join(file.file_name())).unwrap();
            }
            Usage::invalidate(&store.layout).unwrap();
            if again {
                take(&store, &whole, &whole.manifest, &own).unwrap();
            } else {
                let over = store.tidy_parts(Duration::from_secs(1 << 40), NOW.parse().unwrap()).unwrap();
                assert_eq!(over, std::slice::from_ref(&claim.id));
            }
            assert!(store.parts().unwrap().is_empty());
            assert_eq!(store.bytes_used().unwrap(), Usage::count(&store.layout).unwrap().bytes);
        }
    }

    #[test]
    fn abandoned_parts_go_and_their_packs_wait_for_prune() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let whole = forged();
        let (manifest, claim) = part(&whole, 1, 0..1);
        take(&store, &whole, &manifest, &claim).unwrap();
        let day = Duration::from_secs(86_400);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(store.tidy_parts(30 * day, at("2026-12-20T04:00:00Z")).unwrap().is_empty());
        assert!(store.tidy_parts(30 * day, at("2026-10-20T04:00:00Z")).unwrap().is_empty(), "a clock that was set back");
        assert_eq!(store.tidy_parts(30 * day, at("2026-12-20T04:00:01Z")).unwrap(), std::slice::from_ref(&claim.id));
        assert!(store.roots().unwrap().is_empty() && store.has_pack(&manifest.public.packs[0].digest));
        assert_eq!(store.bytes_used().unwrap(), Usage::count(&store.layout).unwrap().bytes);
        // The same part can come again; nothing is fetched.
        assert!(store.to_fetch(&claim.id, &manifest.public).unwrap().is_empty());
        take(&store, &whole, &manifest, &claim).unwrap();
    }

    #[test]
    fn a_part_whose_manifest_says_another_number_is_refused() {
        let whole = forged();
        let (manifest, _) = part(&whole, 1, 0..1);
        let text = String::from_utf8_lossy(&manifest.to_bytes()).into_owned();
        let line = text.lines().next().unwrap();
        for (from, to) in [("\"part\":1", "\"part\":2"), ("\"part\":1,", ""), (".1\"", "\"")] {
            assert!(line.contains(from), "{line}");
            let bytes = [line.replacen(from, to, 1).as_bytes(), b"\n", &manifest.sealed].concat();
            assert!(Manifest::parse(&bytes).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn only_backups_of_which_nothing_came_for_long_are_abandoned(
            ages in prop::collection::vec((0u8..4, 1u16..100, 0i64..5_000_000), 0..40),
            ttl in 0u64..5_000_000,
        ) {
            let now: Timestamp = NOW.parse().unwrap();
            let parts: Vec<Part> = ages
                .iter()
                .map(|(whole, number, age)| Part {
                    id: format!("20261120T031500Z-{whole:08x}.{number}").parse().unwrap(),
                    received: now - jiff::SignedDuration::from_secs(*age),
                })
                .collect();
            let over = abandoned(&parts, Duration::from_secs(ttl), now);
            for part in &parts {
                let newest = parts.iter().filter(|other| other.id.whole() == part.id.whole()).map(|other| other.received).max().unwrap();
                let old = now.duration_since(newest).as_secs() > i64::try_from(ttl).unwrap();
                prop_assert_eq!(over.contains(&part.id), old);
            }
        }
    }
}
