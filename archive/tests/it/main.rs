//! The archive as other crates see it: written, kept in a store, restored, by its public surface alone.

#[cfg(test)]
mod fidelity;
#[cfg(test)]
mod nights;
#[cfg(test)]
mod roundtrip;
#[cfg(test)]
mod world;
