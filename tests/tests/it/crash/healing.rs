//! Damage of every kind that a scrub tells apart, from its finding to the day that all is whole again. Everything dies on the way
//! twice, whatever it shares with other scenes: each step here changes what the next one goes by.

use super::Mortal;
use super::oracle::Oracle;
use crate::harness::Loopback;
use std::collections::BTreeSet;

/// Of the packs of the newest snapshot one is flipped, one cut off, and one gone; so are files of other snapshots, and the mirror.
const DAMAGE: &str = r#"
    cd node/data/web1; chmod -R u+w packs snapshots mirrors; cp -a packs ../../../kept
    of() { grep -l "^dataset = \"$1:" snapshots/*/request.toml | xargs grep '^seq' | sort -t= -k2 -n | sed 's,/request.toml.*,,'; }
    oldest=$(of files | head -n1); newest=$(of files | tail -n1); mirrored=$(of git | head -n1)
    set -- $(head -n1 $newest/manifest | jq -r '.packs[].digest' | cut -d: -f2)
    printf damaged | dd of=packs/$1 bs=1 seek=99 conv=notrunc status=none; truncate -s 1000 packs/$2; rm packs/$3
    echo $1 >../../../flipped
    rm $oldest/manifest $mirrored/refs; : >$mirrored/tree; echo x >$oldest/request.toml; truncate -s 40 $newest/commit
    for pack in mirrors/*/objects/pack/*.pack; do printf damaged | dd of=$pack bs=1 seek=20 conv=notrunc status=none; done
"#;

pub fn scene() -> BTreeSet<String> {
    let mut mortal = Mortal::new();
    let (files, git) = (mortal.safe.text("source/tree"), mortal.safe.text("source/a.git"));
    let mut oracle = Oracle::of(&files, &git);
    // Damage is told by mail as well.
    let (node, program) = (mortal.safe.read("node.toml"), mortal.safe.text("sendmail"));
    let mail = format!("[mail]\nto = [\"root@example.org\"]\nfrom = \"n@example.org\"\nsendmail = \"{program}\"\n");
    mortal.safe.write("node.toml", &format!("{node}\n{mail}"));
    mortal.safe.sh("printf '#!/bin/sh\\ncat >/dev/null\\n' >sendmail; chmod +x sendmail");
    mortal.safe.sh(&format!("mkdir '{files}'; git init -q --bare '{git}'; git init -q work; git -C work remote add o '{git}'"));
    for round in 0..3 {
        grow(&mortal.safe, &files, round);
        for (module, path) in [("files", &files), ("git", &git)] {
            mortal.safe.client(&["submit", module, path]).exits(0);
        }
        mortal.safe.round();
        oracle.note(&mortal.safe);
    }
    mortal.safe.sh(DAMAGE);

    mortal.begin_to_die(2);
    let found = mortal.node(&["scrub", "--all"]).exits(1);
    let flipped = mortal.safe.read("flipped");
    found.says(&[flipped.trim(), "it is not there", "mirror"]);
    let aside = mortal.safe.names("node/data/web1/damaged");
    assert!(aside.len() == 2 && aside.contains(&flipped.trim().to_owned()), "{aside:?}");
    let notices = mortal.safe.git("node/data/web1/receipts.git", &["log", "--format=", "--name-only", "receipts"]);
    assert_eq!(notices.lines().filter(|name| name.starts_with("NT")).count(), 1, "{notices}");
    counted(&mortal.safe);
    // The client hears of it, and brings again what it has.
    for round in 3..5 {
        grow(&mortal.safe, &files, round);
        for (module, path) in [("files", &files), ("git", &git)] {
            mortal.client(&["send", "--now"]);
            mortal.client(&["submit", module, path]).exits(0);
        }
        mortal.round();
        mortal.client(&["send", "--now"]);
        mortal.round();
        oracle.note(&mortal.safe);
    }
    mortal.node(&["scrub", "--all"]).says(&["repair claimed by"]).exits(0);
    // Somebody brings the very pack back.
    mortal.safe.sh("cp kept/$(cat flipped) node/data/web1/packs/");
    mortal.node(&["scrub", "--all"]).exits(0);
    assert!(!mortal.safe.names("node/data/web1/damaged").contains(&flipped.trim().to_owned()));

    mortal.live_on();
    mortal.safe.client(&["verify", "--all-snapshots"]).says(&["whole"]).exits(0);
    counted(&mortal.safe);
    oracle.check(&mortal.safe);
    mortal.died
}

/// Something comes into the folder and into the repository, and nothing goes: what is lost can be brought again.
fn grow(safe: &Loopback, files: &str, round: usize) {
    safe.sh(&format!(
        "head -c 5000 /dev/urandom >'{files}/{round}'; cd work; echo {round} >f; git add f; \
         git -c user.name=x -c user.email=x@x commit -q -m {round}; git push -q o HEAD:refs/heads/main"
    ));
}

/// What the node goes by for the client's quota is what is there.
fn counted(safe: &Loopback) {
    let used = || {
        let all: serde_json::Value = serde_json::from_str(&safe.node(&["status", "--json"]).stdout).unwrap();
        all.as_array().unwrap().iter().find(|one| one["client"] == "web1").unwrap()["bytes_used"].as_u64().unwrap()
    };
    let kept = used();
    safe.sh("rm -f node/data/web1/usage.toml");
    assert_eq!(used(), kept);
}
