//! A bare git repository with one signed branch that is a straight line of commits: queue, log, receipts, access list.
//!
//! Local objects only, by libgit2, flushed to the disk; plain git reads and checks the same repository. Knows nothing
//! of what the files say, but for the notes of its history, and decides nothing about who may sign.

use crate::history::History;
use crate::signature::{COMMIT_LIMIT, Signer, hex40, with_signature};
use crate::tree;
use base::{At, Error, FileLock, Kind, Result, atomic, crash};
use create::{DURABLE, DURABLE_TEXT, create, head_of, is_there, receiving_config};
use git2::{ObjectType, Oid};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

mod create;
mod read;
mod tidy;

pub use read::{CommitFiles, FoundFile, TreeEntry, WALK_LIMIT};

/// The most objects that a commit leaves loose; more are written as one pack, which takes as long as two of them.
const LOOSE_LIMIT: usize = 8;
const LOCK: &str = "nightsafe.lock";

/// One bare repository and its branch. May be sent to another thread; each thread opens its own.
pub struct Repository {
    path: PathBuf,
    git: git2::Repository,
    reference: String,
    history: Mutex<History>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({}, {})", self.path.display(), self.reference)
    }
}

impl Repository {
    /// Opens the repository at `path`, which is made (with its folders, `HEAD` on `branch`) when it is not there.
    ///
    /// # Errors
    /// With the path.
    pub fn open_or_create(path: &Path, branch: &str) -> Result<Self> {
        if !is_there(path) {
            create(path, branch, "")?;
        }
        Self::open(path, branch)
    }

    /// Opens the repository at `path`. A damaged `HEAD` is written anew: without one git finds no repository, and nothing
    /// else depends on what it says.
    ///
    /// # Errors
    /// With the path; also when there is none.
    pub fn open(path: &Path, branch: &str) -> Result<Self> {
        let path = path.canonicalize().at("open the repository", path)?;
        if is_there(&path) && !std::fs::read(path.join("HEAD")).is_ok_and(|head| head.starts_with(b"ref: refs/heads/")) {
            // Whoever may only read gets git's own words on it.
            let _ = atomic::write(&path.join("HEAD"), &head_of(branch), 0o640);
        }
        let git = git2::Repository::open_bare(&path)
            .map_err(|error| Error::failed(format!("could not open the repository {}", path.display())).because(error))?;
        let opened = Self { reference: format!("refs/heads/{branch}"), history: Mutex::new(History::of(&path)), git, path };
        opened.ask_for_fsync()?;
        Ok(opened)
    }

    /// Makes or opens a repository that receives pushes: git checks every object, refuses deletions and rewinds, keeps
    /// a reflog, never collects garbage by itself, and runs the hooks in `hooks` and no others. Call it while no git runs
    /// there: a lock on the branch that a killed git left is removed.
    ///
    /// # Errors
    /// With the path.
    pub fn open_receiving(path: &Path, branch: &str, hooks: &Path) -> Result<Self> {
        let config = receiving_config(hooks)?;
        if is_there(path) {
            let file = path.join("config");
            if std::fs::read(&file).ok().as_deref() != Some(config.as_bytes()) {
                atomic::write(&file, config.as_bytes(), 0o640)?;
            }
        } else {
            create(path, branch, &config)?;
        }
        let opened = Self::open(path, branch)?;
        opened.lock()?;
        Ok(opened)
    }

    /// Opens the repository that git runs a hook in, with the objects of the push that git holds in quarantine.
    ///
    /// # Errors
    /// When git's variables are not there or do not fit together.
    pub fn open_quarantined(branch: &str) -> Result<Self> {
        let variable = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .ok_or_else(|| Error::failed(format!("{name} is not set")).hint("This is run by git as a hook, not by hand."))
        };
        let folder = variable("GIT_DIR")?;
        Self::open_with_quarantine(&folder, branch, std::env::var_os("GIT_OBJECT_DIRECTORY").map(PathBuf::from).as_deref())
    }

    /// As [`Repository::open_quarantined`], with what git's variables say: `GIT_DIR` and `GIT_OBJECT_DIRECTORY`.
    ///
    /// # Errors
    /// With the path.
    pub fn open_with_quarantine(folder: &Path, branch: &str, objects: Option<&Path>) -> Result<Self> {
        let opened = Self::open(folder, branch)?;
        if let Some(objects) = objects {
            let objects = objects.canonicalize().at("open the quarantine", objects)?;
            let own = opened.path.join("objects");
            if objects != own {
                if !objects.starts_with(&own) {
                    return Err(Error::failed(format!("the quarantine {} is not in {}", objects.display(), own.display())));
                }
                let text = objects.to_str().ok_or_else(|| Error::failed("the path of the quarantine is not UTF-8"))?;
                opened.odb()?.add_disk_alternate(text).map_err(|error| opened.broken("read the quarantine", error))?;
            }
        }
        Ok(opened)
    }

    /// libgit2 flushes objects and refs only when a configuration file outside the repository's own asks for it.
    fn ask_for_fsync(&self) -> Result<()> {
        let file = self.path.join(DURABLE);
        if !file.exists() && atomic::write(&file, DURABLE_TEXT.as_bytes(), 0o640).is_err() {
            // A repository that this user can only read needs none; writing is refused by `writable`.
            return Ok(());
        }
        let config = self.config()?;
        self.git.set_config(&config).map_err(|error| self.broken("configure", error))
    }

    /// A configuration of its own: what stands in the user's or the system's takes no part.
    fn config(&self) -> Result<git2::Config> {
        let broken = |error| self.broken("configure", error);
        let mut config = git2::Config::new().map_err(broken)?;
        config.add_file(&self.path.join("config"), git2::ConfigLevel::Local, true).map_err(broken)?;
        config.add_file(&self.path.join(DURABLE), git2::ConfigLevel::App, true).map_err(broken)?;
        Ok(config)
    }

    fn writable(&self) -> Result<FileLock> {
        let durable = self.git.config().and_then(|config| config.get_bool("core.fsyncobjectfiles")).unwrap_or(false);
        if !durable {
            return Err(Error::failed(format!("{} cannot be written to safely", self.path.display()))
                .hint("This user can only read that repository."));
        }
        self.lock()
    }

    /// Where the repository is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The branch's full name, `refs/heads/…`.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// The file whose lock serialises writers. Whoever runs git in this repository takes it as well.
    pub fn lock_path(&self) -> PathBuf {
        self.path.join(LOCK)
    }

    /// Waits for the lock. The methods that write take it themselves. Whoever has it writes alone, so the mark by which
    /// git and libgit2 lock the branch is a killed process's, and is removed.
    ///
    /// # Errors
    /// With the path.
    pub fn lock(&self) -> Result<FileLock> {
        let lock = FileLock::wait(&self.lock_path())?;
        atomic::remove(&self.path.join(format!("{}.lock", self.reference)))?;
        Ok(lock)
    }

    /// The branch's newest commit; `None` before the first.
    ///
    /// # Errors
    /// With the path.
    pub fn tip(&self) -> Result<Option<String>> {
        Ok(self.tip_oid()?.map(|oid| oid.to_string()))
    }

    fn tip_oid(&self) -> Result<Option<Oid>> {
        match self.git.refname_to_id(&self.reference) {
            Ok(oid) => Ok(Some(oid)),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.broken("read the branch of", error).hint(self.branch_hint())),
        }
    }

    fn branch_hint(&self) -> String {
        format!(
            "If {0} is damaged, look for the newest commit with git -C {1} fsck --no-reflogs --lost-found, and write its id into {0}.",
            self.path.join(&self.reference).display(),
            self.path.display()
        )
    }

    /// Whether the branch stands at a commit that is here, or never had one: before something is built on it, or somebody
    /// else is blamed for what does not follow it.
    ///
    /// # Errors
    /// When the branch was lost or damaged, with its file and the way out.
    pub fn check_branch(&self) -> Result<()> {
        let file = self.path.join(&self.reference);
        match self.tip_oid()? {
            Some(tip) => self.raw(tip, ObjectType::Commit, COMMIT_LIMIT).map(drop).map_err(|error| {
                let what = format!("{} is damaged, or the commit that it names", file.display());
                error.with_kind(Kind::Failed).context(what).hint(self.branch_hint())
            }),
            // Notes are made of commits alone, and go with a branch that is set anew.
            None => match History::of(&self.path).noted() {
                None => Ok(()),
                Some(tip) => Err(Error::failed(format!("{} is not there, and stood at {tip}", file.display())).hint(self.branch_hint())),
            },
        }
    }

    /// Lets go of the branch where it is damaged, or the commit that it names: for one that is only fetched into, and of which git
    /// would say that whoever is fetched from sent nothing usable.
    ///
    /// # Errors
    /// With the path.
    pub fn let_go_if_damaged(&self) -> Result<()> {
        let whole = match self.tip_oid() {
            Ok(None) => true,
            Ok(Some(tip)) => self.raw(tip, ObjectType::Commit, COMMIT_LIMIT).is_ok(),
            Err(_) => false,
        };
        if whole { Ok(()) } else { atomic::remove(&self.path.join(&self.reference)) }
    }

    /// Commits `files`, which become the whole tree, on top of the branch; a name may be `FOLDER/NAME`. Durable when it
    /// returns. `author` is a name; the mail address that git wants is `NAME@nightsafe.invalid`.
    ///
    /// # Errors
    /// With the path; then the branch is as it was.
    pub fn commit_files(&self, files: &[(String, Vec<u8>)], message: &str, signer: &Signer, author: &str) -> Result<String> {
        let _lock = self.writable()?;
        let tip = self.tip_oid()?;
        let mut sorted: Vec<_> = files.iter().collect();
        sorted.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        let plain = |name: &str| !matches!(name, "" | "." | ".." | ".git") && !name.contains(['/', '\0', '\n']);
        // The access list keeps its keys in a folder; deeper than that nothing goes.
        let good = |name: &str| name.split_once('/').map_or_else(|| plain(name), |(folder, name)| plain(folder) && plain(name));
        let folders: HashSet<_> = sorted.iter().filter_map(|(name, _)| name.split_once('/')).map(|(folder, _)| folder).collect();
        let twice = sorted.windows(2).any(|pair| pair[0].0 == pair[1].0) || sorted.iter().any(|(name, _)| folders.contains(name.as_str()));
        if sorted.is_empty() || twice || !sorted.iter().all(|(name, _)| good(name)) {
            return Err(Error::failed("a commit needs files, each with a plain name of its own"));
        }
        let author = author_line(author)?;
        let mut objects = Vec::new();
        let mut put = |kind, content: &[u8]| {
            objects.push((kind, content.to_vec()));
            tree::id_of(kind, content)
        };
        let mut entries = Vec::new();
        for (name, content) in &sorted {
            entries.push((name.as_str(), put(ObjectType::Blob, content)?));
        }
        let tree = tree::write_nested(&entries, &mut |raw| put(ObjectType::Tree, raw))?;
        let mut payload = format!("tree {tree}\n");
        if let Some(tip) = tip {
            let _ = writeln!(payload, "parent {tip}");
        }
        let _ = write!(payload, "author {author}\ncommitter {author}\n\n{}\n", message.trim_end().replace('\0', ""));
        let armored = signer.sign(payload.as_bytes())?;
        let raw = with_signature(&payload, &armored).ok_or_else(|| Error::failed("the commit could not be put together"))?;
        if raw.len() > COMMIT_LIMIT {
            return Err(Error::failed("the commit's message is too long"));
        }
        let oid = put(ObjectType::Commit, &raw)?;
        self.store(&objects)?;
        crash::point("stored");
        self.move_tip(oid, tip)?;
        crash::point("moved");
        // The commit stands. Notes that could not be kept are made again from the history.
        let noted = self.history().and_then(|mut history| history.append(self, tip, oid).or_else(|_| history.forget()));
        if let Err(error) = noted {
            tracing::warn!("{}", error.one_line());
        }
        self.tidy_now_and_then(oid);
        Ok(oid.to_string())
    }

    /// Makes objects durable before anything names them.
    fn store(&self, objects: &[(ObjectType, Vec<u8>)]) -> Result<()> {
        let broken = |error| self.broken("write an object into", error);
        let folder = self.path.join("objects");
        if objects.len() <= LOOSE_LIMIT {
            let odb = self.odb()?;
            for (kind, content) in objects {
                odb.write(*kind, content).map_err(broken)?;
            }
            // libgit2 flushes each object and its folder, but not the name of a folder that is new.
            return atomic::sync_folder(&folder);
        }
        let memory = git2::Odb::new().map_err(broken)?;
        memory.add_new_mempack_backend(1).map_err(broken)?;
        let oids = objects.iter().map(|(kind, content)| memory.write(*kind, content)).collect::<Result<Vec<_>, _>>().map_err(broken)?;
        let repository = git2::Repository::from_odb(memory).map_err(broken)?;
        repository.set_config(&self.config()?).map_err(broken)?;
        let mut pack = repository.packbuilder().map_err(broken)?;
        for oid in oids {
            pack.insert_object(oid, None).map_err(broken)?;
        }
        pack.write(&folder.join("pack"), 0o440).map_err(broken)?;
        self.odb()?.refresh().map_err(broken)
    }

    /// Moves the branch to `new`, if it stands at `expected_old`. The caller has checked that `new` may follow.
    ///
    /// # Errors
    /// Of kind not-now, when the branch stands elsewhere; with the path.
    pub fn set_tip(&self, new: &str, expected_old: Option<&str>) -> Result<()> {
        let (new, old) = (oid_of(new)?, expected_old.map(oid_of).transpose()?);
        let _lock = self.writable()?;
        self.move_tip(new, old)?;
        crash::point("moved");
        self.tidy_now_and_then(new);
        Ok(())
    }

    fn move_tip(&self, new: Oid, old: Option<Oid>) -> Result<()> {
        let reference = &self.reference;
        let moved = match old {
            Some(old) => self.git.reference_matching(reference, new, true, old, "nightsafe"),
            None => self.git.reference(reference, new, false, "nightsafe"),
        };
        match moved {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.code(), git2::ErrorCode::Modified | git2::ErrorCode::Exists) => {
                Err(Error::not_now(format!("the branch of {} was moved by somebody else", self.path.display())).because(error))
            }
            Err(error) => Err(self.broken("move the branch of", error)),
        }
    }

    /// Moves the branch to `oid` wherever it stood, and forgets what was noted about the history.
    ///
    /// # Errors
    /// With the path.
    pub fn reset_to(&self, oid: &str) -> Result<()> {
        let oid = oid_of(oid)?;
        let _lock = self.writable()?;
        if self.odb()?.read_header(oid).map(|header| header.1).ok() != Some(ObjectType::Commit) {
            return Err(Error::failed(format!("{oid} is no commit of {}", self.path.display())));
        }
        self.history()?.forget()?;
        self.git.reference(&self.reference, oid, true, "nightsafe: reset").map_err(|error| self.broken("move the branch of", error))?;
        crash::point("moved");
        Ok(())
    }

    /// Packs loose objects once there are many, and small packs into larger ones. Nothing is ever dropped. Cheap when
    /// there is nothing to do. Writing calls it now and then; a repository that git alone writes to needs it from a timer.
    ///
    /// # Errors
    /// With git's own words.
    pub fn tidy(&self) -> Result<()> {
        let _lock = self.lock()?;
        tidy::tidy(&self.path)
    }

    /// Has git read and hash every object; its words where something is damaged, nothing where all is whole. Takes no lock:
    /// what is written meanwhile is only added.
    ///
    /// # Errors
    /// When git cannot be run, or takes too long.
    pub fn damage(&self) -> Result<Vec<String>> {
        tidy::damage(&self.path)
    }

    /// The lock is held. One commit in 64 looks whether there is something to tidy.
    fn tidy_now_and_then(&self, tip: Oid) {
        if tip.as_bytes().first().is_some_and(|byte| byte % 64 == 0)
            && let Err(error) = tidy::tidy(&self.path)
        {
            tracing::warn!("{}", error.one_line());
        }
    }

    fn history(&self) -> Result<std::sync::MutexGuard<'_, History>> {
        self.history.lock().map_err(|_| Error::failed("a thread that read the history has panicked"))
    }

    fn odb(&self) -> Result<git2::Odb<'_>> {
        self.git.odb().map_err(|error| self.broken("read", error))
    }

    fn broken(&self, doing: &str, error: git2::Error) -> Error {
        let hint = format!("git -C {} fsck says more.", self.path.display());
        Error::failed(format!("could not {doing} {}", self.path.display())).because(error).hint(hint).or_full()
    }
}

fn oid_of(text: &str) -> Result<Oid> {
    hex40(text).and_then(|hex| Oid::from_str(&hex).map_err(|error| Error::refused("no object's id").because(error)))
}

fn author_line(name: &str) -> Result<String> {
    if name.is_empty() || name.len() > 100 || name.contains(['<', '>']) || name.chars().any(char::is_control) || name.trim() != name {
        return Err(Error::failed(format!("{name:?} cannot be a commit's author")));
    }
    let mail: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' }).collect();
    Ok(format!("{name} <{mail}@nightsafe.invalid> {} +0000", base::clock::now().as_second().max(0)))
}
