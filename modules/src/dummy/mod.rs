//! A module that carries nothing and proves the way: request, signature, receipt.
//!
//! Knows no data. `dummy:hello` may be submitted wherever `client.toml` allows it.

mod client;
mod server;

pub(crate) use client::CLIENT;
pub(crate) use server::SERVER;

pub(crate) const NAME: &str = "dummy";
