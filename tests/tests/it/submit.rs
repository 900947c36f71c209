//! `submit`: what it refuses, what it leaves behind, who may do it.

use crate::harness::{Loopback, not_tested, root, run, source_root};

#[test]
fn every_error_is_clear_and_leaves_nothing() {
    let safe = Loopback::start();
    let text = safe.read("client.toml").replace("under = \"/\"", &format!("under = \"{}\"", safe.text("source")));
    safe.write("client.toml", &text);
    safe.sh("mkdir source/there; ln -s /etc source/link");
    let source = safe.text("source");
    let absent = format!("{source}/absent");
    let (there, link) = (format!("{source}/there"), format!("{source}/link"));
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["submit", "fils", &there], 2, &["fils", "files"]),
        (&["submit", "files", &there, "node2"], 2, &["node2", "node1"]),
        (&["submit", "files", "/etc"], 4, &["files:/etc"]),
        (&["submit", "files", &format!("{source}/../../etc")], 4, &["/etc"]),
        (&["submit", "files", &format!("{source}x")], 4, &["not allow"]),
        (&["submit", "files", &absent], 1, &["absent"]),
        (&["submit", "git", &there], 1, &["there"]),
        (&["submit", "files", &there, "--tag", "a tag"], 2, &["tag"]),
        (&["submit", "files"], 2, &["PATH"]),
        (&["submit", "files", ""], 2, &["empty"]),
        (&["submit", "files", &there, "Node 1"], 2, &["a-z"]),
        (&["submit"], 2, &["MODULE"]),
        (&["submit", "--all"], 2, &["dataset"]),
    ];
    for (args, code, words) in cases {
        let run = safe.client(args);
        assert!(run.code == Some(*code) || *code == 1 && matches!(run.code, Some(1..=4)), "{code} was expected: {run}");
        assert!(run.stdout.is_empty(), "{run}");
        run.says(words);
        assert!(safe.names("client/pool/inbox").is_empty(), "{args:?}");
    }
    // A link is not followed out of what is allowed: said at once, and what leads there is told.
    for path in [link.clone(), format!("{link}/passwd")] {
        safe.client(&["submit", "files", &path]).exits(2).says(&[&link, "symbolic link", "/etc"]);
    }
    assert!(safe.names("client/pool/inbox").is_empty());
    // Where the link is put there later, nothing is read through it.
    safe.client(&["submit", "files", &there]).ok();
    safe.sh("rmdir source/there; ln -s /etc source/there");
    let sent = safe.client(&["send"]).exits(1).says(&["there"]);
    safe.node(&["poll"]).silent();
    let restored = safe.client(&["restore", &format!("files:{there}"), "--target", &safe.text("back/x")]);
    assert!(!safe.at("back/x/passwd").exists(), "{sent}\n{restored}");
}

#[test]
fn already_waiting_is_said_and_queued_once() {
    let safe = Loopback::start();
    safe.client(&["submit", "dummy", "x"]).ok();
    safe.client(&["submit", "dummy", "x"]).exits(0).says(&["waiting already"]);
    assert_eq!(safe.names("client/pool/inbox").len(), 1);
    safe.client(&["submit", "dummy", "y"]).ok();
    assert_eq!(safe.names("client/pool/inbox").len(), 2);
    // Once it is under way, the next one is a new one.
    safe.client(&["send"]).silent();
    safe.client(&["submit", "dummy", "x"]).ok();
    safe.client(&["send"]).silent();
    safe.node(&["poll"]).silent();
    safe.round();
    safe.round();
    assert_eq!(safe.git("node/data/log/web1.git", &["rev-list", "--count", "refs/heads/requests"]).trim(), "3");
}

#[test]
fn all_and_tags() {
    let safe = Loopback::start();
    safe.sh("mkdir source/a; echo x >source/a/x");
    let text = safe.read("client.toml");
    safe.write(
        "client.toml",
        &format!("{text}\n[[dataset]]\naddress = \"dummy:x\"\n[[dataset]]\naddress = \"files:{}\"\n", safe.text("source/a")),
    );
    safe.client(&["submit", "--all", "--tag", "release-1"]).ok();
    assert_eq!(safe.names("client/pool/inbox").len(), 2);
    safe.round();
    let log = safe.git("node/data/log/web1.git", &["log", "-p", "refs/heads/requests"]);
    assert!(log.contains("release-1"), "{log}");
}

#[test]
fn wait_ends_with_the_receipt() {
    let safe = Loopback::start();
    let waiting = safe
        .command("nightsafe")
        .args(["submit", "dummy", "x", "--wait"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    crate::harness::until("the request is in the inbox", || !safe.names("client/pool/inbox").is_empty());
    safe.round();
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("stored"), "{output:?}");
    safe.client(&["submit", "dummy", "y", "--wait", "--timeout", "0s"]).exits(75);
}

#[test]
fn a_full_disk_leaves_nothing() {
    if !root() {
        return not_tested("a full disk", "only root makes what it takes");
    }
    let safe = Loopback::start();
    // Inside a mount namespace of its own, so that nothing is left mounted whatever happens.
    let script = format!(
        "mount -t tmpfs -o size=4k tmpfs '{0}' && chmod 1770 '{0}' && {{ cat /dev/zero >'{0}/fill' 2>/dev/null || true; }}
         nightsafe submit dummy x; echo \"exit $?\"; ls '{0}'",
        safe.text("client/pool/inbox")
    );
    safe.client(&["submit", "dummy", "first"]).ok();
    let run = run(safe.command("unshare").args(["--mount", "sh", "-c", &script]));
    if run.stderr.contains("Operation not permitted") {
        return;
    }
    assert!(run.stdout.contains("exit 75") && run.stdout.ends_with("fill\n"), "{run}");
    run.says(&["No space left", "Make room"]);
}

/// What cannot be prepared now waits; `status` says for what, and cron hears of it once.
#[test]
fn no_room_to_prepare_is_told_once_and_shown() {
    if !root() {
        return not_tested("no room to prepare", "only root makes what it takes");
    }
    let safe = Loopback::start();
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'; head -c 3000000 /dev/urandom >'{path}/x'"));
    safe.client(&["submit", "files", &path]).ok();
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs '{}' && for i in 1 2; do nightsafe send 2>err$i; echo \"exit $?\"; done; nightsafe status",
        safe.text("client/export")
    );
    safe.sh("mkdir -p client/export/node1");
    let prepared = script.replace("&& for", &format!("&& mkdir '{}' && for", safe.text("client/export/node1")));
    let run = run(safe.command("unshare").args(["--mount", "sh", "-c", &prepared]));
    if run.stderr.contains("Operation not permitted") {
        return;
    }
    assert!(run.stdout.starts_with("exit 75\nexit 75\n"), "{run}");
    assert!(safe.read("err1").contains("No space left") && safe.read("err2").is_empty(), "{run}");
    let run = run.says(&["No space left", "tried again"]);
    assert!(run.stdout.lines().any(|line| line.contains("source/a") && line.contains("waiting")), "{run}");
    assert!(safe.names("client/export/node1").is_empty());
    safe.round();
    let status = safe.client(&["status"]).says(&["stored"]);
    assert!(!status.stdout.contains("No space"), "{status}");
}

/// What somebody puts into the inbox that is no request goes, with a word on what was wrong.
#[test]
fn broken_files_in_the_inbox_are_told_and_hold_up_nothing() {
    let safe = Loopback::start();
    safe.client(&["submit", "dummy", "good"]).ok();
    let id = |n: u32| format!("20261120T031500Z-{n:08x}");
    let inbox = |n: u32, text: &str| safe.write(&format!("client/pool/inbox/C{}", id(n)), text);
    inbox(1, "version = 1\nid = ");
    inbox(2, "version = 2\n");
    inbox(3, &format!("version = 1\nid = \"{}\"\nmodule = \"files\"\npath = \"/../etc\"\nnode = \"node1\"\nreason = \"manual\"\n", id(3)));
    safe.sh(&format!("cd client/pool/inbox; ln -s /etc/passwd C{}; mkfifo C{}; mkdir C{}", id(4), id(5), id(6)));
    let sent = safe.client(&["send"]).exits(0).says(&["line 2", "version = 2", "shortest form"]);
    assert!((1..=6).all(|n| sent.stderr.contains(&id(n))), "{sent}");
    assert!(safe.names("client/pool/inbox").is_empty());
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).silent();
    safe.client(&["status"]).says(&["dummy:good", "stored"]);
}

/// A member of the submit group, without sudo, and without being able to read keys, queue or anything else.
#[test]
fn any_member_of_the_group_may_submit() {
    if !root() {
        return not_tested("a member of the submit group", "only root makes what it takes");
    }
    let safe = Loopback::start();
    let group = run(safe.command("getent").args(["group", "nogroup"])).ok();
    assert!(!group.is_empty());
    safe.client(&["submit", "dummy", "first"]).ok();
    safe.sh("chmod 0711 . client client/pool; chmod 0644 client.toml; chgrp nogroup client/pool/inbox; chmod 1770 client/pool/inbox; chmod 0600 client/id_ed25519");
    let submit = |path: &str| {
        run(safe
            .command("setpriv")
            .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"])
            .arg(crate::harness::bin().join("nightsafe"))
            .args(["submit", "dummy", path]))
    };
    let first = submit("by-nobody");
    if first.stderr.contains("ermission denied") && first.code == Some(126) {
        return; // The programs' folder cannot be reached by others on this machine.
    }
    first.exits(0);
    submit("by-nobody").exits(0).says(&["waiting already"]);
    safe.round();
    let log = safe.git("node/data/log/web1.git", &["log", "-p", "refs/heads/requests"]);
    assert!(log.contains("by = \"nobody\""), "{log}");
}

#[test]
fn the_hook_submits_and_never_makes_a_push_fail() {
    let safe = Loopback::start();
    safe.sh("git init -q --bare source/p.git; git init -q source/work; cd source/work; git config user.name t; git config user.email t@example.org; git commit -q --allow-empty -m 1");
    let hook = source_root().join("hooks/post-update");
    safe.sh(&format!("cp '{}' source/p.git/hooks/post-update; chmod +x source/p.git/hooks/post-update", hook.display()));
    safe.sh("cd source/work; git push -q ../p.git HEAD:refs/heads/main");
    // In the background, so that nobody waits for it.
    crate::harness::until("the hook has submitted", || safe.names("client/pool/inbox").iter().any(|name| name.starts_with('C')));
    let request = safe.sh("cat client/pool/inbox/C*");
    assert!(request.contains(&safe.text("source/p.git")) && request.contains("hook"), "{request}");
    // Everything is wrong: the push is as quick and as well as before.
    let mut push = safe.command("git");
    push.env("NIGHTSAFE_CONFIG", "/nonexistent").current_dir(safe.at("source/work")).args([
        "push",
        "-q",
        "../p.git",
        "HEAD:refs/heads/other",
    ]);
    run(&mut push).exits(0);
}
