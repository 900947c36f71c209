//! In which order frames are needed, so that each is decoded once however many files have chunks in it.
//!
//! Looks at lists alone, and reads nothing but those that lie in chunks.

use super::content::Items;
use super::frames::{Frames, Place};
use super::order::Wanted;
use crate::entry::Content;
use crate::reference::Item;
use base::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// How many items of a list that lies in chunks make one step at most.
const ITEMS: usize = 4096;

/// What one file has in a frame, one after the other.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: usize,
    /// The items of its list.
    pub(super) items: Range<usize>,
    pub(super) then: Then,
}

/// How a file goes on behind a part of it.
#[derive(Debug)]
pub(super) enum Then {
    /// In another frame.
    On,
    /// Not at all: that is all of it.
    End,
    /// In no frame that there is.
    Lost(Error),
}

/// The frames that many files need, each with what they have there. Always onwards to the next frame that a file waits
/// for, and from the last one back to the first: files whose chunks lie in several runs share each sweep.
pub(super) struct Schedule<'a> {
    frames: &'a Frames,
    files: &'a [Wanted],
    /// Files by the frame that they need next, with the first item that they need of it.
    waiting: BTreeMap<Place, Vec<(usize, usize)>>,
    here: Place,
}

impl<'a> Schedule<'a> {
    /// Of all files with lists of their own; gives as well which of them need no frame: their list is empty, or what it
    /// begins with is nowhere.
    pub(super) fn new(frames: &'a Frames, files: &'a [Wanted]) -> (Self, Vec<(usize, Then)>) {
        let mut waiting: BTreeMap<Place, Vec<(usize, usize)>> = BTreeMap::new();
        let mut at_once = Vec::new();
        for (file, wanted) in files.iter().enumerate() {
            let Content::Chunks(list) = &wanted.content else { continue };
            match list.0.first().map(|item| frames.locate(item.first())) {
                Some(Ok(place)) => waiting.entry(place).or_default().push((file, 0)),
                Some(Err(error)) => at_once.push((file, Then::Lost(error))),
                None => at_once.push((file, Then::End)),
            }
        }
        (Self { frames, files, waiting, here: (0, 0) }, at_once)
    }

    fn items(&self, file: usize) -> &'a [Item] {
        items(&self.files[file])
    }
}

/// The items of a list that stands in its entry.
pub(super) fn items(wanted: &Wanted) -> &[Item] {
    if let Content::Chunks(list) = &wanted.content { &list.0 } else { &[] }
}

impl Iterator for Schedule<'_> {
    type Item = (Place, Vec<Part>);

    fn next(&mut self) -> Option<Self::Item> {
        let place = self.waiting.range(self.here..).next().or_else(|| self.waiting.first_key_value()).map(|(place, _)| *place)?;
        self.here = place;
        let mut files = self.waiting.remove(&place)?;
        files.sort_unstable();
        let parts = files.into_iter().map(|(file, from)| {
            let items = self.items(file);
            let mut to = from;
            let then = loop {
                match items.get(to).map(|item| self.frames.locate(item.first())) {
                    None => break Then::End,
                    Some(Err(error)) => break Then::Lost(error),
                    Some(Ok(next)) if next != place => {
                        self.waiting.entry(next).or_default().push((file, to));
                        break Then::On;
                    }
                    Some(Ok(_)) => to += 1,
                }
            };
            Part { file, items: from..to, then }
        });
        let parts = parts.collect();
        Some((place, parts))
    }
}

/// The frames that one file needs, the list of which lies in chunks.
pub(super) struct Long<'a> {
    frames: &'a Frames,
    items: Items<'a>,
    /// The item that was read and not used.
    next: Option<(Place, Item)>,
    /// Why it ended before the list did.
    failed: &'a Mutex<Option<Error>>,
}

impl<'a> Long<'a> {
    /// Of this content; when it ends, `failed` says whether that was too early.
    pub(super) fn new(frames: &'a Frames, content: &'a Content, failed: &'a Mutex<Option<Error>>) -> Self {
        Self { frames, items: Items::new(frames, content), next: None, failed }
    }

    fn read(&mut self) -> Result<Option<(Place, Item)>> {
        if let Some(next) = self.next.take() {
            return Ok(Some(next));
        }
        let Some(item) = self.items.next()? else { return Ok(None) };
        Ok(Some((self.frames.locate(item.first())?, item)))
    }

    fn try_next(&mut self) -> Option<(Place, Item)> {
        self.read().unwrap_or_else(|error| {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            None
        })
    }
}

impl Iterator for Long<'_> {
    type Item = (Place, Vec<Item>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return None;
        }
        let (place, first) = self.try_next()?;
        let mut together = vec![first];
        while together.len() < ITEMS {
            match self.try_next() {
                Some((next, item)) if next == place => together.push(item),
                other => {
                    self.next = other;
                    break;
                }
            }
        }
        Some((place, together))
    }
}
