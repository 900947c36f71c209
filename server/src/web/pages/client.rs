//! One client: what needs a person, then its datasets, the worst first.

use super::fleet::state;
use super::{Place, cgit_href, dataset_link, encoded, fact, frame, mark, matters, meter, safe, size, span, time};
use crate::node::Node;
use crate::overview::{Client, Dataset, Overview};
use crate::web::attention::{self, Kind};
use base::Name;
use maud::{Markup, html};

/// How many datasets are shown.
const DATASETS: usize = 500;

/// The page.
pub fn page(node: &Node, overview: &Overview, client: &Client) -> Markup {
    let found = attention::of_client(client);
    let mut datasets: Vec<(Option<Kind>, &Dataset)> = client
        .datasets
        .iter()
        .map(|dataset| {
            (found.iter().filter(|matter| matter.dataset.as_ref() == Some(&dataset.dataset)).map(|matter| matter.kind).min(), dataset)
        })
        .collect();
    datasets.sort_by_key(|(kind, dataset)| (kind.is_none(), *kind, dataset.dataset.as_str()));
    let body = html! {
        p.crumbs { a href="/" { "Overview" } " / " }
        h1 { (safe(&client.client)) }
        p.lead { (state(attention::worst(&found), client)) }
        dl.facts {
            (fact("", "Last request", &html! { @if let Some(then) = client.last_received { (time(then)) } @else { "never" } }))
            (fact("", "Waiting", &html! {
                (client.waiting) small { (client.being_fetched) " being fetched"
                    @if let Some(since) = client.oldest_request { ", the oldest came " (time(since)) } }
            }))
            (fact("", "Stored", &html! {
                (size(client.bytes_used))
                @if let Some(quota) = client.quota { small { "of " (size(quota)) } (meter(client.bytes_used, quota, "How much of the quota is used")) }
            }))
            (fact("", "Last scrubbed", &html! { @if let Some(then) = client.last_scrub { (time(then)) } @else { "never" } }))
            (fact("", "Last pruned", &html! { @if let Some(then) = client.last_prune { (time(then)) } @else { "never" } }))
        }
        @if !found.is_empty() {
            section aria-labelledby="attention" { h2 #attention { "Needs attention" } (matters(&found, false)) }
        }
        section aria-labelledby="datasets" {
            h2 #datasets { "Datasets" }
            @if datasets.is_empty() { p.muted { "Nothing has been stored yet." } }
            @else { (table(node, client, &datasets)) }
            @if datasets.len() > DATASETS { p.muted { "and " (datasets.len() - DATASETS) " more" } }
        }
        p.pages { a href={ "/log?client=" (encoded(&client.client)) } { "What " (safe(&client.client)) " asked for, and what became of it" } }
        p.pages { a href={ "/deeds?client=" (encoded(&client.client)) } { "What was condemned, removed, held or given up of it" } }
    };
    frame(overview, Place::Below, &client.client, &body)
}

fn table(node: &Node, client: &Client, datasets: &[(Option<Kind>, &Dataset)]) -> Markup {
    html! {
        table.table role="table" {
            thead role="rowgroup" { tr role="row" {
                @for (name, of) in [("Dataset", ""), ("State", ""), ("Last stored", ""), ("Expected", ""), ("Snapshots", "n"), ("Size", "n"), ("", "")] {
                    @if name.is_empty() { td role="cell" {} } @else { th role="columnheader" scope="col" class=(of) { (name) } }
                }
            } }
            tbody role="rowgroup" {
                @for (kind, dataset) in datasets.iter().take(DATASETS) {
                    tr role="row" {
                        th role="rowheader" scope="row" { (dataset_link(&client.client, &dataset.dataset)) }
                        td role="cell" data-label="State" { div { (mark(*kind)) } }
                        td role="cell" data-label="Last stored" { @if let Some(then) = dataset.received { (time(then)) } @else { span.muted { "never" } } }
                        td role="cell" data-label="Expected" { @if let Some(every) = dataset.expected_seconds { "every " (span(every)) } @else { span.muted.whole { "at no time" } } }
                        td.n role="cell" data-label="Snapshots" { (dataset.snapshots) }
                        td.n role="cell" data-label="Size" { @if let Some(newest) = dataset.newest { (size(if newest.bytes > 0 { newest.bytes } else { dataset.bytes_stored })) } }
                        td role="cell" data-label="Mirror" { @if let Some(href) = mirror(node, client, dataset) { a href=(href) { "browse" span.muted { " in cgit" } } } }
                    }
                }
            }
        }
    }
}

/// Where cgit shows it, when there is a mirror.
fn mirror(node: &Node, client: &Client, dataset: &Dataset) -> Option<String> {
    let name = Name::new(client.client.as_str()).ok()?;
    let dataset = dataset.dataset.parse().ok()?;
    let href = cgit_href(node, &name, &dataset)?;
    node.config.client_path(&name).join("mirrors").join(modules::mirror_name(&dataset)).is_dir().then_some(href)
}
