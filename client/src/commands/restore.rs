//! `nightsafe restore`: brings a snapshot back, proven from the client's signature down.

use super::ls::open_archive;
use crate::Globals;
use crate::output;
use crate::progress::Progress;
use crate::recall::proof::Content;
use crate::recall::{self, Recall, Wanted, inner_path};
use base::{ByteSize, Error, Exit, Result};
use modules::{Destination, RestoreContext, RestoreReport, RestoreSource};
use std::path::PathBuf;

/// Bring a snapshot back.
///
/// DIR becomes what the dataset's path was: /var/www/a of files:/var/www comes back as DIR/a. For git, DIR becomes a bare
/// repository. A database is made anew under the name given with --into-db. Exit 3 when some data could not be restored.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// [CLIENT:]MODULE:PATH, or a snapshot's name.
    #[arg(value_name = "DATASET|SNAPSHOT")]
    what: String,
    /// Only these files and folders, below the dataset's path or as absolute paths.
    paths: Vec<String>,
    /// The newest snapshot accepted at or before this time (2026-11-20 means the end of that day), or a snapshot's name.
    #[arg(long, value_name = "TIME|SNAPSHOT")]
    at: Option<String>,
    /// Where to; made when it is not there.
    #[arg(long, value_name = "DIR", required_unless_present = "into_db")]
    target: Option<PathBuf>,
    /// The database to make.
    #[arg(long, value_name = "NAME")]
    into_db: Option<String>,
    /// A keyholder's age identity or ssh key.
    #[arg(long, env = "NIGHTSAFE_IDENTITY", value_name = "FILE")]
    identity: Option<PathBuf>,
    #[command(flatten)]
    from: recall::From,
}

impl Restore {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        let wanted = Wanted::parse(&self.what, self.at.as_deref())?;
        let target = self.target.as_deref().map(absolute).transpose()?;
        let to = match (target.as_deref(), self.into_db.as_deref()) {
            (Some(target), None) => Destination::Folder(target),
            (None, Some(name)) => Destination::Database(name),
            _ => return Err(Error::usage("a restore has one place to go to").hint("Give either --target DIR or --into-db NAME.")),
        };
        let recall = Recall::open(globals, self.from)?;
        let proven = recall.prove(&recall.source.list()?, &wanted)?;
        output::line(proven.describe());
        let (dataset, client) = (proven.claim.dataset.clone(), proven.claim.client.clone());
        let module = modules::restoring_module(recall.config.as_ref(), dataset.module())?;
        let source = match proven.content {
            Content::Archive(_) => RestoreSource::Archive(open_archive(&recall, proven, self.identity.as_deref())?),
            Content::Refs(refs) => RestoreSource::Mirror { from: recall.source.mirror(&client, &dataset), refs },
            Content::Nothing => RestoreSource::Nothing,
        };
        let paths: Vec<String> = self.paths.iter().map(|path| inner_path(&dataset, path)).collect();
        let progress = Progress::new();
        let context = RestoreContext { config: recall.config.as_ref(), dataset: &dataset, paths: &paths, to, monitor: &progress };
        let report = module.restore(&context, source)?;
        drop(progress);
        Ok(tell(&report))
    }
}

/// Says what came back and what did not.
fn tell(report: &RestoreReport) -> Exit {
    let size = if report.bytes == 0 { String::new() } else { format!(", {}", ByteSize(report.bytes)) };
    output::line(format_args!("Restored {}{size}.", output::count(report.entries, "entry", "entries")));
    for problem in &report.problems {
        output::note(format_args!("nightsafe: {}", base::text::printable(problem)));
    }
    if report.problems.is_empty() {
        return Exit::Done;
    }
    if report.entries == 0 {
        output::note("nightsafe: nothing was restored");
        return Exit::Failed;
    }
    let problems = u64::try_from(report.problems.len()).unwrap_or(u64::MAX);
    output::note(format_args!("nightsafe: {}; the rest was restored", output::count(problems, "problem", "problems")));
    Exit::Incomplete
}

fn absolute(path: &std::path::Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::usage(format!("{} cannot be a target", path.display())).because(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_how_much_came_back() {
        let report =
            |entries, problems: &[&str]| RestoreReport { entries, bytes: 0, problems: problems.iter().map(|p| (*p).to_owned()).collect() };
        assert_eq!(tell(&report(2, &[])), Exit::Done);
        assert_eq!(tell(&report(2, &["a was not restored"])), Exit::Incomplete);
        assert_eq!(tell(&report(0, &["the catalog cannot be read"])), Exit::Failed);
        // An empty database, a dataset that carries nothing.
        assert_eq!(tell(&report(0, &[])), Exit::Done);
    }
}
