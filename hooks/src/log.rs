//! The gate's own log: one line for each command and each push that was refused, and for each request that was let through.
//!
//! Kept beside what sshd logs, because sshd does not know why. Not being able to write it refuses nobody.

use base::RequestId;
use queue::verdict::Role;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The variable in which sshd says from where the other end came.
pub const FROM: &str = "SSH_CONNECTION";

/// The log's size at which a new one is begun; one old one is kept.
const SIZE: u64 = 10 << 20;

/// Notes that `role` was refused `command`.
pub fn refused(folder: &Path, role: &Role, command: Option<&str>, why: &str) {
    write(folder, &format!("{}{} (asked for: {})\n", who(role), short(why), short(command.unwrap_or("a shell"))));
}

/// Notes which requests a push of `role` brought that was let through, by their numbers.
pub fn let_through(folder: &Path, role: &Role, requests: &[(u64, RequestId)]) {
    let who = who(role);
    write(folder, &requests.iter().map(|(seq, id)| format!("{who}let {id} through as number {seq}\n")).collect::<String>());
}

/// How a line begins.
fn who(role: &Role) -> String {
    let from = std::env::var(FROM).unwrap_or_default();
    let from = from.split(' ').next().filter(|from| !from.is_empty()).unwrap_or("-");
    format!("{} {} {} from {}: ", base::clock::now(), role.word(), role.name(), short(from))
}

fn short(text: &str) -> String {
    base::text::printable(&text.chars().take(300).collect::<String>())
}

fn write(folder: &Path, lines: &str) {
    let path = folder.join("gate.log");
    if std::fs::metadata(&path).is_ok_and(|meta| meta.len() >= SIZE) {
        let _ = std::fs::rename(&path, folder.join("gate.log.1"));
    }
    // One write, so that lines of several processes do not mix.
    let _ = OpenOptions::new().append(true).create(true).mode(0o640).open(&path).and_then(|mut file| file.write_all(lines.as_bytes()));
}
