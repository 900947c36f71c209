//! What modules that make archives have in common: preparing packs on the client, fetching them on the node.
//!
//! Does not know where the data comes from, nor what is in it.

pub(crate) mod client;
pub(crate) mod server;
#[cfg(test)]
mod tests;
