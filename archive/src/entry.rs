//! Entries of a catalog: one JSON line each.
//!
//! Does not know how lines are put together into segments.

use crate::limits;
use crate::reference::References;
use base::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A time as the catalog has it: whole seconds rounded down, and nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mtime {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// 0 to 999,999,999, always forwards.
    pub nanos: u32,
}

impl fmt::Display for Mtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanos)
    }
}

impl FromStr for Mtime {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (seconds, nanos) = text.split_once('.')?;
            let digits = seconds.strip_prefix('-').unwrap_or(seconds);
            let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
            (plain(digits) && nanos.len() == 9 && plain(nanos)).then_some(())?;
            Some(Self { seconds: seconds.parse().ok()?, nanos: nanos.parse().ok()? })
        };
        parse().ok_or_else(|| Error::failed(format!("{text:?} is no time; seconds, a point and nine digits are expected")))
    }
}

impl TryFrom<String> for Mtime {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Mtime> for String {
    fn from(time: Mtime) -> Self {
        time.to_string()
    }
}

/// Where a file's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These chunks, one after the other.
    Chunks(References),
    /// These chunks hold the text of the list of chunks, which is too long for the line.
    More(References),
}

/// The first 16 bytes of the keyed BLAKE3 of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileDigest(pub [u8; 16]);

impl FileDigest {
    /// The stored part of a whole keyed digest.
    pub fn of(digest: &[u8; 32]) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Self(short)
    }
}

impl TryFrom<String> for FileDigest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        // The rest of a digest's hex is filled up, so that one parser serves both lengths.
        let full = base::Blake3::from_hex(&format!("{text:0<64}")).filter(|_| text.len() == 32);
        full.map(|digest| Self::of(&digest.0))
            .ok_or_else(|| Error::failed(format!("{text:?} is no file's digest; 32 hex digits are expected")))
    }
}

impl From<FileDigest> for String {
    fn from(digest: FileDigest) -> Self {
        base::digest::to_hex(&digest.0)
    }
}

/// What an entry is, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Dir,
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Where its bytes are.
        content: Content,
        /// What they must hash to.
        digest: FileDigest,
        /// Which group of names of one file it belongs to: the position in the catalog of the group's first entry.
        hard_link: Option<u64>,
    },
    /// A symbolic link.
    Link {
        /// What it says.
        target: Vec<u8>,
    },
}

/// One file, folder or link of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path below the dataset's own; that of a folder ends in `/`, and the dataset itself is the empty path.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// The permission bits, 12 of them.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The owner's name, where there was one.
    pub user: Option<String>,
    /// The group's name, where there was one.
    pub group: Option<String>,
    /// When the content was changed last.
    pub mtime: Mtime,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Type {
    File,
    Dir,
    Link,
    Fifo,
    Char,
    Block,
}

/// The line as it is written; the order of the fields is the order of the keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    #[serde(rename = "type")]
    kind: Type,
    mode: String,
    uid: u32,
    gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    mtime: Mtime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_b64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunks: Option<References>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    more: Option<References>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<FileDigest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hard_link: Option<u64>,
}

impl Entry {
    /// The entry's line, without the line feed.
    ///
    /// # Errors
    /// When it would be longer than [`limits::LINE`].
    pub fn to_line(&self) -> Result<String> {
        let (path, path_b64) = text_or_base64(&self.path);
        let mut line = Line {
            path,
            path_b64,
            kind: Type::Dir,
            mode: format!("{:04o}", self.mode & 0o7777),
            uid: self.uid,
            gid: self.gid,
            user: self.user.clone(),
            group: self.group.clone(),
            mtime: self.mtime,
            size: None,
            target: None,
            target_b64: None,
            chunks: None,
            more: None,
            digest: None,
            hard_link: None,
        };
        match &self.kind {
            EntryKind::Dir => {}
            EntryKind::File { size, content, digest, hard_link } => {
                line.kind = Type::File;
                line.size = Some(*size);
                match content {
                    Content::Chunks(list) if list.is_empty() => {}
                    Content::Chunks(list) => line.chunks = Some(list.clone()),
                    Content::More(list) => line.more = Some(list.clone()),
                }
                line.digest = Some(*digest);
                line.hard_link = *hard_link;
            }
            EntryKind::Link { target } => {
                line.kind = Type::Link;
                (line.target, line.target_b64) = text_or_base64(target);
            }
        }
        let text = serde_json::to_string(&line).map_err(|e| Error::failed("could not write a line of the catalog").because(e))?;
        if text.len() > limits::LINE {
            return Err(Error::failed("the entry's line in the catalog would be longer than 1 MiB"));
        }
        Ok(text)
    }

    /// Reads a line (without its line feed) and checks all that can be told from the line alone. The path is one that
    /// stays below the folder it is joined to: relative, without `.`, `..` and empty parts.
    ///
    /// # Errors
    /// With what is wrong in it.
    pub fn parse(line: &[u8]) -> Result<Self> {
        if line.len() > limits::LINE {
            return Err(Error::failed("a line of the catalog is longer than 1 MiB"));
        }
        let line: Line = serde_json::from_slice(line).map_err(crate::entry::unreadable)?;
        let path = bytes_of(line.path, line.path_b64)?.ok_or_else(|| broken("it has no path"))?;
        check_path(&path, line.kind == Type::Dir)?;
        let mode = (line.mode.len() == 4)
            .then(|| u32::from_str_radix(&line.mode, 8).ok())
            .flatten()
            .filter(|_| line.mode.bytes().all(|b| b.is_ascii_digit()));
        let mode = mode.ok_or_else(|| broken("its mode is not four octal digits"))?;
        let target = bytes_of(line.target, line.target_b64)?;
        let plain =
            line.chunks.is_none() && line.more.is_none() && line.digest.is_none() && line.size.is_none() && line.hard_link.is_none();
        let kind = match (line.kind, target) {
            (Type::Dir, None) if plain => EntryKind::Dir,
            (Type::Link, Some(target)) if plain && !path.is_empty() => {
                if target.is_empty() || target.len() > limits::PATH || target.contains(&0) {
                    return Err(broken("its target cannot be a link's"));
                }
                EntryKind::Link { target }
            }
            (Type::File, None) => {
                let (Some(size), Some(digest)) = (line.size, line.digest) else { return Err(broken("a file needs size and digest")) };
                let content = match (line.chunks, line.more) {
                    (chunks, None) => Content::Chunks(chunks.unwrap_or_default()),
                    (None, Some(more)) => Content::More(more),
                    (Some(_), Some(_)) => return Err(broken("it has both chunks and more")),
                };
                let listed = !matches!(&content, Content::Chunks(list) | Content::More(list) if list.is_empty());
                if listed != (size > 0) {
                    return Err(broken("its size does not fit its list of chunks"));
                }
                EntryKind::File { size, content, digest, hard_link: line.hard_link }
            }
            (Type::Fifo | Type::Char | Type::Block, _) => return Err(newer("a catalog with devices or FIFOs")),
            _ => return Err(broken("it has keys that its type cannot have")),
        };
        Ok(Self { path, kind, mode, uid: line.uid, gid: line.gid, user: line.user, group: line.group, mtime: line.mtime })
    }

    /// The path as people read it; bytes that are not UTF-8 are replaced.
    pub fn shown_path(&self) -> String {
        base::text::printable(&String::from_utf8_lossy(&self.path))
    }
}

fn check_path(path: &[u8], folder: bool) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let inner = if folder { path.strip_suffix(b"/") } else { Some(path) };
    let good = path.len() <= limits::PATH
        && !path.contains(&0)
        && inner.is_some_and(|inner| inner.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b"..")));
    if good { Ok(()) } else { Err(broken("its path cannot be an entry's")) }
}

/// Bytes as JSON holds them: as text where they are UTF-8, else in base64.
pub(crate) fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// The reverse of [`text_or_base64`]; `None` when both are absent.
pub(crate) fn bytes_of(text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>> {
    match (text, base64) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(base64)) => STANDARD.decode(base64).map(Some).map_err(|e| broken("it has bytes that are no base64").because(e)),
        (Some(_), Some(_)) => Err(broken("it has a name both as text and in base64")),
    }
}

pub(crate) fn unreadable(error: serde_json::Error) -> Error {
    let newer_key = error.to_string().contains("unknown");
    let wrong = Error::failed("could not read a part of the archive").because(error);
    if newer_key { wrong.hint(NEWER) } else { wrong }
}

/// What helps where a format is newer than this program.
pub(crate) const NEWER: &str = "It may be written by a newer nightsafe: install the newest version and try again.";

pub(crate) fn newer(what: &str) -> Error {
    Error::failed(format!("{what} cannot be read by this version")).hint(NEWER)
}

fn broken(why: &str) -> Error {
    Error::failed(format!("a line of the catalog is wrong: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = r#"{"path":"a/b","type":"file","mode":"0644","uid":0,"gid":0,"user":"root","mtime":"-1.500000000","size":5,"chunks":"00000000000000ab/3/0","digest":"000102030405060708090a0b0c0d0e0f"}"#;

    #[test]
    fn a_line_is_what_the_format_says() {
        let entry = Entry::parse(FILE.as_bytes()).unwrap();
        assert_eq!(entry.to_line().unwrap(), FILE);
        assert_eq!(entry.mtime, Mtime { seconds: -1, nanos: 500_000_000 });
        let root = r#"{"path":"","type":"dir","mode":"1777","uid":0,"gid":0,"mtime":"0.000000000"}"#;
        assert_eq!(Entry::parse(root.as_bytes()).unwrap().to_line().unwrap(), root);
        let link = r#"{"path_b64":"/w==","type":"link","mode":"0777","uid":0,"gid":0,"mtime":"0.000000000","target_b64":"/w=="}"#;
        assert_eq!(Entry::parse(link.as_bytes()).unwrap().to_line().unwrap(), link);
    }

    #[test]
    fn hostile_lines() {
        let with = |from: &str, to: &str| {
            assert!(FILE.contains(from), "{from}");
            FILE.replace(from, to)
        };
        let mut bad: Vec<String> = ["", "{}", "[]", "null", "\u{0}", "{", "{\"path\":\"a\"}"].map(String::from).into();
        for path in ["/a", "../a", "a/../b", "a/..", ".", "..", "./a", "a//b", "a/", "/", "a\\u0000b", "a/./b", ""] {
            let line = with("a/b", path);
            // A file may be the dataset itself.
            if path.is_empty() { assert!(Entry::parse(line.as_bytes()).is_ok()) } else { bad.push(line) }
        }
        bad.push(with("\"path\":\"a/b\"", "\"path\":\"a\",\"path_b64\":\"YQ==\""));
        bad.push(with("\"path\":\"a/b\"", "\"path_b64\":\"Y\""));
        bad.push(with("\"path\":\"a/b\"", "\"path_b64\":\"Li4=\""));
        bad.push(with("\"path\":\"a/b\"", "\"path\":\"a\",\"path\":\"b\""));
        bad.push(with("a/b", &"a".repeat(70_000)));
        for (from, to) in [
            ("\"file\"", "\"dir\""),
            ("\"file\"", "\"link\""),
            ("\"file\"", "\"fifo\""),
            ("\"file\"", "\"socket\""),
            ("0644", "644"),
            ("0644", "0888"),
            ("0644", "+644"),
            ("0644", "00644"),
            ("\"uid\":0", "\"uid\":-1"),
            ("\"uid\":0", "\"uid\":4294967296"),
            ("\"uid\":0", "\"uid\":\"0\""),
            ("-1.500000000", "-1.5"),
            ("-1.500000000", "1"),
            ("-1.500000000", "--1.500000000"),
            ("-1.500000000", ".500000000"),
            ("-1.500000000", "99999999999999999999.000000000"),
            ("\"size\":5,", ""),
            ("\"size\":5", "\"size\":0"),
            ("\"size\":5", "\"size\":-5"),
            ("\"size\":5", "\"size\":18446744073709551616"),
            ("\"chunks\":\"00000000000000ab/3/0\",", ""),
            ("ab/3/0", "ab/3"),
            ("0e0f", "0e"),
            ("0e0f", "0E0F"),
            ("\"chunks\"", "\"xattrs\""),
            ("\"size\":5", "\"size\":5,\"target\":\"x\""),
            ("\"size\":5", "\"size\":5,\"more\":\"00000000000000ab/3/0\""),
        ] {
            bad.push(with(from, to));
        }
        for line in bad {
            assert!(Entry::parse(line.as_bytes()).is_err(), "{line:?}");
        }
        assert!(Entry::parse(&vec![b' '; limits::LINE + 1]).is_err());
        let dir = r#"{"path":"a","type":"dir","mode":"0755","uid":0,"gid":0,"mtime":"0.000000000"}"#;
        assert!(Entry::parse(dir.as_bytes()).is_err());
        let newer = Entry::parse(with("\"chunks\"", "\"holes\"").as_bytes()).unwrap_err();
        assert!(newer.render().contains("newer nightsafe"), "{}", newer.render());
    }

    fn path() -> impl Strategy<Value = Vec<u8>> {
        let part = prop::collection::vec(any::<u8>().prop_filter("no part of a path", |b| *b != 0 && *b != b'/'), 1..12)
            .prop_filter("means something else", |part| part != b"." && part != b"..");
        prop::collection::vec(part, 1..5).prop_map(|parts| parts.join(&b'/'))
    }

    fn kind() -> impl Strategy<Value = EntryKind> {
        use crate::reference::{Member, RunId};
        let list = || {
            prop::collection::vec((0u64..3, any::<u32>(), any::<u32>()), 1..5)
                .prop_map(|all| References::of(all.into_iter().map(|(run, frame, n)| Member { run: RunId(run), frame, n })))
        };
        let file =
            (1u64.., list(), any::<bool>(), any::<[u8; 16]>(), any::<Option<u64>>()).prop_map(|(size, list, more, digest, hard_link)| {
                EntryKind::File {
                    size,
                    content: if more { Content::More(list) } else { Content::Chunks(list) },
                    digest: FileDigest(digest),
                    hard_link,
                }
            });
        let empty = any::<[u8; 16]>().prop_map(|digest| EntryKind::File {
            size: 0,
            content: Content::Chunks(References::default()),
            digest: FileDigest(digest),
            hard_link: None,
        });
        prop_oneof![Just(EntryKind::Dir), file, empty, path().prop_map(|target| EntryKind::Link { target })]
    }

    proptest! {
        #[test]
        fn entries_survive_their_line(mut path in path(), kind in kind(), mode in 0u32..=0o7777, uid: u32, user: Option<String>, seconds: i64, nanos in 0u32..1_000_000_000) {
            if kind == EntryKind::Dir {
                path.push(b'/');
            }
            let entry = Entry { path, kind, mode, uid, gid: uid ^ 1, user: user.clone(), group: user, mtime: Mtime { seconds, nanos } };
            let line = entry.to_line().unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(Entry::parse(line.as_bytes()).unwrap(), entry);
        }
    }
}
