//! The one error type: what failed, why, and what to do next; and the exit code that follows from it.
//!
//! Does not print; the commands turn it into text with [`Error::render`].

use std::fmt;
use std::path::{Path, PathBuf};

/// A result whose error can be shown to a person.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure that a caller or a script can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something went wrong; trying the same again may or may not help.
    Failed,
    /// The command line or a configuration is wrong; it must be changed first.
    Usage,
    /// A rule forbids it; nothing was changed.
    Refused,
    /// It cannot be done now (no room, a peer is away, a lock is held) and will be tried again.
    NotNow,
}

/// The exit codes of all programs (sysexits' 75 for "try again").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, also when there was nothing to do.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// Done, but some source data could not be read or restored; of `status`: something needs a person.
    Incomplete = 3,
    /// Refused by a rule.
    Refused = 4,
    /// Not now; will be tried again.
    NotNow = 75,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Failed => Self::Failed,
            Kind::Usage => Self::Usage,
            Kind::Refused => Self::Refused,
            Kind::NotNow => Self::NotNow,
        }
    }
}

/// What is to be done about a full disk.
const MAKE_ROOM: &str = "Make room on that file system; nothing was lost, and the same command goes on.";

/// Whether words of the system's tell of a full disk: all that git and some libraries hand on of its errors.
fn says_full(words: &str) -> bool {
    ["No space left on device", "Disk quota exceeded", "Out of diskspace"].iter().any(|full| words.contains(full))
}

/// What failed (a lowercase fragment), its cause chain, and a hint on what to do next.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: None, source: None }
    }

    /// A failure of kind [`Kind::Failed`].
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what)
    }

    /// A failure of kind [`Kind::Usage`].
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// A failure of kind [`Kind::Refused`].
    pub fn refused(what: impl Into<String>) -> Self {
        Self::new(Kind::Refused, what)
    }

    /// A failure of kind [`Kind::NotNow`].
    pub fn not_now(what: impl Into<String>) -> Self {
        Self::new(Kind::NotNow, what)
    }

    /// Adds what the person can do next, as a sentence.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Wraps this error: `what` failed because of it. Kind and hint stay.
    #[must_use]
    pub fn context(self, what: impl Into<String>) -> Self {
        let hint = self.hint.clone();
        Self { kind: self.kind, what: what.into(), hint, source: Some(Box::new(self)) }
    }

    /// The same error with another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Of kind [`Kind::NotNow`] and with what to do about it, when its words tell of a full disk; otherwise as it is. For
    /// failures that are known by words alone.
    #[must_use]
    pub fn or_full(self) -> Self {
        if says_full(&self.one_line()) { self.with_kind(Kind::NotNow).hint(MAKE_ROOM) } else { self }
    }

    /// What the person can do next, where that was said.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The kind, from which the exit code follows.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message and its causes in one line, joined by colons; control characters are made visible.
    pub fn one_line(&self) -> String {
        let mut line = self.what.clone();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let text = cause.to_string();
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            source = cause.source();
        }
        crate::text::printable(&line)
    }

    /// The text that a command prints on stderr: the line, then the hint in a line of its own.
    pub fn render(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}\n  {}", self.one_line(), crate::text::printable(hint)),
            None => self.one_line(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// An I/O error with the path it happened at.
#[derive(Debug)]
struct PathError {
    path: PathBuf,
    source: std::io::Error,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for PathError {}

/// Gives I/O errors the path, or the deed, that they belong to.
pub trait At<T> {
    /// Turns an I/O error into an [`Error`] that names `path` and what was being done, as in
    /// `.at("read", path)`: "could not read /etc/x: permission denied".
    fn at(self, doing: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, doing: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| {
            let source: std::io::Error = error.into();
            let full = matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
            // What the system itself said needs no reading.
            let known = source.raw_os_error().is_some();
            let error = Error::failed(format!("could not {doing}")).because(PathError { path: path.as_ref().to_owned(), source });
            match (full, known) {
                (true, _) => error.with_kind(Kind::NotNow).hint(MAKE_ROOM),
                (false, true) => error,
                (false, false) => error.or_full(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_holds_the_chain_and_hides_control_characters() {
        let io: std::io::Result<()> = Err(std::io::Error::other("no\x1b[2J"));
        let error = io.at("read", "/a").unwrap_err().context("could not load the list").hint("Run it again.");
        assert_eq!(error.one_line(), "could not load the list: could not read: /a: no\\u{1b}[2J");
        assert!(error.render().ends_with("\n  Run it again."));
    }

    #[test]
    fn a_full_disk_is_not_now() {
        let io: std::io::Result<()> = Err(std::io::ErrorKind::StorageFull.into());
        assert_eq!(io.at("write", "/a").unwrap_err().kind(), Kind::NotNow);
        // Where a library or git hands on the words alone.
        let full = std::io::Error::from_raw_os_error(28).to_string();
        let io: std::io::Result<()> = Err(std::io::Error::other(format!("no header: {full}")));
        assert_eq!(io.at("write", "/a").unwrap_err().kind(), Kind::NotNow);
        let git = Error::failed(format!("git failed: {full}")).or_full();
        assert!(git.kind() == Kind::NotNow && git.advice().is_some());
        assert_eq!(Error::failed("git failed").or_full().kind(), Kind::Failed);
    }
}
