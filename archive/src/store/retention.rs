//! Which snapshots of one dataset are kept, and why: a pure function of what the node itself wrote down.
//!
//! Only the order of acceptance and the node's own `received` count; the client's clock, its ids and the sizes it claims
//! have no influence, but that a snapshot much smaller than the one before pins that one. No I/O.
//!
//! A period keeps its **first** snapshot, and periods are counted back from now. So accepting one more snapshot never
//! condemns another that a policy would otherwise keep, however many a client sends; only `last` counts snapshots, and it
//! counts those that are at least `expect` apart.

use crate::manifest::Counts;
use base::{Keep, KeepRule, Length, RequestId, Step, Unit};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

/// One snapshot as far as keeping it is concerned.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its id; only a name.
    pub id: RequestId,
    /// The node's clock at acceptance.
    pub received: Timestamp,
    /// Packs of it are lost, or its manifest cannot be read.
    pub damaged: bool,
    /// A person holds it.
    pub held: bool,
    /// The one after it is much smaller, and nobody has said that this is right.
    pub pinned: bool,
    /// It claims to bring again what was in a pack that is lost and that a root still names.
    pub mends: bool,
    /// A person has given up the whole dataset.
    pub forgotten: bool,
    /// A person has given it up by a command with rules of its own; the policy does not bring it back.
    pub given_up: bool,
}

/// What is to be kept of a dataset.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The rules in force; none keep everything.
    pub keep: Option<Keep>,
    /// How often a snapshot is expected: those that come sooner do not count for `last`.
    pub expect: Duration,
    /// What the node keeps whatever the rules say.
    pub floor: Option<Keep>,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There are no rules.
    NoPolicy,
    /// It is the dataset's newest.
    Newest,
    /// It is the dataset's newest undamaged one.
    NewestUndamaged,
    /// A person holds it.
    Held,
    /// The next one is much smaller.
    Pinned,
    /// What others have lost can be read from it alone.
    Mends,
    /// A rule of the policy.
    Rule(KeepRule),
    /// A rule of the node's floor.
    Floor(KeepRule),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("no policy"),
            Self::Newest => f.write_str("newest"),
            Self::NewestUndamaged => f.write_str("newest undamaged"),
            Self::Held => f.write_str("held"),
            Self::Pinned => f.write_str("pinned: the next one is much smaller"),
            Self::Mends => f.write_str("mends: it brings again what another one has lost"),
            Self::Rule(rule) => rule.fmt(f),
            Self::Floor(rule) => write!(f, "floor: {rule}"),
        }
    }
}

/// For each of a dataset's snapshots, which are in the order of acceptance, all reasons to keep it. Without any it may go.
pub fn retain(snapshots: &[Candidate], policy: &Policy, now: Timestamp, zone: &TimeZone) -> Vec<Vec<Reason>> {
    let mut kept: Vec<Vec<Reason>> = snapshots.iter().map(|_| Vec::new()).collect();
    let last = |which: &dyn Fn(&Candidate) -> bool| snapshots.iter().rposition(|snapshot| !snapshot.forgotten && which(snapshot));
    if let Some(newest) = last(&|_| true) {
        kept[newest].push(Reason::Newest);
    }
    if let Some(newest) = last(&|snapshot| !snapshot.damaged) {
        kept[newest].push(Reason::NewestUndamaged);
    }
    for (snapshot, kept) in snapshots.iter().zip(&mut kept) {
        if snapshot.held {
            kept.push(Reason::Held);
        }
        if snapshot.pinned && !snapshot.forgotten {
            kept.push(Reason::Pinned);
        }
        if snapshot.mends && !snapshot.forgotten {
            kept.push(Reason::Mends);
        }
    }
    let mut under = |keep: &Keep, counts: &dyn Fn(&Candidate) -> bool, reason: &dyn Fn(KeepRule) -> Reason| {
        // What is damaged takes nobody's place: the rules are held against all, and against those that are whole.
        let any_damaged = snapshots.iter().any(|snapshot| snapshot.damaged);
        for rule in keep.rules() {
            let all = (0..snapshots.len()).filter(|i| counts(&snapshots[*i]));
            let whole = all.clone().filter(|i| any_damaged && !snapshots[*i].damaged);
            let mut chosen = chosen(*rule, snapshots, &all.collect::<Vec<_>>(), policy.expect, now, zone);
            chosen.extend(self::chosen(*rule, snapshots, &whole.collect::<Vec<_>>(), policy.expect, now, zone));
            for (i, kept) in kept.iter_mut().enumerate() {
                if chosen.contains(&i) {
                    kept.push(reason(*rule));
                }
            }
        }
    };
    if let Some(floor) = &policy.floor {
        under(floor, &|snapshot| !snapshot.forgotten, &Reason::Floor);
    }
    if let Some(keep) = &policy.keep {
        under(keep, &|snapshot| !snapshot.forgotten && !snapshot.given_up, &Reason::Rule);
    } else {
        for (snapshot, kept) in snapshots.iter().zip(&mut kept) {
            if !snapshot.forgotten && !snapshot.given_up {
                kept.push(Reason::NoPolicy);
            }
        }
    }
    kept
}

/// Which of the snapshots at `places` one rule keeps.
fn chosen(rule: KeepRule, all: &[Candidate], places: &[usize], expect: Duration, now: Timestamp, zone: &TimeZone) -> HashSet<usize> {
    match rule {
        KeepRule::Last(count) => last(all, places, count, expect),
        KeepRule::Calendar(unit, count) => {
            let each = Length { count: 1, unit };
            let least = period(each, now, zone).saturating_sub(i64::from(count) - 1);
            firsts(all, places, each, least, zone)
        }
        KeepRule::Within(span) => {
            let cutoff = SignedDuration::try_from(span.0).ok().and_then(|span| now.checked_sub(span).ok()).unwrap_or(Timestamp::MIN);
            places.iter().copied().filter(|i| all[*i].received >= cutoff).collect()
        }
        KeepRule::Step(Step { within, each }) => {
            let cutoff = within.map_or(Timestamp::MIN, |length| before(now, length, zone));
            match each {
                None => places.iter().copied().filter(|i| all[*i].received >= cutoff).collect(),
                // A period that reaches into the time is kept as a whole: its first snapshot is the one that is there.
                Some(each) => firsts(all, places, each, period(each, cutoff, zone), zone),
            }
        }
    }
}

/// The first of each period from `least` on; what comes from the future is in one of them.
fn firsts(all: &[Candidate], places: &[usize], each: Length, least: i64, zone: &TimeZone) -> HashSet<usize> {
    let mut seen = HashSet::new();
    places
        .iter()
        .copied()
        .filter(|i| {
            let period = period(each, all[*i].received, zone);
            period >= least && seen.insert(period)
        })
        .collect()
}

/// The last `count` of those that are far enough apart, told from the oldest on: what a client sends in between takes no
/// place. A tenth less than `expect` will do, as no two runs take the same time. A clock that was set back counts too.
fn last(all: &[Candidate], places: &[usize], count: u32, expect: Duration) -> HashSet<usize> {
    let apart = SignedDuration::try_from(expect - expect / 10).unwrap_or(SignedDuration::MAX);
    let mut slots: Vec<usize> = Vec::new();
    for i in places {
        let counts = slots.last().is_none_or(|before| all[*i].received.duration_since(all[*before].received).abs() >= apart);
        if counts {
            slots.push(*i);
        }
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    slots.into_iter().rev().take(count).collect()
}

/// The number of the period that a moment is in; later ones have higher numbers. Days, weeks, months and years are those
/// of the calendar in `zone`; hours follow one another whatever the clock is set to.
fn period(each: Length, time: Timestamp, zone: &TimeZone) -> i64 {
    let count = i64::from(each.count);
    let local = || zone.to_datetime(time);
    let days = |local: DateTime| (local.date() - jiff::civil::date(1970, 1, 5)).get_days();
    let number = match each.unit {
        Unit::Second => time.as_second(),
        Unit::Minute => time.as_second().div_euclid(60),
        Unit::Hour => (time.as_second() + i64::from(zone.to_offset(time).seconds().rem_euclid(3600))).div_euclid(3600),
        Unit::Day => i64::from(days(local())),
        // The day that is counted from is a Monday.
        Unit::Week => i64::from(days(local()).div_euclid(7)),
        Unit::Month => i64::from(local().year()) * 12 + i64::from(local().month()) - 1,
        Unit::Year => i64::from(local().year()),
    };
    number.div_euclid(count)
}

/// The moment that lies `length` before `now`, by the calendar where the unit is one of it.
fn before(now: Timestamp, length: Length, zone: &TimeZone) -> Timestamp {
    let count = i64::from(length.count);
    let span = match length.unit {
        Unit::Second => Span::new().try_seconds(count),
        Unit::Minute => Span::new().try_minutes(count),
        Unit::Hour => Span::new().try_hours(count),
        Unit::Day => Span::new().try_days(count),
        Unit::Week => Span::new().try_weeks(count),
        Unit::Month => Span::new().try_months(count),
        Unit::Year => Span::new().try_years(count),
    };
    span.and_then(|span| now.to_zoned(zone.clone()).checked_sub(span)).map_or(Timestamp::MIN, |zoned| zoned.timestamp())
}

/// Whether a snapshot is so much smaller than the one before that a person should look: under half the bytes of one that
/// has at least 1 MiB, or under half the files of one that has at least 16.
pub fn much_smaller(before: &Counts, after: &Counts) -> bool {
    let halved = |before: u64, after: u64, least: u64| before >= least && after < before / 2;
    halved(before.bytes, after.bytes, 1 << 20) || halved(before.files, after.files, 16)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
