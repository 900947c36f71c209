//! Our queue for one node: what was asked for so far, and the next request's number and predecessor.
//!
//! Works on local git objects alone. What the node has of it is the courier's business.

use super::plan::Unsent;
use base::config::ClientConfig;
use base::{Blake3, Dataset, Error, Group, Kind, Name, Payload, Reason, RequestId, Result, atomic};
use jiff::Timestamp;
use queue::repository::{CommitFiles, Repository};
use queue::request::{FILE_LIMIT, Request, attachment_name, request_name};
use queue::signature::Signer;
use std::path::{Path, PathBuf};

/// The branch of queues.
pub const BRANCH: &str = "requests";

/// A prepared request that has no number yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The request's id.
    pub id: RequestId,
    /// What is to be kept.
    pub dataset: Dataset,
    /// Our clock when it was prepared.
    pub submitted: Timestamp,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: Reason,
    /// Tags of the submitter.
    pub tags: Vec<String>,
    /// The digest that the signature is to cover.
    pub payload: Payload,
    /// Packs that were lost at the node, and of which it brings again what there still was.
    pub repairs: Vec<Blake3>,
    /// What travels with it.
    pub attachment: Option<Vec<u8>>,
    /// The group whose restore point it is part of.
    pub group: Option<Group>,
}

/// The queue for one node.
#[derive(Debug)]
pub struct Outbox {
    repository: Repository,
    path: PathBuf,
    client: Name,
    node: Name,
}

impl Outbox {
    /// Opens the queue for `node`, or makes an empty one.
    ///
    /// # Errors
    /// When the repository is damaged.
    pub fn open(config: &ClientConfig, client: &Name, node: &Name) -> Result<Self> {
        let path = config.queue_path(node);
        let repository = Repository::open_or_create(&path, BRANCH)?;
        Ok(Self { repository, path, client: client.clone(), node: node.clone() })
    }

    /// The repository's folder, for git's network steps.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The newest commit.
    ///
    /// # Errors
    /// When the repository is damaged.
    pub fn tip(&self) -> Result<Option<String>> {
        self.repository.tip()
    }

    /// The bytes of the request `id`, if it is in the queue.
    ///
    /// # Errors
    /// When the repository is damaged.
    pub fn request_bytes(&self, id: &RequestId) -> Result<Option<Vec<u8>>> {
        Ok(self.repository.find_file(&request_name(id)).map_err(|error| self.or_move_away(error))?.map(|found| found.bytes))
    }

    /// Whether the node was ever asked to keep this dataset.
    ///
    /// # Errors
    /// When the repository is damaged.
    pub fn was_asked(&self, dataset: &Dataset) -> Result<bool> {
        Ok(self.repository.last_request(dataset)?.is_some())
    }

    /// Signs a request with the next number and adds it to the queue.
    ///
    /// # Errors
    /// When it cannot be written or signed.
    pub fn commit(&mut self, draft: &Draft, signer: &Signer) -> Result<Request> {
        let mut requests = self.commit_together(std::slice::from_ref(draft), signer)?;
        requests.pop().ok_or_else(|| Error::failed("nothing was to be asked for"))
    }

    /// As [`Outbox::commit`], of requests for different datasets: all of them are in the queue then, or none.
    ///
    /// # Errors
    /// When one cannot be written or signed.
    pub fn commit_together(&mut self, drafts: &[Draft], signer: &Signer) -> Result<Vec<Request>> {
        let last = self.repository.last_seq()?;
        let (mut requests, mut files) = (Vec::new(), Vec::new());
        for (draft, number) in drafts.iter().zip(1u64..) {
            let request = Request {
                id: draft.id.clone(),
                client: self.client.clone(),
                node: self.node.clone(),
                dataset: draft.dataset.clone(),
                seq: last.checked_add(number).ok_or_else(|| Error::failed("the queue's numbers are used up"))?,
                prev: self.repository.last_request(&draft.dataset)?,
                submitted: draft.submitted,
                by: Request::fit_by(&draft.by),
                reason: draft.reason,
                tags: draft.tags.clone(),
                payload: draft.payload,
                repairs: draft.repairs.clone(),
                group: draft.group.clone(),
            };
            request.check()?;
            files.push((request.file_name(), request.to_toml()));
            if let Some(bytes) = &draft.attachment {
                files.push((request.attachment_name(), bytes.clone()));
            }
            requests.push(request);
        }
        self.repository.commit_files(&files, &queue::message::of_requests(&requests), signer, self.client.as_str())?;
        Ok(requests)
    }

    /// The commits that the node lacks when it is at `accepted`, the oldest first.
    ///
    /// # Errors
    /// When `accepted` is not part of the queue.
    pub fn unsent(&self, accepted: Option<&str>) -> Result<Vec<Unsent>> {
        let size = |commit: &CommitFiles| commit.entries.iter().map(|entry| entry.size).sum();
        Ok(self.after(accepted)?.iter().map(|commit| Unsent { oid: commit.oid.clone(), size: size(commit) }).collect())
    }

    /// Whether `oid` is a commit of the queue.
    pub fn contains(&self, oid: &str) -> bool {
        let Ok(Some(tip)) = self.tip() else { return false };
        self.repository.walk(Some(oid), &tip).is_ok()
    }

    /// The requests after `accepted`, without their numbers.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn drafts(&self, accepted: Option<&str>) -> Result<Vec<Draft>> {
        let mut drafts = Vec::new();
        for commit in self.after(accepted)? {
            for request in self.requests(&commit)? {
                let name = attachment_name(&request.id);
                let attachment = commit.entries.iter().find(|entry| entry.name == name.as_bytes());
                let attachment = attachment.map(|entry| self.repository.blob(&entry.oid, FILE_LIMIT)).transpose()?;
                drafts.push(Draft {
                    id: request.id,
                    dataset: request.dataset,
                    submitted: request.submitted,
                    by: request.by,
                    reason: request.reason,
                    tags: request.tags,
                    payload: request.payload,
                    repairs: request.repairs,
                    attachment,
                    group: request.group,
                });
            }
        }
        Ok(drafts)
    }

    /// Begins anew at `accepted`, which the node has, and puts `drafts` on top. A crash in the middle loses none: what
    /// is not in the queue is found as a request in process, and prepared again.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn rebuild(&mut self, accepted: Option<&str>, drafts: &[Draft], signer: &Signer) -> Result<()> {
        match accepted {
            Some(oid) => self.repository.reset_to(oid)?,
            // The node has nothing, so there is nothing to keep.
            None => {
                atomic::remove_tree(&self.path)?;
                self.repository = Repository::open_or_create(&self.path, BRANCH)?;
            }
        }
        for draft in drafts {
            // The same request may be in what the node has: then it was accepted after all.
            if self.request_bytes(&draft.id)?.is_none() {
                self.commit(draft, signer)?;
            }
        }
        Ok(())
    }

    /// A damaged queue is no loss: the node has all of it that counts.
    fn or_move_away(&self, error: Error) -> Error {
        if error.kind() != Kind::Failed {
            return error;
        }
        let path = self.path.display();
        error.hint(format!("git -C {path} fsck says more. Moved away, the queue comes back from the node with the next send."))
    }

    fn after(&self, accepted: Option<&str>) -> Result<Vec<CommitFiles>> {
        match self.tip()? {
            None => Ok(Vec::new()),
            Some(tip) if Some(tip.as_str()) == accepted => Ok(Vec::new()),
            Some(tip) => self.repository.commits(accepted, &tip).map_err(|error| self.or_move_away(error)),
        }
    }

    fn requests(&self, commit: &CommitFiles) -> Result<Vec<Request>> {
        let names = commit.entries.iter().filter(|entry| entry.name.starts_with(b"RQ"));
        names.map(|entry| self.repository.blob(&entry.oid, FILE_LIMIT).and_then(|bytes| Request::parse(&bytes))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssh_key::private::{Ed25519Keypair, KeypairData};

    fn draft(dataset: &str, attachment: Option<&[u8]>) -> Draft {
        Draft {
            id: RequestId::generate().unwrap(),
            dataset: dataset.parse().unwrap(),
            submitted: base::clock::now(),
            by: "git".into(),
            reason: Reason::Hook,
            tags: vec!["a".into()],
            payload: Payload::Nothing,
            repairs: Vec::new(),
            group: None,
            attachment: attachment.map(<[u8]>::to_vec),
        }
    }

    fn outbox(folder: &Path) -> (Outbox, Signer) {
        let text = format!("version = 1\nstate = \"{}\"", folder.display());
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        let key = ssh_key::PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[7; 32])), "web1").unwrap();
        let path = folder.join("key");
        atomic::write(&path, key.to_openssh(ssh_key::LineEnding::LF).unwrap().as_bytes(), 0o600).unwrap();
        let name = |text: &str| Name::new(text).unwrap();
        (Outbox::open(&config, &name("web1"), &name("node1")).unwrap(), Signer::from_file(&path).unwrap())
    }

    #[test]
    fn numbers_and_predecessors_follow_the_history() {
        let dir = tempfile::tempdir().unwrap();
        let (mut outbox, signer) = outbox(dir.path());
        assert!(outbox.unsent(None).unwrap().is_empty());
        let all = [draft("files:/a", Some(b"x")), draft("files:/b", None), draft("files:/a", None)];
        let made: Vec<Request> = all.iter().map(|draft| outbox.commit(draft, &signer).unwrap()).collect();
        assert_eq!(made.iter().map(|request| request.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((made[1].prev.as_ref(), made[2].prev.as_ref()), (None, Some(&made[0].id)));
        assert_eq!(outbox.drafts(None).unwrap(), all);
        let unsent = outbox.unsent(None).unwrap();
        assert!(unsent.len() == 3 && unsent[0].size > unsent[1].size);
        assert_eq!(outbox.unsent(Some(&unsent[1].oid)).unwrap(), unsent[2..]);
        assert!(outbox.contains(&unsent[0].oid) && !outbox.contains(&"0".repeat(40)));
        assert!(outbox.unsent(Some(&"1".repeat(40))).is_err());
    }

    #[test]
    fn a_group_comes_together_and_may_be_built_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (mut outbox, signer) = outbox(dir.path());
        outbox.commit(&draft("files:/a", None), &signer).unwrap();
        let members: Vec<Dataset> = vec!["files:/a".parse().unwrap(), "files:/b".parse().unwrap()];
        let group = Group { id: RequestId::generate().unwrap(), name: "shop".into(), members, lacks: Vec::new() };
        let all = [("files:/a", Some(&b"x"[..])), ("files:/b", None)]
            .map(|(dataset, with)| Draft { group: Some(group.clone()), ..draft(dataset, with) });
        let made = outbox.commit_together(&all, &signer).unwrap();
        assert_eq!((made[0].seq, made[1].seq, made[0].prev.is_some(), made[1].prev.is_some()), (2, 3, true, false));
        let first = outbox.unsent(None).unwrap();
        assert_eq!(first.len(), 2);
        // In the order of their names within the commit.
        let mut drafts = outbox.drafts(Some(&first[0].oid)).unwrap();
        drafts.sort_by_key(|draft| draft.dataset.clone());
        assert_eq!(drafts, all);
        outbox.rebuild(Some(&first[0].oid), &drafts, &signer).unwrap();
        assert_eq!(outbox.drafts(Some(&first[0].oid)).unwrap(), all);
    }

    #[test]
    fn what_was_not_accepted_is_built_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (mut outbox, signer) = outbox(dir.path());
        let all = [draft("files:/a", None), draft("files:/b", None), draft("files:/a", Some(b"y"))];
        for draft in &all {
            outbox.commit(draft, &signer).unwrap();
        }
        let first = outbox.unsent(None).unwrap()[0].oid.clone();
        // The second is refused by itself; the third follows the first.
        let rest = outbox.drafts(Some(&first)).unwrap();
        outbox.rebuild(Some(&first), &rest[1..], &signer).unwrap();
        assert_eq!(outbox.drafts(None).unwrap(), [all[0].clone(), all[2].clone()]);
        let last = Request::parse(&outbox.request_bytes(&all[2].id).unwrap().unwrap()).unwrap();
        assert_eq!((last.seq, last.prev.as_ref()), (2, Some(&all[0].id)));
        assert_eq!(outbox.request_bytes(&all[1].id).unwrap(), None);
        // What the node has already is not asked for twice.
        outbox.rebuild(Some(&first), &all, &signer).unwrap();
        assert_eq!(outbox.drafts(None).unwrap().len(), 3);
        outbox.rebuild(None, &all[1..], &signer).unwrap();
        assert_eq!(outbox.drafts(None).unwrap(), all[1..]);
    }
}
