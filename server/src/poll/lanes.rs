//! Worker threads that take one job at a time, each job by its name never twice at once.
//!
//! Does not know what a job does. One for each lane, so that a long archive does not delay a mirror.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Jobs that wait, and those that run.
#[derive(Debug)]
pub struct Lanes<J> {
    inner: Mutex<Inner<J>>,
    // Apart, so that a job wakes one worker and not everybody.
    work: Condvar,
    idle: Condvar,
}

#[derive(Debug)]
struct Inner<J> {
    waiting: VecDeque<J>,
    // The same: a sweep asks for thousands.
    asked: BTreeSet<J>,
    running: BTreeSet<J>,
    // Asked for while it ran: the run may have looked before the new work was there, so it runs once more.
    again: BTreeSet<J>,
    stopping: bool,
}

impl<J: Clone + Ord> Lanes<J> {
    /// No jobs.
    pub fn new() -> Self {
        let inner =
            Inner { waiting: VecDeque::new(), asked: BTreeSet::new(), running: BTreeSet::new(), again: BTreeSet::new(), stopping: false };
        Self { inner: Mutex::new(inner), work: Condvar::new(), idle: Condvar::new() }
    }

    /// Asks for `job`: once from now on it is looked at, however often it was asked for before.
    pub fn ask(&self, job: J) {
        let mut inner = self.lock();
        if inner.running.contains(&job) {
            inner.again.insert(job);
        } else if inner.asked.insert(job.clone()) {
            inner.waiting.push_back(job);
            self.work.notify_one();
        }
    }

    /// Works until [`Lanes::stop`]; any number of threads may do so. A job that panics ends its worker alone.
    pub fn work(&self, run: impl Fn(&J)) {
        while let Some(job) = self.take() {
            let done = Done { lanes: self, job: &job };
            run(&job);
            drop(done);
        }
    }

    fn take(&self) -> Option<J> {
        let mut inner = self.lock();
        loop {
            if inner.stopping {
                return None;
            }
            if let Some(job) = inner.waiting.pop_front() {
                inner.asked.remove(&job);
                inner.running.insert(job.clone());
                return Some(job);
            }
            inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets workers end after the job that they have; what waits is left for the next start.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.work.notify_all();
        self.idle.notify_all();
    }

    /// Whether work is to end soon; long jobs look at this between two requests.
    pub fn stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Whether jobs wait for a worker; a job that could go on for long looks at this as well, and asks for itself again.
    pub fn crowded(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// Waits until nothing runs (and, unless stopping, nothing waits), at most `time`; false when time ran out.
    pub fn wait_idle(&self, time: Option<Duration>) -> bool {
        let deadline = time.map(|time| Instant::now() + time);
        let mut inner = self.lock();
        while !(inner.running.is_empty() && (inner.stopping || inner.waiting.is_empty())) {
            let Some(deadline) = deadline else {
                inner = self.idle.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            inner = self.idle.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner<J>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a job off the running ones, also when it panicked.
struct Done<'a, J: Clone + Ord> {
    lanes: &'a Lanes<J>,
    job: &'a J,
}

impl<J: Clone + Ord> Drop for Done<'_, J> {
    fn drop(&mut self) {
        let mut inner = self.lanes.lock();
        inner.running.remove(self.job);
        if inner.again.remove(self.job) && inner.asked.insert(self.job.clone()) {
            inner.waiting.push_back(self.job.clone());
            self.lanes.work.notify_one();
        }
        if inner.running.is_empty() {
            self.lanes.idle.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_job_never_runs_twice_at_once_and_no_asking_is_lost() {
        let lanes = Lanes::new();
        let (now, most, runs) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    lanes.work(|_: &&str| {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(2));
                        runs.fetch_add(1, Ordering::SeqCst);
                        now.fetch_sub(1, Ordering::SeqCst);
                    });
                });
            }
            for _ in 0..20 {
                lanes.ask("a");
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(lanes.wait_idle(None));
            let before = runs.load(Ordering::SeqCst);
            lanes.ask("a");
            assert!(lanes.wait_idle(Some(Duration::from_secs(10))));
            assert_eq!(runs.load(Ordering::SeqCst), before + 1);
            assert_eq!(most.load(Ordering::SeqCst), 1);
            lanes.stop();
        });
    }

    #[test]
    fn a_job_with_much_to_do_lets_others_go_before() {
        let lanes = Lanes::new();
        let (left, order) = (AtomicUsize::new(6), Mutex::new(Vec::new()));
        ["flood", "web1", "web2"].into_iter().for_each(|name| lanes.ask(name));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                lanes.work(|name| {
                    order.lock().unwrap().push(*name);
                    while *name == "flood" && left.load(Ordering::SeqCst) > 0 {
                        left.fetch_sub(1, Ordering::SeqCst);
                        if lanes.crowded() {
                            return lanes.ask("flood");
                        }
                    }
                });
            });
            assert!(lanes.wait_idle(None));
            lanes.stop();
        });
        assert_eq!(order.into_inner().unwrap(), ["flood", "web1", "web2", "flood"]);
    }

    #[test]
    fn stopping_leaves_what_waits() {
        let lanes = Lanes::new();
        lanes.ask(1);
        lanes.stop();
        lanes.work(|_| panic!("nothing may be taken any more"));
        assert!(lanes.stopping() && lanes.wait_idle(Some(Duration::from_secs(1))));
    }
}
