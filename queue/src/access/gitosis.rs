//! Reads what gitosis went by: `gitosis.conf` in the form of Python's ConfigParser. Who may read and write which repositories
//! follows from groups, which may hold groups.
//!
//! Opens no files and knows nothing of what becomes of it here.

use base::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

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
        for ((section, name), (line, value)) in settings(text)? {
            let Some(group) = section.strip_prefix("group ").map(str::trim) else {
                if !(section == "gitosis" || section.starts_with("repo ") || section.starts_with("user ")) {
                    left_out.push((line, format!("the section [{section}] is none of gitosis'")));
                }
                continue;
            };
            let group = groups.entry(group.to_owned()).or_default();
            let mut repositories = || -> Vec<String> {
                let (dead, listed): (Vec<_>, Vec<_>) = value.split_whitespace().map(str::to_owned).partition(|word| never_asked_for(word));
                left_out.extend(dead.into_iter().map(|word| (line, format!("{word} in [{section}] never matched: {UNASKED}"))));
                listed
            };
            match name.split_whitespace().collect::<Vec<_>>()[..] {
                ["members"] => group.members.extend(value.split_whitespace().map(str::to_owned)),
                ["writable" | "writeable"] => group.writes.extend(repositories()),
                ["readonly"] => group.reads.extend(repositories()),
                ["map", _, asked] if never_asked_for(asked) => {
                    left_out.push((line, format!("{name} in [{section}] never matched: {UNASKED}")));
                }
                // The name that people used stands in front, what it is on the disk behind, whatever that ends in.
                ["map", "writable" | "writeable", _] => group.writes.extend(Some(value).filter(|value| !value.is_empty())),
                ["map", "readonly", _] => group.reads.extend(Some(value).filter(|value| !value.is_empty())),
                _ => left_out.push((line, format!("{name} in [{section}] has no counterpart here"))),
            }
        }
        left_out.sort();
        let left_out = left_out.into_iter().map(|(line, words)| format!("line {line}: {words}")).collect();
        let mut found = Self { left_out, ..Self::default() };
        for group in groups.values() {
            for repository in group.writes.iter().chain(&group.reads) {
                check(repository)?;
                if repository != ADMIN {
                    found.repositories.insert(repository.clone());
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
                of.iter().flat_map(|group| list(group)).filter(|repository| *repository != ADMIN).cloned().collect()
            };
            let is_admin = of.iter().any(|group| group.writes.iter().any(|repository| repository == ADMIN));
            let member = Member { writes: repositories(|group| &group.writes), reads: repositories(|group| &group.reads), is_admin };
            found.members.insert(name, member);
        }
        Ok(found)
    }
}

/// The groups that a member is in, also by other groups; gitosis' `@all` is everybody. Everybody has what the group `all` may, and
/// is by that in no other.
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
            found.insert("all");
            return found;
        }
        found.extend(more);
    }
}

/// Why a name that ends so was never found.
const UNASKED: &str = "gitosis took .git off what was asked for, and not off this";

/// Whether gitosis looked up no such name: it took the ending off what was asked for.
fn never_asked_for(repository: &str) -> bool {
    Path::new(repository).extension().is_some_and(|end| end == "git")
}

/// A name becomes a path; gitosis refused what leads elsewhere when it was asked for, and nothing like that is meant.
fn check(repository: &str) -> Result<()> {
    let good = !repository.starts_with('/')
        && repository.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !repository.chars().any(|c| c.is_control() || c == '*');
    if good { Ok(()) } else { Err(Error::usage(format!("gitosis.conf names the repository {repository:?}, which cannot be one"))) }
}

/// The settings by section and name in small letters, each with its line and value.
type Settings = BTreeMap<(String, String), (usize, String)>;

/// Every setting, with continued lines put together. Of what is there twice the later one counts, also where its section is.
fn settings(text: &str) -> Result<Settings> {
    let wrong = |line: usize, what: &str| Error::usage(format!("gitosis.conf, line {line}: {what}"));
    let (mut found, mut section) = (Settings::new(), None);
    // The setting that an indented line goes on; lines without a word in them do not end it.
    let mut open: Option<(String, String)> = None;
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        if line.trim().is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with(char::is_whitespace)
            && let Some((_, value)) = open.as_ref().and_then(|name| found.get_mut(name))
        {
            if !line.trim_start().starts_with(['#', ';']) {
                value.push(' ');
                value.push_str(without_comment(line).trim());
            }
            continue;
        }
        let line = line.trim();
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split(']').next().filter(|_| rest.contains(']')).ok_or_else(|| wrong(number, "the section has no end"))?;
            section = Some(name.trim().to_owned());
            open = None;
            continue;
        }
        let (name, value) = line.split_once(['=', ':']).ok_or_else(|| wrong(number, "this is neither a section nor NAME = VALUE"))?;
        let section = section.clone().ok_or_else(|| wrong(number, "this stands in no section"))?;
        let name = (section, name.trim().to_lowercase());
        found.insert(name.clone(), (number, without_comment(value).trim().to_owned()));
        open = Some(name);
    }
    Ok(found)
}

/// A value without the comment behind it, which begins with white space and a semicolon.
fn without_comment(value: &str) -> &str {
    match value.split_once(';') {
        Some((before, _)) if before.ends_with(char::is_whitespace) => before,
        _ => value,
    }
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
        assert_eq!(read.repositories, set("docs ring shop staff/tools welcome"));
        let member = |name: &str| &read.members[name];
        assert_eq!(read.members.keys().map(String::as_str).collect::<Vec<_>>(), ["alice@desk", "bob", "web1"]);
        assert_eq!((&member("alice@desk").writes, &member("alice@desk").reads), (&set("shop staff/tools"), &set("docs ring welcome")));
        assert_eq!((&member("web1").writes, &member("web1").reads), (&set("shop staff/tools"), &set("docs welcome")));
        assert!(member("alice@desk").is_admin && !member("bob").is_admin);
        assert_eq!(
            read.left_out,
            [
                "line 14: shop-data.git in [group shop] never matched: gitosis took .git off what was asked for, and not off this",
                "line 28: the section [other] is none of gitosis'"
            ]
        );
    }

    /// What `text` lets members write and read, as in `a: x y / z`.
    fn granted(text: &str) -> Vec<String> {
        let words = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
        let members = Gitosis::parse(text).unwrap().members;
        members.iter().map(|(name, may)| format!("{name}: {} / {}", words(&may.writes), words(&may.reads))).collect()
    }

    #[test]
    fn nobody_gets_more_than_gitosis_gave() {
        for (text, expected) in [
            // The later setting counts, also where the section begins again, and whatever its letters.
            ("[group a]\nmembers = x y\nwritable = one two\nWritable = three\n", &["x: three / ", "y: three / "][..]),
            ("[group a]\nmembers = x y\nreadonly = one\n[group b]\nmembers = y\n[group a]\nmembers = x\n", &["x:  / one", "y:  / "]),
            // Two spellings are two settings.
            ("[group a]\nmembers = x\nwritable = one\nwriteable = two\n", &["x: one two / "]),
            ("[group a]\nmembers = x\nmap writable n = one\nmap writable n = two\n", &["x: two / "]),
            // Everybody is in the group of that name, and by that in no other.
            ("[group all]\nreadonly = one\n[group a]\nmembers = x\nreadonly = two\n", &["x:  / one two"]),
            ("[group all]\nmembers = x\n[group a]\nmembers = y\n[group b]\nmembers = @a\nreadonly = one\n", &["x:  / ", "y:  / one"]),
            // Lines without a word do not end what goes on; other settings do.
            ("[group a]\nmembers = x\n\n# of the shop\n  y\nwritable = one\n\t; none\n  two\n", &["x: one two / ", "y: one two / "]),
            ("[group a]\nmembers = x\t; y\nwritable = one;two\n", &["x: one;two / "]),
            // What is listed with its ending never matched; what a name is mapped to is taken as it stands.
            (
                "[group a]\nmembers = x\nreadonly = one.git .git\nmap readonly n.git = two\nmap readonly n = three.git\n",
                &["x:  / .git three.git"],
            ),
            ("[group a]\nmembers = x\nmap readonly n =\n", &["x:  / "]),
        ] {
            assert_eq!(granted(text), expected, "{text}");
        }
        let admin = |repository: &str| Gitosis::parse(&format!("[group a]\nmembers = x\nwritable = {repository}\n")).unwrap();
        assert!(admin("gitosis-admin").members["x"].is_admin);
        let dead = admin("gitosis-admin.git");
        assert!(!dead.members["x"].is_admin && dead.repositories.is_empty() && dead.left_out.len() == 1, "{dead:?}");
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
