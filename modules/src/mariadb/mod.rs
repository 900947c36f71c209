//! MariaDB databases, dumped by `mariadb-dump` into an encrypted archive.
//!
//! Knows no passwords: these are the client library's matter (option files, the socket).

mod account;
mod client;
mod feed;
mod names;
mod programs;
mod restore;
mod rights;
mod script;
mod server;

pub(crate) use client::CLIENT;

const NAME: &str = "mariadb";
