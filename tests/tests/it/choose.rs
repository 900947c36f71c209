//! Choosing what is backed up, and being told of it before: `exclude` and its kin, `submit --dry-run`.

use crate::harness::{Loopback, blocks, not_tested, root, run, source_root};

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55";

/// A tree of which something is left out for every reason, and the dataset that says so.
fn prepared(settings: &str) -> (Loopback, String) {
    let safe = Loopback::start();
    safe.sh(&format!(
        r#"mkdir -p source/t && cd source/t
        mkdir -p src build/keep/deep build/other cache/x logs
        echo a >src/a.c; echo o >src/a.o; echo SECRET-OBJECT >src/b.o; echo k >build/keep/deep/k; echo SECRET-BUILD >build/other/x
        printf '{TAG}\n' >cache/CACHEDIR.TAG; echo SECRET-CACHE >cache/x/y
        head -c 3000000 /dev/urandom >big; echo l >logs/l.log; echo n >"$(printf 'caf\351')"; echo SECRET-NAME >"$(printf 'caf\351.o')""#
    ));
    let path = safe.text("source/t");
    safe.sh(&format!("cat >>client.toml <<'END'\n\n[[dataset]]\naddress = \"files:{path}\"\n{settings}\nEND"));
    (safe, path)
}

const SETTINGS: &str = r#"exclude = ["*.o", "/build/"]
include = ["/build/keep/"]
exclude_caches = true
max_file_size = "2 MiB""#;

#[test]
fn what_is_left_out_is_stored_nowhere() {
    let (safe, path) = prepared(SETTINGS);
    safe.back_up("files", &path);
    safe.client(&["restore", &format!("files:{path}"), "--target", &safe.text("back/t")]).exits(0);
    let found = safe.sh("cd back/t && find . | LC_ALL=C sort | od -An -c | tr -d ' \\n'");
    let expected = safe.sh(
        r"cd source/t && printf '%s\n' . ./build ./build/keep ./build/keep/deep ./build/keep/deep/k ./cache ./cache/CACHEDIR.TAG $(printf './caf\351') ./logs ./logs/l.log ./src ./src/a.c | od -An -c | tr -d ' \n'",
    );
    assert_eq!(found, expected);
    // Neither in the packs nor by name, as whoever has the identity reads them.
    let script = r#"head -n 1 node/data/web1/snapshots/*/manifest | jq -r .epoch.key_file | base64 -d | age -d -i identity.txt >home/epoch
        for pack in node/data/web1/packs/*; do age -d -i home/epoch "$pack" | zstd -dc; done"#;
    let plain = safe.command("sh").args(["-euc", script]).output().unwrap();
    assert!(plain.status.success() && !plain.stdout.is_empty());
    let holds = |needle: &[u8]| plain.stdout.windows(needle.len()).any(|window| window == needle);
    assert!(holds(b"a.c"), "the catalog is among what was looked through");
    for secret in [b"SECRET-".as_slice(), b"b.o", b"other", b"\"big\""] {
        assert!(!holds(secret), "{} is in a pack", String::from_utf8_lossy(secret));
    }
}

#[test]
fn a_dry_run_tells_and_writes_nothing() {
    let (safe, path) = prepared(SETTINGS);
    let before = safe.sh("find client node -printf '%p %T@ %s\\n' | sort");
    let told = safe.client(&["submit", "--dry-run", "files", &path]).exits(0);
    told.says(&["12 entries", "exclude \"*.o\"", "larger than max_file_size", "CACHEDIR.TAG"]);
    let rows = safe.client(&["submit", "--dry-run", "--json", "files", &path]).json();
    assert_eq!((rows[0]["entries"].as_u64(), rows[0]["unreadable"].as_u64()), (Some(12), Some(0)), "{rows}");
    assert_eq!(rows[0]["left_out"]["larger than max_file_size"], 1);
    let list = safe.client(&["submit", "--dry-run", "--list", "files", &path]).ok();
    assert!(list.lines().any(|line| line.starts_with("taken") && line.ends_with("  src/a.c")), "{list}");
    assert!(list.lines().any(|line| line.starts_with("left out") && line.contains("  big  ")), "{list}");
    let things = safe.client(&["submit", "--dry-run", "--all", "--list", "--json"]).json();
    let things = things.as_array().unwrap();
    assert_eq!(things.iter().filter(|thing| thing["fate"] == "taken").count(), 12);
    assert!(things.iter().any(|thing| thing["name_hex"] == "636166e9" && thing["bytes"] == 2), "{things:?}");
    assert_eq!(safe.sh("find client node -printf '%p %T@ %s\\n' | sort"), before, "a dry run wrote something");
    // Every module answers, and what is not allowed is refused as without --dry-run.
    safe.client(&["submit", "--dry-run", "dummy", "x"]).exits(0);
    safe.client(&["submit", "--dry-run", "files", &safe.text("source/absent")]).says(&["absent"]).exits(1);
    safe.client(&["submit", "--dry-run", "--wait", "files", &path]).exits(2);
    safe.client(&["submit", "--list", "files", &path]).exits(2);
}

#[test]
fn a_dry_run_says_what_cannot_be_read() {
    let safe = Loopback::start();
    safe.sh("mkdir source/t; echo x >source/t/x; mkfifo source/t/fifo; mkdir source/t/listed");
    let path = safe.text("source/t");
    safe.write("list", &format!("x\nlisted\n{path}/gone\n/etc/passwd\n"));
    let list = safe.text("list");
    safe.sh(&format!("cat >>client.toml <<'END'\n\n[[dataset]]\naddress = \"files:{path}\"\nfiles_from = \"{list}\"\nEND"));
    let told = safe.client(&["submit", "--dry-run", "files", &path]).exits(3);
    told.says(&["3 entries", "2 entries cannot be read", "gone", "/etc/passwd", "not named in files_from"]);
    // The same of the backup itself: it is made, and exit 3 says that something is missing.
    safe.client(&["submit", "files", &path]).exits(0);
    safe.client(&["send"]).exits(3);
    safe.round();
    safe.client(&["restore", &format!("files:{path}"), "--target", &safe.text("back/t")]).exits(0);
    assert_eq!(safe.names("back/t"), ["listed", "x"]);
    // A list behind a link is not read, nor is one that names nothing.
    safe.sh("mv list real; ln -s real list");
    safe.client(&["submit", "--dry-run", "files", &path]).says(&["files_from", "without following links"]).exits(1);
    safe.sh("rm list; : >list");
    safe.client(&["submit", "--dry-run", "files", &path]).says(&["names nothing"]).exits(1);
}

#[test]
fn wrong_patterns_and_settings_are_refused_with_their_dataset() {
    let safe = Loopback::start();
    let good = safe.read("client.toml");
    let cases: &[(&str, &[&str])] = &[
        ("exclude = [\"[a\"]", &["files:/x", "exclude", "[a"]),
        ("exclude = [\"*\"]\ninclude = [\"!a\"]", &["files:/x", "include", "!a"]),
        ("include = [\"a\"]", &["files:/x", "no exclude"]),
        ("files_from = \"list\"", &["files:/x", "absolute"]),
        ("max_file_size = \"1 GB\"", &["client.toml", "line", "1 GB"]),
        ("exclude_cache = true", &["client.toml", "line", "exclude_cache"]),
    ];
    for (settings, words) in cases {
        safe.write("client.toml", &format!("{good}\n[[dataset]]\naddress = \"files:/x\"\n{settings}\n"));
        safe.client(&["config", "check"]).says(words).exits(2);
        safe.client(&["submit", "dummy", "x"]).says(words).exits(2);
    }
    safe.write("client.toml", &format!("{good}\n[[dataset]]\naddress = \"git:/x.git\"\nexclude = [\"*.o\"]\n"));
    safe.client(&["config", "check"]).says(&["git:/x.git", "exclude"]).exits(2);
    assert!(safe.names("client/pool/inbox").is_empty());
}

/// A dataset that holds the client's own state: what a backup writes meanwhile is not in it.
#[test]
fn a_backup_does_not_back_itself_up() {
    let safe = Loopback::start();
    safe.sh("mkdir source/t; head -c 3000000 /dev/urandom >source/t/random");
    safe.back_up("files", &safe.text("source/t"));
    // Packs that wait, as long as the node does not come.
    safe.sh("head -c 3000000 /dev/urandom >source/t/more");
    safe.client(&["submit", "files", &safe.text("source/t")]).exits(0);
    safe.client(&["send"]).silent();
    assert!(!safe.names("client/export/node1").is_empty());
    let path = safe.text("client");
    let rows = safe.client(&["submit", "--dry-run", "--list", "--json", "files", &path]).json();
    let of = |begin: &str| -> Vec<(String, String)> {
        let things = rows.as_array().unwrap().iter().filter(|thing| thing["name"].as_str().is_some_and(|name| name.starts_with(begin)));
        things.map(|thing| (thing["name"].as_str().unwrap().into(), thing["fate"].as_str().unwrap().into())).collect()
    };
    let expected = |name: &str| vec![(name.to_owned(), "left out".to_owned()), (name.to_owned(), "taken".to_owned())];
    assert_eq!((of("export/"), of("index/")), (expected("export/"), expected("index/")));
    assert!(of("").len() > 10, "the rest of the state is backed up");
    // Reached by another name it is the same folder.
    if root() {
        safe.sh("mkdir source/mount && mount --bind client/export source/mount || rmdir source/mount");
        if safe.at("source/mount").exists() {
            let mount = safe.client(&["submit", "--dry-run", "--list", "files", &safe.text("source")]);
            safe.sh("umount source/mount");
            mount.says(&["mount/  (nightsafe's own"]).exits(0);
        }
    }
    safe.client(&["submit", "--dry-run", "files", &safe.text("client/export/node1")]).says(&["writes itself"]).exits(2);
    safe.client(&["submit", "files", &path]).exits(0);
    safe.round();
    safe.client(&["restore", &format!("files:{path}"), "--target", &safe.text("back/c")]).exits(0);
    assert!(safe.at("back/c/export").is_dir() && safe.names("back/c/export").is_empty() && safe.names("back/c/index").is_empty());
    assert!(safe.at("back/c/id_ed25519").exists());
}

/// Mount points are kept as empty folders.
#[test]
fn other_file_systems() {
    if !root() {
        return not_tested("other file systems", "only root makes what it takes");
    }
    let safe = Loopback::start();
    safe.sh("mkdir -p source/t/mnt source/t/a && echo x >source/t/a/x");
    if run(safe.command("mount").args(["-t", "tmpfs", "none"]).arg(safe.at("source/t/mnt"))).code != Some(0) {
        return;
    }
    safe.write("source/t/mnt/far", "far");
    let path = safe.text("source/t");
    let whole = safe.client(&["submit", "--dry-run", "--list", "files", &path]);
    safe.edit("client.toml", "module = \"files\"", "module = \"files\"\none_file_system = true");
    let one = safe.client(&["submit", "--dry-run", "--list", "files", &path]);
    safe.sh("umount source/t/mnt");
    whole.says(&["mnt/far"]).exits(0);
    let one = one.says(&["left out            mnt/  (on another file system"]).exits(0);
    assert!(one.stdout.lines().any(|line| line.starts_with("taken") && line.ends_with("mnt/")) && !one.stdout.contains("far"), "{one}");
}

/// The settings that the page shows are taken, and patterns do what its table says.
#[test]
fn the_page_is_true() {
    let text = std::fs::read_to_string(source_root().join("docs/choosing.md")).unwrap();
    let safe = Loopback::start();
    let settings = blocks(&text, "toml").concat().replace("/var/www", &safe.text("source/t"));
    assert!(settings.contains("exclude_caches"));
    safe.sh(&format!("cat >>client.toml <<'END'\n\n{settings}\nEND"));
    safe.sh("mkdir -p source/t/cache/wanted source/t/a/node_modules && cd source/t && touch x.tmp cache/c cache/wanted/w cache/wanted/x.tmp a/node_modules/n");
    safe.client(&["config", "check"]).exits(0);
    let list = safe.client(&["submit", "--dry-run", "--list", "files", &safe.text("source/t")]).ok();
    let taken: Vec<&str> = list.lines().filter(|line| line.starts_with("taken")).filter_map(|line| line.split("  ").last()).collect();
    assert_eq!(taken, [".", "a/", "cache/", "cache/wanted/", "cache/wanted/w"]);
}
