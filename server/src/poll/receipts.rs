//! One client's receipts: exactly one for each request, signed and durable before anything else follows from it.
//!
//! Does not decide what an answer is.

use super::client::Client;
use crate::node::Node;
use base::{Claim, RequestId, Result, clock};
use jiff::Timestamp;
use queue::receipt::receipt_name;
use queue::{Outcome, Receipt, Repository, Signer};

/// The branch of receipts.
pub const BRANCH: &str = "receipts";

/// How many receipts go into one commit.
const TOGETHER: usize = 500;

/// The receipt that `id` has already, if there is one.
///
/// # Errors
/// When the repository cannot be read, or holds something else under that name.
pub fn find(node: &Node, client: &Client, id: &RequestId) -> Result<Option<Receipt>> {
    client.answers(node, |repository| find_in(repository, id))
}

fn find_in(repository: &Repository, id: &RequestId) -> Result<Option<Receipt>> {
    repository.find_file(&receipt_name(id))?.map(|found| Receipt::parse(&found.bytes)).transpose()
}

/// Answers each of `receipts` that has no answer yet. One that has keeps the answer that it has.
///
/// # Errors
/// When the repository cannot be written.
pub fn answer(node: &Node, signer: &Signer, client: &Client, receipts: Vec<Receipt>) -> Result<()> {
    let new = client.answers(node, |repository| {
        let mut new: Vec<Receipt> = Vec::new();
        for receipt in receipts {
            if !new.iter().any(|other| other.id == receipt.id) && find_in(repository, &receipt.id)?.is_none() {
                new.push(receipt);
            }
        }
        for chunk in new.chunks(TOGETHER) {
            let files: Vec<(String, Vec<u8>)> = chunk.iter().map(|receipt| (receipt.file_name(), receipt.to_toml())).collect();
            repository.commit_files(&files, &queue::message::of_receipts(chunk), signer, node.config.name.as_str())?;
        }
        Ok(new)
    })?;
    // What became of a part says nothing of its dataset; the whole has a receipt of its own, or the client ends it.
    let whole = new.iter().filter(|receipt| receipt.id.part().is_none() || receipt.outcome != Outcome::Stored);
    client.last(|last| whole.filter(|receipt| last.note(receipt)).count()).map(drop)
}

/// A receipt that says nothing more than the outcome and why.
pub fn plain(node: &Node, claim: &Claim, outcome: Outcome, reason: Option<String>, received: Timestamp) -> Receipt {
    Receipt::plain(node.config.name.clone(), claim, outcome, reason, received)
}

/// A refusal, now.
pub fn refusal(node: &Node, claim: &Claim, reason: String) -> Receipt {
    plain(node, claim, Outcome::Refused, Some(reason), clock::now())
}
