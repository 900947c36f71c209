//! Lines to a node that cannot reach this machine: holds one open for as long as something waits for the node, runs what the node
//! asks for, and holds another meanwhile.
//!
//! Decides nothing of what a node may have: each command is for this machine's own gate, which a node that logs in meets as well.

use super::bell::lock;
use crate::state;
use base::config::ClientConfig;
use base::{At, Error, FileLock, Name, Result, backoff, process};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use transport::{Heard, Line, Passed, Peer, Stream};

/// So many lines at once: packs come over up to four, a mirror over one, and one is spare.
const MOST: usize = 6;
/// The longest wait for the next try: a machine that comes and goes is not to wait for an hour when it is back.
const LONGEST: Duration = Duration::from_secs(300);
/// How long the words of a line that ended are waited for.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often, and how many times, the sign is tried again that somebody looks at in this moment.
const GLANCE: Duration = Duration::from_millis(5);
const GLANCES: u32 = 40;

/// The lines to one node.
#[derive(Debug)]
pub struct Dialer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Arc<ClientConfig>,
    node: Name,
    peer: Arc<Peer>,
    gate: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    wanted: bool,
    /// Lines that are being opened, or wait for a command, by their numbers; the stream ends it. One that is missing was hung up.
    spare: BTreeMap<u64, Option<Stream>>,
    /// Those that run a command.
    busy: BTreeMap<u64, Arc<Passed>>,
    /// How many threads there are.
    threads: usize,
    next: u64,
    failures: u32,
    /// When something last began or ended.
    active: Instant,
    /// Whether the gate has taken one.
    joined: bool,
    /// Why it did not, the last time.
    trouble: Option<Error>,
    /// Held while the gate has one, for whoever looks.
    sign: Option<FileLock>,
}

impl Dialer {
    /// For `node`, which is reached as `peer`. Nothing is opened yet.
    ///
    /// # Errors
    /// When the gate's program is not there.
    pub fn new(config: &Arc<ClientConfig>, node: &Name, peer: &Arc<Peer>) -> Result<Self> {
        Ok(Self(Arc::new(Shared {
            config: Arc::clone(config),
            node: node.clone(),
            peer: Arc::clone(peer),
            gate: crate::enrol::gate_program()?,
            state: Mutex::new(State::new()),
            changed: Condvar::new(),
        })))
    }

    /// Whether lines are wanted from now on. Those that run a command go on in either case.
    pub fn want(&self, wanted: bool) {
        let mut state = lock(&self.0.state);
        if state.wanted == wanted {
            return;
        }
        state.wanted = wanted;
        if wanted {
            (state.active, state.failures, state.trouble) = (Instant::now(), 0, None);
            Shared::keep_spare(&self.0, &mut state);
        } else {
            state.hang_up();
        }
        self.0.changed.notify_all();
    }

    /// Since when nothing was asked for, nothing ended and nothing passed; while a command runs no sooner than the node itself would
    /// give it up.
    pub fn idle(&self) -> Duration {
        let state = lock(&self.0.state);
        let silent = state.busy.values().map(|passed| passed.silence().saturating_sub(transport::STALL));
        silent.chain([state.active.elapsed()]).min().unwrap_or_default()
    }

    /// Why the gate does not take a line, if it does not.
    pub fn trouble(&self) -> Option<String> {
        let state = lock(&self.0.state);
        state.trouble.as_ref().filter(|_| !state.joined).map(Error::one_line)
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        self.want(false);
    }
}

/// Whether some process of this machine has a line to `node`.
pub fn is_dialled(config: &ClientConfig, node: &Name) -> bool {
    let sign = std::fs::File::open(state::dialled_path(config, node));
    sign.is_ok_and(|sign| matches!(sign.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Locks the file at `path`, which whoever looks holds for a moment; `None` where somebody holds it for longer.
fn put_up_sign(path: &Path, glances: u32) -> Result<Option<FileLock>> {
    for _ in 0..glances {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path);
        if let Some(sign) = FileLock::try_on(file.at("open", path)?, path)? {
            return Ok(Some(sign));
        }
        std::thread::sleep(GLANCE);
    }
    Ok(None)
}

impl State {
    /// Nothing is wanted yet.
    fn new() -> Self {
        Self {
            wanted: false,
            spare: BTreeMap::new(),
            busy: BTreeMap::new(),
            threads: 0,
            next: 0,
            failures: 0,
            active: Instant::now(),
            joined: false,
            trouble: None,
            sign: None,
        }
    }

    /// Ends the lines that wait for a command.
    fn hang_up(&mut self) {
        self.spare.clear();
        (self.joined, self.sign) = (false, None);
    }

    /// A line has ended. One that we have hung up ourselves says nothing of the gate.
    fn ended(&mut self, number: u64, ended: Result<Ran>) {
        let hung_up = self.spare.remove(&number).is_none();
        match ended {
            Ok(Ran::Command) => {
                self.busy.remove(&number);
                self.active = Instant::now();
            }
            Err(error) if !hung_up => {
                self.failures = self.failures.saturating_add(1);
                (self.joined, self.trouble, self.sign) = (false, Some(error), None);
            }
            Ok(Ran::Nothing) | Err(_) => {}
        }
    }
}

impl Shared {
    /// Begins another line when none is spare.
    fn keep_spare(shared: &Arc<Self>, state: &mut State) {
        if !state.wanted || !state.spare.is_empty() || state.threads >= MOST {
            return;
        }
        state.next += 1;
        state.threads += 1;
        let number = state.next;
        state.spare.insert(number, None);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || shared.line(number));
    }

    /// One thread: holds a line until it has run a command, and then another if none is spare.
    fn line(self: Arc<Self>, mut number: u64) {
        loop {
            let ended = self.one(number);
            if let Err(error) = &ended {
                tracing::info!("{}: {}", self.node, error.one_line());
            }
            let mut state = lock(&self.state);
            state.ended(number, ended);
            self.changed.notify_all();
            if !state.wanted || !state.spare.is_empty() {
                state.threads -= 1;
                return;
            }
            // This thread's line is the spare one from here on.
            state.next += 1;
            number = state.next;
            state.spare.insert(number, None);
            let wait = match state.failures {
                // Whoever joins lines and ends them at once is not to keep us busy.
                0 => Duration::from_millis(20),
                failures => backoff::delay(failures, backoff::jitter()).min(LONGEST),
            };
            let until = Instant::now() + wait;
            while state.spare.contains_key(&number) && Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                state = self.changed.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
            }
            if !state.spare.contains_key(&number) {
                state.threads -= 1;
                return;
            }
        }
    }

    /// Opens a line, and runs a command when one comes.
    fn one(self: &Arc<Self>, number: u64) -> Result<Ran> {
        let (mut line, stream) = self.peer.dial()?;
        {
            let mut state = lock(&self.state);
            let Some(place) = state.spare.get_mut(&number) else { return Ok(Ran::Nothing) };
            *place = Some(stream);
        }
        let broke = |error: std::io::Error| Error::not_now(format!("the line to {} broke", self.node)).because(error);
        let (protocol, verb) = loop {
            match line.hear().map_err(broke)? {
                // The gate has it in both cases, and it is the node's turn.
                Heard::Waiting | Heard::Joined => self.joined(number)?,
                Heard::Leave(why) => return Err(Error::not_now(format!("{} sent us away: {why}", self.node))),
                Heard::Command { protocol, verb } => break (protocol, verb),
                Heard::Over => return self.over(number),
            }
        };
        let passed = Arc::new(Passed::now());
        let stream = {
            let mut state = lock(&self.state);
            let Some(stream) = state.spare.remove(&number).flatten() else { return Ok(Ran::Nothing) };
            state.busy.insert(number, Arc::clone(&passed));
            state.active = Instant::now();
            Self::keep_spare(self, &mut state);
            stream
        };
        tracing::info!("{} asks for {verb:?}", self.node);
        if let Err(error) = self.answer((line, stream), &protocol, &verb, &passed) {
            // A node that has all that it wants hangs up as well.
            tracing::debug!("{}: {verb:?}: {}", self.node, error.one_line());
        }
        Ok(Ran::Command)
    }

    fn answer(&self, (line, stream): (Line, Stream), protocol: &str, verb: &str, passed: &Arc<Passed>) -> Result<()> {
        let mut gate = process::command(&self.gate);
        gate.arg("--config").arg(&self.config.file).arg("export").arg(self.node.as_str());
        // As sshd gives them to it. The gate judges both.
        gate.env("SSH_ORIGINAL_COMMAND", verb.replace('\0', "\u{fffd}")).env("SSH_CONNECTION", "dialled");
        if !protocol.is_empty() {
            gate.env("GIT_PROTOCOL", protocol.replace('\0', "\u{fffd}"));
        }
        line.answer(stream, gate, passed)
    }

    fn joined(&self, number: u64) -> Result<()> {
        {
            let mut state = lock(&self.state);
            if !state.spare.contains_key(&number) {
                return Ok(());
            }
            (state.failures, state.joined, state.trouble) = (0, true, None);
            if state.sign.is_some() {
                return Ok(());
            }
        }
        // Nobody waits for this one but whoever looks.
        let sign = put_up_sign(&state::dialled_path(&self.config, &self.node), GLANCES)?;
        let mut state = lock(&self.state);
        if state.sign.is_none() && state.joined {
            state.sign = sign;
        }
        Ok(())
    }

    /// The words of a line that ended before anything was asked for.
    fn over(&self, number: u64) -> Result<Ran> {
        let stream = lock(&self.state).spare.get_mut(&number).and_then(Option::take);
        let Some(stream) = stream else { return Ok(Ran::Nothing) };
        stream.finish(LAST_WORDS).and_then(|()| Err(Error::not_now(format!("the gate of {} ended the line", self.node))))
    }
}

/// What a line was good for.
enum Ran {
    /// A command.
    Command,
    /// It was given up before.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_we_hung_up_is_no_trouble_of_the_gates() {
        let broke = || Err(Error::not_now("the line broke"));
        let mut state = State::new();
        state.joined = true;
        state.spare.insert(1, None);
        state.ended(1, broke());
        assert!(state.failures == 1 && state.trouble.is_some() && !state.joined);
        // Hung up, and wanted again before its thread has seen the end.
        (state.failures, state.trouble) = (0, None);
        state.spare.insert(2, None);
        state.hang_up();
        state.spare.insert(3, None);
        state.joined = true;
        state.ended(2, broke());
        assert!(state.failures == 0 && state.trouble.is_none() && state.joined && state.spare.len() == 1);
    }

    #[test]
    fn who_looks_does_not_keep_the_sign_down() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node1.dialled");
        drop(put_up_sign(&path, 1).unwrap().unwrap());
        let looker = std::fs::File::open(&path).unwrap();
        looker.try_lock_shared().unwrap();
        assert!(put_up_sign(&path, 1).unwrap().is_none());
        let looks = std::thread::spawn(move || {
            std::thread::sleep(GLANCE * 3);
            drop(looker);
        });
        assert!(put_up_sign(&path, 100_000).unwrap().is_some());
        looks.join().unwrap();
    }
}
