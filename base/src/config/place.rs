//! Where in a configuration something stands that an error names: errors of what a file means know values, not lines.
//!
//! Reads words, and guesses: whoever shows the line says "near".

/// The line (from 1) that `message` is most likely about: the last one with a value that it names, because what is there twice is
/// wrong the second time, else the first one that sets a field of that name. Where the message names tables, as in `[mail]` or
/// `[[dataset]]`, only lines of those count. Comments never do.
pub(super) fn place(text: &str, message: &str) -> Option<usize> {
    let (headers, words): (Vec<&str>, Vec<&str>) = message.split_whitespace().partition(|word| header(word).is_some());
    let headers: Vec<&str> = headers.into_iter().filter_map(header).collect();
    let all = lines(text);
    let within =
        |table: &str| headers.iter().any(|name| table.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    let mut looked_at: Vec<&Line> = all.iter().filter(|line| within(line.table)).collect();
    if looked_at.is_empty() {
        // None is named, or it is written in one line.
        looked_at = all.iter().collect();
    }
    let words = words.into_iter().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '/' | '*' | '_')));
    let words: Vec<&str> = words.filter(|word| word.len() > 1).collect();
    let value = |word: &&str| {
        // What stands before a colon is the module of a dataset.
        let (quoted, module) = (format!("\"{word}\""), format!("\"{word}:"));
        looked_at.iter().rfind(|line| line.code.contains(&quoted) || line.code.contains(&module))
    };
    let field = |word: &&str| {
        let name = word.rsplit('.').next().unwrap_or(word);
        looked_at.iter().find(|line| has_field(line.code, name))
    };
    words.iter().find_map(value).or_else(|| words.iter().find_map(field)).map(|line| line.number)
}

/// A line of a configuration, without its comment.
struct Line<'a> {
    number: usize,
    /// The table that it is of; the header is itself of its table.
    table: &'a str,
    code: &'a str,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut table = "";
    let line = |(at, line)| {
        let code = without_comment(line).trim();
        if code.starts_with('[') {
            table = header(code).unwrap_or(table);
        }
        Line { number: at + 1, table, code }
    };
    text.lines().enumerate().map(line).collect()
}

/// The table's name in `[mail]`, `[[dataset]]`, or such a word with a full stop or comma behind it.
fn header(word: &str) -> Option<&str> {
    let inner = word.trim_end_matches(['.', ',', ':', ';']).strip_prefix('[')?.strip_suffix(']')?;
    let inner = inner.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(inner).trim();
    let named = !inner.is_empty() && inner.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    named.then_some(inner)
}

/// A line up to the `#` that is in no quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return &line[..at],
            (None, '"' | '\'') => quote = Some(c),
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), _) if c == open && !escaped => quote = None,
            _ => {}
        }
        escaped = false;
    }
    line
}

/// Whether a line sets the field, by itself or in a table within braces.
fn has_field(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].trim_end();
        (before.is_empty() || before.ends_with(['{', ','])) && line[at + name.len()..].trim_start().starts_with('=')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r##"version = 1
# state = "x"
name = "web1" # not "web2", and "state" is below
state = "/a#b" # "commented"
spool = { dir = "/x", limit = "1 MiB" }
[[node]]
name = "node1"
ssh = "gate@a"
[[dataset]]
address = "files:/a"
every = "6h"
[[dataset]]
address = "files:/a"
nodes = ["node1", "node9"]
every = "1h"
[module.git]
keyz = 1
[mail]
to = ["x\"#y@example.org"]
alert_after = "1h"
"##;

    #[test]
    fn fields_and_values_are_found() {
        for (message, line) in [
            ("state must be an absolute path", Some(4)),
            ("spool.limit is 1.0 MiB, and packs need", Some(5)),
            ("the dataset files:/a is there twice", Some(13)),
            ("[module.git] is wrong: unknown field `keyz`, expected one of", Some(17)),
            ("a [[dataset]] names the module \"files\"", Some(13)),
            ("it is cold", None),
            // Fields of other tables are none of this one's.
            ("a [[node]] has no such name", Some(7)),
            ("[mail]: alert_after is too short, and every mail too long", Some(20)),
            // A value says more than a word that is a field elsewhere.
            ("the name of the node node9 is not known", Some(14)),
            ("the name \"node1\" is there in a [[node]] already", Some(7)),
            // Comments say nothing.
            ("web2 is not here", None),
            ("it is commented", None),
            // A table that is not there does not hide the rest.
            ("[[allow]] needs state", Some(4)),
            ("/a#b is no folder", Some(4)),
        ] {
            assert_eq!(place(TEXT, message), line, "{message}");
        }
    }
}
