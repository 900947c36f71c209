//! What the node itself did, and what people had it do: its own log, newest first, page by page.
//!
//! Proves nothing: that is `nightsafe-server log --verify`.

use super::history::parent;
use crate::audit::{BRANCH, Record};
use crate::node::Node;
use base::{Name, Result};
use queue::Repository;

/// Rows of a page.
pub const ROWS: usize = 50;
/// How many pages there are.
pub const PAGES: usize = 100;
/// How many commits are looked at for a page, at most: of a client of whom little is in it, all others' are passed over.
const LOOKS: usize = 20_000;
/// The largest record that is read, in bytes: a plan names each snapshot that it touches.
const LIMIT: usize = 16 << 20;

/// One commit of the log.
#[derive(Debug)]
pub struct Deed {
    /// Its id, 40 hex digits.
    pub commit: String,
    /// What it says; `None` where that cannot be read.
    pub record: Option<Record>,
}

/// A page of the log.
#[derive(Debug)]
pub struct Deeds {
    /// At most [`ROWS`].
    pub rows: Vec<Deed>,
    /// Whether there is more, on later pages or beyond them.
    pub more: bool,
}

/// Page `page` (from 0) of what is in the log of one client, or of all.
///
/// # Errors
/// When the log cannot be read.
pub fn page(node: &Node, only: Option<&Name>, page: usize) -> Result<Deeds> {
    let begin = page.min(PAGES - 1) * ROWS;
    let (mut rows, mut passed) = (Vec::new(), 0);
    let path = node.config.audit_path();
    if !path.join("HEAD").exists() {
        return Ok(Deeds { rows, more: false });
    }
    let log = Repository::open(&path, BRANCH)?;
    let mut next = log.tip()?;
    for _ in 0..LOOKS {
        let Some(commit) = next.take() else { break };
        let files = log.load(&commit)?;
        next = parent(&files.raw);
        let record = files.entries.first().and_then(|entry| Record::parse(&log.blob(&entry.oid, LIMIT).ok()?).ok());
        if only.is_some_and(|only| record.as_ref().is_none_or(|record| record.client != *only)) {
            continue;
        }
        if passed < begin {
            passed += 1;
        } else if rows.len() < ROWS {
            rows.push(Deed { commit, record });
        } else {
            return Ok(Deeds { rows, more: true });
        }
    }
    Ok(Deeds { rows, more: next.is_some() })
}
