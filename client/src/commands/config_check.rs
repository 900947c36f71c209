//! `nightsafe config check`: says in sentences what a configuration does and what is wrong with it.

use crate::{Globals, output, trust};
use base::config::ClientConfig;
use base::{Exit, Kind, Result};
use queue::pool::ClientPool;
use queue::signature::{Signer, parse_public_key};

/// What the configuration says.
#[derive(Debug, clap::Args)]
pub struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Read the configuration and say in sentences what it does and what is wrong with it.
    Check {
        /// Send a mail to the addresses in [mail], to see whether it arrives.
        #[arg(long)]
        mail: bool,
    },
}

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    good: Vec<String>,
    wrong: Vec<String>,
}

impl Findings {
    /// Takes in a check: its sentence when it went well, else the error with its hint.
    fn add(&mut self, result: Result<()>, good: impl Into<String>) {
        match result {
            Ok(()) => self.good.push(good.into()),
            Err(error) => self.wrong.push(error.render()),
        }
    }
}

impl Config {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        let ConfigCommand::Check { mail } = self.command;
        let config = super::load(globals)?;
        let mut findings = check(&config);
        if mail {
            mails(&config, &mut findings);
        }
        output::line(format_args!("{} can be read.", globals.config.display()));
        for line in &findings.good {
            output::line(line);
        }
        for line in &findings.wrong {
            output::note(format_args!("WRONG: {line}"));
        }
        Ok(if findings.wrong.is_empty() { Exit::Done } else { Kind::Usage.into() })
    }
}

fn check(config: &ClientConfig) -> Findings {
    let mut findings = Findings::default();
    match &config.name {
        None => findings.good.push("It has no name, so this machine restores and sends no backups.".into()),
        Some(name) => {
            findings.good.push(format!("This machine is {name}; its state is in {}.", config.state.display()));
            findings.add(ClientPool::open(&config.pool_path()).map(|_| ()), "The pool is there.");
            findings.add(
                Signer::from_file(&config.key_path()).map(|_| ()).map_err(|e| e.hint("nightsafe init makes it.")),
                format!("The key is {}.", config.key_path().display()),
            );
            recipients(config, &mut findings);
        }
    }
    for node in &config.nodes {
        let host =
            parse_public_key(&node.host_key).map(|_| ()).map_err(|e| e.context(format!("host_key of the node {} is wrong", node.name)));
        findings.add(host, format!("The node {} is reached as {}.", node.name, node.ssh));
        match trust::receipts_key(config, node) {
            Ok(key) => findings.good.push(format!("Receipts of {} are believed when {} signs them.", node.name, trust::fingerprint(&key))),
            Err(error) => findings.wrong.push(error.render()),
        }
    }
    if config.nodes.is_empty() {
        findings.wrong.push("there is no [[node]], so there is nowhere to send backups to or to restore from".into());
    }
    if let Some(mail) = &config.mail {
        findings.add(mail::check(mail), format!("Mails go to {}.", mail.to.join(" and ")));
    }
    datasets(config, &mut findings);
    for name in config.module.keys() {
        match modules::client_module(Some(config), name).map(|module| module.settings(config)) {
            None => findings.wrong.push(format!("[module.{name}] cannot be a module's name")),
            Some(Err(error)) => findings.wrong.push(error.render()),
            Some(Ok(())) => {}
        }
    }
    for module in modules::names(Some(config)).into_iter().filter_map(|name| modules::client_module(Some(config), name)) {
        for found in module.programs(config) {
            match found {
                Ok(sentence) => findings.good.push(sentence),
                Err(error) => findings.wrong.push(error.render()),
            }
        }
    }
    findings
}

/// Sends a test mail.
fn mails(config: &ClientConfig, findings: &mut Findings) {
    let Some(mail) = &config.mail else {
        findings.wrong.push("there is no [mail], so there is nowhere to send a mail to".into());
        return;
    };
    let here = config.name.as_ref().map_or("this machine", |name| name.as_str());
    findings.add(mail::send_test(mail, here), format!("A mail was sent to {}.", mail.to.join(" and ")));
}

fn recipients(config: &ClientConfig, findings: &mut Findings) {
    if config.recipients.is_empty() {
        findings.wrong.push("recipients is empty: archives cannot be made, because nobody could read them\n  Make an identity with age-keygen, keep it elsewhere, and put its age1… here.".into());
        return;
    }
    let count = config.recipients.len();
    let who = if count == 1 { "One recipient can".to_owned() } else { format!("{count} recipients can") };
    findings.add(archive::epoch::check_recipients(&config.recipients), format!("{who} read the archives."));
}

fn datasets(config: &ClientConfig, findings: &mut Findings) {
    for entry in &config.datasets {
        let nodes: Vec<&str> = config.nodes_of(&entry.address).iter().map(|node| node.name.as_str()).collect();
        let checked = match modules::client_module(Some(config), entry.address.module()) {
            Some(module) => module
                .check(config, &entry.address)
                .and_then(|()| module.reach(config, &entry.address))
                .map_err(|e| e.context(format!("{} cannot be backed up", entry.address))),
            None => Err(base::Error::usage(format!("{}: there is no module {:?}", entry.address, entry.address.module()))
                .hint(base::names::hint(entry.address.module(), modules::names(Some(config)).iter().copied()))),
        };
        findings.add(checked, format!("{} goes to {}.", entry.address, nodes.join(" and ")));
        if entry.sealed {
            findings.good.push(format!(
                "{} is sealed. A mirror that a node made of it before stays there in the clear until its administrator removes it.",
                entry.address
            ));
        }
    }
    for allow in &config.allow {
        if modules::client_module(Some(config), &allow.module).is_some() {
            findings.good.push(format!("Users may ask for {} below {}.", allow.module, allow.under));
        } else {
            findings.wrong.push(format!("[[allow]] names the module {:?}, which this program does not have", allow.module));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "version = 1\nname = \"web1\"\nstate = \"{}\"\n[[node]]\nname = \"n1\"\nssh = \"g@h\"\nhost_key = \"x\"\nreceipts_key = \"y\"\n[[allow]]\nmodule = \"cvs\"\nunder = \"/\"\n[module.svn]\n",
            dir.path().display()
        );
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        let all = check(&config).wrong.join("\n");
        for word in
            ["recipients is empty", "host_key of the node n1", "receipts_key of the node n1", "\"cvs\"", "[module.svn]", "nightsafe init"]
        {
            assert!(all.contains(word), "{word} is missing in {all}");
        }
    }
}
