//! What a key may run at the gate: a pure function of who it belongs to, what was granted, and the command's text.
//!
//! Opens nothing and runs nothing; the gate carries out what is decided here, and nothing else.

use crate::access::{ClientGrant, RestorerGrant};
use base::config::{ClientConfig, Reach};
use base::{Dataset, Name};

/// The longest command that is looked at.
const COMMAND_LIMIT: usize = 4096;

/// Whose key it is, as the forced command says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A client at its node.
    Client(Name),
    /// An administrator at the node.
    Admin(Name),
    /// Somebody who may read at the node.
    Restorer(Name),
    /// A node at its client.
    Export(Name),
}

impl Role {
    /// The word that the forced command uses.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Client(_) => "client",
            Self::Admin(_) => "admin",
            Self::Restorer(_) => "restorer",
            Self::Export(_) => "export",
        }
    }

    /// The name behind the word.
    pub fn name(&self) -> &Name {
        let (Self::Client(name) | Self::Admin(name) | Self::Restorer(name) | Self::Export(name)) = self;
        name
    }
}

/// What the present access list, or the client's configuration, says about a role.
#[derive(Debug, Clone, Copy)]
pub enum Grant<'a> {
    /// It is not there, or not any more.
    Absent,
    /// A client's entry.
    Client(&'a ClientGrant),
    /// An administrator's entry.
    Admin,
    /// A restorer's entry.
    Restorer(&'a RestorerGrant),
    /// A client's own configuration, for its nodes.
    Export(&'a ClientConfig),
}

/// Everything that the gate can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Take a push into the client's queue.
    ReceivePackQueue,
    /// Serve the client's queue.
    UploadPackQueue,
    /// Serve the client's receipts.
    UploadPackReceipts,
    /// Wait until the client's receipts are at another commit than this one.
    ReceiptsWait(String),
    /// Join this session to the poller, which sends a command to the client over it.
    Dial,
    /// Take a push of the access list.
    ReceivePackAdmin,
    /// Serve the access list.
    UploadPackAdmin,
    /// List the snapshots that a restorer may read.
    List,
    /// Serve files: the export folder for a node, packs and snapshots for a restorer.
    Sftp,
    /// Serve a mirror, if its dataset is granted.
    UploadPackMirror {
        /// Whose.
        client: Name,
        /// The mirror's name, 32 hex digits.
        hex: String,
    },
    /// Serve the node's copy of a client's queue.
    UploadPackLog(Name),
    /// Serve a client's receipts to a restorer.
    UploadPackReceiptsOf(Name),
    /// Serve a repository of the client's to a node.
    UploadPackPath(Dataset),
    /// Say who is there.
    Ping,
    /// Say what time it is here, and what of the visitor's would be taken.
    Look,
}

/// What is to be done with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Do this.
    Run(Verb),
    /// Do nothing, and say why.
    Refuse(String),
}

/// Decides what a key may run. `command` is `SSH_ORIGINAL_COMMAND`, if there is one.
pub fn verdict(role: &Role, grant: &Grant<'_>, command: Option<&str>) -> Verdict {
    let Some(command) = command else {
        return Verdict::Refuse("this key opens no shell; nightsafe uses it".into());
    };
    if command.len() > COMMAND_LIMIT || command.chars().any(char::is_control) {
        return Verdict::Refuse("the command is too long or holds control characters".into());
    }
    let asked = match (role, grant) {
        (Role::Client(name), Grant::Client(grant)) if grant.paused => {
            return Verdict::Refuse(format!("{name} is paused by the node's administrator; requests wait until it goes on"));
        }
        (Role::Client(name), Grant::Client(grant)) if command == "dial" && grant.reach != Reach::Dial => {
            return Verdict::Refuse(format!(
                "the access list says that this node logs in to {name}; with reach = \"dial\" in it {name} may dial in"
            ));
        }
        (Role::Client(_), Grant::Client(_)) => for_client(command),
        (Role::Admin(_), Grant::Admin) => for_admin(command),
        (Role::Restorer(_), Grant::Restorer(grant)) => for_restorer(grant, command),
        (Role::Export(_), Grant::Export(config)) => for_node(config, command),
        (role, _) => return Verdict::Refuse(format!("{} {} is not in the list any more", role.word(), role.name())),
    };
    match asked {
        Some(verb) => Verdict::Run(verb),
        None => Verdict::Refuse(format!("a key of the kind {:?} does not allow this command", role.word())),
    }
}

fn for_client(command: &str) -> Option<Verb> {
    if let Some(oid) = command.strip_prefix("receipts-wait ") {
        return is_hex(oid, 40).then(|| Verb::ReceiptsWait(oid.into()));
    }
    match git_command(command) {
        Some((Git::ReceivePack, "queue")) => Some(Verb::ReceivePackQueue),
        Some((Git::UploadPack, "queue")) => Some(Verb::UploadPackQueue),
        Some((Git::UploadPack, "receipts")) => Some(Verb::UploadPackReceipts),
        Some(_) => None,
        None => match command {
            "ping" => Some(Verb::Ping),
            "look" => Some(Verb::Look),
            "dial" => Some(Verb::Dial),
            _ => None,
        },
    }
}

fn for_admin(command: &str) -> Option<Verb> {
    match git_command(command) {
        Some((Git::ReceivePack, "admin")) => Some(Verb::ReceivePackAdmin),
        Some((Git::UploadPack, "admin")) => Some(Verb::UploadPackAdmin),
        Some(_) => None,
        None => (command == "ping").then_some(Verb::Ping),
    }
}

fn for_restorer(grant: &RestorerGrant, command: &str) -> Option<Verb> {
    match command {
        "ping" => return Some(Verb::Ping),
        "list" => return Some(Verb::List),
        "sftp" => return Some(Verb::Sftp),
        _ => {}
    }
    let (Git::UploadPack, name) = git_command(command)? else { return None };
    let (client, rest) = name.split_once('/')?;
    let client = Name::new(client).ok()?;
    if let Some(mirror) = rest.strip_prefix("mirrors/") {
        let hex = mirror.strip_suffix(".git")?;
        // Which dataset it holds is written in the mirror; the gate compares that with the grant.
        return (is_hex(hex, 32) && grant.reads_any(&client)).then(|| Verb::UploadPackMirror { client, hex: hex.into() });
    }
    // Log and receipts name all datasets of a client.
    match rest {
        "log" if grant.reads_all(&client) => Some(Verb::UploadPackLog(client)),
        "receipts" if grant.reads_all(&client) => Some(Verb::UploadPackReceiptsOf(client)),
        _ => None,
    }
}

fn for_node(config: &ClientConfig, command: &str) -> Option<Verb> {
    match command {
        "ping" => return Some(Verb::Ping),
        "look" => return Some(Verb::Look),
        "sftp" => return Some(Verb::Sftp),
        _ => {}
    }
    // Here the name is an absolute path, and its first slash belongs to it.
    let path = quoted(command.strip_prefix("git-upload-pack ")?)?;
    let dataset = path.starts_with('/').then(|| Dataset::new("git", path).ok())??;
    config.allows(&dataset).then_some(Verb::UploadPackPath(dataset))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Git {
    ReceivePack,
    UploadPack,
}

/// Reads `git-upload-pack 'name'` or `git-receive-pack 'name'`, exactly as git writes them; a slash before the name
/// is left out.
fn git_command(command: &str) -> Option<(Git, &str)> {
    let (git, rest) = match command.split_once(' ')? {
        ("git-receive-pack", rest) => (Git::ReceivePack, rest),
        ("git-upload-pack", rest) => (Git::UploadPack, rest),
        _ => return None,
    };
    let name = quoted(rest)?;
    Some((git, name.strip_prefix('/').unwrap_or(name)))
}

/// The text between single quotes, if it holds no quote, backslash or `!` (git writes these outside of the quotes).
fn quoted(text: &str) -> Option<&str> {
    let name = text.strip_prefix('\'')?.strip_suffix('\'')?;
    (!name.is_empty() && !name.contains(['\'', '\\', '!'])).then_some(name)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
