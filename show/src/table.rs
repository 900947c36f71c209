//! Tables for people: columns as wide as their widest cell, cut where a terminal is narrower, coloured where one is looked at.
//!
//! Makes text and prints nothing. What a cell means for its colour is said by whoever fills it.

use base::text::printable;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// No column of a narrow terminal becomes narrower than this.
const LEAST: usize = 8;
/// What stands for what was cut.
const CUT: char = '…';
/// Between two columns.
const GAP: usize = 2;

/// What a table is written on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Paper {
    /// How many characters fit into a line; without it nothing is cut.
    pub width: Option<usize>,
    /// Whether colours are shown.
    pub colour: bool,
}

impl Paper {
    /// What this output is: a terminal has a width, and colours unless `NO_COLOR` is set or `TERM` is `dumb`; anything else
    /// has neither.
    pub fn of(output: impl AsFd) -> Self {
        if !rustix::termios::isatty(&output) {
            return Self::default();
        }
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let terminal = std::env::var_os("TERM").filter(|value| !value.is_empty());
        Self {
            width: rustix::termios::tcgetwinsize(&output).ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0),
            colour: !no_colour && terminal.is_some_and(|term| term != "dumb"),
        }
    }

    /// `text` in the colour of `tone`, where there are colours.
    pub fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            _ if !self.colour || text.is_empty() => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Waits => "33",
            Tone::Bad => "31;1",
            Tone::Faint => "2",
            Tone::Head => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// What a cell says to whoever only glances at it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Something is under way.
    Waits,
    /// A person is needed.
    Bad,
    /// Not worth much.
    Faint,
    /// A heading.
    Head,
}

/// A cell. Text that others wrote is made printable.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell of this tone.
    pub fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: printable(text.as_ref()), tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Columns under headings. The last one may be of any length; it is cut at its end, and the others in the middle, where paths
/// say least.
#[derive(Debug)]
pub struct Table {
    heads: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(heads: &[&str]) -> Self {
        Self { heads: heads.iter().map(|head| Cell::toned(head, Tone::Head)).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each with its line feed.
    pub fn render(&self, paper: Paper) -> String {
        let all = || std::iter::once(&self.heads).chain(&self.rows);
        let widest = |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.text.width()).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..self.heads.len()).map(widest).collect();
        if let Some(width) = paper.width {
            narrow(&mut widths, width);
        }
        let mut text = String::new();
        for row in all() {
            let mut blanks = 0;
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let last = column + 1 == widths.len();
                let shown = if cell.text.width() > *width { cut(&cell.text, *width, last) } else { cell.text.clone() };
                // Nothing is padded behind the last word of a line.
                if !shown.is_empty() {
                    text.extend(std::iter::repeat_n(' ', blanks));
                    text.push_str(&paper.paint(&shown, cell.tone));
                    blanks = 0;
                }
                blanks += width.saturating_sub(shown.width()) + GAP;
            }
            text.push('\n');
        }
        text
    }
}

/// Takes from the widest columns until all fit into `width`, as far as they can.
fn narrow(widths: &mut [usize], width: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    // Wider than the paper is none, so that there is little to take.
    widths.iter_mut().for_each(|column| *column = (*column).min(width));
    while widths.iter().sum::<usize>() + gaps > width {
        match widths.iter_mut().max() {
            Some(widest) if *widest > LEAST => *widest -= 1,
            _ => return,
        }
    }
}

/// `text` in `width` columns: its beginning, or its beginning and its end with what is between left out.
fn cut(text: &str, width: usize, at_end: bool) -> String {
    let room = width.saturating_sub(1);
    let behind = if at_end { 0 } else { room / 2 };
    let mut front = taken(text.chars(), room - behind);
    let mut back: VecDeque<char> = taken(text.chars().rev(), behind).chars().rev().collect();
    loop {
        let mut shown = front.clone();
        shown.push(CUT);
        shown.extend(&back);
        // Some characters are wider beside others than by themselves.
        if shown.width() <= width || (front.pop().is_none() && back.pop_front().is_none()) {
            return shown;
        }
    }
}

/// As many characters as fit into `width` columns, as wide as each is by itself.
fn taken(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|char| {
            used += char.width().unwrap_or(0);
            used <= width
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDE: Paper = Paper { width: None, colour: false };

    fn table() -> Table {
        let mut table = Table::new(&["A", "LONG", "WHY"]);
        table.row(["xyz", "ü", ""]);
        table.row(["日本", "\x1b[2J", "because"]);
        table
    }

    #[test]
    fn columns_line_up_and_hide_control_characters() {
        assert_eq!(table().render(WIDE), "A     LONG       WHY\nxyz   ü\n日本  \\u{1b}[2J  because\n");
    }

    #[test]
    fn a_narrow_terminal_cuts_the_widest() {
        let mut table = Table::new(&["DATASET", "STATE", "WHY"]);
        table.row(["files:/var/lib/docker/volumes/shop", "stored", "there is no room left on the device"]);
        let text = table.render(Paper { width: Some(50), colour: false });
        assert_eq!(text.lines().nth(1).unwrap(), "files:/var…umes/shop  stored  there is no room le…");
        // What fits is left alone.
        assert_eq!(table.render(Paper { width: Some(79), colour: false }), table.render(WIDE));
    }

    #[test]
    fn characters_that_are_wider_together_are_cut_too() {
        let mut table = Table::new(&["DATASET", "WHY"]);
        table.row([&*"☁\u{fe0f}".repeat(60), "because"]);
        table.row([&*"e\u{301}".repeat(300), "because"]);
        for width in [10, 40, 41] {
            let text = table.render(Paper { width: Some(width), colour: false });
            assert!(text.lines().all(|line| line.width() <= width.max(2 * LEAST + GAP)), "{text}");
        }
    }

    #[test]
    fn colours_are_outside_of_the_padding() {
        let mut table = Table::new(&["A", "B"]);
        table.row([Cell::toned("bad", Tone::Bad), Cell::from("x")]);
        let text = table.render(Paper { width: None, colour: true });
        assert_eq!(text, "\x1b[1mA\x1b[0m    \x1b[1mB\x1b[0m\n\x1b[31;1mbad\x1b[0m  x\n");
    }

    #[test]
    fn what_is_no_terminal_is_plain() {
        assert_eq!(Paper::of(std::fs::File::open("/dev/null").unwrap()), Paper::default());
    }

    proptest! {
        #[test]
        fn no_line_is_longer_than_the_terminal(cells in prop::collection::vec("([a-z日 …ü☁👩]|\u{fe0f}|\u{301}|☁\u{fe0f}|🇩🇪){0,40}", 4), width in 40usize..120) {
            let mut table = Table::new(&["A", "B", "C", "D"]);
            table.row(cells);
            for line in table.render(Paper { width: Some(width), colour: false }).lines() {
                prop_assert!(line.width() <= width, "{line:?}");
            }
        }
    }
}
