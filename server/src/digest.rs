//! The digest of a node: how every dataset stands, by mail, once a day or a week.
//!
//! Gathers nothing, and knows no mails: when one is due, what it looks like and its way are the crate `mail`'s.

use crate::node::Node;
use crate::output;
use crate::overview::{self, Client, Dataset, Overview};
use base::{ByteSize, clock};
use mail::{Digest, Row};

/// Sends the digest where one is due. Trouble with it is told, and stops nothing.
pub fn send(node: &Node) {
    let Some(mail) = &node.config.mail else { return };
    let here = node.config.name.to_string();
    let hint = format!("nightsafe-server status on {here} says more.");
    if let Err(error) = mail::digest(mail, &node.state_path(), &here, &hint, || Ok(digest(&overview::gather(node, None)?))) {
        output::complain(&error);
    }
}

/// What it says: what a person should look at first.
fn digest(overview: &Overview) -> Digest {
    let mut rows: Vec<Row> = Vec::new();
    for client in &overview.clients {
        rows.extend(client.datasets.iter().map(|dataset| row(client, dataset)));
    }
    let mut lines = overview::wrong(overview);
    let troubles = lines.len();
    lines.extend(overview.disk.map(|disk| format!("{} of {} are free on the disk.", ByteSize(disk.free), ByteSize(disk.size))));
    let used = overview.clients.iter().fold(0u64, |sum, client| sum.saturating_add(client.bytes_used));
    lines.push(match overview.clients.len() {
        1 => format!("1 client uses {}.", ByteSize(used)),
        clients => format!("{clients} clients use {}.", ByteSize(used)),
    });
    for client in overview.clients.iter().filter(|_| overview.scrub_at.is_some()) {
        let scrubbed = client.last_scrub.map_or_else(|| "never".into(), |time| format!("{} ago", clock::ago(time)));
        lines.push(format!("{}: last scrubbed {scrubbed}.", client.client));
    }
    let headings = ["CLIENT", "DATASET", "LAST STORED", "EXPECTED", "SIZE", "NEW", "SNAPSHOTS", "STATE"];
    Digest::new(&headings, rows, lines, troubles, "something else")
}

fn row(client: &Client, of: &Dataset) -> Row {
    let failing = client.trouble.iter().find(|trouble| trouble.dataset == of.dataset);
    let silent = client.silent.iter().any(|silence| silence.dataset == of.dataset);
    let damaged = client.unmended().any(|damage| damage.datasets.contains(&of.dataset));
    let state = match failing {
        Some(trouble) => format!("{} for {}", trouble.outcome, clock::ago(trouble.since)),
        None if damaged => "damaged".into(),
        None if silent => "silent".into(),
        None if client.paused => "paused".into(),
        None if !client.listed => "not in the list any more".into(),
        None => "well".into(),
    };
    let size = |bytes: fn(&overview::Sizes) -> u64| of.newest.as_ref().map_or_else(String::new, |sizes| ByteSize(bytes(sizes)).to_string());
    let every = of.expected_seconds.map(|seconds| format!("every {}", clock::in_words(seconds)));
    Row {
        cells: vec![
            client.client.clone(),
            of.dataset.clone(),
            of.received.map_or_else(|| "never".into(), |time| format!("{} ago", clock::ago(time))),
            every.unwrap_or_default(),
            size(|sizes| sizes.bytes),
            size(|sizes| sizes.bytes_fetched),
            of.snapshots.to_string(),
            state,
        ],
        wrong: failing.is_some() || silent || damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::{Silence, Sizes};
    use base::DayTime;
    use jiff::Timestamp;

    #[test]
    fn what_needs_a_look_stands_first() {
        let now = clock::now();
        let sizes = Sizes { bytes: 5 << 20, bytes_fetched: 2048, bytes_stored: 2048, files: Some(7), unreadable: 0, seconds: 1 };
        let dataset = |name: &str, received| Dataset {
            dataset: name.into(),
            received,
            expected_seconds: Some(86_400),
            newest: Some(sizes),
            ..Dataset::default()
        };
        let silent = vec![Silence { dataset: "files:/b".into(), since: Timestamp::UNIX_EPOCH, expected: "every 24 h".into() }];
        let datasets = vec![dataset("files:/a", Some(now)), dataset("files:/b", Some(Timestamp::UNIX_EPOCH)), dataset("git:/c", None)];
        let client = Client { client: "web1".into(), listed: true, datasets, silent, ..Client::default() };
        let mut overview = Overview {
            node: "node1".into(),
            version: "0",
            taken: now,
            disk: None,
            last_sweep: None,
            prune_at: DayTime::at(4, 0),
            scrub_at: Some(DayTime::at(5, 0)),
            alarms: Vec::new(),
            open: Vec::new(),
            clients: vec![client],
        };
        let said = digest(&overview);
        assert_eq!((said.summary.as_str(), said.rows[0].wrong), ("1 of 3 datasets needs a look", true));
        assert_eq!(
            said.rows[0].cells[1..2].iter().chain(&said.rows[0].cells[3..]).map(String::as_str).collect::<Vec<_>>(),
            ["files:/b", "every 24 h", "5.0 MiB", "2.0 KiB", "0", "silent"]
        );
        assert!(said.lines[0].contains("files:/b is silent") && said.lines.iter().any(|line| line == "web1: last scrubbed never."));
        overview.clients[0].silent.clear();
        assert_eq!(digest(&overview).summary, "all is well with 3 datasets");
        overview.open.push("x".into());
        assert_eq!(digest(&overview).summary, "all datasets are well, and something else is not");
    }
}
