//! `nightsafe init`: makes what a client needs, and leaves alone what is there.

use crate::{Globals, output, state};
use base::config::ClientConfig;
use base::{At, Error, Exit, Name, Result, atomic};
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
/// What is there already stays as it is. At the end it prints the line that the node's administrator needs.
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
}

impl Init {
    pub fn run(self, globals: &Globals) -> Result<Exit> {
        if !globals.config.exists() {
            self.write_config(&globals.config)?;
        }
        let config = super::load(globals)?;
        let name = config.client_name()?;
        state::make_folders(&config)?;
        let pool = ClientPool::create(&config.pool_path())?;
        self.give_to_group(pool.inbox())?;
        let public = key(&config, name)?;
        archive::epoch::Secrets::load_or_create(&config.state.join("secret"))?;
        output::line(format_args!("{name} is ready, with its state in {}.", config.state.display()));
        output::line("The node's administrator needs this line, in a file:");
        output::line(format_args!("  {public}"));
        output::line("and runs there:");
        output::line(format_args!("  nightsafe-server client add {name} --key FILE --address USER@THIS-HOST --allow MODULE:PATH"));
        if config.nodes.is_empty() {
            output::line(format_args!("Then write the node's three values into {}.", globals.config.display()));
        }
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
        let text = TEMPLATE.replace("@NAME@", name.as_str()).replace("@STATE@", state);
        atomic::write_new(path, text.as_bytes(), 0o644)?;
        output::line(format_args!("Wrote {}; look at it before the first backup.", path.display()));
        Ok(())
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

/// The key's public line; both are made when there is none.
fn key(config: &ClientConfig, name: &Name) -> Result<String> {
    let path = config.key_path();
    if !path.exists() {
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|e| Error::failed(format!("no random bytes from the system: {e}")))?;
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        let failed = |e: ssh_key::Error| Error::failed("could not make an ssh key").because(e);
        let key = PrivateKey::new(pair, name.as_str()).map_err(failed)?;
        let text = key.to_openssh(LineEnding::LF).map_err(failed)?;
        atomic::write_new(&path, text.as_bytes(), 0o600)?;
    }
    let public = Signer::from_file(&path)?.public().clone();
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

    #[test]
    fn a_new_client_is_made_once_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (config, state) = (dir.path().join("etc/client.toml"), dir.path().join("state"));
        let globals = Globals { config: config.clone(), verbose: 0 };
        let init = || Init { name: Some("web1".into()), state: state.clone(), submit_group: GROUP.into() };
        init().run(&globals).unwrap();
        let key = std::fs::read(state.join("id_ed25519")).unwrap();
        let mode = |name: &str| std::fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode("id_ed25519"), mode("pool/inbox"), mode("pool/work"), mode("secret"), mode("outcomes")),
            (0o600, 0o1770, 0o700, 0o700, 0o755)
        );
        init().run(&globals).unwrap();
        assert_eq!(std::fs::read(state.join("id_ed25519")).unwrap(), key);
        let loaded = ClientConfig::load(&config).unwrap();
        assert_eq!(loaded.name.unwrap().as_str(), "web1");
        let public = std::fs::read_to_string(state.join("id_ed25519.pub")).unwrap();
        assert!(queue::signature::parse_public_key(&public).is_ok());
    }
}
