//! Scrubbing on the node, and healing: what is found, what it is called, and what a keyholder says afterwards.

use crate::harness::{Disk, Loopback, run, tree};
use serde_json::Value;
use std::path::Path;

/// A tree, its dataset.
fn dataset(safe: &Loopback) -> (String, String) {
    let path = safe.text("source/tree");
    tree(Path::new(&path));
    (path.clone(), format!("files:{path}"))
}

/// The packs of the client, largest first.
fn packs(safe: &Loopback) -> Vec<String> {
    safe.sh("ls -S node/data/web1/packs").lines().map(str::to_owned).collect()
}

/// Carries everything through, whatever it comes to on the way: a notice makes `send` say that something is left to do.
fn rounds(safe: &Loopback, times: usize) {
    for _ in 0..times {
        let _ = safe.client(&["send"]);
        safe.node(&["poll"]).exits(0);
    }
    let _ = safe.client(&["send"]);
}

fn scrub(safe: &Loopback, args: &[&str], code: i32) -> Value {
    let run = safe.node(&[&["scrub", "--json"], args].concat()).exits(code);
    let all: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"));
    all[0].clone()
}

fn notices(safe: &Loopback) -> usize {
    safe.git("node/data/web1/receipts.git", &["log", "--format=", "--name-only", "receipts"])
        .lines()
        .filter(|name| name.starts_with("NT"))
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}

#[test]
fn damage_is_found_named_set_aside_and_told_once() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.back_up("files", &path);
    safe.node(&["scrub", "--all"]).silent();
    let whole = scrub(&safe, &["--all"], 0);
    assert_eq!(whole["packs"], packs(&safe).len());
    assert_eq!((&whole["snapshots"], whole["damage"].as_array().unwrap().len()), (&Value::from(1), 0));
    assert_eq!(notices(&safe), 0);

    let pack = packs(&safe).remove(0);
    safe.sh(&format!("cp node/data/web1/packs/{pack} kept"));
    safe.flip(&format!("node/data/web1/packs/{pack}"), 5000);
    let snapshot = safe.names("node/data/web1/snapshots").remove(0);
    safe.node(&["scrub", "--all"]).says(&[&pack, &dataset, &snapshot, "not those that its name says"]).exits(1);
    assert_eq!(
        (safe.names("node/data/web1/damaged"), safe.at(&format!("node/data/web1/packs/{pack}")).exists()),
        (vec![pack.clone()], false)
    );
    assert_eq!(notices(&safe), 1);
    // It stays told until it is over, and is asked for once.
    let again = scrub(&safe, &[], 1);
    assert_eq!(again["damage"][0]["name"], format!("blake3:{pack}"));
    assert!(again["damage"][0]["repair_claimed"].is_null());
    assert_eq!(notices(&safe), 1);
    safe.node(&["status"]).says(&[&pack, &dataset, "is damaged"]);
    safe.node(&["log", "--verify"]).exits(0);
    // Somebody brings the pack back, the damaged one and then the right one.
    safe.sh(&format!("cp node/data/web1/damaged/{pack} node/data/web1/packs/{pack}"));
    scrub(&safe, &["--all"], 1);
    safe.sh(&format!("cp kept node/data/web1/packs/{pack}"));
    scrub(&safe, &["--all"], 0);
    assert!(!safe.node(&["status"]).ok().contains("is damaged"));
    // A pack that is gone is told in the same way.
    let other = packs(&safe).remove(0);
    safe.sh(&format!("rm node/data/web1/packs/{other}"));
    safe.node(&["scrub", "--percent", "1"]).says(&[&other, "it is not there"]).exits(1);
    assert_eq!(notices(&safe), 2);
    safe.node(&["scrub", "--percent", "0"]).exits(2);
    safe.node(&["scrub", "nobody"]).exits(2);
}

#[test]
fn a_disk_that_is_away_is_no_damage() {
    let safe = Loopback::start();
    let root = safe.text("source/many");
    for n in 0..8 {
        let path = format!("{root}/{n}");
        safe.sh(&format!("mkdir -p {path}; head -c 3000 /dev/urandom >{path}/f"));
        safe.back_up("files", &path);
    }
    let before = packs(&safe).len();
    assert!(before > 8);
    safe.sh("mv node/data/web1/packs node/data/web1/away");
    safe.node(&["scrub", "--all"]).says(&["is its disk away", "--believe"]).exits(1);
    safe.sh("mkdir node/data/web1/packs");
    safe.node(&["scrub", "--all"]).says(&["is its disk away"]).exits(1);
    assert_eq!(notices(&safe), 0);
    // Another disk's files in the place of the packs.
    safe.sh("cd node/data/web1 && for p in away/*; do echo other >packs/$(basename $p); done");
    let doubt = scrub(&safe, &["--all"], 1);
    assert!(doubt["doubt"].as_str().unwrap().contains("seem to be damaged"));
    assert_eq!((packs(&safe).len(), notices(&safe), safe.at("node/data/web1/damaged").exists()), (before, 0, false));
    safe.sh("rm -r node/data/web1/packs && mv node/data/web1/away node/data/web1/packs");
    safe.node(&["scrub", "--all"]).silent();
    // When a person says so, it is believed.
    safe.sh("cd node/data/web1 && mkdir lost && mv packs/* lost/");
    safe.node(&["scrub", "--all", "--believe"]).exits(1);
    assert_eq!(notices(&safe), 1);
}

#[test]
fn everything_has_its_turn_within_25_days() {
    let safe = Loopback::start();
    let root = safe.text("source/many");
    for n in 0..15 {
        let path = format!("{root}/{n}");
        safe.sh(&format!("mkdir -p {path}; head -c 3000 /dev/urandom >{path}/f"));
        safe.client(&["submit", "files", &path]).exits(0);
    }
    safe.round();
    let all = packs(&safe);
    assert!(all.len() >= 30, "{}", all.len());
    // Each pack is damaged alone, somewhere in the middle of the turns: it is found by the 25th run.
    let victim = &all[all.len() / 2];
    safe.flip(&format!("node/data/web1/packs/{victim}"), 300);
    let mut read = 0;
    let mut found = None;
    for run in 1..=25 {
        let out = safe.node(&["scrub", "--percent", "4", "--json"]);
        let row: Value = serde_json::from_str::<Value>(&out.stdout).unwrap()[0].clone();
        read += row["packs"].as_u64().unwrap();
        assert!(row["packs"].as_u64().unwrap() <= all.len() as u64 / 10 + 1, "{row}");
        if found.is_none() && !row["damage"].as_array().unwrap().is_empty() {
            found = Some(run);
        }
    }
    assert!(read >= all.len() as u64 && found.is_some(), "{read} {found:?}");
}

#[test]
fn the_proof_of_a_snapshot_comes_back_from_the_audit_log() {
    let safe = Loopback::start();
    let (path, _) = dataset(&safe);
    safe.back_up("files", &path);
    let snapshot = safe.names("node/data/web1/snapshots").remove(0);
    for (file, at) in [("commit", 40), ("tree", 20), ("request.toml", 30), ("manifest", 100)] {
        safe.flip(&format!("node/data/web1/snapshots/{snapshot}/{file}"), at);
        safe.node(&["scrub", "--all"]).says(&[file, &snapshot, "came back"]).exits(0);
        safe.sh(&format!("rm node/data/web1/snapshots/{snapshot}/{file}"));
        safe.node(&["scrub", "--all"]).says(&[file, "came back"]).exits(0);
        safe.client(&["verify"]).says(&["whole"]).exits(0);
    }
    // What the log does not have is told.
    safe.flip(&format!("node/data/web1/snapshots/{snapshot}/accepted.toml"), 3);
    safe.node(&["scrub", "--all"]).says(&[&snapshot, "is damaged"]).exits(1);
}

#[test]
fn a_damaged_mirror_is_fetched_anew() {
    let safe = Loopback::start();
    let path = safe.text("source/r.git");
    safe.sh(&format!(
        "git init -q --bare '{path}' && git init -q w && cd w && git config user.email a@b && git config user.name a
         for n in 1 2 3; do head -c 100000 /dev/urandom >f$n; git add .; git commit -qm $n; done; git push -q '{path}' HEAD:refs/heads/main"
    ));
    safe.back_up("git", &path);
    let dataset = format!("git:{path}");
    scrub(&safe, &["--all"], 0);
    let mirror = safe.sh("ls -d node/data/web1/mirrors/*.git").trim().to_owned();
    assert!(safe.at(&mirror).join("objects/info/commit-graph").exists());
    let pack = safe.sh(&format!("ls -S {mirror}/objects/pack/*.pack | head -n1")).trim().to_owned();
    safe.flip(&pack, 50_000);
    safe.node(&["scrub", "--all"]).says(&["mirror", &dataset, "is damaged"]).exits(1);
    assert_eq!(notices(&safe), 1);
    // The client hears of it with its next request, and sends the repository again by itself.
    safe.sh("cd w && git commit -q --allow-empty -m more && git push -q ../source/r.git HEAD:refs/heads/main");
    safe.client(&["submit", "git", &path]).exits(0);
    rounds(&safe, 3);
    safe.node(&["scrub", "--all"]).silent();
    safe.client(&["verify", &dataset]).says(&["whole"]).exits(0);
    // One that is gone altogether.
    safe.sh(&format!("rm -rf {mirror}"));
    safe.node(&["scrub", "--percent", "4"]).says(&[&dataset, "it is not there"]).exits(1);
    safe.sh("cd w && git commit -q --allow-empty -m more && git push -q ../source/r.git HEAD:refs/heads/main");
    safe.client(&["submit", "git", &path]).exits(0);
    rounds(&safe, 2);
    safe.node(&["scrub", "--all"]).silent();
}

#[test]
fn a_client_heals_what_the_node_has_lost() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.sh(&format!("head -c 3000000 /dev/urandom >'{path}/stays'; echo old >'{path}/goes'"));
    safe.back_up("files", &path);
    let old = safe.names("node/data/web1/snapshots").remove(0);
    // What comes later is in packs of its own.
    safe.sh(&format!("head -c 500000 /dev/urandom >'{path}/later'"));
    safe.back_up("files", &path);
    let before = packs(&safe);
    let other = safe.text("source/other");
    safe.sh(&format!("mkdir '{other}'; head -c 200000 /dev/urandom >'{other}/f'"));
    safe.back_up("files", &other);
    let catalog = packs(&safe).into_iter().rfind(|pack| !before.contains(pack)).unwrap();
    let lost = [before[0].clone(), before[1].clone(), catalog];
    // One goes bad, one is cut off, and one, the catalog of something that does not change, is gone.
    safe.flip(&format!("node/data/web1/packs/{}", lost[0]), 5000);
    safe.sh(&format!("truncate -s 70000 node/data/web1/packs/{}", lost[1]));
    safe.sh(&format!("rm node/data/web1/packs/{}", lost[2]));
    safe.node(&["scrub", "--all"]).says(&[&dataset, &format!("files:{other}"), &lost[0], &lost[1], &lost[2]]).exits(1);
    safe.client(&["verify", "--all-snapshots"]).says(&["DAMAGED"]).exits(3);

    // The next backup hears of it; those after that heal.
    safe.sh(&format!("echo more >'{path}/more'"));
    safe.client(&["submit", "files", &path]).exits(0);
    rounds(&safe, 4);
    let requests = safe.sh("git -C client/queues/node1.git log -p requests | grep -E '^[+](reason|repairs)'");
    assert!(lost.iter().all(|pack| requests.contains(pack.as_str())), "{requests}");
    assert_eq!(requests.matches("reason = \"heal\"").count(), 2, "{requests}");
    assert_eq!(notices(&safe), 1);
    // That was all of it.
    for _ in 0..2 {
        safe.client(&["send"]).silent();
    }
    safe.node(&["scrub", "--all"]).says(&["repair claimed by"]).exits(0);
    safe.node(&["status"]).says(&["repair claimed by"]);
    let healed = scrub(&safe, &[], 0);
    assert!(healed["damage"].as_array().unwrap().iter().all(|entry| entry["repair_claimed"].is_string()), "{healed}");

    // Only a keyholder can say that everything is whole: over ssh, and where the store lies.
    safe.client(&["verify", "--all-snapshots"]).says(&["whole"]).exits(0);
    let store = safe.text("node/data/web1");
    safe.client(&["verify", "--all-snapshots", "--store", &store]).exits(0);
    // Who has no key can say that it was brought again, and that is no damage; who has one sees that it is all there.
    let remote = |safe: &Loopback| {
        let mut command = safe.command("nightsafe");
        run(command.env_remove("NIGHTSAFE_IDENTITY").args(["verify", "--all-snapshots", "--remote"]))
    };
    remote(&safe).says(&["repair claimed", &lost[0], &lost[2]]).exits(0);
    assert!(!safe.client(&["verify", "--all-snapshots", "--remote"]).ok().contains("repair claimed"));
    // A reader of the format alone reads repairs as well.
    let mut reader = safe.command("python3");
    reader.arg(crate::harness::source_root().join("tests/reader.py")).arg(&store).arg(&old);
    run(reader.arg(safe.at("identity.txt")).arg(safe.at("back/python"))).exits(0);
    safe.sh(&format!("cmp '{path}/stays' back/python/stays; cmp '{path}/random' back/python/random"));
    let back = safe.text("back/tree");
    safe.client(&["restore", &dataset, "--at", &old, "--target", &back]).exits(0);
    safe.sh(&format!("cmp '{path}/stays' {back}/stays; cmp '{path}/random' {back}/random; test $(cat {back}/goes) = old"));
    // Where the repair is lost too, it is damage again.
    let mut repairs = safe
        .sh("grep -l '^repairs' node/data/web1/snapshots/*/accepted.toml | xargs -n1 dirname")
        .lines()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    repairs.retain(|folder| safe.at(folder).is_dir());
    for folder in repairs {
        let line = safe.sh(&format!("head -n1 {folder}/manifest"));
        let public: Value = serde_json::from_str(&line).unwrap();
        for pack in public["repairs"]["packs"].as_array().unwrap() {
            safe.flip(&format!("node/data/web1/packs/{}", pack.as_str().unwrap().trim_start_matches("blake3:")), 300);
        }
    }
    remote(&safe).says(&["DAMAGED"]).exits(3);
}

#[test]
fn what_is_no_more_cannot_be_healed_and_is_named() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.sh(&format!("head -c 300000 /dev/urandom >'{path}/goes'; head -c 300000 /dev/urandom >'{path}/stays'"));
    safe.back_up("files", &path);
    let old = safe.names("node/data/web1/snapshots").remove(0);
    let pack = packs(&safe).remove(0);
    safe.sh(&format!("rm node/data/web1/packs/{pack} '{path}/goes'"));
    safe.node(&["scrub", "--percent", "1"]).says(&[&pack]).exits(1);
    safe.client(&["submit", "files", &path]).exits(0);
    rounds(&safe, 4);
    safe.client(&["verify", &dataset]).says(&["whole"]).exits(0);
    let run = safe.client(&["verify", &dataset, "--at", &old]).exits(3);
    run.says(&["goes is damaged"]);
    let back = safe.text("back/tree");
    safe.client(&["restore", &dataset, "--at", &old, "--target", &back]).says(&["goes"]).exits(3);
    safe.sh(&format!("cmp '{path}/stays' {back}/stays; test ! -e {back}/goes"));
}

/// A disk that does not give back what lies in some of its sectors.
#[test]
fn sectors_that_cannot_be_read_are_damage_and_heal() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.sh(&format!("head -c 3000000 /dev/urandom >'{path}/stays'"));
    safe.back_up("files", &path);
    let pack = packs(&safe).remove(0);
    let Some(disk) = Disk::of_sectors(&safe, "node/data/web1", 40_000) else { return };
    disk.lose(&format!("node/data/web1/packs/{pack}"));
    let store = safe.text("node/data/web1");
    disk.run("nightsafe", &["verify", "--store", &store]).says(&["DAMAGED", "stays", "Input/output error"]).exits(3);
    disk.run("nightsafe", &["verify"]).says(&["DAMAGED", "stays"]).exits(3);
    let back = safe.text("back/tree");
    disk.run("nightsafe", &["restore", &dataset, "--target", &back]).says(&["stays"]).exits(3);
    assert!(!safe.at("back/tree/stays").exists(), "nothing is made up");
    disk.run("nightsafe-server", &["scrub", "--all"]).says(&[&pack, &dataset, "Input/output error"]).exits(1);
    assert_eq!(disk.sh(&format!("ls '{store}/damaged'")).trim(), pack);
    for change in 0..3 {
        disk.sh(&format!("echo {change} >'{path}/more'"));
        disk.run("nightsafe", &["submit", "files", &path]).exits(0);
        for _ in 0..2 {
            let _ = disk.run("nightsafe", &["send"]);
            let _ = disk.run("nightsafe-server", &["poll"]);
        }
        let _ = disk.run("nightsafe", &["send"]);
    }
    disk.run("nightsafe", &["verify", "--all-snapshots"]).says(&["whole"]).exits(0);
    disk.run("nightsafe-server", &["scrub", "--all"]).says(&["repair claimed by"]).exits(0);
}
