//! What verifying finds, what it does not read twice, and what a sample leaves out.

use super::*;
use crate::PackSource;
use crate::forge::{Forge, Forged, folder};
use base::Silent;
use std::sync::Arc;

/// Ten files of 3,000 bytes, each alone in its frame, four frames to a pack.
fn sample() -> Forged {
    let mut forge = Forge::new();
    forge.frame_size = 1;
    let mut entries = vec![folder("")];
    for n in 0..10u8 {
        entries.push(forge.file(&format!("file-{n}"), &[&[n; 3000]]));
    }
    forge.finish(entries)
}

fn proven(forged: &Forged) -> (Arc<ProvenPacks>, SnapshotReader) {
    let packs = Arc::new(ProvenPacks::new(forged.packs.clone()));
    let reader = SnapshotReader::open(forged.manifest.clone(), &forged.identities, Arc::clone(&packs) as Arc<dyn PackSource>).unwrap();
    (packs, reader)
}

fn run(packs: &ProvenPacks, reader: &SnapshotReader, drawn: Option<&HashSet<Blake3>>, known: &mut Known) -> VerifyReport {
    verify(reader, VerifySpec { packs: Some(packs), drawn, known, monitor: &Silent }).unwrap()
}

#[test]
fn every_pack_is_read_once_and_found_whole() {
    let forged = sample();
    let (packs, reader) = proven(&forged);
    let mut known = Known::default();
    let report = run(&packs, &reader, None, &mut known);
    assert_eq!((report.entries, report.files, report.right, report.bytes), (11, 10, 10, 30_000));
    assert_eq!(report.problems, Vec::<String>::new());
    let names = forged.names();
    assert_eq!(packs.proven().0, names.len() as u64);
    let reads = || forged.packs.reads.lock().unwrap().len();
    assert_eq!(reads(), names.len());
    // A second snapshot with the same files reads nothing of the data.
    let again = SnapshotReader::open(forged.manifest.clone(), &forged.identities, Arc::clone(&packs) as Arc<dyn PackSource>).unwrap();
    let report = run(&packs, &again, None, &mut known);
    assert_eq!((report.right, report.bytes, report.problems.len()), (10, 30_000, 0));
    assert!(packs.check(&forged.manifest.public.packs, &Silent).unwrap().is_empty());
    assert!(reads() <= names.len() + 1, "{}", reads());
}

#[test]
fn a_byte_that_no_file_needs_is_found_as_well() {
    let forged = sample();
    let name = forged.names()[0];
    // The last byte of the file belongs to the table's length.
    forged.damage(&name, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let (packs, reader) = proven(&forged);
    let report = run(&packs, &reader, None, &mut Known::default());
    assert!(report.problems.iter().any(|problem| problem.contains(&name.hex())), "{:?}", report.problems);
    assert_eq!(report.damaged, ["file-0", "file-1", "file-2", "file-3"]);
    assert_eq!(report.right, 6);
    let bad = packs.check(&forged.manifest.public.packs, &Silent).unwrap();
    assert_eq!(bad.len(), 1);
    assert_eq!(touched(&reader, &HashSet::from([name])).unwrap().damaged, report.damaged);
}

#[test]
fn missing_and_shortened_packs_are_named() {
    let forged = sample();
    let names = forged.names();
    forged.packs.packs.lock().unwrap().remove(&names[0]);
    forged.damage(&names[1], |bytes| bytes.truncate(100));
    let (packs, reader) = proven(&forged);
    let bad = packs.check(&forged.manifest.public.packs, &Silent).unwrap();
    assert_eq!(bad.iter().map(|(digest, _)| *digest).collect::<HashSet<_>>(), HashSet::from([names[0], names[1]]));
    assert!(bad.iter().any(|(_, why)| why.contains("is not in the store")) && bad.iter().any(|(_, why)| why.contains("100 bytes instead")));
    let report = run(&packs, &reader, None, &mut Known::default());
    assert_eq!((report.right, report.damaged.len()), (2, 8));
}

#[test]
fn a_sample_looks_into_its_packs_alone_and_sees_damage_there() {
    let forged = sample();
    let names = forged.names();
    let drawn = HashSet::from([names[1]]);
    forged.damage(&names[0], |bytes| bytes.truncate(100));
    let (packs, reader) = proven(&forged);
    let report = run(&packs, &reader, Some(&drawn), &mut Known::default());
    assert_eq!((report.files, report.right, report.problems.len()), (10, 4, 0));
    assert!(forged.packs.reads.lock().unwrap().iter().all(|(name, ..)| *name != names[0]));
    forged.damage(&names[1], |bytes| bytes[2000] ^= 1);
    let (packs, reader) = proven(&forged);
    let report = run(&packs, &reader, Some(&drawn), &mut Known::default());
    assert!(!report.problems.is_empty(), "{report:?}");
}
