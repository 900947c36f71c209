//! The client half: `mariadb-dump` into streams, and nothing sent when one of them ends badly.
//!
//! Asks for dumps in which what did not change is as it was, so that the archive finds it again.

use super::names::{ALL, DUMP, USERS, check, stream};
use super::programs::Settings;
use super::server::Server;
use super::{NAME, names, restore, rights};
use crate::{ClientContext, ClientModule, Lane, Look, LookContext, PreparedRequest, RestoreContext, RestoreReport, RestoreSource};
use crate::{Fate, Seen, archived, look};
use archive::backup::Streams;
use base::config::ClientConfig;
use base::{Dataset, Error, Result};

/// All that makes two dumps of the same rows the same bytes, whole, and of one moment. Statements of 4 MiB deduplicate
/// nearly as well as a statement for each row, and come back as fast as any; docs/mariadb.md has the figures.
const OPTIONS: [&str; 8] =
    ["--single-transaction", "--quick", "--routines", "--events", "--triggers", "--skip-dump-date", "--tz-utc", "--net-buffer-length=4M"];

pub(crate) struct Client;

pub(crate) const CLIENT: Client = Client;

impl ClientModule for Client {
    fn name(&self) -> &str {
        NAME
    }

    fn lane(&self) -> Lane {
        Lane::Archive
    }

    fn settings(&self, config: &ClientConfig) -> Result<()> {
        Settings::of(config).map(drop)
    }

    fn check(&self, _config: &ClientConfig, dataset: &Dataset) -> Result<()> {
        if dataset.path() == ALL { Ok(()) } else { check(dataset.path()).map(drop) }
    }

    fn look(&self, context: &LookContext<'_>, dataset: &Dataset) -> Result<Look> {
        self.check(context.config, dataset)?;
        let settings = Settings::of(context.config)?;
        let server = Server { settings: &settings };
        let seen = wanted(&server, dataset).and_then(|names| {
            let sizes: Result<Vec<u64>> = names.iter().map(|name| server.size(name)).collect();
            let unprotected: Result<Vec<Option<String>>> = names.iter().map(|name| unprotected(&server, name)).collect();
            Ok((names, sizes?, unprotected?))
        });
        match seen {
            Ok((names, sizes, unprotected)) => {
                names.iter().zip(&sizes).for_each(|(name, size)| (context.tell)(&Seen { name: name.as_bytes(), fate: Fate::Taken(*size) }));
                let mut lines = vec!["The sizes are the server's estimates of its tables; a dump is text.".to_owned()];
                lines.extend(unprotected.into_iter().flatten());
                Ok(Look { entries: Some(names.len() as u64), bytes: Some(sizes.iter().sum()), lines, ..Look::default() })
            }
            // The sender may be let in where whoever asks is not.
            Err(error) => Ok(Look { lines: vec![error.one_line(), look::UNKNOWN.into()], ..Look::default() }),
        }
    }

    fn prepare(&self, context: &ClientContext<'_>, dataset: &Dataset) -> Result<PreparedRequest> {
        self.check(context.config, dataset)?;
        let settings = Settings::of(context.config)?;
        let backup = Backup { settings: &settings, server: Server { settings: &settings }, context };
        archived::client::prepare(context, dataset, |spec| {
            let all = dataset.path() == ALL;
            backup.check_rights((!all).then(|| dataset.path()))?;
            let mut names = wanted(&backup.server, dataset)?;
            // Streams come in the order of their names.
            names.sort_by_key(|name| stream(name));
            archive::backup::backup_streams(spec, |streams| {
                if !all {
                    return backup.database(streams, DUMP, dataset.path());
                }
                names.iter().try_for_each(|name| backup.database(streams, &stream(name), name))?;
                backup.users(streams)
            })
        })
    }

    fn restore(&self, context: &RestoreContext<'_>, source: RestoreSource) -> Result<RestoreReport> {
        match source {
            RestoreSource::Archive(reader) => restore::restore(context, &reader),
            RestoreSource::Mirror { .. } | RestoreSource::Nothing => {
                Err(Error::failed(format!("the snapshot of {} is no archive", context.dataset)))
            }
        }
    }
}

/// The databases that a dataset stands for.
fn wanted(server: &Server<'_>, dataset: &Dataset) -> Result<Vec<String>> {
    let mut names = server.databases()?;
    if dataset.path() == ALL {
        return Ok(names);
    }
    names.retain(|name| name == dataset.path());
    if names.is_empty() {
        return Err(Error::failed(format!("there is no database {}, or this account may not see it", dataset.path())));
    }
    Ok(names)
}

/// What there is to say of tables that no transaction protects: they are dumped, but perhaps not as of one moment.
fn unprotected(server: &Server<'_>, name: &str) -> Result<Option<String>> {
    let loose = server.loose(name)?;
    let tables: Vec<String> = loose.iter().take(10).map(|loose| format!("{} ({})", loose.table, loose.engine)).collect();
    let more = loose.len().saturating_sub(tables.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let said = format!(
        "in the database {name} no transaction protects {}{more}: what changes there during the dump may be half in it. \
         ENGINE=InnoDB would protect them.",
        tables.join(", ")
    );
    Ok((!loose.is_empty()).then_some(said))
}

/// One backup on its way.
struct Backup<'a> {
    settings: &'a Settings,
    server: Server<'a>,
    context: &'a ClientContext<'a>,
}

impl Backup<'_> {
    /// What the account may not see would be missing from the dump without a word.
    fn check_rights(&self, database: Option<&str>) -> Result<()> {
        let grants: Vec<String> = self.server.run("SHOW GRANTS")?.into_iter().map(|row| row.join("\t")).collect();
        let missing = rights::missing(&grants, database);
        if missing.is_empty() {
            return Ok(());
        }
        let account = self.server.value("SELECT CURRENT_USER()")?;
        let quoted = match account.rsplit_once('@') {
            Some((user, host)) => format!("{}@{}", names::identifier(user), names::identifier(host)),
            None => names::identifier(&account),
        };
        let what = database.map_or_else(|| "all databases".to_owned(), |name| format!("the database {name}"));
        // The log of a sender has a line for each failure, so what to do is in it.
        Err(Error::failed(format!(
            "the account {account} may not see all of {what}: it lacks {}. As an administrator of the server: {}",
            missing.join(", "),
            rights::remedy(&missing, database, &quoted)
        )))
    }

    fn database(&self, streams: &mut Streams<'_, '_>, stream: &str, name: &str) -> Result<()> {
        let monitor = self.context.monitor;
        monitor.task(&format!("dumping the database {name}"), None);
        let head = self.server.head(name)?;
        if let Some(said) = unprotected(&self.server, name)? {
            monitor.problem(&Error::failed(said));
        }
        let mut command = self.settings.dump();
        command.args(OPTIONS).args(["--", name]);
        let what = format!("the database {name}");
        archived::dump_after(streams, stream, head.as_bytes(), command, &what, self.settings.time_limit.0, monitor).map(drop)
    }

    fn users(&self, streams: &mut Streams<'_, '_>) -> Result<()> {
        self.context.monitor.task("dumping users and grants", None);
        let mut command = self.settings.dump();
        // An account that is there already when they come back stays as it is, and gets what it was granted.
        command.args(["--system=users", "--insert-ignore", "--skip-dump-date"]);
        archived::dump(streams, USERS, command, "users and grants", self.settings.time_limit.0, self.context.monitor).map(drop)
    }
}
