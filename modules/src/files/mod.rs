//! Files and folders, as an encrypted archive.
//!
//! Knows the disk; chunks, packs and the store are the archive's matter.

mod client;
mod server;

pub(crate) use client::CLIENT;
pub(crate) use server::SERVER;

const NAME: &str = "files";
