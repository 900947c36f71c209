//! What is read of the packs: each frame once, and of frames that nobody needs nothing.

use super::*;
use std::collections::{HashMap, HashSet};

/// Content that does not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// 64 files of 100,000 bytes, four to a frame and four frames to a pack, in folders of eight; a frame is much longer than
/// the ends of its pack, which are always read.
fn forged() -> Forged {
    let mut forge = Forge::new();
    forge.frame_size = 400_000;
    forge.segment_lines = 8;
    let mut entries = vec![folder("")];
    for n in 0..8 {
        entries.push(folder(&format!("d{n}/")));
        for m in 0..8 {
            entries.push(forge.file(&format!("d{n}/f{m}.txt"), &[&noise(n * 8 + m, 100_000)]));
        }
    }
    forge.finish(entries)
}

/// Reads that are longer than heads and ends are, and how many bytes they brought.
fn frame_reads(forged: &Forged) -> (usize, usize) {
    let reads = forged.packs.reads.lock().unwrap();
    let long: Vec<usize> = reads.iter().map(|(_, _, n)| *n).filter(|n| *n > 70_000).collect();
    (long.len(), long.iter().sum())
}

fn fresh_reads(forged: &Forged) {
    forged.packs.reads.lock().unwrap().clear();
}

/// No byte of a frame is read twice: what overlaps are the 64 KiB pieces that two frames share.
fn nothing_twice(forged: &Forged) {
    let mut by_pack: HashMap<base::Blake3, Vec<(u64, usize)>> = HashMap::new();
    for (pack, offset, n) in forged.packs.reads.lock().unwrap().iter().filter(|(_, _, n)| *n > 70_000) {
        by_pack.entry(*pack).or_default().push((*offset, *n));
    }
    for reads in by_pack.values_mut() {
        reads.sort_unstable();
        for two in reads.windows(2) {
            assert!(two[0].0 + two[0].1 as u64 <= two[1].0 + (64 << 10) + 16, "{reads:?}");
        }
    }
}

#[test]
fn every_frame_is_read_once() {
    let forged = forged();
    let dir = tempfile::tempdir().unwrap();
    restore(&forged, &dir.path().join("all")).unwrap();
    let (count, bytes) = frame_reads(&forged);
    assert!(count <= 8 && bytes < 6_400_000 + 8 * (128 << 10), "{count} {bytes}");
    nothing_twice(&forged);
}

#[test]
fn one_path_reads_one_frame() {
    let forged = forged();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("one");
    restore_paths(&forged, &target, &["d3/f5.txt"]).unwrap();
    assert_eq!(fs::read(target.join("d3/f5.txt")).unwrap(), noise(29, 100_000));
    let (count, bytes) = frame_reads(&forged);
    assert!(count == 1 && bytes < 600_000, "{count} {bytes}");
    fresh_reads(&forged);
    let mut out = Vec::new();
    restore_content(&forged.reader(), &["d3/f5.txt".to_owned()], &mut out, &Silent).unwrap();
    assert_eq!(out, noise(29, 100_000));
    let (count, bytes) = frame_reads(&forged);
    assert!(count == 1 && bytes < 600_000, "{count} {bytes}");
    // The packs of other files are not even opened.
    let packs: HashSet<_> = forged.packs.reads.lock().unwrap().iter().map(|(pack, ..)| *pack).collect();
    assert!(packs.len() <= 3, "{packs:?}");
}

#[test]
fn a_pattern_reads_what_begins_like_it() {
    // A catalog of many packs: each segment alone in its frame, each frame in its pack.
    let mut forge = Forge::new();
    (forge.frame_size, forge.pack_frames, forge.segment_lines) = (1, 1, 16);
    let mut entries = vec![folder("")];
    let one = forge.chunk(b"one");
    for n in 0..2000 {
        entries.push(forge.file_at(&format!("f{n:04}"), References::of([one]), b"one"));
    }
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let packs = || forged.packs.reads.lock().unwrap().iter().map(|(pack, ..)| *pack).collect::<HashSet<_>>().len();
    assert!(forged.names().len() > 130);
    for (at, (pattern, files)) in [("f12[0-3]*", 40), ("f199?", 10), ("f0000", 1)].into_iter().enumerate() {
        fresh_reads(&forged);
        let target = dir.path().join(at.to_string());
        let report = restore_paths(&forged, &target, &[pattern]).unwrap();
        assert_eq!(report.entries, files + 1, "{pattern}");
        assert_eq!(fs::read_dir(&target).unwrap().count() as u64, files, "{pattern}");
        // The data, the levels of the catalog, and the segments that begin so (f12…: 100 names).
        assert!(packs() <= 16, "{pattern}: {}", packs());
    }
}

#[test]
fn what_is_there_is_not_fetched() {
    let forged = forged();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    restore(&forged, &target).unwrap();
    fs::write(target.join("d6/f1.txt"), b"mine").unwrap();
    // Another time and the same content: the file that is there is read, and nothing of the archive.
    fs::File::open(target.join("d2/f2.txt")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    fresh_reads(&forged);
    let report = restore_over(&forged, &target, Overwrite::Changed).unwrap();
    assert!(report.problems.is_empty() && report.bytes == 100_000, "{report:?}");
    let (count, bytes) = frame_reads(&forged);
    assert!(count == 1 && bytes < 600_000, "{count} {bytes}");
    fresh_reads(&forged);
    restore_over(&forged, &target, Overwrite::Always).unwrap();
    assert_eq!(frame_reads(&forged), (0, 0));
}

#[test]
fn files_that_share_chunks_in_many_frames_share_the_reading() {
    let mut forge = Forge::new();
    (forge.frame_size, forge.pack_frames) = (400_000, 2);
    let chunks: Vec<Vec<u8>> = (0..32).map(|n| noise(n, 100_000)).collect();
    let places: Vec<Member> = chunks.iter().map(|chunk| forge.chunk(chunk)).collect();
    let mut entries = vec![folder("")];
    let mut expected = Vec::new();
    for n in 0..40 {
        // Every file has chunks of all frames; some go through them twice, as a tree does that grew over years.
        let mut order: Vec<usize> = (0..8).map(|frame| frame * 4 + (n + frame) % 4).collect();
        if n % 10 == 0 {
            order.extend_from_within(..);
        }
        let content: Vec<u8> = order.iter().flat_map(|at| chunks[*at].clone()).collect();
        entries.push(forge.file_at(&format!("f{n:02}"), References::of(order.iter().map(|at| places[*at])), &content));
        expected.push(content);
    }
    // And many copies of one.
    for n in 0..500 {
        entries.push(forge.file_at(&format!("same-{n:03}"), References::of([places[7]]), &chunks[7]));
    }
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    let report = restore(&forged, &target).unwrap();
    assert_eq!((report.entries, report.problems), (541, Vec::<String>::new()));
    for (n, content) in expected.iter().enumerate() {
        assert!(fs::read(target.join(format!("f{n:02}"))).unwrap() == *content, "f{n:02}");
    }
    for n in [0, 250, 499] {
        assert!(fs::read(target.join(format!("same-{n:03}"))).unwrap() == chunks[7]);
    }
    // Each of the eight frames once, whatever the number of files.
    let (count, bytes) = frame_reads(&forged);
    assert!(count <= 8 && bytes < 3_200_000 + 8 * (128 << 10), "{count} {bytes}");
    nothing_twice(&forged);
}

#[test]
fn a_frame_that_cannot_be_read_spoils_no_neighbour() {
    let forged = forged();
    let name = forged.names()[1];
    // In the second frame of the second pack: neighbours are fetched by one read.
    forged.damage(&name, |bytes| bytes[700_000] ^= 1);
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&forged, &dir.path().join("t")).unwrap();
    assert_eq!((report.problems.len(), report.entries), (4, 69), "{:?}", report.problems);
}
