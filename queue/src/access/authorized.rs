//! Lines of `authorized_keys`: the one that lets a key run the gate and nothing else, and how a file that is there has a key.
//!
//! Opens no files. The form is that of sshd(8), AUTHORIZED_KEYS FILE FORMAT.

use super::parse::openssh;
use crate::verdict::Role;
use base::{Error, Result};
use ssh_key::PublicKey;
use std::path::Path;

/// One line of an `authorized_keys` file: the key may run the gate in this role, and nothing else.
///
/// # Errors
/// Of kind usage when a path is not absolute, or holds something that a shell or sshd would read otherwise.
pub fn authorized_line(gate_program: &Path, config: &Path, role: &Role, key: &PublicKey) -> Result<String> {
    let (program, config) = (plain(gate_program)?, plain(config)?);
    let key = openssh(key)?;
    Ok(format!("command=\"{program} --config {config} {} {name}\",restrict {key} {name}", role.word(), name = role.name()))
}

/// A path that stands in a command without quotes. sshd gives the command to a shell, so nothing is quoted and
/// everything that would need it is refused.
fn plain(path: &Path) -> Result<&str> {
    let wrong = || {
        Error::usage(format!("{} cannot stand in an authorized_keys file", path.display()))
            .hint("Use an absolute path of letters, digits and / . _ + @ % = , : - only.")
    };
    let text = path.to_str().ok_or_else(wrong)?;
    let good = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._+@%=,:-".contains(&b));
    if good { Ok(text) } else { Err(wrong()) }
}

/// How a file has a key. sshd goes by the first line with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLine<'a> {
    /// By just the line that is wanted.
    Same,
    /// For the same role at a gate and nothing else, only that its program or configuration is named otherwise.
    Gate {
        /// The line, from 1.
        line: usize,
        /// The program that is run.
        program: &'a str,
        /// The configuration that it is told. It may be another client's of the same account.
        config: &'a str,
    },
    /// For something else, or for more.
    Other {
        /// The line, from 1.
        line: usize,
    },
}

/// Finds the key of `wanted`, which is as [`authorized_line`] makes it, in the text of an `authorized_keys` file, and judges the
/// line; `None` where the key is not there.
pub fn line_of_key<'a>(text: &'a str, wanted: &str) -> Option<KeyLine<'a>> {
    let (wanted_options, wanted_key) = parts(wanted)?;
    let mut lines = text.lines().enumerate().filter_map(|(at, line)| Some((at + 1, line, parts(line)?)));
    let (line, whole, (options, _)) = lines.find(|(.., (_, key))| *key == wanted_key)?;
    if whole.trim() == wanted.trim() {
        return Some(KeyLine::Same);
    }
    let role = |options: &'a str| gate(options);
    let same = role(options).filter(|(.., role)| gate(wanted_options).is_some_and(|(.., wanted)| wanted == *role));
    Some(match same {
        Some((program, config, _)) => KeyLine::Gate { line, program, config },
        None => KeyLine::Other { line },
    })
}

/// The options in front of a key, and its base64; `None` of what is no line with a key.
fn parts(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let is_kind = |word: &str| ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| word.starts_with(kind));
    let (options, rest) = if is_kind(line) { ("", line) } else { line.split_at(end_of(line, char::is_whitespace)) };
    let mut words = rest.split_whitespace();
    words.next().filter(|word| is_kind(word))?;
    Some((options, words.next()?))
}

/// Where the first character is that `ends` and is in no quotes; `\"` is none.
fn end_of(text: &str, ends: impl Fn(char) -> bool) -> usize {
    let (mut quoted, mut before) = (false, ' ');
    for (at, c) in text.char_indices() {
        match c {
            '"' if before != '\\' => quoted = !quoted,
            c if !quoted && ends(c) => return at,
            _ => {}
        }
        before = c;
    }
    text.len()
}

/// The program, its configuration, and what it is told behind that, where the options let a key run the gate and nothing else.
fn gate(mut options: &str) -> Option<(&str, &str, &str)> {
    let (mut command, mut restricted) = (None, false);
    while !options.is_empty() {
        let end = end_of(options, |c| c == ',');
        let (option, rest) = options.split_at(end);
        options = rest.strip_prefix(',').unwrap_or(rest);
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        match (name.to_ascii_lowercase().as_str(), value) {
            ("command", Some(value)) => command = value.strip_prefix('"')?.strip_suffix('"'),
            ("restrict", None) => restricted = true,
            // These take away, or say from where and until when.
            ("from" | "expiry-time", Some(_)) => {}
            (name, None) if name.starts_with("no-") => {}
            _ => return None,
        }
    }
    let (program, told) = command.filter(|_| restricted)?.split_once(" --config ")?;
    let (config, role) = told.split_once(' ')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._+@%=,:- ".contains(&b));
    (plain(program) && !program.contains(' ') && plain(told)).then_some((program, config, role))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn wanted() -> String {
        let key = crate::signature::parse_public_key(KEY).unwrap();
        let role = Role::Export(base::Name::new("node1").unwrap());
        authorized_line(Path::new("/usr/bin/gate"), Path::new("/etc/c.toml"), &role, &key).unwrap()
    }

    #[test]
    fn only_what_runs_the_gate_alone_is_as_good() {
        let wanted = wanted();
        let gate = Some(KeyLine::Gate { line: 1, program: "/opt/gate", config: "/c" });
        let (none, other) = (None, Some(KeyLine::Other { line: 1 }));
        let line = |options: &str| format!("{options} {KEY} anybody");
        for (text, expected) in [
            (String::new(), none),
            (format!("# {wanted}"), none),
            (KEY.replace("IJdD", "IJdE") + " " + KEY, none),
            (format!("command=\"echo {KEY}\" {}", KEY.replace("IJdD", "IJdE")), none),
            (format!("\n# mine\n  {wanted}  \n{KEY}\n"), Some(KeyLine::Same)),
            (line("command=\"/opt/gate --config /c export node1\",restrict"), gate),
            (line("restrict,no-pty,from=\"10.0.0.0/8,x\",Command=\"/opt/gate --config /c export node1\""), gate),
            // A word somewhere is not the option.
            (line("command=\"/opt/gate --config /c export node1\"") + " restrict", other),
            (line("command=\"/opt/gate --config /c export node1\",restrict,pty"), other),
            (line("command=\"/opt/gate --config /c export node1\",restrict,port-forwarding"), other),
            (line("command=\"/opt/gate --config /c export node2\",restrict"), other),
            (line("command=\"/opt/gate --config /c export node1 more\",restrict"), other),
            (line("command=\"/opt/gate --config /c;id export node1\",restrict"), other),
            (line("command=\"sh -c /opt/gate --config /c export node1\",restrict"), other),
            (line("command=\"/opt/gate\",restrict"), other),
            (line("restrict"), other),
            (KEY.to_owned(), other),
            // sshd goes by the first.
            (format!("{KEY}\n{wanted}"), other),
        ] {
            assert_eq!(line_of_key(&text, &wanted), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|([\"\\\\,= #\n]|command=|restrict|ssh-rsa|AAAA){0,30}") {
            let _ = line_of_key(&text, &wanted());
        }
    }
}
