//! References: the places of chunks, written `run/frame/n` and in lists as ranges and repeats.
//!
//! Does not know what the chunks hold, nor in which pack a frame is.

mod text;

pub use text::{Decoder, Encoder};

use base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest list that stands in a catalog's line; a longer one is stored as chunks of its own.
pub const INLINE_LIMIT: usize = 8 << 10;

/// One writing of a client: 64 random bits, written as 16 hex digits. Frames are numbered within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(pub u64);

impl RunId {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self> {
        getrandom::u64().map(Self).map_err(|e| Error::failed(format!("no random bytes from the system: {e}")))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for RunId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let good = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        good.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self).ok_or_else(|| wrong(text, "a run"))
    }
}

impl TryFrom<String> for RunId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(run: RunId) -> Self {
        run.to_string()
    }
}

/// The place of one chunk: the `n`-th member of a frame of a run. Its text is the member's name in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Member {
    /// The run that wrote it.
    pub run: RunId,
    /// The frame's number within the run.
    pub frame: u32,
    /// The member's number within the frame.
    pub n: u32,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.run, self.frame, self.n)
    }
}

impl FromStr for Member {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [run, frame, n] => Ok(Self { run: run.parse()?, frame: number(frame, text)?, n: number(n, text)? }),
            _ => Err(wrong(text, "a chunk's place")),
        }
    }
}

impl TryFrom<String> for Member {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Member> for String {
    fn from(member: Member) -> Self {
        member.to_string()
    }
}

/// Which members of one frame an item names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// `n`, or `n-m` with `m` included.
    Range {
        /// The first one.
        first: u32,
        /// The last one.
        last: u32,
    },
    /// `n*count`: the same one `count` times.
    Repeat {
        /// Which.
        n: u32,
        /// How often, at least 2.
        count: u64,
    },
}

/// One item of a list: neighbours in a frame, or one member many times over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// The run.
    pub run: RunId,
    /// The frame within it.
    pub frame: u32,
    /// Which of its members.
    pub extent: Extent,
}

impl Item {
    /// The item for a single chunk.
    pub fn one(at: Member) -> Self {
        Self { run: at.run, frame: at.frame, extent: Extent::Range { first: at.n, last: at.n } }
    }

    /// The first of the chunks that it stands for; all are in one frame.
    pub fn first(&self) -> Member {
        let (Extent::Range { first: n, .. } | Extent::Repeat { n, .. }) = self.extent;
        Member { run: self.run, frame: self.frame, n }
    }

    /// How many chunks it stands for.
    pub fn count(&self) -> u64 {
        match self.extent {
            Extent::Range { first, last } => u64::from(last) - u64::from(first) + 1,
            Extent::Repeat { count, .. } => count,
        }
    }

    /// The chunks it stands for, in order.
    pub fn members(self) -> impl Iterator<Item = Member> {
        (0..self.count()).map(move |i| {
            let n = match self.extent {
                // The count of a range fits in 32 bits.
                #[expect(clippy::cast_possible_truncation, reason = "at most last - first")]
                Extent::Range { first, .. } => first + i as u32,
                Extent::Repeat { n, .. } => n,
            };
            Member { run: self.run, frame: self.frame, n }
        })
    }

    /// Takes one more chunk in, if it continues the item.
    fn extend(&mut self, at: Member) -> bool {
        if (at.run, at.frame) != (self.run, self.frame) {
            return false;
        }
        match &mut self.extent {
            Extent::Range { first, last } if first == last && at.n == *first => {
                self.extent = Extent::Repeat { n: at.n, count: 2 };
            }
            Extent::Range { last, .. } if last.checked_add(1) == Some(at.n) => *last = at.n,
            Extent::Repeat { n, count } if *n == at.n => *count += 1,
            _ => return false,
        }
        true
    }

    /// Reads an item; one without a run is of the run `before`.
    fn parse(text: &str, before: Option<RunId>) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (run, frame, members) = match (&parts[..], before) {
            ([run, frame, members], _) => (run.parse()?, *frame, *members),
            ([frame, members], Some(run)) => (run, *frame, *members),
            _ => return Err(wrong(text, "an item of a list of references")),
        };
        let extent = if let Some((n, count)) = members.split_once('*') {
            Extent::Repeat { n: number(n, text)?, count: number(count, text)? }
        } else if let Some((first, last)) = members.split_once('-') {
            Extent::Range { first: number(first, text)?, last: number(last, text)? }
        } else {
            let n = number(members, text)?;
            Extent::Range { first: n, last: n }
        };
        let bad = match extent {
            Extent::Range { first, last } => first > last || first == last && members.contains('-'),
            Extent::Repeat { count, .. } => count < 2,
        };
        if bad { Err(wrong(text, "an item of a list of references")) } else { Ok(Self { run, frame: number(frame, text)?, extent }) }
    }

    fn write(&self, text: &mut String, before: Option<RunId>) {
        use fmt::Write as _;
        if before.is_some() {
            text.push(',');
        }
        // Writing to a String does not fail.
        if before != Some(self.run) {
            let _ = write!(text, "{}/", self.run);
        }
        let _ = match self.extent {
            Extent::Range { first, last } if first == last => write!(text, "{}/{first}", self.frame),
            Extent::Range { first, last } => write!(text, "{}/{first}-{last}", self.frame),
            Extent::Repeat { n, count } => write!(text, "{}/{n}*{count}", self.frame),
        };
    }
}

/// A list of references short enough to be held in memory, in the order of the bytes they stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct References(pub Vec<Item>);

impl References {
    /// The list of these chunks.
    pub fn of(members: impl IntoIterator<Item = Member>) -> Self {
        let mut list = Self::default();
        for at in members {
            if !list.0.last_mut().is_some_and(|item| item.extend(at)) {
                list.0.push(Item::one(at));
            }
        }
        list
    }

    /// How many chunks it stands for.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, item| sum.saturating_add(item.count()))
    }

    /// The chunks, in order.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.0.iter().flat_map(|item| item.members())
    }

    /// Whether the list is empty, as that of an empty file.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for References {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let mut items = Vec::new();
        let mut decoder = Decoder::default();
        let mut push = |item| {
            items.push(item);
            Ok(())
        };
        decoder.feed(text.as_bytes(), &mut push)?;
        decoder.finish(&mut push)?;
        Ok(Self(items))
    }
}

impl fmt::Display for References {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut before = None;
        for item in &self.0 {
            item.write(&mut text, before);
            before = Some(item.run);
        }
        f.write_str(&text)
    }
}

impl TryFrom<String> for References {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<References> for String {
    fn from(list: References) -> Self {
        list.to_string()
    }
}

/// A decimal number without sign, spaces or zeros in front.
fn number<T: FromStr>(digits: &str, whole: &str) -> Result<T> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    plain.then(|| digits.parse().ok()).flatten().ok_or_else(|| wrong(whole, "a reference"))
}

fn wrong(text: &str, what: &str) -> Error {
    Error::failed(format!("{text:?} is not {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RUN: &str = "00000000000000ab";

    #[test]
    fn texts() {
        let at = |frame, n| Member { run: RunId(0xab), frame, n };
        let list = References::of([
            at(3, 0),
            at(3, 1),
            at(3, 2),
            at(4, 7),
            at(4, 7),
            at(4, 7),
            at(4, 8),
            Member { run: RunId(1), frame: 0, n: 5 },
        ]);
        assert_eq!(list.to_string(), format!("{RUN}/3/0-2,4/7*3,4/8,0000000000000001/0/5"));
        assert_eq!(list.count(), 8);
        assert_eq!(References::default().to_string().parse::<References>().unwrap().count(), 0);
    }

    #[test]
    fn hostile_texts() {
        let bad = [
            "/",
            ",",
            "3/0",
            "x/3/0",
            "00000000000000ab",
            "00000000000000ab/3",
            "00000000000000ab/3/",
            "00000000000000ab//0",
            "00000000000000AB/3/0",
            "00000000000000ab/3/0,",
            ",00000000000000ab/3/0",
            "00000000000000ab/3/0,,4/0",
            "00000000000000ab/3/1-0",
            "00000000000000ab/3/1-1",
            "00000000000000ab/3/1*1",
            "00000000000000ab/3/1*0",
            "00000000000000ab/3/1*",
            "00000000000000ab/3/*2",
            "00000000000000ab/3/-2",
            "00000000000000ab/3/01",
            "00000000000000ab/+3/1",
            "00000000000000ab/3/1 ",
            "00000000000000ab/3/4294967296",
            "00000000000000ab/4294967296/0",
            "00000000000000ab/3/1*18446744073709551616",
            "00000000000000ab/3/0-2*2",
            "00000000000000ab/3/0/1",
            "00000000000000ab/-1/0",
            "00000000000000ab/3/\u{661}",
        ];
        for text in bad {
            assert!(text.parse::<References>().is_err(), "{text:?}");
        }
        assert!("1".repeat(1 << 20).parse::<References>().is_err());
        // A huge count costs nothing until somebody walks through it.
        let huge: References = format!("{RUN}/0/0*{},1/0-{}", u64::MAX, u32::MAX).parse().unwrap();
        assert_eq!(huge.count(), u64::MAX);
        assert_eq!(huge.members().take(2).count(), 2);
        for text in ["", RUN, "00000000000000ab/1", "00000000000000ab/1/2-3", "a/1/2", "00000000000000ab/1/2/3"] {
            assert!(text.parse::<Member>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn lists_survive_their_text(places in prop::collection::vec((0u64..3, 0u32..3, 0u32..6, 1usize..4), 0..60), cut in 0usize..50) {
            let members: Vec<Member> = places
                .iter()
                .flat_map(|(run, frame, n, times)| std::iter::repeat_n(Member { run: RunId(*run), frame: *frame, n: *n }, *times))
                .collect();
            let list = References::of(members.iter().copied());
            let text = list.to_string();
            prop_assert_eq!(&text.parse::<References>().unwrap(), &list);
            prop_assert_eq!(list.members().collect::<Vec<_>>(), members.clone());
            // Taken away piece by piece it is the same text, and read piece by piece the same list.
            let mut encoder = Encoder::default();
            let mut streamed = String::new();
            for at in members {
                encoder.push(at);
                streamed += &encoder.take();
            }
            streamed += &encoder.finish();
            prop_assert_eq!(&streamed, &text);
            let mut decoder = Decoder::default();
            let mut items = Vec::new();
            let mut push = |item| { items.push(item); Ok(()) };
            for piece in text.as_bytes().chunks(cut + 1) {
                decoder.feed(piece, &mut push).unwrap();
            }
            decoder.finish(&mut push).unwrap();
            prop_assert_eq!(References(items), list);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-f/,*-]{0,60}") {
            if let Ok(list) = text.parse::<References>() {
                prop_assert_eq!(list.to_string().parse::<References>().unwrap(), list);
            }
        }

        #[test]
        fn members_survive(run: u64, frame: u32, n: u32) {
            let at = Member { run: RunId(run), frame, n };
            prop_assert_eq!(at.to_string().parse::<Member>().unwrap(), at);
        }
    }
}
