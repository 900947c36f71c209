//! Verifying: everything that a restore would read is read and checked, and nothing is written.
//!
//! Does not know who signed for the manifest, and leaves packs alone that the snapshot does not name: that is the node's
//! scrub.

mod packs;
mod sample;
#[cfg(test)]
mod tests;

pub use packs::ProvenPacks;
pub use sample::{Known, Sample};

use crate::entry::{Content, EntryKind};
use crate::load::Load;
use crate::problems::Problems;
use crate::read::content::{Expected, Items};
use crate::read::early::Room;
use crate::read::order::{Reached, Wanted, read_all};
use crate::reference::{Item, References};
use crate::snapshot::SnapshotReader;
use base::{Blake3, Error, Kind, Monitor, Result};
use std::collections::HashSet;

/// How many names of damaged files are kept, and how many bytes of them.
const NAMES: usize = 10_000;
const NAMES_BYTES: usize = 16 << 20;

/// How a snapshot is verified.
pub struct VerifySpec<'a> {
    /// What the reader was opened on, if the ciphertext is to be held against its digests as well.
    pub packs: Option<&'a ProvenPacks>,
    /// Look into these packs alone; nothing: into all.
    pub drawn: Option<&'a HashSet<Blake3>>,
    /// Files that need not be read again.
    pub known: &'a mut Known,
    /// Is told about progress and problems.
    pub monitor: &'a dyn Monitor,
}

/// What was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Entries of the catalog that could be read.
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// Files whose digest was right, here or in a snapshot before that has the same.
    pub right: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// What could not be read, or was not what was backed up.
    pub problems: Vec<String>,
    /// The files that are damaged, by their paths; at most 10,000, and at most about 16 MiB of them.
    pub damaged: Vec<String>,
    /// Packs that are lost, and of which repairs were read.
    pub repaired: Vec<Blake3>,
}

impl VerifyReport {
    fn note_damaged(&mut self, name: &str) {
        if self.damaged.len() < NAMES && self.damaged.iter().map(String::len).sum::<usize>() < NAMES_BYTES {
            self.damaged.push(name.to_owned());
        }
    }
}

/// Reads a whole snapshot.
///
/// # Errors
/// Of kind not-now when the packs cannot be reached for now; damage is in the report.
pub fn verify_all(reader: &SnapshotReader, monitor: &dyn Monitor) -> Result<VerifyReport> {
    verify(reader, VerifySpec { packs: None, drawn: None, known: &mut Known::default(), monitor })
}

/// Reads a snapshot, or what is in some of its packs: the catalog in every case, then each file that lies in these packs
/// as a whole, and each of their frames.
///
/// # Errors
/// Of kind not-now when the packs cannot be reached for now; damage is in the report.
pub fn verify(reader: &SnapshotReader, spec: VerifySpec<'_>) -> Result<VerifyReport> {
    let VerifySpec { packs, drawn, known, monitor } = spec;
    let counts = reader.public().counts;
    monitor.task("verifying", drawn.is_none().then_some(counts.bytes));
    if let Some(packs) = packs {
        let wanted: Vec<_> = reader.public().packs.iter().copied().filter(|pack| is_drawn(drawn, &pack.digest)).collect();
        packs.expect(&wanted);
    }
    known.begin(reader);
    let mut run = Run {
        reader,
        known,
        monitor,
        report: VerifyReport::default(),
        problems: Problems::new(monitor),
        window: Vec::new(),
        load: Load::default(),
    };
    let mut in_doubt = false;
    for entry in reader.entries() {
        match entry {
            Ok(entry) => {
                run.report.entries += 1;
                monitor.entries(1);
                if let Err(error) = reader.check_lists(&entry) {
                    if error.kind() == Kind::NotNow {
                        return Err(error);
                    }
                    run.problems.add(&error);
                }
                let (shown, weight) = (entry.shown_path(), entry.weight());
                if let EntryKind::File { size, content, digest, sparse } = entry.kind {
                    let expected = Expected::of(size, sparse.as_ref(), digest);
                    run.file(shown, Wanted { content, expected }, weight, drawn)?;
                }
            }
            Err(error) if error.kind() == Kind::NotNow => return Err(error),
            Err(error) => {
                in_doubt = true;
                run.problems.add(&error);
            }
        }
    }
    run.check()?;
    if let Some(drawn) = drawn {
        run.frames_of(drawn)?;
    }
    let Run { mut report, mut problems, .. } = run;
    if report.entries != counts.entries && !in_doubt {
        problems.add(&Error::failed(format!("the catalog has {} entries, and the manifest says {}", report.entries, counts.entries)));
    }
    if let Some(packs) = packs {
        let all: Vec<_> = reader.public().packs.iter().copied().filter(|pack| is_drawn(drawn, &pack.digest)).collect();
        monitor.task("verifying ciphertext", None);
        for (digest, why) in packs.check(&all, monitor)? {
            // What of it this snapshot needs was read from the repairs above, each file against its own digest.
            if reader.frames().repair_claimed(&digest)? {
                monitor.note(&format!("pack {digest} is lost; what could be brought again of it was read from repairs"));
                report.repaired.push(digest);
            } else {
                problems.add(&Error::failed(format!("pack {digest} is damaged or missing: {why}")));
            }
        }
    }
    report.problems = problems.finish();
    Ok(report)
}

fn is_drawn(drawn: Option<&HashSet<Blake3>>, digest: &Blake3) -> bool {
    drawn.is_none_or(|drawn| drawn.contains(digest))
}

struct Run<'a> {
    reader: &'a SnapshotReader,
    known: &'a mut Known,
    monitor: &'a dyn Monitor,
    report: VerifyReport,
    problems: Problems<'a>,
    /// Files that are checked in one sweep over the packs.
    window: Vec<(String, Wanted)>,
    load: Load,
}

impl Run<'_> {
    /// Takes a file of the catalog.
    fn file(&mut self, name: String, wanted: Wanted, weight: usize, drawn: Option<&HashSet<Blake3>>) -> Result<()> {
        self.report.files += 1;
        if drawn.is_some_and(|drawn| !self.lies_in(&wanted.content, drawn)) {
            return Ok(());
        }
        // A chunk that is repeated without an end would be read without an end.
        if wanted.expected.size > self.reader.public().counts.bytes {
            self.damaged(&name, &Error::failed("it is larger than all files together are said to be by the manifest"));
            return Ok(());
        }
        if self.known.has(&wanted.content, &wanted.expected) {
            self.right(wanted.expected.size);
            return Ok(());
        }
        self.window.push((name, wanted));
        if self.load.is_full_with(weight) { self.check() } else { Ok(()) }
    }

    /// Whether a file lies in these packs as a whole, as far as its entry tells.
    fn lies_in(&self, content: &Content, drawn: &HashSet<Blake3>) -> bool {
        match content {
            Content::Chunks(References(items)) => items.iter().all(|item| self.pack_of(item).is_some_and(|digest| drawn.contains(&digest))),
            Content::More(_) => self.reader.public().packs.iter().all(|pack| drawn.contains(&pack.digest)),
        }
    }

    fn pack_of(&self, item: &Item) -> Option<Blake3> {
        pack_of(self.reader, item)
    }

    fn right(&mut self, bytes: u64) {
        self.report.right += 1;
        self.report.bytes += bytes;
        self.monitor.bytes(bytes);
    }

    fn damaged(&mut self, name: &str, error: &Error) {
        self.problems.add_for(&format!("{name} is damaged"), error);
        self.report.note_damaged(name);
    }

    /// Reads the files of the window.
    fn check(&mut self) -> Result<()> {
        self.load = Load::default();
        let (names, files): (Vec<_>, Vec<_>) = std::mem::take(&mut self.window).into_iter().unzip();
        let (frames, secrets) = (self.reader.frames(), self.reader.secrets());
        read_all(frames, secrets, &files, Room::MEMORY, &mut |batch| {
            for piece in batch.pieces {
                let file = &files[piece.file];
                match piece.state {
                    Reached::Middle => {}
                    Reached::Whole => {
                        self.known.add(&file.content, &file.expected);
                        self.right(file.expected.size);
                    }
                    Reached::Failed(error) => self.damaged(&names[piece.file], &error),
                }
            }
            true
        })
    }

    /// Reads every frame of these packs: what belongs to files that reach into others is checked so far.
    fn frames_of(&mut self, drawn: &HashSet<Blake3>) -> Result<()> {
        for (index, (pack, sealed)) in self.reader.frames().packs().iter().enumerate() {
            if !drawn.contains(&pack.digest) {
                continue;
            }
            for number in 0..sealed.frames {
                match self.reader.frames().get((index, sealed.first + number)) {
                    Ok(_) => {}
                    Err(error) if error.kind() == Kind::NotNow => return Err(error),
                    Err(error) => {
                        self.problems.add(&error);
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

fn pack_of(reader: &SnapshotReader, item: &Item) -> Option<Blake3> {
    let (index, _) = reader.frames().locate(item.first()).ok()?;
    reader.frames().packs().get(index).map(|(pack, _)| pack.digest)
}

/// The paths of the files that need one of these packs, and what of the catalog could not be read while looking.
///
/// # Errors
/// Of kind not-now when the packs cannot be reached for now.
pub fn touched(reader: &SnapshotReader, bad: &HashSet<Blake3>) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    for entry in reader.entries() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.kind() == Kind::NotNow => return Err(error),
            Err(error) => {
                report.problems.push(error.one_line());
                continue;
            }
        };
        report.entries += 1;
        let shown = entry.shown_path();
        if let EntryKind::File { content, .. } = entry.kind
            && needs(reader, &content, bad)?
        {
            report.note_damaged(&shown);
        }
    }
    Ok(report)
}

/// Whether a file needs one of these packs, be it for its list alone.
fn needs(reader: &SnapshotReader, content: &Content, bad: &HashSet<Blake3>) -> Result<bool> {
    let (Content::Chunks(References(items)) | Content::More(References(items))) = content;
    if items.iter().any(|item| pack_of(reader, item).is_none_or(|digest| bad.contains(&digest))) {
        return Ok(true);
    }
    if let Content::More(_) = content {
        let mut items = Items::new(reader.frames(), content);
        loop {
            match items.next() {
                Ok(None) => break,
                Ok(Some(item)) if pack_of(reader, &item).is_none_or(|digest| bad.contains(&digest)) => return Ok(true),
                Ok(Some(_)) => {}
                Err(error) if error.kind() == Kind::NotNow => return Err(error),
                Err(_) => return Ok(true),
            }
        }
    }
    Ok(false)
}
