//! What a person should look at: what is overdue first, then what does not work, then what may soon not.
//!
//! Pure: made of the overview alone.

use crate::overview::{Client, Overview};
use crate::poll::alarms;
use base::text::printable;
use base::{ByteSize, clock};
use jiff::Timestamp;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is not backed up, or not as it must be.
    Bad,
    /// Something may soon be so.
    Warn,
}

/// What kind of thing it is; the first is shown first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing comes, though it was expected.
    Overdue,
    /// The last request was not stored.
    NotStored,
    /// What is kept is damaged.
    Damaged,
    /// What must not happen among honest parties.
    Alarm,
    /// Others may read or write what they must not.
    Open,
    /// What was damaged somebody claims to have sent again.
    Claimed,
    /// The node has trouble with it, and tries again.
    Retrying,
    /// Little is left of a limit.
    NearLimit,
    /// Little room is left on the disk.
    Disk,
    /// A clock is wrong.
    Clock,
}

impl Kind {
    /// How bad it is.
    pub fn level(self) -> Level {
        match self {
            Self::Overdue | Self::NotStored | Self::Damaged | Self::Alarm | Self::Open => Level::Bad,
            Self::Claimed | Self::Retrying | Self::NearLimit | Self::Disk | Self::Clock => Level::Warn,
        }
    }

    /// What it is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Overdue => "overdue",
            Self::NotStored => "not stored",
            Self::Damaged => "damaged",
            Self::Alarm => "alarm",
            Self::Open => "open to others",
            Self::Claimed => "repair claimed",
            Self::Retrying => "trying again",
            Self::NearLimit => "near a limit",
            Self::Disk => "disk full soon",
            Self::Clock => "clock is off",
        }
    }
}

/// One thing to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matter {
    /// What kind.
    pub kind: Kind,
    /// Of which client; `None` for the node itself.
    pub client: Option<String>,
    /// Of which dataset.
    pub dataset: Option<String>,
    /// What there is to say.
    pub words: String,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// A client's clock may be ahead so far, in seconds.
const AHEAD: i64 = 300;

/// Everything of the node and of all clients, in the order in which it is shown.
pub fn of_all(overview: &Overview) -> Vec<Matter> {
    let mut matters = of_node(overview);
    overview.clients.iter().for_each(|client| matters.extend(unsorted(client)));
    sort(&mut matters);
    matters
}

/// Everything of one client, in the order in which it is shown.
pub fn of_client(client: &Client) -> Vec<Matter> {
    let mut matters = unsorted(client);
    sort(&mut matters);
    matters
}

/// How bad the worst is.
pub fn worst(matters: &[Matter]) -> Option<Kind> {
    matters.iter().map(|matter| matter.kind).min()
}

fn sort(matters: &mut [Matter]) {
    // Since longest first; what has no beginning comes last.
    matters.sort_by(|a, b| {
        let key = |matter: &Matter| (matter.kind, matter.since.unwrap_or(Timestamp::MAX));
        (key(a), &a.client, &a.dataset).cmp(&(key(b), &b.client, &b.dataset))
    });
}

fn of_node(overview: &Overview) -> Vec<Matter> {
    let of = |kind, words: String, since| Matter { kind, client: None, dataset: None, words, since };
    let alarms = overview.alarms.iter().map(|alarm| of(Kind::Alarm, printable(&alarm.words), Some(alarm.first)));
    let open = overview.open.iter().map(|words| of(Kind::Open, printable(words), None));
    let disk = overview.disk.filter(|disk| disk.free < disk.size / 10);
    let disk = disk.map(|disk| of(Kind::Disk, format!("{} of {} are free", ByteSize(disk.free), ByteSize(disk.size)), None));
    alarms.chain(open).chain(disk).collect()
}

fn unsorted(client: &Client) -> Vec<Matter> {
    let of = |kind, dataset: Option<&String>, words: String, since| Matter {
        kind,
        client: Some(client.client.clone()),
        dataset: dataset.cloned(),
        words,
        since,
    };
    let trouble = |dataset: &str| client.trouble.iter().find(|trouble| trouble.dataset == dataset);
    let mut matters = Vec::new();
    for silence in &client.silent {
        let why = trouble(&silence.dataset).map(|t| format!("; the last request was {}: {}", t.outcome, printable(&t.reason)));
        let words =
            format!("Nothing has come for {}; it is expected {}{}", clock::ago(silence.since), silence.expected, why.unwrap_or_default());
        matters.push(of(Kind::Overdue, Some(&silence.dataset), words, Some(silence.since)));
    }
    for trouble in client.trouble.iter().filter(|trouble| client.silent.iter().all(|silence| silence.dataset != trouble.dataset)) {
        let words = format!("The last request was {} {} ago: {}", trouble.outcome, clock::ago(trouble.last), printable(&trouble.reason));
        matters.push(of(Kind::NotStored, Some(&trouble.dataset), words, Some(trouble.since)));
    }
    for damage in &client.damage {
        let (kind, claimed) = match damage.repair_claimed {
            Some(_) => (Kind::Claimed, "; a repair is claimed, and nightsafe verify with a key says whether it is whole"),
            None => (Kind::Damaged, ""),
        };
        matters.push(of(kind, damage.datasets.first(), format!("{}{claimed}", printable(&damage.line)), Some(damage.since)));
    }
    for alarm in &client.alarms {
        let dataset = alarm.about.strip_prefix(alarms::MIRROR).map(str::to_owned);
        matters.push(of(Kind::Alarm, dataset.as_ref(), printable(&alarm.words), Some(alarm.first)));
    }
    for retry in client.retries_to_tell() {
        let words = format!("{}: {}; {}", printable(&retry.what), printable(&retry.words), retry.failed());
        matters.push(of(Kind::Retrying, None, words, Some(retry.since)));
    }
    for near in &client.near {
        matters.push(of(Kind::NearLimit, None, near.said(), None));
    }
    if client.clock_ahead_seconds > AHEAD {
        matters.push(of(
            Kind::Clock,
            None,
            format!("The client's clock is {} s ahead of the node's, or more", client.clock_ahead_seconds),
            None,
        ));
    }
    matters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::{Silence, Trouble};
    use queue::Outcome;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn trouble(dataset: &str, since: i64) -> Trouble {
        let (outcome, reason) = (Outcome::Refused, "no\u{202e}".to_owned());
        Trouble { dataset: dataset.into(), outcome, reason, since: at(since), last: at(since), request: String::new() }
    }

    #[test]
    fn what_is_overdue_for_longest_is_first_and_said_once() {
        let silence = |dataset: &str, since| Silence { dataset: dataset.into(), since: at(since), expected: "every 24 h".into() };
        let client = Client {
            client: "web1".into(),
            silent: vec![silence("files:/b", 5), silence("files:/a", 1)],
            trouble: vec![trouble("files:/a", 0), trouble("files:/c", -9)],
            clock_ahead_seconds: 301,
            ..Client::default()
        };
        let matters = of_client(&client);
        let seen: Vec<_> = matters.iter().map(|m| (m.kind, m.dataset.as_deref().unwrap_or(""))).collect();
        assert_eq!(seen, [(Kind::Overdue, "files:/a"), (Kind::Overdue, "files:/b"), (Kind::NotStored, "files:/c"), (Kind::Clock, "")]);
        assert!(matters[0].words.contains("expected every 24 h; the last request was refused: no\\u{202e}"), "{}", matters[0].words);
        assert_eq!((worst(&matters), worst(&[])), (Some(Kind::Overdue), None));
        assert_eq!(of_client(&Client::default()), []);
    }
}
