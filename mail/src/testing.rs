//! What tests of this crate have in common.

use base::config::MailConfig;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A configuration whose sendmail is this shell script, with more lines of it.
pub(crate) fn sendmail(folder: &Path, script: &str, more: &str) -> MailConfig {
    let program = folder.join("sendmail");
    // Not written here: what another test starts meanwhile would hold it open for writing, and the kernel runs no such file.
    let write = ["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"];
    let mut child = Command::new("/bin/sh").args(write).arg(&program).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let text = format!("to = [\"root@example.org\"]\nfrom = \"n@example.org\"\nsendmail = \"{}\"\n{more}", program.display());
    toml::from_str(&text).unwrap()
}
