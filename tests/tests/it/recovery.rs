//! What happens when something is away, lost, or changed its key.

use crate::harness::Loopback;

#[test]
fn a_node_that_is_down_loses_nothing() {
    let safe = Loopback::start();
    safe.loopback("stop").exits(0);
    safe.client(&["submit", "dummy", "x"]).ok();
    let sent = safe.client(&["send"]).exits(75);
    assert!(sent.stdout.is_empty(), "{sent}");
    // Kept with the words of whoever said it, and shown.
    safe.client(&["status"]).says(&["node1", "refused"]);
    safe.client(&["send"]).exits(75);
    safe.loopback("start").exits(0);
    safe.client(&["send", "--now"]).silent();
    safe.round();
    safe.client(&["status"]).says(&["stored"]).exits(0);
}

#[test]
fn one_nodes_trouble_does_not_hold_up_another() {
    let safe = Loopback::start();
    let text = safe.read("client.toml");
    let second = text
        .split("[[node]]")
        .nth(1)
        .unwrap()
        .split("[[allow]]")
        .next()
        .unwrap()
        .replace("node1", "node2")
        .replace(&format!(":{}", safe.port()), ":9");
    safe.write("client.toml", &text.replacen("[[allow]]", &format!("[[node]]{second}\n[[allow]]"), 1));
    safe.client(&["submit", "dummy", "x", "node2"]).ok();
    safe.client(&["submit", "dummy", "x", "node1"]).ok();
    safe.client(&["send"]).exits(75);
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).exits(75);
    let receipts = safe.git("client/receipts/node1.git", &["rev-list", "--count", "refs/heads/receipts"]);
    assert_eq!(receipts.trim(), "1");
    safe.client(&["status"]).says(&["node2"]);
}

#[test]
fn a_lost_queue_comes_back_from_the_node() {
    let safe = Loopback::start();
    for path in ["x", "y"] {
        safe.back_up("dummy", path);
    }
    let tip = safe.git("client/queues/node1.git", &["rev-parse", "refs/heads/requests"]);
    safe.sh("rm -rf client/queues client/receipts client/retry");
    safe.back_up("dummy", "x");
    let parents = safe.git("client/queues/node1.git", &["rev-list", "refs/heads/requests"]);
    assert!(parents.lines().count() == 3 && parents.contains(tip.trim()), "{parents}");
    let request = safe.git("client/queues/node1.git", &["show", "--format=", "refs/heads/requests"]);
    assert!(request.contains("+seq = 3"), "{request}");
}

/// While the node is away nobody knows what it has: nothing is begun anew, and no answer is taken for somebody else's.
#[test]
fn a_queue_lost_while_the_node_is_away_comes_back_later() {
    let safe = Loopback::start();
    safe.client(&["submit", "dummy", "x"]).ok();
    safe.client(&["send"]).silent();
    safe.node(&["poll"]).silent();
    safe.loopback("stop").exits(0);
    safe.sh("rm -rf client/queues client/retry");
    safe.client(&["submit", "dummy", "y"]).ok();
    safe.client(&["send"]).exits(75);
    safe.client(&["send", "--now"]).exits(75);
    assert!(safe.names("client/pool/inbox").iter().any(|name| name.starts_with('C')));
    safe.loopback("start").exits(0);
    safe.client(&["send", "--now"]).silent();
    safe.round();
    let status = safe.client(&["status"]).exits(0);
    assert_eq!(status.stdout.matches("stored").count(), 2, "{status}");
    assert!(!status.stdout.contains("another machine"), "{status}");
    assert_eq!(safe.git("node/data/log/web1.git", &["rev-list", "--count", "refs/heads/requests"]).trim(), "2");
}

#[test]
fn what_a_killed_send_was_writing_goes() {
    let safe = Loopback::start();
    safe.back_up("dummy", "x");
    safe.write("client/export/node1/.tmp-1-2", "half a pack");
    safe.back_up("dummy", "x");
    assert!(safe.names("client/export/node1").is_empty());
}

#[test]
fn a_damaged_file_in_the_nodes_pool_is_looked_up_in_the_log() {
    let safe = Loopback::start();
    safe.client(&["submit", "files", &safe.text("source")]).ok();
    safe.client(&["send"]).silent();
    // It cannot be fetched, so it stays in the pool.
    safe.loopback("stop").exits(0);
    let polled = safe.node(&["poll"]);
    assert_ne!(polled.code, Some(0), "{polled}");
    safe.sh("for file in node/data/web1/pool/P*; do echo 'version = [' >$file; done");
    safe.node(&["status"]).exits(0);
    safe.loopback("start").exits(0);
    crate::harness::until("the node has fetched it", || {
        let _ = safe.node(&["poll"]);
        safe.names("node/data/web1/snapshots").len() == 1
    });
    safe.client(&["send"]).silent();
    safe.client(&["status"]).says(&["stored"]);
}

#[test]
fn a_client_that_lost_its_index_sends_in_full() {
    let safe = Loopback::start();
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'; head -c 2000000 /dev/urandom >'{path}/x'"));
    safe.back_up("files", &path);
    safe.sh("rm -rf client/index client/secret client/epochs");
    safe.back_up("files", &path);
    safe.client(&["restore", &format!("files:{path}"), "--target", &safe.text("back/a")]).exits(0);
    safe.sh(&format!("diff -r '{path}' back/a"));
}

#[test]
fn a_node_that_lacks_a_pack_gets_it_again() {
    let safe = Loopback::start();
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'; head -c 2000000 /dev/urandom >'{path}/x'"));
    safe.back_up("files", &path);
    safe.sh("rm -f node/data/web1/packs/*");
    safe.sh(&format!("echo more >'{path}/y'"));
    safe.client(&["submit", "files", &path]).ok();
    // The node refuses and says which packs it lacks; the client sends them again without being asked by a person.
    for _ in 0..4 {
        let _ = safe.client(&["send"]);
        let _ = safe.node(&["poll"]);
    }
    let _ = safe.client(&["send"]);
    safe.client(&["restore", &format!("files:{path}"), "--target", &safe.text("back/a")]).exits(0);
    safe.sh(&format!("diff -r '{path}' back/a"));
    let log = safe.git("node/data/log/web1.git", &["log", "-p", "refs/heads/requests"]);
    assert!(log.contains("heal"), "{log}");
}

#[test]
fn another_host_key_is_refused_on_both_sides() {
    let safe = Loopback::start();
    safe.sh("ssh-keygen -q -t ed25519 -N '' -f other");
    let (good, bad) = (safe.read("sshd/host_ed25519.pub"), safe.read("other.pub"));
    let (good, bad) = (good.split_whitespace().nth(1).unwrap(), bad.split_whitespace().nth(1).unwrap());
    safe.client(&["submit", "files", &safe.text("source")]).ok();
    safe.edit("client.toml", good, bad);
    let sent = safe.client(&["send"]);
    assert_ne!(sent.code, Some(0), "{sent}");
    safe.client(&["status"]).says(&["ost key"]);
    safe.edit("client.toml", bad, good);
    // The node pins the client's key in the access list.
    safe.edit("admin/access.toml", good, bad);
    safe.loopback("start").exits(0);
    safe.client(&["send", "--now"]).silent();
    let polled = safe.node(&["poll"]);
    assert_ne!(polled.code, Some(0), "{polled}");
    assert!(safe.names("node/data/web1/snapshots").is_empty());
    safe.node(&["status"]).says(&["ost key"]);
    safe.edit("admin/access.toml", bad, good);
    safe.loopback("start").exits(0);
    crate::harness::until("the node tries again", || {
        let _ = safe.node(&["poll", "--sweep"]);
        !safe.names("node/data/web1/snapshots").is_empty()
    });
}

#[test]
fn receipts_by_another_key_free_nothing_until_trusted() {
    let safe = Loopback::start();
    let (_, exported) = safe.exported(2_000_000);
    // The node comes back with another key, or somebody else answers in its place.
    safe.sh("mv node/receipts node/receipts.old; mv node/receipts.pub node/receipts.pub.old; ssh-keygen -q -t ed25519 -N '' -C node1 -f node/receipts");
    safe.node(&["poll"]).silent();
    let sent = safe.client(&["send"]);
    assert_ne!(sent.code, Some(0), "{sent}");
    assert_eq!(safe.names("client/export/node1"), exported, "nothing is freed");
    assert!(safe.names("client/pool/work").iter().any(|name| name.starts_with('P')));
    safe.client(&["status"]).says(&["node trust"]);
}

/// The state of one side as it was, in the place of what it is: an old disk image.
fn set_back(safe: &Loopback, side: &str) {
    safe.sh(&format!("rm -rf {side}; mv {side}.old {side}"));
}

#[test]
fn a_client_that_was_set_back_goes_on_from_the_node() {
    let safe = Loopback::start();
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'; echo 1 >'{path}/x'"));
    safe.back_up("files", &path);
    safe.sh("cp -a client client.old");
    safe.sh(&format!("echo 2 >'{path}/x'; head -c 100000 /dev/urandom >'{path}/y'"));
    safe.back_up("files", &path);
    safe.back_up("dummy", "lost");
    set_back(&safe, "client");
    safe.sh(&format!("echo 3 >'{path}/x'"));
    safe.client(&["submit", "files", &path]).ok();
    let sent = safe.client(&["send"]).exits(0);
    safe.node(&["poll"]).silent();
    let _ = safe.client(&["send"]);
    safe.client(&["status"]).says(&["was set back", "or another machine uses its key"]);
    // What was made since is known again, and what is new goes on from there.
    let log = safe.client(&["log", "-n", "0", "--json"]).json();
    let mut seqs: Vec<u64> = log.as_array().unwrap().iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2, 3, 4], "{sent}\n{log}");
    assert!(log.as_array().unwrap().iter().all(|line| line["outcome"] == "stored"), "{log}");
    safe.client(&["verify"]).exits(0);
    safe.client(&["restore", &format!("files:{path}"), "--target", &safe.text("back/a")]).exits(0);
    safe.sh(&format!("diff -r '{path}' back/a"));
    assert!(safe.names("client/export/node1").is_empty());
}

#[test]
fn a_node_that_was_set_back_is_seen_and_goes_on_when_a_person_says_so() {
    let safe = Loopback::start();
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'; echo 1 >'{path}/x'"));
    safe.back_up("files", &path);
    safe.sh("rm -rf run/*; cp -a node node.old");
    safe.sh(&format!("echo 2 >'{path}/x'; head -c 100000 /dev/urandom >'{path}/y'"));
    safe.back_up("files", &path);
    set_back(&safe, "node");
    safe.sh(&format!("echo 3 >'{path}/x'"));
    safe.client(&["submit", "files", &path]).ok();
    safe.client(&["send"]).says(&["do not follow", "nightsafe node trust node1 --new-history", "nothing was freed"]).exits(1);
    safe.client(&["status"]).says(&["ALARM", "do not follow"]);
    safe.client(&["node", "trust", "node1", "--new-history", "--yes"]).exits(0);
    // What the image lacks is found missing and sent again.
    crate::harness::until("everything is stored", || {
        let _ = safe.client(&["send", "--now"]);
        let _ = safe.node(&["poll"]);
        safe.names("client/pool/work").iter().all(|name| name.starts_with('F')) && safe.names("client/pool/inbox").is_empty()
    });
    safe.client(&["restore", &format!("files:{path}"), "--target", &safe.text("back/a")]).exits(0);
    safe.sh(&format!("diff -r '{path}' back/a"));
    safe.node(&["log", "--verify"]).exits(0);
    assert!(safe.names("client/export/node1").is_empty() && safe.names("node/data/web1/incoming").is_empty());
}
