//! `deploy/loopback.sh`: keeps everything, moves when its port is taken, ends nothing but its own.

use crate::harness::{Loopback, run};

#[test]
fn a_second_start_keeps_everything() {
    let safe = Loopback::start();
    safe.back_up("dummy", "x");
    let keep = [
        "client.toml",
        "node.toml",
        "identity.txt",
        "allowed_signers",
        "env",
        "sshd_config",
        "client/id_ed25519",
        "node/receipts",
        "sshd/port",
    ];
    let before: Vec<_> = keep.iter().map(|file| safe.read(file)).collect();
    let pid = safe.read("sshd.pid");
    safe.loopback("start").exits(0);
    assert_eq!(safe.read("sshd.pid"), pid, "what runs is left alone");
    safe.loopback("stop").exits(0);
    safe.loopback("stop").exits(0);
    safe.loopback("start").exits(0);
    let after: Vec<_> = keep.iter().map(|file| safe.read(file)).collect();
    assert_eq!(before, after);
    safe.back_up("dummy", "x");
    // What is sourced is all that a person needs.
    safe.sh(&format!(
        "env -i PATH=/usr/bin:/bin sh -euc '. {}/env; nightsafe snapshots; nightsafe-server status; nightsafe status'",
        safe.dir.display()
    ));
}

#[test]
fn another_port_when_its_own_is_taken() {
    let safe = Loopback::start();
    safe.back_up("dummy", "x");
    safe.loopback("stop").exits(0);
    let old = safe.port();
    let taken = std::net::TcpListener::bind(format!("127.0.0.1:{old}")).unwrap();
    safe.loopback("start").exits(0);
    assert_ne!(safe.port(), old);
    drop(taken);
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'; echo a >'{path}/x'"));
    safe.back_up("files", &path);
}

#[test]
fn stop_ends_nothing_of_others() {
    let safe = Loopback::start();
    let mut other = safe.command("sleep").arg("600").spawn().unwrap();
    // A number that was ours once and is another process's now.
    let pid = safe.read("sshd.pid");
    safe.write("sshd.pid", &format!("{} {}", other.id(), pid.split_whitespace().nth(1).unwrap()));
    safe.loopback("stop").exits(0);
    assert!(other.try_wait().unwrap().is_none(), "another process was ended");
    other.kill().unwrap();
    other.wait().unwrap();
    safe.write("sshd.pid", &pid);
    safe.loopback("stop").exits(0).says(&["ended sshd"]);
    // It may still be listed until whoever adopted it asks for its status.
    let state = run(safe.command("ps").args(["-o", "stat=", "-p", pid.split_whitespace().next().unwrap()])).stdout;
    assert!(state.is_empty() || state.starts_with('Z'), "{state}");
}
