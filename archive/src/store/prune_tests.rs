//! Pruning on real stores: what goes, what a crash between any two steps leaves, and what others do meanwhile.

use super::*;
use crate::forge::{Forge, claim, folder as entry_folder};
use crate::manifest::{Counts, Manifest, PackRef, Public};
use crate::store::{Content, Quota, Released, Stats, StoredContent};
use proptest::prelude::*;
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

const DAY: i64 = 86_400;
const DATASET: &str = "files:/var/www";

/// A manifest that all others are made from: only the public part is looked at here.
fn pattern() -> &'static Manifest {
    static ONE: OnceLock<Manifest> = OnceLock::new();
    ONE.get_or_init(|| {
        let mut forge = Forge::new();
        let entries = vec![entry_folder(""), forge.file("a", &[b"content"])];
        forge.finish(entries).manifest
    })
}

fn id(n: usize) -> RequestId {
    format!("20261120T031500Z-{n:08x}").parse().unwrap()
}

fn pack(n: u16) -> Vec<u8> {
    [&n.to_be_bytes()[..], &vec![b'x'; 1000]].concat()
}

/// A manifest that names these packs and counts so many bytes.
fn manifest(n: usize, dataset: &str, packs: &[u16], bytes: u64) -> Manifest {
    let base = pattern();
    let refs = packs.iter().map(|n| PackRef { digest: Blake3::of(&pack(*n)), size: 1002 }).collect();
    let counts = Counts { entries: 1, files: 1, bytes, unreadable: 0 };
    let public = Public { id: id(n), dataset: dataset.parse().unwrap(), packs: refs, counts, ..base.public.clone() };
    let line = serde_json::to_vec(&public).unwrap();
    Manifest::parse(&[&line[..], b"\n", &base.sealed].concat()).unwrap()
}

/// Puts one into the store, received `day` days after the epoch of this test.
fn put(store: &Store, n: usize, dataset: &str, packs: &[u16], day: i64, bytes: u64) -> RequestId {
    let manifest = manifest(n, dataset, packs, bytes);
    let claim = claim(&manifest);
    for wanted in store.to_fetch(&claim.id, &manifest.public).unwrap() {
        let number = packs.iter().find(|n| Blake3::of(&pack(**n)) == wanted.digest).unwrap();
        let mut writer = store.begin_pack(&claim.id, &wanted).unwrap();
        writer.write_all(&pack(*number)).unwrap();
        writer.finish().unwrap();
    }
    match store.accept(&claim, Content::Manifest(&manifest), day_at(day), &Quota::default(), Stats::default()) {
        Ok(_) => claim.id,
        // Pruned between asking and accepting: as the poller does, it is fetched again.
        Err(error) if error.kind() == base::Kind::NotNow => put(store, n, dataset, packs, day, bytes),
        Err(error) => panic!("{error:?}"),
    }
}

/// Noon of a day. Long after the packs' files were made, so that these are old.
fn day_at(day: i64) -> Timestamp {
    Timestamp::from_second(4_000_000_000 / DAY * DAY + day * DAY + DAY / 2).unwrap()
}

fn keep(text: &str) -> impl Fn(&Dataset) -> Policy {
    let keep: base::Keep = text.parse().unwrap();
    move |_| Policy { keep: Some(keep.clone()), ..Policy::default() }
}

fn rules<'a>(policy: &'a dyn Fn(&Dataset) -> Policy, day: i64, grace_days: u64) -> PruneRules<'a> {
    PruneRules {
        policy,
        by: By::Policy,
        only: None,
        now: day_at(day),
        zone: TimeZone::UTC,
        grace: Duration::from_secs(grace_days * DAY.unsigned_abs()),
        monitor: &base::Silent,
    }
}

fn ids(store: &Store) -> Vec<RequestId> {
    store.snapshots().unwrap().into_iter().map(|snapshot| snapshot.accepted.id).collect()
}

fn packs(store: &Store) -> Vec<u16> {
    let there: Vec<Blake3> = pack_files(&store.layout.packs()).unwrap().into_keys().collect();
    (0..200).filter(|n| there.contains(&Blake3::of(&pack(*n)))).collect()
}

/// Every snapshot has all its packs, every pack is what its name says, and the usage is right.
fn check_whole(store: &Store) {
    for snapshot in store.snapshots().unwrap() {
        let StoredContent::Manifest(manifest) = store.snapshot(&snapshot.id).unwrap().content else { continue };
        assert_eq!(store.missing(&Manifest::parse(&manifest).unwrap().public), [], "{}", snapshot.id);
    }
    for pack in fs::read_dir(store.layout.packs()).unwrap() {
        let pack = pack.unwrap();
        assert_eq!(Blake3::of(&fs::read(pack.path()).unwrap()).hex(), pack.file_name().to_str().unwrap());
    }
    assert_eq!(store.bytes_used().unwrap(), Usage::count(&store.layout).unwrap().bytes);
}

fn ten_days(store: &Store) {
    // Each has a pack of its own, one that the next has too, and one that all have.
    for n in 0..10u16 {
        put(store, n.into(), DATASET, &[100, n, n + 1], n.into(), 5000);
    }
}

#[test]
fn condemned_first_and_gone_after_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    ten_days(&store);
    let keep_three = keep("daily=3");
    let plan = store.prune_plan(&rules(&keep_three, 9, 3)).unwrap();
    assert_eq!(plan.snapshots.iter().filter(|planned| planned.change == Some(Change::Condemned)).count(), 7);
    // 0 to 6 go, and 7 is still needed by the eighth; each but the first shares its packs with both neighbours.
    assert_eq!((plan.frees, plan.snapshots[0].own_bytes, plan.snapshots[1].own_bytes), (7 * 1002, 1002, 0));
    assert_eq!(plan.snapshots[0].goes, Some(day_at(12)));
    assert!(plan.is_news() && ids(&store).len() == 10);
    store.prune_mark(&plan, &rules(&keep_three, 9, 3), "commit").unwrap();
    let marks = store.marks(&id(0)).unwrap().condemned.unwrap();
    assert_eq!((marks.since, marks.by, marks.plan.as_str()), (day_at(9), By::Policy, "commit"));
    assert_eq!(store.prune_carry_out(&rules(&keep_three, 9, 3)).unwrap(), Pruned::default());
    assert!(!store.prune_plan(&rules(&keep_three, 9, 3)).unwrap().is_news());
    check_whole(&store);
    // A day before the end nothing goes. Then a held one is spared at once, and one that a changed policy keeps as well.
    assert_eq!(store.prune(&rules(&keep_three, 11, 3)).unwrap(), Pruned::default());
    store.hold(&id(0), Some("court case"), day_at(11)).unwrap();
    assert!(store.marks(&id(0)).unwrap().condemned.is_none());
    let keep_more = keep("within=6d");
    let plan = store.prune_plan(&rules(&keep_more, 11, 3)).unwrap();
    let spared: Vec<_> =
        plan.snapshots.iter().filter(|one| one.change == Some(Change::Spared)).map(|one| one.snapshot.id.clone()).collect();
    assert_eq!(spared, [id(5), id(6), id(7), id(8)]);
    store.prune_mark(&plan, &rules(&keep_more, 11, 3), "another").unwrap();
    let pruned = store.prune_carry_out(&rules(&keep_more, 12, 3)).unwrap();
    assert_eq!(pruned.snapshots.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), [id(1), id(2), id(3), id(4)]);
    assert!(pruned.snapshots.iter().all(|(id, note)| note.as_ref().is_some_and(|note| note.id == *id)));
    assert_eq!((pruned.packs, pruned.bytes), (3, 3 * 1002));
    assert_eq!(packs(&store), [0, 1, 5, 6, 7, 8, 9, 10, 100]);
    check_whole(&store);
    // It is told again until it was written down.
    assert_eq!(store.prune_carry_out(&rules(&keep_more, 12, 3)).unwrap().snapshots.len(), 4);
    store.empty_trash().unwrap();
    assert_eq!(store.prune_carry_out(&rules(&keep_more, 12, 3)).unwrap(), Pruned::default());
    // Held until a person lets go.
    assert_eq!(store.unhold(&id(0)).unwrap(), Released { held: true, pinned: false });
    assert!(store.unhold(&id(0)).is_err() && store.unhold(&id(77)).is_err() && store.hold(&id(77), None, day_at(1)).is_err());
    store.prune(&rules(&keep_three, 12, 0)).unwrap();
    assert_eq!(ids(&store), [id(9)]);
    assert_eq!(packs(&store), [9, 10, 100]);
    check_whole(&store);
    // The order goes on where it was.
    put(&store, 20, DATASET, &[20], 12, 5000);
    assert_eq!(store.snapshots().unwrap().last().unwrap().order, 11);
}

#[test]
fn a_crash_between_any_two_steps() {
    let keep_three = keep("daily=3");
    for stop in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        ten_days(&store);
        fs::create_dir(store.layout.all_damaged()).unwrap();
        fs::write(store.layout.damaged(&Blake3::of(b"gone")), b"gone").unwrap();
        let now = rules(&keep_three, 9, 0);
        store.prune_mark(&store.prune_plan(&now).unwrap(), &now, "plan").unwrap();
        let (moves, _) = store.moves(&now).unwrap();
        assert_eq!(moves.len(), 1 + 7 + 1 + 7 + 1 + 1);
        for step in moves.iter().take(stop) {
            store.carry_out(step).unwrap();
            check_whole(&Store::open(dir.path()).unwrap());
        }
        // The next run goes on, and what was taken is told.
        let again = Store::open(dir.path()).unwrap();
        put(&again, 50, DATASET, &[100, 3], 9, 5000);
        check_whole(&again);
        let pruned = again.prune_carry_out(&now).unwrap();
        assert_eq!(pruned.snapshots.len(), 7, "stopped after {stop} steps");
        again.empty_trash().unwrap();
        assert_eq!(ids(&again), [id(7), id(8), id(9), id(50)]);
        assert_eq!(packs(&again), [3, 7, 8, 9, 10, 100]);
        assert!(!again.layout.damaged(&Blake3::of(b"gone")).exists());
        check_whole(&again);
        if stop > moves.len() {
            break;
        }
    }
}

#[test]
fn no_pack_goes_while_a_root_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    ten_days(&store);
    let broken = store.layout.snapshot(&id(9)).join("manifest");
    let bytes = fs::read(&broken).unwrap();
    let all = packs(&store);
    let keep_three = keep("daily=3");
    for damage in ["removed", "cut off", "flipped"] {
        match damage {
            "removed" => fs::remove_file(&broken).unwrap(),
            "cut off" => fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap(),
            _ => {
                let mut flipped = bytes.clone();
                flipped[200] ^= 1;
                fs::write(&broken, flipped).unwrap();
            }
        }
        let plan = store.prune_plan(&rules(&keep_three, 9, 0)).unwrap();
        assert!(plan.unreadable.len() == 1 && plan.unreadable[0].contains(id(9).as_str()), "{:?}", plan.unreadable);
        // It is damaged, so the newest whole one may not go either.
        let reasons = |n: usize| plan.snapshots.iter().find(|one| one.snapshot.id == id(n)).unwrap().reasons.clone();
        assert!(reasons(9).contains(&Reason::Newest) && reasons(8).contains(&Reason::NewestUndamaged), "{damage}");
        let pruned = store.prune(&rules(&keep_three, 9, 0)).unwrap();
        assert!(pruned.packs == 0 && pruned.unreadable == plan.unreadable);
        assert_eq!(packs(&store), all);
    }
    // It is well again; a part of a backup that is under way is a root like any other.
    fs::write(&broken, &bytes).unwrap();
    assert_eq!(store.prune(&rules(&keep_three, 9, 0)).unwrap().packs, 7);
    check_whole(&store);
    // Without its note a snapshot is in no list: then nothing is decided at all.
    fs::remove_file(store.layout.snapshot(&id(8)).join("accepted.toml")).unwrap();
    assert!(store.prune(&rules(&keep_three, 20, 0)).is_err());
    assert!(store.layout.snapshot(&id(7)).exists());
}

#[test]
fn marks_that_cannot_be_read_stop_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    ten_days(&store);
    let keep_one = keep("last=1");
    for (name, text) in [("held.toml", ""), ("held.toml", "version = 2\n"), ("pinned.toml", "version = 1\n"), ("condemned.toml", "\0")] {
        let path = store.layout.snapshot(&id(2)).join(name);
        fs::write(&path, text).unwrap();
        let error = store.prune(&rules(&keep_one, 9, 0)).unwrap_err().one_line();
        assert!(error.contains(name) && error.contains(id(2).as_str()), "{error}");
        assert_eq!(ids(&store).len(), 10);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_much_smaller_one_pins_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put(&store, 0, DATASET, &[0], 0, 10 << 20);
    put(&store, 1, DATASET, &[1], 1, 10 << 20);
    put(&store, 2, DATASET, &[2], 2, 1 << 20);
    put(&store, 3, DATASET, &[3], 3, 10 << 20);
    let keep_one = keep("last=1");
    let plan = store.prune_plan(&rules(&keep_one, 3, 0)).unwrap();
    assert_eq!(plan.pins, [(id(1), id(2))]);
    store.prune(&rules(&keep_one, 3, 0)).unwrap();
    // The smaller one is gone; the pin is not.
    assert_eq!(ids(&store), [id(1), id(3)]);
    store.prune(&rules(&keep_one, 90, 0)).unwrap();
    assert_eq!(ids(&store), [id(1), id(3)]);
    assert_eq!(store.unhold(&id(1)).unwrap(), Released { held: false, pinned: true });
    // A person has looked: another small one does not pin it again.
    put(&store, 4, DATASET, &[4], 91, 10);
    let plan = store.prune_plan(&rules(&keep_one, 91, 0)).unwrap();
    assert_eq!(plan.pins, [(id(3), id(4))]);
    store.prune(&rules(&keep_one, 91, 0)).unwrap();
    assert_eq!(ids(&store), [id(3), id(4)]);
}

#[test]
fn each_root_and_each_step_is_told() {
    #[derive(Default)]
    struct Told(std::sync::atomic::AtomicU64);
    impl base::Monitor for Told {
        fn entries(&self, entries: u64) {
            self.0.fetch_add(entries, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    ten_days(&store);
    let keep_three = keep("daily=3");
    let told = Told::default();
    let rules = PruneRules { monitor: &told, ..rules(&keep_three, 9, 0) };
    let plan = store.prune_plan(&rules).unwrap();
    assert_eq!(told.0.swap(0, std::sync::atomic::Ordering::Relaxed), 10);
    store.prune_mark(&plan, &rules, "commit").unwrap();
    let pruned = store.prune_carry_out(&rules).unwrap();
    // Read once more under the lock; then seven snapshots and their packs, and three steps around them.
    assert_eq!((pruned.snapshots.len(), pruned.packs), (7, 7));
    assert_eq!(told.0.into_inner(), 10 + 7 + 7 + 3);
}

#[test]
fn what_a_command_gives_up_stays_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    ten_days(&store);
    put(&store, 70, "files:/other", &[70], 0, 5000);
    put(&store, 71, "files:/other", &[71], 9, 5000);
    let (everything, two, four) = (|_: &Dataset| Policy::default(), keep("last=2"), keep("last=4"));
    let dataset = DATASET.parse().unwrap();
    let by_hand = |policy, day| PruneRules { by: By::Command, only: Some(&dataset), ..rules(policy, day, 3) };
    store.prune(&by_hand(&two, 9)).unwrap();
    assert_eq!(store.marks(&id(0)).unwrap().condemned.unwrap().by, By::Command);
    assert!(store.marks(&id(70)).unwrap().condemned.is_none());
    // The policy in force keeps everything, and does not bring it back; other rules by hand do, and a hold.
    assert!(!store.prune_plan(&rules(&everything, 10, 3)).unwrap().is_news());
    store.prune(&by_hand(&four, 10)).unwrap();
    store.hold(&id(0), None, day_at(10)).unwrap();
    let pruned = store.prune(&rules(&everything, 12, 3)).unwrap();
    assert_eq!(pruned.snapshots.len(), 5);
    assert_eq!(ids(&store).len(), 10 + 2 - 5);
    check_whole(&store);
}

#[test]
fn forgetting_is_the_only_way_to_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    ten_days(&store);
    put(&store, 70, "files:/other", &[70, 100], 0, 5000);
    let everything = |_: &Dataset| Policy { floor: Some("daily=9".parse().unwrap()), ..Policy::default() };
    let dataset: Dataset = DATASET.parse().unwrap();
    store.hold(&id(4), None, day_at(9)).unwrap();
    assert_eq!(store.forget(&dataset, "deed", day_at(9)).unwrap_err().kind(), base::Kind::Refused);
    assert!(store.marks(&id(0)).unwrap().condemned.is_none());
    store.unhold(&id(4)).unwrap();
    assert_eq!(store.forget(&dataset, "deed", day_at(9)).unwrap().len(), 10);
    assert_eq!(store.forget(&"files:/x".parse().unwrap(), "deed", day_at(9)).unwrap_err().kind(), base::Kind::Usage);
    // Within the grace it can be taken back.
    store.prune(&rules(&everything, 11, 3)).unwrap();
    assert_eq!(ids(&store).len(), 11);
    assert_eq!(store.remember(&dataset).unwrap().len(), 10);
    assert!(store.prune(&rules(&everything, 20, 3)).unwrap().snapshots.is_empty());
    store.forget(&dataset, "deed", day_at(20)).unwrap();
    // What comes afterwards is not forgotten.
    put(&store, 80, DATASET, &[80], 22, 5000);
    let pruned = store.prune(&rules(&everything, 23, 3)).unwrap();
    assert_eq!((pruned.snapshots.len(), ids(&store)), (10, vec![id(70), id(80)]));
    assert_eq!(packs(&store), [70, 80, 100]);
    check_whole(&store);
}

#[test]
fn young_packs_and_other_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    ten_days(&store);
    let keep_three = keep("daily=3");
    let young = store.layout.pack(&Blake3::of(&pack(2)));
    let file = fs::File::options().write(true).open(&young).unwrap();
    file.set_modified(std::time::SystemTime::from(day_at(11))).unwrap();
    fs::write(store.layout.packs().join("README"), b"").unwrap();
    store.prune(&rules(&keep_three, 9, 3)).unwrap();
    assert_eq!(store.prune(&rules(&keep_three, 12, 3)).unwrap().packs, 6);
    assert!(young.exists() && store.layout.packs().join("README").exists());
    assert_eq!(store.prune(&rules(&keep_three, 14, 3)).unwrap().packs, 1);
    // A store that is not there is not made.
    let none = Store::open(&dir.path().join("none")).unwrap();
    assert_eq!(none.prune(&rules(&keep_three, 14, 3)).unwrap(), Pruned::default());
    assert!(!none.path().exists());
    fs::remove_file(store.layout.packs().join("README")).unwrap();
    check_whole(&store);
}

#[test]
fn accepting_while_pruning() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    ten_days(&store);
    let keep_three = keep("last=3");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let accepting: Vec<_> = (0..3usize)
            .map(|thread| {
                let path = dir.path();
                scope.spawn(move || {
                    let store = Store::open(path).unwrap();
                    // They use packs that others need, that nobody needs any more, and that come anew.
                    for n in 0..25usize {
                        let some = u16::try_from(n * 7 % 11).unwrap();
                        put(&store, 1000 + thread * 100 + n, DATASET, &[100, some, 11 + some], 9, 5000);
                    }
                })
            })
            .collect();
        let pruning = scope.spawn(|| {
            let store = Store::open(dir.path()).unwrap();
            let mut taken = 0;
            while !done.load(Ordering::SeqCst) {
                taken += store.prune(&rules(&keep_three, 9, 0)).unwrap().snapshots.len();
            }
            taken
        });
        for thread in accepting {
            thread.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        assert!(pruning.join().unwrap() > 10);
    });
    check_whole(&store);
    store.prune(&rules(&keep_three, 9, 0)).unwrap();
    assert_eq!(ids(&store).len(), 3);
    check_whole(&store);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any snapshots of two datasets under any rules, cut off anywhere, again and again: what the plan keeps stays whole.
    #[test]
    fn whatever_is_kept_stays_whole(
        made in prop::collection::vec((any::<bool>(), prop::collection::btree_set(0u16..12, 1..4), 0i64..3), 1..10),
        rule in prop::sample::select(vec!["last=1", "daily=2", "weekly=1", "within=3d", "4D:1D,U:1W"]),
        grace in 0u64..3,
        cuts in prop::collection::vec(0usize..14, 1..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut day = 0;
        for (n, (other, packs, gap)) in made.into_iter().enumerate() {
            day += gap;
            put(&store, n, if other { "files:/other" } else { DATASET }, &packs.into_iter().collect::<Vec<_>>(), day, 5000);
        }
        let policy = keep(rule);
        for cut in cuts {
            let now = rules(&policy, day, grace);
            let plan = store.prune_plan(&now).unwrap();
            store.prune_mark(&plan, &now, "plan").unwrap();
            let (moves, _) = store.moves(&now).unwrap();
            for step in moves.iter().take(cut) {
                store.carry_out(step).unwrap();
            }
            let store = Store::open(dir.path()).unwrap();
            check_whole(&store);
            let left = ids(&store);
            for planned in plan.snapshots.iter().filter(|planned| !planned.reasons.is_empty()) {
                prop_assert!(left.contains(&planned.snapshot.id));
            }
            day += 1;
        }
        let keeps: Vec<RequestId> = ids(&store);
        prop_assert!(!keeps.is_empty());
    }
}
