//! The access list's hand-over, as a step of the poller.
//!
//! Does not check anything itself: see [`crate::access::handover`].

use super::Poller;
use crate::access::handover;
use base::Result;

/// Takes in what administrators pushed; what is not carried out is an alarm.
///
/// # Errors
/// When an alarm cannot be written down.
pub fn take_in(poller: &Poller) -> Result<()> {
    let mut refused = Vec::new();
    let taken = handover::take_in_now(&poller.node).map(|errors| refused = errors);
    poller.own("access list's hand-over", taken)?;
    refused.iter().try_for_each(|error| poller.node_alarm("access list", &error.one_line()))
}
