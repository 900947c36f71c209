//! Holes and zeros, and very long lists.

use super::*;
use crate::entry::{Hole, Holes, Sparse};

#[test]
fn zeros_stay_what_they_were_and_very_long_lists_are_followed() {
    let mut forge = Forge::new();
    forge.frame_size = 300_000;
    let zeros = forge.chunk(&vec![0; 256 << 10]);
    let ends = forge.chunk(b"end");
    let mut content = vec![0; 100 * (256 << 10)];
    content.extend(b"end");
    // A swap file must not become one with holes.
    let tail = forge.file_at("tail", References::of(std::iter::repeat_n(zeros, 100).chain([ends])), &content);
    // A list that stands in chunks of its own, cut anywhere.
    let text = References::of((0..50).flat_map(|_| [ends, zeros])).to_string();
    let pieces: Vec<Member> = text.as_bytes().chunks(37).map(|piece| forge.chunk(piece)).collect();
    let whole: Vec<u8> = (0..50).flat_map(|_| [&b"end"[..], &vec![0; 256 << 10]].concat()).collect();
    let mut long = forge.file_at("long", References::of(pieces), &whole);
    let mut wrong = forge.file_at("wrong", References::of([ends]), b"x");
    for entry in [&mut long, &mut wrong] {
        if let EntryKind::File { content, .. } = &mut entry.kind {
            let Content::Chunks(list) = content.clone() else { unreachable!() };
            *content = Content::More(list);
        }
    }
    let forged = forge.finish(vec![folder(""), tail, long, wrong]);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    let report = restore(&forged, &target).unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(report.problems[0].contains("wrong was not restored"), "{report:?}");
    assert!(!target.join("wrong").exists());
    let meta = target.join("tail").metadata().unwrap();
    assert!(meta.blocks() * 512 >= meta.len(), "{}", meta.blocks());
    assert_eq!(fs::read(target.join("tail")).unwrap(), content);
    assert_eq!(fs::read(target.join("long")).unwrap(), whole);
}

/// A file of these bytes with holes between them.
fn sparse(mut entry: Entry, size: u64, holes: Holes) -> Entry {
    if let EntryKind::File { size: length, sparse, .. } = &mut entry.kind {
        *sparse = Some(Sparse { data: std::mem::replace(length, size), holes });
    }
    entry
}

#[test]
fn holes_come_back_and_wrong_ones_do_not() {
    let mut forge = Forge::new();
    let hole = |offset, length| Hole { offset, length };
    let big = 100 << 30;
    let chunks = [&[1; 4096][..], &[2; 5000]];
    let mut entries = vec![folder("")];
    entries.push(sparse(forge.file("big", &chunks), big, Holes::List(vec![hole(4096 + 96, big - 9096)])));
    entries.push(sparse(forge.file("ends", &chunks), 30_000, Holes::List(vec![hole(0, 10_000), hole(11_000, 10_904)])));
    entries.push(sparse(forge.file("void", &[]), big, Holes::List(vec![hole(0, big)])));
    let text: String = (0..500).map(|n| format!("{}+10", n * 20 + 10)).collect::<Vec<_>>().join(",");
    let pieces =
        |forge: &mut Forge, text: &str| References::of(text.as_bytes().chunks(37).map(|piece| forge.chunk(piece)).collect::<Vec<_>>());
    let list = pieces(&mut forge, &text);
    entries.push(sparse(forge.file("many", &[&[5; 3000], &[6; 2000]]), 10_000, Holes::More(list)));
    // Lists that say something else than size and data.
    for (name, text, size) in
        [("w1", "0+1", 10_001), ("w2", "9000+5", 9097), ("w3", "0+1,5+x", 9097), ("w4", "0+1,9050+100", 9198), ("w5", "5", 9097)]
    {
        let list = pieces(&mut forge, text);
        entries.push(sparse(forge.file(name, &chunks), size, Holes::More(list)));
    }
    let forged = forge.finish(entries.clone());
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    let report = restore(&forged, &target).unwrap();
    assert_eq!(report.problems.len(), 5, "{report:?}");
    for wrong in ["w1", "w2", "w3", "w4", "w5"] {
        assert!(!target.join(wrong).exists(), "{wrong}");
    }
    for (name, size) in [("big", big), ("ends", 30_000), ("void", big), ("many", 10_000)] {
        let meta = target.join(name).metadata().unwrap();
        assert!(meta.len() == size && meta.blocks() < 64, "{name}: {} {}", meta.len(), meta.blocks());
    }
    let ends = [&[0; 10_000][..], &[1; 1000], &[0; 10_904], &[1; 3096], &[2; 5000]].concat();
    assert_eq!(fs::read(target.join("ends")).unwrap(), ends);
    let many: Vec<u8> = (0..500).flat_map(|n| [[if n < 300 { 5 } else { 6 }; 10], [0; 10]]).flatten().collect();
    assert_eq!(fs::read(target.join("many")).unwrap(), many);
    // Read as a stream, holes are zeros; wrong lists are found by whoever verifies.
    let reader = forged.reader();
    for (name, expected) in [("ends", ends), ("many", many)] {
        let entry = reader.find(name.as_bytes()).unwrap().unwrap();
        let mut found = Vec::new();
        reader.read_file(&entry, &mut found).unwrap();
        assert_eq!(found, expected);
        reader.check_lists(&entry).unwrap();
        assert!(same::same_content(&reader, &entry, &fs::File::open(target.join(name)).unwrap()).unwrap());
        // Zeros instead of holes are the same content; anything else is not.
        fs::write(dir.path().join("copy"), &expected).unwrap();
        let copy = fs::File::options().read(true).write(true).open(dir.path().join("copy")).unwrap();
        assert!(same::same_content(&reader, &entry, &copy).unwrap());
        std::os::unix::fs::FileExt::write_all_at(&copy, b"x", expected.len() as u64 - 15).unwrap();
        assert!(!same::same_content(&reader, &entry, &copy).unwrap());
    }
    for wrong in ["w1", "w2", "w3", "w4", "w5"] {
        let entry = reader.find(wrong.as_bytes()).unwrap().unwrap();
        assert!(reader.check_lists(&entry).is_err(), "{wrong}");
        assert!(reader.read_file(&entry, &mut std::io::sink()).is_err(), "{wrong}");
    }
}
