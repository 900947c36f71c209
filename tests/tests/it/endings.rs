//! How commands end when their output cannot be written, when nobody reads it, and when they are asked to stop.

use crate::harness::{Killed, Loopback, Run, run, until};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// The commands of both programs, in a way that can be run again and again; those that print nothing are there as well.
const COMMANDS: &[(&str, &str)] = &[
    ("nightsafe", "submit dummy x"),
    ("nightsafe", "submit files DATA --dry-run"),
    ("nightsafe", "send"),
    ("nightsafe", "status"),
    ("nightsafe", "log"),
    ("nightsafe", "log --verify"),
    ("nightsafe", "snapshots STORE"),
    ("nightsafe", "ls files:DATA STORE"),
    ("nightsafe", "ls files:DATA STORE --json -r"),
    ("nightsafe", "find files:DATA * STORE"),
    ("nightsafe", "diff files:DATA STORE"),
    ("nightsafe", "diff files:DATA STORE --json"),
    ("nightsafe", "restore files:DATA STORE --target BACK"),
    ("nightsafe", "restore files:DATA STORE --target BACK --dry-run"),
    ("nightsafe", "verify files:DATA STORE"),
    ("nightsafe", "keys check STORE"),
    ("nightsafe", "config check"),
    ("nightsafe", "--help"),
    ("nightsafe", "--version"),
    ("nightsafe-server", "client list"),
    ("nightsafe-server", "restorer list"),
    ("nightsafe-server", "poll"),
    ("nightsafe-server", "status"),
    ("nightsafe-server", "snapshots"),
    ("nightsafe-server", "snapshots --json"),
    ("nightsafe-server", "prune --dry-run"),
    ("nightsafe-server", "keys list"),
    ("nightsafe-server", "log"),
    ("nightsafe-server", "log --verify"),
    ("nightsafe-server", "scrub"),
    ("nightsafe-server", "config check"),
    ("nightsafe-server", "--help"),
    ("nightsafe-server", "--version"),
];

/// The commands that a program says it has.
fn said(safe: &Loopback, program: &str) -> BTreeSet<String> {
    let help = safe.run(program, &["--help"]).ok();
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).filter(|name| name != "help").collect()
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_one_that_nobody_reads_is_none() {
    let safe = Loopback::start();
    safe.sh("mkdir -p source/d && echo 1 >source/d/a");
    let data = safe.text("source/d");
    safe.back_up("files", &data);
    safe.sh("echo 2 >source/d/b");
    safe.back_up("files", &data);
    let mut commands: Vec<(&str, String)> = COMMANDS.iter().map(|(program, line)| (*program, (*line).to_owned())).collect();
    for program in ["nightsafe", "nightsafe-server"] {
        let tried: BTreeSet<&str> =
            COMMANDS.iter().filter(|(of, _)| *of == program).filter_map(|(_, line)| line.split(' ').next()).collect();
        // What nobody wrote a line for can print its help at least.
        let more = said(&safe, program).into_iter().filter(|name| !tried.contains(name.as_str()));
        commands.extend(more.map(|name| (program, format!("{name} --help"))));
    }
    let store = safe.text("node/data/web1");
    let mut wrong = Vec::new();
    for (program, line) in &commands {
        let args: Vec<String> = line
            .split(' ')
            .flat_map(|word| {
                if word == "STORE" {
                    vec!["--store".into(), store.clone()]
                } else {
                    vec![word.replace("DATA", &data).replace("BACK", &safe.text("back/t"))]
                }
            })
            .collect();
        let shell = |how: &str| -> Run {
            // The pipe's reader is gone before anything is written.
            run(safe.command("bash").args(["-c", &format!("{program} \"$@\" {how}"), "x"]).args(&args))
        };
        let plain = shell("");
        assert!(matches!(plain.code, Some(0 | 3)), "{plain}");
        let full = shell(">/dev/full");
        let expected = if plain.stdout.is_empty() { plain.code } else { Some(1) };
        if full.code != expected || !plain.stdout.is_empty() && !full.stderr.contains("No space left on device") {
            wrong.push(format!("/dev/full: {full}"));
        }
        let closed = shell(">&-");
        if closed.code != plain.code || closed.stderr.contains("panicked") {
            wrong.push(format!("closed: {closed}"));
        }
        let gone = shell("> >(exec true); e=$?; exit $e");
        if gone.code != plain.code || gone.stderr != plain.stderr {
            wrong.push(format!("nobody reads: {gone}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    // Bytes that are not whole are no success, and no reason for words either.
    safe.sh("head -c 3000000 /dev/urandom >source/d/big");
    safe.back_up("files", &data);
    let line = format!("nightsafe restore files:{data} big --store {store} --stdout | head -c 10 | wc -c; exit ${{PIPESTATUS[0]}}");
    let cut = run(safe.command("bash").args(["-c", &line])).exits(141);
    assert!(cut.stdout.trim() == "10" && !cut.stderr.contains("nightsafe:"), "{cut}");
    let full = run(safe.command("bash").args(["-c", &format!("nightsafe restore files:{data} big --store {store} --stdout >/dev/full")]));
    full.says(&["No space left on device"]).exits(1);
}

/// A child that is stopped as soon as it has begun to write a file, asked to end, and continued.
fn interrupted(safe: &Loopback, args: &[&str], begun: &dyn Fn() -> bool, signal: &str) -> std::process::Output {
    // Whoever started the tests may have had them ignore a signal, as a shell does with SIGINT behind an &.
    let mut child = safe
        .command("env")
        .args(["--default-signal=INT,TERM,HUP", "nightsafe"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id().to_string();
    let send = |signal: &str| assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    let mut over = false;
    until("it has begun, or is over already", || {
        over = child.try_wait().unwrap().is_some();
        over || begun()
    });
    if !over {
        send("-STOP");
        send(signal);
        send("-CONT");
    }
    child.wait_with_output().unwrap()
}

#[test]
fn a_restore_that_is_asked_to_stop_leaves_no_half_file_and_goes_on() {
    let safe = Loopback::start();
    // Large enough to be in the middle of it.
    safe.sh("mkdir source/d && cd source/d && head -c 60000000 /dev/urandom >big && echo small >a");
    let data = safe.text("source/d");
    safe.back_up("files", &data);
    let (store, dataset) = (safe.text("node/data/web1"), format!("files:{data}"));
    for (signal, number, word) in [("-INT", 2, "SIGINT"), ("-TERM", 15, "SIGTERM"), ("-HUP", 1, "SIGHUP")] {
        let target = safe.text(&format!("back/{word}"));
        let args = ["restore", &dataset, "--store", &store, "--target", &target];
        let big = std::path::Path::new(&target).join("big");
        let mut ended = None;
        // On a busy machine it may be done before it hears of it.
        until("a restore is caught in the middle", || {
            safe.sh(&format!("rm -rf '{target}'"));
            let one = interrupted(&safe, &args, &|| std::fs::metadata(&big).is_ok_and(|meta| meta.len() > 0), signal);
            let caught = !one.status.success();
            ended = Some(one);
            caught
        });
        let ended = ended.unwrap();
        let words = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.signal(), Some(number), "{word}: {words}");
        assert!(words.contains(&format!("stopped by {word}")) && words.contains("Run the same command again"), "{words}");
        assert!(!big.exists(), "{word}: a half file was left");
        let again = safe.client(&args).says(&["Restored"]).exits(0);
        assert!(again.stdout.contains(" in "), "{again}");
        safe.sh(&format!("diff -r '{data}' '{target}'"));
    }
    // Whoever started it with nohup wants it to go on.
    let target = safe.text("back/nohup");
    let line = format!(
        "nohup nightsafe restore {dataset} --store {store} --target {target} >/dev/null 2>&1 & pid=$!; \
         until [ -s {target}/big ]; do sleep 0.01; done; kill -HUP $pid || true; wait $pid"
    );
    run(safe.command("timeout").args(["240", "bash", "-c", &line])).exits(0);
    safe.sh(&format!("diff -r '{data}' '{target}'"));
}

#[test]
fn daemons_end_when_they_are_asked_to() {
    let safe = Loopback::start();
    for program in ["nightsafe", "nightsafe-server"] {
        for signal in ["-INT", "-TERM", "-HUP"] {
            let said = safe.at(&format!("said-{program}{signal}"));
            let ignored = if signal == "-HUP" { "INT" } else { "HUP" };
            let mut daemon = Killed::start(
                safe.command("env")
                    .args(["--default-signal=INT,TERM,HUP", &format!("--ignore-signal={ignored}"), program, "-v", "watch"])
                    .stderr(std::fs::File::create(&said).unwrap()),
            );
            until("the daemon is at work", || std::fs::read_to_string(&said).is_ok_and(|text| text.contains("watching")));
            // What it was started to ignore, as by nohup, it ignores still.
            let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.child().id())).unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
            let bit = if ignored == "INT" { 1 << 1 } else { 1 };
            assert_ne!(u64::from_str_radix(mask, 16).unwrap() & bit, 0, "{program} {ignored}: {status}");
            assert!(Command::new("kill").args([signal, &daemon.child().id().to_string()]).status().unwrap().success());
            let status = daemon.wait();
            assert_eq!(status.code(), Some(0), "{program} {signal}: {}", std::fs::read_to_string(&said).unwrap());
        }
    }
}
