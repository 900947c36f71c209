//! `nightsafe config check`: says in sentences what works, what does not yet, and what is wrong.
//!
//! Changes nothing. What is asked of other machines is in `config_check/reach.rs`.

mod reach;

use crate::{Globals, enrol, output, trust};
use base::config::ClientConfig;
use base::config::client::Spool;
use base::findings::Findings;
use base::{ByteSize, Error, Exit, Result};
use queue::pool::ClientPool;
use queue::signature::{Signer, parse_public_key};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the configuration says.
#[derive(Debug, clap::Args)]
pub struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Say in sentences what works, what does not yet, and what is wrong; nothing is changed.
    ///
    /// Exit codes: 0 everything works that was looked at; 75 something does not work yet; 2 something is wrong.
    Check(Check),
}

#[derive(Debug, clap::Args)]
struct Check {
    /// Send a mail to the addresses in [mail], to see whether it arrives.
    #[arg(long)]
    mail: bool,
    /// Look at this machine alone: connect to no node.
    #[arg(long)]
    offline: bool,
    /// Where sshd looks for keys of the account that nodes log in to. Default: .ssh/authorized_keys of this account.
    #[arg(long, value_name = "FILE", env = "NIGHTSAFE_AUTHORIZED_KEYS")]
    authorized_keys: Option<PathBuf>,
    /// Print an array of objects: about, state (ok, unseen, not-yet, wrong), says, todo.
    #[arg(long)]
    json: bool,
}

impl Config {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        let ConfigCommand::Check(asked) = self.command;
        let config = super::load(globals)?;
        let mut findings = Findings::default();
        findings.good("configuration", format!("{} can be read.", globals.config.display()));
        check(&config, &mut findings);
        if config.name.is_some() {
            reach::let_in(globals, &config, asked.authorized_keys.as_deref(), &mut findings);
        }
        if asked.offline {
            findings.unseen("nodes", "No node was asked.");
        } else {
            reach::nodes(&config, &mut findings);
        }
        if asked.mail {
            mails(&config, &mut findings);
        }
        show(&findings, asked.json)?;
        Ok(findings.exit())
    }
}

fn show(findings: &Findings, json: bool) -> Result<()> {
    if json {
        let text = serde_json::to_string_pretty(findings.all()).map_err(|e| Error::failed("could not write JSON").because(e))?;
        output::line(text);
        return Ok(());
    }
    for finding in findings.all() {
        output::line(finding);
    }
    output::line(findings.summary());
    Ok(())
}

fn check(config: &ClientConfig, findings: &mut Findings) {
    match &config.name {
        None => findings.good("name", "It has no name, so this machine restores and sends no backups."),
        Some(name) => {
            findings.good("name", format!("This machine is {name}; its state is in {}.", config.state.display()));
            findings.add("pool", ClientPool::open(&config.pool_path()).map(|_| ()), "The pool is there.");
            findings.add(
                "key",
                Signer::from_file(&config.key_path()).map(|_| ()).map_err(|e| e.hint("nightsafe init makes it.")),
                format!("The key is {}.", config.key_path().display()),
            );
            recipients(config, findings);
            room(config, findings);
        }
    }
    for node in &config.nodes {
        let about = format!("node {}", node.name);
        let host =
            parse_public_key(&node.host_key).map(|_| ()).map_err(|e| e.context(format!("host_key of the node {} is wrong", node.name)));
        findings.add(about.clone(), host, format!("The node {} is reached as {}.", node.name, node.ssh));
        match trust::receipts_key(config, node) {
            Ok(key) => {
                findings.good(about, format!("Receipts of {} are believed when {} signs them.", node.name, trust::fingerprint(&key)))
            }
            Err(error) => findings.bad(about, &error),
        }
    }
    if config.nodes.is_empty() {
        findings.not_yet(
            "nodes",
            "there is no [[node]], so there is nowhere to send backups to or to restore from",
            "Give the line that nightsafe init prints to a node's administrator, and the answer to nightsafe node add.",
        );
    }
    if let Some(mail) = &config.mail {
        findings.add("mail", mail::check(mail), format!("Mails go to {}.", mail.to.join(" and ")));
    }
    datasets(config, findings);
    for found in crate::around::check(config) {
        match found {
            Ok(sentence) => findings.good("around backups", sentence),
            Err(error) => findings.bad("around backups", &error),
        }
    }
    for name in config.module.keys() {
        let about = format!("module {name}");
        match modules::client_module(Some(config), name).map(|module| module.settings(config)) {
            None => findings.wrong(about, format!("[module.{name}] cannot be a module's name"), "Take it out, or correct the name."),
            Some(Err(error)) => findings.bad(about, &error),
            Some(Ok(())) => {}
        }
    }
    for module in modules::names(Some(config)).into_iter().filter_map(|name| modules::client_module(Some(config), name)) {
        for found in module.programs(config) {
            match found {
                Ok(sentence) => findings.good(format!("module {}", module.name()), sentence),
                Err(error) => findings.bad(format!("module {}", module.name()), &error),
            }
        }
    }
}

/// Sends a test mail.
fn mails(config: &ClientConfig, findings: &mut Findings) {
    let Some(mail) = &config.mail else {
        findings.wrong("mail", "there is no [mail], so there is nowhere to send a mail to", "Write [mail] into the configuration.");
        return;
    };
    let here = config.name.as_ref().map_or("this machine", |name| name.as_str());
    // It waits nowhere: who asked wants to know whether it went.
    let sent = mail::send_test(mail, here).map_err(|error| error.with_kind(base::Kind::Failed));
    findings.add("mail", sent, format!("A mail was sent to {}.", mail.to.join(" and ")));
}

fn recipients(config: &ClientConfig, findings: &mut Findings) {
    if config.recipients.is_empty() {
        findings.wrong(
            "recipients",
            "recipients is empty: archives cannot be made, because nobody could read them",
            "Make an identity with age-keygen, keep it elsewhere, and put its age1… here.",
        );
        return;
    }
    let count = config.recipients.len();
    let who = if count == 1 { "One recipient can".to_owned() } else { format!("{count} recipients can") };
    findings.add("recipients", archive::epoch::check_recipients(&config.recipients), format!("{who} read the archives."));
}

/// Whether what waits for a node has room.
fn room(config: &ClientConfig, findings: &mut Findings) {
    let folder = [config.export_root(), config.state.clone()].into_iter().find(|folder| folder.is_dir());
    let Some((folder, disk)) = folder.and_then(|folder| rustix::fs::statvfs(&folder).ok().map(|disk| (folder, disk))) else {
        return findings.unseen("room", "The state folder is not there yet, so its room is not known.");
    };
    let (free, limit) = (ByteSize(disk.f_bavail.saturating_mul(disk.f_frsize)), config.spool.limit);
    let says = format!("{free} are free in {}; what waits for a node may take {limit}", folder.display());
    if free < Spool::LEAST {
        findings.not_yet("room", says, format!("Make room: packs need {} at least.", Spool::LEAST));
    } else if free < limit {
        findings.good("room", format!("{says}. When that is full, send waits until the node has fetched."));
    } else {
        findings.good("room", format!("{says}."));
    }
}

fn datasets(config: &ClientConfig, findings: &mut Findings) {
    let account = enrol::account();
    for entry in &config.datasets {
        let about = entry.address.to_string();
        let nodes: Vec<&str> = config.nodes_of(&entry.address).iter().map(|node| node.name.as_str()).collect();
        let nodes = if nodes.is_empty() { "no node yet".to_owned() } else { nodes.join(" and ") };
        let checked = match modules::client_module(Some(config), entry.address.module()) {
            Some(module) => module
                .check(config, &entry.address)
                .and_then(|()| module.reach(config, &entry.address))
                .map_err(|e| e.context(format!("{} cannot be backed up", entry.address))),
            None => Err(Error::usage(format!("{}: there is no module {:?}", entry.address, entry.address.module()))
                .hint(base::names::hint(entry.address.module(), modules::names(Some(config)).iter().copied()))),
        };
        match checked.map(|()| closed(Path::new(entry.address.path()))) {
            Err(error) => findings.bad(about, &error),
            Ok(true) => findings.not_yet(
                about,
                format!("{} cannot be read by {account}, as whom this runs", entry.address),
                format!("Run it as the account that runs nightsafe send ({}), or let {account} read it.", sender(config)),
            ),
            Ok(false) => findings.good(about, format!("{} goes to {nodes}; {account} can read it.", entry.address)),
        }
        if entry.sealed {
            findings.good(
                entry.address.to_string(),
                format!(
                    "{} is sealed. A mirror that a node made of it before stays there in the clear until its administrator removes it.",
                    entry.address
                ),
            );
        }
    }
    for allow in &config.allow {
        let about = format!("allow {}", allow.module);
        if modules::client_module(Some(config), &allow.module).is_some() {
            findings.good(about, format!("Users may ask for {} below {}.", allow.module, allow.under));
        } else {
            findings.wrong(
                about,
                format!("[[allow]] names the module {:?}, which this program does not have", allow.module),
                base::names::hint(&allow.module, modules::names(Some(config)).iter().copied()),
            );
        }
    }
}

/// Whether this account is kept from looking at the top of what lies at a path. What is no path is no matter of files.
fn closed(path: &Path) -> bool {
    let opened = if path.is_dir() { std::fs::read_dir(path).map(drop) } else { std::fs::File::open(path).map(drop) };
    path.is_absolute() && opened.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// Whose the sender's folder is.
fn sender(config: &ClientConfig) -> String {
    let uid = std::fs::metadata(config.pool_path().join("work")).map(|meta| meta.uid()).ok();
    let user = uid.and_then(uzers::get_user_by_uid);
    user.map_or_else(|| "mostly root".into(), |user| user.name().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::findings::State;

    #[test]
    fn what_is_wrong_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "version = 1\nname = \"web1\"\nstate = \"{}\"\n[[node]]\nname = \"n1\"\nssh = \"g@h\"\nhost_key = \"x\"\nreceipts_key = \"y\"\n[[allow]]\nmodule = \"cvs\"\nunder = \"/\"\n[module.svn]\n",
            dir.path().display()
        );
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        let mut findings = Findings::default();
        check(&config, &mut findings);
        let all: String = findings.all().iter().filter(|one| one.state != State::Ok).map(|one| format!("{one}\n")).collect();
        assert_eq!(findings.exit(), Exit::Usage);
        for word in
            ["recipients is empty", "host_key of the node n1", "receipts_key of the node n1", "\"cvs\"", "[module.svn]", "nightsafe init"]
        {
            assert!(all.contains(word), "{word} is missing in {all}");
        }
    }
}
