//! A real sshd on a free loopback port, in a temporary folder, which runs what it is told below `files/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use transport::{Endpoint, Peer};

pub struct Server {
    folder: tempfile::TempDir,
    port: u16,
    _sshd: base::process::Running,
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = base::process::command(program);
    for (name, value) in [
        ("GIT_AUTHOR_NAME", "t"),
        ("GIT_AUTHOR_EMAIL", "t@t"),
        ("GIT_COMMITTER_NAME", "t"),
        ("GIT_COMMITTER_EMAIL", "t@t"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ] {
        command.env(name, value);
    }
    command.args(arguments);
    String::from_utf8(base::process::run_ok(command, 1 << 20, Duration::from_secs(60)).unwrap()).unwrap()
}

pub fn git(arguments: &[&str]) -> String {
    run("git", arguments)
}

/// A repository with one commit, whose id is given back.
pub fn repository(path: &Path) -> String {
    git(&["init", "-q", path.to_str().unwrap()]);
    commit(path, "one")
}

/// Commits all that is in the folder.
pub fn commit(path: &Path, message: &str) -> String {
    let path = path.to_str().unwrap();
    git(&["-C", path, "add", "-A"]);
    git(&["-C", path, "commit", "-q", "--allow-empty", "-m", message]);
    git(&["-C", path, "rev-parse", "HEAD"]).trim().to_owned()
}

fn answers(sshd: &mut base::process::Running, log: &Path) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if sshd.0.try_wait().unwrap().is_some() {
            return false;
        }
        if std::fs::read_to_string(log).unwrap_or_default().contains("Server listening") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

impl Server {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("t").tempdir().unwrap();
        let root = folder.path().to_owned();
        let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
        // As root sshd wants this folder, and nothing will be in it.
        let _ = std::fs::create_dir("/run/sshd");
        for key in ["host", "key", "other"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]);
        }
        std::fs::create_dir(at("files")).unwrap();
        let script = "#!/bin/sh\ncd FILES || exit 1\ncase \"$SSH_ORIGINAL_COMMAND\" in\nsftp) test -e liar && exec sh ./liar; exec /usr/lib/openssh/sftp-server -R ;;\ngit-*\\'/*) SSH_ORIGINAL_COMMAND=$(echo \"$SSH_ORIGINAL_COMMAND\" | sed \"s|'/|'./|\") ;;\nesac\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n";
        std::fs::write(at("forced"), script.replace("FILES", &at("files"))).unwrap();
        std::fs::set_permissions(at("forced"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let public = std::fs::read_to_string(at("key.pub")).unwrap();
        std::fs::write(at("authorized_keys"), format!("command=\"{}\",restrict {public}", at("forced"))).unwrap();
        // Another test may take the port between our look and sshd's bind.
        for _ in 0..5 {
            let port = free_port();
            let config = format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nAcceptEnv GIT_PROTOCOL\nMaxStartups 100\n",
                at("host"),
                at("authorized_keys")
            );
            std::fs::write(at("sshd_config"), config).unwrap();
            let mut sshd = Command::new("/usr/sbin/sshd");
            sshd.args(["-D", "-f", &at("sshd_config"), "-E", &at("log")]);
            let mut sshd = base::process::Running(sshd.spawn().unwrap());
            if answers(&mut sshd, &root.join("log")) {
                return Self { folder, port, _sshd: sshd };
            }
        }
        panic!("sshd did not start");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How many times somebody logged in.
    pub fn logins(&self) -> usize {
        self.log().matches("Accepted publickey").count()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What commands and sftp see.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// A key that is not the host's.
    pub fn other_key(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("other.pub")).unwrap()
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            alias: "web1".into(),
            address: format!("{}@127.0.0.1:{}", run("id", &["-un"]).trim(), self.port).parse().unwrap(),
            host_key: std::fs::read_to_string(self.folder.path().join("host.pub")).unwrap(),
            key: self.folder.path().join("key"),
            runtime: self.folder.path().join("run"),
        }
    }

    /// The peer, with the example program as git's way to ssh.
    pub fn peer(&self) -> Peer {
        let test = std::env::current_exe().unwrap();
        let wrapper = test.ancestors().nth(2).unwrap().join("examples/wrapper");
        assert!(wrapper.exists(), "{} is not built; run cargo test -p transport without --test", wrapper.display());
        Peer::with_wrapper(self.endpoint(), &wrapper).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The connection that stays open would outlive the test by a minute.
        if let Ok(peer) = Peer::new(self.endpoint()) {
            let _ = peer.close();
        }
    }
}
