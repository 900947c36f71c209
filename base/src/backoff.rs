//! When to try again: exponential backoff with jitter, as a pure function.

use std::time::Duration;

/// The first wait.
pub const FIRST: Duration = Duration::from_secs(5);
/// The longest wait.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// How long to wait after `failures` failures in a row (1 for the first). The wait doubles from [`FIRST`] to
/// [`LONGEST`]; `random` in 0..=1 takes up to half of it away, so that many clients do not come back at once.
pub fn delay(failures: u32, random: f64) -> Duration {
    let full = FIRST.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(LONGEST);
    full.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

/// A random number in 0..=1 for [`delay`]; 0 where the system gives no randomness.
pub fn jitter() -> f64 {
    getrandom::u32().map_or(0.0, |n| f64::from(n) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stays_within_bounds(failures: u32, random in 0.0f64..=1.0) {
            let wait = delay(failures, random);
            prop_assert!(wait >= FIRST / 2 && wait <= LONGEST);
            prop_assert!(delay(failures.saturating_add(1), random) >= wait);
        }
    }
}
