//! What `config check` finds: one line for each thing that was looked at, what to do about it, and the exit code that follows.
//!
//! Looks at nothing itself and does not print.

use crate::error::{Error, Exit, Kind, Result};
use serde::Serialize;

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It works.
    Ok,
    /// It was not looked at; why is said.
    Unseen,
    /// It does not work yet: somebody else has something to do, or it is a matter of time.
    NotYet,
    /// It is wrong and stays so until it is changed here.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: `ssh node1`, `clock`, a dataset.
    pub about: String,
    /// How it stands.
    pub state: State,
    /// A sentence on what was found.
    pub says: String,
    /// What to do next, where there is something.
    pub todo: Option<String>,
}

/// Everything that was looked at, in its order.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// It works.
    pub fn good(&mut self, about: impl Into<String>, says: impl Into<String>) {
        self.0.push(Finding { about: about.into(), state: State::Ok, says: says.into(), todo: None });
    }

    /// It was not looked at, and why.
    pub fn unseen(&mut self, about: impl Into<String>, why: impl Into<String>) {
        self.0.push(Finding { about: about.into(), state: State::Unseen, says: why.into(), todo: None });
    }

    /// It does not work yet, and what to do.
    pub fn not_yet(&mut self, about: impl Into<String>, says: impl Into<String>, todo: impl Into<String>) {
        self.0.push(Finding { about: about.into(), state: State::NotYet, says: says.into(), todo: Some(todo.into()) });
    }

    /// It is wrong, and what to do.
    pub fn wrong(&mut self, about: impl Into<String>, says: impl Into<String>, todo: impl Into<String>) {
        self.0.push(Finding { about: about.into(), state: State::Wrong, says: says.into(), todo: Some(todo.into()) });
    }

    /// An error: what may pass by itself is "not yet", everything else wrong.
    pub fn bad(&mut self, about: impl Into<String>, error: &Error) {
        let state = if error.kind() == Kind::NotNow { State::NotYet } else { State::Wrong };
        let todo = error.advice().map(crate::text::printable);
        self.0.push(Finding { about: about.into(), state, says: error.one_line(), todo });
    }

    /// Takes in a check: its sentence when it went well, else the error with its hint.
    pub fn add(&mut self, about: impl Into<String>, result: Result<()>, good: impl Into<String>) {
        match result {
            Ok(()) => self.good(about, good),
            Err(error) => self.bad(about, &error),
        }
    }

    /// Puts those of another look behind these.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// All of them.
    pub fn all(&self) -> &[Finding] {
        &self.0
    }

    /// How many stand so.
    pub fn count(&self, state: State) -> usize {
        self.0.iter().filter(|finding| finding.state == state).count()
    }

    /// The last line: a sentence on all of them together.
    pub fn summary(&self) -> String {
        let counted = |count: usize, one: &str, many: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {many}") };
        match (self.count(State::Wrong), self.count(State::NotYet)) {
            (0, 0) => "Everything works that was looked at.".into(),
            (0, waiting) => format!("{} not work yet.", counted(waiting, "thing does", "things do")),
            (wrong, 0) => format!("{} wrong.", counted(wrong, "thing is", "things are")),
            (wrong, waiting) => {
                format!("{} wrong, and {} not work yet.", counted(wrong, "thing is", "things are"), counted(waiting, "does", "do"))
            }
        }
    }

    /// 2 when something is wrong, 75 when something does not work yet, else 0.
    pub fn exit(&self) -> Exit {
        match (self.count(State::Wrong), self.count(State::NotYet)) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::NotNow,
            _ => Exit::Usage,
        }
    }
}

impl std::fmt::Display for Finding {
    /// `ok       about: says`, and what to do in a line of its own.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match self.state {
            State::Ok => "ok",
            State::Unseen => "not seen",
            State::NotYet => "NOT YET",
            State::Wrong => "WRONG",
        };
        write!(f, "{word:<8}  {}: {}", crate::text::printable(&self.about), crate::text::printable(&self.says))?;
        match &self.todo {
            Some(todo) => write!(f, "\n          {}", crate::text::printable(todo)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_follows_from_the_worst() {
        let mut findings = Findings::default();
        findings.good("a", "It is there.");
        findings.unseen("b", "Nobody looked.");
        assert_eq!((findings.exit(), findings.summary().as_str()), (Exit::Done, "Everything works that was looked at."));
        findings.bad("c", &Error::not_now("away\x1b").hint("Wait."));
        assert_eq!((findings.exit(), findings.all()[2].to_string().as_str()), (Exit::NotNow, "NOT YET   c: away\\u{1b}\n          Wait."));
        assert_eq!(findings.summary(), "1 thing does not work yet.");
        findings.add("d", Err(Error::failed("gone")), "");
        assert_eq!(findings.summary(), "1 thing is wrong, and 1 does not work yet.");
        assert_eq!((findings.exit(), findings.count(State::Wrong)), (Exit::Usage, 1));
    }
}
