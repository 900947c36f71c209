//! The catalog: entries' lines cut into segments, and lists of segments above them up to one root.
//!
//! Does not know where segments are stored; it is given a place for each.

use crate::entry::{bytes_of, text_or_base64, unreadable};
use crate::epoch::{ChunkId, Secrets};
use crate::limits;
use crate::manifest::{Root, chunk_hex};
use crate::reference::Member;
use base::{Error, Result};
use serde::{Deserialize, Serialize};

/// A line of the levels above the entries: a segment of the level below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The key (the path of an entry) of its first line.
    pub first: Vec<u8>,
    /// Its place.
    pub at: Member,
    /// What its bytes must hash to.
    pub id: ChunkId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChildLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_b64: Option<String>,
    #[serde(rename = "ref")]
    at: Member,
    #[serde(with = "chunk_hex")]
    id: ChunkId,
}

impl Child {
    /// The line, without the line feed.
    ///
    /// # Errors
    /// When the key is longer than a path may be.
    pub fn to_line(&self) -> Result<String> {
        if self.first.len() > limits::PATH {
            return Err(Error::failed("a path in the catalog is too long"));
        }
        let (first, first_b64) = text_or_base64(&self.first);
        let line = ChildLine { first, first_b64, at: self.at, id: self.id };
        serde_json::to_string(&line).map_err(|e| Error::failed("could not write a line of the catalog").because(e))
    }

    /// Reads a line (without its line feed).
    ///
    /// # Errors
    /// With what is wrong in it.
    pub fn parse(line: &[u8]) -> Result<Self> {
        if line.len() > limits::LINE {
            return Err(Error::failed("a line of the catalog is longer than 1 MiB"));
        }
        let line: ChildLine = serde_json::from_slice(line).map_err(unreadable)?;
        let first = bytes_of(line.first, line.first_b64)?.filter(|first| first.len() <= limits::PATH && !first.contains(&0));
        let first = first.ok_or_else(|| Error::failed("a segment in the catalog has no key, or one that no path has"))?;
        Ok(Self { first, at: line.at, id: line.id })
    }
}

/// The lines of a segment, without their line feeds.
///
/// # Errors
/// When the segment is empty, longer than 1 MiB, or its last line does not end.
pub fn lines(segment: &[u8]) -> Result<impl Iterator<Item = &[u8]>> {
    let body = segment.strip_suffix(b"\n").filter(|_| segment.len() <= limits::LINE);
    let body = body.ok_or_else(|| Error::failed("a segment of the catalog is cut off or too long"))?;
    Ok(body.split(|b| *b == b'\n'))
}

/// A segment has at most this many lines.
const MOST_LINES: usize = 512;
/// And at least this many before a key's hash can end it, so that each level is shorter than the one below.
const FEWEST_LINES: usize = 2;

/// Stores a segment and tells what it is known by and where it is.
pub(crate) type Store<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(ChunkId, Member)>;

/// One level of a catalog being written.
#[derive(Debug, Default)]
struct Level {
    /// The segment being filled.
    text: Vec<u8>,
    lines: usize,
    first: Vec<u8>,
    /// How many segments were closed, and the last of them.
    closed: u64,
    last: Option<(ChunkId, Member)>,
}

/// Cuts lines into segments as they come, on all levels at once: memory is bounded by one segment a level.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    secrets: &'a Secrets,
    levels: Vec<Level>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(secrets: &'a Secrets) -> Self {
        Self { secrets, levels: Vec::new() }
    }

    /// Appends an entry's line; keys come in order.
    pub(crate) fn push(&mut self, key: &[u8], line: &str, store: Store<'_>) -> Result<()> {
        self.append(0, key, line, store)
    }

    fn append(&mut self, level: u8, key: &[u8], line: &str, store: Store<'_>) -> Result<()> {
        let at = usize::from(level);
        if at == self.levels.len() {
            if level >= limits::LEVELS {
                return Err(Error::failed("the catalog would have too many levels"));
            }
            self.levels.push(Level::default());
        }
        if self.levels[at].lines > 0 && self.levels[at].text.len() + line.len() + 1 > limits::LINE {
            self.close(level, store)?;
        }
        let filling = &mut self.levels[at];
        if filling.lines == 0 {
            filling.first = key.to_vec();
        }
        filling.text.extend_from_slice(line.as_bytes());
        filling.text.push(b'\n');
        filling.lines += 1;
        let ends = filling.lines >= FEWEST_LINES && self.secrets.ends_segment(level, key);
        if ends || filling.lines == MOST_LINES { self.close(level, store) } else { Ok(()) }
    }

    fn close(&mut self, level: u8, store: Store<'_>) -> Result<()> {
        let filling = &mut self.levels[usize::from(level)];
        let (id, at) = store(&filling.text)?;
        filling.text.clear();
        filling.lines = 0;
        filling.closed += 1;
        filling.last = Some((id, at));
        let child = Child { first: std::mem::take(&mut filling.first), at, id };
        self.append(level + 1, &child.first, &child.to_line()?, store)
    }

    /// Closes what is open, level by level, until one segment is left.
    pub(crate) fn finish(mut self, store: Store<'_>) -> Result<Root> {
        for level in 0..limits::LEVELS {
            let Some(filling) = self.levels.get(usize::from(level)) else { break };
            if filling.lines > 0 {
                self.close(level, store)?;
            }
            if let Level { closed: 1, last: Some((id, at)), .. } = self.levels[usize::from(level)] {
                return Ok(Root { at, id, level });
            }
        }
        Err(Error::failed("a catalog without entries cannot be written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::RunId;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const SECRETS: [u8; 32] = [3; 32];

    /// Writes lines `key:value` and gives the root and all segments by id.
    fn write(lines: &[(String, String)]) -> (Root, HashMap<[u8; 32], Vec<u8>>) {
        let secrets = Secrets::from_bytes(SECRETS);
        let mut segments = HashMap::new();
        let mut n = 0;
        let mut store = |bytes: &[u8]| {
            let id = secrets.chunk_id(bytes);
            segments.insert(id.0, bytes.to_vec());
            n += 1;
            Ok((id, Member { run: RunId(1), frame: 0, n }))
        };
        let mut writer = Writer::new(&secrets);
        for (key, value) in lines {
            writer.push(key.as_bytes(), value, &mut store).unwrap();
        }
        let root = writer.finish(&mut store).unwrap();
        (root, segments)
    }

    fn read(segments: &HashMap<[u8; 32], Vec<u8>>, id: ChunkId, level: u8, to: &mut Vec<String>) {
        let bytes = &segments[&id.0];
        assert!(bytes.len() <= limits::LINE);
        let all: Vec<&[u8]> = lines(bytes).unwrap().collect();
        assert!(all.len() <= MOST_LINES);
        for line in all {
            if level == 0 {
                to.push(String::from_utf8(line.to_vec()).unwrap());
            } else {
                read(segments, Child::parse(line).unwrap().id, level - 1, to);
            }
        }
    }

    fn numbered(n: usize) -> Vec<(String, String)> {
        (0..n).map(|i| (format!("{i:06}"), format!("line {i}"))).collect()
    }

    #[test]
    fn one_line_more_changes_few_segments() {
        let before = numbered(60_000);
        let (_, old) = write(&before);
        for at in [0, 31_234, 60_000] {
            let mut after = before.clone();
            after.insert(at, (format!("{:06}x", at.max(1) - 1), "one more".into()));
            let (root, new) = write(&after);
            let changed = new.keys().filter(|id| !old.contains_key(*id)).count();
            // Segments name the places of those below, which the test gives anew: compare the lowest level alone.
            let lowest = |segments: &HashMap<[u8; 32], Vec<u8>>| {
                segments.iter().filter(|(_, s)| s.starts_with(b"line")).map(|(id, _)| *id).collect::<std::collections::HashSet<_>>()
            };
            assert!(lowest(&new).difference(&lowest(&old)).count() <= 3, "at {at}");
            assert!(changed > 0 && root.level >= 2);
        }
    }

    #[test]
    fn long_lines_stay_within_the_limit() {
        let all: Vec<_> = (0..40).map(|i| (format!("{i:02}"), format!("{i}").repeat(150_000))).collect();
        let (root, segments) = write(&all);
        let mut back = Vec::new();
        read(&segments, root.id, root.level, &mut back);
        assert_eq!(back, all.into_iter().map(|(_, line)| line).collect::<Vec<_>>());
    }

    #[test]
    fn hostile_segments_and_lines() {
        for bad in [&b""[..], b"a", b"a\nb", &[b'\n'; limits::LINE + 1]] {
            assert!(lines(bad).is_err());
        }
        let good = format!(r#"{{"first":"a","ref":"00000000000000ab/3/0","id":"{}"}}"#, "0".repeat(64));
        assert_eq!(Child::parse(good.as_bytes()).unwrap().to_line().unwrap(), good);
        for (from, to) in [
            ("\"first\":\"a\",", ""),
            ("\"a\"", "\"\\u0000\""),
            ("ab/3/0", "ab/3"),
            ("ab/3/0", "ab/3/0-1"),
            ("000\"}", "00\"}"),
            ("000\"}", "00X\"}"),
            ("\"first\"", "\"last\""),
            ("}", ",\"x\":1}"),
        ] {
            assert!(Child::parse(good.replacen(from, to, 1).as_bytes()).is_err(), "{from} {to}");
        }
        assert!(
            Child { first: vec![0; limits::PATH + 1], at: Member { run: RunId(0), frame: 0, n: 0 }, id: ChunkId([0; 32]) }
                .to_line()
                .is_err()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn all_lines_come_back(n in 1usize..5000) {
            let all = numbered(n);
            let (root, segments) = write(&all);
            let mut back = Vec::new();
            read(&segments, root.id, root.level, &mut back);
            prop_assert_eq!(back, all.into_iter().map(|(_, line)| line).collect::<Vec<_>>());
        }

        #[test]
        fn children_survive(first in prop::collection::vec(1u8.., 0..40), run: u64, frame: u32, n: u32, id: [u8; 32]) {
            let child = Child { first, at: Member { run: RunId(run), frame, n }, id: ChunkId(id) };
            prop_assert_eq!(Child::parse(child.to_line().unwrap().as_bytes()).unwrap(), child);
        }
    }
}
