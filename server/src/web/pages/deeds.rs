//! What the node itself did: which snapshots it condemned and removed, and which people held or gave up.

use super::{Place, client_link, count, encoded, frame, log, pages, safe, size, whole};
use crate::overview::{Client, Overview};
use crate::web::deeds::{Deed, Deeds, PAGES, Said};
use maud::{Markup, html};

/// The page; `page` counts from 0.
pub fn page(overview: &Overview, only: Option<&Client>, deeds: &Deeds, page: usize) -> Markup {
    let page = page.min(PAGES - 1);
    let name = only.map_or("", |client| client.client.as_str());
    let title = only.map_or_else(|| "What this node did".to_owned(), |client| format!("What this node did about {}", client.client));
    let body = html! {
        @if let Some(client) = only { p.crumbs { a href="/" { "Overview" } " / " (client_link(&client.client)) " / " } }
        h1 { (safe(&title)) }
        p.lead { "What it condemned and removed, and what people held or gave up, each signed by this node. " code { "nightsafe-server log --verify" } " proves all of it." }
        (log::views("/deeds", name))
        (log::choice(overview, "/deeds", name))
        @if !deeds.rows.is_empty() { (table(&deeds.rows)) }
        @else if deeds.more { p.muted { "Nothing among the newest: " code { "git log audit" } " in audit.git shows all of it." } }
        @else { p.muted { "Nothing yet." } }
        (pages(page, deeds.more && page + 1 < PAGES, |page| format!("/deeds?client={}&page={page}", encoded(name))))
        @if deeds.more && page + 1 == PAGES {
            p.muted { "There is more: " code { "git log audit" } " in audit.git shows all of it." }
        }
    };
    frame(overview, Place::Log, &title, &body)
}

fn table(rows: &[Deed]) -> Markup {
    html! {
        table.table role="table" {
            thead role="rowgroup" { tr role="row" {
                @for name in ["When", "Of whom", "What", "By", "Signed"] { th role="columnheader" scope="col" { (name) } }
            } }
            tbody role="rowgroup" {
                @for Deed { commit, said } in rows {
                    tr role="row" {
                        @if let Some(said) = said {
                            @let record = &said.record;
                            th role="rowheader" scope="row" { time datetime=(record.time) { (whole(record.time)) } }
                            td role="cell" data-label="Of whom" { (client_link(record.client.as_str())) }
                            td role="cell" data-label="What" { div { (what(said)) } }
                            td role="cell" data-label="By" { div { (safe(&record.by)) } }
                        } @else {
                            th role="rowheader" scope="row" { "–" }
                            td role="cell" data-label="Of whom" { "–" }
                            td role="cell" data-label="What" { "This record cannot be read." }
                            td role="cell" data-label="By" { "–" }
                        }
                        td.mono role="cell" data-label="Signed" { (commit.get(..12).unwrap_or_default()) }
                    }
                }
            }
        }
    }
}

/// What became of which snapshots, and why.
fn what(Said { record, snapshots, planned }: &Said) -> Markup {
    let class = match record.deed.as_str() {
        "result" | "forgotten" => "warn",
        "held" => "good",
        _ => "none",
    };
    let word = match record.deed.as_str() {
        "plan" => "prune planned",
        "result" => "pruned",
        other => other,
    };
    let planned: Vec<String> = planned.iter().map(|(became, count)| format!("{count} {became}")).collect();
    html! {
        span class={ "tag " (class) } { (safe(word)) }
        @match record.deed.as_str() {
            "plan" => p { (planned.join(", ")) @if let Some(grace) = record.grace { "; what is condemned goes after " (String::from(grace)) } },
            "result" => p {
                (count(*snapshots, "snapshot")) " removed"
                @if let Some(packs) = record.packs { ", with " (count(usize::try_from(packs).unwrap_or(usize::MAX), "pack")) }
                @if let Some(bytes) = record.bytes { " of " (size(bytes)) }
            },
            _ => p { (count(*snapshots, "snapshot")) },
        }
        @if let Some(reason) = &record.reason { p { "because: " (safe(reason)) } }
        @for line in &record.snapshots {
            p {
                span.mono { (line.id.as_str()) } " " (safe(&line.became))
                @if let Some(dataset) = &line.dataset { " " (safe(dataset)) }
                @if let Some(why) = &line.why { ": " (safe(why)) }
            }
        }
        @if *snapshots > record.snapshots.len() { p { "and " (snapshots - record.snapshots.len()) " more" } }
    }
}
