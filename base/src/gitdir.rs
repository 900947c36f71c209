//! Whether a git repository that somebody else writes holds what it serves: no link in it, and no borrowed objects,
//! lead to what the configuration does not allow.
//!
//! Runs no git. Looks at the folders as they are now; who owns the repository can change it afterwards, so git is to run
//! in an account that may read no more than it should.

use crate::beneath;
use crate::config::ClientConfig;
use crate::dataset::Dataset;
use crate::error::{At, Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, readlinkat, statat};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// The largest list of alternates that is read.
const ALTERNATES_LIMIT: usize = 64 << 10;
/// How many repositories may borrow from each other in a row; git itself follows five.
const DEPTH: usize = 6;
/// How deep folders may lie in each other below `refs` and `objects`.
const NESTING: usize = 512;

/// Checks the repository of `dataset`, which `folder` has open.
///
/// # Errors
/// Of kind refused, with what leads elsewhere.
pub fn check(config: &ClientConfig, dataset: &Dataset, folder: &OwnedFd) -> Result<()> {
    check_one(config, dataset, folder, DEPTH)
}

fn check_one(config: &ClientConfig, dataset: &Dataset, folder: &OwnedFd, depth: usize) -> Result<()> {
    for inner in ["objects", "refs"] {
        let opened = beneath::open(folder, Path::new(inner), OFlags::RDONLY | OFlags::DIRECTORY);
        let opened = opened.map_err(|error| Error::refused(format!("{dataset} is no git repository that can be served")).because(error))?;
        no_links(dataset, &opened, Path::new(inner), NESTING)?;
    }
    for file in ["HEAD", "packed-refs"] {
        if kind(folder, file)? == Some(FileType::Symlink) && !leads_to_a_ref(folder, file)? {
            return Err(link(dataset, Path::new(file)));
        }
    }
    // Where refs are kept in tables of git's newer form.
    if kind(folder, "reftable")?.is_some() {
        let tables = beneath::open(folder, Path::new("reftable"), OFlags::RDONLY | OFlags::DIRECTORY);
        no_links(dataset, &tables.map_err(|_| link(dataset, Path::new("reftable")))?, Path::new("reftable"), NESTING)?;
    }
    if kind(folder, "commondir")?.is_some() {
        return Err(Error::refused(format!("{dataset} is a worktree of another repository")).hint("Name that repository instead."));
    }
    check_alternates(config, dataset, folder, depth)
}

fn kind(folder: &OwnedFd, name: &str) -> Result<Option<FileType>> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        other => Ok(Some(FileType::from_raw_mode(other.at("stat", name)?.st_mode))),
    }
}

fn link(dataset: &Dataset, name: &Path) -> Error {
    Error::refused(format!("{dataset} has a link where none may be: {}", crate::text::printable(&name.to_string_lossy())))
        .hint("What a link leads to may be somebody else's. Put the file or folder itself there, or name the repository that it leads to.")
}

/// Refuses a folder with a link in it, at any depth.
fn no_links(dataset: &Dataset, folder: &OwnedFd, name: &Path, nesting: usize) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let inner = |entry: &std::ffi::CStr| name.join(std::ffi::OsStr::from_bytes(entry.to_bytes()));
    if nesting == 0 {
        return Err(Error::refused(format!("{dataset} has too many folders in each other")));
    }
    for entry in Dir::read_from(folder).at("list", name)? {
        let entry = entry.at("list", name)?;
        let file = entry.file_name();
        if matches!(file.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match statat(folder, file, AtFlags::SYMLINK_NOFOLLOW) {
                // Gone since it was listed.
                Err(Errno::NOENT) => continue,
                found => FileType::from_raw_mode(found.at("stat", inner(file))?.st_mode),
            },
            known => known,
        };
        match kind {
            FileType::Symlink if name.starts_with("refs") && leads_to_a_ref(folder, file)? => {}
            FileType::Symlink => return Err(link(dataset, &inner(file))),
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(folder, file, flags, Mode::empty()) {
                    Ok(opened) => no_links(dataset, &opened, &inner(file), nesting - 1)?,
                    // A push of this moment took it away again; or it is a push's own, and git, which this account runs
                    // as well, does not get in either.
                    Err(Errno::NOENT | Errno::ACCESS) => {}
                    Err(Errno::LOOP | Errno::NOTDIR) => return Err(link(dataset, &inner(file))),
                    Err(error) => return Err(error).at("open the folder", inner(file)),
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Git's oldest form of a symbolic ref: a link whose text is the ref's name. Git looks that name up in the repository.
fn leads_to_a_ref(folder: &OwnedFd, name: impl rustix::path::Arg) -> Result<bool> {
    let target = readlinkat(folder, name, Vec::new()).at("read the link", "HEAD")?;
    let target = target.to_bytes();
    let plain = |part: &[u8]| !part.is_empty() && part[0] != b'.';
    Ok(target.starts_with(b"refs/") && target.split(|b| *b == b'/').all(plain))
}

/// A repository may borrow objects from others only where those are allowed as well, and hold what they lend.
fn check_alternates(config: &ClientConfig, dataset: &Dataset, folder: &OwnedFd, depth: usize) -> Result<()> {
    let name = Path::new("objects/info/alternates");
    let file = match beneath::open(folder, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(file) => File::from(file),
        Err(error) => {
            return match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => Ok(()),
                _ => Err(Error::refused(format!("{dataset} borrows objects in a way that cannot be checked")).because(error)),
            };
        }
    };
    let bytes = crate::untrusted::read_bounded(file, ALTERNATES_LIMIT).at("read", name)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::refused(format!("{dataset} borrows objects from a path that is not UTF-8")))?;
    for line in text.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some(lender) = lender(dataset, line).filter(|lender| config.allows(lender)) else {
            return Err(Error::refused(format!("{dataset} borrows objects from {}, which is not allowed", crate::text::printable(line)))
                .hint(
                    "Allow that repository too in client.toml, or run git repack -a -d in the borrower and remove objects/info/alternates.",
                ));
        };
        let base = config.base_of(&lender).unwrap_or(lender.path());
        let opened = beneath::open_absolute(Path::new(base), Path::new(lender.path()), OFlags::RDONLY | OFlags::DIRECTORY);
        let opened = match opened {
            Ok(opened) => opened,
            // Git leaves out what is not there.
            Err(_) if Path::new(lender.path()).symlink_metadata().is_err() => continue,
            Err(error) => {
                return Err(Error::refused(format!("{dataset} borrows objects from {lender}, which cannot be checked")).because(error));
            }
        };
        if depth == 0 {
            return Err(Error::refused(format!("{dataset} borrows objects from too many repositories in a row")));
        }
        check_one(config, &lender, &opened, depth - 1)?;
    }
    Ok(())
}

/// The repository whose objects a line of `alternates` names.
fn lender(dataset: &Dataset, line: &str) -> Option<Dataset> {
    // Git takes what is between quotes for an escaped path.
    if line.starts_with('"') {
        return None;
    }
    let objects = clean(&Path::new(dataset.path()).join("objects").join(line));
    if objects.file_name()? != "objects" {
        return None;
    }
    Dataset::new("git", objects.parent()?.to_str()?).ok()
}

/// The shortest form of an absolute path, without looking at the disk.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn bare(path: &Path) {
        for folder in ["objects/info", "objects/pack", "refs/heads"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(path.join("packed-refs"), "").unwrap();
    }

    #[test]
    fn nothing_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        fs::write(at("client.toml"), format!("version = 1\n[[allow]]\nmodule = \"git\"\nunder = \"{}/srv\"\n", root.display())).unwrap();
        let config = ClientConfig::load(&at("client.toml")).unwrap();
        bare(&at("secret.git"));
        let check = |name: &str| {
            let folder = beneath::folder(&at("srv").join(name)).unwrap();
            check(&config, &Dataset::new("git", at("srv").join(name).to_str().unwrap()).unwrap(), &folder)
        };
        let alternates = |name: &str, text: &str| fs::write(at("srv").join(name).join("objects/info/alternates"), text).unwrap();
        let names = ["plain", "borrows", "gone", "oldest"];
        let bad = [
            "quoted", "long", "steals", "relative", "inside", "second", "listed", "packs", "pack", "heads", "head", "packed", "tables",
            "deep", "ref",
        ];
        for name in names.iter().chain(&bad) {
            bare(&at("srv").join(name));
        }
        let secret = format!("{}/secret.git/objects", root.display());
        alternates("borrows", &format!("# of a friend\n{0}/srv/plain/objects\n../../plain/objects\n", root.display()));
        alternates("gone", &format!("{}/srv/absent/objects\n", root.display()));
        alternates("quoted", &format!("\"{secret}\"\n"));
        alternates("long", &format!("{}{secret}\n", "#\n".repeat(ALTERNATES_LIMIT)));
        alternates("steals", &format!("{secret}\n"));
        alternates("relative", "../../../secret.git/objects\n");
        alternates("inside", &format!("{}/srv/inside/stolen\n", root.display()));
        symlink(&secret, at("srv/inside/stolen")).unwrap();
        alternates("second", &format!("{}/srv/steals/objects\n", root.display()));
        fs::write(at("list"), "../../plain/objects\n").unwrap();
        symlink(at("list"), at("srv/listed/objects/info/alternates")).unwrap();
        let replace = |name: &str, target: &str| {
            let path = at("srv").join(name);
            if path.is_dir() {
                fs::remove_dir(&path).unwrap()
            } else {
                drop(fs::remove_file(&path))
            }
            symlink(target, path).unwrap();
        };
        replace("packs/objects/pack", &format!("{secret}/pack"));
        replace("pack/objects/pack/pack-x.pack", &format!("{secret}/pack/pack-x.pack"));
        replace("heads/refs/heads", &format!("{}/secret.git/refs/heads", root.display()));
        replace("head/HEAD", "../../secret.git/HEAD");
        replace("packed/packed-refs", "../../secret.git/packed-refs");
        replace("tables/reftable", "../../secret.git/reftable");
        fs::create_dir_all(at("srv/deep/refs/heads/a/b")).unwrap();
        replace("deep/refs/heads/a/b/c", "../../../../../../secret.git/refs/heads");
        replace("ref/refs/heads/x", "refs/../../../secret.git/refs/heads/main");
        replace("oldest/HEAD", "refs/heads/main");
        fs::create_dir(at("srv/oldest/refs/remotes")).unwrap();
        replace("oldest/refs/remotes/HEAD", "refs/heads/main");
        // What a push has not finished is its own account's.
        fs::create_dir(at("srv/plain/objects/tmp_objdir-incoming-x")).unwrap();
        fs::set_permissions(at("srv/plain/objects/tmp_objdir-incoming-x"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
        for name in names {
            check(name).unwrap_or_else(|error| panic!("{name}: {}", error.render()));
        }
        for name in bad {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
