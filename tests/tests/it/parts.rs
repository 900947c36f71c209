//! Long backups: the spool's limit holds, what was acknowledged is not sent again whoever is killed, and no part is left over.
//!
//! Backups here are of noise, so that what is stored is as long as what is read.

use crate::harness::{Loopback, until};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// The smallest spool that there can be.
const LIMIT: u64 = 64 << 20;

/// Looks at a folder all the time, for the most that was ever in it.
struct Watermark {
    highest: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watermark {
    fn of(folder: PathBuf) -> Self {
        let (highest, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (mark, end) = (Arc::clone(&highest), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                mark.fetch_max(size(&folder), Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        Self { highest, over, thread: Some(thread) }
    }

    fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }
}

impl Drop for Watermark {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The bytes of the files in a folder; those that go while we look count nothing.
fn size(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).filter(std::fs::Metadata::is_file).map(|meta| meta.len()).sum()
}

/// An installation with the smallest spool, and a folder with `mib` MiB of noise in several files.
fn installation(mib: u64) -> (Loopback, String) {
    let safe = Loopback::start();
    safe.edit("client.toml", "name = \"web1\"\n", "name = \"web1\"\nspool = { limit = \"64 MiB\" }\n");
    let path = safe.text("source/long");
    safe.sh(&format!(
        "mkdir '{path}'; cd '{path}'; head -c {}M /dev/urandom >large; i=0; while [ $i -lt 20 ]; do head -c 1000000 /dev/urandom >small-$i; i=$((i + 1)); done",
        mib - 20
    ));
    (safe, path)
}

/// Every request with its receipt, the oldest first.
fn log(safe: &Loopback) -> Vec<serde_json::Value> {
    let mut lines = safe.client(&["log", "-n", "0", "--json"]).json().as_array().unwrap().clone();
    lines.reverse();
    lines
}

fn fetched(safe: &Loopback) -> u64 {
    log(safe).iter().filter_map(|line| line["bytes_fetched"].as_u64()).sum()
}

fn parts_at_node(safe: &Loopback) -> usize {
    safe.names("node/data/web1/parts").len()
}

fn stored(safe: &Loopback) -> bool {
    !safe.names("node/data/web1/snapshots").is_empty() && safe.names("client/pool/work").iter().all(|name| name.starts_with('F'))
}

fn kill_daemon(safe: &Loopback, name: &str) {
    let text = safe.read(&format!("{name}.pid"));
    safe.sh(&format!("kill -9 {}", text.split_whitespace().next().unwrap()));
}

/// All that must hold when a backup of `mib` MiB is stored, however often somebody was killed on the way.
fn all_is_well(safe: &Loopback, path: &str, mib: u64) {
    all_is_well_in(1, safe, path, mib);
}

/// As [`all_is_well`], in so many snapshots.
fn all_is_well_in(number: usize, safe: &Loopback, path: &str, mib: u64) {
    let bytes = mib << 20;
    // Packs, tables and catalogs add far less than a fiftieth; an acknowledged part that was sent again would be more.
    let most = bytes + bytes / 50;
    assert!(fetched(safe) < most, "{} bytes were fetched for {bytes}: {:#?}", fetched(safe), log(safe));
    let packs = size(&safe.at("node/data/web1/packs"));
    assert!(packs < most, "{packs} bytes are kept for {bytes}");
    assert!(safe.names("node/data/web1/parts").is_empty() && safe.names("node/data/web1/incoming").is_empty());
    assert!(safe.names("client/export/node1").is_empty() && safe.names("client/index/node1/pending").is_empty());
    let snapshots = safe.client(&["snapshots", "--json"]).json();
    assert_eq!(snapshots.as_array().unwrap().len(), number, "a part is no snapshot: {snapshots}");
    safe.client(&["restore", &format!("files:{path}"), "--target", &safe.text("back/long")]).exits(0);
    safe.sh(&format!("diff -r '{path}' back/long"));
    safe.node(&["log", "--verify"]).exits(0);
    safe.client(&["verify"]).exits(0);
}

#[test]
fn daemons_that_are_killed_go_on_where_the_last_receipt_stands() {
    let mib = 180;
    let (safe, path) = installation(mib);
    let spool = Watermark::of(safe.at("client/export/node1"));
    safe.loopback("watch").exits(0);
    safe.client(&["submit", "files", &path]).ok();
    for (parts, name) in [(1, "client-watch"), (3, "node-watch"), (4, "client-watch"), (6, "node-watch"), (7, "client-watch")] {
        until(&format!("there are {parts} parts, or all"), || parts_at_node(&safe) >= parts || stored(&safe));
        kill_daemon(&safe, name);
        safe.loopback("watch").exits(0);
    }
    until("it is stored", || stored(&safe));
    let lines = log(&safe);
    let ids: Vec<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert!(ids.iter().filter(|id| id.len() > 25).count() >= 5, "{ids:?}");
    assert!(lines.iter().all(|line| line["outcome"] == "stored"), "{lines:#?}");
    all_is_well(&safe, &path, mib);
    assert!(spool.highest() > LIMIT / 4 && spool.highest() <= LIMIT, "{} of {LIMIT} bytes", spool.highest());
    // Known by the index from parts and whole alike: the next one brings next to nothing, and no part.
    safe.sh(&format!("echo more >'{path}/more'"));
    safe.client(&["submit", "files", &path, "--wait", "--timeout", "60s"]).exits(0);
    let line = log(&safe).pop().unwrap();
    assert!(line["id"].as_str().unwrap().len() == 25 && line["bytes_fetched"].as_u64().unwrap() < 1 << 20, "{line}");
}

#[test]
fn send_and_poll_that_are_killed_go_on_where_the_last_receipt_stands() {
    let mib = 130;
    let (safe, path) = installation(mib);
    let spool = Watermark::of(safe.at("client/export/node1"));
    safe.client(&["submit", "files", &path]).ok();
    let asked = |safe: &Loopback| log(safe).len();
    // Killed when it has asked for its first part, which nobody has fetched.
    let mut send = safe.command("nightsafe").arg("send").spawn().unwrap();
    until("a part is asked for", || asked(&safe) > 0);
    send.kill().unwrap();
    send.wait().unwrap();
    assert_eq!(parts_at_node(&safe), 0);
    // From here on nobody kills `send`, while one `poll` after the other is killed or ends.
    let mut polls = 0;
    while !stored(&safe) {
        let mut send = safe.command("nightsafe").args(["send", "--now"]).spawn().unwrap();
        let status = loop {
            if let Some(status) = send.try_wait().unwrap() {
                break status;
            }
            polls += 1;
            let mut poll = safe.command("nightsafe-server").arg("poll").spawn().unwrap();
            if polls % 2 == 0 {
                let parts = parts_at_node(&safe);
                // In the middle of a fetch, or soon after it; or it has nothing to do.
                while safe.names("node/data/web1/incoming").is_empty()
                    && parts_at_node(&safe) == parts
                    && poll.try_wait().unwrap().is_none()
                {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                poll.kill().unwrap();
            }
            poll.wait().unwrap();
        };
        // 75 where a `poll` was killed that a push had to wait for: it is tried again.
        assert!(matches!(status.code(), Some(0 | 75)), "{status:?}");
        assert!(polls < 5_000, "{:#?}", log(&safe));
        let _ = safe.node(&["poll"]);
    }
    let _ = safe.node(&["poll", "--sweep"]).exits(0);
    all_is_well(&safe, &path, mib);
    assert!(spool.highest() > LIMIT / 4 && spool.highest() <= LIMIT, "{} of {LIMIT} bytes", spool.highest());
}

#[test]
fn a_dump_waits_for_room_no_longer_than_it_is_told_to() {
    let (safe, path) = installation(100);
    let config = safe.read("client.toml");
    let module = "\n[module.noise]\nstream = [\"cat\", \"{path}/large\"]\n\n[[allow]]\nmodule = \"noise\"\nunder = \"/\"\n";
    safe.write("client.toml", &format!("stream_wait = \"1s\"\n{config}{module}"));
    safe.client(&["submit", "noise", &path]).exits(0);
    // Nobody fetches.
    safe.client(&["send"]).exits(75).says(&["full"]);
    assert!(safe.names("client/pool/work").iter().all(|name| name.starts_with('P')));
    let waiting = size(&safe.at("client/export/node1"));
    assert!(waiting > 0 && waiting <= LIMIT, "what was asked for waits, {waiting}");
    // What the node fetches in the end is not sent again.
    safe.edit("client.toml", "stream_wait = \"1s\"", "stream_wait = \"1h\"");
    safe.loopback("watch").exits(0);
    until("it is stored", || stored(&safe));
    assert!(fetched(&safe) < 84 << 20, "{:#?}", log(&safe));
    assert!(safe.names("client/export/node1").is_empty() && safe.names("node/data/web1/parts").is_empty());
}

/// The second one gets its room when the node has answered for the first, which has no parts.
#[test]
fn backups_share_the_spool() {
    let (safe, path) = installation(80);
    let spool = Watermark::of(safe.at("client/export/node1"));
    let other = safe.text("source/other");
    safe.sh(&format!("mkdir '{other}'; head -c 15M /dev/urandom >'{other}/x'"));
    safe.client(&["submit", "files", &other]).ok();
    safe.client(&["send"]).silent();
    assert!(size(&safe.at("client/export/node1")) > 14 << 20 && !log(&safe).iter().any(|line| line["id"].as_str().unwrap().len() > 25));
    safe.client(&["submit", "files", &path]).ok();
    let mut send = safe.command("nightsafe").arg("send").spawn().unwrap();
    while send.try_wait().unwrap().is_none() {
        let _ = safe.node(&["poll"]);
    }
    safe.round();
    assert_eq!(safe.names("node/data/web1/snapshots").len(), 2, "{:#?}", log(&safe));
    assert!(spool.highest() <= LIMIT, "{} of {LIMIT} bytes", spool.highest());
    safe.client(&["restore", &format!("files:{path}"), "--target", &safe.text("back/long")]).exits(0);
    safe.sh(&format!("diff -r '{path}' back/long"));
}

#[test]
fn a_refused_part_ends_the_backup() {
    let (safe, path) = installation(100);
    safe.edit("admin/access.toml", "allow = [\"*\"]", "allow = [\"*\"]\nquota = \"40 MiB\"");
    safe.loopback("watch").exits(0);
    safe.client(&["submit", "files", &path, "--wait", "--timeout", "60s"]).exits(4).says(&["quota"]);
    until("nothing of it waits", || safe.names("client/export/node1").is_empty());
    assert!(safe.names("node/data/web1/snapshots").is_empty() && parts_at_node(&safe) > 0);
    // What fits is stored, beside what was there before it was refused.
    let small = safe.text("source/small");
    safe.sh(&format!("mkdir '{small}'; echo x >'{small}/x'"));
    safe.client(&["submit", "files", &small, "--wait", "--timeout", "60s"]).exits(0).says(&["stored"]);
    // With more room it goes on from the parts that were stored.
    let before = fetched(&safe);
    assert!(before > 16 << 20);
    safe.edit("admin/access.toml", "40 MiB", "400 MiB");
    safe.loopback("watch").exits(0);
    safe.client(&["submit", "files", &path, "--wait", "--timeout", "60s"]).exits(0).says(&["stored"]);
    assert!(fetched(&safe) < 103 << 20, "{:#?}", log(&safe));
}

#[test]
fn abandoned_parts_go_after_their_time() {
    let (safe, path) = installation(100);
    safe.edit("admin/access.toml", "allow = [\"*\"]", "allow = [\"*\"]\npart_ttl = \"2d\"");
    safe.loopback("watch").exits(0);
    safe.client(&["submit", "files", &path]).ok();
    until("there are parts", || parts_at_node(&safe) >= 2);
    kill_daemon(&safe, "client-watch");
    let id = safe.names("client/pool/work").pop().unwrap();
    until("the killed one has let go", || safe.client(&["cancel", &id[1..]]).code == Some(0));
    until("the node is idle", || {
        let waiting = safe.node(&["status", "--json"]).stdout;
        !waiting.contains("\"waiting\": 1") && !waiting.contains("\"being_fetched\": 1")
    });
    kill_daemon(&safe, "node-watch");
    let parts = parts_at_node(&safe);
    let sweep_in = |days: i64| {
        let now = day_from_now(days);
        let poll = || crate::harness::run(safe.command("nightsafe-server").env("NIGHTSAFE_NOW", &now).args(["poll", "--sweep"]));
        until("the killed one has let go", || poll().code == Some(0));
    };
    sweep_in(1);
    assert!(parts > 0 && parts_at_node(&safe) == parts);
    sweep_in(3);
    assert!(safe.names("node/data/web1/parts").is_empty() && safe.names("node/data/web1/incoming").is_empty());
    // The client finds nothing that anybody knows, and removes it.
    safe.client(&["submit", "dummy", "x"]).ok();
    safe.client(&["send", "--now"]).exits(0);
    assert!(safe.names("client/export/node1").is_empty());
}

/// The time in so many days, as text.
fn day_from_now(days: i64) -> String {
    let output = std::process::Command::new("date").args(["-u", "-d", &format!("{days} days"), "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_page_on_the_spool_is_what_the_configuration_takes() {
    let safe = Loopback::start();
    let page = std::fs::read_to_string(crate::harness::source_root().join("docs/spool.md")).unwrap();
    let tables = crate::harness::blocks(&page, "toml");
    let config = safe.read("client.toml");
    safe.write("client.toml", &config.replacen("name = \"web1\"\n", &format!("name = \"web1\"\n{}", tables[0]), 1));
    safe.client(&["config", "check"]).exits(0);
    safe.client(&["submit", "dummy", "x"]).ok();
    // The list gets the page's tables, and the client's own settings in them.
    let list = safe.read("admin/access.toml");
    let (before, web1) = list.split_once("[client.web1]\n").unwrap();
    safe.write("admin/access.toml", &format!("{before}{}{web1}", tables[1]));
    safe.loopback("start").exits(0);
    safe.round();
    assert!(safe.read("node/data/access/access.toml").contains("part_ttl = \"90d\""));
}

#[test]
fn a_limit_that_is_too_small_is_told_before_anything_is_done() {
    let safe = Loopback::start();
    safe.edit("client.toml", "name = \"web1\"\n", "name = \"web1\"\nspool = { limit = \"10 MiB\" }\n");
    safe.client(&["send"]).exits(2).says(&["spool.limit", "64.0 MiB"]);
}

/// What a node has of a part, damaged in every way: it comes back from the history or is told, and the backup comes through.
#[test]
fn damage_to_a_part_is_mended_or_told_and_the_backup_comes_through() {
    let (safe, path) = installation(90);
    safe.client(&["submit", "files", &path]).ok();
    let mut send = safe.command("nightsafe").arg("send").spawn().unwrap();
    until("a part is stored", || {
        let _ = safe.node(&["poll"]);
        parts_at_node(&safe) > 0
    });
    send.kill().unwrap();
    send.wait().unwrap();
    let part = safe.names("node/data/web1/parts").remove(0);
    for file in ["commit", "tree", "request.toml", "manifest", "accepted.toml"] {
        let name = format!("node/data/web1/parts/{part}/{file}");
        for damage in ["rm", "truncate -s 20", "truncate -s 0", "printf '\\000' | dd conv=notrunc bs=1 seek=30 status=none of="] {
            let space = if damage.ends_with('=') { "" } else { " " };
            safe.sh(&format!("cp -p {name} kept; chmod u+w {name}; {damage}{space}{name}"));
            for args in [&["status"][..], &["prune", "--dry-run"], &["poll", "--sweep"]] {
                let run = safe.node(args);
                assert!(matches!(run.code, Some(0 | 1 | 3 | 75)) && !run.stderr.contains("panicked"), "{file} {damage}: {run}");
            }
            let code = if file == "accepted.toml" { 1 } else { 0 };
            let scrubbed = safe.node(&["scrub", "--all"]).says(&[&part]).exits(code);
            if code == 0 {
                scrubbed.says(&[file, "came back"]);
                safe.sh(&format!("cmp {name} kept"));
            }
            safe.sh(&format!("cp -p kept {name}"));
        }
    }
    safe.node(&["scrub", "--all"]).exits(0);
    safe.loopback("watch").exits(0);
    // What the node has told of as damaged, the client has sent again as well, once.
    until("it is stored, and stored again", || stored(&safe) && safe.names("node/data/web1/snapshots").len() == 2);
    assert_eq!(log(&safe).iter().filter(|line| line["reason"] == "heal").count(), 1);
    all_is_well_in(2, &safe, &path, 90);
}
