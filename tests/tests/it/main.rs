//! Every test that crosses a process: real sshd, real git, real PostgreSQL, the built programs.
//!
//! Knows the programs by their command lines and files alone; how their insides work is tested beside the code.

#[cfg(test)]
mod harness;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod by_hand;
#[cfg(test)]
mod cgit;
#[cfg(test)]
#[cfg(feature = "crash-points")]
mod chaos;
#[cfg(test)]
mod choose;
#[cfg(test)]
mod config;
#[cfg(test)]
mod consistency;
#[cfg(test)]
#[cfg(feature = "crash-points")]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod declared;
#[cfg(test)]
mod dial;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod door;
#[cfg(test)]
mod dummy;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod fidelity;
#[cfg(test)]
mod files;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod full;
#[cfg(test)]
mod git;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hostile_gate;
#[cfg(test)]
mod hostile_node;
#[cfg(test)]
mod howto;
#[cfg(test)]
mod imports;
#[cfg(test)]
mod json;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod lfs;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod log;
#[cfg(test)]
mod look;
#[cfg(test)]
mod loopback;
#[cfg(test)]
mod mail;
#[cfg(test)]
mod mariadb;
#[cfg(test)]
mod modules;
#[cfg(test)]
mod monitoring;
mod mount;
#[cfg(test)]
mod moving;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod packages;
#[cfg(test)]
mod parts;
#[cfg(test)]
mod postgres;
mod postgres_access;
mod postgres_whole;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod prune;
#[cfg(test)]
mod reader;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod restore;
#[cfg(test)]
mod scrub;
mod sealed;
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod submit;
#[cfg(test)]
mod uids;
#[cfg(test)]
mod verify;
#[cfg(test)]
mod watch;
#[cfg(test)]
mod web;
