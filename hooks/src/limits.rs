//! Bounds on what a program that a stranger feeds may use.
//!
//! Knows nothing of what the program does.

use base::{At, Error, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What one program may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Seconds of processor time for each process.
    pub cpu: u64,
    /// The largest file that it may write.
    pub file: u64,
    /// Address space for each process, with the files that it maps.
    pub space: u64,
    /// Memory for each process: what a few bytes of a push unfold to.
    pub memory: u64,
    /// How long it may run at all.
    pub time: Duration,
}

/// For `git receive-pack`: a push has at most 8 MiB, and whoever pushes holds the queue's lock.
pub const RECEIVE: Limits = Limits { cpu: 300, file: 256 << 20, space: 4 << 30, memory: 512 << 20, time: Duration::from_secs(900) };

/// For git that packs the gate's own small repositories.
pub const PACK: Limits = Limits { file: 1 << 30, ..RECEIVE };

/// How long `git upload-pack` may compute, in seconds; whoever asks may ask for everything, again and again.
const SERVE_CPU: u64 = 4 * 3600;

/// Limits this process, which is about to become git that serves: its time on the processor and its memory.
pub fn serve() {
    for (resource, limit) in [(Resource::Cpu, SERVE_CPU), (Resource::Data, base::process::memory_limit())] {
        let most = getrlimit(resource).maximum.map_or(limit, |most| most.min(limit));
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
}

/// A crash must not leave the memory of a process that handled a stranger's bytes.
pub fn no_core_files() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// The most that is kept of what a program says.
const SAID: usize = 64 << 10;

/// Runs a program to its end within `limits`; after its time it is killed, with all that it started. What it says goes to our own
/// standard output, and the beginning of it is given back.
///
/// # Errors
/// When it cannot be started; of kind "not now" when its time was over.
pub fn run(command: &mut Command, limits: Limits) -> Result<(ExitStatus, Vec<u8>)> {
    let mut child = spawn(command.stdout(Stdio::piped()), limits)?;
    let (over, ended) = mpsc::channel::<()>();
    let pid = rustix::process::Pid::from_child(&child);
    let watch = std::thread::spawn(move || {
        let late = matches!(ended.recv_timeout(limits.time), Err(mpsc::RecvTimeoutError::Timeout));
        if late {
            // It may have ended in this moment.
            base::process::end_family(pid);
        }
        late
    });
    let said = child.stdout.take().map(pass_on).unwrap_or_default();
    let status = child.wait().at("wait for", "git");
    drop(over);
    match watch.join() {
        Ok(true) => Err(Error::not_now(format!("git took longer than {} s and was ended", limits.time.as_secs()))),
        _ => Ok((status?, said)),
    }
}

/// Hands on what a program says, to its end: also when nobody is there any more, so that it ends what it began.
fn pass_on(mut from: ChildStdout) -> Vec<u8> {
    let (mut said, mut buffer) = (Vec::new(), [0; 8192]);
    let mut to = Some(std::io::stdout().lock());
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.as_mut().is_some_and(|to| to.write_all(&buffer[..n]).and_then(|()| to.flush()).is_err()) {
            to = None;
        }
        said.extend(&buffer[..n.min(SAID.saturating_sub(said.len()))]);
    }
    said
}

/// Starts a child that inherits the limits; this process keeps its own.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(command: &mut Command, limits: Limits) -> Result<Child> {
    let wanted =
        [(Resource::Cpu, limits.cpu), (Resource::Fsize, limits.file), (Resource::As, limits.space), (Resource::Data, limits.memory)];
    let before = wanted.map(|(resource, limit)| {
        let old = getrlimit(resource);
        let limit = old.maximum.map_or(limit, |most| most.min(limit));
        // A lower limit than the hard one can always be set.
        let _ = setrlimit(resource, Rlimit { current: Some(limit), maximum: old.maximum });
        (resource, old)
    });
    let child = command.spawn().at("start", "git");
    for (resource, old) in before {
        let _ = setrlimit(resource, old);
    }
    child
}
