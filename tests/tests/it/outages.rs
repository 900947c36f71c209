//! Long absences, with a clock that a file sets: a node that is down for days, and a client of which nothing comes.

use crate::harness::{Loopback, Run, run};

/// An installation whose mails are files in `box`, on both sides.
fn with_mails() -> Loopback {
    let safe = Loopback::start();
    safe.sh("printf '#!/bin/sh\\ncat >\"$(mktemp %s/mail-XXXX)\"\\n' \"$PWD/box\" >sendmail; chmod +x sendmail; mkdir box");
    for file in ["client.toml", "node.toml"] {
        let config = safe.read(file);
        let mail = format!("[mail]\nto = [\"root@example.org\"]\nsendmail = \"{}\"\nalert_after = \"26h\"\n", safe.text("sendmail"));
        safe.write(file, &format!("{config}\n{mail}"));
    }
    safe
}

/// A command when so many hours have passed.
fn after(safe: &Loopback, hours: u32, program: &str, args: &[&str]) -> Run {
    safe.write("clock", &format!("+{hours}h"));
    run(safe.command(program).env("NIGHTSAFE_NOW", safe.at("clock")).args(args))
}

fn round(safe: &Loopback, hours: u32) {
    after(safe, hours, "nightsafe", &["send", "--now"]).silent();
    after(safe, hours, "nightsafe-server", &["poll"]).silent();
    after(safe, hours, "nightsafe", &["send", "--now"]).silent();
}

fn subjects(safe: &Loopback) -> Vec<String> {
    let mut all: Vec<String> = safe
        .names("box")
        .iter()
        .filter_map(|name| safe.read(&format!("box/{name}")).lines().find_map(|line| line.strip_prefix("Subject: ").map(str::to_owned)))
        .collect();
    all.sort();
    all
}

#[test]
fn a_node_that_is_down_for_days_gets_everything_once() {
    let safe = with_mails();
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'; echo 0 >'{path}/day'"));
    safe.loopback("stop").exits(0);
    let failures = || safe.read("client/retry/node1.toml").lines().find_map(|line| line.strip_prefix("failures = ")?.parse::<u32>().ok());
    for day in 0..5 {
        safe.sh(&format!("echo {day} >'{path}/day'"));
        after(&safe, day * 24, "nightsafe", &["submit", "files", &path]).ok();
        after(&safe, day * 24, "nightsafe", &["submit", "dummy", &format!("of-day-{day}")]).ok();
        after(&safe, day * 24, "nightsafe", &["send"]).exits(75);
        let tried = failures().unwrap();
        // Cron comes every minute; until the wait is over nothing is tried, and nothing said.
        let quiet = after(&safe, day * 24, "nightsafe", &["send"]).exits(75);
        assert!(quiet.stdout.is_empty() && failures() == Some(tried), "{quiet}");
        assert_eq!(tried, day + 1, "one try a day was due");
        assert_eq!(subjects(&safe).len(), usize::from(day >= 2), "after 26 hours, once: {:?}", subjects(&safe));
    }
    after(&safe, 100, "nightsafe", &["status"]).says(&["node1", "refused"]);
    safe.loopback("start").exits(0);
    // The next try, which is due an hour later at most, needs nobody.
    after(&safe, 121, "nightsafe", &["send"]).exits(0);
    round(&safe, 121);
    let log = safe.client(&["log", "-n", "0", "--json"]).json();
    let mut datasets: Vec<&str> = log.as_array().unwrap().iter().map(|line| line["dataset"].as_str().unwrap()).collect();
    datasets.sort_unstable();
    // What was submitted every day and never taken waits once; the names of the rest are all there.
    let files = format!("files:{path}");
    assert_eq!(datasets, ["dummy:of-day-0", "dummy:of-day-1", "dummy:of-day-2", "dummy:of-day-3", "dummy:of-day-4", &files]);
    assert!(log.as_array().unwrap().iter().all(|line| line["outcome"] == "stored"), "{log}");
    safe.client(&["restore", &files, "--target", &safe.text("back/a")]).exits(0);
    assert_eq!(safe.read("back/a/day"), "4\n");
    let told = subjects(&safe);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("node1 cannot be reached") && told[1].contains("node1 is well again"), "{told:?}");
}

#[test]
fn a_client_that_falls_silent_is_told_once() {
    let safe = with_mails();
    let poll = |hours| after(&safe, hours, "nightsafe-server", &["poll"]).silent();
    for day in 0..5 {
        after(&safe, day * 24, "nightsafe", &["submit", "dummy", "daily"]).ok();
        after(&safe, day * 24, "nightsafe", &["submit", "dummy", "pushed", "--reason", "hook"]).ok();
        round(&safe, day * 24);
    }
    // The last came after 96 hours. Nobody said how often; a day was usual, and half a day more is borne.
    poll(96 + 35);
    assert!(subjects(&safe).is_empty());
    for hours in [96 + 37, 96 + 61, 96 + 200] {
        poll(hours);
    }
    assert_eq!(subjects(&safe), ["[nightsafe node1] web1:dummy:daily is silent"]);
    after(&safe, 300, "nightsafe-server", &["status"])
        .says(&["web1: dummy:daily is silent: nothing has come for 8 d; it is expected every 24 h"]);
    let status = after(&safe, 300, "nightsafe-server", &["status", "--json"]).exits(3);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status[0]["silent"][0]["dataset"], "dummy:daily");
    assert_eq!(status[0]["silent"].as_array().unwrap().len(), 1, "what hooks ask for is not waited for: {status}");
    after(&safe, 301, "nightsafe", &["submit", "dummy", "daily"]).ok();
    round(&safe, 301);
    assert_eq!(subjects(&safe).len(), 2);
    assert!(safe.sh("cat box/*").contains("web1:dummy:daily is well again"));
    // What the access list says holds in the place of what was usual.
    let key = safe.text("admin/id_ed25519");
    safe.node(&["client", "set", "web1", "--expect", "2h", "--admin-key", &key]).exits(0);
    poll(303);
    assert_eq!(subjects(&safe).len(), 2);
    poll(305);
    assert_eq!(subjects(&safe).len(), 3);
}
