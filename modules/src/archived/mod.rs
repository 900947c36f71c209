//! What modules that make archives have in common: preparing packs on the client, fetching them on the node.
//!
//! Does not know where the data comes from, nor what is in it.

pub(crate) mod client;
mod dump;
mod feed;
mod packs;
mod restore;
mod server;
mod staging;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use dump::{Group, dump, dump_after};
pub(crate) use feed::{feed, feed_by};
pub(crate) use restore::restore;
pub(crate) use server::SERVER;
pub(crate) use staging::Staging;
pub use staging::sweep_staging;
