//! One mirror on the node's disk: made, filled from a staging repository, its refs moved by a plan.
//!
//! Knows no network and no requests. Only the node's own account can write here, so git's own configuration holds.

use super::LIST_LIMIT;
use super::plan::Plan;
use super::refs::{Head, RefList, UNSAID, is_ours};
use base::{At, Dataset, Error, FileLock, Result, atomic, crash, process};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Most that a listing of all refs, kept ones too, may take.
const OUTPUT_LIMIT: usize = 1 << 30;

/// What a mirror's `config` says. Nothing is ever pruned or packed behind our back; what is ours is not shown.
const CONFIG: &str = "[core]
\trepositoryformatversion = 0
\tbare = true
\tfilemode = true
\tlogAllRefUpdates = false
\tuseReplaceRefs = false
\thooksPath = /dev/null
[gc]
\tauto = 0
\tpruneExpire = never
[maintenance]
\tauto = false
[receive]
\tautogc = false
[transfer]
\thideRefs = refs/kept
\thideRefs = refs/nightsafe
[uploadpack]
\tallowFilter = false
[pack]
\twriteBitmaps = false
";

/// After this long an unfinished file was left by a killed process.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// One mirror, locked for whoever holds this.
pub(super) struct Mirror {
    path: PathBuf,
    time: Duration,
    _lock: FileLock,
}

/// A bare repository without refs, with our configuration, that appears whole.
fn create(path: &Path, dataset: &Dataset) -> Result<()> {
    let temp = path.with_extension("new");
    atomic::remove_tree(&temp)?;
    init(&temp)?;
    crash::point("initialised");
    atomic::write(&temp.join("config"), CONFIG.as_bytes(), 0o640)?;
    let text = format!("{dataset}\n");
    atomic::write(&temp.join("nightsafe-dataset"), text.as_bytes(), 0o640)?;
    atomic::write(&temp.join("description"), text.as_bytes(), 0o640)?;
    atomic::rename(&temp, path)
}

/// A bare repository in a folder that is not there, or empty.
pub(super) fn init(path: &Path) -> Result<()> {
    let mut command = process::git();
    command.args(["init", "--quiet", "--bare", "--template=", "--object-format=sha1", "--initial-branch=main", "--"]).arg(path);
    process::run_ok(command, 65_536, Duration::from_secs(60)).map(|_| ())
}

/// Git in the repository `path`.
pub(super) fn git(path: &Path, arguments: &[&str]) -> Command {
    let mut command = process::git();
    command.arg("--git-dir").arg(path).args(arguments);
    command
}

/// Runs `command` with `input` on its stdin.
pub(super) fn feed(mut command: Command, input: Vec<u8>, limit: usize, time: Duration) -> Result<Output> {
    let (reader, mut writer) = std::io::pipe().at("make", "a pipe")?;
    command.stdin(reader);
    // Ends by itself: when git is gone nobody reads the pipe any more.
    let feeder = std::thread::spawn(move || writer.write_all(&input));
    let output = process::run(command, limit, time);
    let _ = feeder.join();
    output
}

/// As [`feed`], and a bad end is an error.
pub(super) fn feed_ok(command: Command, input: Vec<u8>, limit: usize, time: Duration) -> Result<Vec<u8>> {
    let output = feed(command, input, limit, time)?;
    if output.status.success() { Ok(output.stdout) } else { Err(process::failure("git", &output)) }
}

/// The refs of a repository of ours, by name.
pub(super) fn all_refs(path: &Path, time: Duration) -> Result<BTreeMap<Vec<u8>, String>> {
    let listed = process::run_ok(git(path, &["for-each-ref", "--format=%(objectname) %(refname)"]), OUTPUT_LIMIT, time)?;
    let mut refs = BTreeMap::new();
    for line in listed.split(|b| *b == b'\n').filter(|line| line.len() > 41) {
        refs.insert(line[41..].to_vec(), String::from_utf8_lossy(&line[..40]).into_owned());
    }
    Ok(refs)
}

/// Changes refs in one transaction of git's.
pub(super) fn update_refs(path: &Path, commands: Vec<u8>, time: Duration) -> Result<()> {
    if commands.is_empty() {
        return Ok(());
    }
    feed_ok(git(path, &["update-ref", "--stdin", "-z"]), commands, 65_536, time)?;
    crash::point("refs updated");
    Ok(())
}

/// One line for [`update_refs`]: makes a ref that is not there.
pub(super) fn create_line(name: &[u8], id: &str) -> Vec<u8> {
    [b"create ", name, b"\0", id.as_bytes(), b"\0"].concat()
}

/// Lets HEAD point where it should.
pub(super) fn set_head(path: &Path, head: &Head) -> Result<()> {
    let text = match head {
        Head::Branch(name) => [b"ref: ", name.as_slice(), b"\n"].concat(),
        Head::Detached(id) => format!("{id}\n").into_bytes(),
        Head::Nowhere => [b"ref: ", UNSAID, b"\n"].concat(),
    };
    atomic::write(&path.join("HEAD"), &text, 0o640)
}

/// The bytes of all mirrors in `folder`.
pub(crate) fn mirrors_size(folder: &Path) -> Result<u64> {
    let mirrors = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.at("list", folder)?,
    };
    let mut size = 0;
    for mirror in mirrors {
        size += packs_size(&mirror.at("list", folder)?.path())?;
    }
    Ok(size)
}

/// The bytes of a repository's packs and their indexes, which is all but a few of its bytes.
pub(super) fn packs_size(repository: &Path) -> Result<u64> {
    let folder = repository.join("objects/pack");
    let files = match std::fs::read_dir(&folder) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(0),
        other => other.at("list", &folder)?,
    };
    let mut size = 0;
    for file in files {
        match file.at("list", &folder)?.metadata() {
            // Gone between the listing and the look.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => size += other.at("look at", &folder)?.len(),
        }
    }
    Ok(size)
}

impl Mirror {
    /// Opens the mirror of `dataset`, which is made when it is not there, and waits for whoever has it open.
    pub fn open_or_create(path: &Path, dataset: &Dataset, time: Duration) -> Result<Self> {
        let folder = path.parent().unwrap_or(path);
        atomic::make_folder(folder, 0o750)?;
        let lock = FileLock::wait(&path.with_extension("lock"))?;
        if path.is_dir() {
            atomic::sweep_drafts(path, ABANDONED);
            let found = std::fs::read_to_string(path.join("nightsafe-dataset")).at("read", path.join("nightsafe-dataset"))?;
            if found.trim_end_matches('\n') != dataset.to_string() {
                return Err(Error::failed(format!(
                    "{} is the mirror of {}, not of {dataset}",
                    path.display(),
                    base::text::printable(found.trim())
                )));
            }
        } else {
            create(path, dataset)?;
        }
        Ok(Self { path: path.into(), time, _lock: lock })
    }

    /// The list that an earlier try of request `id` left in the mirror at `path`.
    pub fn state(path: &Path, id: &str) -> Result<Option<Vec<u8>>> {
        if !path.is_dir() {
            return Ok(None);
        }
        let name = format!("refs/nightsafe/states/{id}");
        let output = process::run(git(path, &["cat-file", "blob", &name]), LIST_LIMIT, Duration::from_secs(60))?;
        Ok(output.status.success().then_some(output.stdout))
    }

    /// A new repository at `path` that sees this mirror's objects, and whose fetches begin with what its branches and
    /// tags have; or, `alone`, one that sees nothing.
    pub fn staging(&self, path: &Path, alone: bool) -> Result<()> {
        atomic::remove_tree(path)?;
        atomic::make_folder(path.parent().unwrap_or(path), 0o750)?;
        init(path)?;
        crash::point("initialised");
        if alone {
            return Ok(());
        }
        let objects = self.path.join("objects");
        atomic::make_folder(&path.join("objects/info"), 0o750)?;
        atomic::write(&path.join("objects/info/alternates"), &[objects.as_os_str().as_encoded_bytes(), b"\n"].concat(), 0o640)?;
        // Kept refs would be thousands, and say little about what the source has.
        let set = git(path, &["config", "core.alternateRefsPrefixes", "refs/heads/ refs/tags/"]);
        process::run_ok(set, 65_536, self.time).map(|_| ())
    }

    /// Moves the packs of a staging repository in, and gives their size. With `replace`, also where a pack of that name is:
    /// it may be damaged.
    pub fn adopt(&self, staging: &Path, replace: bool) -> Result<u64> {
        let from = staging.join("objects/pack");
        let to = self.path.join("objects/pack");
        let mut names = Vec::new();
        for file in std::fs::read_dir(&from).at("list", &from)? {
            let name = file.at("list", &from)?.file_name();
            if name.as_encoded_bytes().starts_with(b"pack-") {
                names.push(name);
            }
        }
        // Git believes in a pack when it sees its index.
        names.sort_by_key(|name| name.as_encoded_bytes().ends_with(b".idx"));
        let mut size = 0;
        for name in &names {
            let (from, to) = (from.join(name), to.join(name));
            // Packs are named by what they hold: one that is here is the same.
            if replace || !to.exists() {
                size += from.metadata().at("look at", &from)?.len();
                std::fs::rename(&from, &to).at("rename to", &to)?;
                crash::point("renamed");
            }
        }
        atomic::sync_folder(&to)?;
        Ok(size)
    }

    /// The kinds of those of `ids` that are here, by id.
    pub fn kinds(&self, ids: &[&str]) -> Result<HashMap<String, String>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let input: String = ids.iter().flat_map(|id| [*id, "\n"]).collect();
        let listed = feed_ok(
            git(&self.path, &["cat-file", "--batch-check=%(objectname) %(objecttype)"]),
            input.into_bytes(),
            OUTPUT_LIMIT,
            self.time,
        )?;
        let lines = String::from_utf8_lossy(&listed);
        Ok(lines
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(_, kind)| *kind != "missing")
            .map(|(id, kind)| (id.to_owned(), kind.to_owned()))
            .collect())
    }

    /// Whether everything that `ids` lead to is here. What the mirror's refs lead to was checked when they were made.
    pub fn is_whole(&self, ids: &[&str]) -> Result<bool> {
        if ids.is_empty() {
            return Ok(true);
        }
        let input: String = ids.iter().flat_map(|id| [*id, "\n"]).collect();
        let output = feed(
            git(&self.path, &["rev-list", "--objects", "--quiet", "--stdin", "--not", "--all"]),
            input.into_bytes(),
            65_536,
            self.time,
        )?;
        if output.status.code().is_none() {
            return Err(process::failure("git rev-list", &output));
        }
        Ok(output.status.success())
    }

    /// The list that the mirror shows now.
    pub fn list(&self) -> Result<RefList> {
        let refs: BTreeMap<_, _> = all_refs(&self.path, self.time)?.into_iter().filter(|(name, _)| !is_ours(name)).collect();
        let path = self.path.join("HEAD");
        let head = std::fs::read(&path).at("read", &path)?;
        let head = head.strip_suffix(b"\n").unwrap_or(&head);
        let head = match head.strip_prefix(b"ref: ") {
            Some(UNSAID) if !refs.contains_key(UNSAID) => Head::Nowhere,
            Some(name) => Head::Branch(name.to_vec()),
            None => Head::Detached(String::from_utf8_lossy(head).into_owned()),
        };
        Ok(RefList { head, description: None, left_out: 0, refs })
    }

    /// Those of `pairs` whose first is an ancestor of the second.
    pub fn forward(&self, pairs: Vec<(String, String)>) -> Result<HashSet<(String, String)>> {
        let ids: Vec<&str> = pairs.iter().flat_map(|(from, to)| [from.as_str(), to.as_str()]).collect();
        let kinds = self.kinds(&ids)?;
        let is_commit = |id: &String| kinds.get(id).is_some_and(|kind| kind == "commit");
        let mut forward = HashSet::new();
        for (from, to) in pairs {
            // Tags do not go forward: the old one could not be found from the new one.
            if is_commit(&from) && is_commit(&to) {
                let output = process::run(git(&self.path, &["merge-base", "--is-ancestor", &from, &to]), 65_536, self.time)?;
                match output.status.code() {
                    Some(0) => drop(forward.insert((from, to))),
                    Some(1) => {}
                    _ => return Err(process::failure("git merge-base", &output)),
                }
            }
        }
        Ok(forward)
    }

    /// A name below `refs/kept/` that nothing has yet, from the time.
    pub fn label(&self, time: &str) -> Result<String> {
        let used = all_refs(&self.path, self.time)?;
        let free = |label: &String| {
            let prefix = format!("refs/kept/{label}/").into_bytes();
            used.range(prefix.clone()..).next().is_none_or(|(name, _)| !name.starts_with(&prefix))
        };
        let mut labels = std::iter::once(time.to_owned()).chain((2u32..).map(|n| format!("{time}-{n}")));
        labels.find(free).ok_or_else(|| Error::failed("no name is left to keep refs under"))
    }

    /// Carries a plan out, and keeps the list under the request's id. Cut off at any place, a new plan made of what is
    /// there then leads on; what was reachable is so all the time.
    pub fn carry_out(&self, plan: &Plan, id: &str, list: &[u8]) -> Result<()> {
        let blob = feed_ok(git(&self.path, &["hash-object", "-w", "--stdin"]), list.to_vec(), 128, self.time)?;
        let blob = String::from_utf8_lossy(&blob).trim().to_owned();
        let mut first = Vec::new();
        for (name, id) in &plan.keep {
            first.extend(create_line(name, id));
        }
        for (name, old) in &plan.delete {
            first.extend([b"delete ", name.as_slice(), b"\0", old.as_bytes(), b"\0"].concat());
        }
        update_refs(&self.path, first, self.time)?;
        // Two transactions: in one, git would not make a/b while it removes a.
        let mut second = Vec::new();
        for (name, old, new) in &plan.set {
            match old {
                None => second.extend(create_line(name, new)),
                Some(old) => second.extend([b"update ", name.as_slice(), b"\0", new.as_bytes(), b"\0", old.as_bytes(), b"\0"].concat()),
            }
        }
        second.extend([b"update refs/nightsafe/states/", id.as_bytes(), b"\0", blob.as_bytes(), b"\0\0"].concat());
        update_refs(&self.path, second, self.time)?;
        if let Some(head) = &plan.head {
            set_head(&self.path, head)?;
        }
        process::run_ok(git(&self.path, &["pack-refs", "--all"]), 65_536, self.time)?;
        crash::point("refs packed");
        Ok(())
    }

    /// Puts packs together when there are more than `most`; each fetch brings one. Nothing is dropped: what no ref leads
    /// to stays in the packs.
    pub fn tidy(&self, most: usize) -> Result<()> {
        let folder = self.path.join("objects/pack");
        let packs = std::fs::read_dir(&folder)
            .at("list", &folder)?
            .flatten()
            .filter(|file| file.path().extension().is_some_and(|ending| ending == "pack"))
            .count();
        if packs <= most {
            return Ok(());
        }
        let repack =
            git(&self.path, &["-c", "core.bigFileThreshold=64m", "repack", "--quiet", "--geometric=2", "-d", "--no-write-bitmap-index"]);
        process::run_ok(repack, 65_536, self.time).map(|_| ())
    }

    /// The `seq` of the request whose list the mirror shows; 0 for none.
    pub fn seq(&self) -> u64 {
        std::fs::read_to_string(self.path.join("nightsafe-seq")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// Notes the `seq` of the request whose list the mirror will show.
    pub fn set_seq(&self, seq: u64) -> Result<()> {
        atomic::write(&self.path.join("nightsafe-seq"), format!("{seq}\n").as_bytes(), 0o640)
    }
}
