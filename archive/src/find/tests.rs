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
    for snapshot in snapshots {
        search.add(&snapshot.reader()).unwrap();
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
fn damage_is_told_once_and_the_rest_is_found() {
    let snapshots = [sample(b"x"), sample(b"x")];
    let lost = *snapshots[0].names().last().unwrap();
    snapshots[0].packs.packs.lock().unwrap().remove(&lost);
    let (_, _, problems) = search(&query(&["*"], false), &snapshots);
    assert_eq!(problems.len(), 1, "{problems:?}");
}
