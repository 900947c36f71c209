//! Restores that are cut off and go on.

use super::*;

#[test]
fn a_cut_off_restore_goes_on_and_follows_no_planted_link() {
    let (forge, entries) = sample();
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    restore(&forged, &whole).unwrap();
    let target = dir.path().join("t");
    restore(&forged, &target).unwrap();
    // As a restore leaves it that was killed: the mark is there, one file is cut short, one has no time yet, one lacks.
    let marker = plant_mark(&forged, &target);
    let kept = target.join("a/one").metadata().unwrap().ino();
    fs::write(target.join("big"), b"part").unwrap();
    fs::write(target.join("many-07"), b"part").unwrap();
    fs::remove_file(target.join("a/b/two")).unwrap();
    // And somebody has planted links where folders, files and links will be.
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("two"), b"theirs").unwrap();
    fs::remove_dir(target.join("a/b")).unwrap();
    symlink(&outside, target.join("a/b")).unwrap();
    fs::remove_file(target.join("many-08")).unwrap();
    symlink(outside.join("two"), target.join("many-08")).unwrap();
    fs::remove_file(target.join("zlink")).unwrap();
    symlink(outside.join("two"), target.join("zlink")).unwrap();
    let report = restore(&forged, &target).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(listing(&target), listing(&whole));
    assert_eq!(target.join("a/one").metadata().unwrap().ino(), kept);
    assert_eq!(fs::read(outside.join("two")).unwrap(), b"theirs");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert!(!marker.exists());
    // Two at once: the second one waits for its turn elsewhere.
    plant_mark(&forged, &target);
    let lock = fs::File::open(&marker).unwrap();
    lock.lock().unwrap();
    assert_eq!(restore(&forged, &target).unwrap_err().kind(), Kind::NotNow);
}

/// Packs behind a connection that breaks after some reads.
struct Breaking {
    packs: Arc<dyn PackSource>,
    left: Arc<AtomicUsize>,
}

struct BreakingPack(Box<dyn base::ReadAt>, Arc<AtomicUsize>);

impl PackSource for Breaking {
    fn pack(&self, digest: &base::Blake3) -> Result<Box<dyn base::ReadAt>> {
        Ok(Box::new(BreakingPack(self.packs.pack(digest)?, self.left.clone())))
    }
}

impl base::ReadAt for BreakingPack {
    fn size(&self) -> std::io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let lost = |_| std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "the session broke");
        self.1.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).map_err(lost)?;
        self.0.read_at(offset, buffer)
    }
}

#[test]
fn a_lost_connection_stops_it_once_and_it_goes_on() {
    let (forge, entries) = sample();
    let count = entries.len() as u64;
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    let left = Arc::new(AtomicUsize::new(0));
    let mut stops = 0;
    let report = loop {
        let packs = Arc::new(Breaking { packs: forged.packs.clone(), left: left.clone() });
        let reader = SnapshotReader::open(forged.manifest.clone(), &forged.identities, packs).unwrap();
        left.store(2 + stops, Relaxed);
        match restore_tree(&reader, RestoreSpec { paths: vec![], target: &target, options: FileOptions::default(), monitor: &Silent }) {
            Ok(report) => break report,
            Err(error) => {
                assert_eq!(error.kind(), Kind::NotNow, "{}", error.render());
                assert!(error.render().contains("the session broke") && error.render().contains("again"), "{}", error.render());
                stops += 1;
            }
        }
    };
    assert!(stops > 3);
    assert_eq!((report.entries + report.same, report.problems), (count, Vec::<String>::new()));
}
