//! The client half: reads the refs as git would advertise them, for the client to sign.
//!
//! Changes nothing in the repository, and runs neither its hooks nor what its configuration names.

use super::refs::RefList;
use super::{ATTACH_LIMIT, LIST_LIMIT, NAME, restore};
use crate::{ClientContext, ClientModule, Lane, PreparedRequest, RestoreContext, RestoreReport, RestoreSource};
use base::config::ClientConfig;
use base::{Dataset, Error, Payload, Result, Sha256, beneath, process};
use rustix::fs::OFlags;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest time that listing refs may take.
const TIME: Duration = Duration::from_secs(600);

pub(crate) struct Client;

pub(crate) const CLIENT: Client = Client;

impl ClientModule for Client {
    fn name(&self) -> &'static str {
        NAME
    }

    fn lane(&self) -> Lane {
        Lane::Git
    }

    fn check(&self, config: &ClientConfig, dataset: &Dataset) -> Result<()> {
        crate::settings::none(config, NAME)?;
        let path = crate::settings::absolute(dataset)?;
        crate::settings::exists(path)?;
        // What this user may not see is left to the sender, who may be another one.
        match repository(Path::new("/"), path) {
            Err(error) if crate::settings::is_visible(path) && error.kind() == base::Kind::Usage => Err(error),
            _ => Ok(()),
        }
    }

    fn prepare(&self, context: &ClientContext<'_>, dataset: &Dataset) -> Result<PreparedRequest> {
        crate::settings::none(context.config, NAME)?;
        let path = crate::settings::absolute(dataset)?;
        let base = context.config.base_of(dataset).ok_or_else(|| crate::settings::not_allowed(dataset))?;
        let folder = repository(Path::new(base), path)?;
        context.monitor.task(&format!("listing the refs of {}", path.display()), None);
        let read = RefList::from_advertisement(&advertisement(path, &folder)?).map_err(|error| error.context(format!("could not list the refs of {}", path.display())))?;
        if read.left_out > 0 {
            let words = format!("{} has {} refs below refs/kept/, refs/nightsafe/ or refs/replace/, which are not backed up", path.display(), read.left_out);
            context.monitor.problem(&Error::failed(words));
        }
        let bytes = read.list.to_bytes();
        context.monitor.entries(read.list.refs.len() as u64);
        Ok(PreparedRequest {
            payload: Payload::Refs(Sha256::of(&bytes)),
            attachment: (bytes.len() <= ATTACH_LIMIT).then_some(bytes),
            unreadable: 0,
        })
    }

    fn restore(&self, context: &RestoreContext<'_>, source: RestoreSource) -> Result<RestoreReport> {
        match source {
            RestoreSource::Mirror { from, refs } => restore::restore(context, &from, &refs),
            RestoreSource::Archive(_) | RestoreSource::Nothing => Err(Error::failed(format!("the snapshot of {} holds no list of refs", context.dataset))),
        }
    }
}

/// The folder that holds `objects` and `refs`: `path` or `.git` in it, reached from `base` without following a link.
fn repository(base: &Path, path: &Path) -> Result<PathBuf> {
    let folder = OFlags::PATH | OFlags::DIRECTORY;
    let opened = beneath::open_absolute(base, path, folder)?;
    let has = |name: &str| beneath::open(&opened, Path::new(name), folder).is_ok();
    if has("objects") && has("refs") {
        return Ok(path.to_owned());
    }
    if has(".git/objects") && has(".git/refs") {
        return Ok(path.join(".git"));
    }
    Err(Error::usage(format!("{} is no git repository of its own", path.display()))
        .hint("Name a bare repository or the folder that holds .git; of a work tree or a submodule, the repository that it belongs to."))
}

/// What git would tell a client that fetches.
fn advertisement(path: &Path, folder: &Path) -> Result<Vec<u8>> {
    let mut command = process::git();
    // The repository may belong to another account; git reads its configuration then, and runs nothing that it names.
    for trusted in [path, folder] {
        command.arg("-c").arg(format!("safe.directory={}", trusted.display()));
    }
    command.args(["upload-pack", "--strict", "--http-backend-info-refs", "--"]).arg(folder);
    process::run_ok(command, 4 * LIST_LIMIT, TIME)
}
