//! What a restorer is told of the snapshots on a node: one JSON object for each.
//!
//! Reads what the node wrote down at acceptance and proves nothing; who restores checks the signed commit beside it.

use crate::access::RestorerGrant;
use base::{ACCEPTED_LIMIT, Accepted, At, Dataset, Name, RequestId, Result, untrusted};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The name of the list in a restorer's sftp session, where it reads as the command of this name prints it.
pub const FILE: &str = "list";

/// One snapshot, as `list` prints it. Readers pass over fields that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedSnapshot {
    /// Whose data it is.
    pub client: Name,
    /// What was kept.
    pub dataset: Dataset,
    /// The dataset's module, for those who only look.
    pub module: String,
    /// The snapshot's name: the request's id.
    pub snapshot: RequestId,
    /// The request's number, as the client counts.
    pub seq: u64,
    /// The client's clock.
    pub submitted: Timestamp,
    /// The node's clock at acceptance.
    pub received: Timestamp,
    /// Counts up for each client; order is told by this alone.
    pub order: u64,
    /// The data's own size; 0 for git.
    pub bytes: u64,
    /// How many packs the manifest names; 0 for git.
    pub packs: u64,
    /// How much the client could not read.
    #[serde(default)]
    pub unreadable: u64,
    /// The recipient of the epoch that an archive is sealed to.
    #[serde(default)]
    pub epoch: Option<String>,
    /// Packs that were lost, and of which it claims to bring again what the client still had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<base::Blake3>,
    /// The group whose restore point it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<base::Group>,
}

/// A row of what `list` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "nearly all are snapshots")]
pub enum Listed {
    /// A snapshot.
    Snapshot(ListedSnapshot),
    /// A snapshot of which the node cannot read its own note.
    Damaged(DamagedSnapshot),
}

impl Listed {
    /// The snapshot, unless it is damaged.
    pub fn snapshot(self) -> Option<ListedSnapshot> {
        match self {
            Self::Snapshot(snapshot) => Some(snapshot),
            Self::Damaged(_) => None,
        }
    }
}

/// A snapshot that cannot be offered. The others are; but what is newest is not known for sure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedSnapshot {
    /// Whose it is.
    pub client: String,
    /// The snapshot's name.
    pub snapshot: String,
    /// What is wrong with it.
    pub damaged: String,
}

impl From<Accepted> for ListedSnapshot {
    fn from(accepted: Accepted) -> Self {
        Self {
            module: accepted.dataset.module().into(),
            client: accepted.client,
            dataset: accepted.dataset,
            snapshot: accepted.id,
            seq: accepted.seq,
            submitted: accepted.submitted,
            received: accepted.received,
            order: accepted.order,
            bytes: accepted.bytes,
            packs: accepted.packs,
            unreadable: accepted.unreadable,
            epoch: accepted.epoch,
            repairs: accepted.repairs,
            group: accepted.group,
        }
    }
}

/// The snapshots of one client, oldest first, from its folder in the node's data, and then those whose note is damaged.
/// Folders that are no snapshots are passed over.
///
/// # Errors
/// With the path.
pub fn of_client(client: &Name, client_folder: &Path) -> Result<(Vec<ListedSnapshot>, Vec<DamagedSnapshot>)> {
    let folder = client_folder.join("snapshots");
    let names = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        other => other.at("list", &folder)?,
    };
    let (mut listed, mut damaged) = (Vec::<ListedSnapshot>::new(), Vec::new());
    for entry in names {
        let name = entry.at("list", &folder)?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<RequestId>().ok()).filter(|id| id.part().is_none()) else {
            continue;
        };
        let path = folder.join(&name).join("accepted.toml");
        let bytes = match untrusted::read(&path, ACCEPTED_LIMIT) {
            Ok(found) => found.bytes,
            // It was pruned in this moment.
            Err(_) if !path.exists() => continue,
            Err(error) => return Err(error),
        };
        // One bad file does not take the others' restore away.
        match Accepted::parse("accepted.toml", &bytes) {
            Ok(accepted) if accepted.id == id => listed.push(accepted.into()),
            Ok(_) => {}
            Err(error) => {
                damaged.push(DamagedSnapshot { client: client.to_string(), snapshot: id.to_string(), damaged: error.one_line() });
            }
        }
    }
    listed.sort_by_key(|snapshot| snapshot.order);
    Ok((listed, damaged))
}

/// The snapshots that `grant` lets somebody read, of all clients below the node's `data`. Of which dataset a damaged one is,
/// is not known: whoever reads something of that client is told of it.
///
/// # Errors
/// With the path.
pub fn granted(data: &Path, grant: &RestorerGrant) -> Result<Vec<Listed>> {
    let mut clients: Vec<&Name> = grant.read.iter().map(|(client, _)| client).collect();
    clients.sort();
    clients.dedup();
    let mut all = Vec::new();
    for client in clients {
        let (listed, damaged) = of_client(client, &data.join(client.as_str()))?;
        let granted = listed.into_iter().filter(|one| one.client == *client && grant.reads(client, &one.dataset));
        all.extend(granted.map(Listed::Snapshot).chain(damaged.into_iter().map(Listed::Damaged)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::DatasetPattern;

    fn put(data: &Path, client: &str, n: u32, dataset: &str) {
        let id = format!("20261120T031500Z-{n:08x}");
        let folder = data.join(client).join("snapshots").join(&id);
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "version = 1\nid = \"{id}\"\nclient = \"{client}\"\ndataset = \"{dataset}\"\nseq = {n}\nsubmitted = 2026-11-20T03:15:00Z\nreceived = 2026-11-20T03:16:00Z\n\
             order = {}\nbytes_fetched = 1\nbytes_stored = 1\nseconds = 0\nbytes = 5\npacks = 1\nunreadable = 0\n",
            100 - n
        );
        std::fs::write(folder.join("accepted.toml"), text).unwrap();
    }

    #[test]
    fn what_is_granted_is_listed_in_order() {
        let data = tempfile::tempdir().unwrap();
        for n in 1..4 {
            put(data.path(), "web1", n, "files:/var/www");
        }
        put(data.path(), "web1", 9, "postgres:shop");
        put(data.path(), "web2", 1, "files:/");
        std::fs::create_dir_all(data.path().join("web1/snapshots/.tmp-1")).unwrap();
        std::fs::create_dir_all(data.path().join("web1/snapshots/20261120T031500Z-ffffffff")).unwrap();
        let name = |text: &str| Name::new(text).unwrap();
        let read = |patterns: &[(&str, &str)]| RestorerGrant {
            keys: vec![],
            key_files: vec![],
            read: patterns.iter().map(|(client, pattern)| (name(client), DatasetPattern::new(*pattern).unwrap())).collect(),
        };
        let listed = |patterns: &[(&str, &str)]| granted(data.path(), &read(patterns)).unwrap();
        let seq = |row: Listed| row.snapshot().map(|snapshot| snapshot.seq);
        let seqs = |patterns: &[(&str, &str)]| listed(patterns).into_iter().filter_map(seq).collect::<Vec<_>>();
        assert_eq!(seqs(&[("web1", "files:/**")]), [3, 2, 1]);
        assert_eq!(seqs(&[("web1", "*"), ("web1", "files:/**")]), [9, 3, 2, 1]);
        assert_eq!(seqs(&[("web2", "*"), ("web3", "*")]), [1]);
        assert!(seqs(&[]).is_empty());
        // A note that is cut off is told of, and the others are offered.
        let damaged = "20261120T031500Z-00000002";
        std::fs::write(data.path().join("web1/snapshots").join(damaged).join("accepted.toml"), "version = 1\nid =").unwrap();
        assert_eq!(seqs(&[("web1", "files:/**")]), [3, 1]);
        let told = listed(&[("web1", "files:/**")]).pop().unwrap();
        assert!(matches!(&told, Listed::Damaged(one) if one.snapshot == damaged && one.damaged.contains("line 2")), "{told:?}");
        assert_eq!(toml::from_str::<Listed>(&toml::to_string(&told).unwrap()).unwrap(), told);
        let one = &of_client(&name("web2"), &data.path().join("web2")).unwrap().0[0];
        let text = toml::to_string(one).unwrap();
        assert_eq!(&toml::from_str::<ListedSnapshot>(&(text + "more = 1\n")).unwrap(), one);
    }
}
