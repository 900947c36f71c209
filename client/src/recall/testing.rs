//! A proven request, as the tests here have it: web1's to node1, of which they say what matters to them.

use base::{Claim, Dataset, Name, Payload, Proof, Reason, RequestId, Sha256};

/// The `seq`th request, of a dataset, asked for by nobody in particular.
pub fn claim(id: RequestId, dataset: &str, seq: u64) -> Claim {
    Claim {
        id,
        client: Name::new("web1").unwrap(),
        node: Name::new("node1").unwrap(),
        dataset: dataset.parse::<Dataset>().unwrap(),
        seq,
        prev: None,
        submitted: "2026-11-20T03:15:00Z".parse().unwrap(),
        by: "x".into(),
        reason: Reason::Manual,
        payload: Payload::Nothing,
        repairs: Vec::new(),
        group: None,
        request_digest: Sha256::of(b""),
        commit: String::new(),
        proof: Proof { commit: vec![], tree: vec![], request: vec![] },
    }
}
