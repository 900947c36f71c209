//! Reading one ref of a repository that another user owns, without running git in it.
//!
//! Knows the two places where git keeps a ref: a file of its own, and `packed-refs`.

use base::{At, Error, Result, untrusted};
use std::path::Path;

/// The largest `packed-refs` that is read; these repositories have a single branch.
const LIMIT: usize = 1 << 20;

/// The commit at `refs/heads/<branch>` of the repository at `path`; `None` when there is no such branch or repository.
///
/// # Errors
/// With the path, when it is there and cannot be read.
pub fn tip(path: &Path, branch: &str) -> Result<Option<String>> {
    let loose = path.join("refs/heads").join(branch);
    if let Some(text) = read(&loose)? {
        return match oid(text.trim_end()) {
            Some(oid) => Ok(Some(oid)),
            None => Err(Error::failed(format!("{} does not hold a commit's id", loose.display()))),
        };
    }
    let packed = read(&path.join("packed-refs"))?.unwrap_or_default();
    let name = format!("refs/heads/{branch}");
    let found = packed.lines().filter_map(|line| line.split_once(' ')).find(|(_, found)| *found == name).and_then(|(text, _)| oid(text));
    if found.is_some() {
        return Ok(found);
    }
    // The ref may have been packed, or unpacked, between the two looks.
    Ok(read(&loose)?.and_then(|text| oid(text.trim_end())))
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => {
            other.at("stat", path)?;
            match untrusted::read(path, LIMIT) {
                Ok(found) => Ok(Some(String::from_utf8_lossy(&found.bytes).into_owned())),
                Err(_) if !path.exists() => Ok(None),
                Err(error) => Err(error),
            }
        }
    }
}

/// 40 lowercase hex digits.
pub fn oid(text: &str) -> Option<String> {
    (text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_and_packed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(tip(dir.path(), "receipts").unwrap(), None);
        std::fs::write(at("packed-refs"), format!("# pack-refs with: peeled\n{} refs/heads/receipts\n", "a".repeat(40))).unwrap();
        assert_eq!(tip(dir.path(), "receipts").unwrap().unwrap(), "a".repeat(40));
        std::fs::create_dir_all(at("refs/heads")).unwrap();
        std::fs::write(at("refs/heads/receipts"), format!("{}\n", "b".repeat(40))).unwrap();
        assert_eq!(tip(dir.path(), "receipts").unwrap().unwrap(), "b".repeat(40));
        std::fs::write(at("refs/heads/receipts"), "ref: refs/heads/other\n").unwrap();
        assert!(tip(dir.path(), "receipts").is_err());
    }
}
