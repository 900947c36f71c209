//! What is wrong on a node, a sentence each, for `status` and the digest.
//!
//! Gathers nothing.

use super::{Client, Overview};
use crate::poll::alarms::Alarm;
use base::clock;

/// A line for everything that a person should know of, the node's own first.
pub fn wrong(overview: &Overview) -> Vec<String> {
    let alarms = overview.alarms.iter().map(|alarm| of_alarm("node", alarm));
    let open = overview.open.iter().map(|open| format!("node: {open}"));
    alarms.chain(open).chain(overview.clients.iter().flat_map(of_client)).collect()
}

fn of_alarm(name: &str, alarm: &Alarm) -> String {
    format!("{name}: ALARM {} ago ({} times since {}): {}", clock::ago(alarm.last), alarm.times, alarm.first, alarm.words)
}

/// A line for everything of a client that a person should know of.
fn of_client(client: &Client) -> Vec<String> {
    let name = &client.client;
    let trouble = client.trouble.iter().map(|t| {
        format!(
            "{name}: {} was {} {} ago, and not stored for {}: {}",
            t.dataset,
            t.outcome,
            clock::ago(t.last),
            clock::ago(t.since),
            t.reason
        )
    });
    let silent = client
        .silent
        .iter()
        .map(|s| format!("{name}: {} is silent: nothing has come for {}; it is expected {}", s.dataset, clock::ago(s.since), s.expected));
    let near = client.near.iter().map(|near| format!("{name}: near its limit: {}", near.said()));
    let retries = client.retries_to_tell().map(|r| {
        let next = match r.next.duration_since(clock::now()).as_secs() {
            seconds if seconds > 0 => format!("next try in {seconds} s"),
            _ => "next try now".into(),
        };
        let since = if r.failures > 1 { format!(", for {}", clock::ago(r.since)) } else { String::new() };
        format!("{name}: {}: {}{since}; {next}: {}", r.what, r.failed(), r.words)
    });
    let alarms = client.alarms.iter().map(|alarm| of_alarm(name, alarm));
    let damage = client.damage.iter().map(|d| match &d.repair_claimed {
        Some(by) => format!("{}; repair claimed by {by}: nightsafe verify with a key says what is whole", d.line),
        None => format!("{}, for {}", d.line, clock::ago(d.since)),
    });
    trouble.chain(silent).chain(near).chain(retries).chain(alarms).chain(damage).collect()
}
