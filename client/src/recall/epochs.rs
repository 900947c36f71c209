//! Epochs: which keys the archives of a place are sealed to, and which of them a keyholder's identity opens.
//!
//! Believes a manifest when its client's signature leads to it, and a listing for nothing but what is looked at.

use super::Recall;
use super::choose::Offered;
use super::proof::{Content, Proven, Signers, prove};
use archive::epoch::{EpochKey, IdentityFile, open_epoch};
use archive::manifest::{EpochPublic, Manifest};
use base::{Blake3, Error, Kind, Monitor, Name, RequestId, Result};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// How many key files of one epoch are tried, where a client signed several.
const TRIES: usize = 4;

/// One epoch of one client.
#[derive(Debug, Clone, Serialize)]
pub struct EpochState {
    /// Whose data it is.
    pub client: Name,
    /// The epoch's recipient, which names it.
    pub epoch: String,
    /// For whom it was made.
    pub recipients: Vec<String>,
    /// When the first of its snapshots that are still there was accepted.
    pub since: Timestamp,
    /// When the last one was.
    pub until: Timestamp,
    /// How many there are.
    pub snapshots: u64,
    /// Whether the identity opens it.
    pub opens: bool,
    /// Why not.
    pub why: Option<String>,
    /// The snapshots that the identity does not open.
    pub unopened: Vec<RequestId>,
}

/// What was found.
pub struct Survey {
    /// The epochs, by client and age.
    pub epochs: Vec<EpochState>,
    /// The keys that were opened, by the epoch's recipient.
    pub keys: BTreeMap<String, (EpochPublic, EpochKey)>,
    /// What could not be proven or read: of these snapshots nothing is claimed.
    pub problems: Vec<String>,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every snapshot is proven.
    Every,
    /// The newest of each epoch is proven; which snapshots belong to it is the node's word.
    Newest,
}

/// One epoch on the way.
struct Found {
    /// The lowest place in the order of acceptance.
    first: u64,
    state: EpochState,
    public: EpochPublic,
    key: Option<EpochKey>,
    tried: Vec<Blake3>,
}

/// Opens each epoch of `offered` once.
///
/// # Errors
/// When the place cannot be reached any more, or nobody's signature is trusted.
pub fn survey(recall: &Recall, identities: &IdentityFile, offered: &[Offered], depth: Depth, monitor: &dyn Monitor) -> Result<Survey> {
    let signers = recall.signers()?;
    let mut survey = Surveyor { recall, identities, signers, found: BTreeMap::new(), problems: Vec::new() };
    monitor.task("proving manifests", None);
    match depth {
        Depth::Every => {
            for one in offered {
                survey.look(one, &[one])?;
                monitor.entries(1);
            }
        }
        Depth::Newest => {
            let mut groups: BTreeMap<(&Name, &str), Vec<&Offered>> = BTreeMap::new();
            for one in offered {
                if let Some(epoch) = one.epoch.as_deref() {
                    groups.entry((&one.client, epoch)).or_default().push(one);
                }
            }
            for group in groups.values() {
                if let Some(newest) = group.iter().max_by_key(|one| one.order) {
                    survey.look(newest, group)?;
                    monitor.entries(1);
                }
            }
        }
    }
    Ok(survey.finish())
}

struct Surveyor<'a> {
    recall: &'a Recall,
    identities: &'a IdentityFile,
    signers: Signers,
    found: BTreeMap<(Name, String), Found>,
    problems: Vec<String>,
}

impl Surveyor<'_> {
    /// Proves `one` and counts `group` to its epoch.
    fn look(&mut self, one: &Offered, group: &[&Offered]) -> Result<()> {
        let manifest = match prove(&self.recall.source, one, &self.signers) {
            Ok(Proven { content: Content::Archive(manifest), .. }) => manifest,
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == Kind::NotNow => return Err(error),
            Err(error) => {
                self.problems.push(error.one_line());
                return Ok(());
            }
        };
        let public = manifest.public.epoch.clone();
        if group.len() > 1 && one.epoch.as_ref() != Some(&public.recipient) {
            self.problems.push(format!(
                "{} says that {} is of another epoch than its client signed",
                self.recall.source.name(),
                one.snapshot
            ));
            return Ok(());
        }
        let key = (one.client.clone(), public.recipient.clone());
        let found = self.found.entry(key).or_insert_with(|| Found {
            state: EpochState {
                client: one.client.clone(),
                epoch: public.recipient.clone(),
                recipients: public.recipients.clone(),
                since: one.received,
                until: one.received,
                snapshots: 0,
                opens: false,
                why: None,
                unopened: Vec::new(),
            },
            first: one.order,
            public: public.clone(),
            key: None,
            tried: Vec::new(),
        });
        for one in group {
            found.state.snapshots += 1;
            found.first = found.first.min(one.order);
            found.state.since = found.state.since.min(one.received);
            found.state.until = found.state.until.max(one.received);
        }
        // All manifests of an epoch carry the same key file, unless somebody plays with them.
        let digest = Blake3::of(public.key_file.as_bytes());
        if found.key.is_none() && !found.tried.contains(&digest) && found.tried.len() < TRIES {
            found.tried.push(digest);
            let added = || self.recall.source.packs(&one.client)?.key_files(&public.recipient);
            match open_epoch(&public, self.identities, &added) {
                Ok(key) => found.key = Some(key),
                Err(error) if error.kind() == Kind::NotNow => return Err(error),
                Err(error) => found.state.why = Some(error.one_line()),
            }
        }
        match (&found.key, sealed(&manifest, found.key.as_ref())) {
            (Some(_), Ok(())) => {}
            (Some(_), Err(error)) => {
                self.problems.push(format!("{}: {}", one.snapshot, error.one_line()));
                found.state.unopened.push(one.snapshot.clone());
            }
            (None, _) => found.state.unopened.extend(group.iter().map(|one| one.snapshot.clone())),
        }
        Ok(())
    }

    fn finish(self) -> Survey {
        let mut keys = BTreeMap::new();
        let mut epochs: Vec<(u64, EpochState)> = Vec::new();
        for mut found in self.found.into_values() {
            found.state.opens = found.key.is_some();
            if let Some(key) = found.key {
                found.state.why = None;
                keys.insert(found.state.epoch.clone(), (found.public, key));
            }
            epochs.push((found.first, found.state));
        }
        // By order of acceptance: several may come within one second.
        epochs.sort_by(|(a, one), (b, other)| (&one.client, a, &one.epoch).cmp(&(&other.client, b, &other.epoch)));
        let epochs = epochs.into_iter().map(|(_, epoch)| epoch).collect();
        Survey { epochs, keys, problems: self.problems }
    }
}

/// The epoch's key opens the manifest's sealed part.
fn sealed(manifest: &Manifest, key: Option<&EpochKey>) -> Result<()> {
    let key = key.ok_or_else(|| Error::failed("the epoch was not opened"))?;
    manifest.open(key).map(drop)
}
