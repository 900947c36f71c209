//! What a receipt means for the client's own files: the index for deduplication, and packs that wait for the node.
//!
//! Does not check the receipt; its signature was checked before.

use archive::backup::pack_name;
use archive::index::Index;
use base::config::ClientConfig;
use base::config::client::ClientNode;
use base::{Blake3, Dataset, Name, RequestId, Result, atomic};
use queue::receipt::{Outcome, Receipt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long it is remembered what was in packs that a node has lost.
const LOST_KEPT: Duration = Duration::from_secs(90 * 86_400);

/// The folder of the indexes, below the state folder.
pub(crate) const INDEX: &str = "index";
/// The folder of what trees held when they were read last, below the state folder.
pub(crate) const CACHE: &str = "cache";

/// The folder of the index for one node.
pub(crate) fn index_folder(config: &ClientConfig, node: &Name) -> PathBuf {
    config.state.join(INDEX).join(node.as_str())
}

/// Takes what the receipt says into the index, and frees the export folder. Doing it twice does nothing more.
///
/// # Errors
/// With the path.
pub fn settle(config: &ClientConfig, node: &ClientNode, id: &RequestId, _dataset: &Dataset, receipt: &Receipt) -> Result<()> {
    // A request without packs has nothing here, and then nothing happens.
    let (folder, export) = (index_folder(config, &node.name), config.export_path(&node.name));
    if !receipt.missing.is_empty() {
        Index::lose_packs(&folder, &receipt.missing)?;
    }
    let stored = receipt.outcome == Outcome::Stored;
    if id.part().is_some() {
        return if stored { settle_part(&folder, &export, id) } else { discard_part(config, node, id) };
    }
    if stored {
        Index::acknowledge(&folder, id)?;
        return archive::backup::discard(&export, &folder, id, &[]);
    }
    // Its parts have answers of their own, and may be stored yet.
    let parts = Index::pending_parts(&folder, id)?;
    archive::backup::discard(&export, &folder, id, &parts)
}

/// The node has lost these packs. What was in them is sent again with the next backup, and brought again under its old names
/// by one that is to heal. Gives how many of them were known to be there.
///
/// # Errors
/// With the path.
pub fn lose_packs(config: &ClientConfig, node: &ClientNode, packs: &[Blake3]) -> Result<usize> {
    let folder = index_folder(config, &node.name);
    Index::sweep_lost(&folder, LOST_KEPT)?;
    Index::lose_packs(&folder, packs)
}

/// The node has stored a part: its packs are deduplicated against, and make room.
fn settle_part(folder: &Path, export: &Path, part: &RequestId) -> Result<()> {
    for pack in Index::pending(folder, part)? {
        atomic::remove(&export.join(pack_name(part, &pack)))?;
    }
    atomic::remove(&export.join(format!("{part}.manifest")))?;
    // Last, because only the index still knows which packs the part has.
    Index::acknowledge(folder, part)
}

/// A part came to nothing. Its packs are those of the backup that is being made, or has been: what becomes of that decides.
///
/// # Errors
/// With the path.
pub fn discard_part(config: &ClientConfig, node: &ClientNode, part: &RequestId) -> Result<()> {
    Index::discard(&index_folder(config, &node.name), part)?;
    atomic::remove(&config.export_path(&node.name).join(format!("{part}.manifest")))
}

/// The request came to nothing and no receipt will come: what was prepared for it is removed, but for what the node was asked
/// to fetch with the parts in `kept`.
///
/// # Errors
/// With the path.
pub fn discard(config: &ClientConfig, node: &ClientNode, id: &RequestId, kept: &[RequestId]) -> Result<()> {
    archive::backup::discard(&config.export_path(&node.name), &index_folder(config, &node.name), id, kept)
}

/// The parts of the request `id` for which packs wait here. Some may never have been asked for.
///
/// # Errors
/// With the path.
pub fn pending_parts(config: &ClientConfig, node: &ClientNode, id: &RequestId) -> Result<Vec<RequestId>> {
    Index::pending_parts(&index_folder(config, &node.name), id)
}
