//! Keeping and taking away on the node: rules, floors, grace, holds, forgetting, and the node's own signed log of it.
//!
//! The node's clock is moved by `NIGHTSAFE_NOW`: far ahead, so that packs that were just made are old.

use crate::harness::{Loopback, Run, run};
use serde_json::Value;

/// Noon of a day; the first is a Monday.
fn noon(day: u32) -> String {
    format!("2040-01-{:02}T12:00:00Z", day + 2)
}

fn on(safe: &Loopback, day: u32, program: &str, args: &[&str]) -> Run {
    run(safe.command(program).env("NIGHTSAFE_NOW", noon(day)).args(args))
}

fn node(safe: &Loopback, day: u32, args: &[&str]) -> Run {
    on(safe, day, "nightsafe-server", args)
}

/// Backs up `source/tree` after putting a new file of that day into it; gives the snapshot's id.
fn back_up(safe: &Loopback, day: u32) -> String {
    let path = safe.text("source/tree");
    safe.sh(&format!("mkdir -p '{path}'; head -c 200000 /dev/urandom >'{path}/of-the-day'; echo {day} >'{path}/day'; head -c 3000 /dev/zero >'{path}/same'"));
    round(safe, day, "files", &path);
    safe.sh(&format!("cp -a '{path}' '{}/day{day}'", safe.text("source")));
    let rows = snapshots(safe, day);
    rows.last().unwrap()["snapshot"].as_str().unwrap().to_owned()
}

fn round(safe: &Loopback, day: u32, module: &str, path: &str) {
    on(safe, day, "nightsafe", &["submit", module, path]).exits(0);
    on(safe, day, "nightsafe", &["send"]).silent();
    node(safe, day, &["poll"]).silent();
    on(safe, day, "nightsafe", &["send"]).silent();
}

fn snapshots(safe: &Loopback, day: u32) -> Vec<Value> {
    node(safe, day, &["snapshots", "web1", "--json"]).json().as_array().unwrap().clone()
}

fn ids(safe: &Loopback) -> Vec<String> {
    safe.names("node/data/web1/snapshots")
}

/// Whatever is kept is whole: every byte of every snapshot is read by a keyholder, and the newest comes back.
fn check_whole(safe: &Loopback, days: &[(u32, &str)]) {
    let dataset = format!("files:{}", safe.text("source/tree"));
    for (day, id) in days {
        let back = safe.text(&format!("back/day{day}"));
        safe.client(&["restore", &dataset, "--at", id, "--target", &back]).exits(0);
        safe.sh(&format!("diff -r source/day{day} '{back}'; rm -rf '{back}'"));
        safe.client(&["verify", &dataset, "--at", id]).exits(0);
    }
}

fn set(safe: &Loopback, day: u32, args: &[&str]) -> Run {
    let key = safe.text("admin/id_ed25519");
    node(safe, day, &[&["client", "set", "web1", "--admin-key", &key], args].concat())
}

#[test]
fn condemned_by_a_command_and_gone_after_the_grace() {
    let safe = Loopback::start();
    let made: Vec<String> = (0..6).map(|day| back_up(&safe, day)).collect();
    let packs = safe.names("node/data/web1/packs").len();
    // Without rules everything is kept, and nothing is written down.
    node(&safe, 5, &["prune"]).says(&["no policy", &made[0]]).ok();
    node(&safe, 5, &["prune", "web1", "--keep-daily", "2", "--dry-run"])
        .says(&["daily 2", "condemned, goes in 3 d", "4 would be condemned"])
        .ok();
    assert!(!safe.at("node/data/audit.git").exists());
    let rows = node(&safe, 5, &["prune", "web1", "--keep-daily", "2", "--json"]).json();
    assert_eq!((rows[0]["client"].as_str(), rows[0]["removed"].as_u64()), (Some("web1"), Some(0)));
    let frees = rows[0]["frees"].as_u64().unwrap();
    assert!(frees > 3 * 200_000 && frees < 4 * 400_000, "{frees}");
    let rows = rows[0]["snapshots"].as_array().unwrap().clone();
    let kept: Vec<bool> = rows.iter().map(|row| row["goes"].is_null()).collect();
    assert_eq!(kept, [false, false, false, false, true, true]);
    assert_eq!(rows[4]["kept_by"], serde_json::json!(["daily 2"]));
    assert_eq!(rows[5]["kept_by"], serde_json::json!(["newest", "newest undamaged", "daily 2"]));
    assert_eq!(rows[0]["goes"], "2040-01-10T12:00:00Z");
    // The first has what all of them use in its pack; the second is alone with its own.
    assert!(rows[1]["own_bytes"].as_u64().unwrap() > 200_000);
    node(&safe, 6, &["snapshots"]).says(&["condemned, goes in 2 d"]).ok();
    node(&safe, 6, &["status"]).says(&["4 condemned, the first goes in 2 d"]).ok();
    // The node does the rest by its timetable, without a word; what is held meanwhile stays.
    node(&safe, 7, &["poll"]).silent();
    assert_eq!(ids(&safe).len(), 6);
    node(&safe, 7, &["hold", &made[1], "--reason", "court case"]).ok();
    node(&safe, 7, &["snapshots"]).says(&["held: court case"]).ok();
    node(&safe, 8, &["poll"]).silent();
    let mut left: Vec<String> = [1, 4, 5].map(|day| made[day].clone()).to_vec();
    left.sort();
    assert_eq!(ids(&safe), left);
    assert!(safe.names("node/data/web1/packs").len() < packs && !safe.at("node/data/web1/trash").exists());
    check_whole(&safe, &[(1, &made[1]), (4, &made[4]), (5, &made[5])]);
    // The next backup goes on from there.
    let next = back_up(&safe, 9);
    check_whole(&safe, &[(9, &next)]);
    // All of it is in the log: plain git reads it, and the signatures are the node's.
    let log = safe.git("node/data/audit.git", &["log", "--reverse", "--format=%s%n%b"]);
    let mut subjects = log.lines().filter(|line| line.starts_with("web1: "));
    assert_eq!(subjects.next(), Some("web1: 4 condemned"));
    assert_eq!(subjects.next(), Some(format!("web1: {} held", made[1]).as_str()));
    assert!(subjects.next().unwrap().starts_with("web1: 3 snapshots removed, with "));
    assert_eq!(subjects.next(), None);
    assert!(log.contains("court case") && log.contains(&format!("removed {} files:{}", made[0], safe.text("source/tree"))), "{log}");
    let file = safe.git("node/data/audit.git", &["show", "audit~2:plan.toml"]);
    assert!(file.contains("deed = \"plan\"") && file.contains("grace = \"3d\"") && file.contains(&made[3]), "{file}");
    let signers = safe.text("allowed_signers");
    for commit in ["audit", "audit~1", "audit~2"] {
        let allowed = format!("gpg.ssh.allowedSignersFile={signers}");
        safe.git("node/data/audit.git", &["-c", "gpg.format=ssh", "-c", &allowed, "verify-commit", commit]);
    }
    node(&safe, 9, &["log", "--verify"]).says(&[" 0 do not"]).ok();
    // A commit of somebody else's in it is found.
    safe.sh("cd node/data/audit.git; tree=$(git rev-parse audit^{tree}); \
             new=$(git -c user.name=x -c user.email=x@x commit-tree -p audit -m 'web1: nothing removed' $tree); git update-ref refs/heads/audit $new");
    node(&safe, 9, &["log", "--verify"]).says(&["the node's own log"]).exits(1);
}

#[test]
fn the_access_lists_policy_floors_and_changes_of_mind() {
    let safe = Loopback::start();
    set(&safe, 0, &["--keep", "daily=2,dayly=1"]).says(&["dayly", "none of last, hourly, daily"]).exits(2);
    set(&safe, 0, &["--keep", "daily=2", "--expect", "1d"]).ok();
    safe.edit(
        "node.toml",
        "version = 1\n",
        "version = 1\nfloor = { daily = 3, grace = \"1d\" }\nprune = { at = \"12:00\", grace = \"2d\" }\n",
    );
    node(&safe, 0, &["client", "list"]).says(&["{ daily = 2 }"]).ok();
    let made: Vec<String> = (0..5).map(|day| back_up(&safe, day)).collect();
    // The floor keeps three; the first was condemned on the third day and is gone two days later.
    node(&safe, 4, &["prune", "-n"]).says(&["floor: daily 3", "daily 2"]).ok();
    assert_eq!(ids(&safe).len(), 5);
    node(&safe, 4, &["prune", "--grace", "0s"]).says(&["the floor of this node allows no grace under 1d"]).exits(4);
    node(&safe, 4, &["forget", &format!("web1:files:{}", safe.text("source/tree")), "--yes", "--grace", "0s"])
        .says(&["no grace under 1d"])
        .exits(4);
    node(&safe, 5, &["poll"]).silent();
    assert!(!ids(&safe).contains(&made[0]) && ids(&safe).contains(&made[1]));
    node(&safe, 5, &["snapshots"]).says(&["condemned, goes in"]).ok();
    // The policy is changed in time: what was condemned is kept again.
    set(&safe, 5, &["--keep", "2W:1D"]).ok();
    node(&safe, 6, &["poll"]).silent();
    assert!(snapshots(&safe, 6).iter().all(|row| row["goes"].is_null()));
    assert_eq!(ids(&safe).len(), 4);
    assert!(safe.git("node/data/audit.git", &["log", "-1", "--format=%s"]).contains("spared"));
    // Settings that cannot hold are refused where they stand.
    safe.edit("node.toml", "grace = \"2d\"", "grace = \"12h\"");
    node(&safe, 6, &["prune"]).says(&["node.toml", "grace in prune is 12h, and floor allows no less than 1d"]).exits(2);
}

#[test]
fn forgetting_and_mirrors() {
    let safe = Loopback::start();
    let id = back_up(&safe, 0);
    safe.sh("git init -q -b main source/repo && cd source/repo && git -c user.name=a -c user.email=a@a commit -q --allow-empty -m one");
    round(&safe, 0, "git", &safe.text("source/repo/.git"));
    let files = format!("web1:files:{}", safe.text("source/tree"));
    let git = format!("web1:git:{}", safe.text("source/repo/.git"));
    node(&safe, 1, &["forget", &files]).says(&["--yes"]).exits(2);
    node(&safe, 1, &["forget", "web1"]).says(&["names a client alone"]).exits(2);
    node(&safe, 1, &["forget", "web1:files:/nothing", "--yes"]).says(&["there is no snapshot"]).exits(2);
    node(&safe, 1, &["hold", &id]).ok();
    node(&safe, 1, &["forget", &files, "--yes"]).says(&["is held", "unhold"]).exits(4);
    node(&safe, 1, &["unhold", &id]).ok();
    node(&safe, 1, &["unhold", &id]).says(&["neither held nor pinned"]).exits(2);
    // Within the grace it can be taken back.
    node(&safe, 1, &["forget", &files, "--yes"]).says(&["go after 3d", "--undo"]).ok();
    node(&safe, 2, &["poll"]).silent();
    node(&safe, 3, &["forget", &files, "--undo"]).says(&["1 snapshots", "kept again"]).ok();
    node(&safe, 9, &["poll"]).silent();
    check_whole(&safe, &[(0, &id)]);
    node(&safe, 9, &["forget", &files, "--yes", "--grace", "0s"]).says(&["1 snapshots of", "are removed"]).ok();
    assert_eq!(ids(&safe).len(), 1);
    assert!(safe.names("node/data/web1/packs").is_empty());
    // The mirror stays when its snapshot goes.
    node(&safe, 9, &["forget", &git, "--yes", "--grace", "0s"]).ok();
    assert!(ids(&safe).is_empty());
    let mirrors: Vec<String> = safe.names("node/data/web1/mirrors").into_iter().filter(|name| name.ends_with(".git")).collect();
    assert_eq!(mirrors.len(), 1);
    assert_eq!(safe.git(&format!("node/data/web1/mirrors/{}", mirrors[0]), &["rev-list", "--count", "--all"]).trim(), "1");
    // It can be sent anew: the client refers to what is gone, is told so, and sends it all.
    on(&safe, 10, "nightsafe", &["submit", "files", &safe.text("source/tree")]).exits(0);
    for _ in 0..3 {
        for (program, verb) in [("nightsafe", "send"), ("nightsafe-server", "poll"), ("nightsafe", "send")] {
            let run = on(&safe, 10, program, &[verb]);
            assert!(matches!(run.code, Some(0 | 75)), "{run}");
        }
    }
    let again = snapshots(&safe, 10).last().unwrap()["snapshot"].as_str().unwrap().to_owned();
    check_whole(&safe, &[(0, &again)]);
}

#[test]
fn a_manifest_that_is_damaged_keeps_every_pack() {
    let safe = Loopback::start();
    let made: Vec<String> = (0..4).map(|day| back_up(&safe, day)).collect();
    let manifest = format!("node/data/web1/snapshots/{}/manifest", made[3]);
    let packs = safe.names("node/data/web1/packs");
    safe.sh(&format!("cp -p {manifest} kept; chmod u+w {manifest}; printf x | dd of={manifest} bs=1 seek=300 conv=notrunc status=none"));
    let pruned = node(&safe, 3, &["prune", "--keep-last", "1", "--grace", "0s"]);
    pruned.says(&[&made[3], "no pack was removed", "scrub"]).exits(1);
    assert_eq!(safe.names("node/data/web1/packs"), packs);
    // The newest, and the newest that is whole.
    assert_eq!(ids(&safe), made[2..]);
    safe.sh(&format!("cp -p kept {manifest}"));
    node(&safe, 3, &["prune", "--keep-last", "1", "--grace", "0s"]).ok();
    assert_eq!(ids(&safe), made[3..]);
    check_whole(&safe, &[(3, &made[3])]);
}

#[test]
fn a_much_smaller_snapshot_pins_the_one_before() {
    let safe = Loopback::start();
    safe.sh("mkdir -p source/tree; head -c 3000000 /dev/urandom >source/tree/large");
    let first = back_up(&safe, 0);
    safe.sh("rm source/tree/large");
    let second = back_up(&safe, 1);
    let third = back_up(&safe, 2);
    node(&safe, 2, &["prune", "--keep-last", "1", "--grace", "0s"]).says(&["pinned: the next one is much smaller"]).ok();
    assert_eq!(ids(&safe).len(), 2);
    assert!(!ids(&safe).contains(&second));
    node(&safe, 2, &["status"]).says(&["1 pinned"]).ok();
    node(&safe, 2, &["snapshots", "--json"]).says(&[&second]).ok();
    node(&safe, 2, &["unhold", &first]).says(&["not pinned any more"]).ok();
    node(&safe, 2, &["prune", "--keep-last", "1", "--grace", "0s"]).ok();
    assert_eq!(ids(&safe), [third.as_str()]);
    check_whole(&safe, &[(2, &third)]);
}
