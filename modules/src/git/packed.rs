//! All refs of a repository of ours in one file, replaced as a whole: git's own `packed-refs`.
//!
//! Git's transactions make a file for each ref and flush it, and are several steps; this is one step and one flush, however
//! many refs change. The form is that of git's packed-backend.c, with the ids that tags lead to left out.

use super::mirror::git;
use base::{At, Error, Result, atomic, process};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Ids by the names of their refs.
pub(super) type Refs = BTreeMap<Vec<u8>, String>;

/// Most that a listing of all refs, kept ones too, may take.
const OUTPUT_LIMIT: usize = 1 << 30;
/// What stands in a lock of ours; git's own is empty.
const OURS: &[u8] = b"nightsafe\n";
/// How long somebody who works in the repository by hand is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The refs of a repository of ours.
pub(super) fn all(path: &Path, time: Duration) -> Result<Refs> {
    let listed = process::run_ok(git(path, &["for-each-ref", "--format=%(objectname) %(refname)"]), OUTPUT_LIMIT, time)?;
    let mut refs = Refs::new();
    for line in listed.split(|b| *b == b'\n').filter(|line| line.len() > 41) {
        refs.insert(line[41..].to_vec(), String::from_utf8_lossy(&line[..40]).into_owned());
    }
    Ok(refs)
}

/// Makes `refs` all that the repository has in its one file. Refs that have files of their own hide what it says of them.
pub(super) fn write(path: &Path, refs: &Refs) -> Result<()> {
    let mut text = b"# pack-refs with: sorted \n".to_vec();
    for (name, id) in refs {
        for part in [id.as_bytes(), b" ", name, b"\n"] {
            text.extend_from_slice(part);
        }
    }
    atomic::write(&path.join("packed-refs"), &text, 0o640)
}

/// The refs of a repository that nobody else changes meanwhile, git in the hands of a person neither.
pub(super) struct Held {
    path: PathBuf,
    lock: PathBuf,
    /// The refs as they are.
    pub refs: Refs,
}

impl Held {
    /// Takes git's own lock and reads the refs. The caller has the repository for itself among our processes.
    pub fn take(path: &Path, time: Duration) -> Result<Self> {
        let refs = path.join("refs");
        if has_files(&refs).at("look through", &refs)? {
            process::run_ok(git(path, &["pack-refs", "--all"]), 65_536, time)?;
        }
        let lock = path.join("packed-refs.lock");
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = atomic::write_new(&lock, OURS, 0o640) {
            match std::fs::read(&lock) {
                // Whoever of ours had it is dead.
                Ok(found) if found == OURS => break,
                Ok(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                Ok(_) => {
                    return Err(Error::not_now(format!("git is changing refs in {}", path.display()))
                        .hint(format!("If no git runs there any more, remove {}.", lock.display())));
                }
                Err(_) => return Err(error),
            }
        }
        Ok(Self { refs: all(path, time)?, path: path.into(), lock })
    }

    /// Makes `refs` those of the repository, in one step.
    pub fn replace(self, refs: &Refs) -> Result<()> {
        if *refs == self.refs { Ok(()) } else { write(&self.path, refs) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // One that stays is known to be ours.
        let _ = atomic::remove(&self.lock);
    }
}

/// Whether a ref has a file of its own.
fn has_files(folder: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || has_files(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const TIME: Duration = Duration::from_secs(60);

    fn repository(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut command = process::command("sh");
        let commit = "git init -q --bare .; export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t; o=$(git commit-tree -m 1 $(git mktree </dev/null))";
        command.args(["-euc", &format!("{commit}; {script}")]).current_dir(folder.path()).env("HOME", folder.path());
        process::run_ok(command, 1 << 16, TIME).unwrap();
        folder
    }

    fn names(path: &Path) -> BTreeSet<String> {
        all(path, TIME).unwrap().into_keys().map(|name| String::from_utf8(name).unwrap()).collect()
    }

    #[test]
    fn git_reads_what_is_written_whatever_was_there() {
        let folder = repository(
            "git update-ref refs/heads/a $o; git tag -a -m t v1 $o; git pack-refs --all; git update-ref refs/heads/a-b $o; git update-ref refs/tags/v $o",
        );
        let path = folder.path();
        let held = Held::take(path, TIME).unwrap();
        let mut refs = held.refs.clone();
        assert_eq!(refs.len(), 4);
        let id = refs.remove(&b"refs/heads/a"[..]).unwrap();
        // A folder of refs takes the place of a ref; names that sort between others.
        for name in ["refs/heads/a/b", "refs/heads/a.b", "refs/kept/x/heads/a", "refs/heads/\u{e9}"] {
            refs.insert(name.into(), id.clone());
        }
        held.replace(&refs).unwrap();
        assert_eq!(all(path, TIME).unwrap(), refs);
        process::run_ok(git(path, &["fsck", "--strict"]), 65_536, TIME).unwrap();
        // Git goes on from there, and we from what git made.
        process::run_ok(git(path, &["update-ref", "refs/heads/a/c", &id]), 65_536, TIME).unwrap();
        process::run_ok(git(path, &["update-ref", "-d", "refs/heads/a.b"]), 65_536, TIME).unwrap();
        let held = Held::take(path, TIME).unwrap();
        assert!(held.refs.contains_key(&b"refs/heads/a/c"[..]) && !held.refs.contains_key(&b"refs/heads/a.b"[..]));
        assert!(!path.join("refs/heads/a/c").exists(), "it would hide what is written");
        held.replace(&Refs::new()).unwrap();
        assert_eq!(names(path), BTreeSet::new());
    }

    #[test]
    fn nobody_else_changes_refs_meanwhile() {
        let folder = repository("git update-ref refs/heads/a $o");
        let path = folder.path();
        let held = Held::take(path, TIME).unwrap();
        assert!(process::run_ok(git(path, &["-c", "core.packedRefsTimeout=0", "pack-refs", "--all"]), 65_536, TIME).is_err());
        // A process that is killed removes nothing.
        std::mem::forget(held);
        drop(Held::take(path, TIME).unwrap());
        assert!(!path.join("packed-refs.lock").exists());
        process::run_ok(git(path, &["pack-refs", "--all"]), 65_536, TIME).unwrap();
    }
}
