//! A client whose key and whose machine are the attacker's, against the real gate and a real node.
//!
//! One file a class, one installation a class, and a table of cases on it. Of each case is asked what [`Fate`] says; of each class,
//! that nothing was stored, that another client and the honest requests of the same client go through afterwards.

mod archives;
mod attacker;
mod bombs;
mod command;
mod dial;
mod mirror_peers;
mod mirrors;
mod objects;
mod packs;
mod refs;
mod requests;
mod sessions;
mod sftp;
mod signatures;

use attacker::{Attacker, Push};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What is to come of an attack.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// The gate refuses it, and its log holds this word.
    Gate(&'static str),
    /// The gate lets it through, and the node refuses it by a receipt that holds this word.
    Receipt(&'static str),
    /// The gate lets it through, the node raises an alarm that holds this word, and acts on nothing of it.
    Alarm(&'static str),
    /// It is taken as what it says, and does no harm.
    Harmless,
}

/// One attack on the queue.
struct Case {
    name: &'static str,
    fate: Fate,
    attack: fn(&Attacker) -> Push,
}

/// How many cases each class has, and how many of these end in which way. Read by people, and by the count below.
fn counts() -> Vec<(&'static str, usize)> {
    vec![
        ("forced command", command::COUNT),
        ("refs", refs::CASES.len()),
        ("objects", objects::CASES.len()),
        ("packs on the wire", packs::CASES.len()),
        ("requests", requests::CASES.len()),
        ("signatures", signatures::CASES.len()),
        ("archives", archives::COUNT),
        ("archives that unfold", bombs::CASES.len()),
        ("sftp peers", sftp::CASES.len()),
        ("lines that are dialled", dial::COUNT),
        ("mirror sources", mirrors::COUNT),
        ("peers of a mirror's fetch", mirror_peers::COUNT),
    ]
}

/// The promise is at least 120 cases, and several of each class.
#[test]
fn the_suite_is_as_large_as_it_says() {
    let counts = counts();
    for (class, count) in &counts {
        println!("{class}: {count} cases");
        assert!(*count >= 5, "{class}");
    }
    let all: usize = counts.iter().map(|(_, count)| count).sum();
    println!("all: {all} cases");
    assert!(all >= 120);
}

/// Runs a table against one installation.
fn attack(cases: &[Case]) {
    let attacker = Attacker::start();
    try_all(&attacker, cases);
    attacker.honest_requests_work();
}

/// Tries all cases, so that one look shows everything that is wrong.
fn try_all(attacker: &Attacker, cases: &[Case]) {
    let failed = |case: &&Case| catch_unwind(AssertUnwindSafe(|| attacker.try_case(case))).is_err();
    let wrong: Vec<&str> = cases.iter().filter(failed).map(|case| case.name).collect();
    assert!(wrong.is_empty(), "these did not end as they should: {wrong:?}");
}
