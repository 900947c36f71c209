//! The verb `look`: what `config check` at the other end wants to know. One line of JSON.

use crate::serve::Node;
use base::config::Reach;
use base::{At, Error, Exit, Result, clock};
use queue::access::ClientGrant;
use queue::sight::Sight;
use std::io::Write;
use std::process::ExitCode;

/// For a client: what is taken from it, and whether there is room.
///
/// # Errors
/// When the other end cannot be talked to.
pub fn client(node: &Node, grant: &ClientGrant) -> Result<ExitCode> {
    // The gate's account may not look into the folder, but may ask how full its file system is.
    let disk = rustix::fs::statvfs(&node.config.data).ok();
    let room = disk.map(|disk| node.config.keep_free.is_none_or(|wanted| disk.f_bavail.saturating_mul(disk.f_frsize) >= wanted.0));
    let allow = grant.allow.iter().map(|pattern| pattern.as_str().to_owned()).collect();
    let reached = grant.reach == Reach::Dial || grant.address.is_some() && grant.host_key.is_some();
    say(&Sight { allow, room, reached: Some(reached), reach: Some(grant.reach), ..here() })
}

/// For a node: the time.
///
/// # Errors
/// When the other end cannot be talked to.
pub fn export() -> Result<ExitCode> {
    say(&here())
}

fn here() -> Sight {
    Sight { gate: env!("CARGO_PKG_VERSION").into(), time: clock::now(), allow: Vec::new(), room: None, reached: None, reach: None }
}

fn say(sight: &Sight) -> Result<ExitCode> {
    let text = serde_json::to_string(sight).map_err(|error| Error::failed("could not write JSON").because(error))?;
    writeln!(std::io::stdout(), "{text}").at("write to", "stdout")?;
    Ok(Exit::Done.into())
}
