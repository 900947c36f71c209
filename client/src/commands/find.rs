//! `nightsafe find`: in which snapshots of a dataset a file is, and which versions of it there are.

use super::ls::refs_of;
use crate::Globals;
use crate::output::{self, Table};
use crate::recall::choose::{self, At, Offered};
use crate::recall::keys::Keys;
use crate::recall::proof::{self, Content};
use crate::recall::{self, Recall, Wanted};
use archive::entry::EntryKind;
use archive::find::{Query, Search};
use base::text::printable;
use base::{ByteSize, Error, Exit, Kind, Monitor, RequestId, Result, Span, clock};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use show::progress::Progress;
use std::collections::BTreeMap;

/// Find files by their names in all snapshots of a dataset, and show which versions of them there are.
///
/// A pattern without a / is looked for in names, wherever they are; one with a / in whole paths below the dataset's own. *
/// and ? stay within a name, [a-z] is one of these characters, and ** stands for any number of folders. What several
/// snapshots have in common is read once. Of a git repository refs are found.
#[derive(Debug, clap::Args)]
pub struct Find {
    /// [CLIENT:]MODULE:PATH, or a snapshot's name.
    #[arg(value_name = "DATASET|SNAPSHOT")]
    what: String,
    /// What to look for, as in '*.jpg' or 'photos/**/*.jpg'. Any of several will do.
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Only in the newest snapshot accepted at or before this time, or in this one.
    #[arg(long, value_name = "TIME|SNAPSHOT")]
    at: Option<String>,
    /// Large and small letters are the same.
    #[arg(short, long)]
    ignore_case: bool,
    /// Only things of this kind. Can be given several times.
    #[arg(short = 't', long = "type", value_name = "KIND", value_parser = EntryKind::WORDS)]
    kinds: Vec<String>,
    /// Only files of at least this size, as in 10MiB; a number alone is bytes.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    larger: Option<u64>,
    /// Only files of at most this size.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    smaller: Option<u64>,
    /// Only what was changed at this time or later: 2026-11-20, 2026-11-20T14:00:00Z, or 7d for a week ago.
    #[arg(long, value_name = "TIME", value_parser = begins)]
    newer: Option<Timestamp>,
    /// Only what was changed at this time or earlier; a date means the end of that day.
    #[arg(long, value_name = "TIME", value_parser = ends)]
    older: Option<Timestamp>,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    from: recall::From,
    /// An array of objects instead of a table. docs/json.md says what is in them.
    #[arg(long)]
    json: bool,
}

/// One version of something.
#[derive(Debug, Serialize)]
struct Row {
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: Option<String>,
    owner: Option<String>,
    group: Option<String>,
    size: Option<u64>,
    mtime: Option<Timestamp>,
    target: Option<String>,
    /// Of a ref, where it points.
    oid: Option<String>,
    /// The snapshots that have it, in the order of acceptance.
    snapshots: Vec<RequestId>,
}

impl Find {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        let query = self.query()?;
        let recall = Recall::open(globals, self.from)?;
        let offered = recall.source.list()?;
        let wanted = recall.wanted(&self.what, self.at.as_deref(), &offered)?;
        let chosen = chosen(&recall, &offered, &wanted)?;
        let identities = self.keys.load()?;
        let signers = recall.signers()?;
        let progress = Progress::new();
        let (mut search, mut refs) = (Search::new(&query, &progress), Refs::default());
        let (mut searched, mut exit) = (0, Exit::Done);
        for (number, one) in (0u32..).zip(&chosen) {
            progress.task(&format!("searching snapshot {} of {}", number + 1, chosen.len()), None);
            let proven = match proof::prove(&recall.source, one, &signers) {
                Ok(proven) => proven,
                Err(error) if error.kind() == Kind::NotNow => return Err(error),
                Err(error) => {
                    output::complain(&error);
                    exit = Exit::Incomplete;
                    continue;
                }
            };
            match &proven.content {
                Content::Archive(_) => search.add(number, &recall.open_archive(proven, identities.as_ref())?)?,
                Content::Refs(list) => refs.add(list, &query, &one.snapshot),
                Content::Nothing => {}
            }
            searched += 1;
        }
        let (found, problems) = search.finish();
        drop(progress);
        if searched == 0 {
            return Err(Error::failed("no snapshot could be searched"));
        }
        let within = |runs: &[(u32, u32)]| -> Vec<RequestId> {
            let numbers = runs.iter().flat_map(|(first, last)| *first..=*last);
            numbers.filter_map(|number| chosen.get(number as usize).map(|one| one.snapshot.clone())).collect()
        };
        let mut rows: Vec<Row> = found
            .iter()
            .map(|found| Row {
                path: printable(&String::from_utf8_lossy(&found.version.path)),
                kind: found.version.kind,
                mode: Some(format!("{:04o}", found.version.mode)),
                owner: Some(found.version.owner.clone()),
                group: Some(found.version.group.clone()),
                size: (found.version.kind == "file").then_some(found.version.size),
                mtime: Timestamp::from_second(found.version.mtime).ok(),
                target: found.version.target.as_ref().map(|target| printable(&String::from_utf8_lossy(target))),
                oid: None,
                snapshots: within(&found.runs),
            })
            .collect();
        rows.extend(refs.rows());
        output::listing(self.json, &rows, |rows| table(rows, searched))?;
        for problem in &problems {
            output::note(format_args!("nightsafe: {}", printable(problem)));
        }
        Ok(if problems.is_empty() { exit } else { Exit::Incomplete })
    }

    fn query(&self) -> Result<Query> {
        let mut query = Query::new(&self.patterns, self.ignore_case)?;
        query.kinds.clone_from(&self.kinds);
        (query.least, query.most) = (self.larger, self.smaller);
        (query.newer, query.older) = (self.newer, self.older);
        Ok(query)
    }
}

/// The snapshots to search, in the order of acceptance.
fn chosen<'a>(recall: &Recall, offered: &'a [Offered], wanted: &Wanted) -> Result<Vec<&'a Offered>> {
    match wanted {
        Wanted::Dataset(address, At::Newest) => {
            let client = choose::client_of(address, recall.own_name(), offered)?;
            // A wrong name is an error with the nearest names.
            choose::choose(offered, &client, &address.dataset, &At::Newest)?;
            Ok(offered.iter().filter(|one| one.client == client && one.dataset == address.dataset).collect())
        }
        wanted => recall.choose(offered, wanted).map(|one| vec![one]),
    }
}

/// Refs of git repositories that were found.
#[derive(Default)]
struct Refs(BTreeMap<(String, String), Vec<RequestId>>);

impl Refs {
    fn add(&mut self, list: &[u8], query: &Query, snapshot: &RequestId) {
        for one in refs_of(list, None).into_iter().filter(|one| query.names(one.name.as_bytes())) {
            self.0.entry((one.name, one.oid)).or_default().push(snapshot.clone());
        }
    }

    fn rows(self) -> impl Iterator<Item = Row> {
        self.0.into_iter().map(|((path, oid), snapshots)| Row {
            path,
            kind: "ref",
            mode: None,
            owner: None,
            group: None,
            size: None,
            mtime: None,
            target: None,
            oid: Some(oid),
            snapshots,
        })
    }
}

fn table(rows: &[Row], searched: usize) -> Table {
    let mut table = Table::new(&["CHANGED", "SIZE", "SNAPSHOTS", "NEWEST", "PATH"], "Nothing of that name is there.");
    for row in rows {
        let size = match (row.size, &row.oid) {
            (Some(size), _) => ByteSize(size).to_string(),
            (None, Some(oid)) => oid.chars().take(12).collect(),
            (None, None) => row.kind.into(),
        };
        let path = row.target.as_ref().map_or_else(|| row.path.clone(), |target| format!("{} -> {target}", row.path));
        table.row([
            row.mtime.map(|time| time.to_string()).unwrap_or_default(),
            size,
            format!("{} of {searched}", row.snapshots.len()),
            row.snapshots.last().map(ToString::to_string).unwrap_or_default(),
            path,
        ]);
    }
    table
}

/// Reads a size: `10MiB`, `10 MiB`, or a number of bytes.
fn size(text: &str) -> Result<u64, String> {
    text.parse::<u64>().or_else(|_| text.parse::<ByteSize>().map(|size| size.0)).map_err(|error| error.one_line())
}

fn begins(text: &str) -> Result<Timestamp, String> {
    match text.parse::<Date>() {
        Ok(date) if text.len() <= "2026-11-20".len() => {
            date.to_zoned(TimeZone::system()).map(|time| time.timestamp()).map_err(|error| error.to_string())
        }
        _ => ends(text),
    }
}

fn ends(text: &str) -> Result<Timestamp, String> {
    if let Ok(span) = text.parse::<Span>() {
        let ago = SignedDuration::try_from(span.0).ok().and_then(|span| clock::now().checked_sub(span).ok());
        return ago.ok_or_else(|| format!("{text:?} is longer ago than there is time"));
    }
    match At::parse(text, &TimeZone::system()) {
        Ok(At::Time(time)) => Ok(time),
        _ => Err(format!("{text:?} is no time; write 2026-11-20, 2026-11-20T14:00:00Z, or 7d for a week ago")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!((size("10"), size("2KiB"), size("1 MiB")), (Ok(10), Ok(2048), Ok(1 << 20)));
        for bad in ["", "x", "-1", "1XB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        let day = ends("2026-11-20").unwrap().as_second() - begins("2026-11-20").unwrap().as_second();
        assert!((82_000..=90_000).contains(&day), "{day}");
        assert_eq!(begins("2026-11-20T14:00:00Z"), ends("2026-11-20T14:00:00Z"));
        assert!(ends("1d").unwrap() < clock::now());
        for bad in ["", "yesterday", "99999999w", "20261120T031500Z-3f9a1c7e"] {
            assert!(ends(bad).is_err() && begins(bad).is_err(), "{bad}");
        }
    }
}
