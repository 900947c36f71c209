//! What is done around the reading of one dataset or of a group, in which order, and what follows from a failure.
//!
//! Does nothing itself: whoever has the hands runs programs, makes snapshots and reads.
//!
//! The order: each `before`, the group's first · each snapshot · what has none is read · each `after`, the group's last · what has
//! a snapshot is read from it, and the snapshot goes. So nothing is at a standstill for longer than it must be.

use base::{Error, Kind, Result};

/// What is to be done for one dataset, or for the group that all the others belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// Whether there are commands to run.
    pub commands: bool,
    /// Whether it is read from a snapshot of its file system.
    pub freezes: bool,
    /// Whether it is read at all. A group is not: where it fails, all fail.
    pub reads: bool,
}

/// One step; the number is that of the dataset or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Run what comes before.
    Before(usize),
    /// Make the snapshot.
    Freeze(usize),
    /// Read it.
    Read(usize),
    /// Run what comes after.
    After(usize),
    /// Remove the snapshot.
    Thaw(usize),
}

/// The steps for these; a group stands first.
pub fn plan(all: &[Traits]) -> Vec<Step> {
    let which = |wanted: fn(&Traits) -> bool| all.iter().enumerate().filter(move |(_, one)| wanted(one)).map(|(i, _)| i);
    let commands: Vec<usize> = which(|one| one.commands).collect();
    let mut steps: Vec<Step> = commands.iter().copied().map(Step::Before).collect();
    steps.extend(which(|one| one.freezes && one.reads).map(Step::Freeze));
    steps.extend(which(|one| !one.freezes && one.reads).map(Step::Read));
    steps.extend(commands.into_iter().rev().map(Step::After));
    steps.extend(which(|one| one.freezes && one.reads).flat_map(|i| [Step::Read(i), Step::Thaw(i)]));
    steps
}

/// Who carries steps out.
pub trait Hands {
    /// Runs what comes before. What comes after will be run, whatever becomes of this, and should the process die in it.
    ///
    /// # Errors
    /// When it failed; then the dataset is not read.
    fn before(&mut self, which: usize) -> Result<()>;
    /// Makes the snapshot, which will be removed whatever becomes of this.
    ///
    /// # Errors
    /// When there is none; then the dataset is not read.
    fn freeze(&mut self, which: usize) -> Result<()>;
    /// Reads the dataset.
    ///
    /// # Errors
    /// When it failed.
    fn read(&mut self, which: usize) -> Result<()>;
    /// Runs what comes after; `well` is whether nothing has failed until now.
    ///
    /// # Errors
    /// When it failed. What was read is good all the same.
    fn after(&mut self, which: usize, well: bool) -> Result<()>;
    /// Removes the snapshot.
    ///
    /// # Errors
    /// When it is still there. What was read is good all the same.
    fn thaw(&mut self, which: usize) -> Result<()>;
}

/// How it went.
#[derive(Debug, Default)]
pub struct Report {
    /// For each, why it was not read.
    pub failed: Vec<Option<Error>>,
    /// What else went wrong: an `after`, or the removal of a snapshot.
    pub untidy: Vec<Error>,
}

/// Carries `steps` out for `all`. A `before` that failed is followed by its `after`; what was not begun is not ended. Once something
/// cannot be done now, nothing more is read: all of it is tried again together.
pub fn carry_out(all: &[Traits], steps: &[Step], hands: &mut dyn Hands) -> Report {
    let mut report = Report { failed: all.iter().map(|_| None).collect(), untidy: Vec::new() };
    let (mut begun, mut frozen) = (vec![false; all.len()], vec![false; all.len()]);
    let group = all.first().is_some_and(|first| !first.reads);
    for step in steps {
        let stopped = |report: &Report, i: usize| {
            let of_group = group && report.failed[0].is_some();
            of_group || report.failed[i].is_some() || report.failed.iter().flatten().any(|error| error.kind() == Kind::NotNow)
        };
        let (which, done) = match *step {
            Step::Before(i) if !stopped(&report, i) => {
                begun[i] = true;
                (i, hands.before(i))
            }
            Step::Freeze(i) if !stopped(&report, i) => {
                frozen[i] = true;
                (i, hands.freeze(i))
            }
            Step::Read(i) if !stopped(&report, i) => (i, hands.read(i)),
            Step::After(i) if begun[i] => {
                // Where one cannot be read now the others are not read any more, though nothing of theirs has failed.
                let of_others = group && i == 0 && report.failed.iter().any(Option::is_some);
                let well = !stopped(&report, i) && !of_others;
                report.untidy.extend(hands.after(i, well).err());
                continue;
            }
            Step::Thaw(i) if frozen[i] => {
                report.untidy.extend(hands.thaw(i).err());
                continue;
            }
            _ => continue,
        };
        report.failed[which] = done.err();
    }
    let why = report.failed.first().and_then(Option::as_ref).filter(|_| group).map(|error| (error.kind(), error.one_line()));
    let later = report.failed.iter().flatten().find(|error| error.kind() == Kind::NotNow).map(Error::one_line);
    for (failed, _) in report.failed.iter_mut().zip(all).filter(|(failed, one)| failed.is_none() && one.reads) {
        *failed = match (&why, &later) {
            (Some((kind, why)), _) => Some(Error::failed(why.clone()).with_kind(*kind)),
            (None, Some(why)) => Some(Error::not_now(why.clone())),
            (None, None) => None,
        };
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const PLAIN: Traits = Traits { commands: true, freezes: false, reads: true };
    const FROZEN: Traits = Traits { commands: true, freezes: true, reads: true };
    const GROUP: Traits = Traits { commands: true, freezes: false, reads: false };

    #[test]
    fn the_order() {
        use Step::{After, Before, Freeze, Read, Thaw};
        assert_eq!(plan(&[PLAIN]), [Before(0), Read(0), After(0)]);
        assert_eq!(plan(&[FROZEN]), [Before(0), Freeze(0), After(0), Read(0), Thaw(0)]);
        assert_eq!(plan(&[Traits { commands: false, ..PLAIN }]), [Read(0)]);
        let group = [Before(0), Before(1), Before(2), Freeze(2), Read(1), After(2), After(1), After(0), Read(2), Thaw(2)];
        assert_eq!(plan(&[GROUP, PLAIN, FROZEN]), group);
    }

    /// What was done, which of it fails, and after how many steps the process dies; with the notes that outlive it.
    #[derive(Default)]
    struct World {
        log: Vec<(char, usize)>,
        notes: Vec<(char, usize)>,
        well: Vec<usize>,
        fails: BTreeMap<(char, usize), Kind>,
        lives: usize,
    }

    impl World {
        fn dead(&self) -> bool {
            self.lives == 0
        }

        fn act(&mut self, what: char, which: usize) -> Result<()> {
            self.lives = self.lives.saturating_sub(1);
            if self.dead() {
                return Err(Error::failed("dead"));
            }
            self.log.push((what, which));
            match self.fails.get(&(what, which)) {
                Some(kind) => Err(Error::failed("no").with_kind(*kind)),
                None => Ok(()),
            }
        }

        fn note(&mut self, what: char, which: usize) {
            if !self.dead() {
                self.notes.push((what, which));
            }
        }

        fn forget(&mut self, what: char, which: usize) {
            if !self.dead() {
                self.notes.retain(|note| *note != (what, which));
            }
        }
    }

    impl Hands for World {
        fn before(&mut self, which: usize) -> Result<()> {
            self.note('a', which);
            self.act('b', which)
        }
        fn freeze(&mut self, which: usize) -> Result<()> {
            self.note('t', which);
            self.act('f', which)
        }
        fn read(&mut self, which: usize) -> Result<()> {
            self.act('r', which)
        }
        fn after(&mut self, which: usize, well: bool) -> Result<()> {
            self.well.extend(well.then_some(which));
            let done = self.act('a', which);
            self.forget('a', which);
            done
        }
        fn thaw(&mut self, which: usize) -> Result<()> {
            let done = self.act('t', which);
            self.forget('t', which);
            done
        }
    }

    fn traits() -> impl Strategy<Value = Vec<Traits>> {
        let one = (any::<bool>(), any::<bool>()).prop_map(|(commands, freezes)| Traits { commands, freezes, reads: true });
        (proptest::option::of(Just(GROUP)), prop::collection::vec(one, 1..5))
            .prop_map(|(group, rest)| group.into_iter().chain(rest).collect())
    }

    fn failures() -> impl Strategy<Value = BTreeMap<(char, usize), Kind>> {
        let step = prop::sample::select(vec!['b', 'f', 'r', 'a', 't']);
        let kind = prop_oneof![Just(Kind::Failed), Just(Kind::NotNow)];
        prop::collection::btree_map((step, 0usize..5), kind, 0..4)
    }

    proptest! {
        /// Whatever fails, and wherever the process dies: what was begun is ended, in this life or from the notes in the next.
        #[test]
        fn what_is_begun_is_ended(all in traits(), fails in failures(), lives in prop_oneof![1usize..30, Just(usize::MAX)]) {
            let mut world = World { fails, lives, ..World::default() };
            let report = carry_out(&all, &plan(&all), &mut world);
            let died = world.dead();
            let notes = world.notes.clone();
            prop_assert!(died || notes.is_empty(), "{notes:?}");
            // The next start.
            let log: Vec<(char, usize)> = world.log.iter().copied().chain(notes.into_iter().rev()).collect();
            let times = |what, which| log.iter().filter(|one| **one == (what, which)).count();
            let place = |what, which| log.iter().position(|one| *one == (what, which));
            // What was told to be well was read, or its snapshot was made; of a group, all of it.
            for told in world.well.iter().filter(|_| !died) {
                let of_it: Vec<usize> = if all[*told].reads { vec![*told] } else { (1..all.len()).collect() };
                for one in of_it {
                    let last = if all[one].freezes { 'f' } else { 'r' };
                    prop_assert!(times(last, one) == 1 && !world.fails.contains_key(&(last, one)), "{told} in {log:?}");
                }
            }
            for which in 0..all.len() {
                for (begin, end) in [('b', 'a'), ('f', 't')] {
                    let (begun, ended) = (times(begin, which), times(end, which));
                    prop_assert!(begun <= 1 && ended >= begun, "{log:?}");
                    // A death between an end and its note's lets it be done twice, and nothing else does.
                    prop_assert!(died || ended == begun, "{log:?}");
                    prop_assert!(place(begin, which).is_none() || place(end, which) > place(begin, which));
                }
                if let Some(read) = place('r', which) {
                    // Read between its ends: of its snapshot where it has one, else while all is at a standstill.
                    if all[which].freezes {
                        prop_assert!(place('f', which).is_some_and(|at| at < read) && place('t', which).is_none_or(|at| at > read));
                    } else {
                        prop_assert!((0..all.len()).all(|other| place('a', other).is_none_or(|at| at > read)), "{log:?}");
                    }
                    prop_assert!(place('b', which).is_some_and(|at| at < read) || !all[which].commands);
                    let refused = |what| world.fails.contains_key(&(what, which)) && times(what, which) > 0;
                    prop_assert!(!refused('b') && !refused('f'), "{log:?}");
                }
                let group = !all[0].reads;
                if !died && all[which].reads && report.failed[which].is_none() {
                    prop_assert_eq!(times('r', which), 1);
                    prop_assert!(!group || report.failed[0].is_none());
                }
            }
        }
    }
}
