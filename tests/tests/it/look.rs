//! Looking: status, find and diff, the nearest of wrong names, and what a terminal shows.

use crate::harness::Loopback;
use crate::keys::at_a_terminal;
use serde_json::{Value, json};

/// Three snapshots of one folder: `a.txt` changes once, `b/new.txt` comes, `gone` goes.
fn three(safe: &Loopback) -> (String, Vec<String>) {
    safe.sh(
        "mkdir -p source/p/b && cd source/p && echo one >a.txt && echo x >gone && echo same >b/same.TXT && head -c 5000 /dev/zero >big.bin",
    );
    let path = safe.text("source/p");
    safe.back_up("files", &path);
    safe.sh("echo changed >source/p/a.txt");
    safe.back_up("files", &path);
    safe.sh("cd source/p && rm gone && echo new >b/new.txt && chmod 0600 big.bin");
    safe.back_up("files", &path);
    let dataset = format!("files:{path}");
    let listed = safe.client(&["snapshots", "--json"]).json();
    let ids = listed.as_array().unwrap().iter().map(|row| row["snapshot"].as_str().unwrap().to_owned()).collect();
    (dataset, ids)
}

#[test]
fn find_and_diff_across_snapshots() {
    let safe = Loopback::start();
    let (dataset, ids) = three(&safe);
    let found = |more: &[&str]| safe.client(&[&["find", &dataset, "--json"], more].concat()).json().as_array().unwrap().clone();
    let paths = |rows: &[Value]| rows.iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let txt = found(&["*.txt"]);
    assert_eq!(paths(&txt), ["a.txt", "a.txt", "b/new.txt"]);
    assert_eq!((&txt[0]["snapshots"], &txt[1]["snapshots"], &txt[0]["size"]), (&json!([ids[0]]), &json!([ids[1], ids[2]]), &json!(4)));
    assert_eq!(paths(&found(&["-i", "b/*.txt"])), ["b/new.txt", "b/same.TXT"]);
    // Two versions, for its mode.
    assert_eq!(paths(&found(&["*", "--larger", "1KiB"])), ["big.bin", "big.bin"]);
    assert_eq!(paths(&found(&["*", "--newer", "1d", "-t", "file", "--at", &ids[0]])), ["a.txt", "b/same.TXT", "big.bin", "gone"]);
    assert_eq!(found(&["*", "--older", "2000-01-01"]).len(), 0);
    safe.client(&["find", &dataset, "gone"]).says(&["2 of 3", &ids[1], "gone"]).exits(0);
    safe.client(&["find", &dataset, "nothing"]).says(&["Nothing of that name"]).exits(0);
    safe.client(&["find", &dataset, "["]).says(&["no pattern"]).exits(2);

    let diff = |more: &[&str]| safe.client(&[&["diff"], more].concat());
    let told =
        diff(&[&dataset]).says(&["+ b/new.txt  4 B", "- gone  2 B", "M big.bin  mode 0644 -> 0600", "1 added (4 B), 1 removed (2 B)"]);
    assert!(!told.stdout.contains("same") && !told.stdout.contains("a.txt"), "{told}");
    let rows = diff(&[&dataset, "--from", &ids[0], "--to", &ids[1], "--json"]).json();
    assert_eq!(paths(rows.as_array().unwrap()), ["a.txt"]);
    let only = &rows[0];
    assert_eq!((&only["change"], &only["aspects"], &only["before"]["size"]), (&json!("changed"), &json!(["content", "time"]), &json!(4)));
    diff(&[&ids[0], "--to", &ids[2], "--content-only"]).says(&["M a.txt", "- gone", "1 changed."]).exits(0);
    diff(&[&dataset, "b"]).says(&["+ b/new.txt", "1 added (4 B), 0 removed, 1 changed."]).exits(0);
    diff(&[&ids[0], "--to", &ids[0]]).says(&["Nothing differs."]).exits(0);
    diff(&[&dataset, "--to", &ids[0]]).says(&["there is no snapshot of", "before"]).exits(1);

    // Refs of a repository.
    let repository = safe.text("source/r.git");
    safe.sh("git init -q -b main w && cd w && git -c user.name=u -c user.email=e commit -q --allow-empty -m 1 && git tag v1 && git clone -q --mirror . ../source/r.git");
    safe.back_up("git", &repository);
    safe.sh("cd w && git -c user.name=u -c user.email=e commit -q --allow-empty -m 2 && git push -q ../source/r.git main main:next");
    safe.back_up("git", &repository);
    let git = format!("git:{repository}");
    let rows = diff(&[&git, "--json"]).json();
    let changes: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| (row["change"].as_str().unwrap(), row["path"].as_str().unwrap())).collect();
    assert_eq!(changes, [("changed", "refs/heads/main"), ("added", "refs/heads/next")]);
    let refs = safe.client(&["find", &git, "main", "--json"]).json();
    assert_eq!(refs.as_array().unwrap().len(), 2, "{refs}");

    // Sealed from now on: what is found in the archive is in its snapshot, and not in those of the mirror before it.
    let text = safe.read("client.toml");
    safe.write("client.toml", &format!("{text}\n[[dataset]]\naddress = \"{git}\"\nsealed = true\n"));
    safe.back_up("git", &repository);
    let listed = safe.client(&["snapshots", &git, "--json"]).json();
    let newest = &listed.as_array().unwrap().last().unwrap()["snapshot"];
    let files = safe.client(&["find", &git, "*", "-t", "file", "--json"]).json();
    let in_archive: Vec<&Value> = files.as_array().unwrap().iter().filter(|row| row["type"] == "file").collect();
    assert!(!in_archive.is_empty() && in_archive.iter().all(|row| row["snapshots"] == json!([newest])), "{files} {listed}");
}

#[test]
fn wrong_names_get_the_nearest() {
    let safe = Loopback::start();
    safe.sh("mkdir -p source/papers && echo one >source/papers/a");
    safe.back_up("files", &safe.text("source/papers"));
    let right = format!("files:{}", safe.text("source/papers"));
    let store = safe.text("node/data/web1");
    for wrong in [format!("files:{}", safe.text("source/paper")), format!("web9:{right}"), safe.text("source/papers"), "paperz".into()] {
        for command in [&["ls"][..], &["find", "*"], &["diff"], &["verify"], &["snapshots"], &["restore", "--target", "/nowhere"]] {
            let (name, more) = command.split_first().unwrap();
            let asked = safe.client(&[&[*name, &wrong, "--store", &store], more].concat());
            assert!(matches!(asked.code, Some(1 | 2)), "{asked}");
            let near = asked.stderr.contains(&right) && (asked.stderr.contains("Did you mean") || asked.stderr.contains("There is:"));
            assert!(near || wrong == "paperz" && asked.stderr.contains("MODULE:PATH"), "{asked}");
        }
    }
    assert!(!std::path::Path::new("/nowhere").exists());
}

#[test]
fn status_tells_by_its_exit_code_whether_all_is_well() {
    let safe = Loopback::start();
    safe.client(&["status"]).exits(0);
    safe.sh("mkdir source/d && head -c 3000 /dev/urandom >source/d/f");
    let path = safe.text("source/d");
    safe.back_up("files", &path);
    let rows = safe.client(&["status", "--json"]).json();
    let row = &rows[0];
    assert_eq!((&row["kind"], &row["state"], &row["wrong"]), (&json!("dataset"), &json!("stored"), &json!([])), "{row}");
    assert_eq!((&row["bytes"], &row["files"], &row["entries"]), (&json!(3000), &json!(1), &json!(2)));
    assert!(row["bytes_stored"].as_u64().unwrap() > 3000 && row["last_attempt"].is_string() && row["last_failure"].is_null(), "{row}");
    safe.client(&["submit", "files", &path]).exits(0);
    safe.sh("rm -r source/d");
    safe.client(&["send"]).exits(1);
    let failed = safe.client(&["status"]).exits(3);
    assert!(failed.stdout.contains("failed once since"), "{failed}");
    let rows: Value = serde_json::from_str(&safe.client(&["status", "--json"]).exits(3).stdout).unwrap();
    assert_eq!((&rows[0]["wrong"], &rows[0]["failures"], &rows[0]["bytes"]), (&json!(["failed"]), &json!(1), &json!(3000)));
    // A node that cannot be reached is wrong after a day, not at once.
    safe.sh("mkdir source/d");
    safe.client(&["submit", "files", &path]).exits(0);
    safe.round();
    safe.loopback("stop").exits(0);
    safe.client(&["submit", "files", &path]).exits(0);
    safe.client(&["send"]).exits(75);
    safe.client(&["status"]).says(&["node1: failed once", "waiting"]).exits(0);
    let later = |hours: &str| crate::harness::run(safe.command("nightsafe").env("NIGHTSAFE_NOW", hours).arg("status"));
    later("+23h").exits(0);
    later("+25h").exits(3);
}

#[test]
fn progress_shows_at_a_terminal_and_nowhere_else() {
    let safe = Loopback::start();
    safe.sh("mkdir source/d && head -c 3000000 /dev/urandom >source/d/big");
    let data = safe.text("source/d");
    safe.back_up("files", &data);
    // Whoever reads takes its time, so that it lasts over a second.
    let slow = format!(
        "set -e; export TERM=xterm; nightsafe restore files:{data} big --store {} --stdout | {{ head -c 1 >/dev/null; sleep 5; cat >/dev/null; }}",
        safe.text("node/data/web1")
    );
    let verbose = slow.replace("nightsafe restore", "nightsafe -v restore");
    // All three wait most of the time.
    let (shown, plain, logged) = std::thread::scope(|threads| {
        let plain = threads.spawn(|| safe.run("bash", &["-c", &slow]));
        let logged = threads.spawn(|| safe.run("bash", &["-c", &verbose]));
        (at_a_terminal(&safe, &slow, &[]), plain.join().unwrap(), logged.join().unwrap())
    });
    let (shown, plain, logged) = (shown.exits(0).stdout, plain.exits(0), logged.exits(0));
    assert!(shown.contains("restoring, ") && shown.contains("of 2.9 MiB"), "{shown:?}");
    assert!(!plain.stderr.contains("of 2.9 MiB") && !plain.stderr.contains('\r'), "{plain}");
    // Where a log is wanted it has plain lines.
    assert!(logged.stderr.contains("INFO") && logged.stderr.contains("restoring") && !logged.stderr.contains('\u{1b}'), "{logged}");
    // A table is as wide as the terminal, and coloured there alone.
    let narrow = |more: &str| at_a_terminal(&safe, &format!("stty cols 60; export TERM=xterm{more}; nightsafe status"), &[]).stdout;
    let (coloured, plain) = (narrow(""), narrow(" NO_COLOR=1"));
    assert!(coloured.contains("\u{1b}[32mstored") && !plain.contains("\u{1b}["), "{coloured:?} {plain:?}");
    assert!(plain.lines().take(2).all(|line| line.trim_end().chars().count() <= 60) && plain.contains('…'), "{plain}");
    assert!(!safe.client(&["status"]).stdout.contains('…'));
}

#[test]
fn the_journal_has_a_requests_id_in_every_line_about_it() {
    let safe = Loopback::start();
    let line = safe.client(&["submit", "dummy", "x"]).ok();
    let id = line.split_whitespace().next().unwrap();
    let journal = |program: &str, name: &str| {
        let file = safe.text(name);
        let run = format!("exec 2>>{file}; JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) {program}");
        safe.run("bash", &["-c", &run]).exits(0);
        safe.read(name)
    };
    let client = journal("nightsafe send", "client.log");
    let node = journal("nightsafe-server poll", "node.log");
    let client = client + &journal("nightsafe send", "client.log");
    for (text, about) in
        [(&client, "preparing dummy:x"), (&client, "committed dummy:x"), (&client, "dummy:x is stored"), (&node, "fetching dummy:x")]
    {
        let line = text.lines().find(|line| line.contains(about)).unwrap_or_else(|| panic!("no {about:?} in:\n{text}"));
        assert!(line.starts_with("<6>") && line.contains(id), "{line}");
    }
    assert!(client.lines().chain(node.lines()).all(|line| line.starts_with('<')), "{client}{node}");
    // Another program's journal is not ours.
    safe.client(&["submit", "dummy", "x"]).exits(0);
    crate::harness::run(safe.command("nightsafe").env("JOURNAL_STREAM", "1:2").arg("send")).silent();
}
