//! `nightsafe restore`: brings a snapshot back, proven from the client's signature down.

use super::ls::open_archive;
use crate::Globals;
use crate::output;
use crate::progress::Progress;
use crate::recall::keys::Keys;
use crate::recall::proof::Content;
use crate::recall::{self, Recall, Wanted, inner_path};
use base::{ByteSize, Claim, Error, Exit, Name, Result};
use modules::{Destination, FileOptions, RestoreContext, RestoreReport, RestoreSource};
use std::path::{Path, PathBuf};

/// Bring a snapshot back.
///
/// DIR becomes what the dataset's path was: /var/www/a of files:/var/www comes back as DIR/a. For git, DIR becomes a bare
/// repository. A database is made anew under the name given with --into-db; --into-db '*' gives every database of the
/// snapshot its own name. Exit 3 when some data could not be restored.
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
    #[command(flatten)]
    to: To,
    /// Of a database only this table (TABLE or SCHEMA.TABLE) with its data, indexes and constraints, into a new database or
    /// one that lacks it. Can be given several times.
    #[arg(long = "table", value_name = "TABLE", requires = "into_db")]
    tables: Vec<String>,
    /// The roles of the database server too, or alone where nothing else is asked for; those that are there stay as they are.
    #[arg(long, conflicts_with_all = ["target", "in_place", "stdout"])]
    globals: bool,
    /// Owners by their numbers, whatever names these have here.
    #[arg(long)]
    numeric_owner: bool,
    /// The files that were archived, where this configuration declares a restore command for the module.
    #[arg(long)]
    no_command: bool,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    from: recall::From,
}

/// Where a restore goes; one of these, but for what belongs to a database server.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct To {
    /// Where to; made when it is not there.
    #[arg(long, value_name = "DIR")]
    target: Option<PathBuf>,
    /// To where it was: the dataset's own path, on the client that it is from.
    #[arg(long)]
    in_place: bool,
    /// The bytes of one file or dump alone, to standard output. They count only when the command exits with 0.
    #[arg(long)]
    stdout: bool,
    /// The database to make.
    #[arg(long, value_name = "NAME")]
    into_db: Option<String>,
}

impl To {
    /// Whether one of them was given.
    fn is_given(&self) -> bool {
        self.target.is_some() || self.in_place || self.stdout || self.into_db.is_some()
    }

    /// What the options say.
    fn destination<'a>(&'a self, target: Option<&'a Path>, claim: &'a Claim, own: Option<&Name>) -> Result<Destination<'a>> {
        if let Some(name) = &self.into_db {
            return Ok(Destination::Database(name));
        }
        if self.stdout {
            return Ok(Destination::Stdout);
        }
        if let Some(target) = target {
            return Ok(Destination::Folder(target));
        }
        if !self.in_place {
            return Ok(Destination::Server);
        }
        let path = Path::new(claim.dataset.path());
        // The restore command of a declared module may know the place of what has only a name.
        let is_declared = modules::client_module(None, claim.dataset.module()).is_none();
        if own != Some(&claim.client) || !path.is_absolute() && !is_declared {
            return Err(Error::usage(format!("{}:{} has no place of its own on this machine", claim.client, claim.dataset))
                .hint("Say where it is to come back to, with --target DIR."));
        }
        Ok(Destination::Folder(path))
    }
}

impl Restore {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        if !self.to.is_given() && !self.globals {
            return Err(Error::usage("it was not said where the restore goes")
                .hint("Give one of --target DIR, --in-place, --stdout and --into-db NAME."));
        }
        let wanted = Wanted::parse(&self.what, self.at.as_deref())?;
        let target = self.to.target.as_deref().map(absolute).transpose()?;
        let recall = Recall::open(globals, self.from)?;
        let proven = recall.prove(&recall.source.list()?, &wanted)?;
        let claim = proven.claim.clone();
        let (dataset, client) = (&claim.dataset, &claim.client);
        let to = self.to.destination(target.as_deref(), &claim, recall.own_name())?;
        // Standard output is the data's own when it is asked for.
        let say = |text: &str| if to == Destination::Stdout { output::note(text) } else { output::line(text) };
        say(&proven.describe());
        let module = modules::restoring_module(recall.config.as_ref(), dataset.module())?;
        let source = match proven.content {
            Content::Archive(_) => RestoreSource::Archive(open_archive(&recall, proven, &self.keys)?),
            Content::Refs(refs) => RestoreSource::Mirror { from: recall.source.mirror(client, dataset), refs },
            Content::Nothing => RestoreSource::Nothing,
        };
        let paths: Vec<String> = self.paths.iter().map(|path| inner_path(dataset, path)).collect();
        let files = FileOptions { numeric_owner: self.numeric_owner, ..FileOptions::default() };
        let progress = Progress::new();
        let context = RestoreContext {
            config: recall.config.as_ref(),
            dataset,
            paths: &paths,
            to,
            files,
            tables: &self.tables,
            globals: self.globals,
            no_command: self.no_command,
            monitor: &progress,
        };
        let report = module.restore(&context, source)?;
        drop(progress);
        Ok(tell(&report, &say))
    }
}

/// Says what came back and what did not.
fn tell(report: &RestoreReport, say: &dyn Fn(&str)) -> Exit {
    let size = if report.bytes == 0 { String::new() } else { format!(", {}", ByteSize(report.bytes)) };
    say(&format!("Restored {}{size}.", output::count(report.entries, "entry", "entries")));
    for note in &report.notes {
        output::note(format_args!("nightsafe: {}", base::text::printable(note)));
    }
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

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::usage(format!("{} cannot be a target", path.display())).because(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_how_much_came_back() {
        let report = |entries, problems: &[&str]| RestoreReport {
            entries,
            problems: problems.iter().map(|p| (*p).to_owned()).collect(),
            ..RestoreReport::default()
        };
        let tell = |report: &RestoreReport| tell(report, &|_| {});
        assert_eq!(tell(&report(2, &[])), Exit::Done);
        assert_eq!(tell(&report(2, &["a was not restored"])), Exit::Incomplete);
        assert_eq!(tell(&report(0, &["the catalog cannot be read"])), Exit::Failed);
        // An empty database, a dataset that carries nothing.
        assert_eq!(tell(&report(0, &[])), Exit::Done);
    }
}
