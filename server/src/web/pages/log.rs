//! The log: who asked for what, and what became of it, as it stands in signed requests and receipts.

use super::{Place, client_link, dataset_link, encoded, frame, pages, safe, size, span, whole};
use crate::overview::{Client, Overview};
use crate::web::history::{DEEP, PAGES, ROWS, Row};
use maud::{Markup, html};
use queue::{Outcome, Receipt};

/// How many clients one chooses from; of more, the name is typed.
const CHOICE: usize = 200;

/// The page; `rows` are one more than a page shows when there are more.
pub fn page(overview: &Overview, only: Option<&Client>, rows: &[Row], page: usize) -> Markup {
    let last = if only.is_some() { DEEP } else { PAGES } - 1;
    let page = page.min(last);
    let name = only.map_or("", |client| client.client.as_str());
    let title = only.map_or_else(|| "Who asked, and what became of it".to_owned(), |client| format!("What {} asked for", client.client));
    let body = html! {
        @if let Some(client) = only { p.crumbs { a href="/" { "Overview" } " / " (client_link(&client.client)) " / " } }
        h1 { (safe(&title)) }
        p.lead { "Requests are signed by their client, receipts by this node. " code { "nightsafe-server log --verify" } " proves all of it." }
        (views("/log", name))
        (choice(overview, "/log", name))
        @if rows.is_empty() { p.muted { "Nothing was asked for." } } @else { (table(&rows[..rows.len().min(ROWS)])) }
        (pages(page, rows.len() > ROWS && page < last, |page| format!("/log?client={}&page={page}", encoded(name))))
        @if rows.len() > ROWS && page == last {
            p.muted { "There is more: " code { "nightsafe-server log" } " shows all of it." }
        }
    };
    frame(overview, Place::Log, &title, &body)
}

/// Links to the two halves of the log: what clients asked for, and what the node did by itself or for people.
pub fn views(here: &str, name: &str) -> Markup {
    html! {
        nav.pages aria-label="The two halves of the log" {
            ul {
                @for (path, words) in [("/log", "Requests and receipts"), ("/deeds", "What this node did")] {
                    li { a href={ (path) "?client=" (encoded(name)) } aria-current=[(path == here).then_some("true")] { (words) } }
                }
            }
        }
    }
}

/// A form that asks for one client, or for all.
pub fn choice(overview: &Overview, path: &str, name: &str) -> Markup {
    html! {
        form.filter method="get" action=(path) {
            label { "Client"
                @if overview.clients.len() <= CHOICE {
                    select name="client" {
                        option value="" { "all" }
                        @for client in &overview.clients { option value=(client.client) selected[client.client == name] { (safe(&client.client)) } }
                    }
                } @else { input type="search" name="client" value=(name) maxlength="63"; }
            }
            button type="submit" { "Show" }
        }
    }
}

fn table(rows: &[Row]) -> Markup {
    html! {
        table.table role="table" {
            thead role="rowgroup" { tr role="row" {
                @for name in ["Asked", "What", "By", "Became", "Signed"] { th role="columnheader" scope="col" { (name) } }
            } }
            tbody role="rowgroup" {
                @for row in rows {
                    @let request = &row.request;
                    tr role="row" {
                        th role="rowheader" scope="row" { time datetime=(request.submitted) { (whole(request.submitted)) } }
                        td role="cell" data-label="What" { div {
                            (client_link(request.client.as_str())) " " (dataset_link(request.client.as_str(), &request.dataset.to_string()))
                            @if !request.tags.is_empty() { p { "tags: " (safe(&request.tags.join(", "))) } }
                        } }
                        td role="cell" data-label="By" { div { (safe(&request.by)) p.whole { (reason(request.reason)) } } }
                        td role="cell" data-label="Became" { div { (became(row.receipt.as_ref())) } }
                        td.mono role="cell" data-label="Signed" { div { "no. " (request.seq) p.whole { (row.commit.get(..12).unwrap_or_default()) } } }
                    }
                }
            }
        }
    }
}

/// Why it was asked for, in the word of the request.
fn reason(reason: base::Reason) -> &'static str {
    match reason {
        base::Reason::Hook => "by a hook",
        base::Reason::Schedule => "by the clock",
        base::Reason::Manual => "by hand",
        base::Reason::Heal => "to heal",
    }
}

fn became(receipt: Option<&Receipt>) -> Markup {
    let Some(receipt) = receipt else { return html! { span class="tag none" { "waiting" } } };
    let class = if receipt.outcome == Outcome::Stored { "good" } else { "bad" };
    html! {
        span class={ "tag " (class) } { (receipt.outcome) }
        @if let Some(reason) = &receipt.reason { p { (safe(reason)) } }
        @if receipt.outcome == Outcome::Stored {
            p { (whole(receipt.received)) ", " (size(receipt.bytes_fetched)) " fetched in " (span(i64::try_from(receipt.seconds).unwrap_or(i64::MAX)))
                @if receipt.unreadable > 0 { ", " (receipt.unreadable) " unreadable" } }
        } @else { p { (whole(receipt.received)) } }
        @for line in receipt.changed.iter().take(10) { p { (safe(line)) } }
        @if receipt.changed.len() > 10 { p { "and " (receipt.changed.len() - 10) " more" } }
    }
}
