//! The digest: how everything stands, in one mail a day or a week, as a table in plain text and in HTML.
//!
//! Does not know what the table is about. When the last one went is remembered before it goes: a crash may cost a digest, and
//! never makes a second one of it.

use crate::decide::{SUBJECT, clipped};
use crate::send::send_parts;
use crate::told::load;
use base::config::{DigestTime, MailConfig};
use base::text::printable;
use base::{FileLock, Result, backoff, clock, config, crash, state};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::Path;

/// So many rows and lines are in one mail, so wide is a cell, and so long a line.
const ROWS: usize = 500;
const LINES: usize = 100;
const CELL: usize = 70;
const LINE: usize = 600;
/// Two that are due within less are one: somebody has set another time.
const APART: SignedDuration = SignedDuration::from_hours(12);
/// The longest file that is read.
const LIMIT: usize = 64 << 10;

/// What a digest says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digest {
    /// The subject after the machine's name, in few words.
    pub summary: String,
    /// Headings of the table.
    pub headings: Vec<&'static str>,
    /// Its rows, the most important first.
    pub rows: Vec<Row>,
    /// Sentences below it, the most important first.
    pub lines: Vec<String>,
}

impl Digest {
    /// What `rows` and `lines` say: the rows at which a person should look come first, and the summary counts them. `troubles` are
    /// those that are about no dataset; `other` is what is in trouble then, as in "a node".
    pub fn new(headings: &[&'static str], mut rows: Vec<Row>, lines: Vec<String>, troubles: usize, other: &str) -> Self {
        let wrong = rows.iter().filter(|row| row.wrong).count();
        // Stable: among the same the caller's order stays.
        rows.sort_by_key(|row| !row.wrong);
        let summary = match (rows.len(), wrong, troubles) {
            (1, 0, 0) => "all is well with 1 dataset".into(),
            (all, 0, 0) => format!("all is well with {all} datasets"),
            (_, 0, _) => format!("all datasets are well, and {other} is not"),
            (1, _, _) => "the only dataset needs a look".into(),
            (all, 1, _) => format!("1 of {all} datasets needs a look"),
            (all, wrong, _) => format!("{wrong} of {all} datasets need a look"),
        };
        Self { summary, headings: headings.to_vec(), rows, lines }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// As many as there are headings.
    pub cells: Vec<String>,
    /// Whether a person should look at it.
    pub wrong: bool,
}

/// `digest.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    version: i64,
    /// For which time the last one went, or was on its way when a crash came.
    last: Option<Timestamp>,
    /// How many tries in a row could not send the one that is due.
    #[serde(default)]
    failures: u32,
    /// When the next try is due, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_try: Option<Timestamp>,
}

impl Default for Sent {
    fn default() -> Self {
        Self::of(None)
    }
}

impl Sent {
    fn of(last: Option<Timestamp>) -> Self {
        Self { version: config::VERSION, last, failures: 0, next_try: None }
    }
}

/// What is to be done about the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing.
    Wait,
    /// To remember that the one of this time is not missing.
    Remember(Timestamp),
    /// To send the one of this time.
    Send(Timestamp),
}

/// `last` is the time for which the last one went, `slot` the last one up to `now` at which one goes.
fn step(last: Option<Timestamp>, slot: Timestamp, now: Timestamp, every: SignedDuration) -> Step {
    match last {
        // Who begins has not missed any.
        None => Step::Remember(slot),
        // The clock was set back a little: that time comes once more, and its digest has gone.
        Some(last) if last > now && last.duration_since(now) <= every => Step::Wait,
        // It was wrong by far. The next one goes at its time.
        Some(last) if last > now => Step::Remember(slot),
        Some(last) if slot.duration_since(last) >= APART => Step::Send(slot),
        Some(_) => Step::Wait,
    }
}

/// Sends the digest where one is due; `folder` is where that is remembered, `here` this machine's name, `hint` a sentence on
/// where to look. Another process that is at it is left alone.
///
/// # Errors
/// When it cannot be looked, or the mail could not be sent; then a later run tries again. Only the first failure in a row, of
/// either kind, is an error, so that it is told once.
pub fn digest(mail: &MailConfig, folder: &Path, here: &str, hint: &str, look: impl FnOnce() -> Result<Digest>) -> Result<()> {
    digest_at(clock::now(), &TimeZone::system(), mail, folder, here, hint, look)
}

fn digest_at(
    now: Timestamp,
    zone: &TimeZone,
    mail: &MailConfig,
    folder: &Path,
    here: &str,
    hint: &str,
    look: impl FnOnce() -> Result<Digest>,
) -> Result<()> {
    let Some(when) = mail.digest else { return Ok(()) };
    let path = folder.join("digest.toml");
    let Some(_lock) = FileLock::try_now(&folder.join("digest.lock"))? else { return Ok(()) };
    let sent: Sent = load(&path, LIMIT);
    let slot = when.last(mail.digest_at(), now, zone);
    match step(sent.last, slot, now, when.every()) {
        Step::Wait => Ok(()),
        Step::Remember(slot) => state::store(&path, &Sent::of(Some(slot))),
        Step::Send(slot) if is_due(&sent, now) => {
            let send = || {
                let digest = look()?;
                state::store(&path, &Sent::of(Some(slot)))?;
                crash::point("remembered");
                let (subject, text, html) = compose(here, when, &digest, hint);
                send_parts(mail, here, &subject, &text, Some(&html))
            };
            let Err(error) = send() else { return Ok(()) };
            let failures = sent.failures.saturating_add(1);
            let wait = SignedDuration::try_from(backoff::delay(failures, 0.0)).unwrap_or(SignedDuration::from_hours(1));
            state::store(&path, &Sent { failures, next_try: now.checked_add(wait).ok(), ..Sent::of(sent.last) })?;
            let error = error.context("the digest could not be sent").hint("It is tried again later; config check --mail tries the way.");
            if sent.failures == 0 {
                return Err(error);
            }
            tracing::info!("{}", error.one_line());
            Ok(())
        }
        Step::Send(_) => Ok(()),
    }
}

/// Whether it may be tried now; a clock that was set back does not make us wait for longer than the longest wait there is.
fn is_due(sent: &Sent, now: Timestamp) -> bool {
    sent.next_try.is_none_or(|next| next <= now || next.duration_since(now).unsigned_abs() > backoff::LONGEST)
}

/// Subject, plain text and HTML.
fn compose(here: &str, when: DigestTime, digest: &Digest, hint: &str) -> (String, String, String) {
    let subject = clipped(&format!("[nightsafe {here}] {}", digest.summary), SUBJECT);
    let cells = |row: &Row| row.cells.iter().map(|cell| clipped(cell, CELL)).collect::<Vec<_>>();
    let rows: Vec<(Vec<String>, bool)> = digest.rows.iter().take(ROWS).map(|row| (cells(row), row.wrong)).collect();
    let lines: Vec<String> = digest.lines.iter().take(LINES).map(|line| clipped(line, LINE)).collect();
    let mut more = Vec::new();
    for (left, what) in [(digest.rows.len() - rows.len(), "rows"), (digest.lines.len() - lines.len(), "lines")] {
        if left > 0 {
            more.push(format!("{left} more {what} are left out here."));
        }
    }
    more.push(printable(hint));
    more.push(format!("This mail comes {when}; changes are told at once."));
    let (summary, headings) = (clipped(&digest.summary, LINE), &digest.headings);
    (subject, plain(&summary, headings, &rows, &lines, &more), html(&summary, headings, &rows, &lines, &more))
}

fn plain(summary: &str, headings: &[&str], rows: &[(Vec<String>, bool)], lines: &[String], more: &[String]) -> String {
    let mut text = format!("{summary}\n\n");
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|(cells, _)| cells.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|heading| heading.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut add = |wrong: bool, cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{} {}", if wrong { '!' } else { ' ' }, padded.join("  ").trim_end());
    };
    if !rows.is_empty() {
        add(false, &mut headings.iter().copied());
    }
    for (cells, wrong) in rows {
        add(*wrong, &mut cells.iter().map(String::as_str));
    }
    for part in [lines, more] {
        if !part.is_empty() {
            let _ = write!(text, "\n{}\n", part.join("\n"));
        }
    }
    text
}

/// Nothing from outside, no script, and no style that a mail program would have to fetch.
fn html(summary: &str, headings: &[&str], rows: &[(Vec<String>, bool)], lines: &[String], more: &[String]) -> String {
    let cell = "padding:2px 12px 2px 0;text-align:left;vertical-align:top";
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>nightsafe</title></head>\n\
         <body style=\"font-family:sans-serif\">\n<p><strong>{}</strong></p>\n",
        escaped(summary)
    );
    let each = |items: &mut dyn Iterator<Item = &str>, open: &str, close: &str| {
        items.map(|item| format!("{open}{}{close}", escaped(item))).collect::<String>()
    };
    if !rows.is_empty() {
        let head = each(&mut headings.iter().copied(), &format!("<th scope=\"col\" style=\"{cell}\">"), "</th>");
        let _ = writeln!(html, "<table style=\"border-collapse:collapse\">\n<tr>{head}</tr>");
        for (cells, wrong) in rows {
            let row = if *wrong { "<tr style=\"background:#fde8e8;font-weight:bold\">" } else { "<tr>" };
            let cells = each(&mut cells.iter().map(String::as_str), &format!("<td style=\"{cell}\">"), "</td>");
            let _ = writeln!(html, "{row}{cells}</tr>");
        }
        html.push_str("</table>\n");
    }
    if !lines.is_empty() {
        let _ = writeln!(html, "<ul>\n{}</ul>", each(&mut lines.iter().map(String::as_str), "<li>", "</li>\n"));
    }
    html.push_str(&each(&mut more.iter().map(String::as_str), "<p>", "</p>\n"));
    html.push_str("</body></html>\n");
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Error;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A sendmail that counts what it gets, or fails.
    fn config(folder: &Path, script: &str, digest: &str) -> MailConfig {
        crate::testing::sendmail(folder, script, digest)
    }

    #[test]
    fn one_for_each_time_whatever_the_clock_does() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let take = format!("cat >/dev/null; echo >>{}", count.display());
        let mails = || std::fs::read_to_string(&count).unwrap_or_default().len();
        let daily = config(dir.path(), &take, "digest = \"daily\"\nat = \"07:00\"");
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let tell = |mail: &MailConfig, now: &str| digest_at(at(now), &zone, mail, dir.path(), "n", "", || Ok(Digest::default()));
        for (now, sent) in [
            ("2026-11-20T09:00:00Z", 0),
            ("2026-11-21T05:59:59Z", 0),
            ("2026-11-21T06:00:00Z", 1),
            ("2026-11-21T06:00:01Z", 1),
            // Set back over the time, and on again.
            ("2026-11-21T05:50:00Z", 1),
            ("2026-11-21T06:10:00Z", 1),
            // Off for a week: one, not seven.
            ("2026-11-28T12:00:00Z", 2),
            ("2026-11-29T06:00:00Z", 3),
            // Years ahead, and back.
            ("2036-01-01T12:00:00Z", 4),
            ("2026-11-29T06:05:00Z", 4),
            ("2026-11-29T20:00:00Z", 4),
            ("2026-11-30T06:00:00Z", 5),
        ] {
            tell(&daily, now).unwrap();
            assert_eq!(mails(), sent, "{now}");
        }
        // Another time is no second mail that day.
        let later = config(dir.path(), &take, "digest = \"daily\"\nat = \"08:00\"");
        tell(&later, "2026-11-30T07:00:00Z").unwrap();
        assert_eq!(mails(), 5);
        tell(&later, "2026-12-01T07:00:00Z").unwrap();
        let weekly = config(dir.path(), &take, "digest = \"weekly:mon\"");
        // 2026-12-07 is a Monday.
        for (now, sent) in
            [("2026-12-06T12:00:00Z", 6), ("2026-12-07T06:00:00Z", 7), ("2026-12-08T06:00:00Z", 7), ("2026-12-14T06:00:00Z", 8)]
        {
            tell(&weekly, now).unwrap();
            assert_eq!(mails(), sent, "{now}");
        }
        let none = config(dir.path(), &take, "");
        tell(&none, "2027-12-14T06:00:00Z").unwrap();
        assert_eq!(mails(), 8);
    }

    #[test]
    fn what_could_not_be_sent_is_tried_again_and_what_died_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let take = format!("cat >/dev/null; echo >>{}", count.display());
        let mails = || std::fs::read_to_string(&count).unwrap_or_default().len();
        let tell = |mail: &MailConfig, now: &str| {
            digest_at(at(now), &TimeZone::UTC, mail, dir.path(), "n", "", || Ok(Digest { summary: "s".into(), ..Digest::default() }))
        };
        let broken = config(dir.path(), "cat >/dev/null; exit 75", "digest = \"daily\"");
        tell(&broken, "2026-11-20T09:00:00Z").unwrap();
        assert!(tell(&broken, "2026-11-21T07:00:00Z").is_err());
        tell(&broken, "2026-11-21T07:01:00Z").unwrap();
        let good = config(dir.path(), &take, "digest = \"daily\"");
        tell(&good, "2026-11-21T08:00:00Z").unwrap();
        tell(&good, "2026-11-21T09:00:00Z").unwrap();
        assert_eq!(mails(), 1);
        // As a process leaves it that died while its mail was on the way.
        state::store(&dir.path().join("digest.toml"), &Sent::of(Some(at("2026-11-22T07:00:00Z")))).unwrap();
        tell(&good, "2026-11-22T07:05:00Z").unwrap();
        assert_eq!(mails(), 1);
        tell(&good, "2026-11-23T07:00:00Z").unwrap();
        assert_eq!(mails(), 2);
        // What cannot be looked at costs nothing, and is told once.
        let look = |now: &str| digest_at(at(now), &TimeZone::UTC, &good, dir.path(), "n", "", || Err(Error::failed("x")));
        let error = look("2026-11-24T07:00:00Z").unwrap_err().one_line();
        assert!(error.contains("could not be sent") && error.ends_with('x'), "{error}");
        look("2026-11-24T07:00:01Z").unwrap();
        look("2026-11-24T07:01:00Z").unwrap();
        assert_eq!(mails(), 2);
        tell(&good, "2026-11-24T07:10:00Z").unwrap();
        assert_eq!(mails(), 3);
    }

    #[test]
    fn the_summary_counts_what_needs_a_look() {
        let row = |name: &str, wrong| Row { cells: vec![name.into()], wrong };
        let digest = |rows: Vec<Row>, troubles| Digest::new(&["A"], rows, Vec::new(), troubles, "a node");
        let many = digest(vec![row("a", false), row("b", true), row("c", false), row("d", true)], 1);
        assert_eq!(many.summary, "2 of 4 datasets need a look");
        assert_eq!(many.rows.iter().map(|row| row.cells[0].as_str()).collect::<String>(), "bdac");
        for (rows, troubles, summary) in [
            (vec![row("a", false)], 0, "all is well with 1 dataset"),
            (vec![], 0, "all is well with 0 datasets"),
            (vec![row("a", false)], 1, "all datasets are well, and a node is not"),
            (vec![row("a", true)], 0, "the only dataset needs a look"),
            (vec![row("a", true), row("b", false)], 0, "1 of 2 datasets needs a look"),
        ] {
            assert_eq!(digest(rows, troubles).summary, summary);
        }
    }

    #[test]
    fn the_words_are_a_table() {
        let row = |cells: [&str; 2], wrong| Row { cells: cells.map(str::to_owned).to_vec(), wrong };
        let digest = Digest {
            summary: "1 of 2 datasets need a look".into(),
            headings: vec!["DATASET", "LAST STORED"],
            rows: vec![row(["files:/a<b>", "never"], true), row(["x", "1 h ago"], false)],
            lines: vec!["web1: a & b".into()],
        };
        let (subject, text, html) = compose("node1", "daily".parse().unwrap(), &digest, "Look.");
        assert_eq!(subject, "[nightsafe node1] 1 of 2 datasets need a look");
        let table =
            "  DATASET      LAST STORED\n! files:/a<b>  never\n  x            1 h ago\n\nweb1: a & b\n\nLook.\nThis mail comes daily;";
        assert!(text.contains(table), "{text}");
        assert!(html.contains("files:/a&lt;b&gt;</td>") && html.contains("<li>web1: a &amp; b</li>"), "{html}");
        let many = Digest { rows: vec![Row::default(); ROWS + 3], ..Digest::default() };
        assert!(compose("n", "daily".parse().unwrap(), &many, "").1.contains("3 more rows are left out"));
    }

    proptest! {
        #[test]
        fn nothing_hostile_gets_through(cell in "(\\PC|[\\x00-\\x7f]|<script>|\r\n)*") {
            let digest = Digest {
                summary: cell.clone(),
                headings: vec!["A"],
                rows: vec![Row { cells: vec![cell.clone()], wrong: true }],
                lines: vec![cell],
            };
            let (subject, text, html) = compose("n", "daily".parse().unwrap(), &digest, "h");
            prop_assert!(subject.chars().count() <= SUBJECT && !subject.chars().any(char::is_control));
            prop_assert!(!text.chars().chain(html.chars()).any(|c| c.is_control() && c != '\n'));
            prop_assert!(!html.contains("<script") && text.lines().count() <= 10);
        }
    }
}
