//! The way of a forced command: who, what, granted, decided, done.
//!
//! Decides nothing itself (that is `queue::verdict`) and carries out nothing itself.

use crate::{admin, dial, export, git, handover, log, look, queues, restorer, sessions, wait};
use base::config::{ClientConfig, NodeConfig};
use base::{Error, Exit, Result};
use queue::access::{self, Entry, RestorerGrant};
use queue::verdict::{Grant, Role, Verb, Verdict, verdict};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The node that a key came to.
#[derive(Debug)]
pub struct Node {
    /// Its configuration.
    pub config: NodeConfig,
    /// Where that stands, for the hooks.
    pub file: PathBuf,
    /// Whose key it is.
    pub role: Role,
}

/// The rules that hold for this connection, read anew for each.
enum Rules {
    Node(Box<(Node, Entry)>),
    Client(Box<ClientConfig>),
}

/// Does what the key's owner asks for, if that is allowed.
///
/// # Errors
/// Of kind refused when it is not, otherwise what went wrong.
pub fn serve(config: &Path, role: Role) -> Result<ExitCode> {
    let rules = Rules::load(config, &role)?;
    let command = command().inspect_err(|error| log::refused(&rules.log_folder(), &role, Some("no text"), &error.one_line()))?;
    let decided = verdict(&role, &rules.grant(), command.as_deref());
    match decided {
        Verdict::Run(verb) => {
            rules.enter().inspect_err(|error| log::refused(&rules.log_folder(), &role, command.as_deref(), &error.one_line()))?;
            rules.carry_out(verb, &role)
        }
        Verdict::Refuse(why) => {
            log::refused(&rules.log_folder(), &role, command.as_deref(), &why);
            Err(Error::refused(why))
        }
    }
}

/// What the client asked sshd for.
fn command() -> Result<Option<String>> {
    let text = std::env::var_os("SSH_ORIGINAL_COMMAND").map(std::ffi::OsString::into_string).transpose();
    text.map_err(|_| Error::refused("the command is not UTF-8 text"))
}

impl Rules {
    fn load(config: &Path, role: &Role) -> Result<Self> {
        if let Role::Export(node) = role {
            let config = ClientConfig::load(config)?;
            if config.node(node).is_none() {
                return Err(Error::refused(format!("{node} is no node of this client any more")));
            }
            return Ok(Self::Client(Box::new(config)));
        }
        let file = config.canonicalize().unwrap_or_else(|_| config.to_owned());
        let node = Node { config: NodeConfig::load(config)?, file, role: role.clone() };
        let entry = access::entry(&node.config.access_path(), role)?;
        Ok(Self::Node(Box::new((node, entry))))
    }

    fn grant(&self) -> Grant<'_> {
        match self {
            Self::Client(config) => Grant::Export(config),
            Self::Node(known) => match &known.1 {
                Entry::Absent => Grant::Absent,
                Entry::Admin => Grant::Admin,
                Entry::Client(grant) => Grant::Client(grant),
                Entry::Restorer(grant) => Grant::Restorer(grant),
            },
        }
    }

    fn log_folder(&self) -> PathBuf {
        match self {
            Self::Client(config) => config.state.clone(),
            Self::Node(known) => known.0.config.gate.clone(),
        }
    }

    /// Counts this session, where sessions are counted.
    fn enter(&self) -> Result<()> {
        match self {
            Self::Node(known) => match (&known.0, &known.1) {
                (node, Entry::Client(grant)) => sessions::enter(node, grant.limits.sessions()),
                _ => Ok(()),
            },
            Self::Client(_) => Ok(()),
        }
    }

    fn carry_out(&self, verb: Verb, role: &Role) -> Result<ExitCode> {
        match self {
            Self::Node(known) if verb == Verb::Ping && matches!(known.1, Entry::Client(_)) => {
                handover::announce(&known.0.config, role.name());
                ping(role)
            }
            _ if verb == Verb::Ping => ping(role),
            Self::Client(config) => match verb {
                Verb::Look => look::export(),
                Verb::Sftp => export::sftp(config, role.name()),
                Verb::UploadPackPath(dataset) => export::upload_pack(config, &dataset),
                other => Err(unexpected(&other)),
            },
            Self::Node(known) => match (&known.0, &known.1) {
                (node, Entry::Client(grant)) if verb == Verb::Look => look::client(node, grant),
                (node, Entry::Client(_)) => node.for_client(verb),
                (node, Entry::Admin) => node.for_admin(verb),
                (node, Entry::Restorer(grant)) => node.for_restorer(verb, grant),
                (_, Entry::Absent) => Err(unexpected(&verb)),
            },
        }
    }
}

impl Node {
    fn for_client(&self, verb: Verb) -> Result<ExitCode> {
        let client = self.role.name();
        match verb {
            Verb::ReceivePackQueue => queues::receive(self),
            Verb::UploadPackQueue => queues::serve(self),
            Verb::UploadPackReceipts => git::upload_pack(&git::or_empty(self, &self.config.receipts_path(client), "receipts")?),
            Verb::ReceiptsWait(oid) => wait::receipts(&self.config.receipts_path(client), &oid),
            Verb::Dial => dial::join(self),
            other => Err(unexpected(&other)),
        }
    }

    fn for_admin(&self, verb: Verb) -> Result<ExitCode> {
        match verb {
            Verb::ReceivePackAdmin => admin::receive(self),
            Verb::UploadPackAdmin => admin::serve(self),
            other => Err(unexpected(&other)),
        }
    }

    fn for_restorer(&self, verb: Verb, grant: &RestorerGrant) -> Result<ExitCode> {
        match verb {
            Verb::List => restorer::list(&self.config, grant),
            Verb::Sftp => restorer::sftp(&self.config, grant),
            Verb::UploadPackMirror { client, hex } => git::upload_pack(&restorer::mirror(&self.config, grant, &client, &hex)?),
            Verb::UploadPackLog(client) => git::upload_pack(&self.config.log_path(&client)),
            Verb::UploadPackReceiptsOf(client) => git::upload_pack(&self.config.receipts_path(&client)),
            other => Err(unexpected(&other)),
        }
    }
}

fn ping(role: &Role) -> Result<ExitCode> {
    use base::At;
    writeln!(std::io::stdout(), "nightsafe-gate {} {} {}", env!("CARGO_PKG_VERSION"), role.word(), role.name()).at("write to", "stdout")?;
    Ok(Exit::Done.into())
}

/// The verdict gives no verb to a role that has no use for it; if it did, this is the second lock on the door.
fn unexpected(verb: &Verb) -> Error {
    Error::refused(format!("{verb:?} is nothing for this key"))
}
