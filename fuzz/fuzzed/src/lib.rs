//! What is fuzzed: one function for each kind of bytes that strangers send us. It reads them as the programs do and panics
//! when something comes out that must not.
//!
//! The fuzzer calls these functions (`fuzz/fuzz_targets`), and so does a test on what it has found (`tests/replay.rs`).

mod archived;
mod gate;
mod listed;
mod signed;
mod snapshots;

/// The gate's own file: a program has no library that it could be taken from.
#[path = "../../../hooks/src/sftp/mod.rs"]
pub mod sftp_server;

pub use archived::{catalog, manifest};
pub use gate::{command, sftp};
pub use listed::access;
pub use signed::{commit, receipt, request};
pub use snapshots::pack;

/// A target: its name, which is that of the folder of its corpus too, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 9] = [
    ("access", access),
    ("catalog", catalog),
    ("command", command),
    ("commit", commit),
    ("manifest", manifest),
    ("pack", pack),
    ("receipt", receipt),
    ("request", request),
    ("sftp", sftp),
];
