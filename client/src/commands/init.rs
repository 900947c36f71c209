//! `nightsafe init`: makes what a client needs, and leaves alone what is there.

use crate::{Globals, enrol, output, state};
use base::config::Reach;
use base::{At, Dataset, Error, Exit, Name, Result, atomic};
use queue::enrol::here;
use queue::pool::ClientPool;
use queue::signature::Signer;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The configuration that a new client begins with.
const TEMPLATE: &str = include_str!("../template.toml");

/// The group that may submit, where nobody says.
const GROUP: &str = "nightsafe-submit";

/// Make the folders, the ssh key, the chunk secret and, if there is none, a commented configuration.
///
/// What is there already stays as it is. At the end it prints one line for the node's administrator, who gives it to
/// nightsafe-server client add, and answers with a line for nightsafe node add.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// This machine's name, for a new configuration. Default: the host's name.
    #[arg(long)]
    name: Option<String>,
    /// The state folder, for a new configuration.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/nightsafe")]
    state: PathBuf,
    /// The group whose members may submit.
    #[arg(long, value_name = "GROUP", default_value = GROUP)]
    submit_group: String,
    /// Who can read the archives, for a new configuration: an age recipient (age1…) or an ssh public key. May be given several
    /// times.
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Vec<String>,
    /// What is backed up, for a new configuration: MODULE:PATH. May be given several times.
    #[arg(long, value_name = "DATASET")]
    back_up: Vec<Dataset>,
    /// Make a key with which this machine may restore what it sent itself, if the node's administrator lets it.
    #[arg(long)]
    restore: bool,
    #[command(flatten)]
    reached: enrol::Reached,
}

impl Init {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        if !globals.config.exists() {
            self.write_config(&globals.config)?;
        } else if !self.recipient.is_empty() || !self.back_up.is_empty() {
            return Err(Error::usage(format!("{} is there already, and init changes nothing in it", globals.config.display()))
                .hint("Write recipients and [[dataset]] into it, then run init without --recipient and --back-up for the line."));
        }
        let config = super::load(globals)?;
        let name = config.client_name()?;
        state::make_folders(&config)?;
        let pool = ClientPool::create(&config.pool_path())?;
        self.give_to_group(pool.inbox())?;
        let public = key(&config.key_path(), name)?;
        archive::epoch::Secrets::load_or_create(&config.state.join("secret"))?;
        let restore = enrol::restore_key_path(&config);
        let restore = (self.restore || restore.exists()).then(|| key(&restore, name)).transpose()?;
        let plain = |line: String| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let (line, text) = enrol::print(&config, &plain(public), restore.map(plain).as_deref(), &self.reached)?;
        output::line(format_args!("{name} is ready, with its state in {}.", config.state.display()));
        match &line.address {
            Some(address) => output::line(format_args!("A node reaches it at {address}; say with --address if that is wrong.")),
            None if line.reach == Reach::Dial => {
                output::line("It dials its nodes; say with --address where they reach it if that is wrong.")
            }
            None => output::line("This machine has no host key in /etc/ssh, so no node can log in to it: say with --host-key which it is."),
        }
        if enrol::is_stale(&line, &self.reached, &here::host_keys()) {
            output::note(
                "nightsafe: this line has the host key that was said before, and none of those in /etc/ssh is that one; nodes would refuse this machine. Say with --host-key FILE which it is now, unless another sshd answers here.",
            );
        }
        if config.nodes.is_empty() {
            output::line(
                "The node's administrator needs this line, for nightsafe-server client add, and answers with one for nightsafe node add:",
            );
        } else {
            output::line("For another node, its administrator needs this line:");
        }
        output::line("");
        output::line(text);
        Ok(Exit::Done)
    }

    fn write_config(&self, path: &Path) -> Result<()> {
        let name = match &self.name {
            Some(name) => Name::new(name.clone())?,
            None => host_name()?,
        };
        let state = std::path::absolute(&self.state).at("use the folder", &self.state)?;
        let state = state.to_str().filter(|text| !text.contains(['"', '\\']) && !text.chars().any(char::is_control));
        let state = state.ok_or_else(|| Error::usage(format!("{} cannot be a state folder", self.state.display())))?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            atomic::make_folder(folder, 0o755)?;
        }
        if !self.recipient.is_empty() {
            archive::epoch::check_recipients(&self.recipient)?;
        }
        let text = TEMPLATE
            .replace("@NAME@", name.as_str())
            .replace("@STATE@", state)
            .replace("@RECIPIENTS@", &toml::Value::from(self.recipient.clone()).to_string())
            .replace("@DATASETS@", &self.datasets());
        atomic::write_new(path, text.as_bytes(), 0o644)?;
        output::line(format_args!("Wrote {}; look at it before the first backup.", path.display()));
        Ok(())
    }

    /// The datasets, or an example of them.
    fn datasets(&self) -> String {
        if self.back_up.is_empty() {
            return "#[[dataset]]\n#address = \"files:/var/www\"\n#[[dataset]]\n#address = \"postgres:shop\"\n".into();
        }
        let entry = |dataset: &Dataset| format!("[[dataset]]\naddress = {}\n", toml::Value::from(dataset.to_string()));
        self.back_up.iter().map(entry).collect()
    }

    /// Lets the group put requests into the inbox.
    fn give_to_group(&self, inbox: &Path) -> Result<()> {
        let Some(group) = uzers::get_group_by_name(&self.submit_group) else {
            if self.submit_group != GROUP {
                return Err(Error::usage(format!("there is no group {}", self.submit_group)));
            }
            output::note(format_args!(
                "nightsafe: there is no group {GROUP}, so only this account can submit; make it and run init again to let others"
            ));
            return Ok(());
        };
        let mode = std::fs::Permissions::from_mode(0o1770);
        std::os::unix::fs::chown(inbox, None, Some(group.gid())).at("give to the group", inbox)?;
        std::fs::set_permissions(inbox, mode).at("set the mode of", inbox)
    }
}

/// The public line of the key at `path`; both are made when there is none.
fn key(path: &Path, name: &Name) -> Result<String> {
    if !path.exists() {
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|e| Error::failed(format!("no random bytes from the system: {e}")))?;
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        let failed = |e: ssh_key::Error| Error::failed("could not make an ssh key").because(e);
        let key = PrivateKey::new(pair, name.as_str()).map_err(failed)?;
        let text = key.to_openssh(LineEnding::LF).map_err(failed)?;
        atomic::write_new(path, text.as_bytes(), 0o600)?;
    }
    let public = Signer::from_file(path)?.public().clone();
    let line = format!("{} {name}", crate::trust::key_text(&public)?);
    let beside = path.with_extension("pub");
    if !beside.exists() {
        atomic::write_new(&beside, format!("{line}\n").as_bytes(), 0o644)?;
    }
    Ok(line)
}

/// The host's name up to the first dot, as far as it can be a client's.
fn host_name() -> Result<Name> {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy().to_ascii_lowercase();
    let first = host.split('.').next().unwrap_or_default().replace('_', "-");
    Name::new(first).map_err(|e| e.context("the host's name cannot be the client's").hint("Say with --name what it is to be called."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::config::ClientConfig;

    const HOST: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_new_client_is_made_once_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (config, state) = (dir.path().join("etc/client.toml"), dir.path().join("state"));
        let globals = Globals { config: config.clone(), verbose: 0 };
        let init = || Init {
            name: Some("web1".into()),
            state: state.clone(),
            submit_group: GROUP.into(),
            recipient: Vec::new(),
            back_up: vec!["files:/var/www".parse().unwrap()],
            restore: true,
            reached: enrol::Reached { host_key: Some(HOST.into()), ..enrol::Reached::default() },
        };
        init().run(&globals).unwrap();
        let key = std::fs::read(state.join("id_ed25519")).unwrap();
        let mode = |name: &str| std::fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode("id_ed25519"), mode("pool/inbox"), mode("pool/work"), mode("secret"), mode("outcomes")),
            (0o600, 0o1770, 0o700, 0o700, 0o755)
        );
        assert!(init().run(&globals).unwrap_err().render().contains("is there already"));
        let again = Init { back_up: Vec::new(), ..init() };
        again.run(&globals).unwrap();
        assert_eq!(std::fs::read(state.join("id_ed25519")).unwrap(), key);
        let loaded = ClientConfig::load(&config).unwrap();
        assert_eq!(loaded.name.as_ref().unwrap().as_str(), "web1");
        let line = enrol::printed(&loaded).unwrap().unwrap();
        assert_eq!((line.wants[0].as_str(), line.host_key.as_deref()), ("files:/var/www", Some(HOST)));
        assert!(line.restore_key.is_some_and(|restore| restore != line.key));
        let public = std::fs::read_to_string(state.join("id_ed25519.pub")).unwrap();
        assert!(queue::signature::parse_public_key(&public).is_ok());
    }
}
