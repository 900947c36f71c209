//! Sudden death at every place where state changes (base/src/crash.rs): whatever runs dies there once, the same command is
//! run again, and in the end it is as if nothing had happened.
//!
//! A new place in the sources fails the test until something here comes by it, or `places.rs` says why nothing does.

mod backups;
mod healing;
mod oracle;
mod places;
mod upkeep;

use crate::harness::{Loopback, Run, until};
use std::collections::BTreeSet;

/// One installation on which everything dies.
struct Mortal {
    safe: Loopback,
    /// The places at which somebody died.
    died: BTreeSet<String>,
}

impl Mortal {
    fn new() -> Self {
        Self { safe: Loopback::that_can_die(), died: BTreeSet::new() }
    }

    /// From here on everything dies, at each place, the first `times` times that a process comes by it.
    fn begin_to_die(&self, times: u32) {
        self.safe.write("deaths", &format!("{times}\n"));
    }

    /// From here on nobody dies.
    fn live_on(&self) {
        std::fs::rename(self.safe.at("deaths"), self.safe.at("died")).unwrap();
    }

    /// Runs a command until it gets through with nobody dying on the way; gives that run.
    fn get_through(&mut self, program: &str, args: &[&str]) -> Run {
        let mut through = None;
        until(&format!("{program} {args:?} gets through"), || {
            let run = self.safe.run(program, args);
            let deaths: BTreeSet<String> = self.safe.read("deaths").lines().skip(1).map(str::to_owned).collect();
            let died = deaths.len() > self.died.len();
            self.died = deaths;
            // Not now: a child of the dead that was just being started still holds a lock, or a wait is on after the other
            // end died.
            if !died && run.code != Some(75) {
                through = Some(run);
            }
            through.is_some()
        });
        through.unwrap()
    }

    fn client(&mut self, args: &[&str]) -> Run {
        self.get_through("nightsafe", args)
    }

    fn node(&mut self, args: &[&str]) -> Run {
        self.get_through("nightsafe-server", args)
    }

    /// send, poll, send; dead or alive.
    fn round(&mut self) {
        self.client(&["send", "--now"]).exits(0);
        self.node(&["poll", "--sweep"]).exits(0);
        self.client(&["send", "--now"]).exits(0);
    }
}

#[test]
fn a_death_at_any_place_is_harmless() {
    let died = std::thread::scope(|threads| {
        let scenes = [backups::scene, upkeep::scene, healing::scene].map(|scene| threads.spawn(scene));
        scenes.into_iter().flat_map(|scene| scene.join().expect("what went wrong is above")).collect::<BTreeSet<String>>()
    });
    eprintln!("{} deaths", died.len());
    places::all_are_covered(&died);
}
