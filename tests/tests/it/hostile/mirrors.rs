//! Sources of mirrors that rewrite, delete and rename, and machines that answer git's fetch with lies.
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

/// Refs that only a node makes: the client leaves them out and says so, and the mirror never has them.
const OURS: &[(&str, &str)] = &[
    ("a replacement", "git update-ref refs/replace/$o $(c evil)"),
    ("a ref like one that was kept", "git update-ref refs/kept/20200101T000000Z/refs/heads/main $(c evil)"),
    ("a ref like a list of the node's", "git update-ref refs/nightsafe/states/20261120T031500Z-3f9a1c7e $(c evil)"),
];

/// What comes of a machine that lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// An answer for good.
    Answered,
    /// It may have been the line: it waits.
    Waits,
    /// It is stored, and nothing else happens.
    Stored,
}

use Fate::{Answered, Stored, Waits};

/// What stands in the place of `git-upload-pack` on a machine that was taken over; `$d` is the installation's folder and `$r` the
/// repository. Where it is a hook, git serves what the hook prints in the place of a pack.
const MACHINES: &[(&str, Fate, &str)] = &[
    ("ends at once", Waits, "exit 0"),
    ("is silent", Waits, "exec sleep 600"),
    ("says nonsense", Waits, "head -c 100000 /dev/urandom"),
    ("says words for people", Waits, "echo welcome; exec sleep 600"),
    ("an error in git's own form", Waits, "printf '0014ERR go away now'"),
    ("an error with escapes", Waits, "printf '0012ERR \\033[2Jx\\033[H'"),
    ("lines without an end", Waits, "yes 'ffffx'"),
    ("a protocol that there is not", Waits, "printf '000eversion 9\\n0000'; exec sleep 600"),
    (
        "a pack that never ends",
        Answered,
        "hook 'printf \"PACK\\0\\0\\0\\2\\177\\377\\377\\377\\277\\377\\377\\377\\377\\37\\170\\1\"; while :; do printf \"\\0\\377\\377\\0\\0\"; head -c 65535 /dev/urandom; done'",
    ),
    ("a pack that comes a byte a second", Waits, "hook 'printf \"PACK\\0\\0\\0\\2\\0\\0\\0\\1\"; while :; do printf x; sleep 1; done'"),
    ("a pack that is cut off", Waits, "hook 'git pack-objects \"$@\" | head -c 300'"),
    ("a pack with a wrong byte", Waits, "hook 'git pack-objects \"$@\" | tr a b'"),
    ("an empty pack", Answered, "hook 'git pack-objects --stdout </dev/null'"),
    (
        "another place for the objects",
        Stored,
        "exec git -c uploadpack.advertiseBundleURIs=true -c bundle.version=1 -c bundle.mode=all -c \"bundle.x.uri=ext::touch $d/marker\" upload-pack $r",
    ),
    ("words on the other channel", Stored, "head -c 200000 /dev/urandom >&2; printf '\\033[2J' >&2; exec git upload-pack $r"),
];

/// How many cases there are.
pub const COUNT: usize = SOURCES.len() + OURS.len() + MACHINES.len();

/// An installation whose client has mirrored a repository once.
fn with_mirror() -> (Attacker, String) {
    let attacker = Attacker::start();
    let safe = &attacker.safe;
    let path = safe.text("source/p.git");
    // Before the first connection: it is kept, and its command with it.
    let honest = safe.read("client/authorized_keys");
    let (gate, key) = honest.strip_prefix("command=\"").unwrap().split_once('"').unwrap();
    safe.write(
        "machine.sh",
        &format!(
            "d={0}; r={path}; [ -s $d/way ] || exec {gate}
             hook() {{ printf '#!/bin/sh\\n[ \"$1\" != git ] || shift 2\\n%s\\n' \"$1\" >$d/hook; chmod +x $d/hook; exec git -c uploadpack.packObjectsHook=$d/hook upload-pack $r; }}
             . $d/way\n",
            safe.dir.display()
        ),
    );
    safe.write("client/authorized_keys", &format!("command=\"/bin/sh {}\"{key}", safe.text("machine.sh")));
    safe.sh("git init -q --bare -b main source/p.git");
    change(
        &attacker,
        "git update-ref refs/heads/main $(git commit-tree -m two -p $o $(git mktree </dev/null)); for n in topic side; do git update-ref refs/heads/$n $(c $n); done; git tag v1; git tag -a -m words v2",
    );
    safe.back_up("git", &path);
    let mirror = safe.names("node/data/web1/mirrors").into_iter().find(|name| name.ends_with(".git")).unwrap();
    (attacker, format!("node/data/web1/mirrors/{mirror}"))
}

fn change(attacker: &Attacker, script: &str) {
    attacker.safe.sh(&format!(
        "d=$PWD; cd source/p.git; export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t GIT_AUTHOR_DATE='1795000000 +0000' GIT_COMMITTER_DATE='1795000000 +0000'
         c() {{ git commit-tree -m \"$1\" $(git mktree </dev/null); }}
         o=$(c first); {script}"
    ));
}

/// The refs of a repository and where HEAD points.
fn facts(attacker: &Attacker, repository: &str) -> String {
    let git = |args: &[&str]| attacker.safe.git(repository, args);
    let head = attacker.safe.read(&format!("{repository}/HEAD"));
    head + &git(&["for-each-ref", "--format=%(objectname) %(refname)"])
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
    let (attacker, mirror) = with_mirror();
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
        change(&attacker, script);
        safe.back_up("git", &path);
        assert_eq!(newest(), count + 1, "{name}");
        let after = reached(&attacker, &mirror);
        assert!(before.iter().all(|id| after.binary_search(id).is_ok()), "{name}: something is not reached any more");
        states.push((safe.client(&["snapshots", "--json"]).json(), facts(&attacker, "source/p.git")));
    }
    for (name, script) in OURS {
        change(&attacker, script);
        safe.client(&["submit", "git", &path]).exits(0);
        drop(safe.client(&["send"]));
        safe.node(&["poll"]).silent();
        safe.client(&["send"]).silent();
        let evil = safe.git("source/p.git", &["for-each-ref", "--format=%(objectname)", "refs/replace", "refs/kept", "refs/nightsafe"]);
        let there = reached(&attacker, &mirror);
        assert!(evil.lines().all(|id| there.binary_search(&id.to_owned()).is_err()), "{name}");
    }
    assert!(!safe.at("marker").exists() && safe.sh("find . -name marker") == "");
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

#[test]
fn machines_that_lie_to_a_fetch_gain_nothing() {
    let (attacker, mirror) = with_mirror();
    let safe = &attacker.safe;
    let path = safe.text("source/p.git");
    let list = safe.read("admin/access.toml").replacen("[client.web1]\n", "[client.web1]\nquota = \"20 MiB\"\n", 1);
    safe.write("admin/access.toml", &list);
    safe.loopback("start").ok();
    let node = safe.read("node.toml");
    let mut wrong = Vec::new();
    for (n, (name, fate, way)) in MACHINES.iter().enumerate() {
        change(&attacker, &format!("git update-ref refs/heads/lie $(c lie-{n})"));
        safe.client(&["submit", "git", &path]).exits(0);
        safe.client(&["send"]).silent();
        safe.write("way", way);
        safe.write("node.toml", &format!("{node}\nfetch_time = \"4s\"\n"));
        let (before, refs) = (attacker.answers(), facts(&attacker, &mirror));
        let polled = safe.node(&["poll"]);
        let receipt = safe.git("node/data/web1/receipts.git", &["log", "-1", "--format=", "-p", "receipts"]);
        let retry = std::fs::read_to_string(safe.at("node/data/web1/retry.toml")).unwrap_or_default();
        let found = match (attacker.answers() != before, receipt.contains("+outcome = \"stored\"")) {
            (false, _) => Waits,
            (true, true) => Stored,
            (true, false) => Answered,
        };
        if found != *fate || (found == Stored) != (facts(&attacker, &mirror) != refs) || (found == Waits && retry.is_empty()) {
            wrong.push(format!("{name}: {found:?}\n{receipt}\n{retry}\n{polled}"));
        }
        safe.write("way", "");
        safe.write("node.toml", &node);
        if let Err(words) = attacker.honest_again("git", &path) {
            wrong.push(format!("{name}: {words}"));
        }
        if facts(&attacker, &mirror) != facts(&attacker, "source/p.git") {
            wrong.push(format!("{name}: the mirror is not as its source afterwards"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
    assert!(!safe.at("marker").exists());
    assert!(safe.names("node/data/web1/incoming").is_empty());
    attacker.honest_requests_work();
}
