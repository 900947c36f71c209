//! `nightsafe submit`: puts a request into the pool. Nothing else: no key, no network, no lock.

use super::dry_run::{self, Telling};
use crate::ledger::Ledger;
use crate::outcome::{Ending, OutcomeFile};
use crate::output::{self, worse};
use base::config::{ClientConfig, GROUP};
use base::{Dataset, Error, Exit, Name, Reason, RequestId, Result, Span, names};
use queue::pool::{ClientPool, PoolFile, State, Submitted};
use show::progress::Progress;
use std::time::{Duration, Instant};

/// How often --wait looks.
const GLANCE: Duration = Duration::from_millis(50);

/// Ask for a backup of a dataset.
///
/// The request is written into the pool, whence `nightsafe send` or `nightsafe watch` takes it. Any user of the submit
/// group may do this. A dataset that waits already is not queued twice.
#[derive(Debug, clap::Args)]
pub struct Submit {
    /// The kind of data: git, files, postgres, mariadb, dummy, or a module that the configuration declares; or group.
    #[arg(required_unless_present = "all")]
    module: Option<String>,
    /// The folder, the repository or the database; or the group's name.
    #[arg(required_unless_present = "all")]
    path: Option<String>,
    /// The node that is asked. Default: the nodes that the configuration names for the dataset, else the first node.
    node: Option<Name>,
    /// Every group that the configuration has, and every dataset that it lists and that is in none.
    #[arg(long, conflicts_with_all = ["module", "path", "node"])]
    all: bool,
    /// A word that the snapshot is marked with; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Tell what would be backed up, how much it is and what is left out; ask for nothing and write nothing. It shows what
    /// the user who runs it can see. Exit 3 when some of that cannot be read.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// With --dry-run: name every single thing.
    #[arg(long, requires = "dry_run")]
    list: bool,
    /// With --dry-run: an array of objects, one a dataset; with --list one a thing.
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// Wait until the node has answered: exit 0 when it is stored, 1 when it failed, 3 when some data could not be read,
    /// 4 when it was refused.
    #[arg(long)]
    wait: bool,
    /// With --wait: the longest time to wait, as in 30s, 10m, 6h; then exit 75.
    #[arg(long, value_name = "SPAN", requires = "wait")]
    timeout: Option<Span>,
    /// Why it is asked for.
    #[arg(long, hide = true, value_parser = ["hook", "schedule", "manual"], default_value = "manual")]
    reason: String,
}

impl Submit {
    pub fn run(self, config: &ClientConfig) -> Result<Exit> {
        config.client_name()?;
        let wanted = if self.all { all(config)? } else { vec![self.one(config)?] };
        if self.dry_run {
            let datasets: Vec<Dataset> = wanted.into_iter().flat_map(|(dataset, _)| members(config, dataset)).collect();
            return dry_run::run(config, &datasets, Telling { list: self.list, json: self.json });
        }
        let pool = ClientPool::open(&config.pool_path())?;
        let reason = match self.reason.as_str() {
            "hook" => Reason::Hook,
            "schedule" => Reason::Schedule,
            _ => Reason::Manual,
        };
        // Everything is checked before anything is written.
        let mut files = Vec::new();
        let mut wrong = Vec::new();
        for (dataset, nodes) in &wanted {
            match check(config, dataset) {
                Ok(()) => {
                    for node in nodes {
                        files.push(PoolFile::new(dataset, node, &self.tags, reason)?);
                    }
                }
                Err(error) if self.all => wrong.push(error),
                Err(error) => return Err(error),
            }
        }
        let mut waiting = Vec::new();
        for file in &files {
            let submitted = pool.submit(file)?;
            let subject = format!("{}:{} for {}", file.module, file.path, file.node);
            match &submitted {
                Submitted::New(id) => output::line(format_args!("{id}  {subject}")),
                Submitted::AlreadyWaiting(id) => output::line(format_args!("{id}  {subject} is waiting already")),
            }
            waiting.push((submitted.id().clone(), subject));
        }
        for error in &wrong {
            output::complain(error);
        }
        let exit = if self.wait { wait_for(config, &pool, waiting, self.timeout.map(|span| span.0))? } else { Exit::Done };
        Ok(if wrong.is_empty() { exit } else { Exit::Failed })
    }

    /// The one dataset of the command line with its nodes.
    fn one(&self, config: &ClientConfig) -> Result<(Dataset, Vec<Name>)> {
        let (Some(module), Some(path)) = (&self.module, &self.path) else {
            return Err(Error::usage("say which module and path, or --all"));
        };
        if module == GROUP {
            return self.group(config, path);
        }
        let Some(known) = modules::client_module(Some(config), module) else {
            return Err(Error::usage(format!("there is no module {module:?}"))
                .hint(names::hint(module, modules::names(Some(config)).iter().copied())));
        };
        let dataset = dataset_of(config, known.name(), path)?;
        let nodes = self.nodes(config, &dataset)?;
        Ok((dataset, nodes))
    }

    /// The group of the command line with its nodes.
    fn group(&self, config: &ClientConfig, name: &str) -> Result<(Dataset, Vec<Name>)> {
        let Some(group) = config.groups.iter().find(|group| group.name == name) else {
            return Err(Error::usage(format!("the configuration has no group {name:?}"))
                .hint(names::hint(name, config.groups.iter().map(|group| group.name.as_str()))));
        };
        let subject = group.subject()?;
        let nodes = self.nodes(config, &subject)?;
        Ok((subject, nodes))
    }

    /// The nodes that are asked.
    fn nodes(&self, config: &ClientConfig, dataset: &Dataset) -> Result<Vec<Name>> {
        let nodes = match &self.node {
            Some(name) if config.node(name).is_some() => vec![name.clone()],
            Some(name) => {
                return Err(Error::usage(format!("the configuration has no node {name}"))
                    .hint(names::hint(name.as_str(), config.nodes.iter().map(|node| node.name.as_str()))));
            }
            None => config.nodes_of(dataset).iter().map(|node| node.name.clone()).collect(),
        };
        if nodes.is_empty() {
            return Err(Error::usage("the configuration has no [[node]] to send backups to"));
        }
        Ok(nodes)
    }
}

/// The datasets of a group; a dataset is its own.
fn members(config: &ClientConfig, dataset: Dataset) -> Vec<Dataset> {
    config.group_of(&dataset).map(|group| group.members.clone()).unwrap_or_else(|| vec![dataset])
}

/// The dataset that a person means: as it stands where the configuration knows it so (names of databases), otherwise
/// as a path against the present folder.
fn dataset_of(config: &ClientConfig, module: &str, path: &str) -> Result<Dataset> {
    if let Ok(dataset) = Dataset::cleaned(module, path)
        && (path.starts_with('/') || config.allows(&dataset))
    {
        return Ok(dataset);
    }
    if path.is_empty() {
        return Err(Error::usage("the path is empty").hint("Write . for the present folder."));
    }
    let here = std::env::current_dir().map_err(|e| Error::failed("could not find the present folder").because(e))?;
    let absolute = here.join(path);
    let absolute =
        absolute.to_str().ok_or_else(|| Error::usage(format!("{} is not UTF-8, which a dataset's path must be", absolute.display())))?;
    let beside = Dataset::cleaned(module, absolute)?;
    // Where neither is allowed, what was written is more telling in the error than what we made of it.
    match Dataset::new(module, path) {
        Ok(plain) if !config.allows(&beside) && !std::path::Path::new(absolute).exists() => Ok(plain),
        _ => Ok(beside),
    }
}

/// Whether this dataset may be asked for, and can be as far as this user can tell.
pub fn check(config: &ClientConfig, dataset: &Dataset) -> Result<()> {
    if !config.allows(dataset) {
        let listed: Vec<String> = config.datasets.iter().map(|entry| entry.address.to_string()).collect();
        let hint = match names::nearest(&dataset.to_string(), listed.iter().map(String::as_str)).first() {
            Some(near) => format!("Did you mean {near}?"),
            None => "List it as a [[dataset]], or allow the folder above it with [[allow]].".into(),
        };
        return Err(Error::refused(format!("the configuration does not allow {dataset}")).hint(hint));
    }
    if let Some(group) = config.group_of(dataset) {
        return group.members.iter().try_for_each(|member| check(config, member));
    }
    let module = modules::client_module(Some(config), dataset.module())
        .ok_or_else(|| Error::usage(format!("there is no module {:?} for {dataset}", dataset.module())))?;
    module.check(config, dataset)
}

/// Every group of the configuration, and every dataset that is in none, with their nodes.
fn all(config: &ClientConfig) -> Result<Vec<(Dataset, Vec<Name>)>> {
    if config.datasets.is_empty() && config.groups.is_empty() {
        return Err(
            Error::usage("the configuration lists no [[dataset]]").hint("submit --all asks for those; others are named one by one.")
        );
    }
    let nodes = |dataset: &Dataset| config.nodes_of(dataset).iter().map(|node| node.name.clone()).collect();
    let groups = config.groups.iter().map(base::config::GroupEntry::subject).collect::<Result<Vec<_>>>()?;
    let grouped = |dataset: &Dataset| config.groups.iter().any(|group| group.members.contains(dataset));
    let single = config.datasets.iter().map(|entry| entry.address.clone()).filter(|dataset| !grouped(dataset));
    Ok(groups.into_iter().chain(single).map(|dataset| (dataset.clone(), nodes(&dataset))).collect())
}

/// Waits until every one of these requests has ended, and says how.
fn wait_for(config: &ClientConfig, pool: &ClientPool, waiting: Vec<(RequestId, String)>, timeout: Option<Duration>) -> Result<Exit> {
    let deadline = timeout.map(|time| Instant::now() + time);
    let progress = Progress::new();
    let mut worst = Exit::Done;
    // With each, what was last said of it.
    let mut waiting: Vec<(RequestId, String, &str)> = waiting.into_iter().map(|(id, subject)| (id, subject, "")).collect();
    loop {
        let mut still = Vec::new();
        for (id, subject, said) in waiting {
            match OutcomeFile::read(config, &id)? {
                Some(outcome) => worst = worse(worst, tell(config, &outcome, &subject)),
                None => {
                    let stage = stage(pool, &id)?;
                    if stage != said {
                        progress.say(&format!("{subject}: {stage}"));
                    }
                    still.push((id, subject, stage));
                }
            }
        }
        waiting = still;
        if waiting.is_empty() {
            return Ok(worst);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            drop(progress);
            for (id, subject, stage) in &waiting {
                output::note(format_args!("{id}  {subject}: no answer yet ({stage}); it will be tried again"));
            }
            return Ok(worse(worst, Exit::NotNow));
        }
        std::thread::sleep(GLANCE);
    }
}

/// What a waiting request is doing, in words.
fn stage(pool: &ClientPool, id: &RequestId) -> Result<&'static str> {
    Ok(match pool.find(id)? {
        Some((State::Writing | State::Complete, ..)) => "waiting for send",
        Some((State::Finished, ..)) => "finished",
        // Whoever may not look into the sender's folder knows this much: it is not in the inbox any more.
        Some((State::Process, ..)) | None => "being fetched",
    })
}

/// Says how a request ended, and what that means for the exit code.
fn tell(config: &ClientConfig, outcome: &OutcomeFile, subject: &str) -> Exit {
    let reason = outcome.reason.as_deref().map(|text| format!(": {}", base::text::printable(text))).unwrap_or_default();
    let line = format!("{}  {subject} {}{reason}", outcome.id, outcome.outcome.words());
    match outcome.outcome {
        Ending::Stored if outcome.unreadable > 0 => {
            output::line(format_args!("{line}, but {} could not be read", output::count(outcome.unreadable, "entry", "entries")));
            for line in Ledger::read(config, outcome.id.as_str()).first(outcome.unreadable) {
                output::line(format_args!("  {line}"));
            }
            Exit::Incomplete
        }
        Ending::Stored => {
            output::line(line);
            Exit::Done
        }
        Ending::Refused => {
            output::note(line);
            Exit::Refused
        }
        Ending::Failed | Ending::Cancelled => {
            output::note(line);
            Exit::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> ClientConfig {
        base::config::parse("c", format!("version = 1\nname = \"web1\"\n{text}").as_bytes()).unwrap()
    }

    #[test]
    fn paths_are_made_absolute_and_names_stay() {
        let config = config("[[allow]]\nmodule = \"postgres\"\nunder = \"*\"\n[[allow]]\nmodule = \"files\"\nunder = \"/\"");
        let named = |module: &str, path: &str| dataset_of(&config, module, path).unwrap().to_string();
        let here = std::env::current_dir().unwrap();
        assert_eq!(named("postgres", "shop"), "postgres:shop");
        assert_eq!(named("files", "/a//b/../c/"), "files:/a/c");
        assert_eq!(named("files", "src"), format!("files:{}/src", here.display()));
        assert_eq!(named("files", "."), format!("files:{}", here.display()));
        assert!(dataset_of(&config, "files", "").is_err());
        assert_eq!(named("files", ".."), format!("files:{}", here.parent().unwrap().display()));
    }
}
