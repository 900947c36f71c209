//! Whether the files of this node belong to whom they must, nobody else may write them, and only who serves them reads them:
//! the kernel's half of who may do what (`docs/install.md` makes it so).
//!
//! Looks and says; changes nothing.

use crate::groups;
use crate::node::Node;
use base::Name;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What of a client's folder nobody but the poller may write.
const OF_CLIENT: [&str; 5] = ["receipts.git", "packs", "snapshots", "mirrors", "pool"];
/// The same of the node's own.
const OF_NODE: [&str; 4] = ["log", "state", "admin.git", "_cgit"];
/// What everybody may read, and only the poller may write.
const PUBLISHED: [&str; 5] = ["access", "access/keys", "access/authorized_keys", "access/access.toml", "access/tips"];

/// Writing by the group or by others.
const WRITE: u32 = 0o022;
/// Anything by others.
const OTHERS: u32 = 0o007;
/// What others may not do in folders that they only pass through.
const INSIDE: u32 = 0o006;

/// What is not as it must be, a sentence each with what to do. What is not there, or cannot be looked at, is told by whoever
/// needs it.
pub fn problems(node: &Node, clients: &[Name]) -> Vec<String> {
    let config = &node.config;
    let Ok(data) = fs::metadata(&config.data) else { return Vec::new() };
    let mut found = Vec::new();
    let mut look = |path: &Path, forbidden: u32| {
        // No link is followed: what a link leads to is not where these files must be.
        if let Ok(meta) = fs::symlink_metadata(path) {
            found.extend(owned(path, &meta, data.uid()));
            found.extend(closed(path, &meta, forbidden));
        }
    };
    look(&config.data, INSIDE | WRITE);
    PUBLISHED.iter().for_each(|name| look(&config.data.join(name), WRITE));
    OF_NODE.iter().for_each(|name| look(&config.data.join(name), OTHERS | WRITE));
    look(&config.audit_path(), OTHERS | WRITE);
    for client in clients {
        let folder = config.client_path(client);
        look(&folder, INSIDE | WRITE);
        OF_CLIENT.iter().for_each(|name| look(&folder.join(name), OTHERS | WRITE));
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
        if gate.uid() != data.uid() {
            found.extend(readers(node, clients, &gate, &data));
        }
    }
    found
}

/// Where the gate has an account of its own: that it reads neither store nor log, and does read what it serves.
fn readers(node: &Node, clients: &[Name], gate: &Metadata, data: &Metadata) -> Vec<String> {
    let config = &node.config;
    let mut found = Vec::new();
    let account = uzers::get_user_by_uid(gate.uid());
    let groups: Vec<u32> = account.iter().filter_map(uzers::User::groups).flatten().map(|group| group.gid()).collect();
    let name = account.as_ref().map_or_else(|| gate.uid().to_string(), |account| account.name().to_string_lossy().into_owned());
    if groups.contains(&data.gid()) {
        let group =
            uzers::get_group_by_gid(data.gid()).map_or_else(|| data.gid().to_string(), |group| group.name().to_string_lossy().into_owned());
        found.push(format!(
            "{name}, the gate's account, is in the group {group} and so can read store and log; run: gpasswd -d {name} {group}, with groups.gate in node.toml as docs/install.md has it"
        ));
    }
    let given = [("gate", &config.groups.gate), ("mirrors", &config.groups.mirrors)];
    for (setting, group) in given {
        let Ok(Some(group)) = groups::id(group.as_deref()) else { continue };
        let paths: Vec<PathBuf> = match setting {
            "gate" => std::iter::once(config.admin_path()).chain(clients.iter().map(|client| config.receipts_path(client))).collect(),
            _ => clients.iter().map(|client| config.client_path(client).join("mirrors")).collect(),
        };
        for path in paths {
            if fs::symlink_metadata(&path).is_ok_and(|meta| !groups::is_given(&meta, group)) {
                let path = path.display();
                found.push(format!("{path} is not the group's that groups.{setting} names; nightsafe-server poll --sweep makes it so"));
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
    let others = match forbidden & OTHERS {
        OTHERS => "o=",
        INSIDE => "o-rw",
        _ => "o-w",
    };
    let take = match (mode & forbidden & 0o070 != 0, mode & forbidden & OTHERS != 0) {
        (false, false) => return None,
        (true, false) => "g-w".to_owned(),
        (false, true) => others.to_owned(),
        (true, true) => format!("g-w,{others}"),
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
            (0o2751, INSIDE | WRITE, ""),
            (0o2755, INSIDE | WRITE, "can be read by others (mode 2755); run: chmod o-rw "),
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
