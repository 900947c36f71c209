//! What a client offers to its node: packs from the export folder, and the git repositories that its configuration
//! allows. Nothing else can be read this way, whatever the account may.
//!
//! Does not prepare anything and knows no request.

use crate::git;
use crate::sftp::{self, Denied, Tree};
use base::config::ClientConfig;
use base::{At, Dataset, Error, Name, Result, beneath};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

/// The largest list of alternates that is read.
const ALTERNATES_LIMIT: usize = 64 << 10;

/// Serves the export folder of `node`.
///
/// # Errors
/// When the other end cannot be talked to.
pub fn sftp(config: &ClientConfig, node: &Name) -> Result<ExitCode> {
    sftp::serve(&mut Folder { path: config.export_path(node), open: None })
}

/// One folder of plain files.
struct Folder {
    path: PathBuf,
    open: Option<OwnedFd>,
}

impl Tree for Folder {
    fn open(&mut self, name: &str) -> std::result::Result<File, Denied> {
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
        sftp::open_beneath(folder, Path::new(name))
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
    for inner in ["objects", "refs"] {
        let opened = beneath::open(&folder, Path::new(inner), OFlags::RDONLY | OFlags::DIRECTORY);
        opened.map_err(|error| Error::refused(format!("{dataset} is no git repository that can be served")).because(error))?;
    }
    if beneath::open(&folder, Path::new("commondir"), OFlags::PATH).is_ok() {
        return Err(Error::refused(format!("{dataset} is a worktree of another repository")).hint("Name that repository instead."));
    }
    check_alternates(config, dataset, &folder)?;
    Ok(folder)
}

/// A repository may borrow objects from others only where those are allowed as well.
fn check_alternates(config: &ClientConfig, dataset: &Dataset, folder: &OwnedFd) -> Result<()> {
    let name = Path::new("objects/info/alternates");
    if beneath::open(folder, name, OFlags::PATH | OFlags::NOFOLLOW).is_err() {
        // None, or a link, which would be followed by git.
        return match rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            _ => Err(Error::refused(format!("{dataset} has links where none may be"))),
        };
    }
    let mut text = String::new();
    let file = beneath::regular_file(folder, name)?;
    file.take(ALTERNATES_LIMIT as u64).read_to_string(&mut text).at("read", name)?;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let lender = clean(&Path::new(dataset.path()).join("objects").join(line));
        let lender = lender.as_deref().and_then(Path::parent).and_then(Path::to_str).and_then(|path| Dataset::new("git", path).ok());
        if !lender.is_some_and(|lender| config.allows(&lender)) {
            return Err(Error::refused(format!("{dataset} borrows objects from {line}, which is not allowed")).hint(
                "Allow that repository too in client.toml, or run git repack -a -d in the borrower and remove objects/info/alternates.",
            ));
        }
    }
    Ok(())
}

/// The shortest form of an absolute path, without looking at the disk.
fn clean(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir => {}
            Component::Prefix(_) => return None,
        }
    }
    Some(clean)
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
