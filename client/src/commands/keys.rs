//! `nightsafe keys`: what a keyholder's identity opens, and key files that let somebody else open it too.
//!
//! Changes nothing in a store: what is written here, an administrator of the node installs.

use crate::Globals;
use crate::output::{self, Table};
use crate::recall::choose::Offered;
use crate::recall::epochs::{Depth, EpochState, Survey, survey};
use crate::recall::keys::Keys as KeyOptions;
use crate::recall::{self, Recall};
use archive::epoch::KeyFile;
use base::{Error, Exit, Kind, Name, Result, atomic};
use show::progress::Progress;
use std::path::{Path, PathBuf};

/// Prove what an identity opens, and let somebody else open it too.
#[derive(Debug, clap::Args)]
pub struct Keys {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeysCommand {
    Check(Check),
    AddRecipient(AddRecipient),
}

/// Prove that an identity opens every epoch that is still there.
///
/// Every manifest is proven from its client's signature first. Each epoch is opened once, so that a hardware key is
/// touched once for it. Exit 3 when some cannot be opened, 1 when none can.
#[derive(Debug, clap::Args)]
struct Check {
    #[command(flatten)]
    keys: KeyOptions,
    /// Only this client's.
    #[arg(long, value_name = "NAME")]
    client: Option<Name>,
    #[command(flatten)]
    from: recall::From,
    /// An array of objects instead of a table.
    #[arg(long)]
    json: bool,
}

/// Make key files with which RECIPIENT opens epochs that were not made for it.
///
/// One small file for each epoch that the identity opens and that is not for RECIPIENT already. An administrator of the
/// node puts it into the store with `nightsafe-server keys install`; nothing else there changes.
#[derive(Debug, clap::Args)]
struct AddRecipient {
    /// Who is to open them: age1…, or an ssh-ed25519 or ssh-rsa public key.
    #[arg(value_name = "RECIPIENT", required = true)]
    recipients: Vec<String>,
    #[command(flatten)]
    keys: KeyOptions,
    /// Only this epoch, by its recipient or the beginning of it, as keys check shows it.
    #[arg(long, value_name = "AGE1…")]
    epoch: Option<String>,
    /// Only this client's.
    #[arg(long, value_name = "NAME")]
    client: Option<Name>,
    /// The folder to write the files into.
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    #[command(flatten)]
    from: recall::From,
}

impl Keys {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        match self.command {
            KeysCommand::Check(command) => command.run(globals),
            KeysCommand::AddRecipient(command) => command.run(globals),
        }
    }
}

/// What is offered, of one client where one was named.
fn offered(recall: &Recall, client: Option<&Name>) -> Result<Vec<Offered>> {
    let mut offered = recall.source.list()?;
    if let Some(client) = client {
        let known: Vec<String> = offered.iter().map(|one| one.client.to_string()).collect();
        offered.retain(|one| one.client == *client);
        if offered.is_empty() {
            return Err(Error::failed(format!("there are no snapshots of {client}"))
                .hint(base::names::hint(client.as_str(), known.iter().map(String::as_str))));
        }
    }
    Ok(offered)
}

impl Check {
    fn run(self, globals: &Globals) -> Result<Exit> {
        let identities = self.keys.required()?;
        let recall = Recall::open(globals, self.from)?;
        let offered = offered(&recall, self.client.as_ref())?;
        let progress = Progress::new();
        let survey = survey(&recall, &identities, &offered, Depth::Every, &progress)?;
        drop(progress);
        output::listing(self.json, &survey.epochs, table)?;
        Ok(tell(&survey))
    }
}

/// Says what the table has no room for; the exit code.
fn tell(survey: &Survey) -> Exit {
    for epoch in survey.epochs.iter().filter(|epoch| !epoch.opens) {
        let snapshots = output::count(epoch.snapshots, "snapshot", "snapshots");
        let why = epoch.why.as_deref().unwrap_or("it was not tried");
        output::note(format_args!(
            "nightsafe: {} of {} cannot be opened (epoch {}): {}",
            snapshots,
            epoch.client,
            epoch.epoch,
            base::text::printable(why)
        ));
    }
    for problem in &survey.problems {
        output::note(format_args!("nightsafe: {}", base::text::printable(problem)));
    }
    let closed = survey.epochs.iter().filter(|epoch| !epoch.opens).count();
    match (closed == 0 && survey.problems.is_empty(), survey.keys.is_empty()) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Failed,
        (false, false) => Exit::Incomplete,
    }
}

fn table(epochs: &[EpochState]) -> Table {
    let mut table = Table::new(&["CLIENT", "EPOCH", "SINCE", "UNTIL", "SNAPSHOTS", "OPENS", "MADE FOR"], "There are no archives.");
    for epoch in epochs {
        table.row([
            epoch.client.to_string(),
            short(&epoch.epoch),
            epoch.since.to_string(),
            epoch.until.to_string(),
            epoch.snapshots.to_string(),
            if epoch.opens { "yes".into() } else { "NO".into() },
            epoch.recipients.iter().map(|text| short(text)).collect::<Vec<_>>().join(" "),
        ]);
    }
    table
}

/// The beginning of a recipient, and of an ssh key its end too, since they all begin alike.
fn short(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    match text.split_once(' ') {
        Some((kind, key)) if key.len() > 12 => format!("{kind}…{}", key.chars().skip(key.chars().count() - 12).collect::<String>()),
        _ if chars.len() > 20 => chars[..20].iter().collect::<String>() + "…",
        _ => text.into(),
    }
}

impl AddRecipient {
    fn run(self, globals: &Globals) -> Result<Exit> {
        // What cannot be a recipient is said before anybody touches a key.
        archive::epoch::check_recipients(&self.recipients)?;
        let identities = self.keys.required()?;
        let recall = Recall::open(globals, self.from)?;
        let offered = offered(&recall, self.client.as_ref())?;
        let progress = Progress::new();
        let survey = survey(&recall, &identities, &offered, Depth::Newest, &progress)?;
        drop(progress);
        let mut exit = Exit::Done;
        for problem in &survey.problems {
            output::note(format_args!("nightsafe: {}", base::text::printable(problem)));
            exit = Exit::Incomplete;
        }
        let wanted = |epoch: &&EpochState| self.epoch.as_deref().is_none_or(|prefix| epoch.epoch.starts_with(prefix));
        let epochs: Vec<&EpochState> = survey.epochs.iter().filter(wanted).collect();
        if epochs.is_empty() {
            let what = self.epoch.as_deref().map(|epoch| format!("the epoch {epoch}")).unwrap_or("any archive".into());
            return Err(
                Error::failed(format!("{} has no snapshot of {what}", recall.source.name())).hint("nightsafe keys check lists the epochs.")
            );
        }
        let mut written = 0;
        for epoch in epochs {
            let Some((_, key)) = survey.keys.get(&epoch.epoch) else {
                let why = epoch.why.as_deref().unwrap_or("it was not tried");
                output::note(format_args!(
                    "nightsafe: {} of {} cannot be opened: {}",
                    short(&epoch.epoch),
                    epoch.client,
                    base::text::printable(why)
                ));
                exit = Exit::Incomplete;
                continue;
            };
            if self.recipients.iter().all(|one| is_for(epoch, one)) {
                output::line(format_args!("{} of {} is for them already.", short(&epoch.epoch), epoch.client));
                written += 1;
                continue;
            }
            let file = KeyFile::seal(key, &epoch.client, &self.recipients, &identities)?;
            let path = write(&self.output, &epoch.client, &epoch.epoch, &file.to_bytes()?)?;
            output::line(path.display());
            written += 1;
        }
        Ok(if written == 0 { Kind::Failed.into() } else { exit })
    }
}

/// Whether the epoch was made for this recipient, whatever comment its key has.
fn is_for(epoch: &EpochState, recipient: &str) -> bool {
    let plain = recipient.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    epoch.recipients.contains(&plain)
}

/// Writes a key file under a name that is free.
fn write(folder: &Path, client: &Name, epoch: &str, bytes: &[u8]) -> Result<PathBuf> {
    let name = format!("{client}-{}", epoch.chars().take(16).collect::<String>());
    let paths = std::iter::once(format!("{name}.json")).chain((2..1000).map(|n| format!("{name}-{n}.json")));
    for path in paths.map(|name| folder.join(name)) {
        if path.symlink_metadata().is_err() {
            atomic::write_new(&path, bytes, 0o644)?;
            return Ok(path);
        }
    }
    Err(Error::failed(format!("{} has too many key files already", folder.display())).hint("Name another folder with --output."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_shown_short() {
        assert_eq!(short("age1short"), "age1short");
        assert_eq!(short(&format!("age1{}", "q".repeat(58))), format!("age1{}…", "q".repeat(16)));
        assert_eq!(short("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN"), "ssh-ed25519…rvN+ot98qgEN");
        assert_eq!(short("ä"), "ä");
    }

    #[test]
    fn a_free_name_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let client = Name::new("web1").unwrap();
        for name in ["web1-age1qqqqqqqqqqqq.json", "web1-age1qqqqqqqqqqqq-2.json"] {
            let path = write(dir.path(), &client, &format!("age1{}", "q".repeat(58)), b"x").unwrap();
            assert_eq!(path, dir.path().join(name));
        }
    }
}
