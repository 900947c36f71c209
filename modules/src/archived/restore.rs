//! The way back of an archive: a tree below a folder, or the content of one file on standard output.
//!
//! Does not know what the files mean.

use crate::{Destination, RestoreContext, RestoreReport};
use archive::restore::{RestoreSpec, restore_content, restore_tree};
use archive::snapshot::SnapshotReader;
use base::Result;

/// Restores `context.paths` to a folder or to standard output; `what` is said where neither was named.
pub(crate) fn restore(context: &RestoreContext<'_>, reader: &SnapshotReader, what: &str) -> Result<RestoreReport> {
    context.refuse_database_options(what)?;
    let paths = context.paths.to_vec();
    if context.to == Destination::Stdout {
        context.files.refuse("the content of one file")?;
        return restore_content(reader, &paths, &mut std::io::stdout().lock(), context.monitor);
    }
    let target = context.to.folder(what)?;
    restore_tree(reader, RestoreSpec { paths, target, options: context.files, monitor: context.monitor })
}
