//! Who is to own what is restored: by name where the name is known here, else by number, and nobody else's unless root.
//!
//! Does not touch files.

use crate::entry::Entry;
use rustix::fs::{Gid, Mode, Timespec, Uid};
use std::collections::HashMap;

/// What an entry is to look like when it is done, besides its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    /// None when it stays with whoever restores.
    pub(super) owner: Option<(Uid, Gid)>,
    pub(super) mode: Mode,
    pub(super) mtime: Timespec,
}

/// Looks owners up, each name once.
pub(super) struct Owners {
    root: bool,
    own: (u32, u32),
    numeric: bool,
    users: HashMap<String, Option<u32>>,
    groups: HashMap<String, Option<u32>>,
}

impl Owners {
    /// With `numeric`, names are not looked at.
    pub(super) fn new(numeric: bool) -> Self {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { root: own.0 == 0, own, numeric, users: HashMap::new(), groups: HashMap::new() }
    }

    pub(super) fn meta(&mut self, entry: &Entry) -> Meta {
        let user = entry
            .user
            .as_ref()
            .filter(|_| !self.numeric)
            .and_then(|name| *self.users.entry(name.clone()).or_insert_with(|| uzers::get_user_by_name(name).map(|user| user.uid())));
        let group =
            entry.group.as_ref().filter(|_| !self.numeric).and_then(|name| {
                *self.groups.entry(name.clone()).or_insert_with(|| uzers::get_group_by_name(name).map(|group| group.gid()))
            });
        let wanted = (user.unwrap_or(entry.uid), group.unwrap_or(entry.gid));
        // -1 means "leave as it is" to chown.
        let owner = (self.root && wanted.0 != u32::MAX && wanted.1 != u32::MAX).then(|| (Uid::from_raw(wanted.0), Gid::from_raw(wanted.1)));
        // A program that ran as somebody else must not become one that runs as whoever restores it.
        let special = if owner.is_some() || wanted == self.own { 0o7777 } else { 0o1777 };
        let mtime = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanos.into() };
        Meta { owner, mode: Mode::from_raw_mode(entry.mode & special), mtime }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{EntryKind, Mtime};

    fn entry(user: Option<&str>, uid: u32) -> Entry {
        Entry {
            path: b"a".to_vec(),
            kind: EntryKind::Dir,
            mode: 0o6755,
            uid,
            gid: uid,
            user: user.map(Into::into),
            group: None,
            mtime: Mtime { seconds: -1, nanos: 5 },
        }
    }

    #[test]
    fn names_come_first_and_only_root_gives_away() {
        let mut root = Owners { root: true, own: (0, 0), numeric: false, users: HashMap::new(), groups: HashMap::new() };
        assert_eq!(root.meta(&entry(Some("root"), 77)).owner, Some((Uid::ROOT, Gid::from_raw(77))));
        assert_eq!(root.meta(&entry(Some("no-such-user-here"), 77)).owner, Some((Uid::from_raw(77), Gid::from_raw(77))));
        assert_eq!(root.meta(&entry(None, u32::MAX)).owner, None);
        root.numeric = true;
        assert_eq!(root.meta(&entry(Some("root"), 77)).owner, Some((Uid::from_raw(77), Gid::from_raw(77))));
        assert_eq!(root.meta(&entry(None, 77)).mode.as_raw_mode(), 0o6755);
        let mut user = Owners { root: false, own: (1000, 1000), numeric: false, users: HashMap::new(), groups: HashMap::new() };
        assert_eq!(user.meta(&entry(None, 0)).owner.is_none(), user.meta(&entry(None, 1000)).owner.is_none());
        assert_eq!(user.meta(&entry(None, 0)).mode.as_raw_mode(), 0o755);
        assert_eq!(user.meta(&entry(None, 1000)).mode.as_raw_mode(), 0o6755);
    }
}
