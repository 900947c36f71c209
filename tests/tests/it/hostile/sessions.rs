//! Sessions that are opened without end and stay: each would be a process of the node's.

use super::attacker::Attacker;
use crate::harness::until;
use std::process::{Child, Stdio};

/// How many sessions a client has at once where the list says nothing.
const MOST: usize = 16;
/// How many the attacker opens.
const OPENED: usize = 30;

/// As many as are allowed stay; the others are sent away with the reason, and nobody else is.
#[test]
fn no_client_holds_more_sessions_than_its_share() {
    let attacker = Attacker::start();
    let safe = &attacker.safe;
    let tip = safe.git("node/data/web1/receipts.git", &["rev-parse", "receipts"]);
    let open = || {
        let mut ssh = safe.ssh_command("client/id_ed25519");
        ssh.arg(safe.login()).arg(format!("receipts-wait {}", tip.trim()));
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut sessions: Vec<Child> = (0..OPENED).map(|_| open()).collect();
    until("all but those that are allowed are sent away", || {
        sessions.iter_mut().filter_map(|session| session.try_wait().unwrap()).count() == OPENED - MOST
    });
    let (mut away, mut held) = (Vec::new(), Vec::new());
    for mut session in sessions {
        if session.try_wait().unwrap().is_some() { away.push(session) } else { held.push(session) }
    }
    for session in away {
        let said = session.wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.code() == Some(75) && words.contains("web1 has 16 sessions open here"), "{:?}: {words}", said.status);
    }
    assert!(
        safe.read("node/gate/gate.log").lines().any(|line| line.contains("client web1 from 127.0.0.1: web1 has 16 sessions open here"))
    );
    attacker.others_work();
    for (key, verb) in [("restorer/id_ed25519", "list"), ("admin/id_ed25519", "ping")] {
        safe.ssh(key, Some(verb)).exits(0);
    }
    // The honest machine of this client is told, and what it has waits.
    safe.client(&["submit", "dummy", "patient"]).exits(0);
    safe.client(&["send"]).exits(75);
    safe.client(&["status"]).says(&["web1 has 16 sessions open here"]).exits(0);
    for session in &mut held {
        drop(session.stdin.take());
        assert!(session.wait().unwrap().success());
    }
    safe.client(&["send", "--now"]).exits(0);
    attacker.honest_requests_work();
}
