//! What a node may do to archives that it keeps: swap packs, manifests and proofs, offer an old state or one of its own
//! making. It knows the recipients, so it can encrypt to them; it cannot sign, and what is signed leads to every byte.

use super::{keep, put_back};
use crate::harness::Loopback;

/// One thing that a node does to its store.
struct Case {
    what: &'static str,
    /// What it does, in the folder of the client's store, with the words of [`HELPERS`].
    script: &'static str,
    /// What a restore of A's newest says, where it ends otherwise than well.
    told: &'static [&'static str],
    /// How it ends.
    code: i32,
}

/// `$A1` and `$A2` are A's snapshots, `$B` is B's; `pack` is the largest pack of one, `piece` and `put` read and write one of the pieces
/// of 64 KiB that are encrypted each for itself; `$M` is a store that
/// somebody made who knows the recipients and has a key of his own.
const HELPERS: &str = r#"
    cd node/data/web1; chmod -R u+w snapshots packs
    pack() { grep -ao 'blake3:[0-9a-f]*' snapshots/$1/manifest snapshots/$1/request.toml | sed 's/.*blake3://' | while read -r p; do [ ! -f packs/$p ] || echo "$(stat -c %s packs/$p) $p"; done | sort -rn | head -1 | cut -d' ' -f2; }
    swap() { mv $1 swapped; mv $2 $1; mv swapped $2; }
    seal() { age -r "$(age-keygen -y ../../../identity.txt)" "$@"; }
    into() { cat >made; chmod u+w $1; mv made $1; }
    begins() { echo $(($(grep -abo -m1 '^--- ' $1 | head -1 | cut -d: -f1) + 64)); }
    piece() { tail -c +$(($(begins $1) + $2 * 65552 + 1)) $1 | head -c 65552; }
    put() { chmod u+w $1; dd of=$1 oflag=seek_bytes seek=$(($(begins $1) + $2 * 65552)) conv=notrunc status=none; }
"#;

/// An old state may be wanted; it is never taken for the newest.
const OLDER: &[&str] = &["OLDER HISTORY", "number 1 as the newest, and number 3 was seen"];
const UNPROVEN: &[&str] = &["does not verify"];
const UNUSABLE: &[&str] = &["data was not restored", "cannot be used"];

const CASES: &[Case] = &[
    Case { what: "two packs swapped", script: "swap packs/$(pack $A2) packs/$(pack $B)", told: UNUSABLE, code: 3 },
    Case { what: "the pack of the state before", script: "cp packs/$(pack $A1) old; into packs/$(pack $A2) <old", told: UNUSABLE, code: 3 },
    Case {
        what: "a pack of random bytes of the same size",
        script: "p=packs/$(pack $A2); head -c $(stat -c %s $p) /dev/urandom | into $p",
        told: UNUSABLE,
        code: 3,
    },
    Case {
        what: "a pack of the node's own, for the right recipients",
        script: "mkdir t; echo evil >t/0; tar -C t -cf - 0 | zstd -q | seal | into packs/$(pack $A2)",
        told: UNUSABLE,
        code: 3,
    },
    Case {
        what: "a pack of the node's own, for the epoch",
        script: "r=$(head -n1 snapshots/$A2/manifest | jq -r .epoch.recipient); mkdir t; echo evil >t/0; tar -C t -cf - 0 | zstd -q | age -r $r | into packs/$(pack $A2)",
        told: UNUSABLE,
        code: 3,
    },
    Case {
        what: "two pieces of a pack exchanged",
        script: "p=packs/$(pack $A2); piece $p 1 >one; piece $p 2 >two; put $p 1 <two; put $p 2 <one",
        told: UNUSABLE,
        code: 3,
    },
    Case {
        what: "a piece of the state before in the place of another",
        script: "piece packs/$(pack $A1) 1 >one; put packs/$(pack $A2) 1 <one",
        told: UNUSABLE,
        code: 3,
    },
    Case {
        what: "a pack of a stranger's, for the right recipients",
        script: "cat $M/packs/$(ls -S $M/packs | head -1) | into packs/$(pack $A2)",
        told: UNUSABLE,
        code: 3,
    },
    Case {
        what: "all packs replaced by a stranger's",
        script: "for p in packs/*; do cat $M/packs/$(ls -S $M/packs | head -1) | into $p; done",
        told: &["the catalog cannot be read", "nothing was restored"],
        code: 1,
    },
    Case {
        what: "the manifest of another dataset",
        script: "cp snapshots/$B/manifest m; into snapshots/$A2/manifest <m",
        told: &["manifest"],
        code: 4,
    },
    Case {
        what: "the manifest of the state before",
        script: "cp snapshots/$A1/manifest m; into snapshots/$A2/manifest <m",
        told: &["manifest"],
        code: 4,
    },
    Case {
        what: "a manifest of a stranger's",
        script: "into snapshots/$A2/manifest <$(ls -d $M/snapshots/*)/manifest",
        told: &["manifest"],
        code: 4,
    },
    Case {
        what: "a manifest with a byte changed",
        script: "sed 's/files/fires/' snapshots/$A2/manifest | into snapshots/$A2/manifest",
        told: &["manifest"],
        code: 4,
    },
    Case {
        what: "the request of the state before",
        script: "cp snapshots/$A1/request.toml r; into snapshots/$A2/request.toml <r",
        told: UNPROVEN,
        code: 4,
    },
    Case {
        what: "the proof of another dataset, whole",
        script: "for f in commit tree request.toml manifest; do cp snapshots/$B/$f f; into snapshots/$A2/$f <f; done",
        told: UNPROVEN,
        code: 4,
    },
    Case {
        what: "the proof of the state before, whole",
        script: "for f in commit tree request.toml manifest; do cp snapshots/$A1/$f f; into snapshots/$A2/$f <f; done",
        told: UNPROVEN,
        code: 4,
    },
    Case { what: "the tree of another commit", script: "cp snapshots/$B/tree t; into snapshots/$A2/tree <t", told: UNPROVEN, code: 4 },
    Case {
        what: "a genuine commit with a request of the node's making",
        script: "sed 's|^by = .*|by = \"mallory\"|' snapshots/$A2/request.toml | into snapshots/$A2/request.toml",
        told: UNPROVEN,
        code: 4,
    },
    Case { what: "no proof", script: "rm snapshots/$A2/commit", told: &["commit"], code: 1 },
    Case {
        what: "a snapshot of a stranger's, as the newest",
        script: "s=$(ls $M/snapshots); rm -rf snapshots/$A2; cp -a $M/snapshots/$s snapshots/; cp -an $M/packs/* packs/; sed -i 's/^order = .*/order = 99/' snapshots/$s/accepted.toml",
        told: UNPROVEN,
        code: 4,
    },
    Case {
        what: "a snapshot of a stranger's under a genuine name",
        script: "s=$(ls $M/snapshots); for f in commit tree request.toml manifest; do into snapshots/$A2/$f <$M/snapshots/$s/$f; done; cp -an $M/packs/* packs/",
        told: UNPROVEN,
        code: 4,
    },
    Case { what: "the state before, offered as the newest", script: "rm -rf snapshots/$A2", told: OLDER, code: 0 },
    Case {
        what: "the state before under the newest's name",
        script: "rm -rf snapshots/$A2; mv snapshots/$A1 snapshots/$A2",
        told: &["cannot be listed: its note belongs to"],
        code: 1,
    },
    Case {
        what: "another dataset's snapshot under this one's name",
        script: "rm -rf snapshots/$A2; cp -a snapshots/$B snapshots/$A2",
        told: OLDER,
        code: 0,
    },
    Case { what: "nothing of it any more", script: "rm -rf snapshots/$A1 snapshots/$A2", told: &["no snapshot"], code: 1 },
    Case {
        what: "a key of the node's own beside the epoch's",
        script: "age-keygen -o own 2>/dev/null; for e in keys/* keys/x; do mkdir -p $e; seal <own >$e/mallory.age; done",
        told: &[],
        code: 0,
    },
    Case {
        what: "another dataset in the listing",
        script: "sed -i 's|^dataset = .*|dataset = \"files:/etc\"|' snapshots/$A2/accepted.toml",
        told: OLDER,
        code: 0,
    },
];

#[test]
fn archives_that_are_not_the_clients_are_told() {
    let safe = Loopback::start();
    let (a, b) = (safe.text("source/a"), safe.text("source/b"));
    let make = |path: &str| safe.sh(&format!("mkdir -p '{path}'; head -c 300000 /dev/urandom >'{path}/data'; echo {path} >'{path}/name'"));
    make(&a);
    make(&b);
    safe.back_up("files", &a);
    safe.back_up("files", &b);
    safe.sh(&format!("cp -a '{a}' first; head -c 300000 /dev/urandom >'{a}/data'; echo second | tee '{a}/second' >'{a}/name'"));
    safe.back_up("files", &a);
    let dataset = format!("files:{a}");
    let all = safe.client(&["snapshots", "--json"]).json();
    let of = |dataset: &str, seq: u64| {
        let one = all.as_array().unwrap().iter().find(|one| one["seq"] == seq && one["dataset"] == dataset).unwrap();
        one["snapshot"].as_str().unwrap().to_owned()
    };
    let names = format!("A1={}; A2={}; B={}", of(&dataset, 1), of(&dataset, 3), of(&format!("files:{b}"), 2));

    // Somebody who knows the recipients, as the node does, and has our program: a genuine backup of the same path, of other content.
    let mallory = Loopback::start();
    let recipients = |safe: &Loopback| safe.read("client.toml").lines().find(|line| line.starts_with("recipients")).unwrap().to_owned();
    mallory.edit("client.toml", &recipients(&mallory), &recipients(&safe));
    safe.sh(&format!("cp -a '{a}' kept-a; echo evil >'{a}/data'; echo evil >'{a}/evil'"));
    mallory.back_up("files", &a);
    safe.sh(&format!("rm -r '{a}'; mv kept-a '{a}'"));
    let names = format!("{names}; M={}", mallory.text("node/data/web1"));

    let target = safe.text("back/a");
    let restore = |extra: &[&str]| safe.client(&[&["restore", &dataset, "--target", &target], extra].concat());
    restore(&[]).exits(0);
    safe.sh("diff -r source/a back/a; rm -r back/a");
    let folders = ["node/data/web1"];
    keep(&safe, &folders);
    let mut wrong = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        safe.sh(&format!("{names}; {HELPERS}\n{}", case.script));
        let restored = restore(&["--store", &safe.text("node/data/web1")]);
        let mut check = |holds: bool, words: &str| {
            if !holds {
                wrong.push(format!("=== {}: {words}\n{restored}", case.what));
            }
        };
        check(restored.code == Some(case.code), "it ends otherwise");
        check(case.told.iter().all(|words| restored.stderr.contains(words) || restored.stdout.contains(words)), "it is not told");
        // Whatever came back is what the client signed, of the state that it is said to be.
        let state = if restored.stderr.contains("OLDER HISTORY") { "first" } else { "source/a" };
        let made = || {
            safe.sh(&format!("find back -type f ! -name '.nightsafe*' 2>/dev/null | while read -r f; do cmp -s $f {state}/$(basename $f) || echo $f; done"))
        };
        check(made().is_empty(), "a file came back that was not backed up");
        // Through the gate the same proof stands behind it.
        if number % 4 == 0 {
            safe.sh("rm -rf back/a back/.nightsafe*");
            let served = restore(&[]);
            check((served.code == Some(0)) == (case.code == 0), &format!("through the gate it ends otherwise: {served}"));
            check(made().is_empty(), "through the gate a file came back that was not backed up");
        }
        safe.sh("rm -rf back/a back/.nightsafe*");
        put_back(&safe, &folders);
    }
    assert!(wrong.is_empty(), "{} of {} cases\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
    restore(&[]).exits(0);
    safe.sh("diff -r source/a back/a");
}
