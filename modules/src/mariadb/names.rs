//! Names of databases: which can be meant, how they are quoted in SQL, and what their dumps are called in the archive.
//!
//! Asks no server.

use base::{Error, Result};

/// The dataset that stands for every database.
pub(super) const ALL: &str = "*";
/// What the dump of a single database is called in the archive.
pub(super) const DUMP: &str = "dump.sql";
/// The folder of the dumps where there are several.
pub(super) const FOLDER: &str = "databases/";
/// What the dump of users and grants is called; greater than every name in [`FOLDER`].
pub(super) const USERS: &str = "users.sql";
/// What belongs to the server itself.
const SYSTEM: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// The name of a database, if it can be given to every program without being taken for something else.
///
/// # Errors
/// Of kind usage.
pub(super) fn check(name: &str) -> Result<&str> {
    let plain = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | '*');
    let good = !name.is_empty() && name.chars().count() <= 64 && !name.starts_with('-') && name.chars().all(plain) && !name.ends_with(' ');
    if !good {
        return Err(Error::usage(format!("{name:?} cannot be a database's name here")).hint(
            "This release takes names of 1 to 64 characters without '/', '\\', '*' and control characters; mariadb:* is all of them.",
        ));
    }
    if is_system(name) {
        return Err(Error::usage(format!("{name} belongs to the server itself"))
            .hint("Users and grants are in mariadb:*; everything else in it the server makes anew."));
    }
    Ok(name)
}

/// Whether a database belongs to the server itself.
pub(super) fn is_system(name: &str) -> bool {
    SYSTEM.iter().any(|system| name.eq_ignore_ascii_case(system))
}

/// An identifier in SQL.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A string in SQL of any text.
pub(super) fn hex(text: &str) -> String {
    let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("CONVERT(x'{digits}' USING utf8mb4)")
}

/// A database in GRANT, where `_` and `%` would stand for others as well.
pub(super) fn pattern(name: &str) -> String {
    identifier(&name.replace('_', "\\_").replace('%', "\\%"))
}

/// What a database's dump is called in the archive of several.
pub(super) fn stream(name: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$') || byte >= 0x80;
    let mut file = Vec::from(FOLDER.as_bytes());
    for byte in name.bytes() {
        if kept(byte) { file.push(byte) } else { file.extend(format!("%{byte:02X}").bytes()) }
    }
    file.extend(b".sql");
    String::from_utf8_lossy(&file).into_owned()
}

/// The database whose dump is called `path`, when it is one of several.
pub(super) fn database(path: &str) -> Option<String> {
    let file = path.strip_prefix(FOLDER)?.strip_suffix(".sql")?;
    let mut parts = file.split('%');
    let mut bytes = Vec::from(parts.next()?);
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(part[2..].bytes());
    }
    let name = String::from_utf8(bytes).ok()?;
    (stream(&name) == path).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn which_names_can_be_meant() {
        for good in ["shop", "my shop", "it's", "a`b", "ä", "--x".trim_start_matches('-'), &"ä".repeat(64), "a%b_c", ".."] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "-d", "*", "a/b", "a\\b", "a\nb", "mysql", "MySQL", "sys", "information_schema", &"x".repeat(65), "a "] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn how_they_are_written() {
        assert_eq!((identifier("a`b").as_str(), pattern("a_b%").as_str()), ("`a``b`", "`a\\_b\\%`"));
        assert_eq!(hex("a'"), "CONVERT(x'6127' USING utf8mb4)");
        assert_eq!(stream("my shop.ä/%"), "databases/my%20shop%2Eä%2F%25.sql");
        for foreign in ["users.sql", "databases/a b.sql", "databases/%2.sql", "databases/%zz.sql", "databases/%61.sql", "databases/a"] {
            assert_eq!(database(foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn files_and_databases_are_one_to_one(name in "\\PC{1,64}") {
            prop_assert_eq!(database(&stream(&name)), Some(name.clone()));
            prop_assert!(stream(&name).as_str() < USERS && !stream(&name)[FOLDER.len()..].contains('/'));
        }
    }
}
