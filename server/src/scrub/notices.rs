//! Notices: clients are asked, signed and once for each damage, to send again what they still have.
//!
//! Does not decide what is damaged. A notice is written down with its damage before it is sent, so that it is sent once.

use super::damage::{Entry, State, What};
use crate::node::Node;
use crate::poll::RECEIPTS_BRANCH;
use base::{Blake3, Dataset, Name, RequestId, Result};
use queue::notice::{DATASETS_BYTES, DATASETS_LIMIT, PACKS_LIMIT};
use queue::{Notice, Repository, Signer};
use std::collections::{BTreeMap, BTreeSet};

/// What one notice is to say.
#[derive(Debug, Default)]
struct Draft {
    packs: BTreeSet<Blake3>,
    datasets: BTreeSet<Dataset>,
}

impl Draft {
    /// With this damage in it as well, if that is not too much.
    fn with(&self, entry: &Entry) -> Option<Self> {
        let mut packs = self.packs.clone();
        packs.extend(pack_of(entry));
        let datasets: BTreeSet<Dataset> = self.datasets.iter().chain(&entry.datasets).cloned().collect();
        let bytes: usize = datasets.iter().map(|dataset| dataset.to_string().len()).sum();
        let fits = packs.len() <= PACKS_LIMIT && datasets.len() <= DATASETS_LIMIT && bytes <= DATASETS_BYTES;
        fits.then_some(Self { packs, datasets })
    }
}

fn pack_of(entry: &Entry) -> Option<Blake3> {
    if let What::Pack(digest) = entry.what { Some(digest) } else { None }
}

/// Gives every damage that a client can do something about its notice.
///
/// # Errors
/// When the system gives no random bytes.
pub fn prepare(state: &mut State) -> Result<()> {
    let mut open = (RequestId::generate()?, Draft::default());
    let mendable = |entry: &&mut Entry| entry.notice.is_none() && !entry.datasets.is_empty() && !matches!(entry.what, What::History(_));
    for entry in state.entries.iter_mut().filter(mendable) {
        let next = match open.1.with(entry) {
            Some(next) => next,
            None => {
                open.0 = RequestId::generate()?;
                // Alone it fits, unless its own names are too long; then some of its datasets must do.
                loop {
                    match Draft::default().with(entry) {
                        Some(next) => break next,
                        None => drop(entry.datasets.pop()),
                    }
                }
            }
        };
        open.1 = next;
        entry.notice = Some(open.0.clone());
    }
    Ok(())
}

/// Puts those notices on the branch of receipts that are not there.
///
/// # Errors
/// When the repository cannot be written.
pub fn send(node: &Node, client: &Name, signer: &Signer, state: &State) -> Result<()> {
    let mut notices: BTreeMap<&RequestId, Vec<&Entry>> = BTreeMap::new();
    for entry in &state.entries {
        if let Some(id) = &entry.notice {
            notices.entry(id).or_default().push(entry);
        }
    }
    if notices.is_empty() {
        return Ok(());
    }
    let receipts = Repository::open_or_create(&node.config.receipts_path(client), RECEIPTS_BRANCH)?;
    for (id, entries) in notices {
        if receipts.find_file(&queue::notice::notice_name(id))?.is_some() {
            continue;
        }
        let datasets: BTreeSet<Dataset> = entries.iter().flat_map(|entry| entry.datasets.iter().cloned()).collect();
        let reason = entries.first().map_or_else(String::new, |entry| match entries.len() {
            1 => format!("{}: {}", entry.what, entry.why),
            n => format!("{}: {}; and {} more", entry.what, entry.why, n - 1),
        });
        let notice = Notice {
            id: id.clone(),
            node: node.config.name.clone(),
            client: client.clone(),
            found: entries.iter().map(|entry| entry.first).min().unwrap_or_else(base::clock::now),
            packs: entries.iter().filter_map(|entry| pack_of(entry)).collect::<BTreeSet<_>>().into_iter().collect(),
            datasets: datasets.into_iter().collect(),
            reason,
        };
        notice.check()?;
        receipts.commit_files(&[(notice.file_name(), notice.to_toml())], &notice.message(), signer, node.config.name.as_str())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::damage::Found;
    use super::*;

    #[test]
    fn damage_is_told_once_and_in_pieces_that_can_be_read() {
        let id: RequestId = "20261120T031500Z-3f9a1c7e".parse().unwrap();
        let now = jiff::Timestamp::from_second(1).unwrap();
        let found = |n: u32| Found {
            what: What::Pack(Blake3::of(&n.to_le_bytes())),
            why: "x".into(),
            touches: vec![(format!("files:/{}", n % 150).parse().unwrap(), id.clone())],
        };
        let mut state = State::default();
        state.take_in(&(0..1000).map(found).collect::<Vec<_>>(), &[], now);
        state.take_in(&[found(1), Found { what: What::Mirror("m".into()), why: "x".into(), touches: vec![] }], &[], now);
        state.take_in(&(0..1000).map(found).collect::<Vec<_>>(), &[], now);
        prepare(&mut state).unwrap();
        let mut said: BTreeMap<RequestId, Draft> = BTreeMap::new();
        for entry in &state.entries {
            if let What::Mirror(_) = entry.what {
                assert!(entry.notice.is_none(), "nobody can send what belongs to nothing");
                continue;
            }
            let draft = said.entry(entry.notice.clone().unwrap()).or_default();
            *draft = draft.with(entry).expect("it fits");
        }
        assert!(said.len() >= 3);
        assert_eq!(said.values().map(|draft| draft.packs.len()).sum::<usize>(), 1000);
        let before = state.clone();
        prepare(&mut state).unwrap();
        assert_eq!(state, before);
    }
}
