//! The way itself, with the module that carries nothing: states, queue, log, receipts, and what people are told.

use crate::harness::{Loopback, until};

#[test]
fn a_request_goes_all_the_way_and_is_written_down_on_both_sides() {
    let safe = Loopback::start();
    let line = safe.client(&["submit", "dummy", "x"]).ok();
    let id = line.split_whitespace().next().unwrap().to_owned();
    assert_eq!(safe.names("client/pool/inbox"), [format!("C{id}")], "C is waiting");
    safe.client(&["status"]).says(&["waiting", "dummy:x"]).ok();

    safe.client(&["send"]).silent();
    assert!(safe.names("client/pool/inbox").is_empty());
    assert!(
        safe.names("client/pool/work").contains(&format!("P{id}")),
        "P until the receipt is here: {:?}",
        safe.names("client/pool/work")
    );
    safe.client(&["status"]).says(&["being fetched", "dummy:x"]).ok();

    safe.node(&["poll"]).silent();
    let pool = safe.names("node/data/web1/pool");
    assert!(pool.contains(&format!("F{id}")), "{pool:?}");

    safe.client(&["send"]).silent();
    let work = safe.names("client/pool/work");
    assert!(work.contains(&format!("F{id}")) && !work.contains(&format!("P{id}")), "{work:?}");

    // The same commit at all three places: the client's queue, the gate's, and the poller's own copy.
    let tip = safe.git("client/queues/node1.git", &["rev-parse", "refs/heads/requests"]);
    assert_eq!(safe.git("node/gate/queues/web1.git", &["rev-parse", "refs/heads/requests"]), tip);
    assert_eq!(safe.git("node/data/log/web1.git", &["rev-parse", "refs/heads/requests"]), tip);
    assert_eq!(safe.git("client/queues/node1.git", &["ls-tree", "--name-only", "refs/heads/requests"]).trim(), format!("RQ{id}.toml"));
    let receipts = safe.git("node/data/web1/receipts.git", &["rev-parse", "refs/heads/receipts"]);
    assert_eq!(safe.git("client/receipts/node1.git", &["rev-parse", "refs/heads/receipts"]), receipts);
    assert!(safe.git("client/receipts/node1.git", &["ls-tree", "--name-only", "refs/heads/receipts"]).contains(&format!("RC{id}.toml")));
    let receipt = safe.git("client/receipts/node1.git", &["show", &format!("refs/heads/receipts:RC{id}.toml")]);
    assert!(receipt.contains("outcome = \"stored\""), "{receipt}");
    for side in [safe.client(&["log"]), safe.node(&["log"])] {
        side.says(&["dummy:x"]).ok();
    }
    // Nothing to do is nothing said.
    safe.round();
}

#[test]
fn order_and_chain_of_requests() {
    let safe = Loopback::start();
    for _ in 0..2 {
        for path in ["x", "y"] {
            safe.client(&["submit", "dummy", path]).ok();
        }
        safe.round();
    }
    let log =
        safe.git("client/queues/node1.git", &["log", "--reverse", "--format=", "-p", "--no-renames", "--no-prefix", "refs/heads/requests"]);
    let field = |name: &str| {
        log.lines().filter_map(|line| line.strip_prefix(&format!("+{name} = ")).map(|v| v.trim_matches('"').to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(field("seq"), ["1", "2", "3", "4"], "{log}");
    let (ids, prev, datasets) = (field("id"), field("prev"), field("dataset"));
    assert_eq!(prev.len(), 2, "the first request of a dataset has none: {log}");
    for (i, before) in prev.iter().enumerate() {
        let at = ids.iter().position(|id| id == before).unwrap();
        assert_eq!(datasets[at], datasets[2 + i], "prev is the same dataset's request before");
    }
}

#[test]
fn doing_a_step_twice_does_nothing_the_second_time() {
    let safe = Loopback::start();
    safe.client(&["submit", "dummy", "x"]).ok();
    safe.client(&["send"]).silent();
    safe.client(&["send"]).silent();
    safe.node(&["poll"]).silent();
    safe.node(&["poll"]).silent();
    safe.node(&["poll", "--sweep"]).silent();
    safe.round();
    for repository in ["node/data/log/web1.git", "node/data/web1/receipts.git"] {
        let branch = if repository.contains("log") { "refs/heads/requests" } else { "refs/heads/receipts" };
        assert_eq!(safe.git(repository, &["rev-list", "--count", branch]).trim(), "1", "{repository}");
    }
}

#[test]
fn cancel_and_pause() {
    let safe = Loopback::start();
    let line = safe.client(&["submit", "dummy", "x"]).ok();
    let id = line.split_whitespace().next().unwrap();
    safe.client(&["cancel", id]).exits(0);
    assert!(safe.names("client/pool/inbox").is_empty());
    safe.round();
    assert!(!safe.at("node/gate/queues/web1.git").exists(), "nothing was sent");

    safe.node(&["client", "pause", "web1", "--admin-key", &safe.text("admin/id_ed25519")]).exits(0);
    safe.node(&["client", "list"]).says(&["web1", "paused"]).ok();
    safe.client(&["submit", "dummy", "x"]).ok();
    let sent = safe.client(&["send"]);
    assert!(sent.code == Some(75) || sent.code == Some(0), "{sent}");
    safe.node(&["poll"]).silent();
    safe.client(&["status"]).says(&["paused"]);
    safe.node(&["client", "pause", "web1", "--off", "--admin-key", &safe.text("admin/id_ed25519")]).exits(0);
    safe.client(&["send", "--now"]).silent();
    safe.round();
    safe.client(&["status"]).says(&["stored"]).ok();
}

#[test]
fn without_room_requests_wait_and_go_on_when_there_is() {
    let safe = Loopback::start();
    let config = safe.read("node.toml");
    safe.write("node.toml", &format!("keep_free = \"1000000 TiB\"\n{config}"));
    safe.client(&["submit", "dummy", "x"]).ok();
    safe.client(&["send"]).silent();
    safe.node(&["poll"]).exits(75);
    safe.node(&["status"]).says(&["keep_free"]);
    safe.client(&["status"]).says(&["being fetched"]);
    safe.write("node.toml", &config);
    // The wait for the next try goes by; nothing has to be said to anybody.
    until("the request is answered", || {
        let _ = (safe.node(&["poll"]), safe.client(&["send", "--now"]));
        safe.client(&["status"]).stdout.contains("stored")
    });
}
