//! How people see what the programs do: tables, progress on a terminal, and the log.
//!
//! Knows nothing of what is shown. Both programs have it, the gate does not: nobody looks at it.

pub mod logging;
pub mod progress;
pub mod table;
