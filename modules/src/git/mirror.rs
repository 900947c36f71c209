//! One mirror on the node's disk: made, filled from a staging repository, its refs moved by a plan.
//!
//! Knows no network and no requests. Only the node's own account can write here, so git's own configuration holds.

use super::LIST_LIMIT;
use super::forward::forward;
use super::packed::{Held, Refs};
use super::plan::Plan;
use super::refs::{Head, RefList, UNSAID, is_ours};
use base::{At, Dataset, Error, FileLock, Result, atomic, crash, process};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Most that a listing of objects may take.
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

/// Has `run` run `command` with `input` on its stdin.
pub(super) fn feeding<T>(mut command: Command, input: Vec<u8>, run: impl FnOnce(Command) -> Result<T>) -> Result<T> {
    let (reader, mut writer) = std::io::pipe().at("make", "a pipe")?;
    command.stdin(reader);
    // Ends by itself: when git is gone nobody reads the pipe any more.
    let feeder = std::thread::spawn(move || writer.write_all(&input));
    let output = run(command);
    let _ = feeder.join();
    output
}

/// Runs `command` with `input` on its stdin.
pub(super) fn feed(command: Command, input: Vec<u8>, limit: usize, time: Duration) -> Result<Output> {
    feeding(command, input, |command| process::run(command, limit, time))
}

/// As [`feed`], and a bad end is an error.
pub(super) fn feed_ok(command: Command, input: Vec<u8>, limit: usize, time: Duration) -> Result<Vec<u8>> {
    let output = feed(command, input, limit, time)?;
    if output.status.success() { Ok(output.stdout) } else { Err(process::failure("git", &output)) }
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
///
/// # Errors
/// With the path.
pub fn mirrors_size(folder: &Path) -> Result<u64> {
    let mirrors = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.at("list", folder)?,
    };
    let mut size = 0;
    for mirror in mirrors {
        let path = mirror.at("list", folder)?.path();
        size += packs_size(&path)? + super::lfs::size(&path)?;
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
        // Who may read mirrors may not be who may read what is fetched.
        let group = to.metadata().at("look at", &to)?.gid();
        let mut size = 0;
        for name in &names {
            let (from, to) = (from.join(name), to.join(name));
            // Packs are named by what they hold: one that is here is the same.
            if replace || !to.exists() {
                let meta = from.metadata().at("look at", &from)?;
                size += meta.len();
                if meta.gid() != group {
                    chown(&from, None, Some(group)).at("give to the group", &from)?;
                }
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The refs of the mirror, which nobody changes as long as they are held.
    pub fn refs(&self) -> Result<Held> {
        Held::take(&self.path, self.time)
    }

    /// The list that the mirror shows with these refs.
    pub fn list(&self, refs: &Refs) -> Result<RefList> {
        let refs: Refs = refs.iter().filter(|(name, _)| !is_ours(name)).map(|(name, id)| (name.clone(), id.clone())).collect();
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

    /// Those of `pairs` whose first is an ancestor of the second. Tags do not go forward: the old one could not be found from
    /// the new one.
    pub fn forward(&self, pairs: Vec<(String, String)>) -> Result<HashSet<(String, String)>> {
        let ids: Vec<&str> = pairs.iter().flat_map(|(from, to)| [from.as_str(), to.as_str()]).collect();
        let kinds = self.kinds(&ids)?;
        let is_commit = |id: &String| kinds.get(id).is_some_and(|kind| kind == "commit");
        let pairs: Vec<_> = pairs.into_iter().filter(|(from, to)| is_commit(from) && is_commit(to)).collect();
        let forward = forward(&self.path, &pairs, self.time)?;
        Ok(pairs.into_iter().zip(forward).filter_map(|(pair, forward)| forward.then_some(pair)).collect())
    }

    /// Carries a plan out that was made of these refs, and keeps the list under the request's id. The refs change in one step.
    /// Cut off at any place, a new plan made of what is there then leads on; what was reachable is so all the time.
    pub fn carry_out(&self, plan: &Plan, held: Held, id: &str, list: &[u8]) -> Result<()> {
        let blob = feed_ok(git(&self.path, &["hash-object", "-w", "--stdin"]), list.to_vec(), 128, self.time)?;
        let mut refs = held.refs.clone();
        for (name, _) in &plan.delete {
            refs.remove(name);
        }
        refs.extend(plan.keep.iter().cloned());
        refs.extend(plan.set.iter().map(|(name, _, to)| (name.clone(), to.clone())));
        refs.insert(format!("refs/nightsafe/states/{id}").into_bytes(), String::from_utf8_lossy(&blob).trim().to_owned());
        held.replace(&refs)?;
        if let Some(head) = &plan.head {
            set_head(&self.path, head)?;
        }
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
