//! Keys, requests and runs of the git program.

use base::{Dataset, Name, Payload, Reason, RequestId};
use queue::{PublicKey, Request, Signer};
use ssh_key::private::{Ed25519Keypair, KeypairData, PrivateKey};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// A signer whose key follows from `seed`, through a file as users have it.
pub fn signer(folder: &Path, seed: u8) -> Signer {
    let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "somebody").unwrap();
    let path = folder.join(format!("key-{seed}"));
    std::fs::write(&path, key.to_openssh(ssh_key::LineEnding::LF).unwrap().as_bytes()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Signer::from_file(&path).unwrap()
}

pub fn public(key: &PublicKey) -> String {
    key.to_openssh().unwrap()
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn id(number: u64) -> RequestId {
    format!("20261120T031500Z-{number:08x}").parse().unwrap()
}

/// Request number `seq` of web1 to node1.
pub fn request(seq: u64, dataset: &str) -> Request {
    Request {
        id: id(seq),
        client: name("web1"),
        node: name("node1"),
        dataset: dataset.parse::<Dataset>().unwrap(),
        seq,
        prev: None,
        submitted: "2026-11-20T03:15:00Z".parse().unwrap(),
        by: "alice".into(),
        reason: Reason::Manual,
        tags: vec![],
        payload: Payload::Nothing,
        repairs: Vec::new(),
        group: None,
    }
}

/// The files of a commit that carries `requests`.
pub fn files(requests: &[Request]) -> Vec<(String, Vec<u8>)> {
    requests.iter().map(|request| (request.file_name(), request.to_toml())).collect()
}

/// A signed commit of a tree that git makes from `entries` (`MODE TYPE OID\tNAME` lines), on `parents`.
pub fn signed_commit(repository: &Path, entries: &str, parents: &[&str], signer: &Signer) -> String {
    let tree = git_with(repository, &["mktree", "--missing"], entries);
    let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
    let who = "web1 <web1@nightsafe.invalid> 1763608500 +0000";
    let head = format!("tree {tree}\n{parents}author {who}\ncommitter {who}");
    let signature = signer.sign(format!("{head}\n\nwords\n").as_bytes()).unwrap();
    let raw = format!("{head}\ngpgsig {}\n\nwords\n", signature.trim_end().replace('\n', "\n "));
    git_with(repository, &["hash-object", "-w", "-t", "commit", "--stdin"], &raw)
}

/// What git says to `input`, without the line end.
pub fn git_with(folder: &Path, args: &[&str], input: &str) -> String {
    let file = folder.join("input");
    std::fs::write(&file, input).unwrap();
    let mut command = base::process::command("git");
    command.arg("-C").arg(folder).args(args).stdin(std::fs::File::open(file).unwrap());
    String::from_utf8(base::process::run_ok(command, 1 << 20, Duration::from_secs(60)).unwrap()).unwrap().trim_end().to_owned()
}

/// Plain git, with no configuration but what is given.
pub fn git(folder: &Path, args: &[&str]) -> Output {
    let mut command = base::process::command("git");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").arg("-C").arg(folder).args(args);
    base::process::run(command, 16 << 20, Duration::from_secs(120)).unwrap()
}

/// As [`git`]; must succeed. What it says on stdout, and nothing on stderr.
pub fn git_ok(folder: &Path, args: &[&str]) -> String {
    let output = git(folder, args);
    assert!(output.status.success(), "git {args:?}: {output:?}");
    assert!(output.stderr.is_empty(), "git {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
