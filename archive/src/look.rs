//! What a backup of a tree would take, without reading any file and without writing anything.
//!
//! Walks as the backup does; what is behind the names it leaves alone.

use crate::choose::{Choice, Chooser, Why};
use crate::walk::{self, Place, Root, Source, Stat, Visitor};
use base::{Monitor, Result};
use std::collections::BTreeMap;

/// What becomes of a thing that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate<'a> {
    /// It would be stored, with so many bytes of content.
    Taken(u64),
    /// It is left out with all that is in it.
    LeftOut(&'a str),
    /// It cannot be read.
    Unreadable(String),
}

/// What a backup would come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// Files, folders, links and so on.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What would go into the errors ledger.
    pub unreadable: u64,
    /// How many things are left out, by reason.
    pub left_out: BTreeMap<String, u64>,
}

struct Looker<'a> {
    found: Looked,
    tell: &'a dyn Fn(&[u8], Fate<'_>),
    monitor: &'a dyn Monitor,
}

/// Looks what of `source` `choice` takes; `tell` is told of each thing, folders with a slash at their end.
///
/// # Errors
/// When the source itself cannot be read.
pub fn look(source: Source<'_>, choice: &Choice, tell: &dyn Fn(&[u8], Fate<'_>), monitor: &dyn Monitor) -> Result<Looked> {
    let root = Root::open(source)?;
    let mut looker = Looker { found: Looked::default(), tell, monitor };
    let mut chooser = Chooser::new(choice, &mut looker);
    walk::walk(root, &mut chooser)?;
    chooser.finish()?;
    Ok(looker.found)
}

impl Looker<'_> {
    fn take(&mut self, path: &[u8], bytes: u64) -> Result<()> {
        self.found.entries += 1;
        self.found.bytes = self.found.bytes.saturating_add(bytes);
        self.monitor.entries(1);
        (self.tell)(path, Fate::Taken(bytes));
        Ok(())
    }
}

impl Visitor for Looker<'_> {
    fn folder(&mut self, path: &[u8], _place: &Place, _stat: &Stat) -> Result<()> {
        self.take(path, 0)
    }

    fn file(&mut self, path: &[u8], place: &Place, stat: &Stat) -> Result<()> {
        match place.open(path) {
            Ok(_) => self.take(path, stat.size),
            Err(error) => self.unreadable(path, walk::why_not(error)),
        }
    }

    fn node(&mut self, path: &[u8], _place: &Place, _stat: &Stat) -> Result<()> {
        self.take(path, 0)
    }

    fn skipped(&mut self, path: &[u8], why: &str) -> Result<()> {
        *self.found.left_out.entry(why.to_owned()).or_default() += 1;
        (self.tell)(path, Fate::LeftOut(why));
        Ok(())
    }

    fn left_out(&mut self, path: &[u8], why: Why<'_>) -> Result<()> {
        self.skipped(path, &why.to_string())
    }

    fn unreadable(&mut self, path: &[u8], why: String) -> Result<()> {
        self.found.unreadable += 1;
        (self.tell)(path, Fate::Unreadable(why));
        Ok(())
    }
}
