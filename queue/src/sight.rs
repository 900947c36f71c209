//! What a gate tells its visitor of itself, for `config check`: the answer to the verb `look`.
//!
//! Says nothing that the visitor could not find out by using what it may use.

use base::config::Reach;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest answer that is read.
pub const LIMIT: usize = 1 << 20;

/// What a node's gate says to a client, and a client's gate to a node. Fields that a newer gate adds are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// The version of the gate's program.
    pub gate: String,
    /// Its clock.
    pub time: Timestamp,
    /// What is taken from this client, as the access list says it.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Whether there is room for another fetch at the node.
    #[serde(default)]
    pub room: Option<bool>,
    /// Whether the node gets to this client: it is to dial in, or the list has an address and a host key for it.
    #[serde(default)]
    pub reached: Option<bool>,
    /// How the node gets to this client, as the access list says it.
    #[serde(default)]
    pub reach: Option<Reach>,
}
