//! The places at which a process can be made to die, read off the sources, and those that need none, with the reason.
//!
//! Knows the functions through which state changes by their names alone.

use crate::harness::source_root;
use std::collections::BTreeSet;
use std::path::Path;

const CRATES: [&str; 9] = ["base", "queue", "archive", "transport", "mail", "modules", "client", "server", "hooks"];

/// What makes a line a place.
const CHANGES: [&str; 10] = [
    "atomic::write(",
    "atomic::write_new(",
    "atomic::rename(",
    "atomic::rename_new(",
    "atomic::remove(",
    "atomic::remove_tree(",
    "atomic::make_folder(",
    ".publish()",
    ".publish_as(",
    "crash::point(",
];

/// What changes names without `base::atomic`, and so must be followed by a place.
const RAW: [&str; 5] = ["fs::rename(", "fs::hard_link(", "fs::remove_file(", "renameat_with(", "unlinkat("];

/// What nothing in these tests comes by: in which files, in which lines (those with this word), and why that is right.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("base/src/dial.rs", "", "a socket, made anew by each poller; nothing is kept in it"),
    ("", "atomic::make_folder(", "most are made before, by init; a folder is there or it is not"),
    ("archive/src/restore", "", "a restore's own files in a target; tests/tests/it/restore.rs cuts restores off"),
    ("archive/src/store/parts.rs", "", "parts are of 64 MiB; tests/tests/it/parts.rs kills both daemons between them"),
    ("archive/src/part.rs", "", "as parts.rs"),
    ("archive/src/index.rs", "crash::point(\"linked\")", "as parts.rs"),
    ("modules/src/settle.rs", "{part}.manifest", "as parts.rs"),
    ("modules/src/settle.rs", "pack_name(part", "as parts.rs"),
    ("archive/src/index/epochs.rs", "", "the index of an epoch that is over, by one rename after the other; its test cuts it off"),
    ("archive/src/index/fold.rs", "", "needs thousands of packs, and no test dies in it"),
    ("archive/src/index/table.rs", "", "as fold.rs"),
    ("archive/src/index.rs", "atomic::remove(", "what is months old"),
    ("archive/src/backup.rs", ".manifest\"", "a manifest over 32 KiB; it lies in the export folder as packs do, and goes with them"),
    ("archive/src/deposit/fresh.rs", "atomic::remove(", "what an earlier try left of the same request"),
    ("archive/src/cache/writer.rs", "", "a cache that is begun anew; safe to lose"),
    ("archive/src/store/incoming.rs", "", "what is no pack, and what belongs to no request"),
    ("archive/src/store/prune.rs", "atomic::remove_tree(&to)", "a trash that was emptied in part"),
    ("archive/src/store/prune.rs", "Move::UnlinkDamaged", "as Move::Unlink"),
    ("queue/src/history.rs", "atomic::remove(", "notes that are not usable; made again from the history"),
    ("queue/src/repository.rs", "\"HEAD\"", "a HEAD that is damaged; one rename"),
    ("queue/src/repository.rs", "join(&self.reference))", "a damaged branch that is fetched anew"),
    ("queue/src/repository.rs", "config.as_bytes()", "a configuration of another version"),
    ("queue/src/repository.rs", "DURABLE_TEXT", "a repository that git made"),
    ("queue/src/repository.rs", "{}.lock", "what a git that was killed in the middle of a ref left"),
    ("queue/src/repository/tidy.rs", "", "what is old, or many"),
    ("queue/src/pool/client.rs", "atomic::remove(&path)", "a cancel between claim and queue"),
    ("queue/src/pool/client.rs", "fs::remove_file(", "what failed, what is not usable, and a cancel"),
    ("modules/src/sqlite", "", "copies in a staging folder, which is swept as a whole"),
    ("modules/src/mariadb", "", "as sqlite"),
    ("modules/src/archived/staging.rs", "", "as sqlite"),
    ("modules/src/git/upkeep.rs", "GIVEN_UP", "where a source has lost what is damaged; one file, and nothing follows from it"),
    ("modules/src/git/upkeep.rs", "atomic::remove", "a commit graph, made again at will"),
    ("client/src/ledger.rs", "", "what a backup could not read; root, who runs the tests, can"),
    ("client/src/outcome.rs", "atomic::remove(", "what is old"),
    ("client/src/around/hands.rs", "crash::point(\"frozen\")", "needs a btrfs; tests/tests/it/consistency/freeze.rs ends a sender there"),
    (
        "client/src/around/hands.rs",
        "crash::point(\"thawed\")",
        "as there: a snapshot that is gone is removed once more, which does nothing",
    ),
    ("client/src/recall/last.rs", "", "when something was restored or verified; one write, and a metric is all that comes of it"),
    ("client/src/send/outbox.rs", "atomic::remove_tree(", "a queue that is damaged"),
    ("client/src/commands/node/add.rs", "", "a person's word, taken up by the same command again; two renames, and either stands alone"),
    ("client/src/commands/node.rs", "atomic::rename(", "a person's word; one rename"),
    ("server/src/poll/alarms.rs", "atomic::remove(", "an alarm that a person has read"),
    ("server/src/poll/handover.rs", "atomic::remove(", "what is refused"),
    ("server/src/poll/ingest.rs", "atomic::remove(", "as handover.rs"),
    ("server/src/commands/admin_recover.rs", "", "a person's word, asked for again"),
    ("server/src/web/door.rs", "fs::remove_file(", "a socket at which nobody listens any more"),
    ("hooks/src/maintain.rs", "atomic::remove", "what is old"),
    ("hooks/src/handover.rs", "atomic::remove(&path)", "an unfinished file of the gate's"),
    ("hooks/src/hooks.rs", "atomic::remove(", "as there"),
    ("hooks/src/log.rs", "fs::rename(", "a log that has grown; nothing follows from it"),
];

/// Fails where a place of the sources has had no death, and is not excepted; and where names change with no place.
#[track_caller]
pub fn all_are_covered(deaths: &BTreeSet<String>) {
    let covered: BTreeSet<&str> = deaths.iter().filter_map(|death| death.split(' ').next()).collect();
    let mut bare = Vec::new();
    for (place, line, next) in lines() {
        let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
        let dies = !has(&CHANGES) || covered.contains(place.as_str());
        let marked = !has(&RAW) || next.contains("crash::point(");
        let excepted = || ELSEWHERE.iter().any(|(file, word, _)| place.starts_with(file) && line.contains(word));
        if !((dies && marked) || excepted()) {
            bare.push(format!("{place}: {}", line.trim()));
        }
    }
    assert!(bare.is_empty(), "nobody has died at these places; let a scene come by, or say why none does: {bare:#?}");
}

/// Each line of what is not for tests: its place, its text, and the six lines after it.
fn lines() -> impl Iterator<Item = (String, String, String)> {
    let mut found = Vec::new();
    for name in CRATES {
        read(&source_root(), &format!("{name}/src"), &mut found);
    }
    found.into_iter()
}

fn read(root: &Path, folder: &str, found: &mut Vec<(String, String, String)>) {
    for entry in std::fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{folder}/{name}");
        if entry.file_type().unwrap().is_dir() && name == "tests" {
            continue;
        } else if entry.file_type().unwrap().is_dir() {
            read(root, &path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && !["testing.rs", "forge.rs"].contains(&name.as_str()) {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let lines: Vec<&str> = text.lines().collect();
            for (i, line) in lines.iter().enumerate() {
                if !line.trim_start().starts_with("//") && !["base/src/atomic.rs", "base/src/crash.rs"].contains(&path.as_str()) {
                    let next = lines[i + 1..lines.len().min(i + 7)].join("\n");
                    found.push((format!("{path}:{}", i + 1), (*line).to_owned(), next));
                }
            }
        }
    }
}
