//! Refs: other names than the queue's one branch, names that look like something else, deleting, forcing, many at once.

use super::attacker::{BRANCH, NONE, Push, command};
use super::{Case, Fate, attack};

/// A push in which nothing is wrong but the ref's name.
macro_rules! named {
    ($name:literal, $word:literal, $reference:expr) => {
        Case {
            name: $name,
            fate: Fate::Gate($word),
            attack: |a| {
                let good = a.honest();
                let new = String::from_utf8(good.commands[0][41..81].to_vec()).unwrap();
                let line = [NONE.as_bytes(), b" ", new.as_bytes(), b" ", $reference.as_ref()].concat();
                Push { commands: vec![line], ..good }
            },
        }
    };
}

pub const CASES: &[Case] = &[
    named!("another branch", "only the branch requests", "refs/heads/other"),
    named!("the branch of receipts", "only the branch requests", "refs/heads/receipts"),
    named!("the branch in capitals", "only the branch requests", "refs/heads/Requests"),
    named!("a tag", "only the branch requests", "refs/tags/v1"),
    named!("a replacement", "only the branch requests", format!("refs/replace/{}", "01".repeat(20))),
    named!("notes", "only the branch requests", "refs/notes/commits"),
    named!("a hidden place of ours", "only the branch requests", "refs/nightsafe/states/x"),
    named!("what looks like a repository", "only the branch requests", "refs/heads/evil.git/HEAD"),
    named!("what looks like a lock", "only the branch requests", "refs/heads/requests.lock"),
    named!("a name that goes up", "only the branch requests", "refs/heads/../../../../admin.git/refs/heads/access"),
    named!("an absolute path", "only the branch requests", "/etc/passwd"),
    named!("the list of shallow commits", "only the branch requests", "shallow"),
    named!("the list of grafts", "only the branch requests", "info/grafts"),
    named!("the list of other places for objects", "only the branch requests", "objects/info/alternates"),
    named!("the configuration", "only the branch requests", "config"),
    named!("a hook", "only the branch requests", "hooks/post-receive"),
    named!("HEAD itself", "only the branch requests", "HEAD"),
    named!("a name below the branch", "only the branch requests", "refs/heads/requests/x"),
    named!("a name that ends in a space", "only the branch requests", "refs/heads/requests "),
    named!("a name that moves the cursor", "\\u{1b}[2J", "refs/heads/\x1b[2Jx"),
    named!("a name that is not UTF-8", "not UTF-8", [&b"refs/heads/"[..], &[0xff, 0xfe]].concat()),
    named!("a name of 5,000 letters", "only the branch requests", format!("refs/heads/{}", "x".repeat(5000))),
    Case {
        name: "the branch is deleted",
        fate: Fate::Gate("deleted"),
        attack: |a| Push { commands: vec![command(&a.tip(), NONE, BRANCH)], pack: Vec::new(), id: String::new() },
    },
    Case {
        name: "another branch is deleted",
        fate: Fate::Gate("deleted"),
        attack: |a| Push { commands: vec![command(&a.tip(), NONE, "refs/heads/other")], pack: Vec::new(), id: String::new() },
    },
    Case {
        name: "the branch is forced to a sibling",
        fate: Fate::Gate("does not descend"),
        attack: |a| {
            let text = a.request(&a.new_id());
            let blob = a.blob(text.as_bytes());
            let tree = a.tree(&[("100644", b"RQ20261120T031500Z-00000001.toml", &blob)]);
            let commit = a.commit(&tree, &[], "from the beginning");
            a.push(&commit, &[&tree, &blob])
        },
    },
    Case {
        name: "the branch is said to stand elsewhere",
        fate: Fate::Gate("somebody else pushed"),
        attack: |a| {
            let good = a.honest();
            let new = String::from_utf8(good.commands[0][41..81].to_vec()).unwrap();
            Push { commands: vec![command(NONE, &new, BRANCH)], ..good }
        },
    },
    Case {
        name: "a good one and a bad one",
        fate: Fate::Gate("one branch alone"),
        attack: |a| {
            let mut push = a.honest();
            let bad = [NONE.as_bytes(), &push.commands[0][40..82], b"refs/heads/other"].concat();
            push.commands.push(bad);
            push
        },
    },
    Case {
        name: "a bad one and a good one",
        fate: Fate::Gate("one branch alone"),
        attack: |a| {
            let mut push = a.honest();
            let bad = [NONE.as_bytes(), &push.commands[0][40..82], b"refs/tags/t"].concat();
            push.commands.insert(0, bad);
            push
        },
    },
    Case {
        name: "the good one twice",
        fate: Fate::Gate(""),
        attack: |a| {
            let mut push = a.honest();
            push.commands.push(push.commands[0].clone());
            push
        },
    },
    Case {
        name: "10,000 refs",
        fate: Fate::Gate("too many refs"),
        attack: |a| {
            let mut push = a.honest();
            let id = push.commands[0][40..82].to_vec();
            push.commands = (0..10_000).map(|n| [NONE.as_bytes(), &id, format!("refs/heads/b{n}").as_bytes()].concat()).collect();
            push
        },
    },
];

#[test]
fn only_the_one_branch_moves_and_only_forward() {
    attack(CASES);
}
