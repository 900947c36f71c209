//! The access list on its way in, and keys on their way to sshd.

use crate::site::{GATE, NOTHING, Site, name, site, words};
use queue::Repository;
use queue::access::NewClient;
use queue::verdict::Role;
use std::fs;
use std::process::{Command, Output};

fn alice() -> Role {
    Role::Admin(name("alice"))
}

/// Commits the work tree `admin/` as `signer` and pushes it, as an administrator does with plain git.
fn push(site: &Site, signer: Option<&str>, what: &str) -> Output {
    push_saying(site, signer, what, "x")
}

fn push_saying(site: &Site, signer: Option<&str>, what: &str, message: &str) -> Output {
    let work = site.at("admin");
    let git = || site.git(&alice(), &work);
    if !work.exists() {
        fs::create_dir_all(work.join("keys")).unwrap();
        assert!(git().args(["init", "-q", "-b", "access"]).status().unwrap().success());
    }
    assert!(git().args(["add", "-A"]).status().unwrap().success());
    let mut commit = git();
    commit.args(["-c", "user.name=alice", "-c", "user.email=a@b", "-c", "gpg.format=ssh"]);
    if let Some(signer) = signer {
        commit.arg("-c").arg(format!("user.signingkey={}", site.at("keys").join(signer).display()));
    }
    commit.args(["commit", "-q", "--allow-empty", "-m", message]).args(signer.map(|_| "-S"));
    let done = commit.output().unwrap();
    assert!(done.status.success(), "{}", words(&done));
    git().args(["push", "-q", "gate@node1:admin", what]).output().unwrap()
}

fn write(site: &Site) {
    let work = site.at("admin");
    fs::create_dir_all(work.join("keys")).unwrap();
    for (path, bytes) in site.list.to_files().unwrap() {
        fs::write(work.join(path), bytes).unwrap();
    }
}

fn undo(site: &Site) {
    assert!(site.git(&alice(), &site.at("admin")).args(["reset", "-q", "--hard", "HEAD~1"]).status().unwrap().success());
}

const TO: &str = "HEAD:refs/heads/access";

#[test]
fn only_signed_lists_that_can_be_used() {
    let mut site = site();
    assert!(push(&site, Some("alice"), TO).status.code() != Some(0), "an empty commit holds no list");
    fs::remove_dir_all(site.at("admin")).unwrap();
    fs::create_dir_all(site.at("admin/keys")).unwrap();
    assert!(site.git(&alice(), &site.at("admin")).args(["init", "-q", "-b", "access"]).status().unwrap().success());
    write(&site);
    let first = push(&site, Some("alice"), TO);
    assert!(first.status.success(), "{}", words(&first));
    assert_eq!(site.handed_over("admin").len(), 1);
    assert!(site.at("gate/handover/wake/admin").exists());

    let refused = |expected: &str, signer: Option<&str>, to: &str| {
        let done = push(&site, signer, to);
        assert!(!done.status.success(), "{expected}");
        assert!(words(&done).contains(expected), "{expected}: {}", words(&done));
        undo(&site);
    };
    refused("no administrator of the version before", Some("mallory"), TO);
    refused("not signed", None, TO);
    refused("only the branch access", Some("alice"), "HEAD:refs/heads/main");
    let steering = push_saying(&site, Some("alice"), TO, "clear \u{1b}[2J the screen");
    assert!(!steering.status.success() && words(&steering).contains("cannot be shown"), "{}", words(&steering));
    undo(&site);
    let at = |path: &str| site.at("admin").join(path);
    let list = fs::read_to_string(at("access.toml")).unwrap();
    fs::write(at("access.toml"), list.replace("[client.web1]", "[client.web1]\nkeep = 3")).unwrap();
    refused("line 7: invalid type: integer `3`, expected a table as in", Some("alice"), TO);
    fs::write(at("access.toml"), format!("{list}paused = maybe\n")).unwrap();
    refused(&format!("line {}", list.lines().count() + 1), Some("alice"), TO);
    fs::write(at("access.toml"), list.replace("[admin.alice]", "[restorer.alice]\nread = []")).unwrap();
    refused("nobody could change it any more", Some("alice"), TO);
    fs::remove_file(at("keys/web1.pub")).unwrap();
    refused("keys/web1.pub, which is not there", Some("alice"), TO);
    fs::write(at("README"), "x").unwrap();
    refused("README", Some("alice"), TO);
    fs::write(at("keys/.gitattributes"), "* export-ignore").unwrap();
    refused(".gitattributes", Some("alice"), TO);
    fs::remove_file(at("keys/web1.pub")).unwrap();
    std::os::unix::fs::symlink("alice.pub", at("keys/web1.pub")).unwrap();
    refused("does not belong here", Some("alice"), TO);
    fs::write(at("keys/big.pub"), vec![b'#'; 20 << 10]).unwrap();
    refused("at most", Some("alice"), TO);
    assert_eq!(site.handed_over("admin").len(), 1);

    // A new administrator signs from the next version on, not before.
    site.list.add_admin(&name("mallory"), &site.public("mallory")).unwrap();
    write(&site);
    let done = push(&site, Some("mallory"), TO);
    assert!(!done.status.success());
    undo(&site);
    write(&site);
    assert!(push(&site, Some("alice"), TO).status.success());
    let done = push(&site, Some("mallory"), TO);
    assert!(done.status.success(), "{}", words(&done));
    let tip = site.take_over("admin", &site.at("data/admin.git"), "access").unwrap();
    let copy = Repository::open(&site.at("data/admin.git"), "access").unwrap();
    assert_eq!(queue::access::history::list_at(&copy, &tip).unwrap(), site.list);
}

#[test]
fn the_gate_follows_the_pollers_copy() {
    let mut site = site();
    write(&site);
    fs::create_dir_all(site.at("admin/keys")).unwrap();
    assert!(site.git(&alice(), &site.at("admin")).args(["init", "-q", "-b", "access"]).status().unwrap().success());
    assert!(push(&site, Some("alice"), TO).status.success());
    let tip = site.take_over("admin", &site.at("data/admin.git"), "access").unwrap();
    // A command on the node changes the list.
    let new = NewClient { key: site.public("mallory"), address: None, git_address: None, host_key: None, allow: vec![], quota: None };
    site.list.add_client(&name("web2"), new).unwrap();
    write(&site);
    let git = || site.git(&alice(), &site.at("admin"));
    let key = format!("user.signingkey={}", site.at("keys/alice").display());
    assert!(git().args(["add", "-A"]).status().unwrap().success());
    assert!(
        git()
            .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "gpg.format=ssh", "-c", &key, "commit", "-q", "-S", "-m", "x"])
            .status()
            .unwrap()
            .success()
    );
    let copied = Command::new("git")
        .arg("--git-dir")
        .arg(site.at("data/admin.git"))
        .args(["fetch", "-q"])
        .arg(site.at("admin"))
        .arg("access:access")
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", words(&copied));
    let theirs = Repository::open(&site.at("data/admin.git"), "access").unwrap().tip().unwrap().unwrap();
    assert_ne!(tip, theirs);

    let clone = site.git(&alice(), &site.dir).args(["clone", "-q", "--bare", "gate@node1:admin", "clone.git"]).output().unwrap();
    assert!(clone.status.success(), "{}", words(&clone));
    assert_eq!(Repository::open(&site.at("clone.git"), "access").unwrap().tip().unwrap().unwrap(), theirs);
    assert!(site.handed_over("admin").is_empty(), "what comes from the poller is not handed to it");
    let client = site.run(&Role::Client(name("web1")), "git-upload-pack 'admin'");
    assert_eq!(client.status.code(), Some(4));
}

#[test]
fn sshd_asks_for_one_key() {
    let site = site();
    let keys =
        |kind: &str, key: &str| Command::new(GATE).arg("--config").arg(site.at("node.toml")).args(["keys", kind, key]).output().unwrap();
    let public = site.public("web1").to_openssh().unwrap();
    let (kind, key) = public.split_once(' ').unwrap();
    let found = String::from_utf8(keys(kind, key).stdout).unwrap();
    assert!(
        found.starts_with("command=\"") && found.contains(" client web1\",restrict ssh-ed25519 ") && found.lines().count() == 1,
        "{found}"
    );
    for (kind, key) in [("ssh-rsa", key), (kind, "AAAA"), (kind, &key[..key.len() - 1]), ("", ""), (kind, NOTHING)] {
        let none = keys(kind, key);
        assert!(none.status.success() && none.stdout.is_empty());
    }
}
