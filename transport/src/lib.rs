//! One way to a peer: commands, sftp and git's network steps over ssh, with pinned host keys and one login for all.
//!
//! Knows nothing of requests, archives or modules. It is asynchronous inside, and hides it.

mod answer;
mod endpoint;
mod git;
mod guard;
mod peer;
mod range;
pub mod rate;
mod relay;
mod sftp;
mod way;
pub mod wrapper;

pub use answer::{Heard, Line, Passed};
pub use endpoint::Endpoint;
pub use git::{FetchOutcome, GitFetch, PushOutcome, fsck_options};
pub use peer::{Peer, Stream};
pub use relay::HERE;
pub use sftp::{RemoteFile, Sftp};

/// How long a peer may send nothing while we wait for it.
pub const STALL: std::time::Duration = std::time::Duration::from_secs(120);
