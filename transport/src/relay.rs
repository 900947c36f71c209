//! Our own program in the place of ssh, where the peer has dialled in: asks for one of its lines and carries one command over it.
//!
//! What ssh does for its command this does: input, output, words of trouble and the exit code. Knows nothing of what the command
//! means, and believes nothing of what comes: frames are bounded, and who does not take the command is left for another line.

use crate::STALL;
use base::dial::{self, Kind};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Carries the socket at which lines are asked for.
pub(crate) const LINES: &str = "NIGHTSAFE_LINES";
/// Carries the peer's name.
pub(crate) const PEER: &str = "NIGHTSAFE_PEER";

/// How long a peer may take to say that the command came. A line that was cut off somewhere is found out by this.
const ACCEPT: Duration = Duration::from_secs(10);
/// How long lines are tried.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most that is handed on of a command's words.
const WORDS: usize = 64 << 10;

/// What a line is handed out with.
pub const HERE: u8 = b'+';

/// Carries `verb`, and gives the exit code to end with.
///
/// # Errors
/// Words on why there is no line, or on how it broke.
pub(crate) fn run(lines: &Path, peer: &str, verb: &str) -> Result<i32, String> {
    let protocol = std::env::var("GIT_PROTOCOL").unwrap_or_default();
    let begun = Instant::now();
    let mut line = loop {
        let mut line = ask(lines, peer)?;
        match offer(&mut line, &protocol, verb) {
            Ok(()) => break line,
            Err(error) if begun.elapsed() >= PATIENCE => return Err(format!("{peer} has dialled in and does not answer: {error}")),
            Err(_) => {}
        }
    };
    let mut input = line.try_clone().map_err(|error| error.to_string())?;
    let came = Arc::new(AtomicU64::new(0));
    let progress = Arc::clone(&came);
    std::thread::spawn(move || {
        if feed(&mut input).is_ok() {
            // Whoever started us may be gone by now and look at no time any more.
            end_when_silent(&progress);
        }
    });
    carry(&mut line, &mut io::stdout().lock(), &mut io::stderr(), &came).map_err(|error| format!("the line of {peer} broke: {error}"))
}

/// Ends this process when nothing has come for as long as a peer may be silent.
fn end_when_silent(came: &AtomicU64) {
    let mut before = None;
    loop {
        let now = came.load(Ordering::Relaxed);
        if before.replace(now) == Some(now) {
            std::process::exit(255);
        }
        std::thread::sleep(STALL);
    }
}

/// Takes one line of the peer's from whoever has them.
fn ask(lines: &Path, peer: &str) -> Result<UnixStream, String> {
    let gone = |error: io::Error| format!("nobody takes in lines of machines that dial ({error})");
    let mut desk = dial::connect(lines).map_err(gone)?;
    desk.set_read_timeout(Some(PATIENCE)).and_then(|()| desk.write_all(format!("{peer}\n").as_bytes())).map_err(gone)?;
    let mut said = [0; 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        recvmsg(&desk, &mut [IoSliceMut::new(&mut said)], &mut control, RecvFlags::CMSG_CLOEXEC).map_err(|error| gone(error.into()))?;
    let line = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut handed) => handed.next(),
        _ => None,
    });
    match line {
        Some(line) if said[..got.bytes] == [HERE] => Ok(line.into()),
        _ if got.bytes == 0 => Err(format!("the poller ended before it had a line of {peer}")),
        _ => Err(base::text::excerpt(&said[..got.bytes], 1000)),
    }
}

fn offer(line: &mut UnixStream, protocol: &str, verb: &str) -> io::Result<()> {
    line.set_read_timeout(Some(ACCEPT))?;
    line.set_write_timeout(Some(ACCEPT))?;
    dial::write(line, Kind::Command, format!("{protocol}\n{verb}").as_bytes())?;
    // It holds nothing, so nobody keeps us here by sending it slowly.
    match dial::read_at_most(line, 0)? {
        Some((Kind::Accepted, _)) => {}
        Some((kind, _)) => return Err(io::Error::other(format!("it said {kind:?} first"))),
        None => return Err(io::ErrorKind::UnexpectedEof.into()),
    }
    // From here on whoever waits for the command's output says how long is too long.
    line.set_read_timeout(None)?;
    line.set_write_timeout(None)
}

/// Our input, to its end.
fn feed(line: &mut UnixStream) -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; dial::LIMIT];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return dial::write(line, Kind::Closed, b""),
            Ok(n) => dial::write(line, Kind::Data, &buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What the command says, to its end.
fn carry(line: &mut impl Read, output: &mut impl Write, words: &mut impl Write, came: &AtomicU64) -> io::Result<i32> {
    let mut room = WORDS;
    loop {
        match dial::read(line)? {
            Some((Kind::Data, bytes)) => {
                // Words and what holds nothing are no progress: they could be sent for ever.
                came.fetch_add(u64::from(!bytes.is_empty()), Ordering::Relaxed);
                output.write_all(&bytes)?;
                output.flush()?;
            }
            Some((Kind::Words, said)) => {
                let kept = &said[..said.len().min(room)];
                room -= kept.len();
                words.write_all(kept)?;
            }
            Some((Kind::Ended, code)) => return Ok(code.first().copied().map_or(1, i32::from)),
            Some((kind, _)) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it said {kind:?} in the middle of a command")));
            }
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(frames: &[(Kind, &[u8])]) -> io::Result<(i32, Vec<u8>, Vec<u8>)> {
        let mut line = Vec::new();
        frames.iter().for_each(|(kind, content)| dial::write(&mut line, *kind, content).unwrap());
        let (mut output, mut words, came) = (Vec::new(), Vec::new(), AtomicU64::new(0));
        let code = carry(&mut line.as_slice(), &mut output, &mut words, &came)?;
        let data = frames.iter().take_while(|frame| frame.0 != Kind::Ended).filter(|frame| frame.0 == Kind::Data && !frame.1.is_empty());
        assert_eq!(came.into_inner(), data.count() as u64, "data alone is progress");
        Ok((code, output, words))
    }

    #[test]
    fn whoever_answers_slowly_or_not_at_all() {
        // One that has only to be taken holds nothing: the head alone is read.
        let (mut line, mut peer) = UnixStream::pair().unwrap();
        dial::write(&mut peer, Kind::Accepted, &[0; 100]).unwrap();
        assert!(offer(&mut line, "", "sftp").unwrap_err().to_string().contains("100 bytes"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let desk = dial::bind(&path, 0o600, None).unwrap();
        let poller = std::thread::spawn(move || drop(desk.accept().unwrap().0.read(&mut [0; 100])));
        assert_eq!(ask(&path, "web1").unwrap_err(), "the poller ended before it had a line of web1");
        poller.join().unwrap();
    }

    #[test]
    fn what_a_command_says() {
        let whole = said(&[
            (Kind::Data, b"a"),
            (Kind::Words, b"no"),
            (Kind::Words, b""),
            (Kind::Data, b""),
            (Kind::Data, b"b"),
            (Kind::Ended, &[4]),
            (Kind::Data, b"late"),
        ]);
        assert_eq!(whole.unwrap(), (4, b"ab".to_vec(), b"no".to_vec()));
        let long = vec![b'w'; dial::LIMIT];
        let flood = said(&[(Kind::Words, &long), (Kind::Words, &long), (Kind::Words, &long), (Kind::Ended, &[])]).unwrap();
        assert_eq!((flood.0, flood.2.len()), (1, WORDS));
        for bad in [&[][..], &[(Kind::Data, &b"a"[..])], &[(Kind::Accepted, b"")], &[(Kind::Command, b"\nsftp")], &[(Kind::Leave, b"")]] {
            assert!(said(bad).is_err(), "{bad:?}");
        }
    }
}
