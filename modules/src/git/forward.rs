//! Whether refs moved forward: for many pairs of commits at once, whether the first is an ancestor of the second.
//!
//! One walk of git's answers thousands of pairs. "Forward" is only said where parents were followed from the one to the other.

use super::mirror::{feeding, git};
use base::{Result, process};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// A commit's id, 40 hex digits.
type Id = [u8; 40];

/// How many pairs one walk is for.
const TOGETHER: usize = 4096;
/// So many walks keep to what lies between the pairs; what they leave open gets one over all of the history.
const NARROW: usize = 8;
/// The most memory for what is still ahead of a walk. Only a graph that was made for it needs more; what is open then is said
/// not to go forward, and is kept.
const AHEAD: usize = 64 << 20;
/// The longest line of git's: a commit with its parents.
const LINE: u64 = 64 << 20;

/// Which of `pairs`, all of them of commits in the repository at `path`, go from an ancestor to a descendant. Where clocks of
/// committers went wrong, a pair may be missing.
///
/// # Errors
/// When git fails, or takes longer than `time`.
pub(super) fn forward(path: &Path, pairs: &[(String, String)], time: Duration) -> Result<Vec<bool>> {
    let id = |text: &String| Id::try_from(text.as_bytes()).map_err(|_| base::Error::failed(format!("{text} is no commit's id")));
    let pairs = pairs.iter().map(|(from, to)| Ok((id(from)?, id(to)?))).collect::<Result<Vec<_>>>()?;
    let mut all = Vec::with_capacity(pairs.len());
    for some in pairs.chunks(TOGETHER) {
        all.extend(decide(some, |walk, input| run(path, walk, input, time))?);
    }
    Ok(all)
}

/// Has `run` walk until every pair is decided.
///
/// An ancestor is looked for between the seconds and the firsts: what comes before any of the firsts is left out. That hides
/// a first that is an ancestor of another one, which is then looked for again without the others.
fn decide(pairs: &[(Id, Id)], mut run: impl FnMut(Walk, Vec<u8>) -> Result<Walk>) -> Result<Vec<bool>> {
    let mut forward = vec![false; pairs.len()];
    let mut open: Vec<usize> = (0..pairs.len()).collect();
    for round in 0..=NARROW {
        if open.is_empty() {
            break;
        }
        let mut input = Vec::new();
        for (from, to) in open.iter().map(|n| &pairs[*n]) {
            for line in [&to[..], b"\n", from, b"\n"] {
                input.extend_from_slice(line);
            }
            if round < NARROW {
                input.extend([b"^", &from[..], b"^@\n"].concat());
            }
        }
        let walk = run(Walk::new(pairs, &open), input)?;
        open = walk.wanted.into_values().flatten().collect();
        for n in walk.forward {
            forward[n] = true;
        }
    }
    Ok(forward)
}

/// Has git list commits with their parents, no commit before one that has it as a parent.
fn run(path: &Path, walk: Walk, input: Vec<u8>, time: Duration) -> Result<Walk> {
    let list = git(path, &["rev-list", "--topo-order", "--parents", "--stdin"]);
    let (status, (walk, whole), stderr) = feeding(list, input, |list| process::run_reading(list, time, |_| (), |from| walk.read(from)))?;
    if whole && !status.success() {
        return Err(process::failure("git rev-list", &Output { status, stdout: Vec::new(), stderr }));
    }
    Ok(walk)
}

/// A walk from children to parents that carries along which seconds lead to each commit.
struct Walk {
    /// The firsts that were not come by yet, and their pairs.
    wanted: HashMap<Id, Vec<usize>>,
    /// Commits that come later, and the pairs whose seconds lead to them, a bit each.
    ahead: HashMap<Id, Box<[u64]>>,
    /// The pairs that go forward.
    forward: Vec<usize>,
    /// How many commits may be ahead.
    most: usize,
}

impl Walk {
    fn new(pairs: &[(Id, Id)], open: &[usize]) -> Self {
        let words = pairs.len().div_ceil(64);
        let mut walk = Self { wanted: HashMap::new(), ahead: HashMap::new(), forward: Vec::new(), most: AHEAD / (8 * words.max(1)) };
        for n in open {
            let (from, to) = pairs[*n];
            walk.wanted.entry(from).or_default().push(*n);
            walk.ahead.entry(to).or_insert_with(|| vec![0; words].into())[n / 64] |= 1u64 << (n % 64);
        }
        walk
    }

    /// Comes by a commit after all of its children.
    fn step(&mut self, commit: &Id, parents: &[Id]) {
        let seen = self.ahead.remove(commit);
        if let Some(pairs) = self.wanted.remove(commit) {
            self.forward.extend(pairs.into_iter().filter(|n| seen.as_ref().is_some_and(|seen| seen[n / 64] >> (n % 64) & 1 == 1)));
        }
        let Some(seen) = seen else { return };
        for parent in parents {
            match self.ahead.entry(*parent) {
                Entry::Vacant(place) => {
                    place.insert(seen.clone());
                }
                Entry::Occupied(mut known) => known.get_mut().iter_mut().zip(seen.iter()).for_each(|(known, seen)| *known |= seen),
            }
        }
    }

    /// Reads lines of git's until all is decided; `true` when they were read to the end.
    fn read(mut self, from: impl Read) -> io::Result<(Self, bool)> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "git did not list commits as it should");
        let mut from = BufReader::with_capacity(1 << 16, from);
        let (mut line, mut ids) = (Vec::new(), Vec::new());
        while !self.wanted.is_empty() {
            if self.ahead.len() > self.most {
                return Ok((Self { wanted: HashMap::new(), ..self }, false));
            }
            line.clear();
            ids.clear();
            if (&mut from).take(LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok((self, true));
            }
            let text = line.strip_suffix(b"\n").ok_or_else(wrong)?;
            for id in text.split(|b| *b == b' ') {
                ids.push(Id::try_from(id).map_err(|_| wrong())?);
            }
            let (commit, parents) = ids.split_first().ok_or_else(wrong)?;
            self.step(commit, parents);
        }
        Ok((self, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn id(n: usize) -> Id {
        format!("{n:040x}").into_bytes().try_into().unwrap()
    }

    fn number(id: &[u8]) -> usize {
        usize::from_str_radix(std::str::from_utf8(id).unwrap(), 16).unwrap()
    }

    fn reachable(history: &[Vec<usize>], tips: impl IntoIterator<Item = usize>) -> HashSet<usize> {
        let mut all = HashSet::new();
        let mut todo: Vec<usize> = tips.into_iter().collect();
        while let Some(commit) = todo.pop() {
            if all.insert(commit) {
                todo.extend(&history[commit]);
            }
        }
        all
    }

    /// What git lists for `input`.
    fn listed(history: &[Vec<usize>], input: &[u8]) -> Vec<u8> {
        let (mut tips, mut without) = (Vec::new(), Vec::new());
        for line in input.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            match line.strip_prefix(b"^").and_then(|line| line.strip_suffix(b"^@")) {
                Some(commit) => without.extend(&history[number(commit)]),
                None => tips.push(number(line)),
            }
        }
        let without = reachable(history, without);
        let mut all: Vec<usize> = reachable(history, tips).into_iter().filter(|commit| !without.contains(commit)).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let line = |commit: usize| [commit].iter().chain(&history[commit]).map(|n| id(*n).to_vec()).collect::<Vec<_>>().join(&b' ');
        all.into_iter().flat_map(|commit| [line(commit), b"\n".to_vec()].concat()).collect()
    }

    proptest! {
        #[test]
        fn as_if_each_pair_were_looked_at_alone(
            parents in proptest::collection::vec(proptest::collection::vec(0usize..100, 0..3), 1..40),
            pairs in proptest::collection::vec((0usize..100, 0usize..100), 0..150),
        ) {
            let history: Vec<Vec<usize>> = parents.iter().enumerate().map(|(n, from)| if n == 0 { vec![] } else { from.iter().map(|p| p % n).collect() }).collect();
            let pairs: Vec<_> = pairs.into_iter().map(|(from, to)| (from % history.len(), to % history.len())).collect();
            let ids: Vec<_> = pairs.iter().map(|(from, to)| (id(*from), id(*to))).collect();
            let found = decide(&ids, |walk, input| Ok(walk.read(listed(&history, &input).as_slice()).unwrap().0)).unwrap();
            for ((from, to), found) in pairs.iter().zip(found) {
                prop_assert_eq!(found, reachable(&history, [*to]).contains(from), "{} to {}", from, to);
            }
        }
    }

    #[test]
    fn git_lists_what_is_read_here() {
        let folder = tempfile::tempdir().unwrap();
        let time = Duration::from_secs(60);
        // A line of twenty commits, each of them a branch's; a merge; another line.
        let mut command = process::command("sh");
        let script = "git init -q --bare r; cd r; t=$(git mktree </dev/null); c() { git commit-tree -m \"$@\" $t; }
            export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
            p=$(c 0); echo $p; for n in $(seq 19); do p=$(c $n -p $p); echo $p; done; o=$(c other); echo $o; c merge -p $p -p $o; c after -p $o";
        command.args(["-euc", script]).current_dir(folder.path()).env("HOME", folder.path());
        let said = String::from_utf8(process::run_ok(command, 1 << 16, time).unwrap()).unwrap();
        let ids: Vec<&str> = said.lines().collect();
        let to = |n: usize| (0..23).map(move |from| (from, n));
        let pairs: Vec<(usize, usize)> = (0..19).map(|n| (n, n + 1)).chain(to(19)).chain(to(21)).chain(to(22)).chain(to(0)).collect();
        let named: Vec<_> = pairs.iter().map(|(from, to)| (ids[*from].to_owned(), ids[*to].to_owned())).collect();
        let found = forward(&folder.path().join("r"), &named, time).unwrap();
        for ((from, to), found) in pairs.into_iter().zip(found) {
            let truth = match to {
                21 => from <= 21,
                22 => from == 20 || from == 22,
                line => from <= line,
            };
            assert_eq!(found, truth, "{from} to {to}");
        }
        let absent = ("1".repeat(40), "2".repeat(40));
        assert!(forward(&folder.path().join("r"), &[absent], time).is_err());
    }
}
