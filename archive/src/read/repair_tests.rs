//! Repairs as honest clients send them, and as others might.

use crate::PackSource;
use crate::entry::{Content, EntryKind};
use crate::forge::{Forge, Forged, folder};
use crate::frame;
use crate::manifest::{Public, Repairs};
use crate::reference::{Member, RunId};
use crate::snapshot::SnapshotReader;
use crate::verify::{Known, ProvenPacks, VerifyReport, VerifySpec, verify};
use base::Silent;
use std::sync::Arc;

/// Four files of 3,000 bytes, each alone in its frame, in one pack.
const FILES: u8 = 4;

/// The snapshot, without its first pack; and what `repair` makes of the members that were in it, as the repair that is offered.
fn lost(repair: impl FnOnce(Vec<(Member, Vec<u8>)>) -> Vec<u8>) -> Forged {
    let mut forge = Forge::new();
    forge.frame_size = 1;
    let mut entries = vec![folder("")];
    let mut members = Vec::new();
    for n in 0..FILES {
        let entry = forge.file(&format!("file-{n}"), &[&[n; 3000]]);
        let EntryKind::File { content: Content::Chunks(list), .. } = &entry.kind else { panic!("{entry:?}") };
        members.push((list.members().next().unwrap(), vec![n; 3000]));
        entries.push(entry);
    }
    let bytes = repair(members);
    forge.add_pack(RunId(0xbeef), 0, &[(zstd::bulk::compress(&bytes, 3).unwrap(), bytes.len())]);
    let (pack, _) = (forge.refs.pop().unwrap(), forge.sealed.pop().unwrap());
    let forged = forge.finish(entries);
    let lost = forged.names()[0];
    forged.packs.packs.lock().unwrap().remove(&lost).unwrap();
    let claim =
        Public { packs: vec![pack], repairs: Some(Repairs { of: vec![lost], packs: vec![pack.digest] }), ..forged.manifest.public.clone() };
    forged.packs.repairs.lock().unwrap().push(claim);
    forged
}

fn frame(members: impl IntoIterator<Item = (Member, Vec<u8>)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, chunk) in members {
        frame::append(&mut bytes, at, &chunk).unwrap();
    }
    bytes
}

fn look(forged: &Forged) -> VerifyReport {
    let packs = Arc::new(ProvenPacks::new(forged.packs.clone()));
    let reader = SnapshotReader::open(forged.manifest.clone(), &forged.identities, Arc::clone(&packs) as Arc<dyn PackSource>).unwrap();
    verify(&reader, VerifySpec { packs: Some(&packs), drawn: None, known: &mut Known::default(), monitor: &Silent }).unwrap()
}

#[test]
fn what_was_brought_again_is_whole_in_any_order() {
    let forged = lost(|members| frame(members.into_iter().rev()));
    let report = look(&forged);
    assert_eq!((report.right, report.problems.len(), report.repaired), (FILES.into(), 0, vec![forged.names()[0]]), "{:?}", report.problems);
    // Without the repair it is lost.
    forged.packs.repairs.lock().unwrap().clear();
    let report = look(&forged);
    assert_eq!((report.right, report.damaged.len(), report.repaired.len()), (0, FILES.into(), 0));
}

#[test]
fn wrong_repairs_are_found_out_and_never_written() {
    let wrong = lost(|mut members| {
        members[2].1[17] ^= 1;
        frame(members)
    });
    let report = look(&wrong);
    assert_eq!((report.right, report.damaged.as_slice()), (3, ["file-2".to_owned()].as_slice()));
    assert!(
        report.problems.iter().any(|problem| problem.contains("file-2") && problem.contains("digest differs")),
        "{:?}",
        report.problems
    );
    let reader = wrong.reader();
    let entry = reader.find(b"file-2").unwrap().unwrap();
    assert!(reader.read_file(&entry, &mut Vec::new()).unwrap_err().one_line().contains("digest differs"));
    let dir = tempfile::tempdir().unwrap();
    let restored = crate::restore::restore_tree(
        &reader,
        crate::restore::RestoreSpec {
            target: &dir.path().join("back"),
            paths: Vec::new(),
            options: crate::restore::FileOptions::default(),
            monitor: &Silent,
        },
    );
    assert!(restored.unwrap().problems.iter().any(|problem| problem.contains("file-2")));
    assert!(!dir.path().join("back/file-2").exists() && dir.path().join("back/file-3").exists());
    // One that holds the bytes of another file under its name.
    let swapped = lost(|members| frame(members.iter().map(|(at, _)| (*at, members[0].1.clone()))));
    assert_eq!((look(&swapped).right, look(&swapped).damaged.len()), (1, 3));
}

#[test]
fn what_is_missing_or_no_repair_at_all_is_named() {
    let part = lost(|members| frame(members.into_iter().skip(1)));
    let report = look(&part);
    assert_eq!((report.right, report.damaged.as_slice()), (3, ["file-0".to_owned()].as_slice()));
    type Make = fn(Vec<(Member, Vec<u8>)>) -> Vec<u8>;
    let hostile: [Make; 4] = [
        |_| b"no tar at all".repeat(100),
        |members| frame(members.into_iter().map(|(at, chunk)| (Member { n: u32::MAX, ..at }, chunk))),
        |members| frame(members.into_iter().map(|(at, chunk)| (Member { run: RunId(1), ..at }, chunk))),
        |members| {
            let mut bytes = frame(members);
            bytes.truncate(5000);
            bytes
        },
    ];
    for make in hostile {
        assert_eq!(look(&lost(make)).damaged.len(), usize::from(FILES));
    }
    // A repair that is itself missing, or whose bytes are others.
    for damage in [true, false] {
        let forged = lost(frame);
        let name = forged.packs.repairs.lock().unwrap()[0].packs[0].digest;
        let mut packs = forged.packs.packs.lock().unwrap();
        if damage {
            packs.get_mut(&name).unwrap()[2000] ^= 1
        } else {
            drop(packs.remove(&name))
        }
        drop(packs);
        assert_eq!(look(&forged).damaged.len(), usize::from(FILES));
    }
}
