//! A dump on its way back: definers are taken out, the database's old name is replaced, single tables are picked.
//!
//! Protects nobody: it understands what `mariadb-dump` writes, and a hostile dump may say what it likes. What a dump may do is
//! decided by the account that it runs as.

use super::names::identifier;
use super::rights::quoted;
use std::io::Write;

/// Of a longer line only the beginning is looked at; a line with a definer has it there.
const HEAD: usize = 16 << 10;

/// What is made of a dump.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// The name of the database that it goes to, which stands in the place of the old one.
    pub database: Option<String>,
    /// Views, routines, triggers and events come without their definers.
    pub without_definers: bool,
    /// Only these tables, or all.
    pub tables: Vec<String>,
}

/// Hands on a dump as the plan says.
pub(super) struct Script<W> {
    to: W,
    plan: Plan,
    /// The beginning of the line that is being read.
    line: Vec<u8>,
    /// More of a line than its beginning has been handed on, or left out.
    long: bool,
    delimiter: Vec<u8>,
    /// The last bytes that were read of a line, to see whether it ends a statement.
    tail: Vec<u8>,
    /// The line before ended a statement, or was none.
    fresh: bool,
    /// The line before named a delimiter: what comes is the beginning of a routine or a trigger, if it is one of a body at all.
    opened: bool,
    /// The line before begins a view, which goes on with its definer.
    view: bool,
    keep: bool,
    found: Vec<String>,
}

impl<W: Write> Script<W> {
    pub fn new(to: W, plan: Plan) -> Self {
        Self {
            to,
            plan,
            line: Vec::new(),
            long: false,
            delimiter: b";".to_vec(),
            tail: Vec::new(),
            fresh: true,
            opened: false,
            view: false,
            keep: true,
            found: Vec::new(),
        }
    }

    /// Hands on what is left, and gives the tables that were asked for and did not come.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> std::io::Result<Vec<String>> {
        if !self.long && !self.line.is_empty() {
            self.head()?;
        }
        self.to.flush()?;
        Ok(self.plan.tables.iter().filter(|table| !self.found.contains(table)).cloned().collect())
    }

    /// The beginning of a line is there, with its line feed if it is short.
    fn head(&mut self) -> std::io::Result<()> {
        let line = std::mem::take(&mut self.line);
        // What is looked for is at the beginning, and is text; what comes after it may be anything.
        let valid = std::str::from_utf8(&line).map_or_else(|error| error.valid_up_to(), str::len);
        let text = std::str::from_utf8(&line[..valid]).unwrap_or_default();
        let plain = self.delimiter == b";";
        if plain && self.fresh {
            self.section(text);
        }
        let new = self.rewrite(text);
        let delimiter = text.strip_prefix("DELIMITER ").filter(|_| self.fresh);
        self.opened = delimiter.is_some();
        if let Some(delimiter) = delimiter {
            self.delimiter = delimiter.trim_end().as_bytes().to_vec();
        }
        self.view = plain && text.starts_with("/*!50001 CREATE ALGORITHM=");
        if self.keep {
            let (begin, rest) = new.unwrap_or_default();
            self.to.write_all(begin.as_bytes())?;
            self.to.write_all(&line[valid - rest.unwrap_or(valid)..])?;
        }
        self.remember(&line);
        Ok(())
    }

    /// Comments say where tables begin and end.
    fn section(&mut self, line: &str) {
        if self.plan.tables.is_empty() {
            return;
        }
        let line = line.trim_end();
        let table = ["-- Table structure for table ", "-- Sequence structure for ", "-- Dumping data for table "]
            .iter()
            .find_map(|begin| line.strip_prefix(begin));
        if let Some(name) = table {
            let name = quoted(name).map(|(name, _)| name).unwrap_or_default();
            self.keep = self.plan.tables.contains(&name);
            if self.keep && !self.found.contains(&name) {
                self.found.push(name);
            }
            return;
        }
        let other =
            ["-- Temporary table structure for view ", "-- Final view structure for view ", "-- Dumping events ", "-- Dumping routines "];
        if other.iter().any(|begin| line.starts_with(begin)) {
            self.keep = false;
        } else if line.starts_with("/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */") {
            self.keep = true;
        }
    }

    /// What the line is to begin with instead, and how much of its end stays.
    fn rewrite(&self, line: &str) -> Option<(String, Option<usize>)> {
        if self.fresh
            && let Some(database) = &self.plan.database
            && let Some(rest) = line.strip_prefix("ALTER DATABASE ")
            && let Some((_, rest)) = quoted(rest)
            && rest.starts_with(" CHARACTER SET ")
        {
            return Some((format!("ALTER DATABASE {}", identifier(database)), Some(rest.len())));
        }
        if !self.plan.without_definers {
            return None;
        }
        let body = self.delimiter != b";";
        // Around the definer, and whether what is in front of it stays.
        let forms = [
            (body && self.opened, "CREATE ", "DEFINER=", " "),
            (body && self.opened, "/*!50003 CREATE*/ ", "/*!50017 DEFINER=", "*/ "),
            (body && self.fresh, "/*!50106 CREATE*/ ", "/*!50117 DEFINER=", "*/ "),
            (self.view, "/*!50013 ", "DEFINER=", " "),
        ];
        forms.iter().filter(|(here, ..)| *here).find_map(|(_, begin, definer, end)| {
            let rest = account(line.strip_prefix(begin)?.strip_prefix(definer)?)?;
            Some(((*begin).to_owned(), Some(rest.strip_prefix(end)?.len())))
        })
    }

    fn remember(&mut self, bytes: &[u8]) {
        // More than any delimiter that a dump has.
        const KEPT: usize = 32;
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        let surplus = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..surplus);
        if self.tail.last() == Some(&b'\n') {
            let line = self.tail.trim_ascii_end();
            let comment = line.is_empty() || line == b"--";
            self.fresh = line.ends_with(&self.delimiter) || self.fresh && (comment || self.was_comment(bytes));
            self.tail.clear();
        }
    }

    /// Lines that are no part of a statement, between statements.
    fn was_comment(&self, line: &[u8]) -> bool {
        line.starts_with(b"--") || line.starts_with(b"DELIMITER ")
    }
}

/// What comes after an account in SQL: a name, and a host where it is no role.
fn account(text: &str) -> Option<&str> {
    let (_, rest) = quoted(text)?;
    match rest.strip_prefix('@') {
        Some(host) => quoted(host).map(|(_, rest)| rest),
        None => Some(rest),
    }
}

impl<W: Write> Write for Script<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let line = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            let (mut part, after) = rest.split_at(line);
            rest = after;
            let ends = part.last() == Some(&b'\n');
            if !self.long {
                let (head, more) = part.split_at(part.len().min(HEAD - self.line.len()));
                self.line.extend_from_slice(head);
                part = more;
                if self.line.len() == HEAD || ends && part.is_empty() {
                    self.head()?;
                    self.long = !(ends && part.is_empty());
                }
            }
            if self.long && !part.is_empty() {
                if self.keep {
                    self.to.write_all(part)?;
                }
                self.remember(part);
                self.long = !ends;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests;
