//! PostgreSQL: databases dumped by `pg_dump`, and roles by `pg_dumpall`, into an encrypted archive, and back.
//!
//! Holds no password: these are libpq's matter (`.pgpass`, a service file, the server's own rules).

mod ask;
mod backup;
mod client;
mod globals;
mod names;
mod restore;
mod settings;
mod sql;
mod target;
mod toc;
mod tools;

pub(crate) use client::CLIENT;

const NAME: &str = "postgres";

/// What the dump of one database is called in its archive.
const DUMP: &str = "dump";
/// What roles and tablespaces are called in the archive of a whole server.
const GLOBALS: &str = "globals.sql";
