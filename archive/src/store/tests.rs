//! The store's rules: the decision alone, the steps and what a crash between them leaves, and hostile surroundings.

use super::accept::Files;
use super::*;
use crate::PackSource;
use crate::forge::{Forge, Forged, claim, folder};
use crate::manifest::Manifest;
use base::{Kind, Payload, Sha256, Silent};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn forged(tag: &str) -> Forged {
    let mut forge = Forge::new();
    let mut entries = vec![folder("")];
    for n in 0..8 {
        let content = format!("{tag} {n} {}", "x".repeat(3000));
        entries.push(forge.file(&format!("f{n}"), &[content.as_bytes()]));
    }
    forge.finish(entries)
}

/// The same manifest under another id, with the claim that goes with it.
fn renamed(forged: &Forged, id: &str) -> (Manifest, Claim) {
    let bytes = String::from_utf8_lossy(&forged.manifest.to_bytes()).into_owned();
    let line = bytes.lines().next().unwrap().replace(crate::forge::ID, id);
    let manifest = Manifest::parse(&[line.as_bytes(), b"\n", &forged.manifest.sealed].concat()).unwrap();
    let claim = claim(&manifest);
    (manifest, claim)
}

fn fetch(store: &Store, forged: &Forged, id: &RequestId) {
    for pack in store.to_fetch(id, &forged.manifest.public).unwrap() {
        let mut writer = store.begin_pack(id, &pack).unwrap();
        let bytes = forged.packs.packs.lock().unwrap()[&pack.digest].clone();
        for part in bytes.chunks(1000) {
            writer.write_all(part).unwrap();
        }
        writer.finish().unwrap();
    }
}

fn time(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-11-20T04:00:00Z";
const LATER: &str = "2026-11-21T04:00:00Z";
const STATS: Stats = Stats { bytes_fetched: 10, seconds: 1, bytes_elsewhere: 0 };

fn take(store: &Store, forged: &Forged) -> Result<Accepted> {
    let claim = claim(&forged.manifest);
    fetch(store, forged, &claim.id);
    store.accept(&claim, Content::Manifest(&forged.manifest), time(NOW), &Quota::default(), STATS)
}

/// What must hold at every moment: I1, I2, I7.
fn check_invariants(store: &Store) {
    let mut bytes = 0;
    for pack in fs::read_dir(store.path().join("packs")).into_iter().flatten() {
        let pack = pack.unwrap();
        let content = fs::read(pack.path()).unwrap();
        assert_eq!(Blake3::of(&content).hex(), pack.file_name().to_str().unwrap());
        assert_eq!(pack.metadata().unwrap().mode() & 0o7777, 0o640);
        bytes += content.len() as u64;
    }
    for snapshot in store.snapshots().unwrap() {
        let stored = store.snapshot(&snapshot.id).unwrap();
        if let StoredContent::Manifest(manifest) = &stored.content {
            assert!(store.missing(&Manifest::parse(manifest).unwrap().public).is_empty());
        }
        for file in fs::read_dir(&snapshot.path).unwrap() {
            bytes += file.unwrap().metadata().unwrap().len();
        }
    }
    assert_eq!(store.bytes_used().unwrap(), bytes);
}

#[test]
fn a_snapshot_is_kept_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("web1")).unwrap();
    assert!(store.snapshots().unwrap().is_empty() && store.bytes_used().unwrap() == 0);
    assert!(Store::open_existing(store.path()).is_err());
    let forged = forged("a");
    let accepted = take(&store, &forged).unwrap();
    check_invariants(&store);
    assert_eq!((accepted.order, accepted.received, accepted.packs), (1, time(NOW), forged.manifest.public.packs.len() as u64));
    assert_eq!(accepted.bytes_stored + accepted.to_toml().unwrap().len() as u64, store.bytes_used().unwrap());
    // Another process, which only reads.
    let reading = Store::open_existing(store.path()).unwrap();
    let listed = reading.snapshots().unwrap();
    assert_eq!(listed.iter().map(|s| s.accepted.clone()).collect::<Vec<_>>(), std::slice::from_ref(&accepted));
    let stored = reading.snapshot(&accepted.id).unwrap();
    assert_eq!(stored.content, StoredContent::Manifest(forged.manifest.to_bytes()));
    assert_eq!(stored.proof, claim(&forged.manifest).proof);
    let reader = crate::snapshot::SnapshotReader::open(forged.manifest.clone(), &forged.identities, reading.packs()).unwrap();
    assert_eq!(crate::verify::verify_all(&reader, &Silent).unwrap().problems, Vec::<String>::new());
    // A group may read all of it, and nothing is left of the fetch.
    for name in ["packs", "snapshots", "incoming", &format!("snapshots/{}", accepted.id)] {
        assert_eq!(store.path().join(name).metadata().unwrap().mode() & 0o7777, 0o750, "{name}");
    }
    for file in fs::read_dir(&listed[0].path).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().mode() & 0o7777, 0o640);
    }
    assert_eq!(fs::read_dir(store.path().join("incoming")).unwrap().count(), 0);
}

#[test]
fn the_first_accepted_wins_and_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = forged("a");
    let accepted = take(&store, &first).unwrap();
    let used = store.bytes_used().unwrap();
    // The same request again, in a commit that was built anew: the same answer, with the first time.
    let mut again = claim(&first.manifest);
    again.proof.commit = b"another commit".to_vec();
    let quota = Quota { limit: Some(1), elsewhere: 0 };
    assert_eq!(store.accept(&again, Content::Manifest(&first.manifest), time(LATER), &quota, STATS).unwrap(), accepted);
    // Another request under the same id.
    let other = forged("b");
    let mut reused = claim(&other.manifest);
    reused.proof.request = b"another request".to_vec();
    fetch(&store, &other, &reused.id);
    let error = store.accept(&reused, Content::Manifest(&other.manifest), time(LATER), &Quota::default(), STATS).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert_eq!(store.bytes_used().unwrap(), used);
    store.clean_incoming(&[]).unwrap();
    check_invariants(&store);
    // The next one has the next place; its packs are there already.
    let (manifest, next) = renamed(&first, "20261121T031500Z-00000001");
    assert!(store.to_fetch(&next.id, &manifest.public).unwrap().is_empty());
    let second = store.accept(&next, Content::Manifest(&manifest), time(LATER), &Quota::default(), STATS).unwrap();
    assert_eq!(second.order, 2);
    assert!(second.bytes_stored < 5000, "{}", second.bytes_stored);
    assert_eq!(store.snapshots().unwrap().iter().map(|s| s.order).collect::<Vec<_>>(), [1, 2]);
    check_invariants(&store);
}

#[test]
fn refs_are_kept_and_nothing_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let forged = forged("a");
    let refs = b"HEAD refs/heads/main\n".as_slice();
    let mut git = claim(&forged.manifest);
    git.dataset = "git:/srv/a.git".parse().unwrap();
    git.payload = Payload::Refs(Sha256::of(b"other"));
    let accept = |claim: &Claim, content: Content<'_>| {
        store.accept(claim, content, time(NOW), &Quota::default(), Stats { bytes_elsewhere: 7, ..STATS })
    };
    assert_eq!(accept(&git, Content::Refs(refs)).unwrap_err().kind(), Kind::Refused);
    git.payload = Payload::Refs(Sha256::of(refs));
    assert_eq!(accept(&git, Content::Manifest(&forged.manifest)).unwrap_err().kind(), Kind::Refused);
    assert_eq!(accept(&git, Content::Nothing).unwrap_err().kind(), Kind::Refused);
    assert!(store.snapshots().unwrap().is_empty());
    let accepted = accept(&git, Content::Refs(refs)).unwrap();
    assert!(accepted.bytes_stored > 7 + refs.len() as u64);
    assert_eq!(store.snapshot(&git.id).unwrap().content, StoredContent::Refs(refs.to_vec()));
    let mut dummy = git.clone();
    dummy.id = "20261121T031500Z-00000001".parse().unwrap();
    dummy.payload = Payload::Nothing;
    accept(&dummy, Content::Nothing).unwrap();
    assert_eq!(store.snapshots().unwrap().len(), 1);
    check_invariants(&store);
}

#[test]
fn the_decision() {
    let forged = forged("a");
    let good = claim(&forged.manifest);
    let public = &forged.manifest.public;
    let digest = forged.manifest.digest;
    let here: Vec<PackFacts> = public.packs.iter().map(|pack| PackFacts::Incoming(pack.size)).collect();
    let total: u64 = public.packs.iter().map(|pack| pack.size).sum();
    let decide = |claim: &Claim, content: ContentFacts<'_>, known: Known, packs: &[PackFacts], used: u64, limit: Option<u64>| {
        check_accept(&AcceptFacts {
            claim,
            content,
            known,
            whole_known: false,
            packs,
            small: 100,
            used,
            quota: Quota { limit, elsewhere: 50 },
        })
    };
    let manifest = ContentFacts::Manifest(digest, public);
    let accepted = |verdict: &AcceptVerdict| matches!(verdict, AcceptVerdict::Accept { .. });
    let refused = |verdict: &AcceptVerdict| matches!(verdict, AcceptVerdict::Refuse(_));
    let all = AcceptVerdict::Accept { take: public.packs.iter().map(|pack| pack.digest).collect(), bytes: total + 100 };
    assert_eq!(decide(&good, manifest, Known::No, &here, 0, None), all);
    assert_eq!(decide(&good, manifest, Known::Same, &[], 0, Some(0)), AcceptVerdict::Repeat);
    assert!(refused(&decide(&good, manifest, Known::Other, &here, 0, None)));
    // Quota: to the byte, with what is elsewhere.
    assert!(accepted(&decide(&good, manifest, Known::No, &here, 1000, Some(total + 100 + 1000 + 50))));
    assert!(refused(&decide(&good, manifest, Known::No, &here, 1001, Some(total + 100 + 1000 + 50))));
    assert!(refused(&decide(&good, manifest, Known::No, &here, u64::MAX, Some(u64::MAX - 1))));
    // Places.
    let mut places = here.clone();
    places[0] = PackFacts::Stored(public.packs[0].size);
    assert_eq!(
        decide(&good, manifest, Known::No, &places, 0, None),
        AcceptVerdict::Accept {
            take: public.packs[1..].iter().map(|pack| pack.digest).collect(),
            bytes: total - public.packs[0].size + 100
        }
    );
    places[0] = PackFacts::Incoming(1);
    assert!(refused(&decide(&good, manifest, Known::No, &places, 0, None)));
    // What has another length than it had is as good as gone, so that it comes again.
    for lost in [PackFacts::Absent, PackFacts::Stored(1)] {
        places[0] = lost;
        assert_eq!(decide(&good, manifest, Known::No, &places, 0, None), AcceptVerdict::Missing(vec![public.packs[0].digest]));
    }
    assert!(refused(&decide(&good, manifest, Known::No, &here[1..], 0, None)));
    let mut twice = public.clone();
    twice.packs[1] = twice.packs[0];
    let places: Vec<PackFacts> = twice.packs.iter().map(|pack| PackFacts::Incoming(pack.size)).collect();
    assert!(refused(&decide(&good, ContentFacts::Manifest(digest, &twice), Known::No, &places, 0, None)));
    // Equalities: each one alone.
    type Change = fn(&mut Claim);
    let changes: [Change; 6] = [
        |c| c.id = "20261121T031500Z-00000001".parse().unwrap(),
        |c| c.client = "web2".parse().unwrap(),
        |c| c.node = "node2".parse().unwrap(),
        |c| c.dataset = "files:/var/ww".parse().unwrap(),
        |c| c.payload = Payload::Manifest(Blake3::of(b"x")),
        |c| c.payload = Payload::Nothing,
    ];
    for change in changes {
        let mut other = good.clone();
        change(&mut other);
        assert!(refused(&decide(&other, manifest, Known::No, &here, 0, None)));
    }
    assert!(refused(&decide(&good, ContentFacts::Nothing, Known::No, &[], 0, None)));
    assert!(refused(&decide(&good, ContentFacts::Refs(Sha256::of(b"")), Known::No, &[], 0, None)));
}

#[test]
fn a_pack_of_another_length_is_fetched_again_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let forged = forged("a");
    take(&store, &forged).unwrap();
    let digest = forged.names()[0];
    fs::write(store.layout.pack(&digest), b"cut").unwrap();
    usage::Usage::invalidate(&store.layout).unwrap();
    let (manifest, next) = renamed(&forged, "20261121T031500Z-00000001");
    assert_eq!(store.to_fetch(&next.id, &manifest.public).unwrap().iter().map(|pack| pack.digest).collect::<Vec<_>>(), [digest]);
    let accept = || store.accept(&next, Content::Manifest(&manifest), time(NOW), &Quota::default(), STATS);
    assert_eq!(accept().unwrap_err().kind(), Kind::NotNow);
    fetch(&store, &forged, &next.id);
    accept().unwrap();
    assert!(store.missing(&manifest.public).is_empty());
    check_invariants(&store);
}

#[test]
fn quota_is_asked_before_and_after_fetching() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let forged = forged("a");
    let total: u64 = forged.manifest.public.packs.iter().map(|pack| pack.size).sum();
    let quota = |limit| Quota { limit: Some(limit), elsewhere: 0 };
    assert_eq!(store.check_quota(&forged.manifest.public, &quota(total - 1)).unwrap_err().kind(), Kind::Refused);
    store.check_quota(&forged.manifest.public, &quota(total)).unwrap();
    let claim = claim(&forged.manifest);
    fetch(&store, &forged, &claim.id);
    // The small files count as well.
    let error = store.accept(&claim, Content::Manifest(&forged.manifest), time(NOW), &quota(total), STATS).unwrap_err();
    assert!(error.kind() == Kind::Refused && error.one_line().contains("over quota"), "{error:?}");
    assert!(store.snapshots().unwrap().is_empty() && !store.has_pack(&forged.names()[0]));
    store.accept(&claim, Content::Manifest(&forged.manifest), time(NOW), &quota(total + 20_000), STATS).unwrap();
    // What is there already costs nothing.
    store.check_quota(&forged.manifest.public, &quota(total + 20_000)).unwrap();
    check_invariants(&store);
}

#[test]
fn packs_that_are_not_what_they_should_be() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let forged = forged("a");
    let claim = claim(&forged.manifest);
    let pack = forged.manifest.public.packs[0];
    let bytes = forged.packs.packs.lock().unwrap()[&pack.digest].clone();
    let mut flipped = bytes.clone();
    flipped[100] ^= 1;
    for (what, sent, finishes) in
        [("right", &bytes[..], true), ("short", &bytes[1..], false), ("flipped", &flipped, false), ("nothing", b"", false)]
    {
        let mut writer = store.begin_pack(&claim.id, &pack).unwrap();
        writer.write_all(sent).unwrap();
        let outcome = writer.finish();
        assert_eq!(outcome.is_ok(), finishes, "{what}");
        assert!(finishes || outcome.unwrap_err().kind() == Kind::Refused);
        store.discard_incoming(&claim.id).unwrap();
    }
    let mut writer = store.begin_pack(&claim.id, &pack).unwrap();
    writer.write_all(&bytes).unwrap();
    assert!(writer.write_all(b"x").is_err());
    drop(writer);
    // A restart: other bytes under a right name, a link, a folder. They are fetched again, and never moved in.
    let name = store.incoming(&claim.id).join(pack.digest.hex());
    let outside = dir.path().join("outside");
    fs::write(&outside, &bytes).unwrap();
    type Plant<'a> = &'a dyn Fn();
    let plants: [Plant<'_>; 3] =
        [&|| fs::write(&name, &flipped).unwrap(), &|| symlink(&outside, &name).unwrap(), &|| fs::create_dir_all(name.join("x")).unwrap()];
    for plant in plants {
        store.discard_incoming(&claim.id).unwrap();
        fetch(&store, &forged, &claim.id);
        fs::remove_file(&name).unwrap();
        plant();
        let restarted = Store::open(dir.path()).unwrap();
        assert_eq!(
            restarted.accept(&claim, Content::Manifest(&forged.manifest), time(NOW), &Quota::default(), STATS).unwrap_err().kind(),
            Kind::NotNow
        );
        assert_eq!(restarted.to_fetch(&claim.id, &forged.manifest.public).unwrap(), [pack]);
        assert!(!restarted.has_pack(&pack.digest));
    }
    assert_eq!(fs::read(&outside).unwrap(), bytes);
    // A folder of a fetch that is a link leads nowhere.
    store.discard_incoming(&claim.id).unwrap();
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    symlink(dir.path().join("elsewhere"), store.incoming(&claim.id)).unwrap();
    assert_eq!(store.begin_pack(&claim.id, &pack).unwrap_err().kind(), Kind::Refused);
    store.clean_incoming(std::slice::from_ref(&claim.id)).unwrap();
    store.clean_incoming(&[]).unwrap();
    assert!(dir.path().join("elsewhere").exists());
    fetch(&store, &forged, &claim.id);
    let restarted = Store::open(dir.path()).unwrap();
    restarted.accept(&claim, Content::Manifest(&forged.manifest), time(NOW), &Quota::default(), STATS).unwrap();
    check_invariants(&store);
}

#[test]
fn a_crash_between_any_two_steps() {
    for steps in 0..=6 {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        take(&store, &forged("before")).unwrap();
        let forged = forged("now");
        let (manifest, claim) = renamed(&forged, "20261121T031500Z-00000001");
        let kept = claim.id.clone();
        fetch(&store, &forged, &kept);
        let note = take_note(&store, &claim, &manifest);
        let names: Vec<Blake3> = manifest.public.packs.iter().map(|pack| pack.digest).collect();
        let files = Files::new(&claim, Content::Manifest(&manifest)).unwrap();
        let (first, rest) = names.split_at(1);
        let mut published = false;
        for step in 0..steps {
            match step {
                0 => store.prepare(&kept, &files, &note[..10]).unwrap(),
                1 => store.prepare(&kept, &files, &note).unwrap(),
                2 => usage::Usage::invalidate(&store.layout).unwrap(),
                3 => store.take_packs(&kept, first).unwrap(),
                4 => store.take_packs(&kept, rest).unwrap(),
                _ => {
                    store.publish(&kept).unwrap();
                    published = true;
                }
            }
            check_invariants(&Store::open(dir.path()).unwrap());
        }
        let restarted = Store::open(dir.path()).unwrap();
        assert_eq!(restarted.snapshots().unwrap().len(), if published { 2 } else { 1 });
        assert!(restarted.to_fetch(&kept, &manifest.public).unwrap().is_empty());
        let accepted = restarted.accept(&claim, Content::Manifest(&manifest), time(LATER), &Quota::default(), STATS).unwrap();
        assert_eq!((accepted.order, accepted.received), (2, time(if published { NOW } else { LATER })), "{steps}");
        check_invariants(&restarted);
        assert_eq!(fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
    }
}

/// The note as accept would write it.
fn take_note(store: &Store, claim: &Claim, manifest: &Manifest) -> Vec<u8> {
    let mut note = Accepted::of(claim, time(NOW), 2);
    (note.bytes_fetched, note.bytes_stored, note.seconds, note.packs) = (1, 1, 1, 1);
    note.bytes = manifest.public.counts.bytes;
    assert_eq!(usage::Usage::get(&store.layout).unwrap().order, 1);
    note.to_toml().unwrap()
}

#[test]
fn what_is_held_is_counted_when_nobody_knows() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    take(&store, &forged("a")).unwrap();
    let used = store.bytes_used().unwrap();
    let usage = dir.path().join("usage.toml");
    assert!(usage.exists());
    for bad in ["", "version = 2\nbytes = 1\norder = 9\n", "version = 1\nbytes = -1\norder = 9\n"] {
        fs::write(&usage, bad).unwrap();
        assert_eq!(store.bytes_used().unwrap(), used);
    }
    fs::remove_file(&usage).unwrap();
    assert_eq!(store.bytes_used().unwrap(), used);
    assert!(!usage.exists(), "asking writes nothing");
    // A snapshot that cannot be listed: those who decide hear of it, those who look see the others.
    let id: RequestId = crate::forge::ID.parse().unwrap();
    let broken = store.layout.snapshot(&"20261121T031500Z-00000001".parse().unwrap());
    fs::create_dir(&broken).unwrap();
    assert!(store.snapshots().is_err() && store.bytes_used().is_err());
    assert_eq!(store.readable_snapshots(&Silent).unwrap().iter().map(|s| s.id.clone()).collect::<Vec<_>>(), std::slice::from_ref(&id));
    fs::write(broken.join("accepted.toml"), store.accepted(&id).unwrap().unwrap().to_toml().unwrap()).unwrap();
    assert!(store.snapshots().unwrap_err().one_line().contains("its note belongs to"));
}

#[test]
fn readers_need_no_right_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let forged = forged("a");
    take(&store, &forged).unwrap();
    let tree = |path: &Path| -> BTreeMap<_, _> {
        fs::read_dir(path).unwrap().map(|e| e.unwrap()).map(|e| (e.file_name(), e.metadata().unwrap().mtime_nsec())).collect()
    };
    fs::remove_file(dir.path().join("store.lock")).unwrap();
    let before = tree(dir.path());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let reading = Store::open_existing(dir.path()).unwrap();
    assert_eq!(reading.snapshots().unwrap().len(), 1);
    reading.snapshot(&forged.manifest.public.id).unwrap();
    reading.packs().pack(&forged.names()[0]).unwrap();
    assert_eq!(tree(dir.path()), before);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Missing packs are named; set aside or not.
    let lost = forged.names()[0];
    fs::create_dir(dir.path().join("damaged")).unwrap();
    fs::rename(dir.path().join("packs").join(lost.hex()), dir.path().join("damaged").join(lost.hex())).unwrap();
    assert!(reading.packs().pack(&lost).err().unwrap().one_line().contains("damaged and set aside"));
    assert_eq!(reading.missing(&forged.manifest.public), [forged.manifest.public.packs[0]]);
    fs::remove_dir_all(dir.path().join("damaged")).unwrap();
    assert!(reading.packs().pack(&lost).err().unwrap().one_line().contains(&lost.hex()));
}

#[test]
fn one_accepts_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let forged = forged("a");
    let store = Store::open(dir.path()).unwrap();
    take(&store, &forged).unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let forged = &forged;
            let path = dir.path();
            scope.spawn(move || {
                let store = Store::open(path).unwrap();
                let (manifest, claim) = renamed(forged, &format!("20261121T031500Z-0000000{n}"));
                store.accept(&claim, Content::Manifest(&manifest), time(LATER), &Quota::default(), STATS).unwrap();
            });
        }
    });
    assert_eq!(store.snapshots().unwrap().iter().map(|s| s.order).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    check_invariants(&store);
}

proptest! {
    #[test]
    fn accepted_only_within_quota_and_with_every_pack(places in prop::collection::vec(0u8..4, 1..6), used: u32, limit: Option<u32>, small in 0u64..1000) {
        let forged = forged("p");
        let good = claim(&forged.manifest);
        let mut public = forged.manifest.public.clone();
        public.packs = (0..places.len()).map(|n| PackRef { digest: Blake3::of(&[u8::try_from(n).unwrap()]), size: n as u64 + 10 }).collect();
        let packs: Vec<PackFacts> = public.packs.iter().zip(&places).map(|(pack, place)| match place {
            0 => PackFacts::Stored(pack.size),
            1 => PackFacts::Absent,
            _ => PackFacts::Incoming(pack.size),
        }).collect();
        let quota = Quota { limit: limit.map(u64::from), elsewhere: 5 };
        let verdict = check_accept(&AcceptFacts { claim: &good, content: ContentFacts::Manifest(forged.manifest.digest, &public), known: Known::No, whole_known: false, packs: &packs, small, used: used.into(), quota });
        let new: u64 = small + packs.iter().map(|p| if let PackFacts::Incoming(n) = p { *n } else { 0 }).sum::<u64>();
        match verdict {
            AcceptVerdict::Accept { bytes, take } => {
                prop_assert!(!packs.contains(&PackFacts::Absent));
                prop_assert_eq!(bytes, new);
                prop_assert_eq!(take.len(), packs.iter().filter(|p| matches!(p, PackFacts::Incoming(_))).count());
                prop_assert!(quota.limit.is_none_or(|limit| u64::from(used) + 5 + new <= limit));
            }
            AcceptVerdict::Missing(missing) => prop_assert_eq!(missing.len(), packs.iter().filter(|p| **p == PackFacts::Absent).count()),
            AcceptVerdict::Refuse(_) => prop_assert!(quota.limit.is_some_and(|limit| u64::from(used) + 5 + new > limit)),
            AcceptVerdict::Repeat => prop_assert!(false),
        }
    }
}
