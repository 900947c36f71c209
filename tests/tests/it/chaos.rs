//! A few seconds of `make chaos`, so that it is known to work, and what it looks for with it.

use crate::harness::{bin, command, run, source_root};

/// The schedule is the seed's, how the processes run beneath it the machine's: whatever comes of it, the oracle finds no fault.
#[test]
fn a_few_seconds_of_it_do_no_harm() {
    let home = tempfile::tempdir().unwrap();
    let mut chaos = command("python3", home.path());
    chaos.arg(source_root().join("tests/chaos/run.py"));
    // Without disks that run full, which would have to be mounted; tests/tests/it/full.rs has these.
    chaos.envs([("SECONDS_OF_CHAOS", "8"), ("SEED", "5"), ("DISKS", "0"), ("JSON", "1")]).env("NIGHTSAFE_BIN", bin());
    let figures = run(&mut chaos).json();
    println!("{figures:#}");
    assert_eq!(figures["faults"], 0);
    for (what, least) in [("kills", 1), ("requests", 3), ("snapshots restored and compared", 1)] {
        assert!(figures[what].as_u64().unwrap() >= least, "{what}: {figures:#}");
    }
}
