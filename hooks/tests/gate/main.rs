//! The gate as git, sftp and sshd see it: real programs on both ends, and only sshd itself is left out.
#![expect(clippy::unwrap_used, reason = "tests")]

mod access;
mod clients;
mod files;
mod sessions;
mod site;
