//! The database that a restore goes to: made under another name until it is whole, or found empty.
//!
//! Does not know where the dump comes from.

use super::ask::Answering;
use super::names::{identifier, literal};
use super::{names, sql};
use base::{Blake3, Error, Result};

/// Counts what a restore would meet: everything that is in no schema of the server's own and belongs to no extension, and
/// schemas beside the one that every database has.
const CONTENT: &str = "SELECT (SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname <> 'public' AND nspname <> 'information_schema' \
    AND nspname NOT LIKE 'pg\\_%') + (SELECT count(*) FROM \
    (SELECT relnamespace AS n, oid FROM pg_catalog.pg_class UNION ALL SELECT pronamespace, oid FROM pg_catalog.pg_proc \
    UNION ALL SELECT typnamespace, oid FROM pg_catalog.pg_type) o JOIN pg_catalog.pg_namespace s ON s.oid = o.n \
    WHERE s.nspname <> 'information_schema' AND s.nspname NOT LIKE 'pg\\_%' \
    AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e'))";

/// Words of `CREATE DATABASE` that say what the texts in it are; the rest is this server's own matter.
const LOCALE: [&str; 8] = ["ENCODING", "LOCALE_PROVIDER", "LOCALE", "LC_COLLATE", "LC_CTYPE", "ICU_LOCALE", "ICU_RULES", "BUILTIN_LOCALE"];

/// A database that is being restored into.
#[derive(Debug)]
pub(super) struct Target<'a> {
    to: &'a Answering,
    /// What it is to be called.
    name: &'a str,
    /// What it is called until it is whole, where this restore makes it.
    draft: Option<String>,
}

impl<'a> Target<'a> {
    /// Whether there is a database `name`.
    ///
    /// # Errors
    /// In the server's words.
    pub fn is_there(to: &Answering, name: &str) -> Result<bool> {
        let question = format!("SELECT count(*) FROM pg_catalog.pg_database WHERE datname = {}", literal(name));
        Ok(to.ask_at_home(&question)? != ["0"])
    }

    /// One that is there. It must be empty, or with `tables` lack these.
    ///
    /// # Errors
    /// Of kind refused when it holds anything that would be met.
    pub fn existing(to: &'a Answering, name: &'a str, tables: &[String]) -> Result<Self> {
        if tables.is_empty() && to.ask(name, CONTENT)? != ["0"] {
            return Err(Error::refused(format!("the database {name} is there and is not empty"))
                .hint("Name a database that does not exist yet; it will be made. Or bring back one table of it with --table."));
        }
        for table in tables {
            if to.ask(name, &format!("SELECT pg_catalog.to_regclass({}) IS NULL", literal(table)))? != ["t"] {
                return Err(Error::refused(format!("the table {table} is in the database {name} already"))
                    .hint("Rename it there, or restore into a new database and copy what you need."));
            }
        }
        Ok(Self { to, name, draft: None })
    }

    /// A new one, with the encoding and locale that `create`, the dump's own statement, has.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(to: &'a Answering, name: &'a str, create: Option<&str>) -> Result<Self> {
        names::check(name)?;
        // Always the same for one name, so that what an earlier restore left is found.
        let draft = format!("nightsafe-restoring-{}", &Blake3::of(name.as_bytes()).hex()[..16]);
        if Self::is_there(to, &draft)? {
            to.drop_database(&draft)
                .map_err(|e| e.context(format!("could not remove {draft}, which an earlier restore of {name} left unfinished")))?;
        }
        let locale = create.map(|create| locale(create, to.version.major)).unwrap_or_default();
        // The dump brings what a template could have put there already.
        to.run(None, &format!("CREATE DATABASE {} TEMPLATE template0{locale}", identifier(&draft))).map_err(|error| {
            error
                .context(format!("could not make the database {name}"))
                .hint("Make it yourself as you want it, with createdb; an empty database is taken.")
        })?;
        Ok(Self { to, name, draft: Some(draft) })
    }

    /// What it is called now.
    pub fn now(&self) -> &str {
        self.draft.as_deref().unwrap_or(self.name)
    }

    /// Says of an error that ended the restore where the rest of it is.
    pub fn broken(&self, error: Error) -> Error {
        error.hint(format!("What was restored so far is in the database {}; drop it before you try again.", self.now()))
    }

    /// It is as whole as it will be, and gets its name.
    ///
    /// # Errors
    /// In the server's words.
    pub fn finish(self) -> Result<()> {
        match &self.draft {
            Some(draft) => self
                .to
                .run(None, &format!("ALTER DATABASE {} RENAME TO {}", identifier(draft), identifier(self.name)))
                .map_err(|error| self.broken(error.context(format!("the database {} could not get its name", self.name)))),
            None => Ok(()),
        }
    }
}

/// The options of a dump's `CREATE DATABASE` that are taken over: known words with a text each, quoted anew.
fn locale(create: &str, server: u32) -> String {
    let mut rest = create.split_once(" WITH ").map_or("", |(_, options)| options);
    let mut found = String::new();
    while let Some((word, value)) = rest.split_once('=') {
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('\'') {
            Some(text) => match text.split_once('\'') {
                Some((text, after)) => (text, after),
                None => break,
            },
            None => value.split_once(' ').unwrap_or((value, "")),
        };
        let word = word.trim();
        // Servers before 15 know one provider, and no word for it.
        if LOCALE.contains(&word) && (word != "LOCALE_PROVIDER" || server >= 15) {
            found.push_str(&format!(" {word} = {}", if word == "LOCALE_PROVIDER" { names::identifier(value) } else { literal(value) }));
        }
        rest = after;
    }
    found
}

/// The statements of a dump about the database itself, for the database `name`: settings, rights, owner, comment. The first
/// is the one that would make it.
///
/// # Errors
/// When they are no such SQL.
pub(super) fn own_statements(text: &str, name: &str) -> Result<(Option<String>, Vec<String>)> {
    let mut create = None;
    let mut found = Vec::new();
    for statement in sql::statements(text)? {
        let words = sql::words(statement, 8);
        let first: Vec<&str> = words.iter().map(String::as_str).collect();
        match first.as_slice() {
            ["CREATE", "DATABASE", ..] => create = Some(statement.to_owned()),
            ["ALTER" | "COMMENT" | "GRANT" | "REVOKE", ..] => found.extend(renamed(statement, name)),
            _ => {}
        }
    }
    Ok((create, found))
}

/// The statement with `name` in the place of the database that it is about; `None` when it is about none.
fn renamed(statement: &str, name: &str) -> Option<String> {
    let (before, rest) = statement.split_once(" DATABASE ")?;
    if before.contains(['\'', '"']) && !before.starts_with("ALTER ROLE ") {
        return None;
    }
    let old = sql::words(rest, 1).into_iter().next()?;
    let length = if rest.starts_with('"') { identifier(&old).len() } else { old.len() };
    Some(format!("{before} DATABASE {}{}", identifier(name), &rest[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_and_locale_are_taken_over_and_nothing_else() {
        let create = "CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C.UTF-8'";
        assert_eq!(locale(create, 15), " ENCODING = 'UTF8' LOCALE_PROVIDER = \"libc\" LOCALE = 'C.UTF-8'");
        assert_eq!(locale(create, 14), " ENCODING = 'UTF8' LOCALE = 'C.UTF-8'");
        assert_eq!(locale("CREATE DATABASE a WITH TABLESPACE = fast OWNER = x LOCALE = 'a\\b'", 15), " LOCALE = E'a\\\\b'");
        for nothing in ["", "CREATE DATABASE a", "CREATE DATABASE a WITH ENCODING = 'UTF8", "CREATE DATABASE a WITH X = 'y'; DROP"] {
            assert_eq!(locale(nothing, 15), "", "{nothing}");
        }
    }

    #[test]
    fn statements_about_the_database_get_its_new_name() {
        let text = "CREATE DATABASE \"my shop\" WITH TEMPLATE = template0 ENCODING = 'UTF8';\nALTER DATABASE \"my shop\" OWNER TO shop;\n\\connect \"my shop\"\n\
            SET a = 1;\nCOMMENT ON DATABASE shop IS 'x DATABASE shop';\nALTER DATABASE shop SET work_mem TO '1MB';\nALTER ROLE bob IN DATABASE shop SET a TO 'b';\n\
            REVOKE CONNECT,TEMPORARY ON DATABASE shop FROM PUBLIC;\nSELECT pg_catalog.set_config('search_path', '', false);\n";
        let (create, all) = own_statements(text, "back").unwrap();
        assert!(create.unwrap().starts_with("CREATE DATABASE \"my shop\" WITH"));
        assert_eq!(
            all,
            [
                "ALTER DATABASE \"back\" OWNER TO shop",
                "COMMENT ON DATABASE \"back\" IS 'x DATABASE shop'",
                "ALTER DATABASE \"back\" SET work_mem TO '1MB'",
                "ALTER ROLE bob IN DATABASE \"back\" SET a TO 'b'",
                "REVOKE CONNECT,TEMPORARY ON DATABASE \"back\" FROM PUBLIC",
            ]
        );
        assert!(own_statements("\\! id\n", "back").is_err());
    }
}
