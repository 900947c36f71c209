//! What a backup would take, told before it is made (`submit --dry-run`).
//!
//! Writes nothing, and does not know what of it the node has already.

use base::Monitor;
use base::config::ClientConfig;
use std::collections::BTreeMap;

/// What is said by a module that knows nothing beforehand.
pub(crate) const UNKNOWN: &str = "How much it will be is known only when it is made.";

/// What a module needs to look.
#[derive(Clone, Copy)]
pub struct LookContext<'a> {
    /// The client's configuration.
    pub config: &'a ClientConfig,
    /// Is told of each thing, in the order in which it is met; there may be millions.
    pub tell: &'a dyn Fn(&Seen<'_>),
    /// Who is told how it goes on.
    pub monitor: &'a dyn Monitor,
}

/// One thing that was met: a file, a ref, a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Its name within the dataset; need not be UTF-8.
    pub name: &'a [u8],
    /// What becomes of it.
    pub fate: Fate<'a>,
}

/// What becomes of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate<'a> {
    /// It would be stored, with so many bytes of content.
    Taken(u64),
    /// It is left out, and why.
    LeftOut(&'a str),
    /// It cannot be read, and why.
    Unreadable(&'a str),
}

/// What a backup would come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// How many things would be stored, where that is known.
    pub entries: Option<u64>,
    /// Bytes of content, where they are known.
    pub bytes: Option<u64>,
    /// How many things cannot be read; the exit code is 3 then.
    pub unreadable: u64,
    /// How many things are left out, by reason. What is below a folder that is left out is not counted.
    pub left_out: BTreeMap<String, u64>,
    /// What else there is to say: sentences.
    pub lines: Vec<String>,
}
