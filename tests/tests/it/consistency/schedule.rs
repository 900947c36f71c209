//! Schedules by age, under a clock that is set.

use super::configure;
use crate::harness::{Loopback, until};

/// What is due is asked for by send itself, and nothing twice; a clock that was wrong holds nothing up.
#[test]
#[cfg(feature = "crash-points")]
fn send_asks_for_what_is_old() {
    let safe = Loopback::that_can_die();
    let tree = safe.text("source/tree");
    safe.sh(&format!("mkdir '{tree}'; echo 1 >'{tree}/x'"));
    configure(&safe, &format!("[[dataset]]\naddress = \"files:{tree}\"\nevery = \"6h\""));
    let dataset = format!("files:{tree}");
    let round = |clock: &str| {
        safe.write("clock", clock);
        safe.client(&["send"]).exits(0);
        safe.node(&["poll", "--sweep"]).exits(0);
        safe.client(&["send"]).exits(0);
        super::snapshots(&safe, &dataset)
    };
    let not_due = |clock: &str| {
        let requests = || ["client/pool/inbox", "client/pool/work"].map(|folder| safe.names(folder));
        let before = requests();
        safe.write("clock", clock);
        safe.client(&["send"]).silent();
        assert_eq!(requests(), before, "at {clock} something was asked for");
    };
    assert_eq!(round("+0s"), 1, "never backed up, so it is due");
    not_due("+5h");
    // The spread is a tenth, at most.
    assert_eq!(round("+7h"), 2);
    assert!(safe.git("client/queues/node1.git", &["log", "-1", "--format=%s", "requests"]).contains("schedule"));
    not_due("+8h");
    // A laptop that slept over several times of its schedule.
    assert_eq!(round("+90h"), 3);
    // Submitted by hand, it is fresh for as long.
    safe.client(&["submit", "files", &tree]).exits(0);
    assert_eq!(round("+95h"), 4);
    not_due("+100h");
    // Set back by days: what was noted lies in the future, and is not waited for.
    assert_eq!(round("+1h"), 5);
    not_due("+2h");
}

/// What fails is tried again later and later, and not at each run.
#[test]
#[cfg(feature = "crash-points")]
fn what_fails_is_tried_more_rarely() {
    let safe = Loopback::that_can_die();
    let tree = safe.text("source/tree");
    safe.sh(&format!("mkdir '{tree}'"));
    configure(&safe, &format!("[[dataset]]\naddress = \"files:{tree}\"\nevery = \"6h\"\nbefore = [\"false\"]"));
    let tries = |clock: &str| {
        safe.write("clock", clock);
        let run = safe.client(&["send"]);
        assert!(matches!(run.code, Some(0 | 1)), "{run}");
        safe.names("client/outcomes").len()
    };
    assert_eq!(tries("+0s"), 1);
    assert_eq!(tries("+10s"), 1);
    assert_eq!(tries("+5m"), 2);
    assert_eq!(tries("+6m"), 2);
    assert_eq!(tries("+3h"), 3);
    // By then it waits for the better part of an hour, and never for more.
    for (n, clock) in ["+5h", "+7h", "+9h"].into_iter().enumerate() {
        assert_eq!(tries(clock), 4 + n);
    }
    safe.client(&["status"]).says(&["failed", "false ended with exit status: 1"]);
}

/// The daemon asks by itself, at the pace that is wanted.
#[test]
fn watch_asks_by_itself() {
    let safe = Loopback::start();
    let tree = safe.text("source/tree");
    safe.sh(&format!("mkdir '{tree}'; echo 1 >'{tree}/x'"));
    configure(&safe, &format!("[[dataset]]\naddress = \"files:{tree}\"\nevery = \"1s\""));
    safe.loopback("watch").exits(0);
    until("it was backed up twice with nobody asking", || safe.names("node/data/web1/snapshots").len() >= 2);
    safe.loopback("stop").exits(0);
}
