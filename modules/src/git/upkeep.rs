//! Looking after mirrors: every object read and hashed, packs put together, and a damaged mirror mended from what its source
//! sends anew.
//!
//! Drops nothing: what no ref leads to stays. Does not know when it is time, nor who is told.

use super::mirror::git;
use base::{At, Dataset, Error, FileLock, Result, atomic, process};
use std::path::Path;
use std::time::Duration;

/// Tells, in a mirror, that objects of it are damaged. It is empty until all has come anew.
const DAMAGED: &str = "nightsafe-damaged";
/// What it says then, until all that is good is put together,
const CAME: &[u8] = b"has come anew\n";
/// and where that does not make the mirror whole.
const GIVEN_UP: &[u8] = b"fetched anew\n";
/// The most that git may say about one repository.
const WORDS: usize = 16 << 20;
/// How many of git's lines are kept.
const LINES: usize = 20;
/// What git computes from the rest and can compute again.
const DERIVED: [&str; 3] = ["objects/pack/multi-pack-index", "objects/info/commit-graph", "objects/info/commit-graphs"];

/// What is wrong with a repository of ours, in git's words; nothing when every object is there and has its name. Faults
/// that old histories were made with are none.
///
/// # Errors
/// When git cannot be run, or takes too long.
pub fn check_repository(path: &Path, time: Duration) -> Result<Vec<String>> {
    let found = fsck(path, time)?;
    if found.is_empty() || DERIVED.iter().all(|name| !path.join(name).exists()) {
        return Ok(found);
    }
    // It may be what can be computed again that is damaged.
    let _lock = FileLock::wait(&path.with_extension("lock"))?;
    for name in DERIVED {
        let file = path.join(name);
        if file.is_dir() { atomic::remove_tree(&file)? } else { atomic::remove(&file)? }
    }
    fsck(path, time)
}

fn fsck(path: &Path, time: Duration) -> Result<Vec<String>> {
    // What a repository's own configuration could have git run takes no part.
    let arguments = ["-c", "core.fsmonitor=false", "fsck", "--full", "--no-dangling", "--no-reflogs", "--no-progress"];
    let output = process::run(git(path, &arguments), WORDS, time)?;
    let beside = super::lfs::damage(path)?;
    let Some(code) = output.status.code() else { return Err(process::failure("git fsck", &output)) };
    if code == 0 {
        return Ok(beside);
    }
    let said = [&output.stderr[..], &output.stdout].map(String::from_utf8_lossy);
    let mut lines: Vec<String> = said.iter().flat_map(|text| damage(text)).collect();
    // The same end is that of objects which are whole and were badly made; these are named.
    if lines.is_empty() && !said.iter().any(|text| text.lines().any(|line| line.starts_with("error in "))) {
        lines.push(format!("git fsck ended with {code}"));
    }
    lines.extend(beside);
    let more = lines.len().saturating_sub(LINES);
    lines.truncate(LINES);
    if more > 0 {
        lines.push(format!("and {more} lines more"));
    }
    Ok(lines)
}

/// The lines of git's that tell of damage.
fn damage(text: &str) -> Vec<String> {
    let harmless = ["error in ", "warning in ", "warning: ", "notice: ", "dangling ", "Checking ", "hint: "];
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !harmless.iter().any(|begin| line.starts_with(begin)));
    lines.map(base::text::printable).collect()
}

/// Puts a mirror's packs together where that pays, with an index over all of them, and writes down its graph of commits.
/// `false` when it is in use; then nothing was done.
///
/// # Errors
/// When git fails; the mirror is as good as before.
pub fn keep_mirror(path: &Path, time: Duration) -> Result<bool> {
    let Some(_lock) = FileLock::try_now(&path.with_extension("lock"))? else { return Ok(false) };
    let repack = ["-c", "core.bigFileThreshold=64m", "repack", "--quiet", "--geometric=2", "-d", "--write-midx", "--no-write-bitmap-index"];
    process::run_ok(git(path, &repack), 65_536, time)?;
    process::run_ok(git(path, &["commit-graph", "write", "--reachable", "--no-progress"]), 65_536, time)?;
    Ok(true)
}

/// The dataset that a mirror is of.
///
/// # Errors
/// With the path.
pub fn mirrored(path: &Path) -> Result<Dataset> {
    let file = path.join("nightsafe-dataset");
    let bytes = base::untrusted::read(&file, 8192)?.bytes;
    String::from_utf8_lossy(&bytes).trim_end_matches('\n').parse::<Dataset>().map_err(|error| error.context(file.display().to_string()))
}

/// Notes that a mirror is damaged: the next fetch brings everything anew that its source has. Noted again, nothing happens.
///
/// # Errors
/// With the path.
pub fn mark_damaged(path: &Path) -> Result<()> {
    let mark = path.join(DAMAGED);
    if mark.exists() { Ok(()) } else { atomic::write(&mark, b"", 0o640) }
}

/// A mirror was found whole.
///
/// # Errors
/// With the path.
pub fn mark_whole(path: &Path) -> Result<()> {
    atomic::remove(&path.join(DAMAGED))
}

/// Whether the mirror is known to be damaged.
pub(super) fn is_marked(path: &Path) -> bool {
    path.join(DAMAGED).exists()
}

/// Whether everything is to be fetched anew.
pub(super) fn wants_all(path: &Path) -> bool {
    std::fs::read(path.join(DAMAGED)).is_ok_and(|text| text.is_empty())
}

/// Whether everything has come anew, and whoever was to put it together was killed.
pub(super) fn is_half_mended(path: &Path) -> bool {
    std::fs::read(path.join(DAMAGED)).is_ok_and(|text| text == CAME)
}

/// All that the source has is here anew: puts the good objects together, and lets go of the packs with the bad ones. What
/// the source does not have any more and is damaged here stays as it is, and stays damage. The caller holds the mirror's
/// lock.
pub(super) fn mend(path: &Path, time: Duration) -> Result<()> {
    let mark = path.join(DAMAGED);
    atomic::write(&mark, CAME, 0o640)?;
    let whole = put_together(path, time);
    if matches!(whole, Ok(true)) {
        return mark_whole(path);
    }
    // Once: a mirror that cannot be mended is not fetched in full for ever.
    atomic::write(&mark, GIVEN_UP, 0o640)?;
    whole.and(Err(Error::failed("what the source has does not make it whole")))
}

fn put_together(path: &Path, time: Duration) -> Result<bool> {
    for name in DERIVED {
        let file = path.join(name);
        if file.is_dir() { atomic::remove_tree(&file)? } else { atomic::remove(&file)? }
    }
    let repack = ["-c", "core.bigFileThreshold=64m", "repack", "--quiet", "-a", "-d", "--keep-unreachable", "--no-write-bitmap-index"];
    process::run_ok(git(path, &repack), 65_536, time)?;
    fsck(path, time).map(|found| found.is_empty())
}

/// The mirrors in `folder`, sorted; none where there is no folder.
///
/// # Errors
/// With the path.
pub fn mirrors(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let names = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", folder)?,
    };
    let paths = names.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>().at("list", folder)?;
    let mut mirrors: Vec<_> = paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "git") && path.is_dir()).collect();
    mirrors.sort();
    Ok(mirrors)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(60);

    fn run(folder: &Path, script: &str) -> String {
        let mut command = process::command("sh");
        command.args(["-euc", script]).current_dir(folder).env("HOME", folder);
        String::from_utf8(process::run_ok(command, 1 << 20, TIME).unwrap()).unwrap()
    }

    fn repository(folder: &Path) {
        run(
            folder,
            "git init -q --bare r.git; git init -q w; cd w; git config user.email a@b; git config user.name a
             for n in 1 2 3; do head -c 20000 /dev/urandom >f$n; git add .; git commit -qm $n; done
             git push -q ../r.git HEAD:refs/heads/main HEAD~1:refs/kept/1/heads/main",
        );
    }

    #[test]
    fn only_damage_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        repository(dir.path());
        let path = dir.path().join("r.git");
        assert_eq!(check_repository(&path, TIME).unwrap(), Vec::<String>::new());
        // A commit as old programs made them: git fsck complains, and nothing is damaged.
        run(
            &path,
            "tree=$(git rev-parse main^{tree})
             commit=$(printf 'tree %s\nauthor a 1 +0000\ncommitter a <a@b> 1 +0000\n\nold\n' $tree | git hash-object -w -t commit --literally --stdin)
             git update-ref refs/heads/old $commit; ! git fsck 2>/dev/null",
        );
        assert_eq!(check_repository(&path, TIME).unwrap(), Vec::<String>::new());
        assert!(keep_mirror(&path, TIME).unwrap());
        assert!(path.join("objects/pack/multi-pack-index").exists() && path.join("objects/info/commit-graph").exists());
        assert_eq!(check_repository(&path, TIME).unwrap(), Vec::<String>::new());
        // What can be computed again is no loss.
        run(
            &path,
            "chmod u+w objects/pack/multi-pack-index objects/info/commit-graph; truncate -s 100 objects/info/commit-graph; printf XXXX | dd of=objects/pack/multi-pack-index bs=1 seek=200 conv=notrunc status=none",
        );
        assert_eq!(check_repository(&path, TIME).unwrap(), Vec::<String>::new());
        assert!(!path.join("objects/info/commit-graph").exists());
        run(
            &path,
            "p=$(ls -S objects/pack/*.pack | head -n1); chmod u+w $p; printf XXXX | dd of=$p bs=1 seek=5000 conv=notrunc status=none",
        );
        assert!(!check_repository(&path, TIME).unwrap().is_empty());
        assert!(keep_mirror(&dir.path().join("none.git"), TIME).is_err());
    }
}
