//! The other end of a line: a machine that has dialled in hears a command, runs it and says what comes of it.
//!
//! Does not decide what may be run: the program is given, and the command is its business. Everything ends with the line.

use crate::peer::{Peer, Stream};
use base::dial::{self, Kind};
use base::process::{self, Running};
use base::{At, Error, Result};
use std::io::{self, Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// A line on which nothing passes for so long is ended: a node waits for nothing longer, and one that has its command and then
/// says nothing would keep it for ever.
const SILENCE: Duration = Duration::from_secs(1800);

/// The shortest pause between two looks at a line.
const TICK: Duration = Duration::from_millis(10);

/// A line to a node that has no command yet.
#[derive(Debug)]
pub struct Line {
    from: ChildStdout,
    to: ChildStdin,
}

/// When something last passed over a line.
#[derive(Debug)]
pub struct Passed {
    begun: Instant,
    /// In milliseconds from then on.
    last: AtomicU64,
}

impl Passed {
    /// Now.
    pub fn now() -> Self {
        Self { begun: Instant::now(), last: AtomicU64::new(0) }
    }

    /// How long nothing has passed.
    pub fn silence(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    fn note(&self) {
        self.last.store(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
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
        Line::over(self.stream("dial")?)
    }
}

impl Line {
    fn over(mut stream: Stream) -> Result<(Self, Stream)> {
        match (stream.stdout.take(), stream.stdin.take()) {
            (Some(from), Some(to)) => Ok((Self { from, to }, stream)),
            _ => Err(Error::failed("ssh was started without pipes")),
        }
    }

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

    /// Runs `program` for the command that was heard: its input and its output are the node's. `stream` is what the line goes over:
    /// it is ended when nothing passes any more. `passed` is told of all that does.
    ///
    /// # Errors
    /// When the line breaks, or the program cannot be started.
    pub fn answer(self, stream: Stream, program: Command, passed: &Arc<Passed>) -> Result<()> {
        self.answer_until(SILENCE, stream, program, passed)
    }

    fn answer_until(self, silence: Duration, mut stream: Stream, program: Command, passed: &Arc<Passed>) -> Result<()> {
        passed.note();
        let (done, ended) = mpsc::channel();
        let watched = Arc::clone(passed);
        let watch = std::thread::spawn(move || {
            // Whoever answers has let go of its end when there is nothing more to watch.
            while ended.recv_timeout(silence.saturating_sub(watched.silence()).max(TICK)) == Err::<(), _>(mpsc::RecvTimeoutError::Timeout) {
                if watched.silence() >= silence {
                    stream.kill();
                }
            }
        });
        let answered = self.carry(program, passed);
        drop(done);
        let _ = watch.join();
        answered
    }

    fn carry(self, mut program: Command, passed: &Arc<Passed>) -> Result<()> {
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
        let (watched, fed) = (Arc::clone(&child), Arc::clone(passed));
        let input = std::thread::spawn(move || {
            feed(&mut from, stdin, &fed);
            // The line is over. Whoever still runs is ended, with all that it started; who has ended is not.
            let held = watched.lock().unwrap_or_else(PoisonError::into_inner);
            if held.is_some() {
                process::end_family(family);
            }
        });
        let (words, told) = (Arc::clone(&to), Arc::clone(passed));
        let complaints = std::thread::spawn(move || stderr.map_or(Ok(()), |from| pass_on(from, &words, Kind::Words, &told)));
        let said = stdout.map_or(Ok(()), |from| pass_on(from, &to, Kind::Data, passed));
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
        passed.note();
        // The node closes its end; until then the line is held open for what is on its way.
        drop(to);
        let _ = input.join();
        ended.at("write to", "the node")
    }
}

/// What the node sends, to the program's input. Comes back when the line is over.
fn feed(from: &mut impl Read, mut input: Option<ChildStdin>, passed: &Passed) {
    loop {
        let frame = dial::read(from);
        passed.note();
        match frame {
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

fn pass_on(mut from: impl Read, to: &Mutex<ChildStdin>, kind: Kind, passed: &Passed) -> io::Result<()> {
    let mut buffer = vec![0; dial::LIMIT];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                say(to, kind, &buffer[..n])?;
                passed.note();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn say(to: &Mutex<ChildStdin>, kind: Kind, content: &[u8]) -> io::Result<()> {
    dial::write(&mut *to.lock().unwrap_or_else(PoisonError::into_inner), kind, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line whose other end is this script, with a command on it.
    fn line(dir: &std::path::Path, script: &str) -> (Line, Stream) {
        let node = dir.join("node");
        std::fs::write(&node, format!("printf '\\004\\000\\000\\000\\005\\nsftp'\n{script}\n")).unwrap();
        let mut peer = Peer::dialled("node1", dir).unwrap();
        peer.wrapper = "/bin/sh".into();
        let (mut line, stream) = Line::over(peer.stream(node.to_str().unwrap()).unwrap()).unwrap();
        assert_eq!(line.hear().unwrap(), Heard::Command { protocol: String::new(), verb: "sftp".into() });
        (line, stream)
    }

    fn program(script: &str) -> Command {
        let mut command = process::command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn nobody_keeps_a_line_by_saying_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let silence = Duration::from_millis(300);
        // Neither end says anything; and a node that has its answer and does not close. Both last longer than is waited for them.
        for answer in ["exec sleep 600", "echo all of it"] {
            let (line, stream) = line(dir.path(), "exec sleep 600");
            let (told, ended) = mpsc::channel();
            std::thread::spawn(move || told.send(line.answer_until(silence, stream, program(answer), &Arc::new(Passed::now()))));
            assert!(ended.recv_timeout(Duration::from_secs(240)).is_ok(), "{answer} keeps it");
        }
    }

    #[test]
    fn what_passes_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let all = dir.path().join("all");
        let (line, stream) = line(dir.path(), &format!("cat >{}; true", all.display()));
        // Longer on the whole than the silence that would end it.
        let slow = program("n=0; while [ $n -lt 24 ]; do n=$((n + 1)); sleep 0.25; echo $n; done");
        line.answer_until(Duration::from_secs(4), stream, slow, &Arc::new(Passed::now())).unwrap();
        let all = std::fs::read(all).unwrap();
        assert!(all.ends_with(b"24\n\x09\0\0\0\x01\0"), "{:?}", String::from_utf8_lossy(&all));
    }
}
