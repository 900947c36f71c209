//! Everything that a file system has, over the real thing; and what an ordinary user can neither read nor set.
//!
//! The ordinary user is `nobody`, so these parts need root; each says what it skips.

use crate::harness::{Loopback, Run, bin, not_tested, root, run, same_trees, seen, tree};
use std::path::Path;
use std::process::Command;

const NOBODY: &str = "65534";

/// An installation whose client belongs to nobody.
struct Ordinary {
    safe: Loopback,
}

impl Ordinary {
    fn start() -> Self {
        let safe = Loopback::start();
        // The programs may lie where other accounts do not get to, and its folders are this user's alone.
        safe.sh(&format!("chmod 0755 . back source home && chmod 0644 identity.txt && mkdir bin && cp {}/nightsafe bin/", bin().display()));
        Self { safe }
    }

    /// From now on the client's files are nobody's.
    fn hand_over(&self) {
        self.safe.sh(&format!(
            "mkdir -m 0700 run-client && chown -R {NOBODY}:{NOBODY} back client restorer run-client
             sed -i 's|^runtime = .*|runtime = \"{}\"|' client.toml",
            self.safe.text("run-client")
        ));
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.safe.command("setpriv");
        command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--"]);
        command.arg(self.safe.at("bin/nightsafe")).args(args).env("HOME", self.safe.at("run-client"));
        command
    }

    fn nightsafe(&self, args: &[&str]) -> Run {
        run(&mut self.command(args))
    }
}

#[test]
fn what_an_ordinary_user_cannot_read_is_told_everywhere() {
    if !root() {
        return not_tested("what an ordinary user cannot read", "only root makes what it takes");
    }
    let this = Ordinary::start();
    this.hand_over();
    let (safe, path) = (&this.safe, this.safe.text("source/tree"));
    safe.sh(&format!(
        "mkdir -p '{path}/closed' '{path}/mine' '{path}/open' && cd '{path}'
         for f in a closed/x mine/x open/x z; do echo $f >$f; done; mkfifo fifo
         chown -R {NOBODY}:{NOBODY} . && chown root closed && chmod 0700 closed && chmod 0 mine
         echo secret >root && chmod 0600 root && echo none >shut && chown {NOBODY} shut && chmod 0 shut"
    ));
    let lost = ["closed/: could not list", "mine/: could not list", "root: could not open it: Permission denied"];
    this.nightsafe(&["submit", "files", &path]).exits(0);
    this.nightsafe(&["send"]).says(&["4 entries could not be read"]).says(&lost).says(&["and 1 more"]).exits(3);
    safe.node(&["poll"]).silent();
    this.nightsafe(&["send"]).silent();
    // Where it can be looked up afterwards: here, by whoever may know names, and at the node, by number.
    this.nightsafe(&["status"]).says(&["4 entries could not be read"]).says(&lost).exits(3);
    let status: serde_json::Value = serde_json::from_str(&this.nightsafe(&["status", "--json"]).exits(3).stdout).unwrap();
    assert_eq!((&status[0]["unreadable"], status[0]["not_read"].as_array().unwrap().len()), (&4.into(), 4), "{status}");
    let snapshots = this.nightsafe(&["snapshots", "--json"]).json();
    assert_eq!(snapshots[0]["unreadable"], 4, "{snapshots}");
    let receipts = safe.git("client/receipts/node1.git", &["-c", "safe.directory=*", "log", "-1", "--format=%B", "receipts"]);
    assert!(receipts.contains("4 entries could not be read"), "{receipts}");
    let modes = safe.sh("stat -c '%a' client/ledgers");
    assert_eq!(modes.trim(), "700", "names of files are not for everybody");
    // The rest is kept, with the folders that could not be listed.
    let target = safe.text("back/t");
    this.nightsafe(&["restore", &format!("files:{path}"), "--target", &target]).exits(0);
    let names = safe.sh(&format!("cd '{target}' && find . -printf '%P %m\\n' | sort | tr '\\n' ','"));
    assert_eq!(names, " 755,a 644,closed 700,fifo 644,mine 0,open 755,open/x 644,z 644,");
    // Whoever waits for it hears the same.
    let waiting = this.command(&["submit", "files", &path, "--wait"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    crate::harness::until("it is submitted", || !safe.names("client/pool/inbox").is_empty());
    this.nightsafe(&["send"]).exits(3);
    safe.node(&["poll"]).silent();
    this.nightsafe(&["send"]).silent();
    let output = waiting.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("4 entries could not be read") && said.contains(lost[2]), "{said}");
}

#[test]
fn an_ordinary_user_restores_what_he_may_have_and_is_told_the_rest_once() {
    if !root() {
        return not_tested("what an ordinary user restores", "only root makes what it takes");
    }
    let this = Ordinary::start();
    let (safe, path) = (&this.safe, this.safe.text("source/tree"));
    safe.sh(&format!(
        "mkdir -p '{path}/dev' && cd '{path}'
         for n in 1 2 3; do
             mknod dev/zero-$n c 1 5; echo $n >capable-$n; chown 1:33 capable-$n; setcap cap_net_raw+ep capable-$n; setfattr -n trusted.x -v 1 capable-$n
             echo $n >acl-$n; setfacl -m u:1:r acl-$n; setfattr -n user.x -v $n acl-$n; chmod 6755 capable-$n
         done; mkfifo fifo; truncate -s 1G sparse"
    ));
    safe.back_up("files", &path);
    this.hand_over();
    let target = safe.text("back/t");
    let restored = this.nightsafe(&["restore", &format!("files:{path}"), "--target", &target]).exits(3);
    let restored = restored.says(&[
        "10 things did not get their owner back",
        "3 things did not get a device back",
        "3 things did not get the attribute security.capability back",
        "3 things did not get the attribute trusted.x back",
    ]);
    assert_eq!(restored.stderr.lines().filter(|line| line.contains("did not get")).count(), 4, "{restored}");
    // What anybody may set is there, and nothing runs as whoever restores.
    let strip = |path: &str| {
        let lines = seen(Path::new(path));
        let kept = lines.lines().filter(|line| ["acl-", "fifo", "sparse"].iter().any(|name| line.starts_with(name)));
        kept.map(|line| line.replace(" 0:0 ", " ").replace(&format!(" {NOBODY}:{NOBODY} "), " ")).collect::<Vec<_>>()
    };
    assert_eq!(strip(&target), strip(&path));
    assert_eq!(safe.sh(&format!("stat -c %a '{target}/capable-1'")), "755\n");
    // Alone, other people's things are no reason to complain: tar does not do that either.
    let few = safe.text("back/few");
    let some = this.nightsafe(&["restore", &format!("files:{path}"), "acl-1", "fifo", "--target", &few]).exits(0);
    some.says(&["3 things did not get their owner back"]);
}

#[test]
fn devices_fifos_and_attributes_are_shown_and_cannot_be_datasets() {
    let safe = Loopback::start();
    let path = safe.text("source/tree");
    tree(Path::new(&path));
    safe.back_up("files", &path);
    let dataset = format!("files:{path}");
    let rows = safe.client(&["ls", &dataset, "--json"]).json();
    let find = |name: &str| rows.as_array().unwrap().iter().find(|row| row["path"] == name).cloned().unwrap_or_default();
    assert_eq!(find("fifo")["type"], "fifo");
    assert_eq!((&find("random")["acl"], &find("void")["size"]), (&true.into(), &(1u64 << 30).into()));
    assert_eq!(find("socket"), serde_json::Value::Null);
    if root() {
        assert_eq!((&find("null")["type"], &find("null")["device"]), (&"char".into(), &"1,3".into()));
        assert_eq!(find("capable")["xattrs"], true);
        safe.client(&["ls", &dataset]).says(&["block 7,200", "0600+", "6755@"]).exits(0);
    }
    let status = safe.client(&["status", "--json"]).json();
    assert_eq!((&status[0]["unreadable"], &status[0]["skipped"]), (&0.into(), &1.into()), "{status}");
    // Again, without its time: everything is as it was, also where it was restored.
    let target = safe.text("back/t");
    safe.client(&["restore", &dataset, "--target", &target]).exits(0);
    same_trees(Path::new(&path), Path::new(&target));
    for (name, kind) in [("fifo", "a FIFO"), ("socket", "a socket")] {
        safe.client(&["submit", "files", &format!("{path}/{name}")]).says(&[kind, "a folder or a file"]).exits(2);
    }
    // A dataset that is one sparse file.
    safe.sh(&format!("truncate -s 100G '{path}/void'"));
    safe.back_up("files", &format!("{path}/void"));
    safe.client(&["restore", &format!("files:{path}/void"), "--target", &safe.text("back/void")]).exits(0);
    let shape = safe.sh("stat -c '%s %b' back/void");
    assert_eq!(shape, "107374182400 0\n");
}
