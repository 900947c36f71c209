//! The names of users and groups on this machine, each looked up once.
//!
//! Does not know what they own.

use std::collections::HashMap;
use std::ffi::OsStr;

/// Names by number.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: HashMap<u32, Option<String>>,
    groups: HashMap<u32, Option<String>>,
}

impl Names {
    /// A user's name, where there is one and it is text.
    pub(super) fn user(&mut self, id: u32) -> Option<String> {
        self.users.entry(id).or_insert_with(|| uzers::get_user_by_uid(id).and_then(|user| text(user.name()))).clone()
    }

    /// A group's name.
    pub(super) fn group(&mut self, id: u32) -> Option<String> {
        self.groups.entry(id).or_insert_with(|| uzers::get_group_by_gid(id).and_then(|group| text(group.name()))).clone()
    }
}

fn text(name: &OsStr) -> Option<String> {
    name.to_str().map(str::to_owned)
}
