//! `adopt`: takes over a folder of repositories that `git clone --mirror` made as the mirrors of a client.
//!
//! Decides first, for all of them, what belongs to which dataset, and refuses the whole where one does not; then carries it out,
//! one after the other. What is there stays as it is.

use crate::access;
use crate::node::Node;
use crate::output;
use archive::store::Store;
use base::{At, ByteSize, Dataset, Error, Exit, Name, Result, clock, names, process};
use queue::access::ClientGrant;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How deep repositories are looked for.
const DEPTH: usize = 8;
/// The longest folder that is listed.
const MOST: usize = 100_000;

/// Take over repositories that git clone --mirror made, as mirrors of a client's datasets.
///
/// Each becomes the mirror of the dataset that its origin says (git:/PATH of ssh://HOST/PATH), or of the one below --under that
/// has its name. They are copied and checked; what is there is neither changed nor removed. All refs are in the mirror
/// before the first backup, which then fetches only what is new.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The client that the repositories are of.
    client: Name,
    /// The folder with the repositories.
    folder: PathBuf,
    /// Where the client has them: FOLDER/team/a.git is its UNDER/team/a.git. Default: as the origin of each says.
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::Other)]
    under: Option<PathBuf>,
    /// Take also those that have no origin, or one on another machine.
    #[arg(long)]
    any_origin: bool,
    /// Say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Print an array of objects: repository, dataset, refs, bytes, kept_aside.
    #[arg(long)]
    json: bool,
}

/// One repository and what it becomes.
#[derive(Debug)]
struct Step {
    from: PathBuf,
    dataset: Dataset,
    bytes: u64,
}

#[derive(Serialize)]
struct Row {
    repository: String,
    dataset: String,
    refs: Option<usize>,
    bytes: u64,
    kept_aside: bool,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    node.check_owner()?;
    let list = access::current(&node)?.list;
    let grant = list.clients.get(&args.client).ok_or_else(|| {
        Error::usage(format!("there is no client {}", args.client))
            .hint(names::hint(args.client.as_str(), list.clients.keys().map(Name::as_str)))
    })?;
    let folder = args.folder.canonicalize().at("find the folder", &args.folder).map_err(|error| error.with_kind(base::Kind::Usage))?;
    if folder.starts_with(node.config.data.canonicalize().unwrap_or_else(|_| node.config.data.clone())) {
        return Err(
            Error::usage(format!("{} lies in the node's own data", folder.display())).hint("What lies there is the node's already.")
        );
    }
    let plan = plan(args, grant, &folder)?;
    within_quota(&node, args, grant, &plan)?;
    let mut rows = Vec::new();
    if !args.dry_run {
        node.prepare_client(&args.client)?;
    }
    for step in &plan {
        rows.push(if args.dry_run { row(step, None) } else { carry_out(&node, args, step)? });
    }
    if !args.dry_run
        && let Err(error) = crate::cgit::add(&node, &args.client)
    {
        output::complain(&error.context("the mirrors are taken over, and cgit shows them after the next sweep"));
    }
    show(args, &rows)?;
    Ok(Exit::Done)
}

/// What becomes of each repository; the first that does not belong is an error, and nothing was done then.
fn plan(args: &Args, grant: &ClientGrant, folder: &Path) -> Result<Vec<Step>> {
    let mut found = Vec::new();
    look(folder, 0, &mut found)?;
    if found.is_empty() {
        return Err(Error::usage(format!("there is no repository in {}", folder.display()))
            .hint("It looks for bare repositories, as git clone --mirror makes them."));
    }
    let mut steps: Vec<Step> = Vec::new();
    for from in found {
        let bytes = modules::can_be_adopted(&from)?;
        let dataset = dataset(args, grant, folder, &from)?;
        if !grant.allows(&dataset) {
            return Err(Error::refused(format!("{} would be {dataset}, which is not taken from {}", from.display(), args.client))
                .hint("Allow it first in the access list, or say with --under where the client has it."));
        }
        if let Some(other) = steps.iter().find(|step| step.dataset == dataset) {
            return Err(Error::refused(format!("{} and {} would both be {dataset}", other.from.display(), from.display()))
                .hint("Take one of them out of the folder."));
        }
        steps.push(Step { from, dataset, bytes });
    }
    Ok(steps)
}

/// The repositories in a folder, by name; links are not followed.
fn look(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if folder.join("HEAD").is_file() && folder.join("objects").is_dir() {
        found.push(folder.to_owned());
        return Ok(());
    }
    if depth == DEPTH {
        return Ok(());
    }
    let mut inner: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).at("list", folder)? {
        let entry = entry.at("list", folder)?;
        if entry.file_type().at("look at", entry.path())?.is_dir() {
            inner.push(entry.path());
        }
    }
    if inner.len() + found.len() > MOST {
        return Err(Error::usage(format!("{} holds more than {MOST} folders", folder.display())));
    }
    inner.sort();
    inner.iter().try_for_each(|folder| look(folder, depth + 1, found))
}

/// Which dataset a repository is of.
fn dataset(args: &Args, grant: &ClientGrant, folder: &Path, from: &Path) -> Result<Dataset> {
    let origin = origin(from)?;
    let hosts: Vec<&str> = [&grant.address, &grant.git_address].into_iter().flatten().map(|address| address.host.as_str()).collect();
    let place = origin.as_deref().and_then(Place::of);
    if !args.any_origin {
        let said =
            origin.as_deref().map_or_else(|| "has no origin".to_owned(), |url| format!("has the origin {}", base::text::printable(url)));
        let host = place.as_ref().and_then(|place| place.host.as_deref());
        if host.is_none_or(|host| !hosts.contains(&host)) {
            return Err(Error::refused(format!("{} {said}, which is not on {} ({})", from.display(), args.client, hosts.join(", ")))
                .hint("If it is that client's all the same, say --any-origin."));
        }
    }
    let path = match (&args.under, place) {
        (Some(under), _) => {
            let relative = from.strip_prefix(folder).unwrap_or(Path::new(""));
            // A single repository was named: then UNDER is its own place.
            if relative.as_os_str().is_empty() { under.clone() } else { under.join(relative) }
        }
        (None, Some(Place { path, .. })) if path.starts_with('/') => path.into(),
        (None, _) => {
            return Err(Error::usage(format!("it is not known where the client has {}", from.display()))
                .hint("Its origin names no absolute path: say with --under where the client has its repositories."));
        }
    };
    let text = path.to_str().ok_or_else(|| Error::usage(format!("{} is not UTF-8", path.display())))?;
    Dataset::cleaned("git", text).map_err(|error| error.context(format!("{} cannot be a dataset", from.display())))
}

/// The host and the path of an address of git's.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    host: Option<String>,
    path: String,
}

impl Place {
    /// `ssh://user@host:port/path`, `user@host:path`, or a path here.
    fn of(url: &str) -> Option<Self> {
        if let Some((scheme, rest)) = url.split_once("://") {
            if !matches!(scheme, "ssh" | "git+ssh" | "git" | "https" | "http") {
                return None;
            }
            let (authority, path) = rest.split_once('/')?;
            let host = authority.rsplit('@').next()?;
            let host = match host.strip_prefix('[') {
                Some(rest) => rest.split(']').next()?,
                None => host.split(':').next()?,
            };
            return Some(Self { host: Some(host.to_owned()), path: format!("/{path}") });
        }
        match url.split_once(':') {
            Some((authority, path)) if !authority.contains('/') => {
                Some(Self { host: Some(authority.rsplit('@').next()?.to_owned()), path: path.to_owned() })
            }
            _ => Some(Self { host: None, path: url.to_owned() }),
        }
    }
}

/// What `remote.origin.url` says in the repository's own file, which is read and not obeyed.
fn origin(from: &Path) -> Result<Option<String>> {
    let mut command = process::git();
    command.args(["config", "--no-includes", "--file"]).arg(from.join("config")).args(["--get", "remote.origin.url"]);
    let output = process::run(command, 64 << 10, Duration::from_secs(60))?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    Ok((output.status.success() && !text.is_empty()).then_some(text))
}

/// Refuses what a request for it would be refused for.
fn within_quota(node: &Node, args: &Args, grant: &ClientGrant, plan: &[Step]) -> Result<()> {
    let Some(quota) = grant.quota else { return Ok(()) };
    let folder = node.config.client_path(&args.client);
    let mirrors = folder.join("mirrors");
    // Before the first request there is no store yet.
    let stored = if folder.join("snapshots").is_dir() { Store::open_existing(&folder)?.bytes_used()? } else { 0 };
    let used = stored.saturating_add(modules::mirrors_size(&mirrors)?);
    let mut needed = plan.iter().fold(used, |sum, step| sum.saturating_add(step.bytes));
    if needed > quota.0 {
        // What an earlier run took over is in what is used.
        needed = used;
        for step in plan {
            needed = needed.saturating_add(modules::would_add(&step.from, &mirrors, &step.dataset, node.config.fetch_time.0)?);
        }
    }
    if needed <= quota.0 {
        return Ok(());
    }
    Err(Error::refused(format!("{} would have {} then, and its quota is {quota}", args.client, ByteSize(needed)))
        .hint("Raise it with nightsafe-server client set --quota, or take over fewer."))
}

fn carry_out(node: &Node, args: &Args, step: &Step) -> Result<Row> {
    let folder = node.config.client_path(&args.client);
    // Two commands at once do not get into each other's way: the mirror, which is locked, has its own.
    let staging = node.state_path().join("adopt").join(args.client.as_str()).join(modules::mirror_name(&step.dataset));
    let time = node.config.fetch_time.0;
    let adopted = modules::adopt(&step.from, &folder.join("mirrors"), &staging, &step.dataset, clock::now(), time)?;
    if let Some(words) = &adopted.left_out {
        output::warning(&format!("of {}, {words}", step.from.display()));
    }
    Ok(row(step, Some(&adopted)))
}

fn row(step: &Step, adopted: Option<&modules::Adopted>) -> Row {
    Row {
        repository: step.from.display().to_string(),
        dataset: step.dataset.to_string(),
        refs: adopted.map(|adopted| adopted.refs),
        bytes: adopted.map_or(step.bytes, |adopted| adopted.bytes),
        kept_aside: adopted.is_some_and(|adopted| adopted.aside),
    }
}

fn show(args: &Args, rows: &[Row]) -> Result<()> {
    if args.json {
        return output::json(rows);
    }
    for row in rows {
        let (from, to) = (&row.repository, &row.dataset);
        let size = ByteSize(row.bytes);
        output::line(&match row.refs {
            None => format!("{from} would become the mirror of {to} ({size})"),
            Some(refs) if row.kept_aside => {
                format!("{from}: {to} is mirrored already; what this one has of its {refs} refs is kept beside it ({size} copied)")
            }
            Some(refs) => format!("{from} is the mirror of {to} now: {refs} refs, {size} copied"),
        })?;
    }
    if !args.dry_run {
        output::line("What was there is as it was; remove it when the first backup of each has come.")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_git() {
        for (url, host, path) in [
            ("ssh://git@web1.example.org:2222/srv/git/a.git", Some("web1.example.org"), "/srv/git/a.git"),
            ("ssh://[::1]:22/a", Some("::1"), "/a"),
            ("git@web1:team/a.git", Some("web1"), "team/a.git"),
            ("web1:/srv/a.git", Some("web1"), "/srv/a.git"),
            ("https://web1/a.git", Some("web1"), "/a.git"),
            ("/srv/git/a.git", None, "/srv/git/a.git"),
            ("./x:y", None, "./x:y"),
        ] {
            assert_eq!(Place::of(url), Some(Place { host: host.map(str::to_owned), path: path.into() }), "{url}");
        }
        assert!(Place::of("ext::sh -c x").is_some_and(|place| place.host.as_deref() == Some("ext")));
        assert_eq!(Place::of("ext://x/y"), None);
    }
}
