//! What an account may see, read from `SHOW GRANTS`: a dump leaves out without a word what its account may not see.
//!
//! Asks no server itself.

/// What a dump needs of a database.
const NEEDED: [&str; 4] = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT"];
/// What it needs of the server's own tables, where routines are.
const ROUTINES: &str = "SELECT ON mysql.proc";

/// What is missing for a dump of `database`, or of everything where there is none: a word for each privilege.
pub(super) fn missing(grants: &[String], database: Option<&str>) -> Vec<String> {
    let grants: Vec<Grant<'_>> = grants.iter().filter_map(|line| Grant::parse(line)).collect();
    let has = |privilege: &str, covers: &dyn Fn(&Object) -> bool| {
        grants.iter().any(|grant| covers(&grant.on) && grant.privileges.iter().any(|p| *p == privilege || p.starts_with("ALL PRIVILEGES")))
    };
    let here = |object: &Object| match (object, database) {
        (Object::Everything, _) => true,
        (Object::Database(pattern), Some(name)) => like(pattern, name),
        _ => false,
    };
    let mut missing: Vec<String> =
        NEEDED.iter().filter(|privilege| !has(privilege, &here)).map(|privilege| (*privilege).to_owned()).collect();
    let proc = |object: &Object| match object {
        Object::Everything => true,
        Object::Database(pattern) => like(pattern, "mysql"),
        Object::Table(database, table) => database == "mysql" && table == "proc",
        Object::Other => false,
    };
    if database.is_some() && !has("SELECT", &proc) && !has("SHOW CREATE ROUTINE", &here) {
        missing.push(ROUTINES.into());
    }
    missing
}

/// The statement that gives what is missing.
pub(super) fn remedy(missing: &[String], database: Option<&str>, account: &str) -> String {
    let on = database.map_or_else(|| "*.*".to_owned(), |name| format!("{}.*", super::names::pattern(name)));
    let plain: Vec<&str> = missing.iter().map(String::as_str).filter(|privilege| *privilege != ROUTINES).collect();
    let mut statements = Vec::new();
    if !plain.is_empty() {
        statements.push(format!("GRANT {} ON {on} TO {account};", plain.join(", ")));
    }
    if plain.len() < missing.len() {
        statements.push(format!("GRANT {ROUTINES} TO {account};"));
    }
    statements.join(" ")
}

struct Grant<'a> {
    privileges: Vec<&'a str>,
    on: Object,
}

/// What a grant is about.
#[derive(Debug, PartialEq, Eq)]
enum Object {
    Everything,
    /// A pattern.
    Database(String),
    Table(String, String),
    Other,
}

impl<'a> Grant<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (privileges, rest) = line.strip_prefix("GRANT ")?.split_once(" ON ")?;
        Some(Self { privileges: privileges.split(", ").collect(), on: object(rest) })
    }
}

fn object(text: &str) -> Object {
    if text.starts_with("*.*") {
        return Object::Everything;
    }
    let Some((database, rest)) = quoted(text) else { return Object::Other };
    if rest.starts_with(".*") {
        return Object::Database(database);
    }
    match rest.strip_prefix('.').and_then(quoted) {
        Some((table, _)) => Object::Table(database, table),
        None => Object::Other,
    }
}

/// A name in backquotes at the beginning of `text`, and what comes after it.
pub(super) fn quoted(text: &str) -> Option<(String, &str)> {
    let mark = text.chars().next().filter(|c| matches!(c, '`' | '"'))?;
    let mut name = String::new();
    let mut rest = &text[1..];
    loop {
        let (part, after) = rest.split_once(mark)?;
        name.push_str(part);
        match after.strip_prefix(mark) {
            Some(more) => {
                name.push(mark);
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

/// Whether the pattern of a grant stands for `name`: `_` is one character, `%` any number, a backslash makes them plain.
fn like(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('%') => (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| like(rest.as_str(), &name[at..])),
        Some(other) => {
            let (wanted, wild) = if other == '\\' { (rest.next().unwrap_or('\\'), false) } else { (other, other == '_') };
            let mut name = name.chars();
            name.next().is_some_and(|c| wild || c == wanted) && like(rest.as_str(), name.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing() {
        let table: [(&[&str], Option<&str>, &[&str]); 9] = [
            (&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"], Some("shop"), &[]),
            (&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"], None, &[]),
            (&["GRANT SELECT, LOCK TABLES, SHOW VIEW, EVENT, TRIGGER ON *.* TO `b`@`localhost` IDENTIFIED BY PASSWORD '*1'"], None, &[]),
            (&["GRANT USAGE ON *.* TO `b`@`%`"], Some("shop"), &["SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "SELECT ON mysql.proc"]),
            (
                &[
                    "GRANT USAGE ON *.* TO `b`@`%`",
                    "GRANT SELECT, SHOW VIEW, EVENT, TRIGGER ON `sh\\_op`.* TO `b`@`%`",
                    "GRANT SELECT ON `mysql`.`proc` TO `b`@`%`",
                ],
                Some("sh_op"),
                &[],
            ),
            (
                &["GRANT SELECT, SHOW VIEW, EVENT, TRIGGER ON `sh\\_op`.* TO `b`@`%`"],
                Some("shxop"),
                &["SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "SELECT ON mysql.proc"],
            ),
            (&["GRANT SELECT, SHOW VIEW, EVENT ON `sh%`.* TO `b`@`%`", "GRANT SELECT ON `mysql`.* TO x"], Some("shop"), &["TRIGGER"]),
            (&["GRANT SELECT, SHOW VIEW, EVENT, TRIGGER, SHOW CREATE ROUTINE ON `shop`.* TO `b`@`%`"], Some("shop"), &[]),
            (&["GRANT SELECT, SHOW VIEW, EVENT, TRIGGER ON `shop`.* TO `b`@`%`"], None, &["SELECT", "SHOW VIEW", "TRIGGER", "EVENT"]),
        ];
        for (grants, database, wanted) in table {
            let grants: Vec<String> = grants.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(missing(&grants, database), wanted, "{grants:?} for {database:?}");
        }
    }

    #[test]
    fn what_to_do_about_it() {
        let missing = ["TRIGGER".to_owned(), ROUTINES.to_owned()];
        assert_eq!(
            remedy(&missing, Some("a_b"), "'b'@'h'"),
            "GRANT TRIGGER ON `a\\_b`.* TO 'b'@'h'; GRANT SELECT ON mysql.proc TO 'b'@'h';"
        );
        assert_eq!(remedy(&missing[..1], None, "x"), "GRANT TRIGGER ON *.* TO x;");
    }

    #[test]
    fn names_in_quotes() {
        assert_eq!(quoted("`a``b`.*"), Some(("a`b".into(), ".*")));
        assert_eq!(quoted("\"a\"@x"), Some(("a".into(), "@x")));
        for bad in ["", "a", "`a", "`a``"] {
            assert_eq!(quoted(bad), None, "{bad}");
        }
    }
}
