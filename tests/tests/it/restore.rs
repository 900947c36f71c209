//! Restores into trees that are there, of chosen things, cut off at any moment, and as an ordinary user.

use crate::harness::{Loopback, not_tested, root, run, same_trees, tree};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

fn backed_up(safe: &Loopback) -> (String, String) {
    let path = safe.text("source/tree");
    tree(Path::new(&path));
    safe.back_up("files", &path);
    (path.clone(), format!("files:{path}"))
}

#[test]
fn what_differs_comes_back_in_place_and_nothing_else_is_touched() {
    let safe = Loopback::start();
    let (path, dataset) = backed_up(&safe);
    safe.sh("cp -a source/tree before");
    let stamps = "cd source/tree && find . ! -type d -printf '%i %C@ %P\\n' | sort -k3";
    let untouched = safe.sh(stamps);
    for overwrite in ["never", "changed", "always"] {
        safe.client(&["restore", &dataset, "--in-place", "--overwrite", overwrite]).says(&["Restored 0 entries"]).exits(0);
        assert_eq!(safe.sh(stamps), untouched, "{overwrite}");
    }
    // One file is gone, one is other, one is only younger, one has another mode; and one is nobody's but mine.
    safe.sh(&format!(
            "cd '{path}'; rm a/hello; echo changed >many/file-7; touch random; chmod 0600 many/file-8; echo mine >many/mine; rm dangling; ln -s elsewhere dangling"
        ));
    let dry = safe.client(&["restore", &dataset, "--in-place", "--overwrite=changed", "--dry-run", "--json"]).json();
    let action =
        |name: &str| dry.as_array().unwrap().iter().find(|row| row["path"] == name).map(|row| row["action"].as_str().unwrap().to_owned());
    for (name, expected) in [
        ("a/hello", "create"),
        ("many/file-7", "replace"),
        ("random", "attributes"),
        ("many/file-8", "attributes"),
        ("dangling", "replace"),
        ("repeated", "same"),
    ] {
        assert_eq!(action(name).as_deref(), Some(expected), "{name}");
    }
    safe.client(&["restore", &dataset, "--in-place"]).says(&["not as in the snapshot"]).exits(0);
    assert_eq!(safe.sh("cat source/tree/a/hello source/tree/many/file-7"), "hellochanged\n");
    safe.client(&["restore", &dataset, "--in-place", "--overwrite=changed"]).exits(0);
    assert_eq!(safe.sh("cat source/tree/many/mine; rm source/tree/many/mine; touch -r before/many source/tree/many"), "mine\n");
    same_trees(&safe.at("before"), Path::new(&path));
}

#[test]
fn patterns_strip_and_targets_that_are_in_use() {
    let safe = Loopback::start();
    let (path, dataset) = backed_up(&safe);
    safe.client(&["restore", &dataset, "a/*", "many/file-1?", "--target", &safe.text("back/some")]).exits(0);
    assert_eq!(safe.sh("ls back/some back/some/many | grep -c file-1"), "10\n");
    safe.sh(&format!("diff -r --no-dereference -x z-fifo -x null '{path}/a' back/some/a; test ! -e back/some/random"));
    safe.client(&["restore", &dataset, &format!("{path}/a/b"), "--strip", "1", "--target", &safe.text("back/strip")]).exits(0);
    assert_eq!(
        safe.sh("ls back/strip back/strip/b | tr '\\n' ' '"),
        safe.sh("printf 'back/strip:\\nb\\n\\nback/strip/b:\\n'; ls source/tree/a/b").replace('\n', " ")
    );
    safe.client(&["restore", &dataset, "a", "*.none", "--target", &safe.text("back/none")]).says(&["*.none"]).exits(1);
    assert!(!safe.at("back/none").exists(), "nothing is written");
    // A second dataset for the same target is refused before anything is written.
    safe.sh("mkdir source/other; echo other >source/other/file");
    let other = safe.text("source/other");
    safe.back_up("files", &other);
    safe.client(&["restore", &dataset, "--target", &safe.text("back/t")]).exits(0);
    let refused = safe.client(&["restore", &format!("files:{other}"), "--target", &safe.text("back/t")]).exits(4);
    refused.says(&["not empty", "--overwrite"]);
    assert!(!safe.at("back/t/file").exists());
    same_trees(Path::new(&path), &safe.at("back/t"));
    safe.sh("echo x >back/file");
    safe.client(&["restore", &dataset, "--target", &safe.text("back/file")]).says(&["not a folder"]).exits(4);
}

#[test]
fn a_restore_that_is_killed_at_any_moment_goes_on() {
    let safe = Loopback::start();
    let (path, dataset) = backed_up(&safe);
    safe.sh(&format!("cd '{path}'; mkdir more; for i in $(seq 0 39); do mkdir more/$i; for j in $(seq 0 24); do echo $i $j >more/$i/$j; done; done; head -c 20000000 /dev/urandom >big"));
    safe.back_up("files", &path);
    for (name, overwrite) in [("new", None), ("there", Some("--overwrite=changed"))] {
        let target = safe.text(&format!("back/{name}"));
        if overwrite.is_some() {
            // A tree in which a third is missing, a third is other, and a third is right.
            safe.sh(&format!("cp -a '{path}' '{target}'; cd '{target}'; rm -r more/1*; for i in 2 20 21 22 23 24; do for f in more/$i/*; do echo other >$f; done; done; echo other >big"));
        }
        let mut kills = 0;
        for n in 0.. {
            let mut restore = safe.command("nightsafe");
            restore.args(["restore", &dataset, "--store", &safe.text("node/data/web1"), "--target", &target]).args(overwrite);
            let mut child = restore.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // Each try gets a little further; where exactly is the machine's chance.
            std::thread::sleep(Duration::from_millis(20 + n * 60));
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{name}: {status}");
                break;
            }
            child.kill().unwrap();
            let status = child.wait().unwrap();
            kills += u32::from(!status.success());
            // Whatever stands under a file's own name in a tree that was there is whole: the old one or the new one.
            if overwrite.is_some() {
                let big = std::fs::metadata(Path::new(&target).join("big")).unwrap().len();
                assert!(big == 6 || big == 20_000_000, "{big}");
            }
        }
        assert!(kills > 0, "{name}");
        safe.client(&["restore", &dataset, "--store", &safe.text("node/data/web1"), "--target", &target, "--overwrite=always"])
            .says(&["Restored 0 entries"])
            .exits(0);
        same_trees(Path::new(&path), Path::new(&target));
        assert_eq!(safe.sh(&format!("find '{target}' -name '.nightsafe*'")), "");
    }
}

#[test]
fn an_ordinary_user_restores_what_is_root_s() {
    if !root() {
        return not_tested("an ordinary user's restore of root's files", "only root makes what it takes");
    }
    let safe = Loopback::start();
    let (path, dataset) = backed_up(&safe);
    safe.sh("chmod 0755 .; chmod -R a+rX node identity.txt allowed_signers; mkdir theirs; chown 65534:65534 theirs; mkdir programs; cp \"$(command -v nightsafe)\" programs/; chmod -R a+rX programs");
    let target = safe.text("theirs/back");
    let store = safe.text("node/data/web1");
    let as_nobody = |extra: &[&str]| {
        let mut restore = safe.command(safe.at("programs/nightsafe").to_str().unwrap());
        restore.env("HOME", safe.at("theirs")).env("NIGHTSAFE_CONFIG", "/nonexistent").uid(65534).gid(65534);
        restore.args(["restore", &dataset, "--store", &store, "--target", &target]).args(extra);
        run(&mut restore)
    };
    // Devices and some attributes are root's alone: said, and the rest comes back.
    as_nobody(&[]).exits(3).says(&["the rest was restored"]);
    safe.sh(&format!("diff -r --no-dereference -x fifo -x z-fifo -x null -x loop -x socket -x closed '{path}' '{target}'"));
    assert_eq!(safe.sh(&format!("find '{target}' ! -user 65534 | wc -l")), "0\n");
    assert_eq!(safe.sh(&format!("find '{target}' -type f -perm /6000 | wc -l")), "0\n", "nothing runs as whoever restored it");
    safe.sh(&format!("rm '{target}/a/hello'; chmod 0555 '{target}/a'"));
    as_nobody(&["--overwrite=changed"]).exits(3);
    assert_eq!(
        safe.sh(&format!("cat '{target}/a/hello'; stat -c %a '{target}/a'")),
        format!("hello{}", safe.sh(&format!("stat -c %a '{path}/a'")))
    );
}
