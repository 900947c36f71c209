//! How fast bytes may pass, where somebody says.

use std::time::Duration;

/// How long to wait after `bytes` have passed in `elapsed`, so that they are at most `rate` in a second on the whole.
pub fn early(bytes: u64, rate: u64, elapsed: Duration) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "a moment more or less does not matter")]
    let due = Duration::try_from_secs_f64(bytes as f64 / rate.max(1) as f64).unwrap_or(Duration::MAX);
    // Whoever waits longer looks dead to those who watch for stalls.
    due.saturating_sub(elapsed).min(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::early;
    use std::time::Duration;

    #[test]
    fn waits_only_when_it_is_too_early() {
        let seconds = Duration::from_secs;
        for (bytes, rate, elapsed, wait) in
            [(0, 10, 0, 0), (100, 10, 0, 10), (100, 10, 4, 6), (100, 10, 10, 0), (100, 10, 11, 0), (u64::MAX, 1, 0, 30), (5, 0, 0, 5)]
        {
            assert_eq!(early(bytes, rate, seconds(elapsed)), seconds(wait), "{bytes} {rate} {elapsed}");
        }
    }
}
