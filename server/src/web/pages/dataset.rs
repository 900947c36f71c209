//! One dataset: how it stands, its size and age over time, its snapshots, and of a mirror what refs were before.

use super::{Place, cgit_href, chart, client_link, encoded, fact, frame, matters, pages, safe, size, span, time, whole};
use crate::node::Node;
use crate::overview::{Client, Dataset, Overview, Snapshot};
use crate::web::attention;
use crate::web::kept::Mirror;
use maud::{Markup, html};

/// How many snapshots a page shows.
const SNAPSHOTS: usize = 50;

/// What a page of a dataset is made of.
pub struct Seen<'a> {
    /// Whose it is.
    pub client: &'a Client,
    /// The same as names.
    pub names: (&'a base::Name, &'a base::Dataset),
    /// How it stands, when anything is known.
    pub stands: Option<&'a Dataset>,
    /// What is kept, the oldest first.
    pub snapshots: &'a [Snapshot],
    /// Its mirror, where it has one.
    pub mirror: Option<&'a Mirror>,
}

/// The page; `page` counts from 0.
pub fn page(node: &Node, overview: &Overview, seen: &Seen<'_>, page: usize) -> Markup {
    let Seen { client, names: (name, dataset), stands, snapshots, mirror } = *seen;
    let text = dataset.to_string();
    let found: Vec<_> = attention::of_client(client).into_iter().filter(|matter| matter.dataset.as_ref() == Some(&text)).collect();
    let cgit = mirror.and_then(|_| cgit_href(node, name, dataset));
    let newest = snapshots.last();
    let page = page.min(snapshots.len().saturating_sub(1) / SNAPSHOTS);
    let body = html! {
        p.crumbs { a href="/" { "Overview" } " / " (client_link(&client.client)) " / " }
        h1 { (safe(&text)) }
        p.lead {
            (super::mark(attention::worst(&found)))
            @if let Some(href) = &cgit { " " a href=(href) { "Browse the mirror in cgit" } }
        }
        dl.facts {
            (fact("", "Last stored", &html! { @if let Some(newest) = newest { (time(newest.received)) } @else { "never" } }))
            (fact("", "Expected", &html! { @match stands.and_then(|stands| stands.expected_seconds) { Some(every) => { "every " (span(every)) } None => { "at no time" } } }))
            (fact("", "Snapshots", &html! { (snapshots.len()) small { (counted(snapshots)) } }))
            (fact("", if mirror.is_some() { "The newest brought" } else { "Size" }, &html! { @if let Some(newest) = newest { (extent(newest)) } @else { "–" } }))
            (fact("", "Took in the store", &html! { (size(snapshots.iter().fold(0, |sum: u64, snapshot| sum.saturating_add(snapshot.bytes_stored)))) small { "all snapshots together" } }))
        }
        @if !found.is_empty() { section aria-labelledby="attention" { h2 #attention { "Needs attention" } (matters(&found, false)) } }
        @if !snapshots.is_empty() {
            section aria-labelledby="time" {
                h2 #time { "Over time" }
                (charts(overview, stands, snapshots))
            }
            section aria-labelledby="snapshots" {
                h2 #snapshots { "Snapshots" }
                (table(snapshots, page))
                (pages(page, (page + 1) * SNAPSHOTS < snapshots.len(), |page| format!("/client/{}/dataset?name={}&page={page}", encoded(&client.client), encoded(&text))))
            }
        }
        @if let Some(mirror) = mirror { (kept(mirror, cgit.as_deref())) }
    };
    frame(overview, Place::Below, &format!("{}:{text}", client.client), &body)
}

/// How large a snapshot is: its data, or of a mirror what it brought.
fn extent(snapshot: &Snapshot) -> String {
    if snapshot.packs == 0 && snapshot.bytes == 0 { format!("+{}", size(snapshot.bytes_stored)) } else { size(snapshot.bytes) }
}

fn counted(snapshots: &[Snapshot]) -> String {
    let count = |what: fn(&Snapshot) -> bool, word: &str| {
        let count = snapshots.iter().filter(|snapshot| what(snapshot)).count();
        (count > 0).then(|| format!("{count} {word}"))
    };
    let all = [
        count(|snapshot| snapshot.held, "held"),
        count(|snapshot| snapshot.pinned.is_some(), "pinned"),
        count(|snapshot| snapshot.goes.is_some(), "condemned"),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn charts(overview: &Overview, stands: Option<&Dataset>, snapshots: &[Snapshot]) -> Markup {
    let times: Vec<_> = snapshots.iter().map(|snapshot| snapshot.received).collect();
    // A mirror has no size of its own that a client counted; it grows by what each fetch brings.
    let grows = snapshots.iter().all(|snapshot| snapshot.bytes == 0);
    let mut sum = 0u64;
    let sizes: Vec<_> = snapshots
        .iter()
        .map(|snapshot| {
            sum = sum.saturating_add(snapshot.bytes_stored);
            (snapshot.received, if grows { sum } else { snapshot.bytes })
        })
        .collect();
    html! {
        div.charts {
            (chart::sizes(if grows { "Size in the store" } else { "Size" }, &sizes, overview.taken))
            (chart::ages(&times, stands.and_then(|stands| stands.expected_seconds), overview.taken))
        }
    }
}

fn table(snapshots: &[Snapshot], page: usize) -> Markup {
    html! {
        table.table role="table" {
            thead role="rowgroup" { tr role="row" {
                @for (name, of) in [("Received", ""), ("Snapshot", ""), ("Size", "n"), ("Fetched", "n"), ("Files", "n"), ("Took", "n"), ("Remarks", "")] {
                    th role="columnheader" scope="col" class=(of) { (name) }
                }
            } }
            tbody role="rowgroup" {
                @for snapshot in snapshots.iter().rev().skip(page * SNAPSHOTS).take(SNAPSHOTS) {
                    tr role="row" {
                        th role="rowheader" scope="row" { time datetime=(snapshot.received) { (whole(snapshot.received)) } }
                        td.mono role="cell" data-label="Snapshot" { (safe(&snapshot.snapshot)) }
                        td.n role="cell" data-label="Size" { (extent(snapshot)) }
                        td.n role="cell" data-label="Fetched" { (size(snapshot.bytes_fetched)) }
                        td.n role="cell" data-label="Files" { @if let Some(files) = snapshot.files { (files) } }
                        td.n role="cell" data-label="Took" { (span(i64::try_from(snapshot.seconds).unwrap_or(i64::MAX))) }
                        td role="cell" data-label="Remarks" { @let remarks = remarks(snapshot); @if !remarks.is_empty() { div { (remarks) } } }
                    }
                }
            }
        }
    }
}

fn remarks(snapshot: &Snapshot) -> String {
    let mut remarks: Vec<String> = snapshot.notes().iter().map(|note| safe(note)).collect();
    remarks.extend(snapshot.goes.map(|goes| format!("condemned, goes {}", whole(goes))));
    remarks.join("; ")
}

/// What refs of a mirror were before.
fn kept(mirror: &Mirror, cgit: Option<&str>) -> Markup {
    html! {
        section aria-labelledby="kept" {
            h2 #kept { "What refs were before" }
            @if mirror.kept.is_empty() { p.muted { "Nothing was rewritten or removed at the source." } }
            @else {
                p.muted { "A branch or tag that was rewritten or removed at the source is kept as it was." }
                ul {
                    @for kept in &mirror.kept {
                        li.any {
                            @match cgit {
                                Some(cgit) => a href={ (cgit) "log/?h=" (encoded(&kept.name)) } { (safe(&kept.name)) },
                                None => span { (safe(&kept.name)) },
                            }
                            " " span.mono.muted { (kept.id.get(..12).unwrap_or_default()) }
                        }
                    }
                }
                @if mirror.more { p.muted { "and older ones" } }
            }
        }
    }
}
