//! Modules that the configuration declares by their commands: `[module.trac]`, `[module.ldap]`, anything.
//!
//! Knows no program by name, and gives nothing to a shell.

mod backup;
mod commands;
mod restore;
mod settings;
#[cfg(test)]
mod tests;
mod words;

use crate::look::UNKNOWN;
use crate::{
    ClientContext, ClientModule, Lane, Look, LookContext, PreparedRequest, RestoreContext, RestoreReport, RestoreSource, archived, choosing,
};
use base::config::ClientConfig;
use base::{Dataset, Error, Result, Silent};
use settings::Settings;
use words::Values;

/// A module by the name of its table. A restorer's machine may have no such table.
pub struct Declared {
    name: String,
}

impl Declared {
    /// Checks the name.
    ///
    /// # Errors
    /// Of kind usage.
    pub(crate) fn new(name: &str) -> Result<Self> {
        Dataset::new(name, "x")?;
        if name == base::config::GROUP {
            return Err(Error::usage(format!("no module can be called {name}: submit {name} NAME asks for a group")));
        }
        Ok(Self { name: name.into() })
    }

    /// The table, where it says what a backup is.
    fn table(&self, config: &ClientConfig) -> Result<Settings> {
        let table = Settings::of(config, &self.name)?;
        if table.backs_up() {
            return Ok(table);
        }
        Err(Error::usage(format!("[module.{}] says how to restore, and not what is archived", self.name))
            .hint("Write prepare or stream into it; docs/modules.md has examples."))
    }

    /// The table, where the dataset is one that it can take.
    fn table_for(&self, config: &ClientConfig, dataset: &Dataset) -> Result<Settings> {
        let table = self.table(config)?;
        settings::check_form(dataset)?;
        if table.takes_path() {
            crate::settings::absolute(dataset)?;
        }
        if table.uses_path() && dataset.path().starts_with('/') {
            crate::settings::reachable(config, dataset)?;
        }
        Ok(table)
    }
}

impl ClientModule for Declared {
    fn name(&self) -> &str {
        &self.name
    }

    fn lane(&self) -> Lane {
        Lane::Archive
    }

    fn dataset_settings(&self) -> &'static [&'static str] {
        // Where the table takes no files, it refuses them itself.
        choosing::SETTINGS
    }

    fn settings(&self, config: &ClientConfig) -> Result<()> {
        Settings::of(config, &self.name).map(drop)
    }

    fn programs(&self, config: &ClientConfig) -> Vec<Result<String>> {
        let Ok(table) = Settings::of(config, &self.name) else { return Vec::new() };
        // The environment may name the search path by the dataset's path; that cannot be known here.
        let values = Values { path: "/", dataset: "", staging: None, target: None };
        let restore = table.restore.iter().map(|words| ("restore", words));
        let commands = table.backup_commands().chain(restore);
        let found = commands.map(|(field, words)| {
            commands::program(&table, words, &values)
                .map(|path| format!("The {field} command of [module.{}] is {}.", self.name, path.display()))
                .map_err(|error| error.context(format!("the {field} command of [module.{}] cannot be run", self.name)))
        });
        found.collect()
    }

    fn check(&self, config: &ClientConfig, dataset: &Dataset) -> Result<()> {
        self.table_for(config, dataset).map(drop)
    }

    fn look(&self, context: &LookContext<'_>, dataset: &Dataset) -> Result<Look> {
        let table = self.table_for(context.config, dataset)?;
        let values = Values { path: dataset.path(), dataset: &dataset.to_string(), staging: None, target: None };
        let mut lines = Vec::new();
        for (field, words) in table.backup_commands() {
            if field == "check" {
                commands::run(&table, words, &values, &Silent).map_err(|error| error.context(format!("the check of {dataset} failed")))?;
                lines.push(format!("The check went well: {}", commands::shown(words, &values)));
            } else {
                commands::program(&table, words, &values)?;
                lines.push(format!("It would run: {}", commands::shown(words, &values)));
            }
        }
        lines.extend(table.take.iter().map(|(name, take)| format!("It would take {} as {name}.", take.shown(dataset.path()))));
        lines.push(UNKNOWN.into());
        Ok(Look { lines, ..Look::default() })
    }

    fn prepare(&self, context: &ClientContext<'_>, dataset: &Dataset) -> Result<PreparedRequest> {
        let table = self.table(context.config)?;
        settings::check_form(dataset)?;
        archived::client::prepare(context, dataset, |spec| backup::back_up(context, dataset, &table, spec))
    }

    fn restore(&self, context: &RestoreContext<'_>, source: RestoreSource) -> Result<RestoreReport> {
        let RestoreSource::Archive(reader) = source else {
            return Err(Error::failed(format!("the snapshot of {} is no archive", context.dataset)));
        };
        restore::restore(&self.name, context, &reader)
    }
}
