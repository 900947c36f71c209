//! What an attacker has who took over a client: its key, git's plumbing, and a hand-written half of git's push.
//!
//! No git client of ours or anybody's stands in the way: objects are made literally, packs are put together as told, and
//! the commands of the push are written to the gate as they are.

use super::{Case, Fate};
use crate::harness::{Loopback, Run};
use std::cell::Cell;
use std::io::Write;
use std::process::{Command, Stdio};

/// What stands for no commit.
pub const NONE: &str = "0000000000000000000000000000000000000000";
/// The only branch that takes anything.
pub const BRANCH: &str = "refs/heads/requests";
/// A plain file in a tree.
pub const PLAIN: &str = "100644";

/// One push as it goes over the wire.
pub struct Push {
    /// Old id, new id and name of the ref, as bytes, a line each.
    pub commands: Vec<Vec<u8>>,
    /// What follows: a pack, or what the attacker sends instead.
    pub pack: Vec<u8>,
    /// The request that is to be answered.
    pub id: String,
}

/// An installation with an honest client web2 and a client web1 that was taken over.
pub struct Attacker {
    pub safe: Loopback,
    made: Cell<u32>,
}

impl Attacker {
    /// Lets in web2, narrows what web1 may send, and has one honest request of each.
    pub fn start() -> Self {
        let safe = Loopback::start();
        safe.sh("ssh-keygen -q -t ed25519 -N '' -C web2 -f web2_key; cp web2_key.pub admin/keys/web2.pub; mkdir web2 && mv web2_key web2/id_ed25519 && mv web2_key.pub web2/id_ed25519.pub
                 sed -e 's/^name = \"web1\"/name = \"web2\"/' -e \"s|^state = .*|state = \\\"$PWD/web2\\\"|\" client.toml >web2.toml
                 sed -e 's/^\\[client.web1\\]/[client.web2]/; s/web1.pub/web2.pub/' admin/access.toml | sed -n '/^\\[client.web2\\]/,/^allow/p' >>admin/access.toml
                 nightsafe --config web2.toml init >init.log 2>&1");
        let grant = format!("allow = [\"dummy:*\", \"files:{0}/**\", \"git:{0}/**\"]", safe.text("source"));
        let list = safe.read("admin/access.toml").replacen("allow = [\"*\"]", &grant, 1);
        safe.write("admin/access.toml", &list);
        safe.loopback("start").ok();
        safe.sh("git init -q --bare attacker.git");
        let this = Self { safe, made: Cell::new(0) };
        this.safe.back_up("dummy", "honest");
        this.others_work();
        this
    }

    /// The queue's branch as the gate has it.
    pub fn tip(&self) -> String {
        self.safe.git("node/gate/queues/web1.git", &["rev-parse", BRANCH]).trim().to_owned()
    }

    /// The highest number that the queue has.
    pub fn seq(&self) -> u64 {
        let log = self.safe.git("node/gate/queues/web1.git", &["log", "-1", "--format=", "-p", BRANCH]);
        let seqs = log.lines().filter_map(|line| line.strip_prefix("+seq = ")?.parse().ok());
        seqs.max().expect("the last request has a number")
    }

    /// An id that was not there yet.
    pub fn new_id(&self) -> String {
        self.made.set(self.made.get() + 1);
        format!("20261120T031500Z-{:08x}", self.made.get())
    }

    /// A request that is as it should be, for the next number.
    pub fn request(&self, id: &str) -> String {
        format!(
            "version = 1\nid = \"{id}\"\nclient = \"web1\"\nnode = \"node1\"\ndataset = \"dummy:x\"\nseq = {}\nsubmitted = 2026-11-20T03:15:00Z\nby = \"root\"\nreason = \"manual\"\n",
            self.seq() + 1
        )
    }

    fn plumbing(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut git = self.safe.command("git");
        git.arg("-C").arg(self.safe.at("attacker.git")).args(arguments);
        fed(&mut git, input, true).0
    }

    /// Makes an object of any content.
    pub fn object(&self, kind: &str, content: &[u8]) -> String {
        let id = self.plumbing(&["hash-object", "-t", kind, "-w", "--stdin", "--literally"], content);
        String::from_utf8(id).unwrap().trim().to_owned()
    }

    pub fn blob(&self, content: &[u8]) -> String {
        self.object("blob", content)
    }

    /// A tree of entries as they are given: mode, name, id.
    pub fn tree(&self, entries: &[(&str, &[u8], &str)]) -> String {
        let mut raw = Vec::new();
        for (mode, name, id) in entries {
            raw.extend([mode.as_bytes(), b" ", name, b"\0"].concat());
            raw.extend((0..40).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()));
        }
        self.object("tree", &raw)
    }

    /// A signature in git's namespace, or another one.
    pub fn sign(&self, text: &[u8], key: &str, namespace: &str) -> String {
        let mut keygen = self.safe.command("ssh-keygen");
        keygen.args(["-Y", "sign", "-q", "-n", namespace, "-f"]).arg(self.safe.at(key));
        String::from_utf8(fed(&mut keygen, text, true).0).unwrap()
    }

    /// A commit's text without a signature.
    pub fn text(&self, tree: &str, parents: &[&str], message: &str) -> String {
        let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
        let person = "web1 <web1@nightsafe.invalid> 1795000000 +0000";
        format!("tree {tree}\n{parents}author {person}\ncommitter {person}\n\n{message}\n")
    }

    /// A commit signed with one of the installation's keys.
    pub fn commit_by(&self, key: &str, tree: &str, parents: &[&str], message: &str) -> String {
        let text = self.text(tree, parents, message);
        let signature = self.sign(text.as_bytes(), key, "git");
        self.object("commit", with_header(&text, "gpgsig", &signature).as_bytes())
    }

    /// A commit signed with web1's own key.
    pub fn commit(&self, tree: &str, parents: &[&str], message: &str) -> String {
        self.commit_by("client/id_ed25519", tree, parents, message)
    }

    /// A pack of exactly these objects.
    pub fn pack(&self, ids: &[&str]) -> Vec<u8> {
        let lines: String = ids.iter().flat_map(|id| [*id, "\n"]).collect();
        self.plumbing(&["pack-objects", "-q", "--stdout"], lines.as_bytes())
    }

    /// A push of one commit that stands on the tip, to the right branch.
    pub fn push(&self, commit: &str, objects: &[&str]) -> Push {
        let pack = self.pack(&[&[commit], objects].concat());
        Push { commands: vec![command(&self.tip(), commit, BRANCH)], pack, id: String::new() }
    }

    /// A push of one commit of a tree with these files.
    pub fn files(&self, files: &[(&str, &[u8], &[u8])]) -> Push {
        let blobs: Vec<String> = files.iter().map(|(_, _, content)| self.blob(content)).collect();
        let entries: Vec<_> = files.iter().zip(&blobs).map(|((mode, name, _), id)| (*mode, *name, id.as_str())).collect();
        let tree = self.tree(&entries);
        let commit = self.commit(&tree, &[&self.tip()], "x");
        let objects: Vec<&str> = blobs.iter().map(String::as_str).chain([tree.as_str()]).collect();
        self.push(&commit, &objects)
    }

    /// A push of one request, as `change` leaves it.
    pub fn changed(&self, change: impl FnOnce(String) -> String) -> Push {
        let id = self.new_id();
        let text = change(self.request(&id));
        let push = self.files(&[(PLAIN, format!("RQ{id}.toml").as_bytes(), text.as_bytes())]);
        Push { id, ..push }
    }

    /// A push of one request in which one text stands for another, which must be there.
    pub fn replaced(&self, old: &str, new: &str) -> Push {
        self.changed(|text| {
            assert!(text.contains(old), "{old:?} is not in {text}");
            text.replacen(old, new, 1)
        })
    }

    /// A push in which nothing is wrong.
    pub fn honest(&self) -> Push {
        self.changed(|text| text)
    }

    /// Sends a push to the gate.
    pub fn send(&self, push: &Push) -> Run {
        let mut wire = Vec::new();
        let first = push.commands.iter().position(|line| !line.starts_with(b"shallow "));
        for (n, line) in push.commands.iter().enumerate() {
            let rest: &[u8] = if Some(n) == first { b"\0 report-status delete-refs ofs-delta\n" } else { b"\n" };
            wire.extend(format!("{:04x}", line.len() + rest.len() + 4).into_bytes());
            wire.extend([line, rest].concat());
        }
        wire.extend(b"0000");
        wire.extend(&push.pack);
        let mut ssh = self.safe.ssh_command("client/id_ed25519");
        ssh.arg(self.safe.login()).arg("git-receive-pack 'queue'");
        let (stdout, stderr, code) = fed(&mut ssh, &wire, false);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Run { line: "git-receive-pack 'queue'".into(), code, stdout: text(stdout), stderr: text(stderr) }
    }

    /// Tries one case and holds what came of it against what should have.
    #[track_caller]
    pub fn try_case(&self, case: &Case) {
        let push = (case.attack)(self);
        let (before, stored, noted) = (self.refs(), self.stored(), self.gate_log().len());
        let done = self.send(&push);
        let said = format!("{}: {done}", case.name);
        match case.fate {
            Fate::Gate(word) => {
                assert_eq!(self.refs(), before, "{said}");
                let log = self.gate_log()[noted..].to_owned();
                let line = log.lines().find(|line| line.contains(" client web1 from 127.0.0.1: "));
                assert!(line.is_some_and(|line| line.contains(word)), "{word:?} is not in the gate's log: {log}\n{said}");
                assert!(!log.trim_end().chars().any(|c| c.is_control() && c != '\n'), "{log:?}");
            }
            Fate::Receipt(word) => {
                assert_ne!(self.refs(), before, "{said}");
                self.safe.node(&["poll"]).exits(0);
                let receipt = self.receipt(&push.id);
                assert!(receipt.contains("+outcome = \"refused\"") && receipt.contains(word), "{receipt}\n{said}");
            }
            Fate::Alarm(word) => {
                assert_ne!(self.refs(), before, "{said}");
                let polled = self.safe.node(&["poll"]);
                let alarms = std::fs::read_to_string(self.safe.at("node/data/web1/alarms.toml")).unwrap_or_default();
                assert!(alarms.contains(word), "{alarms}\n{polled}\n{said}");
            }
            Fate::Harmless => {
                assert_ne!(self.refs(), before, "{said}");
                self.safe.node(&["poll"]).exits(0);
                let receipt = self.receipt(&push.id);
                assert!(receipt.contains("+outcome = \"stored\""), "{receipt}\n{said}");
            }
        }
        if !matches!(case.fate, Fate::Harmless) {
            assert_eq!(self.stored(), stored, "{said}");
        }
    }

    /// The answer to a request of web1's.
    #[track_caller]
    pub fn receipt(&self, id: &str) -> String {
        self.safe.git("node/data/web1/receipts.git", &["log", "--format=", "-p", "receipts", "--", &format!("RC{id}.toml")])
    }

    /// How many commits of answers web1 has had.
    pub fn answers(&self) -> String {
        self.safe.git("node/data/web1/receipts.git", &["rev-list", "--count", "receipts"])
    }

    /// All refs of all queues at the gate.
    fn refs(&self) -> String {
        self.safe.git("node/gate/queues/web1.git", &["for-each-ref"]) + &self.safe.git("node/gate/queues/web2.git", &["for-each-ref"])
    }

    /// Everything that the node keeps of both clients, but for the pools, answers and memories of its poller.
    pub fn stored(&self) -> String {
        self.safe.sh("cd node/data; find web1/packs web1/snapshots web1/parts web1/mirrors web1/incoming web2 -path '*/receipts.git' -prune -o -path '*/pool/*' -prune -o -type f -not -name '*.toml' -print 2>/dev/null | sort")
    }

    /// What the gate noted.
    pub fn gate_log(&self) -> String {
        std::fs::read_to_string(self.safe.at("node/gate/gate.log")).unwrap_or_default()
    }

    /// The machine is honest again: what waits is carried through, and then one request more for the same dataset.
    #[track_caller]
    pub fn honest_again(&self, module: &str, path: &str) -> Result<(), String> {
        self.settle()?;
        self.safe.client(&["submit", module, path]).exits(0);
        self.settle()
    }

    fn settle(&self) -> Result<(), String> {
        let safe = &self.safe;
        let mut words = String::new();
        for _ in 0..4 {
            // What waits because of what was tried need not wait for its time in a test.
            safe.sh("rm -f node/data/web1/retry.toml");
            words += &safe.client(&["send"]).to_string();
            words += &safe.node(&["poll"]).to_string();
            words += &safe.client(&["send"]).to_string();
            if safe.names("client/pool/inbox").is_empty() && safe.names("client/pool/work").iter().all(|name| name.starts_with('F')) {
                return Ok(());
            }
        }
        Err(format!("it does not go on afterwards: {words}"))
    }

    /// Another client's request is carried through as if nothing was.
    #[track_caller]
    pub fn others_work(&self) {
        let web2 = |args: &[&str]| self.safe.client(&[&["--config", "web2.toml"], args].concat());
        web2(&["submit", "dummy", "other"]).exits(0);
        web2(&["send"]).silent();
        self.safe.node(&["poll"]).exits(0);
        web2(&["send"]).silent();
        let waiting = web2(&["status"]).ok();
        assert!(self.safe.names("web2/pool/work").iter().all(|name| name.starts_with('F')), "{waiting}");
    }

    /// The honest machine of the client that was taken over asks again, and so does another client.
    #[track_caller]
    pub fn honest_requests_work(&self) {
        self.others_work();
        let safe = &self.safe;
        let before = safe.names("client/pool/work").len();
        safe.client(&["submit", "dummy", "honest again"]).exits(0);
        let mut words = String::new();
        for _ in 0..3 {
            // What the attacker sent is told about, as it should be; so nothing is asked of the exit codes.
            words += &safe.client(&["send"]).to_string();
            words += &safe.node(&["poll"]).to_string();
        }
        words += &safe.client(&["send"]).to_string();
        let work = safe.names("client/pool/work");
        assert!(work.len() > before && work.iter().all(|name| name.starts_with('F')), "{work:?}\n{words}");
        let log = safe.git("node/data/web1/receipts.git", &["log", "-1", "--format=", "-p", "--no-renames", "receipts"]);
        assert!(log.contains("dummy:honest again") && log.contains("+outcome = \"stored\""), "{log}\n{words}");
    }
}

/// One line of a push.
pub fn command(old: &str, new: &str, name: &str) -> Vec<u8> {
    format!("{old} {new} {name}").into_bytes()
}

/// A commit's text with one header more, after the others.
pub fn with_header(text: &str, header: &str, value: &str) -> String {
    let (headers, message) = text.split_once("\n\n").unwrap();
    format!("{headers}\n{header} {}\n\n{message}", value.trim_end().replace('\n', "\n "))
}

/// Runs a program with input on its stdin; with `must`, it has to end well.
fn fed(program: &mut Command, input: &[u8], must: bool) -> (Vec<u8>, Vec<u8>, Option<i32>) {
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // It may end before it has read everything.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    });
    assert!(!must || output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
    (output.stdout, output.stderr, output.status.code())
}
