//! How the backups of this machine stand, as metrics for Prometheus, and the file in which node_exporter finds them.
//!
//! Reads what `send` wrote down; asks no node.

use crate::output;
use crate::overview::{DatasetView, Overview, Wrong};
use crate::recall::last::{self, Deed};
use base::config::ClientConfig;
use base::metrics::{self, Family, Page};
use base::{Result, clock, config, state};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The largest file that is read in which trouble is remembered.
const LIMIT: usize = 64 << 10;

const fn family(name: &'static str, help: &'static str) -> Family {
    Family { name, help }
}

/// All that can be on the page, in its order. docs/monitoring.md has the same.
pub const FAMILIES: &[Family] = &[
    family("nightsafe_client_build_info", "1, with the release that looked as version."),
    family("nightsafe_client_overview_timestamp_seconds", "When the machine was looked at."),
    family("nightsafe_client_last_contact_timestamp_seconds", "When the node last answered."),
    family("nightsafe_client_unreachable_since_timestamp_seconds", "Since when the node does not answer."),
    family("nightsafe_client_receipts_disbelieved", "1 when the node's receipts are not believed."),
    family("nightsafe_client_clock_behind_seconds", "By how much this machine's clock is behind the node's, at least."),
    family("nightsafe_client_requests_waiting", "Requests for the node that are not finished."),
    family("nightsafe_client_oldest_request_timestamp_seconds", "When the oldest of these was submitted."),
    family("nightsafe_client_last_attempt_timestamp_seconds", "When a request was last prepared or answered, whatever came of it."),
    family("nightsafe_client_last_success_timestamp_seconds", "When the node last confirmed a snapshot, by this machine's clock."),
    family("nightsafe_client_failing", "1 when the last request was refused or failed."),
    family("nightsafe_client_failing_since_timestamp_seconds", "Since when none was stored."),
    family("nightsafe_client_overdue", "1 when nothing was stored for longer than is expected."),
    family("nightsafe_client_expected_interval_seconds", "How often it is to be stored, where client.toml says so."),
    family(
        "nightsafe_client_snapshot_bytes",
        "The last snapshot: data is what was backed up, fetched what the node took, stored by how much its store grew.",
    ),
    family("nightsafe_client_snapshot_files", "Files of the last snapshot."),
    family("nightsafe_client_prepare_seconds", "How long preparing the last snapshot took."),
    family("nightsafe_client_snapshot_unreadable", "What could not be read for the last snapshot."),
    family(
        "nightsafe_client_last_restore_timestamp_seconds",
        "When the dataset (of the client that the label names) was last restored on this machine without a problem, or a part of it.",
    ),
    family(
        "nightsafe_client_last_verify_timestamp_seconds",
        "When contents of it, or a share of them, were last verified on this machine and nothing was wrong.",
    ),
];

/// The page for this machine.
///
/// # Errors
/// When its state cannot be read.
pub fn page(config: &ClientConfig) -> Result<String> {
    let mut page = Page::new(FAMILIES);
    let client = ("client", config.client_name()?.as_str());
    page.add("nightsafe_client_build_info", &[client, ("version", env!("CARGO_PKG_VERSION"))], 1);
    page.add("nightsafe_client_overview_timestamp_seconds", &[client], clock::now().as_second());
    let overview = Overview::gather(config)?;
    for node in &overview.nodes {
        let labels = [("node", node.node.as_str()), client];
        let here = || overview.datasets.iter().filter(|view| view.node == node.node);
        let mut time = |name: &str, time: Option<Timestamp>| time.iter().for_each(|time| page.add(name, &labels, time.as_second()));
        time("nightsafe_client_last_contact_timestamp_seconds", node.last_contact);
        time("nightsafe_client_unreachable_since_timestamp_seconds", node.failing_since);
        time("nightsafe_client_oldest_request_timestamp_seconds", here().filter_map(|view| view.waiting_since).min());
        page.add("nightsafe_client_receipts_disbelieved", &labels, u8::from(node.alarm.is_some()));
        page.add("nightsafe_client_clock_behind_seconds", &labels, node.clock_behind_seconds);
        page.add("nightsafe_client_requests_waiting", &labels, here().map(|view| view.waiting).sum::<usize>());
        for view in here() {
            dataset(&mut page, [labels[0], client, ("module", view.dataset.module()), ("path", view.dataset.path())], view);
        }
    }
    for last in last::all(config) {
        let name = match last.deed {
            Deed::Restored => "nightsafe_client_last_restore_timestamp_seconds",
            Deed::Verified => "nightsafe_client_last_verify_timestamp_seconds",
        };
        let (module, path) = (last.dataset.module(), last.dataset.path());
        let labels = [("node", last.node.as_str()), ("client", last.client.as_str()), ("module", module), ("path", path)];
        page.add(name, &labels, last.at.as_second());
    }
    Ok(page.finish())
}

/// What there is to say of one dataset.
fn dataset(page: &mut Page, labels: [(&str, &str); 4], view: &DatasetView) {
    let mut time = |name: &str, time: Option<Timestamp>| time.iter().for_each(|time| page.add(name, &labels, time.as_second()));
    time("nightsafe_client_last_attempt_timestamp_seconds", view.last_attempt);
    time("nightsafe_client_last_success_timestamp_seconds", view.last_success);
    time("nightsafe_client_failing_since_timestamp_seconds", view.failing_since);
    page.add("nightsafe_client_failing", &labels, u8::from(view.failures > 0));
    page.add("nightsafe_client_overdue", &labels, u8::from(view.wrong.contains(&Wrong::Overdue)));
    let mut number = |name: &str, number: Option<u64>| number.iter().for_each(|number| page.add(name, &labels, number));
    number("nightsafe_client_expected_interval_seconds", view.expected_seconds);
    number("nightsafe_client_snapshot_files", view.size.files);
    number("nightsafe_client_prepare_seconds", view.size.prepare_seconds);
    if view.last_success.is_none() {
        return;
    }
    let kinds = [("data", view.size.bytes), ("fetched", Some(view.size.bytes_fetched)), ("stored", Some(view.size.bytes_stored))];
    for (kind, bytes) in kinds {
        let [node, client, module, path] = labels;
        bytes.iter().for_each(|bytes| page.add("nightsafe_client_snapshot_bytes", &[node, client, module, path, ("kind", kind)], bytes));
    }
    page.add("nightsafe_client_snapshot_unreadable", &labels, view.unreadable);
}

/// Since when the file cannot be written, and why: `metrics.toml` in the state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    /// That of all TOML of ours.
    pub version: i64,
    /// Nothing where it can be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    #[serde(default)]
    pub why: String,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { version: config::VERSION, since: None, why: String::new() }
    }
}

impl Trouble {
    /// What is known of it; a file that cannot be read says nothing.
    pub fn load(config: &ClientConfig) -> Self {
        state::load(&config.state.join("metrics.toml"), LIMIT).unwrap_or_default()
    }

    /// Remembers how it went at `now`. Says whether trouble is news.
    fn note(config: &ClientConfig, written: &Result<()>, now: Timestamp) -> Result<bool> {
        let next = match (Self::load(config).since, written) {
            (None, Err(error)) => Self { since: Some(now), why: error.one_line(), ..Self::default() },
            (Some(_), Ok(())) => Self::default(),
            (None, Ok(())) | (Some(_), Err(_)) => return Ok(false),
        };
        state::store(&config.state.join("metrics.toml"), &next)?;
        Ok(next.since.is_some())
    }
}

/// Writes the file that `client.toml` names, where it names one. Trouble with it is told once, and stops nothing; `alerts` hears of
/// it too.
pub fn write(config: &ClientConfig) {
    let Some(path) = &config.metrics else { return };
    let written = page(config).and_then(|page| metrics::write(path, &page));
    match (Trouble::note(config, &written, clock::now()), written) {
        (Ok(true), Err(error)) => output::complain(&error.hint("metrics in client.toml names the file.")),
        (Err(error), _) => output::complain(&error),
        (Ok(_), _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Error;

    #[test]
    fn trouble_is_news_once() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("version = 1\nname = \"web1\"\nstate = \"{}\"\n", dir.path().display());
        let config: ClientConfig = config::parse("c", text.as_bytes()).unwrap();
        let note = |written: Result<()>, second| Trouble::note(&config, &written, Timestamp::from_second(second).unwrap()).unwrap();
        let failed = || Err(Error::failed("no room"));
        assert!(!note(Ok(()), 1) && Trouble::load(&config) == Trouble::default());
        assert_eq!([note(failed(), 2), note(failed(), 3)], [true, false]);
        let known = Trouble::load(&config);
        assert_eq!((known.since.unwrap().as_second(), known.why.as_str()), (2, "no room"));
        assert_eq!([note(Ok(()), 4), note(Ok(()), 5), note(failed(), 6)], [false, false, true]);
    }

    #[test]
    fn the_page_of_the_manual_has_the_same() {
        let text = include_str!("../../docs/monitoring.md");
        let said: Vec<&str> = text.lines().filter(|line| line.starts_with("| `nightsafe_client_")).collect();
        assert_eq!(said, FAMILIES.iter().map(|family| format!("| `{}` | {} |", family.name, family.help)).collect::<Vec<_>>());
    }
}
