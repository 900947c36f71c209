//! An installation made by `deploy/loopback.sh` in a temporary folder.
//!
//! The folder goes when the test passes; it is kept when the test fails, and how to look at it is printed.

use super::run::{Run, bin, command, run, source_root};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A node and a client on this machine, talking through a real sshd.
pub struct Loopback {
    /// The installation's folder, with `client.toml`, `node.toml` and so on.
    pub dir: PathBuf,
    temp: Option<tempfile::TempDir>,
    mortal: bool,
}

impl Loopback {
    /// Makes one and starts its sshd.
    pub fn start() -> Self {
        let this = Self::make();
        this.loopback("start").ok();
        this
    }

    /// As [`Loopback::start`]; while there is a file `deaths` in its folder, everything of it dies as base/src/crash.rs says; its
    /// clock is what a file `clock` says (base/src/clock.rs), if there is one.
    #[cfg(feature = "crash-points")]
    pub fn that_can_die() -> Self {
        Self::with_clock()
    }

    /// As [`Loopback::start`]; the clock of everything in it is what a file `clock` in its folder says (base/src/clock.rs).
    pub fn with_clock() -> Self {
        let mut this = Self::make();
        this.mortal = true;
        this.loopback("start").ok();
        this
    }

    fn make() -> Self {
        // Control sockets need short paths, so the folder is right below /tmp whatever TMPDIR says.
        let temp = tempfile::Builder::new().prefix("nst-").tempdir_in("/tmp").unwrap();
        let dir = temp.path().to_owned();
        for folder in ["home", "source", "back"] {
            std::fs::create_dir(dir.join(folder)).unwrap();
        }
        Self { dir, temp: Some(temp), mortal: false }
    }

    /// `deploy/loopback.sh DIR start|watch|stop`.
    #[must_use]
    pub fn loopback(&self, action: &str) -> Run {
        let script = source_root().join("deploy/loopback.sh");
        let mut command = command(script, &self.home());
        self.mark(&mut command);
        run(command.env("NIGHTSAFE_BIN", bin()).arg(&self.dir).arg(action))
    }

    /// The user's own folder in all commands.
    pub fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// A path below the folder.
    pub fn at(&self, relative: &str) -> PathBuf {
        self.dir.join(relative)
    }

    /// A path below the folder, as text.
    pub fn text(&self, relative: &str) -> String {
        self.at(relative).to_str().unwrap().to_owned()
    }

    /// A program in this installation's environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = command(program, &self.home());
        command
            .env("NIGHTSAFE_CONFIG", self.at("client.toml"))
            .env("NIGHTSAFE_SERVER_CONFIG", self.at("node.toml"))
            .env("NIGHTSAFE_IDENTITY", self.at("identity.txt"))
            .env("NIGHTSAFE_SIGNERS", self.at("allowed_signers"))
            .env("NIGHTSAFE_SSHD_CONFIG", self.at("sshd_config"))
            .current_dir(&self.dir);
        self.mark(&mut command);
        command
    }

    fn mark(&self, command: &mut Command) {
        if self.mortal {
            command.env("NIGHTSAFE_CRASH", self.at("deaths")).env("NIGHTSAFE_NOW", self.at("clock"));
        }
    }

    /// Runs a program in this installation's environment.
    #[must_use]
    pub fn run(&self, program: &str, args: &[&str]) -> Run {
        run(self.command(program).args(args))
    }

    /// `nightsafe ARGS…`.
    #[must_use]
    pub fn client(&self, args: &[&str]) -> Run {
        self.run("nightsafe", args)
    }

    /// `nightsafe-server ARGS…`.
    #[must_use]
    pub fn node(&self, args: &[&str]) -> Run {
        self.run("nightsafe-server", args)
    }

    /// git in a bare repository below the folder.
    #[track_caller]
    pub fn git(&self, repository: &str, args: &[&str]) -> String {
        run(self.command("git").arg("-C").arg(self.at(repository)).args(args)).ok()
    }

    /// A script for `sh -eu`.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.run("sh", &["-euc", script]).ok()
    }

    /// send, poll, send: what was submitted is fetched, and its receipt is here.
    #[track_caller]
    pub fn round(&self) {
        self.client(&["send"]).silent();
        self.node(&["poll"]).silent();
        self.client(&["send"]).silent();
    }

    /// Submits one dataset and carries it through.
    #[track_caller]
    pub fn back_up(&self, module: &str, path: &str) {
        self.client(&["submit", module, path]).exits(0);
        self.round();
    }

    /// As [`Loopback::back_up`], where the node says something of it.
    #[track_caller]
    pub fn back_up_saying(&self, module: &str, path: &str, words: &[&str]) {
        self.client(&["submit", module, path]).exits(0);
        self.client(&["send"]).silent();
        self.node(&["poll"]).says(words).exits(0);
        self.client(&["send"]).silent();
    }

    /// Makes a folder `source/a` with a file `x` of so many random bytes, submits and sends it. Gives the folder, and the names
    /// of the packs that wait for the node.
    #[track_caller]
    pub fn exported(&self, bytes: u32) -> (String, Vec<String>) {
        let path = self.text("source/a");
        self.sh(&format!("mkdir '{path}'; head -c {bytes} /dev/urandom >'{path}/x'"));
        self.client(&["submit", "files", &path]).ok();
        self.client(&["send"]).silent();
        let packs = self.names("client/export/node1");
        assert!(!packs.is_empty(), "nothing was prepared");
        (path, packs)
    }

    /// The text of a file below the folder.
    #[track_caller]
    pub fn read(&self, relative: &str) -> String {
        std::fs::read_to_string(self.at(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
    }

    /// Replaces a file below the folder.
    #[track_caller]
    pub fn write(&self, relative: &str, text: &str) {
        std::fs::write(self.at(relative), text).unwrap_or_else(|error| panic!("{relative}: {error}"));
    }

    /// Changes a file below the folder; the old text must be there.
    #[track_caller]
    pub fn edit(&self, relative: &str, old: &str, new: &str) {
        let text = self.read(relative);
        assert!(text.contains(old), "{relative} does not hold {old:?}:\n{text}");
        self.write(relative, &text.replace(old, new));
    }

    /// The names in a folder below the folder, sorted; none when it is not there.
    pub fn names(&self, relative: &str) -> Vec<String> {
        names(&self.at(relative))
    }

    /// Changes one bit of a file below the folder.
    #[track_caller]
    pub fn flip(&self, relative: &str, at: usize) {
        self.sh(&format!("chmod u+w '{relative}'"));
        let path = self.at(relative);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }

    /// The ids of the client's snapshots on the node, the first that it took in first. Ids themselves are in no order within a second.
    #[track_caller]
    pub fn snapshots_in_order(&self) -> Vec<String> {
        let folder = "node/data/web1/snapshots";
        let order = |id: &String| -> u64 {
            let accepted = self.read(&format!("{folder}/{id}/accepted.toml"));
            accepted.lines().find_map(|line| line.strip_prefix("order = ")).expect("an order").parse().unwrap()
        };
        let mut ids = self.names(folder);
        ids.sort_by_cached_key(order);
        ids
    }

    /// The port of this installation's sshd.
    pub fn port(&self) -> String {
        self.read("sshd/port").trim().to_owned()
    }

    /// `user@127.0.0.1`, for ssh and git.
    pub fn login(&self) -> String {
        let user = run(self.command("id").arg("-un")).ok();
        format!("{}@127.0.0.1", user.trim())
    }

    /// ssh with one of the installation's keys and all options, without the address.
    pub fn ssh_command(&self, key: &str) -> Command {
        let hosts = self.at("home/known_hosts");
        let known = format!("[127.0.0.1]:{} {}", self.port(), self.read("sshd/host_ed25519.pub"));
        // An ssh that was started before may be reading it.
        if std::fs::read_to_string(&hosts).ok().as_ref() != Some(&known) {
            std::fs::write(&hosts, known).unwrap();
        }
        let mut ssh = self.command("ssh");
        for option in
            ["BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none", "ControlPath=none", "GlobalKnownHostsFile=none", "LogLevel=ERROR"]
        {
            ssh.args(["-o", option]);
        }
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", hosts.display())).args(["-F", "none", "-T", "-p", &self.port()]);
        ssh.arg("-i").arg(self.at(key)).stdin(Stdio::null());
        ssh
    }

    /// Sends `verb` to this installation's sshd with one of its keys; without one, asks for a shell.
    #[must_use]
    pub fn ssh(&self, key: &str, verb: Option<&str>) -> Run {
        run(self.ssh_command(key).arg(self.login()).args(verb))
    }

    /// Ends sshd and its sessions and leaves the daemons running.
    pub fn stop_sshd(&self) {
        let daemons = ["client-watch.pid", "node-watch.pid"];
        for name in daemons {
            std::fs::rename(self.at(name), self.at(&format!("{name}.kept"))).unwrap();
        }
        self.loopback("stop").exits(0);
        for name in daemons {
            std::fs::rename(self.at(&format!("{name}.kept")), self.at(name)).unwrap();
        }
    }
}

/// The names in a folder, sorted; none when it is not there.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

impl Drop for Loopback {
    fn drop(&mut self) {
        let stopped = self.loopback("stop");
        if std::thread::panicking() {
            if let Some(temp) = self.temp.take() {
                let dir = temp.keep();
                eprintln!(
                    "The installation is kept in {0}. To look at it:\n  {1}/deploy/loopback.sh {0}; . {0}/env; nightsafe status",
                    dir.display(),
                    source_root().display()
                );
            }
        } else {
            stopped.ok();
        }
    }
}
