//! The way back: a bare repository with exactly the refs that the client signed.
//!
//! Does not prove the list; the caller did. Nothing of the mirror's configuration or hooks takes part.

use super::mirror::{git, init, packs_size, set_head};
use super::refs::RefList;
use super::{lfs, packed};
use crate::{FileOptions, MirrorFrom, RestoreContext, RestoreReport};
use base::{At, Error, PlannedStep, Result, atomic, process};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use transport::GitFetch;

/// A restore may take as long as it takes.
pub(super) const TIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// See [`crate::ClientModule::restore`].
pub(super) fn restore(context: &RestoreContext<'_>, from: &MirrorFrom, list: &[u8]) -> Result<RestoreReport> {
    let list = RefList::parse(list)?;
    let Some(target) = begin(context, &list)? else { return Ok(planned(&list)) };
    let ids = list.ids();
    match from {
        MirrorFrom::Local(path) => copy_objects(path, target, &ids)?,
        MirrorFrom::Remote { peer, name } => {
            if !ids.is_empty() {
                let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
                peer.git_fetch(target, name, &ids, GitFetch { time: TIME, ..GitFetch::default() })?;
            }
        }
    }
    let mut report = finish(context, target, &list)?;
    report.problems.extend(bring_lfs(context, from, target, &ids)?);
    Ok(report)
}

/// Puts back what git-lfs keeps beside a repository, as far as pointers name it. Gives what is not there, a line each.
fn bring_lfs(context: &RestoreContext<'_>, from: &MirrorFrom, target: &Path, ids: &[&str]) -> Result<Vec<String>> {
    let named = lfs::pointers(target, ids, &[], TIME)?;
    if named.is_empty() {
        return Ok(Vec::new());
    }
    context.monitor.task(&format!("restoring what git-lfs keeps of {}", context.dataset), None);
    match from {
        MirrorFrom::Local(mirror) => lfs::put_all(target, &named, |id, size, to| {
            let place = lfs::place(mirror, id);
            let mut file = match File::open(&place) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
                other => other.at("open", &place)?,
            };
            let copied = std::io::copy(&mut file, to).at("copy", &place)?;
            context.monitor.bytes(copied);
            if copied == size { Ok(true) } else { Err(Error::refused(format!("there are {copied} bytes of it"))) }
        }),
        MirrorFrom::Remote { peer, name } => {
            let sftp = peer.sftp()?;
            lfs::put_all(target, &named, |id, size, to| {
                Ok(sftp.try_pull(&format!("{name}/lfs/{}", id.hex()), size, to, context.monitor)?.is_some())
            })
        }
    }
}

/// Makes an empty repository where the restore goes. None for a dry run, which ends here.
pub(super) fn begin<'a>(context: &RestoreContext<'a>, list: &RefList) -> Result<Option<&'a Path>> {
    let target = context.to.folder("a repository")?;
    FileOptions { dry_run: false, ..context.files }.refuse("a repository")?;
    context.refuse_database_options("a repository")?;
    if !context.paths.is_empty() {
        return Err(Error::usage("a repository comes back as a whole").hint("Leave the paths out, and use git on what was restored."));
    }
    empty(target)?;
    if context.files.dry_run {
        for name in list.refs.keys() {
            context.monitor.planned(&PlannedStep { path: &String::from_utf8_lossy(name), what: "create", bytes: 0 });
        }
        return Ok(None);
    }
    context.monitor.task(&format!("restoring {}", context.dataset), None);
    init(target)?;
    Ok(Some(target))
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

/// The target is not there yet, or is an empty folder.
fn empty(target: &Path) -> Result<()> {
    let mut entries = match std::fs::read_dir(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.at("look into", target)?,
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => {
            Err(Error::refused(format!("{} is there and is not empty", target.display())).hint("Name a folder that does not exist yet."))
        }
    }
}

/// Copies all that `ids` lead to. A mirror may belong to another account, whose configuration git reads and whose
/// programs it never runs for this.
fn copy_objects(mirror: &Path, target: &Path, ids: &[&str]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
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
    let indexed = process::run(index, 65_536, TIME)?;
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
