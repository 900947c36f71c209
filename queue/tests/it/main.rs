//! The crate against real git: what it writes, git reads; what git receives, it checks.

mod gate;
mod harness;
mod repository;
