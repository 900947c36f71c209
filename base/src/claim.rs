//! What a proven request says. Only `queue::prove` makes one, after it has checked signature and equalities.

use crate::{Blake3, Dataset, Name, RequestId, Sha256};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a request was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// A git hook asked for it.
    Hook,
    /// The time for it had come.
    Schedule,
    /// A person asked for it.
    Manual,
    /// The node asked to have damage mended.
    Heal,
}

/// What the request's signature covers beside the request itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// The digest of the whole manifest file of an archive.
    Manifest(Blake3),
    /// The digest of the list of refs of a git repository.
    Refs(Sha256),
    /// Nothing is carried.
    Nothing,
}

/// A request whose commit was signed by a key of its client, with all that the signature leads to.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Unique for the client.
    pub id: RequestId,
    /// Whose data it is, and who signed.
    pub client: Name,
    /// The node that was asked.
    pub node: Name,
    /// What is to be kept.
    pub dataset: Dataset,
    /// One up for each request of this client to this node; the first is 1.
    pub seq: u64,
    /// The request before for the same dataset and node.
    pub prev: Option<RequestId>,
    /// The client's clock; never used for order or age.
    pub submitted: Timestamp,
    /// Who asked for it on the client.
    pub by: String,
    /// Why.
    pub reason: Reason,
    /// What the signature covers beside.
    pub payload: Payload,
    /// Packs that were lost at the node, and of which this brings again what the client still has.
    pub repairs: Vec<Blake3>,
    /// The group whose restore point it is part of.
    pub group: Option<crate::Group>,
    /// SHA-256 of the request file's bytes; receipts name it.
    pub request_digest: Sha256,
    /// The commit's id, hex.
    pub commit: String,
    /// The raw bytes that prove it, kept beside what is stored.
    pub proof: Proof,
}

/// Raw git objects (content without git's header) from which anyone can compute the chain again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The commit object.
    pub commit: Vec<u8>,
    /// The tree object that the commit names.
    pub tree: Vec<u8>,
    /// The request file's bytes, a blob of that tree.
    pub request: Vec<u8>,
}
