//! Modules that the configuration declares by their commands.
//!
//! Knows no program by name, and gives nothing to a shell.

use crate::{ClientContext, ClientModule, Lane, PreparedRequest, RestoreContext, RestoreReport, RestoreSource, archived};
use base::config::ClientConfig;
use base::{Dataset, Error, Result};

/// A module by the name of its table. A restorer's machine may have no such table.
pub struct Declared {
    name: String,
}

impl Declared {
    /// Checks the name.
    ///
    /// # Errors
    /// Of kind usage.
    pub(crate) fn new(name: &str) -> Result<Self> {
        Dataset::new(name, "x")?;
        Ok(Self { name: name.into() })
    }

    /// There is a table of that name or not: this release carries out none.
    fn undeclared(&self) -> Error {
        Error::usage(format!("[module.{}] is no module of this release", self.name))
    }
}

impl ClientModule for Declared {
    fn name(&self) -> &str {
        &self.name
    }

    fn lane(&self) -> Lane {
        Lane::Archive
    }

    fn settings(&self, _config: &ClientConfig) -> Result<()> {
        Err(self.undeclared())
    }

    fn check(&self, _config: &ClientConfig, _dataset: &Dataset) -> Result<()> {
        Err(self.undeclared())
    }

    fn prepare(&self, _context: &ClientContext<'_>, _dataset: &Dataset) -> Result<PreparedRequest> {
        Err(self.undeclared())
    }

    fn restore(&self, context: &RestoreContext<'_>, source: RestoreSource) -> Result<RestoreReport> {
        let RestoreSource::Archive(reader) = source else {
            return Err(Error::failed(format!("the snapshot of {} is no archive", context.dataset)));
        };
        archived::restore(context, &reader, &format!("what the module {} made", self.name))
    }
}
