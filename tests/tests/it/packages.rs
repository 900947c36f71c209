//! The Debian packages, as an administrator has them: made, installed into a clean Debian by the Ansible role, used, and purged;
//! and what is in them: units, settings of sshd, manual pages.
//!
//! Needs root, and the Debian that `tests/root.sh` made (`make test` runs it); does nothing otherwise.

use crate::harness::{Killed, Run, bin, blocks, command, not_tested, port, root, run, source_root, until};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// The most that a unit may be exposed, in tenths of what `systemd-analyze security` says.
const EXPOSED: &str = "--threshold=30";

/// The packages, made once for all tests.
fn packages() -> &'static Path {
    static MADE: LazyLock<PathBuf> = LazyLock::new(|| {
        let profile = bin().file_name().unwrap().to_str().unwrap();
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        let mut make = Command::new(source_root().join("deploy/deb.sh"));
        run(make.arg(profile).arg(&made)).exits(0);
        made
    });
    &MADE
}

/// Whether this machine can try them out.
fn possible() -> bool {
    let possible = root() && source_root().join("target/root/root.packages").exists();
    if !possible {
        not_tested("packages", "it takes root, and the Debian that tests/root.sh makes");
    }
    possible
}

/// A clean Debian in a folder of its own.
struct Debian {
    dir: tempfile::TempDir,
    port: u16,
    sshd: Option<Killed>,
}

impl Debian {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("debian-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let from = source_root().join("target/root");
        run(Command::new("cp").args(["-a", "--reflink=auto", "-T"]).arg(from).arg(dir.path())).exits(0);
        // The folder that a test gets may be passed by nobody else.
        run(Command::new("chmod").arg("0755").arg(dir.path())).exits(0);
        Self { dir, port: port(), sshd: None }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// A script of root's in there. What it starts ends with it.
    fn inside(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"])
            .arg(format!("--root={}", self.dir.path().display()))
            .args(["--wd=/", "sh", "-euc", script])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        command
    }

    fn shell(&self, script: &str) -> Run {
        run(&mut self.inside(script))
    }

    fn start_sshd(&mut self) {
        let port = self.port;
        std::fs::write(
            self.at("etc/ssh/sshd_config.d/here.conf"),
            format!("ListenAddress 127.0.0.1\nPort {port}\nLogLevel VERBOSE\nMaxStartups 64\n"),
        )
        .unwrap();
        let key = self.at("root/key");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key)).exits(0);
        self.shell("install -D -m 0600 /root/key.pub /root/.ssh/authorized_keys; mkdir -p /run/sshd").exits(0);
        let mut sshd = self.inside("exec /usr/sbin/sshd -D -E /var/log/sshd.log");
        self.sshd = Some(Killed::start(sshd.stdout(Stdio::null()).stderr(Stdio::null())));
        until("sshd listens", || self.at("run/sshd.pid").exists());
    }

    /// The role, run against this Debian over ssh: it is the node, and a client of it.
    fn play(&self, home: &Path) -> Run {
        let port = self.port;
        std::fs::write(
            home.join("hosts"),
            format!(
                "box ansible_host=127.0.0.1 ansible_port={port} ansible_user=root ansible_python_interpreter=/usr/bin/python3 ansible_ssh_private_key_file={key} \
                 ansible_ssh_common_args='-F none -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={home}/known_hosts'\n",
                key = self.at("root/key").display(),
                home = home.display()
            ),
        )
        .unwrap();
        let made: Vec<String> = std::fs::read_dir(packages()).unwrap().map(|one| format!("{:?}", one.unwrap().path())).collect();
        std::fs::create_dir_all(home.join("host_vars")).unwrap();
        std::fs::write(
            home.join("host_vars/box.yml"),
            format!(
                "nightsafe_packages: [{}]\nnightsafe_is_node: true\nnightsafe_is_client: true\nnightsafe_admin: alice\nnightsafe_admin_key: {home}/alice\n\
                 nightsafe_node: box\nnightsafe_node_name: node1\nnightsafe_client_name: web1\nnightsafe_node_address: ns-gate@127.0.0.1:{port}\n\
                 nightsafe_client_address: nightsafe@127.0.0.1:{port}\nnightsafe_recipients: [{}]\nnightsafe_datasets: ['files:/srv/www']\n",
                made.join(", "),
                std::fs::read_to_string(home.join("recipient")).unwrap().trim(),
                home = home.display()
            ),
        )
        .unwrap();
        std::fs::write(home.join("play.yml"), "- hosts: box\n  gather_subset: ['!all', min, service_mgr]\n  roles: [nightsafe]\n").unwrap();
        let mut play = command("ansible-playbook", home);
        play.args(["-i", "hosts", "play.yml"])
            .env("ANSIBLE_ROLES_PATH", source_root().join("deploy/ansible/roles"))
            .env("ANSIBLE_PIPELINING", "1")
            .env("ANSIBLE_NOCOLOR", "1")
            .env("ANSIBLE_HOME", home.join(".ansible"))
            .current_dir(home);
        run(&mut play).exits(0)
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        // It is the first process of a name space, whose others end with it.
        drop(self.sshd.take());
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.at("var/log/sshd.log")).unwrap_or_default();
            eprintln!("sshd's last words: {}", log.lines().rev().take(20).collect::<Vec<_>>().join("\n"));
        }
    }
}

#[test]
fn packages_install_by_the_role_work_and_leave_what_is_stored() {
    if !possible() {
        return;
    }
    let mut debian = Debian::new();
    let home = tempfile::Builder::new().prefix("nst-").tempdir().unwrap();
    let home = home.path();
    let text = |name: &str| home.join(name).to_str().unwrap().to_owned();
    run(command("ssh-keygen", home).args(["-q", "-t", "ed25519", "-N", "", "-f", &text("alice")])).exits(0);
    run(command("age-keygen", home).args(["-o", &text("identity")])).exits(0);
    let recipient = run(command("age-keygen", home).args(["-y", &text("identity")])).ok();
    std::fs::write(home.join("recipient"), recipient).unwrap();
    debian.start_sshd();

    debian.play(home).says(&["changed="]);
    let again = debian.play(home);
    again.says(&["changed=0"]).says(&["failed=0"]);
    debian.shell("! ls /run/nightsafe-admin*").exits(0);

    // What is there for people.
    let version = format!("nightsafe {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(debian.shell("nightsafe --version").ok(), version);
    debian
        .shell("man nightsafe; man nightsafe-submit; man nightsafe-server-client-add; man nightsafe-gate")
        .says(&["nightsafe-submit", "EXIT STATUS"])
        .exits(0);
    debian
        .shell("ls /usr/share/bash-completion/completions/nightsafe /usr/share/zsh/vendor-completions/_nightsafe-server /usr/share/fish/vendor_completions.d/nightsafe-gate.fish /usr/share/doc/nightsafe/copyright /usr/share/doc/nightsafe-server/changelog.Debian.gz /usr/share/doc/nightsafe-gate/packages.md /usr/share/doc/nightsafe-gate/reference/client.toml.md")
        .exits(0);
    debian
        .shell("sshd -t && sshd -T -C user=ns-gate,host=x,addr=127.0.0.1 && sshd -T -C user=nightsafe,host=x,addr=127.0.0.1")
        .says(&["authorizedkeyscommand /usr/bin/nightsafe-gate", "disableforwarding yes"])
        .exits(0);
    // Accounts, and whose the folders are.
    let groups = debian.shell("for who in nightsafe ns-gate ns-poll ns-read ns-web; do echo \"$who: $(id -Gn $who | tr ' ' '\\n' | sort | tr '\\n' ' ')\"; done").ok();
    assert_eq!(
        groups,
        "nightsafe: nightsafe nightsafe-submit ns-config \nns-gate: ns-gate ns-serve \nns-poll: ns-config ns-data ns-gate ns-serve ns-web \nns-read: ns-data ns-serve ns-web \nns-web: ns-web \n"
    );
    let modes = debian.shell("stat -c '%n %U:%G %a' /etc/nightsafe /srv/nightsafe /var/lib/nightsafe /var/lib/nightsafe-gate /var/lib/nightsafe-gate/handover").ok();
    assert_eq!(
        modes,
        "/etc/nightsafe root:ns-config 755\n/srv/nightsafe ns-poll:ns-data 2751\n/var/lib/nightsafe nightsafe:nightsafe 755\n/var/lib/nightsafe-gate ns-gate:ns-gate 2750\n/var/lib/nightsafe-gate/handover ns-gate:ns-gate 2770\n"
    );
    debian
        .shell("for who in nightsafe ns-gate ns-poll ns-read; do case $(getent shadow $who) in $who:'*':*) ;; *) exit 1 ;; esac; done")
        .exits(0);
    debian.shell("grep -q MemoryMax /etc/systemd/system/user-$(id -u ns-gate).slice.d/nightsafe.conf; ls /etc/systemd/system/multi-user.target.wants/nightsafe-watch.service /etc/systemd/system/multi-user.target.wants/nightsafe-server-watch.service /etc/systemd/system/timers.target.wants/nightsafe-gate-maintain.timer").exits(0);
    debian.shell("! [ -e /etc/systemd/system/timers.target.wants/nightsafe-send.timer ]").exits(0);
    debian.shell("runuser -u ns-poll -- nightsafe-server config check").exits(0);

    // A backup of what only root may read: as cron starts it, and as the unit does.
    debian.shell("mkdir -p /srv/www; echo open >/srv/www/a; echo secret >/srv/www/b; chmod 0600 /srv/www/b").exits(0);
    let send = "cd /; runuser -u nightsafe -- nightsafe send";
    debian.shell(&format!("runuser -u nightsafe -- nightsafe submit --all; {send}")).says(&["b: could not open it"]).exits(3);
    let poll = "cd /; runuser -u ns-poll -- nightsafe-server poll";
    debian.shell(poll).exits(0);
    debian.shell("runuser -u nightsafe -- nightsafe submit --all").exits(0);
    let capable = "cd /; HOME=/var/lib/nightsafe setpriv --reuid=nightsafe --regid=nightsafe --init-groups --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search --no-new-privs nightsafe send";
    debian.shell(capable).exits(0);
    debian.shell(poll).exits(0);
    debian.shell(capable).exits(0);
    // root does not by mistake leave there what the sender could not change.
    debian.shell("nightsafe send").says(&["belongs to nightsafe, and this is root", "runuser -u nightsafe"]).exits(2);
    let stored = debian.shell("cd /; runuser -u ns-poll -- nightsafe-server snapshots --json").json();
    assert_eq!(stored.as_array().unwrap().len(), 2, "{stored}");
    debian.shell("cd /; runuser -u ns-gate -- nightsafe-gate --config /etc/nightsafe/node.toml maintain").exits(0);

    // A folder that was closed stays closed.
    debian.shell("systemd-tmpfiles --create nightsafe-gate.conf; stat -c %a /etc/nightsafe").says(&["755\n"]).exits(0);

    // Purging takes the programs away, and nothing that nobody has another copy of.
    let kept = "cd /; sha256sum /srv/nightsafe/web1/packs/* /var/lib/nightsafe/id_ed25519 /etc/nightsafe/*; id ns-poll";
    let before = debian.shell(kept).ok();
    debian.shell("dpkg --purge nightsafe nightsafe-server nightsafe-gate").exits(0);
    assert_eq!(debian.shell(kept).ok(), before);
    debian.shell("! ls /usr/bin/nightsafe* /etc/ssh/sshd_config.d/nightsafe* /usr/lib/systemd/system/nightsafe* /etc/systemd/system/*/nightsafe* && sshd -t").exits(0);

    // The same by hand, as on a machine that never had any of it.
    debian.shell("rm -rf /srv/www/b /etc/nightsafe /srv/nightsafe /var/lib/nightsafe /var/lib/nightsafe-gate").exits(0);
    by_the_page(&debian, home);
}

/// Stands in for systemd's, which does nothing in a Debian that was not booted: it wants units that are there, and reloads sshd.
const SYSTEMCTL: &str = r#"#!/bin/sh
for unit; do
    case $unit in start | reload | enable | disable | ssh | --now) continue ;; esac
    ls /usr/lib/systemd/system/"$unit" /usr/lib/systemd/system/"$unit".service 2>/dev/null | grep -q . || exit 5
done
[ "$*" != "reload ssh" ] || kill -HUP "$(cat /run/sshd.pid)"
echo "$*" >>/root/asked-of-systemd
"#;

/// What docs/packages.md has root do, in one login; this machine is its node and its client.
fn by_the_page(debian: &Debian, home: &Path) {
    std::fs::write(debian.at("usr/local/bin/systemctl"), SYSTEMCTL).unwrap();
    std::fs::create_dir(debian.at("root/debian")).unwrap();
    for package in std::fs::read_dir(packages()).unwrap().map(Result::unwrap) {
        std::fs::copy(package.path(), debian.at("root/debian").join(package.file_name())).unwrap();
    }
    let page = std::fs::read_to_string(source_root().join("docs/packages.md")).unwrap();
    let port = debian.port;
    let script = blocks(&page, "sh").concat();
    let closed = "chmod 0755 /etc/nightsafe\n";
    assert_eq!(script.matches(closed).count(), 2, "each machine closes the folder");
    let script = script
        .replacen(closed, "", 1)
        .replace("backup.example.org", &format!("127.0.0.1:{port}"))
        .replace("web1.example.org", &format!("127.0.0.1:{port}"))
        .replace("age1…", std::fs::read_to_string(home.join("recipient")).unwrap().trim());
    std::fs::write(debian.at("root/page"), script).unwrap();
    let mut ssh = command("ssh", home);
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", &format!("UserKnownHostsFile={}/known_hosts", home.display())])
        .args(["-p", &port.to_string(), "-i", debian.at("root/key").to_str().unwrap(), "root@127.0.0.1"])
        .arg("chmod +x /usr/local/bin/systemctl; cd debian; exec bash -eux ../page");
    run(&mut ssh).exits(0);
    debian.shell("cd /; runuser -u nightsafe -- nightsafe send; runuser -u ns-poll -- nightsafe-server poll; runuser -u nightsafe -- nightsafe send").exits(0);
    let stored = debian.shell("cd /; runuser -u ns-poll -- nightsafe-server snapshots --json").json();
    assert_eq!(stored.as_array().unwrap().len(), 1, "{stored}");
    debian.shell("stat -c %a /etc/nightsafe; cat /root/asked-of-systemd").says(&["755\n", "reload ssh", "start nightsafe-watch"]).exits(0);
}

#[test]
fn units_are_right_and_little_exposed() {
    if !possible() {
        return;
    }
    let debian = Debian::new();
    for package in std::fs::read_dir(packages()).unwrap() {
        run(Command::new("dpkg-deb").arg("--extract").arg(package.unwrap().path()).arg(debian.dir.path())).exits(0);
    }
    let folder = debian.at("usr/lib/systemd/system");
    // A minimal Debian has none of systemd's own units, which ours stand in relation to.
    let targets = format!("cp /usr/lib/systemd/system/*.target {}", folder.display());
    run(Command::new("sh").args(["-c", &targets])).exits(0);
    let units: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("nightsafe"))
        .collect();
    assert!(units.len() >= 10, "{units:?}");
    // Every unit that is made here is packed, and the other way about.
    for entry in std::fs::read_dir(source_root().join("deploy/systemd")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let unit = [".service", ".timer", ".slice"].iter().any(|end| name.ends_with(end));
        assert!(!unit || units.contains(&name), "{name} is in no package");
    }
    let whole: Vec<String> = units.iter().map(|name| name.replace("@.", "@nightsafe-watch.service.")).collect();
    let verified = run(Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=one"])
        .arg(format!("--root={}", debian.dir.path().display()))
        .args(&whole));
    // It complains about a name, a setting or a program by a line; the code alone says only the worst.
    assert!(verified.stderr.lines().all(|line| !line.contains("nightsafe")), "{verified}");
    verified.exits(0);
    for unit in units.iter().filter(|name| name.ends_with(".service")) {
        let path = folder.join(unit);
        run(Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager", EXPOSED]).arg(path)).exits(0);
    }
}

#[test]
fn a_unit_that_failed_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let (mail, program) = (dir.path().join("mail"), dir.path().join("sendmail"));
    std::fs::write(&program, format!("#!/bin/sh\n{{ echo \"$@\"; cat; }} >{}\n", mail.display())).unwrap();
    run(Command::new("chmod").arg("+x").arg(&program)).exits(0);
    let mut failed = Command::new(source_root().join("deploy/systemd/unit-failed.sh"));
    failed.arg("nightsafe-watch.service").env("NIGHTSAFE_SENDMAIL", &program).env("NIGHTSAFE_FAILED_TO", "alice@example.org");
    run(&mut failed).says(&["<3>nightsafe-watch.service failed."]).exits(0);
    let mail = std::fs::read_to_string(mail).unwrap();
    for words in [
        "-i -- alice@example.org\n",
        "To: alice@example.org\nSubject: Nightsafe: nightsafe-watch.service failed on ",
        "journalctl -u nightsafe-watch.service",
    ] {
        assert!(mail.contains(words), "{mail}");
    }
    let mut without = Command::new(source_root().join("deploy/systemd/unit-failed.sh"));
    run(without.arg("x.service").env("NIGHTSAFE_SENDMAIL", dir.path().join("none"))).says(&["x.service failed"]).exits(0);
}

#[test]
fn the_example_of_a_playbook_is_one() {
    if run(Command::new("sh").args(["-c", "command -v ansible-playbook"])).code != Some(0) {
        return not_tested("the example of a playbook", "there is no ansible-playbook");
    }
    let home = tempfile::tempdir().unwrap();
    let play = |args: &[&str]| {
        let mut play = command("ansible-playbook", home.path());
        play.args(args).env("ANSIBLE_HOME", home.path()).env("ANSIBLE_NOCOLOR", "1");
        run(play.current_dir(source_root().join("deploy/ansible")))
    };
    play(&["-i", "hosts.yml", "--syntax-check", "example.yml"]).exits(0);
    // Before anything is done, it says what it has not been told.
    let without = std::fs::read_to_string(source_root().join("deploy/ansible/hosts.yml")).unwrap();
    let without = without
        .replace("nightsafe_admin: alice", "nightsafe_admin: ''")
        .replace("backup.example.org:", "backup.example.org: { ansible_connection: local }");
    let inventory = home.path().join("hosts.yml");
    std::fs::write(&inventory, without).unwrap();
    play(&["-i", inventory.to_str().unwrap(), "--limit", "nodes", "-e", "ansible_become=false", "example.yml"])
        .says(&["nightsafe_admin is missing for backup.example.org"])
        .exits(2);
}
