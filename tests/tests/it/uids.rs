//! Three accounts on the node.
