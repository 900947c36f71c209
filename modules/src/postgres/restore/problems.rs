//! What `pg_restore` says when the server would not do all of it.
//!
//! Runs nothing.

use base::text;
use std::collections::BTreeMap;

/// So many different problems are named.
const MOST: usize = 50;

/// The problems in what was said, equal ones counted; `None` when it was something else that ended it.
pub(super) fn problems(said: &str) -> Option<Vec<String>> {
    let mut found: Vec<(String, u64)> = Vec::new();
    let mut at: BTreeMap<String, usize> = BTreeMap::new();
    let mut ignored = false;
    for line in said.lines() {
        ignored |= line.contains("errors ignored on restore");
        let Some((_, error)) = line.split_once("error: ") else { continue };
        let error = error.strip_prefix("could not execute query: ").unwrap_or(error);
        let error = text::printable(error.strip_prefix("ERROR:").unwrap_or(error).trim());
        match at.get(&error) {
            Some(known) => found[*known].1 += 1,
            None => {
                at.insert(error.clone(), found.len());
                found.push((error, 1));
            }
        }
    }
    if !ignored || found.is_empty() {
        return None;
    }
    let more = found.len().saturating_sub(MOST);
    let mut lines: Vec<String> =
        found.into_iter().take(MOST).map(|(error, n)| if n == 1 { error } else { format!("{error} ({n} times)") }).collect();
    if more > 0 {
        lines.push(format!("{more} more"));
    }
    if lines.iter().any(|line| line.starts_with("role ") && line.contains("does not exist")) {
        lines.push("roles come back with --globals, from a snapshot of postgres:*".into());
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_problems_are_counted() {
        let said = "pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 1; 2 3 TABLE a shop\n\
            pg_restore: error: could not execute query: ERROR:  role \"shop\" does not exist\nCommand was: ALTER TABLE public.a OWNER TO shop;\n\n\
            pg_restore: error: could not execute query: ERROR:  role \"shop\" does not exist\nCommand was: x\n\
            pg_restore: error: COPY failed for table \"b\": ERROR:  bad\npg_restore: warning: errors ignored on restore: 3\n";
        assert_eq!(
            problems(said).unwrap(),
            [
                "role \"shop\" does not exist (2 times)",
                "COPY failed for table \"b\": ERROR:  bad",
                "roles come back with --globals, from a snapshot of postgres:*",
            ]
        );
        let many: String = (0..80).map(|n| format!("pg_restore: error: e{n}\n")).collect();
        let many = problems(&format!("{many}pg_restore: warning: errors ignored on restore: 80\n")).unwrap();
        assert_eq!((many.len(), many.last().map(String::as_str)), (MOST + 1, Some("30 more")));
        for fatal in ["", "pg_restore: error: could not read from input file: end of file\n", "Killed\n"] {
            assert_eq!(problems(fatal), None, "{fatal}");
        }
    }
}
