//! What the tests stand on: programs run in a cleared environment, whole installations, database servers, waiting.
//!
//! Knows nothing of what is tested.

mod browser;
mod disk;
mod http;
mod install;
mod killed;
mod mariadb;
mod pages;
mod postgres;
mod run;
mod site;
mod trees;
mod wait;

pub use browser::Browser;
pub use disk::Disk;
pub use http::{Answer, ask, ask_socket, get};
pub use install::Loopback;
pub use killed::Killed;
pub use mariadb::Maria;
pub use pages::blocks;
pub use postgres::Cluster;
pub use run::{Run, bin, command, not_tested, port, root, run, source_root};
pub use site::{Ended, Site, started};
pub use trees::{same_trees, seen, tree};
pub use wait::until;
