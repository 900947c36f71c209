//! The gate's hand-over: which packs wait, in which order, and how one gets into a repository of the poller's own.
//!
//! Does not know what the commits say. The folder belongs to the gate, which is not trusted: names are matched, files
//! are opened without following links and read within bounds, and git never runs in a repository that the gate writes.

use base::{At, Error, Kind, Result, crash, process, untrusted};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// The largest pack that is taken. A push is at most 8 MiB; a repeated hand-over may hold many.
const PACK_LIMIT: u64 = 512 << 20;
/// How many packs of one client are looked at in one pass.
const MOST: usize = 10_000;
/// The longest time for one pack.
const TIME: Duration = Duration::from_secs(600);
/// What stands for no commit.
pub const NONE: &str = "0000000000000000000000000000000000000000";

/// One pack that was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The tip before, or [`NONE`].
    pub old: String,
    /// The tip that the pack leads to.
    pub new: String,
    /// The file.
    pub path: PathBuf,
}

/// The packs in `folder` that have a name as the gate gives them, in the order in which they lead on from `tip`.
///
/// # Errors
/// When the folder is there and cannot be read.
pub fn pieces(folder: &Path, tip: Option<&str>) -> Result<Vec<Piece>> {
    // The gate could have us read and remove elsewhere.
    if fs::symlink_metadata(folder).is_ok_and(|meta| !meta.is_dir()) {
        return Err(Error::refused(format!("{} is no folder, and the gate puts a folder there", folder.display())));
    }
    let names = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("read the folder", folder)?,
    };
    let mut pieces = Vec::new();
    for entry in names.take(MOST) {
        let name = entry.at("read the folder", folder)?.file_name();
        if let Some((old, new)) = name.to_str().and_then(parse_name) {
            pieces.push(Piece { old: old.into(), new: new.into(), path: folder.join(&name) });
        }
    }
    Ok(in_order(pieces, tip))
}

fn parse_name(name: &str) -> Option<(&str, &str)> {
    let (old, new) = name.strip_suffix(".pack")?.split_once('-')?;
    let good = |text: &str| text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (good(old) && good(new) && new != NONE).then_some((old, new))
}

/// Those first that lead on from `tip`, one from the other; then the rest, by name.
fn in_order(mut pieces: Vec<Piece>, tip: Option<&str>) -> Vec<Piece> {
    // The last of a list is taken first.
    pieces.sort_by(|a, b| b.path.cmp(&a.path));
    let mut by_old: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
    let count = pieces.len();
    for piece in pieces {
        by_old.entry(piece.old.clone()).or_default().push(piece);
    }
    let mut at = tip.unwrap_or(NONE).to_owned();
    let mut ordered = Vec::with_capacity(count);
    while let Some(piece) = by_old.get_mut(&at).and_then(Vec::pop) {
        at.clone_from(&piece.new);
        ordered.push(piece);
    }
    let mut rest: Vec<Piece> = by_old.into_values().flatten().collect();
    rest.sort_by(|a, b| a.path.cmp(&b.path));
    ordered.append(&mut rest);
    ordered
}

/// The folder of marks, opened below `gate` without following a link: it belongs to the gate, which could otherwise have
/// files of ours removed. `None` when it is not there.
///
/// # Errors
/// With the path; of kind failed when a link stands there.
fn marks(gate: &Path) -> Result<Option<OwnedFd>> {
    let wake = Path::new("handover/wake");
    let shown = || gate.join(wake);
    let gate = match rustix::fs::openat(rustix::fs::CWD, gate, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.at("open the folder", gate)?,
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(gate, wake, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Err(Errno::NOENT) => Ok(None),
        other => other.at("open the folder of marks", shown()).map(Some),
    }
}

/// The marks that wait in `handover/wake` below `gate`: names of clients, names that end in [`base::config::SOON`] of clients that
/// are about to push, and `admin`. Each mark is removed before its name is given, so that what is handed over from now on leaves a mark again. What cannot be removed is no mark.
///
/// # Errors
/// When the folder is there and cannot be read.
pub fn take_marks(gate: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let Some(folder) = marks(gate)? else { return Ok(found) };
    let shown = || gate.join("handover/wake");
    for entry in rustix::fs::Dir::read_from(&folder).at("read the folder", shown())?.take(MOST) {
        let entry = entry.at("read the folder", shown())?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name.starts_with('.') {
            continue;
        }
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) => {
                crash::point("unmarked");
                found.insert(name.to_owned());
            }
            Err(Errno::NOENT) => {}
            Err(error) => tracing::warn!("{} in {} is not removed: {error}", base::text::printable(name), shown().display()),
        }
    }
    Ok(found)
}

/// Whether there are marks to take, or things that hide what there is.
///
/// # Errors
/// When the folder is there and cannot be read.
pub fn marks_wait(gate: &Path) -> Result<bool> {
    let Some(folder) = marks(gate)? else { return Ok(false) };
    let shown = || gate.join("handover/wake");
    for entry in rustix::fs::Dir::read_from(&folder).at("read the folder", shown())?.take(MOST) {
        if !entry.at("read the folder", shown())?.file_name().to_bytes().starts_with(b".") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Leaves a mark for `name`, as the gate does.
///
/// # Errors
/// With the path.
pub fn leave_mark(gate: &Path, name: &str) -> Result<()> {
    let shown = || gate.join("handover/wake").join(name);
    let Some(folder) = marks(gate)? else { return Ok(()) };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o660)).at("write", shown()).map(drop)
}

/// What became of a pack.
#[derive(Debug)]
pub enum Brought {
    /// Its objects are in the repository; the files are those that were added, so that [`take_out`] can undo it.
    In(Vec<PathBuf>),
    /// It is no pack that git accepts here, or stands on commits that never came.
    Bad(String),
}

/// Brings a handed-over pack into the repository at `git_dir`. Objects only; no ref moves.
///
/// # Errors
/// When it cannot be tried: the file cannot be opened, git cannot run, the disk is full.
pub fn bring_in(git_dir: &Path, piece: &Piece) -> Result<Brought> {
    let file = match untrusted::open(&piece.path) {
        Err(error) if error.kind() == Kind::Refused => return Ok(Brought::Bad(error.one_line())),
        other => other?,
    };
    let size = file.metadata().at("stat", &piece.path)?.len();
    if size > PACK_LIMIT {
        return Ok(Brought::Bad(format!("{} has {size} bytes, more than the {PACK_LIMIT} allowed", piece.path.display())));
    }
    let packs = git_dir.join("objects/pack");
    let before = names(&packs)?;
    let mut command = process::git();
    command
        .args(["-c", "core.bigFileThreshold=1m"])
        .arg("--git-dir")
        .arg(git_dir)
        .args(["index-pack", "--stdin", "--strict", "--fix-thin"])
        .arg(format!("--max-input-size={PACK_LIMIT}"))
        .stdin(Stdio::from(file));
    let output = process::run(command, 4096, TIME)?;
    crash::point("brought in");
    if !output.status.success() {
        let error = process::failure("git index-pack", &output);
        // What git had written of it stays otherwise until it is old, and the gate could fill the disk.
        take_out(&added(&packs, &before)?)?;
        // A full disk is our own trouble, and no reason to distrust the pack.
        if error.kind() == Kind::NotNow {
            return Err(error.context(format!("could not take {} into {}", piece.path.display(), git_dir.display())));
        }
        return Ok(Brought::Bad(error.one_line()));
    }
    Ok(Brought::In(added(&packs, &before)?))
}

fn added(packs: &Path, before: &BTreeSet<std::ffi::OsString>) -> Result<Vec<PathBuf>> {
    Ok(names(packs)?.difference(before).map(|name| packs.join(name)).collect())
}

/// Removes what was handed over. A folder that stands there is nobody's pack: it goes when it is empty, and stays, a
/// standing alarm, when it is not.
///
/// # Errors
/// With the path.
pub fn discard(piece: &Piece) -> Result<()> {
    if fs::symlink_metadata(&piece.path).is_ok_and(|meta| meta.is_dir()) {
        let _ = fs::remove_dir(&piece.path);
        return Ok(());
    }
    base::atomic::remove(&piece.path)
}

/// Removes what [`bring_in`] added, because nothing may stand on it.
///
/// # Errors
/// With the path.
pub fn take_out(added: &[PathBuf]) -> Result<()> {
    added.iter().try_for_each(|path| base::atomic::remove(path))
}

fn names(folder: &Path) -> Result<BTreeSet<std::ffi::OsString>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        other => other.at("read the folder", folder)?.map(|entry| Ok(entry.at("read the folder", folder)?.file_name())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(old: char, new: char) -> Piece {
        let (old, new) = (old.to_string().repeat(40), new.to_string().repeat(40));
        Piece { path: PathBuf::from(format!("/h/{old}-{new}.pack")), old, new }
    }

    #[test]
    fn names_are_matched_whole() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        assert!(parse_name(&format!("{a}-{b}.pack")).is_some() && parse_name(&format!("{NONE}-{b}.pack")).is_some());
        for bad in [
            format!("{a}-{NONE}.pack"),
            format!("{a}-{b}"),
            format!("{a}{b}.pack"),
            format!("{a}-{b}.pack.pack"),
            format!("{a}-{}.pack", "B".repeat(40)),
            format!(".tmp-{a}-{b}.pack"),
            "../x-y.pack".into(),
        ] {
            assert!(parse_name(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn packs_lead_on_from_the_tip() {
        let all = vec![piece('c', 'd'), piece('0', 'b'), piece('b', 'c'), piece('9', 'e')];
        let order = |tip: Option<&str>| in_order(all.clone(), tip).iter().map(|p| p.new.chars().next().unwrap()).collect::<String>();
        assert_eq!(order(None), "bcde");
        assert_eq!(order(Some(&"c".repeat(40))), "dbec");
        // A ring, which no honest gate makes, ends as well.
        let ring = vec![piece('a', 'b'), piece('b', 'a')];
        assert_eq!(in_order(ring, Some(&"a".repeat(40))).len(), 2);
    }

    #[test]
    fn marks_are_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let wake = dir.path().join("handover/wake");
        fs::create_dir_all(wake.join("folder")).unwrap();
        for name in ["web1", ".hidden"] {
            fs::write(wake.join(name), b"").unwrap();
        }
        assert!(marks_wait(dir.path()).unwrap());
        leave_mark(dir.path(), "admin").unwrap();
        assert_eq!(take_marks(dir.path()).unwrap().into_iter().collect::<Vec<_>>(), ["admin", "web1"]);
        assert!(take_marks(dir.path()).unwrap().is_empty());
        // What cannot be taken is looked at again, and by nobody passed over.
        assert!(marks_wait(dir.path()).unwrap());
        fs::remove_dir(wake.join("folder")).unwrap();
        assert!(!marks_wait(dir.path()).unwrap());
        assert!(take_marks(&dir.path().join("absent")).unwrap().is_empty());
    }

    /// The gate's account must not have files of ours removed or made.
    #[test]
    fn marks_are_taken_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("data");
        fs::create_dir_all(ours.join("wake")).unwrap();
        fs::write(ours.join("wake/pack"), b"stored").unwrap();
        for (link, target) in [("handover/wake", ours.join("wake")), ("handover", ours.clone())] {
            let gate = tempfile::tempdir_in(dir.path()).unwrap();
            let link = gate.path().join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, &link).unwrap();
            assert!(take_marks(gate.path()).is_err() && leave_mark(gate.path(), "admin").is_err());
        }
        assert_eq!(fs::read_dir(ours.join("wake")).unwrap().count(), 1);
    }
}
