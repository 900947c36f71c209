//! The chain of proof from outside: what plain git and ssh-keygen accept, and what the gate, the poller and a restore refuse.

use crate::harness::{Loopback, run};
use std::io::Write;
use std::process::Stdio;

#[test]
fn plain_git_and_ssh_keygen_accept_the_history() {
    let safe = Loopback::start();
    safe.back_up("dummy", "x");
    safe.back_up("dummy", "y");
    for (repository, branch, who) in [
        ("client/queues/node1.git", "requests", "web1"),
        ("node/data/log/web1.git", "requests", "web1"),
        ("client/receipts/node1.git", "receipts", "node1"),
    ] {
        let signers = format!("gpg.ssh.allowedSignersFile={}", safe.text("allowed_signers"));
        let branch = format!("refs/heads/{branch}");
        let log = safe.git(repository, &["-c", &signers, "log", "--format=%G? %GS", &branch]);
        assert_eq!(log, format!("G {who}\n").repeat(2), "{repository}");
        let mut show = safe.command("git");
        run(show.arg("-C").arg(safe.at(repository)).args(["-c", &signers, "log", "--show-signature", &branch]))
            .exits(0)
            .says(&["Good \"git\" signature"]);
        safe.git(repository, &["fsck", "--full", "--strict"]);

        // By hand: the payload is the commit without its signature.
        let raw = safe.git(repository, &["cat-file", "commit", &branch]);
        let (payload, signature) = split(&raw);
        std::fs::write(safe.at("signature"), signature).unwrap();
        let mut verify = safe.command("ssh-keygen");
        verify.args(["-Y", "verify", "-n", "git", "-I", who, "-f"]).arg(safe.at("allowed_signers")).arg("-s").arg(safe.at("signature"));
        let mut child = verify.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(payload.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// A commit's text without its signature, and the signature.
fn split(raw: &str) -> (String, String) {
    let (mut payload, mut signature, mut inside, mut header) = (String::new(), String::new(), false, true);
    for line in raw.split_inclusive('\n') {
        inside = header && (line.starts_with("gpgsig ") || inside && line.starts_with(' '));
        header &= line != "\n";
        if inside {
            signature.push_str(line.strip_prefix("gpgsig ").unwrap_or(&line[1..]));
        } else {
            payload.push_str(line);
        }
    }
    (payload, signature)
}

fn sign(safe: &Loopback, key: &str, payload: &str) -> String {
    std::fs::write(safe.at("payload"), payload).unwrap();
    safe.sh(&format!("rm -f payload.sig; ssh-keygen -q -Y sign -n git -f {key} payload 2>/dev/null; cat payload.sig"))
}

fn with_signature(payload: &str, signatures: &[&str]) -> String {
    let (head, message) = payload.split_once("\n\n").unwrap();
    let headers: String = signatures.iter().map(|s| format!("gpgsig {}\n", s.trim_end().replace('\n', "\n "))).collect();
    format!("{head}\n{headers}\n{message}")
}

/// The three who judge a commit: the gate at the push, the poller when it takes over, a keyholder at the restore.
#[test]
fn all_three_judges_refuse_forgeries() {
    let safe = Loopback::start();
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'; echo a >'{path}/x'"));
    safe.back_up("files", &path);
    let old = safe.git("client/queues/node1.git", &["rev-parse", "refs/heads/requests"]).trim().to_owned();
    // A genuine second commit that never left the client.
    safe.sh(&format!("echo b >'{path}/x'"));
    safe.client(&["submit", "files", &path]).ok();
    safe.loopback("stop").exits(0);
    let _ = safe.client(&["send"]);
    safe.loopback("start").exits(0);
    let new = safe.git("client/queues/node1.git", &["rev-parse", "refs/heads/requests"]).trim().to_owned();
    assert_ne!(old, new);
    let raw = safe.git("client/queues/node1.git", &["cat-file", "commit", &new]);
    let (payload, genuine) = split(&raw);
    let other = sign(&safe, "restorer/id_ed25519", &payload);
    let own = sign(&safe, "client/id_ed25519", &payload);
    assert_eq!(with_signature(&payload, &[&genuine]), raw, "the test takes commits apart rightly");
    let forgeries = [
        ("two signatures", with_signature(&payload, &[&genuine, &own])),
        ("two signatures, the first another's", with_signature(&payload, &[&other, &genuine])),
        ("another's signature", with_signature(&payload, &[&other])),
        ("no signature", payload.clone()),
        ("a changed message", raw.replacen("asks", "begs", 1)),
        ("a second kind of signature", raw.replacen("gpgsig ", "gpgsig-sha256 x\ngpgsig ", 1)),
    ];

    safe.sh("git clone -q --bare client/queues/node1.git w");
    for (what, forged) in &forgeries {
        std::fs::write(safe.at("forged"), forged).unwrap();
        let oid = safe
            .sh("git -C w hash-object -t commit -w --literally ../forged 2>/dev/null || git -C w hash-object -t commit -w ../forged")
            .trim()
            .to_owned();
        // The gate.
        let ssh = safe.ssh_command("client/id_ed25519");
        let words: Vec<String> =
            std::iter::once("ssh".to_owned()).chain(ssh.get_args().map(|arg| arg.to_str().unwrap().to_owned())).collect();
        let mut push = safe.command("git");
        push.env("GIT_SSH_COMMAND", words.join(" ")).env("GIT_SSH_VARIANT", "ssh").current_dir(safe.at("w"));
        let pushed = run(push.args(["push", "-q", &format!("{}:queue", safe.login()), &format!("{oid}:refs/heads/requests")]));
        assert_ne!(pushed.code, Some(0), "{what}: {pushed}");
        assert_eq!(safe.git("node/gate/queues/web1.git", &["rev-parse", "refs/heads/requests"]).trim(), old, "{what}");
        // The poller, when the gate was taken over and hands it on all the same.
        safe.sh(&format!(
            "mkdir -p node/gate/handover/web1 node/gate/handover/wake
             printf '%s\\n^%s\\n' {oid} {old} | git -C w pack-objects -q --revs --stdout >node/gate/handover/web1/{old}-{oid}.pack; touch node/gate/handover/wake/web1"
        ));
        let _ = safe.node(&["poll", "--sweep"]);
        assert_eq!(safe.names("node/data/web1/snapshots").len(), 1, "{what}");
        assert!(safe.client(&["snapshots", "--json"]).json().as_array().unwrap().len() == 1, "{what}");
        safe.sh("rm -rf node/gate/handover/web1/*.pack");
        // A keyholder, when the node was taken over and puts it beside the snapshot.
        let snapshot = safe.at("node/data/web1/snapshots").join(&safe.names("node/data/web1/snapshots")[0]);
        let first = safe.git("client/queues/node1.git", &["cat-file", "commit", &old]);
        let (payload, genuine) = split(&first);
        let own = sign(&safe, "client/id_ed25519", &payload);
        let other = sign(&safe, "restorer/id_ed25519", &payload);
        let bad = match *what {
            "two signatures" => with_signature(&payload, &[&genuine, &own]),
            "two signatures, the first another's" => with_signature(&payload, &[&other, &genuine]),
            "another's signature" => with_signature(&payload, &[&other]),
            "no signature" => payload.clone(),
            "a changed message" => first.replacen("asks", "begs", 1),
            _ => first.replacen("gpgsig ", "gpgsig-sha256 x\ngpgsig ", 1),
        };
        let commit = snapshot.join("commit");
        let kept = std::fs::read(&commit).unwrap();
        replace(&commit, bad.as_bytes());
        refused(&safe, &path, what);
        replace(&commit, &kept);
    }
    // A genuine commit beside another request: one that was changed, and another snapshot's own.
    let snapshot = safe.at("node/data/web1/snapshots").join(&safe.names("node/data/web1/snapshots")[0]);
    let request = snapshot.join("request.toml");
    let kept = std::fs::read_to_string(&request).unwrap();
    replace(&request, kept.replace("seq = 1", "seq = 7").as_bytes());
    refused(&safe, &path, "a changed request");
    let id = safe.git("client/queues/node1.git", &["ls-tree", "--name-only", &new]);
    let name = id.lines().find(|name| name.starts_with("RQ")).unwrap();
    replace(&request, safe.git("client/queues/node1.git", &["show", &format!("{new}:{name}")]).as_bytes());
    refused(&safe, &path, "another's request");
    replace(&request, kept.as_bytes());
    safe.client(&["restore", &format!("files:{path}"), "--target", &safe.text("back/good")]).exits(0);
    assert_eq!(safe.read("back/good/x"), "a\n");
}

fn replace(path: &std::path::Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).unwrap();
}

fn refused(safe: &Loopback, path: &str, what: &str) {
    let dataset = format!("files:{path}");
    let (target, store) = (safe.text("back/bad"), safe.text("node/data/web1"));
    for extra in [&[][..], &["--store", &store][..]] {
        let args = [&["restore", &dataset, "--target", &target], extra].concat();
        let restored = safe.client(&args);
        assert!(!matches!(restored.code, Some(0 | 3)), "{what}: {restored}");
        assert!(!safe.at("back/bad/x").exists(), "{what}");
    }
}
