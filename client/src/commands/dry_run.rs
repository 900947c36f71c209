//! `nightsafe submit --dry-run`: tells what a backup would take, and asks for none.
//!
//! Writes nothing at all, and does not know what the node has already.

use crate::output;
use crate::output::{count, worse};
use base::config::ClientConfig;
use base::text::printable;
use base::{ByteSize, Dataset, Exit, Result};
use modules::{Fate, Look, LookContext, Seen};
use serde::Serialize;
use show::progress::Progress;
use show::table::{Paper, Table};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

/// So many things of each kind are named where not everything is asked for.
const FIRST: usize = 10;

/// How it is told.
#[derive(Debug, Clone, Copy)]
pub struct Telling {
    /// Every single thing.
    pub list: bool,
    /// As JSON.
    pub json: bool,
}

/// One dataset as JSON.
#[derive(Serialize)]
struct Row<'a> {
    dataset: &'a str,
    entries: Option<u64>,
    bytes: Option<u64>,
    unreadable: u64,
    left_out: &'a BTreeMap<String, u64>,
    notes: &'a [String],
}

/// One thing as JSON.
#[derive(Serialize)]
struct Thing<'a> {
    dataset: &'a str,
    name: Option<&'a str>,
    /// The bytes of a name that is not UTF-8, in hexadecimal digits.
    name_hex: Option<String>,
    fate: &'static str,
    bytes: Option<u64>,
    why: Option<&'a str>,
}

/// Looks at each dataset and tells of it. The exit code is 3 when something could not be read.
///
/// # Errors
/// When the only dataset cannot be looked at.
pub fn run(config: &ClientConfig, datasets: &[Dataset], telling: Telling) -> Result<Exit> {
    let mut exit = Exit::Done;
    let begun = Cell::new(false);
    if telling.json {
        output::part("[");
    }
    for dataset in datasets {
        match one(config, dataset, telling, &begun) {
            Ok(one) => exit = worse(exit, one),
            Err(error) if datasets.len() == 1 && !telling.json => return Err(error),
            Err(error) => {
                output::complain(&error.context(format!("{dataset} could not be backed up")));
                exit = worse(exit, Exit::Failed);
            }
        }
    }
    if telling.json {
        output::line(if begun.get() { "\n]" } else { "]" });
    } else {
        who_looks(config);
    }
    Ok(exit)
}

fn one(config: &ClientConfig, dataset: &Dataset, telling: Telling, begun: &Cell<bool>) -> Result<Exit> {
    super::submit::check(config, dataset)?;
    let Some(module) = modules::client_module(Some(config), dataset.module()) else { return Ok(Exit::Usage) };
    let name = dataset.to_string();
    let progress = Progress::new();
    let unreadable: RefCell<Vec<String>> = RefCell::default();
    let tell = |seen: &Seen<'_>| match (telling.list, telling.json) {
        (true, true) => object(begun, &thing(&name, seen)),
        (true, false) => output::line(line_of(seen)),
        (false, _) => {
            let mut first = unreadable.borrow_mut();
            if let (Fate::Unreadable(_), true) = (seen.fate, first.len() < FIRST) {
                first.push(line_of(seen));
            }
        }
    };
    let look = module.look(&LookContext { config, tell: &tell, monitor: &progress }, dataset)?;
    drop(progress);
    match (telling.list, telling.json) {
        (true, true) => {}
        (false, true) => object(
            begun,
            &Row {
                dataset: &name,
                entries: look.entries,
                bytes: look.bytes,
                unreadable: look.unreadable,
                left_out: &look.left_out,
                notes: &look.lines,
            },
        ),
        (_, false) => {
            for line in sentences(&name, &look) {
                output::line(line);
            }
            for line in unreadable.take() {
                output::line(format_args!("  {line}"));
            }
        }
    }
    Ok(if look.unreadable > 0 { Exit::Incomplete } else { Exit::Done })
}

/// What there is to say of one dataset.
fn sentences(dataset: &str, look: &Look) -> Vec<String> {
    let mut lines = Vec::new();
    let amount = match (look.entries, look.bytes) {
        (Some(entries), Some(bytes)) => Some(format!("{}, {}", count(entries, "entry", "entries"), ByteSize(bytes))),
        (Some(entries), None) => Some(count(entries, "entry", "entries")),
        (None, bytes) => bytes.map(|bytes| ByteSize(bytes).to_string()),
    };
    lines.push(match amount {
        Some(amount) => format!("{dataset} would be backed up: {amount}."),
        None => format!("{dataset} would be backed up."),
    });
    lines.extend(look.lines.iter().map(|line| printable(line)));
    if !look.left_out.is_empty() {
        let mut table = Table::new(&["LEFT OUT", "WHY"]);
        for (why, count) in &look.left_out {
            table.row([count.to_string(), why.clone()]);
        }
        lines.extend(table.render(Paper::default()).lines().map(str::to_owned));
        lines.push("What is in a folder that is left out is not counted.".into());
    }
    if look.unreadable > 0 {
        lines.push(format!("{} cannot be read:", count(look.unreadable, "entry", "entries")));
    }
    lines
}

/// One thing as a line: what becomes of it, its bytes, its name, and why.
fn line_of(seen: &Seen<'_>) -> String {
    let name = String::from_utf8_lossy(seen.name);
    let name = printable(if seen.name.is_empty() { "." } else { &name });
    match seen.fate {
        Fate::Taken(bytes) => format!("taken {bytes:>12}  {name}"),
        Fate::LeftOut(why) => printable(&format!("left out            {name}  ({why})")),
        Fate::Unreadable(why) => printable(&format!("unreadable          {name}  ({why})")),
    }
}

fn thing<'a>(dataset: &'a str, seen: &Seen<'a>) -> Thing<'a> {
    let name = std::str::from_utf8(seen.name).ok();
    let hex = || seen.name.iter().map(|byte| format!("{byte:02x}")).collect();
    let (fate, bytes, why) = match seen.fate {
        Fate::Taken(bytes) => ("taken", Some(bytes), None),
        Fate::LeftOut(why) => ("left out", None, Some(why)),
        Fate::Unreadable(why) => ("unreadable", None, Some(why)),
    };
    Thing { dataset, name, name_hex: name.is_none().then(hex), fate, bytes, why }
}

/// The next element of the array.
fn object<T: Serialize>(begun: &Cell<bool>, value: &T) {
    if let Ok(text) = serde_json::to_string(value) {
        output::part(format_args!("{}\n  {text}", if begun.replace(true) { "," } else { "" }));
    }
}

/// Another user than the sender sees other things.
fn who_looks(config: &ClientConfig) {
    let me = rustix::process::geteuid().as_raw();
    let Ok(sender) = config.state.metadata().map(|meta| meta.uid()) else { return };
    if me != sender {
        let name = uzers::get_user_by_uid(sender).map_or_else(|| format!("the user {sender}"), |user| user.name().display().to_string());
        output::line(format_args!("This is what you can see; backups are made by {name}, who may see more, or less."));
    }
}
