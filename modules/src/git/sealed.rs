//! A repository as an encrypted archive: a chain of bundles and the list of refs, for nodes that must see neither.
//!
//! One bundle of everything would be another one after each push: git puts what is new at the front and next to what it
//! resembles, so that little of it deduplicates (measured: a push of three lines to a repository of 760 KB costs 560 to 760 KB).
//! Here the first bundle holds all that there was, and each later one what came since; the older ones are made again, byte
//! for byte the same, and are not stored twice (the same push brings 8 KB). What the links were is remembered on the client.

use super::mirror::feed_ok;
use super::refs::RefList;
use super::{LIST_LIMIT, NAME, mirror_name};
use crate::archived::dump_after;
use archive::backup::Streams;
use base::config::ClientConfig;
use base::{At, Dataset, Error, Monitor, Name, Result, atomic, process, untrusted};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// From how many links on a chain begins anew.
const LINKS: usize = 32;
/// The longest file of a chain.
const STATE_LIMIT: usize = 128 << 20;
/// How long one bundle may take.
const TIME: Duration = Duration::from_secs(24 * 3600);

/// Whether the configuration wants this repository sealed.
pub(super) fn is_sealed(config: &ClientConfig, dataset: &Dataset) -> bool {
    dataset.module() == NAME && config.sealed(dataset)
}

/// The bundles of which the last snapshot for a node consisted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chain {
    version: u64,
    links: Vec<Link>,
    /// The refs of the last link by their names in base64.
    refs: BTreeMap<String, String>,
}

/// One bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    /// The ids that were new with it, in order.
    tips: Vec<String>,
    /// The refs that its head names: those that had changed. Names in base64, and ids.
    refs: Vec<(String, String)>,
    /// How long it was.
    bytes: u64,
}

impl Chain {
    /// The chain kept in `path`; an empty one where there is none, or none that this version made.
    pub(super) fn load(path: &Path, monitor: &dyn Monitor) -> Self {
        let read = || -> Result<Self> {
            let bytes = untrusted::read(path, STATE_LIMIT)?.bytes;
            let chain: Self = serde_json::from_slice(&bytes).map_err(|e| Error::failed("it cannot be read").because(e))?;
            if chain.version == 1 { Ok(chain) } else { Err(Error::failed("another version wrote it")) }
        };
        match read() {
            Ok(chain) => chain,
            Err(error) => {
                // Everything is sent again once; nothing else depends on it.
                if path.exists() {
                    monitor.problem(&error.context(format!("{} is begun anew", path.display())));
                }
                Self::default()
            }
        }
    }

    pub(super) fn save(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            atomic::make_folder(folder, 0o700)?;
        }
        let text = serde_json::to_vec(self).map_err(|e| Error::failed("could not write the chain of bundles").because(e))?;
        atomic::write(path, &text, 0o600)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    fn known(&self) -> BTreeSet<&str> {
        self.links.iter().flat_map(|link| link.tips.iter().map(String::as_str)).collect()
    }

    /// Whether the chain has grown so that beginning anew costs less than dragging it on.
    fn is_long(&self) -> bool {
        let full = self.links.first().map_or(0, |link| link.bytes);
        let rest = self.links.iter().skip(1).fold(0u64, |sum, link| sum.saturating_add(link.bytes));
        self.links.len() >= LINKS || rest > full / 2 && rest > 1 << 20
    }

    /// The chain that leads to `list`: this one, with one more link where something is new.
    pub(super) fn lead_to(mut self, list: &RefList) -> Self {
        if self.is_long() {
            self = Self::default();
        }
        let known = self.known();
        let tips: Vec<String> = list.ids().into_iter().filter(|id| !known.contains(id)).map(str::to_owned).collect();
        let refs: BTreeMap<String, String> = list.refs.iter().map(|(name, id)| (STANDARD.encode(name), id.clone())).collect();
        if !tips.is_empty() {
            // In the order of the names themselves, as git wants them.
            let changed = list.refs.iter().map(|(name, id)| (STANDARD.encode(name), id.clone()));
            let changed = changed.filter(|(name, id)| self.refs.get(name) != Some(id)).collect();
            self.links.push(Link { tips, refs: changed, bytes: 0 });
        }
        Self { version: 1, refs, ..self }
    }
}

/// Where the chain of a dataset is kept for a node.
pub(super) fn chain_path(config: &ClientConfig, node: &Name, dataset: &Dataset) -> PathBuf {
    config.state.join("sealed").join(node.as_str()).join(mirror_name(dataset)).with_extension("json")
}

/// Git in the opened repository, whatever its owner has configured there, so that the same objects give the same bytes.
fn git(repository: &OwnedFd, arguments: &[&str]) -> Result<Command> {
    let here = format!("/proc/self/fd/{}", repository.as_raw_fd());
    let real = std::fs::read_link(&here).at("find", &here)?;
    let mut command = process::git();
    command.arg("-c").arg(format!("safe.directory={}", real.display())).current_dir(&here).env("GIT_NO_LAZY_FETCH", "1");
    for setting in [
        "pack.threads=1",
        "pack.window=10",
        "pack.depth=50",
        "pack.windowMemory=0",
        "pack.compression=-1",
        "pack.packSizeLimit=0",
        "pack.allowPackReuse=false",
        "pack.useSparse=false",
        "core.compression=-1",
        "core.bigFileThreshold=512m",
        "core.deltaBaseCacheLimit=96m",
    ] {
        command.args(["-c", setting]);
    }
    command.arg("--git-dir=.").args(arguments);
    Ok(command)
}

/// Whether all that the chain begins at is still there. What nobody refers to any more is thrown away by git some day.
pub(super) fn is_there(repository: &OwnedFd, chain: &Chain) -> Result<bool> {
    let input: String = chain.known().into_iter().flat_map(|id| [id, "\n"]).collect();
    let found = feed_ok(git(repository, &["cat-file", "--batch-check=%(objecttype)"])?, input.into_bytes(), 4 * LIST_LIMIT, TIME)?;
    Ok(!found.split(|b| *b == b'\n').any(|line| line.ends_with(b" missing")))
}

/// Puts the bundles of the chain, and the list of refs, into a snapshot; notes the bundles' lengths in the chain.
pub(super) fn fill(
    streams: &mut Streams<'_, '_>,
    repository: &OwnedFd,
    chain: &mut Chain,
    list: &RefList,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut before: Vec<String> = Vec::new();
    for (number, link) in chain.links.iter_mut().enumerate() {
        monitor.task(&format!("bundling, {} of at most {LINKS}", number + 1), None);
        let mut revisions = String::new();
        for id in &link.tips {
            revisions.push_str(&format!("{id}\n"));
        }
        for id in &before {
            revisions.push_str(&format!("^{id}\n"));
        }
        link.bytes = put(streams, repository, &format!("bundles/{number:04}.bundle"), &link.head()?, revisions, monitor)?;
        before.extend(link.tips.iter().cloned());
    }
    streams.put("refs", &mut list.to_bytes().as_slice(), &mut || Ok(())).map(drop)
}

/// One bundle: its head, and what git packs.
fn put(
    streams: &mut Streams<'_, '_>,
    repository: &OwnedFd,
    name: &str,
    head: &[u8],
    revisions: String,
    monitor: &dyn Monitor,
) -> Result<u64> {
    let arguments = ["pack-objects", "--quiet", "--revs", "--thin", "--stdout", "--delta-base-offset", "--no-use-bitmap-index"];
    let mut command = git(repository, &arguments)?;
    let (reader, mut writer) = std::io::pipe().at("make", "a pipe")?;
    command.stdin(reader);
    // Ends by itself: when git is gone nobody reads the pipe any more.
    let feeder = std::thread::spawn(move || writer.write_all(revisions.as_bytes()));
    let size = dump_after(streams, name, head, command, name, TIME, monitor);
    let _ = feeder.join();
    size
}

impl Link {
    /// The first lines of the bundle, up to the empty one. It asks for no commits to be there: a chain is read in order.
    fn head(&self) -> Result<Vec<u8>> {
        let mut head = b"# v2 git bundle\n".to_vec();
        for (name, id) in &self.refs {
            let name = STANDARD.decode(name).map_err(|e| Error::failed("the chain of bundles is damaged").because(e))?;
            head.extend_from_slice(id.as_bytes());
            head.push(b' ');
            head.extend_from_slice(&name);
            head.push(b'\n');
        }
        head.push(b'\n');
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::refs::Head;

    fn list(refs: &[(&str, char)]) -> RefList {
        let refs = refs.iter().map(|(name, id)| (format!("refs/heads/{name}").into_bytes(), id.to_string().repeat(40))).collect();
        RefList { head: Head::Nowhere, description: None, left_out: 0, refs }
    }

    #[test]
    fn a_chain_grows_by_what_is_new() {
        let tips = |chain: &Chain| chain.links.iter().map(|link| link.tips.len()).collect::<Vec<_>>();
        let first = Chain::default().lead_to(&list(&[("a", '1'), ("b", '2')]));
        assert_eq!(tips(&first), [2]);
        assert_eq!(first.clone().lead_to(&list(&[("a", '1'), ("b", '2')])), first);
        // A ref that went away, or back to what was there before, brings nothing.
        let back = first.clone().lead_to(&list(&[("a", '2')]));
        assert_eq!(tips(&back), [2]);
        let more = back.lead_to(&list(&[("a", '2'), ("c", '3')]));
        assert_eq!(tips(&more), [2, 1]);
        assert_eq!(
            String::from_utf8(more.links[1].head().unwrap()).unwrap(),
            format!("# v2 git bundle\n{} refs/heads/c\n\n", "3".repeat(40))
        );
        assert!(Chain::default().lead_to(&list(&[])).is_empty());
    }

    #[test]
    fn a_long_chain_begins_anew() {
        let mut chain = Chain::default();
        for number in 0..LINKS {
            let id = char::from_digit(u32::try_from(number % 10).unwrap(), 16).unwrap();
            chain = chain.lead_to(&list(&[("a", id)]));
            chain.links.resize(number + 1, Link::default());
        }
        assert_eq!(chain.lead_to(&list(&[("a", 'e')])).links.len(), 1);
        let mut heavy = Chain::default().lead_to(&list(&[("a", '1')])).lead_to(&list(&[("a", '2')]));
        (heavy.links[0].bytes, heavy.links[1].bytes) = (3 << 20, 1 << 20);
        assert_eq!(heavy.clone().lead_to(&list(&[("a", '3')])).links.len(), 3);
        heavy.links[1].bytes = 2 << 20;
        assert_eq!(heavy.lead_to(&list(&[("a", '3')])).links.len(), 1);
    }

    #[test]
    fn a_chain_that_cannot_be_read_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/chain.json");
        assert!(Chain::load(&path, &base::Silent).is_empty());
        let chain = Chain::default().lead_to(&list(&[("a", '1')]));
        chain.save(&path).unwrap();
        assert_eq!(Chain::load(&path, &base::Silent), chain);
        for bad in ["", "{", "{\"version\":2,\"links\":[],\"refs\":{}}", "[]"] {
            std::fs::write(&path, bad).unwrap();
            assert!(Chain::load(&path, &base::Silent).is_empty());
        }
    }
}
