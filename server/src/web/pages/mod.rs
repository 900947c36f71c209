//! What the pages have in common: the frame, links, times, sizes, marks.
//!
//! Text of others is escaped by the templates, and made printable here: nothing turns its direction round.

pub mod chart;
pub mod client;
pub mod dataset;
pub mod deeds;
pub mod fleet;
pub mod log;

/// So many seconds, in the largest fitting unit.
pub use base::clock::in_words as span;
/// Text of somebody else's.
pub use base::text::printable as safe;

use super::attention::{Kind, Level, Matter};
use crate::overview::Overview;
use base::{ByteSize, clock};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};
use std::fmt::Write as _;

/// Where in the head a page stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first page.
    Overview,
    /// The log.
    Log,
    /// Below the first page.
    Below,
}

/// A whole page.
pub fn frame(overview: &Overview, place: Place, title: &str, body: &Markup) -> Markup {
    let current = |this: Place| (place == this).then_some("page");
    let head = html! {
        header.top {
            div.wrap {
                a.brand href="/" { "Nightsafe " span { (overview.node) } }
                nav aria-label="Pages" {
                    ul {
                        li { a href="/" aria-current=[current(Place::Overview)] { "Overview" } }
                        li { a href="/log" aria-current=[current(Place::Log)] { "Log" } }
                        li { a href="/metrics" { "Metrics" } }
                    }
                }
            }
        }
    };
    let foot = html! {
        footer.wrap {
            "Seen " (time(overview.taken)) " by nightsafe-server " (overview.version) ". Times are UTC. Nothing can be changed here."
        }
    };
    document(&format!("{title} · {}", overview.node), &head, body, &foot)
}

/// A page of which nothing is known but what it says.
pub fn plain(title: &str, words: &str) -> Markup {
    let head = html! { header.top { div.wrap { a.brand href="/" { "Nightsafe" } } } };
    let body = html! { h1 { (title) } p.any { (safe(words)) } p { a href="/" { "To the overview" } } };
    document(title, &head, &body, &html! {})
}

fn document(title: &str, head: &Markup, body: &Markup, foot: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex, nofollow";
                title { (safe(title)) }
                link rel="stylesheet" href="/style.css";
                link rel="icon" href="/icon.svg" type="image/svg+xml";
            }
            body {
                a.skip href="#main" { "To the content" }
                (head)
                main.wrap #main tabindex="-1" { (body) }
                (foot)
            }
        }
    }
}

/// A time as it reads from now, with the whole of it for who points at it.
pub fn time(then: Timestamp) -> Markup {
    let words = if then > clock::now() { format!("in {}", clock::until(then)) } else { format!("{} ago", clock::ago(then)) };
    html! { time datetime=(then) title=(whole(then)) { (words) } }
}

/// A time as a whole, as in `2026-11-20 03:15:00`.
pub fn whole(then: Timestamp) -> String {
    then.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A number of bytes.
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// A number with its word: `1 client`, `2 clients`.
pub fn count(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

/// A link to a client's page. Its name has no character that means something in a path.
pub fn client_link(client: &str) -> Markup {
    html! { a href={ "/client/" (encoded(client)) } { (safe(client)) } }
}

/// Where a dataset's page is.
pub fn dataset_href(client: &str, dataset: &str) -> String {
    format!("/client/{}/dataset?name={}", encoded(client), encoded(dataset))
}

/// A link to a dataset's page.
pub fn dataset_link(client: &str, dataset: &str) -> Markup {
    html! { a href=(dataset_href(client, dataset)) { (safe(dataset)) } }
}

/// Text as a part of a URL.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The style's class of a level.
pub fn class(level: Level) -> &'static str {
    match level {
        Level::Bad => "bad",
        Level::Warn => "warn",
    }
}

/// A mark of what is the matter, or that nothing is.
pub fn mark(kind: Option<Kind>) -> Markup {
    match kind {
        Some(kind) => html! { span class={ "tag " (class(kind.level())) } { (kind.word()) } },
        None => html! { span class="tag good" { "well" } },
    }
}

/// How many matters a list shows.
const MATTERS: usize = 100;

/// What there is to look at; `whose` says of which client each is.
pub fn matters(matters: &[Matter], whose: bool) -> Markup {
    html! {
        ul.matters {
            @for matter in matters.iter().take(MATTERS) {
                li class=(class(matter.kind.level())) {
                    div { (mark(Some(matter.kind))) }
                    div.what {
                        @if let Some(client) = &matter.client {
                            @if whose { b { (client_link(client)) } " " }
                            @if let Some(dataset) = &matter.dataset { b { (dataset_link(client, dataset)) } }
                        } @else { b { "This node" } }
                        p { (matter.words) }
                    }
                    @if let Some(since) = matter.since { (time(since)) } @else { span {} }
                }
            }
        }
        @if matters.len() > MATTERS { p.muted.pages { "and " (matters.len() - MATTERS) " more" } }
    }
}

/// A figure at the head of a page.
pub fn fact(class: &str, name: &str, value: &Markup) -> Markup {
    html! { div class=(class) { dt { (name) } dd { (value) } } }
}

/// A bar of which a part is filled.
pub fn meter(part: u64, of: u64, words: &str) -> Markup {
    let thousandths = u128::from(part).saturating_mul(1000).checked_div(u128::from(of)).unwrap_or(0).min(1000);
    html! {
        svg.meter viewBox="0 0 1000 60" preserveAspectRatio="none" role="img" aria-label=(words) {
            rect.all width="1000" height="60" rx="8" {}
            rect.part width=(thousandths) height="60" rx="8" {}
        }
    }
}

/// Links to the pages before and after; `href` makes one of a page's number, which people count from 1.
pub fn pages(page: usize, more: bool, href: impl Fn(usize) -> String) -> Markup {
    html! {
        @if page > 0 || more {
            nav.pages aria-label="More of this list" {
                ul {
                    @if page > 0 { li { a href=(href(page - 1)) rel="prev" { "← before" } } }
                    li.muted { "page " (page + 1) }
                    @if more { li { a href=(href(page + 1)) rel="next" { "after →" } } }
                }
            }
        }
    }
}

/// cgit's page of a mirror, where node.toml says where cgit is.
pub fn cgit_href(node: &crate::node::Node, client: &base::Name, dataset: &base::Dataset) -> Option<String> {
    let url = node.config.cgit.as_ref()?.url.as_deref()?;
    // `~` and `/` stand in it as they are; everything else that means something was written otherwise.
    Some(format!("{url}{}/", crate::cgit::place(client, dataset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_others_is_markup_or_an_address() {
        let evil = "files:/a\"><script>alert(1)</script>&?#%\u{202e}";
        let link = dataset_link("web1", evil).into_string();
        assert_eq!(
            link,
            "<a href=\"/client/web1/dataset?name=files%3A%2Fa%22%3E%3Cscript%3Ealert%281%29%3C%2Fscript%3E%26%3F%23%25%E2%80%AE\">files:/a&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;?#%\\u{202e}</a>"
        );
        assert!(!plain(evil, evil).into_string().contains("<script"));
        assert_eq!(
            (span(119), span(7199), span(172_799), span(1 << 40)),
            ("119 s".into(), "119 min".into(), "47 h".into(), "12725829 d".into())
        );
        assert!(meter(5, 10, "x").into_string().contains("width=\"500\"") && meter(5, 0, "x").into_string().contains("width=\"0\""));
        assert!(meter(u64::MAX, 1, "x").into_string().contains("rect class=\"part\" width=\"1000\""));
    }
}
