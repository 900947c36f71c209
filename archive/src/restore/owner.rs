//! Who is to own what is restored: by name where the name is known here, else by number, and nobody else's unless root.
//!
//! Does not touch files.

use crate::entry::{Acl, AclNames, Attributes, Entry, Who, Xattrs};
use rustix::fs::{Gid, Mode, Timespec, Uid};
use std::collections::HashMap;

/// What an entry is to look like when it is done, besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    /// None when it stays with whoever restores.
    pub(super) owner: Option<(Uid, Gid)>,
    /// Whether that is somebody else than whose it was.
    pub(super) foreign: bool,
    pub(super) mode: Mode,
    pub(super) mtime: Timespec,
    /// Where there are any.
    pub(super) worn: Option<Box<Worn>>,
}

/// Attributes, and access control lists in which names have become numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Worn {
    pub(super) xattrs: Xattrs,
    pub(super) acl: Option<Acl>,
    pub(super) default_acl: Option<Acl>,
}

/// No system has longer names, and no restore looks at more of them without looking again.
const NAME: usize = 256;
const NAMES: usize = 65_536;

/// Looks owners up, each name once.
pub(super) struct Owners {
    root: bool,
    own: (u32, u32),
    /// Further groups of whoever restores.
    member: Vec<u32>,
    numeric: bool,
    users: HashMap<String, Option<u32>>,
    groups: HashMap<String, Option<u32>>,
}

impl Owners {
    /// With `numeric`, names are not looked at.
    pub(super) fn new(numeric: bool) -> Self {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let member = rustix::process::getgroups().unwrap_or_default().into_iter().map(Gid::as_raw).collect();
        Self { root: own.0 == 0, own, member, numeric, users: HashMap::new(), groups: HashMap::new() }
    }

    pub(super) fn meta(&mut self, entry: &Entry) -> Meta {
        let wanted = (self.user(entry.user.as_deref()).unwrap_or(entry.uid), self.group(entry.group.as_deref()).unwrap_or(entry.gid));
        // Anybody may give what is his to a group that he is in. -1 means "leave as it is" to chown.
        let may = self.root || wanted.0 == self.own.0 && wanted.1 != self.own.1 && self.member.contains(&wanted.1);
        let owner = (may && wanted.0 != u32::MAX && wanted.1 != u32::MAX).then(|| (Uid::from_raw(wanted.0), Gid::from_raw(wanted.1)));
        // A program that ran as somebody else must not become one that runs as whoever restores it.
        let special = if owner.is_some() || wanted == self.own { 0o7777 } else { 0o1777 };
        let mtime = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanos.into() };
        let worn = entry.attributes.as_deref().map(|attributes| Box::new(self.worn(attributes)));
        let foreign = owner.is_none() && wanted != self.own;
        Meta { owner, foreign, mode: Mode::from_raw_mode(entry.mode & special), mtime, worn }
    }

    fn user(&mut self, name: Option<&str>) -> Option<u32> {
        let name = name.filter(|name| !self.numeric && name.len() <= NAME)?;
        if !self.users.contains_key(name) {
            if self.users.len() >= NAMES {
                self.users.clear();
            }
            self.users.insert(name.to_owned(), uzers::get_user_by_name(name).map(|user| user.uid()));
        }
        self.users.get(name).copied().flatten()
    }

    fn group(&mut self, name: Option<&str>) -> Option<u32> {
        let name = name.filter(|name| !self.numeric && name.len() <= NAME)?;
        if !self.groups.contains_key(name) {
            if self.groups.len() >= NAMES {
                self.groups.clear();
            }
            self.groups.insert(name.to_owned(), uzers::get_group_by_name(name).map(|group| group.gid()));
        }
        self.groups.get(name).copied().flatten()
    }

    fn worn(&mut self, attributes: &Attributes) -> Worn {
        let Attributes { xattrs, acl, default_acl, names } = attributes;
        let mut here = |list: &Option<Acl>| list.as_ref().map(|list| self.list(list, names));
        Worn { acl: here(acl), default_acl: here(default_acl), xattrs: xattrs.clone() }
    }

    /// A list with the numbers that its names have here. Where two become one, the first stays.
    fn list(&mut self, list: &Acl, names: &AclNames) -> Acl {
        let mut here = Acl::default();
        for (who, bits) in &list.0 {
            let name = names.get(who).map(String::as_str);
            let who = match *who {
                Who::User(id) => Who::User(self.user(name).unwrap_or(id)),
                Who::Group(id) => Who::Group(self.group(name).unwrap_or(id)),
                other => other,
            };
            here.0.entry(who).or_insert(*bits);
        }
        here
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
            hard_link: None,
            attributes: None,
        }
    }

    #[test]
    fn names_come_first_and_only_root_gives_away() {
        let mut root = Owners { root: true, own: (0, 0), member: vec![], numeric: false, users: HashMap::new(), groups: HashMap::new() };
        assert_eq!(root.meta(&entry(Some("root"), 77)).owner, Some((Uid::ROOT, Gid::from_raw(77))));
        assert_eq!(root.meta(&entry(Some("no-such-user-here"), 77)).owner, Some((Uid::from_raw(77), Gid::from_raw(77))));
        assert_eq!(root.meta(&entry(None, u32::MAX)).owner, None);
        root.numeric = true;
        assert_eq!(root.meta(&entry(Some("root"), 77)).owner, Some((Uid::from_raw(77), Gid::from_raw(77))));
        assert_eq!(root.meta(&entry(None, 77)).mode.as_raw_mode(), 0o6755);
        let mut user =
            Owners { root: false, own: (1000, 1000), member: vec![50], numeric: false, users: HashMap::new(), groups: HashMap::new() };
        assert_eq!(user.meta(&entry(None, 0)).owner.is_none(), user.meta(&entry(None, 1000)).owner.is_none());
        assert_eq!(user.meta(&entry(None, 0)).mode.as_raw_mode(), 0o755);
        assert_eq!(user.meta(&entry(None, 1000)).mode.as_raw_mode(), 0o6755);
        // Whoever is in a group may give it what is his.
        assert_eq!(user.meta(&Entry { gid: 50, ..entry(None, 1000) }).owner, Some((Uid::from_raw(1000), Gid::from_raw(50))));
        assert!(user.meta(&Entry { gid: 51, ..entry(None, 1000) }).foreign);
    }

    #[test]
    fn lists_are_for_the_same_people_and_not_the_same_numbers() {
        let list = Acl([(Who::Owner, 6), (Who::User(7), 4), (Who::User(8), 5), (Who::Group(9), 1), (Who::Mask, 7)].into());
        let names = [(Who::User(7), "root".to_owned()), (Who::User(8), "no-such-user-here".to_owned()), (Who::Group(9), "root".to_owned())];
        let mut owners = Owners { root: true, own: (0, 0), member: vec![], numeric: false, users: HashMap::new(), groups: HashMap::new() };
        let here = Acl([(Who::Owner, 6), (Who::User(0), 4), (Who::User(8), 5), (Who::Group(0), 1), (Who::Mask, 7)].into());
        assert_eq!(owners.list(&list, &names.clone().into()), here);
        owners.numeric = true;
        assert_eq!(owners.list(&list, &names.into()), list);
    }
}
