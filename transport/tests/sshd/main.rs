//! The crate against a real sshd: commands, sftp, git, and what must fail.
//!
//! Each test has an sshd of its own on a free loopback port, in a temporary folder.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod server;

use base::{Kind, ReadAt, Silent};
use server::Server;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use transport::{Endpoint, FetchOutcome, GitFetch, Peer, PushOutcome};

const TIME: Duration = Duration::from_secs(60);

fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        })
        .collect()
}

#[test]
fn commands_share_one_login() {
    let server = Server::start();
    let peer = server.peer();
    let before = Instant::now();
    for word in ["one", "two", "three"] {
        assert_eq!(peer.exec(&format!("echo {word}"), 100, TIME).unwrap(), format!("{word}\n").as_bytes());
    }
    // Nobody waits for the connection that stays open behind.
    assert!(before.elapsed() < Duration::from_secs(30));
    assert_eq!(server.logins(), 1);
    let failed = peer.exec("echo the words >&2; exit 3", 100, TIME).unwrap_err();
    assert!(failed.kind() == Kind::Failed && failed.one_line().contains("the words"), "{}", failed.one_line());
    assert!(peer.exec("echo a\nb", 100, TIME).is_err());
    assert_eq!(peer.exec("sleep 30", 100, Duration::from_millis(300)).unwrap_err().kind(), Kind::NotNow);
    assert!(peer.exec("yes", 1000, TIME).is_err());
    peer.close().unwrap();
    peer.exec("echo again", 100, TIME).unwrap();
    assert_eq!(server.logins(), 2);
    peer.stream_beside("true").unwrap().finish(TIME).unwrap();
    assert_eq!(server.logins(), 3);
}

#[test]
fn a_stream_has_both_pipes() {
    let server = Server::start();
    let mut stream = server.peer().stream("cat; echo end >&2; exit 0").unwrap();
    stream.stdin.take().unwrap().write_all(b"through").unwrap();
    let mut got = String::new();
    stream.stdout.take().unwrap().read_to_string(&mut got).unwrap();
    assert_eq!(got, "through");
    stream.finish(TIME).unwrap();
    let stream = server.peer().stream("echo why >&2; exit 4").unwrap();
    assert!(stream.finish(TIME).unwrap_err().one_line().contains("why"));
}

#[test]
fn another_host_key_is_refused_and_a_silent_port_is_not_now() {
    let server = Server::start();
    let mut endpoint = server.endpoint();
    endpoint.host_key = server.other_key();
    let error = Peer::new(endpoint).unwrap().exec("echo x", 100, TIME).unwrap_err();
    assert!(error.kind() == Kind::Refused && error.render().contains("host_key"), "{}", error.render());
    let mut endpoint = server.endpoint();
    endpoint.address.port = Some(server::free_port());
    let error = Peer::new(endpoint.clone()).unwrap().exec("echo x", 100, TIME).unwrap_err();
    assert_eq!(error.kind(), Kind::NotNow, "{}", error.one_line());
    assert_eq!(Peer::new(endpoint).unwrap().sftp().unwrap_err().kind(), Kind::NotNow);
    let mut endpoint = server.endpoint();
    endpoint.key = server.folder().join("other");
    let error = Peer::new(endpoint).unwrap().exec("echo x", 100, TIME).unwrap_err();
    assert!(error.kind() == Kind::NotNow && error.render().contains("not listed"), "{}", error.render());
}

#[test]
fn files_come_over_whole_and_in_order() {
    let server = Server::start();
    let peer = server.peer();
    let sftp = peer.sftp().unwrap();
    for size in [0, 1, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 64 * 32 * 1024, 9_000_001] {
        let bytes = noise(size);
        std::fs::write(server.files().join("f"), &bytes).unwrap();
        let mut got = Vec::new();
        assert_eq!(sftp.pull("f", size as u64, &mut got, &Silent).unwrap(), size as u64);
        assert!(got == bytes, "{size}");
        assert!(sftp.read("f", size).unwrap() == bytes);
        for wrong in [size as u64 + 1, (size as u64).wrapping_sub(1)] {
            assert_eq!(sftp.pull("f", wrong, &mut Vec::new(), &Silent).unwrap_err().kind(), Kind::Refused);
        }
    }
    assert_eq!(sftp.read("f", 9_000_000).unwrap_err().kind(), Kind::Refused);
    assert_eq!(sftp.try_pull("absent", 5, &mut Vec::new(), &Silent).unwrap(), None);
    assert_eq!(sftp.read("absent", 5).unwrap_err().kind(), Kind::Failed);
    // The session goes on after such errors.
    assert_eq!(sftp.read("f", 9_000_001).unwrap().len(), 9_000_001);
    // A sink that is full is our trouble, not the peer's.
    let error = sftp.pull("f", 9_000_001, &mut &mut [0u8; 10][..], &Silent).unwrap_err();
    assert!(error.one_line().contains("write"), "{}", error.one_line());
}

#[test]
fn a_remote_file_is_read_at_offsets_from_several_threads() {
    let server = Server::start();
    let bytes = noise(3_000_000);
    std::fs::write(server.files().join("f"), &bytes).unwrap();
    let file = server.peer().sftp().unwrap().open("f").unwrap();
    assert_eq!(file.size().unwrap(), 3_000_000);
    std::thread::scope(|scope| {
        for (offset, length) in [(0usize, 10usize), (999_999, 1_500_000), (2_999_990, 100), (3_000_000, 10), (9_000_000, 1)] {
            let (file, bytes) = (&file, &bytes);
            scope.spawn(move || {
                let mut buffer = vec![0; length];
                let n = file.read_at(offset as u64, &mut buffer).unwrap();
                let expected = bytes.get(offset..(offset + length).min(bytes.len())).unwrap_or_default();
                assert!(&buffer[..n] == expected, "{offset}");
            });
        }
    });
}

#[test]
fn a_session_that_dies_is_told_from_a_file_that_cannot_be_read() {
    let server = Server::start();
    std::fs::write(server.files().join("f"), noise(3_000_000)).unwrap();
    std::fs::write(server.files().join("liar"), "echo $$ >pid; exec /usr/lib/openssh/sftp-server -R").unwrap();
    let file = server.peer().sftp().unwrap().open("f").unwrap();
    assert_eq!(file.read_at(0, &mut [0; 10]).unwrap(), 10);
    let pid = std::fs::read_to_string(server.files().join("pid")).unwrap();
    std::process::Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap();
    // Once in the middle of it, and ever after.
    for _ in 0..2 {
        let error = file.read_at(0, &mut vec![0; 3_000_000]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted, "{error}");
    }
}

#[test]
fn a_peer_that_lies_ends_with_an_error() {
    let server = Server::start();
    let version = r"\000\000\000\005\002\000\000\000\003";
    // No sftp at all; a packet without end; an answer nobody asked for; silence after the greeting; a hang-up.
    for said in [
        r"hello, this is a shell\n",
        r"\377\377\377\377\002",
        &format!(r"{version}\000\000\000\005\147\000\000\000\001"),
        &format!(r"{version}\000\000\000\004\145"),
        version,
        "",
    ] {
        std::fs::write(server.files().join("liar"), format!("printf '{said}'; sleep 1.2")).unwrap();
        let peer = server.peer();
        let before = Instant::now();
        let result = peer.sftp_for(Duration::from_secs(1)).and_then(|sftp| sftp.read("f", 100));
        assert!(result.is_err(), "{said}");
        assert!(before.elapsed() < Duration::from_secs(20), "{said}");
    }
}

#[test]
fn git_pushes_and_fetches() {
    let server = Server::start();
    let peer = server.peer();
    let (ours, theirs) = (server.folder().join("ours"), server.files().join("the queue.git"));
    server::git(&["init", "-q", "--bare", theirs.to_str().unwrap()]);
    let first = server::repository(&ours);
    let push = |from: &str| peer.git_push(&ours, "the queue.git", &format!("{from}:refs/heads/requests"));
    assert_eq!(push(&first).unwrap(), PushOutcome::Accepted);
    assert_eq!(push(&first).unwrap(), PushOutcome::Accepted);
    let second = server::commit(&ours, "two");
    let hook = theirs.join("hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho 'not today' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let PushOutcome::Refused(words) = push(&second).unwrap() else { panic!("the hook said no") };
    assert!(words.contains("not today") && words.contains("declined"), "{words}");
    std::fs::remove_file(&hook).unwrap();
    assert_eq!(push(&second).unwrap(), PushOutcome::Accepted);
    let PushOutcome::Refused(words) = push(&first).unwrap() else { panic!("not a fast-forward") };
    assert!(words.contains("rejected"), "{words}");
    assert_eq!(peer.git_push(&ours, "absent.git", &format!("{first}:refs/heads/a")).unwrap_err().kind(), Kind::NotNow);
    let listed = String::from_utf8(peer.git_ls_remote("the queue.git", 10_000, TIME).unwrap()).unwrap();
    assert!(listed.contains(&format!("{second}\trefs/heads/requests")), "{listed}");

    let copy = server.folder().join("copy.git");
    server::git(&["init", "-q", "--bare", copy.to_str().unwrap()]);
    let refspecs = [format!("{first}:refs/a/first"), format!("{second}:refs/a/second")];
    // Protocol v2 serves ids that are no tips.
    peer.git_fetch(&copy, "the queue.git", &refspecs, GitFetch::default()).unwrap();
    assert_eq!(server::git(&["-C", copy.to_str().unwrap(), "rev-parse", "refs/a/first", "refs/a/second"]), format!("{first}\n{second}\n"));
    let gone = [format!("{}:refs/a/gone", "1".repeat(40))];
    assert!(matches!(peer.git_try_fetch(&copy, "the queue.git", &gone, GitFetch::default()).unwrap(), FetchOutcome::Gone(_)));
    let error = peer.git_fetch(&copy, "the queue.git", &gone, GitFetch::default()).unwrap_err();
    assert!(error.one_line().contains(&"1".repeat(40)), "{}", error.one_line());
    assert!(peer.git_fetch(&copy, "--upload-pack=touch x", &gone, GitFetch::default()).is_err());
    std::fs::write(ours.join("large"), noise(300_000)).unwrap();
    let large = server::commit(&ours, "large");
    assert_eq!(push(&large).unwrap(), PushOutcome::Accepted);
    let limit = GitFetch { file_limit: Some(100_000), ..GitFetch::default() };
    let outcome = peer.git_try_fetch(&copy, "the queue.git", &[format!("{large}:refs/a/large")], limit).unwrap();
    assert!(matches!(outcome, FetchOutcome::Unfit(_)), "{outcome:?}");
    assert_eq!(server.logins(), 1);
}

/// A backup takes history that today's git would not write; what no honest program ever wrote it does not take.
#[test]
fn old_history_is_fetched() {
    let server = Server::start();
    let peer = server.peer();
    let theirs = server.files().join("old.git");
    let theirs = theirs.to_str().unwrap();
    server::git(&["init", "-q", "--bare", theirs]);
    let file = server.folder().join("object");
    let write = |kind: &str, bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        server::git(&["-C", theirs, "hash-object", "-w", "--literally", "-t", kind, file.to_str().unwrap()]).trim().to_owned()
    };
    let entry = |name: &str, mode: &str, id: &str| {
        let id = (0..20).map(|n| u8::from_str_radix(&id[2 * n..2 * n + 2], 16).unwrap());
        format!("{mode} {name}\0").into_bytes().into_iter().chain(id).collect::<Vec<u8>>()
    };
    let (blob, empty) = (write("blob", b"x"), write("tree", b""));
    let long = write("blob", &[b"a".repeat(3000), b" text\n".to_vec()].concat());
    let module = write("blob", b"[submodule \"x\"]\n\turl = -u./p\n\tpath = x\n");
    let trees = [
        (true, [entry("a", "100644", &blob), entry("a", "100644", &blob)].concat()),
        (true, [entry("b", "100644", &blob), entry("a", "100644", &blob)].concat()),
        (true, entry("d", "040000", &empty)),
        (true, entry(".git", "40000", &empty)),
        (true, entry(".gitattributes", "100644", &long)),
        (true, entry(".gitmodules", "100644", &module)),
        (false, entry("..", "40000", &empty)),
        (true, entry("a/b", "100644", &blob)),
        (false, b"100644 a".to_vec()),
    ];
    for (n, (taken, tree)) in trees.iter().enumerate() {
        let commit = format!("tree {}\nauthor a <a@b>1 +0000\ncommitter a <a@b> 1 +0000\n\nold\n", write("tree", tree));
        let commit = write("commit", commit.as_bytes());
        server::git(&["-C", theirs, "update-ref", "refs/heads/old", &commit]);
        let copy = server.folder().join(format!("copy{n}.git"));
        server::git(&["init", "-q", "--bare", copy.to_str().unwrap()]);
        let outcome = peer.git_try_fetch(&copy, "old.git", &[format!("{commit}:refs/a")], GitFetch::default());
        assert_eq!(matches!(outcome, Ok(FetchOutcome::Fetched)), *taken, "{n}: {outcome:?}");
    }
}

#[test]
fn an_endpoint_that_cannot_be_used_says_why() {
    let server = Server::start();
    let endpoint = Endpoint { runtime: server.folder().join("x".repeat(80)), ..server.endpoint() };
    assert_eq!(Peer::new(endpoint).unwrap_err().kind(), Kind::Usage);
}
