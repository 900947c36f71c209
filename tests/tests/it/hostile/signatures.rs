//! Signatures: none, another's, of another thing, of a key that was taken away; and what stands in a commit beside one.

use super::attacker::{Attacker, PLAIN, Push, with_header};
use super::{Case, Fate, attack};

const OWN: &str = "client/id_ed25519";

/// A good request's commit, as `make` writes it from the text that is to be signed.
fn signed(a: &Attacker, make: impl FnOnce(&str) -> String) -> Push {
    let id = a.new_id();
    let blob = a.blob(a.request(&id).as_bytes());
    let tree = a.tree(&[(PLAIN, format!("RQ{id}.toml").as_bytes(), &blob)]);
    let commit = a.object("commit", make(&a.text(&tree, &[&a.tip()], "x")).as_bytes());
    Push { id, ..a.push(&commit, &[&tree, &blob]) }
}

fn by(a: &Attacker, key: &str, namespace: &str) -> Push {
    signed(a, |text| with_header(text, "gpgsig", &a.sign(text.as_bytes(), key, namespace)))
}

/// Makes a key that nobody gave the node.
fn fresh(a: &Attacker, name: &str, kind: &str) -> String {
    a.safe.sh(&format!("rm -f {name} {name}.pub; ssh-keygen -q {kind} -N '' -f {name}"));
    name.to_owned()
}

pub const CASES: &[Case] = &[
    Case { name: "none", fate: Fate::Gate("not signed"), attack: |a| signed(a, str::to_owned) },
    Case { name: "another client's key", fate: Fate::Gate("key"), attack: |a| by(a, "web2/id_ed25519", "git") },
    Case { name: "a restorer's key", fate: Fate::Gate("key"), attack: |a| by(a, "restorer/id_ed25519", "git") },
    Case { name: "an administrator's key", fate: Fate::Gate("key"), attack: |a| by(a, "admin/id_ed25519", "git") },
    Case { name: "the node's key for receipts", fate: Fate::Gate("key"), attack: |a| by(a, "node/receipts", "git") },
    Case { name: "a key that nobody knows", fate: Fate::Gate("key"), attack: |a| by(a, &fresh(a, "stranger", "-t ed25519"), "git") },
    Case { name: "a weak key", fate: Fate::Gate(""), attack: |a| by(a, &fresh(a, "weak", "-t rsa -b 1024"), "git") },
    Case { name: "another namespace", fate: Fate::Gate("not for git"), attack: |a| by(a, OWN, "file") },
    Case {
        name: "of another text",
        fate: Fate::Gate("signature"),
        attack: |a| signed(a, |text| with_header(text, "gpgsig", &a.sign(b"something else", OWN, "git"))),
    },
    Case {
        name: "of an honest commit before",
        fate: Fate::Gate("signature"),
        attack: |a| {
            let before = a.safe.git("node/gate/queues/web1.git", &["cat-file", "commit", "requests"]);
            let start = before.find("gpgsig ").unwrap() + "gpgsig ".len();
            let signature = before[start..].split("\n\n").next().unwrap().replace("\n ", "\n");
            signed(a, |text| with_header(text, "gpgsig", &signature))
        },
    },
    Case {
        name: "a byte of the message is changed afterwards",
        fate: Fate::Gate("signature"),
        attack: |a| signed(a, |text| with_header(&text.replace("\n\nx\n", "\n\ny\n"), "gpgsig", &a.sign(text.as_bytes(), OWN, "git"))),
    },
    Case {
        name: "two of them",
        fate: Fate::Gate("signature"),
        attack: |a| {
            signed(a, |text| {
                let signature = a.sign(text.as_bytes(), OWN, "git");
                with_header(&with_header(text, "gpgsig", &signature), "gpgsig", &signature)
            })
        },
    },
    Case {
        name: "one more for another hash",
        fate: Fate::Gate(""),
        attack: |a| {
            signed(a, |text| {
                let signature = a.sign(text.as_bytes(), OWN, "git");
                with_header(&with_header(text, "gpgsig", &signature), "gpgsig-sha256", &signature)
            })
        },
    },
    Case {
        name: "of OpenPGP",
        fate: Fate::Gate("signature"),
        attack: |a| {
            signed(a, |text| with_header(text, "gpgsig", "-----BEGIN PGP SIGNATURE-----\n\niQEzBAABCAAdFiEE\n-----END PGP SIGNATURE-----"))
        },
    },
    Case {
        name: "of nonsense",
        fate: Fate::Gate("signature"),
        attack: |a| signed(a, |text| with_header(text, "gpgsig", "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----")),
    },
    Case {
        name: "40 KiB long",
        fate: Fate::Gate("signature"),
        attack: |a| {
            let long = format!("-----BEGIN SSH SIGNATURE-----\n{}-----END SSH SIGNATURE-----", format!("{}\n", "A".repeat(70)).repeat(580));
            signed(a, |text| with_header(text, "gpgsig", &long))
        },
    },
    Case {
        name: "a key that was taken away, in a commit with an old date",
        fate: Fate::Gate("key"),
        attack: |a| {
            // The key was web1's, and is not any more.
            let old = fresh(a, "old", "-t ed25519");
            grant(a, "\"web1.pub\", \"old.pub\"");
            grant(a, "\"web1.pub\"");
            signed(a, |text| {
                let text = text.replace(" 1795000000 +0000", " 1000000000 +0000");
                with_header(&text, "gpgsig", &a.sign(text.as_bytes(), &old, "git"))
            })
        },
    },
    Case {
        name: "of a certificate that the attacker made",
        fate: Fate::Gate("cannot be read"),
        attack: |a| {
            let key = fresh(a, "certified", "-t ed25519");
            a.safe.sh("ssh-keygen -q -t ed25519 -N '' -f authority; ssh-keygen -q -s authority -I web1 -n web1 certified.pub; mv certified-cert.pub certified.pub");
            by(a, &key, "git")
        },
    },
    Case {
        name: "a second author line",
        fate: Fate::Gate(""),
        attack: |a| {
            signed(a, |text| {
                let text = text.replacen("committer ", "author web2 <web2@nightsafe.invalid> 1795000000 +0000\ncommitter ", 1);
                with_header(&text, "gpgsig", &a.sign(text.as_bytes(), OWN, "git"))
            })
        },
    },
];

/// Lets web1 sign with these keys.
fn grant(a: &Attacker, keys: &str) {
    let list = a.safe.read("admin/access.toml");
    let (before, after) = list.split_once("[client.web1]\nkeys = [").unwrap();
    let rest = after.split_once(']').unwrap().1;
    a.safe.write("admin/access.toml", &format!("{before}[client.web1]\nkeys = [{keys}]{rest}"));
    a.safe.sh("cp old.pub admin/keys/");
    a.safe.loopback("start").ok();
}

#[test]
fn only_the_clients_present_key_signs() {
    attack(CASES);
}
