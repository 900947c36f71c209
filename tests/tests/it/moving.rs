//! Coming from an older system: mirrors that are there already, and the members of a gitosis.

use crate::harness::Loopback;

/// A repository `home/git/a.git` of the client, and a folder `old/` on the node with a mirror of it as it was before: with a
/// branch that has been rewritten since, and one that is gone.
fn with_old_mirror(safe: &Loopback) -> (String, String) {
    let client = safe.text("home/git");
    safe.sh(
        "mkdir -p home/git old; git init -q -b main work; cd work; git config user.name x; git config user.email x@x; \
         head -c 200000 /dev/urandom >big; git add big; git commit -q -m one; git branch gone; git commit -q --allow-empty -m two; cd ..; \
         git clone -q --bare work home/git/a.git; git clone -q --mirror \"$PWD/home/git/a.git\" old/a.git; \
         git -C old/a.git remote set-url origin \"ssh://git@127.0.0.1/$PWD/home/git/a.git\"; \
         cd work; git commit -q --amend --allow-empty -m other; git push -q -f ../home/git/a.git main; git push -q ../home/git/a.git :gone; \
         echo new >new; git add new; git commit -q -m new; git push -q ../home/git/a.git main",
    );
    (client, safe.text("old"))
}

#[test]
fn mirrors_that_are_there_are_taken_over_and_the_next_backup_fetches_what_is_new() {
    let safe = Loopback::start();
    let (client, old) = with_old_mirror(&safe);
    let dataset = format!("git:{client}/a.git");
    let before = safe.git("old/a.git", &["show-ref"]);
    safe.node(&["adopt", "web1", &old, "--dry-run"]).says(&[&dataset]).exits(0);
    assert!(safe.names("node/data/web1/mirrors").is_empty());
    // Once it is taken over there is no room for it a second time, and none is needed.
    safe.node(&["client", "set", "web1", "--quota", "300 KiB", "--admin-key", "admin/id_ed25519"]).exits(0);
    safe.node(&["adopt", "web1", &old]).says(&[&format!("is the mirror of {dataset} now: 2 refs")]).exits(0);
    let again = safe.node(&["adopt", "web1", &old, "--json"]).json();
    assert_eq!((again[0]["refs"].as_u64(), again[0]["bytes"].as_u64(), again[0]["kept_aside"].as_bool()), (Some(2), Some(0), Some(false)));
    safe.node(&["client", "set", "web1", "--quota", "default", "--admin-key", "admin/id_ed25519"]).exits(0);
    assert_eq!(safe.git("old/a.git", &["show-ref"]), before, "what was there is as it was");
    let mirror = safe.names("node/data/web1/mirrors").into_iter().find(|name| name.ends_with(".git")).unwrap();
    let mirror = format!("node/data/web1/mirrors/{mirror}");
    assert_eq!(safe.git(&mirror, &["show-ref", "--heads"]), before);

    // The first backup brings the new commits, and not the large file once more.
    safe.back_up_saying("git", &format!("{client}/a.git"), &["the default branch refs/heads/main was rewritten"]);
    let fetched = safe.client(&["log", "--json"]).json();
    let last =
        fetched.as_array().unwrap().iter().find(|one| one["dataset"].as_str().is_some_and(|text| text.contains("a.git"))).unwrap().clone();
    let bytes = last["bytes_fetched"].as_u64().expect("the log says how much came");
    assert!(bytes > 0 && bytes < 20_000, "{bytes}: {last}");
    // What the old mirror had is kept: the rewritten branch, and the one that is gone.
    let kept = safe.git(&mirror, &["for-each-ref", "--format=%(objectname)", "refs/kept"]);
    for line in before.lines() {
        let id = line.split(' ').next().unwrap();
        assert!(kept.contains(id), "{line} is not kept:\n{kept}");
    }
    safe.client(&["restore", &dataset, "--target", "back/a.git"]).exits(0);
    safe.sh("test \"$(git -C back/a.git show-ref)\" = \"$(git -C home/git/a.git show-ref)\"");
    // Where it is mirrored already nothing new is made of what is there.
    safe.node(&["adopt", "web1", &old]).says(&["mirrored already"]).exits(0);
    assert_eq!(safe.git(&mirror, &["for-each-ref", "--format=%(objectname)", "refs/kept"]), kept);
    safe.node(&["scrub", "--all"]).exits(0);
}

#[test]
fn what_does_not_belong_is_not_taken_over() {
    let safe = Loopback::start();
    let (client, old) = with_old_mirror(&safe);
    safe.sh("mkdir -p empty two/x; cp -r old/a.git two/a.git; cp -r old/a.git two/x/b.git; cp -r old other; git -C other/a.git remote set-url origin git@elsewhere.example.org:a.git; \
             cp -r old relative; git -C relative/a.git remote set-url origin git@127.0.0.1:a.git; cp -r old shallow; touch shallow/a.git/shallow; \
             cp -r old broken; rm -r broken/a.git/objects/pack broken/a.git/objects/??");
    let at = |name: &str| safe.text(name);
    for (args, words, code) in [
        (vec!["adopt", "web9", &old], "Did you mean web1", 2),
        (vec!["adopt", "web1", &at("absent")], "find the folder", 2),
        (vec!["adopt", "web1", &at("empty")], "there is no repository", 2),
        (vec!["adopt", "web1", &at("two")], "would both be", 4),
        (vec!["adopt", "web1", &at("other")], "which is not on web1", 4),
        (vec!["adopt", "web1", &at("relative")], "--under", 2),
        (vec!["adopt", "web1", &at("shallow")], "is shallow", 2),
        (vec!["adopt", "web1", &at("node/data")], "lies in the node's own data", 2),
        (vec!["adopt", "web1", &at("broken")], "broken/a.git", 1),
    ] {
        safe.node(&args).says(&[words]).exits(code);
        assert!(safe.names("node/data/web1/mirrors").iter().all(|name| !name.ends_with(".git") || words.contains("broken")), "{args:?}");
    }
    safe.node(&["adopt", "web1", &at("relative"), "--under", &client]).says(&[&format!("git:{client}/a.git")]).exits(0);
    safe.node(&["client", "set", "web1", "--quota", "50 KiB", "--admin-key", "admin/id_ed25519"]).exits(0);
    safe.node(&["adopt", "web1", &at("other"), "--any-origin", "--under", &at("home/others")]).says(&["its quota is"]).exits(4);
}

#[test]
fn members_of_a_gitosis_come_into_the_list_by_one_commit() {
    let safe = Loopback::start();
    safe.sh(
        "mkdir -p gitosis/keydir; cd gitosis; for name in dora Ed_Smith web2 web2-old; do ssh-keygen -q -t ed25519 -N '' -C $name -f ../$name; cp ../$name.pub keydir/; done; \
         mv keydir/web2-old.pub old; cat old >>keydir/web2.pub; echo 'ssh-dss AAAAB3NzaC1kc3MAAACBAP old' >>keydir/dora.pub; \
         printf '[gitosis]\\ngitweb = no\\n[group gitosis-admin]\\nwritable = gitosis-admin\\nmembers = dora\\n[group shop]\\nmembers = @people web2\\nwritable = shop\\nreadonly = docs\\n[group people]\\nmembers = dora Ed_Smith\\n  nokey\\n' >gitosis.conf",
    );
    let folder = safe.text("gitosis");
    let import = [
        "import-gitosis",
        &folder,
        "--client",
        "web1",
        "--under",
        "/home/git/repositories",
        "--machine",
        "web2",
        "--admin-key",
        "admin/id_ed25519",
    ];
    let count = || safe.git("node/data/admin.git", &["rev-list", "--count", "access"]).trim().parse::<u32>().unwrap();
    let before = count();
    let said = [
        "dora is restorer dora: git:/home/git/repositories/docs.git, git:/home/git/repositories/shop.git",
        "restorer ed-smith",
        "web2 is client web2",
        "one key more",
        "nokey has no key",
        "a key of dora is left out",
    ];
    safe.node(&[&import[..], &["--dry-run"]].concat()).says(&said).says(&["would be so"]).exits(0);
    assert_eq!(count(), before);
    // Who is nobody here is told nothing of what would have become of it.
    let refused = safe.node(&[&import[..9], &["dora"]].concat()).says(&["no administrator's"]).exits(4);
    assert!(!refused.stdout.contains("is restorer"), "{refused}");
    safe.node(&import).says(&said).exits(0);
    assert_eq!(count(), before + 1);
    let restorers = safe.node(&["restorer", "list", "--json"]).json();
    let dora = restorers.as_array().unwrap().iter().find(|one| one["name"] == "dora").unwrap();
    assert_eq!(dora["read"][0], "web1:git:/home/git/repositories/docs.git");
    let clients = safe.node(&["client", "list", "--json"]).json();
    let web2 = clients.as_array().unwrap().iter().find(|one| one["name"] == "web2").unwrap();
    assert_eq!((web2["keys"].as_array().unwrap().len(), web2["allow"][0].as_str()), (2, Some("git:/home/git/repositories/shop.git")));
    // Both of the machine's keys are let in, as one client.
    for key in ["web2", "web2-old"] {
        assert!(safe.ssh(key, Some("ping")).ok().contains("client web2"));
    }
    safe.node(&import).says(&["nothing is changed"]).exits(0);
    assert_eq!(count(), before + 1);
    // With --admins the one who could change gitosis may sign; her key has one use.
    safe.node(&["restorer", "remove", "dora", "--admin-key", "admin/id_ed25519"]).exits(0);
    safe.node(&[&import[..], &["--admins"]].concat()).says(&["dora is admin dora"]).exits(0);
    safe.node(&["client", "pause", "web2", "--admin-key", "dora"]).exits(0);
    for (args, words) in [
        (vec!["import-gitosis", &folder, "--client", "web9", "--under", "/r", "--admin-key", "admin/id_ed25519"], "Take in the machine"),
        (vec!["import-gitosis", &folder, "--client", "web1", "--under", "r", "--admin-key", "admin/id_ed25519"], "absolute path"),
        (
            vec!["import-gitosis", &folder, "--client", "web1", "--under", "/r", "--machine", "web3", "--admin-key", "admin/id_ed25519"],
            "Did you mean web2",
        ),
        (vec!["import-gitosis", "nowhere", "--client", "web1", "--under", "/r", "--admin-key", "admin/id_ed25519"], "gitosis.conf"),
    ] {
        safe.node(&args).says(&[words]).exits(2);
    }
}
