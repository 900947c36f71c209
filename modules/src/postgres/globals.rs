//! Roles and tablespaces from an archive: which statements are sent, and which are not.
//!
//! Sends nothing. What is not one of the few statements that `pg_dumpall` writes for them is not sent.

use super::sql::words;
use base::{Result, text};
use std::collections::BTreeSet;

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Statements, in order.
    pub statements: Vec<String>,
    /// Roles and tablespaces that will be made.
    pub made: BTreeSet<String>,
    /// Roles that are there already and stay as they are.
    pub left: BTreeSet<String>,
    /// Roles that will be superusers.
    pub superusers: BTreeSet<String>,
    /// Roles that may log in and get no password.
    pub without_password: BTreeSet<String>,
    /// What is not sent and why, a line each.
    pub problems: Vec<String>,
}

/// Plans what to send to a server that has `roles` and `tablespaces` already.
///
/// # Errors
/// When the text is no such SQL.
pub(super) fn plan(sql: &str, roles: &BTreeSet<String>, tablespaces: &BTreeSet<String>) -> Result<Plan> {
    let mut plan = Plan::default();
    for statement in super::sql::statements(sql)? {
        let first = words(statement, 6);
        let word = |at: usize| first.get(at).map(|word: &String| word.to_ascii_uppercase()).unwrap_or_default();
        let name = first.get(2).cloned().unwrap_or_default();
        let about = match (word(0).as_str(), word(1).as_str(), word(2).as_str()) {
            ("SET", ..) => continue,
            ("CREATE" | "ALTER", "ROLE", _) => (name, roles),
            ("CREATE" | "ALTER", "TABLESPACE", _) => (name, tablespaces),
            ("COMMENT", "ON", "ROLE") => (first.get(3).cloned().unwrap_or_default(), roles),
            ("COMMENT", "ON", "TABLESPACE") => (first.get(3).cloned().unwrap_or_default(), tablespaces),
            ("SECURITY", "LABEL", _) => (role_of_label(statement), roles),
            // Rights on tablespaces, and on parameters of the server, name what they are on; memberships do not.
            ("GRANT" | "REVOKE", _, "ON") if word(3) == "TABLESPACE" => (first.get(4).cloned().unwrap_or_default(), tablespaces),
            ("GRANT" | "REVOKE", _, "ON") if word(3) == "PARAMETER" => (String::new(), roles),
            ("GRANT", _, "TO") => (first.get(3).cloned().unwrap_or_default(), roles),
            _ => {
                plan.problems.push(format!("a statement was not sent, because roles need none like it: {}", begin(&first)));
                continue;
            }
        };
        let (name, there) = about;
        if there.contains(&name) {
            if there == roles {
                plan.left.insert(name);
            }
            continue;
        }
        if word(0) == "CREATE" {
            plan.made.insert(name.clone());
        }
        if word(0) == "ALTER" && word(1) == "ROLE" && word(3) == "WITH" {
            let options = statement.split_once("PASSWORD").map_or(statement, |(options, _)| options);
            let has = |option: &str| options.split_whitespace().any(|word| word == option);
            if has("SUPERUSER") {
                plan.superusers.insert(name.clone());
            }
            if has("LOGIN") && !statement.contains(" PASSWORD '") {
                plan.without_password.insert(name);
            }
        }
        plan.statements.push(statement.to_owned());
    }
    Ok(plan)
}

fn begin(words: &[String]) -> String {
    text::printable(&words.iter().take(3).cloned().collect::<Vec<_>>().join(" "))
}

/// The role of `SECURITY LABEL FOR x ON ROLE y IS …`.
fn role_of_label(statement: &str) -> String {
    let all = words(statement, 8);
    all.iter().position(|word| word == "ROLE").and_then(|at| all.get(at + 1)).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    const SQL: &str = "SET standard_conforming_strings = on;\nCREATE ROLE postgres;\nALTER ROLE postgres WITH SUPERUSER LOGIN;\n\
        CREATE ROLE \"odd role\";\nALTER ROLE \"odd role\" WITH NOSUPERUSER NOLOGIN;\nCREATE ROLE shop;\n\
        ALTER ROLE shop WITH SUPERUSER INHERIT LOGIN PASSWORD 'SCRAM';\nCREATE ROLE guest;\nALTER ROLE guest WITH LOGIN;\n\
        COMMENT ON ROLE shop IS 'x; y';\nALTER ROLE shop SET work_mem TO '1MB';\nGRANT shop TO \"odd role\" GRANTED BY postgres;\n\
        GRANT shop TO postgres WITH ADMIN OPTION GRANTED BY postgres;\nCREATE TABLESPACE fast OWNER shop LOCATION '/fast';\n\
        GRANT ALL ON TABLESPACE fast TO shop;\n";

    #[test]
    fn what_is_there_stays_as_it_is() {
        let plan = plan(SQL, &set(&["postgres"]), &set(&["pg_default"])).unwrap();
        assert_eq!(plan.made, set(&["odd role", "shop", "guest", "fast"]));
        assert_eq!((plan.left, plan.superusers, plan.without_password), (set(&["postgres"]), set(&["shop"]), set(&["guest"])));
        assert!(plan.statements.iter().all(|statement| !statement.contains("ROLE postgres") && !statement.contains("TO postgres")));
        assert_eq!(plan.statements.len(), 11);
        assert!(plan.problems.is_empty());
        let nothing = super::plan(SQL, &set(&["postgres", "odd role", "shop", "guest"]), &set(&["fast"])).unwrap();
        assert_eq!((nothing.statements.len(), nothing.made.len()), (0, 0));
    }

    #[test]
    fn what_is_not_about_roles_is_not_sent() {
        for bad in [
            "DO $$ BEGIN END $$;",
            "COPY a TO PROGRAM 'id';",
            "DROP ROLE shop;",
            "ALTER SYSTEM SET archive_command = 'id';",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
            "GRANT ALL ON DATABASE shop TO evil;",
            "ALTER DATABASE shop OWNER TO evil;",
        ] {
            let plan = plan(bad, &set(&[]), &set(&[])).unwrap();
            assert!(plan.statements.is_empty() && plan.problems.len() == 1, "{bad}: {plan:?}");
        }
        assert!(plan("\\! id\n", &set(&[]), &set(&[])).is_err());
    }
}
