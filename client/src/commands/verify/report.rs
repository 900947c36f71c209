//! What a verification found, by snapshot: as a table, as JSON, and as an exit code.
//!
//! Reads nothing.

use crate::output::{self, Table, count};
use crate::recall::choose::Offered;
use crate::recall::history::{Finding, Signed};
use archive::verify::Sample;
use base::text::printable;
use base::{ByteSize, Dataset, Exit, Name, RequestId, Result};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;

/// How a snapshot stands; the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// All that was looked at is what was backed up.
    Whole,
    /// What it had in lost packs was brought again, as its client has signed; how much of it only the key can tell.
    Claimed,
    /// The identity does not open it, or there is no room to clone it.
    Unopened,
    /// Something of it is damaged or missing.
    Damaged,
    /// An older history is offered than was seen before, or there are two histories.
    Stale,
    /// Nobody trusted has signed for it.
    Unproven,
}

/// One snapshot, or something that stands in a snapshot's place.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    client: Option<Name>,
    dataset: Option<Dataset>,
    snapshot: Option<RequestId>,
    seq: Option<u64>,
    submitted: Option<Timestamp>,
    received: Option<Timestamp>,
    state: State,
    /// How far it was looked into.
    pub(super) checked: &'static str,
    pub(super) entries: u64,
    pub(super) files: u64,
    pub(super) files_right: u64,
    pub(super) bytes: u64,
    pub(super) packs: u64,
    pub(super) packs_checked: u64,
    pub(super) seconds: u64,
    problems: Vec<String>,
    damaged: Vec<String>,
}

impl Row {
    /// Something that no listed snapshot stands for.
    pub(super) fn of_nothing(state: State, why: String) -> Self {
        Self {
            client: None,
            dataset: None,
            snapshot: None,
            seq: None,
            submitted: None,
            received: None,
            state,
            checked: "nothing",
            entries: 0,
            files: 0,
            files_right: 0,
            bytes: 0,
            packs: 0,
            packs_checked: 0,
            seconds: 0,
            problems: if why.is_empty() { Vec::new() } else { vec![why] },
            damaged: Vec::new(),
        }
    }

    /// A snapshot that is listed and not proven.
    pub(super) fn offered(offered: &Offered, state: State, why: String) -> Self {
        Self {
            client: Some(offered.client.clone()),
            dataset: Some(offered.dataset.clone()),
            snapshot: Some(offered.snapshot.clone()),
            received: Some(offered.received),
            ..Self::of_nothing(state, why)
        }
    }

    /// A snapshot whose request is proven.
    pub(super) fn of(one: &Signed, state: State, why: String) -> Self {
        Self { seq: Some(one.claim.seq), submitted: Some(one.claim.submitted), ..Self::offered(&one.offered, state, why) }
    }

    /// Adds problems, if there are any, that make it at least as bad as `state`.
    pub(super) fn worsen(&mut self, state: State, problems: Vec<String>) {
        if !problems.is_empty() {
            self.state = self.state.max(state);
            self.problems.extend(problems);
        }
    }

    /// Adds damage.
    pub(super) fn damage(&mut self, problems: Vec<String>, paths: Vec<String>) {
        self.worsen(State::Damaged, problems);
        self.damaged.extend(paths);
    }

    fn name(&self) -> String {
        match (&self.client, &self.dataset) {
            (Some(client), Some(dataset)) => format!("{client}:{dataset}"),
            _ => String::new(),
        }
    }
}

/// What is said of all together.
pub(super) struct Summary {
    /// Numbers without a snapshot.
    pub(super) gaps: u64,
    /// What share was drawn.
    pub(super) sample: Option<Sample>,
    /// Requests whose signatures were right.
    pub(super) proven: usize,
    /// Snapshots that were to be looked into.
    pub(super) left: usize,
}

/// Puts what the history shows beside the newest snapshot of the dataset.
pub(super) fn add_findings(rows: &mut Vec<Row>, findings: Vec<Finding>) {
    for Finding { client, dataset, text } in findings {
        let row = rows.iter_mut().filter(|row| row.client.as_ref() == Some(&client) && row.dataset.as_ref() == Some(&dataset));
        match row.max_by_key(|row| row.seq) {
            Some(row) => row.worsen(State::Stale, vec![text]),
            None => rows.push(Row { client: Some(client), dataset: Some(dataset), ..Row::of_nothing(State::Stale, text) }),
        }
    }
}

/// The snapshots that are whole, of datasets in which nothing is wrong: an older one that is whole says nothing for a newer one that is
/// not.
pub(super) fn whole(rows: &[Row]) -> BTreeSet<(&Name, &RequestId)> {
    let dataset = |row: &Row| (row.client.clone(), row.dataset.clone());
    let wrong: BTreeSet<_> = rows.iter().filter(|row| row.state > State::Claimed).map(dataset).collect();
    let whole = rows.iter().filter(|row| row.state == State::Whole && !wrong.contains(&dataset(row)));
    whole.filter_map(|row| row.client.as_ref().zip(row.snapshot.as_ref())).collect()
}

/// 0 where all is whole; 1 where somebody may be lying, or nothing was whole; 3 otherwise.
pub(super) fn exit(rows: &[Row]) -> Exit {
    let worst = rows.iter().map(|row| row.state).max().unwrap_or(State::Whole);
    let some = rows.iter().any(|row| row.state <= State::Claimed || row.files_right > 0 || row.bytes > 0 || row.state == State::Unopened);
    match worst {
        State::Whole | State::Claimed => Exit::Done,
        State::Unopened | State::Damaged if some => Exit::Incomplete,
        _ => Exit::Failed,
    }
}

/// Shows everything: rows on stdout, what is wrong on stderr.
///
/// # Errors
/// When it cannot be written as JSON.
pub(super) fn tell(rows: &[Row], summary: &Summary, json: bool) -> Result<()> {
    output::listing(json, rows, table)?;
    if json {
        return Ok(());
    }
    for row in rows {
        for problem in &row.problems {
            let what = match &row.snapshot {
                Some(snapshot) => format!("{} {snapshot}: ", row.name()),
                None if row.dataset.is_some() => format!("{}: ", row.name()),
                None => String::new(),
            };
            output::note(format_args!(
                "nightsafe: {}{}",
                printable(&what),
                problem.split('\n').map(printable).collect::<Vec<_>>().join("\n")
            ));
        }
    }
    let whole = rows.iter().filter(|row| row.state == State::Whole).count() as u64;
    output::line(format_args!(
        "{} looked into, {whole} whole; {} proven.",
        count(rows.iter().filter(|row| row.snapshot.is_some()).count() as u64, "snapshot was", "snapshots were"),
        count(summary.proven as u64, "signature", "signatures"),
    ));
    let seen = rows.iter().filter(|row| row.snapshot.is_some() && row.state != State::Unproven).count();
    if seen < summary.left {
        output::line(format_args!("{} not looked into.", count((summary.left - seen) as u64, "snapshot was", "snapshots were")));
    }
    if let Some(sample) = &summary.sample {
        let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>();
        output::line(format_args!(
            "This was a sample of {}%, drawn at random: {} of {} packs, {} of {} files. The rest was not looked into.",
            sample.percent(),
            sum(|row| row.packs_checked),
            sum(|row| row.packs),
            sum(|row| row.files_right),
            sum(|row| row.files),
        ));
    }
    if summary.gaps > 0 {
        output::line(format_args!(
            "{} between them: requests that were refused, that failed, that are of other datasets, or that are not kept any more.",
            count(summary.gaps, "number has no snapshot", "numbers have no snapshot")
        ));
    }
    Ok(())
}

fn table(rows: &[Row]) -> Table {
    let mut table =
        Table::new(&["DATASET", "SNAPSHOT", "NUMBER", "CHECKED", "FILES", "DATA", "PACKS", "SECONDS", "RESULT"], "There is nothing.");
    for row in rows {
        let dash = || "-".to_owned();
        let state = match (row.state, row.damaged.len()) {
            (State::Whole, _) if row.checked.contains("not drawn") => "signed".to_owned(),
            (State::Whole, _) => "whole".to_owned(),
            (State::Claimed, _) => "repair claimed".to_owned(),
            (State::Unopened, _) => "not opened".to_owned(),
            (State::Damaged, 0) => "DAMAGED".to_owned(),
            (State::Damaged, n) => format!("DAMAGED ({})", count(n as u64, "file", "files")),
            (State::Stale, _) => "NOT THE HISTORY".to_owned(),
            (State::Unproven, _) => "NOT PROVEN".to_owned(),
        };
        table.row([
            if row.dataset.is_some() { row.name() } else { dash() },
            row.snapshot.as_ref().map_or_else(dash, ToString::to_string),
            row.seq.map_or_else(dash, |seq| seq.to_string()),
            row.checked.to_owned(),
            if row.files == 0 { dash() } else { format!("{}/{}", row.files_right, row.files) },
            if row.bytes == 0 { dash() } else { ByteSize(row.bytes).to_string() },
            if row.packs == 0 { dash() } else { format!("{}/{}", row.packs_checked, row.packs) },
            row.seconds.to_string(),
            state,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_damage_from_lies() {
        let row = |state| Row::of_nothing(state, String::new());
        let of = |states: &[State]| exit(&states.iter().map(|state| row(*state)).collect::<Vec<_>>());
        assert_eq!(of(&[]), Exit::Done);
        assert_eq!(of(&[State::Whole, State::Whole]), Exit::Done);
        assert_eq!(of(&[State::Claimed]), Exit::Done);
        assert_eq!(of(&[State::Whole, State::Damaged]), Exit::Incomplete);
        assert_eq!(of(&[State::Whole, State::Unopened]), Exit::Incomplete);
        assert_eq!(of(&[State::Unopened]), Exit::Incomplete);
        assert_eq!(of(&[State::Damaged]), Exit::Failed);
        assert_eq!(of(&[State::Whole, State::Stale]), Exit::Failed);
        assert_eq!(of(&[State::Whole, State::Unproven, State::Damaged]), Exit::Failed);
        let some = Row { files_right: 1, ..row(State::Damaged) };
        assert_eq!(exit(&[some]), Exit::Incomplete);
    }

    #[test]
    fn a_dataset_with_damage_is_not_verified_by_what_is_whole_of_it() {
        let row = |client: &str, dataset: &str, snapshot: u32, state| Row {
            client: Some(Name::new(client).unwrap()),
            dataset: Some(dataset.parse().unwrap()),
            snapshot: Some(format!("20261120T031500Z-{snapshot:08x}").parse().unwrap()),
            seq: Some(u64::from(snapshot)),
            ..Row::of_nothing(state, String::new())
        };
        let names = |rows: &[Row]| -> Vec<String> { whole(rows).into_iter().map(|(_, id)| id.as_str()[17..].to_owned()).collect() };
        let mut rows = vec![
            row("web1", "files:/a", 1, State::Whole),
            row("web1", "files:/a", 2, State::Damaged),
            row("web1", "files:/b", 3, State::Whole),
            row("web1", "files:/b", 4, State::Claimed),
            row("web2", "files:/a", 5, State::Whole),
            row("web1", "files:/c", 6, State::Unopened),
            // What stands for no dataset is wrong with none.
            Row::of_nothing(State::Stale, "withheld".into()),
        ];
        assert_eq!(names(&rows), ["00000003", "00000005"]);
        // A finding stands beside the newest alone.
        let finding = Finding { client: Name::new("web1").unwrap(), dataset: "files:/b".parse().unwrap(), text: "forks".into() };
        add_findings(&mut rows, vec![finding]);
        assert_eq!(rows[2].state, State::Whole);
        assert_eq!(names(&rows), ["00000005"]);
    }

    #[test]
    fn findings_stand_beside_their_dataset() {
        let (client, dataset): (Name, Dataset) = (Name::new("web1").unwrap(), "files:/a".parse().unwrap());
        let finding = || Finding { client: client.clone(), dataset: dataset.clone(), text: "forks".into() };
        let mut rows = Vec::new();
        add_findings(&mut rows, vec![finding(), finding()]);
        assert_eq!((rows.len(), rows[0].state, rows[0].problems.len()), (1, State::Stale, 2));
    }
}
