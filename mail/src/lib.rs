//! Mails to administrators: one for each change of state of one thing, never one a run; and a digest by day or week.
//!
//! Knows neither requests nor nodes: callers say what is wrong now, and `told` what was said of it before.

mod decide;
mod digest;
mod send;
#[cfg(test)]
mod testing;
mod told;

pub use decide::{Change, Trouble, Wrong, changes};
pub use digest::{Digest, Row, digest};
pub use send::{check, send_test};
pub use told::report;
