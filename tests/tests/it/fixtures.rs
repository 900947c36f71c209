//! Stores, queues and receipts of every format version that there was, read by the programs of today.
//!
//! `tests/fixtures/make.sh` makes them.

use crate::harness::{Run, command, run, source_root};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// An unpacked fixture.
struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn unpack(archive: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let this = Self { dir };
        // Configurations name files by absolute paths, those of where it was made.
        this.sh(&format!("tar -xzpf '{}'; sed -i \"s|$(cat dir)|$PWD|g\" i/*.toml", archive.display()));
        this
    }

    fn sh(&self, script: &str) -> String {
        run(command("sh", self.dir.path()).args(["-euc", script]).current_dir(self.dir.path())).ok()
    }

    fn text(&self, path: &str) -> String {
        self.dir.path().join(path).to_str().unwrap().to_owned()
    }

    fn run(&self, program: &str, args: &[&str]) -> Run {
        let mut command = command(program, self.dir.path());
        command.env("NIGHTSAFE_IDENTITY", self.text("i/identity.txt")).env("NIGHTSAFE_SIGNERS", self.text("i/allowed_signers"));
        command.env("NIGHTSAFE_CONFIG", self.text("i/client.toml")).env("NIGHTSAFE_SERVER_CONFIG", self.text("i/node.toml"));
        run(command.args(args).current_dir(self.dir.path()))
    }
}

fn archives() -> Vec<PathBuf> {
    let folder = source_root().join("tests/fixtures");
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let archives: Vec<PathBuf> = all.filter(|path| path.to_string_lossy().ends_with(".tar.gz")).collect();
    assert!(!archives.is_empty());
    archives
}

#[test]
fn every_version_is_read() {
    for archive in archives() {
        assert!(archive.metadata().unwrap().len() < 200 << 10, "{} is too large for a repository", archive.display());
        let fixture = Fixture::unpack(&archive);
        let store = ["--store", "i/node/data/web1"];
        let with = |args: &[&'static str]| [args, &store[..]].concat();
        let made = fixture.sh("cat dir").trim().to_owned();
        let (files, git) = (format!("files:{made}/tree"), format!("git:{made}/repository.git"));

        let listed = fixture.run("nightsafe", &with(&["snapshots", "--json"])).json();
        assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
        let verified = fixture.run("nightsafe", &with(&["verify", "--all-snapshots", "--json"])).json();
        let whole = verified.as_array().unwrap().iter().filter(|row| row["state"] == "whole").count();
        assert_eq!(whole, 3, "{verified}");
        fixture.run("nightsafe", &[&["ls", &files, "-r"][..], &store].concat()).says(&["folder/hello", "fifo", "holes"]).exits(0);
        let restored = fixture.run("nightsafe", &[&["restore", &files, "--target", "back"][..], &store].concat());
        assert!(matches!(restored.code, Some(0 | 3)), "{restored}");
        let list = "find . -printf '%P %y %m %T@ %n %l\\n' | sort";
        let (left, right) = (fixture.sh(&format!("cd tree && {list}")), fixture.sh(&format!("cd back && {list}")));
        assert_eq!(left, right, "{restored}");
        fixture.sh("cmp tree/holes back/holes && cmp tree/folder/hello back/folder/hello");
        fixture.run("nightsafe", &[&["restore", &git, "--target", "back.git"][..], &store].concat()).exits(0);
        assert_eq!(fixture.sh("git -C back.git log --format=%s main").trim(), "for tests alone");

        // Queue and receipts of the client, and what the node keeps of both.
        let log = fixture.run("nightsafe", &["log", "--json"]).json();
        let outcomes: Vec<&str> = log.as_array().unwrap().iter().filter_map(|line| line["outcome"].as_str()).collect();
        assert_eq!(outcomes, ["stored"; 3], "{log}");
        fixture.run("nightsafe", &["status"]).says(&["waits", &files]);
        fixture.run("nightsafe", &["config", "check", "--offline"]).exits(0);
        let log = fixture.run("nightsafe-server", &["log", "web1", "--json"]).json();
        assert_eq!(log.as_array().unwrap().len(), 3, "{log}");
        assert_eq!(fixture.run("nightsafe-server", &["snapshots", "web1", "--json"]).json().as_array().unwrap().len(), 3);

        // Without our programs.
        let mut by_hand = command("bash", fixture.dir.path());
        by_hand.env("NIGHTSAFE_SIGNERS", fixture.text("i/allowed_signers")).current_dir(fixture.dir.path());
        by_hand.arg(source_root().join("docs/restore-by-hand.sh")).args([
            "i/node/data/web1",
            &format!("latest:{files}"),
            "i/identity.txt",
            "by-hand",
        ]);
        run(&mut by_hand).exits(0);
        assert_eq!(fixture.sh(&format!("cd by-hand && {list}")), left);
    }
}

/// What make.sh writes into `formats`, from the sources as they are.
fn formats() -> BTreeSet<String> {
    let script = r#"grep -rhoE --include=*.rs '(const [A-Z_]*VERSION[A-Z_]*: [iu][0-9]+ = [0-9]+;|push_str\("version = [0-9]+\\n"\)|Self\("version = [0-9]+\\n")' \
        base/src queue/src archive/src client/src server/src modules/src | sort -u"#;
    let text = run(command("sh", Path::new("/")).args(["-euc", script]).current_dir(source_root())).ok();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_format_version_has_a_fixture() {
    let formats = formats();
    assert!(formats.len() >= 4, "{formats:?}");
    let mut covered = BTreeSet::new();
    for archive in archives() {
        let text = run(command("tar", Path::new("/")).arg("-xzOf").arg(archive).arg("formats")).ok();
        covered.extend(text.lines().map(str::to_owned));
    }
    let missing: Vec<_> = formats.difference(&covered).collect();
    assert!(missing.is_empty(), "no fixture has these formats; make one with tests/fixtures/make.sh: {missing:?}");
}
