//! `nightsafe verify`: proves what a restore would read, from the newest signed request down to every file.
//!
//! Writes nothing where it reads. `work` checks one snapshot after the other, `report` says what came of it.

mod report;
mod work;

use crate::Globals;
use crate::output;
use crate::recall::choose::{self, At, Offered};
use crate::recall::history::{self, Signed};
use crate::recall::keys::Keys;
use crate::recall::last::{self, Deed};
use crate::recall::{self, Recall, Wanted, proof};
use archive::verify::Sample;
use base::{Claim, Error, Exit, Kind, Monitor, Name, Payload, Result};
use report::{Row, State};
use show::progress::Progress;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Prove that what is kept is what was backed up, and could be restored: signatures, digests and every file.
///
/// Without a dataset, the newest snapshot of every dataset that the node offers is checked. Nothing is written to the
/// store; this machine remembers how far the history went, as at a restore, and clones of git repositories are made in
/// TMPDIR and removed. Exit codes: 0 all is whole; 1 a signature or the history is wrong, or nothing was whole; 3 some
/// of it is damaged, missing, or could not be opened; 75 the node could not be reached to the end.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// [CLIENT:]MODULE:PATH, or a snapshot's name. Default: everything.
    #[arg(value_name = "DATASET|SNAPSHOT")]
    what: Option<String>,
    /// The newest snapshot accepted at or before this time (2026-11-20 means the end of that day), or a snapshot's name.
    #[arg(long, value_name = "TIME|SNAPSHOT", requires = "what")]
    at: Option<String>,
    /// Every snapshot, not the newest of each dataset alone. What several share is read once.
    #[arg(long, conflicts_with = "at")]
    all_snapshots: bool,
    /// All that is signed, and a share of the packs and repositories, drawn at random, as in 5%.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    sample: Option<f64>,
    /// The ciphertext of all packs and the objects of repositories alone. Needs no identity; with one, the files that
    /// damage touches are named.
    #[arg(long)]
    remote: bool,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    from: recall::From,
    /// An array of objects instead of a table.
    #[arg(long)]
    json: bool,
}

/// Reads `5%`, `5` or `0.5%`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= 100.0);
    number.ok_or_else(|| "write a share above 0 and up to 100, as in 5%".to_owned())
}

impl Verify {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        let identities = self.keys.load()?;
        crate::interrupt::leave_in_order()?;
        let sample = self.sample.map(Sample::new).transpose()?;
        let recall = Recall::open(globals, self.from)?;
        let signers = recall.signers()?;
        let progress = Progress::new();
        let unlisted = Collected::default();
        let offered = recall.source.list_telling(&unlisted)?;
        let unlisted = unlisted.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        if offered.is_empty() && unlisted.is_empty() {
            return Err(Error::failed(format!("{} offers no snapshot: nothing could be verified", recall.source.name())));
        }
        let wanted = self.what.as_deref().map(|what| recall.wanted(what, self.at.as_deref(), &offered)).transpose()?;
        let scope = scope(&recall, &offered, wanted.as_ref())?;
        let (signed, mut rows) = prove_all(&recall, &scope, &signers, &progress)?;
        let chosen = chosen(&signed, &scope, wanted.as_ref(), self.all_snapshots)?;
        let archives = chosen.iter().any(|one| matches!(one.claim.payload, Payload::Manifest(_)));
        if archives && identities.is_none() && !self.remote {
            return Err(Error::usage("archives are encrypted, and no identity was given")
                .hint("Give a keyholder's key with --identity or NIGHTSAFE_IDENTITY, or check the ciphertext alone with --remote."));
        }
        rows.extend(unlisted.into_iter().map(|why| Row::of_nothing(State::Unproven, why)));
        if wanted.is_none() {
            rows.extend(withheld(&recall, &offered, &signed));
        }
        let total = chosen.len();
        let mut worker = work::Worker::new(&recall, &offered, &signers, &progress).with(identities.as_ref(), sample, self.remote);
        let mut ended = None;
        for one in chosen {
            let newest = newest(&scope, &one.offered);
            let mut row = match worker.check(one) {
                Ok(row) => row,
                Err(error) if error.kind() == Kind::NotNow => {
                    ended = Some(error);
                    break;
                }
                Err(error) => Row::of(one, State::Unproven, error.one_line()),
            };
            if newest {
                let stale = recall.stale(&offered, &one.claim);
                row.worsen(State::Stale, stale);
            }
            rows.push(row);
        }
        drop(worker);
        drop(progress);
        report::add_findings(&mut rows, history::findings(&signed));
        // Ciphertext alone proves no contents.
        if !self.remote {
            note(&recall, &signed, &rows);
        }
        let summary = report::Summary { gaps: history::gaps(&signed), sample, proven: signed.len(), left: total };
        report::tell(&rows, &summary, self.json)?;
        let exit = report::exit(&rows);
        if let Some(error) = ended {
            output::complain(&error.context("not everything was verified"));
            return Ok(output::worse(exit, Exit::NotNow));
        }
        Ok(exit)
    }
}

/// Notes which datasets were looked into with nothing wrong.
fn note(recall: &Recall, signed: &[Signed], rows: &[Row]) {
    let whole = report::whole(rows);
    let claims = signed.iter().map(|one| &one.claim).filter(|claim| whole.contains(&(&claim.client, &claim.id)));
    let datasets: BTreeMap<_, &Claim> = claims.map(|claim| ((&claim.node, &claim.client, &claim.dataset), claim)).collect();
    datasets.values().for_each(|claim| last::note(recall.config.as_ref(), Deed::Verified, claim));
}

/// What libraries complain about, kept.
#[derive(Default)]
struct Collected(Mutex<Vec<String>>);

impl Monitor for Collected {
    fn problem(&self, error: &Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(error.one_line());
    }
}

/// All offered snapshots of the datasets that are asked for.
fn scope(recall: &Recall, offered: &[Offered], wanted: Option<&Wanted>) -> Result<Vec<Offered>> {
    let (client, dataset) = match wanted {
        None => return Ok(offered.to_vec()),
        Some(Wanted::Dataset(address, at)) => {
            let client = choose::client_of(address, recall.own_name(), offered)?;
            // With the nearest names where there is none.
            choose::choose(offered, &client, &address.dataset, at)?;
            (client, address.dataset.clone())
        }
        Some(Wanted::Snapshot(id)) => {
            let found = offered.iter().find(|one| one.snapshot == *id).ok_or_else(|| {
                let names = offered.iter().map(|one| one.snapshot.as_str());
                Error::failed(format!("there is no snapshot {id}")).hint(base::names::hint(id.as_str(), names))
            })?;
            (found.client.clone(), found.dataset.clone())
        }
    };
    Ok(offered.iter().filter(|one| one.client == client && one.dataset == dataset).cloned().collect())
}

/// Proves the requests of all these snapshots; those that do not verify become rows.
fn prove_all(recall: &Recall, scope: &[Offered], signers: &proof::Signers, progress: &Progress) -> Result<(Vec<Signed>, Vec<Row>)> {
    progress.say("proving signatures");
    let (mut signed, mut rows) = (Vec::new(), Vec::new());
    for offered in scope {
        match proof::claim(&recall.source, offered, signers) {
            Ok(claim) => signed.push(Signed { claim, offered: offered.clone() }),
            Err(error) if error.kind() == Kind::NotNow => return Err(error),
            Err(error) => rows.push(Row::offered(offered, State::Unproven, error.one_line())),
        }
        progress.entries(1);
    }
    Ok((signed, rows))
}

/// The snapshots to look into.
fn chosen<'a>(signed: &'a [Signed], scope: &[Offered], wanted: Option<&Wanted>, all: bool) -> Result<Vec<&'a Signed>> {
    if all {
        return Ok(signed.iter().collect());
    }
    let only = match wanted {
        Some(Wanted::Snapshot(id)) => Some(id.clone()),
        Some(Wanted::Dataset(address, at)) if *at != At::Newest => {
            let client = scope.first().map(|one| one.client.clone()).ok_or_else(|| Error::failed("there are no snapshots yet"))?;
            Some(choose::choose(scope, &client, &address.dataset, at)?.snapshot.clone())
        }
        _ => None,
    };
    Ok(signed.iter().filter(|one| only.as_ref().map_or_else(|| newest(scope, &one.offered), |id| one.claim.id == *id)).collect())
}

/// Whether nothing of the same dataset was accepted later.
fn newest(scope: &[Offered], one: &Offered) -> bool {
    !scope.iter().any(|other| other.client == one.client && other.dataset == one.dataset && other.order > one.order)
}

/// Datasets that were seen here before and are not offered any more.
fn withheld(recall: &Recall, offered: &[Offered], signed: &[Signed]) -> Vec<Row> {
    let (seen, path) = match recall.remembered() {
        Ok(found) => found,
        Err(error) => return vec![Row::of_nothing(State::Unproven, error.one_line())],
    };
    let mut nodes: BTreeSet<&Name> = signed.iter().map(|one| &one.claim.node).collect();
    nodes.extend(recall.source.node());
    let clients: BTreeSet<&Name> = offered.iter().map(|one| &one.client).collect();
    let here: BTreeMap<String, ()> = nodes
        .iter()
        .flat_map(|node| offered.iter().map(move |one| (recall::seen::Seen::key(node, &one.client, &one.dataset), ())))
        .collect();
    let of_here = |key: &str| {
        let Some((node, rest)) = key.split_once('/') else { return false };
        let client = rest.split_once(':').map(|(client, _)| client);
        nodes.iter().any(|name| name.as_str() == node)
            // A local store is one client's.
            && (recall.source.node().is_some() || clients.iter().any(|name| Some(name.as_str()) == client))
    };
    let missing = seen.into_iter().filter(|(key, _)| of_here(key) && !here.contains_key(key));
    let rows = missing.map(|(key, seq)| {
        let what = key.split_once('/').map_or(key.as_str(), |(_, rest)| rest);
        let text = format!(
            "{what} was seen here up to number {seq}, and is not offered any more. If it was given up on purpose, remove its line from {}",
            path.display()
        );
        Row::of_nothing(State::Stale, text)
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, expected) in [("5%", 5.0), ("5", 5.0), ("0.5%", 0.5), ("100%", 100.0)] {
            assert!((percent(text).unwrap() - expected).abs() < 1e-9, "{text}");
        }
        for bad in ["", "%", "0", "0%", "101%", "-1%", "x", "nan", "inf", "5%%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }
}
