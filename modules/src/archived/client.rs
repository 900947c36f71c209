//! The client's side: keys, index and export folder put together for one backup.
//!
//! Reads nothing of the source itself.

use crate::settle::{CACHE, index_folder};
use crate::{ClientContext, PreparedRequest, PreparedSize};
use archive::backup::{ATTACHED, BackupSpec, DEFAULT_LEVEL, Prepared};
use archive::cache::{self, CachePlace};
use archive::epoch::{Epoch, Secrets};
use archive::index::Index;
use archive::mend::Lost;
use base::{Blake3, Dataset, Payload, Result, atomic, clock};

/// Runs `back_up` with what it needs, and makes a request of what it prepared.
pub(crate) fn prepare(
    context: &ClientContext<'_>,
    dataset: &Dataset,
    back_up: impl FnOnce(&BackupSpec<'_>) -> Result<Prepared>,
) -> Result<PreparedRequest> {
    let config = context.config;
    let client = config.client_name()?;
    if config.base_of(dataset).is_none() {
        return Err(crate::settings::not_allowed(dataset));
    }
    let export = config.export_path(&context.node.name);
    let folder = index_folder(config, &context.node.name);
    let epochs = config.state.join("epochs");
    atomic::make_folder(&export, 0o700)?;
    atomic::make_folder(&epochs, 0o700)?;
    let secrets = Secrets::load_or_create(&config.state.join("secret"))?;
    let epoch = Epoch::current(&epochs.join(format!("{}.toml", context.node.name)), &config.recipients, clock::now())?;
    // Named by its digest: a dataset's path may be longer than a file's name.
    let caches = config.state.join(CACHE).join(context.node.name.as_str());
    atomic::make_folder(&caches, 0o700)?;
    cache::sweep(&caches);
    let cache = caches.join(&Blake3::of(dataset.to_string().as_bytes()).hex()[..32]);
    let index = Index::load(&folder, &epoch.public().recipient)?.rewriting_below(config.rewrite_below);
    let lost = if context.heal { Lost::load(&folder)? } else { Lost::default() };
    let entry = config.listed(dataset);
    let spec = BackupSpec {
        id: context.id,
        client,
        node: &context.node.name,
        dataset,
        tags: context.tags,
        secrets: &secrets,
        epoch: &epoch,
        index: &index,
        export: &export,
        lost: Some(&lost),
        monitor: context.monitor,
        parts: context.parts,
        level: entry.and_then(|entry| entry.level).map_or(DEFAULT_LEVEL, i32::from),
        cache: Some(CachePlace { path: &cache, granularity: cache::GRANULARITY, any_device: context.frozen.is_some() }),
    };
    let prepared = back_up(&spec)?;
    for (why, count) in &prepared.left_out {
        context.monitor.note(&format!("{dataset}: {count} left out: {why}"));
    }
    Ok(PreparedRequest {
        payload: Payload::Manifest(prepared.digest),
        unreadable: prepared.unreadable,
        ledger: prepared.ledger.iter().map(|line| format!("{}: {}", String::from_utf8_lossy(&line.path), line.why)).collect(),
        skipped: prepared.skipped,
        repairs: prepared.repairs,
        size: Some(PreparedSize { entries: prepared.counts.entries, files: prepared.counts.files, bytes: prepared.counts.bytes }),
        attachment: (prepared.manifest.len() <= ATTACHED).then_some(prepared.manifest),
    })
}
