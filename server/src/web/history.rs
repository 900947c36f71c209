//! Requests and receipts as they stand in the signed history, newest first, page by page.
//!
//! Proves nothing: that is `nightsafe-server log --verify`. Reads no more commits than a page and those before it need.

use crate::node::Node;
use crate::overview::{Client, Overview};
use crate::poll::{LOG_BRANCH, RECEIPTS_BRANCH};
use base::{Name, Result};
use jiff::Timestamp;
use queue::receipt::receipt_name;
use queue::request::FILE_LIMIT;
use queue::{Receipt, Repository, Request};
use std::collections::VecDeque;
use std::path::PathBuf;

/// Rows of a page.
pub const ROWS: usize = 50;
/// How many pages there are of all clients together; of one client there are [`DEEP`].
pub const PAGES: usize = 20;
/// How many pages there are of one client: each needs all requests that are newer.
pub const DEEP: usize = 400;

/// How many histories are open at once: each takes several open files.
const OPEN: usize = 32;

/// One request, and what became of it.
#[derive(Debug)]
pub struct Row {
    /// What was asked.
    pub request: Request,
    /// The commit that asks, 40 hex digits.
    pub commit: String,
    /// The answer; `None` while it waits.
    pub receipt: Option<Receipt>,
}

/// Page `page` (from 0) of one client's requests, or of all clients'. One row more than [`ROWS`] says that there are more.
///
/// # Errors
/// When a history cannot be read.
pub fn page(node: &Node, overview: &Overview, only: Option<&Client>, page: usize) -> Result<Vec<Row>> {
    let page = page.min(if only.is_some() { DEEP } else { PAGES } - 1);
    let end = (page + 1) * ROWS + 1;
    // Of whom nothing came for longest there is nothing on this page: it has so many requests newer than his.
    let mut clients: Vec<&Client> = only.map_or_else(|| overview.clients.iter().collect(), |only| vec![only]);
    clients.sort_by_key(|client| std::cmp::Reverse(client.last_received));
    let mut walks = Vec::new();
    for client in clients.into_iter().filter(|client| only.is_some() || client.last_received.is_some()).take(end) {
        let Ok(name) = Name::new(client.client.as_str()) else { continue };
        let mut walk = Walk::new(node, &name, client.last_received.unwrap_or(Timestamp::MAX));
        if let Some(first) = walk.next()? {
            walk.close();
            walks.push((first, walk));
        }
    }
    let mut found = Vec::new();
    for n in 0..end {
        if walks.iter().filter(|(_, walk)| walk.log.is_some()).count() > OPEN {
            walks.iter_mut().for_each(|(_, walk)| walk.close());
        }
        let newest = walks.iter().enumerate().max_by_key(|(_, ((request, _), walk))| (request.submitted.min(walk.latest), &request.id));
        let Some(at) = newest.map(|(at, _)| at) else { break };
        let (head, walk) = &mut walks[at];
        let taken = match walk.next()? {
            Some(next) => std::mem::replace(head, next),
            None => walks.swap_remove(at).0,
        };
        if n >= page * ROWS {
            found.push((taken.0.client.clone(), taken));
        }
    }
    with_receipts(node, found)
}

/// One client's requests from the newest on.
struct Walk {
    /// When the last of them was taken in: none was made later, whatever the client's clock said.
    latest: Timestamp,
    path: PathBuf,
    /// Open while it is read.
    log: Option<Repository>,
    next: Next,
    /// What is left of the commit that was read last.
    rest: VecDeque<(Request, String)>,
}

/// Which commit is read next.
enum Next {
    /// The newest.
    Tip,
    /// This one.
    Commit(String),
    /// There is none.
    End,
}

impl Walk {
    fn new(node: &Node, client: &Name, latest: Timestamp) -> Self {
        let path = node.config.log_path(client);
        let next = if path.join("HEAD").exists() { Next::Tip } else { Next::End };
        Self { latest, path, log: None, next, rest: VecDeque::new() }
    }

    /// Lets go of its files until it is read on.
    fn close(&mut self) {
        self.log = None;
    }

    fn next(&mut self) -> Result<Option<(Request, String)>> {
        while self.rest.is_empty() {
            if matches!(self.next, Next::End) {
                return Ok(None);
            }
            let log = match self.log.take() {
                Some(log) => log,
                None => Repository::open(&self.path, LOG_BRANCH)?,
            };
            let log = &*self.log.insert(log);
            let oid = match std::mem::replace(&mut self.next, Next::End) {
                Next::Commit(oid) => Some(oid),
                Next::Tip => log.tip()?,
                Next::End => None,
            };
            let Some(oid) = oid else { return Ok(None) };
            let commit = log.load(&oid)?;
            for entry in commit.entries.iter().filter(|entry| entry.name.starts_with(b"RQ")) {
                // What cannot be read stands in the log all the same, and in the alarms.
                if let Ok(request) = log.blob(&entry.oid, FILE_LIMIT).and_then(|bytes| Request::parse(&bytes)) {
                    self.rest.push_back((request, oid.clone()));
                }
            }
            self.rest.make_contiguous().sort_by_key(|(request, _)| std::cmp::Reverse(request.seq));
            self.next = parent(&commit.raw).map_or(Next::End, Next::Commit);
        }
        Ok(self.rest.pop_front())
    }
}

/// The commit before, as a commit's own bytes say.
pub fn parent(raw: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(raw);
    text.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix("parent ")).map(str::to_owned)
}

/// Each client's receipts are opened once.
fn with_receipts(node: &Node, found: Vec<(Name, (Request, String))>) -> Result<Vec<Row>> {
    let mut open: Vec<(Name, Option<Repository>)> = Vec::new();
    let mut rows = Vec::new();
    for (client, (request, commit)) in found {
        let at = match open.iter().position(|(name, _)| *name == client) {
            Some(at) => at,
            None => {
                let path = node.config.receipts_path(&client);
                let answers = if path.join("HEAD").exists() { Some(Repository::open(&path, RECEIPTS_BRANCH)?) } else { None };
                open.push((client, answers));
                open.len() - 1
            }
        };
        let answer = open[at].1.as_ref().map(|answers| answers.find_file(&receipt_name(&request.id))).transpose()?.flatten();
        let receipt = answer.map(|answer| Receipt::parse(&answer.bytes)).transpose()?;
        rows.push(Row { request, commit, receipt });
    }
    Ok(rows)
}
