//! The daemons: woken at once, one login for each peer.

use crate::harness::{Loopback, run, until};

fn logins(safe: &Loopback, key: &str) -> usize {
    let fingerprint = run(safe.command("ssh-keygen").args(["-l", "-f", key])).ok();
    let fingerprint = fingerprint.split_whitespace().nth(1).unwrap();
    safe.read("sshd.log").lines().filter(|line| line.starts_with("Accepted publickey for") && line.contains(fingerprint)).count()
}

#[test]
fn requests_are_answered_at_once_over_one_login_each() {
    let safe = Loopback::start();
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'; echo a >'{path}/x'"));
    safe.loopback("stop").exits(0);
    safe.write("sshd.log", "");
    safe.loopback("watch").exits(0);
    let start = std::time::Instant::now();
    for i in 0..4 {
        safe.sh(&format!("echo {i} >'{path}/x'"));
        safe.client(&["submit", "files", &path, "--wait", "--timeout", "600s"]).exits(0).says(&["stored"]);
    }
    // No measurement: what the sweeps alone would find takes a minute each at the client, and ten at the node.
    assert!(start.elapsed().as_secs() < 150, "{:?}", start.elapsed());
    assert_eq!(logins(&safe, "client/id_ed25519.pub"), 1, "the client logs in once:\n{}", safe.read("sshd.log"));
    assert_eq!(logins(&safe, "node/pull.pub"), 1, "the node logs in once:\n{}", safe.read("sshd.log"));
    safe.loopback("stop").exits(0);
    until("no daemon is left", || run(safe.command("pgrep").args(["-f", &safe.text("client.toml watch")])).code == Some(1));
}

/// Logins are slow, so both ends are done with theirs by the time that something is prepared.
#[test]
fn connections_open_while_something_is_prepared() {
    let safe = Loopback::start();
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'; echo a >'{path}/x'"));
    let wait = format!("touch '{}'; until [ -e '{}' ]; do sleep 0.1; done", safe.text("begun"), safe.text("go"));
    let text = format!("{}\n[[dataset]]\naddress = \"files:{path}\"\nbefore = [\"sh\", \"-c\", \"{wait}\"]\n", safe.read("client.toml"));
    safe.write("client.toml", &text);
    safe.back_up("dummy", "x");
    safe.sh("for socket in run/*; do [ ! -S $socket ] || ssh -O exit -S $socket x; done");
    until("nobody is logged in", || safe.names("run").iter().all(|name| name.ends_with(".pin")));
    safe.write("sshd.log", "");
    safe.loopback("watch").exits(0);
    let requests = || safe.git("client/queues/node1.git", &["rev-list", "--count", "refs/heads/requests"]);
    let before = requests();
    safe.client(&["submit", "files", &path]).exits(0);
    until("it is being prepared", || safe.at("begun").exists());
    until("the client logs in", || logins(&safe, "client/id_ed25519.pub") == 1);
    until("the node logs in", || logins(&safe, "node/pull.pub") == 1);
    assert_eq!(requests(), before, "nothing is asked for yet");
    safe.write("go", "");
    until("it is stored", || safe.client(&["snapshots", "--json"]).json().as_array().unwrap().len() == 1);
    assert_eq!(logins(&safe, "client/id_ed25519.pub"), 1, "\n{}", safe.read("sshd.log"));
    assert_eq!(logins(&safe, "node/pull.pub"), 1, "\n{}", safe.read("sshd.log"));
}

#[test]
fn daemons_ride_out_a_node_that_goes_away() {
    let safe = Loopback::start();
    safe.loopback("watch").exits(0);
    safe.client(&["submit", "dummy", "x", "--wait", "--timeout", "60s"]).exits(0);
    safe.stop_sshd();
    safe.client(&["submit", "dummy", "y"]).exits(0);
    until("the client notices", || {
        let status = safe.client(&["status"]);
        status.stdout.contains("refused") || status.stderr.contains("refused") || status.stdout.contains("could not")
    });
    safe.loopback("start").exits(0);
    until("what was kept is stored", || {
        safe.git("node/data/web1/receipts.git", &["rev-list", "--count", "refs/heads/receipts"]).trim() == "2"
    });
}
