//! How a node gets to a client.

use serde::{Deserialize, Serialize};

/// `reach = "ssh"` or `reach = "dial"`, in the access list and in client.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// The node logs in to the client.
    #[default]
    Ssh,
    /// The client dials in at the node's gate, since the node cannot reach it.
    Dial,
}

impl Reach {
    /// Whether it is the usual way, which is not written down.
    pub fn is_ssh(&self) -> bool {
        *self == Self::Ssh
    }
}
