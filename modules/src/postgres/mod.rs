//! PostgreSQL databases, dumped by `pg_dump` into an encrypted archive.
//!
//! Knows no SQL of the databases; passwords are libpq's matter (`~/.pgpass`).

mod client;
mod programs;
mod restore;
mod server;

pub(crate) use client::CLIENT;
pub(crate) use server::SERVER;

const NAME: &str = "postgres";

/// What the dump is called in the archive.
const DUMP: &str = "dump";
