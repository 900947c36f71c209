//! The client half: `pg_dump` into a stream, and nothing sent when it ends badly.
//!
//! Asks for the dump uncompressed, so that the archive finds what did not change since the last one.

use super::programs::{Settings, check_name, dbname};
use super::{DUMP, NAME, restore};
use crate::{ClientContext, ClientModule, Lane, PreparedRequest, RestoreContext, RestoreReport, RestoreSource, archived};
use base::config::ClientConfig;
use base::process::Running;
use base::{At, Dataset, Error, Result, process, text};
use std::io::Read;
use std::process::{Output, Stdio};

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
        let mut dump = Settings::of(context.config)?.program("pg_dump");
        // A lock that somebody holds for hours must not hold up every other archive.
        dump.args(["--format=custom", "--compress=0", "--lock-wait-timeout=600000", "-d"]).arg(dbname(name));
        archived::client::prepare(context, dataset, |spec| {
            context.monitor.task(&format!("dumping the database {name}"), None);
            let program = dump.get_program().to_owned();
            let mut child = Running(dump.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().at("start", &program)?);
            let (Some(mut stdout), Some(stderr)) = (child.0.stdout.take(), child.0.stderr.take()) else {
                return Err(Error::failed("pg_dump was started without pipes"));
            };
            let mut words = Some(std::thread::spawn(move || read_words(stderr)));
            let mut finish = || {
                let status = child.0.wait().at("wait for", &program)?;
                let stderr = words.take().and_then(|words| words.join().ok()).unwrap_or_default();
                if status.success() {
                    return Ok(());
                }
                Err(process::failure("pg_dump", &Output { status, stdout: Vec::new(), stderr })
                    .context(format!("could not dump the database {name}")))
            };
            archive::backup::backup_stream(spec, DUMP, &mut stdout, &mut finish)
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
