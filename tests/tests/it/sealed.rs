//! Sealed repositories: bundles in an archive, of which the node sees neither names nor contents.

use crate::harness::{Loopback, blocks, run, source_root};

/// A repository with branches, tags, a merge and a history that is worth deduplicating.
fn repository(safe: &Loopback) {
    safe.sh("git init -q -b main work; cd work
         git config user.name t; git config user.email t@t
         for n in $(seq 40); do
             seq $((n * 3000)) $((n * 3000 + 3000)) | awk '{ print $1 * 2654435761 % 4294967296 }' > file-$n
             echo secret-content-$n >> file-$n
             git add .; git commit -qm \"secret-message-$n\"
         done
         git checkout -qb side; echo side > side; git add side; git commit -qm side
         git checkout -q main; echo main > main; git add main; git commit -qm main
         git merge -q --no-edit side
         git tag -a -m 'a tag' v1; git tag light; git tag blob $(git hash-object -w main)
         cd ..; git clone -q --mirror work secret-name.git");
    seal(safe);
}

fn seal(safe: &Loopback) {
    let address = format!("git:{}", safe.text("secret-name.git"));
    let text = safe.read("client.toml");
    safe.write("client.toml", &format!("{text}\n[[dataset]]\naddress = \"{address}\"\nsealed = true\n"));
}

fn refs(safe: &Loopback, repository: &str) -> String {
    safe.git(repository, &["for-each-ref", "--format=%(objectname) %(refname)"]) + &safe.read(&format!("{repository}/HEAD"))
}

/// Restores to `back-N` and holds it against what was there.
fn comes_back(safe: &Loopback, name: &str, at: &[&str], expected: &str) {
    let (dataset, target) = (format!("git:{}", safe.text("secret-name.git")), safe.text(name));
    let args = [&["restore", &dataset, "--target", &target][..], at].concat();
    safe.client(&args).exits(0);
    assert_eq!(refs(safe, name), expected, "{name}");
    safe.git(name, &["fsck", "--strict"]);
    assert_eq!(safe.git(name, &["rev-parse", "--is-bare-repository"]).trim(), "true");
}

fn stored(safe: &Loopback) -> u64 {
    let size =
        |folder: &str| safe.names(folder).iter().map(|name| safe.at(folder).join(name).metadata().expect("it is there").len()).sum::<u64>();
    size("node/data/web1/packs")
}

#[test]
fn the_node_sees_nothing_and_everything_comes_back() {
    let safe = Loopback::start();
    repository(&safe);
    let path = safe.text("secret-name.git");
    safe.back_up("git", &path);
    let mut states = vec![refs(&safe, "secret-name.git")];
    let whole = stored(&safe);
    assert!(safe.names("node/data/web1/mirrors").is_empty());
    // Nothing of names of refs, messages or contents is anywhere at the node; the dataset's own path is.
    for word in ["secret-content-7", "secret-message-7", "refs/heads/side", "# v2 git bundle"] {
        let found = run(safe.command("grep").args(["-rlaF", word, "node"]).current_dir(&safe.dir));
        assert_eq!(found.code, Some(1), "{word}: {found}");
    }
    // A small push costs little; the same state again next to nothing; each state comes back.
    for n in 1..4 {
        let before = stored(&safe);
        safe.sh(&format!("cd work; echo change-{n} >> file-{n}9; git commit -qam change-{n}; git push -q ../secret-name.git main"));
        safe.back_up("git", &path);
        let cost = stored(&safe) - before;
        assert!(cost < whole / 4, "{cost} bytes for a push of one line, {whole} for all");
        states.push(refs(&safe, "secret-name.git"));
    }
    // Forced, deleted, renamed, HEAD moved, the source packed anew.
    safe.sh("cd work; git checkout -qb new HEAD~5; echo new > new; git add new; git commit -qm new
         git push -q ../secret-name.git +new:main new; git push -q ../secret-name.git --delete side light
         git -C ../secret-name.git symbolic-ref HEAD refs/heads/new");
    safe.back_up("git", &path);
    states.push(refs(&safe, "secret-name.git"));
    // What nobody refers to any more is gone for good, so that the chain cannot go on.
    safe.sh("git -C secret-name.git reflog expire --expire=now --all; git -C secret-name.git gc -q --prune=now");
    safe.back_up("git", &path);
    states.push(refs(&safe, "secret-name.git"));
    let list = safe.client(&["snapshots", "--json"]).json();
    let names: Vec<String> = list.as_array().unwrap().iter().map(|one| one["snapshot"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), states.len());
    for (n, (name, expected)) in names.iter().zip(&states).enumerate() {
        comes_back(&safe, &format!("back-{n}"), &["--at", name], expected);
    }
    comes_back(&safe, "back-store", &["--store", &safe.text("node/data/web1")], states.last().unwrap());
    // ls shows the bundles; without our program git itself reads them, in order.
    let listed = safe.client(&["ls", "-r", "--at", &names[3], &format!("git:{path}")]).ok();
    assert!(listed.contains("bundles/0003.bundle") && listed.contains("refs"), "{listed}");
    let text = std::fs::read_to_string(source_root().join("docs/git.md")).unwrap();
    let by_hand = blocks(&text, "sh").concat();
    assert!(by_hand.contains("git fetch") || by_hand.contains("fetch --quiet"), "the page shows how");
    let mut bundles = String::from("mkdir bundles\n");
    for file in ["bundles/0000.bundle", "bundles/0001.bundle", "bundles/0002.bundle", "bundles/0003.bundle", "refs"] {
        bundles += &format!("nightsafe restore git:{path} {file} --at {} --stdout > {file} 2>/dev/null\n", names[3]);
    }
    safe.sh(&(bundles + &by_hand));
    assert_eq!(refs(&safe, "byhand.git"), states[3]);
    // Only the keyholder gets anywhere.
    safe.sh("age-keygen -o other.txt 2>/dev/null");
    let other = ["restore", &format!("git:{path}"), "--target", &safe.text("no"), "--identity", &safe.text("other.txt")];
    run(safe.command("nightsafe").env_remove("NIGHTSAFE_IDENTITY").args(other)).exits(1).says(&["wrong identity"]);
}

#[test]
fn an_empty_repository_and_a_detached_head() {
    let safe = Loopback::start();
    safe.sh("git init -q --bare -b trunk secret-name.git");
    seal(&safe);
    let path = safe.text("secret-name.git");
    safe.back_up("git", &path);
    safe.client(&["restore", &format!("git:{path}"), "--target", &safe.text("empty")]).exits(0);
    assert_eq!(safe.git("empty", &["for-each-ref"]), "");
    safe.sh("git init -q -b trunk work; cd work; git config user.name t; git config user.email t@t
         echo a > a; git add a; git commit -qm a; git push -q ../secret-name.git trunk
         git -C ../secret-name.git update-ref --no-deref HEAD $(git rev-parse HEAD)");
    safe.back_up("git", &path);
    comes_back(&safe, "back-detached", &[], &refs(&safe, "secret-name.git"));
}

#[test]
fn a_mirror_that_was_there_before_is_named() {
    let safe = Loopback::start();
    safe.sh("git init -q -b main work; cd work; git config user.name t; git config user.email t@t
         echo a > a; git add a; git commit -qm a; cd ..; git clone -q --mirror work secret-name.git");
    let path = safe.text("secret-name.git");
    safe.back_up("git", &path);
    let mirrors = safe.names("node/data/web1/mirrors");
    let before = refs(&safe, "secret-name.git");
    let first = safe.client(&["snapshots", "--json"]).json()[0]["snapshot"].as_str().unwrap().to_owned();
    seal(&safe);
    safe.client(&["config", "check"]).says(&["sealed", "mirror"]);
    safe.sh("cd work; echo b > b; git add b; git commit -qm b; git push -q ../secret-name.git main");
    safe.back_up("git", &path);
    // The mirror is left as it was, and the receipt says so.
    assert_eq!(safe.names("node/data/web1/mirrors"), mirrors);
    let mirror = mirrors.iter().find(|name| name.ends_with(".git")).unwrap();
    assert_ne!(
        safe.git(&format!("node/data/web1/mirrors/{mirror}"), &["rev-parse", "main"]),
        safe.git("secret-name.git", &["rev-parse", "main"])
    );
    let receipts = safe.git("node/data/web1/receipts.git", &["grep", "-h", "clear", "receipts", "--"]);
    assert!(receipts.contains(mirror), "{receipts}");
    // Both states come back, each from where it is.
    comes_back(&safe, "back-clear", &["--at", &first], &before);
    comes_back(&safe, "back-sealed", &[], &refs(&safe, "secret-name.git"));
    // For other modules the setting means nothing, and is refused.
    let text = safe.read("client.toml").replace("address = \"git:", "address = \"files:");
    safe.write("other.toml", &text);
    safe.client(&["--config", &safe.text("other.toml"), "config", "check"]).exits(2).says(&["sealed"]);
}

#[test]
fn nothing_that_the_source_configures_is_run_or_changes_what_is_made() {
    let safe = Loopback::start();
    repository(&safe);
    let path = safe.text("secret-name.git");
    safe.back_up("git", &path);
    let before = stored(&safe);
    safe.sh(
        "here=$PWD; cd secret-name.git
         for hook in post-checkout reference-transaction pre-receive post-receive update post-update pre-auto-gc; do
             printf '#!/bin/sh\\ntouch %s/ran\\n' \"$here\" >hooks/$hook; chmod +x hooks/$hook; done
         for name in core.fsmonitor core.alternateRefsCommand core.sshCommand uploadpack.packObjectsHook alias.pack-objects alias.cat-file; do
             git config $name \"touch $here/ran\"; done
         git config pack.threads 4; git config pack.packSizeLimit 1m; git config pack.compression 0; git config pack.window 250",
    );
    safe.back_up("git", &path);
    assert!(!safe.at("ran").exists());
    assert!(stored(&safe) - before < 100_000, "the same bundle again");
    comes_back(&safe, "back-configured", &[], &refs(&safe, "secret-name.git"));
    assert!(!safe.at("ran").exists());
}
