//! Full disks: whatever has no room says where and what to do, loses nothing, and goes on when there is room.
//!
//! Room grows in small steps, so that each write on the way is the one that fails.

use crate::harness::{Disk, Loopback, Run, same_trees};
use std::collections::BTreeSet;

/// What is free at each step, in KiB; what the backups below need is less than the last.
const STEPS: [u64; 14] = [0, 4, 8, 16, 28, 44, 64, 96, 160, 256, 400, 640, 1000, 3000];

/// A folder and a repository that are not backed up yet.
fn sources(safe: &Loopback) -> [(&'static str, String); 2] {
    safe.sh("mkdir -p source/a/sub && head -c 400000 /dev/urandom >source/a/big && for i in 1 2 3; do echo $i >source/a/sub/$i; done");
    safe.sh("git init -q --bare source/p.git && git init -q source/work && cd source/work && head -c 100000 /dev/urandom >x && git add x && git -c user.name=t -c user.email=t@example.org commit -q -m 1 && git push -q ../p.git HEAD:refs/heads/main");
    [("files", safe.text("source/a")), ("git", safe.text("source/p.git"))]
}

/// A backup of both while the disk under `folder` fills, and what was said on the way.
fn grows(folder: &str, kib: u64) -> Option<String> {
    let safe = Loopback::start();
    let sources = sources(&safe);
    let disk = Disk::over(&safe, folder, kib)?;
    // Each step is some hours later, so that nobody waits for the next try.
    let mut hours = 0;
    let mut told = String::new();
    let mut run = |program: &str, args: &[&str], hours: u64| -> Run {
        let now = format!("2031-01-{:02}T{:02}:00:00Z", 1 + hours / 24, hours % 24);
        let done = crate::harness::run(disk.command("env").arg(format!("NIGHTSAFE_NOW={now}")).arg(program).args(args));
        // status says by 3 that a person is needed, as long as there is no room.
        let fine = matches!(done.code, Some(0 | 75)) || args == ["status"] && done.code == Some(3);
        assert!(!done.stderr.contains("panicked") && fine, "{done}\n{told}");
        told.push_str(&format!("{done}\n"));
        done
    };
    let (mut submitted, mut stored) = (BTreeSet::new(), BTreeSet::new());
    for room in STEPS {
        hours += 3;
        disk.leave(room);
        for (module, path) in &sources {
            if !submitted.contains(path) && run("nightsafe", &["submit", module, path], hours).code == Some(0) {
                submitted.insert(path.clone());
            }
        }
        run("nightsafe", &["send"], hours);
        run("nightsafe-server", &["poll"], hours);
        run("nightsafe", &["send"], hours);
        let status = run("nightsafe", &["status"], hours).stdout;
        let ended =
            |line: &str| sources.iter().any(|(_, path)| line.contains(path)) && (line.contains(" refused ") || line.contains(" failed "));
        assert!(!status.lines().any(ended), "{status}");
        println!("{room} KiB:\n{status}");
        stored.extend(
            sources
                .iter()
                .map(|(_, path)| path.clone())
                .filter(|path| status.lines().any(|line| line.contains(path) && line.contains(" stored "))),
        );
    }
    assert_eq!(stored.len(), 2, "{told}");
    let left = disk
        .sh(&format!("find {folder} -name '.tmp-*[0-9]' -o -path '*/incoming/*' -o -name 'tmp_*' -o -name '*.lock' -path '*.git/refs/*'"));
    assert_eq!(left, "");
    disk.sh("for repository in $(find node client -name '*.git' -type d); do git -C $repository fsck --strict --no-dangling 1>&2; done");
    disk.run("nightsafe", &["verify"]).exits(0);
    disk.run("nightsafe", &["restore", &format!("files:{}", sources[0].1), "--target", &safe.text("back/a")]).exits(0);
    same_trees(&safe.at("source/a"), &safe.at("back/a"));
    Some(told)
}

#[test]
fn the_node_goes_on_when_there_is_room() {
    let Some(told) = grows("node", 12_000) else { return };
    for words in ["/incoming/", "No space left", "Make room", "it is tried again", "cannot take what is pushed now"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn the_client_goes_on_when_there_is_room() {
    let Some(told) = grows("client", 12_000) else { return };
    for words in ["/export/node1/pack", "/pool/inbox/", "No space left", "Make room"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn a_restore_goes_on_when_there_is_room() {
    let safe = Loopback::start();
    let [(_, path), _] = sources(&safe);
    // Small files, one that is spread over several packs' frames, and one without content to write.
    safe.sh("cd source/a && for i in $(seq 40); do head -c 9000 /dev/urandom >sub/f$i; done && truncate -s 50M hole && ln big link");
    safe.back_up("files", &path);
    let Some(disk) = Disk::over(&safe, "back", 4000) else { return };
    let (target, dataset) = (safe.text("back/a"), format!("files:{path}"));
    let restore = |target: &str| disk.run("nightsafe", &["restore", &dataset, "--target", target]);
    let (mut told, mut full) = (String::new(), 0);
    // What is needed is told before anything is written; files take up more than their bytes, so that 760 is not enough.
    for room in [0, 760, 0, 8, 24, 48] {
        disk.leave(room);
        let done = restore(&target);
        assert!(!done.stderr.contains("panicked"), "{done}");
        told += &done.stderr;
        if done.code == Some(75) {
            full += 1;
            done.says(&[&target, "Make room"]);
        } else {
            done.exits(0);
        }
    }
    assert!(full > 3 && told.contains("are needed and") && told.contains("No space left"), "{full}: {told}");
    // What is there under its name is whole: the rest has names that say that it is not.
    disk.sh(&format!("cd '{target}' && find . -type f ! -name '.nightsafe*' | while read -r f; do cmp \"$f\" '{path}'/\"$f\"; done"));
    disk.empty();
    restore(&target).exits(0);
    disk.sh(&format!("cd '{target}' && find . | sort >../got && cd '{path}' && find . | sort >'{target}'/../wanted && diff '{target}'/../got '{target}'/../wanted && diff -r '{path}' '{target}'"));
    // One stream has nobody who could go on, and says so.
    let out = safe.text("back/out");
    disk.leave(100);
    let script = format!("nightsafe restore '{dataset}' big --stdout >'{out}'; echo \"exit $?\"");
    let done = disk.run("sh", &["-c", &script]);
    assert!(done.stdout == "exit 75\n" || done.stdout == "exit 1\n", "{done}");
    done.says(&["No space left"]);
}
