//! A list of names: only these are taken, with the folders above them.
//!
//! Does not look whether they are there.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// So much of a name that cannot be meant is shown.
const SHOWN: usize = 1000;

/// Names below a root, sorted, each once. The empty name is the root: then everything is named.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: Vec<Vec<u8>>,
    /// Sentences about what cannot be the name of anything below the root.
    wrong: Vec<String>,
}

impl Names {
    pub(super) fn parse(list: &[u8], root: &Path) -> Self {
        let end = if list.contains(&0) { 0 } else { b'\n' };
        let mut names = Vec::new();
        let mut wrong = Vec::new();
        for line in list.split(|b| *b == end).filter(|line| !line.is_empty()) {
            match below(line, root.as_os_str().as_bytes()) {
                Ok(name) => names.push(name),
                Err(why) => {
                    let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN)]);
                    wrong.push(format!("files_from names {}, which {why}", base::text::printable(&shown)));
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        Self { names, wrong }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.wrong.is_empty()
    }

    /// The names, in order.
    pub(super) fn all(&self) -> &[Vec<u8>] {
        &self.names
    }

    /// Sentences about what cannot be the name of anything below the root.
    pub(super) fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// Where `path` stands, if it is named itself.
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        self.names.binary_search_by(|name| name.as_slice().cmp(path)).ok()
    }

    /// Whether `path` is named, lies in what is named, or is a folder above it.
    pub(super) fn takes(&self, path: &[u8], is_dir: bool) -> bool {
        let above = (0..path.len()).filter(|i| path[*i] == b'/').map(|end| &path[..end]);
        if self.find(b"").is_some() || self.find(path).is_some() || above.into_iter().any(|folder| self.find(folder).is_some()) {
            return true;
        }
        is_dir && {
            let mut folder = path.to_vec();
            folder.push(b'/');
            let next = self.names.partition_point(|name| *name < folder);
            self.names.get(next).is_some_and(|name| name.starts_with(&folder))
        }
    }
}

/// `line` as a name relative to `root`, lexically cleaned.
fn below(line: &[u8], root: &[u8]) -> Result<Vec<u8>, &'static str> {
    const OUTSIDE: &str = "does not lie below the dataset";
    let relative = if line.starts_with(b"/") {
        let line = clean(line)?;
        let root = clean(root)?;
        match line.strip_prefix(root.as_slice()) {
            Some(rest) if rest.is_empty() || root.is_empty() => rest.to_vec(),
            Some([b'/', rest @ ..]) => rest.to_vec(),
            _ => return Err(OUTSIDE),
        }
    } else {
        clean(line)?
    };
    Ok(relative)
}

/// Without empty parts and dots, and without slashes at the ends.
fn clean(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err("holds a .., and no name may");
    }
    Ok(parts.join(&b'/'))
}
