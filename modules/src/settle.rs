//! What a receipt means for the client's own files: the index for deduplication, and packs that wait for the node.
//!
//! Does not check the receipt; its signature was checked before.

use archive::index::Index;
use base::config::ClientConfig;
use base::config::client::ClientNode;
use base::{At, Dataset, Name, RequestId, Result, atomic};
use queue::receipt::{Outcome, Receipt};
use std::path::{Path, PathBuf};

/// The folder of the indexes, below the state folder.
pub(crate) const INDEX: &str = "index";

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
    let folder = index_folder(config, &node.name);
    match receipt.outcome {
        Outcome::Stored => Index::acknowledge(&folder, id)?,
        Outcome::Refused | Outcome::Failed => Index::discard(&folder, id)?,
    }
    if !receipt.missing.is_empty() {
        Index::forget_packs(&folder, &receipt.missing)?;
    }
    free_exports(&config.export_path(&node.name), id)
}

/// The request came to nothing and no receipt will come: what was prepared for it is removed.
///
/// # Errors
/// With the path.
pub fn discard(config: &ClientConfig, node: &ClientNode, id: &RequestId) -> Result<()> {
    Index::discard(&index_folder(config, &node.name), id)?;
    free_exports(&config.export_path(&node.name), id)
}

/// Removes `<id>.*`, the packs and the manifest of one request.
fn free_exports(folder: &Path, id: &RequestId) -> Result<()> {
    let files = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.at("list", folder)?,
    };
    let prefix = format!("{id}.");
    for file in files {
        let file = file.at("list", folder)?;
        if file.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            atomic::remove(&file.path())?;
        }
    }
    Ok(())
}
