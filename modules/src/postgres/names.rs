//! Names of databases: which ones can be used, and as which file each is kept in the archive of a whole server.
//!
//! Asks no server.

use base::{Error, Result};

/// The folder of the dumps in the archive of a whole server, and how their names end.
const FOLDER: &str = "databases/";
const ENDING: &str = ".dump";

/// The name of a database, if there can be one.
///
/// # Errors
/// Of kind usage.
pub(super) fn check(name: &str) -> Result<&str> {
    if !name.is_empty() && name.len() <= 63 && !name.chars().any(char::is_control) {
        return Ok(name);
    }
    Err(Error::usage(format!("{name:?} cannot be a database's name here")).hint("Names have 1 to 63 bytes and no control characters."))
}

/// The file of a database's dump: letters that mean something in paths are written as `%` and two hex digits.
pub(super) fn file_of(name: &str) -> String {
    let mut file = FOLDER.to_owned();
    for (i, c) in name.chars().enumerate() {
        if matches!(c, '/' | '%') || c == '.' && i == 0 {
            file.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            file.push(c);
        }
    }
    file + ENDING
}

/// The database whose dump `file` is.
pub(super) fn of_file(file: &str) -> Option<String> {
    let mut rest = file.strip_prefix(FOLDER)?.strip_suffix(ENDING)?;
    let mut name = String::new();
    while let Some((before, after)) = rest.split_once('%') {
        name.push_str(before);
        let byte = u8::from_str_radix(after.get(..2)?, 16).ok().filter(u8::is_ascii)?;
        name.push(byte.into());
        rest = &after[2..];
    }
    name.push_str(rest);
    // One file a name: what this program would have called otherwise is none of its files.
    (check(&name).is_ok() && file_of(&name) == file).then_some(name)
}

/// A name as SQL takes it.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL takes it, whatever the server's settings are: a backslash needs the form that has them.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_names() {
        for good in ["shop", "Shop_2.old-x", "my shop", "it's", "host=evil", "ä", "a/b", "*", "a\\b", "a\"b", "-d", &"x".repeat(63)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "a\rb", "a\0", &"x".repeat(64)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert_eq!(file_of("shop"), "databases/shop.dump");
        assert_eq!(file_of("../a%"), "databases/%2E.%2Fa%25.dump");
        for bad in [
            "shop.dump",
            "databases/a/b.dump",
            "databases/%.dump",
            "databases/%zz.dump",
            "databases/%41.dump",
            "databases/.dump",
            "databases/%c3%a4.dump",
        ] {
            assert_eq!(of_file(bad), None, "{bad}");
        }
        assert_eq!(
            (identifier("a\"b").as_str(), literal("it's").as_str(), literal("a\\'").as_str()),
            ("\"a\"\"b\"", "'it''s'", "E'a\\\\'''")
        );
    }

    proptest! {
        #[test]
        fn every_name_has_a_file_of_its_own(name in "[^\\p{Cc}]{1,15}") {
            prop_assert_eq!(of_file(&file_of(&name)), Some(name.clone()));
            let file = file_of(&name);
            prop_assert!(file.matches('/').count() == 1 && file.len() < 255);
        }
    }
}
