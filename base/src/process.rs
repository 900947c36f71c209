//! Starting other programs: a cleared environment, a fixed search path, bounded output, an end in every case.

use crate::error::{At, Error, Result};
use crate::stop;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// The most that is kept of a program's words on stderr.
const WORDS_LIMIT: usize = 65_536;
/// How long a program's words are waited for when it has ended and something that it started holds them open.
const LINGER: Duration = Duration::from_secs(2);

/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file of a program of ours: beside the one that runs, else on [`PATH`].
pub fn beside(program: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(program)));
    let found = PATH.split(':').map(|folder| Path::new(folder).join(program));
    own.into_iter().chain(found).find(|path| path.is_file())
}

/// Variables that are handed on, because the program would not find its own user's settings otherwise.
const KEPT: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "SSH_AUTH_SOCK",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    #[cfg(feature = "crash-points")]
    crate::crash::VARIABLE,
];

/// A command with nothing in its environment but [`PATH`], `LC_ALL=C` and the user's own folder; stdin is empty.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C").stdin(Stdio::null());
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// As [`command`] for git: no configuration of the system or the user takes part, no prompt is ever shown, and
/// objects are flushed to the disk.
pub fn git() -> Command {
    let mut command = command("git");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_TERMINAL_PROMPT", "0").args([
        "-c",
        "core.fsync=all",
        "-c",
        "core.useReplaceRefs=false",
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "gc.auto=0",
        "-c",
        "maintenance.auto=false",
        "-c",
        "advice.detachedHead=false",
    ]);
    command
}

/// The most memory of a program that works on what a stranger sent, which can be small and unfold to any size: half of the
/// machine's, and at least 2 GiB. Files that it maps do not count.
pub fn memory_limit() -> u64 {
    let info = rustix::system::sysinfo();
    #[expect(clippy::useless_conversion, reason = "its width is the platform's")]
    let total = u64::from(info.totalram).saturating_mul(info.mem_unit.into());
    (total / 2).max(2 << 30)
}

/// Bounds the memory of a program that was just started, and of all that it starts, to [`memory_limit`].
pub fn bound_memory(child: &Child) {
    use rustix::process::{Resource, Rlimit, prlimit};
    let most = memory_limit();
    // It may have ended already; and a lower limit than this may hold, which is as good.
    let _ = prlimit(Some(Pid::from_child(child)), Resource::Data, Rlimit { current: Some(most), maximum: Some(most) });
}

/// Bounds the files that a program which was just started writes, and all that it starts: one that grows beyond `most` bytes ends it.
pub fn bound_files(child: &Child, most: u64) {
    use rustix::process::{Resource, Rlimit, prlimit};
    // It may have ended already; what it wrote is counted afterwards all the same.
    let _ = prlimit(Some(Pid::from_child(child)), Resource::Fsize, Rlimit { current: Some(most), maximum: Some(most) });
}

/// Ends a program with all that it started. They are stopped from the top down first, so that none starts another meanwhile. What
/// has let go of its parent is not found.
pub fn end_family(of: Pid) {
    let (mut family, mut found) = (Vec::new(), vec![of]);
    while !found.is_empty() {
        for pid in &found {
            let _ = kill_process(*pid, Signal::STOP);
        }
        family.append(&mut found);
        found =
            parents().into_iter().filter(|(pid, parent)| family.contains(parent) && !family.contains(pid)).map(|(pid, _)| pid).collect();
    }
    for pid in family {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Every process and its parent.
fn parents() -> Vec<(Pid, Pid)> {
    let number = |text: &str| Pid::from_raw(text.parse().ok()?);
    let parent = |entry: std::fs::DirEntry| {
        let pid = number(entry.file_name().to_str()?)?;
        let stat = std::fs::read(entry.path().join("stat")).ok()?;
        // Behind the name, which may hold anything: the state, then the parent.
        let rest = stat.rsplit(|b| *b == b')').next()?;
        Some((pid, number(std::str::from_utf8(rest).ok()?.split_ascii_whitespace().nth(1)?)?))
    };
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(parent).collect()
}

/// A child that is killed and waited for when it is dropped, so that nothing is left running.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Runs to the end; stdout up to `limit` bytes, stderr up to 64 KiB, at most `time` long, within [`memory_limit`].
///
/// # Errors
/// When the program cannot be started, prints more than allowed, or takes longer. A non-zero exit is no error here.
pub fn run(command: Command, limit: usize, time: Duration) -> Result<Output> {
    run_started(command, limit, time, |_| ())
}

/// As [`run`]; `started` gets the child at once, to set more limits for it before it has children of its own.
///
/// # Errors
/// As [`run`].
pub fn run_started(command: Command, limit: usize, time: Duration, started: impl FnOnce(&Child)) -> Result<Output> {
    let (status, stdout, stderr) = run_reading(command, time, started, move |from| crate::untrusted::read_bounded(from, limit))?;
    Ok(Output { status, stdout, stderr })
}

/// As [`run_started`], for output of any length: `read` gets stdout while the program writes it, and gives what it made of it.
/// When it stops before the end, the program ends of that.
///
/// # Errors
/// As [`run`], and as `read`.
pub fn run_reading<T: Send + 'static>(
    mut command: Command,
    time: Duration,
    started: impl FnOnce(&Child),
    read: impl FnOnce(ChildStdout) -> io::Result<T> + Send + 'static,
) -> Result<(ExitStatus, T, Vec<u8>)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().at("start", &name)?;
    bound_memory(&child);
    started(&child);
    let mut running = Running(child);
    let (stdout, stderr) = (running.0.stdout.take(), running.0.stderr.take());
    let (told, output) = mpsc::channel();
    std::thread::spawn(move || {
        // A reader that met its limit closes the pipe, and the program ends of that.
        let read = stdout.ok_or_else(|| io::Error::other("it has no output")).and_then(read);
        // Nobody waits for it any more when the time was over.
        let _ = told.send(read);
    });
    let words = Arc::new(Mutex::new(Vec::new()));
    let (said, silent) = mpsc::channel();
    let kept = Arc::clone(&words);
    std::thread::spawn(move || {
        if let Some(from) = stderr {
            keep_words(from, &kept, WORDS_LIMIT);
        }
        let _ = said.send(());
    });
    let deadline = Instant::now() + time;
    // What is started when this process is to stop already puts things in order.
    let status = wait(&mut running, &name, time, stop::asked().is_some())?;
    let left = || deadline.saturating_duration_since(Instant::now());
    let late = |_| Error::not_now(format!("{name} ended, and what it started still holds its output open after {} s", time.as_secs()));
    let stdout = output.recv_timeout(left()).map_err(late)?.at("read the output of", &name)?;
    // What it started may hold this one open for as long as it likes: its words until now are enough.
    let _ = silent.recv_timeout(left().min(LINGER));
    let stderr = words.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((status, stdout, stderr))
}

/// Runs to the end, at most `time` long, and gives the first `limit` bytes of what it said on stdout and stderr, in the order in
/// which it said them. The rest is read and thrown away. It works on nothing of a stranger's: its memory is not bounded, and what
/// it leaves running may keep its output. `goes_on` says what becomes of it where this process is to stop, whether it was asked to
/// before or meanwhile: what puts things in order goes on, and anything else is ended.
///
/// # Errors
/// When the program cannot be started, takes longer, or this process is to stop; then it is ended with all that it started.
pub fn run_heard(mut command: Command, limit: usize, time: Duration, goes_on: bool) -> Result<(ExitStatus, Vec<u8>)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = io::pipe().at("make a pipe for", &name)?;
    let child = command.stdout(writer.try_clone().at("make a pipe for", &name)?).stderr(writer).spawn().at("start", &name)?;
    // It holds our copies of the pipe's other end.
    drop(command);
    let mut running = Running(child);
    let words = Arc::new(Mutex::new(Vec::new()));
    let (said, silent) = mpsc::channel();
    let kept = Arc::clone(&words);
    std::thread::spawn(move || {
        keep_words(reader, &kept, limit);
        let _ = said.send(());
    });
    let status = wait(&mut running, &name, time, goes_on)?;
    let _ = silent.recv_timeout(LINGER);
    let words = words.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((status, words))
}

/// Waits for the end, and makes it when the time is over, or when this process is to stop and the program does not go on.
fn wait(running: &mut Running, name: &str, time: Duration, goes_on: bool) -> Result<ExitStatus> {
    let deadline = Instant::now() + time;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = running.0.try_wait().at("wait for", name)? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            // What it started would go on without it: git's index-pack may compute for hours over a few bytes.
            end_family(Pid::from_child(&running.0));
            return Err(Error::not_now(format!("{name} took longer than {} s and was ended", time.as_secs())));
        }
        if !goes_on && let Err(stopped) = stop::check() {
            end_family(Pid::from_child(&running.0));
            return Err(stopped);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Keeps the beginning of what is said. What is past the limit is read and thrown away, so that a chatty program does not stall.
fn keep_words(mut from: impl Read, kept: &Mutex<Vec<u8>>, limit: usize) {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(n @ 1..) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let room = limit.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..n.min(room)]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

/// As [`run`], and a non-zero exit is an error that holds the program's own words.
///
/// # Errors
/// As [`run`].
pub fn run_ok(command: Command, limit: usize, time: Duration) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = run(command, limit, time)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failure(&name, &output))
}

/// The error for a program that ended with a non-zero status, with its own words.
pub fn failure(name: &str, output: &Output) -> Error {
    let words = crate::text::excerpt(&output.stderr, 2000);
    let words = if words.is_empty() { "it said nothing".into() } else { words };
    Error::failed(format!("{name} failed ({}): {words}", output.status)).or_full()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_time_and_words_are_bounded() {
        let time = Duration::from_secs(20);
        let mut echo = command("echo");
        echo.arg("hello");
        assert_eq!(run_ok(echo, 100, time).unwrap(), b"hello\n");
        let mut endless = command("yes");
        endless.arg("x");
        assert!(run_ok(endless, 1000, time).is_err());
        let mut slow = command("sleep");
        slow.arg("30");
        assert!(run_ok(slow, 10, Duration::from_millis(50)).unwrap_err().one_line().contains("took longer"));
        // What it started holds its channels open: its end and its words are known all the same.
        let mut held = command("sh");
        held.args(["-c", "echo no >&2; sleep 30 >/dev/null & exit 3"]);
        let begun = Instant::now();
        let output = run(held, 10, time).unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(3), b"no\n".as_slice()));
        assert!(begun.elapsed() < time);
        let mut held = command("sh");
        held.args(["-c", "sleep 30 & exit 0"]);
        assert_eq!(run(held, 10, Duration::from_millis(200)).unwrap_err().kind(), crate::Kind::NotNow);
        // What is over its time ends with all that it started; the pipe tells when nobody has it any more.
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut family = command("sh");
        family.args(["-c", "sh -c 'sleep 300; :' <&0 & wait"]).stdin(writer);
        assert!(run(family, 10, Duration::from_millis(300)).unwrap_err().one_line().contains("took longer"));
        let begun = Instant::now();
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
        assert!(begun.elapsed() < Duration::from_secs(200));
        let mut bad = command("ls");
        bad.args(["--", "/does-not-exist"]);
        assert!(run_ok(bad, 10, time).unwrap_err().one_line().contains("does-not-exist"));
    }

    #[test]
    fn memory_is_bounded() {
        let mut command = command("sh");
        command.args(["-c", "read go; ulimit -d"]);
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdin(reader);
        let output = run_started(command, 100, Duration::from_secs(20), |_| drop(writer));
        let limit: u64 = String::from_utf8(output.unwrap().stdout).unwrap().trim().parse().unwrap();
        assert!(limit >= 1 << 20);
    }

    #[test]
    fn the_environment_is_cleared() {
        let text = String::from_utf8(run_ok(command("env"), 10_000, Duration::from_secs(5)).unwrap()).unwrap();
        assert!(text.lines().all(|line| ["PATH", "LC_ALL"].iter().chain(KEPT).any(|name| line.starts_with(&format!("{name}=")))), "{text}");
    }
}
