//! The other end of a line: a machine that has dialled in hears a command, runs it and says what comes of it.
//!
//! Does not decide what may be run: the program is given, and the command is its business. Everything ends with the line.

use crate::peer::{Peer, Stream};
use base::dial::{self, Kind};
use base::process::{self, Running};
use base::{At, Error, Result};
use std::io::{self, Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A line to a node that has no command yet.
#[derive(Debug)]
pub struct Line {
    from: ChildStdout,
    to: ChildStdin,
}

/// What is heard on a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The gate holds it, and no poller runs.
    Waiting,
    /// The poller has it.
    Joined,
    /// It is not wanted, with the reason.
    Leave(String),
    /// This is to be run, with this version of git's protocol.
    Command {
        /// For the environment; empty where none was said.
        protocol: String,
        /// The command.
        verb: String,
    },
    /// It ended.
    Over,
}

impl Peer {
    /// Opens a line to a node. The stream is for ending it, and for the words of a line that ended.
    ///
    /// # Errors
    /// When ssh cannot be started.
    pub fn dial(&self) -> Result<(Line, Stream)> {
        let mut stream = self.stream("dial")?;
        let (Some(from), Some(to)) = (stream.stdout.take(), stream.stdin.take()) else {
            return Err(Error::failed("ssh was started without pipes"));
        };
        Ok((Line { from, to }, stream))
    }
}

impl Line {
    /// Waits for what comes next.
    ///
    /// # Errors
    /// When it is nothing that a node says.
    pub fn hear(&mut self) -> io::Result<Heard> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(match dial::read(&mut self.from)? {
            None => Heard::Over,
            Some((Kind::Waiting, _)) => Heard::Waiting,
            Some((Kind::Joined, _)) => Heard::Joined,
            Some((Kind::Leave, why)) => Heard::Leave(base::text::excerpt(&why, 500)),
            Some((Kind::Command, said)) => {
                let said = text(&said);
                let (protocol, verb) = said.split_once('\n').ok_or_else(|| io::Error::other("the node sent half a command"))?;
                Heard::Command { protocol: protocol.into(), verb: verb.into() }
            }
            Some((kind, _)) => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the node said {kind:?}"))),
        })
    }

    /// Runs `program` for the command that was heard: its input and its output are the node's.
    ///
    /// # Errors
    /// When the line breaks, or the program cannot be started.
    pub fn answer(self, mut program: Command) -> Result<()> {
        let Self { mut from, to } = self;
        let to = Arc::new(Mutex::new(to));
        say(&to, Kind::Accepted, b"").at("write to", "the node")?;
        let started = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = match started.at("start", "the gate") {
            Ok(child) => child,
            Err(error) => {
                let _ = say(&to, Kind::Words, error.one_line().as_bytes()).and_then(|()| say(&to, Kind::Ended, &[1]));
                return Err(error);
            }
        };
        process::bound_memory(&child);
        let mut child = Running(child);
        let (stdin, stdout, stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
        let family = rustix::process::Pid::from_child(&child.0);
        let child = Arc::new(Mutex::new(Some(child)));
        let watched = Arc::clone(&child);
        let input = std::thread::spawn(move || {
            feed(&mut from, stdin);
            // The line is over. Whoever still runs is ended, with all that it started; who has ended is not.
            let held = watched.lock().unwrap_or_else(PoisonError::into_inner);
            if held.is_some() {
                process::end_family(family);
            }
        });
        let words = Arc::clone(&to);
        let complaints = std::thread::spawn(move || stderr.map_or(Ok(()), |from| pass_on(from, &words, Kind::Words)));
        let said = stdout.map_or(Ok(()), |from| pass_on(from, &to, Kind::Data));
        let _ = complaints.join();
        // Nobody ends what has been waited for: its number may be another's by then.
        let status = loop {
            let mut held = child.lock().unwrap_or_else(PoisonError::into_inner);
            match held.as_mut().map(|child| child.0.try_wait()) {
                Some(Ok(None)) => {}
                ended => {
                    *held = None;
                    break ended.and_then(io::Result::ok).flatten();
                }
            }
            drop(held);
            std::thread::sleep(Duration::from_millis(2));
        };
        let code = status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok()).unwrap_or(255);
        let ended = said.and_then(|()| say(&to, Kind::Ended, &[code]));
        // The node closes its end; until then the line is held open for what is on its way.
        drop(to);
        let _ = input.join();
        ended.at("write to", "the node")
    }
}

/// What the node sends, to the program's input. Comes back when the line is over.
fn feed(from: &mut impl Read, mut input: Option<ChildStdin>) {
    loop {
        match dial::read(from) {
            // A program that reads no more may still have something to say.
            Ok(Some((Kind::Data, bytes))) => {
                if input.as_mut().is_some_and(|input| input.write_all(&bytes).is_err()) {
                    input = None;
                }
            }
            Ok(Some((Kind::Closed, _))) => input = None,
            _ => return,
        }
    }
}

fn pass_on(mut from: impl Read, to: &Mutex<ChildStdin>, kind: Kind) -> io::Result<()> {
    let mut buffer = vec![0; dial::LIMIT];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => say(to, kind, &buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn say(to: &Mutex<ChildStdin>, kind: Kind, content: &[u8]) -> io::Result<()> {
    dial::write(&mut *to.lock().unwrap_or_else(PoisonError::into_inner), kind, content)
}
