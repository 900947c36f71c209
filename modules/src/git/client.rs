//! The client half: reads the refs as git would advertise them, for the client to sign.
//!
//! Changes nothing in the repository, and runs neither its hooks nor what its configuration names.

use super::refs::RefList;
use super::sealed::{self, Chain};
use super::{ATTACH_LIMIT, LIST_LIMIT, NAME, restore, unseal};
use crate::{ClientContext, ClientModule, Destination, Lane, PreparedRequest, RestoreContext, RestoreReport, RestoreSource};
use archive::backup::backup_streams;
use base::config::ClientConfig;
use base::{At, Dataset, Error, Payload, Result, Sha256, beneath, gitdir, process};
use rustix::fs::OFlags;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The longest time that listing refs may take.
const TIME: Duration = Duration::from_secs(600);

pub(crate) struct Client;

pub(crate) const CLIENT: Client = Client;

impl ClientModule for Client {
    fn name(&self) -> &str {
        NAME
    }

    fn lane(&self) -> Lane {
        Lane::Git
    }

    fn lane_of(&self, config: &ClientConfig, dataset: &Dataset) -> Lane {
        if sealed::is_sealed(config, dataset) { Lane::Archive } else { Lane::Git }
    }

    fn dataset_settings(&self) -> &'static [&'static str] {
        &["sealed"]
    }

    fn check(&self, config: &ClientConfig, dataset: &Dataset) -> Result<()> {
        let path = crate::settings::reachable(config, dataset)?;
        // What this user may not see is left to the sender, who may be another one.
        match repository(Path::new("/"), path) {
            Err(error) if crate::settings::is_visible(path) && error.kind() == base::Kind::Usage => Err(error),
            _ => Ok(()),
        }
    }

    fn prepare(&self, context: &ClientContext<'_>, dataset: &Dataset) -> Result<PreparedRequest> {
        let path = crate::settings::absolute(dataset)?;
        let base = context.config.base_of(dataset).ok_or_else(|| crate::settings::not_allowed(dataset))?;
        let folder = repository(Path::new(base), path)?;
        // Names of refs and ids leave this machine with the request: they must be this repository's own.
        gitdir::check(context.config, dataset, &folder)?;
        context.monitor.task(&format!("listing the refs of {}", path.display()), None);
        let mut list = RefList::from_advertisement(&advertisement(&folder)?)
            .map_err(|error| error.context(format!("could not list the refs of {}", path.display())))?;
        if let Some(words) = list.told_of_left_out() {
            context.monitor.problem(&Error::failed(format!("of {}, {words}", path.display())));
        }
        list.with_files(&small_file(&folder, "HEAD"), &small_file(&folder, "description"));
        context.monitor.entries(list.refs.len() as u64);
        if sealed::is_sealed(context.config, dataset) {
            return prepare_sealed(context, dataset, &folder, &list);
        }
        let mut bytes = list.to_bytes();
        if bytes.len() > ATTACH_LIMIT {
            // The node makes a long list itself, of what git tells it.
            bytes = list.advertised().to_bytes();
        }
        Ok(PreparedRequest {
            payload: Payload::Refs(Sha256::of(&bytes)),
            attachment: (bytes.len() <= ATTACH_LIMIT).then_some(bytes),
            unreadable: 0,
            ledger: Vec::new(),
            skipped: 0,
            repairs: Vec::new(),
            size: None,
        })
    }

    fn restore(&self, context: &RestoreContext<'_>, source: RestoreSource) -> Result<RestoreReport> {
        match source {
            RestoreSource::Mirror { from, snapshot, refs } => restore::restore(context, &from, &snapshot, &refs),
            // For whoever wants to look at a bundle itself.
            RestoreSource::Archive(reader) if context.to == Destination::Stdout => {
                crate::archived::restore(context, &reader, "a sealed repository")
            }
            RestoreSource::Archive(reader) => unseal::restore(context, &reader),
            RestoreSource::Nothing => Err(Error::failed(format!("the snapshot of {} holds no list of refs", context.dataset))),
        }
    }
}

/// Makes an archive of bundles. Where a link of the chain cannot be made any more, a new chain begins.
fn prepare_sealed(context: &ClientContext<'_>, dataset: &Dataset, folder: &OwnedFd, list: &RefList) -> Result<PreparedRequest> {
    let path = sealed::chain_path(context.config, &context.node.name, dataset);
    let old = Chain::load(&path, context.monitor);
    let old = if old.is_empty() || sealed::is_there(folder, &old)? { old } else { Chain::default() };
    let make = |chain: &mut Chain| {
        crate::archived::client::prepare(context, dataset, |spec| {
            backup_streams(spec, |streams| sealed::fill(streams, folder, chain, list, context.monitor))
        })
    };
    let again = !old.is_empty();
    let mut chain = old.lead_to(list);
    let prepared = match make(&mut chain) {
        Err(error) if again && error.kind() != base::Kind::NotNow => {
            context.monitor.problem(&error.context(format!("the bundles of {dataset} are begun anew")));
            chain = Chain::default().lead_to(list);
            make(&mut chain)?
        }
        made => made?,
    };
    chain.save(&path)?;
    Ok(prepared)
}

/// The beginning of a file of the repository; nothing where there is none, or where it is no plain file.
fn small_file(repository: &OwnedFd, name: &str) -> Vec<u8> {
    let Ok(file) = base::untrusted::open_at(repository, Path::new(name)) else { return Vec::new() };
    let mut bytes = Vec::new();
    let _ = file.take(4096).read_to_end(&mut bytes);
    bytes
}

/// Opens the repository's own folder, the one with `objects` and `refs` in it, from `base` without following a link.
fn repository(base: &Path, path: &Path) -> Result<OwnedFd> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY;
    let opened = beneath::open_absolute(base, path, folder)?;
    let has = |name: &str| beneath::open(&opened, Path::new(name), OFlags::PATH).is_ok();
    if has("objects") && has("refs") && !has("commondir") {
        return Ok(opened);
    }
    let error = Error::usage(format!("{} is no git repository of its own", path.display()));
    Err(if has(".git/objects") {
        error.hint(format!("Name its inner folder, git:{}/.git.", path.display()))
    } else {
        error.hint(
            "Name a bare repository, or the folder .git of another one; of a work tree or a submodule, the repository that it belongs to.",
        )
    })
}

/// What git would tell a client that fetches.
fn advertisement(repository: &OwnedFd) -> Result<Vec<u8>> {
    // The child goes into the folder that was opened, wherever its name leads by now.
    let here = format!("/proc/self/fd/{}", repository.as_raw_fd());
    let real = std::fs::read_link(&here).at("find", &here)?;
    let mut command = process::git();
    // The repository may belong to another account; git reads its configuration then, and runs nothing that it names.
    command.arg("-c").arg(format!("safe.directory={}", real.display())).current_dir(&here);
    command.env("GIT_NO_LAZY_FETCH", "1").args(["upload-pack", "--strict", "--http-backend-info-refs", "."]);
    process::run_ok(command, 4 * LIST_LIMIT, TIME)
}
