//! What git-lfs keeps beside a repository comes along, each object held against its name, and comes back.

use crate::harness::Loopback;

/// What the scripts use: `point TEXT FILE` commits a pointer to TEXT, `have TEXT` puts that object where git-lfs keeps it.
const WORDS: &str = r#"id() { printf %s "$1" | sha256sum | cut -c1-64; }
    place() { i=$(id "$1"); echo "lfs/objects/$(echo $i | cut -c1-2)/$(echo $i | cut -c3-4)/$i"; }
    point() { printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %s\n' $(id "$1") ${#1} >"$2"; git add "$2"; git commit -q -m "$2"; }
    have() { p=../p.git/$(place "$1"); mkdir -p $(dirname $p); rm -f $p; printf %s "${2:-$1}" >$p; }
"#;

fn change(safe: &Loopback, script: &str) {
    safe.sh(&format!("{WORDS} cd source/work; {script}; git push -q ../p.git HEAD:main"));
}

/// Which of some texts a repository has as objects.
fn has(safe: &Loopback, repository: &str, texts: &[&str]) -> Vec<bool> {
    let there = |text: &&str| {
        let script =
            format!("{WORDS} p='{repository}'/$(place '{text}'); [ -f $p ] && [ \"$(cat $p)\" = '{text}' ] && echo yes || ! [ -e $p ]");
        safe.sh(&script).trim() == "yes"
    };
    texts.iter().map(there).collect()
}

#[test]
fn objects_of_lfs_come_along_and_come_back() {
    let safe = Loopback::start();
    safe.sh("git init -q --bare -b main source/p.git; git init -q -b main source/work; cd source/work; git config user.name t; git config user.email t@example.org");
    let path = safe.text("source/p.git");
    change(&safe, "point one a; have one; have 'of no commit'");
    safe.back_up("git", &path);
    let mirror =
        format!("node/data/web1/mirrors/{}", safe.names("node/data/web1/mirrors").iter().find(|name| name.ends_with(".git")).unwrap());
    assert_eq!(has(&safe, &mirror, &["one", "of no commit", "two"]), [true, true, false]);
    // One more; one that lies; one that is a link; one under two names; one that is not there.
    change(
        &safe,
        "for t in two lies link twice none; do point $t $t; done; have two; have lies LIES; have twice; ln ../p.git/$(place twice) ../other
         have link; rm ../p.git/$(place link); ln -s /etc/passwd ../p.git/$(place link)",
    );
    safe.back_up("git", &path);
    let all = ["one", "two", "lies", "link", "twice", "none"];
    assert_eq!(has(&safe, &mirror, &all), [true, true, false, false, false, false]);
    let receipt = safe.sh("git -C node/data/web1/receipts.git grep -h LFS receipts");
    for words in ["it is not what its name says", "4 objects that it names in new commits are not there"] {
        assert!(receipt.contains(words), "{receipt}");
    }
    // It comes back with all that there is, and the restore says what is not.
    let dataset = format!("git:{path}");
    for (name, store) in [("ssh", vec![]), ("local", vec!["--store".to_owned(), safe.text("node/data/web1")])] {
        let target = safe.text(&format!("back/{name}"));
        let mut args = vec!["restore", &dataset, "--target", &target];
        args.extend(store.iter().map(String::as_str));
        let said = safe.client(&args).exits(3);
        assert_eq!(has(&safe, &target, &all), [true, true, false, false, false, false], "{said}");
        for text in ["lies", "link", "twice", "none"] {
            let id = safe.sh(&format!("{WORDS} id {text}"));
            assert!(said.stderr.contains(id.trim()) || said.stdout.contains(id.trim()), "{text}: {said}");
        }
        safe.git(&target, &["fsck", "--full", "--strict"]);
    }
    // What the source has later comes with the next commit.
    change(&safe, "for t in lies link twice none; do have $t; done; rm ../other; point three three; have three");
    safe.back_up("git", &path);
    safe.client(&["restore", &dataset, "--target", &safe.text("back/whole")]).exits(0);
    assert_eq!(has(&safe, "back/whole", &all), [true; 6]);
    // Damage in the mirror is found, and mended from the source.
    safe.sh(&format!("{WORDS} p={mirror}/$(place two); chmod u+w $p; printf TWO >$p"));
    safe.node(&["scrub", "--all"]).says(&["the LFS object", "is damaged"]).exits(1);
    change(&safe, "point four four; have four");
    safe.client(&["submit", "git", &path]).exits(0);
    for _ in 0..3 {
        let _ = safe.client(&["send", "--now"]);
        let _ = safe.node(&["poll"]);
    }
    assert_eq!(has(&safe, &mirror, &["two", "four"]), [true, true]);
    safe.node(&["scrub", "--all"]).silent();
}
