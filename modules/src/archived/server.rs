//! The node's side: the manifest, then the packs that the store lacks, then the store's own check of everything.
//!
//! Opens nothing: what is in the packs the node cannot read.

use super::packs;
use crate::git::mirrors_size;
use crate::{Fetched, Lane, ServerContext, ServerModule};
use archive::limits;
use archive::manifest::{Manifest, Public};
use archive::store::{Content, Quota, Stats};
use base::{Blake3, Claim, Kind, Monitor, Payload, Result};
use queue::receipt::MISSING_LIMIT;
use std::io::Write;
use std::time::{Duration, Instant};
use transport::Sftp;

/// By which connection the client is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The one that everything shares.
    Shared,
    /// One of its own.
    Beside,
}

/// Opens the client's export folder.
pub(super) type Open<'a> = dyn Fn(Way) -> Result<Box<dyn Exports>> + 'a;

/// The client's export folder. The tests have one without a network.
pub(super) trait Exports: Send {
    /// A whole file of at most `limit` bytes; `None` when there is no such file.
    fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>>;
    /// A file of exactly `size` bytes; `None` when there is no such file.
    fn pull(&self, name: &str, size: u64, sink: &mut dyn Write, monitor: &dyn Monitor) -> Result<Option<u64>>;
    /// Whether there is such a file.
    fn has(&self, name: &str) -> Result<bool>;
}

impl Exports for Sftp {
    fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        // Looked at first, because a file that is not there is no error here.
        if self.try_open(name)?.is_none() { Ok(None) } else { self.read(name, limit).map(Some) }
    }

    fn pull(&self, name: &str, size: u64, sink: &mut dyn Write, monitor: &dyn Monitor) -> Result<Option<u64>> {
        self.try_pull(name, size, sink, monitor)
    }

    fn has(&self, name: &str) -> Result<bool> {
        Ok(self.try_open(name)?.is_some())
    }
}

/// The server half of every module that makes archives, also of those that only a client's configuration declares.
pub(crate) struct Server;

pub(crate) const SERVER: Server = Server;

impl ServerModule for Server {
    fn lane(&self) -> Lane {
        Lane::Archive
    }

    fn fetch(&self, context: &ServerContext<'_>, claim: &Claim, attachment: Option<&[u8]>) -> Result<Fetched> {
        let begun = Instant::now();
        let open = |way: Way| -> Result<Box<dyn Exports>> {
            let left = context.time.saturating_sub(begun.elapsed()).max(Duration::from_secs(1));
            let peer = (context.peer)()?;
            Ok(Box::new(match way {
                Way::Shared => peer.sftp_for(left)?,
                Way::Beside => peer.sftp_beside(left)?,
            }))
        };
        fetch_from(&open, context, claim, attachment, begun)
    }
}

fn refused(reason: impl Into<String>) -> Result<Fetched> {
    Ok(Fetched::Refused { reason: reason.into(), missing: Vec::new() })
}

/// An error of kind refused is an answer; every other one means that it is tried again.
fn answer<T>(result: Result<T>) -> Result<std::result::Result<T, Fetched>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.kind() == Kind::Refused => Ok(Err(Fetched::Refused { reason: error.one_line(), missing: Vec::new() })),
        Err(error) => Err(error),
    }
}

/// The whole way of one request. `open` is called at most when something must be fetched.
pub(super) fn fetch_from(
    open: &Open<'_>,
    context: &ServerContext<'_>,
    claim: &Claim,
    attachment: Option<&[u8]>,
    begun: Instant,
) -> Result<Fetched> {
    let Payload::Manifest(signed) = claim.payload else {
        return refused("this request was signed for something else than a manifest");
    };
    let mut exports: Option<Box<dyn Exports>> = None;
    let mut fetched = 0;
    let bytes = if let Some(bytes) = attachment {
        bytes.to_vec()
    } else {
        let exports = exports.insert(open(Way::Shared)?);
        match answer(exports.read(&format!("{}.manifest", claim.id), limits::MANIFEST))? {
            Ok(Some(bytes)) => {
                fetched += bytes.len() as u64;
                context.monitor.bytes(fetched);
                bytes
            }
            Ok(None) => return Ok(Fetched::Failed { reason: "the client does not offer the manifest any more; submit it again".into() }),
            Err(refused) => return Ok(refused),
        }
    };
    let found = Blake3::of(&bytes);
    if found != signed {
        return refused(format!("the manifest is {found}, and {signed} was signed for"));
    }
    let manifest = match Manifest::parse(&bytes) {
        Ok(manifest) => manifest,
        Err(error) => return refused(format!("the manifest is not well made: {}", error.one_line())),
    };
    if let Some(reason) = inequality(&manifest.public, claim) {
        return refused(reason);
    }
    let quota = Quota { limit: context.quota, elsewhere: mirrors_size(context.mirrors)? };
    if let Err(refused) = answer(context.store.check_quota(&manifest.public, &quota))? {
        return Ok(refused);
    }
    let packs = context.store.to_fetch(&claim.id, &manifest.public)?;
    let new = packs.iter().fold(0u64, |sum, pack| sum.saturating_add(pack.size));
    if let Some(reason) = context.allowance.refuses(manifest.public.packs.len(), new) {
        return refused(reason);
    }
    if !packs.is_empty() {
        let exports = match exports {
            Some(exports) => exports,
            None => open(Way::Shared)?,
        };
        context.monitor.task(&format!("fetching {}", claim.dataset), Some(new));
        let target =
            packs::Target { store: context.store, id: &claim.id, bandwidth: context.allowance.bandwidth, monitor: context.monitor };
        match answer(packs::fetch(exports, &|| open(Way::Beside), target, &packs))? {
            Ok(packs::Fetched { bytes, missing }) if missing.is_empty() => fetched += bytes,
            Ok(packs::Fetched { mut missing, .. }) => {
                missing.truncate(MISSING_LIMIT);
                return Ok(Fetched::Refused { reason: "missing".into(), missing });
            }
            Err(refused) => return Ok(refused),
        }
    }
    let stats = Stats { bytes_fetched: fetched, seconds: begun.elapsed().as_secs(), bytes_elsewhere: 0 };
    match answer(context.store.accept(claim, Content::Manifest(&manifest), context.received, &quota, stats))? {
        Ok(accepted) => Ok(Fetched::Stored {
            received: accepted.received,
            seconds: accepted.seconds,
            bytes_fetched: accepted.bytes_fetched,
            bytes_stored: accepted.bytes_stored,
            unreadable: accepted.unreadable,
            // A part is no snapshot.
            snapshot: accepted.id.part().is_none().then(|| accepted.id.to_string()),
            refs: None,
            changed: Vec::new(),
        }),
        Err(refused) => Ok(refused),
    }
}

/// Where the manifest says something else than the request that was signed. The store looks again.
fn inequality(public: &Public, claim: &Claim) -> Option<String> {
    let pairs = [
        ("id", public.id.to_string(), claim.id.to_string()),
        ("client", public.client.to_string(), claim.client.to_string()),
        ("node", public.node.to_string(), claim.node.to_string()),
        ("dataset", public.dataset.to_string(), claim.dataset.to_string()),
    ];
    pairs
        .into_iter()
        .find(|(_, found, signed)| found != signed)
        .map(|(what, found, signed)| format!("the manifest's {what} is {found:?}, and {signed:?} was signed"))
}
