//! What the node does by itself once a day: each job at its own time, by `poll` from cron and by `watch` alike.
//!
//! Does not know what a job does. Jobs run one after the other, outside the poller's lock, so that backups go on
//! meanwhile; two processes never run them at once (`state/timetable.lock`). When each ran last is in
//! `state/timetable.toml`; what did not work is an alarm, and is tried again at its next time.

use super::{alarms, tell};
use crate::node::Node;
use base::config::NodeConfig;
use base::{DayTime, Error, FileLock, Kind, Result, clock};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Something that is done once a day.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// What it is called, in the file and in alarms.
    pub name: &'static str,
    /// When, as the node's configuration says; `None` when it is not to be done.
    pub at: fn(&NodeConfig) -> Option<DayTime>,
    /// Does it, whole: it is not told how far it came the last time.
    pub run: fn(&Node) -> Result<()>,
}

/// The jobs, in the order in which they run when several are due.
pub const JOBS: &[Job] = &[
    Job { name: "prune", at: |config| Some(config.prune.at), run: crate::prune::daily },
    Job { name: "scrub", at: |config| config.scrub.as_ref().map(|scrub| scrub.at), run: crate::scrub::by_the_clock },
];

/// When each job ran last. Losing it costs a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ran {
    version: i64,
    #[serde(default)]
    last: BTreeMap<String, Timestamp>,
}

impl Default for Ran {
    fn default() -> Self {
        Self { version: base::config::VERSION, last: BTreeMap::new() }
    }
}

fn path(node: &Node) -> PathBuf {
    node.state_path().join("timetable.toml")
}

/// Whether a job's time has come since it ran last. One that was never seen waits for its first time.
fn due(last: Option<Timestamp>, at: DayTime, now: Timestamp, zone: &TimeZone) -> bool {
    // A time in the future is from a clock that was wrong: it is no reason to wait for it.
    last.is_some_and(|last| last < at.last(now, zone) || last > now)
}

/// Runs what is due of `jobs`; the worst that happened, as an exit code will say it.
///
/// # Errors
/// When it cannot be written down what ran.
pub fn run_due(node: &Node, jobs: &[Job]) -> Result<Option<Kind>> {
    let Some(_lock) = FileLock::try_now(&node.state_path().join("timetable.lock"))? else { return Ok(None) };
    let zone = TimeZone::system();
    let mut worst = None;
    for job in jobs {
        let Some(at) = (job.at)(&node.config) else { continue };
        let mut ran: Ran = crate::state::load(&path(node));
        let last = ran.last.get(job.name).copied();
        if last.is_some() && !due(last, at, clock::now(), &zone) {
            continue;
        }
        if last.is_some() {
            tracing::info!("{}: it is {at}", job.name);
            let result = catch_unwind(AssertUnwindSafe(|| (job.run)(node)))
                .unwrap_or_else(|_| Err(Error::failed("the program has a fault; its words are above")));
            worst = worst.or(noted(node, job, result)?);
        }
        ran.last.insert(job.name.to_owned(), clock::now());
        crate::state::store(&path(node), &ran)?;
    }
    Ok(worst)
}

/// Raises or settles the alarm about a job.
fn noted(node: &Node, job: &Job, result: Result<()>) -> Result<Option<Kind>> {
    let folder = node.state_path();
    let Err(error) = result else { return alarms::settle(&folder, job.name).map(|()| None) };
    let news = alarms::raise(&folder, job.name, &error.one_line(), clock::now())?;
    tell(news, &format!("{}: {}", job.name, error.render()));
    Ok(Some(error.kind()))
}

/// The next time at which one of `jobs` is due; `None` when there is none.
pub fn next(node: &Node, jobs: &[Job]) -> Option<Timestamp> {
    let (now, zone) = (clock::now(), TimeZone::system());
    let ran: Ran = crate::state::load(&path(node));
    let time = |job: &Job| {
        let at = (job.at)(&node.config)?;
        let last = ran.last.get(job.name).copied();
        Some(if last.is_none() || due(last, at, now, &zone) { now } else { at.next(now, &zone) })
    };
    jobs.iter().filter_map(time).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_day_and_never_in_a_row() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let four: DayTime = "04:00".parse().unwrap();
        let due = |last: Option<&str>, now: &str| super::due(last.map(at), four, at(now), &zone);
        assert!(!due(None, "2026-11-20T05:00:00Z"));
        assert!(!due(Some("2026-11-20T02:00:00Z"), "2026-11-20T02:59:59Z"));
        assert!(due(Some("2026-11-20T02:00:00Z"), "2026-11-20T03:00:00Z"));
        assert!(!due(Some("2026-11-20T03:00:00Z"), "2026-11-21T02:59:59Z"));
        assert!(due(Some("2026-11-20T03:00:00Z"), "2026-11-21T03:00:00Z"));
        // A machine that was off makes up for it once; a clock that was ahead holds nothing up.
        assert!(due(Some("2026-10-20T03:00:00Z"), "2026-11-21T12:00:00Z"));
        assert!(due(Some("2036-11-20T03:00:00Z"), "2026-11-21T12:00:00Z"));
    }
}
