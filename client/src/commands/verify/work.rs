//! Checking one proven snapshot after the other; packs that several share are read once.
//!
//! Does not know how results are shown.

use super::report::{Row, State};
use crate::recall::Recall;
use crate::recall::choose::Offered;
use crate::recall::history::Signed;
use crate::recall::proof::{self, Content, Signers, prove_content};
use archive::PackSource;
use archive::epoch::IdentityFile;
use archive::manifest::{Manifest, PackRef};
use archive::snapshot::SnapshotReader;
use archive::verify::{Known, ProvenPacks, Sample, VerifySpec, touched, verify};
use base::{At, Blake3, Error, Kind, Monitor, Name, RequestId, Result};
use modules::{Destination, FileOptions, MirrorLimit, RestoreContext, RestoreSource};
use show::progress::Progress;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// Checks snapshots of one source.
pub(super) struct Worker<'a> {
    recall: &'a Recall,
    /// All that is offered, and whose word counts.
    offered: &'a [Offered],
    signers: &'a Signers,
    identities: Option<&'a IdentityFile>,
    sample: Option<Sample>,
    remote: bool,
    progress: &'a Progress,
    packs: HashMap<Name, Arc<ProvenPacks>>,
    known: HashMap<Name, Known>,
    repairs: HashMap<Name, Vec<Repair>>,
}

/// What a client has signed for: that a snapshot brings again what it still had of lost packs.
#[derive(Clone)]
struct Repair {
    snapshot: RequestId,
    of: Vec<Blake3>,
    packs: Vec<PackRef>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(recall: &'a Recall, offered: &'a [Offered], signers: &'a Signers, progress: &'a Progress) -> Self {
        let (packs, known, repairs) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { recall, offered, signers, identities: None, sample: None, remote: false, progress, packs, known, repairs }
    }

    /// With a keyholder's keys, a share, or the ciphertext alone.
    pub(super) fn with(self, identities: Option<&'a IdentityFile>, sample: Option<Sample>, remote: bool) -> Self {
        Self { identities, sample, remote, ..self }
    }

    /// Proves what the request leads to and checks it.
    ///
    /// # Errors
    /// Of kind not-now when the source cannot be reached for now; any other means that nothing of it was proven.
    pub(super) fn check(&mut self, one: &Signed) -> Result<Row> {
        let begun = Instant::now();
        let proven = prove_content(&self.recall.source, &one.offered, one.claim.clone())?;
        let mut row = Row::of(one, State::Whole, String::new());
        match proven.content {
            Content::Archive(manifest) => self.archive(*manifest, &mut row)?,
            Content::Refs(refs) => self.mirror(one, refs, &mut row)?,
            Content::Nothing => row.checked = "signature",
        }
        row.seconds = begun.elapsed().as_secs();
        Ok(row)
    }

    fn source(&mut self, client: &Name) -> Result<Arc<ProvenPacks>> {
        if let Some(packs) = self.packs.get(client) {
            return Ok(Arc::clone(packs));
        }
        let packs = Arc::new(ProvenPacks::new(self.recall.source.packs(client)?));
        self.packs.insert(client.clone(), Arc::clone(&packs));
        Ok(packs)
    }

    fn archive(&mut self, manifest: Manifest, row: &mut Row) -> Result<()> {
        let public = manifest.public.clone();
        let packs = self.source(&public.client)?;
        let drawn = self.sample.map(|sample| sample.draw(public.packs.iter().map(|pack| pack.digest)));
        let looked_into: Vec<PackRef> =
            public.packs.iter().copied().filter(|pack| drawn.as_ref().is_none_or(|drawn| drawn.contains(&pack.digest))).collect();
        (row.packs, row.packs_checked) = (public.packs.len() as u64, looked_into.len() as u64);
        let reader =
            self.identities.map(|identities| SnapshotReader::open(manifest, identities, Arc::clone(&packs) as Arc<dyn PackSource>));
        let reader = match reader {
            Some(Ok(reader)) => Some(reader),
            Some(Err(error)) if error.kind() == Kind::NotNow => return Err(error),
            // Asked for the ciphertext alone, a key that does not fit is no fault.
            Some(Err(_)) | None if self.remote => None,
            Some(Err(error)) => {
                let why = error.context("the identity does not open it; its ciphertext was checked").one_line();
                row.worsen(State::Unopened, vec![why]);
                None
            }
            None => None,
        };
        if self.remote || reader.is_none() {
            row.checked = if drawn.is_some() { "sample of ciphertext" } else { "ciphertext" };
            self.progress.task("verifying ciphertext", Some(looked_into.iter().map(|pack| pack.size).sum()));
            let mut bad = packs.check(&looked_into, self.progress)?;
            row.bytes = looked_into.iter().filter(|pack| bad.iter().all(|(digest, _)| *digest != pack.digest)).map(|pack| pack.size).sum();
            let claimed = self.claimed(&public.client, &packs, &mut bad)?;
            if !bad.is_empty() || claimed.is_empty() || reader.is_none() {
                row.worsen(State::Claimed, claimed);
                return ciphertext(&bad, reader.as_ref(), row);
            }
            // Whoever has the key need not believe it.
        }
        if let Some(reader) = reader {
            let known = self.known.entry(public.client.clone()).or_default();
            let spec = VerifySpec { packs: Some(&packs), drawn: drawn.as_ref(), known, monitor: self.progress };
            let report = verify(&reader, spec)?;
            row.checked = if drawn.is_some() { "sample" } else { "content" };
            (row.entries, row.files, row.files_right, row.bytes) = (report.entries, report.files, report.right, report.bytes);
            row.damage(report.problems, report.damaged);
        }
        Ok(())
    }

    /// Takes those packs out of `bad` of which the client has signed that it brought again what it still had of them, where that is
    /// here; and says so of each. Whether it was all that was in them only the key can tell.
    fn claimed(&mut self, client: &Name, packs: &ProvenPacks, bad: &mut Vec<(Blake3, String)>) -> Result<Vec<String>> {
        let mut said = Vec::new();
        if bad.is_empty() {
            return Ok(said);
        }
        let (mut left, progress) = (Vec::new(), self.progress);
        for (pack, why) in bad.drain(..) {
            let mut brought = None;
            for repair in self.repairs(client)?.iter().filter(|repair| repair.of.contains(&pack)) {
                if packs.check(&repair.packs, progress)?.is_empty() {
                    brought = Some(repair.snapshot.clone());
                    break;
                }
            }
            match brought {
                Some(snapshot) => said.push(format!(
                    "pack {pack} is lost ({why}), and {snapshot} brings again what the client still had of it; whether that is all is seen with --identity alone"
                )),
                None => left.push((pack, why)),
            }
        }
        *bad = left;
        Ok(said)
    }

    /// The repairs of a client's for which it has signed, the newest first. What a node says of them is no reason to believe it.
    fn repairs(&mut self, client: &Name) -> Result<&[Repair]> {
        if !self.repairs.contains_key(client) {
            let mut offered: Vec<&Offered> = self.offered.iter().filter(|one| one.client == *client && !one.repairs.is_empty()).collect();
            offered.sort_by_key(|one| std::cmp::Reverse(one.order));
            let mut found = Vec::new();
            for one in offered {
                let proven =
                    proof::claim(&self.recall.source, one, self.signers).and_then(|claim| prove_content(&self.recall.source, one, claim));
                let manifest = match proven.map(|proven| proven.content) {
                    Ok(Content::Archive(manifest)) => manifest,
                    Ok(_) => continue,
                    Err(error) if error.kind() == Kind::NotNow => return Err(error),
                    Err(error) => {
                        tracing::warn!("the repair {} is passed over: {}", one.snapshot, error.one_line());
                        continue;
                    }
                };
                let public = manifest.public;
                if let Some(repairs) = public.repairs {
                    let packs = public.packs.into_iter().filter(|pack| repairs.packs.contains(&pack.digest)).collect();
                    found.push(Repair { snapshot: one.snapshot.clone(), of: repairs.of, packs });
                }
            }
            self.repairs.insert(client.clone(), found);
        }
        Ok(self.repairs.get(client).map_or(&[], Vec::as_slice))
    }

    /// Clones the repository at the signed refs, which reads, hashes and connects all objects, and removes the clone.
    fn mirror(&mut self, one: &Signed, refs: Vec<u8>, row: &mut Row) -> Result<()> {
        let claim = &one.claim;
        if let Some(sample) = &self.sample {
            let name = |dataset: &base::Dataset| Blake3::of(dataset.to_string().as_bytes());
            let all = self.recall.source.list_telling(&base::Silent)?;
            let drawn = sample.draw(all.iter().filter(|other| other.module == one.offered.module).map(|other| name(&other.dataset)));
            if !drawn.contains(&name(&claim.dataset)) {
                row.checked = "signed refs (not drawn)";
                return Ok(());
            }
        }
        row.checked = "refs and objects";
        let scratch = tempfile::Builder::new().prefix("nightsafe-verify-").tempdir().at("make a folder in", std::env::temp_dir())?;
        let target = scratch.path().join("clone");
        let module = modules::restoring_module(self.recall.config.as_ref(), claim.dataset.module())?;
        let context = RestoreContext {
            config: self.recall.config.as_ref(),
            dataset: &claim.dataset,
            paths: &[],
            to: Destination::Folder(&target),
            files: FileOptions::default(),
            tables: &[],
            globals: false,
            no_command: true,
            limit: MirrorLimit::Scratch,
            monitor: self.progress,
        };
        let from = self.recall.source.mirror(&claim.client, &claim.dataset);
        match module.restore(&context, RestoreSource::Mirror { from, snapshot: claim.id.clone(), refs }) {
            Ok(report) => {
                (row.entries, row.bytes) = (report.entries, report.bytes);
                row.damage(report.problems, Vec::new());
            }
            Err(error) if error.kind() == Kind::NotNow => return Err(error),
            // Of one clone alone: the others may have room.
            Err(error) if error.kind() == Kind::Usage => {
                row.checked = "signed refs";
                row.worsen(State::Unopened, vec![error.one_line()]);
            }
            Err(error) => row.damage(vec![error.one_line()], Vec::new()),
        }
        scratch.close().map_err(|e| Error::failed("the clone that was checked cannot be removed").because(e))
    }
}

/// Says which packs are bad, and with the key which files that touches.
fn ciphertext(bad: &[(Blake3, String)], reader: Option<&SnapshotReader>, row: &mut Row) -> Result<()> {
    if bad.is_empty() {
        return Ok(());
    }
    let mut problems: Vec<String> = bad.iter().map(|(digest, why)| format!("pack {digest} is damaged or missing: {why}")).collect();
    let mut damaged = Vec::new();
    match reader {
        Some(reader) => {
            let report = touched(reader, &bad.iter().map(|(digest, _)| *digest).collect::<HashSet<_>>())?;
            problems.extend(report.damaged.iter().map(|path| format!("{path} needs a pack that is damaged or missing")));
            problems.extend(report.problems);
            damaged = report.damaged;
        }
        None => problems.push("which files that touches is seen with --identity alone".into()),
    }
    row.damage(problems, damaged);
    Ok(())
}
