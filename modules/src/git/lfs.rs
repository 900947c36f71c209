//! What git-lfs keeps beside a repository, `lfs/objects/ab/cd/<sha256>`: taken over into the mirror, and put back.
//!
//! An object is its name: each is hashed before it is there. Nothing is ever dropped. The program git-lfs takes no part. The
//! form of pointers is that of git-lfs' docs/spec.md.

use super::mirror::{feed_ok, feeding, git};
use base::{At, Error, Hashed, Kind, Result, Sha256, atomic, process};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// Ids and sizes of objects.
pub(super) type Objects = BTreeMap<Sha256, u64>;

/// Pointers are shorter than this.
const POINTER: usize = 1024;
/// Most that a listing of what may be pointers may take.
const LISTED: usize = 1 << 30;
/// What pointers begin with; the second is of the years before the first release.
const VERSIONS: [&str; 2] = ["version https://git-lfs.github.com/spec/v1\n", "version https://hawser.github.com/spec/v1\n"];
/// Where objects are, in a repository.
const FOLDER: &str = "lfs/objects";

/// Reads what the source lists: a line an object.
pub(super) fn parse_list(bytes: &[u8]) -> Result<Objects> {
    let wrong = || Error::refused("the list of the source's LFS objects is not well made");
    let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
    let line = |line: &str| {
        let (id, size) = line.split_once(' ')?;
        Some((Sha256::from_hex(id)?, size.parse().ok()?))
    };
    text.lines().map(|text| line(text).ok_or_else(wrong)).collect()
}

/// Where an object is, in the repository at `path`.
pub(super) fn place(path: &Path, id: &Sha256) -> PathBuf {
    let hex = id.hex();
    path.join(FOLDER).join(&hex[..2]).join(&hex[2..4]).join(hex)
}

/// The bytes of all objects of a repository.
pub(super) fn size(path: &Path) -> Result<u64> {
    let mut size = 0u64;
    each(&path.join(FOLDER), &mut |_, meta| {
        size = size.saturating_add(meta.len());
        Ok(())
    })?;
    Ok(size)
}

/// Goes over the files below `folder`, which may not be there.
fn each(folder: &Path, use_it: &mut dyn FnMut(&Path, &Metadata) -> Result<()>) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        other => other.at("list", folder)?,
    };
    for entry in entries {
        let path = entry.at("list", folder)?.path();
        match path.symlink_metadata() {
            // An unfinished one, gone since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => {
                let meta = other.at("look at", &path)?;
                if meta.is_dir() { each(&path, use_it)? } else { use_it(&path, &meta)? }
            }
        }
    }
    Ok(())
}

/// Those of `wanted` that the repository at `path` does not have; with `suspect`, also those that are damaged there.
pub(super) fn missing(path: &Path, wanted: Objects, suspect: bool) -> Result<Objects> {
    let mut missing = Objects::new();
    for (id, size) in wanted {
        let place = place(path, &id);
        if !place.is_file() || suspect && !is_good(&place, &id)? {
            missing.insert(id, size);
        }
    }
    Ok(missing)
}

/// Whether a file is what its name says.
fn is_good(path: &Path, id: &Sha256) -> Result<bool> {
    let mut hashed = Hashed::new(io::sink());
    io::copy(&mut File::open(path).at("open", path)?, &mut hashed).at("read", path)?;
    Ok(hashed.finish().1 == *id)
}

/// The objects of a repository that are not what their names say, a line each.
pub(super) fn damage(path: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    each(&path.join(FOLDER), &mut |file, _| {
        let id = file.file_name().and_then(|name| name.to_str()).and_then(Sha256::from_hex);
        if let Some(id) = id
            && !is_good(file, &id)?
        {
            found.push(format!("the LFS object {} is damaged", id.hex()));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Puts one object into the repository at `path`, from what `read` writes. `false` when `read` has none.
///
/// # Errors
/// As `read`; of kind refused when it is not what its name says.
pub(super) fn put(path: &Path, id: &Sha256, read: impl FnOnce(&mut dyn Write) -> Result<bool>) -> Result<bool> {
    let place = place(path, id);
    atomic::make_folder(place.parent().unwrap_or(path), 0o750)?;
    // Unfinished ones lie where they are swept from.
    let mut hashed = Hashed::new(atomic::Draft::beside(&path.join("lfs"), 0o440)?);
    if !read(&mut hashed)? {
        return Ok(false);
    }
    let (draft, found) = hashed.finish();
    if found != *id {
        return Err(Error::refused("it is not what its name says"));
    }
    draft.publish_as(&place)?;
    Ok(true)
}

/// Puts `objects` into the repository at `path`, each by `read`. What cannot be had is said in a line, and stops nothing.
///
/// # Errors
/// When the source cannot be reached any more, or nothing can be written.
pub(super) fn put_all(
    path: &Path,
    objects: &Objects,
    mut read: impl FnMut(&Sha256, u64, &mut dyn Write) -> Result<bool>,
) -> Result<Vec<String>> {
    let mut failed = Vec::new();
    for (id, size) in objects {
        let why = match put(path, id, |to| read(id, *size, to)) {
            Ok(true) => continue,
            Ok(false) => "it is not there".to_owned(),
            Err(error) if error.kind() == Kind::NotNow => return Err(error),
            Err(error) => error.one_line(),
        };
        failed.push(format!("the LFS object {} of {size} bytes: {why}", id.hex()));
    }
    Ok(failed)
}

/// The objects that pointers name in what `ids` lead to, and what `without` leads to does not.
pub(super) fn pointers(path: &Path, ids: &[&str], without: &[&str], time: Duration) -> Result<Objects> {
    if ids.is_empty() {
        return Ok(Objects::new());
    }
    let input: String = ids.iter().flat_map(|id| [*id, "\n"]).collect();
    let filter = format!("--filter=combine:object:type=blob+blob:limit={POINTER}");
    let mut list = git(path, &["rev-list", "--objects", "--no-object-names", &filter, "--stdin"]);
    list.args(without);
    let listed = feed_ok(list, input.into_bytes(), LISTED, time)?;
    let contents = git(path, &["cat-file", "--batch", "--buffer"]);
    let read = |from| read_pointers(BufReader::new(from));
    let (status, found, stderr) = feeding(contents, listed, |contents| process::run_reading(contents, time, |_| (), read))?;
    if status.success() {
        return Ok(found);
    }
    Err(process::failure("git cat-file", &Output { status, stdout: Vec::new(), stderr }))
}

/// Reads what `git cat-file --batch` prints.
fn read_pointers(mut from: impl BufRead) -> io::Result<Objects> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "git did not print objects as it should");
    let (mut found, mut line) = (Objects::new(), Vec::new());
    loop {
        line.clear();
        if (&mut from).take(256).read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        let text = std::str::from_utf8(&line).map_err(|_| wrong())?;
        let mut words = text.trim_end().split(' ').skip(1);
        let (kind, size) = (words.next(), words.next().and_then(|size| size.parse::<u64>().ok()));
        let (Some(kind), Some(size)) = (kind, size) else { return Err(wrong()) };
        if kind == "blob" && size < POINTER as u64 {
            let mut content = Vec::new();
            (&mut from).take(size).read_to_end(&mut content)?;
            found.extend(parse_pointer(&content));
        } else {
            io::copy(&mut (&mut from).take(size), &mut io::sink())?;
        }
        if (&mut from).take(1).read_to_end(&mut line)? != 1 {
            return Err(wrong());
        }
    }
}

/// What a pointer names.
fn parse_pointer(bytes: &[u8]) -> Option<(Sha256, u64)> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() < POINTER)?;
    let rest = VERSIONS.iter().find_map(|version| text.strip_prefix(version))?;
    let value = |key: &str| rest.lines().find_map(|line| line.strip_prefix(key));
    Some((Sha256::from_hex(value("oid sha256:")?)?, value("size ")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(version: &str, id: &str, size: &str) -> String {
        format!("{version}oid sha256:{id}\nsize {size}\n")
    }

    #[test]
    fn only_pointers_are_pointers() {
        let id = Sha256::of(b"x");
        for version in VERSIONS {
            assert_eq!(parse_pointer(pointer(version, &id.hex(), "12").as_bytes()), Some((id, 12)));
        }
        let with = format!("{}ext-0-foo sha256:{}\noid sha256:{}\nsize 12\n", VERSIONS[0], "a".repeat(64), id.hex());
        assert_eq!(parse_pointer(with.as_bytes()), Some((id, 12)));
        for bad in [
            String::new(),
            pointer("", &id.hex(), "12"),
            pointer("version https://example.org/v1\n", &id.hex(), "12"),
            pointer(VERSIONS[0], &id.hex().to_uppercase(), "12"),
            pointer(VERSIONS[0], "../../../etc/passwd", "12"),
            pointer(VERSIONS[0], &id.hex(), "-1"),
            pointer(VERSIONS[0], &id.hex(), "x"),
            pointer(VERSIONS[0], &id.hex(), &format!("12\n{}", "a".repeat(POINTER))),
        ] {
            assert_eq!(parse_pointer(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn what_git_prints_is_read_to_its_end_or_not_at_all() {
        let id = Sha256::of(b"x");
        let text = pointer(VERSIONS[0], &id.hex(), "12");
        let blob = format!("{} blob {}\n{text}\n", "a".repeat(40), text.len());
        let printed = format!("{0} commit 5\nabcde\n{blob}{0} blob 3\nxyz\n", "b".repeat(40));
        assert_eq!(read_pointers(printed.as_bytes()).unwrap(), Objects::from([(id, 12)]));
        for cut in [5, 50, printed.len() - 1] {
            assert!(read_pointers(&printed.as_bytes()[..cut]).is_err(), "{cut}");
        }
        assert!(read_pointers(&b"abc missing\n"[..]).is_err());
    }
}
