//! The gate's upkeep where the poller shares its uid: hand-overs that a crash lost are repeated.
//!
//! Does not know what the gate does; where uids are split a timer of the gate's own runs it.

use crate::node::Node;
use base::{Result, process};
use std::time::Duration;

/// The longest time that the gate's upkeep may take.
const TIME: Duration = Duration::from_secs(600);

/// Runs `nightsafe-gate maintain` if the gate is of our uid.
///
/// # Errors
/// With the gate's own words.
pub fn maintain(node: &Node) -> Result<()> {
    if !node.one_uid() {
        return Ok(());
    }
    let mut command = process::command(node.gate_program()?);
    command.arg("--config").arg(&node.file).arg("maintain");
    process::run_ok(command, 1 << 20, TIME).map(drop).map_err(|error| error.context("the gate's upkeep failed"))
}
