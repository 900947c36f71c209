//! SQL that comes from an archive: cut into statements, and sent behind psql's own restriction.
//!
//! Nothing but SQL gets to the server: psql's commands in it are refused here, and once more by psql.

use super::ask::Answering;
use base::{At, Error, Result, process, text};
use std::io::{Read, Write};

/// Longer ones are none that `pg_dumpall` writes for a server's roles.
const LIMIT: usize = 64 << 20;

/// Cuts into statements, without comments in front and without the semicolon. The lines that `pg_dumpall` writes for psql
/// alone (`\restrict`, `\unrestrict`, `\connect`, `\encoding`) are left out.
///
/// # Errors
/// When a quotation does not end, or anything else holds a command of psql.
pub(super) fn statements(text: &str) -> Result<Vec<&str>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut start: Option<usize> = None;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &text[at..];
        if start.is_none() && (byte.is_ascii_whitespace() || byte == b';') {
            at += 1;
            continue;
        }
        if rest.starts_with("--") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        if start.is_none() && byte == b'\\' && (at == 0 || bytes[at - 1] == b'\n') {
            let line = rest.lines().next().unwrap_or_default();
            if !["\\restrict ", "\\unrestrict ", "\\connect ", "\\encoding "].iter().any(|known| line.starts_with(known)) {
                return Err(Error::refused(format!(
                    "the SQL holds a command of psql: {}",
                    text::printable(&line.chars().take(60).collect::<String>())
                )));
            }
            at += line.len();
            continue;
        }
        let begin = *start.get_or_insert(at);
        let length = match byte {
            b';' => {
                found.push(&text[begin..at]);
                start = None;
                1
            }
            b'\'' => {
                // A string with escapes, when the word in front of it is a single E.
                let before = &bytes[..at];
                let escapes = before.last().is_some_and(|b| b.eq_ignore_ascii_case(&b'e'))
                    && before.len().checked_sub(2).is_none_or(|i| !is_word(before[i]));
                quoted(rest, '\'', escapes)?
            }
            b'"' => quoted(rest, '"', false)?,
            b'$' if at == 0 || !is_word(bytes[at - 1]) => dollar(rest)?,
            b'\\' => return Err(Error::refused("the SQL holds a command of psql in the middle of a statement")),
            b'/' if rest.starts_with("/*") => return Err(Error::refused("the SQL holds a comment that no dump has")),
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        at += length;
    }
    match start {
        Some(begin) if !text[begin..].trim().is_empty() => Err(Error::refused("the SQL is cut off in the middle of a statement")),
        _ => Ok(found),
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// How long the quotation at the beginning of `rest` is.
fn quoted(rest: &str, quote: char, escapes: bool) -> Result<usize> {
    let mut inside = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = inside.next() {
        if escapes && c == '\\' {
            inside.next();
        } else if c == quote {
            if inside.peek().is_some_and(|(_, next)| *next == quote) {
                inside.next();
            } else {
                return Ok(at + 1);
            }
        }
    }
    Err(Error::refused("the SQL holds a quotation that does not end"))
}

/// How long the `$tag$…$tag$` at the beginning is; 1 where there is none.
fn dollar(rest: &str) -> Result<usize> {
    let Some(end) = rest[1..].find('$').map(|end| end + 2) else { return Ok(1) };
    let tag = &rest[..end];
    if !tag[1..end - 1].bytes().all(is_word) || tag.as_bytes()[1].is_ascii_digit() {
        return Ok(1);
    }
    rest[end..].find(tag).map(|close| end + close + tag.len()).ok_or_else(|| Error::refused("the SQL holds a quotation that does not end"))
}

/// The words of a statement's beginning, up to `most`: names in quotes are one word each, without the quotes.
pub(super) fn words(statement: &str, most: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = statement.trim_start();
    while !rest.is_empty() && found.len() < most {
        let length = match rest.as_bytes()[0] {
            b'"' => quoted(rest, '"', false).unwrap_or(rest.len()),
            _ => rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len()),
        };
        let word = &rest[..length];
        found.push(match word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
            Some(inside) => inside.replace("\"\"", "\""),
            None => word.to_owned(),
        });
        rest = rest[length..].trim_start();
    }
    found
}

/// What a file of the archive holds, as text.
///
/// # Errors
/// When it is too long, or no text.
pub(super) fn text_of(from: impl Read) -> Result<String> {
    let bytes = base::untrusted::read_bounded(from, LIMIT).at("read", "the SQL")?;
    String::from_utf8(bytes).map_err(|_| Error::refused("the SQL is not UTF-8"))
}

/// Sends the statements, each by itself, to `database`; gives what the server would not do, a line each.
///
/// # Errors
/// When the server was not reached at all.
pub(super) fn send(to: &Answering, database: Option<&str>, statements: &[String]) -> Result<Vec<String>> {
    if statements.is_empty() {
        return Ok(Vec::new());
    }
    let (script, lines) = script(statements, to.tools.version.knows_restrict())?;
    let (reader, mut writer) = std::io::pipe().at("make a pipe", "for psql")?;
    // Passwords' digests may be in it, which nobody sees in a pipe.
    let feeding = std::thread::spawn(move || writer.write_all(script.as_bytes()));
    let mut command = database.map_or_else(|| to.program_at_home("psql"), |database| to.program("psql", database));
    command.env("PGCLIENTENCODING", "UTF8").args(["-X", "-q", "-o", "/dev/null", "-f", "-"]).stdin(reader);
    let output = process::run(command, 65_536, to.server.time_limit.0)?;
    let fed = feeding.join().is_ok_and(|fed| fed.is_ok());
    if !output.status.success() || !fed {
        return Err(process::failure("psql", &output));
    }
    Ok(problems(&String::from_utf8_lossy(&output.stderr), &lines, statements))
}

/// What psql is given, and the line at which each statement ends.
fn script(statements: &[String], restrict: bool) -> Result<(String, Vec<usize>)> {
    let mut script = String::new();
    if restrict {
        script.push_str(&format!("\\restrict {}\n", base::RequestId::generate()?.as_str().replace('-', "")));
    } else if statements.iter().any(|statement| statement.contains('\\')) {
        return Err(Error::refused("psql here does not know \\restrict, so SQL with a backslash is not given to it")
            .hint("Install PostgreSQL's programs of August 2025 or later (13.22, 14.19, 15.14, 16.10, 17.6, 18)."));
    }
    script.push_str("SET client_encoding = 'UTF8'; SET standard_conforming_strings = on;\n");
    let mut lines = Vec::new();
    let mut line = script.matches('\n').count();
    for statement in statements {
        script.push_str(statement);
        script.push_str(";\n");
        line += statement.matches('\n').count() + 1;
        lines.push(line);
    }
    Ok((script, lines))
}

/// The errors in what psql said, each with the beginning of its statement: never all of it, there may be a password's
/// digest in it.
fn problems(said: &str, lines: &[usize], statements: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for line in said.lines() {
        let Some((number, error)) = line.strip_prefix("psql:<stdin>:").and_then(|rest| rest.split_once(": ERROR:")) else { continue };
        let statement = number.parse().ok().and_then(|number: usize| statements.get(lines.partition_point(|end| *end < number)));
        let begin = statement.map(|statement| words(statement, 3).join(" ")).unwrap_or_default();
        found.push(text::printable(&format!("{begin}: {}", error.trim())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_cut_where_they_end() {
        let text = "--\n-- a; b\n\n\\restrict abc\n\nSET a = 'x;y';\nCOMMENT ON ROLE a IS E'it\\'s;\n\\\\! echo';\nCREATE ROLE \"odd;\"\"role\";\n\
            SELECT $$;$$, $t$ ; $$ $t$, $1;\nALTER ROLE e'' ;;\n\\encoding SQL_ASCII\nSELECT 'a\\';\n\\unrestrict abc\n";
        assert_eq!(
            statements(text).unwrap(),
            [
                "SET a = 'x;y'",
                "COMMENT ON ROLE a IS E'it\\'s;\n\\\\! echo'",
                "CREATE ROLE \"odd;\"\"role\"",
                "SELECT $$;$$, $t$ ; $$ $t$, $1",
                "ALTER ROLE e'' ",
                "SELECT 'a\\'",
            ]
        );
        assert_eq!(statements("").unwrap(), Vec::<&str>::new());
        assert_eq!(statements("SELECT name'a\\';").unwrap(), ["SELECT name'a\\'"], "the e of a name is no E");
    }

    #[test]
    fn what_is_more_than_sql_is_refused() {
        for bad in [
            "\\! touch /tmp/pwned\n",
            "\\copy a from program 'id'\n",
            "SELECT 1 \\gexec\n",
            "SELECT 1 \\; \\! id\n",
            "SELECT 1\n\\! id\n;",
            "SET a = '\n;",
            "SET a = E'x\\';",
            "SELECT $a$ x",
            "CREATE ROLE \"a;",
            "/* \n */ SELECT 1;",
            "CREATE ROLE a",
            "  \\restrict x\n",
        ] {
            assert!(statements(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn errors_are_told_by_the_statement_and_without_its_secrets() {
        let all = ["CREATE ROLE a".to_owned(), "ALTER ROLE \"b c\" WITH\nPASSWORD 'digest'".into(), "GRANT a TO b".into()];
        let (script, lines) = script(&all, true).unwrap();
        assert!(script.starts_with("\\restrict ") && lines == [3, 5, 6], "{lines:?} {script}");
        let said =
            "psql:<stdin>:3: ERROR:  role \"a\" already exists\nHINT:  x\npsql:<stdin>:5: ERROR:  no\npsql:<stdin>:6: ERROR:  no such\n";
        let told = problems(said, &lines, &all);
        assert_eq!(told, ["CREATE ROLE a: role \"a\" already exists", "ALTER ROLE b c: no", "GRANT a TO: no such"]);
        assert!(super::script(&["COMMENT ON ROLE a IS E'\\\\'".into()], false).is_err());
    }
}
