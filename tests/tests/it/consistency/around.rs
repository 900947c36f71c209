//! Commands before and after: what they are told, what follows from their failure, and that `after` runs whatever happens.

use super::configure;
use crate::harness::{Killed, Loopback, run, until};

/// A program that notes that it was run: the stage and the outcome, and how the dataset looked then.
fn witness(safe: &Loopback) -> String {
    let path = safe.text("witness");
    let (log, tree) = (safe.text("log"), safe.text("source/tree"));
    let script = format!(
        "#!/bin/sh\necho \"$NIGHTSAFE_STAGE ${{NIGHTSAFE_OUTCOME:--}} $NIGHTSAFE_DATASET $*\" >>'{log}'\n\
         [ \"$NIGHTSAFE_STAGE\" = before ] && echo still >'{tree}/state' || echo moving >'{tree}/state'\nexit 0\n"
    );
    safe.sh(&format!("mkdir -p '{tree}'; echo moving >'{tree}/state'"));
    safe.write("witness", &script);
    safe.sh("chmod +x witness; : >log");
    path
}

#[test]
fn a_dataset_is_read_between_its_commands() {
    let safe = Loopback::start();
    let (tree, witness) = (safe.text("source/tree"), witness(&safe));
    configure(
        &safe,
        &format!("[[dataset]]\naddress = \"files:{tree}\"\nbefore = [\"{witness}\", \"a b\", \"$HOME\"]\nafter = [\"{witness}\"]"),
    );
    safe.client(&["config", "check"]).says(&["for 10m at most", "a b $HOME"]);
    safe.back_up("files", &tree);
    assert_eq!(safe.read("log"), format!("before - files:{tree} a b $HOME\nafter done files:{tree} \n"));
    safe.client(&["restore", &format!("files:{tree}"), "--target", &safe.text("back/a")]).exits(0);
    assert_eq!(safe.read("back/a/state"), "still\n");
    assert!(safe.names("client/around").is_empty());
}

#[test]
fn failures_have_words_and_after_runs_all_the_same() {
    let safe = Loopback::start();
    let (tree, witness) = (safe.text("source/tree"), witness(&safe));
    let config = safe.read("client.toml");
    let with = |before: &str, after: &str, path: &str| {
        safe.write("client.toml", &config);
        safe.write("log", "");
        // Others are not to be cut off on a busy machine.
        let limit = if before.contains("sleep") { "2s" } else { "10m" };
        let text =
            format!("[[dataset]]\naddress = \"files:{path}\"\nbefore = [{before}]\nafter = [{after}]\ncommand_time_limit = \"{limit}\"");
        safe.write("client.toml", &format!("{config}\n{text}\n"));
        let _ = safe.client(&["submit", "files", path]);
        safe.client(&["send"])
    };
    let noted = format!("\"{witness}\"");
    with("\"sh\", \"-c\", \"echo the shop does not close; exit 4\"", &noted, &tree)
        .exits(1)
        .says(&["the shop does not close", "before files:"]);
    assert_eq!(safe.read("log"), format!("after failed files:{tree} \n"));
    safe.client(&["status"]).says(&["the shop does not close"]);
    with("\"sleep\", \"300\"", &noted, &tree).exits(1).says(&["took longer than 2 s"]);
    assert_eq!(safe.read("log"), format!("after failed files:{tree} \n"));
    // What cannot be read at all: the commands are around it, and the request says why it failed.
    safe.sh("mkdir source/gone");
    let gone = safe.text("source/gone");
    with(&format!("\"rmdir\", \"{gone}\""), &noted, &gone).exits(1).says(&["source/gone"]);
    assert_eq!(safe.read("log"), format!("after failed files:{gone} \n"));
    // A failing `after` is told of, and what was read is stored.
    with(&noted, "\"sh\", \"-c\", \"echo the shop stays closed; exit 5\"", &tree).exits(1).says(&["the shop stays closed"]);
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).silent();
    assert_eq!(super::snapshots(&safe, &format!("files:{tree}")), 1);
    assert!(safe.names("client/around").is_empty());
}

/// kill -9 in the middle: the next start runs `after` first, and then the request as if nothing had happened. A daemon that is
/// stopped runs it itself.
#[test]
fn after_runs_also_when_the_sender_is_ended() {
    let safe = Loopback::start();
    let (tree, witness) = (safe.text("source/tree"), witness(&safe));
    // It is read through a pipe that nobody writes to until the test does.
    safe.sh("mkfifo pipe");
    let pipe = safe.text("pipe");
    configure(
        &safe,
        &format!(
            "[module.held]\nstream = [\"sh\", \"-c\", \"echo $$ >{pipe}.reader; exec cat {pipe}\"]\n[[dataset]]\naddress = \"held:x\"\nbefore = [\"{witness}\"]\nafter = [\"{witness}\"]"
        ),
    );
    safe.client(&["submit", "held", "x"]).exits(0);
    let mut sender = Killed::start(safe.command("nightsafe").arg("send"));
    until("it reads", || safe.read("log").lines().count() == 1);
    until("its reader has begun", || std::fs::metadata(safe.at("pipe.reader")).is_ok_and(|file| file.len() > 0));
    sender.child().kill().unwrap();
    sender.wait();
    // What it had started would take what the next one is to read, also while it is ending: it has another pipe.
    safe.sh("kill $(cat pipe.reader); rm pipe; mkfifo pipe");
    assert_eq!(safe.read("log"), "before - held:x \n");
    assert_eq!(safe.names("client/around").len(), 1);
    // Whoever is next finds the note; this time the pipe gives something.
    let fed = std::thread::spawn({
        let mut feeder = safe.command("sh");
        feeder.args(["-c", "echo content >pipe"]);
        move || feeder.status().unwrap()
    });
    let _ = safe.client(&["send"]);
    fed.join().unwrap();
    assert_eq!(safe.read("log"), "before - held:x \nafter interrupted held:x \nbefore - held:x \nafter done held:x \n");
    assert!(safe.names("client/around").is_empty());
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).silent();
    assert_eq!(super::snapshots(&safe, "held:x"), 1);
    // The daemon, stopped while it reads.
    let first = safe.read("pipe.reader");
    safe.write("log", "");
    safe.loopback("watch").exits(0);
    safe.client(&["submit", "held", "x"]).exits(0);
    until("it reads", || safe.read("log").lines().count() == 1);
    until("its reader has begun anew", || safe.read("pipe.reader").ends_with('\n') && safe.read("pipe.reader") != first);
    safe.loopback("stop").exits(0);
    let _ = run(safe.command("sh").args(["-c", "kill $(cat pipe.reader)"]));
    assert_eq!(safe.read("log"), "before - held:x \nafter interrupted held:x \n");
    assert!(safe.names("client/around").is_empty());
    assert_eq!(safe.read("source/tree/state"), format!("moving\n"), "{tree}");
}

/// A daemon that is stopped leaves no `before` running beside what comes after it, and waits for that.
#[test]
fn what_a_stopping_daemon_has_begun_ends_in_order() {
    let safe = Loopback::start();
    let (tree, log) = (safe.text("source/tree"), safe.text("log"));
    safe.sh("mkdir -p source/tree; : >log");
    configure(
        &safe,
        &format!(
            "[[dataset]]\naddress = \"files:{tree}\"\n\
             before = [\"sh\", \"-c\", \"echo $$ >{log}.pid; test -e {log}.quick && exit 0; echo closing >>{log}; sleep 300; echo closed >>{log}\"]\n\
             after = [\"sh\", \"-c\", \"echo opening >>{log}; sleep 1; echo open >>{log}\"]"
        ),
    );
    // Told alone: what it has started hears of the end from it.
    let stopped_when = |begun: &str| {
        let mut daemon = Killed::start(safe.command("env").args(["--default-signal=TERM", "nightsafe", "watch"]));
        until("it is at its command", || safe.read("log").starts_with(begun));
        safe.sh(&format!("kill -TERM {}", daemon.child().id()));
        assert!(daemon.wait().success());
        assert!(safe.names("client/around").is_empty());
        safe.read("log")
    };
    safe.client(&["submit", "files", &tree]).exits(0);
    assert_eq!(stopped_when("closing\n"), "closing\nopening\nopen\n");
    safe.sh("! kill -0 $(cat log.pid) 2>/dev/null");
    // Nothing has failed: it is done with the next start.
    let said = safe.client(&["status"]).exits(0);
    assert!(!said.stdout.contains("failed"), "{said}");
    safe.sh(": >log; touch log.quick");
    assert_eq!(stopped_when("opening\n"), "opening\nopen\n");
    safe.round();
    assert_eq!(super::snapshots(&safe, &format!("files:{tree}")), 1);
}

/// Two nodes get the same dataset: the commands of one do not come between those of the other.
#[test]
fn nodes_take_turns_at_what_stands_still() {
    // Both are one node in truth, and now and then that one has no room for both at the same time: then one of them prepares nothing.
    let both_prepared = (0..5).any(|_| {
        let safe = Loopback::start();
        let (tree, witness) = (safe.text("source/tree"), witness(&safe));
        let config = safe.read("client.toml");
        let node = &config[config.find("[[node]]").unwrap()..config.find("[[allow]]").unwrap()];
        let second = node.replace("name = \"node1\"", "name = \"node2\"");
        configure(
            &safe,
            &format!(
                "{second}\n[[dataset]]\naddress = \"files:{tree}\"\nnodes = [\"node1\", \"node2\"]\nbefore = [\"{witness}\"]\nafter = [\"{witness}\"]"
            ),
        );
        safe.client(&["submit", "files", &tree]).exits(0);
        // The second node has the name of none that is there: what counts is that both are prepared side by side.
        let _ = safe.client(&["send"]);
        let line = |stage: &str| format!("{stage} files:{tree} \n");
        let turn = line("before -") + &line("after done");
        let log = safe.read("log");
        assert!(log == turn || log == turn.repeat(2), "{log}");
        log == turn.repeat(2)
    });
    assert!(both_prepared, "no two were ever prepared side by side");
}
