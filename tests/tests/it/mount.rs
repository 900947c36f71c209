//! Snapshots as folders: a real FUSE mount is looked at with `find`, `diff` and `tar`.

use crate::harness::{Loopback, not_tested, root, run, tree, until};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A mount that goes when the test does.
struct Mounted<'a> {
    safe: &'a Loopback,
    dir: PathBuf,
    child: Option<Child>,
}

impl<'a> Mounted<'a> {
    /// `None` where this machine's kernel or container has no FUSE that this user may use.
    fn start(safe: &'a Loopback, args: &[&str]) -> Option<Self> {
        let device = std::fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
        let able = device && (root() || run(safe.command("sh").args(["-c", "command -v fusermount3"])).code == Some(0));
        if !able {
            not_tested("a mount", "this machine has no FUSE that this user may use");
            return None;
        }
        let dir = safe.at("mnt");
        std::fs::create_dir_all(&dir).expect("a folder");
        let log = std::fs::File::create(safe.at("mount.log")).expect("a file");
        let child = safe
            .command("env")
            .args(["--default-signal=INT,TERM,HUP", "nightsafe", "mount"])
            .arg(&dir)
            .args(args)
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("nightsafe starts");
        let mounted = Self { safe, dir, child: Some(child) };
        until("it is mounted", || safe.read("mount.log").contains("Ctrl-C ends it"));
        Some(mounted)
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        run(self.safe.command("kill").args([&format!("-{name}"), &id])).exits(0);
    }

    fn ends(&mut self) -> Option<i32> {
        self.child.take().expect("it runs").wait().expect("it ends").code()
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            self.signal_to(&mut child);
        }
    }
}

impl Mounted<'_> {
    fn signal_to(&self, child: &mut Child) {
        let _ = run(self.safe.command("kill").args(["-TERM", &child.id().to_string()]));
        let _ = child.wait();
    }
}

/// Every name with type, mode, owner, time, size and target, and which names are one file. How many names a file has, a
/// mount does not count; and the folder itself is a snapshot's there.
fn look(safe: &Loopback, folder: &Path) -> String {
    let script = r#"cd "$1"
        find . -mindepth 1 ! -type s \( -type d -printf '%P|%y %m %U:%G %T@\0' -o -printf '%P|%y %m %U:%G %T@ %s %l\0' \) | sort -z | tr '\0' '\n'
        find . ! -type d -links +1 -printf '%i %P\n' | sort -k2 | awk '{ g[$1] = g[$1] " " $2 } END { for (i in g) print g[i] }' | sort"#;
    run(safe.command("sh").args(["-euc", script, "sh"]).arg(folder)).ok()
}

#[test]
fn snapshots_are_folders_with_all_that_was_backed_up() {
    let safe = Loopback::start();
    let path = safe.text("source/tree");
    tree(Path::new(&path));
    safe.sh("head -c 3000000 /dev/urandom >source/tree/large; truncate -s 40M source/tree/sparse; echo end >>source/tree/sparse");
    safe.sh("for i in $(seq 300); do mkdir -p source/tree/deep/d$i; echo $i >source/tree/deep/d$i/f; done; touch $(seq -f source/tree/deep/d1/x%g 900)");
    safe.back_up("files", &path);
    safe.sh("cp -a source/tree kept; echo younger >source/tree/younger");
    safe.back_up("files", &path);
    safe.sh("git init -q --bare source/a.git");
    safe.back_up("git", &safe.text("source/a.git"));
    let Some(mut mounted) = Mounted::start(&safe, &[]) else { return };
    let dataset = mounted.dir.join("web1/files").join(path.trim_start_matches('/'));
    assert!(safe.read("mount.log").contains("2 snapshots"), "{}", safe.read("mount.log"));
    assert!(safe.read("mount.log").contains("not shown"), "{}", safe.read("mount.log"));
    let mut names: Vec<String> = std::fs::read_dir(&dataset).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 3, "two snapshots and a link: {names:?}");
    let oldest = dataset.join(safe.snapshots_in_order().into_iter().find(|id| names.contains(id)).expect("a snapshot by its id"));
    // Names, types, modes, owners, times, sizes, links, and every byte.
    let kept = look(&safe, &safe.at("kept"));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let shown = look(&safe, &oldest);
    assert_eq!(lines(&shown).symmetric_difference(&lines(&kept)).collect::<Vec<_>>(), Vec::<&String>::new());
    safe.sh(&format!(
        "diff -r --no-dereference -x z-fifo -x null -x fifo -x loop -x void -x socket -x dangling kept '{}'",
        oldest.display()
    ));
    assert_eq!(safe.sh(&format!("cat '{}/latest/younger'", dataset.display())), "younger\n");
    assert!(!oldest.join("younger").exists());
    // Attributes and access control lists.
    let attributes = |folder: &Path| {
        safe.sh(&format!("cd '{}' && getfattr -dhm - a/hello many capable fifo 2>&1 | sort; getfacl -pn random empty", folder.display()))
    };
    assert_eq!(attributes(&oldest), attributes(&safe.at("kept")));
    // Bytes from anywhere in a file that is decoded in order, the end first.
    let ends = |file: &Path| {
        safe.sh(&format!(
            "tail -c 100 '{0}' | sha256sum; head -c 70 '{0}' | sha256sum; dd if='{0}' bs=1 skip=1500000 count=9 2>/dev/null | sha256sum",
            file.display()
        ))
    };
    assert_eq!(ends(&oldest.join("large")), ends(&safe.at("kept/large")));
    assert_eq!(ends(&oldest.join("sparse")), ends(&safe.at("kept/sparse")));
    let tar = |folder: &Path| {
        let script = "cd \"$1\"; find . -mindepth 1 -maxdepth 1 -print0 | sort -z | tar --sort=name --exclude=void --exclude=socket --null -T - -c | sha256sum";
        run(safe.command("sh").args(["-euc", script, "sh"]).arg(folder)).ok()
    };
    assert_eq!(tar(&oldest), tar(&safe.at("kept")));
    // Nothing can be changed, and what is not there is not there.
    for attempt in ["touch 'F/new'", "rm 'F/large'", "echo >'F/large'", "chmod 777 'F/large'", "cat 'F/nothing'", "ls 'F/../nobody'"] {
        let script = attempt.replace('F', oldest.to_str().unwrap());
        assert_ne!(run(safe.command("sh").args(["-c", &script])).code, Some(0), "{attempt}");
    }
    assert!(look(&safe, &oldest) == shown, "nothing was changed");
    mounted.signal("INT");
    assert_eq!(mounted.ends(), Some(0), "{}", safe.read("mount.log"));
    assert!(safe.names("mnt").is_empty(), "it is unmounted");
}

#[test]
fn what_does_not_verify_is_not_shown_and_damage_is_an_error() {
    let safe = Loopback::start();
    safe.sh("mkdir source/tree; echo good >source/tree/good; head -c 3000000 /dev/urandom >source/tree/large");
    safe.back_up("files", &safe.text("source/tree"));
    safe.sh("echo one >source/one");
    safe.back_up("files", &safe.text("source/one"));
    let store = safe.text("node/data/web1");
    let Some(mut mounted) = Mounted::start(&safe, &["--store", &store]) else { return };
    let at = |name: &str| mounted.dir.join("web1/files").join(safe.text(name).trim_start_matches('/')).join("latest");
    // A dataset that is a file has its own name there.
    assert_eq!(safe.sh(&format!("cd '{}'; ls; cat one", at("source/one").display())), "one\none\n");
    // The largest pack is changed beneath it before anything of it was read.
    let largest = safe.sh("ls -S node/data/web1/packs | head -n 1");
    safe.flip(&format!("node/data/web1/packs/{}", largest.trim()), 1_000_000);
    run(safe.command("cat").arg(at("source/tree").join("large"))).says(&["Input/output error"]).exits(1);
    assert!(safe.read("mount.log").contains("cannot be used"), "{}", safe.read("mount.log"));
    // A signature that is none, in a mount that has not proven it yet.
    mounted.signal("TERM");
    assert_eq!(mounted.ends(), Some(0));
    drop(mounted);
    safe.sh("for commit in node/data/web1/snapshots/*/commit; do chmod u+w $commit; sed -i s/web1/web2/ $commit; done");
    let Some(mut mounted) = Mounted::start(&safe, &["--store", &store]) else { return };
    let latest = mounted.dir.join("web1/files").join(safe.text("source/tree").trim_start_matches('/')).join("latest");
    run(safe.command("ls").arg(latest.join("."))).says(&["Permission denied"]).exits(2);
    until("the person is told", || !safe.read("mount.log").lines().nth(1).unwrap_or_default().is_empty());
    // Somebody else unmounts it: that is an end too.
    run(safe.command("sh").args(["-c", &format!("umount '{0}' || fusermount3 -u '{0}'", mounted.dir.display())])).exits(0);
    assert_eq!(mounted.ends(), Some(0));
}

#[test]
fn where_nothing_can_be_mounted_it_says_so() {
    let safe = Loopback::start();
    safe.sh("mkdir full; echo mine >full/mine; echo >file");
    if Path::new("/dev/fuse").exists() {
        safe.client(&["mount", &safe.text("full")]).says(&["not empty"]).exits(2);
        assert_eq!(safe.read("full/mine"), "mine\n");
        safe.client(&["mount", &safe.text("none")]).says(&["none"]).exits(1);
        safe.client(&["mount", &safe.text("file")]).says(&["file"]).exits(1);
    } else {
        not_tested("what a mount says of its folder", "this machine has no FUSE");
    }
    let mut without = safe.command("nightsafe");
    without.env_remove("NIGHTSAFE_IDENTITY").args(["mount", &safe.text("full")]);
    run(&mut without).says(&["--identity"]).exits(2);
}
