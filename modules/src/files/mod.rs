//! Files and folders, as an encrypted archive.
//!
//! Knows the disk; chunks, packs and the store are the archive's matter.

mod client;

pub(crate) use client::CLIENT;

const NAME: &str = "files";
