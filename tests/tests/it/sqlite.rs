//! SQLite: databases copied while others write, restored, and opened by the real program.

use crate::harness::{Killed, Loopback, Run, root, run, until};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Stdio};

/// Moves one from `a` to `z` in each transaction, and writes to many pages; says so in the file `count`.
const WRITER: &str = r"
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
n = 0
while not os.path.exists(sys.argv[2]):
    db.execute('BEGIN IMMEDIATE')
    db.execute('UPDATE a SET v = v - 1')
    db.execute('UPDATE m SET t = t || ? WHERE id = ?', ('x', 1 + n * 37 % 8000))
    db.execute('UPDATE z SET v = v + 1')
    db.execute('COMMIT')
    n += 1
    with open(sys.argv[3] + '.new', 'w') as f: f.write(str(n))
    os.rename(sys.argv[3] + '.new', sys.argv[3])
";

struct Writer {
    child: Child,
    stop: std::path::PathBuf,
}

impl Writer {
    fn start(safe: &Loopback, database: &str, name: &str) -> Self {
        let stop = safe.at(&format!("{name}.stop"));
        let mut python = safe.command("python3");
        python.args(["-c", WRITER, database]).arg(&stop).arg(safe.at(&format!("{name}.count")));
        Self { child: python.stderr(Stdio::inherit()).spawn().unwrap(), stop }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.stop, "");
        let _ = self.child.wait();
    }
}

fn sqlite(safe: &Loopback, database: &str, sql: &str) -> Run {
    run(safe.command("sqlite3").args(["-batch", "-bail", "-init", "/dev/null", database, sql]))
}

fn fill(safe: &Loopback, database: &str, mode: &str) {
    let sql = format!(
        "PRAGMA journal_mode = {mode}; CREATE TABLE a (v int); CREATE TABLE m (id integer PRIMARY KEY, t text); CREATE TABLE z (v int);
         INSERT INTO a VALUES (0); INSERT INTO z VALUES (0);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)
         INSERT INTO m SELECT i, hex(randomblob(1000)) FROM n;"
    );
    sqlite(safe, database, &sql).exits(0);
}

/// What is there beside our own pool, by name and owner.
fn folder(safe: &Loopback, relative: &str) -> Vec<(String, u32)> {
    let names = safe.names(relative);
    names.into_iter().map(|name| (name.clone(), std::fs::symlink_metadata(safe.at(relative).join(name)).unwrap().uid())).collect()
}

/// What copies have left behind.
fn staged(safe: &Loopback) -> Vec<String> {
    safe.names("client/staging").into_iter().filter(|name| name != ".lock").collect()
}

#[test]
fn a_database_is_copied_while_it_is_written_to() {
    for mode in ["wal", "delete"] {
        let safe = Loopback::start();
        let database = safe.text("source/app.db");
        fill(&safe, &database, mode);
        let count = || std::fs::read_to_string(safe.at("w.count")).ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let writer = Writer::start(&safe, &database, "w");
        until("the writer is at work", || count() > 3);
        let before = count();
        safe.back_up("sqlite", &database);
        // The writer went on, and still does.
        let after = count();
        assert!(after > before, "{mode}: {before} then {after}");
        until("the writer goes on", || count() > after + 3);
        drop(writer);
        safe.client(&["restore", &format!("sqlite:{database}"), "--target", &safe.text("back/app.db")]).exits(0);
        assert_eq!(safe.names("back"), ["app.db"]);
        let sql = "PRAGMA integrity_check; SELECT a.v + z.v, z.v > 3 FROM a, z; SELECT count(*) FROM m; PRAGMA journal_mode";
        assert_eq!(sqlite(&safe, &safe.text("back/app.db"), sql).ok(), format!("ok\n0|1\n8000\n{mode}\n"));
        assert!(staged(&safe).is_empty());
    }
}

#[test]
fn a_database_comes_back_as_the_file_it_was() {
    let safe = Loopback::start();
    // A name with every sign that means something to somebody.
    let (name, folder_name) = ("a b'\"é?#%;-.db", "source/dir");
    std::fs::create_dir(safe.at(folder_name)).unwrap();
    let database = safe.text(&format!("{folder_name}/{name}"));
    fill(&safe, &database, "wal");
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o640)).unwrap();
    if root() {
        // Somebody else's, in a folder of his: nothing of ours is to be left there.
        std::fs::set_permissions(&safe.dir, std::fs::Permissions::from_mode(0o711)).unwrap();
        run(safe.command("chown").args(["-R", "nobody:nogroup"]).arg(safe.at(folder_name))).ok();
    }
    // A link in it leads nowhere, as does a file that the program would read commands from.
    safe.write("home/.sqliterc", ".shell touch /tmp/nightsafe-sqliterc\n");
    let before = folder(&safe, folder_name);
    safe.back_up("sqlite", &database);
    assert_eq!(folder(&safe, folder_name), before);
    let dataset = format!("sqlite:{database}");
    let target = safe.text("back/there.db");
    // What belonged to another database is not taken for this one's.
    for end in ["-wal", "-journal", "-shm"] {
        safe.write(&format!("back/there.db{end}"), "x");
        safe.client(&["restore", &dataset, "--target", &target]).exits(4).says(&["back/there.db", end]);
        std::fs::remove_file(safe.at(&format!("back/there.db{end}"))).unwrap();
    }
    safe.client(&["restore", &dataset, "--target", &target]).exits(0);
    let (was, is) = (std::fs::metadata(&database).unwrap(), std::fs::metadata(&target).unwrap());
    assert_eq!((was.mode(), was.uid(), was.gid(), was.mtime_nsec()), (is.mode(), is.uid(), is.gid(), is.mtime_nsec()));
    let contents = |path: &str| sqlite(&safe, path, ".dump").ok();
    assert_eq!(contents(&database), contents(&target));
    let out = safe.command("nightsafe").args(["restore", &dataset, "--stdout"]).output().unwrap();
    std::fs::write(safe.at("back/out.db"), out.stdout).unwrap();
    assert_eq!(contents(&safe.text("back/out.db")), contents(&target));
    safe.client(&["restore", &dataset, "--target", &safe.text("back/x"), "--table", "a"]).exits(2);

    // Some pages change: little is new.
    let stored = || safe.sh("du -sb node/data/web1/packs | cut -f1").trim().parse::<u64>().unwrap();
    let first = stored();
    sqlite(&safe, &database, "UPDATE m SET t = 'short' WHERE id IN (10, 4000, 7990); INSERT INTO a VALUES (7), (-7)").exits(0);
    safe.back_up("sqlite", &database);
    assert!(stored() - first < first / 5, "{first} then {}", stored());
    assert!(staged(&safe).is_empty() && !std::path::Path::new("/tmp/nightsafe-sqliterc").exists());
}

#[test]
fn what_is_no_database_is_no_snapshot() {
    let safe = Loopback::start();
    let text = safe.read("client.toml");
    safe.write("client.toml", &format!("{text}\n[module.sqlite]\nlock_wait = \"1s\"\n"));
    safe.write("source/empty.db", "");
    safe.write("source/text.db", &"no database at all\n".repeat(100));
    fill(&safe, &safe.text("source/locked.db"), "delete");
    let mut broken = std::fs::read(safe.at("source/locked.db")).unwrap();
    broken[16..40].fill(0xff);
    std::fs::write(safe.at("source/broken.db"), broken).unwrap();
    let hold = "import sqlite3, sys, time\ndb = sqlite3.connect(sys.argv[1], isolation_level=None)\ndb.execute('BEGIN EXCLUSIVE')\nopen(sys.argv[2], 'w')\ntime.sleep(600)";
    let holder = Killed::start(safe.command("python3").args(["-c", hold, &safe.text("source/locked.db"), &safe.text("held")]));
    until("the lock is held", || safe.at("held").exists());
    for (name, words) in [
        ("empty.db", "is empty"),
        ("text.db", "is no SQLite database"),
        ("broken.db", "source/broken.db"),
        ("locked.db", "locked by another program for longer than 1s"),
    ] {
        safe.client(&["submit", "sqlite", &safe.text(&format!("source/{name}"))]).exits(0);
        let sent = safe.client(&["send"]);
        assert_ne!(sent.code, Some(0), "{name}: {sent}");
        sent.says(&[words, name]);
        assert!(safe.names("client/export/node1").is_empty() && staged(&safe).is_empty(), "{name}");
    }
    drop(holder);
    std::os::unix::fs::symlink(safe.at("source/locked.db"), safe.at("source/link.db")).unwrap();
    for (name, code) in [("link.db", 2), ("absent.db", 1), (".", 2)] {
        safe.client(&["submit", "sqlite", &safe.text(&format!("source/{name}"))]).exits(code);
    }
    // A link that is put there after it was submitted is not followed either.
    safe.client(&["submit", "sqlite", &safe.text("source/text.db")]).exits(0);
    std::fs::remove_file(safe.at("source/text.db")).unwrap();
    std::os::unix::fs::symlink(safe.at("source/locked.db"), safe.at("source/text.db")).unwrap();
    let sent = safe.client(&["send"]);
    assert_ne!(sent.code, Some(0), "{sent}");
    assert!(safe.names("client/export/node1").is_empty());
}
