//! `nightsafe retry`: asks again for what a finished request asked for, or does not wait for a node's next try.

use crate::contact::Contact;
use crate::output;
use base::config::ClientConfig;
use base::{Exit, RequestId, Result};
use queue::pool::{ClientPool, State, Submitted};

/// Ask again for what a request asked for.
///
/// A request that failed or was refused is submitted anew, under a new id. For one that still waits because its node
/// was away, the next send tries at once.
#[derive(Debug, clap::Args)]
pub struct Retry {
    /// The request, as submit and status print it.
    id: RequestId,
}

impl Retry {
    pub fn run(self, config: &ClientConfig) -> Result<Exit> {
        let pool = ClientPool::open(&config.pool_path())?;
        match pool.retry(&self.id)? {
            Submitted::New(id) => output::line(format_args!("{id} asks again for what {} asked for.", self.id)),
            Submitted::AlreadyWaiting(id) if id != self.id => output::line(format_args!("{id} waits already and asks for the same.")),
            Submitted::AlreadyWaiting(id) => {
                let Some((state, file, _)) = pool.find(&id)? else {
                    output::line(format_args!("{id} is done."));
                    return Ok(Exit::Done);
                };
                let mut contact = Contact::load(config, &file.node)?;
                if contact.next_try.take().is_some() {
                    contact.save(config, &file.node)?;
                }
                let words = if state == State::Process { "is with the sender" } else { "is waiting" };
                output::line(format_args!("{id} {words}; the next send tries {} at once.", file.node));
            }
        }
        Ok(Exit::Done)
    }
}
