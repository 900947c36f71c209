//! Machines that lie to the node's git fetch: an honest request for a repository, and an attacker's program in the place of
//! `git-upload-pack` when the node comes for it.
//!
//! What finds fault with the bytes that came is answered for good; what may have been the line, or trouble that passes, waits.

use super::attacker::Attacker;
use super::mirrors::{change, facts, with_mirror};

/// What comes of a lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A receipt that says no for good.
    Refused,
    /// A receipt that asks for another request.
    Failed,
    /// The request keeps its place and its wait.
    Waits,
    /// As [`Fate::Waits`], after the time that the node gives to a fetch.
    Stalls,
    /// What was signed is stored, and nothing else happens.
    Stored,
}

use Fate::{Failed, Refused, Stalls, Stored, Waits};

/// One machine.
struct Machine {
    name: &'static str,
    fate: Fate,
    /// A word of what is told, in the receipt or in what `status` shows of the wait.
    told: &'static str,
    /// What happens in the repository before the request is made, where that is not an ordinary commit. `c` makes one on nothing.
    before: &'static str,
    /// What stands in the place of `git-upload-pack`, as shell; `$d` is the installation's folder and `$r` the repository. What
    /// `hook` is given prints the pack, and `liar` speaks as `git_liar.py` does.
    way: &'static str,
}

/// One that lies in spite of an ordinary repository.
const fn lies(name: &'static str, fate: Fate, told: &'static str, way: &'static str) -> Machine {
    Machine { name, fate, told, before: "git update-ref refs/heads/lie $(c lie-$n)", way }
}

/// A commit with a parent and a file of its own.
const LONG: &str = "t=$(printf '100644 blob %s\\tx\\n' $(echo $n | git hash-object -w --stdin) | git mktree); git update-ref refs/heads/lie $(git commit-tree -m $n -p $(c parent-$n) $t)";
/// The attacker's objects, made literally, each with the branch on it.
const BAD_COMMIT: &str = "printf 'tree %040d\\nauthor t <t@t> 1 +0000\\ncommitter t <t@t> 1 +0000\\n\\n'$n 7 | git hash-object -t commit -w --stdin >refs/heads/lie";
const BAD_TREE: &str = "t=$(printf '100644 blob %s\\t..\\n' $(echo x | git hash-object -w --stdin) | git mktree); git update-ref refs/heads/lie $(git commit-tree -m $n $t)";
const BAD_BRANCH: &str = "echo $n | git hash-object -w --stdin >refs/heads/lie";

/// Machines that lie to a fetch.
const FETCHES: &[Machine] = &[
    // What is no answer.
    lies("ends at once", Waits, "cannot be reached", "exit 0"),
    lies("is silent", Stalls, "took longer", "exec sleep 20"),
    lies("says nonsense", Waits, "", "head -c 100000 /dev/urandom"),
    lies("says words for people", Waits, "protocol error", "echo welcome"),
    lies("says an error in git's own form", Waits, "go away", "printf '0013ERR go away now'"),
    lies("says an error that clears the screen", Waits, "", "printf '0010ERR \\033[2Jx\\033[H'"),
    lies("has lines without an end", Waits, "protocol error", "yes ffffx | head -c 1000000"),
    lies("floods the other channel", Stored, "", "head -c 200000 /dev/urandom >&2; printf '\\033[2J' >&2; exec git upload-pack $r"),
    // Another protocol.
    lies("speaks a version that there is not", Waits, "unknown protocol", "printf '000eversion 9\\n0000'"),
    lies("speaks version 0", Stored, "", "unset GIT_PROTOCOL; exec git upload-pack $r"),
    lies("speaks version 1", Stored, "", "GIT_PROTOCOL=version=1; exec git upload-pack $r"),
    lies(
        "answers as a web server does",
        Waits,
        "protocol error",
        "printf 'HTTP/1.1 200 OK\\r\\n\\r\\n'; exec git upload-pack --http-backend-info-refs $r",
    ),
    lies("lists as a web server without git does", Waits, "", "printf '0123456789012345678901234567890123456789\\trefs/heads/lie\\n'"),
    lies(
        "names a bundle in another place",
        Stored,
        "",
        "exec git -c uploadpack.advertiseBundleURIs=true -c bundle.version=1 -c bundle.mode=all -c \"bundle.x.uri=ext::touch $d/marker\" upload-pack $r",
    ),
    lies("names a pack in another place", Waits, "not supported", "liar \"names another place http://127.0.0.1:$(cat $d/port)/x\""),
    lies("names a pack on the node's disk", Waits, "", "liar \"names another place file://$d/node/data/web1/mirrors\""),
    lies("gives refs that nobody wanted", Waits, "wanted-ref", "liar 'gives refs that nobody wanted'"),
    lies("has a channel that there is not", Waits, "bad band", "liar 'has a channel that there is not'"),
    lies("has a packet that is too long", Waits, "bad line length", "liar 'has a packet that is too long'"),
    // What has no end.
    lies("tells its progress without an end", Stalls, "took longer", "liar 'tells its progress without an end'"),
    lies("acknowledges without an end", Stalls, "took longer", "liar 'acknowledges without an end'"),
    lies("rests in the middle of a pack", Stalls, "took longer", "liar 'rests in the middle'"),
    lies(
        "sends a pack without an end",
        Refused,
        "than there is room for",
        "hook 'printf \"PACK\\0\\0\\0\\2\\0\\0\\0\\2\\277\\377\\377\\377\\377\\37\\170\\1\"; while :; do printf \"\\0\\377\\377\\0\\0\"; head -c 65535 /dev/urandom; done'",
    ),
    // Packs that are none, or not the one that is needed.
    lies("sends words for a pack", Waits, "bad pack header", "hook 'echo hello'"),
    lies("sends a pack of version 9", Waits, "bad pack header", "hook 'printf \"PACK\\0\\0\\0\\11\\0\\0\\0\\1\"; head -c 100 /dev/zero'"),
    lies(
        "claims 2^31 - 1 objects",
        Refused,
        "more memory than the",
        "hook 'printf \"PACK\\0\\0\\0\\2\\177\\377\\377\\377\"; head -c 9999 /dev/zero'",
    ),
    lies("claims 2^31 objects", Refused, "too large to fit", "hook 'printf \"PACK\\0\\0\\0\\2\\200\\0\\0\\0\"; head -c 9999 /dev/zero'"),
    lies(
        "claims 2^32 - 1 objects",
        Refused,
        "size_t overflow",
        "hook 'printf \"PACK\\0\\0\\0\\2\\377\\377\\377\\377\"; head -c 9999 /dev/zero'",
    ),
    lies(
        "sends an object of no type",
        Refused,
        "unknown object type",
        "hook 'printf \"PACK\\0\\0\\0\\2\\0\\0\\0\\1\"; head -c 99 /dev/zero'",
    ),
    lies(
        "sends a pack with a wrong trailer",
        Refused,
        "is corrupted",
        "hook 'git pack-objects \"$@\" | head -c -20; head -c 20 /dev/zero'",
    ),
    lies("cuts a pack off", Waits, "early EOF", "hook 'git pack-objects \"$@\" | head -c 60'"),
    lies("dies in the middle of a pack", Waits, "on the remote side", "hook 'git pack-objects \"$@\" | head -c 60; kill -9 $$'"),
    lies("goes on behind the pack", Waits, "", "liar 'goes on behind the pack'"),
    lies("sends an empty pack", Refused, "all necessary objects", "hook 'git pack-objects --stdout </dev/null'"),
    Machine { before: LONG, ..lies("sends commits alone", Refused, "did not receive expected object", "liar 'sends commits alone'") },
    Machine {
        before: LONG,
        ..lies("says that the history is cut off", Refused, "expected object", "liar 'says that the history is cut off'")
    },
    // Objects against the rules, which the repository really has.
    Machine { before: BAD_TREE, ..lies("has a file that is the folder above", Refused, "fsck error", "exec git upload-pack $r") },
    Machine { before: BAD_COMMIT, ..lies("has a commit of no tree", Refused, "expected object", "liar 'sends commits alone'") },
    Machine { before: BAD_BRANCH, ..lies("has a file for a branch", Refused, "which is no commit", "exec git upload-pack $r") },
    // What changes between the listing and the fetch.
    lies(
        "has thrown away what was signed",
        Failed,
        "does not have any more",
        "git -C $r update-ref -d refs/heads/lie; git -C $r prune --expire=now; exec git upload-pack $r",
    ),
    lies(
        "has moved the branch that was signed",
        Stored,
        "",
        "git -C $r update-ref refs/heads/lie refs/heads/side; exec git upload-pack $r",
    ),
];

/// Machines that lie to a listing, which the node asks for where the list of refs is too long for the request.
const LISTINGS: &[Machine] = &[
    lies("lists names that cannot be", Failed, "cannot be a ref's name", "liar 'lists names that cannot be'"),
    lies("lists what is no id", Waits, "", "liar 'lists what is no id'"),
    lies("lists without an end", Stalls, "", "liar 'lists without an end'"),
    lies(
        "lists other refs than were signed",
        Failed,
        "have changed since",
        "git -C $r update-ref refs/heads/lie refs/heads/side; exec git upload-pack $r",
    ),
];

/// How many cases there are.
pub const COUNT: usize = FETCHES.len() + LISTINGS.len();

/// Puts a program between the client's sshd and its gate that does what a file `way` says, if there is one.
fn take_over(attacker: &Attacker) {
    let safe = &attacker.safe;
    safe.write("git_liar.py", include_str!("git_liar.py"));
    let honest = safe.read("client/authorized_keys");
    let (gate, key) = honest.strip_prefix("command=\"").unwrap().split_once('"').unwrap();
    safe.write(
        "machine.sh",
        &format!(
            "d={0}; [ -s $d/way ] || exec {gate}
             r=$(cat $d/repository); export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
             hook() {{ printf '#!/bin/sh\\n[ \"$1\" != git ] || shift 2\\ncat >%s/wanted\\nexec <%s/wanted\\n%s\\n' $d $d \"$1\" >$d/hook; chmod +x $d/hook; exec git -c uploadpack.packObjectsHook=$d/hook upload-pack $r; }}
             liar() {{ exec python3 $d/git_liar.py \"$1\" $r; }}
             . $d/way\n",
            safe.dir.display()
        ),
    );
    safe.write("client/authorized_keys", &format!("command=\"/bin/sh {}\"{key}", safe.text("machine.sh")));
}

/// What came of the request that was made last.
fn came(attacker: &Attacker, answers: &str) -> (Fate, String) {
    let safe = &attacker.safe;
    if attacker.answers() == answers {
        return (Waits, std::fs::read_to_string(safe.at("node/data/web1/retry.toml")).unwrap_or_default());
    }
    let receipt = safe.git("node/data/web1/receipts.git", &["log", "-1", "--format=", "-p", "receipts"]);
    let said = |outcome: &str| receipt.contains(&format!("+outcome = \"{outcome}\""));
    let fate = if said("stored") {
        Stored
    } else if said("refused") {
        Refused
    } else {
        Failed
    };
    (fate, receipt)
}

/// Tries one machine, then lets it be honest; says what was wrong.
fn try_machine(attacker: &Attacker, machine: &Machine, number: usize, path: &str, mirror: &str) -> Vec<String> {
    let (safe, mut wrong) = (&attacker.safe, Vec::new());
    change(attacker, path, &format!("n={number}; {}", machine.before));
    safe.client(&["submit", "git", path]).exits(0);
    drop(safe.client(&["send"]));
    let node = safe.read("node.toml");
    if machine.fate == Stalls {
        safe.write("node.toml", &format!("{node}\nfetch_time = \"1s\"\n"));
    }
    safe.write("repository", path);
    safe.write("way", machine.way);
    let (answers, before) = (attacker.answers(), facts(attacker, mirror));
    let polled = safe.node(&["poll"]);
    let (fate, told) = came(attacker, &answers);
    let expected = if machine.fate == Stalls { Waits } else { machine.fate };
    let plain = !told.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    if fate != expected || told.is_empty() || !told.contains(machine.told) || !plain {
        wrong.push(format!("{fate:?}\n{told}\n{polled}"));
    }
    if (facts(attacker, mirror) != before) != (fate == Stored) {
        wrong.push("the mirror's refs are not as they should be".into());
    }
    if fate != Waits && !safe.names("node/data/web1/incoming").is_empty() {
        wrong.push("something is left of the fetch".into());
    }
    safe.write("way", "");
    safe.write("node.toml", &node);
    // What waits need not wait for its time in a test.
    safe.sh("rm -f node/data/web1/retry.toml");
    if fate != Waits {
        change(attacker, path, &format!("git update-ref refs/heads/lie $(c honest-{number})"));
        drop(safe.client(&["send"]));
        safe.client(&["submit", "git", path]).exits(0);
        drop(safe.client(&["send"]));
    }
    let polled = safe.node(&["poll"]);
    if facts(attacker, mirror) != facts(attacker, path) || !safe.names("node/data/web1/incoming").is_empty() {
        wrong.push(format!("it does not go on afterwards: {polled}"));
    }
    wrong.into_iter().map(|words| format!("{}: {words}", machine.name)).collect()
}

#[test]
fn machines_that_lie_to_a_fetch_gain_nothing() {
    let (attacker, mirror) = with_mirror(take_over);
    let safe = &attacker.safe;
    let list = safe.read("admin/access.toml").replacen("[client.web1]\n", "[client.web1]\nquota = \"6 MiB\"\n", 1);
    safe.write("admin/access.toml", &list);
    safe.loopback("start").ok();
    // Nobody may ever be asked for anything there.
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    safe.write("port", &elsewhere.local_addr().unwrap().port().to_string());
    let mut wrong = Vec::new();
    for (number, machine) in FETCHES.iter().enumerate() {
        wrong.extend(try_machine(&attacker, machine, number, &safe.text("source/p.git"), &mirror));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
    attacker.others_work();

    let many = safe.text("source/many.git");
    safe.sh("git init -q --bare -b main source/many.git");
    change(
        &attacker,
        &many,
        "for n in $(seq 800); do echo create refs/heads/branch-$n $o; done | git update-ref --stdin; git update-ref refs/heads/side $(c side)",
    );
    let known = safe.names("node/data/web1/mirrors");
    safe.back_up("git", &many);
    let mirror = safe.names("node/data/web1/mirrors").into_iter().find(|name| name.ends_with(".git") && !known.contains(name)).unwrap();
    for (number, machine) in LISTINGS.iter().enumerate() {
        wrong.extend(try_machine(&attacker, machine, number, &many, &format!("node/data/web1/mirrors/{mirror}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
    assert!(!safe.at("marker").exists());
    assert!(elsewhere.accept().is_err(), "the node went where a source sent it");
    drop(safe.client(&["send"]));
    attacker.honest_requests_work();
}
