//! Commit messages in words, so that `git log` and cgit read as an audit log.
//!
//! Nothing is ever taken from them but a hint whose deeds need not be read: what counts is in the files.

use crate::notice::Notice;
use crate::receipt::{Outcome, Receipt};
use crate::request::{Request, reason_word};
use base::{ByteSize, Payload};

/// The message of a commit that carries `requests` of one client to one node.
pub fn of_requests(requests: &[Request]) -> String {
    let (subject, body): (String, Vec<String>) = match requests {
        [] => ("nothing is asked".into(), vec![]),
        [one] => (
            format!("{} asks {} to back up {} ({}, by {})", one.client, one.node, what(one), reason_word(one.reason), one.by),
            request_lines(one),
        ),
        [first, ..] => (
            match &first.group {
                Some(group) => {
                    format!("{} asks {} to back up the group {} ({} datasets)", first.client, first.node, group.name, requests.len())
                }
                None => format!("{} asks {} to back up {} datasets", first.client, first.node, requests.len()),
            },
            requests.iter().map(|r| format!("{} ({}, by {}), request {}", what(r), reason_word(r.reason), r.by, r.id)).collect(),
        ),
    };
    text(&subject, &body)
}

fn listed(datasets: &[base::Dataset]) -> String {
    datasets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What is to be backed up, in words.
fn what(request: &Request) -> String {
    request.id.part().map_or_else(|| request.dataset.to_string(), |part| format!("part {part} of {}", request.dataset))
}

fn request_lines(request: &Request) -> Vec<String> {
    let mut lines = vec![format!("request {}, number {}", request.id, request.seq)];
    if let Some(prev) = &request.prev {
        lines.push(format!("after {prev}"));
    }
    if !request.tags.is_empty() {
        lines.push(format!("tags: {}", request.tags.join(", ")));
    }
    if let Some(group) = &request.group {
        lines.push(format!("of the group {} {}: {}", group.name, group.id, listed(&group.members)));
        if !group.lacks.is_empty() {
            lines.push(format!("the group lacks {}", listed(&group.lacks)));
        }
    }
    match request.payload {
        Payload::Manifest(digest) => lines.push(format!("manifest {digest}")),
        Payload::Refs(digest) => lines.push(format!("refs {digest}")),
        Payload::Nothing => {}
    }
    lines.extend(request.repairs.iter().map(|pack| format!("repairs {pack}")));
    lines
}

/// The message of a commit that carries a notice.
pub fn of_notice(notice: &Notice) -> String {
    let Notice { node, client, datasets, packs, .. } = notice;
    let mut lines = vec![format!("notice {}", notice.id), notice.reason.clone()];
    lines.extend(datasets.iter().map(|dataset| format!("dataset {dataset}")));
    lines.extend(packs.iter().map(|pack| format!("lost {pack}")));
    text(&format!("{node} asks {client} to mend damage of {} datasets", datasets.len()), &lines)
}

/// The message of a commit that carries `receipts` of one node for one client.
pub fn of_receipts(receipts: &[Receipt]) -> String {
    let (subject, body): (String, Vec<String>) = match receipts {
        [] => ("nothing is answered".into(), vec![]),
        [one] => (receipt_line(one), receipt_lines(one)),
        [first, ..] => (
            format!("{} answers {} requests of {}", first.node, receipts.len(), first.client),
            receipts.iter().map(|r| format!("{}, request {}", receipt_line(r), r.id)).collect(),
        ),
    };
    text(&subject, &body)
}

fn receipt_line(receipt: &Receipt) -> String {
    let Receipt { node, client, .. } = receipt;
    let dataset = receipt.id.part().map_or_else(|| receipt.dataset.to_string(), |part| format!("part {part} of {}", receipt.dataset));
    let why = receipt.reason.as_deref().unwrap_or("no reason was given");
    match receipt.outcome {
        Outcome::Stored => {
            let seconds = receipt.seconds;
            let (fetched, stored) = (ByteSize(receipt.bytes_fetched), ByteSize(receipt.bytes_stored));
            format!("{node} stored {dataset} of {client}: {fetched} fetched, {stored} more kept, {seconds} s")
        }
        Outcome::Refused => format!("{node} refused {dataset} of {client}: {why}"),
        Outcome::Failed => format!("{node} could not store {dataset} of {client}: {why}"),
    }
}

fn receipt_lines(receipt: &Receipt) -> Vec<String> {
    let mut lines = vec![format!("request {}", receipt.id)];
    if let Some(snapshot) = &receipt.snapshot {
        lines.push(format!("snapshot {snapshot}"));
    }
    if let Some(beside) = receipt.reason.as_ref().filter(|_| receipt.outcome == Outcome::Stored) {
        lines.push(beside.clone());
    }
    if receipt.unreadable > 0 {
        lines.push(format!("{} entries could not be read at the source", receipt.unreadable));
    }
    if !receipt.missing.is_empty() {
        lines.push(format!("{} packs are missing and must be sent again", receipt.missing.len()));
    }
    lines.extend(receipt.changed.iter().take(100).map(|line| format!("changed: {line}")));
    if receipt.changed.len() > 100 {
        lines.push(format!("changed: {} more", receipt.changed.len() - 100));
    }
    lines
}

/// Subject and body with every line printable; a message that grows too long is cut, as it says nothing of its own.
pub fn text(subject: &str, body: &[String]) -> String {
    const LIMIT: usize = 16 * 1024;
    let mut out = base::text::printable(subject);
    out.push('\n');
    for (number, line) in body.iter().enumerate() {
        if number == 0 {
            out.push('\n');
        }
        if out.len() + line.len() > LIMIT {
            out.push_str(&format!("and {} more\n", body.len() - number));
            break;
        }
        out.push_str(&base::text::printable(line));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Reason;
    use proptest::prelude::*;

    #[test]
    fn words() {
        let mut request = crate::request::tests::sample();
        request.reason = Reason::Manual;
        request.by = "alice".into();
        let text = request.message();
        assert!(
            text.starts_with(
                "web1 asks node1 to back up files:/var/www (manual, by alice)\n\nrequest 20261120T031500Z-3f9a1c7e, number 1042\n"
            ),
            "{text}"
        );
        let many = of_requests(&vec![request; 1000]);
        assert!(many.starts_with("web1 asks node1 to back up 1000 datasets\n\n") && many.contains("more\n") && many.len() < 17_000);
        let mut receipt = crate::receipt::tests::sample();
        assert!(
            receipt.message().starts_with("node1 stored files:/var/www of web1: 12.3 MiB fetched, 12.3 MiB more kept, 3 s\n\nrequest "),
            "{}",
            receipt.message()
        );
        receipt.outcome = Outcome::Refused;
        receipt.reason = Some("the quota is used up".into());
        assert!(receipt.message().starts_with("node1 refused files:/var/www of web1: the quota is used up\n"));
    }

    proptest! {
        #[test]
        fn always_printable(request in crate::request::tests::any_request(), reason in ".{0,300}") {
            let mut receipt = crate::receipt::tests::sample();
            receipt.outcome = Outcome::Failed;
            receipt.reason = Some(reason.clone());
            receipt.changed = vec![reason];
            receipt.dataset = request.dataset.clone();
            for text in [request.message(), receipt.message()] {
                prop_assert!(text.ends_with('\n'));
                prop_assert!(text.lines().all(|line| base::text::printable(line) == line));
            }
        }
    }
}
