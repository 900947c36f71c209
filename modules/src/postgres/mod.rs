//! PostgreSQL databases, dumped by `pg_dump` into an encrypted archive.
//!
//! Knows no SQL of the databases; passwords are libpq's matter (`~/.pgpass`).

mod client;
mod programs;
mod restore;

pub(crate) use client::CLIENT;

const NAME: &str = "postgres";

/// What the dump is called in the archive.
const DUMP: &str = "dump";
