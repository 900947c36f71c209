//! The list of refs that a client signs: its text, how it is made of what git says, and what is allowed in it.
//!
//! Runs nothing and reads no files.

use super::LIST_LIMIT;
use base::{Error, Result};
use std::collections::{BTreeMap, HashSet};

/// Where `HEAD` points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// At a ref of the list, or at a branch that has no commit yet.
    Branch(Vec<u8>),
    /// At an id.
    Detached(String),
    /// At nothing that exists.
    Nowhere,
}

/// The refs of a repository, without those that are the node's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefList {
    pub head: Head,
    /// What the repository says of itself in a line, where it does.
    pub description: Option<String>,
    /// How many refs are not in it because their names are the node's.
    pub left_out: usize,
    /// Names (any bytes that git allows) and ids, by the names' bytes.
    pub refs: BTreeMap<Vec<u8>, String>,
}

/// Begins the line with the description.
const DESCRIPTION: &[u8] = b"description ";
/// Begins the line with the number of refs that are left out; there is none where that is 0.
const LEFT_OUT: &[u8] = b"left-out ";
/// The longest description, in bytes.
const DESCRIPTION_LIMIT: usize = 512;
/// The branch of a repository whose list says `HEAD -`.
pub(crate) const UNSAID: &[u8] = b"refs/heads/main";

/// Names that the node uses itself, and refs that show one object in another's place.
const OURS: [&str; 3] = ["refs/kept/", "refs/nightsafe/", "refs/replace/"];

/// Whether a ref of this name is left out of lists.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    OURS.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

fn is_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Git's own rules for names, and lengths with which a name stays a path on any file system.
fn check_name(name: &[u8]) -> Result<()> {
    let good = name.starts_with(b"refs/")
        && name.len() <= 1024
        && !name.windows(2).any(|pair| pair == b".." || pair == b"@{")
        && !name.ends_with(b".")
        && name.iter().all(|b| *b > b' ' && *b != 0x7f && !b"~^:?*[\\".contains(b))
        && name.split(|b| *b == b'/').all(|part| !part.is_empty() && part.len() <= 240 && part[0] != b'.' && !part.ends_with(b".lock"));
    if good { Ok(()) } else { Err(Error::refused(format!("{:?} cannot be a ref's name", String::from_utf8_lossy(name)))) }
}

impl RefList {
    /// Puts a list together; `head` is what HEAD names and the id that it leads to.
    fn build(head: (Option<Vec<u8>>, Option<String>), all: Vec<(Vec<u8>, String)>) -> Result<Self> {
        let before = all.len();
        let refs: BTreeMap<_, _> = all.into_iter().filter(|(name, _)| !is_ours(name)).collect();
        let left_out = before - refs.len();
        for name in refs.keys() {
            check_name(name)?;
        }
        let head = match head {
            (Some(branch), _) if refs.contains_key(&branch) => Head::Branch(branch),
            // It leads to a ref that is not in the list.
            (_, Some(id)) => Head::Detached(id),
            (_, None) => Head::Nowhere,
        };
        let list = Self { head, description: None, left_out, refs };
        if list.to_bytes().len() > LIST_LIMIT {
            return Err(Error::failed(format!("the repository has too many refs: their list is longer than {LIST_LIMIT} bytes")));
        }
        Ok(list)
    }

    /// Reads what `git upload-pack` advertises (protocol version 0, packet lines).
    ///
    /// # Errors
    /// When it is something else, or of a kind that cannot be backed up: SHA-256, a shallow clone.
    pub fn from_advertisement(mut bytes: &[u8]) -> Result<Self> {
        let (mut symbolic, mut head, mut all) = (None, None, Vec::new());
        let mut first = true;
        while let Some(line) = packet(&mut bytes)? {
            if line.starts_with(b"shallow ") {
                return Err(Error::failed("the repository is a shallow clone: its history is not whole")
                    .hint("Complete it with git fetch --unshallow, or back up the repository it came from."));
            }
            let (line, capabilities) = if first { split_once(line, 0).unwrap_or((line, b"")) } else { (line, &b""[..]) };
            if first {
                for word in capabilities.split(|b| *b == b' ') {
                    let word = word.strip_suffix(b"\n").unwrap_or(word);
                    if let Some(format) = word.strip_prefix(b"object-format=")
                        && format != b"sha1"
                    {
                        return Err(sha256());
                    }
                    symbolic = symbolic.or_else(|| word.strip_prefix(b"symref=HEAD:").map(<[u8]>::to_vec));
                }
            }
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let (id, name) = split_once(line, b' ').ok_or_else(not_git)?;
            let id = read_id(id)?;
            match name {
                b"HEAD" => head = Some(id),
                // An empty repository says this, so that it can tell what it can do.
                b"capabilities^{}" if first => {}
                name if name.ends_with(b"^{}") => {}
                name => all.push((name.to_vec(), id)),
            }
            first = false;
        }
        Self::build((symbolic, head), all)
    }

    /// Reads what `git ls-remote --symref` prints.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_ls_remote(bytes: &[u8]) -> Result<Self> {
        let (mut symbolic, mut head, mut all) = (None, None, Vec::new());
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let (value, name) = split_once(line, b'\t').ok_or_else(not_git)?;
            match (value.strip_prefix(b"ref: "), name) {
                (Some(target), b"HEAD") => symbolic = Some(target.to_vec()),
                (Some(_), _) => {}
                (None, b"HEAD") => head = Some(read_id(value)?),
                (None, name) if name.ends_with(b"^{}") => {}
                (None, name) => all.push((name.to_vec(), read_id(value)?)),
            }
        }
        Self::build((symbolic, head), all)
    }

    /// Reads the list as it was signed. Everything that git, or a file system, would not take is refused.
    ///
    /// # Errors
    /// Of kind refused.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |why: &str| Error::refused(format!("the list of refs is not well made: {why}"));
        if bytes.len() > LIST_LIMIT {
            return Err(wrong("it is too long"));
        }
        let bytes = bytes.strip_suffix(b"\n").ok_or_else(|| wrong("it does not end with a line feed"))?;
        let mut lines = bytes.split(|b| *b == b'\n');
        let head = lines.next().and_then(|line| line.strip_prefix(b"HEAD ")).ok_or_else(|| wrong("it does not begin with HEAD"))?.to_vec();
        let mut lines = lines.peekable();
        let description = match lines.next_if(|line| line.starts_with(DESCRIPTION)) {
            Some(line) => Some(description(&line[DESCRIPTION.len()..]).ok_or_else(|| wrong("its description is none"))?),
            None => None,
        };
        let left_out = match lines.next_if(|line| line.starts_with(LEFT_OUT)) {
            Some(line) => number(&line[LEFT_OUT.len()..]).ok_or_else(|| wrong("what is left out is no number"))?,
            None => 0,
        };
        let mut refs = BTreeMap::new();
        for line in lines {
            let (id, name) = split_once(line, b' ').ok_or_else(|| wrong("a line has no name"))?;
            let id = read_id(id)?;
            check_name(name)?;
            if is_ours(name) {
                return Err(wrong("it holds a name that is the node's own"));
            }
            if refs.last_key_value().is_some_and(|(last, _): (&Vec<u8>, _)| last.as_slice() >= name) {
                return Err(wrong("it is not sorted"));
            }
            refs.insert(name.to_vec(), id);
        }
        let head = match head.as_slice() {
            b"-" => Head::Nowhere,
            name if refs.contains_key(name) || is_unborn(name) => Head::Branch(name.to_vec()),
            id => Head::Detached(read_id(id).map_err(|_| wrong("HEAD is neither a ref of the list nor an id"))?),
        };
        let list = Self { head, description, left_out, refs };
        match list.nested() {
            Some(name) => Err(wrong(&format!("{:?} is a ref and a folder of refs", String::from_utf8_lossy(name)))),
            None => Ok(list),
        }
    }

    /// Adds what git does not advertise, from the repository's files `HEAD` and `description`: the branch that has no
    /// commit yet, and the description, unless it is the one that every new repository has.
    pub fn with_files(&mut self, head: &[u8], words: &[u8]) {
        if let (Head::Nowhere, Some(name)) = (&self.head, head.trim_ascii_end().strip_prefix(b"ref: "))
            && is_unborn(name)
            // The list says the same without a name for it.
            && name != UNSAID
        {
            self.head = Head::Branch(name.to_vec());
        }
        let first = words.split(|b| *b == b'\n').next().unwrap_or_default();
        self.description = description(first.trim_ascii()).filter(|words| !words.starts_with("Unnamed repository; edit this file"));
    }

    /// The list without what only the repository's own files say: what a node finds that asks for the refs itself.
    #[must_use]
    pub fn advertised(self) -> Self {
        let unborn = matches!(&self.head, Head::Branch(name) if !self.refs.contains_key(name));
        Self { head: if unborn { Head::Nowhere } else { self.head }, description: None, ..self }
    }

    /// What a person is told of refs that are left out.
    pub fn told_of_left_out(&self) -> Option<String> {
        let (refs, are) = if self.left_out == 1 { ("ref", "is") } else { ("refs", "are") };
        (self.left_out > 0)
            .then(|| format!("{} {refs} below {} {are} not backed up: the node uses these names itself", self.left_out, OURS.join(", ")))
    }

    /// The id that HEAD leads to.
    pub fn tip(&self) -> Option<&String> {
        match &self.head {
            Head::Branch(name) => self.refs.get(name),
            Head::Detached(id) => Some(id),
            Head::Nowhere => None,
        }
    }

    /// A ref whose name is also the folder of another one: no repository can hold both.
    pub fn nested(&self) -> Option<&[u8]> {
        self.refs
            .keys()
            .find_map(|name| name.iter().enumerate().filter(|(_, b)| **b == b'/').find_map(|(i, _)| self.refs.get_key_value(&name[..i])))
            .map(|(name, _)| name.as_slice())
    }

    /// The text that is signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"HEAD ".to_vec();
        match &self.head {
            Head::Branch(name) => out.extend_from_slice(name),
            Head::Detached(id) => out.extend_from_slice(id.as_bytes()),
            Head::Nowhere => out.push(b'-'),
        }
        out.push(b'\n');
        if let Some(words) = &self.description {
            out.extend_from_slice(DESCRIPTION);
            out.extend_from_slice(words.as_bytes());
            out.push(b'\n');
        }
        if self.left_out > 0 {
            out.extend_from_slice(LEFT_OUT);
            out.extend_from_slice(self.left_out.to_string().as_bytes());
            out.push(b'\n');
        }
        for (name, id) in &self.refs {
            out.extend_from_slice(id.as_bytes());
            out.push(b' ');
            out.extend_from_slice(name);
            out.push(b'\n');
        }
        out
    }

    /// Every id of the list once, a detached HEAD's too.
    pub fn ids(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let head = if let Head::Detached(id) = &self.head { Some(id) } else { None };
        self.refs.values().chain(head).map(String::as_str).filter(|id| seen.insert(*id)).collect()
    }
}

/// Whether `HEAD` may name this branch while it has no commit.
fn is_unborn(name: &[u8]) -> bool {
    name.starts_with(b"refs/heads/") && check_name(name).is_ok()
}

/// A description as a list holds it: one line of printable text.
fn description(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let plain = !text.is_empty() && text.len() <= DESCRIPTION_LIMIT && text.trim() == text && !text.chars().any(char::is_control);
    plain.then(|| text.to_owned())
}

/// A number that is not 0, written as we write it.
fn number(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.parse().ok().filter(|number: &usize| *number > 0 && number.to_string() == text)
}

fn not_git() -> Error {
    Error::failed("git did not list refs as it should")
}

fn sha256() -> Error {
    Error::failed("the repository names objects by SHA-256, and this release backs up SHA-1 repositories only")
        .hint("Back up its folder with the module files meanwhile.")
}

fn read_id(bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(id) if is_id(id) => Ok(id.into()),
        Ok(id) if id.len() == 64 => Err(sha256()),
        _ => Err(Error::refused(format!("{:?} is no object's id", String::from_utf8_lossy(&bytes[..bytes.len().min(64)])))),
    }
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|b| *b == at)?;
    Some((&bytes[..place], &bytes[place + 1..]))
}

/// The next packet line; none at a flush.
fn packet<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>> {
    let length =
        bytes.get(..4).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| usize::from_str_radix(digits, 16).ok());
    match length {
        Some(0) => Ok(None),
        Some(length) if length > 4 && length <= bytes.len() => {
            let (line, rest) = bytes.split_at(length);
            *bytes = rest;
            Ok(Some(&line[4..]))
        }
        _ => Err(not_git()),
    }
}

#[cfg(test)]
#[path = "refs_tests.rs"]
mod tests;
