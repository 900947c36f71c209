//! What every other crate agrees on: names, ids, digests, durable files, errors, configuration.
//!
//! Knows nothing of git, ssh, archives or queues, and imports no other crate of this workspace.

mod accepted;
pub mod atomic;
pub mod backoff;
pub mod beneath;
mod claim;
pub mod clock;
pub mod config;
pub mod crash;
mod dataset;
mod daytime;
pub mod dial;
pub mod digest;
mod error;
pub mod findings;
pub mod gitdir;
mod group;
mod id;
mod keep;
mod lock;
pub mod metrics;
mod monitor;
mod name;
pub mod names;
pub mod process;
mod read_at;
mod sizes;
pub mod state;
pub mod stop;
pub mod text;
pub mod untrusted;

pub use accepted::{ACCEPTED_LIMIT, Accepted};
pub use claim::{Claim, Payload, Proof, Reason};
pub use dataset::{Address, Dataset, DatasetPattern};
pub use daytime::DayTime;
pub use digest::{Blake3, Hashed, Sha256};
pub use error::{At, Error, Exit, Kind, Result};
pub use group::{Group, MEMBERS_LIMIT};
pub use id::RequestId;
pub use keep::{Keep, KeepRule, KeepWords, Length, Step, Unit};
pub use lock::FileLock;
pub use monitor::{Monitor, PlannedStep, Silent};
pub use name::Name;
pub use read_at::ReadAt;
pub use sizes::{ByteSize, Span};
