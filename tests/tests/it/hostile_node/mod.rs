//! A node that was taken over: it has its own keys and its disk, knows the recipients, and does what it likes with both.
//!
//! Each file has one installation and a table of what is tried on it; what damage looks like is in `damage.rs` and
//! `verify.rs`, and forged commits are in `proof.rs`.

mod archives;
mod export;
mod mirrors;
mod receipts;

use crate::harness::Loopback;

/// Keeps a folder as it is, to be put back after each case.
fn keep(safe: &Loopback, folders: &[&str]) {
    for folder in folders {
        safe.sh(&format!("mkdir -p kept/$(dirname {folder}); cp -a {folder} kept/{folder}"));
    }
}

/// Puts what was kept back.
fn put_back(safe: &Loopback, folders: &[&str]) {
    for folder in folders {
        safe.sh(&format!("chmod -R u+w {folder}; rm -rf {folder}; cp -a kept/{folder} {folder}"));
    }
}
