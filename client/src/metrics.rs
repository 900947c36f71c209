//! How the backups of this machine stand, as metrics for Prometheus, and the file in which node_exporter finds them.
//!
//! Reads what `send` wrote down; asks no node.

use crate::contact::Contact;
use crate::history::History;
use crate::output;
use base::config::ClientConfig;
use base::metrics::{Family, Page};
use base::{Result, atomic, clock};
use jiff::Timestamp;
use queue::pool::ClientPool;
use std::time::Duration;

/// How old a file is that a killed process left unfinished.
const LOST: Duration = Duration::from_secs(86_400);

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
    family("nightsafe_client_last_success_timestamp_seconds", "When the node last confirmed a snapshot, by this machine's clock."),
    family("nightsafe_client_failing", "1 when the last request was refused or failed."),
    family("nightsafe_client_failing_since_timestamp_seconds", "Since when none was stored."),
    family("nightsafe_client_snapshot_unreadable", "What could not be read for the last snapshot."),
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
    let unfinished = ClientPool::open(&config.pool_path())?.unfinished()?;
    for node in &config.nodes {
        let labels = [("node", node.name.as_str()), client];
        let contact = Contact::load(config, &node.name)?;
        let waiting: Vec<Option<Timestamp>> =
            unfinished.iter().filter(|(_, file, _)| file.node == node.name).map(|(_, file, _)| submitted(file.id.as_str())).collect();
        let mut time = |name: &str, time: Option<Timestamp>| time.iter().for_each(|time| page.add(name, &labels, time.as_second()));
        time("nightsafe_client_last_contact_timestamp_seconds", contact.last_contact);
        time("nightsafe_client_unreachable_since_timestamp_seconds", contact.failing_since);
        time("nightsafe_client_oldest_request_timestamp_seconds", waiting.iter().flatten().min().copied());
        page.add("nightsafe_client_receipts_disbelieved", &labels, u8::from(contact.alarm.is_some()));
        page.add("nightsafe_client_clock_behind_seconds", &labels, contact.clock_behind);
        page.add("nightsafe_client_requests_waiting", &labels, waiting.len());
        for (dataset, past) in History::load(config, &node.name).datasets {
            let labels = [labels[0], client, ("module", dataset.module()), ("path", dataset.path())];
            let mut time = |name: &str, time: Option<Timestamp>| time.iter().for_each(|time| page.add(name, &labels, time.as_second()));
            time("nightsafe_client_last_success_timestamp_seconds", past.last_success);
            time("nightsafe_client_failing_since_timestamp_seconds", past.failing_since);
            page.add("nightsafe_client_failing", &labels, u8::from(past.failures > 0));
            if past.last_success.is_some() {
                page.add("nightsafe_client_snapshot_unreadable", &labels, past.unreadable);
            }
        }
    }
    Ok(page.finish())
}

/// When a request was submitted, as its id says, which was made here.
fn submitted(id: &str) -> Option<Timestamp> {
    jiff::fmt::strtime::parse("%Y%m%dT%H%M%S", id.get(..15)?).ok()?.to_datetime().ok()?.in_tz("UTC").ok().map(|time| time.timestamp())
}

/// Writes the file that `client.toml` names, where it names one. Trouble with it is told, and stops nothing.
pub fn write(config: &ClientConfig) {
    let Some(path) = &config.metrics else { return };
    let written = || {
        let page = page(config)?;
        atomic::sweep_drafts(path.parent().unwrap_or(path), LOST);
        // Everybody may read how old backups are, as from node_exporter itself.
        atomic::write(path, page.as_bytes(), 0o644)
    };
    if let Err(error) = written() {
        output::complain(&error.context("the metrics could not be written").hint("metrics in client.toml names the file."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_manual_has_the_same() {
        let text = include_str!("../../docs/monitoring.md");
        let said: Vec<&str> = text.lines().filter(|line| line.starts_with("| `nightsafe_client_")).collect();
        assert_eq!(said, FAMILIES.iter().map(|family| format!("| `{}` | {} |", family.name, family.help)).collect::<Vec<_>>());
    }

    #[test]
    fn ids_say_when_they_were_made() {
        assert_eq!(submitted("20261120T031500Z-3f9a1c7e"), "2026-11-20T03:15:00Z".parse().ok());
        assert_eq!((submitted("x"), submitted("20261320T031500Z-3f9a1c7e")), (None, None));
    }
}
