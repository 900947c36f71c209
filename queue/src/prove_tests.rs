//! A genuine proof, and every way of bending it that we could think of.

use super::*;
use crate::request::tests::sample;
use crate::signature::tests::{commit, signer};

/// A genuine proof of the sample request, signed by `seed`'s key, in a tree of `files` beside it.
fn proof_with(request: &[u8], tree: &[u8], seed: u8) -> Proof {
    let id = tree::id_of(ObjectType::Tree, tree).unwrap().to_string();
    Proof { commit: commit(&id, &signer(seed)), tree: tree.to_vec(), request: request.to_vec() }
}

fn raw_tree(entries: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut raw = Vec::new();
    for (mode, name, content) in entries {
        raw.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        raw.extend_from_slice(tree::id_of(ObjectType::Blob, content).unwrap().as_bytes());
    }
    raw
}

fn genuine() -> Proof {
    let (request, bytes) = (sample(), sample().to_toml());
    proof_with(&bytes, &raw_tree(&[("100644", "MF20261120T031500Z-3f9a1c7e", b"manifest"), ("100644", &request.file_name(), &bytes)]), 1)
}

/// web1 signs with the key of seed 1 or 2, web2 with that of seed 3.
fn keys(name: &Name) -> Vec<PublicKey> {
    match name.as_str() {
        "web1" => vec![signer(2).public().clone(), signer(1).public().clone()],
        "web2" => vec![signer(3).public().clone()],
        _ => vec![],
    }
}

fn refusal(proof: &Proof, expect: &Expect) -> String {
    let error = prove(proof, &keys, expect).unwrap_err();
    assert_eq!(error.kind(), base::Kind::Refused);
    error.one_line()
}

#[test]
fn a_genuine_proof_holds() {
    let proof = genuine();
    let expect = Expect {
        client: Some(Name::new("web1").unwrap()),
        node: Some(Name::new("node1").unwrap()),
        dataset: Some(sample().dataset),
        id: Some(sample().id),
    };
    let claim = prove(&proof, &keys, &expect).unwrap();
    assert_eq!((claim.seq, &claim.id, claim.payload), (1042, &sample().id, sample().payload));
    assert_eq!(claim.request_digest, base::Sha256::of(&proof.request));
    assert_eq!(claim.commit, tree::id_of(ObjectType::Commit, &proof.commit).unwrap().to_string());
    assert_eq!(claim.proof, proof);
}

#[test]
fn what_was_not_expected_is_refused() {
    let name = |text| Some(Name::new(text).unwrap());
    let cases = [
        (Expect { client: name("web2"), ..Expect::default() }, "client"),
        (Expect { node: name("node2"), ..Expect::default() }, "node"),
        (Expect { dataset: Some("files:/var".parse().unwrap()), ..Expect::default() }, "dataset"),
        (Expect { id: Some("20261120T031500Z-3f9a1c7f".parse().unwrap()), ..Expect::default() }, "id"),
    ];
    for (expect, field) in cases {
        assert!(refusal(&genuine(), &expect).contains(&format!("the request's {field} is")));
    }
}

#[test]
fn forgeries() {
    let (good, name, bytes) = (genuine(), sample().file_name(), sample().to_toml());
    let mut other = sample();
    other.dataset = "files:/etc".parse().unwrap();
    let other_bytes = other.to_toml();
    let mut of_web2 = sample();
    of_web2.client = Name::new("web2").unwrap();
    let web2_bytes = of_web2.to_toml();
    let mut stranger = sample();
    stranger.client = Name::new("web3").unwrap();
    let stranger_bytes = stranger.to_toml();
    let tree_of = |entries: &[(&str, &str, &[u8])]| raw_tree(entries);
    let with = |entries: &[(&str, &str, &[u8])]| proof_with(&bytes, &tree_of(entries), 1);
    let cases: Vec<(&str, Proof, &str)> = vec![
        ("a genuine commit beside another request", Proof { request: other_bytes.clone(), ..good.clone() }, "not in the tree"),
        (
            "a genuine commit beside another tree",
            Proof { tree: tree_of(&[("100644", &name, &other_bytes)]), request: other_bytes.clone(), ..good.clone() },
            "not the one that was signed",
        ),
        ("signed by another client's key", proof_with(&bytes, &tree_of(&[("100644", &name, &bytes)]), 3), "no key of web1"),
        ("signed by a key that nobody knows", proof_with(&bytes, &tree_of(&[("100644", &name, &bytes)]), 9), "no key of web1"),
        (
            "a client's signature under another client's request",
            proof_with(&web2_bytes, &tree_of(&[("100644", &name, &web2_bytes)]), 1),
            "no key of web2",
        ),
        (
            "a client without keys",
            proof_with(&stranger_bytes, &tree_of(&[("100644", &name, &stranger_bytes)]), 1),
            "no key of web3 is known",
        ),
        ("under another id's name", with(&[("100644", "RQ20261120T031500Z-3f9a1c7f.toml", &bytes)]), "not in the tree as"),
        ("under no request's name", with(&[("100644", "README", &bytes)]), "not in the tree as"),
        ("as a program", with(&[("100755", &name, &bytes)]), "not in the tree as"),
        ("as a link", with(&[("120000", &name, &bytes)]), "not in the tree as"),
        ("as a folder", with(&[("40000", &name, &bytes)]), "not in the tree as"),
        ("as another repository", with(&[("160000", &name, &bytes)]), "not in the tree as"),
        ("with a zero before the mode", with(&[("0100644", &name, &bytes)]), "cannot be read"),
        ("twice under one name", with(&[("100644", &name, &bytes), ("100644", &name, &bytes)]), "twice"),
        ("one name with two contents", with(&[("100644", &name, &bytes), ("100644", &name, &other_bytes)]), "twice"),
        ("under two names", with(&[("100644", "RQ20261120T031500Z-3f9a1c7d.toml", &bytes), ("100644", &name, &bytes)]), "twice"),
        ("out of order", with(&[("100644", &name, &bytes), ("100644", "MF20261120T031500Z-3f9a1c7e", b"x")]), "order"),
        ("an empty tree", with(&[]), "not in the tree"),
        ("nothing at all", Proof { commit: vec![], tree: vec![], request: vec![] }, "commit"),
        ("a tree of another kind of object", Proof { tree: good.commit.clone(), ..good.clone() }, "tree"),
        ("a request that is none", proof_with(b"x", &tree_of(&[("100644", &name, b"x")]), 1), "the request"),
        ("one more line in the request", Proof { request: [&bytes[..], b"\n"].concat(), ..good.clone() }, "not in the tree"),
        ("a tree that is too long", Proof { tree: vec![b'1'; tree::TREE_LIMIT + 1], ..good.clone() }, "longer"),
        ("a request that is too long", Proof { request: vec![b'#'; request::FILE_LIMIT + 1], ..good.clone() }, "longer"),
    ];
    for (what, proof, words) in cases {
        let said = refusal(&proof, &Expect::default());
        assert!(said.contains(words), "{what}: {said}");
    }
}

#[test]
fn a_merge_proves_nothing() {
    let signer = signer(1);
    let good = genuine();
    let tree_id = tree::id_of(ObjectType::Tree, &good.tree).unwrap();
    let payload = format!("tree {tree_id}\nparent {tree_id}\nparent {tree_id}\n{}\n\nwords\n", crate::signature::tests::HEAD);
    let commit = crate::signature::with_signature(&payload, &signer.sign(payload.as_bytes()).unwrap()).unwrap();
    assert!(refusal(&Proof { commit, ..good }, &Expect::default()).contains("merge"));
}

#[test]
fn nothing_shorter_is_a_proof() {
    let good = genuine();
    for end in 0..good.commit.len() {
        assert!(prove(&Proof { commit: good.commit[..end].to_vec(), ..good.clone() }, &keys, &Expect::default()).is_err(), "commit {end}");
    }
    for end in 0..good.tree.len() {
        assert!(prove(&Proof { tree: good.tree[..end].to_vec(), ..good.clone() }, &keys, &Expect::default()).is_err(), "tree {end}");
    }
    for end in 0..good.request.len() {
        assert!(
            prove(&Proof { request: good.request[..end].to_vec(), ..good.clone() }, &keys, &Expect::default()).is_err(),
            "request {end}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_flipped_bit_leaves_another_claim(part in 0usize..3, place: usize, bit in 0u8..8) {
        let mut proof = genuine();
        let bytes = match part {
            0 => &mut proof.commit,
            1 => &mut proof.tree,
            _ => &mut proof.request,
        };
        let place = place % bytes.len();
        bytes[place] ^= 1 << bit;
        if let Ok(claim) = prove(&proof, &keys, &Expect::default()) {
            // Only the armor's white space is not covered by the signature; the claim is the same.
            proptest::prop_assert!(part == 0 && claim.request_digest == base::Sha256::of(&sample().to_toml()));
        }
    }
}
