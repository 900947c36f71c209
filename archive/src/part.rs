//! Parts of a long backup: when one goes, how much of the spool may be taken, and what a part's manifest says.
//!
//! Knows no hosts and no queue: whoever sends carries out [`Parts`]. The decisions are pure functions.

use crate::backup::{ATTACHED, BackupSpec};
use crate::index::{Index, PackInfo};
use crate::limits;
use crate::manifest::{Counts, Manifest, PartSealed, Public, SealedRef, VERSION};
use base::{Blake3, RequestId, Result, atomic};

/// A part has at least this much, unless the spool is small: smaller ones cost more in requests than they gain.
const LEAST: u64 = 64 << 20;
/// And at least this share of what was sent, so that their number grows slowly.
const SHARE: u64 = 100;
/// A small spool is filled by parts of this share of it.
const OF_SPOOL: u64 = 4;
/// So many packs go into one part at most, so that its manifest fits into [`MANIFEST_ROOM`].
pub const MOST_PACKS: usize = 1000;
/// What is kept free in the spool for the manifest of a part.
const MANIFEST_ROOM: u64 = 1 << 20;
/// Packs are closed at this size where the spool has room for many of them.
const PACK: u64 = 32 << 20;
/// Packs that are being written or closed at the same time take no more than about half of the spool.
const PACKS_IN_SPOOL: u64 = 16;
/// What a pack may take beyond the size at which it is closed: its last frame, its table, and what encryption adds.
const BEYOND: u64 = limits::FRAME as u64 + (1 << 20);

/// What keeps the spool within its limit and brings parts to the node, while a backup is being made. All of it may be
/// called from several threads.
pub trait Parts: Send + Sync {
    /// How many bytes may wait for the node.
    fn limit(&self) -> u64;

    /// The backup begins; `stream` says whether somebody's dump is held back while it waits.
    fn begin(&self, stream: bool);

    /// Sets `bytes` of the spool aside for a file that is about to be written. Waits until they are free: that holds the
    /// whole backup back.
    ///
    /// # Errors
    /// Of kind not-now when room did not come in time; otherwise when the backup is over because a part was refused.
    fn reserve(&self, spec: &BackupSpec<'_>, bytes: u64) -> Result<()>;

    /// A pack for which `reserved` bytes were set aside is complete and has its name. May make a part of it, with others.
    ///
    /// # Errors
    /// When a part cannot be asked for, or one was refused.
    fn closed(&self, spec: &BackupSpec<'_>, pack: &PackInfo, reserved: u64) -> Result<()>;

    /// The parts of this backup that were asked for and have no answer: what waits for the node stays where it is.
    ///
    /// # Errors
    /// When that cannot be told.
    fn unanswered(&self) -> Result<Vec<RequestId>>;
}

/// The size at which packs are closed where `limit` bytes may wait.
pub fn pack_size(limit: u64) -> u64 {
    (limit / PACKS_IN_SPOOL).min(PACK)
}

/// The most that one pack takes then.
pub fn pack_room(limit: u64) -> u64 {
    pack_size(limit) + BEYOND
}

/// All that the decision depends on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartFacts {
    /// How much may be in the spool.
    pub limit: u64,
    /// How much is in it, with what is set aside for files being written.
    pub held: u64,
    /// How much is to be set aside now; 0 when a pack was closed and nothing is wanted.
    pub wanted: u64,
    /// Packs of this backup that are complete and in no part.
    pub ready: u64,
    /// What the parts of this backup brought so far.
    pub sent: u64,
    /// Whether a part has no answer yet.
    pub in_flight: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartStep {
    /// Go on, with what is wanted.
    Go,
    /// Ask for a part of all that is ready, and decide again.
    Send,
    /// Wait until something in the spool was answered, and decide again.
    Wait,
    /// That much never fits.
    Never,
}

/// The decision. No I/O.
pub fn decide(facts: &PartFacts) -> PartStep {
    let limit = facts.limit.saturating_sub(MANIFEST_ROOM);
    if facts.wanted > limit {
        return PartStep::Never;
    }
    let due = LEAST.max(facts.sent / SHARE).min(facts.limit / OF_SPOOL);
    let full = facts.wanted > 0 && facts.held.saturating_add(facts.wanted) > limit;
    match facts {
        PartFacts { in_flight: false, ready: 1.., .. } if full || facts.ready >= due => PartStep::Send,
        _ if full => PartStep::Wait,
        _ => PartStep::Go,
    }
}

/// A part that is ready to be asked for.
#[derive(Debug, Clone)]
pub struct PreparedPart {
    /// Its id.
    pub id: RequestId,
    /// The manifest's digest, which the request names.
    pub digest: Blake3,
    /// The manifest, where it is small enough to travel with the request; otherwise it lies in the export folder.
    pub attachment: Option<Vec<u8>>,
}

/// Makes `packs`, which were closed for the backup `spec`, its part `number`. They stay where they are; the answer to the part
/// settles them in the index.
///
/// # Errors
/// With the path, or when the number is too high.
pub fn prepare(spec: &BackupSpec<'_>, number: u16, packs: &[PackInfo]) -> Result<PreparedPart> {
    let id = spec.id.with_part(number)?;
    Index::set_apart(spec.index.folder(), spec.id, &id, packs)?;
    let public = Public {
        version: VERSION,
        id: id.clone(),
        part: Some(number),
        client: spec.client.clone(),
        node: spec.node.clone(),
        dataset: spec.dataset.clone(),
        epoch: spec.epoch.public().clone(),
        packs: packs.iter().map(Into::into).collect(),
        repairs: None,
        counts: Counts::default(),
        sealed: SealedRef { digest: Blake3([0; 32]), size: 0 },
    };
    let sealed =
        PartSealed { version: VERSION, id: id.clone(), dataset: spec.dataset.clone(), packs: packs.iter().map(Into::into).collect() };
    let manifest = Manifest::seal_part(public, &sealed, spec.epoch.recipient())?;
    let bytes = manifest.to_bytes();
    let attachment = if bytes.len() <= ATTACHED {
        Some(bytes)
    } else {
        atomic::write(&spec.export.join(format!("{id}.manifest")), &bytes, 0o640)?;
        None
    };
    Ok(PreparedPart { id, digest: manifest.digest, attachment })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_backups_have_no_parts_and_large_ones_few() {
        let facts = PartFacts { limit: 4 << 30, held: 0, wanted: 41 << 20, ready: 0, sent: 0, in_flight: false };
        assert_eq!(decide(&facts), PartStep::Go);
        assert_eq!(decide(&PartFacts { held: 60 << 20, ready: 60 << 20, ..facts }), PartStep::Go);
        let first = PartFacts { held: 64 << 20, ready: 64 << 20, ..facts };
        assert_eq!(decide(&first), PartStep::Send);
        assert_eq!(decide(&PartFacts { in_flight: true, ..first }), PartStep::Go);
        assert_eq!(decide(&PartFacts { sent: 20 << 30, ..first }), PartStep::Go);
        assert_eq!(decide(&PartFacts { sent: 20 << 30, ready: 205 << 20, ..first }), PartStep::Send);
        // Full: what there is goes, or is waited for.
        let full = PartFacts { limit: 256 << 20, held: 250 << 20, ready: 1, wanted: 25 << 20, ..facts };
        assert_eq!(decide(&full), PartStep::Send);
        assert_eq!(decide(&PartFacts { in_flight: true, ..full }), PartStep::Wait);
        assert_eq!(decide(&PartFacts { ready: 0, ..full }), PartStep::Wait);
        assert_eq!(decide(&PartFacts { wanted: 256 << 20, ..full }), PartStep::Never);
    }

    /// What can be in the spool, for a walk through everything that can happen.
    #[derive(Debug, Default)]
    struct World {
        open: Vec<u64>,
        ready: Vec<u64>,
        in_flight: Vec<u64>,
        foreign: u64,
        sent: u64,
    }

    impl World {
        fn held(&self, room: u64) -> u64 {
            self.open.len() as u64 * room + self.ready.iter().chain(&self.in_flight).sum::<u64>() + self.foreign
        }

        fn facts(&self, limit: u64, room: u64, wanted: u64) -> PartFacts {
            PartFacts {
                limit,
                held: self.held(room),
                wanted,
                ready: self.ready.iter().sum(),
                sent: self.sent,
                in_flight: !self.in_flight.is_empty(),
            }
        }

        fn send(&mut self) {
            assert!(self.in_flight.is_empty() && !self.ready.is_empty());
            self.in_flight = std::mem::take(&mut self.ready);
            self.sent += self.in_flight.iter().sum::<u64>();
        }
    }

    proptest! {
        /// Packs of random sizes are opened, closed and answered in a random order, beside what other backups have in the spool.
        #[test]
        fn the_limit_holds_and_nothing_waits_for_ever(
            limit in (64u64 << 20)..(6 << 30),
            foreign in 0.0f64..1.0,
            events in prop::collection::vec((0u8..4, 0.0f64..1.0), 1..300),
        ) {
            let room = pack_room(limit);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a size of a test")]
            let share = |of: u64, share: f64| (of as f64 * share) as u64;
            let mut world = World { foreign: share(limit - MANIFEST_ROOM, foreign), ..World::default() };
            for (event, size) in events {
                match event {
                    // The pipeline has at most four packs that are not closed.
                    0 if world.open.len() < 4 => loop {
                        match decide(&world.facts(limit, room, room)) {
                            PartStep::Go => {
                                world.open.push(1 + share(room - 1, size));
                                break;
                            }
                            PartStep::Send => world.send(),
                            PartStep::Wait => {
                                // There is something that can be answered or closed.
                                if !world.in_flight.is_empty() {
                                    world.in_flight.clear();
                                } else if let Some(pack) = world.open.pop() {
                                    world.ready.push(pack);
                                } else {
                                    prop_assert!(world.foreign > 0, "{world:?}");
                                    world.foreign = 0;
                                }
                            }
                            PartStep::Never => prop_assert!(false, "a pack must fit: {limit}"),
                        }
                    },
                    1 => if let Some(pack) = world.open.pop() {
                        world.ready.push(pack);
                        if decide(&world.facts(limit, room, 0)) == PartStep::Send {
                            prop_assert!(world.ready.iter().sum::<u64>() >= LEAST.min(limit / OF_SPOOL));
                            world.send();
                        }
                    },
                    2 => world.in_flight.clear(),
                    _ => world.foreign = share(world.foreign, size),
                }
                prop_assert!(world.held(room) <= limit - MANIFEST_ROOM);
            }
        }
    }

    #[test]
    fn the_packs_of_a_pipeline_fit_into_the_smallest_spool() {
        let least = base::config::client::Spool::LEAST.0;
        for limit in [least, least + 1, 256 << 20, 1 << 30, 4 << 30, 1 << 40] {
            assert!(4 * pack_room(limit) <= limit - MANIFEST_ROOM, "{limit}");
            assert!(pack_size(limit) >= 4 << 20);
        }
        assert_eq!(pack_size(4 << 30), 32 << 20);
    }
}
