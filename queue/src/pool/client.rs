//! The pool of a client: `inbox/`, where any user of the submit group may put a file, and `work/`, the sender's own.
//!
//! Does not know the configuration (the caller checks what may be named) nor the queue (the caller says what is in it).

use super::{FILE_LIMIT, PoolFile, State, UNFINISHED, ids};
use base::{At, Error, FileLock, Kind, Monitor, RequestId, Result, atomic, crash, untrusted};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What became of a request that was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It is in the pool.
    New(RequestId),
    /// A request for the same was waiting, and covers it: it will be prepared from now on.
    AlreadyWaiting(RequestId),
}

impl Submitted {
    /// The request to wait for, in both cases.
    pub fn id(&self) -> &RequestId {
        let (Self::New(id) | Self::AlreadyWaiting(id)) = self;
        id
    }
}

/// What became of a request that was to be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It is gone.
    Done,
    /// It was sent to the node and cannot be called back.
    Sent,
    /// It is finished, or there never was one.
    Unknown,
}

/// A request that this process works on; nobody else does, as long as this value lives.
#[derive(Debug)]
pub struct Claimed {
    /// The request.
    pub file: PoolFile,
    /// Who asked for it: the user who owned the file in the inbox.
    pub by: String,
    /// The lock on the `P` file.
    pub lock: FileLock,
    /// The `P` file.
    pub path: PathBuf,
}

/// The pool of a client.
#[derive(Debug, Clone)]
pub struct ClientPool {
    root: PathBuf,
    inbox: PathBuf,
    work: PathBuf,
}

impl ClientPool {
    /// Makes the folders of a pool: `inbox/` (mode 1770) and `work/` (mode 0700). What is there stays as it is.
    ///
    /// # Errors
    /// With the path.
    pub fn create(root: &Path) -> Result<Self> {
        let pool = Self::at(root);
        for (folder, mode) in [(&pool.root, 0o755), (&pool.inbox, 0o1770), (&pool.work, 0o700)] {
            if !folder.is_dir() {
                atomic::make_folder(folder, mode)?;
                // The umask takes bits away that are needed here.
                fs::set_permissions(folder, Permissions::from_mode(mode)).at("set the mode of", folder)?;
            }
        }
        Ok(pool)
    }

    /// Opens a pool that [`ClientPool::create`] has made. Works for users who may only put files into the inbox.
    ///
    /// # Errors
    /// Of kind usage when there is none.
    pub fn open(root: &Path) -> Result<Self> {
        let pool = Self::at(root);
        match fs::symlink_metadata(&pool.inbox) {
            Ok(meta) if meta.is_dir() => Ok(pool),
            Ok(_) => Err(Error::usage(format!("{} is not a folder", pool.inbox.display()))),
            Err(error) => Err(error)
                .at("open the pool", &pool.inbox)
                .map_err(|e| e.with_kind(Kind::Usage).hint("Run nightsafe init, and let submitters belong to the group of that folder.")),
        }
    }

    fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), inbox: root.join("inbox"), work: root.join("work") }
    }

    /// The folder to watch for new requests.
    pub fn inbox(&self) -> &Path {
        &self.inbox
    }

    /// Puts a request into the inbox. A request for the same dataset and node that is waiting there, with at least the
    /// same tags, covers it.
    ///
    /// # Errors
    /// With the path; then nothing of it is left behind.
    pub fn submit(&self, file: &PoolFile) -> Result<Submitted> {
        file.check()?;
        let hint = "The submitter must belong to the group of that folder.";
        for id in ids(&self.inbox, State::Complete).map_err(|error| error.hint(hint))? {
            // What cannot be read is the sender's business to judge, not a reason to refuse this request.
            let Ok((waiting, _)) = read(&State::Complete.path(&self.inbox, &id), &id) else { continue };
            if waiting.same_subject(file) && file.tags.iter().all(|tag| waiting.tags.contains(tag)) {
                return Ok(Submitted::AlreadyWaiting(id));
            }
        }
        let (writing, complete) = (State::Writing.path(&self.inbox, &file.id), State::Complete.path(&self.inbox, &file.id));
        let done = write_durably(&writing, &self.inbox, &file.to_toml(None)?)
            .and_then(|()| atomic::rename_new(&writing, &complete))
            .and_then(|()| match atomic::sync_folder(&self.inbox) {
                Ok(()) => Ok(()),
                Err(error) => fs::remove_file(&complete).at("remove", &complete).and(Err(error)),
            });
        if let Err(error) = done {
            // Best effort on top of an error that is reported: the sweep removes what stays.
            let _ = fs::remove_file(&writing);
            let error = error.context(format!("could not put a request into {}", self.inbox.display()));
            // A full disk has its own hint.
            return Err(if error.kind() == Kind::NotNow { error } else { error.hint(hint) });
        }
        Ok(Submitted::New(file.id.clone()))
    }

    /// What waits in the inbox, in the order in which it came there: ids are made by submitters, and so are the times that
    /// one can set.
    fn waiting(&self) -> Result<Vec<RequestId>> {
        let came = |id: &RequestId| {
            let meta = State::Complete.path(&self.inbox, id).symlink_metadata();
            meta.map_or((i64::MAX, 0), |meta| (meta.ctime(), meta.ctime_nsec()))
        };
        let mut ids = ids(&self.inbox, State::Complete)?;
        ids.sort_by_cached_key(came);
        Ok(ids)
    }

    /// Takes the first waiting request that `wanted` accepts and of whose dataset and node none is in process.
    /// Files that are not usable are removed and reported.
    ///
    /// # Errors
    /// With the path, when the pool itself cannot be used.
    pub fn claim_next(&self, wanted: &dyn Fn(&PoolFile) -> bool, monitor: &dyn Monitor) -> Result<Option<Claimed>> {
        let _lock = self.lock()?;
        let mut busy: Option<Vec<PoolFile>> = None;
        for id in self.waiting()? {
            let from = State::Complete.path(&self.inbox, &id);
            let file = match read(&from, &id).and_then(|(file, _)| self.check_unused(&id).map(|()| file)) {
                Ok(file) => file,
                Err(error) => {
                    if from.symlink_metadata().is_ok() {
                        discard(&from, error, monitor);
                    }
                    continue;
                }
            };
            if !wanted(&file) {
                continue;
            }
            // Read at the first need: most runs find nothing waiting.
            let busy = match &mut busy {
                Some(busy) => busy,
                none => none.insert(self.in_process()?),
            };
            if busy.iter().any(|other| other.same_subject(&file)) {
                continue;
            }
            let to = State::Process.path(&self.work, &id);
            match fs::rename(&from, &to) {
                // It was cancelled in this moment.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.at("rename to", &to)?,
            }
            crash::point("claimed");
            match self.adopt(&id, Some(&file)) {
                Ok(Some(claimed)) => return Ok(Some(claimed)),
                Ok(None) => {}
                Err(error) if error.kind() == Kind::NotNow => return Err(error),
                Err(error) => discard(&to, error, monitor),
            }
        }
        Ok(None)
    }

    /// Puts a request that the sender itself has made straight into process, or takes it up again.
    ///
    /// # Errors
    /// With the path; of kind "not now" while another request for the same is in process.
    pub fn take(&self, file: &PoolFile, by: &str) -> Result<Claimed> {
        file.check()?;
        let _lock = self.lock()?;
        if let Some(other) = self.in_process()?.iter().find(|other| other.same_subject(file) && other.id != file.id) {
            return Err(Error::not_now(format!("{} of {}:{} is in process", other.id, file.module, file.path)));
        }
        let path = State::Process.path(&self.work, &file.id);
        let busy = || Error::not_now(format!("{} is being worked on", file.id));
        if path.symlink_metadata().is_ok() && is_worked_on(&path)? {
            return Err(busy());
        }
        atomic::write(&path, &file.to_toml(Some(by))?, 0o600)?;
        let lock = FileLock::try_now(&path)?.ok_or_else(busy)?;
        Ok(Claimed { file: file.clone(), by: by.to_owned(), lock, path })
    }

    /// The requests in process that nobody works on and that were not sent (`sent` says so for a request): a crash
    /// left them. Each is locked by the value that is returned for it.
    ///
    /// # Errors
    /// With the path, or what `sent` says.
    pub fn crashed(&self, sent: &dyn Fn(&PoolFile) -> Result<bool>, monitor: &dyn Monitor) -> Result<Vec<Claimed>> {
        let _lock = self.lock()?;
        let mut found = Vec::new();
        for id in ids(&self.work, State::Process)? {
            let path = State::Process.path(&self.work, &id);
            match read(&path, &id) {
                Ok((file, _)) if sent(&file)? => {}
                Ok(_) => match self.adopt(&id, None) {
                    Ok(claimed) => found.extend(claimed),
                    Err(error) if error.kind() == Kind::NotNow => return Err(error),
                    Err(error) => discard(&path, error, monitor),
                },
                Err(error) => discard(&path, error, monitor),
            }
        }
        Ok(found)
    }

    /// Makes `work/P<id>` a file of our own that says who asked, and locks it. `None` when a worker has it.
    /// With `expected`, the content must still be that: the submitter may hold the old file open for writing.
    fn adopt(&self, id: &RequestId, expected: Option<&PoolFile>) -> Result<Option<Claimed>> {
        let path = State::Process.path(&self.work, id);
        let (file, by) = read(&path, id)?;
        if expected.is_some_and(|expected| *expected != file) {
            return Err(Error::refused(format!("{id} was changed while it was taken over")));
        }
        if expected.is_none() && is_worked_on(&path)? {
            return Ok(None);
        }
        // A lock belongs to the file, not to its name: so first the new file, then the lock. Everyone who locks a `P`
        // holds the pool's lock while doing so, and nobody can come in between.
        atomic::write(&path, &file.to_toml(Some(&by))?, 0o600)?;
        Ok(FileLock::try_now(&path)?.map(|lock| Claimed { file, by, lock, path }))
    }

    /// Marks a request as finished. One that is finished, or unknown, stays so.
    ///
    /// # Errors
    /// With the path.
    pub fn finish(&self, id: &RequestId) -> Result<()> {
        let _lock = self.lock()?;
        let (from, to) = (State::Process.path(&self.work, id), State::Finished.path(&self.work, id));
        super::finish(&from, &to)
    }

    /// Takes a request back that was not sent yet. `sent` says whether its queue holds it.
    ///
    /// # Errors
    /// With the path; of kind "not now" while it is being prepared.
    pub fn cancel(&self, id: &RequestId, sent: &dyn Fn(&PoolFile) -> Result<bool>) -> Result<Cancelled> {
        let waiting = State::Complete.path(&self.inbox, id);
        match fs::remove_file(&waiting) {
            Ok(()) => return Ok(Cancelled::Done),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error)
                    .at("remove", &waiting)
                    .map_err(|e| e.hint("Only who submitted it, or the account of nightsafe, may cancel a request."));
            }
        }
        let _lock = self.lock()?;
        let path = State::Process.path(&self.work, id);
        if !path.is_file() {
            return Ok(Cancelled::Unknown);
        }
        let (file, _) = read(&path, id)?;
        if is_worked_on(&path)? {
            return Err(Error::not_now(format!("{id} is being prepared just now")).hint("Try again when it is done, or stop the sender."));
        }
        if sent(&file)? {
            return Ok(Cancelled::Sent);
        }
        atomic::remove(&path)?;
        Ok(Cancelled::Done)
    }

    /// Asks again for what a request asked for, under a new id. One that is not finished yet is its own answer.
    ///
    /// # Errors
    /// Of kind usage when nothing is known of it.
    pub fn retry(&self, id: &RequestId) -> Result<Submitted> {
        for (state, folder) in [(State::Complete, &self.inbox), (State::Process, &self.work)] {
            if state.path(folder, id).is_file() {
                return Ok(Submitted::AlreadyWaiting(id.clone()));
            }
        }
        let path = State::Finished.path(&self.work, id);
        if !path.is_file() {
            return Err(Error::usage(format!("there is no request {id} here"))
                .hint("Finished ones are kept for 7 days; nightsafe submit asks anew."));
        }
        let (file, _) = read(&path, id)?;
        self.submit(&PoolFile::new(&file.dataset()?, &file.node, &file.tags, base::Reason::Manual)?)
    }

    /// The request `id` and its state, if it is here.
    ///
    /// # Errors
    /// With the path, when it is here and cannot be read.
    pub fn find(&self, id: &RequestId) -> Result<Option<(State, PoolFile, String)>> {
        Ok(self.first_of(&[State::Complete, State::Process, State::Finished], id))
    }

    /// The request `id` and its state, once the sender has claimed it. What anybody writes into the inbox cannot hide it.
    pub fn find_claimed(&self, id: &RequestId) -> Option<(State, PoolFile)> {
        self.first_of(&[State::Process, State::Finished], id).map(|(state, file, _)| (state, file))
    }

    /// From the first state to the last, and once more: it may move on while we look.
    fn first_of(&self, states: &[State], id: &RequestId) -> Option<(State, PoolFile, String)> {
        states.iter().chain(states).find_map(|state| {
            let path = state.path(self.folder(*state), id);
            path.symlink_metadata().ok()?;
            read(&path, id).ok().map(|(file, by)| (*state, file, by))
        })
    }

    /// Where requests in this state are.
    fn folder(&self, state: State) -> &Path {
        if state == State::Complete { &self.inbox } else { &self.work }
    }

    /// All requests with their states and who asked for them, those in the inbox first. Who may not look into `work/` sees the inbox alone; what
    /// is not usable is left out.
    ///
    /// # Errors
    /// With the path.
    pub fn list(&self) -> Result<Vec<(State, PoolFile, String)>> {
        self.in_states(&[State::Complete, State::Process, State::Finished])
    }

    /// As [`ClientPool::list`], without those that are finished: of these there may be many, and most callers do not ask for them.
    ///
    /// # Errors
    /// With the path.
    pub fn unfinished(&self) -> Result<Vec<(State, PoolFile, String)>> {
        self.in_states(&[State::Complete, State::Process])
    }

    fn in_states(&self, states: &[State]) -> Result<Vec<(State, PoolFile, String)>> {
        let mut all = Vec::new();
        for state in states {
            let folder = self.folder(*state);
            let ids = match fs::read_dir(folder) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => continue,
                _ => ids(folder, *state)?,
            };
            all.extend(ids.iter().filter_map(|id| read(&state.path(folder, id), id).ok()).map(|(file, by)| (*state, file, by)));
        }
        Ok(all)
    }

    /// Removes finished requests older than `age`, and what crashes left half written. Says how many went.
    ///
    /// # Errors
    /// With the path.
    pub fn sweep_finished(&self, age: Duration) -> Result<usize> {
        let swept = super::sweep(&self.work, State::Finished, age)?;
        super::sweep(&self.inbox, State::Writing, UNFINISHED)?;
        atomic::sweep_drafts(&self.work, UNFINISHED);
        Ok(swept)
    }

    fn lock(&self) -> Result<FileLock> {
        FileLock::wait(&self.root.join("lock"))
    }

    /// The requests in process, whoever works on them. What is not usable is left out.
    ///
    /// # Errors
    /// With the path.
    pub fn in_process(&self) -> Result<Vec<PoolFile>> {
        let ids = ids(&self.work, State::Process)?;
        Ok(ids.iter().filter_map(|id| read(&State::Process.path(&self.work, id), id).ok()).map(|(file, _)| file).collect())
    }

    /// A submitter who writes the id of another request must not replace it.
    fn check_unused(&self, id: &RequestId) -> Result<()> {
        let used = [State::Process, State::Finished].iter().any(|state| state.path(&self.work, id).symlink_metadata().is_ok());
        if used { Err(Error::refused(format!("the id {id} was used before"))) } else { Ok(()) }
    }
}

/// Reads one pool file that anybody may have written, and says who asked.
fn read(path: &Path, id: &RequestId) -> Result<(PoolFile, String)> {
    let found = untrusted::read(path, FILE_LIMIT)?;
    let name = path.display().to_string();
    // Only what this account wrote itself may say that somebody else asked.
    let ours =
        found.uid == rustix::process::geteuid().as_raw() && path.file_name().is_some_and(|n| !n.as_encoded_bytes().starts_with(b"C"));
    let (file, by) = if ours { PoolFile::parse_with_by(&name, &found.bytes)? } else { (PoolFile::parse(&name, &found.bytes)?, None) };
    if file.id != *id {
        return Err(Error::refused(format!("{name} says that its id is {}", file.id)));
    }
    Ok((file, by.unwrap_or_else(|| user_name(found.uid))))
}

/// Whether a worker holds the lock on a `P` file. The caller holds the pool's lock, so that none can take it meanwhile.
fn is_worked_on(path: &Path) -> Result<bool> {
    let owner = fs::symlink_metadata(path).at("stat", path)?.uid();
    // A file that is still the submitter's was never written anew, so no worker has it; we could not even lock it.
    Ok(owner == rustix::process::geteuid().as_raw() && FileLock::try_now(path)?.is_none())
}

fn user_name(uid: u32) -> String {
    let name = uzers::get_user_by_uid(uid).map(|user| user.name().to_string_lossy().into_owned());
    name.filter(|name| !name.is_empty() && name.len() <= 64 && !name.chars().any(char::is_control)).unwrap_or_else(|| format!("uid-{uid}"))
}

/// Removes what is not usable and reports it; what cannot be removed is reported as well and stands in nobody's way.
fn discard(path: &Path, why: Error, monitor: &dyn Monitor) {
    let removed = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
    let what = match removed {
        Ok(()) => format!("{} is not usable and was removed", path.display()),
        Err(error) => format!("{} is not usable and could not be removed ({error})", path.display()),
    };
    monitor.problem(&why.context(what));
}

/// Writes a new file that the group of the inbox can read, and makes its content durable.
fn write_durably(path: &Path, inbox: &Path, bytes: &[u8]) -> Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path).at("create", path)?;
    let group = fs::metadata(inbox).at("stat", inbox)?.gid();
    if file.metadata().at("stat", path)?.gid() != group {
        // Possible for members of the group and for root; without it others of the group queue this dataset again.
        let _ = std::os::unix::fs::fchown(&file, None, Some(group));
    }
    file.set_permissions(Permissions::from_mode(0o640)).at("set the mode of", path)?;
    file.write_all(bytes).at("write", path)?;
    file.sync_all().at("write", path)?;
    crash::point("written");
    Ok(())
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
