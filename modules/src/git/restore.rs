//! The way back: a bare repository with exactly the refs that the client signed.
//!
//! Does not prove the list; the caller did. Nothing of the mirror's configuration or hooks takes part.

use super::mirror::{all_refs, create_line, git, init, packs_size, set_head, update_refs};
use super::refs::RefList;
use crate::{FileOptions, MirrorFrom, RestoreContext, RestoreReport};
use base::{At, Error, PlannedStep, Result, atomic, process};
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
            let refspecs: Vec<String> = ids.iter().enumerate().map(|(n, id)| format!("{id}:refs/nightsafe/incoming/{n}")).collect();
            if !refspecs.is_empty() {
                peer.git_fetch(target, name, &refspecs, GitFetch { time: TIME, file_limit: None, rate: None, fsck: true })?;
            }
        }
    }
    finish(context, target, &list)
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
    let mut lines = Vec::new();
    for (name, id) in &list.refs {
        lines.extend(create_line(name, id));
    }
    update_refs(target, lines, TIME).map_err(|error| error.context("could not make the refs of the list"))?;
    let incoming = all_refs(target, TIME)?.into_iter().filter(|(name, _)| name.starts_with(b"refs/nightsafe/"));
    let lines: Vec<u8> = incoming.flat_map(|(name, id)| [b"delete ", name.as_slice(), b"\0", id.as_bytes(), b"\0"].concat()).collect();
    update_refs(target, lines, TIME)?;
    set_head(target, &list.head)?;
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
    if all_refs(target, TIME)? == list.refs {
        return Ok(());
    }
    Err(Error::failed(format!("{} was restored, and its refs are not those of the list", target.display())))
}
