//! The first page: what needs a person, then every client.

use super::{Place, client_link, count, fact, frame, mark, matters, meter, pages, safe, size, time};
use crate::overview::{Client, Overview};
use crate::web::attention::{self, Kind, Level, Matter};
use maud::{Markup, html};
use std::collections::HashSet;

/// How many clients a page shows.
const CLIENTS: usize = 100;

/// The page. `wanted` is a part of a client's or a dataset's name; `page` counts from 0.
pub fn page(overview: &Overview, wanted: &str, page: usize) -> Markup {
    let all = attention::of_all(overview);
    let datasets: usize = overview.clients.iter().map(|client| client.datasets.len()).sum();
    let overdue = all.iter().filter(|matter| matter.kind == Kind::Overdue).count();
    let bad = all.iter().filter(|matter| matter.kind.level() == Level::Bad).count() - overdue;
    let wanted = wanted.trim();
    let mut clients: Vec<(Option<Kind>, &Client)> = overview
        .clients
        .iter()
        .filter(|client| fits(client, wanted))
        .map(|client| (attention::worst(&attention::of_client(client)), client))
        .collect();
    // The worst first; who is well comes last.
    clients.sort_by_key(|(kind, client)| (kind.is_none(), *kind, client.client.as_str()));
    let page = page.min(clients.len().saturating_sub(1) / CLIENTS);
    let shown = clients.iter().skip(page * CLIENTS).take(CLIENTS);
    let names: HashSet<&str> = clients.iter().map(|(_, client)| client.client.as_str()).collect();
    let is_here = |matter: &Matter| wanted.is_empty() || matter.client.as_deref().is_some_and(|name| names.contains(name));
    let here: Vec<Matter> = all.into_iter().filter(is_here).collect();
    let body = html! {
        h1 { "How backups stand" }
        dl.facts {
            (fact(if overdue > 0 { "bad" } else { "good" }, "Overdue", &html! { (overdue) small { "of " (count(datasets, "dataset")) } }))
            (fact(if bad > 0 { "bad" } else { "good" }, "Not well otherwise", &html! { (bad) }))
            (fact("", "Clients", &html! { (overview.clients.len()) small { (waiting(overview)) } }))
            @if let Some(disk) = overview.disk {
                (fact(if disk.free < disk.size / 10 { "warn" } else { "" }, "Free on the disk", &html! {
                    (size(disk.free)) small { "of " (size(disk.size)) }
                    (meter(disk.size.saturating_sub(disk.free), disk.size, "How full the disk is"))
                }))
            }
        }
        @if wanted.is_empty() || !clients.is_empty() {
            section aria-labelledby="attention" {
                h2 #attention { "Needs attention" }
                @if !here.is_empty() { (matters(&here, true)) }
                @else if wanted.is_empty() { p.calm { "Everything that is expected has come, and nothing is wrong." } }
                @else { p.calm { "Nothing is the matter with what was found." } }
            }
        }
        section aria-labelledby="clients" {
            h2 #clients { "Clients" }
            @if overview.clients.is_empty() {
                p { "There are none yet. " code { "nightsafe-server client add" } " lets the first one in." }
            } @else {
                form.filter method="get" action="/" role="search" {
                    label { "Part of a client's or a dataset's name" input type="search" name="q" value=(safe(wanted)) maxlength="200"; }
                    button type="submit" { "Find" }
                    @if !wanted.is_empty() { a href="/" { "Show all" } }
                }
                @if clients.is_empty() { p { "No client or dataset has that in its name." } }
                @else { (table(shown)) }
                (pages(page, (page + 1) * CLIENTS < clients.len(), |page| format!("/?q={}&page={page}", super::encoded(wanted))))
            }
        }
    };
    frame(overview, Place::Overview, "How backups stand", &body)
}

fn fits(client: &Client, wanted: &str) -> bool {
    wanted.is_empty() || client.client.contains(wanted) || client.datasets.iter().any(|dataset| dataset.dataset.contains(wanted))
}

fn waiting(overview: &Overview) -> String {
    let sum = |get: fn(&Client) -> usize| overview.clients.iter().map(get).sum::<usize>();
    match (sum(|client| client.waiting), sum(|client| client.being_fetched)) {
        (0, 0) => "nothing waits".into(),
        (waiting, fetched) => format!("{waiting} waiting, {fetched} being fetched"),
    }
}

fn table<'a>(clients: impl Iterator<Item = &'a (Option<Kind>, &'a Client)>) -> Markup {
    html! {
        table.table role="table" {
            thead role="rowgroup" { tr role="row" {
                @for (name, of) in [("Client", ""), ("State", ""), ("Last request", ""), ("Datasets", "n"), ("Waiting", "n"), ("Stored", "n")] {
                    th role="columnheader" scope="col" class=(of) { (name) }
                }
            } }
            tbody role="rowgroup" {
                @for (kind, client) in clients {
                    tr role="row" {
                        th role="rowheader" scope="row" { (client_link(&client.client)) }
                        td role="cell" data-label="State" { div { (state(*kind, client)) } }
                        td role="cell" data-label="Last request" { @if let Some(then) = client.last_received { (time(then)) } @else { span.muted { "never" } } }
                        td.n role="cell" data-label="Datasets" { (client.datasets.len()) }
                        td.n role="cell" data-label="Waiting" { (client.waiting + client.being_fetched) }
                        td.n role="cell" data-label="Stored" { div { (size(client.bytes_used)) @if let Some(quota) = client.quota { span.more { " of " (size(quota)) } } } }
                    }
                }
            }
        }
    }
}

/// What a client's mark says.
pub fn state(kind: Option<Kind>, client: &Client) -> Markup {
    html! {
        @if kind.is_some() || (client.listed && !client.paused) { (mark(kind)) " " }
        @if !client.listed { span class={ "tag " "none" } { "not in the list" } }
        @else if client.paused { span class={ "tag " "none" } { "paused" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::DayTime;

    #[test]
    fn all_is_well_is_said_of_all_alone() {
        let client = |name: &str| Client { client: name.into(), listed: true, ..Client::default() };
        let mut overview = Overview {
            node: "node1".into(),
            version: "0",
            taken: base::clock::now(),
            disk: None,
            last_sweep: None,
            prune_at: DayTime::at(4, 0),
            scrub_at: None,
            alarms: Vec::new(),
            open: Vec::new(),
            clients: vec![client("web1"), client("db1")],
        };
        let shown = |overview: &Overview, wanted: &str| page(overview, wanted, 0).into_string();
        let (well, of_these) = ("nothing is wrong", "Nothing is the matter with what was found");
        assert!(shown(&overview, "").contains(well));
        overview.open.push("srv can be written by others".into());
        assert!(!shown(&overview, "").contains(well));
        let found = shown(&overview, "web");
        assert!(found.contains(of_these) && !found.contains(well), "{found}");
        let none = shown(&overview, "mail");
        assert!(!none.contains("Needs attention") && none.contains("No client or dataset has that in its name"), "{none}");
    }
}
