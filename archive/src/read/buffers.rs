//! Buffers for frames, used again: what one thread frees and another allocates anew stays with the allocator, and memory grows.
//!
//! Does not know what is in them.

use std::sync::{Mutex, PoisonError};

/// So many unused ones are kept; more than are on their way at once are never needed.
const KEPT: usize = 8;
/// Room comes in multiples of this, so that frames of nearly the same length share buffers.
const GRAIN: usize = 512 << 10;

/// Buffers that nobody uses now.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer with room for `length` bytes: the smallest one that is kept and large enough, or a new one.
    pub(crate) fn take(&self, length: usize) -> Vec<u8> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = kept.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= length);
        match fits.min_by_key(|(_, buffer)| buffer.capacity()).map(|(at, _)| at) {
            Some(at) => kept.swap_remove(at),
            None => Vec::with_capacity(length.next_multiple_of(GRAIN)),
        }
    }

    /// Gives a buffer back; what is in it is forgotten.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_that_fits_is_used_again() {
        let buffers = Buffers::default();
        let (small, large) = (buffers.take(10), buffers.take(GRAIN + 1));
        assert_eq!((small.capacity(), large.capacity()), (GRAIN, 2 * GRAIN));
        let (at_small, at_large) = (small.as_ptr(), large.as_ptr());
        buffers.give(large);
        buffers.give(small);
        let (again_small, again_large) = (buffers.take(GRAIN), buffers.take(GRAIN));
        assert_eq!((again_small.as_ptr(), again_large.as_ptr()), (at_small, at_large));
        assert!(again_small.is_empty() && again_large.is_empty());
        (0..100).for_each(|_| buffers.give(vec![0; 4]));
        assert_eq!(buffers.0.lock().unwrap().len(), KEPT);
    }
}
