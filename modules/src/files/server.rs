//! The server half: an archive like any other.
//!
//! Reads nothing of what is in it.

use crate::{Fetched, Lane, ServerContext, ServerModule, archived};
use base::{Claim, Result};

pub(crate) struct Server;

pub(crate) const SERVER: Server = Server;

impl ServerModule for Server {
    fn name(&self) -> &'static str {
        super::NAME
    }

    fn lane(&self) -> Lane {
        Lane::Archive
    }

    fn fetch(&self, context: &ServerContext<'_>, claim: &Claim, attachment: Option<&[u8]>) -> Result<Fetched> {
        archived::server::fetch(context, claim, attachment)
    }
}
