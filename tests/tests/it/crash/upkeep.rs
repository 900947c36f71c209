//! What is beside backups: taking away, holding, what is lost and comes back, the access list, keys,
//! mails, restores, and making an installation. Everything dies on the way once.

use super::Mortal;
use super::oracle::{nothing_is_left, one_receipt_each};
use crate::harness::{Loopback, until};
use std::collections::BTreeSet;

pub fn scene() -> BTreeSet<String> {
    let mut mortal = Mortal::new();
    let safe = &mortal.safe;
    let (files, git, sealed) = (safe.text("source/tree"), safe.text("source/a.git"), safe.text("source/sealed.git"));
    let (dataset, mirrored) = (format!("files:{files}"), format!("git:{git}"));
    safe.sh(&format!(
        "printf '#!/bin/sh\\ncat >/dev/null\\n' >sendmail; chmod +x sendmail; mkdir metrics '{files}'; head -c 3000 /dev/urandom >'{files}/same'; \
         git init -q work; git -C work -c user.name=x -c user.email=x@x commit -q --allow-empty -m one; git clone -q --bare work '{git}'; git clone -q --bare work '{sealed}'; git clone -q --mirror work old/b.git"
    ));
    let client = safe.read("client.toml");
    let mail = format!(
        "[mail]\nto = [\"root@example.org\"]\nfrom = \"n@example.org\"\nsendmail = \"{}\"\ndigest = \"daily\"\n",
        safe.text("sendmail")
    );
    let metrics = safe.text("metrics/client.prom");
    safe.write(
        "client.toml",
        &format!("metrics = \"{metrics}\"\n{client}\n{mail}\n[[dataset]]\naddress = \"git:{sealed}\"\nsealed = true\n"),
    );
    let node = safe.read("node.toml");
    let metrics = safe.text("metrics/node.prom");
    safe.write("node.toml", &format!("metrics = \"{metrics}\"\n{node}\n{mail}"));
    for day in 0..3 {
        safe.sh(&format!("echo {day} >'{files}/day'; head -c 3000 /dev/urandom >'{files}/of-the-day'"));
        safe.back_up("files", &files);
    }
    safe.back_up("git", &git);
    let made = of_files(safe);

    mortal.begin_to_die(1);
    // cgit is set up only now, so that the list of mirrors is written on the way.
    mortal.safe.write("node.toml", &format!("metrics = \"{metrics}\"\n{node}\n{mail}\n[cgit]\n"));
    installations(&mut mortal);
    adopted(&mut mortal);
    lists_and_keys(&mut mortal);
    taking_away(&mut mortal, &made);
    losses(&mut mortal, &files);
    groups(&mut mortal, &files);
    for path in [&sealed, &git] {
        mortal.client(&["submit", "git", path]).exits(0);
        mortal.round();
    }
    for (dataset, back) in [(&dataset, "tree"), (&mirrored, "a.git"), (&format!("git:{sealed}"), "sealed.git")] {
        let back = mortal.safe.text(&format!("back/{back}"));
        mortal.client(&["restore", dataset, "--target", &back]).exits(0);
    }
    mortal.node(&["forget", &format!("web1:git:{sealed}"), "--yes", "--grace", "0s"]);

    mortal.live_on();
    let safe = &mortal.safe;
    safe.sh(&format!(
        "diff -r '{files}' back/tree; for one in a.git sealed.git; do test \"$(git -C '{git}' show-ref)\" = \"$(git -C back/$one show-ref)\"; done"
    ));
    let marks: Vec<String> = ["tree", "a.git", "sealed.git"].iter().flat_map(|back| safe.names(&format!("back/{back}"))).collect();
    assert!(marks.iter().all(|name| !name.starts_with('.')), "{marks:?}");
    nothing_is_left(safe);
    one_receipt_each(safe);
    safe.node(&["scrub", "--all"]).exits(0);
    for dataset in [&dataset, &mirrored] {
        safe.client(&["verify", dataset]).exits(0);
    }
    safe.node(&["log", "--verify"]).exits(0);
    mortal.died
}

/// The snapshots of files, the oldest first.
fn of_files(safe: &Loopback) -> Vec<String> {
    let list = safe.node(&["snapshots", "web1", "--json"]).json();
    let files = |one: &&serde_json::Value| one["dataset"].as_str().unwrap().contains("files:");
    list.as_array().unwrap().iter().filter(files).map(|one| one["snapshot"].as_str().unwrap().to_owned()).collect()
}

/// A mirror that was there before, taken over whole. It goes again: nothing would heal it when mirrors are damaged.
fn adopted(mortal: &mut Mortal) {
    let old = mortal.safe.text("old");
    mortal.node(&["adopt", "web1", &old, "--any-origin", "--under", "/srv/adopted"]).exits(0);
    mortal.safe.sh("for mirror in node/data/web1/mirrors/*.git; do grep -q /srv/adopted $mirror/nightsafe-dataset || continue; \
         test \"$(git -C $mirror for-each-ref refs/heads)\" = \"$(git -C old/b.git for-each-ref refs/heads)\" && rm -rf $mirror && exit 0; done; exit 1");
}

/// init, on both sides, made whole by being run again.
fn installations(mortal: &mut Mortal) {
    let safe = &mortal.safe;
    let (client, node, key) = (safe.text("new-client.toml"), safe.text("new-node.toml"), safe.text("admin/id_ed25519"));
    let (state, data, gate) = (safe.text("new/client"), safe.text("new/data"), safe.text("new/gate"));
    mortal.client(&["--config", &client, "init", "--name", "new", "--state", &state]);
    mortal.client(&["--config", &client, "init"]).exits(0);
    let init = ["--config", &node, "init", "--data", &data, "--gate", &gate, "--admin", "alice", "--admin-key", &key];
    // Asked for a first list once more, it says that there is one.
    mortal.node(&init);
    mortal.node(&["--config", &node, "init"]).exits(0);
    assert!(mortal.safe.read("new/data/access/access.toml").contains("[admin.alice]"));
}

/// A change of the access list and a new keyholder.
fn lists_and_keys(mortal: &mut Mortal) {
    let key = mortal.safe.text("admin/id_ed25519");
    for keep in ["daily=2", "daily=3"] {
        mortal.node(&["client", "set", "web1", "--keep", keep, "--admin-key", &key]).exits(0);
        mortal.node(&["poll", "--sweep"]).exits(0);
    }
    // A list of the administrator's own, pushed through the gate.
    mortal.safe.sh(
        "cd admin; export GIT_SSH_COMMAND=\"ssh -F none -i $PWD/id_ed25519 -o BatchMode=yes -o ControlPath=none -o UserKnownHostsFile=$PWD/known_hosts\"; \
         git() { command git -c user.name=alice -c user.email=a@b -c gpg.format=ssh -c user.signingKey=$PWD/id_ed25519.pub \"$@\"; }; \
         again() { for try in $(seq 30); do \"$@\" 2>/dev/null && return; done; \"$@\"; }; \
         again git fetch -q node1; git reset -q --hard FETCH_HEAD; cp keys/carol.pub keys/dora.pub; ssh-keygen -q -t ed25519 -N '' -f dora; cp dora.pub keys/; \
         printf '\\n[restorer.dora]\\nkeys = [\"dora.pub\"]\\nread = [\"web1:*\"]\\n' >>access.toml; git add keys access.toml; git commit -q -S -m 'Let dora restore'; \
         again git push -q node1 HEAD:refs/heads/access",
    );
    mortal.node(&["poll", "--sweep"]).exits(0);
    assert!(mortal.safe.read("node/data/access/access.toml").contains("restorer.dora"));
    let other = mortal.safe.sh("age-keygen -o other.txt 2>/dev/null; age-keygen -y other.txt");
    let made = mortal.client(&["keys", "add-recipient", other.trim(), "--output", &mortal.safe.text("home")]).ok();
    let file = mortal.safe.sh("ls home/*.json | head -n1");
    assert!(made.lines().count() <= 1);
    mortal.node(&["keys", "install", file.trim()]).exits(0);
}

/// Holding, pinning, condemning, removing.
fn taking_away(mortal: &mut Mortal, made: &[String]) {
    mortal.node(&["hold", &made[0], "--reason", "court case"]).exits(0);
    mortal.node(&["prune", "web1", "--keep-last", "1"]).exits(0);
    mortal.node(&["unhold", &made[0]]);
    mortal.node(&["prune", "web1", "--keep-last", "1"]).exits(0);
    mortal.safe.write("clock", "+9d");
    mortal.node(&["prune", "web1"]).exits(0);
    mortal.node(&["poll", "--sweep"]).exits(0);
    assert_eq!(of_files(&mortal.safe), made[2..]);
}

/// A group whose commands close and open a shop: whoever dies, in the end the shop is open, and it was closed while it was read.
fn groups(mortal: &mut Mortal, files: &str) {
    let (shop, door) = (mortal.safe.text("source/shop"), mortal.safe.text("source/shop/door"));
    mortal.safe.sh(&format!("mkdir '{shop}'; echo open >'{door}'"));
    let client = mortal.safe.read("client.toml");
    let group = format!(
        "[[group]]\nname = \"both\"\nmembers = [\"files:{shop}\", \"files:{files}\"]\n\
         before = [\"sh\", \"-c\", \"echo closed >{door}\"]\nafter = [\"sh\", \"-c\", \"echo open >{door}\"]\n"
    );
    mortal.safe.write("client.toml", &format!("{client}\n{group}"));
    mortal.client(&["submit", "group", "both"]).exits(0);
    mortal.round();
    assert_eq!(mortal.safe.read("source/shop/door"), "open\n");
    for folder in ["client/around", "client/groups"] {
        let left: Vec<_> = mortal.safe.names(folder).into_iter().filter(|name| !name.starts_with(".tmp-")).collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
    let back = mortal.safe.text("back/both");
    until("the group is restored", || {
        let restored = mortal.client(&["restore", "--group", "both", "--target", &back]).code == Some(0);
        if !restored {
            mortal.safe.sh(&format!("rm -rf '{back}'"));
        }
        restored
    });
    assert_eq!(mortal.safe.read(&format!("back/both/files{door}")), "closed\n");
    mortal.safe.sh(&format!("diff -r '{files}' '{back}/files{files}'"));
}

/// A queue at the gate, a queue at the client, a request that is taken back, and one that is asked for again.
fn losses(mortal: &mut Mortal, files: &str) {
    mortal.safe.sh("rm -rf node/gate/queues/web1.git node/gate/hooks");
    mortal.client(&["submit", "files", files]).exits(0);
    mortal.round();
    mortal.safe.sh("rm -rf client/queues client/retry");
    mortal.client(&["submit", "files", files]).exits(0);
    mortal.round();
    for key in ["client/id_ed25519.pub", "node/receipts.pub"] {
        mortal.client(&["node", "trust", "node1", &mortal.safe.text(key), "--yes"]).exits(0);
    }
    let id = mortal.client(&["submit", "dummy", "x"]).ok().split_whitespace().next().unwrap().to_owned();
    mortal.client(&["cancel", &id]);
    let id = mortal.client(&["submit", "dummy", "x"]).ok().split_whitespace().next().unwrap().to_owned();
    mortal.round();
    mortal.client(&["retry", &id]).exits(0);
    mortal.round();
}
