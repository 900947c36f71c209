//! A filter in memory that says of most chunks that are not in a table that they are not: 10 bits a chunk.
//!
//! A Bloom filter in blocks of 32 bytes, as Parquet has them (Putze, Sanders, Singler 2007): one line of the processor's cache a
//! question, about 1 in 100 wrongly "maybe". Keys are hashes already, so their bits are used as they are.

use super::Key;

/// Bytes of a block: 8 words of 32 bits, in each of which a key sets one bit.
const BLOCK: usize = 32;
/// Bits for each key.
const BITS: u64 = 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Filter(Vec<u8>);

impl Filter {
    /// An empty one for so many keys.
    pub(super) fn new(keys: u64) -> Self {
        Self(vec![0; usize::try_from(Self::size(keys)).unwrap_or(usize::MAX)])
    }

    /// How many bytes the filter for so many keys has.
    pub(super) fn size(keys: u64) -> u64 {
        keys.saturating_mul(BITS).div_ceil(8).next_multiple_of(BLOCK as u64).max(BLOCK as u64)
    }

    /// The one with these bytes, whose number is a multiple of 32 and not 0.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn insert(&mut self, key: &Key) {
        for (byte, bit) in self.bits(key) {
            self.0[byte] |= bit;
        }
    }

    /// False: surely not.
    pub(super) fn may_hold(&self, key: &Key) -> bool {
        self.bits(key).all(|(byte, bit)| self.0[byte] & bit != 0)
    }

    /// Where the key's bits are. Keys in order have blocks in order, so that one who builds it from a sorted list is fast.
    fn bits(&self, key: &Key) -> impl Iterator<Item = (usize, u8)> + use<> {
        let number = u128::from_be_bytes(*key);
        let blocks = (self.0.len() / BLOCK) as u128;
        // Below `blocks`, as the upper half of the product of a 64-bit number with it.
        let block = usize::try_from(((number >> 64) * blocks) >> 64).unwrap_or(0) * BLOCK;
        (0..8usize).map(move |word| {
            let bit = (number >> (5 * word)) as usize & 31;
            (block + 4 * word + bit / 8, 1 << (bit % 8))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..16]);
        key
    }

    #[test]
    fn it_knows_all_and_wrongly_few_more() {
        let mut filter = Filter::new(20_000);
        (0..20_000).for_each(|n| filter.insert(&key(n)));
        assert!((0..20_000).all(|n| filter.may_hold(&key(n))));
        let wrong = (20_000..120_000).filter(|n| filter.may_hold(&key(*n))).count();
        assert!(wrong < 2500, "{wrong} of 100,000");
        assert_eq!((Filter::size(0), Filter::size(10_000_000)), (32, 12_500_000));
        for extreme in [[0; 16], [255; 16]] {
            assert!(!Filter::new(0).may_hold(&extreme));
        }
    }
}
