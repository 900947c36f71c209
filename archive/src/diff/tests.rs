//! What a comparison finds, and what it does not read for that.

use super::*;
use crate::entry::{Content, FileDigest, Mtime};
use crate::epoch::Secrets;
use crate::forge::{Forge, Forged, entry, folder, link};
use crate::manifest::Counts;
use crate::reference::References;
use base::Silent;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn file(path: &str, size: u64, digest: u8) -> Entry {
    let content = Content::Chunks(References::default());
    let file = EntryKind::File { size: 0, content, digest: FileDigest([digest; 16]), sparse: None };
    let mut entry = entry(path, file);
    // What is told apart by size alone needs no content here.
    entry.mtime = Mtime { seconds: i64::try_from(size).unwrap(), nanos: 0 };
    entry
}

fn forged(entries: Vec<Entry>) -> Forged {
    Forge::new().finish(entries)
}

/// The changes as text, and what they cost.
fn compared(before: &Forged, after: &Forged, path: &str) -> (Vec<String>, Compared) {
    let mut told = Vec::new();
    let compared = compare(&before.reader(), &after.reader(), path.as_bytes(), &Silent, &mut |change| {
        told.push(match change {
            Change::Added(entry) => format!("+{}", entry.shown_path()),
            Change::Removed(entry) => format!("-{}", entry.shown_path()),
            Change::Changed(entry, _, aspects) => {
                format!("{} {}", entry.shown_path(), aspects.into_iter().map(Aspect::word).collect::<Vec<_>>().join(","))
            }
        });
        true
    });
    (told, compared.unwrap())
}

#[test]
fn each_aspect_is_named() {
    let before = || vec![folder(""), folder("d/"), file("d/same", 1, 1), file("gone", 1, 1), file("x", 1, 1), link("l", "a")];
    let mut after = before();
    after.retain(|entry| entry.path != b"gone");
    after.push(file("d/new", 1, 1));
    for entry in &mut after {
        match entry.path.as_slice() {
            b"x" => *entry = Entry { mode: 0o600, uid: 77, ..file("x", 2, 9) },
            b"l" => *entry = link("l", "b"),
            b"d/" => {
                entry.attributes = Some(Box::new(Attributes {
                    xattrs: Xattrs::Here([(b"user.a".to_vec(), b"1".to_vec())].into()),
                    ..Attributes::default()
                }))
            }
            _ => {}
        }
    }
    let (told, _) = compared(&forged(before()), &forged(after), "");
    assert_eq!(told, ["d/ attributes", "+d/new", "-gone", "l target", "x content,mode,owner,time"]);
    assert!(compared(&forged(before()), &forged(before()), "").0.is_empty());
}

#[test]
fn a_file_in_the_place_of_a_folder_is_removed_and_added() {
    let (told, _) = compared(&forged(vec![folder(""), folder("a/"), file("a/b", 1, 1)]), &forged(vec![folder(""), file("a", 1, 1)]), "a");
    assert_eq!(told, ["+a", "-a/", "-a/b"]);
}

#[test]
fn equal_segments_are_not_read() {
    let many = |changed: usize| -> Vec<Entry> {
        let entry = |n: usize| file(&format!("{n:05}"), u64::from(n == changed), 1);
        std::iter::once(folder("")).chain((0..3_000).map(entry)).collect()
    };
    let (before, after) = (forged(many(usize::MAX)), forged(many(1_777)));
    let (told, cost) = compared(&before, &after, "");
    assert_eq!(told, ["01777 time"]);
    // One path from the root to the leaf in each, of 700 segments; the siblings on the way are left out.
    assert!(cost.read <= 20 && cost.skipped > 10, "{cost:?}");
    let (told, cost) = compared(&before, &before, "");
    assert_eq!((told.len(), cost.read, cost.skipped), (0, 0, 1), "equal roots say it all");
    let (told, cost) = compared(&before, &after, "00333");
    assert!(told.is_empty() && cost.read <= 8, "{cost:?}");
}

#[test]
fn what_cannot_be_read_is_neither_added_nor_removed() {
    let entries = || -> Vec<Entry> { std::iter::once(folder("")).chain((0..200).map(|n| file(&format!("{n:03}"), 1, 1))).collect() };
    let before = forged(entries());
    let mut changed = entries();
    for entry in &mut changed {
        entry.mode = 0o600;
    }
    let after = forged(changed);
    // The packs of the catalog: one of them is not the first, which may hold the root.
    let lost = before.names()[0];
    before.packs.packs.lock().unwrap().remove(&lost);
    let (told, cost) = compared(&before, &after, "");
    // Each part that cannot be read is told by itself, and has five entries.
    assert!(!cost.problems.is_empty() && !told.is_empty(), "{} {cost:?}", told.len());
    assert_eq!(told.len() + 5 * cost.problems.len(), 201, "{cost:?}");
    assert!(told.iter().all(|line| line.ends_with(" mode")), "{told:?}");
}

#[test]
fn without_a_common_secret_size_and_time_decide() {
    let make = |secret: u8, size: u64| {
        let mut forge = Forge::new();
        forge.secrets = Secrets::from_bytes([secret; 32]);
        forge.finish(vec![folder(""), file("a", size, secret), file("b", 1, secret)])
    };
    assert_eq!(compared(&make(1, 5), &make(2, 6), "").0, ["a content,time"]);
}

#[test]
fn a_catalog_that_contradicts_itself_ends() {
    let mut forge = Forge::new();
    let lines = |paths: &[&str]| paths.iter().map(|path| format!("{}\n", folder(path).to_line().unwrap())).collect::<String>();
    let (first, again) = (forge.segment(lines(&["", "a/", "z/"]).as_bytes()), forge.segment(lines(&["b/", "c/"]).as_bytes()));
    let child = |first: &str, (at, id)| crate::catalog::Child { first: first.as_bytes().to_vec(), at, id };
    let children = [child("", first), child("b/", again), child("c/", again), child("d/", again)];
    let text: String = children.iter().map(|child| format!("{}\n", child.to_line().unwrap())).collect();
    let (at, id) = forge.segment(text.as_bytes());
    let bad = forge.finish_with(crate::manifest::Root { at, id, level: 1 }, Counts { entries: 5, files: 0, bytes: 0, unreadable: 0 });
    let good = forged(vec![folder("")]);
    for (before, after) in [(&bad, &good), (&good, &bad)] {
        assert!(!compared(before, after, "").1.problems.is_empty());
    }
}

fn tree() -> impl Strategy<Value = BTreeMap<String, (u64, u8)>> {
    prop::collection::btree_map("[ab]{1,3}|[ab]/[ab]{1,2}|[a-c]{4}", (0u64..3, 0u8..2), 0..60)
}

fn entries_of(tree: &BTreeMap<String, (u64, u8)>) -> Vec<Entry> {
    let below = |folder: &str| tree.keys().any(|path| path.starts_with(&format!("{folder}/")));
    let mut all = vec![folder("")];
    all.extend(["a", "b"].into_iter().filter(|name| below(name)).map(|name| folder(&format!("{name}/"))));
    all.extend(tree.iter().map(|(path, (size, digest))| file(path, *size, *digest)));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// However the segments are cut, what is told is what a plain comparison of all entries tells.
    #[test]
    fn it_tells_what_a_plain_comparison_tells(a in tree(), b in tree(), shared in tree(), lines in (2usize..9, 2usize..9)) {
        let with = |own: BTreeMap<String, (u64, u8)>| own.into_iter().chain(shared.clone()).collect::<BTreeMap<_, _>>();
        let (a, b) = (with(a), with(b));
        let make = |tree: &BTreeMap<String, (u64, u8)>, lines: usize| {
            let mut forge = Forge::new();
            forge.segment_lines = lines;
            forge.finish(entries_of(tree))
        };
        let by_path = |entries: Vec<Entry>| entries.into_iter().map(|entry| (entry.path.clone(), entry)).collect::<BTreeMap<_, _>>();
        let (old, new) = (by_path(entries_of(&a)), by_path(entries_of(&b)));
        let mut expected: Vec<(Vec<u8>, String)> = Vec::new();
        for (path, entry) in &old {
            let name = entry.shown_path();
            match new.get(path) {
                None => expected.push((path.clone(), format!("-{name}"))),
                Some(other) if other != entry => expected.push((path.clone(), name)),
                Some(_) => {}
            }
        }
        expected.extend(new.iter().filter(|(path, _)| !old.contains_key(*path)).map(|(path, entry)| (path.clone(), format!("+{}", entry.shown_path()))));
        expected.sort();
        let (told, cost) = compared(&make(&a, lines.0), &make(&b, lines.1), "");
        let told: Vec<String> = told.into_iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        prop_assert_eq!(told, expected.into_iter().map(|(_, line)| line).collect::<Vec<_>>());
        prop_assert!(cost.problems.is_empty());
        // And of a part the part.
        let whole = compared(&make(&a, lines.0), &make(&b, lines.1), "").0;
        let part = compared(&make(&a, lines.0), &make(&b, lines.1), "a").0;
        let inside = |line: &&String| { let path = line.trim_start_matches(['+', '-']).split(' ').next().unwrap(); path == "a" || path.starts_with("a/") };
        prop_assert_eq!(part.iter().collect::<Vec<_>>(), whole.iter().filter(inside).collect::<Vec<_>>());
    }
}
