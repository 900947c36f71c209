//! Machines that dial their node and lie, stall or flood; and a gate's account that answers in a client's place.
//!
//! An honest request waits. Whoever dials for it lies in one way after the other, and nothing comes of it; then the honest machine does.

use super::attacker::Attacker;
use crate::harness::until;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

/// Ways of `dial_liar.py` over a client's own session.
pub const CLIENT: &[&str] = &[
    "speaks before it is asked",
    "never takes the command",
    "hangs up at the command",
    "says a frame of four gigabytes",
    "says a frame that there is not",
    "says half a frame",
    "sends a command itself",
    "ends what it has not taken",
    "takes the command and is silent",
    "takes the command twice",
    "ends at once",
    "floods words",
    "floods data",
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

/// A liar with all that it started.
struct Liar(Child);

impl Drop for Liar {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

fn start(attacker: &Attacker, way: &str, at_the_gate: bool) -> Liar {
    let safe = &attacker.safe;
    let mut liar = safe.command("python3");
    liar.arg(safe.at("dial_liar.py")).arg(way).env("EXPORTED", safe.at("client/export/node1")).process_group(0);
    if at_the_gate {
        liar.arg("--socket").arg(safe.at("node/data/access/dial"));
    } else {
        let ssh = safe.ssh_command("client/id_ed25519");
        liar.arg("ssh").args(ssh.get_args()).arg(safe.login()).arg("dial");
    }
    let log = std::fs::File::create(safe.at("liar.log")).unwrap();
    Liar(liar.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
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
    let (stored, answers) = (attacker.stored(), attacker.answers());
    let mut wrong = Vec::new();
    for way in CLIENT {
        let liar = start(&attacker, way, false);
        until("somebody has dialled", || safe.at("liar.up").exists());
        let words = try_again(&attacker);
        if attacker.stored() != stored || attacker.answers() != answers || words.is_empty() {
            wrong.push(format!("{way}: {words}"));
        }
        if way.starts_with("opens") {
            others_are_served(&attacker);
        }
        drop(liar);
        std::fs::remove_file(safe.at("liar.up")).unwrap();
        until("the lines are gone", || safe.run("pgrep", &["-f", &format!("{}.* client web1", safe.text("node.toml"))]).code == Some(1));
    }
    let mut poller = safe.command("nightsafe-server").arg("watch").spawn().unwrap();
    until("the socket is there", || safe.at("node/data/access/dial").exists() && safe.node(&["status", "--json"]).code == Some(0));
    for way in GATE {
        let liar = start(&attacker, way, true);
        others_are_served(&attacker);
        if attacker.stored().replace("web2", "") != stored.replace("web2", "") || attacker.answers() != answers {
            wrong.push(format!("{way}, at the gate: {}", words(&attacker)));
        }
        drop(liar);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
    // Other bytes are refused, and the receipt says so: that much whoever answers in the client's place can do.
    let liar = start(&attacker, "gives other bytes", true);
    until("it is answered", || attacker.answers() != answers);
    assert!(safe.git("node/data/web1/receipts.git", &["log", "-1", "--format=", "-p", "receipts"]).contains("+outcome = \"refused\""));
    drop(liar);
    assert_eq!(attacker.stored(), stored);
    // The honest machine dials.
    safe.write("node.toml", &node);
    let _ = poller.kill();
    let _ = poller.wait();
    let mut poller = safe.command("nightsafe-server").arg("watch").spawn().unwrap();
    safe.edit("client.toml", "restore = {", "reach = \"dial\"\nrestore = {");
    let mut client = safe.command("nightsafe").arg("watch").spawn().unwrap();
    until("what was refused is settled", || safe.names("client/pool/work").iter().all(|name| name.starts_with('F')));
    safe.client(&["submit", "files", &path]).exits(0);
    until("the honest machine's is stored", || {
        attacker.stored() != stored && safe.names("client/pool/work").iter().all(|name| name.starts_with('F'))
    });
    for daemon in [&mut client, &mut poller] {
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
    safe.edit("client.toml", "reach = \"dial\"\n", "");
    attacker.honest_requests_work();
}
