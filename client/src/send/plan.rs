//! Decisions of the sender, as pure functions: what is pushed together, and what follows from a refusal.
//!
//! Touches no file and no node.

/// The most that one push carries, in bytes of files; the node refuses 8 MiB.
pub const PUSH_LIMIT: u64 = 4 << 20;

/// What a commit adds to a push beside its files.
const COMMIT_COST: u64 = 1024;

/// One commit that the node does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// The commit's id.
    pub oid: String,
    /// Bytes of its files.
    pub size: u64,
}

/// The commits to push one after another so that each push stays within `limit`. `commits` are in order, the oldest
/// first; a commit that is larger by itself goes alone.
pub fn batches(commits: &[Unsent], limit: u64) -> Vec<&str> {
    let mut tips = Vec::new();
    let mut size = 0u64;
    for (i, commit) in commits.iter().enumerate() {
        size = size.saturating_add(commit.size).saturating_add(COMMIT_COST);
        let next = commits.get(i + 1).map_or(u64::MAX, |next| size.saturating_add(next.size).saturating_add(COMMIT_COST));
        if next > limit {
            tips.push(commit.oid.as_str());
            size = 0;
        }
    }
    tips
}

/// Where the node's copy of our queue stands, as it says itself after it has refused a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeTip<'a> {
    /// It has nothing.
    Nothing,
    /// It is at this commit.
    At(&'a str),
}

/// What to do after a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterRefusal {
    /// The node has this much: go on from there. The answer to an earlier push was lost, or the node lost the end.
    GoOnFrom(Option<String>),
    /// Its history is not ours: fetch it, and build what it does not have anew on top of it.
    Adopt(String),
    /// Build what was not accepted anew (our key may have changed), and push one request at a time.
    Rebuild,
    /// The oldest request is refused by itself: it has failed, the others go on.
    FailFirst,
}

/// Decides what follows from a refused push.
///
/// `accepted` is where we believed the node to be; `ours` says whether a commit is in our queue; `alone` says whether
/// what was refused was a single commit that has been built anew already.
pub fn after_refusal(accepted: Option<&str>, node: NodeTip<'_>, ours: &dyn Fn(&str) -> bool, alone: bool) -> AfterRefusal {
    match node {
        NodeTip::At(tip) if Some(tip) != accepted && ours(tip) => AfterRefusal::GoOnFrom(Some(tip.to_owned())),
        NodeTip::At(tip) if Some(tip) != accepted => AfterRefusal::Adopt(tip.to_owned()),
        NodeTip::Nothing if accepted.is_some() => AfterRefusal::GoOnFrom(None),
        _ if alone => AfterRefusal::FailFirst,
        _ => AfterRefusal::Rebuild,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn commits(sizes: &[u64]) -> Vec<Unsent> {
        sizes.iter().enumerate().map(|(i, size)| Unsent { oid: i.to_string(), size: *size }).collect()
    }

    #[test]
    fn pushes_stay_within_the_limit() {
        assert!(batches(&[], 100).is_empty());
        assert_eq!(batches(&commits(&[1, 1, 1]), 1 << 20), ["2"]);
        assert_eq!(batches(&commits(&[9000, 9000, 9000]), 20_480), ["1", "2"]);
        assert_eq!(batches(&commits(&[50_000, 1, 50_000]), 10_000), ["0", "1", "2"]);
    }

    proptest! {
        #[test]
        fn every_commit_is_pushed_once_and_in_order(sizes in prop::collection::vec(0u64..5000, 0..60), limit in 1u64..40_000) {
            let all = commits(&sizes);
            let tips: Vec<usize> = batches(&all, limit).iter().map(|tip| tip.parse().unwrap()).collect();
            prop_assert!(tips.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(tips.last().copied(), all.len().checked_sub(1));
            let mut from = 0;
            for tip in tips {
                let cost: u64 = all[from..=tip].iter().map(|commit| commit.size + COMMIT_COST).sum();
                prop_assert!(cost <= limit || tip == from);
                from = tip + 1;
            }
        }
    }

    #[test]
    fn refusals() {
        let ours = |oid: &str| oid.starts_with('a');
        let at = NodeTip::At;
        let cases = [
            (Some("a1"), at("a2"), false, AfterRefusal::GoOnFrom(Some("a2".into()))),
            (Some("a2"), at("a1"), true, AfterRefusal::GoOnFrom(Some("a1".into()))),
            (None, at("a2"), false, AfterRefusal::GoOnFrom(Some("a2".into()))),
            (Some("a2"), NodeTip::Nothing, false, AfterRefusal::GoOnFrom(None)),
            (None, at("b1"), false, AfterRefusal::Adopt("b1".into())),
            (Some("a1"), at("b1"), true, AfterRefusal::Adopt("b1".into())),
            (Some("a1"), at("a1"), false, AfterRefusal::Rebuild),
            (None, NodeTip::Nothing, false, AfterRefusal::Rebuild),
            (Some("a1"), at("a1"), true, AfterRefusal::FailFirst),
            (None, NodeTip::Nothing, true, AfterRefusal::FailFirst),
        ];
        for (accepted, node, alone, expected) in cases {
            assert_eq!(after_refusal(accepted, node, &ours, alone), expected, "{accepted:?} {node:?} {alone}");
        }
    }
}
