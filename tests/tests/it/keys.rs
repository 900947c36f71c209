//! Keys end to end: every kind of recipient and identity, epochs, what a key opens, and key files that are added.

use crate::harness::{Loopback, Run, bin, run, source_root};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// A new age identity in the installation's folder; gives its recipient.
fn age_key(safe: &Loopback, name: &str) -> String {
    safe.sh(&format!("age-keygen -o {name} 2>/dev/null; age-keygen -y {name}")).trim().to_owned()
}

fn recipients(safe: &Loopback, list: &[&str]) {
    let text = safe.read("client.toml");
    let line = text.lines().find(|line| line.starts_with("recipients")).unwrap();
    safe.edit("client.toml", line, &format!("recipients = {list:?}"));
}

fn back_up(safe: &Loopback, content: &str) {
    // Written anew it would have another time, which is a change.
    if std::fs::read_to_string(safe.at("source/file")).ok().as_deref() != Some(content) {
        std::fs::write(safe.at("source/file"), content).unwrap();
    }
    safe.back_up("files", &safe.text("source"));
}

/// `nightsafe` with one identity.
fn with(safe: &Loopback, identity: &str, args: &[&str]) -> Command {
    let mut command = safe.command("nightsafe");
    command.env("NIGHTSAFE_IDENTITY", safe.at(identity)).args(args);
    command
}

fn check(safe: &Loopback, identity: &str, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let args = [&["keys", "check", "--json"][..], more].concat();
    let done = run(&mut with(safe, identity, &args));
    let code = done.code;
    (code, serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done}")))
}

fn opens(epochs: &[Value]) -> Vec<bool> {
    epochs.iter().map(|epoch| epoch["opens"].as_bool().unwrap()).collect()
}

/// Restores to a fresh folder.
fn restore(safe: &Loopback, identity: &str, more: &[&str]) -> Run {
    let _ = std::fs::remove_dir_all(safe.at("back"));
    let (dataset, target) = (format!("files:{}", safe.text("source")), safe.text("back"));
    let args = [&["restore", &dataset, "--target", &target][..], more].concat();
    run(&mut with(safe, identity, &args))
}

fn snapshots(safe: &Loopback) -> Vec<String> {
    let list = safe.client(&["snapshots", "--json"]).json();
    list.as_array().unwrap().iter().map(|one| one["snapshot"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_change_of_recipients_begins_an_epoch_and_a_keyholder_adds_somebody_to_an_old_one() {
    let safe = Loopback::start();
    let [a, b, c] = ["a.txt", "b.txt", "c.txt"].map(|name| age_key(&safe, name));
    let noise = |seed: u8| {
        (0..200_000u32).map(|i| char::from(b'a' + ((i.wrapping_mul(2_654_435_761) >> 27) as u8 % 25 + seed))).collect::<String>()
    };
    recipients(&safe, &[&a]);
    back_up(&safe, &noise(0));
    back_up(&safe, &noise(0));
    let packs = safe.names("node/data/web1/packs").len();
    assert_eq!(check(&safe, "a.txt", &[]).1.len(), 1, "no change, no epoch");
    // Another set: nothing is deduplicated against the packs of the epoch before.
    recipients(&safe, &[&a, &b]);
    back_up(&safe, &noise(0));
    let more = safe.names("node/data/web1/packs").len();
    assert!(more > packs);
    // The order, a repetition and a comment are no change.
    recipients(&safe, &[&b, &a, &b]);
    back_up(&safe, &noise(0));
    assert_eq!(safe.names("node/data/web1/packs").len(), more);
    recipients(&safe, &[&b]);
    back_up(&safe, &noise(1));
    let names = snapshots(&safe);

    let (code, epochs) = check(&safe, "a.txt", &[]);
    assert_eq!((code, opens(&epochs)), (Some(3), vec![true, true, false]));
    assert_eq!(epochs.iter().map(|epoch| epoch["snapshots"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(epochs[2]["unopened"], serde_json::json!([names[4]]));
    assert_eq!(epochs[0]["recipients"], serde_json::json!([a]));
    assert_eq!(check(&safe, "b.txt", &[]).0, Some(3));
    assert_eq!(check(&safe, "c.txt", &["--store", &safe.text("node/data/web1")]).0, Some(1));
    // Two keys together open all of it.
    run(&mut with(&safe, "a.txt", &["keys", "check", "--identity", &safe.text("a.txt"), "--identity", &safe.text("b.txt")])).exits(0);
    restore(&safe, "a.txt", &[]).exits(1).says(&["wrong identity", &b]);
    restore(&safe, "b.txt", &[]).exits(0);
    restore(&safe, "a.txt", &["--at", &names[3]]).exits(0);
    assert_eq!(safe.read("back/file"), noise(0));

    // A listing and status say it too, when they are given a key and not otherwise.
    let listed = |more: &[&str]| safe.client(&[&["snapshots", "--json"][..], more].concat()).json();
    let claims = |list: Value| list.as_array().unwrap().iter().map(|one| one["opens"].as_bool()).collect::<Vec<_>>();
    assert_eq!(claims(listed(&[])), [None; 5]);
    assert_eq!(claims(listed(&["--identity", &safe.text("a.txt")])), [Some(true), Some(true), Some(true), Some(true), Some(false)]);
    let told = run(&mut with(&safe, "a.txt", &["status"])).exits(0);
    assert!(told.stdout.contains("this key does not open 1 snapshot of web1") && told.stdout.contains(&b), "{told}");
    let told = run(&mut with(&safe, "a.txt", &["status", "--identity", &safe.text("c.txt")])).exits(0);
    assert_eq!(told.stdout.matches("this key does not open").count(), 3, "{told}");
    let rows = run(safe.command("nightsafe").env_remove("NIGHTSAFE_IDENTITY").args(["status", "--json"])).json();
    assert!(rows.as_array().unwrap().iter().all(|row| row["epochs"].is_null()));

    // A makes a key file for C; what A cannot open is said.
    let made = run(&mut with(&safe, "a.txt", &["keys", "add-recipient", &c, "--output", &safe.text("home")])).exits(3);
    assert!(made.stderr.contains("cannot be opened"), "{made}");
    let files: Vec<&str> = made.stdout.lines().collect();
    assert_eq!(files.len(), 2, "{made}");
    for (n, file) in files.iter().enumerate() {
        assert!(std::fs::metadata(file).unwrap().len() < 2000);
        let before = safe.names("node/data/web1/packs");
        safe.node(&["keys", "install", file]).exits(0).says(&[&c]);
        safe.node(&["keys", "install", file]).exits(0).says(&["before"]);
        assert_eq!(safe.names("node/data/web1/packs"), before);
        assert_eq!(safe.node(&["keys", "list", "--json"]).json().as_array().unwrap().len(), n + 1);
    }
    for place in [&[][..], &["--store", &safe.text("node/data/web1")]] {
        let (code, epochs) = check(&safe, "c.txt", place);
        assert_eq!((code, opens(&epochs)), (Some(3), vec![true, true, false]));
        restore(&safe, "c.txt", &[&["--at", names[0].as_str()], place].concat()).exits(0);
        assert_eq!(safe.read("back/file"), noise(0));
        restore(&safe, "c.txt", place).exits(1).says(&["wrong identity"]);
    }
    // A year later a new epoch begins by itself.
    let file = "client/epochs/node1.toml";
    let made = safe.read(file).lines().find(|line| line.starts_with("made")).unwrap().to_owned();
    safe.edit(file, &made, "made = \"2025-11-01T00:00:00Z\"");
    back_up(&safe, &noise(1));
    let (code, all) = check(&safe, "b.txt", &[]);
    assert_eq!((code, opens(&all)), (Some(3), vec![false, true, true, true]));
    assert_eq!(all[2]["recipients"], all[3]["recipients"]);
    // One line of shell does it too.
    let epoch = epochs[0]["epoch"].as_str().unwrap();
    let by_hand = safe.sh(&format!(
        "cd node/data/web1; (head -n1 snapshots/{}/manifest; cat keys/{epoch}/*.json) | jq -r .epoch.key_file | \
         while read -r key; do echo \"$key\" | base64 -d | age -d -i ../../../c.txt 2>/dev/null && break; done | age-keygen -y",
        names[0]
    ));
    assert_eq!(by_hand.trim(), epoch);
    // Who is in already gets no file.
    run(&mut with(&safe, "a.txt", &["keys", "add-recipient", &b, "--epoch", epochs[1]["epoch"].as_str().unwrap()]))
        .exits(0)
        .says(&["already"]);
}

#[test]
fn hostile_key_files_do_no_harm() {
    let safe = Loopback::start();
    let mine = age_key(&safe, "mine.txt");
    let theirs = age_key(&safe, "theirs.txt");
    back_up(&safe, "content");
    let (_, epochs) = check(&safe, "identity.txt", &[]);
    let epoch = epochs[0]["epoch"].as_str().unwrap().to_owned();
    // A whole key file, sealed to us, that holds a key of the attacker's own.
    let sealed = safe.sh(&format!("age-keygen 2>/dev/null | grep AGE-SECRET | age -r {mine} | base64 -w0"));
    let file = |client: &str, epoch: &str, to: &str, sealed: &str| {
        format!(
            "{{\"version\":1,\"client\":\"{client}\",\"made\":\"2026-11-20T00:00:00Z\",\"epoch\":{{\"recipient\":\"{epoch}\",\"recipients\":[\"{to}\"],\"key_file\":\"{sealed}\"}}}}\n"
        )
    };
    let good_form = file("web1", &epoch, &mine, sealed.trim());
    safe.write("good.json", &good_form);
    for (name, text, word) in [
        ("another client", good_form.replace("web1", "web2"), "web2"),
        ("another epoch", file("web1", &theirs, &mine, sealed.trim()), "no snapshot"),
        ("no epoch", file("web1", "../../x", &mine, sealed.trim()), "no epoch"),
        ("nobody", good_form.replace(&format!("[\"{mine}\"]"), "[]"), "for whom"),
        ("newer", good_form.replace("\"version\":1", "\"version\":2"), "version 2"),
        ("more", good_form.replace("\"version\":1", "\"version\":1,\"x\":1"), "newer"),
        ("no age file", file("web1", &epoch, &mine, "AAAA"), "age"),
        ("garbage", "x".into(), "no key file"),
        ("empty", String::new(), "no key file"),
        ("long", "x".repeat(200 << 10), "131072"),
    ] {
        safe.write("bad.json", &text);
        let done = safe.node(&["keys", "install", &safe.text("bad.json")]);
        assert!(done.code != Some(0) && done.stderr.contains(word), "{name}: {done}");
    }
    assert!(!safe.at("node/data/web1/keys").exists());
    safe.node(&["keys", "install", &safe.text("good.json")]).exits(0);
    // What cannot even be read lies beside it.
    let folder = safe.at(&format!("node/data/web1/keys/{epoch}"));
    std::fs::write(folder.join("2.json"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("3.json")).unwrap();
    std::fs::write(folder.join("4.json"), "y".repeat(1 << 20)).unwrap();
    for place in [&[][..], &["--store", &safe.text("node/data/web1")]] {
        // The attacker's key is never used; who was in before is as well off as ever.
        restore(&safe, "mine.txt", place).exits(4).says(&["another key"]);
        assert_eq!(check(&safe, "mine.txt", place).0, Some(1));
        restore(&safe, "identity.txt", place).exits(0);
        assert_eq!(check(&safe, "identity.txt", place).0, Some(0));
    }
    // A manifest that was changed on the node is not believed, whatever key it carries.
    let name = &snapshots(&safe)[0];
    let path = safe.at(&format!("node/data/web1/snapshots/{name}/manifest"));
    let bytes = std::fs::read(&path).unwrap();
    let end = bytes.iter().position(|b| *b == b'\n').unwrap();
    let line = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let swapped = [line.replace(&epoch, &theirs).as_bytes(), &bytes[end..]].concat();
    std::fs::write(&path, swapped).unwrap();
    let done = run(&mut with(&safe, "identity.txt", &["keys", "check"])).exits(1);
    assert!(done.stderr.contains("does not verify"), "{done}");
}

/// Runs a shell's line in a terminal of its own; each time that a passphrase is asked for, the next line is typed.
const TERMINAL: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("sh", ["sh", "-c", sys.argv[1]])
said, answered, answers = b"", 0, sys.argv[2:]
while True:
    try:
        read = os.read(terminal, 4096)
    except OSError:
        break
    said += read
    if answers and b"assphrase" in said[answered:] and said.rstrip().endswith(b":"):
        answered = len(said)
        os.write(terminal, answers.pop(0).encode() + b"\n")
sys.stdout.buffer.write(said)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// Runs a line for `sh` at a terminal, and answers there what is asked for.
pub fn at_a_terminal(safe: &Loopback, line: &str, typed: &[&str]) -> Run {
    run(safe.command("python3").args(["-c", TERMINAL, line]).args(typed))
}

#[test]
fn keys_with_a_passphrase_are_asked_for_once() {
    let safe = Loopback::start();
    let plain = age_key(&safe, "plain.txt");
    safe.sh("ssh-keygen -q -t ed25519 -N 'open sesame' -f ed; ssh-keygen -q -t rsa -b 2048 -N 'open sesame' -f rsa; ssh-keygen -q -t rsa -b 2048 -N '' -f bare");
    // age itself asks at a terminal alone.
    for (name, more) in [("armored.age", "-a"), ("binary.age", "")] {
        at_a_terminal(&safe, &format!("age -p {more} -o {name} plain.txt"), &["open sesame"; 2]).exits(0);
    }
    let public = |name: &str| safe.read(&format!("{name}.pub")).trim().to_owned();
    recipients(&safe, &[&plain, &public("ed"), &public("rsa"), &public("bare")]);
    back_up(&safe, "first");
    recipients(&safe, &[&public("rsa"), &public("ed"), &plain]);
    back_up(&safe, "second");
    safe.write("right", "open sesame\n");
    safe.write("wrong", "open says me\n");
    for name in ["ed", "rsa", "armored.age", "binary.age"] {
        // Two epochs, asked once: by a file that has the one line, through a descriptor, and at a terminal.
        run(&mut with(&safe, name, &["keys", "check", "--passphrase-file", &safe.text("right")])).exits(0);
        let shell = format!(
            "nightsafe restore files:{} --target {}/back --identity {name} --passphrase-file /dev/fd/3 3<right",
            safe.text("source"),
            safe.dir.display()
        );
        let _ = std::fs::remove_dir_all(safe.at("back"));
        safe.sh(&shell);
        assert_eq!(safe.read("back/file"), "second");
        let asked = at_a_terminal(&safe, &format!("nightsafe keys check --identity {name}"), &["open sesame"]);
        assert_eq!(asked.stdout.matches("Passphrase of the").count(), 1, "{asked}");
        assert!(asked.code == Some(0) && asked.stdout.contains(name) && !asked.stdout.contains("sesame"), "{asked}");
        // Nobody there, and the wrong one.
        restore(&safe, name, &[]).exits(1).says(&["was not given", name, "--passphrase-file"]);
        restore(&safe, name, &["--passphrase-file", &safe.text("wrong")]).exits(1).says(&["not the passphrase", name]);
    }
    // A key that opens without being asked for anything is taken first, and a locked one that it is not for is let alone.
    run(&mut with(&safe, "ed", &["keys", "check", "--identity", &safe.text("ed"), "--identity", &safe.text("plain.txt")])).exits(0);
    let (code, epochs) = check(&safe, "bare", &[]);
    assert_eq!((code, opens(&epochs)), (Some(3), vec![true, false]));
    // age and age-keygen read what we sealed, and ssh keys too.
    for (name, command) in [("plain.txt", "age -d -i plain.txt"), ("bare", "age -d -i bare")] {
        let snapshot = &snapshots(&safe)[0];
        let epoch = safe.sh(&format!(
            "head -n1 node/data/web1/snapshots/{snapshot}/manifest | jq -r .epoch.key_file | base64 -d | {command} | age-keygen -y"
        ));
        assert_eq!(epoch.trim(), epochs[0]["epoch"].as_str().unwrap(), "{name}");
    }
}

/// The folder with our own plugin of age.
fn plugins() -> PathBuf {
    // This program is target/PROFILE/deps/it-HASH. `cargo test --test it` does not build examples by itself.
    let profile = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--offline", "--locked", "-p", "tests", "--example", "age-plugin-tally"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.current_dir(source_root()).status().unwrap().success(), "the plugin does not build");
    profile.join("examples")
}

#[test]
fn a_hardware_key_is_touched_once_an_epoch() {
    let safe = Loopback::start();
    let path = format!("{}:{}:/usr/bin:/bin", bin().display(), plugins().display());
    let made = run(safe.command("age-plugin-tally").env("PATH", &path)).exits(0);
    safe.write("tally.txt", &made.stdout);
    let key = made.stdout.lines().find_map(|line| line.strip_prefix("# recipient: ")).unwrap().to_owned();
    let other = age_key(&safe, "other.txt");
    let tally = |args: &[&str]| {
        let mut command = with(&safe, "tally.txt", args);
        command.env("PATH", &path).env("TALLY_LOG", safe.at("log"));
        command
    };
    let send = |dataset: &str| {
        safe.client(&["submit", "files", dataset]).exits(0);
        run(tally(&["send"]).env("TALLY_LOG", "/dev/null")).silent();
        safe.node(&["poll"]).silent();
        safe.client(&["send"]).silent();
    };
    std::fs::write(safe.at("source/file"), "secret").unwrap();
    let source = safe.text("source");
    recipients(&safe, &[&key]);
    // Without the plugin nothing can be sealed, and that is said; cron's path is short.
    safe.client(&["submit", "files", &source]).exits(0);
    safe.client(&["send"]).exits(1).says(&["age-plugin-tally", "search path"]);
    run(&mut tally(&["config", "check"])).says(&["One recipient can"]);
    safe.client(&["config", "check"]).exits(2).says(&["age-plugin-tally"]);
    for _ in 0..3 {
        send(&source);
    }
    recipients(&safe, &[&other, &key]);
    for _ in 0..2 {
        send(&source);
    }
    // Within an epoch the plugin is not needed any more.
    safe.back_up("files", &source);
    run(&mut tally(&["keys", "check"])).exits(0);
    assert_eq!(safe.read("log").lines().count(), 2, "two epochs, six snapshots");
    let target = safe.text("back");
    run(&mut tally(&["restore", &format!("files:{source}"), "--target", &target])).exits(0);
    assert_eq!(safe.read("log").lines().count(), 3);
    assert_eq!(safe.read("back/file"), "secret");
    // A PIN is asked for in the plugin's name; a plugin that fails is quoted.
    let listing = ["ls", &format!("files:{source}"), "--passphrase-file", &safe.text("pin")];
    safe.write("pin", "1234\n");
    run(tally(&listing).env("TALLY_PIN", "1234")).exits(0);
    run(tally(&listing).env("TALLY_PIN", "4321")).exits(1).says(&["age-plugin-tally", "wrong PIN"]);
    run(tally(&listing[..2]).env("TALLY_FAILS", "no key is plugged in")).exits(1).says(&["no key is plugged in"]);
    safe.client(&["ls", &format!("files:{source}"), "--identity", &safe.text("tally.txt")])
        .exits(2)
        .says(&["age-plugin-tally", "search path"]);
    // With a second key beside it, that one opens without a touch.
    run(&mut tally(&["ls", &format!("files:{source}"), "--identity", &safe.text("other.txt"), "--identity", &safe.text("tally.txt")]))
        .exits(0);
    assert_eq!(safe.read("log").lines().count(), 4);
    // The programs of age read it with the same plugin, and a key file can be made for the plugin.
    let snapshot = &snapshots(&safe)[0];
    let by_age = format!(
        "head -n1 node/data/web1/snapshots/{snapshot}/manifest | jq -r .epoch.key_file | base64 -d | age -d -i tally.txt | age-keygen -y"
    );
    assert!(run(safe.command("sh").env("PATH", &path).args(["-c", &by_age])).ok().starts_with("age1"));
}
