//! What a node may do to a mirror, which it keeps in the clear: a restore makes the refs that the client signed, whatever the
//! mirror's are, and says when it cannot.

use super::{keep, put_back};
use crate::harness::Loopback;

/// What is tried, its commands in the mirror, and how a restore ends: 0 when it is what was backed up all the same.
type Case = (&'static str, &'static str, i32);

/// `$T` is the newest commit of the branch `main`, `evil` makes one on top of it.
const HELPERS: &str = r#"
    HERE=$PWD; chmod -R u+w node/data/web1/mirrors node/data/web1/snapshots; cd node/data/web1/mirrors/*.git
    T=$(git rev-parse refs/heads/main); SNAP=$(ls -d $HERE/node/data/web1/snapshots/*)
    evil() { b=$(echo evil | git hash-object -w --stdin); t=$(printf '100644 blob %s\tevil\n' $b | git mktree); git -c user.name=x -c user.email=x@x commit-tree -p $T -m evil $t; }
    loose() { mkdir -p aside; mv objects/pack/*.pack aside/; for p in aside/*.pack; do git unpack-objects -q <$p; done; rm -rf aside objects/pack/*; }
"#;

const CASES: &[Case] = &[
    ("a commit on top", "git update-ref refs/heads/main $(evil)", 0),
    ("the branch set back", "git update-ref refs/heads/main $T~1", 0),
    ("a branch more", "git update-ref refs/heads/evil $(evil)", 0),
    ("a branch less", "git update-ref -d refs/heads/side", 0),
    ("a branch renamed", "git update-ref refs/heads/sidf refs/heads/side; git update-ref -d refs/heads/side", 0),
    (
        "two branches swapped",
        "m=$T; s=$(git rev-parse refs/heads/side); git update-ref refs/heads/main $s; git update-ref refs/heads/side $m",
        0,
    ),
    ("a tag moved", "git update-ref refs/tags/v1 $(evil)", 0),
    ("a tag more", "git update-ref refs/tags/v2 $T", 0),
    ("another HEAD", "git symbolic-ref HEAD refs/heads/side", 0),
    (
        "a list of refs of its own",
        "git update-ref refs/heads/main $(evil); git for-each-ref --format='%(objectname) %(refname)' >$SNAP/refs",
        4,
    ),
    ("no list of refs", "rm $SNAP/refs", 1),
    ("another history by a replacement", "git update-ref refs/replace/$T $(evil)", 0),
    ("a kept state that never was", "git update-ref refs/kept/20200101T000000Z/heads/main $(evil)", 0),
    ("a history cut off", "git rev-parse main >shallow", 0),
    ("a history grafted", "mkdir -p info; echo $T >info/grafts", 0),
    ("an object that is gone", "loose; o=$(git rev-parse main:f1); rm -f objects/$(echo $o | cut -c1-2)/$(echo $o | cut -c3-)", 1),
    (
        "an object that is another",
        "loose; o=$(git rev-parse main:f1); n=$(echo evil | git hash-object -w --stdin); chmod -R u+w objects; cp objects/$(echo $n | cut -c1-2)/$(echo $n | cut -c3-) objects/$(echo $o | cut -c1-2)/$(echo $o | cut -c3-)",
        1,
    ),
    (
        "objects from elsewhere",
        "mkdir -p $HERE/else; mv objects/pack $HERE/else/; mkdir objects/pack; echo $HERE/else >objects/info/alternates",
        0,
    ),
    (
        "programs in its configuration",
        "for k in uploadpack.packObjectsHook core.fsmonitor core.sshCommand core.alternateRefsCommand core.pager; do git config $k \"touch $HERE/marker; false\"; done; git config core.hooksPath $HERE/hooked; mkdir -p $HERE/hooked hooks; for h in post-checkout reference-transaction pre-auto-gc post-index-change; do printf '#!/bin/sh\\ntouch %s/marker\\n' $HERE >$HERE/hooked/$h; cp $HERE/hooked/$h hooks/$h; chmod +x $HERE/hooked/$h hooks/$h; done",
        0,
    ),
    (
        "a configuration from elsewhere",
        "printf '[core]\\n\\tsshCommand = touch %s/marker\\n' $HERE >$HERE/more; git config include.path $HERE/more",
        0,
    ),
];

#[test]
fn mirrors_that_are_not_what_was_signed_are_told() {
    let safe = Loopback::start();
    safe.sh("git init -q -b main source/work; cd source/work; git config user.name t; git config user.email t@example.org
         for i in 1 2 3 4; do echo $i >f$i; git add .; git commit -q -m \"change $i\"; done
         git tag v1 HEAD~1; git branch side HEAD~2; cd ..; git clone -q --mirror work project.git");
    let path = safe.text("source/project.git");
    safe.back_up("git", &path);
    let dataset = format!("git:{path}");
    let facts = |repository: &str| {
        safe.git(repository, &["symbolic-ref", "HEAD"])
            + &safe.git(repository, &["for-each-ref", "--format=%(objectname) %(refname)"])
            + &safe.git(repository, &["log", "--all", "-p", "--format=%H %T %P"])
    };
    let (honest, target, store) = (facts("source/project.git"), safe.text("back/project"), safe.text("node/data/web1"));
    let folders = ["node/data/web1"];
    keep(&safe, &folders);
    let mut wrong = Vec::new();
    for (what, script, code) in CASES {
        safe.sh(&format!("{HELPERS}\n{script}"));
        for from in [&[][..], &["--store", &store]] {
            let restored = safe.client(&[&["restore", &dataset, "--target", &target], from].concat());
            let mut check = |holds: bool, words: &str| {
                if !holds {
                    wrong.push(format!("=== {what}: {words}\n{restored}"));
                }
            };
            check(restored.code == Some(*code), "it ends otherwise");
            check(*code == 0 || !restored.stderr.is_empty(), "nothing is told");
            check(restored.code != Some(0) || facts("back/project") == honest, "it is not what was backed up");
            check(!safe.at("marker").exists(), "a program of the node's was run");
            safe.sh("rm -rf back/project back/.nightsafe*");
        }
        safe.sh("rm -rf back/project back/.nightsafe* marker hooked more else");
        put_back(&safe, &folders);
    }
    assert!(wrong.is_empty(), "{} of {} cases\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
    safe.client(&["restore", &dataset, "--target", &target]).exits(0);
    assert_eq!(facts("back/project"), honest);
}
