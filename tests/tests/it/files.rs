//! Folders and files: backed up, restored by the restorer's key over ssh and from a store on a local path, compared.

use crate::harness::{Loopback, not_tested, root, run, same_trees, tree};
use std::path::Path;

fn dataset(safe: &Loopback) -> (String, String) {
    let path = safe.text("source/tree");
    tree(Path::new(&path));
    (path.clone(), format!("files:{path}"))
}

#[test]
fn everything_comes_back_over_ssh_and_from_a_local_store() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.back_up("files", &path);
    safe.client(&["restore", &dataset, "--target", &safe.text("back/ssh")]).exits(0);
    same_trees(Path::new(&path), &safe.at("back/ssh"));
    // The local way needs no configuration, no network and no node.
    safe.loopback("stop").exits(0);
    let mut restore = safe.command("nightsafe");
    restore.env_remove("NIGHTSAFE_CONFIG").args([
        "--config",
        "/nonexistent/client.toml",
        "restore",
        &dataset,
        "--store",
        &safe.text("node/data/web1"),
    ]);
    run(restore.args(["--target", &safe.text("back/local")])).exits(0);
    same_trees(Path::new(&path), &safe.at("back/local"));
    assert!(safe.names("client/export/node1").is_empty(), "the export folder is freed by the receipt");
}

#[test]
fn a_second_backup_sends_what_changed_and_both_states_are_there() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.back_up("files", &path);
    let first = safe.client(&["snapshots", &dataset, "--json"]).json()[0]["snapshot"].as_str().unwrap().to_owned();
    let before = stored(&safe);
    safe.sh(&format!("cp -a '{path}' '{0}'", safe.text("source/before")));
    safe.sh(&format!("cd '{path}'; printf changed >a/hello; rm random; mkdir new; head -c 100000 /dev/urandom >new/file; mv many plenty"));
    safe.back_up("files", &path);
    let growth = stored(&safe) - before;
    assert!(growth < 400_000, "{growth} bytes for 100 kB of new data");
    safe.client(&["restore", &dataset, "--target", &safe.text("back/new")]).exits(0);
    same_trees(Path::new(&path), &safe.at("back/new"));
    safe.client(&["restore", &dataset, "--at", &first, "--target", &safe.text("back/old")]).exits(0);
    same_trees(&safe.at("source/before"), &safe.at("back/old"));
    assert_eq!(safe.client(&["snapshots", &dataset, "--json"]).json().as_array().unwrap().len(), 2);
}

#[test]
fn what_is_remembered_of_a_tree_may_be_damaged_or_old() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    // What is younger than two seconds is read again in any case.
    safe.sh(&format!("until [ -z \"$(find '{path}' -newerct '3 seconds ago' -print -quit)\" ]; do sleep 0.2; done"));
    safe.back_up("files", &path);
    let folder = "client/cache/node1";
    let name = match &safe.names(folder)[..] {
        [name] => format!("{folder}/{name}"),
        other => panic!("{other:?}"),
    };
    safe.sh(&format!("cp '{name}' first"));
    let damages = [
        "true".to_owned(),
        format!("truncate -s -1000 '{name}'"),
        format!("printf x | dd of='{name}' bs=1 seek=3000 conv=notrunc status=none"),
        format!("cp first '{name}'"),
        format!("mv '{name}' '{name}.new'"),
        format!("rm '{name}'"),
        format!("head -c 100000 /dev/urandom >'{name}'"),
    ];
    for (number, damage) in damages.iter().enumerate() {
        safe.sh(damage);
        // Another content of the same length with the old time, another mode, another name, a file that was there before.
        safe.sh(&format!(
            "cd '{path}'; touch -r a/hello ../time; head -c \"$(stat -c %s a/hello)\" /dev/urandom >a/hello; touch -r ../time a/hello; \
             chmod 06{number}4 random; ln a/hello again-{number}; echo {number} >new-{number}"
        ));
        safe.back_up("files", &path);
        let back = format!("back/{number}");
        safe.client(&["restore", &dataset, "--target", &safe.text(&back)]).exits(0);
        same_trees(Path::new(&path), &safe.at(&back));
    }
    assert_eq!(safe.names(folder).len(), 1);
}

fn stored(safe: &Loopback) -> u64 {
    safe.sh("du -sb node/data/web1 | cut -f1").trim().parse().unwrap()
}

#[test]
fn single_paths_and_single_files() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.back_up("files", &path);
    safe.client(&["ls", &dataset]).says(&["a/", "exactly-one-mib"]).ok();
    safe.client(&["ls", &dataset, "a"]).says(&["hello", "link"]).ok();
    safe.client(&["restore", &dataset, "a/hello", "many", "--target", &safe.text("back/some")]).exits(0);
    let back = safe.sh("cd back/some && find . -mindepth 1 | sort | head -n 4");
    assert_eq!(back, "./a\n./a/hello\n./many\n./many/file-0\n");
    safe.sh(&format!("diff -r '{path}/many' back/some/many"));
    safe.client(&["restore", &dataset, "no/such/thing", "--target", &safe.text("back/none")]).says(&["no/such/thing"]).exits(1);

    let file = format!("{path}/random");
    safe.back_up("files", &file);
    safe.client(&["restore", &format!("files:{file}"), "--target", &safe.text("back/file")]).exits(0);
    let found = safe.sh("find back/file -type f -size +4000k");
    safe.sh(&format!("cmp '{file}' '{}'", found.trim()));
}

#[test]
fn what_is_in_the_way_is_not_touched() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.back_up("files", &path);
    // A link in the target must not lead out of it.
    safe.sh("mkdir -p back/t back/outside && ln -s ../outside back/t/many");
    let restored = safe.client(&["restore", &dataset, "--target", &safe.text("back/t")]);
    assert_ne!(restored.code, Some(0), "{restored}");
    assert!(safe.names("back/outside").is_empty(), "{restored}");
}

#[test]
fn unreadable_files_are_told_and_the_rest_is_stored() {
    if root() {
        // Where a file cannot be read for another reason is tested beside the code; what an ordinary user meets, in fidelity.rs.
        return not_tested("files that cannot be read, by their mode alone", "root reads everything");
    }
    let safe = Loopback::start();
    let path = safe.text("source/tree");
    safe.sh(&format!("mkdir '{path}'; echo a >'{path}/a'; echo b >'{path}/b'; chmod 0 '{path}/b'"));
    safe.client(&["submit", "files", &path]).ok();
    safe.client(&["send"]).exits(3);
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).exits(0);
    safe.client(&["status"]).says(&["could not be read"]);
    let _ = safe.client(&["restore", &format!("files:{path}"), "--target", &safe.text("back/t")]);
    assert_eq!(safe.read("back/t/a"), "a\n");
}

#[test]
fn a_missing_pack_is_named_and_the_rest_is_restored() {
    let safe = Loopback::start();
    let path = safe.text("source/tree");
    // Two backups make two packs of data: the one that goes holds only what came with the second.
    safe.sh(&format!("mkdir '{path}'; head -c 3000000 /dev/urandom >'{path}/first'"));
    safe.back_up("files", &path);
    let packs = safe.names("node/data/web1/packs");
    safe.sh(&format!("head -c 3000000 /dev/urandom >'{path}/second'"));
    safe.back_up("files", &path);
    let new: Vec<_> = safe.names("node/data/web1/packs").into_iter().filter(|pack| !packs.contains(pack)).collect();
    let largest = new.iter().max_by_key(|pack| std::fs::metadata(safe.at("node/data/web1/packs").join(pack)).unwrap().len()).unwrap();
    std::fs::rename(safe.at("node/data/web1/packs").join(largest), safe.at("gone")).unwrap();
    let dataset = format!("files:{path}");
    for extra in [&[][..], &["--store", &safe.text("node/data/web1")][..]] {
        let target = safe.text(&format!("back/{}", extra.len()));
        let restored = safe.client(&[&["restore", &dataset, "--target", &target], extra].concat()).exits(3);
        restored.says(&[&largest[..12], "second"]);
        safe.sh(&format!("cmp '{path}/first' '{target}/first'"));
        assert!(
            !Path::new(&target).join("second").exists()
                || std::fs::read(Path::new(&target).join("second")).unwrap() != std::fs::read(format!("{path}/second")).unwrap()
        );
    }
}

#[test]
fn damage_is_an_error_and_never_wrong_data() {
    let safe = Loopback::start();
    let path = safe.text("source/tree");
    safe.sh(&format!("mkdir '{path}'; head -c 300000 /dev/urandom >'{path}/file'"));
    safe.back_up("files", &path);
    let pack = safe.sh("ls -S node/data/web1/packs | head -n 1");
    let pack = safe.at("node/data/web1/packs").join(pack.trim());
    let good = std::fs::read(&pack).unwrap();
    let dataset = format!("files:{path}");
    for (name, bad) in [("flipped", flip(&good)), ("cut", good[..good.len() / 2].to_vec()), ("empty", Vec::new())] {
        std::fs::remove_file(&pack).unwrap();
        std::fs::write(&pack, bad).unwrap();
        let target = safe.text(&format!("back/{name}"));
        let restored = safe.client(&["restore", &dataset, "--target", &target]);
        assert!(matches!(restored.code, Some(1 | 3)), "{name}: {restored}");
        assert!(!Path::new(&target).join("file").exists(), "{name}: {restored}");
    }
}

fn flip(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

#[test]
fn the_wrong_identity_names_the_recipients() {
    let safe = Loopback::start();
    let path = safe.text("source/tree");
    safe.sh(&format!("mkdir '{path}'; echo a >'{path}/a'; age-keygen -o other.txt 2>/dev/null"));
    safe.back_up("files", &path);
    let recipient = safe.sh("sed -n 's/^# public key: //p' identity.txt");
    let restored =
        safe.client(&["restore", &format!("files:{path}"), "--identity", &safe.text("other.txt"), "--target", &safe.text("back/t")]);
    assert_ne!(restored.code, Some(0));
    restored.says(&[recipient.trim()]);
    assert!(!safe.at("back/t/a").exists());
}

#[test]
fn one_file_goes_to_standard_output_and_all_goes_back_to_its_place() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.back_up("files", &path);
    let out = safe.client(&["restore", &dataset, "a/hello", "--stdout"]).exits(0);
    assert_eq!(out.stdout, safe.read("source/tree/a/hello"));
    safe.client(&["restore", &dataset, "a", "--stdout"]).says(&["Name one file"]).exits(2);
    safe.client(&["restore", &dataset, "a/link", "--stdout"]).says(&["not a regular file"]).exits(2);
    safe.sh("cp -a source/tree before; rm -r source/tree");
    safe.client(&["restore", &dataset, "--in-place"]).exits(0);
    same_trees(&safe.at("before"), Path::new(&path));
    // On another machine the dataset has no place; and a restore has one place to go to.
    safe.sh("sed 's/^name = \"web1\"/name = \"other\"/' client.toml >other.toml");
    safe.client(&["--config", &safe.text("other.toml"), "restore", &format!("web1:{dataset}"), "--in-place"]).says(&["--target"]).exits(2);
    safe.client(&["restore", &dataset, "--in-place", "--target", &safe.text("back/t")]).exits(2);
    safe.client(&["restore", &dataset]).exits(2);
}
