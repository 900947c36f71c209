//! What the signed requests say of each other: two histories where there should be one, or a listing that is not true.
//!
//! Decides over claims that are proven already; reads nothing.

use super::choose::Offered;
use base::{Claim, Dataset, Name, RequestId};
use queue::signature::read_commit;
use std::collections::{BTreeMap, HashMap};

/// A request whose signature was checked, and what a listing says of it.
#[derive(Debug, Clone)]
pub struct Signed {
    /// What was signed.
    pub claim: Claim,
    /// What the listing says.
    pub offered: Offered,
}

/// Something that no honest history shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whose.
    pub client: Name,
    /// Of which dataset.
    pub dataset: Dataset,
    /// What, as a sentence.
    pub text: String,
}

/// What is wrong with the history that these requests make. Numbers that are missing between them are no finding: what
/// was refused or is not kept any more leaves such gaps.
pub fn findings(all: &[Signed]) -> Vec<Finding> {
    let mut found = Vec::new();
    // A queue is one client's to one node.
    let mut queues: BTreeMap<(&Name, &Name), Vec<&Signed>> = BTreeMap::new();
    for one in all {
        listed_truly(one, &mut found);
        queues.entry((&one.claim.client, &one.claim.node)).or_default().push(one);
    }
    for queue in queues.values_mut() {
        queue.sort_by_key(|one| (one.claim.seq, one.offered.order));
        numbers(queue, &mut found);
        parents(queue, &mut found);
        before(queue, &mut found);
        order(queue, &mut found);
    }
    found
}

/// The numbers between the lowest and the highest that have no snapshot, over all queues.
pub fn gaps(all: &[Signed]) -> u64 {
    let mut queues: BTreeMap<(&Name, &Name), Vec<u64>> = BTreeMap::new();
    for one in all {
        queues.entry((&one.claim.client, &one.claim.node)).or_default().push(one.claim.seq);
    }
    let gaps = queues.into_values().map(|mut numbers| {
        numbers.sort_unstable();
        numbers.dedup();
        let span = numbers.last().zip(numbers.first()).map_or(0, |(last, first)| last - first + 1);
        span - numbers.len() as u64
    });
    gaps.sum()
}

fn note(found: &mut Vec<Finding>, claim: &Claim, text: String) {
    found.push(Finding { client: claim.client.clone(), dataset: claim.dataset.clone(), text });
}

/// Client, dataset and id were held against the claim when it was proven.
fn listed_truly(one: &Signed, found: &mut Vec<Finding>) {
    let (claim, offered) = (&one.claim, &one.offered);
    if offered.seq != claim.seq || offered.submitted != claim.submitted {
        let text = format!(
            "{} is listed as number {} of {}, and signed as number {} of {}",
            claim.id, offered.seq, offered.submitted, claim.seq, claim.submitted
        );
        note(found, claim, text);
    }
}

/// Each number is used once.
fn numbers(queue: &[&Signed], found: &mut Vec<Finding>) {
    for two in queue.windows(2) {
        let (a, b) = (&two[0].claim, &two[1].claim);
        if a.seq == b.seq && a.id != b.id {
            note(found, b, format!("the history forks: {} and {} are both signed as number {}", a.id, b.id, b.seq));
        }
    }
}

/// A queue's commits are a line: none has two successors.
fn parents(queue: &[&Signed], found: &mut Vec<Finding>) {
    let mut successors: HashMap<String, &Claim> = HashMap::new();
    for one in queue {
        let Ok(signed) = read_commit(&one.claim.proof.commit) else { continue };
        let parent = signed.parents.first().cloned().unwrap_or_default();
        match successors.get(&parent) {
            Some(other) if other.commit != one.claim.commit => {
                let text = format!(
                    "the history forks: {} and {} were signed in two commits with the same one before them",
                    other.id, one.claim.id
                );
                note(found, &one.claim, text);
            }
            _ => {
                successors.insert(parent, &one.claim);
            }
        }
    }
}

/// `prev` is a lower number of the same dataset, and nobody else's.
fn before(queue: &[&Signed], found: &mut Vec<Finding>) {
    let known: HashMap<&RequestId, &Claim> = queue.iter().map(|one| (&one.claim.id, &one.claim)).collect();
    let mut followers: HashMap<(&Dataset, Option<&RequestId>), &Claim> = HashMap::new();
    for one in queue {
        let claim = &one.claim;
        if let Some(other) = followers.insert((&claim.dataset, claim.prev.as_ref()), claim) {
            let what = claim.prev.as_ref().map_or_else(|| "the first of this dataset".to_owned(), |prev| format!("the one after {prev}"));
            note(found, claim, format!("the history forks: {} and {} are both signed as {what}", other.id, claim.id));
        }
        if let Some(prev) = claim.prev.as_ref().and_then(|prev| known.get(prev))
            && (prev.dataset != claim.dataset || prev.seq >= claim.seq)
        {
            let text = format!("{} is signed as the one after {}, which is number {} of {}", claim.id, prev.id, prev.seq, prev.dataset);
            note(found, claim, text);
        }
    }
}

/// A dataset's snapshots were accepted in the order in which they were signed.
fn order(queue: &[&Signed], found: &mut Vec<Finding>) {
    let mut last: HashMap<&Dataset, &Signed> = HashMap::new();
    for one in queue {
        if let Some(before) = last.insert(&one.claim.dataset, one)
            && before.offered.order > one.offered.order
            && before.claim.seq < one.claim.seq
        {
            let text = format!(
                "number {} ({}) is listed as accepted after number {} ({}): an older state is offered as a newer one",
                before.claim.seq, before.claim.id, one.claim.seq, one.claim.id
            );
            note(found, &one.claim, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::testing;

    fn id(n: u64) -> RequestId {
        format!("20261120T0315{n:02}Z-3f9a1c7e").parse().unwrap()
    }

    fn one(n: u64, seq: u64, dataset: &str, prev: Option<u64>) -> Signed {
        let claim = Claim { prev: prev.map(id), commit: n.to_string(), ..testing::claim(id(n), dataset, seq) };
        let submitted = claim.submitted;
        let listed = serde_json::json!({
            "client": "web1", "dataset": dataset, "module": "files", "snapshot": id(n), "seq": seq, "submitted": submitted,
            "received": submitted, "order": n, "bytes": 0, "packs": 0,
        });
        Signed { claim, offered: serde_json::from_value(listed).unwrap() }
    }

    fn texts(all: &[Signed]) -> Vec<String> {
        findings(all).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn an_honest_history_with_gaps_says_nothing() {
        let all =
            [one(1, 1, "files:/a", None), one(2, 4, "files:/b", None), one(3, 7, "files:/a", Some(1)), one(5, 9, "files:/b", Some(4))];
        assert_eq!(texts(&all), [""; 0]);
        assert_eq!(gaps(&all), 5);
        assert_eq!((texts(&[]).len(), gaps(&[])), (0, 0));
    }

    #[test]
    fn what_no_honest_history_shows() {
        let first = || one(1, 1, "files:/a", None);
        let cases = [
            ("both signed as number 1", vec![first(), one(2, 1, "files:/b", None)]),
            ("both signed as the first", vec![first(), one(2, 2, "files:/a", None)]),
            ("both signed as the one after", vec![first(), one(2, 2, "files:/a", Some(1)), one(3, 3, "files:/a", Some(1))]),
            ("number 1 of files:/a", vec![first(), one(2, 2, "files:/b", Some(1))]),
            ("number 3 of files:/a", vec![one(3, 3, "files:/a", Some(9)), one(2, 2, "files:/a", Some(3))]),
            ("an older state is offered as a newer one", vec![one(2, 1, "files:/a", None), one(1, 2, "files:/a", Some(2))]),
        ];
        for (expected, all) in cases {
            assert!(texts(&all).iter().any(|text| text.contains(expected)), "{expected}: {:?}", texts(&all));
        }
        let mut lie = first();
        lie.offered.seq = 8;
        assert!(texts(&[lie])[0].contains("listed as number 8"));
    }
}
