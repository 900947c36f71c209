//! What is known of a group's restore point on its way: which requests belong to it, and how each of them ended.
//!
//! One file a group's request, `groups/<id>` in the state folder, from before the first member is read until the last one has its
//! answer.

use crate::outcome::{Ending, OutcomeFile};
use crate::state;
use base::config::client::ClientNode;
use base::config::{ClientConfig, GroupEntry};
use base::{At, Dataset, Error, Group, Name, RequestId, Result, atomic};
use serde::{Deserialize, Serialize};

/// The longest such file that is read.
const LIMIT: usize = 1 << 20;

/// One dataset of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The dataset.
    pub dataset: Dataset,
    /// Its request.
    pub request: RequestId,
    /// How that ended, once it has.
    pub ending: Option<Ending>,
    /// Why, where it is not stored.
    pub reason: Option<String>,
    /// How much of it could not be read.
    #[serde(default)]
    pub unreadable: u64,
}

/// The restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    version: i64,
    /// The request for the group, and the group's id in its members' requests.
    pub id: RequestId,
    /// The group's name.
    pub name: String,
    /// The node that is asked.
    pub node: Name,
    /// The members, in their order.
    pub members: Vec<Member>,
}

impl Point {
    /// A new one, with new requests.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(id: &RequestId, entry: &GroupEntry, node: &Name) -> Result<Self> {
        let member = |dataset: &Dataset| {
            let request = RequestId::generate()?;
            Ok(Member { dataset: dataset.clone(), request, ending: None, reason: None, unreadable: 0 })
        };
        let members = entry.members.iter().map(member).collect::<Result<_>>()?;
        Ok(Self { version: base::config::VERSION, id: id.clone(), name: entry.name.clone(), node: node.clone(), members })
    }

    /// What is known of the one with this id.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn load(config: &ClientConfig, id: &RequestId) -> Result<Option<Self>> {
        let path = state::group_path(config, id);
        if !path.exists() {
            return Ok(None);
        }
        let file = base::untrusted::read(&path, LIMIT)?;
        base::config::parse(&path.display().to_string(), &file.bytes).map(Some)
    }

    /// Those on their way to a node.
    ///
    /// # Errors
    /// With the path.
    pub fn all(config: &ClientConfig, node: &ClientNode) -> Result<Vec<Self>> {
        let folder = state::groups_folder(config);
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&folder).at("list", &folder)? {
            let name = entry.at("list", &folder)?.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.parse().ok()) {
                all.extend(Self::load(config, &id)?.filter(|point| point.node == node.name));
            }
        }
        Ok(all)
    }

    /// Writes it down.
    ///
    /// # Errors
    /// With the path.
    pub fn save(&self, config: &ClientConfig) -> Result<()> {
        let text = toml::to_string(self).map_err(|e| Error::failed("could not write down what belongs to a group").because(e))?;
        atomic::write(&state::group_path(config, &self.id), text.as_bytes(), 0o600)
    }

    /// Removes it: the group's request has ended.
    ///
    /// # Errors
    /// With the path.
    pub fn remove(&self, config: &ClientConfig) -> Result<()> {
        atomic::remove(&state::group_path(config, &self.id))
    }

    /// Whether it is of these datasets, in this order.
    pub fn is_of(&self, entry: &GroupEntry) -> bool {
        self.name == entry.name && self.members.iter().map(|member| &member.dataset).eq(&entry.members)
    }

    /// What the members' requests say of it; `lacks` are the places of those that have no request.
    pub fn group(&self, lacks: &[usize]) -> Group {
        Group {
            id: self.id.clone(),
            name: self.name.clone(),
            members: self.members.iter().map(|member| member.dataset.clone()).collect(),
            lacks: lacks.iter().map(|i| self.members[*i].dataset.clone()).collect(),
        }
    }

    /// Takes in how a member's request ended; true when it is one of these.
    pub fn ended(&mut self, outcome: &OutcomeFile) -> bool {
        let Some(member) = self.members.iter_mut().find(|member| member.request == outcome.id) else { return false };
        member.ending = Some(outcome.outcome);
        member.reason.clone_from(&outcome.reason);
        member.unreadable = outcome.unreadable;
        true
    }

    /// How the group's request ended, once all members have: it is stored when all are. A group that lacks one is no restore point
    /// that somebody may rely on.
    pub fn outcome(&self, subject: &Dataset) -> Option<OutcomeFile> {
        let endings: Vec<Ending> = self.members.iter().map(|member| member.ending).collect::<Option<_>>()?;
        let bad: Vec<&Member> = self.members.iter().filter(|member| member.ending != Some(Ending::Stored)).collect();
        let words = |member: &&Member| {
            let ending = member.ending.map_or("unanswered", Ending::words);
            let why = member.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("{} {ending}{why}", member.dataset)
        };
        let ending = if bad.is_empty() {
            Ending::Stored
        } else if endings.iter().all(|ending| *ending == Ending::Refused) {
            Ending::Refused
        } else {
            Ending::Failed
        };
        let mut outcome = OutcomeFile::new(&self.id, subject, &self.node, ending);
        outcome.unreadable = self.members.iter().map(|member| member.unreadable).sum();
        if bad.is_empty() {
            outcome.snapshot = Some(self.id.to_string());
            return Some(outcome);
        }
        let stored = endings.len() - bad.len();
        let why = bad.iter().map(words).collect::<Vec<_>>().join("; ");
        Some(outcome.because(format!("incomplete, {stored} of {} stored: {why}", endings.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_ends_with_its_last_member() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "version = 1\nstate = \"{}\"\n[[node]]\nname = \"n1\"\nssh = \"g@h\"\nhost_key = \"k\"\nreceipts_key = \"k\"\n\
             [[group]]\nname = \"shop\"\nmembers = [\"files:/a\", \"postgres:shop\"]",
            dir.path().display()
        );
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        std::fs::create_dir(dir.path().join("groups")).unwrap();
        let (entry, node, subject) = (&config.groups[0], &config.nodes[0], config.groups[0].subject().unwrap());
        let mut point = Point::new(&RequestId::generate().unwrap(), entry, &node.name).unwrap();
        point.save(&config).unwrap();
        assert_eq!(Point::load(&config, &point.id).unwrap().as_ref(), Some(&point));
        assert!(point.is_of(entry));
        let ended = |i: usize, ending| {
            let member: &Member = &point.members[i];
            OutcomeFile::new(&member.request, &member.dataset, &node.name, ending)
        };
        let (good, bad) = (ended(0, Ending::Stored), ended(1, Ending::Failed).because("no such database"));
        let fine = ended(1, Ending::Stored);
        assert!(point.ended(&good) && point.outcome(&subject).is_none());
        assert!(!point.ended(&OutcomeFile::new(&RequestId::generate().unwrap(), &subject, &node.name, Ending::Stored)));
        assert!(point.ended(&bad));
        point.save(&config).unwrap();
        let outcome = Point::all(&config, node).unwrap()[0].outcome(&subject).unwrap();
        assert_eq!(outcome.outcome, Ending::Failed);
        assert_eq!(outcome.reason.as_deref(), Some("incomplete, 1 of 2 stored: postgres:shop failed: no such database"));
        point.ended(&fine);
        let outcome = point.outcome(&subject).unwrap();
        assert_eq!((outcome.outcome, outcome.snapshot.as_deref()), (Ending::Stored, Some(point.id.as_str())));
        let group = point.group(&[1]);
        group.check(&point.members[0].dataset).unwrap();
        assert_eq!(group.lacks, [point.members[1].dataset.clone()]);
        point.remove(&config).unwrap();
        assert!(Point::load(&config, &point.id).unwrap().is_none());
    }
}
