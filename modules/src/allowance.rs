//! What a client may still use while one of its requests is fetched.
//!
//! Counts nothing: whoever serves the client knows what was used before.

use queue::access::limits::over;
use std::io::{self, Write};
use std::time::Instant;

/// The limits that a fetch has to keep.
#[derive(Clone, Copy)]
pub struct Allowance<'a> {
    /// The most packs of one snapshot.
    pub packs: Option<u32>,
    /// The most bytes in a second.
    pub bandwidth: Option<u64>,
    /// How many bytes may be fetched today.
    pub left: Option<u64>,
    /// Why so many bytes may not be fetched today; `None` when they may.
    pub today: &'a dyn Fn(u64) -> Option<String>,
}

impl Allowance<'_> {
    /// No limits.
    pub const NONE: Allowance<'static> = Allowance { packs: None, bandwidth: None, left: None, today: &|_| None };

    /// Why a snapshot of so many packs of which `new` bytes are to be fetched is not taken.
    pub fn refuses(&self, packs: usize, new: u64) -> Option<String> {
        match self.packs {
            Some(most) if packs > most as usize => Some(over("packs", most, format!("the snapshot refers to {packs}"))),
            _ => (self.today)(new),
        }
    }
}

/// A writer that takes so many bytes in a second, on the whole, and sleeps in between.
pub(crate) struct Slowed<W> {
    to: W,
    rate: Option<u64>,
    begun: Instant,
    taken: u64,
}

impl<W> Slowed<W> {
    /// At most `rate` bytes in a second into `to`, or as many as come.
    pub(crate) fn new(to: W, rate: Option<u64>) -> Self {
        Self { to, rate, begun: Instant::now(), taken: 0 }
    }

    /// What it writes to.
    pub(crate) fn into_inner(self) -> W {
        self.to
    }
}

impl<W: Write> Write for Slowed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.taken += n as u64;
        if let Some(rate) = self.rate {
            std::thread::sleep(transport::rate::early(self.taken, rate, self.begun.elapsed()));
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn packs_and_bytes() {
        let today = |new: u64| (new > 10).then(|| "today".to_owned());
        let allowance = Allowance { packs: Some(2), today: &today, ..Allowance::NONE };
        assert_eq!(allowance.refuses(2, 10), None);
        assert_eq!(allowance.refuses(2, 11).as_deref(), Some("today"));
        assert_eq!(allowance.refuses(3, 0).as_deref(), Some("over the limit packs = 2: the snapshot refers to 3"));
        assert_eq!(Allowance::NONE.refuses(1_000_000, u64::MAX), None);
    }

    #[test]
    fn bytes_pass_whole_and_not_too_fast() {
        let begun = Instant::now();
        let mut slowed = Slowed::new(Vec::new(), Some(100_000));
        for _ in 0..10 {
            slowed.write_all(&[7; 1000]).unwrap();
        }
        slowed.flush().unwrap();
        assert_eq!(slowed.into_inner(), [7; 10_000]);
        assert!(begun.elapsed() >= Duration::from_millis(90));
    }
}
