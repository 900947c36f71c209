//! What the node's administrators are told by mail: requests that failed for good, clients that are away for long, alarms.
//!
//! Reads what the poller wrote down and decides what is wrong now; what of that is news, and sending it, is the crate
//! `mail`'s.

use crate::node::Node;
use crate::output;
use crate::poll::alarms::{self, Alarm};
use crate::poll::client::{Last, read_last, read_retry};
use crate::poll::retry::Retry;
use crate::poll::serve_lanes;
use crate::scrub::{self, damage};
use crate::silence::{self, Silence};
use base::{Dataset, Name, Result, clock};
use jiff::{SignedDuration, Timestamp};
use mail::{Trouble, Wrong};
use queue::access::AccessList;
use queue::access::limits::OVER;
use std::collections::BTreeMap;

/// What the node's own things begin with, and the alarms of a client; none can be a client's name.
const OWN: &str = "this node: ";
const ALARMS: &str = "alarms of ";
/// What mirrors begin with that lost what they showed.
const MIRRORS: &str = "mirrors of ";
/// What a client's limits begin with.
const LIMITS: &str = "limits of ";
/// What damage of a client's data begins with.
const DAMAGE: &str = "damage of ";

/// Tells what has changed. Trouble with it is told, and stops nothing.
pub fn tell(node: &Node) {
    let Some(mail) = &node.config.mail else { return };
    let told = || {
        let here = node.config.name.to_string();
        let after = SignedDuration::try_from(mail.alert_after.0).unwrap_or(SignedDuration::MAX);
        mail::report(mail, &node.state_path(), &here, &format!("nightsafe-server status on {here} says more."), |told| {
            wrong(node, after, told)
        })
    };
    if let Err(error) = told() {
        output::complain(&error);
    }
}

/// What is wrong now. Only what is known to be well again is said to be: a state that was lost, a client that is not in
/// the access list any more, a clock that was set back say nothing.
fn wrong(node: &Node, after: SignedDuration, told: &BTreeMap<String, Trouble>) -> Result<Wrong> {
    let (mut wrong, mut unknown) = (Wrong::default(), Vec::new());
    for alarm in alarms::all(&node.state_path()) {
        let trouble = Trouble { since: alarm.first, what: "is an alarm".into(), why: alarm.words };
        wrong.things.insert(format!("{OWN}{}", alarm.about), trouble);
    }
    let access = crate::access::current(node)?;
    let clients = &access.list.clients;
    for (name, grant) in clients {
        let folder = node.config.client_path(name);
        of_alarms(name.as_str(), &alarms::all(&folder), &mut wrong);
        of_damage(node, name, &mut wrong);
        let last = read_last(&folder);
        if last.received.is_none() {
            unknown.extend([format!("{name}:"), format!("{LIMITS}{name}")]);
        }
        if !grant.paused {
            of_silence(name, &last, &access.list, clock::now(), &mut wrong);
        }
        of_requests(name.as_str(), last, &mut wrong);
        if grant.paused {
            wrong.open.insert(name.to_string());
        } else {
            of_waits(name.as_str(), &read_retry(&folder), after, clock::now(), &mut wrong);
        }
    }
    let known = |thing: &str| {
        let client = [ALARMS, MIRRORS, DAMAGE, LIMITS].iter().find_map(|start| thing.strip_prefix(start)).unwrap_or(thing);
        let client = client.split_once(':').map_or(client, |(client, _)| client);
        thing.starts_with(OWN)
            || (clients.keys().any(|name| name.as_str() == client) && !unknown.iter().any(|start| thing.starts_with(start)))
    };
    wrong.open.extend(told.keys().filter(|thing| !known(thing)).cloned());
    Ok(wrong)
}

/// All alarms of a client are one thing, and those of its mirrors another: a hostile client chooses what they are about, and
/// must not be able to have a mail sent for each.
fn of_alarms(client: &str, alarms: &[Alarm], wrong: &mut Wrong) {
    let (mirrors, others): (Vec<&Alarm>, Vec<&Alarm>) = alarms.iter().partition(|alarm| alarm.about.starts_with(alarms::MIRROR));
    for (start, what, alarms) in [(ALARMS, "were raised", others), (MIRRORS, "were rewritten", mirrors)] {
        if let Some(alarm) = alarms.first() {
            let trouble = Trouble { since: alarm.first, what: what.into(), why: alarm.words.clone() };
            wrong.things.insert(format!("{start}{client}"), trouble);
        }
    }
}

/// All damage of a client's data is one thing: one mail says that a disk goes bad.
fn of_damage(node: &Node, client: &Name, wrong: &mut Wrong) {
    let (damage, claims) = (damage::load(&node.config.client_path(client)).entries, scrub::claims(node, client));
    let open: Vec<_> = damage.iter().filter(|entry| claims.of(entry).is_none()).collect();
    if let Some(first) = open.first() {
        let more = if open.len() > 1 { format!("; and {} more", open.len() - 1) } else { String::new() };
        let trouble = Trouble { since: first.first, what: "was found".into(), why: format!("{}{more}", first.line(client)) };
        wrong.things.insert(format!("{DAMAGE}{client}"), trouble);
    }
}

/// What a limit or the quota is the reason of is one thing too: the client chooses how many datasets it asks for.
fn of_requests(client: &str, last: Last, wrong: &mut Wrong) {
    for (dataset, trouble) in last.trouble {
        if [OVER, "over quota"].iter().any(|words| trouble.reason.starts_with(words)) {
            let thing = wrong.things.entry(format!("{LIMITS}{client}"));
            let first = Trouble { since: trouble.since, what: "were reached".into(), why: format!("{dataset}: {}", trouble.reason) };
            thing
                .and_modify(|known| {
                    if trouble.since < known.since {
                        known.clone_from(&first)
                    }
                })
                .or_insert(first.clone());
            continue;
        }
        let what = if trouble.outcome == queue::Outcome::Refused { "was refused" } else { "failed" };
        wrong.things.insert(format!("{client}:{dataset}"), Trouble { since: trouble.since, what: what.into(), why: trouble.reason });
    }
}

/// A dataset of which nothing comes. One that the list does not take any more is not expected.
fn of_silence(client: &Name, last: &Last, list: &AccessList, now: Timestamp, wrong: &mut Wrong) {
    for (dataset, silence) in silent(client, last, list, now) {
        let why = format!("nothing has come since {}; it is expected {}", silence.since, silence.expected);
        wrong.things.insert(format!("{client}:{dataset}"), Trouble { since: silence.since, what: "is silent".into(), why });
    }
}

/// The datasets of a client of which nothing comes.
pub fn silent(client: &Name, last: &Last, list: &AccessList, now: Timestamp) -> Vec<(Dataset, Silence)> {
    let Some(grant) = list.clients.get(client) else { return Vec::new() };
    let silent = |(dataset, came): (&String, &Vec<Timestamp>)| {
        let dataset: Dataset = dataset.parse().ok()?;
        let silence = silence::of(list.keeping(client, &dataset).1, came, now)?;
        grant.allows(&dataset).then_some((dataset, silence))
    };
    last.came.iter().filter_map(silent).collect()
}

/// A client is away when one of its lanes has waited for it for long.
fn of_waits(client: &str, retry: &Retry, after: SignedDuration, now: Timestamp, wrong: &mut Wrong) {
    let Some(wait) = serve_lanes().filter_map(|lane| retry.wait.get(lane)).min_by_key(|wait| wait.since) else { return };
    if now.duration_since(wait.since) < after {
        wrong.open.insert(client.to_owned());
    } else {
        let trouble = Trouble { since: wait.since, what: "cannot be reached".into(), why: wait.words.clone() };
        wrong.things.insert(client.to_owned(), trouble);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_away_only_after_a_while() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut retry = Retry::default();
        retry.failed("mirrors", "no route".into(), at(1000), 0.0);
        retry.failed("20261120T031500Z-3f9a1c7e", "odd".into(), at(0), 0.0);
        let things = |retry: &Retry, second| {
            let mut wrong = Wrong::default();
            of_waits("web1", retry, SignedDuration::from_secs(100), at(second), &mut wrong);
            (wrong.things.into_keys().collect::<Vec<_>>(), wrong.open.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(things(&retry, 1099), (vec![], vec!["web1".into()]), "not yet away, and not known to be well");
        assert_eq!(things(&retry, 1100), (vec!["web1".into()], vec![]));
        retry.worked("mirrors");
        assert_eq!(things(&retry, 9999), (vec![], vec![]));
    }

    #[test]
    fn many_alarms_of_a_client_are_one_thing() {
        let at = Timestamp::UNIX_EPOCH;
        let alarm = |about: &str| Alarm { about: about.into(), first: at, last: at, times: 1, words: about.into() };
        let mut wrong = Wrong::default();
        of_alarms("web1", &[alarm("commit 1"), alarm("mirror git:/a"), alarm("commit 2"), alarm("mirror git:/b")], &mut wrong);
        assert_eq!(wrong.things.into_keys().collect::<Vec<_>>(), ["alarms of web1", "mirrors of web1"]);
    }
}
