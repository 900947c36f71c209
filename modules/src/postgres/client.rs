//! The client half: `pg_dump` into a stream, and nothing sent when it ends badly.
//!
//! Asks for the dump uncompressed, so that the archive finds what did not change since the last one.

use super::programs::{Settings, check_name, dbname};
use super::{DUMP, NAME, restore};
use crate::{ClientContext, ClientModule, Lane, PreparedRequest, RestoreContext, RestoreReport, RestoreSource, archived};
use base::config::ClientConfig;
use base::{Dataset, Error, Result, text};
use std::io::Read;

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
        check_name(dataset.path()).map(drop)
    }

    fn prepare(&self, context: &ClientContext<'_>, dataset: &Dataset) -> Result<PreparedRequest> {
        let name = check_name(dataset.path())?;
        let settings = Settings::of(context.config)?;
        let mut command = settings.program("pg_dump");
        // A lock that somebody holds for hours must not hold up every other archive.
        command.args(["--format=custom", "--compress=0", "--lock-wait-timeout=600000", "-d"]).arg(dbname(name));
        archived::client::prepare(context, dataset, |spec| {
            context.monitor.task(&format!("dumping the database {name}"), None);
            archive::backup::backup_streams(spec, |streams| {
                archived::dump(streams, DUMP, command, &format!("the database {name}"), settings.time_limit.0, context.monitor).map(drop)
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

/// The first of what a program says; the rest is read too, so that it does not stall.
pub(super) fn read_words(mut from: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let _ = from.by_ref().take(65_536).read_to_end(&mut kept);
    let _ = std::io::copy(&mut from, &mut std::io::sink());
    kept
}

/// Words for an error.
pub(super) fn shown(words: &[u8]) -> String {
    text::excerpt(words, 2000)
}
