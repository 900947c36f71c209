//! The digest of a client: how every dataset stands at each node, by mail, once a day or a week.
//!
//! Gathers nothing, and knows no mails: when one is due, what it looks like and its way are the crate `mail`'s.

use crate::output;
use crate::overview::{DatasetView, NodeView, Overview, Wrong};
use base::config::ClientConfig;
use base::{ByteSize, clock};
use mail::{Digest, Row};

/// Sends the digest where one is due. Trouble with it is told, and stops nothing.
pub fn send(config: &ClientConfig) {
    let (Some(mail), Ok(name)) = (&config.mail, config.client_name()) else { return };
    let here = name.to_string();
    let hint = format!("nightsafe status on {here} says more.");
    if let Err(error) = mail::digest(mail, &config.state, &here, &hint, || Ok(digest(&Overview::gather(config)?))) {
        output::complain(&error);
    }
}

/// What it says: what a person should look at first.
fn digest(overview: &Overview) -> Digest {
    let rows = overview.datasets.iter().map(row).collect();
    let lines = overview.nodes.iter().map(line).collect();
    let troubles = overview.nodes.iter().filter(|node| !node.wrong.is_empty()).count();
    Digest::new(&["DATASET", "NODE", "LAST STORED", "EXPECTED", "SIZE", "NEW", "STATE"], rows, lines, troubles, "a node")
}

fn row(view: &DatasetView) -> Row {
    let state = match (view.failing_since, view.wrong.first()) {
        (Some(since), Some(Wrong::Failed)) => format!("failing for {}", clock::ago(since)),
        (_, Some(Wrong::Overdue)) => "overdue".into(),
        (_, Some(Wrong::Incomplete)) => format!("stored, but {} could not be read", view.unreadable),
        _ => view.state.words().into(),
    };
    Row {
        cells: vec![
            view.dataset.to_string(),
            view.node.to_string(),
            view.last_success.map_or_else(|| "never".into(), |time| format!("{} ago", clock::ago(time))),
            view.expected_seconds
                .map(|seconds| format!("every {}", clock::in_words(i64::try_from(seconds).unwrap_or(i64::MAX))))
                .unwrap_or_default(),
            view.size.bytes.map(|bytes| ByteSize(bytes).to_string()).unwrap_or_default(),
            ByteSize(view.size.bytes_fetched).to_string(),
            state,
        ],
        wrong: !view.wrong.is_empty(),
    }
}

fn line(node: &NodeView) -> String {
    let name = &node.node;
    let seen = node.last_contact.map_or_else(|| "never".into(), |time| format!("{} ago", clock::ago(time)));
    match (&node.alarm, node.failing_since) {
        (Some(alarm), _) => format!("{name}: ALARM: {alarm}"),
        (None, Some(since)) => format!("{name}: not reached for {}; last seen {seen}.", clock::ago(since)),
        (None, None) => format!("{name}: last seen {seen}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::Doing;
    use base::Name;

    #[test]
    fn what_needs_a_look_stands_first() {
        let node = Name::new("node1").unwrap();
        let view = |dataset: &str, wrong: Vec<Wrong>| DatasetView {
            state: Doing::Stored,
            wrong,
            expected_seconds: Some(86_400),
            ..DatasetView::new(&dataset.parse().unwrap(), &node)
        };
        let mut overview = Overview {
            client: Name::new("web1").ok(),
            version: "0",
            at: clock::now(),
            datasets: vec![view("files:/a", Vec::new()), view("files:/b", vec![Wrong::Overdue])],
            nodes: Vec::new(),
        };
        let said = digest(&overview);
        assert_eq!((said.summary.as_str(), said.rows[0].wrong), ("1 of 2 datasets needs a look", true));
        assert_eq!((said.rows[0].cells[0].as_str(), said.rows[0].cells[6].as_str()), ("files:/b", "overdue"));
        overview.datasets.pop();
        assert_eq!(digest(&overview).summary, "all is well with 1 dataset");
    }
}
