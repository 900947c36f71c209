//! What a restorer may read on a node: the list, packs and snapshots of granted datasets, granted mirrors.
//!
//! Everything in a pack is sealed; what lies beside it is what the restorer proves. Nothing is written.

use crate::lfs;
use crate::sftp::{self, Denied, Tree};
use base::config::NodeConfig;
use base::{At, Dataset, Error, Exit, Name, RequestId, Result, beneath, untrusted};
use queue::access::RestorerGrant;
use queue::{Request, listing};
use rustix::fs::MemfdFlags;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The file in a mirror that says of which dataset it is.
const MIRROR_NAME: &str = "nightsafe-dataset";
/// The longest such file.
const NAME_LIMIT: usize = 4096;
/// How many snapshots are remembered as granted or not.
const REMEMBERED: usize = 100_000;

/// Prints what may be read, as a JSON array.
///
/// # Errors
/// With the path.
pub fn list(config: &NodeConfig, grant: &RestorerGrant) -> Result<ExitCode> {
    write_list(&config.data, grant, &mut std::io::stdout())?;
    Ok(Exit::Done.into())
}

fn write_list(data: &Path, grant: &RestorerGrant, to: &mut dyn Write) -> Result<()> {
    let listed = listing::granted(data, grant)?;
    let text = serde_json::to_string(&listed).map_err(|e| Error::failed("could not write the list").because(e))?;
    writeln!(to, "{text}").at("write", "the list")
}

/// The mirror `hex` of `client`, if its dataset is granted.
///
/// # Errors
/// Of kind refused, in the same words whether it is there or not.
pub fn mirror(config: &NodeConfig, grant: &RestorerGrant, client: &Name, hex: &str) -> Result<PathBuf> {
    let path = config.client_path(client).join("mirrors").join(format!("{hex}.git"));
    let name = untrusted::read(&path.join(MIRROR_NAME), NAME_LIMIT).ok();
    let dataset = name.and_then(|found| String::from_utf8(found.bytes).ok()).and_then(|text| text.trim_end().parse::<Dataset>().ok());
    match dataset {
        Some(dataset) if grant.reads(client, &dataset) => Ok(path),
        _ => Err(Error::refused("there is no such mirror that this key may read")),
    }
}

/// Serves packs and snapshots.
///
/// # Errors
/// When the other end cannot be talked to.
pub fn sftp(config: &NodeConfig, grant: &RestorerGrant) -> Result<ExitCode> {
    sftp::serve(&mut Stores { config, data: beneath::folder(&config.data)?, grant, known: HashMap::new(), listed: None })
}

struct Stores<'a> {
    config: &'a NodeConfig,
    data: OwnedFd,
    grant: &'a RestorerGrant,
    known: HashMap<(Name, RequestId), bool>,
    // As it was when it was asked for first: however often it is opened, it takes memory once.
    listed: Option<File>,
}

/// A name that means something here.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Pack(Name),
    KeyFile(Name),
    Snapshot(Name, RequestId),
    Lfs(Name, String, String),
}

/// Reads `<client>/packs/<hex>`, `<client>/snapshots/<id>/<file>`, `<client>/keys/<epoch>/<n>.json` and
/// `<client>/mirrors/<hex>.git/lfs/<id>`.
fn asked(name: &str) -> Option<Asked> {
    let (client, rest) = name.split_once('/')?;
    let client = Name::new(client).ok()?;
    let (folder, rest) = rest.split_once('/')?;
    match folder {
        "packs" => (rest.len() == 64 && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))).then_some(Asked::Pack(client)),
        // What a key file holds is sealed, and says no more than the manifests of its epoch do.
        "keys" => {
            let (epoch, file) = rest.split_once('/')?;
            let number = file.strip_suffix(".json")?;
            let plain = epoch.len() == 62
                && epoch.starts_with("age1")
                && epoch.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                && (1..=2).contains(&number.len())
                && number.bytes().all(|b| b.is_ascii_digit());
            plain.then_some(Asked::KeyFile(client))
        }
        "mirrors" => {
            let (hex, id) = rest.split_once(".git/lfs/")?;
            let plain = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) && lfs::is_id(id);
            plain.then(|| Asked::Lfs(client, hex.to_owned(), id.to_owned()))
        }
        "snapshots" => {
            let (id, file) = rest.split_once('/')?;
            let plain = file.len() <= 64
                && file.starts_with(|c: char| c.is_ascii_lowercase())
                && file.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'-');
            let id = id.parse::<RequestId>().ok()?.only_whole().ok()?;
            plain.then_some(Asked::Snapshot(client, id))
        }
        _ => None,
    }
}

impl Stores<'_> {
    fn allowed(&mut self, asked: &Asked) -> bool {
        match asked {
            Asked::Lfs(client, hex, _) => mirror(self.config, self.grant, client, hex).is_ok(),
            Asked::Pack(client) | Asked::KeyFile(client) => self.grant.reads_any(client),
            Asked::Snapshot(client, id) => {
                if !self.grant.reads_any(client) {
                    return false;
                }
                let key = (client.clone(), id.clone());
                if let Some(known) = self.known.get(&key) {
                    return *known;
                }
                let allowed = self.dataset(&key.0, &key.1).is_some_and(|dataset| self.grant.reads(&key.0, &dataset));
                if self.known.len() < REMEMBERED {
                    self.known.insert(key, allowed);
                }
                allowed
            }
        }
    }

    /// The list as a file in memory, for who has a session already: another command costs more than a small restore.
    fn list(&mut self) -> Result<File> {
        let file = match self.listed.take() {
            Some(file) => file,
            None => {
                let mut file = File::from(rustix::fs::memfd_create("list", MemfdFlags::CLOEXEC).at("make", "a file in memory")?);
                write_list(&self.config.data, self.grant, &mut file)?;
                file
            }
        };
        self.listed.insert(file).try_clone().at("open", "the list")
    }

    /// The dataset of a snapshot, from the request that was proven when it was accepted.
    fn dataset(&self, client: &Name, id: &RequestId) -> Option<Dataset> {
        let path = format!("{client}/snapshots/{id}/request.toml");
        let file = beneath::regular_file(&self.data, Path::new(&path)).ok()?;
        let bytes = untrusted::read_bounded(file, queue::request::FILE_LIMIT).ok()?;
        let request = Request::parse(&bytes).ok()?;
        (request.client == *client && request.id == *id).then_some(request.dataset)
    }
}

impl Tree for Stores<'_> {
    fn open(&mut self, name: &str) -> std::result::Result<File, Denied> {
        if name == listing::FILE {
            // Why it cannot be made is told to who asks for it by the command.
            return self.list().map_err(|_| Denied::Forbidden);
        }
        match asked(name) {
            Some(asked) if self.allowed(&asked) => match asked {
                Asked::Lfs(client, hex, id) => {
                    let mirror = Path::new(client.as_str()).join("mirrors").join(format!("{hex}.git"));
                    sftp::open_beneath(&self.data, &mirror.join(lfs::place(&id)))
                }
                _ => sftp::open_beneath(&self.data, Path::new(name)),
            },
            // Nobody learns from the answer what there is.
            _ => Err(Denied::Forbidden),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let hex = "a".repeat(64);
        assert_eq!(asked(&format!("web1/packs/{hex}")), Some(Asked::Pack(Name::new("web1").unwrap())));
        assert!(matches!(asked("web1/snapshots/20261120T031500Z-3f9a1c7e/request.toml"), Some(Asked::Snapshot(..))));
        let epoch = format!("age1{}", "q".repeat(58));
        let of_mirror = |rest: &str| format!("web1/mirrors/{}.git/{rest}", "b".repeat(32));
        assert!(matches!(asked(&of_mirror(&format!("lfs/{hex}"))), Some(Asked::Lfs(..))));
        for bad in ["lfs", "lfs/x", "HEAD", "lfs/../HEAD", &format!("lfs/{hex}/x"), &format!("objects/{hex}")] {
            assert_eq!(asked(&of_mirror(bad)), None, "{bad}");
        }
        assert!(matches!(asked(&format!("web1/keys/{epoch}/1.json")), Some(Asked::KeyFile(..))));
        for bad in [
            "",
            "web1",
            "web1/packs",
            "web1/packs/",
            &format!("web1/packs/{hex}x"),
            &format!("web1/packs/{}", hex.to_uppercase()),
            &format!("web1/packs/../packs/{hex}"),
            &format!("../web1/packs/{hex}"),
            &format!("/web1/packs/{hex}"),
            &format!("admin/packs/{hex}"),
            &format!("web1/damaged/{hex}"),
            "web1/pool/C20261120T031500Z-3f9a1c7e",
            &format!("web1/keys/{epoch}"),
            &format!("web1/keys/{epoch}/.json"),
            &format!("web1/keys/{epoch}/100.json"),
            &format!("web1/keys/{epoch}/x.json"),
            &format!("web1/keys/{epoch}/../1.json"),
            &format!("web1/keys/{epoch}q/1.json"),
            &format!("web1/keys/{}/1.json", epoch.to_uppercase()),
            "web1/keys/../1.json",
            "web1/snapshots/20261120T031500Z-3f9a1c7e",
            "web1/snapshots/20261120T031500Z-3f9a1c7e/",
            "web1/snapshots/20261120T031500Z-3f9a1c7e/..",
            "web1/snapshots/20261120T031500Z-3f9a1c7e/.tmp-1",
            "web1/snapshots/20261120T031500Z-3f9a1c7e/a/b",
            "web1/snapshots/../web2/request.toml",
            "access/authorized_keys",
        ] {
            assert_eq!(asked(bad), None, "{bad}");
        }
    }
}
