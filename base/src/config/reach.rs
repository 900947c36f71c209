//! How a node gets to a client.

use serde::Deserialize;

/// `reach = "ssh"` or `reach = "dial"`, in the access list and in client.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// The node logs in to the client.
    #[default]
    Ssh,
    /// The client dials in at the node's gate, since the node cannot reach it.
    Dial,
}
