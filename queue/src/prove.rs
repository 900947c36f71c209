//! The chain of proof: from a client's signature over a commit, through the tree, to the request's bytes.
//!
//! One function for node, client and restore. Knows nothing of where the bytes were kept or who sent them; what
//! a manifest or a list of refs says is compared with [`Claim::payload`] by those who read it.

use crate::request::{self, Request};
use crate::signature::{PublicKey, SignedCommit, read_commit};
use crate::tree;
use base::{Claim, Dataset, Error, Name, Proof, RequestId, Result};
use git2::{ObjectType, Oid};

/// What the caller knows of the request that it asks about; `None` where anything will do.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// Whose request it must be.
    pub client: Option<Name>,
    /// The node that it must ask.
    pub node: Option<Name>,
    /// The dataset that it must name.
    pub dataset: Option<Dataset>,
    /// The id that it must have.
    pub id: Option<RequestId>,
}

/// A commit whose signature is right for the key that it names, and its tree.
#[derive(Debug)]
pub(crate) struct ProvenCommit<'a> {
    pub oid: Oid,
    pub signed: SignedCommit,
    raw: &'a [u8],
    raw_tree: &'a [u8],
    pub entries: Vec<tree::RawEntry<'a>>,
}

impl<'a> ProvenCommit<'a> {
    /// Checks signature and tree. Who may sign is left to the caller.
    pub fn new(raw: &'a [u8], raw_tree: &'a [u8]) -> Result<Self> {
        let entries = tree::parse(raw_tree)?;
        let signed = read_commit(raw)?;
        if signed.parents.len() > 1 {
            return Err(Error::refused("the commit is a merge, and a queue's history is a line"));
        }
        if tree::id_of(ObjectType::Tree, raw_tree)?.to_string() != signed.tree {
            return Err(Error::refused("the tree is not the one that was signed"));
        }
        Ok(Self { oid: tree::id_of(ObjectType::Commit, raw)?, signed, raw, raw_tree, entries })
    }

    /// The request in `bytes`, if this tree holds exactly these bytes once, as a plain file under the request's name.
    pub fn request(&self, bytes: &[u8]) -> Result<Request> {
        let request = Request::parse(bytes)?;
        let name = request::request_name(&request.id);
        let oid = tree::id_of(ObjectType::Blob, bytes)?;
        let mut holders = self.entries.iter().filter(|entry| entry.oid == oid);
        let entry = holders.next().ok_or_else(|| Error::refused("the request is not in the tree that was signed"))?;
        if holders.next().is_some() {
            return Err(Error::refused("the request is in the tree twice"));
        }
        if entry.name != name.as_bytes() || entry.mode != tree::PLAIN {
            return Err(Error::refused(format!("the request is not in the tree as the plain file {name}")));
        }
        Ok(request)
    }

    /// The claim that `request`, read by [`ProvenCommit::request`] from `bytes`, makes.
    pub fn claim(&self, request: Request, bytes: Vec<u8>) -> Claim {
        let proof = Proof { commit: self.raw.to_vec(), tree: self.raw_tree.to_vec(), request: bytes };
        request.into_claim(self.oid.to_string(), proof)
    }

    /// Whether the signer is one of `keys`.
    pub fn check_signer(&self, client: &Name, keys: &[PublicKey]) -> Result<()> {
        if keys.is_empty() {
            return Err(Error::refused(format!("no key of {client} is known")));
        }
        // Keys are compared without their comments, whoever made the values.
        if keys.iter().any(|key| key.key_data() == self.signed.key.key_data()) {
            return Ok(());
        }
        let who = self.signed.key.fingerprint(ssh_key::HashAlg::Sha256);
        Err(Error::refused(format!("the commit is signed by {who}, which is no key of {client}")))
    }
}

/// Proves a request: recomputes blob → tree → commit from the raw bytes, verifies the one signature, and holds signer
/// and names against each other and against `expect`. `keys` gives the keys that may sign for a client.
///
/// # Errors
/// Of kind refused, with the first link of the chain that does not hold.
pub fn prove(proof: &Proof, keys: &dyn Fn(&Name) -> Vec<PublicKey>, expect: &Expect) -> Result<Claim> {
    let commit = ProvenCommit::new(&proof.commit, &proof.tree)?;
    let request = commit.request(&proof.request)?;
    commit.check_signer(&request.client, &keys(&request.client))?;
    expect.check(&request)?;
    Ok(commit.claim(request, proof.request.clone()))
}

/// Whether the bytes of a proof are those that somebody signed, and what they say: for a node that looks for damage. Who
/// signed was judged when the request was accepted.
///
/// # Errors
/// Of kind refused, with the first link of the chain that does not hold.
pub fn intact(proof: &Proof, expect: &Expect) -> Result<Claim> {
    let commit = ProvenCommit::new(&proof.commit, &proof.tree)?;
    let request = commit.request(&proof.request)?;
    expect.check(&request)?;
    Ok(commit.claim(request, proof.request.clone()))
}

impl Expect {
    fn check(&self, request: &Request) -> Result<()> {
        same("client", self.client.as_ref(), &request.client)?;
        same("node", self.node.as_ref(), &request.node)?;
        same("dataset", self.dataset.as_ref(), &request.dataset)?;
        same("id", self.id.as_ref(), &request.id)
    }
}

fn same<T: PartialEq + std::fmt::Display>(field: &str, expected: Option<&T>, found: &T) -> Result<()> {
    match expected {
        Some(expected) if expected != found => {
            Err(Error::refused(format!("the request's {field} is {found}, and {expected} was expected")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "prove_tests.rs"]
mod tests;
