//! `dial`: joins the session of a client that the node cannot reach to the poller, which sends one command over it.
//!
//! Hands bytes on and reads none of them: what the poller may ask for the client's own gate decides, and what comes back the
//! poller proves. The session says whose it is by the key that opened it; the poller takes it from this account alone.

use crate::serve::Node;
use base::dial::{self, Kind};
use base::{At, Exit, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::net::{RecvFlags, Shutdown};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

/// How often a poller is looked for where a socket that appears is told, which may be missed.
const LOOK: Duration = Duration::from_secs(10);
/// The same where nothing tells: a machine gives out so many watches and no more.
const LOOK_BLINDLY: Duration = Duration::from_secs(1);
/// A breath before a poller that has just ended is looked for again.
const BREATH: Duration = Duration::from_millis(50);

/// What became of a session that was joined.
enum Joined {
    /// It was used, or the client left.
    Over,
    /// The poller ended before it asked for anything.
    Lost,
}

/// Holds the session until the poller has used it, or the client leaves. Pollers may come and go meanwhile.
///
/// # Errors
/// When the client cannot be talked to.
pub fn join(node: &Node) -> Result<ExitCode> {
    let client = node.role.name();
    let ends = || -> io::Result<(File, File)> {
        Ok((File::from(io::stdin().as_fd().try_clone_to_owned()?), File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    };
    let (from_client, mut to_client) = ends().at("use", "the session")?;
    let news = watch(&node.config.access_path());
    let mut told = None;
    loop {
        let poller = dial::connect(&node.config.dial_path()).and_then(|mut poller| {
            poller.write_all(format!("{client}\n").as_bytes())?;
            Ok(poller)
        });
        let found = if poller.is_ok() { Kind::Joined } else { Kind::Waiting };
        if told != Some(found) && dial::write(&mut to_client, found, b"").is_err() {
            return Ok(Exit::Done.into());
        }
        told = Some(found);
        if let Ok(poller) = poller
            && matches!(attend(poller, &from_client, &to_client).at("join", "the session")?, Joined::Over)
        {
            return Ok(Exit::Done.into());
        }
        if found == Kind::Joined {
            std::thread::sleep(BREATH);
            continue;
        }
        if !wait(&from_client, news.as_ref()).at("wait for", "the poller")? {
            return Ok(Exit::Done.into());
        }
    }
}

/// Told of whatever appears where the poller makes its socket.
fn watch(folder: &std::path::Path) -> Option<OwnedFd> {
    let news = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    inotify::add_watch(&news, folder, inotify::WatchFlags::MOVED_TO).ok()?;
    Some(news)
}

/// Waits until it is time to look for a poller; false when the client is gone, or says what nobody asked for.
fn wait(from_client: &File, news: Option<&OwnedFd>) -> io::Result<bool> {
    let look = if news.is_some() { LOOK } else { LOOK_BLINDLY };
    let mut fds = vec![PollFd::new(from_client, PollFlags::IN)];
    fds.extend(news.map(|news| PollFd::new(news, PollFlags::IN)));
    wait_for(&mut fds, look)?;
    if let Some(news) = news {
        // What it was is of no interest, only that it is not told again.
        let mut thrown = [0; 4096];
        while rustix::io::read(news, &mut thrown).is_ok_and(|n| n > 0) {}
    }
    Ok(fds[0].revents().is_empty())
}

fn wait_for(fds: &mut [PollFd<'_>], time: Duration) -> io::Result<()> {
    let time = Timespec::try_from(time).map_err(io::Error::other)?;
    match poll(fds, Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits for the poller's first byte, and then hands on all that there is, in both directions, until the poller is done.
fn attend(poller: UnixStream, from_client: &File, to_client: &File) -> io::Result<Joined> {
    loop {
        let mut fds = [PollFd::new(&poller, PollFlags::IN), PollFd::new(from_client, PollFlags::IN)];
        wait_for(&mut fds, LOOK)?;
        let (asks, leaves) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if asks {
            match rustix::net::recv(&poller, &mut [0u8; 1][..], RecvFlags::PEEK) {
                Ok((_, 0)) | Err(_) => return Ok(Joined::Lost),
                Ok(_) => break,
            }
        }
        if leaves {
            return Ok(Joined::Over);
        }
    }
    let (mut from, mut to) = (from_client.try_clone()?, poller.try_clone()?);
    std::thread::spawn(move || {
        hand_on(&mut from, &mut to);
        // The poller hears that nothing more comes.
        let _ = rustix::net::shutdown(&to, Shutdown::Write);
    });
    hand_on(&mut &poller, &mut &*to_client);
    Ok(Joined::Over)
}

/// Until one of the two is gone.
fn hand_on(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = vec![0; dial::LIMIT];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) if to.write_all(&buffer[..n]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}
