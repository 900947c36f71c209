//! Limits by client: what is over one gets a receipt that says so, once by mail, and everything goes on. How they are set, and who signs.

use crate::harness::{Killed, Loopback, run, until};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

struct Limited {
    safe: Loopback,
    now: String,
}

impl Limited {
    fn start() -> Self {
        let safe = Loopback::start();
        safe.sh("printf '#!/bin/sh\\ncat >\"$(mktemp %s/mail-XXXX)\"\\n' \"$PWD/box\" >sendmail; chmod +x sendmail; mkdir box source/t; echo one >source/t/one");
        let config = safe.read("node.toml");
        let program = safe.text("sendmail");
        safe.write(
            "node.toml",
            &format!("{config}\n[mail]\nto = [\"root@example.org\"]\nfrom = \"n@example.org\"\nsendmail = \"{program}\"\n"),
        );
        Self { safe, now: "allow = [\"*\"]".into() }
    }

    /// Gives the client these limits and no others.
    fn set(&mut self, limits: &str) {
        let next = format!("allow = [\"*\"]\nlimits = {{ {limits} }}");
        self.safe.edit("admin/access.toml", &self.now, &next);
        self.now = next;
        self.safe.loopback("start").exits(0);
    }

    /// Changes the tree and backs it up; gives the receipt as `log` has it. `day` is when the node polls.
    fn back_up(&self, module: &str, path: &str, day: Option<&str>) -> serde_json::Value {
        self.safe.sh("head -c 128000 /dev/urandom >source/t/one");
        self.safe.client(&["submit", module, path]).exits(0);
        self.safe.client(&["send"]).exits(0);
        let mut poll = self.safe.command("nightsafe-server");
        poll.arg("poll").envs(day.map(|day| ("NIGHTSAFE_NOW", day)));
        run(&mut poll).exits(0);
        let _ = self.safe.client(&["send"]);
        let receipts = "node/data/web1/receipts.git";
        let name = self.safe.git(receipts, &["ls-tree", "--name-only", "receipts"]);
        let text = self.safe.git(receipts, &["cat-file", "blob", &format!("receipts:{}", name.trim())]);
        serde_json::to_value(text.parse::<toml::Table>().unwrap_or_else(|error| panic!("{error}: {text}"))).unwrap()
    }

    #[track_caller]
    fn refused(&self, receipt: &serde_json::Value, words: &[&str]) {
        assert_eq!(receipt["outcome"], "refused", "{receipt}");
        let reason = receipt["reason"].as_str().unwrap();
        assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
    }
}

#[test]
fn what_is_over_a_limit_is_refused_with_its_name_and_told_once() {
    let mut limited = Limited::start();
    let path = limited.safe.text("source/t");
    limited.set("packs = 1");
    for _ in 0..2 {
        limited.refused(&limited.back_up("files", &path, None), &["over the limit packs = 1: the snapshot refers to 2"]);
    }
    limited.set("requests_a_day = 2");
    let reason = ["over the limit requests_a_day = 2: 2 within 24 hours", "possible again from"];
    limited.refused(&limited.back_up("dummy", "x", None), &reason);
    let told = limited.safe.sh("cat box/*");
    assert!(told.contains("Subject: [nightsafe node1] limits of web1 were reached"), "{told}");
    assert_eq!(limited.safe.names("box").len(), 1, "once for all that is over a limit: {told}");
    // Two of these make 264 KiB.
    limited.set("bytes_a_day = \"256 KiB\"");
    assert_eq!(limited.back_up("files", &path, None)["outcome"], "stored");
    limited.refused(
        &limited.back_up("files", &path, None),
        &["over the limit bytes_a_day = \"256 KiB\": 132.", "within 24 hours", "possible again from"],
    );
    // A mirror's size is known only when it comes.
    limited.safe.sh("git init -q -b main source/work; cd source/work; head -c 200000 /dev/urandom >big; git add .; git -c user.name=a -c user.email=a@example.org commit -q -m one; git clone -q --bare . ../g");
    limited.refused(&limited.back_up("git", &limited.safe.text("source/g"), None), &["over the limit bytes_a_day", "possible again from"]);
    let tomorrow = limited.safe.sh("date -u -d '+25 hours' +%Y-%m-%dT%H:%M:%SZ");
    assert_eq!(limited.back_up("git", &limited.safe.text("source/g"), Some(tomorrow.trim()))["outcome"], "stored");
    limited.set("requests_a_day = 100");
    for (module, path) in [("files", path.as_str()), ("dummy", "x")] {
        assert_eq!(limited.back_up(module, path, Some(tomorrow.trim()))["outcome"], "stored");
    }
    let told = limited.safe.sh("cat box/*");
    assert!(told.contains("limits of web1 is well again") || told.contains("limits of web1 are well again"), "{told}");
    assert_eq!(limited.safe.names("box").len(), 2, "{told}");
}

/// What the access list says by hand a command says as well, and what was used of it is shown.
#[test]
fn limits_are_set_by_name_and_shown_with_what_was_used() {
    let safe = Loopback::start();
    let set = |words: &[&str]| safe.node(&[&["client", "set", "web1", "--admin-key", "admin/id_ed25519"], words].concat());
    for (words, said) in [
        (["--limit", "request_a_day=5"], "there is no limit \"request_a_day\". Did you mean requests_a_day or bytes_a_day?"),
        (["--limit", "packs=none"], "\"none\" is no number; write it as in packs=50000, or packs=default"),
        (["--limit", "bandwidth=1KiB"], "at least"),
        (["--quota", "5"], "is no size"),
    ] {
        set(&words).exits(2).says(&[said]);
    }
    assert!(!safe.node(&["client", "list"]).ok().contains("a_day"), "nothing was changed");
    set(&["--limit", "requests_a_day=10", "--limit", "bytes_a_day=1GiB", "--limit", "sessions=20", "--quota", "1TiB"]).silent();
    for n in 0..9 {
        safe.client(&["submit", "dummy", &format!("x{n}")]).exits(0);
    }
    safe.round();
    let row = safe.node(&["client", "list", "--json"]).json()[0].clone();
    assert_eq!(
        (&row["quota"], &row["limits"]["sessions"], &row["spent"]["requests"]),
        (&(1u64 << 40).into(), &20.into(), &9.into()),
        "{row}"
    );
    safe.node(&["client", "list"]).says(&["bytes_a_day 0 B of 1.0 GiB, requests_a_day 9 of 10, sessions = 20"]).exits(0);
    safe.node(&["status"]).says(&["web1: near its limit: requests_a_day 9 of 10 within 24 hours"]).exits(0);
    let all = safe.node(&["status", "web1", "--json"]).json();
    let near = &all.as_array().unwrap().iter().find(|standing| standing["client"] == "web1").unwrap()["near"];
    assert_eq!(near, &serde_json::json!([{ "limit": "requests_a_day", "used": 9, "most": 10 }]));
    safe.client(&["submit", "dummy", "y"]).exits(0);
    safe.client(&["submit", "dummy", "z"]).exits(0);
    safe.client(&["send"]).silent();
    safe.node(&["poll"]).exits(0);
    let refused = safe.node(&["status"]).exits(3).stdout;
    assert!(refused.contains("over the limit requests_a_day = 10") && refused.contains("requests_a_day 10 of 10"), "{refused}");
    set(&["--limit", "requests_a_day=default", "--quota", "default"]).silent();
    assert!(!safe.node(&["status"]).exits(3).stdout.contains("near its limit"));
    assert_eq!(safe.node(&["client", "list", "--json"]).json()[0]["quota"], serde_json::Value::Null);
    let message = safe.git("node/data/admin.git", &["log", "-1", "--format=%B", "access"]);
    assert!(message.contains("quota as by default\nrequests_a_day as by default"), "{message}");
}

/// A key with a passphrase, and one of a hardware token, is nowhere but in the agent that the environment names.
#[test]
fn the_agent_of_whoever_runs_the_command_signs_what_it_changes() {
    let safe = Loopback::start();
    let socket = safe.text("agent");
    let _agent = Killed::start(safe.command("ssh-agent").args(["-D", "-a", &socket]).stdout(Stdio::null()));
    until("the agent listens", || UnixStream::connect(&socket).is_ok());
    let key = safe.text("admin/id_ed25519");
    run(safe.command("ssh-add").args(["-q", &key]).env("SSH_AUTH_SOCK", &socket)).exits(0);
    // Only the agent has it now.
    std::fs::rename(&key, safe.at("elsewhere")).unwrap();
    let set = || {
        let mut command = safe.command("nightsafe-server");
        command.args(["client", "set", "web1", "--quota", "1 GiB", "--admin-key", "admin/id_ed25519.pub"]);
        command
    };
    let quota = || safe.node(&["client", "list", "--json"]).json()[0]["quota"].clone();
    assert_ne!(run(&mut set()).says(&["SSH_AUTH_SOCK"]).code, Some(0));
    assert_eq!(quota(), serde_json::Value::Null);
    run(set().env("SSH_AUTH_SOCK", &socket)).exits(0);
    assert_eq!(quota(), 1u64 << 30);
}

#[test]
fn a_fetch_is_as_fast_and_as_long_as_the_list_allows() {
    let mut limited = Limited::start();
    let path = limited.safe.text("source/t");
    // 132 KiB each time.
    limited.set("bandwidth = \"32 KiB\", fetches = 1");
    let receipt = limited.back_up("files", &path, None);
    assert!(receipt["outcome"] == "stored" && receipt["seconds"].as_u64().unwrap() >= 3, "{receipt}");
    limited.set("bandwidth = \"16 KiB\", time = \"1s\"");
    limited.refused(&limited.back_up("files", &path, None), &["over the limit time = \"1s\": fetching it took longer"]);
    // An archive and a mirror take turns.
    limited.set("fetches = 1");
    limited
        .safe
        .sh("git init -q -b main source/work; cd source/work; git -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m one; git clone -q --bare . ../g");
    for (module, path) in [("files", path.as_str()), ("git", &limited.safe.text("source/g"))] {
        limited.safe.client(&["submit", module, path]).exits(0);
    }
    limited.safe.round();
    let waiting = |name: &String| name.starts_with('C') || name.starts_with('P');
    assert_eq!(limited.safe.names("node/data/web1/pool").iter().filter(|name| waiting(name)).count(), 0);
}
