//! Refs that a mirror's source has no more, or has otherwise by now, as the node keeps them.
//!
//! Asks git in the node's own mirror; knows neither who asks nor what is shown of it.

use crate::node::Node;
use base::{Dataset, Name, Result, process};
use std::time::Duration;

/// How many kept refs are shown, the newest first.
pub const MOST: usize = 50;
/// The most that git may print, in bytes: a ref's name has at most some hundred.
const OUTPUT_LIMIT: usize = 1 << 20;
const TIME: Duration = Duration::from_secs(20);

/// One mirror.
#[derive(Debug)]
pub struct Mirror {
    /// Its refs below `refs/kept/`, the newest first, at most [`MOST`].
    pub kept: Vec<Kept>,
    /// Whether there are more.
    pub more: bool,
}

/// A ref as it was.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// The name that it has in the mirror.
    pub name: String,
    /// What it led to, 40 hex digits.
    pub id: String,
}

/// The mirror of a dataset; `None` where there is none.
///
/// # Errors
/// When git cannot be run there.
pub fn of(node: &Node, client: &Name, dataset: &Dataset) -> Result<Option<Mirror>> {
    let path = node.config.client_path(client).join("mirrors").join(modules::mirror_name(dataset));
    if !path.is_dir() {
        return Ok(None);
    }
    let mut git = process::git();
    // The time is first in the names, so that they sort by it.
    git.arg("--git-dir").arg(&path).args(["for-each-ref", "--sort=-refname", "--format=%(objectname) %(refname)"]);
    git.arg(format!("--count={}", MOST + 1)).args(["--", "refs/kept/"]);
    let listed = process::run_ok(git, OUTPUT_LIMIT, TIME)?;
    let mut kept: Vec<Kept> = String::from_utf8_lossy(&listed)
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, name)| Kept { name: name.to_owned(), id: id.to_owned() })
        .collect();
    let more = kept.len() > MOST;
    kept.truncate(MOST);
    Ok(Some(Mirror { kept, more }))
}
