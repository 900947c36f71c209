//! Sources of mirrors that rewrite, delete and rename.
//!
//! Whatever a source does, every state that the node ever received stays; nothing that it says is run.

use super::attacker::Attacker;

/// What the source's owner does, as shell in the bare repository; `c` makes a commit on nothing, `o` is the first commit.
const SOURCES: &[(&str, &str)] = &[
    ("main is set back to its first commit", "git update-ref refs/heads/main $o"),
    ("main is another history", "git update-ref refs/heads/main $(c new)"),
    ("a branch is deleted", "git update-ref refs/heads/topic $(c topic); git update-ref -d refs/heads/side"),
    ("a branch becomes a folder of branches", "git update-ref -d refs/heads/topic; git update-ref refs/heads/topic/below $(c below)"),
    ("a folder of branches becomes a branch", "git update-ref -d refs/heads/topic/below; git update-ref refs/heads/topic $(c again)"),
    ("a tag moves", "git update-ref refs/tags/v1 $(c tag)"),
    ("a tag with words is made anew", "git tag -f -a -m other v2 $o >/dev/null"),
    ("HEAD names another branch", "git symbolic-ref HEAD refs/heads/topic"),
    ("HEAD is a commit", "git update-ref --no-deref HEAD $(c head)"),
    ("HEAD names nothing", "git symbolic-ref HEAD refs/heads/nothing"),
    (
        "names like options and commands",
        "git update-ref 'refs/heads/--upload-pack=touch;marker' $o; git update-ref 'refs/heads/$(touch,marker)' $o; git update-ref \"refs/heads/';touch;marker\" $o",
    ),
    ("a name with an escape", "git update-ref \"$(printf 'refs/heads/a\\302\\233b')\" $o"),
    (
        "hooks and programs in its configuration",
        "printf '#!/bin/sh\\ntouch %s/marker\\n' $d >hooks/post-update; chmod +x hooks/post-update; git config core.sshCommand \"touch $d/marker\"; git config core.fsmonitor \"touch $d/marker\"; git update-ref refs/heads/hooks $(c hooks)",
    ),
    (
        "submodules and attributes that a checkout would follow",
        "b=$(printf '[submodule \"x\"]\\n\\tpath = -x\\n\\turl = --upload-pack=x\\n' | git hash-object -w --stdin); t=$(printf '100644 blob %s\\t.gitmodules\\n' $b | git mktree); git update-ref refs/heads/modules $(git commit-tree -m x $t)",
    ),
    (
        "an alternate that leads to another repository",
        "echo $d/node/data/log/web1.git/objects >objects/info/alternates; git update-ref refs/heads/alternate $(c alternate); rm objects/info/alternates",
    ),
    ("everything goes", "git for-each-ref --format='delete %(refname)' | git update-ref --stdin"),
    (
        "everything comes again",
        "for n in main topic side; do git update-ref refs/heads/$n $(c $n-again); done; git symbolic-ref HEAD refs/heads/main",
    ),
];

/// Refs of names that only a node uses: the client leaves them out, the receipt says so, and the mirror never has them.
const OURS: &[(&str, &str)] = &[
    ("refs/replace/", "git update-ref refs/replace/$o $(c evil)"),
    ("refs/kept/", "git update-ref refs/kept/20200101T000000Z/refs/heads/main $(c evil)"),
    ("refs/nightsafe/", "git update-ref refs/nightsafe/states/20261120T031500Z-3f9a1c7e $(c evil)"),
];

/// How many cases there are.
pub const COUNT: usize = SOURCES.len() + OURS.len();

/// An installation whose client has mirrored a repository once. `prepare` comes before the node's first connection, which is kept.
pub(super) fn with_mirror(prepare: impl FnOnce(&Attacker)) -> (Attacker, String) {
    let attacker = Attacker::start();
    prepare(&attacker);
    let safe = &attacker.safe;
    let path = safe.text("source/p.git");
    safe.sh("git init -q --bare -b main source/p.git");
    change(
        &attacker,
        &path,
        "git update-ref refs/heads/main $(git commit-tree -m two -p $o $(git mktree </dev/null)); for n in topic side; do git update-ref refs/heads/$n $(c $n); done; git tag v1; git tag -a -m words v2",
    );
    safe.back_up("git", &path);
    let mirror = safe.names("node/data/web1/mirrors").into_iter().find(|name| name.ends_with(".git")).unwrap();
    (attacker, format!("node/data/web1/mirrors/{mirror}"))
}

/// Runs a script in the bare repository `path`.
pub(super) fn change(attacker: &Attacker, path: &str, script: &str) {
    attacker.safe.sh(&format!(
        "d=$PWD; cd {path}; export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t GIT_AUTHOR_DATE='1795000000 +0000' GIT_COMMITTER_DATE='1795000000 +0000'
         c() {{ git commit-tree -m \"$1\" $(git mktree </dev/null); }}
         o=$(c first); {script}"
    ));
}

/// The refs of a repository, without those that a node makes, and where HEAD points.
pub(super) fn facts(attacker: &Attacker, repository: &str) -> String {
    let head = attacker.safe.read(&format!("{repository}/HEAD"));
    let refs = attacker.safe.git(repository, &["for-each-ref", "--format=%(objectname) %(refname)"]);
    let shown = |line: &&str| OURS.iter().all(|(name, ..)| !line[41..].starts_with(name));
    head + &refs.lines().filter(shown).flat_map(|line| [line, "\n"]).collect::<String>()
}

/// Objects that refs of the mirror lead to.
fn reached(attacker: &Attacker, mirror: &str) -> Vec<String> {
    let all = attacker.safe.git(mirror, &["rev-list", "--objects", "--all", "--no-object-names"]);
    let mut all: Vec<String> = all.lines().map(str::to_owned).collect();
    all.sort();
    all
}

#[test]
fn no_state_is_lost_by_what_a_source_does() {
    let (attacker, mirror) = with_mirror(|_| ());
    let safe = &attacker.safe;
    let path = safe.text("source/p.git");
    let newest = || {
        safe.names("node/data/web1/snapshots")
            .into_iter()
            .filter(|id| safe.at(&format!("node/data/web1/snapshots/{id}/refs")).exists())
            .count()
    };
    let mut states = vec![(safe.client(&["snapshots", "--json"]).json(), facts(&attacker, "source/p.git"))];
    for (name, script) in SOURCES {
        let (before, count) = (reached(&attacker, &mirror), newest());
        change(&attacker, &path, script);
        // The node's people hear of the first of them alone.
        if count == 1 {
            safe.back_up_saying("git", &path, &["the default branch refs/heads/main was rewritten"]);
        } else {
            safe.back_up("git", &path);
        }
        assert_eq!(newest(), count + 1, "{name}");
        let after = reached(&attacker, &mirror);
        assert!(before.iter().all(|id| after.binary_search(id).is_ok()), "{name}: something is not reached any more");
        states.push((safe.client(&["snapshots", "--json"]).json(), facts(&attacker, "source/p.git")));
    }
    for (name, script) in OURS {
        change(&attacker, &path, script);
        safe.client(&["submit", "git", &path]).exits(0);
        drop(safe.client(&["send"]));
        safe.node(&["poll"]).silent();
        safe.client(&["send"]).silent();
        let receipt = safe.git("node/data/web1/receipts.git", &["log", "-1", "--format=", "-p", "receipts"]);
        assert!(receipt.contains("+outcome = \"stored\"") && receipt.contains("of the source, ") && receipt.contains(name), "{receipt}");
        let evil = safe.git("source/p.git", &["for-each-ref", "--format=%(objectname)", "refs/replace", "refs/kept", "refs/nightsafe"]);
        let there = reached(&attacker, &mirror);
        assert!(evil.lines().all(|id| there.binary_search(&id.to_owned()).is_err()), "{name}");
    }
    assert!(!safe.at("marker").exists() && safe.sh("find . -name marker").is_empty());
    // Each of the states comes back as it was.
    let mut known: Vec<String> = Vec::new();
    for (n, (listed, state)) in states.iter().enumerate() {
        let of_git = |one: &&serde_json::Value| one["dataset"].as_str().is_some_and(|dataset| dataset.contains("p.git"));
        let ids = listed.as_array().unwrap().iter().filter(of_git).map(|one| one["snapshot"].as_str().unwrap().to_owned());
        let new: Vec<String> = ids.filter(|id| !known.contains(id)).collect();
        assert_eq!(new.len(), 1);
        // The first, one in the middle and the last are enough for the time that it takes.
        if [0, 5, states.len() - 1].contains(&n) {
            let target = format!("back/{n}");
            safe.client(&["restore", &format!("git:{path}"), "--at", &new[0], "--target", &safe.text(&target)]).exits(0);
            assert_eq!(&facts(&attacker, &target), state, "{n}");
        }
        known.extend(new);
    }
    attacker.honest_requests_work();
}
