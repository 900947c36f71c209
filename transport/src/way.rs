//! How a command gets to a peer: by ssh, or over a line that the peer dialled.
//!
//! Makes the program to be started, which behaves as ssh does in both cases; starts nothing.

use crate::relay;
use base::process;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What separates the words of [`Way::to_text`].
const SEPARATOR: char = '\n';

/// One way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// ssh with these arguments, the host at the end.
    Ssh(Vec<String>),
    /// A line of this peer's, asked for at this socket.
    Dialled {
        /// The socket of whoever has the lines.
        lines: PathBuf,
        /// The peer's name.
        peer: String,
    },
}

impl Way {
    /// The program for one command; `own` is this program's file, which stands in for ssh where there is none.
    pub(crate) fn command(&self, own: &Path, verb: &str) -> Command {
        match self {
            Self::Ssh(words) => {
                let mut command = process::command("ssh");
                command.args(words).arg(verb);
                command
            }
            Self::Dialled { lines, peer } => {
                let mut command = process::command(own);
                command.env(relay::LINES, lines).env(relay::PEER, peer).arg(verb);
                command
            }
        }
    }

    /// As [`Way::command`], over a connection that nobody shares. Every line is one.
    pub(crate) fn command_beside(&self, own: &Path, verb: &str) -> Command {
        match self {
            Self::Ssh(words) => {
                // ssh takes the first of two that differ.
                let mut command = process::command("ssh");
                command.args(["-o", "ControlMaster=no", "-o", "ControlPath=none"]).args(words).arg(verb);
                command
            }
            Self::Dialled { .. } => self.command(own, verb),
        }
    }

    /// What takes the command, for messages.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::Ssh(_) => "ssh",
            Self::Dialled { .. } => "the program that carries a command over a line",
        }
    }

    /// In one variable of the environment; `None` where a word holds a line break.
    pub(crate) fn to_text(&self) -> Option<String> {
        let words: Vec<&str> = match self {
            Self::Ssh(words) => std::iter::once("ssh").chain(words.iter().map(String::as_str)).collect(),
            Self::Dialled { lines, peer } => vec!["dialled", lines.to_str()?, peer],
        };
        (!words.iter().any(|word| word.contains(SEPARATOR))).then(|| words.join("\n"))
    }

    /// What [`Way::to_text`] wrote.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut words = text.split(SEPARATOR);
        match words.next()? {
            "ssh" => Some(Self::Ssh(words.map(str::to_owned).collect())),
            "dialled" => Some(Self::Dialled { lines: words.next()?.into(), peer: words.next()?.to_owned() }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_survives_the_environment() {
        for way in [
            Way::Ssh(vec!["-o".into(), "A=b c".into(), "--".into(), "host".into()]),
            Way::Dialled { lines: "/run/a b/lines".into(), peer: "web1".into() },
        ] {
            assert_eq!(Way::from_text(&way.to_text().unwrap()), Some(way));
        }
        assert_eq!(Way::Ssh(vec!["a\nb".into()]).to_text(), None);
        for bad in ["", "telnet\nhost", "dialled\n/x"] {
            assert_eq!(Way::from_text(bad), None, "{bad:?}");
        }
    }
}
