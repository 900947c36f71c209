//! What sftp serves at the gate, and peers of the node's sftp that lie, stall or never end.
//!
//! The client's half of the gate is replaced by a program that speaks sftp wrongly, each time in another way.

use crate::harness::{Loopback, Run, run};
use std::process::Stdio;

/// The gate's sftp: nothing but the export folder to the node, nothing but packs and snapshots to a restorer, never writing.
#[test]
fn sftp_serves_what_it_must_and_nothing_else() {
    let safe = Loopback::start();
    let (_, exported) = safe.exported(100_000);
    safe.sh(&format!("ln -s ../../id_ed25519 client/export/node1/{}x", exported[0]));
    safe.sh("mkfifo client/export/node1/fifo");
    let key = safe.text("client/id_ed25519");
    for bad in ["../../id_ed25519", "/etc/passwd", &key, &format!("{}x", exported[0]), "fifo", "./../../id_ed25519", ""] {
        let got = sftp(&safe, "node/pull", &format!("get \"{bad}\" {}", safe.text("got")));
        assert!(got.code != Some(0) && !safe.at("got").exists(), "{bad}: {got}");
    }
    sftp(&safe, "node/pull", &format!("get {} {}", exported[0], safe.text("got"))).exits(0);
    safe.sh(&format!("cmp got client/export/node1/{}; rm got client/export/node1/fifo client/export/node1/*x", exported[0]));
    for bad in [
        format!("put client.toml {}", exported[0]),
        "put client.toml new".into(),
        format!("rm {}", exported[0]),
        format!("rename {} b", exported[0]),
        "mkdir d".into(),
        "ln -s /etc/passwd l".into(),
        format!("chmod 777 {}", exported[0]),
    ] {
        let tried = sftp(&safe, "node/pull", &bad);
        assert_ne!(tried.code, Some(0), "{bad}: {tried}");
    }
    assert_eq!(safe.names("client/export/node1"), exported);
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).silent();

    let pack = safe.names("node/data/web1/packs")[0].clone();
    sftp(&safe, "restorer/id_ed25519", &format!("get web1/packs/{pack} {}", safe.text("got"))).exits(0);
    safe.sh("rm got; echo secret >node/data/web1/packs/notes");
    for bad in [
        "web1/receipts.git/HEAD",
        "web1/pool/x",
        "access/access.toml",
        "../receipts",
        "web1/packs/../../../receipts",
        "/etc/passwd",
        "web1/packs/notes",
        "web2/packs/x",
        "log/web1.git/HEAD",
    ] {
        let got = sftp(&safe, "restorer/id_ed25519", &format!("get {bad} {}", safe.text("got")));
        assert!(got.code != Some(0) && !safe.at("got").exists(), "{bad}: {got}");
    }
    for bad in [format!("rm web1/packs/{pack}"), format!("put client.toml web1/packs/{pack}")] {
        assert_ne!(sftp(&safe, "restorer/id_ed25519", &bad).code, Some(0), "{bad}");
    }
    assert!(safe.at("node/data/web1/packs").join(pack).exists());
}

/// Runs one command of the sftp program over the gate's verb.
fn sftp(safe: &Loopback, key: &str, batch: &str) -> Run {
    let ssh = safe.ssh_command(key);
    let words: Vec<String> = std::iter::once("ssh".to_owned()).chain(ssh.get_args().map(|arg| arg.to_str().unwrap().to_owned())).collect();
    std::fs::write(safe.at("batch"), format!("{batch}\n")).unwrap();
    let mut sftp = safe.command("sftp");
    run(sftp.arg("-b").arg(safe.at("batch")).arg("-D").arg(format!("{} {} sftp", words.join(" "), safe.login())).stdin(Stdio::null()))
}

/// What comes of a lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The node refuses the snapshot for good, by a receipt.
    Refused,
    /// The node cannot know whether it was a broken line: the request waits, and what happened is kept for `status`.
    Waits,
}

use Fate::{Refused, Waits};

/// The ways of `liar.py`, what comes of each, and a word of why.
pub const CASES: &[(&str, Fate, &str)] = &[
    ("ends at once", Waits, ""),
    ("is silent", Waits, ""),
    ("says nonsense", Waits, ""),
    ("says four gigabytes come", Waits, ""),
    ("never ends its greeting", Waits, ""),
    ("floods the other channel", Waits, ""),
    ("speaks version 99", Waits, ""),
    ("answers what was not asked", Waits, ""),
    ("answers all with success", Waits, ""),
    ("has a long handle", Waits, ""),
    ("stalls once a file is open", Waits, ""),
    ("says that files are huge", Refused, "more than"),
    ("says that files are empty", Refused, "less than"),
    ("tells no size", Waits, "size"),
    ("gives other bytes", Refused, ""),
    ("gives more than was asked", Waits, ""),
    ("gives nothing and no end", Waits, ""),
    ("gives a byte at a time and rests", Waits, ""),
    ("goes on after the end", Refused, "more than"),
    ("says the end at once", Refused, "less than"),
    ("stalls in the middle", Waits, ""),
    ("hangs up in the middle", Waits, ""),
    ("says that data is longer than its packet", Waits, ""),
];

/// An honest request whose client's machine lies when the node comes for the packs: nothing is stored, no lie takes longer than
/// the node gives it, another client is served meanwhile, and the same client is served once it is honest again.
#[test]
fn a_peer_that_lies_or_stalls_gains_nothing() {
    let attacker = super::Attacker::start();
    let safe = &attacker.safe;
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'"));
    safe.write("liar.py", include_str!("liar.py"));
    // The connection is kept for several sessions, so the way is looked up in each of them.
    let honest = safe.read("client/authorized_keys");
    let (gate, key) = honest.strip_prefix("command=\"").unwrap().split_once('"').unwrap();
    let folder = safe.text("client/export/node1");
    safe.write(
        "machine.sh",
        &format!(
            "way=$(cat {0}/way)\n[ \"$way\" != honest ] || exec {gate}\nexec /usr/bin/python3 {0}/liar.py {folder} \"$way\"\n",
            safe.dir.display()
        ),
    );
    safe.write("client/authorized_keys", &format!("command=\"/bin/sh {}\"{key}", safe.text("machine.sh")));
    let node = safe.read("node.toml");
    let mut wrong = Vec::new();
    for (way, fate, word) in CASES {
        safe.sh("head -c 300000 /dev/urandom >source/a/x");
        safe.client(&["submit", "files", &path]).exits(0);
        safe.client(&["send"]).silent();
        safe.write("way", way);
        safe.write("node.toml", &format!("{node}\nfetch_time = \"2s\"\n"));
        let stored = attacker.stored();
        let answers = || safe.git("node/data/web1/receipts.git", &["rev-list", "--count", "receipts"]);
        let before = answers();
        let polled = safe.node(&["poll"]);
        let words = match fate {
            Refused => safe.git("node/data/web1/receipts.git", &["log", "-1", "--format=", "-p", "receipts"]),
            Waits => std::fs::read_to_string(safe.at("node/data/web1/retry.toml")).unwrap_or_default(),
        };
        let told =
            words.contains(word) && (*fate == Waits || words.contains("+outcome = \"refused\"") || words.contains("+outcome = \"failed\""));
        if attacker.stored() != stored || (answers() != before) != (*fate == Refused) || words.is_empty() || !told {
            wrong.push(format!("{way}: {words}\n{polled}"));
        }
        // The machine is honest again. What waits need not wait any longer for this.
        safe.write("way", "honest");
        safe.write("node.toml", &node);
        safe.sh("rm -f node/data/web1/retry.toml");
        if *fate == Refused {
            // It sends what was refused again by itself, or is asked to.
            drop(safe.client(&["send"]));
            safe.client(&["submit", "files", &path]).exits(0);
            drop(safe.client(&["send"]));
        }
        safe.node(&["poll"]).exits(0);
        drop(safe.client(&["send"]));
        let work = safe.names("client/pool/work");
        if attacker.stored() == stored || !work.iter().all(|name| name.starts_with('F')) {
            wrong.push(format!("{way}: nothing was stored afterwards: {work:?}\n{}", safe.client(&["status"])));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
    attacker.honest_requests_work();
}
