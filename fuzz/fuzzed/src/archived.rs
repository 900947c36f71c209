//! What describes a snapshot: manifests and lines of the catalog.

use crate::snapshots::{Hostile, Packs};
use archive::catalog::{Child, lines};
use archive::entry::Entry;
use archive::manifest::{Manifest, Public, Sealed};
use archive::snapshot::SnapshotReader;
use std::sync::Arc;

/// A manifest: its public line, and behind the line feed what stands for the sealed part. Once the bytes are taken as the
/// file; once, where both halves can be read, as what a client that lies would have sealed.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert_eq!(manifest.to_bytes(), bytes, "the bytes that were signed for are kept");
    }
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else { return };
    let (Ok(mut public), Ok(sealed)) =
        (serde_json::from_slice::<Public>(&bytes[..end]), serde_json::from_slice::<Sealed>(&bytes[end + 1..]))
    else {
        return;
    };
    let hostile = Hostile::get();
    public.epoch = hostile.epoch.public().clone();
    let Ok(manifest) = Manifest::seal(public, &sealed, hostile.epoch.recipient()) else { return };
    assert_eq!(Manifest::parse(&manifest.to_bytes()).map(|again| again.digest).ok(), Some(manifest.digest));
    let Ok(reader) = SnapshotReader::open(manifest, &hostile.identities, Arc::new(Packs::default())) else { return };
    assert!(!reader.public().packs.is_empty());
    // No pack is there.
    assert!(reader.entries().all(|entry| entry.is_err()));
}

/// A segment of the catalog: each line is taken as an entry, and as the name of a segment below. What is read survives
/// being written, and leads nowhere but below the target.
pub fn catalog(bytes: &[u8]) {
    let Ok(lines) = lines(bytes) else { return };
    for line in lines {
        if let Ok(entry) = Entry::parse(line) {
            let again = entry.to_line().expect("an entry can be written");
            assert_eq!(Entry::parse(again.as_bytes()).as_ref().ok(), Some(&entry), "it survives its own line");
            let path = entry.path.strip_suffix(b"/").unwrap_or(&entry.path);
            let safe = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
            assert!(path.is_empty() || path.split(|b| *b == b'/').all(safe), "{:?}", entry.shown_path());
            assert!(!entry.shown_path().contains(char::is_control), "{:?}", entry.shown_path());
        }
        if let Ok(child) = Child::parse(line) {
            let again = child.to_line().expect("a child can be written");
            assert_eq!(Child::parse(again.as_bytes()).as_ref().ok(), Some(&child), "it survives its own line");
        }
    }
}
