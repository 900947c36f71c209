//! `nightsafe ls`: what is in a snapshot.

use crate::Globals;
use crate::output::{self, Table};
use crate::recall::keys::Keys;
use crate::recall::proof::Content;
use crate::recall::{self, Recall, inner_path};
use archive::entry::{Entry, EntryKind, Xattrs};
use base::text::printable;
use base::{ByteSize, Error, Exit, Result};
use jiff::Timestamp;
use serde::Serialize;

/// Show what is in a snapshot: files of an archive, refs of a git repository.
#[derive(Debug, clap::Args)]
pub struct Ls {
    /// [CLIENT:]MODULE:PATH, or a snapshot's name.
    #[arg(value_name = "DATASET|SNAPSHOT")]
    what: String,
    /// A folder or a file in it, below the dataset's path or as an absolute path. Default: all of the first level.
    path: Option<String>,
    /// The newest snapshot accepted at or before this time, or a snapshot's name.
    #[arg(long, value_name = "TIME|SNAPSHOT")]
    at: Option<String>,
    /// Everything below, not one level alone.
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    from: recall::From,
    /// An array of objects instead of a table.
    #[arg(long)]
    json: bool,
}

/// One entry.
#[derive(Debug, Serialize)]
pub struct Row {
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    owner: String,
    group: String,
    size: u64,
    mtime: Option<Timestamp>,
    target: Option<String>,
    /// The numbers of a device.
    device: Option<String>,
    /// Whether it has an access control list.
    acl: bool,
    /// Whether it has extended attributes.
    xattrs: bool,
}

/// One ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefRow {
    /// Its whole name, or `HEAD` or `description`.
    pub name: String,
    /// The object's id, or what `HEAD` or the description say.
    pub oid: String,
}

impl Ls {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        let recall = Recall::open(globals, self.from)?;
        let offered = recall.source.list()?;
        let proven = recall.prove(&offered, &recall.wanted(&self.what, self.at.as_deref(), &offered)?)?;
        match &proven.content {
            Content::Archive(_) => {}
            Content::Refs(refs) => {
                let rows = refs_of(refs, self.path.as_deref());
                output::listing(self.json, &rows, ref_table)?;
                return Ok(Exit::Done);
            }
            Content::Nothing => {
                output::listing::<Row>(self.json, &[], |_| Table::new(&[], "This dataset carries nothing."))?;
                return Ok(Exit::Done);
            }
        }
        let dataset = proven.claim.dataset.clone();
        let inside = self.path.as_deref().map(|path| inner_path(&dataset, path)).unwrap_or_default();
        let reader = recall.open_archive(proven, self.keys.load()?.as_ref())?;
        let mut rows = Vec::new();
        let mut exit = Exit::Done;
        for entry in reader.below(inside.as_bytes())? {
            match entry {
                Ok(entry) if self.recursive || is_near(&entry.path, inside.as_bytes()) => rows.push(row(&entry)),
                Ok(_) => {}
                Err(error) => {
                    output::complain(&error);
                    exit = Exit::Incomplete;
                }
            }
        }
        if rows.is_empty() && exit == Exit::Done {
            return Err(Error::failed(format!("there is no {inside:?} in this snapshot of {dataset}"))
                .hint("nightsafe ls without a path shows the first level."));
        }
        // A folder's own line says nothing beside what is in it.
        if rows.len() > 1 && rows[0].kind == "dir" && rows[0].path.trim_end_matches('/') == inside.trim_end_matches('/') {
            rows.remove(0);
        }
        output::listing(self.json, &rows, table)?;
        Ok(exit)
    }
}

/// Whether `path` is `folder` itself or one level below it.
fn is_near(path: &[u8], folder: &[u8]) -> bool {
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let Some(rest) = path.strip_prefix(folder) else { return false };
    let rest = if folder.is_empty() { rest } else { rest.strip_prefix(b"/").unwrap_or(rest) };
    !rest.contains(&b'/')
}

/// An entry as people and programs are told of it.
pub fn row(entry: &Entry) -> Row {
    let (mut size, mut target, mut device) = (0, None, None);
    match &entry.kind {
        EntryKind::Dir | EntryKind::Fifo => {}
        EntryKind::File { size: length, .. } => size = *length,
        EntryKind::Link { target: says } => target = Some(printable(&String::from_utf8_lossy(says))),
        EntryKind::Device { major, minor, .. } => device = Some(format!("{major},{minor}")),
    }
    let attributes = entry.attributes.as_deref();
    Row {
        path: entry.shown_path(),
        kind: entry.kind.word(),
        mode: format!("{:04o}", entry.mode),
        owner: entry.user.clone().unwrap_or_else(|| entry.uid.to_string()),
        group: entry.group.clone().unwrap_or_else(|| entry.gid.to_string()),
        size,
        mtime: Timestamp::new(entry.mtime.seconds, 0).ok(),
        target,
        device,
        acl: attributes.is_some_and(|all| all.acl.is_some() || all.default_acl.is_some()),
        xattrs: attributes.is_some_and(|all| all.xattrs != Xattrs::default()),
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["MODE", "OWNER", "GROUP", "SIZE", "CHANGED", "PATH"], "It is empty.");
    for row in rows {
        let size = match &row.device {
            Some(numbers) => format!("{} {numbers}", row.kind),
            None if row.kind == "file" => ByteSize(row.size).to_string(),
            None => row.kind.into(),
        };
        let path = match &row.target {
            Some(target) => format!("{} -> {target}", row.path),
            None if row.path.is_empty() => ".".into(),
            None => row.path.clone(),
        };
        let changed = row.mtime.map(|time| time.to_string()).unwrap_or_default();
        // As ls shows them: + for an access control list, @ for other attributes.
        let mark = if row.acl {
            "+"
        } else if row.xattrs {
            "@"
        } else {
            ""
        };
        table.row([format!("{}{mark}", row.mode), row.owner.clone(), row.group.clone(), size, changed, path]);
    }
    table
}

/// The lines of a proven list of refs: names and ids, HEAD first.
pub fn refs_of(refs: &[u8], only: Option<&str>) -> Vec<RefRow> {
    let text = String::from_utf8_lossy(refs);
    let split = |line: &str| {
        let (a, b) = line.split_once(' ')?;
        // These lines have the word first, and what it says behind it.
        let (name, oid) = if matches!(a, "HEAD" | "description") { (a, b) } else { (b, a) };
        Some(RefRow { name: printable(name), oid: printable(oid) })
    };
    text.lines().filter_map(split).filter(|row| only.is_none_or(|only| row.name.starts_with(only))).collect()
}

fn ref_table(rows: &[RefRow]) -> Table {
    let mut table = Table::new(&["OBJECT", "REF"], "The repository has no refs.");
    for row in rows {
        table.row([row.oid.clone(), row.name.clone()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_level() {
        for (path, folder, near) in [
            ("", "", true),
            ("a/", "", true),
            ("a", "", true),
            ("a/b", "", false),
            ("a/", "a", true),
            ("a/b", "a", true),
            ("a/b/", "a/", true),
            ("a/b/c", "a", false),
        ] {
            assert_eq!(is_near(path.as_bytes(), folder.as_bytes()), near, "{path} {folder}");
        }
    }

    #[test]
    fn refs_are_shown_with_their_names() {
        let rows = refs_of(b"HEAD refs/heads/main\n0123 refs/heads/main\n4567 refs/tags/v1\n", None);
        assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["HEAD", "refs/heads/main", "refs/tags/v1"]);
        assert_eq!(refs_of(b"HEAD -\n0123 refs/tags/v1\n", Some("refs/tags")).len(), 1);
    }
}
