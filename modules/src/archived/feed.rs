//! Programs that read a file of a snapshot on their standard input.
//!
//! Does not know which programs these are, nor what they make of it.

use super::dump::{Group, LOOK, has_ended};
use archive::entry::Entry;
use archive::snapshot::SnapshotReader;
use base::{Error, Monitor, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::Pid;
use std::io::{ErrorKind, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// What a program that was fed has come to.
#[derive(Debug)]
pub(crate) struct Fed {
    /// Bytes that it read.
    pub(crate) bytes: u64,
    /// What it said on stderr.
    pub(crate) words: Vec<u8>,
}

/// Runs `command` for at most `limit` with the content of `entry` on its standard input.
///
/// # Errors
/// When the content cannot be read as it was backed up (the program is killed before its input ends, so that it does not
/// take the beginning for the whole), or the program does not read all of it, fails or takes longer. Nothing of its
/// process group is left running.
pub(crate) fn feed(reader: &SnapshotReader, entry: &Entry, command: Command, limit: Duration, monitor: &dyn Monitor) -> Result<Fed> {
    feed_by(command, limit, monitor, |input| reader.read_file(entry, input))
}

/// As [`feed`], with what `write` writes.
///
/// # Errors
/// As [`feed`].
pub(crate) fn feed_by(
    mut command: Command,
    limit: Duration,
    monitor: &dyn Monitor,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<Fed> {
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut group = Group::start(command, limit)?;
    let mut input = Input::new(group.stdin()?, &group, monitor)?;
    if let Err(error) = write(&mut input) {
        return Err(group.explain(error));
    }
    let bytes = input.bytes;
    drop(input);
    Ok(Fed { bytes, words: group.finish()? })
}

/// A program's input, which is written until a deadline and no longer than the program runs.
struct Input<'a> {
    pipe: ChildStdin,
    leader: Pid,
    deadline: Instant,
    bytes: u64,
    monitor: &'a dyn Monitor,
}

impl<'a> Input<'a> {
    fn new(pipe: ChildStdin, group: &Group, monitor: &'a dyn Monitor) -> Result<Self> {
        ioctl_fionbio(&pipe, true).map_err(|error| Error::failed("could not set up a pipe").because(std::io::Error::from(error)))?;
        Ok(Self { pipe, leader: group.leader()?, deadline: group.deadline(), bytes: 0, monitor })
    }
}

impl Write for Input<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        loop {
            match self.pipe.write(bytes) {
                Ok(n) => {
                    self.bytes += n as u64;
                    self.monitor.bytes(n as u64);
                    return Ok(n);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(std::io::Error::new(ErrorKind::TimedOut, "the time is over"));
            }
            // Another one may hold the pipe open that nobody reads any more.
            if has_ended(self.leader)? {
                return Err(ErrorKind::BrokenPipe.into());
            }
            let wait = left.min(LOOK);
            let timeout = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.pipe, PollFlags::OUT)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
