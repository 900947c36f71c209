//! What people read: the README's shell blocks run, and files that pages name are there.

use crate::harness::{Loopback, blocks, source_root};

#[test]
fn the_readme_runs() {
    let text = std::fs::read_to_string(source_root().join("README.md")).unwrap();
    let safe = Loopback::start();
    safe.loopback("stop").exits(0);
    // The README makes its installation in a folder of the user's own; here that is the test's.
    let script: String = blocks(&text, "sh")
        .concat()
        .lines()
        .filter(|line| !line.starts_with("make ") && !line.starts_with("cargo "))
        .map(|line| {
            format!("{}\n", line.replace("~/safe", safe.dir.to_str().unwrap()).replace("~/", &format!("{}/", safe.home().display())))
        })
        .collect();
    assert!(script.contains("nightsafe restore"), "the README restores something");
    let mut shell = safe.command("bash");
    shell.current_dir(source_root()).args(["-euxc", &script]).env("NIGHTSAFE_BIN", crate::harness::bin());
    for name in ["NIGHTSAFE_CONFIG", "NIGHTSAFE_SERVER_CONFIG", "NIGHTSAFE_IDENTITY", "NIGHTSAFE_SIGNERS"] {
        shell.env_remove(name);
    }
    crate::harness::run(&mut shell).exits(0);
}

#[test]
fn the_page_on_keys_runs() {
    let safe = Loopback::start();
    std::fs::write(safe.at("source/file"), "content").unwrap();
    let text = std::fs::read_to_string(source_root().join("docs/keys.md")).unwrap();
    crate::harness::run(safe.command("bash").args(["-euxc", &blocks(&text, "sh").concat()])).exits(0).says(&["true"]);
}

#[test]
fn the_page_on_dialling_runs() {
    let safe = Loopback::start();
    let text = std::fs::read_to_string(source_root().join("docs/dial.md")).unwrap();
    // What it shows of the access list is the whole list, but for the restorer.
    safe.write(
        "admin/access.toml",
        &format!("{}\n[restorer.carol]\nkeys = [\"carol.pub\"]\nread = [\"web1:*\"]\n", blocks(&text, "toml").concat()),
    );
    safe.loopback("start").exits(0);
    let (config, laptop) = (safe.read("node.toml"), safe.text("home/laptop"));
    let own =
        format!("{config}address = \"{}:{}\"\nhost_key = \"{}\"\n", safe.login(), safe.port(), safe.read("sshd/host_ed25519.pub").trim());
    safe.write("node.toml", &own);
    safe.sh("cp identity.txt home/; cp admin/id_ed25519 home/alice");
    // The node's cron comes within the minute; here it comes when the line waits.
    let there =
        "until git -C node/gate/queues/laptop.git rev-parse -q --verify requests && nightsafe status | grep 'dialled in'; do sleep 0.1; done
nightsafe-server poll";
    let script = blocks(&text, "sh").concat().replace("nightsafe-server poll", there);
    let script = script.replace("init --name laptop", &format!("init --name laptop --state {laptop}/state"));
    // Nobody's keys but those of this test.
    let mut shell = safe.command("timeout");
    shell.env("NIGHTSAFE_CONFIG", format!("{laptop}/client.toml")).env("NIGHTSAFE_AUTHORIZED_KEYS", format!("{laptop}/keys"));
    let run = crate::harness::run(shell.args(["240", "bash", "-euxc", &script])).exits(0);
    run.says(&["its key is let in nowhere", "node1 takes lines that this machine dials", "stored", "dials when something waits"]);
    assert!(!safe.at("home/laptop/keys").exists(), "nothing is let in on a machine that dials");
    let list = safe.node(&["client", "list", "--json"]).json();
    let dials: Vec<_> = list.as_array().unwrap().iter().map(|client| (client["name"].as_str(), client["reach"].as_str())).collect();
    assert_eq!(dials, ["laptop", "tablet", "web1"].map(|name| (Some(name), Some("dial"))));
    // The same line again is answered again; one of a machine that is reached otherwise is not.
    let line = std::fs::read_to_string(safe.at("home/laptop.txt")).unwrap();
    let line = line.lines().find(|line| line.starts_with("nightsafe-client.")).unwrap().to_owned();
    safe.node(&["client", "add", &line, "--admin-key", "home/alice"]).says(&["just so", "nightsafe-node."]).exits(0);
    let back = ["client", "set", "laptop", "--no-dial", "--admin-key", "home/alice", "--address", "a@b"];
    safe.node(&back).says(&["--host-key or --scan is missing"]).exits(2);
    safe.node(&[&back[..], &["--host-key", "sshd/host_ed25519.pub"]].concat()).exits(0);
    safe.node(&["client", "add", &line, "--admin-key", "home/alice"])
        .says(&["laptop does not dial in", "client set laptop --dial"])
        .exits(2);
    let check = ["--config", "home/laptop/client.toml", "config", "check"];
    safe.client(&check).says(&["takes no line of it", "nightsafe-server client set laptop --dial"]).exits(75);
}

#[test]
fn the_page_on_verifying_runs() {
    let safe = Loopback::start();
    safe.sh("mkdir home/papers && echo text >home/papers/a");
    safe.back_up("files", &safe.text("home/papers"));
    let text = std::fs::read_to_string(source_root().join("docs/verify.md")).unwrap();
    crate::harness::run(safe.command("bash").args(["-euxc", &blocks(&text, "sh").concat()])).exits(0).says(&["sample of 5%"]);
}

#[test]
fn the_page_on_retention_runs() {
    let safe = Loopback::start();
    safe.sh("mkdir home/papers && echo text >home/papers/a");
    safe.back_up("files", &safe.text("home/papers"));
    let text = std::fs::read_to_string(source_root().join("docs/retention.md")).unwrap();
    let settings = blocks(&text, "toml");
    assert_eq!(settings.len(), 2);
    // What it shows of the access list is pushed as an administrator does it, with the keys that it leaves out.
    let list = settings[0].replace("[client.web1]\n", "[client.web1]\nkeys = [\"web1.pub\"]\n");
    safe.write("admin/access.toml", &format!("version = 1\n[admin.alice]\nkeys = [\"alice.pub\"]\n{list}"));
    safe.loopback("start").exits(0);
    safe.node(&["client", "list"]).says(&["\"1W:1D,4W:1W,12M:1M\""]).exits(0);
    let script = blocks(&text, "sh").concat().replace("~/safe", safe.dir.to_str().unwrap());
    let run = crate::harness::run(safe.command("bash").args(["-euxc", &script])).exits(0);
    run.says(&["{ daily = 7, weekly = 4, monthly = 12 }", "court case 17", "kept again", "forgotten", " 0 do not"]);
    safe.edit("node.toml", "version = 1\n", &format!("version = 1\n{}", settings[1]));
    safe.node(&["config", "check"]).exits(0);
    safe.node(&["prune", "--dry-run", "--grace", "0s"]).says(&["the floor of this node allows no grace under 1d"]).exits(4);
}

#[test]
fn the_page_on_limits_runs() {
    let safe = Loopback::start();
    safe.back_up("dummy", "x");
    let text = std::fs::read_to_string(source_root().join("docs/limits.md")).unwrap();
    // What it shows of the access list is one as it stands; only how this client is reached is left out.
    let list = blocks(&text, "toml").concat();
    let reached: String = safe
        .read("admin/access.toml")
        .lines()
        .filter(|line| ["address", "git_addr", "host_key", "allow"].iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    safe.write("admin/access.toml", &format!("{list}{reached}"));
    safe.loopback("start").exits(0);
    let script = blocks(&text, "sh").concat().replace("~/safe", safe.dir.to_str().unwrap());
    let run = crate::harness::run(safe.command("bash").args(["-euxc", &script])).exits(0);
    run.says(&["bytes_a_day 0 B of 500.0 GiB, requests_a_day 1 of 500, packs = 20000, fetches = 2, time = \"6h\"", "sessions = 16"]);
    safe.back_up("dummy", "x");
}

#[test]
fn the_page_on_restores_runs() {
    let safe = Loopback::start();
    safe.sh("mkdir -p home/papers/drafts home/papers/old; echo 1 >home/papers/drafts/one.txt; echo 2 >home/papers/old/notes");
    safe.back_up("files", &safe.text("home/papers"));
    let text = std::fs::read_to_string(source_root().join("docs/restore.md")).unwrap();
    crate::harness::run(safe.command("bash").args(["-euxc", &blocks(&text, "sh").concat()])).exits(0);
    safe.sh("diff -r home/papers home/all; diff home/papers/drafts/one.txt one.txt; cmp home/papers/drafts/one.txt home/drafts/one.txt; cat home/some/old/notes home/some/drafts/one.txt");
}

#[test]
fn the_page_on_schedules_runs() {
    let safe = Loopback::start();
    let text = std::fs::read_to_string(source_root().join("docs/schedule.md")).unwrap();
    crate::harness::run(safe.command("bash").args(["-euxc", &blocks(&text, "sh").concat()])).exits(0).says(&["older than 6h", "stored"]);
    assert_eq!(safe.names("node/data/web1/snapshots").len(), 1);
}

#[test]
fn the_page_on_consistency_runs() {
    let safe = Loopback::start();
    let text = std::fs::read_to_string(source_root().join("docs/consistency.md")).unwrap();
    let run = crate::harness::run(safe.command("bash").args(["-euxc", &blocks(&text, "sh").concat()])).exits(0);
    assert!(run.stdout.ends_with("closed\nopen\n"), "{run}");
    // What it shows of the configuration is one that can be read.
    for settings in blocks(&text, "toml") {
        let listed = "[[dataset]]\naddress = \"postgres:shop\"\n[[dataset]]\naddress = \"files:/var/lib/shop\"\n";
        let client = safe.read("client.toml");
        let head = &client[..client.find("[[allow]]").unwrap()];
        safe.write("shown.toml", &format!("{head}{listed}{settings}"));
        let shown = safe.client(&["--config", &safe.text("shown.toml"), "config", "check"]);
        assert!(!shown.stderr.contains("is not usable"), "{shown}");
    }
}

#[test]
fn the_page_on_recovery_runs() {
    let safe = Loopback::start();
    safe.sh("mkdir -p source/www; echo hello >source/www/index.html");
    let www = safe.text("source/www");
    safe.back_up("files", &www);
    // What people have at home, and a client that is gone, with its connections, but for the list of keys that sshd was told of.
    safe.sh(
        "cp client.toml home/restore.toml; cp identity.txt allowed_signers home/; cp admin/id_ed25519 home/alice; cp -a restorer home/",
    );
    safe.sh("sed -i \"s|$PWD/restorer|$PWD/home/restorer|\" home/restore.toml; mv client gone; mkdir -m 0700 client; rm -rf run/*");
    let text = std::fs::read_to_string(source_root().join("docs/recovery.md")).unwrap();
    let (dir, login) = (safe.dir.display().to_string(), format!("{}:{}", safe.login(), safe.port()));
    safe.edit("node.toml", "version = 1\n", &format!("version = 1\naddress = \"{login}\"\nhost_key = \"{dir}/sshd/host_ed25519.pub\"\n"));
    let here = |block: &String| {
        block
            .replace("--address root@web1.example.org", &format!("--address {login} --host-key {dir}/sshd/host_ed25519.pub"))
            .replace("/etc/nightsafe/client.toml", &format!("{dir}/new.toml"))
            .replace("/etc/nightsafe/node.toml", &format!("{dir}/node.toml"))
            .replace("/var/lib/nightsafe", &format!("{dir}/client/state"))
            .replace("/srv/nightsafe", &format!("{dir}/node/data"))
            .replace("/var/www", &www)
    };
    let blocks: Vec<String> = blocks(&text, "sh").iter().map(here).collect();
    assert_eq!(blocks.len(), 5);
    let shell = |script: &str| {
        let mut shell = safe.command("bash");
        shell.env("NIGHTSAFE_AUTHORIZED_KEYS", safe.at("client/authorized_keys")).args(["-euxc", script]);
        crate::harness::run(&mut shell).exits(0)
    };
    shell(&blocks[..3].concat());
    safe.sh(&format!("diff -r '{www}' home/www"));
    let config = safe.text("new.toml");
    shell(&format!("nightsafe --config {config} send; nightsafe-server poll; nightsafe --config {config} send"));
    // It goes on where the old machine stood, and both machines' snapshots are proven by their keys.
    let log = safe.client(&["--config", &config, "log", "--json"]).json();
    let mut stored: Vec<_> = log.as_array().unwrap().iter().map(|one| (one["seq"].as_u64().unwrap(), one["outcome"].clone())).collect();
    stored.sort_unstable_by_key(|(seq, _)| *seq);
    assert_eq!(stored, [(1, "stored".into()), (2, "stored".into())], "{log}");
    shell(&blocks[3..].concat()).says(&["web1"]);
    safe.sh(&format!("diff -r '{www}' home/from-disk"));
    shell("nightsafe --config ~/restore.toml verify --all-snapshots --identity ~/identity.txt --signers ~/allowed_signers")
        .says(&["whole"]);
}

#[test]
fn pages_name_files_that_are_there() {
    let root = source_root();
    let mut missing = Vec::new();
    let pages = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|page| root.join(page)).into_iter().chain(
        std::fs::read_dir(root.join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "md")),
    );
    let folders: Vec<String> = std::fs::read_dir(&root)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| format!("{}/", entry.file_name().to_str().unwrap()))
        .filter(|name| !name.starts_with('.') && name != "target/")
        .collect();
    let code: Vec<_> = folders.iter().flat_map(|folder| sources(&root.join(folder))).collect();
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for name in text.split('`').skip(1).step_by(2) {
            let path = name.split([' ', ':']).next().unwrap();
            let there = match folders.iter().any(|folder| path.starts_with(folder.as_str())) {
                true => path.contains(['*', '<', '{']) || root.join(path).exists(),
                // A file of code by its name, or by its last folder too, where one above it was named before.
                false => !path.ends_with(".rs") || code.iter().any(|file| file.ends_with(path)),
            };
            if !there {
                missing.push(format!("{}: {path}", page.file_name().unwrap().to_string_lossy()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Every row of the page on threats names a test, and each of them is there.
#[test]
fn every_test_in_the_page_on_threats_is_there() {
    let text = std::fs::read_to_string(source_root().join("docs/threats.md")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---") && !line.starts_with("| promise |"))
        .map(|line| line.trim_matches('|').split(" | ").collect())
        .collect();
    assert!(rows.len() >= 20, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        assert_eq!(row.len(), 4, "promise, attack, test, log: {row:?}");
        let names: Vec<&str> = row[2].split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test: {row:?}");
        wrong.extend(names.into_iter().filter(|name| !is_test(name)));
    }
    assert!(wrong.is_empty(), "no tests of these names: {wrong:#?}");
}

/// Whether a test of this path is in our sources: below a crate where the path begins with one, or else in this program.
fn is_test(path: &str) -> bool {
    let (modules, name) = path.rsplit_once("::").expect("a path and a name");
    let first = modules.split("::").next().unwrap();
    let here = source_root().join("tests/tests/it");
    let file = here.join(modules.replace("::", "/"));
    let mut files = vec![file.with_extension("rs"), file.join("mod.rs")];
    files.extend(sources(&source_root().join(first)));
    let declared = format!("fn {name}(");
    files.iter().any(|file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let before = text.find(&declared).map(|at| &text[..at]);
        // The attribute stands above, maybe with words between; properties are wrapped in a macro.
        before.is_some_and(|before| before.rfind("#[test]").is_some_and(|at| !before[at..].contains("\nfn ")))
    })
}

/// Every file of Rust below a folder.
pub fn sources(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(sources(&entry.path()));
        } else if entry.path().extension().is_some_and(|ending| ending == "rs") {
            found.push(entry.path());
        }
    }
    found
}
