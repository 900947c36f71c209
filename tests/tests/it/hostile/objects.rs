//! Objects: what trees and commits can hold that a request never does, and what unpacks to more than it seems.

use super::attacker::{Attacker, BRANCH, NONE, PLAIN, Push, command};
use super::{Case, Fate, attack};

/// One more entry beside a request that is as it should be.
macro_rules! beside {
    ($name:literal, $word:literal, $mode:literal, $entry:expr) => {
        Case { name: $name, fate: Fate::Gate($word), attack: |a| beside(a, $mode, $entry) }
    };
}

fn beside(a: &Attacker, mode: &str, name: &[u8]) -> Push {
    let id = a.new_id();
    let (request, file) = (a.request(&id), format!("RQ{id}.toml"));
    let good = a.blob(request.as_bytes());
    let other = match mode {
        "40000" => a.tree(&[(PLAIN, b"x", &good)]),
        _ => a.blob(b"x"),
    };
    let mut entries = vec![(PLAIN, file.as_bytes(), good.as_str()), (mode, name, other.as_str())];
    // In git's order, so that the entry alone is what is wrong.
    entries.sort_by(|a, b| a.1.cmp(b.1));
    let tree = a.tree(&entries);
    let commit = a.commit(&tree, &[&a.tip()], "x");
    a.push(&commit, &[&tree, &good, &other])
}

/// The request itself under another mode.
fn as_mode(a: &Attacker, mode: &str) -> Push {
    let id = a.new_id();
    a.files(&[(mode, format!("RQ{id}.toml").as_bytes(), a.request(&id).as_bytes())])
}

/// A request that is as it should be: its tree, and the objects below.
fn good_tree(a: &Attacker) -> (String, String) {
    let id = a.new_id();
    let blob = a.blob(a.request(&id).as_bytes());
    (a.tree(&[(PLAIN, format!("RQ{id}.toml").as_bytes(), &blob)]), blob)
}

fn with_message(a: &Attacker, message: &str) -> Push {
    let (tree, blob) = good_tree(a);
    let commit = a.commit(&tree, &[&a.tip()], message);
    a.push(&commit, &[&tree, &blob])
}

const GIT: &str = "git: unpack ";

pub const CASES: &[Case] = &[
    Case { name: "a program", fate: Fate::Gate("no plain file"), attack: |a| as_mode(a, "100755") },
    Case { name: "writable by a group", fate: Fate::Gate(""), attack: |a| as_mode(a, "100664") },
    Case { name: "a symbolic link", fate: Fate::Gate("no plain file"), attack: |a| as_mode(a, "120000") },
    Case { name: "a mode with a zero in front", fate: Fate::Gate(GIT), attack: |a| as_mode(a, "0100644") },
    Case { name: "a mode that git does not know", fate: Fate::Gate(""), attack: |a| as_mode(a, "777777") },
    Case {
        name: "a submodule",
        fate: Fate::Gate("no plain file"),
        attack: |a| {
            let id = a.new_id();
            let tree = a.tree(&[("160000", format!("RQ{id}.toml").as_bytes(), &"12".repeat(20))]);
            let commit = a.commit(&tree, &[&a.tip()], "x");
            a.push(&commit, &[&tree])
        },
    },
    beside!("a folder", "no plain file", "40000", b"RQ20261120T031500Z-ffffffff.toml"),
    beside!("a file of another name", "not a name that belongs here", "100644", b"README"),
    beside!("attributes that hide files from an export", "not a name that belongs here", "100644", b".gitattributes"),
    beside!("submodules without one", "not a name that belongs here", "100644", b".gitmodules"),
    beside!("the folder of git", "git: unpack ", "100644", b".git"),
    beside!("the folder above", "git: unpack ", "100644", b".."),
    beside!("a name with a slash", "git: unpack ", "100644", b"RQ/../../x"),
    beside!("a name with a line break", "not a name that belongs here", "100644", b"RQ20261120T031500Z-3f9a1c7e.toml\nx"),
    beside!("a name that moves the cursor", "\\u{1b}[2J", "100644", b"\x1b[2J"),
    beside!("a name that is not UTF-8", "not a name that belongs here", "100644", b"\xff\xfe"),
    beside!("a name that looks like an option", "not a name that belongs here", "100644", b"--upload-pack=x"),
    beside!("an id in capitals", "not a name that belongs here", "100644", b"RQ20261120T031500Z-3F9A1C7E.toml"),
    beside!("an attachment without a request", "without its request", "100644", b"MF20261120T031500Z-ffffffff"),
    Case {
        name: "no files at all",
        fate: Fate::Gate("0 files"),
        attack: |a| {
            let tree = a.tree(&[]);
            let commit = a.commit(&tree, &[&a.tip()], "x");
            a.push(&commit, &[&tree])
        },
    },
    Case {
        name: "the same name twice",
        fate: Fate::Gate(GIT),
        attack: |a| {
            let id = a.new_id();
            let (name, text) = (format!("RQ{id}.toml"), a.request(&id));
            a.files(&[(PLAIN, name.as_bytes(), text.as_bytes()), (PLAIN, name.as_bytes(), text.as_bytes())])
        },
    },
    Case {
        name: "20,000 files",
        fate: Fate::Gate("at most 1048576 are allowed"),
        attack: |a| {
            let blob = a.blob(b"x");
            let names: Vec<String> = (0..20_000).map(|n| format!("MF20261120T031500Z-{n:08x}")).collect();
            let entries: Vec<_> = names.iter().map(|name| (PLAIN, name.as_bytes(), blob.as_str())).collect();
            let tree = a.tree(&entries);
            let commit = a.commit(&tree, &[&a.tip()], "x");
            a.push(&commit, &[&tree, &blob])
        },
    },
    Case {
        name: "folders 300 deep",
        fate: Fate::Gate("no plain file"),
        attack: |a| {
            let mut inner = a.blob(b"x");
            let mut objects = vec![inner.clone()];
            for depth in 0..300 {
                let mode = if depth == 0 { PLAIN } else { "40000" };
                inner = a.tree(&[(mode, b"d", &inner)]);
                objects.push(inner.clone());
            }
            let commit = a.commit(&inner, &[&a.tip()], "x");
            a.push(&commit, &objects.iter().map(String::as_str).collect::<Vec<_>>())
        },
    },
    Case {
        name: "a few bytes that unpack to 64 MiB",
        fate: Fate::Gate("bytes, and at most"),
        attack: |a| {
            let id = a.new_id();
            a.files(&[(PLAIN, format!("RQ{id}.toml").as_bytes(), &vec![b'\n'; 64 << 20])])
        },
    },
    Case {
        name: "12 MiB that do not compress",
        fate: Fate::Gate(GIT),
        attack: |a| {
            let noise = std::fs::File::open("/dev/urandom").unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(noise, 12 << 20), &mut bytes).unwrap();
            let blob = a.blob(&bytes);
            let good = a.honest();
            Push { pack: a.pack(&[&blob]), ..good }
        },
    },
    Case { name: "a message of 2 MiB", fate: Fate::Gate("commit"), attack: |a| with_message(a, &"x".repeat(2 << 20)) },
    Case {
        name: "a message that clears the screen",
        fate: Fate::Gate("cannot be shown"),
        attack: |a| with_message(a, "all is well\x1b[2J\x1b[H"),
    },
    Case { name: "a message that writes over itself", fate: Fate::Gate("cannot be shown"), attack: |a| with_message(a, "evil\rgood") },
    Case { name: "a message that is read backwards", fate: Fate::Gate("cannot be shown"), attack: |a| with_message(a, "\u{202e}live") },
    Case {
        name: "a bad commit under a good one",
        fate: Fate::Gate("no plain file"),
        attack: |a| {
            let (tip, blob) = (a.tip(), a.blob(b"/etc/passwd"));
            let bad = a.tree(&[("120000", b"RQ20261120T031500Z-ffffffff.toml", &blob)]);
            let below = a.commit(&bad, &[&tip], "x");
            let (tree, request) = good_tree(a);
            let top = a.commit(&tree, &[&below], "x");
            Push { commands: vec![command(&tip, &top, BRANCH)], ..a.push(&top, &[&below, &bad, &blob, &tree, &request]) }
        },
    },
    Case {
        name: "a merge",
        fate: Fate::Gate("merge"),
        attack: |a| {
            let tip = a.tip();
            let (side_tree, side_blob) = good_tree(a);
            let side = a.commit(&side_tree, &[&tip], "x");
            let (tree, blob) = good_tree(a);
            let top = a.commit(&tree, &[&tip, &side], "x");
            a.push(&top, &[&side, &side_tree, &side_blob, &tree, &blob])
        },
    },
    Case {
        name: "the same parent twice",
        fate: Fate::Gate(""),
        attack: |a| {
            let (tree, blob) = good_tree(a);
            let tip = a.tip();
            let top = a.commit(&tree, &[&tip, &tip], "x");
            a.push(&top, &[&tree, &blob])
        },
    },
    Case {
        name: "a history that begins anew",
        fate: Fate::Gate("descend"),
        attack: |a| {
            let (tree, blob) = good_tree(a);
            let top = a.commit(&tree, &[], "x");
            a.push(&top, &[&tree, &blob])
        },
    },
    Case {
        name: "a parent that does not come along",
        fate: Fate::Gate(GIT),
        attack: |a| {
            let (tree, blob) = good_tree(a);
            let top = a.commit(&tree, &[&"34".repeat(20)], "x");
            a.push(&top, &[&tree, &blob])
        },
    },
    Case {
        name: "a tree that does not come along",
        fate: Fate::Gate(GIT),
        attack: |a| {
            let (tree, blob) = good_tree(a);
            let top = a.commit(&tree, &[&a.tip()], "x");
            a.push(&top, &[&blob])
        },
    },
    Case {
        name: "a request that does not come along",
        fate: Fate::Gate(GIT),
        attack: |a| {
            let (tree, _) = good_tree(a);
            let top = a.commit(&tree, &[&a.tip()], "x");
            a.push(&top, &[&tree])
        },
    },
    Case {
        name: "the branch is to be a file",
        fate: Fate::Gate(""),
        attack: |a| {
            let blob = a.blob(b"x");
            Push { commands: vec![command(&a.tip(), &blob, BRANCH)], ..a.push(&blob, &[]) }
        },
    },
    Case {
        name: "the branch is to be a tag of a good commit",
        fate: Fate::Gate(""),
        attack: |a| {
            let (tree, blob) = good_tree(a);
            let top = a.commit(&tree, &[&a.tip()], "x");
            let tag =
                a.object("tag", format!("object {top}\ntype commit\ntag v1\ntagger web1 <web1@x> 1795000000 +0000\n\nx\n").as_bytes());
            a.push(&tag, &[&top, &tree, &blob])
        },
    },
    Case {
        name: "two trees in one commit",
        fate: Fate::Gate(""),
        attack: |a| {
            let ((tree, blob), (other, more)) = (good_tree(a), good_tree(a));
            let text = a.text(&tree, &[&a.tip()], "x").replacen("author ", &format!("tree {other}\nauthor "), 1);
            let signature = a.sign(text.as_bytes(), "client/id_ed25519", "git");
            let top = a.object("commit", super::attacker::with_header(&text, "gpgsig", &signature).as_bytes());
            a.push(&top, &[&tree, &blob, &other, &more])
        },
    },
    Case {
        name: "1,001 commits",
        fate: Fate::Gate("1001 commits"),
        attack: |a| {
            use std::fmt::Write as _;
            let mut stream = String::new();
            for n in 0..1001 {
                let _ = write!(stream, "commit refs/heads/many\ncommitter x <x@x> 1795000000 +0000\ndata 1\nx\n");
                if n == 0 {
                    let _ = writeln!(stream, "from {}", a.tip());
                }
                let _ = write!(stream, "M 100644 inline RQ20261120T031500Z-{n:08x}.toml\ndata 1\nx\n\n");
            }
            let tip = a.tip();
            a.safe.write("stream", &stream);
            a.safe.sh("git -C attacker.git fetch -q ../node/gate/queues/web1.git requests && git -C attacker.git fast-import --quiet --force <stream && rm stream");
            let top = a.safe.git("attacker.git", &["rev-parse", "many"]).trim().to_owned();
            let objects = a.safe.git("attacker.git", &["rev-list", "--objects", "--no-object-names", &top, &format!("^{tip}")]);
            a.push(&top, &objects.lines().filter(|id| *id != top).collect::<Vec<_>>())
        },
    },
    Case {
        name: "a replacement beside a good commit",
        fate: Fate::Gate("one branch alone"),
        attack: |a| {
            let mut push = a.honest();
            let id = String::from_utf8(push.commands[0][41..81].to_vec()).unwrap();
            push.commands.push(command(NONE, &id, &format!("refs/replace/{}", a.tip())));
            push
        },
    },
];

#[test]
fn nothing_but_plain_requests_gets_into_a_queue() {
    attack(CASES);
}
