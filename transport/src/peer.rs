//! A peer to which commands are sent: over ssh, where all of them share one login, or over lines that it dialled.
//!
//! Does not know what the commands mean.

use crate::endpoint::Endpoint;
use crate::way::Way;
use base::process::{self, Running};
use base::{At, Error, Exit, Kind, Result};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What ssh ends with when it is ssh itself that failed, not the command.
const SSH_FAILED: i32 = 255;

/// How words of the peer's gate begin. It was reached, and does not let this pass.
pub(crate) const GATE: &str = "nightsafe-gate: ";

/// One peer. Cheap to make: a connection is opened by the first command and kept for a minute after the last.
#[derive(Debug)]
pub struct Peer {
    alias: String,
    address: String,
    pub(crate) way: Way,
    /// There while commands share a connection; none where the peer dials.
    socket: Option<PathBuf>,
    pub(crate) git_url: String,
    pub(crate) wrapper: PathBuf,
}

impl Peer {
    /// Checks the endpoint and writes down its pinned key. Nothing is sent yet.
    ///
    /// # Errors
    /// Of kind usage or refused, when the endpoint cannot be used; with the path when its folder cannot be made.
    pub fn new(endpoint: Endpoint) -> Result<Self> {
        let wrapper = std::env::current_exe().at("find", "the program that is running")?;
        Self::with_wrapper(endpoint, &wrapper)
    }

    /// As [`Peer::new`], with another program than the running one as git's way to ssh. Its main function must call
    /// [`crate::wrapper::run_if_asked`] first.
    ///
    /// # Errors
    /// As [`Peer::new`].
    pub fn with_wrapper(endpoint: Endpoint, wrapper: &Path) -> Result<Self> {
        let arguments = endpoint.prepare()?;
        let host = if endpoint.address.host.contains(':') { format!("[{}]", endpoint.address.host) } else { endpoint.address.host.clone() };
        let port = endpoint.address.port.map_or_else(String::new, |port| format!(":{port}"));
        let git_url = format!("ssh://{}@{host}{port}/", endpoint.address.user);
        let (way, socket) = (Way::Ssh(arguments.words), Some(arguments.socket));
        Ok(Self { alias: endpoint.alias, address: endpoint.address.to_string(), way, socket, git_url, wrapper: wrapper.into() })
    }

    /// A peer that dials in; its lines are asked for at the socket `lines`, by this very program.
    ///
    /// # Errors
    /// When the program that runs cannot be found.
    pub fn dialled(alias: &str, lines: &Path) -> Result<Self> {
        let wrapper = std::env::current_exe().at("find", "the program that is running")?;
        let way = Way::Dialled { lines: lines.into(), peer: alias.into() };
        // Git wants a host; the program in the place of ssh does not look at it.
        Ok(Self { alias: alias.into(), address: "which dials in".into(), way, socket: None, git_url: "ssh://dialled/".into(), wrapper })
    }

    /// What the peer is called.
    pub fn alias(&self) -> &str {
        &self.alias
    }

    /// Runs one command on the peer and gives what it printed.
    ///
    /// # Errors
    /// Of kind not-now when the peer cannot be reached or takes too long, refused when its host key is another one,
    /// otherwise failed, with the command's own words.
    pub fn exec(&self, verb: &str, limit: usize, time: Duration) -> Result<Vec<u8>> {
        let output = process::run(self.command(verb)?, limit, time)
            .map_err(|error| error.context(format!("could not ask {} for {verb:?}", self.name())))?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.failure(verb, &output)) }
    }

    /// Starts one command on the peer and leaves its pipes to the caller.
    ///
    /// # Errors
    /// When ssh cannot be started. That the peer cannot be reached is told by [`Stream::finish`].
    pub fn stream(&self, verb: &str) -> Result<Stream> {
        self.stream_of(self.command(verb)?, verb)
    }

    /// As [`Peer::stream`], over a connection of its own, which ends with it.
    ///
    /// # Errors
    /// As [`Peer::stream`].
    pub fn stream_beside(&self, verb: &str) -> Result<Stream> {
        Self::check(verb)?;
        self.stream_of(self.way.command_beside(&self.wrapper, verb), verb)
    }

    fn stream_of(&self, mut command: Command, verb: &str) -> Result<Stream> {
        let mut child = Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().at("start", "ssh")?);
        process::bound_memory(&child.0);
        let (stdin, stdout, stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
        let words = std::thread::spawn(move || {
            let mut kept = Vec::new();
            if let Some(mut from) = stderr {
                let _ = from.by_ref().take(65_536).read_to_end(&mut kept);
                let _ = std::io::copy(&mut from, &mut std::io::sink());
            }
            kept
        });
        let name = self.name();
        Ok(Stream { stdin, stdout, child, words: Some(words), verb: verb.into(), name })
    }

    /// Whether the peer answers, and what it says of itself.
    ///
    /// # Errors
    /// As [`Peer::exec`].
    pub fn ping(&self) -> Result<String> {
        let answer = self.exec("ping", 4096, Duration::from_secs(60))?;
        Ok(base::text::excerpt(&answer, 4096))
    }

    /// Opens the connection that commands share, in at most `time`, unless it is open or the peer dials: what is sent soon need not
    /// wait for the login.
    ///
    /// # Errors
    /// As [`Peer::exec`].
    pub fn open_ahead(&self, time: Duration) -> Result<()> {
        match &self.socket {
            Some(socket) if !socket.exists() => self.exec("ping", 4096, time).map(drop),
            _ => Ok(()),
        }
    }

    /// Closes the connection that commands share, if there is one, without waiting for its minute to pass.
    ///
    /// # Errors
    /// When ssh cannot be started.
    pub fn close(&self) -> Result<()> {
        let Way::Ssh(words) = &self.way else { return Ok(()) };
        let mut command = process::command("ssh");
        command.args(["-O", "exit"]).args(words);
        process::run(command, 4096, Duration::from_secs(10)).map(|_| ())
    }

    fn command(&self, verb: &str) -> Result<Command> {
        Self::check(verb)?;
        Ok(self.way.command(&self.wrapper, verb))
    }

    fn check(verb: &str) -> Result<()> {
        if verb.is_empty() || verb.chars().any(char::is_control) {
            return Err(Error::usage(format!("{verb:?} cannot be sent as a command")));
        }
        Ok(())
    }

    /// The peer's name and address, for messages.
    pub(crate) fn name(&self) -> String {
        format!("{} ({})", self.alias, self.address)
    }

    fn failure(&self, verb: &str, output: &Output) -> Error {
        failure(&self.name(), verb, output.status.code(), &output.stderr)
    }
}

/// The error for an ssh that ended badly.
pub(crate) fn failure(name: &str, verb: &str, code: Option<i32>, stderr: &[u8]) -> Error {
    let words = base::text::excerpt(stderr, 2000);
    if code == Some(SSH_FAILED) {
        return unreachable(name, &words);
    }
    let words = if words.is_empty() { "it said nothing".into() } else { words };
    let error = Error::failed(format!("{name} did not carry out {verb:?}: {words}"));
    if code == Some(Exit::NotNow as i32) { error.with_kind(Kind::NotNow) } else { error }
}

/// The error for a connection that did not come about, with ssh's own words.
pub(crate) fn unreachable(name: &str, words: &str) -> Error {
    if words.contains("Host key verification failed") || words.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        return Error::refused(format!("{name} has another host key than the one that is pinned: {words}"))
            .hint("Nothing was sent. If the machine was set up anew, ask its administrator for the new key and change host_key in the configuration.");
    }
    if words.contains("Permission denied") {
        return Error::not_now(format!("{name} does not let us in: {words}"))
            .hint("The key is not listed there (yet), or the account's name is wrong. It will be tried again.");
    }
    if words.contains(GATE) {
        return Error::not_now(format!("{name} does not serve this: {words}"));
    }
    let words = if words.is_empty() { "the connection broke" } else { words };
    Error::not_now(format!("{name} cannot be reached: {words}"))
}

/// A command that runs on the peer. Dropped, it is ended.
#[derive(Debug)]
pub struct Stream {
    /// The command's input; take and drop it to close it.
    pub stdin: Option<ChildStdin>,
    /// The command's output.
    pub stdout: Option<ChildStdout>,
    child: Running,
    words: Option<JoinHandle<Vec<u8>>>,
    verb: String,
    name: String,
}

impl Stream {
    /// Closes both pipes and waits, at most `time`, for the command's end.
    ///
    /// # Errors
    /// As [`Peer::exec`].
    pub fn finish(mut self, time: Duration) -> Result<()> {
        drop((self.stdin.take(), self.stdout.take()));
        let deadline = Instant::now() + time;
        let status = loop {
            match self.child.0.try_wait().at("wait for", "ssh")? {
                Some(status) => break status,
                None if Instant::now() >= deadline => {
                    return Err(Error::not_now(format!("{} did not end {:?} in time", self.name, self.verb)));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let words = self.words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        if status.success() { Ok(()) } else { Err(failure(&self.name, &self.verb, status.code(), &words)) }
    }

    /// Ends the command at once.
    pub fn kill(&mut self) {
        let _ = self.child.0.kill();
    }
}
