//! A gate's account that was taken over: it writes what that uid may write, the queues and the hand-over, and nothing
//! else. The poller notices, acts on nothing of it, raises the alarm, and goes on with what is honest.
//!
//! What the kernel keeps from that uid is in `uids.rs`, and forged commits are in `proof.rs`.

use crate::harness::Loopback;

/// One thing that such an account does.
struct Case {
    what: &'static str,
    /// What it does, in the installation's folder, with the words of [`HELPERS`].
    script: &'static str,
    /// What `poll` or `status` says; nothing where it harms nobody and is no alarm.
    told: &'static [&'static str],
}

/// `$T` is the tip of the poller's log, `$N` a name for what comes after it; `w` is a clone of that log and `a` of the access list.
const HELPERS: &str = r#"
    G=$PWD/node/gate; Q=$G/queues/web1.git; H=$G/handover; D=$PWD/node/data; W=$PWD/w; A=$PWD/a; HERE=$PWD
    T=$(git -C node/data/log/web1.git rev-parse requests); L=$(git -C node/data/admin.git rev-parse access)
    F=ffffffffffffffffffffffffffffffffffffffff; N=$H/web1/$T-$F.pack; mkdir -p $H/web1 $H/admin $H/wake
    sign() { git -C $1 -c user.signingKey=$HERE/$2.pub commit -q -S --allow-empty -m "${3-x}"; }
    plain() { git -C $1 commit -q --allow-empty -m x; }
    # hand REPOSITORY NAME [OLD]: hands its HEAD over, all of it or what OLD lacks.
    hand() { new=$(git -C $1 rev-parse HEAD); old=${3-0000000000000000000000000000000000000000}
        if [ -n "${3-}" ]; then printf '%s\n^%s\n' $new $3; else echo $new; fi | git -C $1 pack-objects -q --revs --stdout >$H/$2/$old-$new.pack; touch $H/wake/$2; }
    list() { sed -i 's/allow = .*/allow = ["dummy:*"]/' $A/access.toml; git -C $A add -A; }
    own() { cp restorer/id_ed25519.pub $A/keys/mallory.pub; printf '[admin.mallory]\nkeys = ["mallory.pub"]\n' >>$A/access.toml; git -C $A add -A; }
"#;

const UNUSABLE: &[&str] = &["web1: ALARM", "cannot be taken in", "is not a regular file with a single name"];
const BAD_PACK: &[&str] = &["web1: ALARM", "cannot be taken in"];
const UNSIGNED: &[&str] = &["web1: ALARM", "passed over", "is not signed"];
const OTHER_WAY: &[&str] = &["web1: ALARM", "its queue does not go on from what this node has"];
const NO_LIST: &[&str] = &["node: ALARM", "a change of the access list was handed over and is not carried out"];

const CASES: &[Case] = &[
    // What is no pack.
    Case {
        what: "a pack that is a link to a pack",
        script: "hand w web1; mv $H/web1/*.pack kept-pack; ln -s $PWD/kept-pack $N",
        told: UNUSABLE,
    },
    Case { what: "a pack that is a link to the node's key", script: "ln -s $PWD/node/receipts $N", told: UNUSABLE },
    Case { what: "a pack that is a link to nothing", script: "ln -s /no/such $N", told: UNUSABLE },
    Case { what: "a pack that is a FIFO", script: "mkfifo $N", told: UNUSABLE },
    Case { what: "a pack that is a folder", script: "mkdir $N", told: UNUSABLE },
    Case { what: "a pack that is a second name of what is stored", script: "ln $D/admin.git/config $N", told: UNUSABLE },
    Case { what: "a pack that is huge", script: "truncate -s 600M $N", told: &["web1: ALARM", "has 629145600 bytes, more than the"] },
    Case { what: "a pack that is empty", script: ": >$N", told: BAD_PACK },
    Case { what: "a pack that is garbage", script: "head -c 100000 /dev/urandom >$N", told: BAD_PACK },
    Case { what: "a pack that is cut off", script: "plain w; hand w web1 $T; f=$(ls $H/web1/*.pack); truncate -s -30 $f", told: BAD_PACK },
    Case {
        what: "a pack that lacks what it stands on",
        script: "plain w; hand w web1; new=$(git -C w rev-parse HEAD); git -C w rev-parse HEAD | git -C w pack-objects -q --stdout >$H/web1/$T-$new.pack; rm $H/web1/00*",
        told: UNSIGNED,
    },
    Case { what: "a pack without what its name says", script: "echo $T | git -C w pack-objects -q --revs --stdout >$N", told: OTHER_WAY },
    Case {
        what: "a pack with a tree that no checkout survives",
        script: "b=$(echo x | git -C w hash-object -w --stdin); t=$(printf '100644 blob %s\\t.git\\n' $b | git -C w mktree); git -C w reset -q --hard $(git -C w commit-tree -m x -p HEAD $t) || true; git -C w update-ref refs/heads/requests $(git -C w commit-tree -m x -p $T $t); new=$(git -C w rev-parse refs/heads/requests); printf '%s\\n^%s\\n' $new $T | git -C w pack-objects -q --revs --stdout >$H/web1/$T-$new.pack",
        told: BAD_PACK,
    },
    Case {
        what: "packs without number",
        script: "for i in $(seq 1000 1120); do echo x >$H/web1/$T-ffffffffffffffffffffffffffffffffffff$i.pack; done",
        told: BAD_PACK,
    },
    Case {
        what: "names that are none of packs",
        script: "touch \"$H/web1/$(printf 'a\\nb')\" $H/web1/.hidden $H/web1/x.pack $H/web1/$T-$F.pack.pack; mkdir -p $H/web2 $H/nobody; touch $H/nobody/$T-$F.pack",
        told: &[],
    },
    // Histories that the client did not sign.
    Case { what: "a commit that nobody signed", script: "plain w; hand w web1 $T", told: UNSIGNED },
    Case {
        what: "a commit that a restorer signed",
        script: "sign w restorer/id_ed25519; hand w web1 $T",
        told: &["web1: ALARM", "passed over", "no key of web1"],
    },
    Case {
        what: "a commit that an administrator signed",
        script: "sign w admin/id_ed25519; hand w web1 $T",
        told: &["web1: ALARM", "passed over", "no key of web1"],
    },
    Case {
        what: "a commit with a large file in it",
        script: "head -c 60000000 /dev/zero >w/RQ20261120T031500Z-3f9a1c7e.toml; git -C w add -A; plain w; hand w web1 $T",
        told: &["web1: ALARM", "passed over"],
    },
    Case { what: "a history that begins anew", script: "git -C w checkout -q --orphan anew; plain w; hand w web1", told: OTHER_WAY },
    Case {
        what: "a history that leaves the last request out",
        script: "git -C w reset -q --hard HEAD~1; plain w; hand w web1",
        told: OTHER_WAY,
    },
    Case { what: "the history of yesterday", script: "git -C w reset -q --hard HEAD~1; hand w web1", told: &[] },
    Case { what: "the same once more", script: "hand w web1; hand w web1 $T~1 || true", told: &[] },
    Case {
        what: "a merge",
        script: "git -C w checkout -q -b side HEAD~1; plain w; git -C w checkout -q requests; git -C w merge -q -s ours -m m side; hand w web1 $T",
        told: OTHER_WAY,
    },
    Case { what: "the client's queue under another's name", script: "mkdir -p $H/web2; hand w web2", told: &[] },
    Case {
        what: "the queue set to what nobody signed",
        script: "plain w; git -C $G/queues/web1.git fetch -q $W HEAD; git -C $G/queues/web1.git update-ref refs/heads/requests FETCH_HEAD",
        told: UNSIGNED,
    },
    Case { what: "the queue set back", script: "git -C $G/queues/web1.git update-ref refs/heads/requests requests~1", told: &[] },
    Case { what: "the queue gone", script: "rm -rf $G/queues/web1.git", told: &[] },
    // A queue that shows git another history than it has; all of it is to be handed over once more.
    Case { what: "a graft in the queue", script: "mkdir -p $Q/info; echo $T >$Q/info/grafts; rm $Q/nightsafe-handed-over", told: &[] },
    Case { what: "a history cut off in the queue", script: "echo $T >$Q/shallow; rm $Q/nightsafe-handed-over", told: &[] },
    Case {
        what: "a replacement in the queue",
        script: "plain w; git -C $Q fetch -q $W HEAD; git -C $Q update-ref refs/replace/$T FETCH_HEAD; rm $Q/nightsafe-handed-over",
        told: &[],
    },
    Case {
        what: "objects from elsewhere in the queue",
        script: "mkdir else; mv $Q/objects/pack else/; mkdir $Q/objects/pack; echo $PWD/else >$Q/objects/info/alternates; rm $Q/nightsafe-handed-over",
        told: &[],
    },
    // What is not where it was.
    Case {
        what: "the hand-over's folder is a link into the store",
        script: "rmdir $H/web1; cp w/.git/HEAD $D/web1/packs/$T-$F.pack; ln -s $D/web1/packs $H/web1",
        told: &["web1: ALARM", "is no folder"],
    },
    Case { what: "the hand-over's folder is a file", script: "rm -rf $H/web1; touch $H/web1", told: &["web1: ALARM", "is no folder"] },
    Case { what: "the folder of marks is a link", script: "rm -rf $H/wake; ln -s $D/state $H/wake", told: &["node: ALARM", "the folder"] },
    Case { what: "the folder of marks is a file", script: "rm -rf $H/wake; touch $H/wake", told: &["node: ALARM", "the folder"] },
    // Marks that say nothing true.
    Case {
        what: "marks of every kind",
        script: "cd $H/wake; touch web1 admin web2 log access .hidden \"$(printf 'a\\nb')\" \"$(printf '\\033[2J')\" -- -rf; touch \"$(head -c 250 /dev/zero | tr '\\0' a)\"; mkdir folder; mkfifo pipe; ln -s /etc/passwd link",
        told: &[],
    },
    Case { what: "more marks than anybody reads", script: "cd $H/wake; seq 1 3000 | xargs touch", told: &[] },
    // The list of who may do what.
    Case { what: "a list that nobody signed", script: "own; plain a; hand a admin $L", told: NO_LIST },
    Case { what: "a list that the client signed", script: "own; sign a client/id_ed25519; hand a admin $L", told: NO_LIST },
    Case {
        what: "a list that its own new administrator signed",
        script: "own; sign a restorer/id_ed25519; hand a admin $L",
        told: NO_LIST,
    },
    Case { what: "a list that the node signed", script: "own; sign a node/receipts; hand a admin $L", told: NO_LIST },
    Case {
        what: "a key beside the list",
        script: "cp restorer/id_ed25519.pub a/keys/web1.pub; git -C a add -A; plain a; hand a admin $L",
        told: NO_LIST,
    },
    Case { what: "a list with a wider grant", script: "list; sign a client/id_ed25519; hand a admin $L", told: NO_LIST },
    Case {
        what: "a list that begins anew",
        script: "git -C a checkout -q --orphan anew; own; sign a restorer/id_ed25519; hand a admin",
        told: NO_LIST,
    },
    Case { what: "the list of yesterday", script: "git -C a reset -q --hard HEAD~1; hand a admin", told: &[] },
    Case { what: "a list that leaves a change out", script: "git -C a reset -q --hard HEAD~1; own; plain a; hand a admin", told: NO_LIST },
    Case { what: "a list that is garbage", script: "head -c 5000 /dev/urandom >$H/admin/$L-$F.pack; touch $H/wake/admin", told: NO_LIST },
    Case { what: "a list that is a FIFO", script: "mkfifo $H/admin/$L-$F.pack; touch $H/wake/admin", told: NO_LIST },
    Case { what: "a list that is a link", script: "ln -s $PWD/node/receipts $H/admin/$L-$F.pack; touch $H/wake/admin", told: NO_LIST },
    Case { what: "a list that is huge", script: "truncate -s 600M $H/admin/$L-$F.pack; touch $H/wake/admin", told: NO_LIST },
    Case {
        what: "the gate's own copy of the list changed",
        script: "own; plain a; git -C $G/admin.git fetch -q $A HEAD; git -C $G/admin.git update-ref refs/heads/access FETCH_HEAD",
        told: NO_LIST,
    },
];

/// All that the poller owns, but for its own notes (`state/quiet` says that nothing is left to do): nothing of it may change by what the gate does.
const STATE: &str = r"
    cd node/data; git -C log/web1.git for-each-ref; git -C admin.git for-each-ref; git -C web1/receipts.git for-each-ref
    ls log log/web1.git/objects/pack admin.git/objects/pack | grep -v ^pack-; ls web1/pool web1/snapshots web1/packs access access/keys; ls state | grep -v '^quiet$'; find access web1/signers ../receipts -type f -exec sha256sum {} + | sort";

#[test]
fn the_poller_acts_on_nothing_that_the_gate_makes_up() {
    let safe = Loopback::start();
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'; head -c 100000 /dev/urandom >'{path}/x'"));
    safe.back_up("dummy", "x");
    safe.back_up("files", &path);
    // A second list, so that there is one of yesterday.
    safe.edit("admin/access.toml", "allow = [\"*\"]", "allow = [\"files:/**\", \"dummy:*\"]");
    safe.loopback("start").exits(0);
    for (name, repository, branch) in [("w", "node/data/log/web1.git", "requests"), ("a", "node/data/admin.git", "access")] {
        safe.sh(&format!("git clone -q -b {branch} {repository} {name}; cd {name}; git config user.name x; git config user.email x@example.org; git config gpg.format ssh"));
    }
    safe.node(&["poll", "--sweep"]).silent();
    safe.sh("mkdir kept; cp -a node/gate w a kept/");
    let before = safe.sh(STATE);
    let mut wrong = Vec::new();
    for case in CASES {
        safe.sh(&format!("{HELPERS}\n{}", case.script));
        let polled = safe.node(&["poll", "--sweep"]);
        let status = safe.node(&["status"]);
        let said = format!("{polled}{status}");
        let mut check = |holds: bool, words: &str| {
            if !holds {
                wrong.push(format!("=== {}: {words}\n{said}", case.what));
            }
        };
        check(case.told.iter().all(|words| said.contains(words)), "it is not told");
        check((polled.code == Some(0)) == case.told.is_empty(), "poll ends otherwise");
        check(!case.told.is_empty() || !status.stdout.contains("ALARM"), "it is an alarm");
        check(!said.contains('\x1b'), "something writes on the terminal");
        safe.sh("rm -f node/data/web1/packs/*.pack; rm -rf node/gate w a else; cp -a kept/w kept/a .; cp -a kept/gate node/");
        let after = safe.sh(STATE);
        let changed: Vec<_> = after
            .lines()
            .filter(|line| !before.contains(line) && !["alarms.toml", "alarms.lock"].contains(line))
            .chain(before.lines().filter(|line| !after.contains(line)))
            .collect();
        check(changed.is_empty(), &format!("it had an effect: {changed:?}"));
        safe.node(&["status", "--forget-alarms"]).exits(0);
        // What could not be done is done again once it can.
        let _ = safe.node(&["poll", "--sweep"]);
        let healed = safe.node(&["status"]);
        if healed.stdout.contains("ALARM") {
            wrong.push(format!("=== {}: it stays an alarm: {healed}", case.what));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
    safe.round();
    safe.back_up("dummy", "y");
    safe.client(&["log", "--verify"]).says(&["3 requests, 3 receipts, 0 waiting; 0 things do not fit"]).exits(0);
    safe.node(&["log", "--verify"]).says(&["0 do not"]).exits(0);
}
