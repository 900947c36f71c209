//! Backups of files, of a repository and of nothing, over and over, until a round passes without a death.

use super::Mortal;
use super::oracle::Oracle;
use std::collections::BTreeSet;

/// Rounds after which there must be no place left to die at.
const MOST: usize = 12;

pub fn scene() -> BTreeSet<String> {
    let mut mortal = Mortal::new();
    mortal.begin_to_die(2);
    let (files, git) = (mortal.safe.text("source/tree"), mortal.safe.text("source/a.git"));
    let mut oracle = Oracle::of(&files, &git);
    mortal.safe.sh(&format!("mkdir -p '{files}/deep'; git init -q --bare '{git}'; git init -q work; cd work; git remote add o '{git}'"));
    for round in 0..=MOST {
        assert!(round < MOST, "there is no end of places to die at");
        let before = mortal.died.len();
        // What was there stays and something comes; one branch is rewritten, and another goes.
        mortal.safe.sh(&format!(
            "head -c 5000 /dev/urandom >'{files}/deep/{round}'; echo {round} >'{files}/now'; cd work; echo {round} >f; git add f; \
             git() {{ command git -c user.name=x -c user.email=x@x \"$@\"; }}; \
             git commit -q --amend -m {round} 2>/dev/null || git commit -q -m {round}; \
             i=$(sha256sum <f | cut -c1-64); p='{git}'/lfs/objects/$(echo $i | cut -c1-2)/$(echo $i | cut -c3-4); mkdir -p $p; cp f $p/$i; \
             git push -q --force --prune o HEAD:refs/heads/main HEAD:refs/heads/of-{round}"
        ));
        for (module, path) in [("files", files.as_str()), ("git", &git), ("dummy", "x")] {
            mortal.client(&["submit", module, path]).exits(0);
        }
        mortal.round();
        oracle.note(&mortal.safe);
        if mortal.died.len() == before {
            break;
        }
    }
    mortal.live_on();
    oracle.check(&mortal.safe);
    mortal.died
}
