//! What the node itself did, and what people had it do: its own log, newest first, page by page.
//!
//! Proves nothing: that is `nightsafe-server log --verify`.

use super::history::parent;
use crate::audit::{BRANCH, Record};
use crate::node::Node;
use base::{Name, Result};
use queue::Repository;
use std::time::{Duration, Instant};

/// Rows of a page.
pub const ROWS: usize = 50;
/// How many pages there are.
pub const PAGES: usize = 100;
/// How many commits are looked at for a page, at most: of a client of whom little is in it, all others' are passed over.
const LOOKS: usize = 20_000;
/// How long a page is looked for at most.
const TIME: Duration = Duration::from_secs(5);
/// The largest record that is read, in bytes: a plan names each snapshot that it touches.
const LIMIT: usize = 16 << 20;
/// How many snapshots of one deed are named.
const NAMED: usize = 10;
/// What becomes of snapshots by a plan.
const PLANNED: [&str; 3] = ["condemned", "spared", "pinned"];

/// One commit of the log.
#[derive(Debug)]
pub struct Deed {
    /// Its id, 40 hex digits.
    pub commit: String,
    /// What it says; `None` where that cannot be read.
    pub said: Option<Said>,
}

/// What a page shows of a record, which may name very many snapshots.
#[derive(Debug)]
pub struct Said {
    /// The record with its first snapshots alone, at most [`NAMED`].
    pub record: Record,
    /// How many snapshots it names.
    pub snapshots: usize,
    /// How many of them were condemned, spared and pinned, where any were.
    pub planned: Vec<(&'static str, usize)>,
}

impl From<Record> for Said {
    fn from(mut record: Record) -> Self {
        let count = |became: &str| record.snapshots.iter().filter(|line| line.became == became).count();
        let planned = PLANNED.map(|became| (became, count(became))).into_iter().filter(|(_, count)| *count > 0).collect();
        let snapshots = record.snapshots.len();
        record.snapshots.truncate(NAMED);
        record.snapshots.shrink_to_fit();
        Self { record, snapshots, planned }
    }
}

/// A page of the log.
#[derive(Debug)]
pub struct Deeds {
    /// At most [`ROWS`].
    pub rows: Vec<Deed>,
    /// Whether there is more, on later pages or beyond them; also where it was not looked further.
    pub more: bool,
}

/// Page `page` (from 0) of what is in the log of one client, or of all.
///
/// # Errors
/// When the log cannot be read.
pub fn page(node: &Node, only: Option<&Name>, page: usize) -> Result<Deeds> {
    page_until(node, only, page, Instant::now() + TIME)
}

fn page_until(node: &Node, only: Option<&Name>, page: usize, end: Instant) -> Result<Deeds> {
    let begin = page.min(PAGES - 1) * ROWS;
    let (mut rows, mut passed) = (Vec::new(), 0);
    let path = node.config.audit_path();
    if !path.join("HEAD").exists() {
        return Ok(Deeds { rows, more: false });
    }
    let log = Repository::open(&path, BRANCH)?;
    let mut next = log.tip()?;
    for _ in 0..LOOKS {
        if Instant::now() >= end {
            break;
        }
        let Some(commit) = next.take() else { break };
        let files = log.load(&commit)?;
        next = parent(&files.raw);
        // The records of others, and of the pages before, may be large.
        if only.is_some_and(|only| !is_of(only, &files.raw)) {
            continue;
        }
        if passed < begin {
            passed += 1;
        } else if rows.len() < ROWS {
            let record = files.entries.first().and_then(|entry| Record::parse(&log.blob(&entry.oid, LIMIT).ok()?).ok());
            rows.push(Deed { commit, said: record.map(Said::from) });
        } else {
            return Ok(Deeds { rows, more: true });
        }
    }
    Ok(Deeds { rows, more: next.is_some() })
}

/// Whether a commit, by its subject, is about `client`.
fn is_of(client: &Name, raw: &[u8]) -> bool {
    let text = String::from_utf8_lossy(raw);
    let subject = text.split_once("\n\n").map_or("", |(_, message)| message);
    subject.strip_prefix(client.as_str()).is_some_and(|rest| rest.starts_with(": "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;
    use queue::Signer;
    use std::path::Path;

    /// A node of which there is nothing but its configuration.
    fn node(dir: &Path) -> Node {
        let text = format!(
            "version = 1\nname = \"node1\"\ndata = \"{0}/data\"\ngate = \"{0}/gate\"\npull_key = \"{0}/pull\"\nreceipts_key = \"{0}/receipts\"\nadmins = []\n",
            dir.display()
        );
        std::fs::create_dir_all(dir.join("data")).unwrap();
        std::fs::write(dir.join("node.toml"), text).unwrap();
        Node::load(&dir.join("node.toml")).unwrap()
    }

    fn record(client: &str, snapshots: usize) -> String {
        let mut text =
            format!("version = 1\ndeed = \"plan\"\nnode = \"node1\"\nclient = \"{client}\"\ntime = 2026-07-01T04:00:00Z\nby = \"uid 1\"\n");
        for n in 0..snapshots {
            let became = if n == 0 { "spared" } else { "condemned" };
            text += &format!("[[snapshot]]\nid = \"20260701T040000Z-{n:08x}\"\nbecame = \"{became}\"\n");
        }
        text
    }

    #[test]
    fn a_page_holds_the_deeds_of_one_client_and_the_first_snapshots_of_each() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path());
        keys::make(&dir.path().join("receipts"), "receipts").unwrap();
        let signer = Signer::from_file(&dir.path().join("receipts")).unwrap();
        let web1 = Name::new("web1").unwrap();
        assert!(!page(&node, Some(&web1), 0).unwrap().more);
        let log = Repository::open_or_create(&node.config.audit_path(), BRANCH).unwrap();
        for (client, content) in
            [("web1", record("web1", 25)), ("web11", record("web11", 1)), ("web1", "no record".into()), ("db1", record("db1", 2))]
        {
            let message = queue::message::text(&format!("{client}: 2 snapshots held"), &["web1: because".into()]);
            log.commit_files(&[("plan.toml".into(), content.into_bytes())], &message, &signer, "node1").unwrap();
        }
        assert_eq!(page(&node, None, 0).unwrap().rows.len(), 4);
        let of = page(&node, Some(&web1), 0).unwrap();
        assert!(of.rows.len() == 2 && !of.more && of.rows[0].said.is_none(), "{of:?}");
        let said = of.rows[1].said.as_ref().unwrap();
        assert_eq!((said.record.snapshots.len(), said.snapshots), (NAMED, 25));
        assert_eq!(said.planned, [("condemned", 24), ("spared", 1)]);
        assert!(page(&node, Some(&web1), 1).unwrap().rows.is_empty());
        // Where the time is over, it was not looked further.
        let none = page_until(&node, Some(&web1), 0, Instant::now()).unwrap();
        assert!(none.rows.is_empty() && none.more);
    }
}
