//! SQLite databases, copied by SQLite itself while others write, into an encrypted archive.
//!
//! Reads no pages and runs no SQL of a database.

mod client;
mod copy;
mod program;

pub(crate) use client::CLIENT;

const NAME: &str = "sqlite";
