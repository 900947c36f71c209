//! What a search finds in several snapshots, and what it does not read twice.

use super::*;
use crate::forge::{Forge, Forged, folder, link};
use base::Silent;

fn sample(note: &'static [u8]) -> Forged {
    let mut forge = Forge::new();
    let mut entries: Vec<Entry> = ["", "a/", "a/b/"].iter().map(|path| folder(path)).collect();
    for path in ["a/b/Notes.txt", "a/one.txt", "top.txt", "a/b/big.bin"] {
        let content: &[u8] = if path == "a/one.txt" { note } else { &[7; 5000][..if path.ends_with("bin") { 5000 } else { 10 }] };
        entries.push(forge.file(path, &[content]));
    }
    entries.push(link("z", "top.txt"));
    forge.finish(entries)
}

fn search(query: &Query, snapshots: &[Forged]) -> (Vec<String>, u64, Vec<String>) {
    let mut search = Search::new(query, &Silent);
    for (number, snapshot) in (0..).zip(snapshots) {
        search.add(number, &snapshot.reader()).unwrap();
    }
    let read = search.segments_read();
    let (found, problems) = search.finish();
    let shown = |one: &Found| format!("{} {:?}", String::from_utf8_lossy(&one.version.path), one.runs);
    (found.iter().map(shown).collect(), read, problems)
}

fn query(patterns: &[&str], ignore_case: bool) -> Query {
    Query::new(&patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>(), ignore_case).unwrap()
}

#[test]
fn versions_are_told_apart() {
    let snapshots = [sample(b"x"), sample(b"x"), sample(b"other"), sample(b"x")];
    let (found, read, _) = search(&query(&["*.txt"], false), &snapshots);
    assert_eq!(found, ["a/b/Notes.txt [(0, 3)]", "a/one.txt [(0, 1), (3, 3)]", "a/one.txt [(2, 2)]", "top.txt [(0, 3)]"]);
    // The same catalogs are read once.
    let once = search(&query(&["*.txt"], false), &snapshots[..1]).1;
    assert!(read <= once * 2, "{read} {once}");
}

#[test]
fn patterns_and_the_rest_of_the_question() {
    let snapshots = [sample(b"x")];
    let names =
        |query: &Query| search(query, &snapshots).0.into_iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    for (patterns, ignore_case, expected) in [
        (&["notes.*"][..], false, &[][..]),
        (&["notes.*"], true, &["a/b/Notes.txt"]),
        (&["b"], false, &["a/b/"]),
        (&["a/*"], false, &["a/b/", "a/one.txt"]),
        (&["a/**"], false, &["a/b/", "a/b/Notes.txt", "a/b/big.bin", "a/one.txt"]),
        (&["/top.txt", "z"], false, &["top.txt", "z"]),
    ] {
        assert_eq!(names(&query(patterns, ignore_case)), expected, "{patterns:?}");
    }
    let all = || query(&["*"], false);
    assert_eq!(names(&Query { least: Some(5000), ..all() }), ["a/b/big.bin"]);
    assert_eq!(names(&Query { most: Some(1), ..all() }), ["a/one.txt"]);
    assert_eq!(names(&Query { kinds: vec!["link".into(), "dir".into()], ..all() }), ["a/", "a/b/", "z"]);
    let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    assert_eq!(names(&Query { newer: time("2030-01-01T00:00:00Z"), ..all() }), Vec::<String>::new());
    assert_eq!(names(&Query { older: time("2030-01-01T00:00:00Z"), ..all() }).len(), 7);
    assert!(Query::new(&["[".into()], false).is_err());
}

#[test]
fn snapshots_are_called_what_the_caller_calls_them() {
    let (query, snapshots) = (query(&["one.txt"], false), [sample(b"x"), sample(b"x"), sample(b"x")]);
    let mut search = Search::new(&query, &Silent);
    for (number, snapshot) in [2, 3, 7].into_iter().zip(&snapshots) {
        search.add(number, &snapshot.reader()).unwrap();
    }
    let (found, _) = search.finish();
    assert_eq!(found.iter().map(|one| one.runs.clone()).collect::<Vec<_>>(), [[(2, 3), (7, 7)]]);
}

/// Twelve links in a catalog of four levels, each segment of two lines in a pack of its own: the six of the entries first.
fn deep() -> (Forged, Vec<String>) {
    let mut forge = Forge::new();
    (forge.segment_lines, forge.frame_size, forge.pack_frames) = (2, 1, 1);
    let paths: Vec<String> = (10..22).map(|n| format!("l{n}")).collect();
    let forged = forge.finish(paths.iter().map(|path| link(path, "x")).collect());
    (forged, paths)
}

#[test]
fn damage_is_told_once_and_the_rest_is_found() {
    let packs = deep().0.names().len();
    assert_eq!(packs, 6 + 3 + 2 + 1);
    for (lost, missing) in [(0, 0..2), (2, 4..6), (3, 6..8), (5, 10..12), (7, 4..8), (10, 8..12)] {
        let (forged, mut paths) = deep();
        let name = forged.names()[lost];
        forged.packs.packs.lock().unwrap().remove(&name);
        let (found, _, problems) = search(&query(&["*"], false), &[forged]);
        paths.drain(missing);
        assert_eq!(found, paths.iter().map(|path| format!("{path} [(0, 0)]")).collect::<Vec<_>>(), "without {lost}");
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
    // Nor is it told again of the next snapshot that has it.
    let snapshots = [deep().0, deep().0];
    for snapshot in &snapshots {
        let name = snapshot.names()[2];
        snapshot.packs.packs.lock().unwrap().remove(&name);
    }
    let (found, read, problems) = search(&query(&["*"], false), &snapshots);
    assert_eq!((found.len(), read, problems.len()), (10, 12, 1), "{problems:?}");
}

#[test]
fn a_segment_in_two_places_is_no_way_to_search_for_ever() {
    let mut forge = Forge::new();
    let leaf = format!("{}\n", link("a", "x").to_line().unwrap());
    let mut below = forge.segment(leaf.as_bytes());
    for level in 0..12 {
        // Each line of a segment names the same one below, and says that it begins elsewhere.
        let child = |first: &str| crate::catalog::Child { first: first.into(), at: below.0, id: below.1 };
        let names: Vec<String> = std::iter::once("a".to_owned()).chain((0..20).map(|n| format!("b{level:02}{n:02}"))).collect();
        let text: String = names.iter().map(|first| format!("{}\n", child(first).to_line().unwrap())).collect();
        below = forge.segment(text.as_bytes());
    }
    let root = crate::manifest::Root { at: below.0, id: below.1, level: 12 };
    let forged = forge.finish_with(root, crate::manifest::Counts { entries: 1, files: 0, bytes: 0, unreadable: 0 });
    let (found, read, problems) = search(&query(&["*"], false), &[forged]);
    assert_eq!((found, read), (vec!["a [(0, 0)]".to_owned()], 13));
    assert!(!problems.is_empty());
}
