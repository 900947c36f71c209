//! Reading packs: bytes at an offset become decrypted, checked and decompressed frames, and frames become content.
//!
//! Knows nothing of paths and of where packs are. Nothing is handed on that was not checked against a digest.

mod buffers;
pub(crate) mod content;
pub(crate) mod early;
pub(crate) mod frames;
pub(crate) mod layout;
pub(crate) mod order;
pub(crate) mod pack;
pub(crate) mod repair;
mod schedule;
pub(crate) mod threads;
mod window;
