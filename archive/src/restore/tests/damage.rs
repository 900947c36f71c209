//! Damaged packs, and catalogs that lie about contents.

use super::*;
use crate::manifest::Counts;

#[test]
fn damage_is_named_and_the_rest_is_restored() {
    let everything = {
        let (forge, entries) = sample();
        let dir = tempfile::tempdir().unwrap();
        restore(&forge.finish(entries), dir.path()).unwrap();
        listing(dir.path())
    };
    let (forge, entries) = sample();
    let forged = forge.finish(entries);
    let packs = forged.names();
    let originals = forged.packs.packs.lock().unwrap().clone();
    assert!(packs.len() >= 4, "{}", packs.len());
    for pack in &packs {
        let size = originals[pack].len();
        for what in ["delete", "truncate", "longer", "flip head", "flip frame", "flip end", "empty"] {
            *forged.packs.packs.lock().unwrap() = originals.clone();
            forged.damage(pack, |bytes| match what {
                "truncate" => bytes.truncate(size / 2),
                "longer" => bytes.push(0),
                "flip head" => bytes[30] ^= 1,
                "flip frame" => bytes[300] ^= 1,
                "flip end" => bytes[size - 1] ^= 1,
                "empty" => bytes.clear(),
                _ => {}
            });
            if what == "delete" {
                forged.packs.packs.lock().unwrap().remove(pack);
            }
            let dir = tempfile::tempdir().unwrap();
            let report = restore(&forged, dir.path()).unwrap();
            assert!(!report.problems.is_empty(), "{what} {pack}");
            let found = listing(dir.path());
            assert!(found.len() < everything.len(), "{what} {pack}");
            // A folder whose entry was in the damaged part is there with mode 0700; all else is right or absent.
            for (path, what_is_there) in &found {
                assert!(
                    everything.get(path) == Some(what_is_there) || what_is_there.starts_with("folder 700"),
                    "{what} {pack} {path:?} {what_is_there}"
                );
            }
            let named = report.problems.iter().all(|problem| {
                problem.contains(&pack.hex()) || problem.contains("has no entry") || problem.ends_with("for the same reason")
            });
            assert!(named, "{what} {:?}", report.problems);
            let lost = everything.keys().filter(|path| !found.contains_key(*path)).count();
            let verified = crate::verify::verify_all(&forged.reader(), &Silent).unwrap();
            assert!(!verified.problems.is_empty() && verified.problems.len() <= lost + 1, "{what} {:?}", verified.problems);
        }
    }
}

#[test]
fn content_that_is_not_what_was_backed_up_never_stands_there() {
    let mut forge = Forge::new();
    let at = forge.chunk(b"right");
    let other = forge.chunk(b"wrong");
    let nowhere = Member { run: RunId(9), frame: 0, n: 0 };
    let beyond = Member { n: 77, ..at };
    let zeros = Member { n: u32::MAX, ..at };
    let cases = [
        ("swapped", References::of([other]), &b"right"[..]),
        ("too-long", References::of([at, at]), b"right"),
        ("too-short", References::of([at]), b"rightright"),
        ("nowhere", References::of([nowhere]), b"right"),
        ("half-nowhere", References::of([at, nowhere]), b"rightright"),
        ("beyond", References::of([beyond]), b"right"),
        ("far-beyond", References::of([at, zeros]), b"rightright"),
        (
            "endless",
            References(vec![crate::reference::Item {
                run: at.run,
                frame: 0,
                extent: crate::reference::Extent::Repeat { n: 0, count: u64::MAX },
            }]),
            b"right",
        ),
        (
            "endless-range",
            References(vec![crate::reference::Item {
                run: at.run,
                frame: 0,
                extent: crate::reference::Extent::Range { first: 0, last: u32::MAX },
            }]),
            b"right",
        ),
    ];
    let mut entries = vec![folder("")];
    entries.extend(cases.iter().map(|(path, list, content)| forge.file_at(path, list.clone(), content)));
    entries.push(forge.file_at("good", References::of([at]), b"right"));
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&forged, dir.path()).unwrap();
    assert_eq!(report.problems.len(), cases.len(), "{:#?}", report.problems);
    assert_eq!(listing(dir.path()).len(), 1);
    for entry in forged.reader().entries().map(Result::unwrap).filter(|entry| !matches!(entry.path.as_slice(), b"" | b"good")) {
        assert!(forged.reader().read_file(&entry, &mut Vec::new()).is_err(), "{}", entry.shown_path());
    }
}

#[test]
fn a_line_that_does_not_fit_is_named_and_the_rest_is_restored() {
    let mut forge = Forge::new();
    let entries = [folder(""), forge.file("a", &[b"one"]), forge.file("b", &[b"two"]), forge.file("c", &[b"three"])];
    let mut lines: Vec<(Vec<u8>, String)> = entries.iter().map(|entry| (entry.path.clone(), entry.to_line().unwrap())).collect();
    lines[2].1 = lines[2].1.replace("\"mode\":\"", "\"mode\":\"9");
    let root = forge.catalog(lines);
    let forged = forge.finish_with(root, Counts { entries: 4, files: 3, bytes: 11, unreadable: 0 });
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&forged, dir.path()).unwrap();
    let (one, three) = (std::fs::read(dir.path().join("a")).unwrap(), std::fs::read(dir.path().join("c")).unwrap());
    assert_eq!((one.as_slice(), three.as_slice(), dir.path().join("b").exists()), (&b"one"[..], &b"three"[..], false));
    assert!(
        report.problems.iter().any(|line| line.contains("line 3 of the catalog's segment") && line.contains("behind \"a\"")),
        "{report:?}"
    );
    let verified = crate::verify::verify_all(&forged.reader(), &Silent).unwrap();
    assert!(verified.problems.iter().any(|line| line.contains("line 3 of the catalog's segment")), "{verified:?}");
}
