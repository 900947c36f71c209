//! Git mirrors: refs, HEAD and history as they are at the source, rewritten history kept, restored as a repository.

use crate::harness::{Disk, Killed, Loopback, run, until};
use std::process::Stdio;

/// A repository with branches, tags, notes and a HEAD that is not the usual one.
fn repository(safe: &Loopback) -> String {
    safe.sh("git init -q -b trunk source/work; cd source/work; git config user.name t; git config user.email t@example.org
         for i in 1 2 3 4 5; do echo $i >f$i; git add .; git commit -q -m \"change $i\"; done
         git tag light; git tag -a -m annotated v1 HEAD~2; git branch topic HEAD~1; git notes add -m note HEAD
         git checkout -q -b side HEAD~3; echo s >s; git add .; git commit -q -m side; git checkout -q trunk
         cd ..; git clone -q --mirror work project.git");
    safe.text("source/project.git")
}

fn facts(safe: &Loopback, repository: &str) -> String {
    safe.git(repository, &["symbolic-ref", "HEAD"]) + &safe.git(repository, &["for-each-ref", "--format=%(objectname) %(refname)"])
}

#[test]
fn refs_and_history_come_back_over_ssh_and_from_a_local_store() {
    let safe = Loopback::start();
    let path = repository(&safe);
    safe.back_up("git", &path);
    for (name, extra) in [("ssh", vec![]), ("local", vec!["--store".to_owned(), safe.text("node/data/web1")])] {
        let target = safe.text(&format!("back/{name}"));
        let dataset = format!("git:{path}");
        let mut args = vec!["restore", &dataset, "--target", &target];
        args.extend(extra.iter().map(String::as_str));
        safe.client(&args).exits(0);
        assert_eq!(facts(&safe, "source/project.git"), facts(&safe, &format!("back/{name}")));
        safe.git(&format!("back/{name}"), &["fsck", "--full", "--strict"]);
    }
}

#[test]
fn rewritten_history_is_kept_and_an_old_state_comes_back() {
    let safe = Loopback::start();
    let path = repository(&safe);
    safe.back_up("git", &path);
    let (first, old) = (newest(&safe), facts(&safe, "source/project.git"));
    let lost = safe.git("source/project.git", &["rev-parse", "trunk"]);
    safe.git("source/project.git", &["update-ref", "refs/heads/trunk", "side"]);
    safe.git("source/project.git", &["update-ref", "-d", "refs/heads/topic"]);
    safe.git("source/project.git", &["update-ref", "refs/heads/topic/below", "side"]);
    safe.back_up_saying("git", &path, &["the default branch refs/heads/trunk was rewritten"]);
    let mirror = format!("node/data/web1/mirrors/{}", safe.names("node/data/web1/mirrors")[0]);
    assert!(safe.git(&mirror, &["for-each-ref", "--format=%(objectname) %(refname)", "refs/kept"]).contains(lost.trim()));
    let dataset = format!("git:{path}");
    safe.client(&["restore", &dataset, "--target", &safe.text("back/new")]).exits(0);
    assert_eq!(facts(&safe, "source/project.git"), facts(&safe, "back/new"));
    safe.client(&["restore", &dataset, "--at", &first, "--target", &safe.text("back/old")]).exits(0);
    assert_eq!(old, facts(&safe, "back/old"));
    safe.git("back/old", &["fsck", "--full", "--strict"]);
}

fn newest(safe: &Loopback) -> String {
    let all = safe.client(&["snapshots", "--json"]).json();
    all.as_array().unwrap().iter().max_by_key(|one| one["order"].as_u64()).unwrap()["snapshot"].as_str().unwrap().to_owned()
}

/// How large a mirror is nobody signs: a restore takes what it is told to, and goes on when it may take more.
#[test]
fn a_restore_takes_no_more_than_it_may() {
    let safe = Loopback::start();
    let path = repository(&safe);
    safe.sh("cd source/project.git; b=$(head -c 300000 /dev/urandom | git hash-object -w --stdin); \
         t=$(printf '100644 blob %s\tnoise\n' $b | git mktree); \
         git update-ref refs/heads/noise $(git -c user.name=t -c user.email=t@t commit-tree -m noise $t)");
    safe.back_up("git", &path);
    safe.sh("mkdir source/d; echo x >source/d/f");
    safe.back_up("files", &safe.text("source/d"));
    let (dataset, back) = (format!("git:{path}"), safe.text("back/r"));
    let restore = ["restore", &dataset, "--target", &back];
    let limited = |limit: &str| safe.client(&[&restore[..], &["--limit", limit]].concat());
    limited("100 KiB").says(&["larger than the 100.0 KiB of --limit", "Nothing of it was kept"]).exits(4);
    assert!(safe.sh("du -s -k back/r | cut -f1").trim().parse::<u64>().unwrap() < 200);
    // Another snapshot does not go where this one was begun.
    safe.sh("cp -a back/r back/other; mv back/other/.nightsafe-restore-* back/other/.nightsafe-restore-20200101T000000Z-00000000");
    let other = safe.text("back/other");
    safe.client(&["restore", &dataset, "--target", &other]).says(&["20200101T000000Z-00000000"]).exits(4);
    limited("10 MiB").exits(0);
    assert_eq!(facts(&safe, "back/r"), facts(&safe, "source/project.git"));
    assert!(safe.names("back/r").iter().all(|name| !name.starts_with('.')));
    safe.client(&restore).says(&["is not empty"]).exits(4);
    let files = format!("files:{}", safe.text("source/d"));
    safe.client(&["restore", &files, "--target", &safe.text("back/d"), "--limit", "1 GiB"]).says(&["--limit is for git mirrors"]).exits(2);
}

/// One mirror for whose clone there is no room keeps no other from being checked.
#[test]
fn a_mirror_without_room_for_its_clone_is_a_row_of_its_own() {
    let safe = Loopback::start();
    safe.sh("for name in a b; do git init -q --bare source/$name.git; cd source/$name.git; \
         blob=$(head -c $([ $name = a ] && echo 6000000 || echo 100) /dev/urandom | git hash-object -w --stdin); \
         t=$(printf '100644 blob %s\tnoise\n' $blob | git mktree); \
         git update-ref refs/heads/main $(git -c user.name=t -c user.email=t@t commit-tree -m noise $t); cd ../..; done");
    for name in ["a", "b"] {
        safe.back_up("git", &safe.text(&format!("source/{name}.git")));
    }
    safe.sh("mkdir scratch");
    let Some(disk) = Disk::over(&safe, "scratch", 4000) else { return };
    let mut verify = disk.command("nightsafe");
    let found = run(verify.env("TMPDIR", safe.at("scratch")).args(["verify", "--json"])).says(&["point TMPDIR at a folder"]).exits(3);
    let rows: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    let states: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| (row["dataset"].as_str().unwrap().to_owned(), row["state"].clone())).collect();
    let path = |name: &str| format!("git:{}", safe.text(&format!("source/{name}.git")));
    assert_eq!(states, [(path("a"), "unopened".into()), (path("b"), "whole".into())]);
    assert_eq!(disk.run("ls", &["scratch"]).ok(), "");
}

#[test]
fn a_restore_that_is_killed_at_any_moment_goes_on() {
    let safe = Loopback::start();
    let path = repository(&safe);
    safe.sh("cd source/project.git; b=$(head -c 3000000 /dev/urandom | git hash-object -w --stdin); \
         t=$(printf '100644 blob %s\tnoise\n' $b | git mktree); \
         git update-ref refs/heads/noise $(git -c user.name=t -c user.email=t@t commit-tree -m noise $t)");
    safe.back_up("git", &path);
    let args = ["restore".to_owned(), format!("git:{path}"), "--target".to_owned(), safe.text("back/r")];
    let begun = || safe.at("back/r").is_dir() && safe.names("back/r").iter().any(|name| name.starts_with(".nightsafe-restore-"));
    let mut caught = 0;
    for millis in [0, 0, 60, 120, 240, 400] {
        let mut restore = Killed::start(safe.command("nightsafe").args(&args).stdout(Stdio::null()).stderr(Stdio::null()));
        until("it has begun", || begun() || restore.child().try_wait().unwrap().is_some());
        std::thread::sleep(std::time::Duration::from_millis(millis));
        restore.child().kill().unwrap();
        restore.wait();
        if begun() {
            caught += 1;
        } else {
            // It was done, and is done once more.
            safe.sh("rm -rf back/r");
        }
    }
    assert!(caught > 0, "each was done before it was killed");
    run(safe.command("nightsafe").args(&args)).exits(0);
    assert_eq!(facts(&safe, "back/r"), facts(&safe, "source/project.git"));
    safe.git("back/r", &["fsck", "--full", "--strict"]);
    // A git whose restore was killed may still be at work beside the last one.
    let left = || safe.sh("cd back/r; find . -name '.*' ! -name . -o -name 'tmp_*' -o -name '*.lock' -o -name '*.keep'");
    until("nothing half made is left", || left().is_empty());
}

#[test]
fn an_unborn_branch_and_the_description_come_back() {
    let safe = Loopback::start();
    safe.sh("git init -q --bare -b trunk source/new.git");
    safe.sh("echo 'The shop, <b>new</b>' > source/new.git/description");
    let dataset = format!("git:{}", safe.text("source/new.git"));
    safe.back_up("git", &safe.text("source/new.git"));
    let dry = safe.client(&["restore", &dataset, "--target", &safe.text("back/new"), "--dry-run"]);
    dry.exits(0);
    assert!(!safe.at("back/new").exists());
    safe.client(&["restore", &dataset, "--target", &safe.text("back/new")]).exits(0);
    assert_eq!(safe.git("back/new", &["symbolic-ref", "HEAD"]).trim(), "refs/heads/trunk");
    assert_eq!(std::fs::read_to_string(safe.at("back/new/description")).unwrap(), "The shop, <b>new</b>\n");
    // With a commit, and the branch that HEAD names still without one.
    safe.sh("git -C source/new.git -c user.name=t -c user.email=t@t commit-tree -m one $(git -C source/new.git hash-object -w -t tree /dev/null) > source/oid");
    safe.sh("git -C source/new.git update-ref refs/heads/side $(cat source/oid)");
    safe.back_up("git", &safe.text("source/new.git"));
    safe.client(&["restore", &dataset, "--target", &safe.text("back/side")]).exits(0);
    assert_eq!(safe.git("back/side", &["symbolic-ref", "HEAD"]).trim(), "refs/heads/trunk");
    assert_eq!(safe.git("back/side", &["rev-parse", "side"]), safe.git("source/new.git", &["rev-parse", "side"]));
}

#[test]
fn an_empty_repository_and_a_detached_head() {
    let safe = Loopback::start();
    safe.sh("git init -q --bare -b main source/empty.git");
    safe.back_up("git", &safe.text("source/empty.git"));
    safe.client(&["restore", &format!("git:{}", safe.text("source/empty.git")), "--target", &safe.text("back/empty")]).exits(0);
    assert_eq!(safe.git("back/empty", &["for-each-ref"]), "");
    let path = repository(&safe);
    safe.git("source/project.git", &["update-ref", "--no-deref", "HEAD", "side"]);
    safe.back_up("git", &path);
    safe.client(&["restore", &format!("git:{path}"), "--target", &safe.text("back/detached")]).exits(0);
    let head = |at: &str| safe.git(at, &["rev-parse", "HEAD"]);
    assert_eq!(head("source/project.git"), head("back/detached"));
}

#[test]
fn the_mirror_never_runs_what_the_source_configures() {
    let safe = Loopback::start();
    let path = repository(&safe);
    safe.sh("cd source/project.git
         for hook in post-checkout post-merge reference-transaction pre-receive post-receive update post-update; do
             printf '#!/bin/sh\\ntouch %s/ran\\n' \"$(cd ../..; pwd)\" >hooks/$hook; chmod +x hooks/$hook; done
         git config core.fsmonitor \"touch $(cd ../..; pwd)/ran\"; git config uploadpack.packObjectsHook \"$(cd ../..; pwd)/hook\"");
    safe.back_up("git", &path);
    safe.client(&["restore", &format!("git:{path}"), "--target", &safe.text("back/r")]).exits(0);
    assert!(!safe.at("ran").exists());
}

/// What honest sources rarely do is stored as everything is, and one mail tells a person of it, until that one has seen it.
#[test]
fn a_default_branch_that_is_rewritten_and_many_refs_that_go_are_mailed_once() {
    let safe = Loopback::start();
    safe.sh("printf '#!/bin/sh\\ncat >\"$(mktemp %s/mail-XXXX)\"\\n' \"$PWD/box\" >sendmail; chmod +x sendmail; mkdir box");
    let (config, program) = (safe.read("node.toml"), safe.text("sendmail"));
    let mail = format!("[mail]\nto = [\"root@example.org\"]\nfrom = \"n@example.org\"\nsendmail = \"{program}\"\n");
    safe.write("node.toml", &format!("{config}\nmirror_losses = {{ percent = 40, refs = 3 }}\n{mail}"));
    let path = repository(&safe);
    let source = |args: &[&str]| drop(safe.git("source/project.git", args));
    let told = || (safe.names("box").len(), safe.sh("cat box/* 2>/dev/null || true").replace('\r', "").replace("=\n", ""));
    safe.back_up("git", &path);
    // A side branch that is rewritten, and two of six refs that go, are everyday.
    source(&["update-ref", "refs/heads/side", "trunk~4"]);
    for name in ["refs/heads/topic", "refs/tags/light"] {
        source(&["update-ref", "-d", name]);
    }
    safe.back_up("git", &path);
    assert_eq!(told().0, 0, "{}", told().1);
    source(&["update-ref", "refs/heads/trunk", "trunk~1"]);
    safe.back_up_saying("git", &path, &["web1: git:", "the default branch refs/heads/trunk was rewritten"]);
    let (count, words) = told();
    assert!(count == 1 && words.contains("Subject: [nightsafe node1] mirrors of web1 were rewritten"), "{words}");
    assert!(words.contains("the default branch refs/heads/trunk was rewritten") && words.contains(&path), "{words}");
    // Again: said in each receipt, told once.
    source(&["update-ref", "refs/heads/trunk", "trunk~1"]);
    safe.back_up("git", &path);
    assert_eq!(told().0, 1, "{}", told().1);
    assert!(safe.git("node/data/web1/receipts.git", &["grep", "-h", "trunk", "receipts"]).contains("not forward"));
    safe.node(&["status", "--forget-alarms"]).says(&["the default branch refs/heads/trunk was rewritten"]).exits(0);
    safe.node(&["poll", "--sweep"]).silent();
    let (count, words) = told();
    assert!(count == 2 && words.contains("mirrors of web1 is well again"), "{words}");
    // Three of four go.
    for name in ["refs/heads/side", "refs/tags/v1", "refs/notes/commits"] {
        source(&["update-ref", "-d", name]);
    }
    safe.back_up_saying("git", &path, &["3 of 4 refs went away at once; they are kept"]);
    assert_eq!(told().0, 3, "{}", told().1);
}
