//! What is to be done with a mirror's refs when a new list has come: decided here, carried out elsewhere.
//!
//! No I/O. The rule: what a ref pointed at is kept before the ref moves other than forward, or goes away.

use super::packed::Refs;
use super::refs::{Head, RefList};
use base::config::node::Losses;
use base::{Error, Result};
use std::collections::HashSet;

/// What changes: refs in one step, in the order keep, delete, set; then HEAD.
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
    let head = old.tip().zip(new.tip());
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

/// A name below `refs/kept/` that nothing has yet, from the time.
pub(crate) fn label(used: &Refs, time: &str) -> Result<String> {
    let free = |label: &String| {
        let prefix = format!("refs/kept/{label}/").into_bytes();
        used.range(prefix.clone()..).next().is_none_or(|(name, _)| !name.starts_with(&prefix))
    };
    let mut labels = std::iter::once(time.to_owned()).chain((2u32..).map(|n| format!("{time}-{n}")));
    labels.find(free).ok_or_else(|| Error::failed("no name is left to keep refs under"))
}

/// What an administrator is to hear of at once: that what HEAD names does not hold any more what it held, and that more refs
/// went away than `rule` says. A sentence each; nothing of it is lost.
pub(crate) fn losses(old: &RefList, new: &RefList, plan: &Plan, forward: &HashSet<(String, String)>, rule: Losses) -> Vec<String> {
    let mut found = Vec::new();
    // Another name for what still leads to the old tip is none.
    let holds = |from: &String| new.tip().is_some_and(|to| to == from || forward.contains(&(from.clone(), to.clone())));
    if let Some(from) = old.tip().filter(|from| !holds(from)) {
        let name = |head: &Head| match head {
            Head::Branch(name) => format!("the default branch {}", shown(name)),
            Head::Detached(_) | Head::Nowhere => "HEAD".to_owned(),
        };
        let was = name(&old.head);
        found.push(match (&old.head, new.tip()) {
            (_, Some(to)) if old.head == new.head || matches!(old.head, Head::Detached(_)) => {
                format!("{was} was rewritten, {}..{}; the old one is kept", short(from), short(to))
            }
            (Head::Branch(branch), _) if !new.refs.contains_key(branch) => format!("{was} {} is gone; it is kept", short(from)),
            (_, Some(to)) => format!("HEAD names {} now, which does not hold what {was} {} held", short(to), short(from)),
            (_, None) => format!("HEAD names nothing any more; it named {was} {}", short(from)),
        });
    }
    let (gone, all) = (plan.delete.len(), old.refs.len());
    let share = gone as f64 * 100.0 > all as f64 * rule.percent;
    if share && gone >= rule.refs as usize {
        found.push(format!("{gone} of {all} refs went away at once; they are kept"));
    }
    found
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
    fn what_is_told_at_once() {
        let list = |text: &str| {
            let ids = [("1", id(1)), ("2", id(2)), ("3", id(3))];
            let mut refs: Vec<(&str, &str)> = text.split(' ').skip(1).map(|word| word.split_once('=').unwrap()).collect();
            refs.sort_unstable();
            let line = |(name, n): &(&str, &str)| format!("{} refs/heads/{name}\n", ids.iter().find(|(key, _)| key == n).unwrap().1);
            let lines: Vec<String> = refs.iter().map(line).collect();
            let head = match text.split(' ').next().unwrap() {
                "-" => "-".to_owned(),
                n if n.len() == 1 && n.parse::<usize>().is_ok() => id(n.parse().unwrap()),
                name => format!("refs/heads/{name}"),
            };
            RefList::parse(format!("HEAD {head}\n{}", lines.concat()).as_bytes()).unwrap()
        };
        // From 1 to 2 it goes forward.
        let told = |old: &str, new: &str, rule: Losses| {
            let (old, new) = (list(old), list(new));
            let forward = moves(&old, &new).into_iter().filter(|pair| *pair == (id(1), id(2))).collect();
            losses(&old, &new, &plan(&old, &new, &forward, "T"), &forward, rule).join("; ")
        };
        for (old, new, words) in [
            ("main main=1", "main main=2", ""),
            ("main main=1", "main main=1 x=3", ""),
            ("-", "main main=1", ""),
            ("main main=1 x=3", "main main=2 x=1", ""),
            ("main main=1", "main main=3", "the default branch refs/heads/main was rewritten, 0000000000..0000000000; the old one is kept"),
            ("main main=1 x=3", "x x=3", "the default branch refs/heads/main 0000000000 is gone; it is kept"),
            ("main main=1", "-", "the default branch refs/heads/main 0000000000 is gone; it is kept"),
            // Renamed, also with something new.
            ("master master=1", "main main=1", ""),
            ("master master=1", "main main=2", ""),
            ("main main=1 x=2", "x main=1 x=2", ""),
            // Out of sight first, to be rewritten then.
            (
                "main main=1 x=3",
                "x main=1 x=3",
                "HEAD names 0000000000 now, which does not hold what the default branch refs/heads/main 0000000000 held",
            ),
            ("main main=1", "- main=1", "HEAD names nothing any more; it named the default branch refs/heads/main 0000000000"),
            ("1 a=1", "3 a=1", "HEAD was rewritten, 0000000000..0000000000; the old one is kept"),
            ("1 a=1", "2 a=1", ""),
        ] {
            assert_eq!(told(old, new, Losses::default()), words, "{old} to {new}");
        }
        let rule = Losses { percent: 50.0, refs: 2 };
        for (new, words) in [("m m=1 b=1", ""), ("m m=1", "3 of 4 refs went away at once; they are kept"), ("m m=1 a=1 b=1 c=1", "")] {
            assert_eq!(told("m m=1 a=1 b=1 c=1", new, rule), words, "{new}");
        }
        assert_eq!(told("m m=1 a=1", "m m=1", Losses { percent: 0.0, refs: 2 }), "");
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
