//! What the administrators of this machine are told by mail: requests that failed for good, nodes that are away for long.
//!
//! Reads what `send` wrote down and decides what is wrong now; what of that is news, and sending it, is the crate `mail`'s.

use crate::contact::Contact;
use crate::history::History;
use crate::metrics::Trouble as Metrics;
use crate::output;
use base::config::ClientConfig;
use base::{Reason, Result, clock};
use jiff::{SignedDuration, Timestamp};
use mail::{Trouble, Wrong};
use queue::pool::{ClientPool, PoolFile};
use std::collections::{BTreeMap, BTreeSet};

/// Tells what has changed. Trouble with it is told, and stops nothing.
pub fn tell(config: &ClientConfig) {
    let Some(mail) = &config.mail else { return };
    let told = || {
        let here = config.client_name()?.to_string();
        let after = SignedDuration::try_from(mail.alert_after.0).unwrap_or(SignedDuration::MAX);
        mail::report(mail, &config.state, &here, &format!("nightsafe status on {here} says more."), |told| wrong(config, after, told))
    };
    if let Err(error) = told() {
        output::complain(&error);
    }
}

/// What is wrong now. Only what is known to be well again is said to be: a state that was lost, a node that is not in the
/// configuration any more, a clock that was set back say nothing.
fn wrong(config: &ClientConfig, after: SignedDuration, told: &BTreeMap<String, Trouble>) -> Result<Wrong> {
    let unfinished = ClientPool::open(&config.pool_path())?.unfinished()?;
    let asked: Vec<PoolFile> = unfinished.into_iter().map(|(_, file, _)| file).collect();
    let (mut wrong, mut well) = (Wrong::default(), BTreeSet::new());
    for node in &config.nodes {
        let name = &node.name;
        let healing: BTreeSet<String> = asked
            .iter()
            .filter(|file| file.node == *name && file.reason == Reason::Heal)
            .filter_map(|file| Some(file.dataset().ok()?.to_string()))
            .collect();
        for (dataset, past) in History::wanted(config, name, &asked).datasets {
            let thing = format!("{dataset} to {name}");
            if healing.contains(&dataset.to_string()) {
                // Its packs are on their way once more; how that ends is not known yet.
                wrong.open.insert(thing);
            } else if let Some(since) = past.failing_since {
                wrong.things.insert(thing, Trouble { since, what: "failed".into(), why: past.error.unwrap_or_default() });
            } else if past.last_success.is_some() {
                well.insert(thing);
            }
        }
        of_contact(&Contact::load(config, name)?, name.as_str(), after, clock::now(), &mut wrong, &mut well);
    }
    of_metrics(config.metrics.is_some(), Metrics::load(config), &mut wrong, &mut well);
    wrong.open.extend(told.keys().filter(|thing| !well.contains(*thing)).cloned());
    Ok(wrong)
}

/// Whether the file for node_exporter can be written, where one is.
fn of_metrics(wanted: bool, metrics: Metrics, wrong: &mut Wrong, well: &mut BTreeSet<String>) {
    let thing = "the file with metrics".to_owned();
    match metrics.since {
        _ if !wanted => {}
        None => drop(well.insert(thing)),
        Some(since) => drop(wrong.things.insert(thing, Trouble { since, what: "cannot be written".into(), why: metrics.why })),
    }
}

/// What is wrong with the way to a node.
fn of_contact(contact: &Contact, node: &str, after: SignedDuration, now: Timestamp, wrong: &mut Wrong, well: &mut BTreeSet<String>) {
    let receipts = format!("receipts of {node}");
    if let Some(since) = contact.failing_since {
        if now.duration_since(since) >= after {
            let trouble = Trouble { since, what: "cannot be reached".into(), why: contact.error.clone().unwrap_or_default() };
            wrong.things.insert(node.to_owned(), trouble);
        }
    } else if contact.last_contact.is_some() {
        well.insert(node.to_owned());
    }
    if let Some(alarm) = &contact.alarm {
        let trouble = Trouble { since: now, what: "are not believed".into(), why: alarm.clone() };
        wrong.things.insert(receipts, trouble);
    } else if contact.last_contact.is_some() {
        well.insert(receipts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_told_of_where_they_are_wanted() {
        let told = |wanted, since: Option<i64>| {
            let (mut wrong, mut well) = (Wrong::default(), BTreeSet::new());
            let metrics = Metrics { since: since.and_then(|second| Timestamp::from_second(second).ok()), ..Metrics::default() };
            of_metrics(wanted, metrics, &mut wrong, &mut well);
            (wrong.things.len(), well.len())
        };
        assert_eq!([told(true, Some(5)), told(true, None), told(false, Some(5)), told(false, None)], [(1, 0), (0, 1), (0, 0), (0, 0)]);
    }

    #[test]
    fn a_node_is_away_only_after_a_while() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut contact = Contact::default();
        let things = |contact: &Contact, second| {
            let (mut wrong, mut well) = (Wrong::default(), BTreeSet::new());
            of_contact(contact, "n1", SignedDuration::from_secs(100), at(second), &mut wrong, &mut well);
            (wrong.things.into_keys().collect::<Vec<_>>(), well.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(things(&contact, 0), (vec![], vec![]), "nothing is known");
        contact.failed(at(1000), "no route", 0.0);
        contact.failed(at(1050), "no route", 0.0);
        assert_eq!(things(&contact, 1099), (vec![], vec![]), "not yet away, and not well");
        assert_eq!(things(&contact, 1100), (vec!["n1".into()], vec![]));
        contact.alarm = Some("tampered".into());
        contact.reached(at(1200));
        assert_eq!(things(&contact, 9999), (vec!["receipts of n1".into()], vec!["n1".into()]));
    }
}
