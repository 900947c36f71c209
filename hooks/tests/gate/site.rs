//! A node and a client below one folder, and git, which reaches the gate through a script in the place of ssh.

use base::{Name, Reason, RequestId};
use queue::access::{AccessList, NewClient, authorized_line};
use queue::verdict::Role;
use queue::{PublicKey, Repository, Request, Signer};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub const GATE: &str = env!("CARGO_BIN_EXE_nightsafe-gate");
pub const NOTHING: &str = "0000000000000000000000000000000000000000";

pub struct Site {
    pub dir: PathBuf,
    pub list: AccessList,
    _kept: tempfile::TempDir,
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A node `node1` that knows the client `web1`, the administrator `alice` and the restorer `carol`.
pub fn site() -> Site {
    let kept = tempfile::tempdir().unwrap();
    let dir = kept.path().canonicalize().unwrap();
    for folder in ["keys", "data/access/keys", "gate", "state"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    let mut site = Site { dir, list: AccessList::default(), _kept: kept };
    for who in ["web1", "alice", "carol", "mallory", "receipts"] {
        site.make_key(who);
    }
    let node = format!(
        "version = 1\nname = \"node1\"\ndata = \"{0}/data\"\ngate = \"{0}/gate\"\npull_key = \"{0}/keys/x\"\nreceipts_key = \"{0}/keys/receipts\"\n",
        site.dir.display()
    );
    fs::write(site.at("node.toml"), node).unwrap();
    site.list = AccessList::first(&name("alice"), &site.public("alice")).unwrap();
    let new = NewClient { key: site.public("web1"), address: None, git_address: None, host_key: None, allow: vec![], quota: None };
    site.list.add_client(&name("web1"), new).unwrap();
    let read = vec![(name("web1"), base::DatasetPattern::new("files:/**").unwrap())];
    site.list.add_restorer(&name("carol"), &site.public("carol"), read).unwrap();
    site.publish();
    site
}

impl Site {
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    fn make_key(&self, who: &str) {
        let done = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", who, "-f"])
            .arg(self.at("keys").join(who))
            .stdin(Stdio::null())
            .status();
        assert!(done.unwrap().success());
    }

    pub fn public(&self, who: &str) -> PublicKey {
        let text = fs::read_to_string(self.at("keys").join(format!("{who}.pub"))).unwrap();
        queue::signature::parse_public_key(&text).unwrap()
    }

    pub fn signer(&self, who: &str) -> Signer {
        Signer::from_file(&self.at("keys").join(who)).unwrap()
    }

    /// As the poller does.
    pub fn publish(&self) {
        for (path, bytes) in self.list.to_files().unwrap() {
            fs::write(self.at("data/access").join(path), bytes).unwrap();
        }
        let lines = self.list.authorized_keys(Path::new(GATE), &self.at("node.toml")).unwrap();
        fs::write(self.at("data/access/authorized_keys"), lines).unwrap();
    }

    /// The gate with a forced command, as sshd runs it for the user's `command`.
    pub fn gate(&self, role: &Role, command: Option<&str>) -> Command {
        let config = if matches!(role, Role::Export(_)) { "client.toml" } else { "node.toml" };
        let key = self.public("web1");
        let line = authorized_line(Path::new(GATE), &self.at(config), role, &key).unwrap();
        let forced = line.strip_prefix("command=\"").and_then(|rest| rest.split_once('"')).unwrap().0;
        // sshd gives it to the account's shell.
        let mut gate = Command::new("/bin/sh");
        gate.args(["-c", forced])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LD_PRELOAD_X", "x")
            .env("SSH_CONNECTION", "192.0.2.1 5 192.0.2.2 22");
        if let Some(command) = command {
            gate.env("SSH_ORIGINAL_COMMAND", command);
        }
        gate
    }

    pub fn run(&self, role: &Role, command: &str) -> Output {
        self.gate(role, Some(command)).stdin(Stdio::null()).output().unwrap()
    }

    pub fn maintain(&self) {
        let done = Command::new(GATE).arg("--config").arg(self.at("node.toml")).arg("maintain").output().unwrap();
        assert!(done.status.success(), "{}", words(&done));
    }

    /// git whose ssh is the gate in `role`.
    pub fn git(&self, role: &Role, folder: &Path) -> Command {
        let config = if matches!(role, Role::Export(_)) { "client.toml" } else { "node.toml" };
        let script = self.at(&format!("ssh-{}-{}", role.word(), role.name()));
        let text = format!(
            "#!/bin/sh\nfor last; do :; done\nSSH_ORIGINAL_COMMAND=\"$last\" exec {GATE} --config {} {} {}\n",
            self.at(config).display(),
            role.word(),
            role.name()
        );
        // Another test thread must not have it open for writing while it is run.
        let temp = script.with_extension(format!("{:?}", std::thread::current().id()));
        fs::write(&temp, text).unwrap();
        fs::set_permissions(&temp, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&temp, &script).unwrap();
        let mut git = Command::new("git");
        git.env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_SSH", script)
            .env("GIT_SSH_VARIANT", "ssh");
        git.current_dir(folder).stdin(Stdio::null());
        git
    }

    /// The client's own queue.
    pub fn client_queue(&self) -> Repository {
        Repository::open_or_create(&self.at("state/queue.git"), "requests").unwrap()
    }

    /// Pushes `what` of the client's queue (`HEAD:refs/heads/requests`, say).
    pub fn push(&self, what: &[&str]) -> Output {
        let mut git = self.git(&Role::Client(name("web1")), &self.at("state/queue.git"));
        git.args(["push", "-q", "gate@node1:queue"]).args(what).output().unwrap()
    }

    pub fn handed_over(&self, who: &str) -> Vec<String> {
        let folder = self.at("gate/handover").join(who);
        let Ok(names) = fs::read_dir(folder) else { return vec![] };
        let mut names: Vec<_> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Takes the packs as the poller does, and gives the tip that they lead to.
    pub fn take_over(&self, who: &str, copy: &Path, branch: &str) -> Option<String> {
        let repository = Repository::open_or_create(copy, branch).unwrap();
        while let Some(pack) = {
            let tip = repository.tip().unwrap().unwrap_or_else(|| NOTHING.into());
            self.handed_over(who).into_iter().find(|pack| pack.starts_with(&tip))
        } {
            let path = self.at("gate/handover").join(who).join(&pack);
            let done = Command::new("git")
                .arg("--git-dir")
                .arg(copy)
                .args(["index-pack", "--stdin", "--strict", "--fix-thin"])
                .stdin(fs::File::open(&path).unwrap())
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", words(&done));
            repository.set_tip(&pack[41..81], repository.tip().unwrap().as_deref()).unwrap();
            fs::remove_file(path).unwrap();
        }
        repository.tip().unwrap()
    }
}

pub fn request(seq: u64) -> Request {
    Request {
        id: RequestId::generate().unwrap(),
        client: name("web1"),
        node: name("node1"),
        dataset: "dummy:x".parse().unwrap(),
        seq,
        prev: None,
        submitted: base::clock::now(),
        by: "root".into(),
        reason: Reason::Manual,
        tags: vec![],
        payload: base::Payload::Nothing,
        repairs: Vec::new(),
        group: None,
    }
}

pub fn commit(repository: &Repository, request: &Request, signer: &Signer) -> String {
    repository.commit_files(&[(request.file_name(), request.to_toml())], &request.message(), signer, "web1").unwrap()
}
