//! Patterns in gitignore form, as git itself matches them, on the bytes of paths.
//!
//! Does not know why something is judged, nor what is on the disk.

use base::{Error, Result};
use gix_glob::pattern::{Case, Mode};
use gix_glob::{Pattern, wildmatch};

/// One pattern.
#[derive(Debug)]
pub(super) struct Form {
    text: String,
    pattern: Pattern,
}

/// Exclusions and their exceptions.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    exclude: Vec<Form>,
    include: Vec<Form>,
}

/// What the last pattern that matched says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met<'a> {
    /// It is left out, by this pattern.
    Out(&'a str),
    /// It is taken.
    In,
}

impl Patterns {
    pub(super) fn new(exclude: &[String], include: &[String]) -> Result<Self> {
        let parse = |texts: &[String], may_negate| texts.iter().map(|text| Form::parse(text, may_negate)).collect::<Result<_>>();
        Ok(Self { exclude: parse(exclude, true)?, include: parse(include, false)? })
    }

    /// The last pattern that matches, exceptions after everything else.
    pub(super) fn last(&self, path: &[u8], is_dir: bool) -> Option<Met<'_>> {
        if self.include.iter().any(|form| form.matches(path, is_dir)) {
            return Some(Met::In);
        }
        let last = self.exclude.iter().rev().find(|form| form.matches(path, is_dir))?;
        Some(if last.pattern.is_negative() { Met::In } else { Met::Out(&last.text) })
    }

    /// Whether an exception that reaches into folders that are left out is meant for `path`.
    pub(super) fn reaches(&self, path: &[u8], is_dir: bool) -> bool {
        self.include.iter().any(|form| form.has_place() && form.matches(path, is_dir))
    }

    /// Whether such an exception could be meant for something below the folder `path`.
    pub(super) fn may_reach_below(&self, path: &[u8]) -> bool {
        self.include.iter().any(|form| form.has_place() && form.may_match_below(path))
    }
}

impl Form {
    /// Reads a pattern. What git would take for a comment or would never match is an error here.
    pub(super) fn parse(text: &str, may_negate: bool) -> Result<Self> {
        let wrong = |why: &str| Error::usage(format!("the pattern {text:?} is wrong: {why}"));
        let plain = text.strip_prefix('!').filter(|_| may_negate).unwrap_or(text);
        if plain.starts_with('!') {
            let why = "a ! before it is for exclude alone; for a name that begins so, write \\!";
            return Err(wrong(if may_negate { "it has two ! before it" } else { why }));
        }
        if text.starts_with('#') {
            return Err(wrong("it would be a comment; for a name that begins so, write \\#"));
        }
        if plain.bytes().any(|b| b == 0 || b == b'\n') {
            return Err(wrong("it holds a NUL byte or a line feed"));
        }
        if plain.trim_matches('/').is_empty() {
            return Err(wrong("it names nothing"));
        }
        if plain.contains("//") || plain.split('/').any(|part| part == "." || part == "..") {
            return Err(wrong("paths have no part that is empty, . or .."));
        }
        if plain.ends_with(' ') && !plain.ends_with("\\ ") {
            return Err(wrong("it ends in a space; where that is meant, write \\ and the space"));
        }
        check_brackets(plain).map_err(wrong)?;
        let pattern = Pattern::from_bytes(text.as_bytes()).ok_or_else(|| wrong("it names nothing"))?;
        Ok(Self { text: text.to_owned(), pattern })
    }

    /// Whether it has a slash before its end, and so says where it holds.
    fn has_place(&self) -> bool {
        self.pattern.mode.contains(Mode::ABSOLUTE) || !self.pattern.mode.contains(Mode::NO_SUB_DIR)
    }

    fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        let name = path.iter().rposition(|b| *b == b'/').map(|slash| slash + 1);
        let slashes = wildmatch::Mode::NO_MATCH_SLASH_LITERAL;
        self.pattern.matches_repo_relative_path(path.into(), name, Some(is_dir), Case::Sensitive, slashes)
    }

    /// Whether it could match something below the folder `path`: part by part, and yes where that is not certain.
    fn may_match_below(&self, path: &[u8]) -> bool {
        let text: &[u8] = &self.pattern.text;
        let mut parts = text.split(|b| *b == b'/');
        for name in path.split(|b| *b == b'/') {
            let Some(part) = parts.next() else { return false };
            if part == b"**" || part.iter().any(|b| matches!(b, b'[' | b'\\')) {
                return true;
            }
            if !wildmatch(part.into(), name.into(), wildmatch::Mode::NO_MATCH_SLASH_LITERAL) {
                return false;
            }
        }
        parts.next().is_some()
    }
}

/// Finds what git's matcher would stumble over in silence.
fn check_brackets(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if at + 1 == bytes.len() => return Err("it ends in a \\ that stands before nothing"),
            b'\\' => at += 2,
            b'[' => at = end_of_bracket(bytes, at + 1)?,
            _ => at += 1,
        }
    }
    Ok(())
}

/// Where the bracket ends whose inside begins at `at`.
fn end_of_bracket(bytes: &[u8], mut at: usize) -> Result<usize, &'static str> {
    const OPEN: &str = "a [ has no ]; for a name with a [, write \\[";
    const CLASSES: [&[u8]; 12] =
        [b"alnum", b"alpha", b"blank", b"cntrl", b"digit", b"graph", b"lower", b"print", b"punct", b"space", b"upper", b"xdigit"];
    at += usize::from(matches!(bytes.get(at), Some(b'!' | b'^')));
    let first = at;
    loop {
        match bytes.get(at) {
            None => return Err(OPEN),
            Some(b']') if at > first => return Ok(at + 1),
            Some(b'/') => return Err("a [ ] never matches a slash"),
            Some(b'\\') => at += 2,
            Some(b'[') if bytes.get(at + 1) == Some(&b':') => {
                let rest = &bytes[at + 2..];
                let end = rest.iter().position(|b| *b == b']').ok_or(OPEN)?;
                let class = rest[..end].strip_suffix(b":");
                match class {
                    Some(name) if CLASSES.contains(&name) => at += 2 + end + 1,
                    Some(_) => return Err("there is no class of characters of that name"),
                    // git takes the [ for itself then.
                    None => at += 1,
                }
            }
            Some(_) => at += 1,
        }
    }
}
