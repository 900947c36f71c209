//! Verifying: everything that a restore would read is read and checked, and nothing is written.
//!
//! Does not look at ciphertext that the snapshot does not use; that is the node's scrub.

use crate::entry::EntryKind;
use crate::problems::Problems;
use crate::read::content::Expected;
use crate::read::order::{Reached, Wanted, read_all};
use crate::snapshot::SnapshotReader;
use base::{Error, Monitor, Result};

/// How many files are checked in one sweep over the packs.
const WINDOW: usize = 200_000;

/// What was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Entries of the catalog that could be read.
    pub entries: u64,
    /// Bytes of files whose digest was right.
    pub bytes: u64,
    /// What could not be read, or was not what was backed up.
    pub problems: Vec<String>,
}

/// Reads a whole snapshot.
///
/// # Errors
/// Of kind not-now when the packs cannot be reached for now; damage is in the report.
pub fn verify_all(reader: &SnapshotReader, monitor: &dyn Monitor) -> Result<VerifyReport> {
    let counts = reader.public().counts;
    monitor.task("verifying", Some(counts.bytes));
    let mut report = VerifyReport::default();
    let mut problems = Problems::new(monitor);
    let mut window: Vec<(String, Wanted)> = Vec::new();
    let mut in_doubt = false;
    for entry in reader.entries() {
        match entry {
            Ok(entry) => {
                report.entries += 1;
                monitor.entries(1);
                if let Err(error) = reader.check_lists(&entry) {
                    problems.add(&error);
                }
                let shown = entry.shown_path();
                if let EntryKind::File { size, content, digest, sparse } = entry.kind {
                    window.push((shown, Wanted { content, expected: Expected::of(size, sparse.as_ref(), digest) }));
                }
            }
            Err(error) if error.kind() == base::Kind::NotNow => return Err(error),
            Err(error) => {
                in_doubt = true;
                problems.add(&error);
            }
        }
        if window.len() >= WINDOW {
            check(reader, &mut window, &mut report, &mut problems, monitor)?;
        }
    }
    check(reader, &mut window, &mut report, &mut problems, monitor)?;
    if report.entries != counts.entries && !in_doubt {
        problems.add(&Error::failed(format!("the catalog has {} entries, and the manifest says {}", report.entries, counts.entries)));
    }
    report.problems = problems.finish();
    Ok(report)
}

fn check(
    reader: &SnapshotReader,
    window: &mut Vec<(String, Wanted)>,
    report: &mut VerifyReport,
    problems: &mut Problems<'_>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let (names, files): (Vec<_>, Vec<_>) = window.drain(..).unzip();
    read_all(reader.frames(), reader.secrets(), &files, &mut |batch| {
        for piece in batch.pieces {
            match piece.state {
                Reached::Middle => {}
                Reached::Whole => {
                    report.bytes += files[piece.file].expected.size;
                    monitor.bytes(files[piece.file].expected.size);
                }
                Reached::Failed(error) => problems.add_for(&format!("{} is damaged", names[piece.file]), &error),
            }
        }
        true
    })
}
