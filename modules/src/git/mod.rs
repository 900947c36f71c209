//! Git repositories: a mirror at the node, and a signed list of refs for each state; or sealed, as bundles in an archive.
//!
//! Knows no host names or keys. What the mirror holds is never pruned; what a ref pointed at is kept when it moves.

pub(crate) mod adopt;
mod client;
mod forward;
mod lfs;
mod mirror;
mod packed;
mod plan;
mod refs;
mod restore;
mod sealed;
mod server;
#[cfg(test)]
mod tests;
mod unsaid;
mod unseal;
pub(crate) mod upkeep;

pub(crate) use client::CLIENT;
pub use mirror::mirrors_size;
pub(crate) use server::SERVER;

use base::{Blake3, Dataset};

pub(crate) const NAME: &str = "git";

/// The longest list of refs, in bytes.
const LIST_LIMIT: usize = 16 << 20;

/// Lists up to this size travel in the request's commit.
const ATTACH_LIMIT: usize = 32 << 10;

/// The name of a dataset's mirror in the client's folder `mirrors`: 32 hex digits and `.git`. The dataset's own text is in
/// the file `nightsafe-dataset` in it.
pub fn mirror_name(dataset: &Dataset) -> String {
    format!("{}.git", &Blake3::of(dataset.to_string().as_bytes()).hex()[..32])
}
