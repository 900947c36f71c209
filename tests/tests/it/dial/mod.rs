//! Machines that a node cannot reach: they dial in at its gate, and everything else is as ever (docs/dial.md).

mod netns;

use crate::harness::{Killed, Loopback, not_tested, root, run, same_trees, until};
use std::path::Path;

/// An installation whose client dials; the node's key opens nothing on it any more.
pub fn installation() -> Loopback {
    let safe = Loopback::start();
    let list = safe.read("admin/access.toml");
    let kept: Vec<&str> =
        list.lines().filter(|line| !["address", "git_address", "host_key"].iter().any(|key| line.starts_with(key))).collect();
    safe.write("admin/access.toml", &kept.join("\n").replace("keys = [\"web1.pub\"]", "keys = [\"web1.pub\"]\nreach = \"dial\""));
    safe.edit("client.toml", "restore = {", "reach = \"dial\"\nrestore = {");
    safe.loopback("start").exits(0);
    safe.write("client/authorized_keys", "");
    safe
}

/// A folder and a repository to back up: `source/a`, `source/a.git`.
pub fn sources(safe: &Loopback) -> (String, String) {
    let (files, git) = (safe.text("source/a"), safe.text("source/a.git"));
    safe.sh(&format!(
        "mkdir -p '{files}/deep'; head -c 9000000 /dev/urandom >'{files}/deep/large'; echo x >'{files}/x'; ln -s x '{files}/link'
         git init -q --bare -b main '{git}'; git init -q -b main work; cd work; echo 1 >f; git add f
         git -c user.name=x -c user.email=x@x commit -q -m one; git push -q '{git}' main main:refs/heads/other"
    ));
    (files, git)
}

/// Waits until the client has pushed so many requests and holds a line.
pub fn wait_at_the_gate(safe: &Loopback, requests: usize) {
    until("the client waits at the gate", || {
        let count = safe.run("git", &["-C", "node/gate/queues/web1.git", "rev-list", "--count", "requests"]);
        count.stdout.trim() == requests.to_string() && safe.client(&["status"]).stdout.contains("dialled in")
    });
}

/// Both are stored, and come back as they were.
pub fn come_back(safe: &Loopback, files: &str, git: &str) {
    let back = safe.text("back/a");
    safe.client(&["restore", &format!("files:{files}"), "--target", &back]).exits(0);
    same_trees(Path::new(files), Path::new(&back));
    let mirror = safe.text("back/a.git");
    safe.client(&["restore", &format!("git:{git}"), "--target", &mirror]).exits(0);
    let refs = |path: &str| safe.sh(&format!("git -c safe.directory='*' -C '{path}' for-each-ref refs/heads refs/tags"));
    assert_eq!(refs(&mirror), refs(git));
    safe.node(&["log", "--verify"]).exits(0);
}

fn logins_of_the_node(safe: &Loopback) -> usize {
    let fingerprint = run(safe.command("ssh-keygen").args(["-l", "-f", "node/pull.pub"])).ok();
    let fingerprint = fingerprint.split_whitespace().nth(1).unwrap();
    safe.read("sshd.log").lines().filter(|line| line.starts_with("Accepted publickey") && line.contains(fingerprint)).count()
}

#[test]
fn archives_and_mirrors_come_over_the_line_that_send_holds() {
    let safe = installation();
    let (files, git) = sources(&safe);
    safe.client(&["submit", "files", &files]).exits(0);
    safe.client(&["submit", "git", &git]).exits(0);
    // A poll that finds nobody says so in status, and nothing is lost.
    let before = logins_of_the_node(&safe);
    let send = Killed::start(safe.command("nightsafe").args(["-v", "send"]));
    wait_at_the_gate(&safe, 2);
    safe.node(&["poll"]).silent();
    assert!(send.wait().success(), "send has its receipts and goes");
    assert_eq!(logins_of_the_node(&safe), before);
    come_back(&safe, &files, &git);
    safe.client(&["send"]).silent();
}

/// Starts the client's daemon alone; it ends with what is given back.
pub fn watching(safe: &Loopback) -> Killed {
    Killed::start(safe.command("nightsafe").arg("watch"))
}

fn all_is_answered(safe: &Loopback) -> bool {
    safe.names("client/pool/inbox").is_empty() && safe.names("client/pool/work").iter().all(|name| name.starts_with('F'))
}

/// Kills a daemon, and waits until it has let go of what only one may hold.
fn kill(safe: &Loopback, daemon: &str) {
    let text = safe.read(&format!("{daemon}.pid"));
    safe.sh(&format!("kill -9 {}", text.split_whitespace().next().unwrap()));
    let lock = if daemon == "node-watch" { "node/data/state/poll.lock" } else { "client/locks/.watch" };
    until("the killed one has let go", || safe.run("flock", &["-n", lock, "true"]).code == Some(0));
}

/// Both daemons, a long backup in parts with a mirror beside it, and each daemon killed in the middle of it.
#[test]
fn daemons_dial_while_something_waits_whoever_dies() {
    let safe = installation();
    safe.edit("client.toml", "name = \"web1\"\n", "name = \"web1\"\nspool = { limit = \"64 MiB\" }\n");
    let (files, git) = sources(&safe);
    safe.sh(&format!("head -c 110M /dev/urandom >'{files}/long'"));
    safe.loopback("watch").exits(0);
    safe.node(&["status"]).says(&["waits for it to dial"]).exits(0);
    safe.client(&["status"]).says(&["dials when something waits"]).exits(0);
    safe.client(&["submit", "files", &files]).exits(0);
    safe.client(&["submit", "git", &git]).exits(0);
    until("a part is at the node", || !safe.names("node/data/web1/parts").is_empty() || all_is_answered(&safe));
    kill(&safe, "node-watch");
    safe.loopback("watch").exits(0);
    kill(&safe, "client-watch");
    safe.loopback("watch").exits(0);
    until("everything is answered", || all_is_answered(&safe));
    // Nothing waits any more, so nothing is held open.
    until("the client hangs up", || safe.client(&["status"]).stdout.contains("dials when something waits"));
    assert_eq!(safe.names("node/data/web1/parts"), [""; 0]);
    come_back(&safe, &files, &git);
    // A node that is away while the client dials: the line waits at the gate for the next poller.
    kill(&safe, "node-watch");
    safe.sh(&format!("echo y >'{files}/y'; head -c 9000000 /dev/urandom >'{files}/deep/large'"));
    safe.client(&["submit", "files", &files]).exits(0);
    until("the client waits at the gate", || safe.client(&["status"]).stdout.contains("dialled in"));
    safe.loopback("watch").exits(0);
    until("it is answered", || all_is_answered(&safe));
    let latest = safe.text("back/b");
    safe.client(&["restore", &format!("files:{files}"), "--target", &latest]).exits(0);
    same_trees(Path::new(&files), Path::new(&latest));
}

#[test]
fn each_side_says_what_the_other_has_not_done() {
    let safe = installation();
    let (files, _) = sources(&safe);
    safe.edit("client.toml", "reach = \"dial\"", "reach = \"dial\"\ndial_for = \"1s\"");
    safe.client(&["submit", "files", &files]).exits(0);
    safe.client(&["config", "check"]).says(&["takes lines that this machine dials"]).exits(0);
    safe.node(&["config", "check"]).says(&["web1 dials in"]).exits(0);
    // Nobody fetches for as long as this one waits.
    safe.client(&["send"]).exits(75);
    safe.node(&["poll"]).says(&["web1 has not dialled in; its requests wait until it does"]).exits(75);
    safe.node(&["status"]).says(&["waits for it to dial", "has not dialled in"]).exits(0);
    assert_eq!(safe.node(&["status", "--json"]).json()[0]["dialled_in"], false);
    assert_eq!(safe.client(&["status", "--json"]).json()[1]["dialled_in"], false);
    // The list says otherwise than the client: the gate says so, and the client keeps it for a person.
    safe.edit("admin/access.toml", "reach = \"dial\"", "reach = \"ssh\"");
    safe.loopback("start").exits(0);
    safe.client(&["send"]).exits(75);
    safe.client(&["status"]).says(&["node1: does not take our line", "with reach = \"dial\" in it web1 may dial in"]).exits(0);
    assert!(safe.read("node/gate/gate.log").contains("(asked for: dial)"));
    // A list with an address for it beside that is refused with the line.
    safe.edit("admin/access.toml", "reach = \"ssh\"", &format!("reach = \"dial\"\naddress = \"{}\"", safe.login()));
    let refused = safe.loopback("start");
    assert!(refused.code != Some(0) && refused.stderr.contains("client web1 has reach = \"dial\" and an address"), "{refused}");
    safe.edit("admin/access.toml", &format!("\naddress = \"{}\"", safe.login()), "");
    safe.sh("cd admin && git -c user.name=x -c user.email=x@x reset -q --soft HEAD~1");
    safe.loopback("start").exits(0);
    // What waited is fetched as soon as both agree; there is one poller at a time, and the line is there when it comes.
    let _client = watching(&safe);
    until("the line is there", || safe.client(&["status"]).stdout.contains("dialled in"));
    safe.node(&["poll"]).exits(0);
    until("it is answered", || all_is_answered(&safe));
    safe.node(&["status"]).exits(0);
}

/// What is only prepared again and again is nothing that the node could fetch: `send` has nothing to stay for.
#[test]
fn send_does_not_stay_for_what_cannot_be_prepared() {
    const STAY: &str = "a send that has nothing to stay for";
    if !root() {
        return not_tested(STAY, "this user is not root");
    }
    let safe = installation();
    let (files, _) = sources(&safe);
    safe.client(&["submit", "files", &files]).exits(0);
    safe.sh("mkdir -p client/export");
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs '{0}' && mkdir '{0}/node1' && timeout 200 nightsafe send; echo \"exit $?\"",
        safe.text("client/export")
    );
    let sent = run(safe.command("unshare").args(["--mount", "sh", "-c", &script]));
    if sent.stderr.contains("Operation not permitted") {
        return not_tested(STAY, &format!("no file system can be mounted here: {sent}"));
    }
    // It would stay for ten minutes (dial_for) in which nobody comes.
    sent.says(&["exit 75", "No space left"]);
    assert_eq!(safe.names("client/retry").iter().filter(|name| name.ends_with(".dialled")).count(), 0, "it did not even dial");
}
