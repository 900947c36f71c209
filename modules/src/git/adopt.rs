//! Taking over a repository that lies on the node already, as `git clone --mirror` made it, as the mirror of a dataset: its
//! objects are copied and checked as a fetch would be, and all its refs are there before the first request comes.
//!
//! Changes nothing of the repository that it reads. Knows no client and no network.

use super::mirror::{Mirror, feed, packs_size};
use super::plan::{label, plan, plan_aside};
use super::refs::RefList;
use super::{LIST_LIMIT, mirror_name};
use base::{Dataset, Error, Result, atomic, process};
use jiff::Timestamp;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

/// Under which name the list of what was taken over is kept in the mirror.
const STATE: &str = "adopted";

/// What became of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// How many refs it has.
    pub refs: usize,
    /// How many bytes were copied.
    pub bytes: u64,
    /// Whether the mirror showed a request's list before, so that what this one has is kept beside it.
    pub aside: bool,
    /// What was left out of it, in words, where something was.
    pub left_out: Option<String>,
}

/// Whether there is a bare and whole repository at `from`, and how many bytes its packs have.
///
/// # Errors
/// Of kind usage, with what is wrong with it.
pub fn can_be_adopted(from: &Path) -> Result<u64> {
    let unfit = |what: &str| Err(Error::usage(format!("{} {what}", from.display())));
    if !from.join("HEAD").is_file() || !from.join("objects").is_dir() || !from.join("refs").is_dir() {
        return unfit("is no bare repository, as git clone --mirror makes them");
    }
    if from.join("shallow").exists() {
        return unfit("is shallow: its history is not whole");
    }
    if from.join("objects/info/alternates").exists() {
        return unfit("borrows objects of another repository; git repack -a -d and removing objects/info/alternates make it whole");
    }
    let text = std::fs::read_to_string(from.join("config")).unwrap_or_default();
    if text.contains("promisor") || text.contains("partialclone") {
        return unfit("is a partial clone: its history is not whole");
    }
    packs_size(from)
}

/// How many bytes taking over `from` would add at most; none when the mirror has all of it already.
///
/// # Errors
/// As [`adopt`].
pub fn would_add(from: &Path, mirrors: &Path, dataset: &Dataset, time: Duration) -> Result<u64> {
    let bytes = can_be_adopted(from)?;
    let path = mirrors.join(mirror_name(dataset));
    if !path.is_dir() {
        return Ok(bytes);
    }
    let mirror = Mirror::open_or_create(&path, dataset, time)?;
    Ok(if has(&mirror, &list(from, time)?.ids())? { 0 } else { bytes })
}

/// Whether a mirror has objects with all that they lead to.
fn has(mirror: &Mirror, ids: &[&str]) -> Result<bool> {
    Ok(mirror.kinds(ids)?.len() == ids.len() && mirror.is_whole(ids)?)
}

/// Takes `from` over as the mirror of `dataset` below `mirrors`; `staging` is a folder that may be made and removed. Done twice it
/// does nothing more; cut off anywhere it goes on.
///
/// # Errors
/// Of kind usage when it is no repository that can be taken over, with git's words when it is damaged; with the path.
pub fn adopt(from: &Path, mirrors: &Path, staging: &Path, dataset: &Dataset, now: Timestamp, time: Duration) -> Result<Adopted> {
    can_be_adopted(from)?;
    let listed = list(from, time)?;
    let mirror = Mirror::open_or_create(&mirrors.join(mirror_name(dataset)), dataset, time)?;
    let ids = listed.ids();
    let mut bytes = 0;
    if !has(&mirror, &ids)? {
        mirror.staging(staging, false)?;
        fetch(from, staging, &ids, time)?;
        bytes = mirror.adopt(staging, false)?;
        atomic::remove_tree(staging)?;
    }
    if !has(&mirror, &ids)? {
        return Err(Error::failed(format!("{} is damaged: its history is not whole", from.display()))
            .hint("git fsck says more. It was not taken over; the first backup fetches everything from its source."));
    }
    let held = mirror.refs()?;
    let now_shown = mirror.list(&held.refs)?;
    let name = label(&held.refs, &now.strftime("%Y%m%dT%H%M%SZ").to_string())?;
    let aside = mirror.seq() > 0;
    let mut plan = if aside { plan_aside(&now_shown, &listed, &name) } else { plan(&now_shown, &listed, &HashSet::new(), &name) };
    // What a run before has kept is kept.
    let known: HashSet<&String> = held.refs.values().collect();
    plan.keep.retain(|(_, id)| !aside || !known.contains(id));
    mirror.carry_out(&plan, held, STATE, &listed.to_bytes())?;
    Ok(Adopted { refs: listed.refs.len(), bytes, aside, left_out: listed.told_of_left_out() })
}

/// The refs of the repository, held against the same rules as those of a client.
fn list(from: &Path, time: Duration) -> Result<RefList> {
    let mut command = process::git();
    command.env("GIT_ALLOW_PROTOCOL", "file").args(["ls-remote", "--symref", "--"]).arg(from);
    let output = process::run(command, 4 * LIST_LIMIT, time)?;
    if output.status.success() {
        return RefList::from_ls_remote(&output.stdout)
            .map_err(|error| error.context(format!("the refs of {} cannot be used", from.display())));
    }
    let words = base::text::excerpt(&output.stderr, 2000);
    let error = Error::failed(format!("git cannot read {}: {words}", from.display()));
    Err(if words.contains("dubious ownership") {
        error.hint("Git reads repositories of another account only for that account: chown -R it to the owner of the node's data first.")
    } else {
        error
    })
}

/// Copies what `ids` lead to, held against git's fsck as what comes over the network is.
fn fetch(from: &Path, staging: &Path, ids: &[&str], time: Duration) -> Result<()> {
    let mut command = process::git();
    command
        .env("GIT_ALLOW_PROTOCOL", "file")
        .args(["-c", "protocol.version=2", "-c", "fetch.unpackLimit=1", "-c", "core.bigFileThreshold=1m"])
        .args(transport::fsck_options())
        .arg("--git-dir")
        .arg(staging)
        .args([
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--recurse-submodules=no",
            "--stdin",
            "--",
        ])
        .arg(from);
    let input: String = ids.iter().flat_map(|id| [*id, "\n"]).collect();
    let output = feed(command, input.into_bytes(), 1 << 20, time)?;
    base::crash::point("fetched");
    if output.status.success() {
        return Ok(());
    }
    Err(process::failure("git fetch", &output).context(format!("{} could not be copied", from.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(path: &Path, words: &[&str]) -> String {
        let mut command = process::git();
        command.arg("-C").arg(path).args(["-c", "user.name=x", "-c", "user.email=x@x"]).args(words);
        String::from_utf8(process::run_ok(command, 1 << 20, Duration::from_secs(60)).unwrap()).unwrap().trim().to_owned()
    }

    #[test]
    fn a_repository_is_taken_over_whole_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        git(&root, &["init", "-q", "-b", "main", "work"]);
        let work = root.join("work");
        git(&work, &["commit", "-q", "--allow-empty", "-m", "one"]);
        git(&work, &["tag", "-a", "-m", "t", "v1"]);
        git(&work, &["update-ref", "refs/pull/1/head", "HEAD"]);
        let one = git(&work, &["rev-parse", "HEAD"]);
        let old = root.join("old.git");
        git(&root, &["clone", "-q", "--mirror", "work", "old.git"]);
        git(&old, &["repack", "-a", "-d", "-q"]);
        let (mirrors, staging) = (root.join("mirrors"), root.join("incoming/adopt"));
        let dataset = Dataset::new("git", "/srv/git/a.git").unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let would_add = || would_add(&old, &mirrors, &dataset, Duration::from_secs(60)).unwrap();
        assert!(would_add() > 0 && !mirrors.exists());
        let adopt = || adopt(&old, &mirrors, &staging, &dataset, now, Duration::from_secs(60));
        let first = adopt().unwrap();
        assert!(first.refs == 3 && first.bytes > 0 && !first.aside && first.left_out.is_none(), "{first:?}");
        let mirror = mirrors.join(mirror_name(&dataset));
        let shown = |of: &Path| git(of, &["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags", "refs/pull"]);
        assert_eq!(shown(&mirror), shown(&old));
        assert_eq!(git(&mirror, &["symbolic-ref", "HEAD"]), "refs/heads/main");
        assert_eq!(adopt().unwrap(), Adopted { bytes: 0, ..first });
        assert_eq!(would_add(), 0);
        // Where a request's list is shown already, what this one has stays beside it, once.
        std::fs::write(mirror.join("nightsafe-seq"), "7\n").unwrap();
        git(&work, &["commit", "-q", "--amend", "--allow-empty", "-m", "two"]);
        git(&old, &["fetch", "-q", "--prune"]);
        assert!(adopt().unwrap().aside && adopt().unwrap().aside);
        let two = git(&old, &["rev-parse", "main"]);
        assert_eq!(git(&mirror, &["rev-parse", "main"]), one);
        let kept = git(&mirror, &["for-each-ref", "--format=%(objectname)", "refs/kept"]);
        assert_eq!(kept, two);
        assert!(!staging.exists());
    }

    #[test]
    fn what_is_not_whole_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        git(&root, &["init", "-q", "-b", "main", "work"]);
        for message in ["one", "two"] {
            git(&root.join("work"), &["commit", "-q", "--allow-empty", "-m", message]);
        }
        let url = format!("file://{}/work", root.display());
        git(&root, &["clone", "-q", "--mirror", "--depth=1", &url, "shallow.git"]);
        git(&root, &["clone", "-q", "--mirror", "--shared", "work", "borrows.git"]);
        git(&root, &["clone", "-q", "--mirror", "work", "damaged.git"]);
        let first = git(&root.join("work"), &["rev-parse", "HEAD~1"]);
        for (folder, ending) in [("damaged.git/objects/pack", ".pack"), ("damaged.git/objects/pack", ".idx")] {
            for file in std::fs::read_dir(root.join(folder)).unwrap().flatten() {
                if file.path().to_string_lossy().ends_with(ending) {
                    std::fs::remove_file(file.path()).unwrap();
                }
            }
        }
        let loose = root.join("damaged.git/objects").join(&first[..2]).join(&first[2..]);
        let _ = std::fs::remove_file(loose);
        let dataset = Dataset::new("git", "/srv/git/a.git").unwrap();
        for (name, words) in [
            ("work", "no bare repository"),
            ("absent", "no bare repository"),
            ("shallow.git", "is shallow"),
            ("borrows.git", "borrows objects"),
            ("damaged.git", "damaged.git"),
        ] {
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            let error = adopt(&root.join(name), &root.join("m"), &root.join("s"), &dataset, now, Duration::from_secs(60)).unwrap_err();
            assert!(error.one_line().contains(words), "{name}: {}", error.render());
        }
        // What was begun stays an empty mirror, which a fetch fills.
        let mirror = root.join("m").join(mirror_name(&dataset));
        assert!(!mirror.exists() || git(&mirror, &["for-each-ref"]).is_empty());
    }
}
