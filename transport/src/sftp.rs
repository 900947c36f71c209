//! Reading files of a peer: sftp over an ssh child of our own, reached by the command `sftp`.
//!
//! Reads only. Trusts nothing that the peer says about names and sizes: callers state the size and check the bytes.

use crate::guard::Guard;
use crate::peer::{Peer, Stream};
use crate::{STALL, range};
use base::{At, Error, Monitor, ReadAt, Result};
use openssh_sftp_client::error::SftpErrorKind;
use openssh_sftp_client::{Error as SftpError, Sftp as Session, SftpOptions, file::File};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::runtime::Runtime;

/// How long one session may be used where nobody says.
const TIME: Duration = Duration::from_secs(12 * 3600);

/// All sessions share it; the threads that call us wait in it, its own ones move bytes.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let made =
        RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("sftp").enable_all().build());
    made.as_ref().map_err(|error| Error::failed(format!("could not start the threads for sftp: {error}")))
}

/// An sftp session. May be used by several threads at once.
#[derive(Debug)]
pub struct Sftp {
    link: Arc<Link>,
}

/// What keeps a session alive; files that are open hold it too.
#[derive(Debug)]
struct Link {
    session: Session,
    stream: Mutex<Option<Stream>>,
    name: String,
    deadline: Instant,
}

impl Peer {
    /// Opens an sftp session, to be used for at most 12 hours.
    ///
    /// # Errors
    /// As [`Peer::exec`].
    pub fn sftp(&self) -> Result<Sftp> {
        self.sftp_for(TIME)
    }

    /// Opens an sftp session, to be used for at most `time`: what is read later fails.
    ///
    /// # Errors
    /// As [`Peer::exec`].
    pub fn sftp_for(&self, time: Duration) -> Result<Sftp> {
        self.session(self.stream("sftp")?, time)
    }

    /// As [`Peer::sftp_for`], over a connection of its own: ssh lets 2 MiB of each connection be on their way, so far away
    /// several bring more than one.
    ///
    /// # Errors
    /// As [`Peer::exec`].
    pub fn sftp_beside(&self, time: Duration) -> Result<Sftp> {
        self.session(self.stream_beside("sftp")?, time)
    }

    fn session(&self, mut stream: Stream, time: Duration) -> Result<Sftp> {
        let deadline = Instant::now() + time;
        let (Some(stdin), Some(stdout)) = (stream.stdin.take(), stream.stdout.take()) else {
            return Err(Error::failed("ssh was started without pipes"));
        };
        let runtime = runtime()?;
        let entered = runtime.enter();
        let stdin = ChildStdin::from_std(stdin).at("use", "the pipe to ssh")?;
        let stdout = ChildStdout::from_std(stdout).at("use", "the pipe from ssh")?;
        // Every request at once: the library would gather them for as long as its clock's grain, a millisecond, and most of ours wait
        // for the answer to the one before.
        let options = SftpOptions::new().flush_interval(Duration::ZERO);
        // In a task of its own: the library would panic on some lies, and the panic stays in there.
        let begin = tokio::spawn(Session::new(stdin, Guard::new(stdout), options));
        let begun = runtime.block_on(async { tokio::time::timeout(STALL.min(time), begin).await });
        drop(entered);
        let name = self.name();
        match begun {
            Ok(Ok(Ok(session))) => Ok(Sftp { link: Arc::new(Link { session, stream: Mutex::new(Some(stream)), name, deadline }) }),
            Ok(Ok(Err(error))) => {
                // What ssh itself says is better than "end of file".
                let said = stream.finish(Duration::from_secs(5)).err();
                Err(said.unwrap_or_else(|| Error::not_now(format!("{name} does not speak sftp")).because(error)))
            }
            Ok(Err(_)) => Err(Error::not_now(format!("{name} does not speak sftp as it should"))),
            Err(_) => Err(Error::not_now(format!("{name} did not answer for {} s", STALL.as_secs()))),
        }
    }
}

impl Link {
    /// The error for a request that the session did not fulfil.
    fn error(&self, doing: &str, name: &str, error: SftpError) -> Error {
        match error {
            SftpError::SftpError(kind, words) => Error::failed(format!("{} does not let us {doing} {name}: {kind:?}: {words}", self.name)),
            other => self.broken(doing, name, io::Error::other(other)),
        }
    }

    /// The error for a session that broke or stood still.
    fn broken(&self, doing: &str, name: &str, error: io::Error) -> Error {
        // Nothing that comes after can be trusted to belong to what was asked, so the session ends.
        let first = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take().is_some();
        let what = format!("could not {doing} {name} of {}{}", self.name, if first { "" } else { " (the session is over)" });
        Error::not_now(what).because(error)
    }
}

impl Sftp {
    /// Whether the session broke, or has lasted as long as it may.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.link.deadline || self.link.stream.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Opens a file for reading at offsets; its size is what the peer says.
    ///
    /// # Errors
    /// Of kind failed when the peer does not let us, not-now when the session broke.
    pub fn open(&self, name: &str) -> Result<RemoteFile> {
        self.try_open(name)?.ok_or_else(|| Error::failed(format!("{} has no file {name}", self.link.name)))
    }

    /// As [`Sftp::open`]; `None` when the peer says that there is no such file.
    ///
    /// # Errors
    /// As [`Sftp::open`].
    pub fn try_open(&self, name: &str) -> Result<Option<RemoteFile>> {
        let runtime = runtime()?;
        let link = &self.link;
        let patience = range::patience(link.deadline).map_err(|error| link.broken("open", name, error))?;
        let opened = runtime.block_on(async {
            tokio::time::timeout(patience, async {
                let mut file = link.session.open(name).await?;
                let size = file.metadata().await?.len();
                Ok::<_, SftpError>((file, size))
            })
            .await
        });
        match opened {
            Ok(Ok((file, Some(size)))) => Ok(Some(RemoteFile { file, size, name: name.into(), link: Arc::clone(link) })),
            Ok(Ok((_, None))) => Err(Error::failed(format!("{} does not tell the size of {name}", link.name))),
            Ok(Err(SftpError::SftpError(SftpErrorKind::NoSuchFile, _))) => Ok(None),
            Ok(Err(error)) => Err(link.error("open", name, error)),
            Err(_) => Err(link.broken("open", name, io::ErrorKind::TimedOut.into())),
        }
    }

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Sftp::pull`]; refused when it is longer.
    pub fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>> {
        let file = self.open(name)?;
        if file.size > limit as u64 {
            return Err(Error::refused(format!("{name} of {} has {} bytes, and {limit} are allowed", self.link.name, file.size)));
        }
        let mut bytes = Vec::new();
        file.pull(file.size, &mut bytes, &base::Silent)?;
        Ok(bytes)
    }

    /// Reads a file of exactly `size` bytes into `sink`, in order.
    ///
    /// # Errors
    /// Of kind refused when the file is longer or shorter than stated, failed when the peer does not let us, not-now
    /// when it is silent or the session broke.
    pub fn pull(&self, name: &str, size: u64, sink: &mut dyn Write, monitor: &dyn Monitor) -> Result<u64> {
        self.open(name)?.pull(size, sink, monitor)
    }

    /// As [`Sftp::pull`]; `None` when the peer says that there is no such file.
    ///
    /// # Errors
    /// As [`Sftp::pull`].
    pub fn try_pull(&self, name: &str, size: u64, sink: &mut dyn Write, monitor: &dyn Monitor) -> Result<Option<u64>> {
        self.try_open(name)?.map(|file| file.pull(size, sink, monitor)).transpose()
    }
}

/// A file of the peer, open for reading at offsets from several threads.
#[derive(Debug)]
pub struct RemoteFile {
    file: File,
    size: u64,
    name: String,
    link: Arc<Link>,
}

impl RemoteFile {
    /// Reads the whole file, which must have exactly `size` bytes, into `sink`, in order.
    ///
    /// # Errors
    /// As [`Sftp::pull`].
    pub fn pull(&self, size: u64, sink: &mut dyn Write, monitor: &dyn Monitor) -> Result<u64> {
        let wrong = |found: &str| Error::refused(format!("{} of {} has {found} than the {size} bytes stated", self.name, self.link.name));
        if self.size != size {
            return Err(wrong(if self.size > size { "more" } else { "less" }));
        }
        let mut got = 0;
        let mut local = None;
        // One byte more than stated is asked for: nothing must come of it.
        let read = runtime()?.block_on(range::read(&self.file, 0, size.saturating_add(1), self.link.deadline, |bytes| {
            got += bytes.len() as u64;
            if got <= size {
                sink.write_all(bytes).inspect_err(|error| local = Some(error.kind()))?;
                monitor.bytes(bytes.len() as u64);
            }
            Ok(())
        }));
        match (read, local) {
            (Ok(n), _) if n == size => Ok(n),
            (Ok(n), _) => Err(wrong(if n > size { "more" } else { "less" })),
            (Err(error), Some(_)) => Err(error).at("write what came of", &self.name),
            (Err(error), None) => Err(self.link.broken("read", &self.name, error)),
        }
    }
}

impl ReadAt for RemoteFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        let runtime = runtime().map_err(io::Error::other)?;
        runtime.block_on(range::read(&self.file, offset, buffer.len() as u64, self.link.deadline, |bytes| {
            buffer[done..done + bytes.len()].copy_from_slice(bytes);
            done += bytes.len();
            Ok(())
        }))?;
        Ok(done)
    }
}
