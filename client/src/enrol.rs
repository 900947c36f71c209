//! What this machine says of itself to a node's administrator: its line, made of keys, configuration and what init was told.
//!
//! Asks nobody and sends nothing; a person carries the line.

use base::config::{ClientConfig, Reach, SshAddress};
use base::{DatasetPattern, Error, Result, atomic, untrusted};
use queue::enrol::{ClientLine, LINE_LIMIT, here};
use std::path::PathBuf;

/// What a person says where the machine cannot know it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Reached {
    /// How nodes reach this machine, USER@HOST or USER@HOST:PORT. Default: this account at this machine's name.
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<SshAddress>,
    /// The account that serves git repositories, where it is another one.
    #[arg(long, value_name = "ADDRESS")]
    pub git_address: Option<SshAddress>,
    /// This machine's host key, as text or as a file. Default: the one in /etc/ssh.
    #[arg(long, value_name = "KEY")]
    pub host_key: Option<String>,
    /// This machine dials its nodes, which cannot reach it: a laptop, or a machine behind a router that hides it (docs/dial.md).
    #[arg(long, conflicts_with_all = ["address", "git_address", "host_key"])]
    pub dial: bool,
}

/// Where the line that was printed last is kept: a node's answer must fit it.
fn line_path(config: &ClientConfig) -> PathBuf {
    config.state.join("line")
}

/// The key that restores what this machine sent, where it has one.
pub fn restore_key_path(config: &ClientConfig) -> PathBuf {
    config.state.join("restore_ed25519")
}

/// The line that was printed last, if there is one.
///
/// # Errors
/// With the path, when it is there and cannot be read.
pub fn printed(config: &ClientConfig) -> Result<Option<ClientLine>> {
    let path = line_path(config);
    if !path.exists() {
        return Ok(None);
    }
    let file = untrusted::read(&path, LINE_LIMIT)?;
    let line = ClientLine::parse(&String::from_utf8_lossy(&file.bytes));
    line.map(Some).map_err(|error| error.context(format!("{} is damaged", path.display())).hint("Remove it and run nightsafe init again."))
}

/// Makes the line anew and keeps it. What is not said now is as it was said before.
///
/// # Errors
/// Of kind usage when something cannot stand in a line; with the path.
pub fn print(config: &ClientConfig, key: &str, restore_key: Option<&str>, reached: &Reached) -> Result<(ClientLine, String)> {
    let before = printed(config)?;
    let before = before.as_ref();
    let mut line = ClientLine::new(config.client_name()?.clone(), key)?;
    line.restore_key = restore_key.map(str::to_owned);
    line.wants = wants(config);
    // Where it is reached after all, it does not dial any more.
    let given = reached.address.is_some() || reached.git_address.is_some() || reached.host_key.is_some();
    if reached.dial || !given && before.is_some_and(|line| line.reach == Reach::Dial) {
        line.reach = Reach::Dial;
        return keep(config, line);
    }
    line.host_key = match (&reached.host_key, before.and_then(|line| line.host_key.clone())) {
        (None, Some(known)) => Some(known),
        (given, _) => here::host_key(given.as_deref())?,
    };
    // Nobody logs in to a machine whose host key is not known.
    if line.host_key.is_some() {
        let known = before.and_then(|line| line.address.clone());
        line.address = Some(match reached.address.clone().or(known) {
            Some(address) => address,
            None => here::address(&account())?,
        });
        line.git_address = reached.git_address.clone().or_else(|| before.and_then(|line| line.git_address.clone()));
    } else if reached.address.is_some() || reached.git_address.is_some() {
        return Err(
            Error::usage("an address was given, and this machine has no host key in /etc/ssh").hint("Give it with --host-key FILE.")
        );
    }
    keep(config, line)
}

fn keep(config: &ClientConfig, line: ClientLine) -> Result<(ClientLine, String)> {
    let text = line.to_line()?;
    atomic::write(&line_path(config), format!("{text}\n").as_bytes(), 0o644)?;
    Ok((line, text))
}

/// Whether the host key in the line is none of sshd's `own`: it was said before, and sshd may have been set up anew since then. What
/// is said with this line is meant.
pub fn is_stale(line: &ClientLine, reached: &Reached, own: &[String]) -> bool {
    reached.host_key.is_none() && !own.is_empty() && line.host_key.as_ref().is_some_and(|key| !own.contains(key))
}

/// The account that this runs as.
pub fn account() -> String {
    let uid = rustix::process::geteuid().as_raw();
    uzers::get_user_by_uid(uid).map_or_else(|| uid.to_string(), |user| user.name().to_string_lossy().into_owned())
}

/// What the configuration would have backed up, as patterns of the node's list. What no pattern can name is left out.
fn wants(config: &ClientConfig) -> Vec<DatasetPattern> {
    let listed = config.datasets.iter().map(|entry| entry.address.to_string());
    let below = config.allow.iter().map(|allow| match allow.under.trim_end_matches('/') {
        "*" => format!("{}:*", allow.module),
        under => format!("{}:{under}/**", allow.module),
    });
    let mut wants: Vec<DatasetPattern> = Vec::new();
    for pattern in listed.chain(below).filter_map(|text| DatasetPattern::new(text).ok()) {
        if !wants.contains(&pattern) {
            wants.push(pattern);
        }
    }
    wants
}

/// The gate's program: beside this one, else on the search path.
///
/// # Errors
/// When there is none.
pub fn gate_program() -> Result<PathBuf> {
    const GATE: &str = "nightsafe-gate";
    base::process::beside(GATE).ok_or_else(|| {
        Error::failed(format!("the program {GATE} is neither beside nightsafe nor on the search path"))
            .hint("Install all three programs in the same folder: it is all that a node can run here.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn config(dir: &std::path::Path, more: &str) -> ClientConfig {
        let text = format!("version = 1\nname = \"web1\"\nstate = \"{}\"\n{more}", dir.display());
        base::config::parse("c", text.as_bytes()).unwrap()
    }

    #[test]
    fn what_was_said_once_stays_said() {
        let dir = tempfile::tempdir().unwrap();
        let more = "[[dataset]]\naddress = \"files:/var/www\"\n[[dataset]]\naddress = \"postgres:*\"\n[[allow]]\nmodule = \"git\"\nunder = \"/srv/git\"\n[[allow]]\nmodule = \"files\"\nunder = \"/\"\n[[allow]]\nmodule = \"postgres\"\nunder = \"*\"\n";
        let config = config(dir.path(), more);
        let host = KEY.replace("IJdD", "IJdE");
        let said =
            Reached { address: Some("backup@web1.example.org:2222".parse().unwrap()), host_key: Some(host.clone()), ..Reached::default() };
        let (line, text) = print(&config, KEY, None, &said).unwrap();
        assert_eq!(
            line.wants.iter().map(DatasetPattern::as_str).collect::<Vec<_>>(),
            ["files:/var/www", "postgres:*", "git:/srv/git/**", "files:/**"]
        );
        assert_eq!(printed(&config).unwrap().unwrap(), ClientLine::parse(&text).unwrap());
        assert_eq!(print(&config, KEY, None, &Reached::default()).unwrap(), (line, text));
        let moved = Reached { address: Some("root@web1".parse().unwrap()), ..Reached::default() };
        let (line, _) = print(&config, KEY, None, &moved).unwrap();
        assert_eq!((line.address.unwrap().to_string(), line.host_key), ("root@web1".into(), Some(host)));
        // Its own keys are others now: whoever says nothing is told.
        let line = printed(&config).unwrap().unwrap();
        assert!(is_stale(&line, &moved, &[KEY.into()]) && !is_stale(&line, &moved, &[KEY.into(), line.host_key.clone().unwrap()]));
        assert!(!is_stale(&line, &said, &[KEY.into()]) && !is_stale(&line, &moved, &[]));
        // From now on it dials, until it is said where it is reached.
        let (line, _) = print(&config, KEY, None, &Reached { dial: true, ..Reached::default() }).unwrap();
        assert!(line.reach == Reach::Dial && line.address.is_none() && line.host_key.is_none() && line.wants.len() == 4);
        assert_eq!(print(&config, KEY, None, &Reached::default()).unwrap().0, line);
        let (line, _) = print(&config, KEY, None, &said).unwrap();
        assert_eq!((line.reach, line.address), (Reach::Ssh, said.address));
        std::fs::write(line_path(&config), "nightsafe-client.x.y").unwrap();
        assert!(print(&config, KEY, None, &moved).unwrap_err().render().contains("Remove it"));
    }
}
