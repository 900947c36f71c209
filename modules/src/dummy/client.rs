//! Prepares nothing, restores nothing.
//!
//! Does not look at the dataset's path.

use crate::{ClientContext, ClientModule, Lane, PreparedRequest, RestoreContext, RestoreReport, RestoreSource};
use base::config::ClientConfig;
use base::{Dataset, Payload, Result};

pub(crate) struct Client;

pub(crate) const CLIENT: Client = Client;

impl ClientModule for Client {
    fn name(&self) -> &str {
        super::NAME
    }

    fn lane(&self) -> Lane {
        Lane::Git
    }

    fn check(&self, _config: &ClientConfig, _dataset: &Dataset) -> Result<()> {
        Ok(())
    }

    fn prepare(&self, _context: &ClientContext<'_>, _dataset: &Dataset) -> Result<PreparedRequest> {
        Ok(PreparedRequest {
            payload: Payload::Nothing,
            attachment: None,
            unreadable: 0,
            ledger: Vec::new(),
            skipped: 0,
            repairs: Vec::new(),
            size: None,
        })
    }

    fn restore(&self, context: &RestoreContext<'_>, _source: RestoreSource) -> Result<RestoreReport> {
        context.files.refuse("a dataset that carries nothing")?;
        context.refuse_database_options("a dataset that carries nothing")?;
        Ok(RestoreReport::default())
    }
}
