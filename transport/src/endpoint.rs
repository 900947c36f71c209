//! What must be known to reach a peer, and the options of ssh that follow from it.
//!
//! Starts nothing; every value comes from a configuration, never from a request.

use base::config::SshAddress;
use base::{At, Blake3, Error, Result, atomic};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The longest path of a control socket: ssh adds 17 bytes while it makes one, and a socket's path has at most 107.
const SOCKET_LIMIT: usize = 90;

/// How a peer is reached.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// What we call the peer; its host key is pinned under `nightsafe-<alias>`.
    pub alias: String,
    /// Account, host and port.
    pub address: SshAddress,
    /// The peer's host key, `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// The private key to log in with.
    pub key: PathBuf,
    /// The folder for control sockets and pinned keys; made with mode 0700.
    pub runtime: PathBuf,
}

/// The arguments of ssh up to the host, for one endpoint.
#[derive(Debug)]
pub(crate) struct SshArguments {
    /// Options, and `--` and the host at the end.
    pub words: Vec<String>,
    /// Where ssh listens that holds the connection.
    pub socket: PathBuf,
}

impl Endpoint {
    /// Checks the endpoint, writes its pinned key, and gives the arguments that hold for every ssh to it.
    pub(crate) fn prepare(&self) -> Result<SshArguments> {
        let alias = self.host_alias()?;
        let pinned = pinned_key(&self.host_key).map_err(|error| error.context(format!("the host key of {} is not usable", self.alias)))?;
        own_folder(&self.runtime)?;
        // The same peer with another key, account or host key is another connection.
        let identity = format!("{}\n{}\n{pinned}\n{}", self.alias, self.address, self.key.display());
        let tag = Blake3::of(identity.as_bytes()).hex()[..16].to_owned();
        let socket = self.runtime.join(&tag);
        if socket.as_os_str().len() >= SOCKET_LIMIT {
            return Err(Error::usage(format!(
                "the path of the control socket is too long ({} bytes): {}",
                socket.as_os_str().len(),
                socket.display()
            ))
            .hint(format!(
                "Set runtime = \"…\" in the configuration to a folder whose path has at most {} bytes, as /run/nightsafe.",
                SOCKET_LIMIT - 18
            )));
        }
        let known_hosts = self.runtime.join(format!("{tag}.pin"));
        let line = format!("{alias} {pinned}\n");
        if std::fs::read(&known_hosts).ok().as_deref() != Some(line.as_bytes()) {
            atomic::write(&known_hosts, line.as_bytes(), 0o600)?;
        }
        Ok(SshArguments { words: self.words(&alias, &known_hosts, &socket)?, socket })
    }

    fn words(&self, alias: &str, known_hosts: &Path, socket: &Path) -> Result<Vec<String>> {
        let options = [
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".into(),
            format!("IdentityFile={}", option_path(&self.key)?),
            format!("UserKnownHostsFile={}", option_path(known_hosts)?),
            "GlobalKnownHostsFile=/dev/null".into(),
            format!("HostKeyAlias={alias}"),
            "StrictHostKeyChecking=yes".into(),
            "UpdateHostKeys=no".into(),
            "VerifyHostKeyDNS=no".into(),
            "ControlMaster=auto".into(),
            format!("ControlPath={}", option_path(socket)?),
            "ControlPersist=60".into(),
            "ConnectTimeout=20".into(),
            "ServerAliveInterval=15".into(),
            "ServerAliveCountMax=4".into(),
            "ForwardAgent=no".into(),
            "ForwardX11=no".into(),
            "ClearAllForwardings=yes".into(),
            "PermitLocalCommand=no".into(),
            "RequestTTY=no".into(),
            "EscapeChar=none".into(),
            "LogLevel=ERROR".into(),
            // The connection's first ssh decides what later ones may send, and git's fetch needs its protocol version.
            // The environment of other commands does not have it.
            "SendEnv=GIT_PROTOCOL".into(),
        ];
        let mut words: Vec<String> = options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect();
        if let Some(port) = self.address.port {
            words.extend(["-p".into(), port.to_string()]);
        }
        words.extend(["-l".into(), self.address.user.clone(), "--".into(), self.address.host.clone()]);
        Ok(words)
    }

    fn host_alias(&self) -> Result<String> {
        let good = !self.alias.is_empty()
            && self.alias.len() <= 128
            && self.alias.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if good { Ok(format!("nightsafe-{}", self.alias)) } else { Err(Error::usage(format!("{:?} cannot be a peer's name", self.alias))) }
    }
}

/// The type and the base64 of a public key, without its comment.
fn pinned_key(text: &str) -> Result<String> {
    let text = text.trim();
    let mut words = text.split_ascii_whitespace();
    let (Some(kind), Some(key)) = (words.next(), words.next()) else {
        return Err(wrong_key(text));
    };
    let plain = |word: &str, more: &[u8]| word.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b));
    // A marker (`@revoked`) or a pattern would change what the line in known_hosts means.
    let good = (kind.starts_with("ssh-") || kind.starts_with("ecdsa-sha2-") || kind.starts_with("sk-"))
        && plain(kind, b"-@.")
        && plain(key, b"+/=");
    if !good || text.contains(['\n', '\r']) || key.len() < 32 {
        return Err(wrong_key(text));
    }
    Ok(format!("{kind} {key}"))
}

fn wrong_key(text: &str) -> Error {
    Error::usage(format!("{:?} is no public key", text.chars().take(60).collect::<String>()))
        .hint("Write the whole key, as in ssh-ed25519 AAAA…; a SHA256: fingerprint is not enough.")
}

/// A path as the value of an option: ssh splits at spaces, and replaces `%x` and `${NAME}`.
fn option_path(path: &Path) -> Result<String> {
    let text = path.to_str().filter(|text| !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\' | '$' | '~')));
    let text = text.ok_or_else(|| {
        Error::usage(format!("{} cannot be given to ssh", path.display()))
            .hint("Use a path without quotes, backslashes, '$', '~' and control characters.")
    })?;
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

/// Makes the folder, and refuses one in which somebody else could put a socket.
fn own_folder(path: &Path) -> Result<()> {
    if !path.is_absolute() {
        return Err(Error::usage(format!("the folder for control sockets must be an absolute path, not {}", path.display())));
    }
    atomic::make_folder(path, 0o700)?;
    let meta = std::fs::symlink_metadata(path).at("stat", path)?;
    if !meta.is_dir() || meta.uid() != rustix::process::getuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(Error::refused(format!("{} is not a folder that only this user can write", path.display()))
            .hint("Control sockets stand there: remove it, or set runtime = \"…\" in the configuration."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ comment";

    fn endpoint(runtime: &Path) -> Endpoint {
        Endpoint {
            alias: "node1".into(),
            address: "gate@host:2222".parse().unwrap(),
            host_key: KEY.into(),
            key: "/k e%y".into(),
            runtime: runtime.into(),
        }
    }

    #[test]
    fn the_pinned_key_is_all_that_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().join("run");
        let words = endpoint(&runtime).prepare().unwrap().words;
        for expected in [
            "StrictHostKeyChecking=yes",
            "HostKeyAlias=nightsafe-node1",
            "IdentityFile=\"/k e%%y\"",
            "GlobalKnownHostsFile=/dev/null",
            "BatchMode=yes",
        ] {
            assert!(words.iter().any(|word| word == expected), "{expected} {words:?}");
        }
        assert_eq!(&words[words.len() - 6..], ["-p", "2222", "-l", "gate", "--", "host"]);
        let pin = std::fs::read_dir(&runtime).unwrap().next().unwrap().unwrap().path();
        assert_eq!(std::fs::read_to_string(pin).unwrap(), format!("nightsafe-node1 {}\n", KEY.strip_suffix(" comment").unwrap()));
        assert_eq!(std::fs::metadata(&runtime).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn bad_keys_names_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        let good = endpoint(&dir.path().join("run"));
        for bad in [
            "",
            "ssh-ed25519",
            "SHA256:abc def",
            "@revoked * ssh-ed25519",
            "ssh-ed25519 AAAA",
            &format!("{KEY}\n* {KEY}"),
            "ssh-ed25519 AAAA,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(Endpoint { host_key: bad.into(), ..good.clone() }.prepare().is_err(), "{bad:?}");
        }
        for bad in ["", "a b", "a\n", "*", "a,b", "!a"] {
            assert!(Endpoint { alias: bad.into(), ..good.clone() }.prepare().is_err(), "{bad:?}");
        }
        for bad in ["/a\"b", "/a$b", "/a\nb", "~/a"] {
            assert!(Endpoint { key: bad.into(), ..good.clone() }.prepare().is_err(), "{bad:?}");
        }
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Endpoint { runtime: open, ..good.clone() }.prepare().is_err());
        let long = Endpoint { runtime: dir.path().join("x".repeat(90)), ..good }.prepare().unwrap_err();
        assert!(long.render().contains("runtime ="), "{}", long.render());
    }
}
