//! Whether the files of this node belong to whom they must, and nobody else may write them: the kernel's half of who may
//! do what (`docs/install.md` makes it so).
//!
//! Looks and says; changes nothing.

use crate::node::Node;
use base::Name;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What of a client's folder nobody but the poller may write.
const OF_CLIENT: [&str; 5] = ["receipts.git", "packs", "snapshots", "mirrors", "pool"];
/// The same of the node's own.
const OF_NODE: [&str; 7] = ["access", "access/keys", "access/authorized_keys", "access/access.toml", "log", "state", "admin.git"];

/// Writing by the group or by others.
const WRITE: u32 = 0o022;
/// Anything by others.
const OTHERS: u32 = 0o007;

/// What is not as it must be, a sentence each with what to do. What is not there, or cannot be looked at, is told by whoever
/// needs it.
pub fn problems(node: &Node, clients: &[Name]) -> Vec<String> {
    let config = &node.config;
    let Ok(data) = fs::metadata(&config.data) else { return Vec::new() };
    let mut found = Vec::new();
    found.extend(closed(&config.data, &data, OTHERS | WRITE));
    let below = |folder: PathBuf, names: &[&str]| names.iter().map(|name| folder.join(name)).collect::<Vec<_>>();
    let mut own = below(config.data.clone(), &OF_NODE);
    own.push(config.audit_path());
    for client in clients {
        own.push(config.client_path(client));
        own.push(config.log_path(client));
        own.extend(below(config.client_path(client), &OF_CLIENT));
    }
    for path in own {
        // No link is followed: what a link leads to is not where these files must be.
        if let Ok(meta) = fs::symlink_metadata(&path) {
            found.extend(owned(&path, &meta, data.uid()));
            found.extend(closed(&path, &meta, WRITE));
        }
    }
    for path in [&node.file, &config.pull_key, &config.receipts_key] {
        if let Ok(meta) = fs::metadata(path) {
            // root may keep them for the poller.
            found.extend(owned(path, &meta, data.uid()).filter(|_| meta.uid() != 0));
            found.extend(closed(path, &meta, WRITE));
        }
    }
    if let Ok(gate) = fs::metadata(&config.gate) {
        found.extend(closed(&config.gate, &gate, WRITE));
        let handover = config.handover_path();
        for path in [handover.join("wake"), handover] {
            if let Ok(meta) = fs::symlink_metadata(&path) {
                found.extend(owned(&path, &meta, gate.uid()).filter(|_| meta.uid() != data.uid()));
                found.extend(closed(&path, &meta, OTHERS & WRITE));
            }
        }
    }
    found
}

fn owned(path: &Path, meta: &Metadata, owner: u32) -> Option<String> {
    let path = path.display();
    (meta.uid() != owner).then(|| format!("{path} belongs to uid {}, and it must be {owner}'s; run: chown {owner} {path}", meta.uid()))
}

/// That none of the bits in `forbidden` is set.
fn closed(path: &Path, meta: &Metadata, forbidden: u32) -> Option<String> {
    let (path, mode) = (path.display(), meta.mode() & 0o7777);
    let what = if mode & forbidden & WRITE != 0 { "written" } else { "read" };
    let take = match (mode & forbidden & 0o070 != 0, mode & forbidden & OTHERS != 0) {
        (false, false) => return None,
        (true, false) => "g-w",
        (false, true) if forbidden & 0o004 != 0 => "o=",
        (false, true) => "o-w",
        (true, true) if forbidden & 0o004 != 0 => "g-w,o=",
        (true, true) => "g-w,o-w",
    };
    (!meta.is_symlink()).then(|| format!("{path} can be {what} by others (mode {mode:04o}); run: chmod {take} {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn modes_and_owners_are_held_against_what_they_must_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::create_dir(&path).unwrap();
        let said = |mode: u32, forbidden: u32| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            closed(&path, &fs::metadata(&path).unwrap(), forbidden).unwrap_or_default()
        };
        for (mode, forbidden, words) in [
            (0o2750, OTHERS | WRITE, ""),
            (0o2755, WRITE, ""),
            (0o2755, OTHERS | WRITE, "can be read by others (mode 2755); run: chmod o= "),
            (0o2770, OTHERS | WRITE, "can be written by others (mode 2770); run: chmod g-w "),
            (0o2777, OTHERS | WRITE, "chmod g-w,o= "),
            (0o0777, WRITE, "chmod g-w,o-w "),
            (0o0757, WRITE, "chmod o-w "),
            (0o2770, OTHERS & WRITE, ""),
            (0o2772, OTHERS & WRITE, "chmod o-w "),
        ] {
            let found = said(mode, forbidden);
            assert!(found.contains(words) && found.is_empty() == words.is_empty(), "{mode:o}: {found}");
        }
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(owned(&path, &meta, meta.uid()), None);
        assert!(owned(&path, &meta, meta.uid() + 1).unwrap().contains("run: chown"));
    }
}
