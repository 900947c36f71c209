//! In which order frames are needed, so that each is decoded once however many files have chunks in it.
//!
//! Looks at lists alone, and reads nothing.

use super::frames::{Frames, Place};
use crate::limits;
use crate::reference::{Extent, Item};
use base::Error;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// The chunks of one file, or as many of them as are looked at together.
pub(super) struct List<'a> {
    pub(super) file: usize,
    pub(super) items: Cow<'a, [Item]>,
    /// It begins where the file does.
    pub(super) begins: bool,
    /// It ends where the file does.
    pub(super) ends: bool,
    /// How long a chunk of it is, about: lists do not say.
    pub(super) each: u64,
}

/// What one list has in a frame, one after the other.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) list: usize,
    pub(super) items: Range<usize>,
    pub(super) then: Then,
    /// It is its turn. What comes before its turn is to be kept until then.
    pub(super) now: bool,
}

/// How a list goes on behind a part of it.
#[derive(Debug)]
pub(super) enum Then {
    /// In another frame, or in another list.
    On,
    /// Not at all: that is all of the file.
    End,
    /// In no frame that there is.
    Lost(Error),
}

/// The frames that many lists need, each with what they have there. Always onwards to the next frame that a list waits
/// for, and from the last one back to the first. Where a frame is decoded for some lists, the others get what they
/// have in it too, as far as there is room to keep it until its turn: where it belongs is known only then.
pub(super) struct Schedule<'a> {
    frames: &'a Frames,
    lists: &'a [List<'a>],
    /// Lists by the frame that they need next, with the first item that they need of it.
    waiting: BTreeMap<Place, Vec<(usize, usize)>>,
    /// What lists need of each frame beyond what they begin with, by their first items.
    later: HashMap<Place, Vec<(usize, usize)>>,
    /// The lists that lie in several frames.
    spread: HashMap<usize, Spread>,
    /// Bytes that can still be kept, about.
    room: u64,
    here: Place,
}

/// How far a list has come that lies in several frames.
#[derive(Default)]
struct Spread {
    /// The item that it waits for.
    at: usize,
    /// What is kept of it, by the first items, and about how many bytes that takes.
    kept: HashMap<usize, u64>,
}

impl<'a> Schedule<'a> {
    /// Of these lists, with room for so many bytes before their turn; gives as well which of them need no frame: they are
    /// empty, or what they begin with is nowhere.
    pub(super) fn new(frames: &'a Frames, lists: &'a [List<'a>], room: u64) -> (Self, Vec<(usize, Then)>) {
        let (waiting, later, spread) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        let mut schedule = Self { frames, lists, waiting, later, spread, room, here: (0, 0) };
        let mut at_once = Vec::new();
        for list in 0..lists.len() {
            match schedule.place(list, 0) {
                Some(Ok(place)) => {
                    schedule.waiting.entry(place).or_default().push((list, 0));
                    schedule.look_ahead(list, place);
                }
                Some(Err(error)) => at_once.push((list, Then::Lost(error))),
                None => at_once.push((list, Then::End)),
            }
        }
        (schedule, at_once)
    }

    fn place(&self, list: usize, item: usize) -> Option<base::Result<Place>> {
        self.lists[list].items.get(item).map(|item| self.frames.locate(item.first()))
    }

    /// Notes what a list needs of other frames than its first.
    fn look_ahead(&mut self, list: usize, first: Place) {
        let mut at = self.end(list, 0, first);
        while let Some(Ok(place)) = self.place(list, at) {
            self.spread.entry(list).or_default();
            self.later.entry(place).or_default().push((list, at));
            at = self.end(list, at, place);
        }
    }

    /// Where the part of a list ends that begins at `from` and lies in the frame `place`.
    fn end(&self, list: usize, from: usize, place: Place) -> usize {
        let items = &self.lists[list].items[from..];
        // Neighbours mostly name their frame in the same words.
        let alike = |item: &Item| (item.run, item.frame) == (items[0].run, items[0].frame);
        let other = items.iter().position(|item| !alike(item) && self.frames.locate(item.first()).ok() != Some(place));
        from + other.unwrap_or(items.len())
    }

    fn part(&self, list: usize, from: usize, place: Place, now: bool) -> Part {
        let to = self.end(list, from, place);
        let then = match self.place(list, to) {
            None if self.lists[list].ends => Then::End,
            Some(Err(error)) => Then::Lost(error),
            None | Some(Ok(_)) => Then::On,
        };
        Part { list, items: from..to, then, now }
    }

    /// About how many bytes are to be kept for a part: a chunk that is repeated is kept once.
    fn cost(&self, part: &Part) -> u64 {
        let list = &self.lists[part.list];
        let chunks = |item: &Item| if let Extent::Repeat { .. } = item.extent { 1 } else { item.count() };
        let chunks = list.items[part.items.clone()].iter().fold(0, |sum: u64, item| sum.saturating_add(chunks(item)));
        chunks.saturating_mul(list.each.clamp(1, limits::CHUNK as u64))
    }

    /// A list has come to this item: it waits for the first one that is not kept.
    fn go_on(&mut self, list: usize, mut at: usize) {
        while let Some(Ok(place)) = self.place(list, at) {
            let end = self.end(list, at, place);
            let Some(spread) = self.spread.get_mut(&list) else { return };
            spread.at = at;
            match spread.kept.remove(&at) {
                Some(cost) => (self.room, at) = (self.room.saturating_add(cost), end),
                None => return self.waiting.entry(place).or_default().push((list, at)),
            }
        }
        self.spread.remove(&list);
    }

    /// Whether a part is still to come, and is not kept.
    fn is_missing(&self, list: usize, from: usize) -> bool {
        self.spread.get(&list).is_some_and(|spread| spread.at < from && !spread.kept.contains_key(&from))
    }
}

impl Iterator for Schedule<'_> {
    type Item = (Place, Vec<Part>);

    fn next(&mut self) -> Option<Self::Item> {
        let place = self.waiting.range(self.here..).next().or_else(|| self.waiting.first_key_value()).map(|(place, _)| *place)?;
        self.here = place;
        let mut parts = Vec::new();
        // A list may come back to this frame at once, when what lies between is kept.
        while let Some(mut turn) = self.waiting.remove(&place) {
            turn.sort_unstable();
            for (list, from) in turn {
                let part = self.part(list, from, place, true);
                self.go_on(list, part.items.end);
                parts.push(part);
            }
        }
        let mut others = self.later.remove(&place).unwrap_or_default();
        others.retain(|(list, from)| {
            if !self.is_missing(*list, *from) {
                return false;
            }
            let part = self.part(*list, *from, place, false);
            let cost = self.cost(&part);
            let Some(spread) = self.spread.get_mut(list).filter(|_| cost <= self.room) else { return true };
            spread.kept.insert(*from, cost);
            self.room -= cost;
            parts.push(part);
            false
        });
        if !others.is_empty() {
            self.later.insert(place, others);
        }
        Some((place, parts))
    }
}
