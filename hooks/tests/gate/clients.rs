//! A client at its node: pushes that are let in and handed over, pushes that are not, receipts.

use crate::site::{NOTHING, Site, commit, name, request, site, words};
use queue::Repository;
use queue::verdict::Role;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn web1() -> Role {
    Role::Client(name("web1"))
}

const TO: &str = "HEAD:refs/heads/requests";

#[test]
fn a_push_is_taken_and_handed_over() {
    let site = site();
    let (queue, signer) = (site.client_queue(), site.signer("web1"));
    let asked = [1, 2, 3].map(request);
    let first = commit(&queue, &asked[0], &signer);
    let pushed = site.push(&[TO]);
    assert!(pushed.status.success(), "{}", words(&pushed));
    assert_eq!(words(&pushed), "", "silent when all is well");
    assert_eq!(site.handed_over("web1"), [format!("{NOTHING}-{first}.pack")]);
    assert!(site.at("gate/handover/wake/web1").exists());

    commit(&queue, &asked[1], &signer);
    let third = commit(&queue, &asked[2], &signer);
    assert!(site.push(&[TO]).status.success());
    assert_eq!(site.handed_over("web1").len(), 2);
    assert!(site.push(&[TO]).status.success(), "the same again");
    assert_eq!(site.handed_over("web1").len(), 2);
    let log = fs::read_to_string(site.at("gate/gate.log")).unwrap();
    let noted: Vec<_> = log.lines().filter_map(|line| line.split_once(" client web1 from -: ")).map(|(_, what)| what).collect();
    let wanted: Vec<_> = asked.iter().map(|asked| format!("let {} through as number {}", asked.id, asked.seq)).collect();
    assert_eq!(noted, wanted, "each request once, by its id");
    assert_eq!(site.take_over("web1", &site.at("data/log/web1.git"), "requests").unwrap(), third);

    // The client lost its own copy and fetches it.
    let clone = site.git(&web1(), &site.dir).args(["clone", "-q", "--bare", "gate@node1:queue", "lost.git"]).output().unwrap();
    assert!(clone.status.success(), "{}", words(&clone));
    assert_eq!(Repository::open(&site.at("lost.git"), "requests").unwrap().tip().unwrap().unwrap(), third);

    // The gate's files were lost: the queue goes on from the poller's copy.
    fs::remove_dir_all(site.at("gate")).unwrap();
    let fourth = commit(&queue, &request(4), &signer);
    let pushed = site.push(&[TO]);
    assert!(pushed.status.success(), "{}", words(&pushed));
    assert_eq!(site.handed_over("web1"), [format!("{third}-{fourth}.pack")]);
}

fn refused(site: &Site, what: &[&str], expected: &str) {
    let before = site.handed_over("web1");
    let pushed = site.push(what);
    assert!(!pushed.status.success(), "{what:?}");
    assert!(words(&pushed).contains(expected), "{what:?}: {}", words(&pushed));
    assert_eq!(site.handed_over("web1"), before);
}

#[test]
fn what_a_client_must_not_push() {
    let site = site();
    let (queue, signer) = (site.client_queue(), site.signer("web1"));
    commit(&queue, &request(1), &signer);
    let good = commit(&queue, &request(2), &signer);
    refused(&site, &["HEAD:refs/heads/other"], "only the branch requests");
    refused(&site, &["HEAD:refs/tags/x"], "only the branch requests");
    refused(&site, &["HEAD:refs/replace/0123456789012345678901234567890123456789"], "only the branch requests");
    refused(&site, &[TO, "HEAD:refs/heads/other"], "one branch alone");
    assert!(site.push(&[TO]).status.success());
    // Deletion and rewinding.
    refused(&site, &[":refs/heads/requests"], "");
    refused(&site, &["+HEAD~1:refs/heads/requests"], "");
    // A number that does not go up, somebody else's key, somebody else's name, another node.
    commit(&queue, &request(2), &signer);
    refused(&site, &[TO], "has the number 2");
    queue.reset_to(&good).unwrap();
    commit(&queue, &request(3), &site.signer("mallory"));
    refused(&site, &[TO], "signed by");
    queue.reset_to(&good).unwrap();
    let other = queue::Request { client: name("web2"), ..request(3) };
    commit(&queue, &other, &signer);
    refused(&site, &[TO], "web2");
    queue.reset_to(&good).unwrap();
    let elsewhere = queue::Request { node: name("node2"), ..request(3) };
    commit(&queue, &elsewhere, &signer);
    refused(&site, &[TO], "node2");
    queue.reset_to(&good).unwrap();
    // Files that do not belong there, unsigned.
    queue.commit_files(&[("evil.sh".into(), b"x".to_vec())], "x", &signer, "web1").unwrap();
    refused(&site, &[TO], "evil.sh");
    queue.reset_to(&good).unwrap();
    let unsigned = Command::new("git")
        .args(["-c", "user.name=x", "-c", "user.email=x@y", "--git-dir"])
        .arg(site.at("state/queue.git"))
        .args(["commit-tree", "-p", "HEAD", "-m", "x", "HEAD^{tree}"])
        .output()
        .unwrap();
    let unsigned = String::from_utf8(unsigned.stdout).unwrap();
    refused(&site, &[&format!("{}:refs/heads/requests", unsigned.trim())], "not signed");
    // Too much at once: what is compressed well is bounded as it is unpacked.
    let big = vec![("MF20261120T031500Z-3f9a1c7e".to_owned(), vec![0; 60 << 20])];
    queue.commit_files(&big, "x", &signer, "web1").unwrap();
    refused(&site, &[TO], "");
    queue.reset_to(&good).unwrap();
    // After all that an honest push goes through.
    let next = commit(&queue, &request(3), &signer);
    let pushed = site.push(&[TO]);
    assert!(pushed.status.success(), "{}", words(&pushed));
    assert_eq!(site.take_over("web1", &site.at("data/log/web1.git"), "requests").unwrap(), next);
}

#[test]
fn who_is_paused_or_not_in_the_list() {
    let mut site = site();
    let queue = site.client_queue();
    commit(&queue, &request(1), &site.signer("web1"));
    site.list.pause_client(&name("web1"), true).unwrap();
    site.publish();
    refused(&site, &[TO], "paused");
    site.list.remove_client(&name("web1")).unwrap();
    site.publish();
    refused(&site, &[TO], "not in the list");
    let log = fs::read_to_string(site.at("gate/gate.log")).unwrap();
    assert_eq!(log.matches("client web1 from -: ").count(), 2, "{log}");
    assert_eq!(log.matches("(asked for: git-receive-pack 'queue')").count(), 2, "{log}");
    assert!(!site.at("gate/queues").exists(), "nothing is made for strangers");
}

#[test]
fn words_for_people() {
    let site = site();
    let ping = site.run(&web1(), "ping");
    assert_eq!(String::from_utf8(ping.stdout).unwrap(), format!("nightsafe-gate {} client web1\n", env!("CARGO_PKG_VERSION")));
    let shell = site.gate(&web1(), None).stdin(Stdio::null()).output().unwrap();
    assert_eq!(shell.status.code(), Some(4));
    assert!(words(&shell).contains("no shell"), "{}", words(&shell));
    for command in [
        "sh",
        "git-upload-pack '/etc'",
        "git-upload-archive 'queue'",
        "list",
        "sftp",
        "git-receive-pack 'admin'",
        "git-upload-pack 'queue' ; id",
    ] {
        let done = site.run(&web1(), command);
        assert_eq!(done.status.code(), Some(4), "{command}");
        assert!(done.stdout.is_empty());
    }
    assert!(fs::read_to_string(site.at("gate/gate.log")).unwrap().contains("from 192.0.2.1: "), "who asked is noted");
}

#[test]
fn a_hand_over_that_a_crash_lost_is_repeated() {
    let site = site();
    let (queue, signer) = (site.client_queue(), site.signer("web1"));
    let first = commit(&queue, &request(1), &signer);
    assert!(site.push(&[TO]).status.success());
    // Killed before the pack was there.
    fs::remove_dir_all(site.at("gate/handover")).unwrap();
    fs::remove_file(site.at("gate/queues/web1.git/nightsafe-handed-over")).unwrap();
    site.maintain();
    assert_eq!(site.handed_over("web1"), [format!("{NOTHING}-{first}.pack")]);
    site.maintain();
    assert_eq!(site.handed_over("web1").len(), 1);
    let log = site.at("data/log/web1.git");
    site.take_over("web1", &log, "requests").unwrap();
    site.maintain();
    assert!(site.handed_over("web1").is_empty(), "the poller has it");
    // The poller's copy is from a backup that is older than what was handed over.
    let second = commit(&queue, &request(2), &signer);
    assert!(site.push(&[TO]).status.success());
    fs::remove_dir_all(site.at("gate/handover")).unwrap();
    site.maintain();
    assert_eq!(site.handed_over("web1"), [format!("{first}-{second}.pack")]);
    assert_eq!(site.take_over("web1", &log, "requests").unwrap(), second);
}

fn next_line(wait: &mut std::process::Child) -> String {
    let mut line = String::new();
    BufReader::new(wait.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn receipts_are_served_and_waited_for() {
    let site = site();
    // The poller has not made them yet.
    let clone = site.git(&web1(), &site.dir).args(["clone", "-q", "--bare", "gate@node1:receipts", "none.git"]).output().unwrap();
    assert!(clone.status.success(), "{}", words(&clone));
    let start =
        |oid: &str| site.gate(&web1(), Some(&format!("receipts-wait {oid}"))).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut early = start(NOTHING);
    let receipts = Repository::open_or_create(&site.at("data/web1/receipts.git"), "receipts").unwrap();
    let first = commit(&receipts, &request(1), &site.signer("receipts"));
    assert_eq!(next_line(&mut early), first);
    assert!(early.wait().unwrap().success());
    assert_eq!(next_line(&mut start(NOTHING)), first, "it was there before");

    let mut waiting = start(&first);
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    let second = commit(&receipts, &request(2), &site.signer("receipts"));
    assert_eq!(next_line(&mut waiting), second);
    assert!(begun.elapsed() < Duration::from_secs(3), "a wake-up, not the slow look: {:?}", begun.elapsed());
    // The other end goes away.
    let mut left = start(&second);
    drop(left.stdin.take());
    assert!(left.wait().unwrap().success());

    let fetched =
        site.git(&web1(), &site.at("none.git")).args(["fetch", "-q", "gate@node1:receipts", "receipts:receipts"]).output().unwrap();
    assert!(fetched.status.success(), "{}", words(&fetched));
    assert_eq!(Repository::open(&site.at("none.git"), "receipts").unwrap().tip().unwrap().unwrap(), second);
}

/// Where uids are split the poller's repositories belong to another user, and git would not read them unasked.
#[test]
fn repositories_of_another_user_are_served() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let site = site();
    if fs::metadata(&site.dir).unwrap().uid() != 0 {
        // Only root can become somebody else.
        return;
    }
    fs::set_permissions(&site.dir, fs::Permissions::from_mode(0o755)).unwrap();
    let program = site.at("nightsafe-gate");
    fs::copy(crate::site::GATE, &program).unwrap();
    let owned = Command::new("chown").args(["-R", "nobody"]).arg(site.at("gate")).status().unwrap();
    assert!(owned.success());
    let receipts = Repository::open_or_create(&site.at("data/web1/receipts.git"), "receipts").unwrap();
    let admin = Repository::open_or_create(&site.at("data/admin.git"), "access").unwrap();
    for (repository, who) in [(&receipts, "receipts"), (&admin, "alice")] {
        commit(repository, &request(1), &site.signer(who));
        let readable = Command::new("chmod").args(["-R", "a+rX"]).arg(site.at("data")).status().unwrap();
        assert!(readable.success());
    }
    for (role, name, repository) in [("client web1", "receipts", &receipts), ("admin alice", "admin", &admin)] {
        let script = site.at(&format!("ssh-{name}"));
        let text = format!(
            "#!/bin/sh\nfor last; do :; done\nHOME=/nonexistent SSH_ORIGINAL_COMMAND=\"$last\" exec setpriv --reuid=65534 --regid=65534 --clear-groups {} --config {} {role}\n",
            program.display(),
            site.at("node.toml").display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let copy = site.at(&format!("{name}-copy.git"));
        let clone = Command::new("git")
            .env("GIT_SSH", &script)
            .env("GIT_SSH_VARIANT", "ssh")
            .args(["clone", "-q", "--bare", &format!("g@h:{name}")])
            .arg(&copy)
            .output()
            .unwrap();
        assert!(clone.status.success(), "{}", words(&clone));
        let branch = repository.reference().strip_prefix("refs/heads/").unwrap();
        assert_eq!(Repository::open(&copy, branch).unwrap().tip().unwrap(), repository.tip().unwrap());
    }
}
