//! Every kind of file, damaged in every way, under every command: found and named, healed or told, never a panic, never wrong
//! bytes, and a way on.
//!
//! Each worker has one installation; between two cases its folders are put back as they were.

use crate::harness::{Loopback, Run, run};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Deleted,
    Halved,
    Flipped,
    Emptied,
}

const DAMAGES: [Damage; 4] = [Damage::Deleted, Damage::Halved, Damage::Flipped, Damage::Emptied];

/// What is to come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing is missed: the next backup goes through without anybody's help, and all that was stored is whole.
    Heals,
    /// As before, but the request that meets it is refused, and that is told; the next one goes through.
    Refused,
    /// What was stored can be lost, and is then told; the next backup goes through and is whole, after a scrub where one is
    /// needed to find the damage.
    Stored,
    /// As long as nobody helps, backups may not go on. That is told, by a scrub if by nothing else, and the file, its
    /// repository or its snapshot named.
    Told,
}

use Fate::{Heals, Refused, Stored, Told};

/// Kinds of files by the shell's patterns; of several files the largest is damaged.
const KINDS: &[(&str, Fate)] = &[
    // What a client has found out and can find out again.
    ("client/index/node1/*/*", Heals),
    ("client/cache/node1/*", Heals),
    // What a backup that was cut off has left of it.
    ("client/cache/node1/*.new", Heals),
    ("client/epochs/node1.toml", Heals),
    ("client/retry/node1.toml", Heals),
    ("client/outcomes/*", Heals),
    ("client/history/node1.json", Heals),
    ("client/pool/work/F*", Heals),
    // What it signs with, cuts by, and has signed.
    ("client/secret/chunk", Told),
    ("client/queues/node1.git/HEAD", Told),
    ("client/queues/node1.git/refs/heads/requests", Told),
    ("client/queues/node1.git/objects/??/*", Told),
    ("client/queues/node1.git/nightsafe-history", Heals),
    ("client/receipts/node1.git/refs/heads/receipts", Told),
    // What a node keeps.
    ("node/data/web1/packs/*", Stored),
    ("node/data/web1/snapshots/*/manifest", Stored),
    ("node/data/web1/snapshots/*/request.toml", Stored),
    ("node/data/web1/snapshots/*/commit", Stored),
    ("node/data/web1/snapshots/*/tree", Stored),
    ("node/data/web1/snapshots/*/accepted.toml", Stored),
    ("node/data/web1/snapshots/*/refs", Stored),
    // What a node notes beside them, and whose word that was.
    ("node/data/web1/snapshots/*/held.toml", Told),
    ("node/data/web1/snapshots/*/pinned.toml", Told),
    ("node/data/web1/snapshots/*/condemned.toml", Told),
    ("node/data/audit.git/HEAD", Told),
    ("node/data/audit.git/refs/heads/audit", Told),
    ("node/data/audit.git/objects/??/*", Told),
    ("node/data/web1/mirrors/*/packed-refs", Told),
    ("node/data/web1/mirrors/*/HEAD", Told),
    ("node/data/web1/mirrors/*/objects/pack/*.pack", Told),
    // What it has found out and can find out again.
    ("node/data/web1/usage.toml", Heals),
    ("node/data/web1/scrub.turns", Heals),
    ("node/data/web1/mirrors.turns", Heals),
    ("node/data/web1/spent.toml", Heals),
    ("node/data/state/timetable.toml", Heals),
    ("node/data/web1/last.toml", Heals),
    ("node/data/web1/pool/F*", Heals),
    ("node/data/access/access.toml", Heals),
    ("node/data/access/authorized_keys", Heals),
    ("node/data/access/commit", Heals),
    ("node/data/access/tips/web1", Heals),
    ("node/data/access/keys/web1.pub", Refused),
    ("client/receipts/node1.git/refs/heads/fetched", Heals),
    ("node/gate/queues/web1.git/nightsafe-handed-over", Heals),
    // Its history of requests and answers, and who may do what.
    ("node/data/web1/signers", Told),
    ("node/data/web1/receipts.git/refs/heads/receipts", Told),
    ("node/data/web1/receipts.git/objects/??/*", Told),
    ("node/data/log/web1.git/refs/heads/requests", Told),
    ("node/data/admin.git/refs/heads/access", Told),
    ("node/gate/queues/web1.git/refs/heads/requests", Told),
    ("node/gate/admin.git/refs/heads/access", Told),
];

/// One installation with two backups of a folder and of a repository, of which one is held and one is condemned, and with one of
/// another folder that is pinned; and a copy of how it was then.
struct Bench {
    safe: Loopback,
}

/// Cases wait for processes and connections most of the time.
const WORKERS: usize = 5;

const KEPT: &str = "client node source";

/// What shows how things stand with what is held, pinned and condemned.
const PRUNE: [&str; 5] = ["prune", "web1", "--keep-last", "1", "--dry-run"];

impl Bench {
    fn new() -> Self {
        let safe = Loopback::start();
        safe.sh("mkdir -p source/a/sub && head -c 3000000 /dev/urandom >source/a/big && cd source/a && for i in 1 2 3 4 5 6; do echo \"hello $i\" >sub/f$i; done");
        safe.sh("git init -q --bare source/p.git && git init -q source/work && cd source/work && echo 1 >x && git add x && git -c user.name=t -c user.email=t@example.org commit -q -m 1 && git push -q ../p.git HEAD:refs/heads/main");
        for version in ["1", "2"] {
            safe.write("source/a/changed", version);
            safe.client(&["submit", "files", &safe.text("source/a")]).exits(0);
            safe.client(&["submit", "git", &safe.text("source/p.git")]).exits(0);
            safe.round();
        }
        let first = safe
            .names("node/data/web1/snapshots")
            .into_iter()
            .find(|id| safe.at(&format!("node/data/web1/snapshots/{id}/manifest")).exists());
        safe.node(&["hold", &first.unwrap(), "--reason", "court case"]).exits(0);
        safe.sh("mkdir source/b && head -c 2500000 /dev/urandom >source/b/large");
        safe.back_up("files", &safe.text("source/b"));
        safe.sh("echo small >source/b/large");
        safe.back_up("files", &safe.text("source/b"));
        safe.node(&PRUNE[..PRUNE.len() - 1]).says(&["  held", "  pinned", "condemned, goes in"]).exits(0);
        safe.node(&["scrub", "--all"]).exits(0);
        // As a backup leaves its cache that is cut off.
        safe.sh("for cache in client/cache/node1/*; do cp $cache $cache.new; done");
        safe.sh(&format!("mkdir saved && cp -a {KEPT} saved/"));
        Self { safe }
    }

    fn reset(&self) {
        self.safe.sh(&format!("chmod -R u+w {KEPT} back; rm -rf {KEPT} back && cp -a saved/* . && mkdir back"));
    }

    /// Damages the largest file of a kind; none when there is no such file.
    fn damage(&self, kind: &str, damage: Damage) -> Option<PathBuf> {
        let name = self.safe.sh(&format!("ls -1S {kind} 2>/dev/null | head -n 1 || true"));
        let path = self.safe.at(name.trim());
        if name.trim().is_empty() {
            return None;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        self.safe.sh(&format!("chmod u+w '{}'", path.display()));
        let half = bytes.len() / 2;
        match damage {
            Damage::Deleted => std::fs::remove_file(&path).unwrap(),
            Damage::Halved => bytes.truncate(half),
            Damage::Flipped => bytes[half] ^= 0x04,
            Damage::Emptied => bytes.clear(),
        }
        if !matches!(damage, Damage::Deleted) {
            std::fs::write(&path, bytes).unwrap();
        }
        Some(path)
    }
}

/// Every regular file of a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder_) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder_) else { continue };
        for entry in entries.map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                let name = entry.path().strip_prefix(folder).unwrap().as_os_str().as_bytes().to_vec();
                found.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

/// One case: what was done, and what is wrong with how it ended.
struct Case<'a> {
    bench: &'a Bench,
    /// Whether the repository is backed up as well.
    git: bool,
    wrong: Vec<String>,
    told: String,
    /// Whether something said that not all is well.
    failed: bool,
}

impl Case<'_> {
    /// Runs a command; it ends as our programs end.
    fn run(&mut self, name: &str, program: &str, args: &[&str]) -> Run {
        let done = run(self.bench.safe.command(program).args(args));
        let ended = matches!(done.code, Some(0..=4 | 75));
        if !ended || done.stderr.contains("panicked") || done.stdout.contains("panicked") {
            self.wrong.push(format!("{name} did not end as programs end: {done}"));
        }
        self.failed |= done.code != Some(0);
        let _ = write!(self.told, "\n{done}");
        done
    }

    fn client(&mut self, args: &[&str]) -> Run {
        self.run(args[0], "nightsafe", args)
    }

    fn node(&mut self, args: &[&str]) -> Run {
        self.run(args[0], "nightsafe-server", args)
    }

    /// Restores the newest snapshot: never a file with other bytes than it ever had, and all of them where it says so. Gives
    /// which version came back, when all came back.
    fn restore(&mut self, name: &str) -> Option<String> {
        let safe = &self.bench.safe;
        let (source, target) = (safe.at("source/a"), safe.at(&format!("back/{name}")));
        let done = self.client(&["restore", &format!("files:{}", source.display()), "--target", target.to_str().unwrap()]);
        let (mut got, mut wanted) = (files(&target), files(&source));
        let version = got.remove(b"changed".as_slice()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        wanted.remove(b"changed".as_slice());
        if version.as_ref().is_some_and(|version| !["1", "2", "3"].contains(&version.as_str())) {
            self.wrong.push(format!("{name}: a file has other bytes: {version:?}"));
        }
        for (path, bytes) in &got {
            if !path.starts_with(b".nightsafe") && wanted.get(path) != Some(bytes) {
                self.wrong.push(format!("{name}: {} has other bytes", String::from_utf8_lossy(path)));
            }
        }
        let all = wanted.keys().all(|path| got.contains_key(path)) && version.is_some();
        if done.code == Some(0) && !all {
            self.wrong.push(format!("{name} said that all is well, and something is missing"));
        }
        version.filter(|_| done.code == Some(0) && all)
    }

    /// A backup of what has changed; true when all of it is stored.
    fn back_up(&mut self) -> bool {
        let safe = &self.bench.safe;
        safe.write("source/a/changed", "3");
        let mut datasets = vec![("files", safe.text("source/a"))];
        if self.git {
            safe.sh("cd source/work && git -c user.name=t -c user.email=t@example.org commit -q --allow-empty -m 3 && git push -q ../p.git HEAD:refs/heads/main");
            datasets.push(("git", safe.text("source/p.git")));
        }
        for (module, path) in &datasets {
            self.client(&["submit", module, path]);
        }
        // A second time: the first may find out what is missing.
        for _ in 0..2 {
            self.client(&["send", "--now"]);
            self.node(&["poll", "--sweep"]);
            self.client(&["send", "--now"]);
            let status = self.client(&["status"]);
            let stored = |path: &str| status.stdout.lines().any(|line| line.contains(path) && line.contains(" stored "));
            if datasets.iter().all(|(_, path)| stored(path)) {
                return true;
            }
        }
        false
    }
}

/// All commands after one damage. Gives what is wrong; none when there is no such file.
fn case(bench: &Bench, kind: &str, fate: Fate, damage: Damage) -> Option<Vec<String>> {
    bench.reset();
    let path = bench.damage(kind, damage)?;
    let mut case = Case { bench, git: kind.contains("mirrors"), wrong: Vec::new(), told: String::new(), failed: false };
    case.node(&["status"]);
    case.client(&["snapshots"]);
    case.restore("before");
    if fate == Stored {
        case.client(&["verify"]);
        case.node(&["prune", "--dry-run"]);
    }
    if kind.contains("snapshots/*/") || kind.contains("audit.git") {
        let shown = case.node(&PRUNE);
        // What keeps a snapshot must not be overlooked: it is gone, or read, or told.
        let keeps = [("held.toml", "  held"), ("pinned.toml", "  pinned")].into_iter().find(|(file, _)| kind.ends_with(file));
        if let Some((_, word)) = keeps
            && damage != Damage::Deleted
            && shown.code == Some(0)
            && !shown.stdout.contains(word)
        {
            case.wrong.push("prune passes over what keeps a snapshot".into());
        }
    }
    let mut stored = case.back_up();
    if fate == Refused && !stored {
        if !case.failed {
            case.wrong.push("what was refused is not told".into());
        }
        stored = case.back_up();
    }
    let mut version = case.restore("after");
    if fate == Stored && version.as_deref() != Some("3") {
        // The node finds the damage, and asks for what is lost.
        case.node(&["scrub", "--all"]);
        case.client(&["send", "--now"]);
        stored = case.back_up();
        version = case.restore("mended");
    }
    let whole = stored && version.as_deref() == Some("3");
    let verified = case.client(&["verify"]).code == Some(0);
    let named = |case: &Case<'_>| {
        let relative = path.strip_prefix(&bench.safe.dir).unwrap().to_str().unwrap();
        let repository = relative.split_inclusive(".git").next().filter(|name| name.ends_with(".git"));
        let snapshot = relative.split("snapshots/").nth(1).and_then(|rest| rest.split('/').next());
        let hex = relative.split("packs/").nth(1);
        case.failed && [Some(relative), repository, snapshot, hex].into_iter().flatten().any(|name| case.told.contains(name))
    };
    if fate == Told && !(whole && verified) && !named(&case) {
        // Nobody needed it; the scrub reads everything.
        case.node(&["scrub", "--all"]);
    }
    match fate {
        Heals | Refused if !whole || !verified => case.wrong.push("it did not heal by itself".into()),
        Stored if !whole => case.wrong.push("the next backup is not whole".into()),
        Told if !(whole && verified || named(&case)) => case.wrong.push("nothing names the file".into()),
        _ => {}
    }
    if !case.wrong.is_empty() {
        let told = std::mem::take(&mut case.told);
        case.wrong.push(format!("all that was said:\n{told}"));
    }
    Some(case.wrong)
}

/// DAMAGE=… takes the kinds that contain it alone.
#[test]
fn every_kind_of_file_in_every_way() {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let only = std::env::var("DAMAGE").unwrap_or_default();
    let cases: Vec<_> =
        KINDS.iter().filter(|kind| kind.0.contains(&only)).flat_map(|kind| DAMAGES.map(|damage| (kind.0, kind.1, damage))).collect();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let bench = Bench::new();
                while let Some((kind, fate, damage)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let wrong = case(&bench, kind, *fate, *damage).unwrap_or_else(|| vec!["there is no such file".into()]);
                    if !wrong.is_empty() {
                        failures.lock().unwrap().push(format!("{damage:?} {kind} ({fate:?}):\n{}", wrong.join("\n")));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} cases:\n\n{}", failures.len(), cases.len(), failures.join("\n\n"));
}
