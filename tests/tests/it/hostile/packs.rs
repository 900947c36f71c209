//! Packs and the push's own lines: cut off, lying about themselves, standing on what is not there.

use super::attacker::{Attacker, Push};
use super::{Case, Fate};

const GIT: &str = "git: unpack ";

/// A push in which nothing is wrong but what becomes of its bytes.
fn with_pack(a: &Attacker, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Push {
    let good = a.honest();
    Push { pack: change(good.pack), ..good }
}

pub const CASES: &[Case] = &[
    Case { name: "no pack", fate: Fate::Gate(GIT), attack: |a| with_pack(a, |_| Vec::new()) },
    Case { name: "no pack but words", fate: Fate::Gate(GIT), attack: |a| with_pack(a, |_| b"#!/bin/sh\ntouch /tmp/x\n".to_vec()) },
    Case { name: "half a pack", fate: Fate::Gate(GIT), attack: |a| with_pack(a, |pack| pack[..pack.len() / 2].to_vec()) },
    Case {
        name: "a bit is wrong",
        fate: Fate::Gate(GIT),
        attack: |a| {
            with_pack(a, |mut pack| {
                let half = pack.len() / 2;
                pack[half] ^= 4;
                pack
            })
        },
    },
    Case {
        name: "four billion objects are announced",
        fate: Fate::Gate(GIT),
        attack: |a| {
            with_pack(a, |mut pack| {
                pack[8..12].copy_from_slice(&[0xff; 4]);
                pack
            })
        },
    },
    Case {
        name: "version 9",
        fate: Fate::Gate(GIT),
        attack: |a| {
            with_pack(a, |mut pack| {
                pack[7] = 9;
                pack
            })
        },
    },
    Case {
        name: "an object of four exabytes is announced",
        fate: Fate::Gate(GIT),
        // One blob whose size is written with nine bytes.
        attack: |a| {
            with_pack(a, |_| {
                [b"PACK\0\0\0\x02\0\0\0\x01".to_vec(), vec![0xbf; 8], vec![0x3f, 0x78, 0x9c, 0x03, 0, 0, 0, 0, 1], vec![0; 20]].concat()
            })
        },
    },
    Case {
        name: "a delta of what is not there",
        fate: Fate::Gate(GIT),
        attack: |a| {
            with_pack(a, |_| {
                [b"PACK\0\0\0\x02\0\0\0\x01\x75".to_vec(), vec![0x12; 20], vec![0x78, 0x9c, 0x03, 0, 0, 0, 0, 1], vec![0; 20]].concat()
            })
        },
    },
    Case {
        name: "an empty pack for a new commit",
        fate: Fate::Gate("could not read an object"),
        attack: |a| {
            let empty = a.pack(&[]);
            with_pack(a, |_| empty)
        },
    },
    Case {
        name: "a history that is said to be shallow",
        fate: Fate::Gate(""),
        attack: |a| {
            let parent = "56".repeat(20);
            let id = a.new_id();
            let blob = a.blob(a.request(&id).as_bytes());
            let tree = a.tree(&[(super::attacker::PLAIN, format!("RQ{id}.toml").as_bytes(), &blob)]);
            let commit = a.commit(&tree, &[&parent], "x");
            let mut push = a.push(&commit, &[&tree, &blob]);
            push.commands.push(format!("shallow {commit}").into_bytes());
            push
        },
    },
    Case {
        name: "the new request is said to be shallow",
        fate: Fate::Gate(""),
        attack: |a| said_shallow(a, |push| String::from_utf8(push.commands[0][41..81].to_vec()).unwrap()),
    },
    Case { name: "the last request is said to be shallow", fate: Fate::Harmless, attack: |a| said_shallow(a, |_| a.tip()) },
    Case { name: "what is nowhere is said to be shallow", fate: Fate::Harmless, attack: |a| said_shallow(a, |_| "78".repeat(20)) },
];

/// A good push before which something is said of shallow commits.
fn said_shallow(a: &Attacker, which: impl FnOnce(&Push) -> String) -> Push {
    let mut push = a.honest();
    let line = format!("shallow {}", which(&push));
    push.commands.insert(0, line.into_bytes());
    push
}

#[test]
fn a_pack_that_is_none_leaves_nothing() {
    let attacker = Attacker::start();
    super::try_all(&attacker, CASES);
    assert!(!attacker.safe.at("node/gate/queues/web1.git/shallow").exists());
    attacker.honest_requests_work();
}
