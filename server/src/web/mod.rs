//! `nightsafe-server web`: how a node stands, for a browser. Read-only; what every page shows is in [`crate::overview`] and in the
//! signed history.
//!
//! | module | what |
//! |---|---|
//! | [`door`] | where it listens, and connections that each have an end |
//! | [`guard`] | who is answered, and what every answer says to a browser |
//! | [`looks`] | the overview, gathered once for all who ask at the same time |
//! | [`attention`] | what a person should look at, and in which order |
//! | [`history`] | requests and receipts, page by page |
//! | [`deeds`] | the node's own log, page by page |
//! | [`kept`] | refs of a mirror that its source has no more |
//! | [`pages`] | what is shown of all that |
//!
//! Changes nothing and asks no other machine. The only asynchronous code outside of `transport`: connections wait here, and
//! what reads files runs beside them, so many at once.

mod attention;
mod deeds;
mod door;
mod guard;
mod history;
mod kept;
mod looks;
mod pages;

use crate::node::Node;
use crate::overview::{Client, Overview};
use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base::{Dataset, Error, Name, Result};
use door::Door;
use looks::Looks;
use maud::Markup;
use serde::Deserialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How many pages may read files at once, beside the overview.
const READERS: usize = 4;
/// How long a page waits for its turn to read.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all answers have.
struct Site {
    node: Node,
    looks: Looks,
    readers: Arc<Semaphore>,
}

type Shared = State<Arc<Site>>;

/// A page, or why there is none.
type Page = std::result::Result<Response, Failure>;

/// Serves until a signal ends it.
///
/// # Errors
/// When it cannot listen.
pub fn run(node: Node) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| Error::failed("could not wait for signals").because(error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::failed("could not start the runtime").because(error))?;
    let listen = node.config.web.listen.clone();
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        signals.forever().next();
        let _ = end.send(());
    });
    let result = runtime.block_on(async {
        let door = Door::open(&listen).await?;
        tracing::info!("the status page is at {}", door.place(&listen));
        let router = router(node);
        tokio::select! {
            () = door.serve(router) => {}
            _ = ended => {}
        }
        Ok(())
    });
    // Whatever is being read now is read for nobody.
    runtime.shutdown_background();
    result
}

fn router(node: Node) -> Router {
    let site = Arc::new(Site { looks: Looks::new(node.clone()), readers: Arc::new(Semaphore::new(READERS)), node });
    Router::new()
        .route("/", get(fleet))
        .route("/client/{name}", get(client))
        .route("/client/{name}/dataset", get(dataset))
        .route("/log", get(log))
        .route("/deeds", get(own_log))
        .route("/metrics", get(metrics))
        .route("/style.css", get(|| asset("text/css; charset=utf-8", include_str!("style.css"))))
        .route("/icon.svg", get(|| asset("image/svg+xml", include_str!("icon.svg"))))
        .fallback(|| async { Failure::Missing("There is no such page.".into()).into_response() })
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guarded))
        .with_state(site)
}

/// Refuses who is not to be answered, and says to the browser what it must not do.
async fn guarded(State(site): Shared, request: Request, next: Next) -> Response {
    let refusal = guard::refusal(request.method(), request.uri(), request.headers(), &site.node.config.web);
    let mut response = match refusal {
        Some((status, words)) => (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], words + "\n").into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in guard::HEADERS {
        headers.insert(name, value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(header::HeaderValue::from_static("private, no-cache"));
    response
}

#[derive(Deserialize)]
struct Fleet {
    #[serde(default)]
    q: String,
    #[serde(default)]
    page: usize,
}

async fn fleet(State(site): Shared, Query(asked): Query<Fleet>) -> Page {
    let look = site.looks.at().await?;
    shown(site, move |_| Ok(pages::fleet::page(&look.overview, &asked.q, asked.page))).await
}

async fn client(State(site): Shared, Path(name): Path<String>) -> Page {
    let look = site.looks.at().await?;
    shown(site, move |site| {
        let overview = &look.overview;
        let client = overview.clients.iter().find(|client| client.client == name);
        let client = client.ok_or_else(|| Failure::Missing(format!("This node knows no client {name}.")))?;
        Ok(pages::client::page(&site.node, overview, client))
    })
    .await
}

#[derive(Deserialize)]
struct OfDataset {
    name: String,
    #[serde(default)]
    page: usize,
}

async fn dataset(State(site): Shared, Path(client): Path<String>, Query(asked): Query<OfDataset>) -> Page {
    let look = site.looks.at().await?;
    shown(site, move |site| {
        let overview = &look.overview;
        let missing = || Failure::Missing(format!("This node keeps nothing of {client}:{}.", asked.name));
        let of = overview.clients.iter().find(|of| of.client == client).ok_or_else(missing)?;
        let stands = of.datasets.iter().find(|dataset| dataset.dataset == asked.name);
        let name = Name::new(client.as_str()).map_err(|_| missing())?;
        let dataset: Dataset = asked.name.parse().map_err(|_| missing())?;
        let snapshots = crate::overview::snapshots(&site.node, &name, Some(&dataset), &base::Silent)?;
        if stands.is_none() && snapshots.is_empty() {
            return Err(missing());
        }
        let mirror = kept::of(&site.node, &name, &dataset)?;
        let seen = pages::dataset::Seen { client: of, names: (&name, &dataset), stands, snapshots: &snapshots, mirror: mirror.as_ref() };
        Ok(pages::dataset::page(&site.node, overview, &seen, asked.page))
    })
    .await
}

#[derive(Deserialize)]
struct OfLog {
    #[serde(default)]
    client: String,
    #[serde(default)]
    page: usize,
}

impl OfLog {
    /// The client that is asked for, where one is.
    fn client<'a>(&self, overview: &'a Overview) -> std::result::Result<Option<&'a Client>, Failure> {
        if self.client.is_empty() {
            return Ok(None);
        }
        let found = overview.clients.iter().find(|client| client.client == self.client);
        found.map(Some).ok_or_else(|| Failure::Missing(format!("This node knows no client {}.", self.client)))
    }
}

async fn log(State(site): Shared, Query(asked): Query<OfLog>) -> Page {
    let look = site.looks.at().await?;
    shown(site, move |site| {
        let overview = &look.overview;
        let only = asked.client(overview)?;
        let rows = history::page(&site.node, overview, only, asked.page)?;
        Ok(pages::log::page(overview, only, &rows, asked.page))
    })
    .await
}

async fn own_log(State(site): Shared, Query(asked): Query<OfLog>) -> Page {
    let look = site.looks.at().await?;
    shown(site, move |site| {
        let overview = &look.overview;
        let only = asked.client(overview)?;
        let name = only.map(|client| Name::new(client.client.as_str())).transpose()?;
        let deeds = deeds::page(&site.node, name.as_ref(), asked.page)?;
        Ok(pages::deeds::page(overview, only, &deeds, asked.page))
    })
    .await
}

async fn metrics(State(site): Shared) -> Page {
    let look = site.looks.at().await?;
    let text = beside(site, move |_| Ok(look.metrics())).await?;
    Ok(([(header::CONTENT_TYPE, base::metrics::CONTENT_TYPE)], text).into_response())
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "private, max-age=300")], text).into_response()
}

/// A page, made beside the connections.
async fn shown(site: Arc<Site>, make: impl FnOnce(&Site) -> std::result::Result<Markup, Failure> + Send + 'static) -> Page {
    Ok(html(StatusCode::OK, beside(site, make).await?))
}

/// Makes something beside the connections, when there is a turn to read files.
async fn beside<T: Send + 'static>(
    site: Arc<Site>,
    make: impl FnOnce(&Site) -> std::result::Result<T, Failure> + Send + 'static,
) -> std::result::Result<T, Failure> {
    let turn = tokio::time::timeout(PATIENCE, Arc::clone(&site.readers).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else { return Err(Failure::Busy) };
    let made = tokio::task::spawn_blocking(move || {
        // Given back when it has been read, also when nobody waits for it any more.
        let _turn = turn;
        make(&site)
    })
    .await;
    made.map_err(|_| Failure::Broken(Error::failed("the program has a fault; its words are in the journal")))?
}

fn html(status: StatusCode, page: Markup) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.into_string()).into_response()
}

/// Why there is no page.
#[derive(Debug)]
enum Failure {
    /// There is none of what was asked for.
    Missing(String),
    /// Too many ask at once.
    Busy,
    /// It cannot be read.
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, title, words) = match self {
            Self::Missing(words) => (StatusCode::NOT_FOUND, "Not here", words),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "Too many ask at once", "Try again in a moment.".to_owned()),
            Self::Broken(error) => {
                tracing::warn!("a page could not be made: {}", error.one_line());
                (StatusCode::INTERNAL_SERVER_ERROR, "This cannot be read", error.one_line())
            }
        };
        let mut response = html(status, pages::plain(title, &words));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
        }
        response
    }
}
