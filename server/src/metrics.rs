//! The node's overview as metrics for Prometheus, and the file in which node_exporter finds them.
//!
//! Gathers nothing. A client chooses how many datasets it has, so that of each only so many are shown; nothing grows with
//! snapshots.

use crate::node::Node;
use crate::output;
use crate::overview::{self, Client, Dataset, Overview, Sizes};
use crate::poll::alarms;
use base::clock;
use base::metrics::{self, Family, Page};
use jiff::Timestamp;
use std::time::Duration;

/// How many datasets of one client have metrics.
const DATASETS: usize = 2000;

/// How often prune and scrub are done, in seconds.
const DAY: i64 = 86_400;

/// What the alarm is about that tells that the file cannot be written.
const ALARM: &str = "metrics";

/// How old the file may become before it is written anew by a poll that had nothing to do.
const OLD: Duration = Duration::from_secs(300);

const fn family(name: &'static str, help: &'static str) -> Family {
    Family { name, help }
}

/// All that can be on the page, in its order. docs/monitoring.md has the same.
pub const FAMILIES: &[Family] = &[
    family("nightsafe_node_build_info", "1, with the release that looked as version."),
    family("nightsafe_node_overview_timestamp_seconds", "When the node was looked at."),
    family("nightsafe_node_last_sweep_timestamp_seconds", "When the poller last looked at everything that clients handed over."),
    family("nightsafe_node_disk_free_bytes", "What may still be written where the data is."),
    family("nightsafe_node_disk_size_bytes", "The size of that disk."),
    family("nightsafe_node_alarms", "Alarms of the node itself."),
    family("nightsafe_node_open_files", "Files of the node that others could change, or that belong to somebody else."),
    family("nightsafe_node_upkeep_interval_seconds", "How often the node does a job (prune, scrub) by itself."),
    family("nightsafe_node_client_listed", "1 when the client is in the access list, 0 when only its data is left."),
    family("nightsafe_node_client_paused", "1 when the client is paused."),
    family("nightsafe_node_last_received_timestamp_seconds", "When the client's last request was taken in."),
    family("nightsafe_node_requests_waiting", "The client's requests that wait."),
    family("nightsafe_node_requests_fetching", "The client's requests that are being fetched."),
    family("nightsafe_node_oldest_request_timestamp_seconds", "Since when the oldest of these is here."),
    family("nightsafe_node_unreachable_since_timestamp_seconds", "Since when fetching from the client does not work."),
    family("nightsafe_node_used_bytes", "What the client's store and mirrors take."),
    family("nightsafe_node_quota_bytes", "What they may take."),
    family("nightsafe_node_limits_near", "How many of the client's limits are used by nine tenths or more."),
    family("nightsafe_node_clock_ahead_seconds", "By how much the client's clock is ahead of the node's, at least."),
    family("nightsafe_node_last_scrub_timestamp_seconds", "When a share of the client's data was last read again."),
    family("nightsafe_node_last_prune_timestamp_seconds", "When the client's store was last pruned."),
    family("nightsafe_node_client_alarms", "Alarms about the client."),
    family("nightsafe_node_damaged", "Packs, snapshots and repositories of the client that are damaged."),
    family("nightsafe_node_datasets_left_out", "Datasets of the client that are not on this page, because they are too many."),
    family("nightsafe_node_last_attempt_timestamp_seconds", "When a request of the dataset was last answered, whatever the answer."),
    family("nightsafe_node_last_success_timestamp_seconds", "When the newest snapshot came, by the node's clock."),
    family("nightsafe_node_failing", "1 when the last request of the dataset was refused or failed."),
    family("nightsafe_node_failing_since_timestamp_seconds", "Since when none was stored."),
    family("nightsafe_node_silent", "1 when nothing comes of the dataset though it was expected."),
    family("nightsafe_node_expected_interval_seconds", "How often a snapshot is expected."),
    family("nightsafe_node_snapshots", "Snapshots that are kept."),
    family("nightsafe_node_snapshots_held", "Snapshots that a person holds."),
    family("nightsafe_node_snapshots_pinned", "Snapshots kept because the next one is much smaller."),
    family("nightsafe_node_snapshots_condemned", "Snapshots that will go."),
    family("nightsafe_node_stored_bytes", "What the snapshots that are kept added to the store."),
    family(
        "nightsafe_node_snapshot_bytes",
        "The newest snapshot by kind: data (its own size), fetched (what came), stored (what it added).",
    ),
    family("nightsafe_node_previous_snapshot_bytes", "The same of the snapshot before it."),
    family("nightsafe_node_snapshot_files", "Files in the newest snapshot."),
    family("nightsafe_node_previous_snapshot_files", "Files in the snapshot before it."),
    family("nightsafe_node_snapshot_unreadable", "What the client could not read for the newest snapshot."),
    family("nightsafe_node_fetch_duration_seconds", "How long the newest snapshot was being fetched."),
];

/// The page of metrics.
pub fn render(overview: &Overview) -> String {
    let mut page = Page::new(FAMILIES);
    let node = ("node", overview.node.as_str());
    page.add("nightsafe_node_build_info", &[node, ("version", overview.version)], 1);
    page.add("nightsafe_node_overview_timestamp_seconds", &[node], overview.taken.as_second());
    if let Some(swept) = overview.last_sweep {
        page.add("nightsafe_node_last_sweep_timestamp_seconds", &[node], swept.as_second());
    }
    if let Some(disk) = overview.disk {
        page.add("nightsafe_node_disk_free_bytes", &[node], disk.free);
        page.add("nightsafe_node_disk_size_bytes", &[node], disk.size);
    }
    page.add("nightsafe_node_alarms", &[node], overview.alarms.len());
    page.add("nightsafe_node_open_files", &[node], overview.open.len());
    page.add("nightsafe_node_upkeep_interval_seconds", &[node, ("task", "prune")], DAY);
    if overview.scrub_at.is_some() {
        page.add("nightsafe_node_upkeep_interval_seconds", &[node, ("task", "scrub")], DAY);
    }
    for client in &overview.clients {
        of_client(&mut page, node, client);
    }
    page.finish()
}

fn of_client(page: &mut Page, node: (&str, &str), client: &Client) {
    let labels = [node, ("client", client.client.as_str())];
    let mut add = |name: &str, value: u64| page.add(name, &labels, value);
    add("nightsafe_node_client_listed", client.listed.into());
    add("nightsafe_node_client_paused", client.paused.into());
    add("nightsafe_node_requests_waiting", client.waiting as u64);
    add("nightsafe_node_requests_fetching", client.being_fetched as u64);
    add("nightsafe_node_used_bytes", client.bytes_used);
    add("nightsafe_node_limits_near", client.near.len() as u64);
    add("nightsafe_node_clock_ahead_seconds", client.clock_ahead_seconds.unsigned_abs());
    add("nightsafe_node_client_alarms", client.alarms.len() as u64);
    add("nightsafe_node_damaged", client.damage.len() as u64);
    add("nightsafe_node_datasets_left_out", client.datasets.len().saturating_sub(DATASETS) as u64);
    if let Some(quota) = client.quota {
        add("nightsafe_node_quota_bytes", quota);
    }
    let unreachable = client.retries.iter().filter(|retry| retry.is_lane()).map(|retry| retry.since).min();
    let mut time = |name: &str, time: Option<Timestamp>| time.iter().for_each(|time| page.add(name, &labels, time.as_second()));
    time("nightsafe_node_last_received_timestamp_seconds", client.last_received);
    time("nightsafe_node_oldest_request_timestamp_seconds", client.oldest_request);
    time("nightsafe_node_unreachable_since_timestamp_seconds", unreachable);
    time("nightsafe_node_last_scrub_timestamp_seconds", client.last_scrub);
    time("nightsafe_node_last_prune_timestamp_seconds", client.last_prune);
    for dataset in client.datasets.iter().take(DATASETS) {
        of_dataset(page, node, client, dataset);
    }
}

fn of_dataset(page: &mut Page, node: (&str, &str), client: &Client, of: &Dataset) {
    let (module, path) = of.dataset.split_once(':').unwrap_or((&of.dataset, ""));
    let labels = [node, ("client", client.client.as_str()), ("module", module), ("path", path)];
    let failing = client.trouble.iter().find(|trouble| trouble.dataset == of.dataset);
    let mut time = |name: &str, time: Option<Timestamp>| time.iter().for_each(|time| page.add(name, &labels, time.as_second()));
    time("nightsafe_node_last_attempt_timestamp_seconds", of.last_attempt);
    time("nightsafe_node_last_success_timestamp_seconds", of.received);
    time("nightsafe_node_failing_since_timestamp_seconds", failing.map(|trouble| trouble.since));
    let mut add = |name: &str, value: u64| page.add(name, &labels, value);
    add("nightsafe_node_failing", failing.is_some().into());
    add("nightsafe_node_silent", client.silent.iter().any(|silence| silence.dataset == of.dataset).into());
    if let Some(seconds) = of.expected_seconds {
        add("nightsafe_node_expected_interval_seconds", seconds.unsigned_abs());
    }
    add("nightsafe_node_snapshots", of.snapshots as u64);
    add("nightsafe_node_snapshots_held", of.held as u64);
    add("nightsafe_node_snapshots_pinned", of.pinned as u64);
    add("nightsafe_node_snapshots_condemned", of.condemned as u64);
    add("nightsafe_node_stored_bytes", of.bytes_stored);
    for (sizes, bytes, files) in [
        (of.newest, "nightsafe_node_snapshot_bytes", "nightsafe_node_snapshot_files"),
        (of.before, "nightsafe_node_previous_snapshot_bytes", "nightsafe_node_previous_snapshot_files"),
    ] {
        let Some(Sizes { bytes: data, bytes_fetched, bytes_stored, files: count, .. }) = sizes else { continue };
        for (kind, value) in [("data", data), ("fetched", bytes_fetched), ("stored", bytes_stored)] {
            page.add(bytes, &[labels[0], labels[1], labels[2], labels[3], ("kind", kind)], value);
        }
        if let Some(count) = count {
            page.add(files, &labels, count);
        }
    }
    if let Some(newest) = of.newest {
        page.add("nightsafe_node_snapshot_unreadable", &labels, newest.unreadable);
        page.add("nightsafe_node_fetch_duration_seconds", &labels, newest.seconds);
    }
}

/// Writes the file that `node.toml` names, where it names one. Trouble with it is told, and stops nothing.
pub fn write(node: &Node) {
    let Some(path) = &node.config.metrics else { return };
    let written = overview::gather(node, None).and_then(|overview| metrics::write(path, &render(&overview)));
    let folder = node.state_path();
    let noted = match written {
        Ok(()) => alarms::settle(&folder, ALARM),
        Err(error) => {
            let error = error.hint("metrics in node.toml names the file.");
            alarms::raise(&folder, ALARM, &error.one_line(), clock::now()).map(|news| {
                if news {
                    output::complain(&error)
                }
            })
        }
    };
    if let Err(error) = noted {
        output::complain(&error);
    }
}

/// As [`write`], where it was not written for long.
pub fn write_if_old(node: &Node) {
    let Some(path) = &node.config.metrics else { return };
    let fresh = |path: &std::path::Path| path.metadata().ok()?.modified().ok()?.elapsed().ok().map(|age| age < OLD);
    if !fresh(path).unwrap_or(false) {
        write(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::DayTime;

    fn overview(clients: Vec<Client>) -> Overview {
        Overview {
            node: "node1".into(),
            version: "0",
            taken: clock::now(),
            disk: None,
            last_sweep: None,
            prune_at: DayTime::at(4, 0),
            scrub_at: None,
            alarms: Vec::new(),
            open: Vec::new(),
            clients,
        }
    }

    #[test]
    fn a_client_with_any_number_of_datasets_makes_so_many_series_and_no_more() {
        let name = |n: usize| format!("git:/srv/\"{n}\\ {{client=\"db1\"}} 1");
        let dataset = |n: usize| Dataset { dataset: name(n), received: Some(clock::now()), snapshots: n, ..Dataset::default() };
        let client = |n: usize| Client { client: "web1".into(), datasets: (0..n).map(dataset).collect(), ..Client::default() };
        let (few, many) = (render(&overview(vec![client(DATASETS)])), render(&overview(vec![client(DATASETS + 7)])));
        assert_eq!(few.lines().count(), many.lines().count());
        assert!(many.contains("\nnightsafe_node_datasets_left_out{node=\"node1\",client=\"web1\"} 7\n"));
        let line = r#"nightsafe_node_snapshots{node="node1",client="web1",module="git",path="/srv/\"3\\ {client=\"db1\"} 1"} 3"#;
        assert!(many.lines().any(|found| found == line), "{line}");
        assert!(!many.lines().any(|line| line.contains("client=\"db1\"}") && !line.contains("client=\"web1\",")));
    }

    #[test]
    fn the_page_of_the_manual_has_the_same() {
        let text = include_str!("../../docs/monitoring.md");
        let said: Vec<&str> = text.lines().filter(|line| line.starts_with("| `nightsafe_node_")).collect();
        assert_eq!(said, FAMILIES.iter().map(|family| format!("| `{}` | {} |", family.name, family.help)).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_not_known_is_not_shown_as_nothing() {
        let page = render(&overview(vec![Client { client: "web1".into(), ..Client::default() }]));
        for absent in ["last_sweep", "last_received", "oldest_request", "last_scrub", "quota", "disk", "task=\"scrub\""] {
            assert!(!page.contains(absent), "{absent}: {page}");
        }
        assert!(page.contains("task=\"prune\"} 86400\n") && page.contains("client_paused{node=\"node1\",client=\"web1\"} 0\n"), "{page}");
    }
}
