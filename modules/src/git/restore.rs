//! The way back: a bare repository with exactly the refs that the client signed.
//!
//! Does not prove the list; the caller did. Nothing of the mirror's configuration or hooks takes part. How much a mirror is, nobody
//! has signed: a node may send more than the repository ever was, so what is taken is bounded.

use super::mirror::{git, init, packs_size, set_head};
use super::refs::RefList;
use super::{lfs, packed};
use crate::{FileOptions, MirrorFrom, MirrorLimit, RestoreContext, RestoreReport};
use archive::restore::{Whole, free_bytes};
use base::{At, ByteSize, Error, PlannedStep, RequestId, Result, atomic, process};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use transport::GitFetch;

/// A restore may take as long as it takes.
pub(super) const TIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// What remains free, of ten parts of a disk's room, when a mirror turns out to be endless and nobody has said how large it may be.
const SPARE: u64 = 10;

/// See [`crate::ClientModule::restore`].
pub(super) fn restore(context: &RestoreContext<'_>, from: &MirrorFrom, snapshot: &RequestId, list: &[u8]) -> Result<RestoreReport> {
    let list = RefList::parse(list)?;
    let Some(begun) = begin(context, snapshot, &list)? else { return Ok(planned(&list)) };
    let (target, ids) = (begun.target, list.ids());
    let most = Most::of(context, target)?;
    if !ids.is_empty() {
        let fetched = match from {
            MirrorFrom::Local(path) => copy_objects(path, target, &ids, most.bytes),
            MirrorFrom::Remote { peer, name } => {
                let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
                let options = GitFetch { time: TIME, file_limit: Some(most.bytes), ..GitFetch::default() };
                peer.git_fetch(target, name, &ids, options)
            }
        };
        // The limit of a file ends git in its own way, which says little.
        most.hold(target, fetched.is_ok())?;
        fetched?;
    }
    let mut report = finish(context, target, &list)?;
    report.problems.extend(bring_lfs(context, from, target, &ids, most)?);
    begun.mark.finish()?;
    Ok(report)
}

/// The most bytes that a mirror may take here.
#[derive(Debug, Clone, Copy)]
struct Most {
    bytes: u64,
    /// Who says so.
    limit: MirrorLimit,
}

impl Most {
    /// What was said, else nine tenths of what is free.
    fn of(context: &RestoreContext<'_>, target: &Path) -> Result<Self> {
        let limit = context.limit;
        if let MirrorLimit::Said(bytes) = limit {
            return Ok(Self { bytes, limit });
        }
        let free = free_bytes(target)?;
        Ok(Self { bytes: (free - free / SPARE).saturating_add(packs_size(target)?), limit })
    }

    /// Whether the packs, with what git-lfs keeps that is there already and what is to come of it, are within this.
    fn takes(self, packs: u64, there: u64, to_come: u64) -> bool {
        // What was there before took nothing of what was free then.
        let there = if matches!(self.limit, MirrorLimit::Said(_)) { there } else { 0 };
        packs.saturating_add(there).saturating_add(to_come) <= self.bytes
    }

    /// Holds what has come against it; what is too much is thrown away. A file that has just this size was cut off at it, unless all has
    /// come.
    fn hold(self, target: &Path, has_all: bool) -> Result<()> {
        let size = packs_size(target)?;
        if size < self.bytes || has_all && size == self.bytes {
            return Ok(());
        }
        clear(target, true)?;
        Err(self.exceeded("the repository", "Nothing of it was kept."))
    }

    fn exceeded(self, what: &str, so: &str) -> Error {
        let most = ByteSize(self.bytes);
        match self.limit {
            MirrorLimit::Said(_) => Error::refused(format!("{what} is larger than the {most} of --limit")).hint(so),
            MirrorLimit::Free => {
                Error::not_now(format!("{what} is larger than {most}, nine tenths of what is free, and nobody has signed how large it is"))
                    .hint(format!("{so} Find out how large it is; make room, name another folder, or let it take more with --limit SIZE."))
            }
            MirrorLimit::Scratch => Error::usage(format!(
                "{what} is larger than {most}, nine tenths of what is free in {}; point TMPDIR at a folder with more room, if it is as large as that",
                std::env::temp_dir().display()
            )),
        }
    }
}

/// Takes away what a git that was killed has left half made: it would stand in the way of the next one, or stay for ever. With
/// `packs`, also what is whole.
fn clear(target: &Path, packs: bool) -> Result<()> {
    let objects = target.join("objects");
    for folder in [target.to_owned(), objects.clone(), objects.join("pack"), target.join("refs"), target.join("lfs")] {
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.at("list", &folder)?,
        };
        for entry in entries {
            let entry = entry.at("list", &folder)?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let is_pack = name.starts_with("pack-") && folder.ends_with("objects/pack");
            let is_half = is_pack && (name.ends_with(".keep") || !path.with_extension("idx").exists());
            let is_draft = name.ends_with(".lock") || name.ends_with(".new") || name.starts_with("tmp_") || name.starts_with(".tmp-");
            if entry.file_type().at("look at", &path)?.is_file() && (is_draft || is_half || packs && is_pack) {
                atomic::remove(&path)?;
            }
        }
    }
    Ok(())
}

/// Puts back what git-lfs keeps beside a repository, as far as pointers name it. Gives what is not there, a line each.
fn bring_lfs(context: &RestoreContext<'_>, from: &MirrorFrom, target: &Path, ids: &[&str], most: Most) -> Result<Vec<String>> {
    // What a restore that was cut off has brought is held against its name as it comes, and has it only then.
    let named = lfs::missing(target, lfs::pointers(target, ids, &[], TIME)?, false)?;
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let to_come = named.values().fold(0, |sum: u64, size| sum.saturating_add(*size));
    if !most.takes(packs_size(target)?, lfs::size(target)?, to_come) {
        return Err(most.exceeded("the repository with what git-lfs keeps", "What git-lfs keeps was not fetched."));
    }
    context.monitor.task(&format!("restoring what git-lfs keeps of {}", context.dataset), None);
    match from {
        MirrorFrom::Local(mirror) => lfs::put_all(target, &named, |id, size, to| {
            let place = lfs::place(mirror, id);
            let file = match File::open(&place) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
                other => other.at("open", &place)?,
            };
            let copied = std::io::copy(&mut file.take(size.saturating_add(1)), to).at("copy", &place)?;
            context.monitor.bytes(copied);
            if copied == size { Ok(true) } else { Err(Error::refused(format!("it is not of {size} bytes"))) }
        }),
        MirrorFrom::Remote { peer, name } => {
            let sftp = peer.sftp()?;
            lfs::put_all(target, &named, |id, size, to| {
                Ok(sftp.try_pull(&format!("{name}/lfs/{}", id.hex()), size, to, context.monitor)?.is_some())
            })
        }
    }
}

/// An empty repository, or what a restore of the same snapshot that was cut off has left of it, and the mark that tells so.
pub(super) struct Begun<'a> {
    pub(super) target: &'a Path,
    /// To be finished when all is there.
    pub(super) mark: Whole,
}

/// Makes a repository where the restore goes. None for a dry run, which ends here.
pub(super) fn begin<'a>(context: &RestoreContext<'a>, snapshot: &RequestId, list: &RefList) -> Result<Option<Begun<'a>>> {
    let target = context.to.folder("a repository")?;
    FileOptions { dry_run: false, ..context.files }.refuse("a repository")?;
    context.refuse_database_options("a repository")?;
    if !context.paths.is_empty() {
        return Err(Error::usage("a repository comes back as a whole").hint("Leave the paths out, and use git on what was restored."));
    }
    if context.files.dry_run {
        Whole::look(target, snapshot)?;
        for name in list.refs.keys() {
            context.monitor.planned(&PlannedStep { path: &String::from_utf8_lossy(name), what: "create", bytes: 0 });
        }
        return Ok(None);
    }
    context.monitor.task(&format!("restoring {}", context.dataset), None);
    let mark = Whole::begin(target, snapshot)?;
    if mark.is_resumed() {
        clear(target, false)?;
    }
    init(target)?;
    Ok(Some(Begun { target, mark }))
}

/// What a dry run comes to.
pub(super) fn planned(list: &RefList) -> RestoreReport {
    RestoreReport { entries: list.refs.len() as u64, ..RestoreReport::default() }
}

/// Makes the refs of the list in a repository that has the objects, and checks that all is there.
pub(super) fn finish(context: &RestoreContext<'_>, target: &Path, list: &RefList) -> Result<RestoreReport> {
    packed::write(target, &list.refs)?;
    set_head(target, &list.head)?;
    // Git adds what the tags lead to.
    process::run_ok(git(target, &["pack-refs", "--all"]), 65_536, TIME)?;
    let description = list.description.clone().unwrap_or_else(|| context.dataset.to_string());
    atomic::write(&target.join("description"), format!("{description}\n").as_bytes(), 0o644)?;
    check(target, list)?;
    let report = RestoreReport { entries: list.refs.len() as u64, bytes: packs_size(target)?, ..RestoreReport::default() };
    context.monitor.entries(report.entries);
    context.monitor.bytes(report.bytes);
    Ok(report)
}

/// Copies all that `ids` lead to. A mirror may belong to another account, whose configuration git reads and whose
/// programs it never runs for this.
fn copy_objects(mirror: &Path, target: &Path, ids: &[&str], most: u64) -> Result<()> {
    let mut pack = process::git();
    pack.arg("-c").arg(format!("safe.directory={}", mirror.display())).arg("--git-dir").arg(mirror);
    pack.args(["pack-objects", "--quiet", "--revs", "--stdout", "--delta-base-offset"]);
    let mut pack = process::Running(pack.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().at("start", "git")?);
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (pack.0.stdin.take(), pack.0.stdout.take(), pack.0.stderr.take()) else {
        return Err(Error::failed("git was started without pipes"));
    };
    let input: String = ids.iter().flat_map(|id| [*id, "\n"]).collect();
    let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let words = std::thread::spawn(move || base::untrusted::read_bounded(stderr, 65_536).unwrap_or_default());
    // Not strictly: what old programs wrote is not well formed by today's rules, and comes back all the same. Its ids are
    // those that were signed.
    let mut index = git(target, &["-c", "core.bigFileThreshold=1m", "index-pack", "--stdin"]);
    index.stdin(stdout);
    let indexed = process::run_started(index, 65_536, TIME, |child| process::bound_files(child, most))?;
    let status = pack.0.wait().at("wait for", "git")?;
    let words = words.join().unwrap_or_default();
    let _ = feeder.join();
    if !status.success() {
        return Err(Error::failed(format!(
            "{} does not have all that the list names: {}",
            mirror.display(),
            base::text::excerpt(&words, 2000)
        )));
    }
    if indexed.status.success() { Ok(()) } else { Err(process::failure("git index-pack", &indexed)) }
}

/// Every ref is as signed, and everything they lead to is there.
fn check(target: &Path, list: &RefList) -> Result<()> {
    process::run_ok(git(target, &["fsck", "--connectivity-only", "--no-dangling", "--no-progress"]), 1 << 20, TIME)
        .map_err(|error| error.context(format!("{} was restored, and is not whole", target.display())))?;
    if packed::all(target, TIME)? == list.refs {
        return Ok(());
    }
    Err(Error::failed(format!("{} was restored, and its refs are not those of the list", target.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_took_nothing_of_what_is_free() {
        let most = |limit| Most { bytes: 100, limit };
        for limit in [MirrorLimit::Free, MirrorLimit::Scratch] {
            assert!(most(limit).takes(40, 90, 60) && !most(limit).takes(40, 0, 61));
        }
        let said = most(MirrorLimit::Said(100));
        assert!(said.takes(40, 10, 50) && !said.takes(40, 10, 51) && !said.takes(1, u64::MAX, u64::MAX));
    }

    #[test]
    fn a_clone_that_is_only_checked_has_no_limit_to_name() {
        let error = Most { bytes: 100, limit: MirrorLimit::Scratch }.exceeded("the repository", "Nothing of it was kept.");
        assert!(error.one_line().contains("TMPDIR") && !error.render().contains("--limit"), "{}", error.render());
        // Nothing that goes on when it is tried again.
        assert_eq!(error.kind(), base::Kind::Usage);
    }
}
