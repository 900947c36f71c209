//! Every test that crosses a process: real sshd, real git, real PostgreSQL, the built programs.
//!
//! Knows the programs by their command lines and files alone; how their insides work is tested beside the code.

#[cfg(test)]
mod harness;

#[cfg(test)]
mod declared;
#[cfg(test)]
mod imports;
