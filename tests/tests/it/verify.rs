//! `nightsafe verify`: what is whole, what damage it names, what an old or a forked history looks like.

use crate::harness::{Loopback, tree};
use serde_json::Value;
use std::path::Path;

fn dataset(safe: &Loopback) -> (String, String) {
    let path = safe.text("source/tree");
    tree(Path::new(&path));
    (path.clone(), format!("files:{path}"))
}

fn repository(safe: &Loopback) -> String {
    let path = safe.text("source/r.git");
    safe.sh(&format!(
        "git init -q --bare '{path}' && git init -q w && cd w && git config user.email a@b && git config user.name a &&
         head -c 100000 /dev/urandom >f && git add f && git commit -qm one && git push -q '{path}' HEAD:refs/heads/main"
    ));
    path
}

/// The state of everything in the store and of when it was changed.
fn store(safe: &Loopback) -> String {
    safe.sh("cd node/data && find . -printf '%p %y %m %s %T@ %C@\\n' | sort")
}

fn rows(safe: &Loopback, args: &[&str], code: i32) -> Vec<Value> {
    let run = safe.client(&[&["verify", "--json"], args].concat()).exits(code);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"))
}

fn store_args(safe: &Loopback) -> [String; 2] {
    ["--store".into(), safe.text("node/data/web1")]
}

/// The packs of the client, largest first.
fn packs(safe: &Loopback) -> Vec<String> {
    safe.sh("ls -S node/data/web1/packs").lines().map(str::to_owned).collect()
}

fn damage(safe: &Loopback, pack: &str) {
    safe.sh(&format!("cd node/data/web1/packs && chmod u+w {pack} && printf XXXX | dd of={pack} bs=1 seek=1000 conv=notrunc status=none"));
}

#[test]
fn everything_is_whole_and_nothing_is_written() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.back_up("files", &path);
    safe.sh(&format!("echo more >'{path}/more'"));
    safe.back_up("files", &path);
    let git = repository(&safe);
    safe.back_up("git", &git);
    let before = store(&safe);

    safe.client(&["verify"]).says(&["whole", "content", "refs and objects"]).exits(0);
    let all = rows(&safe, &["--all-snapshots"], 0);
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|row| row["state"] == "whole" && row["problems"].as_array().unwrap().is_empty()), "{all:?}");
    let files = all.iter().find(|row| row["dataset"] == dataset.as_str()).unwrap();
    assert!(
        files["files"].as_u64().unwrap() > 10 && files["files"] == files["files_right"] && files["bytes"].as_u64().unwrap() > 1_000_000
    );
    let one = rows(&safe, &[&dataset], 0);
    assert_eq!((one.len(), &one[0]["seq"]), (1, &Value::from(2)));
    assert_eq!(rows(&safe, &[&dataset, "--at", all[0]["snapshot"].as_str().unwrap()], 0)[0]["seq"], 1);
    // No identity is needed for ciphertext; a wrong one or none is told where it is needed.
    let mut none = safe.command("nightsafe");
    none.env_remove("NIGHTSAFE_IDENTITY").args(["verify"]);
    crate::harness::run(&mut none).says(&["--identity", "--remote"]).exits(2);
    let mut none = safe.command("nightsafe");
    none.env_remove("NIGHTSAFE_IDENTITY").args(["verify", "--remote"]);
    crate::harness::run(&mut none).says(&["ciphertext"]).exits(0);
    let stranger = safe.text("stranger");
    safe.sh("age-keygen -o stranger 2>/dev/null");
    safe.client(&["verify", &dataset, "--identity", &stranger]).says(&["does not open it", "not opened", "ciphertext"]).exits(3);
    // A share.
    safe.client(&["verify", "--sample", "5%"]).says(&["sample of 5%", "packs,"]).exits(0);
    safe.client(&["verify", "--sample", "0"]).exits(2);
    safe.client(&["verify", "files:/no/such"]).says(&["there is no snapshot"]).exits(1);

    safe.loopback("stop").exits(0);
    let local = store_args(&safe);
    let local: Vec<&str> = local.iter().map(String::as_str).collect();
    assert_eq!(rows(&safe, &[&["--all-snapshots"], &local[..]].concat(), 0).len(), 3);
    assert_eq!(store(&safe), before, "verify wrote into the store");
}

#[test]
fn damage_is_named_with_the_files_that_it_touches() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.back_up("files", &path);
    let other = safe.text("source/other");
    safe.sh(&format!("mkdir '{other}'; echo x >'{other}/x'"));
    safe.back_up("files", &other);
    let pack = packs(&safe).remove(0);
    damage(&safe, &pack);
    for args in [&[][..], &["--remote"]] {
        let found = rows(&safe, args, 3);
        let bad = found.iter().find(|row| row["dataset"] == dataset.as_str()).unwrap();
        assert_eq!(bad["state"], "damaged");
        assert!(bad["damaged"].as_array().unwrap().iter().any(|path| path == "random"), "{args:?} {bad}");
        assert!(bad["problems"].to_string().contains(&pack), "{bad}");
        assert_eq!(found.iter().filter(|row| row["state"] == "whole").count(), 1);
    }
    let mut none = safe.command("nightsafe");
    none.env_remove("NIGHTSAFE_IDENTITY").args(["verify", "--remote"]);
    crate::harness::run(&mut none).says(&[&pack, "--identity", &dataset]).exits(3);
    // What restore says of it, verify said before.
    safe.client(&["restore", &dataset, "--target", &safe.text("back")]).says(&[&pack, "random"]).exits(3);
    safe.sh(&format!("rm node/data/web1/packs/{pack}"));
    safe.client(&["verify", &dataset, "--remote"]).says(&[&pack, "random", "is damaged or missing"]);
    safe.client(&["verify", &dataset]).says(&[&pack, "random"]);
}

#[test]
fn a_mirror_that_lost_an_object_is_found() {
    let safe = Loopback::start();
    let git = repository(&safe);
    safe.back_up("git", &git);
    let dataset = format!("git:{git}");
    safe.client(&["verify", &dataset, "--remote"]).says(&["refs and objects"]).exits(0);
    safe.sh(
        "cd node/data/web1/mirrors/*.git && chmod -R u+w . && for p in objects/pack/*.pack; do mv $p . && git unpack-objects -q <$(basename $p) || true; done
         rm -f objects/pack/* && find objects -type f -size +50k -delete",
    );
    let local = store_args(&safe);
    for extra in [&[][..], &[local[0].as_str(), local[1].as_str()]] {
        let run = safe.client(&[&["verify", &dataset], extra].concat());
        assert!(matches!(run.code, Some(1 | 3)), "{run}");
        run.says(&["DAMAGED"]);
    }
    assert!(safe.sh("ls -d ${TMPDIR:-/tmp}/nightsafe-verify-* 2>/dev/null | wc -l").trim() == "0" || crate::harness::root());
}

#[test]
fn old_and_forked_histories_are_seen() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.back_up("files", &path);
    // A copy of the client and the node as they are now: their history will go two ways.
    safe.loopback("stop").exits(0);
    safe.sh("mkdir old && cp -a client node old/");
    safe.loopback("start").exits(0);
    safe.sh(&format!("echo two >'{path}/two'"));
    safe.back_up("files", &path);
    safe.client(&["verify"]).exits(0);
    let newest = safe.names("node/data/web1/snapshots");
    // The node goes back to what it was.
    safe.sh("mkdir kept && mv node/data/web1/snapshots kept/ && cp -a old/node/data/web1/snapshots node/data/web1/");
    safe.client(&["verify"]).says(&["OLDER HISTORY", "number 1", "number 2 was seen"]).exits(1);
    // It offers nothing of the dataset any more.
    safe.sh("rm -rf node/data/web1/snapshots && mkdir node/data/web1/snapshots");
    safe.client(&["verify"]).says(&["offers no snapshot"]).exits(1);
    safe.sh("rm -rf node/data/web1/snapshots && cp -a kept/snapshots node/data/web1/");
    // Two histories, both genuinely signed: the second is made by the copy of the client.
    safe.loopback("stop").exits(0);
    safe.sh("mkdir other && mv client node other/ && mv old/client old/node .");
    safe.loopback("start").exits(0);
    safe.sh(&format!("echo three >'{path}/three'"));
    safe.back_up("files", &path);
    let forked = safe.names("node/data/web1/snapshots").into_iter().find(|name| !newest.contains(name)).unwrap();
    safe.sh(&format!(
        "cp -an other/node/data/web1/snapshots/* node/data/web1/snapshots/ && cp -an other/node/data/web1/packs/* node/data/web1/packs/ && ls node/data/web1/snapshots/{forked}"
    ));
    let run = safe.client(&["verify", &dataset]).exits(1);
    run.says(&["the history forks", "both signed as number 2", "with the same one before them", &forked]);
    // Something that is signed by nobody.
    safe.sh(&format!("cd node/data/web1/snapshots/{forked} && chmod -R u+w . && sed -i 's/seq = 2/seq = 3/' request.toml"));
    safe.client(&["verify", &dataset]).says(&["NOT PROVEN", "does not verify"]).exits(1);
}
