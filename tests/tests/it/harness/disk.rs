//! A small disk under one folder of an installation, that can be full, or lose sectors.
//!
//! It is mounted in a namespace that only the commands run on it see, sshd too; nothing stays mounted whatever happens.

use super::Loopback;
use super::run::{Run, bin, root, run, source_root};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The file that takes all room.
const FILL: &str = ".fill";

/// A file system of its own over a folder. The installation's sshd runs on it as long as this lives.
pub struct Disk<'a> {
    safe: &'a Loopback,
    holder: Child,
    folder: PathBuf,
}

impl<'a> Disk<'a> {
    /// Moves what is in `folder` onto a disk of `kib` KiB. None where this user may not mount.
    pub fn over(safe: &'a Loopback, folder: &str, kib: u64) -> Option<Self> {
        Self::mounted(safe, folder, "mount -t tmpfs -o size=$3k,mode=755 tmpfs \"$1\"", kib)
    }

    /// As [`Disk::over`], `kib` KiB being sectors of a file, so that some of them can be lost.
    pub fn of_sectors(safe: &'a Loopback, folder: &str, kib: u64) -> Option<Self> {
        let mount = "truncate -s $3K \"$2.sectors\"; mkfs.ext4 -q -F -b 4096 -O ^has_journal -m 0 \"$2.sectors\"; mount -o loop \"$2.sectors\" \"$1\"; \
                     rmdir \"$1/lost+found\"";
        Self::mounted(safe, folder, mount, kib)
    }

    fn mounted(safe: &'a Loopback, folder: &str, mount: &str, kib: u64) -> Option<Self> {
        if !root() {
            super::not_tested("a disk of its own", "only root mounts file systems");
            return None;
        }
        let folder = safe.at(folder);
        safe.loopback("stop").exits(0);
        let script = format!("mkdir -p \"$1\" \"$2\"; cp -a \"$1/.\" \"$2\"; {mount}; cp -a \"$2/.\" \"$1\"; echo ready; read end");
        let side = safe.at("beside-the-disk");
        let mut holder = safe
            .command("unshare")
            .args(["--mount", "sh", "-euc", &script, "sh"])
            .args([&folder, &side])
            .arg(kib.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        let mounted = holder.stdout.as_mut().unwrap().read_exact(&mut ready).is_ok();
        let this = Self { safe, holder, folder };
        if !mounted {
            super::not_tested("a disk of its own", "this machine mounts none; what it said is above");
            return None;
        }
        this.loopback("start");
        Some(this)
    }

    fn loopback(&self, action: &str) {
        let script = source_root().join("deploy/loopback.sh");
        run(self.command(script.to_str().unwrap()).env("NIGHTSAFE_BIN", bin()).arg(&self.safe.dir).arg(action)).exits(0);
    }

    /// A program that sees the disk.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.safe.command("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()))
            .arg(format!("--wd={}", self.safe.dir.display()))
            .args(["--", program]);
        command
    }

    /// Runs a program that sees the disk.
    #[must_use]
    pub fn run(&self, program: &str, args: &[&str]) -> Run {
        run(self.command(program).args(args))
    }

    /// A script for `sh -eu`.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.run("sh", &["-euc", script]).ok()
    }

    /// Leaves `kib` KiB free on it, a multiple of 4.
    #[track_caller]
    pub fn leave(&self, kib: u64) {
        let fill = self.folder.join(FILL);
        let script = "cat /dev/zero >\"$1\" 2>/dev/null || true; truncate -s \"-$2K\" \"$1\"";
        let _ = run(self.command("sh").args(["-euc", script, "sh"]).arg(fill).arg(kib.to_string())).ok();
    }

    /// Loses sectors that `file` lies in, and no others: it is moved to the disk's end, of which as much is cut off as has nothing else. Reading
    /// there is an error of the device's from now on.
    #[track_caller]
    pub fn lose(&self, file: &str) {
        let script = r#"
            room=$(df -k --output=avail "$1" | tail -n 1); size=$(stat -c %s "$3")
            fallocate -l $((room - size / 1024 - 400))K "$1/.fill"; cp -p "$3" "$1/.moved"; sync -f "$1"; rm "$1/.fill"; mv "$1/.moved" "$3"; sync -f "$1"
            blocks() { filefrag -e "$1" | awk '$1 ~ /^[0-9]+:$/ { split($4, from, "."); print from[1], $5 + 0 }'; }
            last() { while read -r file; do blocks "$file"; done | awk '$2 > most { most = $2 } END { print most + 1 }'; }
            cut=$(find "$1" -xdev -type f ! -path "$3" | last); [ "$cut" -lt "$(echo "$3" | last)" ]
            truncate -s $((cut * 4096)) "$2"; dd if="$3" iflag=nocache count=0 status=none"#;
        let sectors = self.safe.at("beside-the-disk.sectors");
        run(self.command("sh").args(["-euc", script, "sh"]).arg(&self.folder).arg(sectors).arg(self.safe.at(file))).ok();
    }

    /// All of its room is free again.
    pub fn empty(&self) {
        self.sh(&format!("rm -f '{}'", self.folder.join(FILL).display()));
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.loopback("stop");
        }
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
