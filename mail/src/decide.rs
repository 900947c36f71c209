//! What is to be told: from what was told and what is, as a pure function; and the words of a mail.
//!
//! Sends nothing and remembers nothing.

use base::text::printable;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// So many changes are named in one mail, and so long each may be; subjects are for phones.
const NAMED: usize = 50;
const WORDS: usize = 600;
pub(crate) const SUBJECT: usize = 78;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Since when.
    pub since: Timestamp,
    /// What is wrong, in few words that follow the thing's name, as in "failed on node1".
    pub what: String,
    /// Why; may be long, and may hold whatever others wrote.
    pub why: String,
}

/// Everything that is wrong now, by the thing that it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wrong {
    /// The troubles.
    pub things: BTreeMap<String, Trouble>,
    /// Things of which it is not known how they stand: nothing is said of them. What is in neither is well.
    pub open: BTreeSet<String>,
}

/// A thing that went wrong or is well again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It went wrong.
    Wrong(String, Trouble),
    /// It is well again; what was wrong.
    Well(String, Trouble),
}

/// What `told` does not say yet of what is.
pub fn changes(told: &BTreeMap<String, Trouble>, now: &Wrong) -> Vec<Change> {
    let open = |thing: &String| now.open.contains(thing);
    let new = now.things.iter().filter(|(thing, _)| !told.contains_key(*thing) && !open(thing));
    let old = told.iter().filter(|(thing, _)| !now.things.contains_key(*thing) && !open(thing));
    let wrong = new.map(|(thing, trouble)| Change::Wrong(thing.clone(), trouble.clone()));
    wrong.chain(old.map(|(thing, trouble)| Change::Well(thing.clone(), trouble.clone()))).collect()
}

/// What will have been told when `changes` are.
pub(crate) fn after(told: &BTreeMap<String, Trouble>, changes: &[Change]) -> BTreeMap<String, Trouble> {
    let mut told = told.clone();
    for change in changes {
        match change {
            Change::Wrong(thing, trouble) => told.insert(thing.clone(), trouble.clone()),
            Change::Well(thing, _) => told.remove(thing),
        };
    }
    told
}

/// Subject and text of the one mail that tells `changes`. `here` is the machine, `hint` what says more.
pub(crate) fn compose(here: &str, changes: &[Change], hint: &str) -> (String, String) {
    let line = |change: &Change| match change {
        Change::Wrong(thing, trouble) => format!("{thing} {}", trouble.what),
        Change::Well(thing, _) => format!("{thing} is well again"),
    };
    let wrong = changes.iter().filter(|change| matches!(change, Change::Wrong(..))).count();
    let well = changes.len() - wrong;
    let things = |count: usize| if count == 1 { "1 thing".to_owned() } else { format!("{count} things") };
    let summary = match (changes, wrong, well) {
        ([only], ..) => line(only),
        (_, wrong, 0) => format!("{} went wrong", things(wrong)),
        (_, 0, well) => format!("{} well again", things(well)),
        (_, wrong, well) => format!("{} went wrong, {well} well again", things(wrong)),
    };
    let mut text = String::new();
    for change in changes.iter().take(NAMED) {
        let _ = match change {
            Change::Wrong(_, trouble) => writeln!(text, "{}, since {}.", clipped(&line(change), WORDS), trouble.since)
                .and_then(|()| if trouble.why.is_empty() { Ok(()) } else { writeln!(text, "  {}", clipped(&trouble.why, WORDS)) }),
            Change::Well(_, trouble) => {
                writeln!(text, "{}. It {} since {}.", clipped(&line(change), WORDS), was(&trouble.what), trouble.since)
            }
        };
        text.push('\n');
    }
    if changes.len() > NAMED {
        let _ = write!(text, "{} more are not named here.\n\n", changes.len() - NAMED);
    }
    let _ = writeln!(text, "{}\nEach of these is told once; the next mail is about the next change.", printable(hint));
    (clipped(&format!("[nightsafe {here}] {summary}"), SUBJECT), text)
}

/// How trouble is spoken of when it is over.
fn was(what: &str) -> String {
    format!("had been in trouble ({})", clipped(what, WORDS))
}

/// One line without control characters, of at most `most` characters.
pub(crate) fn clipped(text: &str, most: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trouble(why: &str) -> Trouble {
        Trouble { since: Timestamp::UNIX_EPOCH, what: "failed on node1".into(), why: why.into() }
    }

    fn wrong(things: &[&str]) -> Wrong {
        Wrong { things: things.iter().map(|thing| ((*thing).to_owned(), trouble("why"))).collect(), open: BTreeSet::new() }
    }

    #[test]
    fn only_changes_are_told() {
        let mut told = BTreeMap::new();
        let mut step = |now: &Wrong| {
            let changes = changes(&told, now);
            told = after(&told, &changes);
            changes.iter().map(|change| matches!(change, Change::Wrong(..))).collect::<Vec<_>>()
        };
        assert_eq!(step(&wrong(&[])), [] as [bool; 0]);
        assert_eq!(step(&wrong(&["a", "b"])), [true, true]);
        let other =
            Wrong { things: BTreeMap::from([("a".into(), trouble("another reason")), ("b".into(), trouble("y"))]), ..Wrong::default() };
        assert_eq!(step(&other), [] as [bool; 0], "another reason is no change of state");
        let open = Wrong { open: BTreeSet::from(["a".into(), "c".into()]), ..wrong(&["b", "c"]) };
        assert_eq!(step(&open), [] as [bool; 0], "of what is open nothing is said");
        assert_eq!(step(&wrong(&["b", "c"])), [true, false]);
        assert_eq!(step(&wrong(&[])), [false, false]);
    }

    #[test]
    fn words_are_for_people() {
        let (subject, text) = compose("web1", &[Change::Wrong("files:/a".into(), trouble("quota"))], "Run nightsafe status.");
        assert_eq!(subject, "[nightsafe web1] files:/a failed on node1");
        assert!(text.starts_with("files:/a failed on node1, since 1970-01-01T00:00:00Z.\n  quota\n"), "{text}");
        let both = [Change::Wrong("a".into(), trouble("")), Change::Well("b".into(), trouble(""))];
        assert_eq!(compose("n", &both, "").0, "[nightsafe n] 1 thing went wrong, 1 well again");
        let many: Vec<Change> = (0..200).map(|i| Change::Well(i.to_string(), trouble(""))).collect();
        let (subject, text) = compose("n", &many, "");
        assert!(subject == "[nightsafe n] 200 things well again" && text.contains("150 more"), "{subject}\n{text}");
    }

    proptest! {
        #[test]
        fn nothing_hostile_gets_through(thing in "\\PC*|[\\x00-\\xff]*", what in "[\\x00-\\x7f\u{202e}]*", why in "(\r\n.*|\\PC)*") {
            let trouble = Trouble { since: Timestamp::UNIX_EPOCH, what, why };
            for change in [Change::Wrong(thing.clone(), trouble.clone()), Change::Well(thing, trouble)] {
                let (subject, text) = compose("web1", &[change], "hint");
                prop_assert!(subject.chars().count() <= SUBJECT && !subject.chars().any(char::is_control));
                prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
                // A reason stays in its own line.
                prop_assert!(text.lines().count() <= 5);
            }
        }
    }
}
