//! Archives that a keyholder opens and that are more than they seem: the node, which cannot look into them, keeps them as signed; a
//! restore and a verify end in bounded memory, say what is wrong, and write nothing outside of the target.

use super::attacker::{Attacker, PLAIN, Push};
use crate::harness::Run;

/// The ways of `bomb.py`; how restore and verify end, and a word that both say of it.
pub const CASES: &[(&str, i32, i32, &str)] = &[
    ("honest", 0, 0, ""),
    ("a frame unfolds to a gigabyte", 3, 1, "cannot be decompressed"),
    ("a frame is said to be four gigabytes", 3, 1, "longer than readers accept"),
    ("a table is said to be eight exabytes", 3, 1, "does not end as packs do"),
    ("a file of four exabytes", 75, 3, ""),
    ("entries unfold", 3, 3, "in none of the packs"),
    ("names lead out", 3, 3, "its path cannot be an entry's"),
    ("levels without an end", 4, 3, "too many levels"),
    ("the catalog leads to the same place", 3, 3, "not in its place"),
];

/// More than a restore needs, in KiB, and far less than what is to unfold.
const MEMORY: u32 = 130_000;

/// Hands an archive in as the client's next request, after the one called `prev`.
fn hand_in(a: &Attacker, way: &str, prev: &str) -> String {
    let safe = &a.safe;
    let id = a.new_id();
    safe.sh(&format!("python3 bomb.py '{way}' {id}"));
    let manifest = std::fs::read(safe.at("manifest")).unwrap();
    let digest = safe.sh("b3sum --no-names manifest");
    let text = a.request(&id).replacen("dummy:x", &format!("files:{}", safe.text("source/a")), 1);
    let text = text.replacen("submitted =", &format!("prev = \"{prev}\"\nsubmitted ="), 1);
    let text = format!("{text}manifest = \"blake3:{}\"\n", digest.trim());
    let (attached, request) = (format!("MF{id}"), format!("RQ{id}.toml"));
    let push = a.files(&[(PLAIN, attached.as_bytes(), &manifest), (PLAIN, request.as_bytes(), text.as_bytes())]);
    let done = a.send(&Push { id: id.clone(), ..push });
    safe.node(&["poll"]).exits(0);
    let receipt = a.receipt(&id);
    assert!(receipt.contains("+outcome = \"stored\""), "{way}: {done}\n{receipt}");
    id
}

/// A command of the keyholder's within that memory.
fn bounded(a: &Attacker, args: &str) -> Run {
    a.safe.run("sh", &["-c", &format!("ulimit -d {MEMORY}; exec nightsafe {args}")])
}

#[test]
fn what_unfolds_ends_in_bounded_memory_with_a_word() {
    let attacker = Attacker::start();
    let safe = &attacker.safe;
    safe.sh("mkdir source/a; echo honest >source/a/x");
    safe.back_up("files", &safe.text("source/a"));
    let id = safe.names("node/data/web1/snapshots").pop().unwrap();
    safe.write("bomb.py", include_str!("bomb.py"));
    // What a client that was taken over knows: its own secret, and the epoch that its packs are sealed to.
    safe.sh(&format!(
        "cp node/data/web1/snapshots/{id}/manifest template
         head -n1 template | jq -r .epoch.key_file | base64 -d | age -d -i identity.txt >epoch
         tail -n +2 template | age -d -i epoch | jq -r .secret | tr -d '\\n' >epoch.secret"
    ));
    let (mut wrong, mut prev) = (Vec::new(), id);
    for (way, restored, verified, word) in CASES {
        let id = hand_in(&attacker, way, &prev);
        let restore = bounded(&attacker, &format!("restore {id} --target back/a"));
        let verify = bounded(&attacker, &format!("verify {id}"));
        for (run, code) in [(&restore, restored), (&verify, verified)] {
            if run.code != Some(*code) || !(run.stdout.contains(word) || run.stderr.contains(word)) {
                wrong.push(format!("{way}: {run}"));
            }
        }
        let there = safe.sh("find back -type f ! -name '.nightsafe*' | while read -r f; do cat $f; done");
        if !there.replace("right", "").is_empty() || safe.at("back/out").exists() || safe.at("out").exists() {
            wrong.push(format!("{way}: something is there that should not be: {there}"));
        }
        safe.sh("rm -rf back/a back/.nightsafe*");
        prev = id;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
    assert!(!std::path::Path::new("/tmp/nightsafe-out").exists());
    attacker.honest_requests_work();
}
