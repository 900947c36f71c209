//! Packs of somebody who knows the recipients: of the right size, encrypted to the epoch, and other than the client's in one frame.

use super::*;
use crate::pack::{FrameTable, TAIL, find_table};
use crate::verify::{Known, ProvenPacks, VerifySpec, verify};
use base::Blake3;
use std::ops::Range;

/// A pack's plaintext, and where in it its frames and the digests of its table are.
struct Opened<'a> {
    plain: &'a mut Vec<u8>,
    frames: Vec<Range<usize>>,
    digests: Vec<Range<usize>>,
}

impl<'a> Opened<'a> {
    fn new(plain: &'a mut Vec<u8>) -> Self {
        let place = find_table(plain[plain.len() - TAIL..].try_into().unwrap(), plain.len() as u64).unwrap();
        let start = usize::try_from(place.start).unwrap();
        let table = FrameTable::parse(&plain[start..usize::try_from(place.end).unwrap()]).unwrap();
        let at = |offset: u64, length: u32| usize::try_from(offset).unwrap()..usize::try_from(offset).unwrap() + length as usize;
        let frames: Vec<_> = table.frames().iter().map(|frame| at(frame.offset, frame.compressed)).collect();
        let digests = (0..frames.len()).map(|n| start + 48 * n + 16..start + 48 * (n + 1)).collect();
        Self { plain, frames, digests }
    }

    /// Another content for a frame: what does not compress stands in it as it is.
    fn fabricate(&mut self, n: usize) {
        let middle = self.frames[n].start + self.frames[n].len() / 2;
        self.plain[middle] ^= 1;
    }

    fn exchange(&mut self, a: usize, b: usize) {
        let (a, b) = (self.frames[a].clone(), self.frames[b].clone());
        assert_eq!(a.len(), b.len());
        let kept = self.plain[a.clone()].to_vec();
        self.plain.copy_within(b.clone(), a.start);
        self.plain[b].copy_from_slice(&kept);
    }

    /// Lets the table say what is there.
    fn tell(&mut self) {
        for (frame, digest) in self.frames.iter().zip(&self.digests) {
            let found = Blake3::of(&self.plain[frame.clone()]);
            self.plain[digest.clone()].copy_from_slice(&found.0);
        }
    }
}

type Forgery = fn(&mut Opened<'_>);

/// What is done to a pack of four files, what is told, and which of the files are lost of it.
const CASES: &[(&str, Forgery, &str, &[&str])] = &[
    ("a frame of the forger's", |pack| pack.fabricate(1), "is not the one that its table names", &["1"]),
    ("two frames exchanged", |pack| pack.exchange(1, 2), "is not the one that its table names", &["1", "2"]),
    (
        "a frame in the place of another",
        |pack| {
            let (from, to) = (pack.frames[3].clone(), pack.frames[0].start);
            pack.plain.copy_within(from, to);
        },
        "is not the one that its table names",
        &["0"],
    ),
    (
        "a frame of the forger's, and the table says so",
        |pack| {
            pack.fabricate(1);
            pack.tell();
        },
        "its frame table is not the one that the manifest names",
        &["0", "1", "2", "3"],
    ),
    (
        "two frames exchanged, and the table says so",
        |pack| {
            pack.exchange(1, 2);
            pack.tell();
        },
        "its frame table is not the one that the manifest names",
        &["0", "1", "2", "3"],
    ),
    (
        "something between the frames and the table",
        |pack| {
            let behind = pack.frames[3].end + 20;
            pack.plain[behind] = 1;
        },
        "",
        &[],
    ),
];

#[test]
fn one_frame_that_is_not_the_clients_is_named() {
    let mut forge = Forge::new();
    forge.frame_size = 1;
    let mut entries = vec![folder("")];
    for n in 0..8u8 {
        let mut noise = vec![0; 3000];
        blake3::Hasher::new().update(&[n]).finalize_xof().fill(&mut noise);
        entries.push(forge.file(&n.to_string(), &[&noise]));
    }
    let forged = forge.finish(entries);
    let name = forged.names()[0];
    let genuine = forged.packs.packs.lock().unwrap().clone();
    for (what, forgery, told, lost) in CASES {
        forged.packs.packs.lock().unwrap().clone_from(&genuine);
        forged.forge(&name, |plain| forgery(&mut Opened::new(plain)));
        let dir = tempfile::tempdir().unwrap();
        let report = restore(&forged, dir.path()).unwrap();
        let missing: Vec<String> = (0..8).map(|n| n.to_string()).filter(|n| !dir.path().join(n).exists()).collect();
        assert_eq!(missing, *lost, "{what}: {:?}", report.problems);
        let named = |problem: &String| problem.contains(&name.hex()) && problem.contains(told);
        assert_eq!(report.problems.iter().any(named), !lost.is_empty(), "{what}: {:?}", report.problems);
        // Verifying finds the pack itself to be another one, also where no file needs what is wrong in it.
        let packs = Arc::new(ProvenPacks::new(forged.packs.clone()));
        let reader = SnapshotReader::open(forged.manifest.clone(), &forged.identities, Arc::clone(&packs) as Arc<dyn PackSource>).unwrap();
        let spec = VerifySpec { packs: Some(&packs), drawn: None, known: &mut Known::default(), monitor: &Silent };
        let verified = verify(&reader, spec).unwrap();
        assert!(verified.problems.iter().any(|problem| problem.contains(&name.hex())), "{what}: {:?}", verified.problems);
        // Without a look at the ciphertext the frame is found too.
        let verified = crate::verify::verify_all(&forged.reader(), &Silent).unwrap();
        assert_eq!(verified.damaged, *lost, "{what}: {:?}", verified.problems);
    }
}
