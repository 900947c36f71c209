//! Keeping a repository small and quick: packs instead of loose objects, and no remains of killed processes.
//!
//! Drops no object. Whoever calls it holds the repository's lock.

use base::Result;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many loose objects (by a sample of them, as git itself counts) or packs make packing worth it.
const LOOSE: usize = 2000;
const PACKS: usize = 50;
/// When an unfinished file is one that nobody will finish.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Packs what is loose and joins small packs, when there are many; removes what killed processes left.
pub fn tidy(folder: &Path) -> Result<()> {
    base::atomic::sweep_drafts(folder, ABANDONED);
    sweep(&folder.join("objects"));
    sweep(&folder.join("objects/pack"));
    let loose = count(folder.join("objects/17"), "") * 256;
    if loose < LOOSE && count(folder.join("objects/pack"), ".pack") < PACKS {
        return Ok(());
    }
    let mut git = base::process::git();
    git.arg("-C").arg(folder).args(["repack", "-d", "-q", "--geometric=2"]);
    base::process::run_ok(git, 64 * 1024, Duration::from_secs(3600)).map(|_| ())
}

/// What `git fsck` says, where it is not content. Everything in these repositories passed the strictest check when it came.
pub fn damage(folder: &Path) -> Result<Vec<String>> {
    let mut git = base::process::git();
    git.arg("-C").arg(folder).args(["fsck", "--full", "--no-dangling", "--no-reflogs", "--no-progress"]);
    let output = base::process::run(git, 1 << 20, Duration::from_secs(3600))?;
    if output.status.success() {
        return Ok(Vec::new());
    }
    let said = [&output.stderr[..], &output.stdout].concat();
    let lines: Vec<String> = String::from_utf8_lossy(&said).lines().map(base::text::printable).collect();
    Ok(if lines.is_empty() { vec![format!("git fsck ended with {}", output.status)] } else { lines })
}

fn count(folder: PathBuf, suffix: &str) -> usize {
    std::fs::read_dir(folder).map_or(0, |dir| dir.flatten().filter(|entry| entry.file_name().to_string_lossy().ends_with(suffix)).count())
}

/// Removes old unfinished files and quarantines of git and libgit2. Best effort: they are garbage by their names.
fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let old = entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED));
        if old && (name.starts_with("tmp_") || name.starts_with("pack_git2_")) {
            let _ = if entry.path().is_dir() { base::atomic::remove_tree(&entry.path()) } else { base::atomic::remove(&entry.path()) };
        }
    }
}
