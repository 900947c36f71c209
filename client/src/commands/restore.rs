//! `nightsafe restore`: brings a snapshot back, proven from the client's signature down.

mod group;
mod plan;

use crate::Globals;
use crate::output;
use crate::recall::keys::Keys;
use crate::recall::last::{self, Deed};
use crate::recall::proof::{Content, Proven};
use crate::recall::{self, Recall, inner_path};
use base::{ByteSize, Claim, Error, Exit, Name, Result};
use modules::{Destination, FileOptions, MirrorLimit, Overwrite, RestoreContext, RestoreReport, RestoreSource};
use plan::Plan;
use show::progress::Progress;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bring a snapshot back.
///
/// DIR becomes what the dataset's path was: /var/www/a of files:/var/www comes back as DIR/a. For git, DIR becomes a bare
/// repository. A database is made anew under the name given with --into-db; --into-db '*' gives every database of the
/// snapshot its own name. Exit 3 when some data could not be restored.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// [CLIENT:]MODULE:PATH, or a snapshot's name.
    #[arg(value_name = "DATASET|SNAPSHOT", required_unless_present = "group")]
    what: Option<String>,
    /// Only these files and folders, below the dataset's path or as absolute paths. Patterns are made of * and ? (within a
    /// name), [a-z] and ** (any number of folders); a file of that very name goes first.
    paths: Vec<String>,
    /// All members of this group, [CLIENT:]NAME, as they were at one time: the newest restore point that has all of them, or the
    /// one that --at says. Each comes back to DIR/MODULE/PATH. Exit 3 when the restore point lacks a member.
    #[arg(long, value_name = "NAME", requires = "target", conflicts_with_all = ["what", "paths", "tables", "globals", "strip", "json"])]
    group: Option<String>,
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
    /// Take N folders off the front of each path: with 1, a/b/c comes back as DIR/b/c.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    strip: usize,
    /// What happens to what is in the target already. Without this the target must be new, or empty, or hold nothing but
    /// what the snapshot has; with --in-place it is never. What the snapshot does not have stays in every case.
    #[arg(long, value_name = "WHEN")]
    overwrite: Option<When>,
    /// Write nothing; show what would be done, and how much it is.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: an array of objects, with what would stay as it is too.
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// Owners by their numbers, whatever names these have here.
    #[arg(long)]
    numeric_owner: bool,
    /// The most that may come of a git mirror, with its indexes and what git-lfs keeps, as in "20 GiB": a client signs what is in it,
    /// and not how large that is. Default: nine tenths of what is free.
    #[arg(long, value_name = "SIZE")]
    limit: Option<ByteSize>,
    /// The files that were archived, where this configuration declares a restore command for the module.
    #[arg(long)]
    no_command: bool,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    from: recall::From,
}

/// When things in the target are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum When {
    /// What is there stays as it is; only what is missing comes back.
    Never,
    /// Files, links and special files that differ are replaced, each in one step. Same size and time count as the same
    /// content; where the time differs the content decides, and owner, mode and time are put right. A folder is no file's
    /// place, and nothing else is a folder's.
    Changed,
    /// As changed, but every file's content is compared. A folder takes the place of anything else, and an empty folder
    /// makes way; a folder with something in it never does.
    Always,
}

impl From<When> for Overwrite {
    fn from(when: When) -> Self {
        match when {
            When::Never => Self::Never,
            When::Changed => Self::Changed,
            When::Always => Self::Always,
        }
    }
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
        crate::interrupt::leave_in_order()?;
        let target = self.to.target.as_deref().map(absolute).transpose()?;
        let recall = Recall::open(globals, self.from.clone())?;
        let what = match (&self.what, &self.group, &target) {
            (None, Some(name), Some(target)) => return group::run(&self, &recall, name, target),
            (Some(what), ..) => what,
            (None, ..) => {
                return Err(Error::usage("it was not said what is to be restored").hint("Name a dataset, a snapshot, or --group."));
            }
        };
        let offered = recall.source.list()?;
        let proven = recall.prove(&offered, &recall.wanted(what, self.at.as_deref(), &offered)?)?;
        let claim = proven.claim.clone();
        let to = self.to.destination(target.as_deref(), &claim, recall.own_name())?;
        self.bring(&recall, proven, to)
    }

    /// Brings one snapshot back.
    fn bring(&self, recall: &Recall, proven: Proven, to: Destination<'_>) -> Result<Exit> {
        let claim = proven.claim.clone();
        let (dataset, client) = (&claim.dataset, &claim.client);
        // Standard output is the data's own when it is asked for.
        let aside = to == Destination::Stdout || self.json;
        let say = |text: &str| if aside { output::note(text) } else { output::line(text) };
        say(&proven.describe());
        let module = modules::restoring_module(recall.config.as_ref(), dataset.module())?;
        let source = match proven.content {
            Content::Archive(_) => RestoreSource::Archive(recall.open_archive(proven, self.keys.load()?.as_ref())?),
            Content::Refs(refs) => RestoreSource::Mirror { from: recall.source.mirror(client, dataset), snapshot: claim.id.clone(), refs },
            Content::Nothing => RestoreSource::Nothing,
        };
        if self.limit.is_some() && self.group.is_none() && !matches!(source, RestoreSource::Mirror { .. }) {
            return Err(
                Error::usage("--limit is for git mirrors; the client has signed how large this snapshot is").hint("Leave --limit out.")
            );
        }
        let paths: Vec<String> = self.paths.iter().map(|path| inner_path(dataset, path)).collect();
        let mut files = FileOptions {
            strip: self.strip,
            overwrite: self.overwrite.map(Overwrite::from),
            numeric_owner: self.numeric_owner,
            dry_run: self.dry_run,
        };
        if self.to.in_place && matches!(source, RestoreSource::Archive(_)) {
            files.overwrite = files.overwrite.or(Some(Overwrite::Never));
        }
        let (progress, plan) = (Progress::new(), Plan::new(self.json));
        let context = RestoreContext {
            config: recall.config.as_ref(),
            dataset,
            paths: &paths,
            to,
            files,
            tables: &self.tables,
            globals: self.globals,
            no_command: self.no_command,
            limit: self.limit.map_or(MirrorLimit::Free, |limit| MirrorLimit::Said(limit.0)),
            monitor: if self.dry_run { &plan } else { &progress },
        };
        let begun = Instant::now();
        let report = module.restore(&context, source);
        drop(progress);
        let report = report.inspect_err(|error| {
            // Whoever reads from us has gone, as head does. The bytes are not whole, so this is no success.
            if to == Destination::Stdout && is_broken_pipe(error) {
                crate::interrupt::die(signal_hook::consts::SIGPIPE);
            }
        })?;
        if self.dry_run {
            plan.finish();
        }
        let exit = tell(&report, (!self.dry_run).then(|| begun.elapsed()), &say);
        if exit == Exit::Done && !self.dry_run {
            last::note(recall.config.as_ref(), Deed::Restored, &claim);
        }
        Ok(exit)
    }
}

/// Whether the cause is a pipe that nobody reads from any more.
fn is_broken_pipe(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Says what came back and in which time (none for a dry run), what was left as it was, and what did not come back.
fn tell(report: &RestoreReport, took: Option<Duration>, say: &dyn Fn(&str)) -> Exit {
    let dry = took.is_none();
    let size = if report.bytes == 0 { String::new() } else { format!(", {}", ByteSize(report.bytes)) };
    let entries = |number| output::count(number, "entry", "entries");
    let time = took.map(|took| format!(" in {}", time_and_rate(took, report.bytes))).unwrap_or_default();
    say(&format!("{} {}{size}{time}.", if dry { "Would restore" } else { "Restored" }, entries(report.entries)));
    if report.same > 0 {
        say(&format!("{} there just so already.", output::count(report.same, "entry is", "entries are")));
    }
    if report.left > 0 {
        let left = output::count(report.left, "entry is", "entries are");
        say(&format!("{left} there and not as in the snapshot; left so. --overwrite=changed replaces what differs."));
    }
    for note in &report.notes {
        output::note(format_args!("nightsafe: {}", base::text::printable(note)));
    }
    for problem in &report.problems {
        output::note(format_args!("nightsafe: {}", base::text::printable(problem)));
    }
    if report.problems.is_empty() {
        return Exit::Done;
    }
    if report.entries + report.same + report.left == 0 {
        output::note("nightsafe: nothing was restored");
        return Exit::Failed;
    }
    let problems = u64::try_from(report.problems.len()).unwrap_or(u64::MAX);
    let rest = if dry { "the rest would be restored" } else { "the rest was restored" };
    output::note(format_args!("nightsafe: {}; {rest}", output::count(problems, "problem", "problems")));
    Exit::Incomplete
}

/// How long it took, and from a second on how fast that was.
fn time_and_rate(took: Duration, bytes: u64) -> String {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let time = match took.as_secs() {
        0..=119 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        seconds @ 120..=7199 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    };
    if millis < 1000 || bytes == 0 { time } else { format!("{time} ({}/s)", ByteSize(bytes.saturating_mul(1000) / millis)) }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::usage(format!("{} cannot be a target", path.display())).because(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told() {
        let told = |millis, bytes| time_and_rate(Duration::from_millis(millis), bytes);
        assert_eq!((told(80, 500).as_str(), told(2500, 5 << 20).as_str()), ("0.0 s", "2.5 s (2.0 MiB/s)"));
        assert_eq!((told(125_000, 0).as_str(), told(3_600_000 * 3, 0).as_str()), ("2 min 5 s", "3 h 0 min"));
    }

    #[test]
    fn the_exit_code_tells_how_much_came_back() {
        let report = |entries, problems: &[&str]| RestoreReport {
            entries,
            problems: problems.iter().map(|p| (*p).to_owned()).collect(),
            ..RestoreReport::default()
        };
        let tell = |report: &RestoreReport| tell(report, Some(Duration::ZERO), &|_| {});
        assert_eq!(tell(&report(2, &[])), Exit::Done);
        assert_eq!(tell(&report(2, &["a was not restored"])), Exit::Incomplete);
        assert_eq!(tell(&report(0, &["the catalog cannot be read"])), Exit::Failed);
        // An empty database, a dataset that carries nothing.
        assert_eq!(tell(&report(0, &[])), Exit::Done);
    }
}
