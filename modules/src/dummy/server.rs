//! Fetches nothing; says "stored" to a proven request that carries nothing.
//!
//! Leaves no trace in the store: the receipt is all there is.

use crate::{Fetched, Lane, ServerContext, ServerModule};
use base::{Claim, Payload, Result};

pub(crate) struct Server;

pub(crate) const SERVER: Server = Server;

impl ServerModule for Server {
    fn lane(&self) -> Lane {
        Lane::Git
    }

    fn fetch(&self, context: &ServerContext<'_>, claim: &Claim, attachment: Option<&[u8]>) -> Result<Fetched> {
        if claim.payload != Payload::Nothing || attachment.is_some() {
            return Ok(Fetched::Refused {
                reason: "a dummy carries nothing, and this request brings something".into(),
                missing: Vec::new(),
            });
        }
        Ok(Fetched::Stored {
            received: context.received,
            seconds: 0,
            bytes_fetched: 0,
            bytes_stored: 0,
            unreadable: 0,
            snapshot: None,
            refs: None,
            changed: Vec::new(),
        })
    }
}
