//! Asking the keyholder for passphrases and PINs: at the terminal, or from a file for those who run scripts.
//!
//! Does not know what the secrets open. They are never taken from the command line or the environment itself.

use crate::output;
use archive::epoch::Ask;
use archive::epoch::secrecy::SecretString;
use base::text::printable;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The longest secret or answer, in bytes.
const LIMIT: usize = 4096;
/// The longest file of passphrases.
const FILE_LIMIT: usize = 64 << 10;

/// The person at the terminal; with a file, its lines are the secrets.
#[derive(Debug, Default)]
pub struct Person {
    file: Option<PathBuf>,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    read: Option<Vec<String>>,
    next: usize,
}

impl Person {
    /// Somebody who types, or a file whose lines answer in their order; a single line answers everything.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, lines: Mutex::default() }
    }

    /// The file's next line. The file is read once: it may be a pipe.
    fn next_line(&self, file: &Path) -> Option<SecretString> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.read.is_none() {
            let read = File::open(file).and_then(|file| base::untrusted::read_bounded(file, FILE_LIMIT));
            let text = match read {
                Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
                Err(error) => {
                    output::note(format_args!("nightsafe: the passphrase could not be read from {}: {error}", file.display()));
                    String::new()
                }
            };
            lines.read = Some(text.lines().map(str::to_owned).collect());
        }
        let next = lines.next;
        lines.next += 1;
        let read = lines.read.as_deref().unwrap_or_default();
        read.get(next).or_else(|| read.last().filter(|_| read.len() == 1)).map(|line| SecretString::from(line.clone()))
    }
}

impl Ask for Person {
    fn say(&self, message: &str) {
        output::note(printable(message));
    }

    fn confirm(&self, question: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let mut terminal = Terminal::open()?;
        let no = no.unwrap_or("no");
        let answer = terminal.ask(&format!("{question}\n  y: {yes}, n: {no} > "), true)?;
        Some(answer.trim().to_lowercase().starts_with('y'))
    }

    fn line(&self, what: &str) -> Option<String> {
        Terminal::open()?.ask(&format!("{what}: "), true)
    }

    fn secret(&self, what: &str) -> Option<SecretString> {
        match &self.file {
            Some(file) => self.next_line(file),
            None => Terminal::open()?.ask(&format!("{what}: "), false).map(SecretString::from),
        }
    }
}

/// The terminal that the command was started from, whatever its input and output are.
struct Terminal {
    tty: File,
    before: Termios,
}

impl Terminal {
    fn open() -> Option<Self> {
        let tty = File::options().read(true).write(true).open("/dev/tty").ok()?;
        let before = tcgetattr(&tty).ok()?;
        Some(Self { tty, before })
    }

    /// Prints `prompt` and reads a line; `None` when it was broken off.
    fn ask(&mut self, prompt: &str, shown: bool) -> Option<String> {
        let mut raw = self.before.clone();
        // Read key by key, so that the terminal is put right again also when somebody breaks off.
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&self.tty, OptionalActions::Flush, &raw).ok()?;
        let prompt: Vec<String> = prompt.split('\n').map(printable).collect();
        let _ = self.tty.write_all(prompt.join("\n").as_bytes());
        let answer = self.line(shown);
        let _ = self.tty.write_all(b"\n");
        answer
    }

    fn line(&mut self, shown: bool) -> Option<String> {
        let mut line: Vec<u8> = Vec::new();
        let mut key = [0u8; 1];
        loop {
            if self.tty.read(&mut key).ok()? == 0 {
                return None;
            }
            match key[0] {
                b'\r' | b'\n' => return String::from_utf8(line).ok(),
                // ^C and ^\ break off, ^D at the beginning too.
                0x03 | 0x1c => return None,
                0x04 if line.is_empty() => return None,
                0x04 => return String::from_utf8(line).ok(),
                0x15 => line.clear(),
                0x08 | 0x7f => {
                    // A character may be several bytes.
                    while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                    if shown {
                        let _ = self.tty.write_all(b"\x08 \x08");
                    }
                }
                byte if line.len() < LIMIT => {
                    line.push(byte);
                    if shown && (byte >= 0x20) {
                        let _ = self.tty.write_all(&key);
                    }
                }
                _ => {}
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.tty, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archive::epoch::secrecy::ExposeSecret;

    #[test]
    fn a_files_lines_answer_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let asked = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let person = Person::new(Some(path.clone()));
            (0..3).map(|_| person.secret("x").map(|secret| secret.expose_secret().to_owned())).collect::<Vec<_>>()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(asked("one\n"), [some("one"), some("one"), some("one")]);
        assert_eq!(asked("one\r\n\ntwo"), [some("one"), some(""), some("two")]);
        assert_eq!(asked("one\ntwo"), [some("one"), some("two"), None]);
        assert_eq!(asked(""), [None, None, None]);
        std::fs::remove_file(&path).unwrap();
        assert!(Person::new(Some(path)).secret("x").is_none());
    }
}
