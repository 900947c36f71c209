//! The crate against real git: what it writes, git reads; what git receives, it checks.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod gate;
mod harness;
mod prove_log;
mod repository;
