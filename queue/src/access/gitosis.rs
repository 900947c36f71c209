//! Reads what gitosis went by: `gitosis.conf` in the form of Python's ConfigParser. Who may read and write which repositories
//! follows from groups, which may hold groups.
//!
//! Opens no files and knows nothing of what becomes of it here.

use base::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// The largest such file that is read.
pub const LIMIT: usize = 4 << 20;
/// The repository by which gitosis itself was changed.
const ADMIN: &str = "gitosis-admin";

/// What a member of gitosis may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Repositories that may be pushed to, as they lie on the disk, without `.git`.
    pub writes: BTreeSet<String>,
    /// Repositories that may be fetched from; those of `writes` may be as well.
    pub reads: BTreeSet<String>,
    /// Whether gitosis itself may be changed.
    pub is_admin: bool,
}

/// What a `gitosis.conf` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gitosis {
    /// Every member that a group names.
    pub members: BTreeMap<String, Member>,
    /// Every repository that a group names, as it lies on the disk.
    pub repositories: BTreeSet<String>,
    /// What was left out, a sentence each.
    pub left_out: Vec<String>,
}

#[derive(Debug, Default)]
struct Group {
    members: Vec<String>,
    writes: Vec<String>,
    reads: Vec<String>,
}

impl Gitosis {
    /// Reads the file's text.
    ///
    /// # Errors
    /// Of kind usage, with the line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut left_out = Vec::new();
        for (line, section, name, value) in settings(text)? {
            let Some(group) = section.strip_prefix("group ").map(str::trim) else {
                if !(section == "gitosis" || section.starts_with("repo ") || section.starts_with("user ")) {
                    left_out.push(format!("line {line}: the section [{section}] is none of gitosis'"));
                }
                continue;
            };
            let group = groups.entry(group.to_owned()).or_default();
            let words = value.split_whitespace().map(str::to_owned);
            match name.split_whitespace().collect::<Vec<_>>()[..] {
                ["members"] => group.members.extend(words),
                ["writable" | "writeable"] => group.writes.extend(words),
                ["readonly"] => group.reads.extend(words),
                // The name that people used stands in front, what it is on the disk behind.
                ["map", "writable" | "writeable", _] => group.writes.extend(words),
                ["map", "readonly", _] => group.reads.extend(words),
                _ => left_out.push(format!("line {line}: {name} in [{section}] has no counterpart here")),
            }
        }
        let mut found = Self { left_out, ..Self::default() };
        for group in groups.values() {
            for repository in group.writes.iter().chain(&group.reads) {
                check(repository)?;
                if repository != ADMIN {
                    found.repositories.insert(plain(repository));
                }
            }
            for member in group.members.iter().filter(|member| !member.starts_with('@')) {
                found.members.entry(member.clone()).or_default();
            }
        }
        let names: Vec<String> = found.members.keys().cloned().collect();
        for name in names {
            let of: Vec<&Group> = groups_of(&groups, &name).into_iter().filter_map(|group| groups.get(group)).collect();
            let repositories = |list: fn(&Group) -> &Vec<String>| {
                of.iter()
                    .flat_map(|group| list(group))
                    .filter(|repository| *repository != ADMIN)
                    .map(|repository| plain(repository))
                    .collect()
            };
            let is_admin = of.iter().any(|group| group.writes.iter().any(|repository| repository == ADMIN));
            let member = Member { writes: repositories(|group| &group.writes), reads: repositories(|group| &group.reads), is_admin };
            found.members.insert(name, member);
        }
        Ok(found)
    }
}

/// The groups that a member is in, also by other groups; gitosis' `@all` is everybody.
fn groups_of<'a>(groups: &'a BTreeMap<String, Group>, member: &str) -> BTreeSet<&'a str> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    loop {
        let is_in = |group: &Group| {
            group
                .members
                .iter()
                .any(|one| one == member || one == "@all" || one.strip_prefix('@').is_some_and(|inner| found.contains(inner)))
        };
        let more: Vec<&str> =
            groups.iter().filter(|(name, group)| !found.contains(name.as_str()) && is_in(group)).map(|(name, _)| name.as_str()).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Without the ending, which gitosis took either way.
fn plain(repository: &str) -> String {
    repository.strip_suffix(".git").unwrap_or(repository).to_owned()
}

/// A name becomes a path; gitosis refused what leads elsewhere when it was asked for, and nothing like that is meant.
fn check(repository: &str) -> Result<()> {
    let good = !repository.starts_with('/')
        && repository.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !repository.chars().any(|c| c.is_control() || c == '*');
    if good { Ok(()) } else { Err(Error::usage(format!("gitosis.conf names the repository {repository:?}, which cannot be one"))) }
}

/// A line, a section, a name and a value.
type Setting = (usize, String, String, String);

/// Every setting: its line, section, name in small letters, and value, with continued lines put together.
fn settings(text: &str) -> Result<Vec<Setting>> {
    let wrong = |line: usize, what: &str| Error::usage(format!("gitosis.conf, line {line}: {what}"));
    let (mut found, mut section, mut goes_on): (Vec<Setting>, Option<String>, bool) = (Vec::new(), None, false);
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        if line.trim().is_empty() || line.starts_with(['#', ';']) {
            goes_on &= !line.trim().is_empty();
            continue;
        }
        if line.starts_with(char::is_whitespace) && goes_on {
            if let Some((.., value)) = found.last_mut().filter(|_| !line.trim_start().starts_with(['#', ';'])) {
                value.push(' ');
                value.push_str(line.split(" ;").next().unwrap_or(line).trim());
            }
            continue;
        }
        let line = line.trim();
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split(']').next().filter(|_| rest.contains(']')).ok_or_else(|| wrong(number, "the section has no end"))?;
            section = Some(name.trim().to_owned());
            goes_on = false;
            continue;
        }
        let (name, value) = line.split_once(['=', ':']).ok_or_else(|| wrong(number, "this is neither a section nor NAME = VALUE"))?;
        let section = section.clone().ok_or_else(|| wrong(number, "this stands in no section"))?;
        // A comment behind a value begins with white space and a semicolon.
        let value = value.split(" ;").next().unwrap_or(value).trim().to_owned();
        found.push((number, section, name.trim().to_lowercase(), value));
        goes_on = true;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "# of 2009
[gitosis]
gitweb = no

[group gitosis-admin]
writable = gitosis-admin
members = alice@desk

[group staff]
members = alice@desk
  bob ; who else
[group shop]
Members: @staff web1
writable = shop shop-data.git
readonly = docs
map writable tools = staff/tools

[group everybody]
members = @all
readonly = welcome

[group ring]
members = @ring @staff
readonly = ring
[repo shop]
description = The shop
[other]
x = 1
";

    #[test]
    fn members_get_what_their_groups_have() {
        let read = Gitosis::parse(SAMPLE).unwrap();
        let set = |words: &str| words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(read.repositories, set("docs ring shop shop-data staff/tools welcome"));
        let member = |name: &str| &read.members[name];
        assert_eq!(read.members.keys().map(String::as_str).collect::<Vec<_>>(), ["alice@desk", "bob", "web1"]);
        assert_eq!(
            (&member("alice@desk").writes, &member("alice@desk").reads),
            (&set("shop shop-data staff/tools"), &set("docs ring welcome"))
        );
        assert_eq!((&member("web1").writes, &member("web1").reads), (&set("shop shop-data staff/tools"), &set("docs welcome")));
        assert!(member("alice@desk").is_admin && !member("bob").is_admin);
        assert_eq!(read.left_out, ["line 28: the section [other] is none of gitosis'"]);
    }

    #[test]
    fn what_is_wrong_names_its_line() {
        for (text, words) in [
            ("members = a\n", "line 1: this stands in no section"),
            ("[group a]\nmembers\n", "line 2: this is neither"),
            ("[group a\n", "line 1: the section has no end"),
            ("[group a]\nwritable = ../etc\n", "\"../etc\""),
            ("[group a]\nreadonly = /etc\n", "\"/etc\""),
            ("[group a]\nreadonly = a//b\n", "a//b"),
            ("[group a]\nreadonly = *\n", "\"*\""),
        ] {
            assert!(Gitosis::parse(text).unwrap_err().one_line().contains(words), "{text}");
        }
        assert_eq!(Gitosis::parse("").unwrap(), Gitosis::default());
    }
}
