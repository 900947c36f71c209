//! Which packs a dataset gives up: a pure decision over what its last snapshot used of them.
//!
//! Why more than "under half used": where changes are spread evenly, all packs of a first backup come to half at the same night, and that night
//! would send half of the tree. So the worst packs are given up ahead of that, paid from a credit that grows with what was new: writing
//! again never costs more than in proportion to the changes themselves. With changes of a share c a day spread over all chunks, and K daily
//! snapshots kept, no choice of whole packs holds less than min over L of c(L+K-1)/(1-(1-c)^L): 1.71 trees for 3 % and 7. This
//! one comes to 1.72 there; see the tests.

use std::cmp::Reverse;

/// Packs used less than this may be given up ahead of time.
const AHEAD: f64 = 0.85;
/// For each byte of packs with new content, so many may be written again ahead of time: about what holds the balance of the formula above.
const CREDIT: (u64, u64) = (7, 5);
/// In one night at most a quarter of the tree is written again, or this much of a small one.
const NIGHT: u64 = 256 << 20;
/// A pack is small below this size.
pub(super) const SMALL: u64 = 4 << 20;
/// More small packs than this are made fewer (the snapshot adds one for each lane to them), so many stay.
const MOST_SMALL: usize = 62;
const SMALL_LEFT: usize = 46;
/// A pack that is full is about this long.
const FULL: u64 = 32 << 20;

/// A pack that the last snapshot used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pack {
    /// Its file's bytes.
    pub(super) size: u64,
    /// The bytes of all its chunks.
    pub(super) plain: u64,
    /// The bytes of those that were used.
    pub(super) used: u64,
}

impl Pack {
    fn share(&self) -> f64 {
        if self.plain == 0 { 1.0 } else { self.used as f64 / self.plain as f64 }
    }

    /// What its used chunks take about when they are written again.
    fn worth(&self) -> u64 {
        let worth = u128::from(self.size) * u128::from(self.used) / u128::from(self.plain.max(1));
        u64::try_from(worth).unwrap_or(u64::MAX).min(self.size)
    }
}

/// What is given up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// For each pack whether it is.
    pub(super) given_up: Vec<bool>,
    /// What is left of the credit.
    pub(super) credit: u64,
}

/// The bytes that the credit grows by when packs of so many bytes were new.
pub(super) fn earned(new: u64) -> u64 {
    new.saturating_mul(CREDIT.0) / CREDIT.1
}

/// Decides. `below` is the share under which a pack is given up in any case; 0 gives up none for what is unused in it.
pub(super) fn choose(packs: &[Pack], credit: u64, below: f64) -> Choice {
    let night = (packs.iter().map(Pack::worth).sum::<u64>() / 4).max(NIGHT);
    let mut choice = Choice { given_up: vec![false; packs.len()], credit: credit.min(night) };
    let mut spent = 0;
    let mut order: Vec<usize> = (0..packs.len()).collect();
    order.sort_by(|one, other| packs[*one].share().total_cmp(&packs[*other].share()).then(one.cmp(other)));
    for number in order {
        let pack = packs[number];
        let due = pack.share() < below;
        if !due && (below <= 0.0 || pack.share() >= AHEAD) {
            break;
        }
        // One that is due is always affordable on its own.
        let worth = pack.worth();
        let affordable = if due { spent == 0 || spent + worth <= night } else { worth <= choice.credit };
        if affordable {
            choice.given_up[number] = true;
            choice.credit = choice.credit.saturating_sub(worth);
            spent += worth;
        }
    }
    fewer(packs, &mut choice.given_up);
    choice
}

/// Gives up the smallest packs where there are too many: of small ones, or of all beside what the tree would have in full ones.
fn fewer(packs: &[Pack], given_up: &mut [bool]) {
    let mut left: Vec<usize> = (0..packs.len()).filter(|number| !given_up[*number]).collect();
    left.sort_by_key(|number| Reverse((packs[*number].size, *number)));
    let small = left.iter().filter(|number| packs[**number].size < SMALL).count();
    if small > MOST_SMALL {
        left.drain(left.len() - (small - SMALL_LEFT)..).for_each(|number| given_up[number] = true);
    }
    let full = left.iter().map(|number| packs[*number].size).sum::<u64>().div_ceil(FULL);
    let most = usize::try_from(full + full / 2).unwrap_or(usize::MAX);
    if left.len() > most.saturating_add(MOST_SMALL) {
        left.drain(most.saturating_add(SMALL_LEFT)..).for_each(|number| given_up[number] = true);
    }
}

#[cfg(test)]
mod tests;
