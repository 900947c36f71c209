//! How libraries tell what they are doing. They never print; the commands decide what is shown.

use crate::error::Error;

/// What a dry run would do about one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedStep<'a> {
    /// The entry, as people read it.
    pub path: &'a str,
    /// `create`, `replace`, `attributes`, `link` (a further name of a file), `same`, `left` or `refused`.
    pub what: &'static str,
    /// Bytes of its content.
    pub bytes: u64,
}

/// Receives progress and problems of a running operation. All methods may be called from any thread.
pub trait Monitor: Send + Sync {
    /// A new step has begun, as in "reading /var/www". `total` is the number of bytes expected, where it is known.
    fn task(&self, _name: &str, _total: Option<u64>) {}
    /// `bytes` more have been worked on.
    fn bytes(&self, _bytes: u64) {}
    /// `entries` more (files, refs, rows) have been worked on.
    fn entries(&self, _entries: u64) {}
    /// Something worth knowing that is no problem; it is in the operation's result as well.
    fn note(&self, _text: &str) {}
    /// A dry run would do this.
    fn planned(&self, _step: &PlannedStep<'_>) {}
    /// Something went wrong that does not stop the operation; it is in the operation's result as well.
    fn problem(&self, _error: &Error) {}
}

/// A monitor that nobody looks at.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Monitor for Silent {}
