//! The bandwidth of a dataset: how fast its packs are read by nodes, over all their sessions together.
//!
//! Sessions are processes of their own; what they share is a small file under a lock. It is safe to lose.

use base::config::ClientConfig;
use base::{Blake3, Dataset, FileLock, RequestId, Result};
use queue::pool::ClientPool;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECOND: u64 = 1_000_000_000;
/// So much that was not used counts for later: whoever waits is never woken up to the moment.
const CREDIT: u64 = SECOND / 10;
/// Nobody waits for longer. More is only ever noted after the clock was set back.
const LONGEST: u64 = 60 * SECOND;

/// What the sessions of one dataset keep to.
pub struct Pace {
    path: PathBuf,
    /// Bytes a second.
    rate: u64,
}

impl Pace {
    /// The pace of what `name`, a file of the export folder, belongs to; `None` when its dataset has no bandwidth.
    pub fn of(config: &ClientConfig, name: &str) -> Option<Self> {
        if config.datasets.iter().all(|entry| entry.bandwidth.is_none()) {
            return None;
        }
        let id: RequestId = name.split('.').next()?.parse().ok()?;
        let (_, file, _) = ClientPool::open(&config.pool_path()).ok()?.find(&id).ok()??;
        let dataset = file.dataset().ok()?;
        let rate = config.listed(&dataset)?.bandwidth?.0;
        Some(Self::at(config.state.join("locks").join(file_name(&dataset)), rate))
    }

    fn at(path: PathBuf, rate: u64) -> Self {
        Self { path, rate: rate.max(1) }
    }

    /// Waits for the turn of so many bytes. Where the file cannot be used nobody waits: a backup that is fast is better than none.
    pub fn wait_for(&self, bytes: u64) {
        std::thread::sleep(self.turn(bytes).unwrap_or_default());
    }

    fn turn(&self, bytes: u64) -> Result<Duration> {
        let lock = FileLock::wait(&self.path)?;
        let mut noted = [0; 8];
        let free = if lock.file().read_exact_at(&mut noted, 0).is_ok() { u64::from_le_bytes(noted) } else { 0 };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|time| u64::try_from(time.as_nanos()).ok()).unwrap_or(0);
        let (begins, ends) = turn(free, now, bytes, self.rate);
        // Not durable: only what happens at the same time is to be known.
        let _ = lock.file().write_all_at(&ends.to_le_bytes(), 0);
        Ok(Duration::from_nanos(begins.saturating_sub(now)))
    }
}

/// No path of a user's is in it.
fn file_name(dataset: &Dataset) -> String {
    format!(".pace-{}", &Blake3::of(dataset.to_string().as_bytes()).hex()[..32])
}

/// When `bytes` may go, and when they are over: `free` is when what went before is over. Times are in nanoseconds.
fn turn(free: u64, now: u64, bytes: u64, rate: u64) -> (u64, u64) {
    let free = if free > now.saturating_add(LONGEST) { now } else { free };
    let begins = free.max(now.saturating_sub(CREDIT));
    let takes = u128::from(bytes) * u128::from(SECOND) / u128::from(rate.max(1));
    (begins, begins.saturating_add(u64::try_from(takes).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However many sessions ask for whatever, no more than the rate goes through, and a little that was saved up; and
        /// nobody waits without need.
        #[test]
        fn the_rate_holds(rate in 1_000u64..100_000_000, asked in prop::collection::vec((0u64..262_144, 0u64..SECOND), 1..100)) {
            let begun = 1_000 * SECOND;
            let (mut now, mut free, mut sent) = (begun, 0, 0u64);
            for (bytes, passes) in asked {
                let before = free;
                let (begins, ends) = turn(free, now, bytes, rate);
                prop_assert!(begins <= now.max(before) && begins <= now + LONGEST && ends >= begins);
                sent += bytes;
                free = ends;
                // Whoever was given a turn waits for it.
                now = now.max(begins) + passes;
                let least = u128::from(sent) * u128::from(SECOND) / u128::from(rate);
                // Rounded down once for each.
                prop_assert!(u128::from(ends - (begun - CREDIT)) + 100 >= least);
            }
        }
    }

    #[test]
    fn sessions_share_it_and_a_wrong_clock_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pace");
        let [one, other] = [(); 2].map(|()| Pace::at(path.clone(), 1 << 20));
        assert_eq!(one.turn(1 << 20).unwrap(), Duration::ZERO);
        // Some of the second may be over already, on a machine that is busy.
        assert!(other.turn(1 << 20).unwrap() <= Duration::from_secs(1));
        assert!(one.turn(10 << 20).unwrap() <= Duration::from_secs(2));
        assert!(other.turn(1).unwrap() > Duration::from_secs(2));
        std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
        assert_eq!(one.turn(1).unwrap(), Duration::ZERO);
        std::fs::write(&path, b"x").unwrap();
        assert_eq!(one.turn(1).unwrap(), Duration::ZERO);
        assert!(Pace::at(dir.path().join("absent/pace"), 1).turn(1).is_err());
    }

    #[test]
    fn of_which_dataset() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "version = 1\nname = \"web1\"\nstate = \"{}\"\n[[dataset]]\naddress = \"files:/a\"\nbandwidth = \"1 MiB\"\n[[dataset]]\naddress = \"files:/b\"\n",
            dir.path().display()
        );
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        std::fs::create_dir(dir.path().join("locks")).unwrap();
        let pool = ClientPool::create(&config.pool_path()).unwrap();
        let ask = |dataset: &str| {
            let file = queue::pool::PoolFile::new(&dataset.parse().unwrap(), &"n1".parse().unwrap(), &[], base::Reason::Manual).unwrap();
            pool.submit(&file).unwrap().id().clone()
        };
        let (slow, fast) = (ask("files:/a"), ask("files:/b"));
        assert_eq!(Pace::of(&config, &format!("{slow}.manifest")).unwrap().rate, 1 << 20);
        assert_eq!(Pace::of(&config, &format!("{slow}.2.manifest")).unwrap().rate, 1 << 20);
        for name in [format!("{fast}.manifest"), "x".into(), RequestId::generate().unwrap().to_string()] {
            assert!(Pace::of(&config, &name).is_none(), "{name}");
        }
    }
}
