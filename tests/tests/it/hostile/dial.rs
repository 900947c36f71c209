//! Machines that dial their node and lie, stall or flood; and a gate's account that answers in a client's place.
//!
//! An honest request waits. Whoever dials for it lies in one way after the other, and nothing comes of it; then the honest machine does.

use super::attacker::Attacker;
use crate::harness::{Killed, until};
use std::process::Stdio;

/// Ways of `dial_liar.py` over a client's own session.
pub const CLIENT: &[&str] = &[
    "speaks before it is asked",
    "never takes the command",
    "hangs up at the command",
    "says a frame of four gigabytes",
    "says a frame that there is not",
    "says half a frame",
    "says slowly that it takes the command",
    "sends a command itself",
    "ends what it has not taken",
    "takes the command and is silent",
    "takes the command twice",
    "ends at once",
    "floods words",
    "floods data",
    "floods nothing",
    "sends a byte at a time",
    "hangs up in the middle",
    "opens thirty lines and answers none",
];

/// The same at the poller's socket, as the gate's account could.
pub const GATE: &[&str] = &[
    "comes five hundred times and says nothing",
    "comes with every name but the right one",
    "opens and closes lines without end",
    "takes the command and is silent",
    "floods data",
];

/// How many cases there are; that of other bytes is beside the tables.
pub const COUNT: usize = CLIENT.len() + GATE.len() + 1;

/// An attacker whose client is to dial, with one honest request that waits; gives its dataset's path too, and what `node.toml` says.
fn attacker() -> (Attacker, String, String) {
    let attacker = Attacker::start();
    let safe = &attacker.safe;
    let list = safe.read("admin/access.toml");
    let (before, web1) = list.split_once("[client.web1]\n").unwrap();
    let (web1, after) = web1.split_once("\n[").unwrap();
    let kept: Vec<&str> = web1.lines().filter(|line| line.starts_with("keys") || line.starts_with("allow")).collect();
    safe.write("admin/access.toml", &format!("{before}[client.web1]\nreach = \"dial\"\n{}\n\n[{after}", kept.join("\n")));
    safe.loopback("start").exits(0);
    safe.write("dial_liar.py", include_str!("dial_liar.py"));
    safe.write("liar.py", include_str!("liar.py"));
    let node = safe.read("node.toml");
    // The client's own send does not dial yet: its lines are the attacker's.
    let (path, _) = safe.exported(300_000);
    safe.write("node.toml", &format!("{node}\nfetch_time = \"1s\"\n"));
    (attacker, path, node)
}

/// Starts a liar, which says so in files: `liar.up` when it has dialled, `liar.lied` when it has done what it is for.
fn start(attacker: &Attacker, way: &str, at_the_gate: bool) -> Killed {
    let safe = &attacker.safe;
    safe.sh("rm -f liar.up liar.lied");
    let mut liar = safe.command("python3");
    liar.arg(safe.at("dial_liar.py")).arg(way).env("EXPORTED", safe.at("client/export/node1"));
    if at_the_gate {
        liar.arg("--socket").arg(safe.at("node/data/access/dial"));
    } else {
        let ssh = safe.ssh_command("client/id_ed25519");
        liar.arg("ssh").args(ssh.get_args()).arg(safe.login()).arg("dial");
    }
    let log = std::fs::File::create(safe.at("liar.log")).unwrap();
    Killed::start(liar.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log))
}

fn watch(attacker: &Attacker) -> Killed {
    let safe = &attacker.safe;
    until("the one before has let go", || safe.run("flock", &["-n", "node/data/state/poll.lock", "true"]).code == Some(0));
    // One that was killed leaves its socket.
    safe.sh("rm -f node/data/access/dial");
    let poller = Killed::start(safe.command("nightsafe-server").arg("watch"));
    until("the socket is there", || safe.at("node/data/access/dial").exists());
    poller
}

fn words(attacker: &Attacker) -> String {
    std::fs::read_to_string(attacker.safe.at("node/data/web1/retry.toml")).unwrap_or_default()
}

/// What waits is tried at once, once more; gives what is remembered of it then.
fn try_again(attacker: &Attacker) -> String {
    let _ = attacker.safe.run("rm", &["-f", "node/data/web1/retry.toml"]);
    let _ = attacker.safe.node(&["poll"]);
    words(attacker)
}

/// Another client's request is answered, whether a daemon runs or not.
fn others_are_served(attacker: &Attacker) {
    let web2 = |args: &[&str]| attacker.safe.client(&[&["--config", "web2.toml"], args].concat());
    web2(&["submit", "dummy", "other"]).exits(0);
    until("the other client's request is answered", || {
        let _ = (web2(&["send"]), attacker.safe.node(&["poll"]), web2(&["send"]));
        attacker.safe.names("web2/pool/work").iter().all(|name| name.starts_with('F'))
    });
}

#[test]
fn whoever_lies_on_a_line_gains_nothing() {
    let (attacker, path, node) = attacker();
    let safe = &attacker.safe;
    let (stored, answers) = (attacker.stored(), attacker.answers());
    let mut wrong = Vec::new();
    for way in CLIENT {
        let liar = start(&attacker, way, false);
        until("somebody has dialled", || safe.at("liar.up").exists());
        if way.starts_with("opens") {
            until("it has opened all", || safe.at("liar.lied").exists());
        }
        let mut words = String::new();
        // A line that was used up is gone for a moment.
        until(way, || {
            words = try_again(&attacker);
            safe.at("liar.lied").exists() && (*way == "speaks before it is asked" || !words.contains("has not dialled in"))
        });
        if attacker.stored() != stored || attacker.answers() != answers || words.is_empty() {
            wrong.push(format!("{way}: {words}"));
        }
        if way.starts_with("opens") {
            others_are_served(&attacker);
        }
        drop(liar);
        until("the lines are gone", || safe.run("pgrep", &["-f", &format!("{}.* client web1", safe.text("node.toml"))]).code == Some(1));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
    the_honest_machine_dials(&attacker, &path, &node);
}

#[test]
fn whoever_has_the_gates_account_gains_nothing_by_answering_for_a_client() {
    let (attacker, path, node) = attacker();
    let safe = &attacker.safe;
    let (stored, answers) = (attacker.stored(), attacker.answers());
    let mut wrong = Vec::new();
    for way in GATE {
        // A new one asks at once for what waits.
        let poller = watch(&attacker);
        let liar = start(&attacker, way, true);
        until(way, || safe.at("liar.lied").exists());
        others_are_served(&attacker);
        if attacker.stored() != stored || attacker.answers() != answers {
            wrong.push(format!("{way}, at the gate: {}", words(&attacker)));
        }
        drop((liar, poller));
        safe.sh("rm -f node/data/web1/retry.toml");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
    // Other bytes are refused, and the receipt says so: that much whoever answers in the client's place can do.
    safe.write("node.toml", &node);
    let poller = watch(&attacker);
    let liar = start(&attacker, "gives other bytes", true);
    until("it is answered", || attacker.answers() != answers);
    assert!(safe.git("node/data/web1/receipts.git", &["log", "-1", "--format=", "-p", "receipts"]).contains("+outcome = \"refused\""));
    drop((liar, poller));
    assert_eq!(attacker.stored(), stored);
    the_honest_machine_dials(&attacker, &path, &node);
}

/// Both daemons of the honest machine and its node: it is stored.
fn the_honest_machine_dials(attacker: &Attacker, path: &str, node: &str) {
    let safe = &attacker.safe;
    let stored = attacker.stored();
    safe.write("node.toml", node);
    safe.sh("rm -f node/data/web1/retry.toml");
    let poller = watch(attacker);
    safe.edit("client.toml", "restore = {", "reach = \"dial\"\nrestore = {");
    let client = Killed::start(safe.command("nightsafe").arg("watch"));
    until("what waits is settled", || safe.names("client/pool/work").iter().all(|name| name.starts_with('F')));
    safe.client(&["submit", "files", path]).exits(0);
    until("the honest machine's is stored", || {
        attacker.stored() != stored && safe.names("client/pool/work").iter().all(|name| name.starts_with('F'))
    });
    drop((client, poller));
    safe.edit("client.toml", "reach = \"dial\"\n", "");
    attacker.honest_requests_work();
}
