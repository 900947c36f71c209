//! POSIX access control lists: as the kernel stores them in an attribute, and as the catalog writes them.
//!
//! Does not read or set attributes, and does not look names up.

use base::{Error, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The attribute that holds who may do what.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of a folder that holds what is made in it is given.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const NOBODY: u32 = u32::MAX;

/// Whom a line of a list is about, in the kernel's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The file's owner.
    Owner,
    /// A user by number.
    User(u32),
    /// The file's group.
    OwningGroup,
    /// A group by number.
    Group(u32),
    /// What users and groups that are named may have at most.
    Mask,
    /// Everybody else.
    Other,
}

/// A list: for each, three bits as in a mode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acl(pub BTreeMap<Who, u8>);

/// The names of the users and groups in lists.
pub type AclNames = BTreeMap<Who, String>;

impl Acl {
    /// Reads what the kernel gives.
    ///
    /// # Errors
    /// When it is nothing that kernels store.
    pub fn from_xattr(bytes: &[u8]) -> Result<Self> {
        let number = |at: usize| bytes.get(at..at + 4).and_then(|four| Some(u32::from_le_bytes(four.try_into().ok()?)));
        let short = |at: usize| bytes.get(at..at + 2).and_then(|two| Some(u16::from_le_bytes(two.try_into().ok()?)));
        if number(0) != Some(VERSION) || bytes.len() % 8 != 4 {
            return Err(wrong("it is of a form that this version does not know"));
        }
        let mut list = Self::default();
        for at in (4..bytes.len()).step_by(8) {
            let (Some(tag), Some(bits), Some(id)) = (short(at), short(at + 2), number(at + 4)) else { return Err(wrong("it is cut off")) };
            let who = match tag {
                0x01 => Who::Owner,
                0x02 => Who::User(id),
                0x04 => Who::OwningGroup,
                0x08 => Who::Group(id),
                0x10 => Who::Mask,
                0x20 => Who::Other,
                _ => return Err(wrong("it has lines of an unknown kind")),
            };
            let bits = u8::try_from(bits).ok().filter(|bits| *bits <= 7).ok_or_else(|| wrong("it has unknown permissions"))?;
            list.add(who, bits)?;
        }
        list.check()
    }

    /// What the kernel takes.
    pub fn to_xattr(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        // By kind first, and by number among users and among groups: the order of `Who`.
        for (who, bits) in &self.0 {
            let (tag, id): (u16, u32) = match who {
                Who::Owner => (0x01, NOBODY),
                Who::User(id) => (0x02, *id),
                Who::OwningGroup => (0x04, NOBODY),
                Who::Group(id) => (0x08, *id),
                Who::Mask => (0x10, NOBODY),
                Who::Other => (0x20, NOBODY),
            };
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&u16::from(*bits).to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    /// The text, as `setfacl --set` takes it too.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for (who, bits) in &self.0 {
            let comma = if text.is_empty() { "" } else { "," };
            let bit = |mask, letter| if bits & mask == 0 { '-' } else { letter };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{}:{}{}{}", key(*who), bit(4, 'r'), bit(2, 'w'), bit(1, 'x'));
        }
        text
    }

    /// Reads the text.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut list = Self::default();
        for item in text.split(',') {
            let (who, letters) = item.rsplit_once(':').ok_or_else(|| wrong("a line has no permissions"))?;
            let mut bits = 0;
            let letters = letters.as_bytes();
            for (at, (mask, letter)) in [(4, b'r'), (2, b'w'), (1, b'x')].into_iter().enumerate() {
                match letters.get(at) {
                    Some(found) if *found == letter => bits |= mask,
                    Some(b'-') => {}
                    _ => return Err(wrong("its permissions are not written as rwx")),
                }
            }
            if letters.len() != 3 {
                return Err(wrong("its permissions are not written as rwx"));
            }
            list.add(parse_key(who)?, bits)?;
        }
        list.check()
    }

    fn add(&mut self, who: Who, bits: u8) -> Result<()> {
        if self.0.insert(who, bits).is_some() {
            return Err(wrong("it names somebody twice"));
        }
        Ok(())
    }

    /// What kernels ask of a list.
    fn check(self) -> Result<Self> {
        let has = |who| self.0.contains_key(&who);
        let named = self.0.keys().any(|who| matches!(who, Who::User(_) | Who::Group(_)));
        if has(Who::Owner) && has(Who::OwningGroup) && has(Who::Other) && (has(Who::Mask) || !named) {
            Ok(self)
        } else {
            Err(wrong("it lacks the owner, the group, the others or the mask"))
        }
    }
}

/// How somebody is written, also as a key of the table of names: `user:`, `user:1000`, `group:`, `group:50`, `mask:`, `other:`.
pub(super) fn key(who: Who) -> String {
    match who {
        Who::Owner => "user:".into(),
        Who::User(id) => format!("user:{id}"),
        Who::OwningGroup => "group:".into(),
        Who::Group(id) => format!("group:{id}"),
        Who::Mask => "mask:".into(),
        Who::Other => "other:".into(),
    }
}

/// The reverse of [`key`].
pub(super) fn parse_key(text: &str) -> Result<Who> {
    let number = |digits: &str| {
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
        plain.then(|| digits.parse().ok()).flatten().ok_or_else(|| wrong("somebody's number is none"))
    };
    match text.split_once(':') {
        Some(("user", "")) => Ok(Who::Owner),
        Some(("user", id)) => number(id).map(Who::User),
        Some(("group", "")) => Ok(Who::OwningGroup),
        Some(("group", id)) => number(id).map(Who::Group),
        Some(("mask", "")) => Ok(Who::Mask),
        Some(("other", "")) => Ok(Who::Other),
        _ => Err(wrong("a line is about nobody")),
    }
}

fn wrong(why: &str) -> Error {
    Error::failed(format!("an access control list is wrong: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "user::rw-,user:0:r--,user:1000:rwx,group::r-x,group:50:---,mask::rwx,other::r--";

    #[test]
    fn texts_and_bytes() {
        let list = Acl::parse(TEXT).unwrap();
        assert_eq!(list.to_text(), TEXT);
        let bytes = list.to_xattr();
        assert_eq!((bytes.len(), &bytes[..12]), (4 + 7 * 8, &[2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255][..]));
        assert_eq!(Acl::from_xattr(&bytes).unwrap(), list);
        for bad in [
            "",
            "user::rw-",
            "user::rw-,group::r--",
            "user::rw-,group::r--,other::r--,user:5:r--",
            "user::rw-,group::r--,other::r--,other::r--",
            "user::rwxx,group::r--,other::r--",
            "user::rw,group::r--,other::r--",
            "user::wr-,group::r--,other::r--",
            "user::6,group::r--,other::r--",
            "user::rw-,group::r--,other:1:r--",
            "user::rw-,group::r--,mask:1:r--,other::r--",
            "user::rw-,user:-1:r--,group::r--,mask::r--,other::r--",
            "user::rw-,user:01:r--,group::r--,mask::r--,other::r--",
            "user::rw-,user:4294967296:r--,group::r--,mask::r--,other::r--",
            "user::rw-,user:alice:r--,group::r--,mask::r--,other::r--",
            "owner::rw-,group::r--,other::r--",
        ] {
            assert!(Acl::parse(bad).is_err(), "{bad}");
        }
        for cut in 0..bytes.len() {
            assert!(Acl::from_xattr(&bytes[..cut]).is_err());
        }
        let mut newer = bytes.clone();
        newer[0] = 3;
        assert!(Acl::from_xattr(&newer).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(list) = Acl::from_xattr(&bytes) {
                prop_assert_eq!(Acl::parse(&list.to_text()).unwrap(), list);
            }
        }
    }
}
