//! The words of a declared command, with their placeholders: each word becomes one argument, whatever is put into it.
//!
//! Knows no shell, and does not start anything.

use base::{Error, Result};
use std::ffi::{OsStr, OsString};

/// What a word may leave open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `{path}`: the dataset's path or name.
    Path,
    /// `{dataset}`: `module:path`.
    Dataset,
    /// `{staging}`: a private folder.
    Staging,
    /// `{target}`: where a restore goes.
    Target,
}

const PLACES: [(&str, Place); 4] =
    [("path", Place::Path), ("dataset", Place::Dataset), ("staging", Place::Staging), ("target", Place::Target)];

/// One word as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Open(Place),
}

/// What is put into the places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    pub path: &'a str,
    pub dataset: &'a str,
    pub staging: Option<&'a OsStr>,
    pub target: Option<&'a OsStr>,
}

impl Word {
    /// Reads a word that may have the places `allowed`; `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// Of kind usage, with what is wrong.
    pub fn parse(text: &str, allowed: &[Place]) -> Result<Self> {
        if text.contains('\0') {
            return Err(Error::usage("a word holds a NUL byte, which no argument can"));
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let here = &rest[at..];
            if let Some(after) = here.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = here.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if let Some((name, after)) = here.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                let place = PLACES.iter().find(|(known, _)| *known == name).map(|(_, place)| *place);
                let place = place.filter(|place| allowed.contains(place)).ok_or_else(|| unknown(text, name, allowed))?;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Open(place));
                rest = after;
            } else {
                return Err(Error::usage(format!("{text:?} has a single brace")).hint(DOUBLE));
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// Whether the word has this place.
    pub fn has(&self, place: Place) -> bool {
        self.0.contains(&Piece::Open(place))
    }

    /// Whether the word is this place and nothing else.
    pub fn is(&self, place: Place) -> bool {
        self.0 == [Piece::Open(place)]
    }

    /// What comes after `place`, where the word begins with it.
    pub fn after(&self, place: Place) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Open(first)] if *first == place => Some(""),
            [Piece::Open(first), Piece::Text(text)] if *first == place => Some(text),
            _ => None,
        }
    }

    /// The text, where nothing is left open.
    pub fn text(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The argument.
    ///
    /// # Errors
    /// When there is nothing to put into a place.
    pub fn fill(&self, values: &Values<'_>) -> Result<OsString> {
        let mut filled = OsString::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push(text),
                Piece::Open(Place::Path) => filled.push(values.path),
                Piece::Open(Place::Dataset) => filled.push(values.dataset),
                Piece::Open(Place::Staging) => filled.push(values.staging.ok_or_else(|| Error::failed("there is no staging folder here"))?),
                Piece::Open(Place::Target) => filled.push(values.target.ok_or_else(|| Error::failed("there is no target here"))?),
            }
        }
        Ok(filled)
    }
}

const DOUBLE: &str = "Write {{ and }} for braces that are to stay.";

fn unknown(text: &str, name: &str, allowed: &[Place]) -> Error {
    let names: Vec<String> = PLACES.iter().filter(|(_, place)| allowed.contains(place)).map(|(name, _)| format!("{{{name}}}")).collect();
    let there = if names.is_empty() {
        "Nothing can be filled in here.".into()
    } else {
        format!("These can be filled in here: {}.", names.join(", "))
    };
    Error::usage(format!("{text:?} has {{{name}}}, which is not known here")).hint(format!("{there} {DOUBLE}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Place; 4] = [Place::Path, Place::Dataset, Place::Staging, Place::Target];

    fn filled(text: &str, path: &str) -> Result<String> {
        let values = Values { path, dataset: "trac:x", staging: Some(OsStr::new("/s")), target: None };
        Ok(Word::parse(text, &ALL)?.fill(&values)?.into_string().unwrap())
    }

    #[test]
    fn places_are_filled_in_and_nothing_else_is_touched() {
        for (text, expected) in [
            ("", ""),
            ("plain $HOME `id` ; *", "plain $HOME `id` ; *"),
            ("{path}", "/a b"),
            ("--db={path}/x", "--db=/a b/x"),
            ("{staging}/{dataset}{path}", "/s/trac:x/a b"),
            ("awk '{{print $1}}'", "awk '{print $1}'"),
            ("{{path}}", "{path}"),
            ("{{{path}}}", "{/a b}"),
            ("line\nline", "line\nline"),
        ] {
            assert_eq!(filled(text, "/a b").unwrap(), expected, "{text}");
        }
        for bad in
            ["{", "}", "a}b", "{path", "{}", "{ path }", "{Path}", "{home}", "{path}}", "{{path}", "{pa{path}th}", "a\0b", "{target}"]
        {
            assert!(filled(bad, "x").is_err(), "{bad}");
        }
        let error = Word::parse("{target}", &[Place::Path]).unwrap_err().render();
        assert!(error.contains("{target}") && error.contains("{path}") && !error.contains("{staging}"), "{error}");
    }

    #[test]
    fn where_a_place_stands() {
        let word = |text: &str| Word::parse(text, &ALL).unwrap();
        assert!(word("{staging}").is(Place::Staging) && !word("{staging}/a").is(Place::Staging));
        assert!(word("--to={staging}/a").has(Place::Staging) && !word("{path}").has(Place::Staging));
        assert_eq!((word("{path}").after(Place::Path), word("{path}/a/b").after(Place::Path)), (Some(""), Some("/a/b")));
        assert_eq!((word("x{path}").after(Place::Path), word("{path}{path}").after(Place::Path)), (None, None));
        assert_eq!((word("a{{").text(), word("{path}").text()), (Some("a{"), None));
    }

    proptest! {
        #[test]
        fn a_path_is_never_read_as_a_word(path in "[^\0]{0,40}") {
            prop_assert_eq!(filled("{path}", &path).unwrap(), path.clone());
            let doubled = path.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(filled(&doubled, "").unwrap(), path);
        }
    }
}
