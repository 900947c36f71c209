//! What a client offers to its node: packs from the export folder, and the git repositories that its configuration
//! allows, with what git-lfs keeps beside them. Nothing else can be read this way, whatever the account may.
//!
//! Does not prepare anything and knows no request.

use crate::pace::Pace;
use crate::sftp::{self, Denied, Tree};
use crate::{git, lfs};
use base::config::ClientConfig;
use base::{Dataset, Error, Name, Result, beneath, gitdir};
use rustix::fs::OFlags;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Serves the export folder of `node`.
///
/// # Errors
/// When the other end cannot be talked to.
pub fn sftp(config: &ClientConfig, node: &Name) -> Result<ExitCode> {
    sftp::serve(&mut Folder { config, path: config.export_path(node), open: None, repository: None })
}

/// One folder of plain files; and what git-lfs keeps in repositories that may be served.
struct Folder<'a> {
    config: &'a ClientConfig,
    path: PathBuf,
    open: Option<OwnedFd>,
    /// The repository that was asked for last: looking through one costs more than an object.
    repository: Option<(Dataset, OwnedFd)>,
}

impl Folder<'_> {
    fn open_lfs(&mut self, asked: lfs::Asked<'_>, path: &str) -> std::result::Result<File, Denied> {
        let dataset = Dataset::new("git", &format!("/{path}")).map_err(|_| Denied::Forbidden)?;
        if !self.config.allows(&dataset) {
            return Err(Denied::Forbidden);
        }
        let known = match self.repository.take() {
            Some((of, folder)) if of == dataset => folder,
            _ => repository(self.config, &dataset).map_err(|_| Denied::Forbidden)?,
        };
        let (_, folder) = self.repository.insert((dataset, known));
        let file = lfs::open(folder, asked)?;
        // As for packs; a list is in memory and has no name at all.
        if file.metadata().is_ok_and(|meta| meta.nlink() <= 1) { Ok(file) } else { Err(Denied::Forbidden) }
    }
}

impl Tree for Folder<'_> {
    fn open(&mut self, name: &str) -> std::result::Result<File, Denied> {
        if let Some((asked, path)) = lfs::asked(name) {
            return self.open_lfs(asked, path);
        }
        let plain =
            name.len() <= 255 && !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
        if !plain || name.is_empty() {
            return Err(Denied::Forbidden);
        }
        // The folder is made with the first pack.
        let folder = match &mut self.open {
            Some(folder) => folder,
            none => none.insert(beneath::folder(&self.path).map_err(|_| Denied::Absent)?),
        };
        let file = sftp::open_beneath(folder, Path::new(name))?;
        // A pack of ours has one name; what has another as well lies elsewhere too.
        if file.metadata().is_ok_and(|meta| meta.nlink() == 1) { Ok(file) } else { Err(Denied::Forbidden) }
    }

    fn pace(&self, name: &str) -> Option<sftp::Pace> {
        let pace = Pace::of(self.config, name)?;
        Some(Box::new(move |bytes| pace.wait_for(bytes)))
    }
}

/// Becomes `git upload-pack` for an allowed repository.
///
/// # Errors
/// Of kind refused when it is not one that may be served. Does not return otherwise.
pub fn upload_pack(config: &ClientConfig, dataset: &Dataset) -> Result<ExitCode> {
    let folder = repository(config, dataset)?;
    git::upload_pack_open(&folder)
}

/// Opens the repository without following a link below what the administrator allowed, and refuses one that would
/// serve what lies elsewhere.
fn repository(config: &ClientConfig, dataset: &Dataset) -> Result<OwnedFd> {
    let base = config.base_of(dataset).ok_or_else(|| Error::refused(format!("{dataset} is not allowed by this client's configuration")))?;
    let path = Path::new(dataset.path());
    let folder = beneath::open_absolute(Path::new(base), path, OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(|error| error.hint("Is there a repository, and may the account read it?"))?;
    gitdir::check(config, dataset, &folder)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn bare(path: &Path) {
        for folder in ["objects/info", "refs/heads"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    }

    #[test]
    fn only_what_lies_below_the_base() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let text = format!(
            "version = 1\n[[allow]]\nmodule = \"git\"\nunder = \"{0}/srv\"\n[[dataset]]\naddress = \"git:{0}/listed.git\"\n",
            dir.display()
        );
        fs::write(dir.join("client.toml"), text).unwrap();
        let config = ClientConfig::load(&dir.join("client.toml")).unwrap();
        for name in [
            "srv/a.git",
            "srv/b.git",
            "srv/tree.git",
            "srv/borrows.git",
            "srv/steals.git",
            "srv/relative.git",
            "srv/linked.git",
            "listed.git",
            "secret.git",
        ] {
            bare(&dir.join(name));
        }
        symlink(dir.join("secret.git"), dir.join("srv/link.git")).unwrap();
        symlink(&dir, dir.join("srv/up")).unwrap();
        for inner in ["objects", "refs"] {
            let inside = dir.join("srv/b.git").join(inner);
            fs::remove_dir_all(&inside).unwrap();
            symlink(dir.join("secret.git").join(inner), &inside).unwrap();
        }
        fs::write(dir.join("srv/tree.git/commondir"), "../../secret.git\n").unwrap();
        fs::write(dir.join("srv/borrows.git/objects/info/alternates"), format!("{}/srv/a.git/objects\n", dir.display())).unwrap();
        fs::write(dir.join("srv/steals.git/objects/info/alternates"), format!("{}/secret.git/objects\n", dir.display())).unwrap();
        fs::write(dir.join("srv/relative.git/objects/info/alternates"), "../../../secret.git/objects\n").unwrap();
        fs::write(dir.join("list"), "../../a.git/objects\n").unwrap();
        symlink(dir.join("list"), dir.join("srv/linked.git/objects/info/alternates")).unwrap();
        let open = |name: &str| repository(&config, &Dataset::cleaned("git", &format!("{}/{name}", dir.display())).unwrap());
        for good in ["srv/a.git", "srv/borrows.git", "listed.git"] {
            open(good).unwrap_or_else(|error| panic!("{good}: {}", error.render()));
        }
        for bad in [
            "srv/b.git",
            "srv/link.git",
            "srv/up/secret.git",
            "srv/tree.git",
            "srv/steals.git",
            "srv/relative.git",
            "srv/linked.git",
            "secret.git",
            "srv",
            "srv/absent.git",
            "srv/a.git/HEAD",
            "listed.git/objects",
        ] {
            assert!(open(bad).is_err(), "{bad}");
        }
    }
}
