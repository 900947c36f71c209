//! Signatures against OpenSSH's own program, and commits that must not be read.

use super::*;
use proptest::prelude::*;
use ssh_key::private::{Ed25519Keypair, KeypairData};

/// A signer whose key follows from `seed`.
pub(crate) fn signer(seed: u8) -> Signer {
    let pair = Ed25519Keypair::from_seed(&[seed; 32]);
    let key = PrivateKey::new(KeypairData::Ed25519(pair), "somebody").unwrap();
    Signer { public: bare(key.public_key()), by: By::Key(Box::new(key)) }
}

pub(crate) const HEAD: &str =
    "author web1 <web1@nightsafe.invalid> 1763608500 +0000\ncommitter web1 <web1@nightsafe.invalid> 1763608500 +0000";

/// A raw commit signed by `signer`.
pub(crate) fn commit(tree: &str, signer: &Signer) -> Vec<u8> {
    let payload = format!("tree {tree}\n{HEAD}\n\nwords\n");
    with_signature(&payload, &signer.sign(payload.as_bytes()).unwrap()).unwrap()
}

const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

fn run(program: &str, args: &[&str], input: Option<&Path>) -> std::process::Output {
    let mut command = base::process::command(program);
    command.args(args);
    if let Some(input) = input {
        command.stdin(File::open(input).unwrap());
    }
    base::process::run(command, 1 << 20, Duration::from_secs(60)).unwrap()
}

fn key_file(folder: &Path, name: &str, kind: &[&str], passphrase: &str) -> PathBuf {
    let path = folder.join(name);
    let mut args = vec!["-q", "-N", passphrase, "-C", "a comment", "-f", path.to_str().unwrap()];
    args.extend(kind);
    let output = run("ssh-keygen", &args, None);
    assert!(output.status.success(), "{output:?}");
    path
}

#[test]
fn every_kind_of_key_agrees_with_ssh_keygen() {
    let dir = tempfile::tempdir().unwrap();
    let kinds: [(&str, &[&str]); 3] =
        [("ed", &["-t", "ed25519"]), ("ec", &["-t", "ecdsa", "-b", "256"]), ("rsa", &["-t", "rsa", "-b", "2048"])];
    let payload = format!("tree {TREE}\n{HEAD}\n\nwords\n");
    let message = dir.path().join("payload");
    std::fs::write(&message, &payload).unwrap();
    for (name, kind) in kinds {
        let path = key_file(dir.path(), name, kind, "");
        let signer = Signer::from_file(&path).unwrap();
        let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        assert_eq!(*signer.public(), parse_public_key(&public).unwrap());
        // Ours, read by theirs.
        let armored = signer.sign(payload.as_bytes()).unwrap();
        let (signature, signers) = (dir.path().join("sig"), dir.path().join("signers"));
        std::fs::write(&signature, &armored).unwrap();
        std::fs::write(&signers, format!("web1 namespaces=\"git\" {public}")).unwrap();
        let args = ["-Y", "verify", "-n", "git", "-I", "web1", "-f", signers.to_str().unwrap(), "-s", signature.to_str().unwrap()];
        let output = run("ssh-keygen", &args, Some(&message));
        assert!(output.status.success(), "{name}: {output:?}");
        // Theirs, read by ours.
        let output = run("ssh-keygen", &["-q", "-Y", "sign", "-n", "git", "-f", path.to_str().unwrap()], Some(&message));
        let theirs = String::from_utf8(output.stdout).unwrap();
        let read = read_commit(&with_signature(&payload, &theirs).unwrap()).unwrap();
        assert_eq!(read.key, *signer.public());
        assert_eq!((read.tree.as_str(), read.time, read.message.as_str()), (TREE, 1_763_608_500, "words\n"));
        // Another namespace.
        let output = run("ssh-keygen", &["-q", "-Y", "sign", "-n", "file", "-f", path.to_str().unwrap()], Some(&message));
        let other = String::from_utf8(output.stdout).unwrap();
        let error = read_commit(&with_signature(&payload, &other).unwrap()).unwrap_err();
        assert!(error.one_line().contains("not for git"), "{}", error.one_line());
    }
}

#[test]
fn keys_that_cannot_be_used_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let hint = |path: &Path| Signer::from_file(path).unwrap_err().render();
    let locked = key_file(dir.path(), "locked", &["-t", "ed25519"], "secret");
    assert!(hint(&locked).contains("ssh-add") && hint(&locked).contains("--admin-key"), "{}", hint(&locked));
    let old = key_file(dir.path(), "old", &["-t", "rsa", "-b", "2048", "-m", "PEM"], "");
    assert!(hint(&old).contains("ssh-keygen -p"), "{}", hint(&old));
    let short = key_file(dir.path(), "short", &["-t", "rsa", "-b", "1024"], "");
    assert!(hint(&short).contains("2048"), "{}", hint(&short));
    let large = key_file(dir.path(), "large", &["-t", "ecdsa", "-b", "521"], "");
    assert!(hint(&large).contains("ed25519"), "{}", hint(&large));
    let open = key_file(dir.path(), "open", &["-t", "ed25519"], "");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(hint(&open).contains("chmod 600"), "{}", hint(&open));
    assert!(hint(&dir.path().join("absent")).contains("absent"));
    assert!(hint(&open.with_extension("pub")).contains("every user"));
    for bad in [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-dss AAAAB3NzaC1kc3M=",
        "-----BEGIN",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti x\nssh-ed25519 AAAA",
    ] {
        assert!(parse_public_key(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_agent_signs() {
    let dir = tempfile::tempdir().unwrap();
    let path = key_file(dir.path(), "key", &["-t", "ed25519"], "");
    let socket = dir.path().join("socket");
    let mut agent = base::process::command("ssh-agent");
    agent.args(["-D", "-a"]).arg(&socket).stdout(std::process::Stdio::null());
    let _agent = base::process::Running(agent.spawn().unwrap());
    for _ in 0..500 {
        if socket.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut add = base::process::command("ssh-add");
    add.arg("-q").arg(&path).env("SSH_AUTH_SOCK", &socket);
    base::process::run_ok(add, 1000, Duration::from_secs(10)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let signer = Signer::from_agent_at(&path.with_extension("pub"), Some(&socket)).unwrap();
    let raw = commit(TREE, &signer);
    assert_eq!(read_commit(&raw).unwrap().key, *signer.public());
    let error = Signer::from_agent(&path.with_extension("pub")).unwrap().sign(b"x").unwrap_err();
    assert!(error.render().contains("SSH_AUTH_SOCK"), "{}", error.render());
}

#[test]
fn commits_that_are_not_read() {
    let signer = signer(1);
    let good = String::from_utf8(commit(TREE, &signer)).unwrap();
    read_commit(good.as_bytes()).unwrap();
    let signature = {
        let start = good.find("gpgsig ").unwrap();
        &good[start..good.find("\n\n").unwrap()]
    };
    let mut table: Vec<(&str, String)> = vec![
        ("no signature", good.replace(&format!("\n{signature}"), "")),
        ("two signatures", good.replace(signature, &format!("{signature}\n{signature}"))),
        (
            "a second signature of another kind",
            good.replace(signature, &format!("{signature}\n{}", signature.replacen("gpgsig", "gpgsig-sha256", 1))),
        ),
        ("only the other kind", good.replacen("gpgsig ", "gpgsig-sha256 ", 1)),
        ("the other kind before it", good.replacen("gpgsig ", "gpgsig-sha256 x\ngpgsig ", 1)),
        ("an encoding", good.replacen("\ngpgsig ", "\nencoding ISO-8859-1\ngpgsig ", 1)),
        ("an encoding behind", good.replacen("\n\n", "\nencoding ISO-8859-1\n\n", 1)),
        ("a merged tag", good.replacen("\ngpgsig ", "\nmergetag object x\ngpgsig ", 1)),
        ("no tree", good.replacen("tree ", "tre ", 1)),
        ("two trees", good.replacen("tree ", &format!("tree {TREE}\ntree "), 1)),
        ("a short tree", good.replacen("tree 4b", "tree 4", 1)),
        ("a tree in capitals", good.replacen("tree 4b825dc", "tree 4B825DC", 1)),
        ("a parent behind the author", good.replacen("\ncommitter", &format!("\nparent {TREE}\ncommitter"), 1)),
        ("another parent", good.replacen("\nauthor", &format!("\nparent {TREE}\nauthor"), 1)),
        ("two authors", good.replacen("author web1", "author web2 <a@b> 1 +0000\nauthor web1", 1)),
        ("no time", good.replacen(" 1763608500 +0000\ncommitter", "\ncommitter", 1)),
        ("another message", good.replacen("words", "other words", 1)),
        ("a message with more", format!("{good}\n")),
        ("a zero byte", good.replacen("words", "wor\0ds", 1)),
        ("an escape in the name", good.replacen("author web1", "author \u{1b}[2J", 1)),
        (
            "a signature of another",
            good.replace(signature, &{
                let other = String::from_utf8(commit(&TREE.replace('4', "5"), &signer)).unwrap();
                other[other.find("gpgsig ").unwrap()..other.find("\n\n").unwrap()].to_owned()
            }),
        ),
        ("a line of the signature missing", {
            let lines: Vec<_> = good.lines().collect();
            let at = lines.iter().position(|line| line.starts_with("gpgsig ")).unwrap();
            lines.iter().enumerate().filter(|(n, _)| *n != at + 2).map(|(_, line)| format!("{line}\n")).collect()
        }),
        ("far too long", good.replacen("words", &"w".repeat(COMMIT_LIMIT), 1)),
    ];
    for (place, _) in good.char_indices() {
        table.push(("cut off", good[..place].to_owned()));
    }
    for (what, text) in table {
        assert_ne!(text, good, "{what}");
        assert_eq!(read_commit(text.as_bytes()).map_err(|error| error.kind()).unwrap_err(), base::Kind::Refused, "{what}: {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_flipped_byte_is_read(place in 0usize..800, bit in 0u8..8) {
        let good = commit(TREE, &signer(1));
        let mut bad = good.clone();
        let place = place % bad.len();
        bad[place] ^= 1 << bit;
        // A byte of the armor's own white space may mean nothing; the commit's id differs all the same.
        if let Ok(read) = read_commit(&bad) {
            prop_assert_eq!(read.signed_payload, read_commit(&good).unwrap().signed_payload);
            prop_assert_eq!(read.key, signer(1).public().clone());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(text in "(tree |parent |author |gpgsig |[0-9a-f]{40}|a <b> 1 \\+0000|\n| |-){0,30}") {
        let _ = read_commit(text.as_bytes());
    }
}
