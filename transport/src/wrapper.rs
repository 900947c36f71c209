//! Our own program in the place of ssh, for git: `GIT_SSH` takes no arguments, and `GIT_SSH_COMMAND` runs a shell.
//!
//! Knows no peer: what ssh is told stands in the environment, put there by [`crate::Peer`] from its configuration. Of
//! git's own words only the command for the peer is used.

use crate::way::Way;
use crate::{STALL, relay};
use base::process::Running;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::time::{Duration, Instant};

/// Carries the way to the peer, see [`Way::to_text`].
pub(crate) const VARIABLE: &str = "NIGHTSAFE_WAY";

/// How many bytes may come in a second, where that is bounded.
pub(crate) const RATE: &str = "NIGHTSAFE_RATE";

/// The commands that git may send to a peer, and how long the peer may be silent. It says nothing while it takes a push
/// in, and that takes as long as our own line needs.
const VERBS: [(&str, Duration); 2] = [("git-upload-pack '", STALL), ("git-receive-pack '", Duration::from_secs(1800))];

/// Carries one command to a peer and ends the process, when this program was started for that: by git in the place of ssh, or by
/// ourselves where the peer dialled in. Every `main` calls it first.
pub fn run_if_asked() {
    let asked = match (std::env::var_os(relay::LINES), std::env::var(relay::PEER), std::env::var_os(VARIABLE)) {
        (Some(lines), Ok(peer), _) => relay::run(Path::new(&lines), &peer, &std::env::args().next_back().unwrap_or_default()),
        (_, _, Some(way)) => run(&way.to_string_lossy()),
        _ => return,
    };
    let code = match asked {
        Ok(code) => code,
        Err(words) => {
            // Git hands this on with its own message.
            let _ = writeln!(std::io::stderr(), "nightsafe: {words}");
            255
        }
    };
    std::process::exit(code);
}

fn run(way: &str) -> Result<i32, String> {
    let verb = std::env::args().next_back().unwrap_or_default();
    let (_, stall) = VERBS.iter().find(|(start, _)| verb.starts_with(start)).ok_or("this is no command that git sends")?;
    let way = Way::from_text(way).ok_or("there is no such way to a peer")?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    // The environment of a command of ours does not hold the variable any more.
    let mut command = way.command(&own, &verb);
    if let Ok(protocol) = std::env::var("GIT_PROTOCOL") {
        command.env("GIT_PROTOCOL", protocol);
    }
    let child = command.stdin(Stdio::inherit()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let what = way.what();
    let mut child = Running(child.map_err(|error| format!("could not start {what}: {error}"))?);
    let stdout = child.0.stdout.take().ok_or_else(|| format!("{what} has no output"))?;
    let rate = std::env::var(RATE).ok().and_then(|rate| rate.parse().ok());
    pass_on(stdout, &mut std::io::stdout().lock(), *stall, rate)?;
    let status = child.0.wait().map_err(|error| format!("could not wait for {what}: {error}"))?;
    Ok(status.code().unwrap_or(255))
}

/// Hands on what the peer sends, at most `rate` bytes in a second; an error when it is silent for longer than `stall`.
fn pass_on(mut from: ChildStdout, to: &mut dyn Write, stall: Duration, rate: Option<u64>) -> Result<(), String> {
    let (begun, mut passed) = (Instant::now(), 0);
    let timeout = Timespec::try_from(stall).map_err(|error| error.to_string())?;
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let ready = rustix::event::poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&timeout));
        match ready {
            Ok(0) => return Err(format!("the peer sent nothing for {} s", stall.as_secs())),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(format!("could not wait for the peer: {error}")),
            Ok(_) => {}
        }
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            // Git may have all that it wants and be gone.
            Ok(n) => {
                to.write_all(&buffer[..n]).and_then(|()| to.flush()).map_err(|error| format!("git does not read any more: {error}"))?;
                passed += n as u64;
                if let Some(rate) = rate {
                    std::thread::sleep(crate::rate::early(passed, rate, begun.elapsed()));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("could not read what the peer sent: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output_of(script: &str) -> (Running, ChildStdout) {
        let mut child = base::process::command("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        (Running(child), stdout)
    }

    #[test]
    fn bytes_pass_and_silence_ends_it() {
        let (_child, from) = output_of("head -c 300000 /dev/zero");
        let mut got = Vec::new();
        pass_on(from, &mut got, Duration::from_secs(20), None).unwrap();
        assert_eq!(got.len(), 300_000);
        let (_child, from) = output_of("head -c 100000 /dev/zero");
        let (begun, mut got) = (Instant::now(), Vec::new());
        pass_on(from, &mut got, Duration::from_secs(20), Some(200_000)).unwrap();
        assert!(got.len() == 100_000 && begun.elapsed() >= Duration::from_millis(490));
        let (_child, from) = output_of("echo a; exec sleep 30");
        let mut got = Vec::new();
        assert!(pass_on(from, &mut got, Duration::from_millis(200), None).unwrap_err().contains("nothing"));
        assert_eq!(got, b"a\n");
    }
}
