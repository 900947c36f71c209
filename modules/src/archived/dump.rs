//! Programs whose output becomes a stream of a snapshot: started in a group of their own, ended in every case.
//!
//! Does not know which programs these are, and what they write.

use archive::backup::Streams;
use base::{At, Error, Monitor, Result, process, text};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// So much of what a program says on stderr is kept; the rest is read and thrown away.
const WORDS: usize = 64 << 10;
/// How long what a program wrote on stderr is waited for once it has ended: another one may hold the pipe open.
const REST: Duration = Duration::from_secs(2);
/// How often a program whose output is read is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// The longest limit, so that every deadline is a time.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Runs `command` for at most `limit`, and puts what it writes on stdout into `streams` as `name`. What it says on stderr
/// goes to the log when it succeeds. Gives the number of bytes.
///
/// # Errors
/// When the program cannot be started, ends with a status other than zero or by a signal, or takes longer (its own words
/// are in the error), or when the archive fails. Nothing of its process group is left running then.
pub(crate) fn dump(
    streams: &mut Streams<'_, '_>,
    name: &str,
    command: Command,
    what: &str,
    limit: Duration,
    monitor: &dyn Monitor,
) -> Result<u64> {
    dump_after(streams, name, &[], command, what, limit, monitor)
}

/// As [`dump`], with `head` before what the program writes.
///
/// # Errors
/// As [`dump`].
pub(crate) fn dump_after(
    streams: &mut Streams<'_, '_>,
    name: &str,
    head: &[u8],
    mut command: Command,
    what: &str,
    limit: Duration,
    monitor: &dyn Monitor,
) -> Result<u64> {
    command.stdout(Stdio::piped());
    let mut group = Group::start(command, limit)?;
    let mut stdout = head.chain(group.stdout()?);
    let size = streams.put(name, &mut stdout, &mut || {
        let words = group.finish()?;
        let said = text::excerpt(&words, 2000);
        if !said.is_empty() {
            monitor.problem(&Error::failed(format!("{} said while it dumped {what}: {said}", group.name)));
        }
        Ok(())
    });
    size.map_err(|error| group.explain(error).context(format!("could not dump {what}")))
}

/// A program in a process group of its own, with pipes, and a time at which it must have ended. What is left of the
/// group is killed when this is dropped.
pub(crate) struct Group {
    pub(crate) name: String,
    child: Child,
    words: Option<mpsc::Receiver<Vec<u8>>>,
    deadline: Instant,
    limit: Duration,
    /// The leader was waited for, so its id may be another's by now.
    reaped: bool,
}

impl Group {
    /// Starts `command`, whose standard input and output are the caller's matter.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(mut command: Command, limit: Duration) -> Result<Self> {
        let name = command.get_program().to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
        let program = command.get_program().to_owned();
        let deadline = Instant::now() + limit.min(LONGEST);
        let mut child = command.stderr(Stdio::piped()).process_group(0).spawn().at("start", program)?;
        let words = child.stderr.take().map(|pipe| {
            let (send, words) = mpsc::channel();
            std::thread::spawn(move || read_words(Timed::new(pipe, deadline + REST, None), &send));
            words
        });
        Ok(Self { name, child, words, deadline, limit, reaped: false })
    }

    /// The program's input, where it was given a pipe; can be taken once.
    pub(super) fn stdin(&mut self) -> Result<std::process::ChildStdin> {
        self.child.stdin.take().ok_or_else(|| Error::failed(format!("{} was started without a pipe", self.name)))
    }

    /// The program itself.
    pub(crate) fn leader(&self) -> Result<Pid> {
        pid_of(&self.child).ok_or_else(|| Error::failed(format!("{} has no process id", self.name)))
    }

    /// When it must have ended.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The program's output, which ends with the program, and with an error at the deadline; can be taken once.
    pub(crate) fn stdout(&mut self) -> Result<impl Read + use<>> {
        let pipe = self.child.stdout.take().ok_or_else(|| Error::failed(format!("{} was started without a pipe", self.name)))?;
        Ok(Timed::new(pipe, self.deadline, pid_of(&self.child)))
    }

    /// Waits for the end, and gives what was said on stderr.
    ///
    /// # Errors
    /// When the status is not zero, or the time is over; then the group has been killed.
    pub(crate) fn finish(&mut self) -> Result<Vec<u8>> {
        let ended = self.wait(self.deadline)?;
        let Some(status) = ended else {
            self.kill();
            return Err(self.late());
        };
        let stderr = self.take_words();
        if status.success() {
            return Ok(stderr);
        }
        Err(process::failure(&self.name, &Output { status, stdout: Vec::new(), stderr }))
    }

    /// Ends the group, and puts what the program said to an error that came from elsewhere: that of the pipe, mostly, which
    /// broke because the program had ended.
    pub(crate) fn explain(&mut self, error: Error) -> Error {
        if self.reaped {
            return error;
        }
        if Instant::now() >= self.deadline {
            self.kill();
            return self.late();
        }
        // One that has failed has ended by itself, and is the reason; one that still runs is not.
        let ended = self.wait(Instant::now() + Duration::from_millis(100));
        self.kill();
        match ended {
            Ok(Some(status)) if !status.success() => {
                let stderr = self.take_words();
                process::failure(&self.name, &Output { status, stdout: Vec::new(), stderr })
            }
            _ => error,
        }
    }

    /// The program and whatever it started.
    fn kill(&mut self) {
        if self.reaped {
            return;
        }
        if let Some(group) = pid_of(&self.child) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
        self.reaped = true;
    }

    /// Waits until `deadline` for the leader, and ends what it has left running. Only then it is reaped: until then its id
    /// is that of no other group.
    fn wait(&mut self, deadline: Instant) -> Result<Option<ExitStatus>> {
        let pid = self.leader()?;
        let mut pause = Duration::from_millis(1);
        loop {
            match has_ended(pid) {
                Ok(true) => break,
                Ok(false) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).at("wait for", &self.name),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        let _ = kill_process_group(pid, Signal::KILL);
        let status = self.child.wait().at("wait for", &self.name)?;
        self.reaped = true;
        Ok(Some(status))
    }

    fn take_words(&mut self) -> Vec<u8> {
        let until = Instant::now() + REST;
        let mut kept = Vec::new();
        if let Some(words) = self.words.take() {
            while let Ok(more) = words.recv_timeout(until.saturating_duration_since(Instant::now())) {
                kept.extend_from_slice(&more);
            }
        }
        kept
    }

    fn late(&mut self) -> Error {
        let said = text::excerpt(&self.take_words(), 2000);
        let said = if said.is_empty() { String::new() } else { format!("; it had said: {said}") };
        Error::failed(format!("{} took longer than {} and was ended{said}", self.name, String::from(base::Span(self.limit))))
            .hint("Set time_limit of the module in client.toml higher if it needs the time.")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a program of ours that was not waited for yet has ended.
pub(super) fn has_ended(leader: Pid) -> rustix::io::Result<bool> {
    waitid(WaitId::Pid(leader), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG).map(|status| status.is_some())
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// A pipe that is read until a deadline, or until its program has ended: another one that it left behind may hold the pipe
/// open for ever.
struct Timed<R> {
    pipe: R,
    deadline: Instant,
    /// The program, where its end is the pipe's. It is not waited for before the pipe has been read.
    leader: Option<Pid>,
    /// When the program is looked at next.
    look: Instant,
    /// How much was in the pipe when the program had ended.
    rest: Option<usize>,
}

impl<R: Read + AsFd> Timed<R> {
    fn new(pipe: R, deadline: Instant, leader: Option<Pid>) -> Self {
        Self { pipe, deadline, leader, look: Instant::now() + LOOK, rest: None }
    }

    /// Whether the program has ended and all that it wrote was read. Ends what it left running.
    fn is_over(&mut self, now: Instant) -> std::io::Result<bool> {
        if let Some(leader) = self.leader
            && self.rest.is_none()
            && now >= self.look
        {
            self.look = now + LOOK;
            if has_ended(leader)? {
                let _ = kill_process_group(leader, Signal::KILL);
                self.rest = Some(usize::try_from(ioctl_fionread(&self.pipe)?).unwrap_or(usize::MAX));
            }
        }
        Ok(self.rest == Some(0))
    }
}

impl<R: Read + AsFd> Read for Timed<R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let now = Instant::now();
            if self.is_over(now)? {
                return Ok(0);
            }
            let left = self.deadline.saturating_duration_since(now);
            if left.is_zero() {
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the time is over"));
            }
            let wait = if self.leader.is_some() { left.min(LOOK) } else { left };
            let timeout = Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => {
                    let most = self.rest.map_or(to.len(), |rest| rest.min(to.len()));
                    let n = self.pipe.read(&mut to[..most])?;
                    if let Some(rest) = &mut self.rest {
                        *rest -= n;
                    }
                    return Ok(n);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Hands over the first of what a program says as it comes; the rest is read too, so that it does not stall.
fn read_words(mut from: impl Read, to: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; 8192];
    let mut left = WORDS;
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let kept = n.min(left);
        left -= kept;
        if kept > 0 && to.send(buffer[..kept].to_vec()).is_err() {
            left = 0;
        }
    }
}
