//! `nightsafe cancel`: takes a request back that was not sent yet.

use crate::outcome::{Ending, OutcomeFile};
use crate::output;
use crate::send::sent_in_queue;
use base::config::ClientConfig;
use base::{Error, Exit, RequestId, Result};
use queue::pool::{Cancelled, ClientPool};

/// Take a request back that was not sent yet.
///
/// One that was sent stays: the node answers it. Who submitted a request may cancel it while it waits.
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// The request, as submit and status print it.
    id: RequestId,
}

impl Cancel {
    pub fn run(self, config: &ClientConfig) -> Result<Exit> {
        let pool = ClientPool::open(&config.pool_path())?;
        let known = pool.find(&self.id)?;
        match pool.cancel(&self.id, &|file| sent_in_queue(config, file))? {
            Cancelled::Done => {
                if let Some((_, file, _)) = known {
                    let outcome = OutcomeFile::new(&self.id, &file.dataset()?, &file.node, Ending::Cancelled);
                    // A submitter may not write here; whoever waits for the request sees it gone all the same.
                    if let Err(error) = outcome.write(config) {
                        tracing::info!("{}", error.one_line());
                    }
                }
                output::line(format_args!("{} is cancelled.", self.id));
                Ok(Exit::Done)
            }
            Cancelled::Sent => Err(Error::refused(format!("{} was sent to the node already and cannot be called back", self.id))),
            Cancelled::Unknown => {
                Err(Error::usage(format!("there is no request {} that waits", self.id)).hint("nightsafe status shows the ones that do."))
            }
        }
    }
}
