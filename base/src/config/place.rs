//! Where in a configuration something stands that an error names: errors of what a file means know values, not lines.
//!
//! Reads words; a wrong guess costs a look at another line of the same file.

/// The line (from 1) of the first word in `message` that is a field or a quoted value of `text`; a value's last place, because
/// what is there twice is wrong the second time.
pub fn place(text: &str, message: &str) -> Option<usize> {
    message.split_whitespace().find_map(|word| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '/' | '*' | '_'));
        let quoted = format!("\"{word}\"");
        // What stands before a colon is the module of a dataset.
        let module = format!("\"{word}:");
        let value = || text.lines().enumerate().filter(|(_, line)| line.contains(&quoted) || line.contains(&module)).last();
        let name = word.rsplit('.').next().unwrap_or(word);
        let field = || text.lines().enumerate().find(|(_, line)| has_field(line, name));
        (word.len() > 1).then(|| value().or_else(field)).flatten().map(|(at, _)| at + 1)
    })
}

/// Whether a line sets the field, by itself or in a table within braces.
fn has_field(line: &str, name: &str) -> bool {
    let line = line.trim_start();
    !line.starts_with('#')
        && line.match_indices(name).any(|(at, _)| {
            let before = line[..at].trim_end();
            (before.is_empty() || before.ends_with(['{', ','])) && line[at + name.len()..].trim_start().starts_with('=')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_values_are_found() {
        let text = "version = 1\n# state = x\nstate = \"there\"\nspool = { dir = \"/x\", limit = \"1 MiB\" }\n[[dataset]]\naddress = \"files:/a\"\n[[dataset]]\naddress = \"files:/a\"\n[module.git]\nkeyz = 1\n";
        for (message, line) in [
            ("state must be an absolute path", Some(3)),
            ("spool.limit is 1.0 MiB, and packs need", Some(4)),
            ("the dataset files:/a is there twice", Some(8)),
            ("[module.git] is wrong: unknown field `keyz`, expected one of", Some(10)),
            ("a [[dataset]] names the module \"files\"", Some(8)),
            ("it is cold", None),
        ] {
            assert_eq!(place(text, message), line, "{message}");
        }
    }
}
