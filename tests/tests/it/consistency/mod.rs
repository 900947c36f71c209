//! What is due by its age, commands around a backup, groups, snapshots of file systems, level and bandwidth.

mod around;
mod freeze;
mod groups;
mod schedule;
mod transfer;

use crate::harness::Loopback;

/// Adds to the client's configuration.
fn configure(safe: &Loopback, text: &str) {
    let before = safe.read("client.toml");
    safe.write("client.toml", &format!("{before}\n{text}\n"));
    safe.client(&["config", "check"]).exits(0);
}

/// How many snapshots of a dataset there are.
fn snapshots(safe: &Loopback, dataset: &str) -> usize {
    let all = safe.client(&["snapshots", "--json"]).json();
    all.as_array().unwrap().iter().filter(|one| one["dataset"] == dataset).count()
}
