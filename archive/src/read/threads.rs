//! Decoding many frames with several threads: some are fetched while others are decoded, and what comes of them is handed
//! on in the order in which they were asked for.
//!
//! Does not know what the frames are for.

use super::frames::{Fetched, Frame, Frames, Place};
use base::{Error, Kind, Result};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Frames that are on their way at once, from the fetching on until they are handed on: what bounds memory.
const ON_THEIR_WAY: usize = 6;
/// Neighbouring frames that are fetched by one read.
const AT_ONCE: usize = 3;
/// And how many bytes at most, unless one frame has more.
const FETCH: u64 = 4 << 20;
/// Threads that fetch: while one waits for its last bytes, the other has asked already.
const FETCHING: usize = 2;
/// Threads that decode, at most.
const DECODING: usize = 4;

/// A step: the frame that is needed, and what for.
type Step<S> = (Place, S);

struct Job<S> {
    number: u64,
    step: Step<S>,
    fetched: Result<Fetched>,
}

struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, (usize, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many frames more may be on their way; `false` when it is over.
    fn wait(&self, frames: usize) -> bool {
        let mut state = self.state();
        while state.0 + frames > ON_THEIR_WAY && !state.1 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.1
    }

    fn begin(&self, frames: usize) {
        self.state().0 += frames;
    }

    fn end_one(&self) {
        self.state().0 -= 1;
        self.changed.notify_all();
    }

    fn close(&self) {
        self.state().1 = true;
        self.changed.notify_all();
    }

    fn is_closed(&self) -> bool {
        self.state().1
    }
}

/// Closes the gate in every case: nobody waits for a thread that is gone.
struct Closing<'a>(&'a Gate, bool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if self.1 || std::thread::panicking() {
            self.0.close();
        }
    }
}

struct Feed<'a, S> {
    steps: Peekable<&'a mut (dyn Iterator<Item = Step<S>> + Send)>,
    number: u64,
}

impl<S> Feed<'_, S> {
    /// The next steps that one read can serve: neighbours in one pack.
    fn take(&mut self) -> (u64, Vec<Step<S>>) {
        let mut taken: Vec<Step<S>> = self.steps.next().into_iter().collect();
        while let Some(((pack, number), _)) = taken.last()
            && taken.len() < AT_ONCE
        {
            let follows = (*pack, number.wrapping_add(1));
            match self.steps.next_if(|(place, _)| *place == follows) {
                Some(step) => taken.push(step),
                None => break,
            }
        }
        let first = self.number;
        self.number += taken.len() as u64;
        (first, taken)
    }
}

/// Decodes the frames of `steps`: `work` is called for each by one of several threads, in any order, and what it gives
/// goes to `emit`, in the caller's thread and in the order of the steps, until that says `false`.
pub(crate) fn decode<S: Send, R: Send>(
    frames: &Frames,
    steps: &mut (dyn Iterator<Item = Step<S>> + Send),
    work: &(dyn Fn(Result<Arc<Frame>>, Place, S) -> R + Sync),
    emit: &mut dyn FnMut(R) -> bool,
) {
    let feed = Mutex::new(Feed { steps: steps.peekable(), number: 0 });
    let gate = Gate { state: Mutex::new((0, false)), changed: Condvar::new() };
    let decoding = std::thread::available_parallelism().map_or(1, usize::from).min(DECODING);
    std::thread::scope(|scope| {
        let over = Closing(&gate, true);
        let (jobs, waiting) = unbounded::<Job<S>>();
        let (done, results) = unbounded::<(u64, R)>();
        for _ in 0..FETCHING {
            let (jobs, feed, gate) = (jobs.clone(), &feed, &gate);
            scope.spawn(move || fetch(frames, feed, gate, &jobs));
        }
        for _ in 0..decoding {
            let (waiting, done, gate) = (waiting.clone(), done.clone(), &gate);
            scope.spawn(move || run(frames, &waiting, &done, gate, work));
        }
        drop((jobs, waiting, done));
        let mut early = BTreeMap::new();
        let mut next = 0;
        for (number, result) in results {
            early.insert(number, result);
            while let Some(result) = early.remove(&next) {
                next += 1;
                if !emit(result) {
                    return;
                }
                gate.end_one();
            }
        }
        drop(over);
    });
}

/// Takes steps and fetches what they need.
fn fetch<S>(frames: &Frames, feed: &Mutex<Feed<'_, S>>, gate: &Gate, jobs: &Sender<Job<S>>) {
    let _closing = Closing(gate, false);
    loop {
        let (first, steps) = {
            let mut feed = feed.lock().unwrap_or_else(PoisonError::into_inner);
            // Places are given in the order of the steps: the first of those on their way can always go on.
            if !gate.wait(AT_ONCE) {
                return;
            }
            let taken = feed.take();
            gate.begin(taken.1.len());
            taken
        };
        if steps.is_empty() {
            return;
        }
        let mut steps = steps.into_iter().zip(first..).peekable();
        while let Some((step, number)) = steps.next() {
            let (pack, from) = step.0;
            let mut together = vec![(step, number)];
            let mut bytes = frames.length((pack, from));
            while let Some(more) = steps.next_if(|((place, _), _)| {
                bytes = bytes.saturating_add(frames.length(*place));
                bytes <= FETCH
            }) {
                together.push(more);
            }
            let to = together.last().map_or(from, |(((_, number), _), _)| *number).saturating_add(1);
            let one = |number: u32| frames.fetch(pack, number..number.saturating_add(1));
            let alone = together.len() == 1;
            let mut fetched = Some(frames.fetch(pack, from..to));
            for (step, number) in together {
                let fetched = match &fetched {
                    Some(Ok(fetched)) => Ok(fetched.clone()),
                    Some(Err(error)) if !alone && error.kind() == Kind::NotNow => Err(Error::not_now(error.one_line())),
                    // One place that cannot be read spoils no other.
                    _ => fetched.take().filter(|_| alone).unwrap_or_else(|| one(step.0.1)),
                };
                if jobs.send(Job { number, step, fetched }).is_err() {
                    return;
                }
            }
        }
    }
}

/// Decodes what was fetched.
fn run<S, R>(
    frames: &Frames,
    waiting: &Receiver<Job<S>>,
    done: &Sender<(u64, R)>,
    gate: &Gate,
    work: &(dyn Fn(Result<Arc<Frame>>, Place, S) -> R + Sync),
) {
    let _closing = Closing(gate, false);
    for Job { number, step: (place, what), fetched } in waiting {
        if gate.is_closed() {
            return;
        }
        let frame = fetched.and_then(|fetched| frames.decode(place, &fetched));
        if done.send((number, work(frame, place, what))).is_err() {
            return;
        }
    }
}
