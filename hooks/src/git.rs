//! Running git for the other end: a cleared environment, a fixed search path, git itself and no shell.
//!
//! Does not choose repositories; every path comes from a table of the callers'.

use crate::limits;
use crate::serve::Node;
use base::{Error, Result, process};
use queue::Repository;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Seconds without a byte after which a fetch is ended.
const SILENCE: &str = "--timeout=600";

/// Git with the other end at its standard input and output.
pub fn command() -> Command {
    let mut command = process::git();
    for name in ["HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "TMPDIR", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    // All that the other end may say of the environment: the version of git's protocol.
    if let Some(version) = std::env::var("GIT_PROTOCOL").ok().filter(|text| is_protocol(text)) {
        command.env("GIT_PROTOCOL", version);
    }
    // A repository of another user must not make git fetch something into it first.
    command.env("GIT_NO_LAZY_FETCH", "1");
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    command
}

fn is_protocol(text: &str) -> bool {
    text.strip_prefix("version=").is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// Becomes `git upload-pack` for a repository of the node, whoever owns it.
///
/// # Errors
/// When there is no such repository, or git cannot be run. Does not return otherwise.
pub fn upload_pack(path: &Path) -> Result<ExitCode> {
    if !path.join("HEAD").is_file() {
        return Err(Error::failed("there is nothing yet").hint("The node makes it when it has something to put into it."));
    }
    let mut git = command();
    git.arg("-c")
        .arg(safe_directory(path))
        .args(["-c", "uploadpack.allowAnySHA1InWant=false", "upload-pack", "--strict", SILENCE])
        .arg(path);
    limits::serve();
    Err(Error::failed("git could not be run").because(git.exec()))
}

/// As [`upload_pack`], for the folder that `folder` has open, wherever its name leads by now.
///
/// # Errors
/// As there.
pub fn upload_pack_open(folder: &std::os::fd::OwnedFd) -> Result<ExitCode> {
    use base::At;
    use std::os::fd::AsRawFd;
    // The child changes into the folder before it closes what it must not inherit.
    let here = format!("/proc/self/fd/{}", folder.as_raw_fd());
    let real = std::fs::read_link(&here).at("find", &here)?;
    let mut git = command();
    git.current_dir(&here).arg("-c").arg(safe_directory(&real)).args(["upload-pack", "--strict", SILENCE, "."]);
    limits::serve();
    Err(Error::failed("git could not be run").because(git.exec()))
}

/// The setting that lets git read a repository of another user. Given on the command line it is not inherited by what
/// that repository's own configuration could start.
pub fn safe_directory(path: &Path) -> std::ffi::OsString {
    let mut setting = std::ffi::OsString::from("safe.directory=");
    setting.push(path);
    setting
}

/// `path`, or an empty repository of the gate's own as long as the poller has not made that one.
///
/// # Errors
/// With the path.
pub fn or_empty(node: &Node, path: &Path, branch: &str) -> Result<PathBuf> {
    if path.join("HEAD").is_file() {
        return Ok(path.to_owned());
    }
    let empty = node.config.gate.join("empty.git");
    Repository::open_or_create(&empty, branch)?;
    Ok(empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_versions_of_the_protocol() {
        assert!(is_protocol("version=2"));
        for bad in ["", "version=", "version=22", "version=2:x", "version=2\n", "VERSION=2", "x=2", "version=²"] {
            assert!(!is_protocol(bad), "{bad:?}");
        }
    }
}
