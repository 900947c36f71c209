//! From two bare folders to a first restored file, by the lines that the programs print and nothing else.

use crate::harness::{Killed, Run, command, port, run, until};
use std::path::PathBuf;
use std::process::Stdio;

/// Two folders for two machines, and one sshd that lets both in as their own lists of keys say.
struct Two {
    dir: PathBuf,
    temp: Option<tempfile::TempDir>,
    port: u16,
    sshd: Option<Killed>,
}

impl Two {
    fn bare() -> Self {
        let temp = tempfile::Builder::new().prefix("nst-").tempdir_in("/tmp").unwrap();
        let mut this = Self { dir: temp.path().to_owned(), temp: Some(temp), port: port(), sshd: None };
        let dir = this.dir.display();
        this.sh("mkdir home www www/sub; echo hello >www/index.html; head -c 100000 /dev/urandom >www/sub/data; ssh-keygen -q -t ed25519 -N '' -f host");
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {}\nHostKey {dir}/host\nPidFile {dir}/listening\nStrictModes no\nUsePAM no\nPermitRootLogin forced-commands-only\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nAuthorizedKeysFile {dir}/node/data/access/authorized_keys {dir}/keys\nAcceptEnv GIT_PROTOCOL\n",
            this.port
        );
        std::fs::write(this.dir.join("sshd_config"), config).unwrap();
        if crate::harness::root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let mut sshd = command("/usr/sbin/sshd", &this.dir.join("home"));
        sshd.args(["-D", "-f"]).arg(this.dir.join("sshd_config")).arg("-E").arg(this.dir.join("sshd.log"));
        this.sshd = Some(Killed::start(sshd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())));
        until("sshd listens", || this.dir.join("listening").exists());
        this
    }

    fn text(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    #[track_caller]
    fn sh(&self, script: &str) -> String {
        run(command("sh", &self.dir.join("home")).current_dir(&self.dir).args(["-euc", script])).ok()
    }

    fn run(&self, program: &str, config: &str, args: &[&str]) -> Run {
        run(command(program, &self.dir.join("home"))
            .current_dir(&self.dir)
            .env("NIGHTSAFE_AUTHORIZED_KEYS", self.dir.join("keys"))
            .env("NIGHTSAFE_IDENTITY", self.dir.join("identity.txt"))
            .arg("--config")
            .arg(self.dir.join(config))
            .args(args))
    }

    fn client(&self, args: &[&str]) -> Run {
        self.run("nightsafe", "client/client.toml", args)
    }

    fn node(&self, args: &[&str]) -> Run {
        self.run("nightsafe-server", "node/node.toml", args)
    }

    fn login(&self) -> String {
        format!("{}@127.0.0.1:{}", self.sh("id -un").trim(), self.port)
    }

    /// `nightsafe-server init` with its administrator's key.
    fn make_node(&self) {
        self.sh("ssh-keygen -q -t ed25519 -N '' -f alice");
        let (data, gate) = (self.text("node/data"), self.text("node/gate"));
        self.node(&[
            "init",
            "--data",
            &data,
            "--gate",
            &gate,
            "--address",
            &self.login(),
            "--host-key",
            "host.pub",
            "--admin",
            "alice",
            "--admin-key",
            "alice",
        ])
        .exits(0);
    }

    /// `nightsafe init`; gives the line that it prints.
    fn make_client(&self, more: &[&str]) -> String {
        let state = self.text("client/state");
        let login = self.login();
        let mut args = vec!["init", "--name", "web1", "--state", &state, "--address", &login, "--host-key", "host.pub"];
        args.extend(more);
        line_of(&self.client(&args).ok(), "nightsafe-client.")
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        drop(self.sshd.take());
        if std::thread::panicking()
            && let Some(temp) = self.temp.take()
        {
            eprintln!("What there was is kept in {}.", temp.keep().display());
        }
    }
}

/// The one line of what was printed that begins so.
#[track_caller]
fn line_of(printed: &str, start: &str) -> String {
    let found: Vec<&str> = printed.lines().filter(|line| line.starts_with(start)).collect();
    assert_eq!(found.len(), 1, "{printed}");
    found[0].to_owned()
}

/// The line and the code of `client add`.
#[track_caller]
fn answer(printed: &str) -> (String, String) {
    let is_code = |line: &&str| line.len() == 34 && line.matches('-').count() == 6;
    (line_of(printed, "nightsafe-node."), printed.lines().find(is_code).expect(printed).to_owned())
}

#[test]
fn two_bare_machines_to_a_first_restored_file_by_the_printed_lines() {
    let two = Two::bare();
    let dataset = format!("files:{}", two.text("www"));
    let recipient = two.sh("age-keygen -o identity.txt 2>/dev/null; age-keygen -y identity.txt");
    let line = two.make_client(&["--recipient", recipient.trim(), "--back-up", &dataset, "--restore"]);
    assert_eq!(two.make_client(&[]), line, "init again changes nothing");
    two.make_node();
    // Nobody is there to confirm it; then nothing happens.
    let add = ["client", "add", &line, "--allow-asked", "--let-restore", "--admin-key", "alice"];
    two.node(&add).says(&["a person must confirm", "--yes"]).exits(2);
    assert_eq!(two.node(&["client", "list", "--json"]).json().as_array().unwrap().len(), 0);
    let shown = two.node(&[&add[..], &["--yes"]].concat()).says(&[&dataset, "both keys are pinned", "what it sent itself"]).ok();
    let (reply, code) = answer(&shown);
    let list = two.node(&["client", "list", "--json"]).json();
    assert_eq!((list[0]["name"].as_str(), list[0]["allow"][0].as_str()), (Some("web1"), Some(dataset.as_str())));

    // Without the code, or with another one, nothing changes on the client.
    let config = two.sh("cat client/client.toml");
    let again = answer(&two.node(&[&add[..], &["--yes"]].concat()).says(&["just so"]).ok());
    assert_ne!(again.1, code, "each answer has a code of its own");
    two.client(&["node", "add", &reply]).says(&["the code is missing"]).exits(2);
    two.client(&["node", "add", &reply, "--code", &again.1]).says(&["another one", "client remove web1"]).exits(4);
    two.client(&["node", "add", &reply, "--code", "yes"]).says(&["28 letters"]).exits(2);
    assert_eq!(two.sh("cat client/client.toml; ls keys 2>/dev/null || true"), config);

    two.client(&["node", "add", &reply, "--code", &code.to_uppercase().replace('-', " ")])
        .says(&["is a node of this machine now", "let in"])
        .exits(0);
    two.client(&["node", "add", &again.0, "--code", &again.1]).says(&["already", "let in already"]).exits(0);
    assert_eq!(two.sh("grep -c '^\\[\\[node]]' client/client.toml; wc -l <keys"), "1\n1\n");

    two.client(&["submit", "--all"]).exits(0);
    two.client(&["send"]).silent();
    two.node(&["poll"]).silent();
    two.client(&["send"]).silent();
    two.client(&["restore", &dataset, "--target", "back"]).exits(0);
    two.sh("diff -r www back");
}

/// Whoever changes a line on its way is found out by the code.
#[test]
fn a_line_that_was_exchanged_on_its_way_is_found_out() {
    let two = Two::bare();
    let line = two.make_client(&["--restore"]);
    two.make_node();
    let admin = ["--allow-asked", "--let-restore", "--yes", "--admin-key", "alice"];
    let add = |line: &str| two.node(&[&["client", "add", line], &admin[..]].concat());
    // Mallory's own line, under the client's name, in its place.
    let mallory = {
        let args = [
            "--config",
            "mallory/client.toml",
            "init",
            "--name",
            "web1",
            "--state",
            "mallory/state",
            "--address",
            "root@127.0.0.1",
            "--host-key",
            "host.pub",
            "--restore",
        ];
        line_of(&run(command("nightsafe", &two.dir.join("home")).current_dir(&two.dir).args(args)).ok(), "nightsafe-client.")
    };
    let (reply, code) = answer(&add(&mallory).ok());
    two.client(&["node", "add", &reply, "--code", &code]).says(&["another login key"]).exits(4);
    // The name is taken now, and the list says by whom.
    add(&line).says(&["with another key", "client remove web1"]).exits(2);
    two.node(&["client", "remove", "web1", "--admin-key", "alice"]).exits(0);
    two.node(&["restorer", "remove", "web1", "--admin-key", "alice"]).exits(0);
    let (reply, code) = answer(&add(&line).ok());
    // The same machine under another name is no other machine.
    let renamed = two.sh("sed -i 's/^name = .*/name = \"web2\"/' client/client.toml");
    assert_eq!(renamed, "");
    let other = line_of(&two.client(&["init"]).ok(), "nightsafe-client.");
    add(&other).says(&["belongs to client web1 already"]).exits(2);
    two.client(&["node", "add", &reply, "--code", &code]).says(&["answers web1, and this machine is web2"]).exits(4);
    two.sh("sed -i 's/^name = .*/name = \"web1\"/' client/client.toml; [ ! -e keys ]; ! grep -q '^\\[\\[node]]' client/client.toml");
    two.client(&["init"]).exits(0);
    two.client(&["node", "add", &reply, "--code", &code]).exits(0);
    // What is no line, or the wrong one, says so.
    for (args, words) in [
        (vec!["client", "add", &reply, "--admin-key", "alice"], "this is the node's line"),
        (vec!["client", "add", &line[..200], "--admin-key", "alice"], "three parts"),
        (vec!["client", "add", &line, "--key", "alice.pub", "--admin-key", "alice"], "--key cannot be given with a line"),
        (vec!["client", "add", "web9", "--admin-key", "alice"], "--key is missing for web9"),
        (vec!["client", "add", "Web 9", "--admin-key", "alice"], "cannot be a name"),
    ] {
        two.node(&args).says(&[words]).exits(2);
    }
    two.client(&["node", "add", &line, "--code", &code]).says(&["this is the client's line"]).exits(2);
}

/// The state of one thing that `config check --json` looked at.
fn state(found: &serde_json::Value, about: &str) -> String {
    let all = found.as_array().unwrap();
    let worst = ["wrong", "not-yet", "unseen", "ok"];
    let of = |one: &&serde_json::Value| one["about"].as_str() == Some(about);
    let states: Vec<&str> = all.iter().filter(of).map(|one| one["state"].as_str().unwrap()).collect();
    worst.into_iter().find(|state| states.contains(state)).unwrap_or_else(|| panic!("nothing about {about}: {all:#?}")).to_owned()
}

#[test]
fn config_check_says_what_works_and_what_does_not_yet() {
    let two = Two::bare();
    let dataset = format!("files:{}", two.text("www"));
    let recipient = two.sh("age-keygen -o identity.txt 2>/dev/null; age-keygen -y identity.txt");
    let line = two.make_client(&["--recipient", recipient.trim(), "--back-up", &dataset]);
    two.make_node();
    let client = |code: i32| {
        let run = two.client(&["config", "check", "--json"]).exits(code);
        serde_json::from_str::<serde_json::Value>(&run.stdout).unwrap()
    };
    let node = |code: i32| {
        let run = two.run("nightsafe-server", "node/node.toml", &["config", "check", "--json", "--sshd-config", "sshd_config"]).exits(code);
        serde_json::from_str::<serde_json::Value>(&run.stdout).unwrap()
    };
    // Nobody knows anybody.
    let found = client(75);
    assert_eq!(
        (state(&found, "nodes"), state(&found, "recipients"), state(&found, &dataset)),
        ("not-yet".into(), "ok".into(), "ok".into())
    );
    let found = node(75);
    assert_eq!((state(&found, "access list"), state(&found, "data")), ("ok".into(), "ok".into()));
    if crate::harness::root() {
        // The settings of this test's sshd are of few sessions.
        assert_eq!(state(&found, "sshd"), "not-yet");
        two.sh("printf 'MaxStartups 64\\nMaxSessions 16\\n' >>sshd_config");
        assert_eq!(state(&node(0), "sshd"), "ok");
    }
    // The node knows the client, which does not let it in yet, and takes less than the client wants.
    let (reply, code) = answer(&two.node(&["client", "add", &line, "--allow", "files:/other", "--yes", "--admin-key", "alice"]).ok());
    assert_eq!(state(&node(75), "client web1"), "not-yet");
    two.client(&["node", "add", &reply, "--code", &code]).exits(0);
    let found = client(75);
    for (about, wanted) in
        [("ssh node1", "ok"), ("login of node1", "ok"), ("clock node1", "ok"), ("room node1", "ok"), (dataset.as_str(), "not-yet")]
    {
        assert_eq!(state(&found, about), wanted, "{about}: {found:#}");
    }
    assert_eq!(state(&node(if crate::harness::root() { 0 } else { 75 }), "client web1"), "ok");
    two.client(&["config", "check"]).says(&["NOT YET", "does not take files:", "1 thing does not work yet"]).exits(75);
    two.client(&["config", "check", "--offline"]).says(&["No node was asked"]).exits(0);
    // What is wrong is told with what to do.
    two.sh("sed -i 's/^command=\"[^ ]*/command=\"\\/bin\\/sh/' keys");
    two.client(&["config", "check"]).says(&["ok", "login of node1"]);
    two.sh("sed -i 's/^command=.*restrict //' keys");
    two.client(&["config", "check"])
        .says(&["WRONG", "lets node1 in for something else than the gate", "This line belongs there: command="])
        .exits(2);
    two.sh(": >keys");
    two.client(&["config", "check"]).says(&["node1 is not let in by"]).exits(75);
    two.node(&["client", "pause", "web1", "--admin-key", "alice"]).exits(0);
    two.client(&["config", "check"]).says(&["is paused", "pause --off"]).exits(75);
    two.node(&["client", "remove", "web1", "--admin-key", "alice"]).exits(0);
    two.client(&["config", "check"]).says(&["nightsafe-server client add"]).exits(75);
    two.sh("ssh-keygen -q -t ed25519 -N '' -f other; sed -i \"s|^host_key = .*|host_key = \\\"$(cut -d' ' -f1,2 other.pub)\\\"|\" client/client.toml");
    two.client(&["config", "check"]).says(&["another host key than the one that is pinned"]).exits(2);
    // Names that are nearly right, and lines of what is wrong in its meaning.
    for (old, new, words) in [
        ("recipients =", "recipiens =", &["client.toml", "Did you mean recipients?"][..]),
        ("address = \"files", "adress = \"files", &["Did you mean address?"]),
        ("pull_key =", "pul_key =", &["Did you mean pull_key?"]),
        ("version = 1", "version = 1\nspool = { limt = \"1 GiB\" }", &["Did you mean limit?"]),
        ("version = 1", "version = 1\nspool = { limit = \"1 MiB\" }", &["line 3", "spool.limit is 1.0 MiB"]),
        ("address = \"files", "nodes = [\"node2\"]\naddress = \"files", &["names the node node2", "Did you mean node1?"]),
        ("address = \"files:", "address = \"filez:", &["line ", "names the module \"filez\"", "Did you mean files?"]),
    ] {
        let good = std::fs::read_to_string(two.dir.join("client/client.toml")).unwrap();
        assert!(good.contains(old), "{old}\n{good}");
        std::fs::write(two.dir.join("client/client.toml"), good.replacen(old, new, 1)).unwrap();
        two.client(&["config", "check", "--offline"]).says(words).exits(2);
        std::fs::write(two.dir.join("client/client.toml"), good).unwrap();
    }
}
