//! `nightsafe diff`: what changed between two snapshots of a dataset.

use super::ls::{self, RefRow, refs_of};
use crate::Globals;
use crate::output::{self, JsonArray};
use crate::recall::choose::{self, Offered};
use crate::recall::keys::Keys;
use crate::recall::proof::{Content, Proven};
use crate::recall::{self, Recall, Wanted, inner_path};
use archive::diff::{Aspect, Change, compare};
use archive::entry::{Entry, EntryKind};
use base::text::printable;
use base::{ByteSize, Error, Exit, Result};
use serde::Serialize;
use show::progress::Progress;
use show::table::{Paper, Tone};
use std::collections::BTreeMap;

/// Show what changed between two snapshots of a dataset: what came, what went, and what is not the same.
///
/// Without --from and --to it is the newest snapshot against the one before it. Only the parts of the two lists of files that
/// differ are read, and no contents at all. Of a git repository refs are compared.
#[derive(Debug, clap::Args)]
pub struct Diff {
    /// [CLIENT:]MODULE:PATH, or the earlier snapshot's name.
    #[arg(value_name = "DATASET|SNAPSHOT")]
    what: String,
    /// Only this file or folder, below the dataset's path or as an absolute path.
    path: Option<String>,
    /// The earlier snapshot, or a time at or before which it was accepted. Default: the one before the later one.
    #[arg(long, value_name = "TIME|SNAPSHOT")]
    from: Option<String>,
    /// The later snapshot, or a time at or before which it was accepted. Default: the newest.
    #[arg(long, value_name = "TIME|SNAPSHOT")]
    to: Option<String>,
    /// Only what came, what went, and files whose content changed.
    #[arg(long)]
    content_only: bool,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    source: recall::From,
    /// An array of objects instead of lines. docs/json.md says what is in them.
    #[arg(long)]
    json: bool,
}

/// One path that is not the same.
#[derive(Debug, Serialize)]
struct Row<T> {
    change: &'static str,
    path: String,
    /// In what it differs; of what came or went this says nothing.
    aspects: Vec<&'static str>,
    before: Option<T>,
    after: Option<T>,
}

/// How much changed.
#[derive(Debug, Default)]
struct Total {
    added: (u64, u64),
    removed: (u64, u64),
    changed: u64,
}

impl Diff {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        let recall = Recall::open(globals, self.source)?;
        let offered = recall.source.list()?;
        let (before, after) = pair(&recall, &offered, &self.what, self.from.as_deref(), self.to.as_deref())?;
        let prove = |one: &Offered| recall.prove(&offered, &Wanted::Snapshot(one.snapshot.clone()));
        let (before, after) = (prove(before)?, prove(after)?);
        let inside = self.path.as_deref().map(|path| inner_path(&after.claim.dataset, path)).unwrap_or_default();
        if !self.json {
            output::line(format_args!("From {}", before.describe()));
            output::line(format_args!("to   {}", after.describe()));
        }
        let mut printer =
            Printer { paper: output::paper(), json: self.json.then(JsonArray::default), total: Total::default(), failed: None };
        let exit = match (&before.content, &after.content) {
            (Content::Refs(old), Content::Refs(new)) => {
                refs(old, new, self.path.as_deref(), &mut printer);
                Exit::Done
            }
            (Content::Archive(_), Content::Archive(_)) => {
                let identities = self.keys.load()?;
                let open = |proven: Proven| recall.open_archive(proven, identities.as_ref());
                let (before, after) = (open(before)?, open(after)?);
                let progress = Progress::new();
                progress.say("comparing the snapshots' lists of files");
                let compared = compare(&before, &after, inside.as_bytes(), &progress, &mut |change| {
                    printer.change(change, self.content_only) && !output::is_gone()
                })?;
                drop(progress);
                for problem in &compared.problems {
                    output::note(format_args!("nightsafe: {}", printable(problem)));
                }
                if compared.problems.is_empty() { Exit::Done } else { Exit::Incomplete }
            }
            (Content::Nothing, Content::Nothing) => Exit::Done,
            _ => {
                return Err(Error::failed("the two snapshots are of different kinds: a mirror, and an archive of a sealed repository")
                    .hint("Restore both, and compare them with git."));
            }
        };
        printer.finish()?;
        Ok(exit)
    }
}

/// The two snapshots to compare, the earlier one first.
fn pair<'a>(
    recall: &Recall,
    offered: &'a [Offered],
    what: &str,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<(&'a Offered, &'a Offered)> {
    let named = recall.wanted(what, None, offered)?;
    let (dataset, first) = match &named {
        Wanted::Dataset(address, at) => {
            let client = choose::client_of(address, recall.own_name(), offered)?;
            (choose::choose(offered, &client, &address.dataset, at)?, None)
        }
        Wanted::Snapshot(_) if from.is_some() => {
            return Err(Error::usage("a snapshot was named as the earlier one already").hint("Leave out --from."));
        }
        Wanted::Snapshot(_) => {
            let first = recall.choose(offered, &named)?;
            (first, Some(first))
        }
    };
    let address = format!("{}:{}", dataset.client, dataset.dataset);
    let of_dataset = |at: Option<&str>| recall.choose(offered, &recall.wanted(&address, at, offered)?);
    let after = of_dataset(to)?;
    let before = match (first, from) {
        (Some(first), _) => first,
        (None, Some(from)) => of_dataset(Some(from))?,
        (None, None) => {
            let earlier = |one: &&Offered| one.client == after.client && one.dataset == after.dataset && one.order < after.order;
            offered.iter().filter(earlier).max_by_key(|one| one.order).ok_or_else(|| {
                Error::failed(format!("there is no snapshot of {address} before {}", after.snapshot))
                    .hint("With one snapshot alone there is nothing to compare; nightsafe ls shows what is in it.")
            })?
        }
    };
    Ok((before, after))
}

/// Prints changes as they are found.
struct Printer {
    paper: Paper,
    json: Option<JsonArray>,
    total: Total,
    failed: Option<Error>,
}

impl Printer {
    /// Prints one change of an archive; false when there is no use in more of them.
    fn change(&mut self, change: Change, content_only: bool) -> bool {
        let path = |entry: &Entry| if entry.path.is_empty() { ".".into() } else { entry.shown_path() };
        match change {
            Change::Added(entry) => {
                self.total.added = (self.total.added.0 + 1, self.total.added.1 + size(&entry));
                let row = Row { change: "added", path: path(&entry), aspects: Vec::new(), before: None, after: Some(ls::row(&entry)) };
                self.print(&row, &sized(&entry), Tone::Good)
            }
            Change::Removed(entry) => {
                self.total.removed = (self.total.removed.0 + 1, self.total.removed.1 + size(&entry));
                let row = Row { change: "removed", path: path(&entry), aspects: Vec::new(), before: Some(ls::row(&entry)), after: None };
                self.print(&row, &sized(&entry), Tone::Bad)
            }
            Change::Changed(_, _, aspects) if content_only && !aspects.iter().any(|aspect| is_content(*aspect)) => true,
            Change::Changed(before, after, aspects) => {
                self.total.changed += 1;
                let words = aspects.iter().map(|aspect| words(*aspect, &before, &after)).collect::<Vec<_>>().join(", ");
                let row = Row {
                    change: "changed",
                    path: path(&after),
                    aspects: aspects.into_iter().map(Aspect::word).collect(),
                    before: Some(ls::row(&before)),
                    after: Some(ls::row(&after)),
                };
                self.print(&row, &words, Tone::Waits)
            }
        }
    }

    fn print<T: Serialize>(&mut self, row: &Row<T>, words: &str, tone: Tone) -> bool {
        if let Some(json) = &mut self.json {
            self.failed = json.push(row).err();
            return self.failed.is_none();
        }
        let sign = match row.change {
            "added" => "+",
            "removed" => "-",
            _ => "M",
        };
        let gap = if words.is_empty() { "" } else { "  " };
        output::line(self.paper.paint(&format!("{sign} {}{gap}{words}", row.path), tone));
        true
    }

    fn finish(self) -> Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.json {
            Some(json) => json.finish(),
            None => output::line(self.total.sentence()),
        }
        Ok(())
    }
}

impl Total {
    fn sentence(&self) -> String {
        let sized = |(count, bytes): (u64, u64), word: &str| match bytes {
            0 => format!("{count} {word}"),
            bytes => format!("{count} {word} ({})", ByteSize(bytes)),
        };
        if (self.added.0, self.removed.0, self.changed) == (0, 0, 0) {
            return "Nothing differs.".into();
        }
        format!("{}, {}, {} changed.", sized(self.added, "added"), sized(self.removed, "removed"), self.changed)
    }
}

fn size(entry: &Entry) -> u64 {
    if let EntryKind::File { size, .. } = entry.kind { size } else { 0 }
}

fn sized(entry: &Entry) -> String {
    if let EntryKind::File { size, .. } = entry.kind { ByteSize(size).to_string() } else { String::new() }
}

fn is_content(aspect: Aspect) -> bool {
    matches!(aspect, Aspect::Type | Aspect::Content | Aspect::Target)
}

/// An aspect with what it was and what it is.
fn words(aspect: Aspect, before: &Entry, after: &Entry) -> String {
    let owner = |entry: &Entry| {
        let named = |name: &Option<String>, number: u32| name.clone().unwrap_or_else(|| number.to_string());
        printable(&format!("{}:{}", named(&entry.user, entry.uid), named(&entry.group, entry.gid)))
    };
    let pair = match aspect {
        Aspect::Content if size(before) != size(after) => Some((ByteSize(size(before)).to_string(), ByteSize(size(after)).to_string())),
        Aspect::Type => Some((before.kind.word().into(), after.kind.word().into())),
        Aspect::Mode => Some((format!("{:04o}", before.mode), format!("{:04o}", after.mode))),
        Aspect::Owner => Some((owner(before), owner(after))),
        Aspect::Content | Aspect::Target | Aspect::Attributes | Aspect::Time => None,
    };
    pair.filter(|(before, after)| before != after)
        .map_or_else(|| aspect.word().into(), |(before, after)| format!("{} {before} -> {after}", aspect.word()))
}

/// What differs between two signed lists of refs.
fn refs(old: &[u8], new: &[u8], only: Option<&str>, printer: &mut Printer) {
    let map = |list: &[u8]| refs_of(list, only).into_iter().map(|row| (row.name.clone(), row)).collect::<BTreeMap<_, _>>();
    let (old, mut new) = (map(old), map(new));
    let short = |row: &RefRow| row.oid.chars().take(12).collect::<String>();
    let mut rows: Vec<(Row<RefRow>, String, Tone)> = Vec::new();
    for (name, before) in old {
        match new.remove(&name) {
            None => {
                printer.total.removed.0 += 1;
                let words = short(&before);
                rows.push((
                    Row { change: "removed", path: name, aspects: Vec::new(), before: Some(before), after: None },
                    words,
                    Tone::Bad,
                ));
            }
            Some(after) if after != before => {
                printer.total.changed += 1;
                let words = format!("{} -> {}", short(&before), short(&after));
                let row = Row { change: "changed", path: name, aspects: vec!["content"], before: Some(before), after: Some(after) };
                rows.push((row, words, Tone::Waits));
            }
            Some(_) => {}
        }
    }
    for (name, after) in new {
        printer.total.added.0 += 1;
        let words = short(&after);
        rows.push((Row { change: "added", path: name, aspects: Vec::new(), before: None, after: Some(after) }, words, Tone::Good));
    }
    rows.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    for (row, words, tone) in rows {
        if !printer.print(&row, &words, tone) || output::is_gone() {
            return;
        }
    }
}
