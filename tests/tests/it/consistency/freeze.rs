//! Datasets that are read from snapshots of their file systems: btrfs on a loop device, where this machine can have one.
//!
//! LVM and ZFS need a device mapper and a module that few kernels of tests have: of them only what they print is tried, beside the code.

use super::configure;
use crate::harness::{Killed, Loopback, not_tested, root, run};
use std::process::Command;

/// A btrfs of its own, mounted in the installation's folder. Unmounted when it is dropped.
struct Btrfs<'a> {
    safe: &'a Loopback,
}

impl<'a> Btrfs<'a> {
    /// None where this machine cannot have one; then the test says why.
    fn mount(safe: &'a Loopback) -> Option<Self> {
        let script = "grep -qw btrfs /proc/filesystems; truncate -s 200M disk; mkfs.btrfs -q disk >/dev/null 2>&1; mkdir mnt; mount -o loop disk mnt; \
                      btrfs subvolume create mnt/data >/dev/null; mkdir mnt/data/shop";
        if !root() {
            not_tested("snapshots of btrfs", "only root mounts file systems");
            return None;
        }
        let made = safe.run("sh", &["-euc", script]);
        if made.code != Some(0) {
            not_tested("snapshots of btrfs", &format!("this machine has none to mount: {made}"));
            return None;
        }
        Some(Self { safe })
    }
}

impl Drop for Btrfs<'_> {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(self.safe.at("mnt")));
    }
}

#[test]
fn btrfs() {
    let safe = Loopback::start();
    let Some(_disk) = Btrfs::mount(&safe) else { return };
    let (shop, log) = (safe.text("mnt/data/shop"), safe.text("log"));
    safe.sh(&format!("cd '{shop}'; echo one >state; mkdir -p deep/er; echo x >deep/er/file; ln -s state link; echo tmp >a.tmp; for i in $(seq 300); do echo $i >f$i; done"));
    // `after` changes what is backed up: it runs once the snapshot is there, before anything is read.
    configure(
        &safe,
        &format!(
            "[[dataset]]\naddress = \"files:{shop}\"\nsnapshot = \"btrfs\"\none_file_system = true\nexclude = [\"*.tmp\"]\n\
             before = [\"sh\", \"-c\", \"echo before >>{log}\"]\nafter = [\"sh\", \"-c\", \"echo after >>{log}; ls -A {shop}/.. >>{log}; echo late >{shop}/state; touch {shop}/new\"]"
        ),
    );
    safe.client(&["config", "check"]).says(&["is read from a snapshot of", "mnt/data, made by btrfs"]);
    safe.back_up("files", &shop);
    let said = safe.read("log");
    assert!(said.starts_with("before\nafter\n.nightsafe-web1_node1-"), "{said}");
    assert_eq!(safe.sh("ls -A mnt/data"), "shop\n", "the snapshot is gone");
    let back = safe.text("back/a");
    safe.client(&["restore", &format!("files:{shop}"), "--target", &back]).exits(0);
    assert_eq!(safe.read("back/a/state"), "one\n");
    assert!(!safe.at("back/a/new").exists() && !safe.at("back/a/a.tmp").exists() && safe.at("back/a/deep/er/file").exists());
    // What a lost state folder has left behind is found by its name; what is not ours stays: other nodes', other clients' on this machine.
    let others = [
        ".nightsafe-web1_node1-mine",
        ".nightsafe-web1_node2-20250101T000000Z-00000001",
        ".nightsafe-web2_node1-20250101T000000Z-00000001",
    ];
    let old = ".nightsafe-web1_node1-20250101T000000Z-00000001";
    safe.sh(&format!("cd mnt/data; for name in {old} {}; do btrfs -q subvolume snapshot -r . $name; done", others.join(" ")));
    safe.back_up("files", &shop);
    assert_eq!(safe.sh("ls -A mnt/data"), format!("{}\nshop\n", others.join("\n")));
    // One that cannot be removed is told of, and keeps nothing from being backed up.
    safe.sh(&format!("cd mnt/data; btrfs -q subvolume create {old}; btrfs -q subvolume create {old}/within"));
    safe.client(&["submit", "files", &shop]).exits(0);
    safe.client(&["send"]).exits(1).says(&["could not remove the snapshot", &old[1..]]);
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).silent();
    assert_eq!(super::snapshots(&safe, &format!("files:{shop}")), 3);
    safe.sh(&format!("cd mnt/data; btrfs -q subvolume delete {old}/within {old}"));
    safe.client(&["verify"]).exits(0);
    // Where there is no btrfs, the request says so, and nothing is read.
    let other = safe.text("source");
    configure_wrong(&safe, &other);
}

fn configure_wrong(safe: &Loopback, path: &str) {
    let before = safe.read("client.toml");
    safe.write(
        "client.toml",
        &format!("{before}\n[[dataset]]\naddress = \"files:{path}\"\nsnapshot = \"btrfs\"\none_file_system = true\n"),
    );
    safe.client(&["config", "check"]).exits(2).says(&["is on no btrfs"]);
    safe.client(&["submit", "files", path]).exits(0);
    safe.client(&["send"]).exits(1).says(&["is on no btrfs"]);
}

/// Ended while it reads: the snapshot that is left goes with the next start.
#[test]
fn a_snapshot_does_not_outlive_its_sender_for_long() {
    let safe = Loopback::start();
    let Some(_disk) = Btrfs::mount(&safe) else { return };
    let shop = safe.text("mnt/data/shop");
    safe.sh(&format!("mkfifo gate; echo x >'{shop}/x'"));
    // Held between the snapshot and the reading.
    configure(
        &safe,
        &format!(
            "[[dataset]]\naddress = \"files:{shop}\"\nsnapshot = \"btrfs\"\none_file_system = true\nafter = [\"sh\", \"-c\", \"test -e {0} || cat {1}\"]",
            safe.text("open"),
            safe.text("gate")
        ),
    );
    safe.client(&["submit", "files", &shop]).exits(0);
    let mut sender = Killed::start(safe.command("nightsafe").arg("send"));
    crate::harness::until("the snapshot is there", || safe.sh("ls -A mnt/data").contains(".nightsafe-web1_node1-"));
    sender.child().kill().unwrap();
    sender.wait();
    safe.sh("touch open; timeout 5 sh -c 'echo x >gate' || true");
    assert!(safe.sh("ls -A mnt/data").contains(".nightsafe-web1_node1-"));
    safe.round();
    assert_eq!(safe.sh("ls -A mnt/data"), "shop\n");
    assert_eq!(super::snapshots(&safe, &format!("files:{shop}")), 1);
}
