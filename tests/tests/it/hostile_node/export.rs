//! What a node tries at the client's gate beyond what is offered to it, in the sftp protocol's own packets: no client
//! program stands between that would refuse first.

use crate::harness::Loopback;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const READ: u8 = 5;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;

/// One conversation with the gate.
struct Session {
    ssh: Child,
    input: ChildStdin,
    output: ChildStdout,
}

/// What the gate answered: the kind of packet, and what is in it behind the request's number. Nothing when it hung up.
type Answer = Option<(u8, Vec<u8>)>;

impl Session {
    fn start(safe: &Loopback) -> Self {
        let mut ssh = safe.ssh_command("node/pull");
        ssh.arg(safe.login()).arg("sftp").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut ssh = ssh.spawn().unwrap();
        let (input, output) = (ssh.stdin.take().unwrap(), ssh.stdout.take().unwrap());
        let mut this = Self { ssh, input, output };
        this.send(&[&[1][..], &3u32.to_be_bytes()].concat());
        assert_eq!(this.packet().map(|packet| packet[0]), Some(2), "the gate speaks version 3");
        this
    }

    fn send(&mut self, packet: &[u8]) {
        // The gate may have hung up already; that is what the answer says then.
        let _ = self.input.write_all(&u32::try_from(packet.len()).unwrap().to_be_bytes());
        let _ = self.input.write_all(packet).and_then(|()| self.input.flush());
    }

    fn packet(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.output.read_exact(&mut length).ok()?;
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        self.output.read_exact(&mut packet).ok()?;
        Some(packet)
    }

    fn ask(&mut self, kind: u8, body: &[u8]) -> Answer {
        self.send(&[&[kind][..], &7u32.to_be_bytes(), body].concat());
        self.packet().map(|packet| (packet[0], packet[5..].to_vec()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

fn text(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

/// The body of an open with `flags`: 1 reads, 2 writes, 4 appends, 8 makes, 16 empties, 32 only makes.
fn opening(name: &[u8], flags: u32) -> Vec<u8> {
    [text(name), flags.to_be_bytes().to_vec(), vec![0; 4]].concat()
}

fn refused(answer: &Answer) -> bool {
    matches!(answer, Some((STATUS, body)) if body[..4] != [0; 4])
}

#[test]
fn the_clients_gate_gives_a_node_its_packs_and_nothing_else() {
    let safe = Loopback::start();
    let (_, exported) = safe.exported(100_000);
    let pack = exported[0].clone();
    let state = "cd client && find . -printf '%p %y %m %s %l %T@\\n' | grep -v '^./cache\\|^./retry' | sort";
    safe.sh("cd client/export/node1; ln -s ../../id_ed25519 key; ln -s /etc passwords; ln -s /etc/passwd passwd; mkfifo pipe; mkdir folder; ln ../../id_ed25519 hard; echo x >.hidden; mkdir ../node2; echo other >../node2/pack");
    let before = safe.sh(state);
    let (key, long) = (safe.text("client/id_ed25519"), "a".repeat(300));

    // Names that are not those of packs, for everything that takes a name.
    let names: Vec<&[u8]> = vec![
        b"/etc/passwd",
        b"etc/passwd",
        b"//etc/passwd",
        b"../../id_ed25519",
        b"../../../client.toml",
        b"..",
        b".",
        b"",
        b"/",
        b"./../../id_ed25519",
        b"../node2/pack",
        b"../node1",
        b"folder",
        b"folder/..",
        b"folder/../../../id_ed25519",
        b"key",
        b"passwords/passwd",
        b"passwd",
        b"pipe",
        b".hidden",
        b"hard\0",
        b"\0",
        b"\xff\xfe",
        b"pack\n",
        b"~",
        b"~root",
        b"*",
        b"/proc/self/environ",
        b"/dev/zero",
        b"/proc/self/fd/0",
        b"lfs-list/",
        b"lfs-list/etc",
        b"lfs-list//etc",
        b"lfs-list/../../etc",
        b"lfs/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/etc",
        b"lfs/../../id_ed25519",
        b"C:\\boot.ini",
        b"..\\..\\id_ed25519",
        b"%2e%2e/id_ed25519",
        key.as_bytes(),
        long.as_bytes(),
    ];
    let mut cases = 0;
    let mut wrong = Vec::new();
    let mut session = Session::start(&safe);
    let mut check = |what: String, answer: &Answer| {
        cases += 1;
        if !refused(answer) {
            wrong.push(format!("{what}: {answer:?}"));
        }
    };
    for name in &names {
        let shown = String::from_utf8_lossy(name).into_owned();
        check(format!("open {shown:?}"), &session.ask(OPEN, &opening(name, 1)));
        check(format!("opendir {shown:?}"), &session.ask(11, &text(name)));
        check(format!("readlink {shown:?}"), &session.ask(19, &text(name)));
    }
    // A file with a second name may be linked from anywhere.
    check("open a hard link".into(), &session.ask(OPEN, &opening(b"hard", 1)));

    // Everything that would change something, for a pack that is there and for a name that is free.
    for name in [pack.as_bytes(), b"new", b"../../authorized_keys"] {
        let shown = String::from_utf8_lossy(name).into_owned();
        for flags in [2, 3, 4, 8, 10, 26, 27, 42, 0xffff_ffff] {
            check(format!("open {shown:?} with flags {flags}"), &session.ask(OPEN, &opening(name, flags)));
        }
        let to = text(b"elsewhere");
        let mode = [&4u32.to_be_bytes()[..], &0o777u32.to_be_bytes()].concat();
        let size = [&1u32.to_be_bytes()[..], &0u64.to_be_bytes()].concat();
        let name = text(name);
        let extended = |what: &[u8], rest: &[u8]| [&text(what)[..], rest].concat();
        for (what, kind, body) in [
            ("setstat mode", 9, [&name[..], &mode].concat()),
            ("setstat size", 9, [&name[..], &size].concat()),
            ("remove", 13, name.clone()),
            ("mkdir", 14, [&name[..], &mode].concat()),
            ("rmdir", 15, name.clone()),
            ("rename", 18, [&name[..], &to].concat()),
            ("rename onto it", 18, [&to[..], &name].concat()),
            ("symlink", 20, [&text(b"/etc/passwd")[..], &name].concat()),
            ("link", 21, [&name[..], &to, &[0]].concat()),
            ("posix-rename", 200, extended(b"posix-rename@openssh.com", &[&name[..], &to].concat())),
            ("hardlink", 200, extended(b"hardlink@openssh.com", &[&name[..], &to].concat())),
            ("lsetstat", 200, extended(b"lsetstat@openssh.com", &[&name[..], &mode].concat())),
            ("statvfs", 200, extended(b"statvfs@openssh.com", &name)),
            ("expand-path", 200, extended(b"expand-path@openssh.com", &text(b"~root"))),
            ("home-directory", 200, extended(b"home-directory", &text(b"root"))),
            ("users-groups-by-id", 200, extended(b"users-groups-by-id@openssh.com", &[&text(&[0; 4])[..], &text(&[0; 4])].concat())),
            ("an extension of nobody's", 200, extended(b"exec@evil.example", &text(b"id"))),
            ("a packet of nobody's", 99, name.clone()),
        ] {
            check(format!("{what} {shown:?}"), &session.ask(kind, &body));
        }
    }

    // An open pack, misused.
    let Some((HANDLE, handle)) = session.ask(OPEN, &opening(pack.as_bytes(), 1)) else { panic!("the pack cannot be opened") };
    let at = |offset: u64, length: u32| [&handle[..], &offset.to_be_bytes(), &length.to_be_bytes()].concat();
    let beyond = [at(u64::MAX, 4096), at(1 << 62, u32::MAX), at(u64::MAX - 1, u32::MAX)];
    for body in &beyond {
        check("a read beyond the end".into(), &session.ask(READ, body));
    }
    check("a write".into(), &session.ask(6, &[&handle[..], &0u64.to_be_bytes(), &text(b"evil")].concat()));
    check("fsetstat".into(), &session.ask(10, &[&handle[..], &4u32.to_be_bytes(), &0o777u32.to_be_bytes()].concat()));
    check("readdir of a file".into(), &session.ask(12, &handle));
    check("fsync".into(), &session.ask(200, &[&text(b"fsync@openssh.com")[..], &handle].concat()));
    check("copy-data".into(), &session.ask(200, &[&text(b"copy-data")[..], &handle, &[0; 16], &handle, &[0; 8]].concat()));
    // A read of four gigabytes gives what there is, a bounded piece of it.
    let Some((DATA, data)) = session.ask(READ, &at(0, u32::MAX)) else { panic!("the pack cannot be read") };
    assert!(data.len() <= (256 << 10) + 4 && data.len() > 100, "{}", data.len());
    assert!(matches!(session.ask(CLOSE, &handle), Some((STATUS, body)) if body[..4] == [0; 4]));
    check("a read after closing".into(), &session.ask(READ, &at(0, 10)));
    check("closing twice".into(), &session.ask(CLOSE, &handle));
    check("a handle of nobody's".into(), &session.ask(READ, &[&text(&[0xff; 4])[..], &[0; 8], &[0, 0, 0, 9]].concat()));
    drop(session);

    // What is no sftp ends the conversation, whatever was said before, and holds up nobody else.
    let broken: [(&str, Vec<u8>); 6] = [
        ("a packet without an end", vec![0xff, 0xff, 0xff, 0xff, 3]),
        ("a packet without a beginning", vec![0, 0, 0, 0]),
        ("a text that is longer than its packet", [&[0, 0, 0, 13, OPEN, 0, 0, 0, 1][..], &[0x7f, 0xff, 0xff, 0xff], b"name"].concat()),
        ("a greeting again", vec![0, 0, 0, 5, 1, 0, 0, 0, 3]),
        ("an open of half a request", vec![0, 0, 0, 6, OPEN, 0, 0, 0, 1, 0]),
        ("a shell's words", b"id; cat /etc/passwd\n".to_vec()),
    ];
    for (what, bytes) in &broken {
        let mut session = Session::start(&safe);
        let _ = session.input.write_all(bytes).and_then(|()| session.input.flush());
        let answer = session.packet();
        cases += 1;
        if answer.as_ref().is_some_and(|packet| packet.first() != Some(&STATUS)) {
            wrong.push(format!("{what}: {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "of {cases} cases:\n{}", wrong.join("\n"));
    assert!(cases > 150, "{cases}");
    assert_eq!(safe.sh(state), before, "something was changed");
    safe.sh("cd client/export; rm -r node1/key node1/passwords node1/passwd node1/pipe node1/folder node1/hard node1/.hidden node2");
    safe.round();
    assert_eq!(safe.names("node/data/web1/snapshots").len(), 1);
}
