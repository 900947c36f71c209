//! Requests and receipts, the signed history that carries them, and the proof that a signature leads to.
//!
//! Knows git objects and ssh keys; knows nothing of archives, of the network, or of what a module does with a request.

pub mod access;
pub mod allowed_signers;
mod canonical;
pub mod check;
pub mod enrol;
mod history;
pub mod listing;
pub mod message;
pub mod notice;
pub mod pool;
pub mod prove;
pub mod prove_log;
pub mod receipt;
pub mod repository;
pub mod request;
pub mod sight;
pub mod signature;
mod tree;
pub mod verdict;

pub use allowed_signers::AllowedSigners;
pub use notice::Notice;
pub use prove::{Expect, intact, prove};
pub use receipt::{Outcome, Receipt};
pub use repository::Repository;
pub use request::Request;
pub use signature::Signer;
pub use ssh_key::PublicKey;
