//! The forced command: what each key cannot do, tried with plain ssh against the real gate.

use crate::harness::{Loopback, Run, run};
use std::os::unix::ffi::OsStrExt;

/// What no key may run, whosever it is. `MARKER` is a file that must not come to be.
const EVERYBODY: &[&str] = &[
    "sh",
    "/bin/sh",
    "bash -i",
    "id",
    "scp -t /tmp",
    "rsync --server . /",
    "/usr/lib/openssh/sftp-server",
    "internal-sftp",
    "git-upload-archive 'queue'",
    "git upload-pack 'queue'",
    "git-upload-pack queue",
    "git-upload-pack \"queue\"",
    "git-upload-pack  'queue'",
    "git-upload-pack 'queue' ",
    "git-upload-pack",
    "git-upload-pack ''",
    "git-upload-pack '/'",
    "git-upload-pack '../queue'",
    "git-upload-pack 'queue/../admin'",
    "git-upload-pack '--help'",
    "git-upload-pack 'queue' '--help'",
    "git-receive-pack 'web1/queue'",
    "git-receive-pack 'queue.git'",
    "git-receive-pack 'queuе'",
    "git-receive-pack 'queue\\''",
    "receipts-wait",
    "receipts-wait x",
    "receipts-wait ../../../../etc/passwd",
    "PING",
    "ping ",
    "ping\t",
    "nightsafe-gate --config /tmp/x client web2",
    "env LD_PRELOAD=/tmp/x.so ping",
    "touch MARKER",
    "ping; touch MARKER",
    "ping\ntouch MARKER",
    "ping\r\ntouch MARKER",
    "ping && touch MARKER",
    "git-upload-pack 'queue'; touch MARKER",
    "git-upload-pack '`touch MARKER`'",
    "git-upload-pack '$(touch MARKER)'",
    "git-upload-pack --upload-pack='touch MARKER' 'queue'",
];

/// What a client's key may not run besides; `MIRROR` is a mirror of its own, `DIR` the installation's folder.
const CLIENT: &[&str] = &[
    "sftp",
    "list",
    "git-receive-pack 'receipts'",
    "git-upload-pack 'admin'",
    "git-receive-pack 'admin'",
    "git-upload-pack 'web1/mirrors/MIRROR'",
    "git-upload-pack 'web1/log'",
    "git-upload-pack 'web2/receipts'",
    "git-upload-pack 'DIR/node/data/log/web1.git'",
];

const RESTORER: &[&str] = &[
    "git-upload-pack 'queue'",
    "git-receive-pack 'queue'",
    "git-upload-pack 'admin'",
    "git-receive-pack 'web1/mirrors/MIRROR'",
    "git-upload-pack 'web2/log'",
    "git-upload-pack 'web1/../web1/log'",
    "git-upload-pack 'web2/mirrors/MIRROR'",
    "git-upload-pack 'log'",
];

const ADMIN: &[&str] = &["git-upload-pack 'queue'", "sftp", "list", "git-upload-pack 'web1/log'"];

const NODE: &[&str] = &[
    "list",
    "git-upload-pack '/etc'",
    "git-receive-pack 'DIR/source/p.git'",
    "git-upload-pack 'DIR/node/data/log/web1.git'",
    "git-upload-pack 'DIR/source/../node/data/log/web1.git'",
    "git-upload-pack 'DIR/source/../admin'",
];

/// What a client asks of sshd beside a command.
const SESSIONS: [&str; 6] =
    ["a shell", "bytes that are no text", "5,000 letters", "a connection elsewhere", "a port that is listened on", "variables"];

/// The cases of a client's key.
pub const COUNT: usize = EVERYBODY.len() + CLIENT.len() + SESSIONS.len();

/// Keys of every kind against commands that no key of that kind may run: each is refused, and noted with its owner's name.
#[test]
fn no_key_opens_more_than_its_own_verbs() {
    let safe = Loopback::start();
    safe.sh("git init -q --bare source/p.git");
    safe.back_up("git", &safe.text("source/p.git"));
    let mirror = safe.names("node/data/web1/mirrors").into_iter().find(|name| name.ends_with(".git")).unwrap();
    safe.edit("client.toml", "module = \"git\"\nunder = \"/\"", &format!("module = \"git\"\nunder = \"{}\"", safe.text("source")));
    let marker = safe.text("marker");
    for (key, owner, log, own) in [
        ("client/id_ed25519", "client web1", "node/gate/gate.log", CLIENT),
        ("restorer/id_ed25519", "restorer carol", "node/gate/gate.log", RESTORER),
        ("admin/id_ed25519", "admin alice", "node/gate/gate.log", ADMIN),
        ("node/pull", "export node1", "client/gate.log", NODE),
    ] {
        let (noted, who) = (|| safe.read(log).lines().count(), format!(" {owner} from 127.0.0.1: "));
        let shell = safe.ssh(key, None);
        assert!(shell.code != Some(0) && shell.stdout.is_empty(), "{key} opened a shell: {shell}");
        for command in EVERYBODY.iter().chain(own) {
            let command = command
                .replace("MARKER", &marker)
                .replace("MIRROR", mirror.trim_end_matches(".git"))
                .replace("DIR", safe.dir.to_str().unwrap());
            let before = noted();
            let tried = safe.ssh(key, Some(&command));
            assert!(tried.code != Some(0) && tried.stdout.is_empty(), "{key} may run {command:?}: {tried}");
            let log = safe.read(log);
            assert!(
                log.lines().count() == before + 1 && log.lines().next_back().unwrap().contains(&who),
                "{command:?} is not noted: {tried}\n{log}"
            );
        }
    }
    assert!(!safe.at("marker").exists());
    safe.back_up("git", &safe.text("source/p.git"));
}

#[test]
fn what_a_session_could_carry_is_closed() {
    let safe = Loopback::start();
    let port = safe.port();
    let tried = |what: &str, options: &[&str], command: &[&[u8]]| -> Run {
        assert!(SESSIONS.contains(&what));
        let mut ssh = safe.ssh_command("client/id_ed25519");
        ssh.args(options).env("LD_PRELOAD", "").env("GIT_TRACE", safe.at("trace")).env("GIT_PROTOCOL", "version=2:evil");
        run(ssh.arg(safe.login()).args(command.iter().map(|word| std::ffi::OsStr::from_bytes(word))))
    };
    let refused = |what: &str, command: &[&[u8]], word: &str| {
        let done = tried(what, &[], command);
        assert!(done.code == Some(4) && done.stdout.is_empty(), "{what}: {done}");
        assert!(
            safe.read("node/gate/gate.log").lines().next_back().is_some_and(|line| line.contains("client web1") && line.contains(word)),
            "{what}"
        );
    };
    refused("a shell", &[], "opens no shell");
    refused("bytes that are no text", &[b"ping\xff\xfe"], "not UTF-8");
    refused("5,000 letters", &["x".repeat(5000).as_bytes()], "too long");
    // -W asks sshd for a connection to itself, which would carry one anywhere else as well.
    let forwarded = tried("a connection elsewhere", &["-W", &format!("127.0.0.1:{port}")], &[]);
    assert!(forwarded.code != Some(0) && !forwarded.stdout.contains("SSH-2.0"), "{forwarded}");
    let listening =
        tried("a port that is listened on", &["-o", "ExitOnForwardFailure=yes", "-R", &format!("0:127.0.0.1:{port}")], &[b"ping"]);
    assert!(listening.code != Some(0) && listening.stdout.is_empty(), "{listening}");
    tried("variables", &["-o", "SendEnv=GIT_*", "-o", "SendEnv=LD_PRELOAD"], &[b"ping"]).exits(0).says(&["nightsafe-gate", "client web1"]);
    assert!(!safe.at("trace").exists());
}
