//! What is offered for reading: the export folder and git repositories of a client, packs and snapshots of a node.

use crate::site::{Site, name, request, site, words};
use queue::verdict::Role;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

fn node1() -> Role {
    Role::Export(name("node1"))
}

fn carol() -> Role {
    Role::Restorer(name("carol"))
}

fn client(site: &Site) {
    let text = format!(
        "version = 1\nname = \"web1\"\nstate = \"{0}/state\"\n[[node]]\nname = \"node1\"\nssh = \"g@h\"\nhost_key = \"k\"\nreceipts_key = \"k\"\n[[allow]]\nmodule = \"git\"\nunder = \"{0}/srv\"\n",
        site.dir.display()
    );
    fs::write(site.at("client.toml"), text).unwrap();
    fs::create_dir_all(site.at("state/export/node1")).unwrap();
}

/// OpenSSH's sftp against the gate, with no ssh between.
fn sftp(site: &Site, role: &Role, batch: &str) -> Output {
    let config = if matches!(role, Role::Export(_)) { "client.toml" } else { "node.toml" };
    let script = site.at(&format!("sftp-{}", role.word()));
    let gate = format!(
        "#!/bin/sh\nSSH_ORIGINAL_COMMAND=sftp exec {} --config {} {} {}\n",
        crate::site::GATE,
        site.at(config).display(),
        role.word(),
        role.name()
    );
    fs::write(&script, gate).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(site.at("batch"), batch).unwrap();
    Command::new("sftp")
        .arg("-D")
        .arg(&script)
        .arg("-b")
        .arg(site.at("batch"))
        .current_dir(site.at("state"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_node_fetches_packs() {
    let site = site();
    client(&site);
    let export = site.at("state/export/node1");
    let pack: Vec<u8> = (0..3_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    fs::write(export.join("20261120T031500Z-3f9a1c7e.abc"), &pack).unwrap();
    fs::write(site.at("state/secret"), "x").unwrap();
    symlink(site.at("state/secret"), export.join("link")).unwrap();
    fs::create_dir(export.join("folder")).unwrap();
    fs::write(export.join("folder/inner"), "x").unwrap();
    fs::write(export.join(".hidden"), "x").unwrap();
    let got = sftp(&site, &node1(), "get 20261120T031500Z-3f9a1c7e.abc got\nget /20261120T031500Z-3f9a1c7e.abc got2\n");
    assert!(got.status.success(), "{}", words(&got));
    assert!(fs::read(site.at("state/got")).unwrap() == pack && fs::read(site.at("state/got2")).unwrap() == pack);
    let bad = [
        "get link x",
        "get .hidden x",
        "get folder/inner x",
        "get ../../secret x",
        "get /etc/passwd x",
        "put secret new",
        "rm link",
        "mkdir y",
        "rename link z",
        "symlink a b",
        "chmod 777 link",
        "get absent x",
    ];
    for command in bad {
        let done = sftp(&site, &node1(), &format!("{command}\n"));
        assert!(!done.status.success(), "{command}: {}", words(&done));
        assert!(!site.at("state/x").exists(), "{command}");
    }
    assert!(words(&sftp(&site, &node1(), "ls\n")).contains("unsupported"));
    let mut left: Vec<_> = fs::read_dir(&export).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [".hidden", "20261120T031500Z-3f9a1c7e.abc", "folder", "link"]);
}

#[test]
fn a_node_fetches_repositories() {
    let site = site();
    client(&site);
    for repository in ["srv/a b/x.git", "elsewhere.git"] {
        let path = site.at(repository);
        let git = |args: &[&str]| {
            let mut git = Command::new("git");
            let done = git.args(["-c", "user.name=x", "-c", "user.email=x@y"]).args(args).env("HOME", &site.dir).output().unwrap();
            assert!(done.status.success(), "{}", words(&done));
            String::from_utf8(done.stdout).unwrap().trim().to_owned()
        };
        let path = path.to_str().unwrap();
        git(&["init", "-q", "--bare", "-b", "main", path]);
        let tree = git(&["--git-dir", path, "mktree"]);
        let commit = git(&["--git-dir", path, "commit-tree", "-m", "x", &tree]);
        git(&["--git-dir", path, "update-ref", "refs/heads/main", &commit]);
    }
    // Of another user, as repositories on a git server are; this test's own user is told by its tempdir.
    let _ = Command::new("chown").args(["-R", "nobody"]).arg(site.at("srv")).stderr(Stdio::null()).status();
    let fetch = |path: &str, version: &str| {
        let url = format!("ssh://git@web1{}", site.at(path).display());
        site.git(&node1(), &site.dir).args(["-c", &format!("protocol.version={version}"), "ls-remote", &url]).output().unwrap()
    };
    for version in ["0", "2"] {
        let listed = fetch("srv/a b/x.git", version);
        assert!(listed.status.success(), "{}", words(&listed));
        assert!(String::from_utf8(listed.stdout).unwrap().contains("refs/heads/main"));
    }
    for bad in ["elsewhere.git", "srv/../elsewhere.git", "srv/absent.git", "srv", "state"] {
        assert!(!fetch(bad, "2").status.success(), "{bad}");
    }
    let gone = site.run(&Role::Export(name("node9")), "ping");
    assert!(words(&gone).contains("no node of this client"), "{}", words(&gone));
}

fn store(site: &Site) -> (String, String, String) {
    let data = site.at("data/web1");
    let pack = "ab".repeat(32);
    fs::create_dir_all(data.join("packs")).unwrap();
    fs::write(data.join("packs").join(&pack), "sealed").unwrap();
    let mut ids = Vec::new();
    for (order, dataset) in ["files:/var/www", "postgres:shop"].iter().enumerate() {
        let request = queue::Request { dataset: dataset.parse().unwrap(), ..request(order as u64 + 1) };
        let folder = data.join("snapshots").join(request.id.as_str());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("request.toml"), request.to_toml()).unwrap();
        fs::write(folder.join("manifest"), "sealed").unwrap();
        let accepted = format!(
            "version = 1\nid = \"{}\"\nclient = \"web1\"\ndataset = \"{dataset}\"\nseq = {1}\nsubmitted = {2}\nreceived = {2}\norder = {1}\nbytes_fetched = 1\nbytes_stored = 1\nseconds = 0\nbytes = 5\npacks = 1\nunreadable = 0\n",
            request.id,
            order + 1,
            request.submitted
        );
        fs::write(folder.join("accepted.toml"), accepted).unwrap();
        ids.push(request.id.to_string());
    }
    (pack, ids.remove(0), ids.remove(0))
}

#[test]
fn a_restorer_reads_what_was_granted() {
    let site = site();
    let (pack, granted, other) = store(&site);
    let listed = site.run(&carol(), "list");
    let rows: Vec<queue::listing::ListedSnapshot> = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(rows.iter().map(|row| row.snapshot.to_string()).collect::<Vec<_>>(), std::slice::from_ref(&granted));

    let got = sftp(&site, &carol(), &format!("get list l\nget web1/packs/{pack} p\nget web1/snapshots/{granted}/manifest m\n"));
    assert!(got.status.success(), "{}", words(&got));
    assert_eq!(fs::read(site.at("state/l")).unwrap(), listed.stdout);
    assert_eq!(fs::read(site.at("state/m")).unwrap(), b"sealed");
    let bad = [
        format!("web1/snapshots/{other}/manifest"),
        format!("web2/packs/{pack}"),
        "access/authorized_keys".into(),
        format!("web1/packs/../snapshots/{other}/manifest"),
        "web1".into(),
    ];
    for path in bad {
        assert!(!sftp(&site, &carol(), &format!("get {path} x\n")).status.success(), "{path}");
    }
    for (n, dataset) in ["git:/srv/a.git", "files:/a"].iter().enumerate() {
        let mirror = site.at(&format!("data/web1/mirrors/{}.git", format!("{n}").repeat(32)));
        queue::Repository::open_or_create(&mirror, "main").unwrap();
        fs::write(mirror.join("nightsafe-dataset"), format!("{dataset}\n")).unwrap();
    }
    let mirror = |n: &str| {
        site.git(&carol(), &site.dir).args(["ls-remote", &format!("gate@node1:web1/mirrors/{}.git", n.repeat(32))]).output().unwrap()
    };
    assert!(!mirror("0").status.success(), "the grant names files alone");
    assert!(mirror("1").status.success());
    assert!(!mirror("2").status.success());
    assert!(!site.git(&carol(), &site.dir).args(["ls-remote", "gate@node1:web1/log"]).status().unwrap().success());
}

#[test]
fn the_hook_for_users_never_fails_and_never_waits() {
    let site = site();
    let bin = site.at("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("nightsafe"), format!("#!/bin/sh\nsleep 1\necho \"$@\" >{}\nexit 1\n", site.at("asked").display())).unwrap();
    fs::set_permissions(bin.join("nightsafe"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let hook = concat!(env!("CARGO_MANIFEST_DIR"), "/post-update");
    let begun = std::time::Instant::now();
    let done = Command::new(hook)
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .env("GIT_DIR", ".")
        .current_dir(&site.dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(done.status.success() && done.stdout.is_empty() && done.stderr.is_empty());
    assert!(begun.elapsed() < std::time::Duration::from_millis(900), "it waited");
    for _ in 0..100 {
        if fs::read_to_string(site.at("asked")).is_ok_and(|text| text.ends_with('\n')) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(fs::read_to_string(site.at("asked")).unwrap(), format!("submit git {} --reason hook\n", site.dir.display()));
}
