//! What is to be done with a mirror's refs when a new list has come: decided here, carried out elsewhere.
//!
//! No I/O. The rule: what a ref pointed at is kept before the ref moves other than forward, or goes away.

use super::refs::{Head, RefList};
use std::collections::HashSet;

/// What changes, in the order in which it must be done: keep, delete, set, then HEAD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// New refs below `refs/kept/` and the ids that they keep.
    pub keep: Vec<(Vec<u8>, String)>,
    /// Refs that go away, and their ids. They go first: `a` must be gone before `a/b` can come.
    pub delete: Vec<(Vec<u8>, String)>,
    /// Refs, what they were, and what they become.
    pub set: Vec<(Vec<u8>, Option<String>, String)>,
    /// Where HEAD goes, if it moves.
    pub head: Option<Head>,
    /// The same in words, a line a ref.
    pub changed: Vec<String>,
}

/// Pairs of old and new ids of which it must be known whether the old one is an ancestor of the new one.
pub(crate) fn moves(old: &RefList, new: &RefList) -> Vec<(String, String)> {
    let refs = old.refs.iter().filter_map(|(name, from)| new.refs.get(name).map(|to| (from, to)));
    let head = match (&old.head, &new.head) {
        (Head::Detached(from), Head::Detached(to)) => Some((from, to)),
        _ => None,
    };
    let pairs: HashSet<_> = refs.chain(head).filter(|(from, to)| from != to).collect();
    pairs.into_iter().map(|(from, to)| (from.clone(), to.clone())).collect()
}

/// The plan that makes `old` into `new`. `forward` holds those of [`moves`] that go forward; `label` names a part of
/// `refs/kept/` that is still empty.
pub(crate) fn plan(old: &RefList, new: &RefList, forward: &HashSet<(String, String)>, label: &str) -> Plan {
    let mut plan = Plan::default();
    let is_forward = |from: &String, to: &String| forward.contains(&(from.clone(), to.clone()));
    for (name, from) in &old.refs {
        match new.refs.get(name) {
            Some(to) if to == from => {}
            Some(to) => {
                let word = if is_forward(from, to) { "" } else { " (not forward; the old one is kept)" };
                plan.changed.push(format!("{} {}..{}{word}", shown(name), short(from), short(to)));
                if !is_forward(from, to) {
                    plan.keep.push((kept(label, name), from.clone()));
                }
                plan.set.push((name.clone(), Some(from.clone()), to.clone()));
            }
            None => {
                plan.changed.push(format!("{} {} is gone (it is kept)", shown(name), short(from)));
                plan.keep.push((kept(label, name), from.clone()));
                plan.delete.push((name.clone(), from.clone()));
            }
        }
    }
    for (name, to) in new.refs.iter().filter(|(name, _)| !old.refs.contains_key(*name)) {
        plan.changed.push(format!("{} {} is new", shown(name), short(to)));
        plan.set.push((name.clone(), None, to.clone()));
    }
    if old.head != new.head {
        if let Head::Detached(from) = &old.head
            && !matches!(&new.head, Head::Detached(to) if is_forward(from, to))
        {
            plan.keep.push((format!("refs/kept/{label}/HEAD").into_bytes(), from.clone()));
        }
        plan.head = Some(new.head.clone());
    }
    plan
}

/// For a list that is older than what the mirror shows: nothing moves, and what it names is kept.
pub(crate) fn plan_aside(old: &RefList, new: &RefList, label: &str) -> Plan {
    let tips: HashSet<&str> = old.ids().into_iter().collect();
    let head = if let Head::Detached(id) = &new.head { Some((b"HEAD".to_vec(), id)) } else { None };
    let keep = new.refs.iter().map(|(name, id)| (name.clone(), id)).chain(head);
    Plan {
        keep: keep.filter(|(_, id)| !tips.contains(id.as_str())).map(|(name, id)| (kept(label, &name), id.clone())).collect(),
        ..Plan::default()
    }
}

fn kept(label: &str, name: &[u8]) -> Vec<u8> {
    [b"refs/kept/", label.as_bytes(), b"/", name.strip_prefix(b"refs/").unwrap_or(name)].concat()
}

fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

/// A name as a line of a receipt can hold it.
fn shown(name: &[u8]) -> String {
    base::text::printable(&String::from_utf8_lossy(name)).chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Commit `n` of a history in which each commit has parents among those before it.
    fn id(n: usize) -> String {
        format!("{n:040x}")
    }

    fn reachable(history: &[Vec<usize>], tips: impl Iterator<Item = usize>) -> BTreeSet<usize> {
        let mut all = BTreeSet::new();
        let mut todo: Vec<usize> = tips.collect();
        while let Some(commit) = todo.pop() {
            if all.insert(commit) {
                todo.extend(&history[commit]);
            }
        }
        all
    }

    fn number(id: &str) -> usize {
        usize::from_str_radix(id, 16).unwrap()
    }

    fn list(names: &BTreeMap<String, usize>, head: usize, size: usize) -> RefList {
        let mut refs: BTreeMap<Vec<u8>, String> = BTreeMap::new();
        for (name, commit) in names {
            let name = format!("refs/heads/{name}").into_bytes();
            let nested = refs
                .keys()
                .any(|other| name.starts_with(&[other.as_slice(), b"/"].concat()) || other.starts_with(&[name.as_slice(), b"/"].concat()));
            if !nested {
                refs.insert(name, id(commit % size));
            }
        }
        let head = match (head % 3, refs.keys().next()) {
            (0, Some(name)) => Head::Branch(name.clone()),
            (1, _) => Head::Detached(id(head % size)),
            _ => Head::Nowhere,
        };
        RefList { head, description: None, left_out: 0, refs }
    }

    fn heads(head: &Head) -> Option<usize> {
        if let Head::Detached(id) = head { Some(number(id)) } else { None }
    }

    proptest! {
        #[test]
        fn nothing_that_was_reachable_gets_lost(
            parents in proptest::collection::vec(proptest::collection::vec(0usize..100, 0..3), 1..20),
            states in proptest::collection::vec((proptest::collection::btree_map("[ab](/[ab])?", 0usize..100, 0..5), 0usize..99), 2..6),
        ) {
            let history: Vec<Vec<usize>> = parents.iter().enumerate().map(|(n, from)| if n == 0 { vec![] } else { from.iter().map(|p| p % n).collect() }).collect();
            let mut now = RefList { head: Head::Nowhere, description: None, left_out: 0, refs: BTreeMap::new() };
            let mut kept: BTreeMap<Vec<u8>, String> = BTreeMap::new();
            let mut seen = BTreeSet::new();
            for (turn, (names, head)) in states.iter().enumerate() {
                let next = list(names, *head, history.len());
                let forward = moves(&now, &next).into_iter().filter(|(from, to)| reachable(&history, [number(to)].into_iter()).contains(&number(from))).collect();
                let aside = turn % 4 == 3;
                let plan = if aside { plan_aside(&now, &next, &turn.to_string()) } else { plan(&now, &next, &forward, &turn.to_string()) };
                for (name, id) in &plan.keep {
                    prop_assert!(kept.insert(name.clone(), id.clone()).is_none());
                }
                for (name, from) in &plan.delete {
                    let gone = now.refs.remove(name);
                    prop_assert_eq!(gone.as_ref(), Some(from));
                }
                for (name, from, to) in &plan.set {
                    let was = now.refs.insert(name.clone(), to.clone());
                    prop_assert_eq!(&was, from);
                    prop_assert!(now.nested().is_none(), "set in an order that git would not take");
                }
                if let Some(head) = &plan.head {
                    now.head = head.clone();
                }
                if !aside {
                    prop_assert_eq!(&now, &next);
                }
                // All that any list ever named.
                seen.extend(reachable(&history, next.ids().into_iter().map(number)));
                let tips = now.refs.values().chain(kept.values()).map(|id| number(id)).chain(heads(&now.head));
                let there = reachable(&history, tips);
                prop_assert!(seen.is_subset(&there), "{:?} lost", seen.difference(&there).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn in_words() {
        let old = RefList::parse(format!("HEAD -\n{} refs/heads/a\n{} refs/heads/b\n", id(1), id(2)).as_bytes()).unwrap();
        let new = RefList::parse(format!("HEAD refs/heads/b\n{} refs/heads/a/x\n{} refs/heads/b\n", id(1), id(3)).as_bytes()).unwrap();
        let plan = plan(&old, &new, &HashSet::from([(id(2), id(3))]), "T");
        assert_eq!(plan.keep, [(b"refs/kept/T/heads/a".to_vec(), id(1))]);
        assert_eq!(
            plan.changed,
            ["refs/heads/a 0000000000 is gone (it is kept)", "refs/heads/b 0000000000..0000000000", "refs/heads/a/x 0000000000 is new"]
        );
        assert_eq!(plan.head, Some(Head::Branch(b"refs/heads/b".to_vec())));
    }
}
