//! Four accounts on the node, as `docs/install.md` makes them: its blocks are run as they stand, with other names.
//!
//! Needs root for the accounts, which are removed afterwards.

use crate::harness::{Ended, Killed, ask_socket, bin, blocks, not_tested, port, root, run, source_root, started, until};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ACCOUNTS: [&str; 4] = ["ns-gate", "ns-poll", "ns-read", "ns-web"];
const GROUPS: [&str; 5] = ["ns-gate", "ns-data", "ns-serve", "ns-web", "ns-submit"];

/// What accounts are for, as [`ATTEMPTS`] has what they must not do.
const USES: &[(&str, &str, &str)] = &[
    ("ns-gate", "read the list", "cat srv/access/access.toml srv/access/keys/web1.pub"),
    ("ns-gate", "read the receipts", "git -c safe.directory='*' -C srv/web1/receipts.git log receipts"),
    ("ns-gate", "see how far the log goes", "cat srv/access/tips/web1"),
    ("ns-read", "read a pack", "cat srv/web1/packs/*"),
    ("ns-read", "read a snapshot", "cat srv/web1/snapshots/*/request.toml"),
    ("ns-read", "read the log", "git -c safe.directory='*' -C srv/log/web1.git log requests"),
    ("ns-read", "read a mirror", "git -c safe.directory='*' -C srv/web1/mirrors/*.git cat-file -p main"),
    ("ns-web", "read a mirror", "git -c safe.directory='*' -C srv/web1/mirrors/*.git cat-file -p main"),
    ("ns-web", "read the list of mirrors", "grep -q '^repo.path=.*/mirrors/' srv/_cgit/repositories"),
];

/// What each account must not be able to do, tried in the installation's folder: who, what, how.
const ATTEMPTS: &[(&str, &str, &str)] = &[
    ("ns-gate", "let itself in", "echo x >>srv/access/authorized_keys"),
    ("ns-gate", "add a key to the list", "cp srv/access/keys/web1.pub srv/access/keys/mallory.pub"),
    ("ns-gate", "replace the list", "echo x >new; mv new srv/access/access.toml"),
    ("ns-gate", "move the poller's copy of the list", "git -c safe.directory='*' -C srv/admin.git update-ref refs/heads/access HEAD"),
    ("ns-gate", "move the receipts", "git -c safe.directory='*' -C srv/web1/receipts.git update-ref refs/heads/receipts HEAD"),
    ("ns-gate", "write an object of the receipts", "echo x | git -c safe.directory='*' -C srv/web1/receipts.git hash-object -w --stdin"),
    ("ns-gate", "configure the receipts", "echo x >>srv/web1/receipts.git/config"),
    ("ns-gate", "move the log", "git -c safe.directory='*' -C srv/log/web1.git update-ref refs/heads/requests HEAD"),
    ("ns-gate", "remove the log", "rm -rf srv/log/web1.git && ! [ -e srv/log/web1.git ]"),
    ("ns-gate", "remove a pack", "rm -f srv/web1/packs/*"),
    ("ns-gate", "write a pack", "echo x >srv/web1/packs/x"),
    ("ns-gate", "remove a snapshot", "rm -rf srv/web1/snapshots/* && [ -z \"$(ls srv/web1/snapshots)\" ]"),
    ("ns-gate", "put something into the pool", "echo x >srv/web1/pool/C20261120T031500Z-3f9a1c7e"),
    ("ns-gate", "forget alarms", "rm -f srv/state/x; touch srv/state/x"),
    ("ns-gate", "read the key that signs receipts", "cat etc/receipts"),
    ("ns-gate", "read the key that logs in to clients", "cat etc/pull"),
    ("ns-gate", "change the configuration", "echo x >>etc/node.toml"),
    ("ns-gate", "see who there is", "ls srv"),
    ("ns-gate", "read a pack", "cat srv/web1/packs/*"),
    ("ns-gate", "read a snapshot", "cat srv/web1/snapshots/*/request.toml"),
    ("ns-gate", "read the log", "git -c safe.directory='*' -C srv/log/web1.git log requests"),
    ("ns-gate", "read a mirror", "ls srv/web1/mirrors"),
    ("ns-gate", "see what is served", "ls srv/web1/pool"),
    ("ns-gate", "read what the node remembers", "ls srv/state || cat srv/web1/last.toml"),
    ("ns-gate", "read the list of mirrors", "cat srv/_cgit/repositories"),
    ("ns-web", "read a pack", "cat srv/web1/packs/*"),
    ("ns-web", "read a snapshot", "cat srv/web1/snapshots/*/request.toml"),
    ("ns-web", "read the log", "cat srv/log/web1.git/HEAD"),
    ("ns-web", "read the receipts", "cat srv/web1/receipts.git/HEAD"),
    ("ns-web", "read the queues", "cat gate/queues/web1.git/HEAD"),
    ("ns-web", "read what the node remembers", "ls srv/state || cat srv/web1/last.toml"),
    ("ns-web", "read the key that logs in to clients", "cat etc/pull"),
    ("ns-web", "write into a mirror", "touch srv/web1/mirrors/*.git/x"),
    ("ns-read", "let itself in", "echo x >>srv/access/authorized_keys"),
    ("ns-read", "remove a pack", "rm -f srv/web1/packs/*"),
    ("ns-read", "write into the hand-over", "touch gate/handover/wake/web1"),
    ("ns-read", "read the queues", "cat gate/queues/web1.git/HEAD"),
    ("ns-read", "move the receipts", "git -c safe.directory='*' -C srv/web1/receipts.git update-ref refs/heads/receipts HEAD"),
    ("ns-read", "read the key that signs receipts", "cat etc/receipts"),
    ("ns-poll", "write into a queue", "touch gate/queues/web1.git/x"),
    ("ns-poll", "move a queue", "git -c safe.directory='*' -C gate/queues/web1.git update-ref refs/heads/requests HEAD"),
    ("ns-poll", "read the client's key", "cat client/id_ed25519"),
];

/// The status page, listening.
fn started_page(mut command: Command, socket: &Path) -> Ended {
    command.arg(socket);
    let page = started(command);
    until("the status page listens", || std::os::unix::net::UnixStream::connect(socket).is_ok());
    page
}

struct Machine {
    dir: PathBuf,
    temp: Option<tempfile::TempDir>,
    programs: tempfile::TempDir,
    port: u16,
    sshd: Option<Killed>,
}

impl Machine {
    fn new() -> Self {
        let temp = tempfile::Builder::new().prefix("nst-").tempdir_in("/tmp").unwrap();
        // sshd runs nothing that lies below a folder which others can write, as /tmp is.
        let programs = tempfile::Builder::new().prefix("nst-").tempdir_in("/var/lib").unwrap();
        let this = Self { dir: temp.path().to_owned(), temp: Some(temp), programs, port: port(), sshd: None };
        // The programs may lie where other accounts do not get to.
        this.shell("chmod 0755 . && mkdir bin home etc-client www run && ssh-keygen -q -t ed25519 -N '' -f host");
        for program in ["nightsafe", "nightsafe-server", "nightsafe-gate"] {
            std::fs::copy(bin().join(program), this.programs.path().join(program)).unwrap();
        }
        this
    }

    /// A name of the page's in this test: accounts must not clash with those of a run beside this one.
    fn name(&self, name: &str) -> String {
        format!("{name}{}", std::process::id())
    }

    /// The page's text with this test's names and places.
    fn here(&self, text: &str) -> String {
        let dir = self.dir.to_str().unwrap();
        let mut text = text.to_owned();
        for (old, new) in [
            ("ns-gate@backup.example.org:admin", format!("ssh://ns-gate@127.0.0.1:{}/admin", self.port)),
            ("@backup.example.org", format!("@127.0.0.1:{}", self.port)),
            ("@web1.example.org", format!("@127.0.0.1:{}", self.port)),
            (
                "nightsafe --config /etc/nightsafe/client.toml init ",
                format!("nightsafe --config /etc/nightsafe/client.toml init --host-key {dir}/host.pub "),
            ),
            ("node.toml init ", format!("node.toml init --host-key {dir}/host.pub ")),
            ("ssh -i ", format!("ssh -F none -o UserKnownHostsFile={dir}/known_hosts -o StrictHostKeyChecking=yes -i ")),
            ("/usr/local/bin", self.programs.path().to_str().unwrap().to_owned()),
            ("/etc/ssh/ssh_host_ed25519_key.pub", format!("{dir}/host.pub")),
            ("/etc/nightsafe/client.toml", format!("{dir}/etc-client/client.toml")),
            ("/etc/nightsafe", format!("{dir}/etc")),
            ("/var/lib/nightsafe-gate", format!("{dir}/gate")),
            ("/var/lib/nightsafe", format!("{dir}/client")),
            ("/srv/nightsafe", format!("{dir}/srv")),
            ("/var/www", format!("{dir}/www")),
        ] {
            text = text.replace(old, &new);
        }
        for name in ["ns-gate", "ns-poll", "ns-read", "ns-web", "ns-data", "ns-serve", "ns-submit"] {
            text = text.replace(name, &self.name(name));
        }
        text
    }

    fn command(&self, program: &str) -> Command {
        let mut command = crate::harness::command(program, &self.dir.join("home"));
        command
            .env("PATH", format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.programs.path().display()))
            // root's own list of keys is not for tests.
            .env("NIGHTSAFE_AUTHORIZED_KEYS", self.dir.join("home/.ssh/authorized_keys"))
            .env("NIGHTSAFE_SSHD_CONFIG", self.dir.join("sshd_config"))
            .current_dir(&self.dir);
        command
    }

    #[track_caller]
    fn shell(&self, script: &str) -> String {
        run(self.command("bash").args(["-euc", script])).ok()
    }

    fn start_sshd(&mut self) {
        let dir = self.dir.display();
        let settings = std::fs::read_to_string(source_root().join("deploy/sshd/node.conf")).unwrap();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {}\nHostKey {dir}/host\nPidFile {dir}/listening\nStrictModes no\nUsePAM no\nLogLevel VERBOSE\nPermitRootLogin forced-commands-only\nMaxStartups 64\nMaxSessions 16\n{}\nMatch User root\n    AuthorizedKeysFile {dir}/home/.ssh/authorized_keys\n",
            self.port,
            self.here(&settings)
        );
        std::fs::write(self.dir.join("sshd_config"), config).unwrap();
        std::fs::write(
            self.dir.join("known_hosts"),
            format!("[127.0.0.1]:{} {}", self.port, std::fs::read_to_string(self.dir.join("host.pub")).unwrap()),
        )
        .unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let mut sshd = self.command("/usr/sbin/sshd");
        sshd.args(["-D", "-f"]).arg(self.dir.join("sshd_config")).arg("-E").arg(self.dir.join("sshd.log"));
        self.sshd = Some(Killed::start(sshd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())));
        until("sshd listens", || self.dir.join("listening").exists());
    }

    /// What an account makes of a script.
    fn as_account(&self, account: &str, script: &str) -> crate::harness::Run {
        run(self.command("runuser").args(["-u", &self.name(account), "--", "sh", "-euc", script]))
    }

    /// What an account can write below `places`, by `find`.
    fn writable(&self, account: &str, places: &[&str]) -> String {
        let mut find = self.command("runuser");
        find.args(["-u", &self.name(account), "--", "find"]).args(places).args(["-writable", "!", "-type", "l"]);
        run(&mut find).stdout
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.sshd.take());
        for account in ACCOUNTS {
            // Nothing of these accounts may be left, or they cannot be removed.
            let _ = run(self.command("pkill").args(["-KILL", "-U", &self.name(account)]));
            until("the account's processes are gone", || run(self.command("pgrep").args(["-U", &self.name(account)])).code != Some(0));
            let _ = run(self.command("userdel").arg(self.name(account)));
        }
        for group in GROUPS {
            let _ = run(self.command("groupdel").arg(self.name(group)));
        }
        if std::thread::panicking()
            && let Some(temp) = self.temp.take()
        {
            eprintln!("What there was is kept in {}; its accounts are gone.", temp.keep().display());
        }
    }
}

#[test]
fn the_installation_page_from_accounts_to_restore() {
    if !root() {
        return not_tested("the installation with its accounts", "only root makes what it takes");
    }
    let mut machine = Machine::new();
    machine.start_sshd();
    machine.shell("printf hello >www/index.html; mkdir www/sub; head -c 300000 /dev/urandom >www/sub/data; ln -s index.html www/link");
    let page = std::fs::read_to_string(source_root().join("docs/install.md")).unwrap();
    let mut script = blocks(&page, "sh").concat();
    // What cron does within the minute, the test does where the page waits for it.
    let poll = "(cd /; runuser -u ns-poll -- nightsafe-server --config /etc/nightsafe/node.toml poll)\n";
    let pushed = "git push -q ns-gate@backup.example.org:admin access\n";
    assert!(script.contains(pushed));
    script = script.replace(pushed, &format!("{pushed}{poll}"));
    machine.shell(&machine.here(&script));

    // A mirror too.
    let repository = machine.dir.join("repo.git").display().to_string();
    let nightsafe = "nightsafe --config /etc/nightsafe/client.toml";
    machine.shell(&machine.here(&format!(
        "git init -q --bare -b main {repository}; cd home/access
         git -C {repository} update-ref refs/heads/main $(git -C {repository} -c user.name=x -c user.email=x@x commit-tree -m x $(git -C {repository} mktree </dev/null))
         sed -i 's|^allow = .*|allow = [\"files:/var/www\", \"git:{repository}\"]|' access.toml; git commit -q -S -am 'Take a repository'; {pushed}{poll}
         printf '\\n[cgit]\\n' >>/etc/nightsafe/node.toml; printf '\\n[[dataset]]\\naddress = \"git:{repository}\"\\n' >>/etc/nightsafe/client.toml
         {nightsafe} submit git {repository}; {nightsafe} send; {poll}{nightsafe} send"
    )));

    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (srv, gate, etc) = (text(&machine.dir.join("srv")), text(&machine.dir.join("gate")), text(&machine.dir.join("etc")));
    // Who may do what is held by the kernel as well.
    assert_eq!(machine.writable("ns-gate", &[&srv, &etc]), "", "the gate writes nothing of the poller's");
    for account in ["ns-read", "ns-web"] {
        assert_eq!(machine.writable(account, &[&srv, &gate, &etc]), "", "{account} writes nothing");
    }
    let poller = machine.writable("ns-poll", &[&gate]);
    assert!(poller.lines().all(|line| line.contains("/handover")), "the poller writes the hand-over alone:\n{poller}");
    for (account, file) in [
        ("ns-gate", "etc/pull"),
        ("ns-gate", "etc/receipts"),
        ("ns-read", "etc/pull"),
        ("ns-read", "etc/receipts"),
        ("ns-gate", "client/id_ed25519"),
        ("ns-poll", "client/id_ed25519"),
    ] {
        let mut read = machine.command("runuser");
        read.args(["-u", &machine.name(account), "--", "cat", file]);
        assert_ne!(run(&mut read).code, Some(0), "{account} reads {file}");
    }
    for (account, what, attempt) in ATTEMPTS {
        let tried = machine.as_account(account, attempt);
        assert_ne!(tried.code, Some(0), "{account} can {what}: {tried}");
    }
    for (account, what, how) in USES {
        let tried = machine.as_account(account, how);
        assert_eq!(tried.code, Some(0), "{account} cannot {what}: {tried}");
    }
    // The status page runs as who reads and writes nothing.
    let snapshot = machine.shell("ls srv/web1/snapshots | head -n 1");
    machine.shell(&machine.here(&format!(
        "cd /; runuser -u ns-poll -- nightsafe-server --config /etc/nightsafe/node.toml hold {} --reason evidence",
        snapshot.trim()
    )));
    machine.shell(&machine.here("install -d -o ns-read -m 0755 web"));
    let mut page = machine.command("runuser");
    page.args(["-u", &machine.name("ns-read"), "--", "nightsafe-server", "--config", &format!("{etc}/node.toml"), "web", "--listen"]);
    let page = started_page(page, &machine.dir.join("web/socket"));
    let ask = |path: &str| ask_socket(&machine.dir.join("web/socket"), "GET", path, &[]);
    let (repository_in_url, www) = (repository.replace('/', "%2F"), machine.dir.join("www").display().to_string());
    ask("/").is(200).shows(&["web1"]).hides(&["open to others"]);
    ask("/client/web1").is(200).shows(&[&format!("files:{www}"), &format!("git:{repository}")]);
    ask(&format!("/client/web1/dataset?name=git%3A{repository_in_url}")).is(200).shows(&["Size in the store", "Nothing was rewritten"]);
    ask("/log").is(200).shows(&["stored", &format!("files:{www}")]);
    ask("/deeds").is(200).shows(&["held", "because: evidence"]);
    drop(page);
    // The node says when it is not so any more.
    let server = "runuser -u ns-poll -- nightsafe-server --config /etc/nightsafe/node.toml";
    let node = |command: &str| run(machine.command("bash").args(["-c", &machine.here(&format!("cd /; {server} {command}"))]));
    node("config check").exits(0);
    machine.shell(&machine.here(
        "chmod g+w srv/access; chown nobody srv/web1/receipts.git; chmod o+w gate/handover; chmod o+rx srv/web1/packs; chgrp ns-data srv/web1/mirrors; gpasswd -a ns-gate ns-data >/dev/null",
    ));
    let words = [
        "srv/access can be written by others (mode 2775)",
        "srv/web1/receipts.git belongs to uid",
        "gate/handover can be written by others",
        "srv/web1/packs can be read by others",
        "srv/web1/mirrors is not the group's that groups.mirrors names",
        &format!("{}, the gate's account, is in the group {}", machine.name("ns-gate"), machine.name("ns-data")),
    ];
    node("status").says(&words).exits(3);
    node("config check").says(&words).exits(2);
    machine.shell(&machine.here(
        "chmod g-w srv/access; chown ns-poll srv/web1/receipts.git; chmod o-w gate/handover; chmod o= srv/web1/packs; gpasswd -d ns-gate ns-data >/dev/null",
    ));
    node("poll --sweep").exits(0);
    node("config check").exits(0);
    // Nobody comes in by another door: a client's key at the restorers' account, a restorer's at root's.
    for (key, user) in [
        ("client/id_ed25519", machine.name("ns-read")),
        ("home/carol", "root".into()),
        ("home/alice", machine.name("ns-read")),
        ("home/alice", "root".into()),
    ] {
        let mut ssh = machine.command("ssh");
        ssh.args([
            "-F",
            "none",
            "-T",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "ControlPath=none",
            "-o",
            "UserKnownHostsFile=known_hosts",
            "-i",
            key,
        ])
        .args(["-p", &machine.port.to_string(), &format!("{user}@127.0.0.1"), "ping"]);
        let tried = run(&mut ssh);
        assert!(tried.code == Some(255) && tried.stderr.contains("Permission denied"), "{key} as {user}: {tried}");
    }
    // The gate's timer has something to repeat after a crash: a push whose hand-over was lost.
    machine.shell(
        &machine.here("nightsafe --config /etc/nightsafe/client.toml submit --all\nnightsafe --config /etc/nightsafe/client.toml send\n"),
    );
    machine.shell("rm -f gate/handover/web1/*.pack gate/handover/wake/*");
    // Whatever the gate's account writes into its repositories, the poller runs none of it.
    machine.shell("mkdir marks; chmod 1777 marks");
    let plant = format!(
        "cd gate/queues/web1.git; mkdir -p hooks evil; for name in reference-transaction post-index-change pre-auto-gc post-receive run; do
           printf '#!/bin/sh\\ntouch {0}/marks/$(id -un)\\n' >evil/$name; chmod +x evil/$name; cp evil/$name hooks/; done
         for key in core.fsmonitor core.sshCommand core.alternateRefsCommand core.pager uploadpack.packObjectsHook gpg.ssh.program; do git config $key $PWD/evil/run; done
         git config core.hooksPath $PWD/evil; git config include.path $PWD/evil/more; cp -r config hooks ../../admin.git/",
        machine.dir.display()
    );
    machine.shell(&format!("runuser -u {} -- env HOME=/nonexistent sh -euc '{}'", machine.name("ns-gate"), plant.replace('\'', "'\\''")));
    machine.shell(&machine.here(&format!("cd /; {server} poll --sweep")));
    assert!(!machine.dir.join("marks").join(machine.name("ns-poll")).exists(), "the poller ran what the gate wrote");
    machine.shell(&machine.here("cd gate; rm -rf queues/web1.git/evil queues/web1.git/hooks admin.git/hooks; for slot in queues/web1.git admin.git; do install -o ns-gate -g ns-gate -m 640 /srv/nightsafe/log/web1.git/config $slot/config; done"));
    let maintain = machine.here("cd /; runuser -u ns-gate -- nightsafe-gate --config /etc/nightsafe/node.toml maintain\n");
    machine.shell(&format!(
        "{maintain}{}",
        machine.here("runuser -u ns-poll -- nightsafe-server --config /etc/nightsafe/node.toml poll --sweep")
    ));
    let stored = || {
        let all = run(machine.command("nightsafe").args(["--config", "home/restore.toml", "snapshots", "--json"])).json();
        all.as_array().unwrap().iter().filter(|one| one["dataset"].as_str().unwrap().contains("files:")).count()
    };
    assert_eq!(stored(), 2);
    // A queue that is lost: the gate makes no other in its place, and says how it comes back.
    machine.shell("rm -rf gate/queues/web1.git");
    machine.shell(&machine.here(&format!("{nightsafe} submit files /var/www")));
    let client = |command: &str| run(machine.command("bash").args(["-c", &machine.here(&format!("{nightsafe} {command}"))]));
    client("send").exits(75);
    client("status").says(&["the queue of web1 is lost at the gate", "cp -a"]);
    assert!(!machine.dir.join("gate/queues/web1.git").exists());
    machine.shell(&machine.here("cp -a /srv/nightsafe/log/web1.git gate/queues/; chown -R ns-gate:ns-gate gate/queues/web1.git"));
    client("send --now").exits(0);
    machine.shell(&machine.here(poll));
    assert_eq!(stored(), 3);
    client("send").exits(0);
    // What root alone can read comes along when root becomes the owner, and a name means what it means where root stands.
    machine.shell(
        "install -d -m 0700 home/own; cd home/own; cp ../alice .; cp ../../host.pub .; echo '# nobody' >signers; echo x >k.json
         for name in dora web9; do ssh-keygen -q -t ed25519 -N '' -f $name; done",
    );
    let own = |command: &str| {
        let line = format!("cd home/own; env -u NIGHTSAFE_SSHD_CONFIG nightsafe-server --config ../../etc/node.toml {command}");
        run(machine.command("bash").args(["-c", &machine.here(&line)]))
    };
    own("restorer add dora --key dora.pub --read 'web1:*' --admin-key alice").exits(0);
    own("client add web9 --key web9.pub --address backup@web9.example.org --host-key=host.pub --admin-key=alice").exits(0);
    own("client list").says(&["web9"]).exits(0);
    own("config check --offline --sshd-config ../../sshd_config").says(&["sshd: sshd looks up keys of"]);
    for (command, words) in [("keys install k.json", "home/own/k.json was not installed"), ("log --verify --signers signers", "commits")] {
        let said = own(command).says(&[words]).to_string();
        assert!(!said.contains("denied"), "{said}");
    }
    own("client remove web9 --admin-key alice").exits(0);
    machine.shell(&machine.here("cd home/access; git pull -q --ff-only ns-gate@backup.example.org:admin access"));
    // A client that dials: its line comes to the poller through the gate's account, and through no other.
    machine.shell(&machine.here(&format!(
        "cd home/access; sed -i '/^address/d; /^host_key/d; s|^keys = .\"web1.pub\".|&\\nreach = \"dial\"|' access.toml; git commit -q -S -am 'web1 dials'; {pushed}{poll}
         sed -i 's|^host_key|reach = \"dial\"\\nhost_key|' /etc/nightsafe/client.toml"
    )));
    let mut watch = machine.command("bash");
    watch.args(["-c", &machine.here(&format!("cd /; exec {server} watch"))]);
    let watch = Killed::start(watch.stdin(Stdio::null()));
    let line = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b'web1\\n'); print('up', flush=True); time.sleep(600)";
    let dialled = || node("status web1 --json").json()[0]["dialled_in"].as_bool();
    until("the poller takes in lines", || machine.dir.join("srv/access/dial").exists() && dialled() == Some(false));
    for (account, may) in [("ns-web", false), ("ns-read", false), ("ns-gate", true)] {
        let mut python = machine.command("runuser");
        python.args(["-u", &machine.name(account), "--", "python3", "-c", line]).arg(machine.dir.join("srv/access/dial"));
        let mut python = Killed::start(python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()));
        let up = std::io::Read::read(python.child().stdout.as_mut().unwrap(), &mut [0; 2]).unwrap() > 0;
        // Who may not is refused by the system, or sent away before it is heard.
        assert!(up || !may, "{account}");
        if may {
            until("the gate's account brings a line", || dialled() == Some(true));
        } else {
            assert_eq!(dialled(), Some(false), "{account} brings a line");
        }
    }
    client("submit files /var/www").exits(0);
    client("send").exits(0);
    assert_eq!(stored(), 4);
    drop(watch);
}
