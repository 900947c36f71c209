//! What a receipt means for the client's own files: the index for deduplication, and packs that wait for the node.
//!
//! Does not check the receipt; its signature was checked before.

use base::config::ClientConfig;
use base::config::client::ClientNode;
use base::{At, Dataset, RequestId, Result, atomic};
use queue::receipt::{Outcome, Receipt};

/// Takes what the receipt says into the index, and frees the export folder. Doing it twice does nothing more.
///
/// # Errors
/// With the path.
pub fn settle(config: &ClientConfig, node: &ClientNode, id: &RequestId, _dataset: &Dataset, receipt: &Receipt) -> Result<()> {
    let index = config.state.join("index").join(node.name.as_str());
    let epoch = config.state.join("epochs").join(format!("{}.toml", node.name));
    // A request without packs has no index, and then there is nothing to do.
    archive::index::settle(&index, &epoch, id, receipt.outcome == Outcome::Stored, &receipt.missing)?;
    free_exports(&config.export_path(&node.name), id)
}

/// Removes `<id>.*`, the packs and the manifest of one request.
pub(crate) fn free_exports(folder: &std::path::Path, id: &RequestId) -> Result<()> {
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
