//! Schedules by age: a dataset or a group with `every` is due when its last success is older than that.
//!
//! `send` and `watch` ask for what is due; every node goes by what it itself has confirmed. Nothing here waits for a time of
//! day, so whoever slept catches up.

use crate::history::{History, Past};
use crate::{output, state};
use base::config::ClientConfig;
use base::{Blake3, Dataset, FileLock, Name, Reason, Result, backoff, clock};
use jiff::{SignedDuration, Timestamp};
use queue::pool::{ClientPool, PoolFile};
use std::time::Duration;

/// So far ahead of the clock a time may be that was written down; a clock is corrected by so much without anybody noticing.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// The first tries after a failure come after a minute or so, and not after seconds: what failed is a whole backup.
const STEPS: u32 = 4;

/// By how much a fleet is spread at most, in the ordinary run of things.
const SPREAD: Duration = Duration::from_secs(600);

/// By how much those are spread that have just been started or woken up, where all may have been at the same time.
const SPREAD_AWAKE: Duration = Duration::from_secs(60);

/// What is known of one dataset, or group, at one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// How old the last success may become.
    pub every: Duration,
    /// When that was.
    pub last_success: Option<Timestamp>,
    /// How many requests in a row have failed since.
    pub failures: u32,
    /// When the last of these failed.
    pub last_failure: Option<Timestamp>,
}

/// From when on it is due; a time that is not after `now` means: now.
///
/// `share`, from 0 to 1, is this dataset's own place within a fleet that is spread over a tenth of `every`, ten minutes at most.
/// With `awake`, the time since when this process looks, nothing is due within the first minute but for that share of it.
///
/// A time that lies ahead of the clock was written down by a wrong one, and counts for nothing: so whatever was written down, it
/// is due at the latest in `every`, its tenth, and five minutes.
pub fn due_at(facts: &Facts, share: f64, now: Timestamp, awake: Option<Timestamp>) -> Timestamp {
    let share = share.clamp(0.0, 1.0);
    let part = |most: Duration| (facts.every / 10).min(most).mul_f64(share);
    let believed = |time: &Timestamp| *time <= later(now, AHEAD.unsigned_abs());
    let by_age = facts.last_success.filter(believed).map_or(now, |time| later(time, facts.every.saturating_add(part(SPREAD))));
    let pause = backoff::delay(facts.failures.saturating_add(STEPS), share).min(facts.every);
    let by_failure = facts.last_failure.filter(believed).filter(|_| facts.failures > 0).map_or(by_age, |time| later(time, pause));
    let by_sleep = awake.filter(believed).map_or(by_age, |time| later(time, part(SPREAD_AWAKE)));
    by_age.max(by_failure).max(by_sleep)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The place of a dataset of this client in the spread, the same every time.
fn share(client: &Name, node: &Name, subject: &Dataset) -> f64 {
    let Blake3(bytes) = Blake3::of(format!("{client} {node} {subject}").as_bytes());
    f64::from(u16::from_le_bytes([bytes[0], bytes[1]])) / f64::from(u16::MAX)
}

/// How old the last success of a dataset or a group may become, where the configuration says so.
pub fn every(config: &ClientConfig, subject: &Dataset) -> Option<Duration> {
    let of_group = || config.group_of(subject).and_then(|group| group.every);
    config.listed(subject).and_then(|entry| entry.every).or_else(of_group).map(|span| span.0)
}

/// From when on a dataset or a group is due at a node; `None` where it is never due by itself, or one of its nodes is not this
/// one. `past` is what the history has of it.
pub fn next(config: &ClientConfig, node: &Name, subject: &Dataset, past: Option<&Past>, awake: Option<Timestamp>) -> Option<Timestamp> {
    let every = every(config, subject)?;
    config.nodes_of(subject).iter().find(|one| one.name == *node)?;
    let facts = Facts {
        every,
        last_success: past.and_then(|past| past.last_success),
        failures: past.map_or(0, |past| past.failures),
        last_failure: past.and_then(|past| past.last_failure),
    };
    let share = config.name.as_ref().map_or(0.0, |client| share(client, node, subject));
    Some(due_at(&facts, share, clock::now(), awake))
}

/// All that the configuration has that can be due.
fn subjects(config: &ClientConfig) -> Result<Vec<Dataset>> {
    let datasets = config.datasets.iter().filter(|entry| entry.every.is_some()).map(|entry| Ok(entry.address.clone()));
    let groups = config.groups.iter().filter(|group| group.every.is_some()).map(base::config::GroupEntry::subject);
    datasets.chain(groups).collect()
}

/// When what is on its way now can be due again at the earliest.
fn soonest(config: &ClientConfig, subject: &Dataset) -> Timestamp {
    later(clock::now(), every(config, subject).unwrap_or_default())
}

/// Asks for what is due, each of its nodes for itself, unless that was asked for already. Gives the time at which the next
/// thing will be due, at the earliest where it is on its way.
///
/// # Errors
/// When the pool cannot be read or written.
pub fn submit_due(config: &ClientConfig, pool: &ClientPool, awake: Option<Timestamp>) -> Result<Option<Timestamp>> {
    let subjects = subjects(config)?;
    if subjects.is_empty() {
        return Ok(None);
    }
    // Two that look at the same moment would both find it due. Whoever has the lock asks for all of it.
    let Some(_lock) = FileLock::try_now(&state::schedule_lock_path(config))? else { return Ok(None) };
    // In this order: what ends in between is in the history already.
    let unfinished = pool.unfinished()?;
    let mut first: Option<Timestamp> = None;
    for node in &config.nodes {
        let history = History::load(config, &node.name);
        for subject in &subjects {
            let Some(due) = next(config, &node.name, subject, history.datasets.get(subject), awake) else { continue };
            let asked = |file: &PoolFile| file.node == node.name && file.module == subject.module() && file.path == subject.path();
            let next = if unfinished.iter().any(|(_, file, _)| asked(file)) {
                soonest(config, subject)
            } else if due <= clock::now() {
                let id = pool.submit(&PoolFile::new(subject, &node.name, &[], Reason::Schedule)?)?.id().clone();
                tracing::info!("{}: {subject} is due ({id})", node.name);
                soonest(config, subject)
            } else {
                due
            };
            first = Some(first.map_or(next, |first| first.min(next)));
        }
    }
    Ok(first)
}

/// As [`submit_due`]; what goes wrong is told, and keeps nobody from sending what waits.
pub fn submit_due_telling(config: &ClientConfig, pool: &ClientPool, awake: Option<Timestamp>) -> Option<Timestamp> {
    submit_due(config, pool, awake).unwrap_or_else(|error| {
        output::complain(&error.context("what is due could not be asked for"));
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn facts(every: u64, last_success: Option<i64>, failures: u32, last_failure: Option<i64>) -> Facts {
        Facts { every: Duration::from_secs(every), last_success: last_success.map(at), failures, last_failure: last_failure.map(at) }
    }

    #[test]
    fn by_example() {
        let cases = [
            ("never backed up", facts(3600, None, 0, None), 0.5, 0),
            ("fresh", facts(3600, Some(-600), 0, None), 0.0, 3000),
            ("fresh, later in the fleet", facts(3600, Some(-600), 0, None), 1.0, 3360),
            ("slept", facts(3600, Some(-90_000), 0, None), 0.0, -86_400),
            ("failed a moment ago", facts(21_600, Some(-90_000), 1, Some(0)), 0.0, 80),
            ("fails for long", facts(21_600, Some(-900_000), 50, Some(0)), 0.0, 3600),
            ("fails, and is wanted often", facts(60, Some(-900_000), 50, Some(0)), 0.0, 60),
            ("never worked", facts(21_600, None, 3, Some(0)), 0.0, 320),
            ("the clock was a year ahead", facts(3600, Some(31_536_000), 0, None), 0.5, 0),
            ("the clock was corrected a little", facts(3600, Some(10), 0, None), 0.0, 3610),
            ("it failed when the clock was ahead", facts(3600, Some(-9000), 9, Some(31_536_000)), 0.0, -5400),
        ];
        for (what, facts, share, expected) in cases {
            assert_eq!(due_at(&facts, share, at(0), None), at(expected), "{what}");
        }
        assert_eq!(due_at(&facts(3600, None, 0, None), 0.5, at(0), Some(at(-10))), at(20));
        assert_eq!(due_at(&facts(10, None, 0, None), 1.0, at(0), Some(at(0))), at(1));
    }

    fn any_facts() -> impl Strategy<Value = Facts> {
        let time = || proptest::option::of(-100_000_000i64..100_000_000);
        (1u64..40_000_000, time(), 0u32..100, time())
            .prop_map(|(every, success, failures, failure)| facts(every, success, failures, failure))
    }

    proptest! {
        /// Whatever a wrong clock has written down, nothing waits for longer than the age that is wanted, and a little.
        #[test]
        fn nothing_waits_for_ever(facts in any_facts(), share in 0.0f64..=1.0, awake in proptest::option::of(-1000i64..100_000_000)) {
            let due = due_at(&facts, share, at(0), awake.map(at));
            let most = facts.every + (facts.every / 10).min(SPREAD) + Duration::from_secs(300);
            prop_assert!(due <= later(at(0), most.max(facts.every + SPREAD_AWAKE)));
        }

        /// What was stored is not asked for again before it is old, and then it is.
        #[test]
        fn due_when_old(facts in any_facts(), share in 0.0f64..=1.0, age in 0i64..100_000_000) {
            let facts = Facts { last_success: Some(at(-age)), failures: 0, ..facts };
            let due = due_at(&facts, share, at(0), None);
            prop_assert!(due >= later(at(-age), facts.every));
            prop_assert!(due <= later(at(-age), facts.every + (facts.every / 10).min(SPREAD)));
        }

        /// Tries of what fails come ever more slowly, never faster than the first, and at least as often as it is wanted.
        #[test]
        fn failures_are_tried_more_and_more_rarely(facts in any_facts(), share in 0.0f64..=1.0, failures in 1u32..60) {
            let due = |failures| due_at(&Facts { last_success: None, last_failure: Some(at(0)), failures, ..facts }, share, at(0), None);
            prop_assert!(due(failures) <= due(failures + 1));
            prop_assert!(due(failures) > at(0) && due(failures) <= later(at(0), facts.every.min(backoff::LONGEST)));
        }
    }

    #[test]
    fn each_node_for_itself_and_nothing_twice() {
        let dir = tempfile::tempdir().unwrap();
        let node = |name: &str| format!("[[node]]\nname = \"{name}\"\nssh = \"g@h\"\nhost_key = \"k\"\nreceipts_key = \"k\"\n");
        let text = format!(
            "version = 1\nname = \"web1\"\nstate = \"{}\"\n{}{}[[dataset]]\naddress = \"files:/a\"\nnodes = [\"n1\", \"n2\"]\nevery = \"1h\"\n\
             [[dataset]]\naddress = \"files:/b\"\n[[group]]\nname = \"shop\"\nmembers = [\"files:/a\", \"files:/b\"]\nevery = \"1d\"\n",
            dir.path().display(),
            node("n1"),
            node("n2")
        );
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        state::make_folders(&config).unwrap();
        let pool = ClientPool::create(&config.pool_path()).unwrap();
        let name = |text: &str| Name::new(text).unwrap();
        let mut past = crate::outcome::OutcomeFile::new(
            &base::RequestId::generate().unwrap(),
            &"files:/a".parse().unwrap(),
            &name("n2"),
            crate::outcome::Ending::Stored,
        );
        past.at = later(clock::now(), Duration::from_secs(100));
        History::default().add(&config, &past).unwrap();
        let asked = || {
            let mut all: Vec<String> =
                pool.unfinished().unwrap().into_iter().map(|(_, file, _)| format!("{}:{} {}", file.module, file.path, file.node)).collect();
            all.sort();
            all
        };
        // What n2 has is fresh; the group goes to the default node.
        let first = submit_due(&config, &pool, None).unwrap().unwrap();
        assert!(first <= later(past.at, Duration::from_secs(3600)) && first >= later(clock::now(), Duration::from_secs(3500)));
        assert_eq!(asked(), ["files:/a n1", "group:shop n1"]);
        submit_due(&config, &pool, None).unwrap();
        assert_eq!(asked().len(), 2);
        let claimed = pool.claim_next(&|_| true, &base::Silent).unwrap().unwrap();
        submit_due(&config, &pool, None).unwrap();
        assert_eq!(asked().len(), 2, "{:?} is in process", claimed.file);
        let held = FileLock::try_now(&state::schedule_lock_path(&config)).unwrap().unwrap();
        pool.finish(&claimed.file.id).unwrap();
        assert_eq!(submit_due(&config, &pool, None).unwrap(), None, "another process is asking");
        drop(held);
        assert_eq!(asked().len(), 1);
    }
}
