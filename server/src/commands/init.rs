//! `init`: makes what a node needs: folders with their modes, keys, a configuration, and the first access list.
//!
//! Replaces nothing that is there; running it again makes what is missing.

use crate::access::{self, edit};
use crate::node::Node;
use crate::{keys, output};
use base::config::SshAddress;
use base::{Error, Exit, Name, Result, atomic};
use queue::access::AccessList;
use queue::{Repository, Signer};
use std::path::{Path, PathBuf};

/// Make a node: its folders, its keys, a commented configuration where there is none, and the first access list.
///
/// Run it as the user that will own the data. Nothing that is there already is replaced.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's name, for a new configuration.
    #[arg(long, default_value = "node1")]
    name: Name,
    /// Where backups are kept, for a new configuration.
    #[arg(long, value_name = "DIR", default_value = "/srv/nightsafe")]
    data: PathBuf,
    /// Where the gate works, for a new configuration.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/nightsafe-gate")]
    gate: PathBuf,
    /// Where machines reach the gate, USER@HOST or USER@HOST:PORT, for a new configuration. Default: the owner of its folder,
    /// at this machine's name.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SshAddress>,
    /// Where restorers log in, where that is another account, for a new configuration.
    #[arg(long, value_name = "ADDRESS")]
    read_address: Option<SshAddress>,
    /// The host key that machines pin, as text or as a file, for a new configuration. Default: the one in /etc/ssh.
    #[arg(long, value_name = "KEY", value_hint = clap::ValueHint::FilePath)]
    host_key: Option<String>,
    /// The group that reads what the gate serves, where accounts are split, for a new configuration.
    #[arg(long, value_name = "GROUP")]
    gate_group: Option<String>,
    /// The group that reads the mirrors, as cgit does, for a new configuration.
    #[arg(long, value_name = "GROUP")]
    mirrors_group: Option<String>,
    /// What the first administrator is called.
    #[arg(long, requires = "admin_key")]
    admin: Option<Name>,
    /// The private ssh key of the first administrator, which signs the first access list (or a .pub file, whose other
    /// half the ssh agent holds). The key is only used, not kept.
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_key: Option<PathBuf>,
}

impl Args {
    /// Where the data will be.
    pub fn data(&self) -> &Path {
        &self.data
    }
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let signer = args.admin_key.as_deref().map(super::signer).transpose()?;
    let admin = args.admin.as_ref().zip(signer.as_ref());
    if !config.exists() {
        write_config(args, config, admin)?;
        output::line(&format!("made {}", config.display()))?;
    }
    let node = Node::load(config)?;
    node.check_owner()?;
    node.prepare()?;
    node.prepare_gate()?;
    for key in [&node.config.pull_key, &node.config.receipts_key] {
        keys::make(key, node.config.name.as_str())?;
    }
    if let Some((name, signer)) = admin {
        first_list(&node, name, signer)?;
    }
    access::refresh(&node, None, true)?;
    for (what, key) in [("clients let in", &node.config.pull_key), ("clients pin for receipts", &node.config.receipts_key)] {
        let public = super::public_key(&keys::with_pub(key))?;
        output::line(&format!("{what}: {}", queue::access::openssh(&public)?))?;
    }
    if node.config.admins.is_empty() && access::current(&node)?.tip.is_none() {
        output::warning(
            "nobody can sign the access list yet: write admins = [\"ssh-ed25519 AAAA… NAME\"] into the configuration, or run init with --admin and --admin-key",
        );
    }
    Ok(Exit::Done)
}

/// The first list, signed by its only administrator, who must be one that the configuration names.
fn first_list(node: &Node, name: &Name, signer: &Signer) -> Result<()> {
    let present = access::current(node)?;
    if present.tip.is_some() {
        return Err(Error::refused("there is an access list already").hint(
            "Administrators change it with nightsafe-server client …, or by a push; admin-recover is for when all their keys are lost.",
        ));
    }
    if present.list.admin_of(signer.public()).is_none() {
        let line = format!("{} {name}", queue::access::openssh(signer.public())?);
        return Err(Error::refused("that key is not among the administrators of the configuration")
            .hint(format!("Add it first: admins = [\"{line}\"]")));
    }
    let copy = Repository::open_or_create(&node.config.admin_path(), access::BRANCH)?;
    let list = AccessList::first(name, signer.public())?;
    edit::commit(&copy, &list, &format!("Let {name} say who may do what\n"), signer, name.as_str())?;
    edit::wake(node);
    Ok(())
}

fn write_config(args: &Args, config: &Path, admin: Option<(&Name, &Signer)>) -> Result<()> {
    let folder = config.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    atomic::make_folder(folder, 0o755)?;
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let admins = match admin {
        Some((name, signer)) => format!("admins = [{}]", quoted(&format!("{} {name}", queue::access::openssh(signer.public())?))),
        None => "# admins = [\"ssh-ed25519 AAAA… alice\"]".into(),
    };
    let reached = |field: &str, address: Option<&SshAddress>, example: &str| match address {
        Some(address) => format!("{field} = {}", quoted(&address.to_string())),
        None => format!("# {field} = \"{example}\""),
    };
    let host_key = match &args.host_key {
        Some(given) => format!("host_key = {}", quoted(&super::host_key(given)?.unwrap_or_default())),
        None => "# host_key = \"ssh-ed25519 AAAA…\"".into(),
    };
    let text = format!(
        "# A node of nightsafe: what nightsafe-server and nightsafe-gate read. It holds no secrets, only paths to them.
version = 1
name = {name}

# Backups, logs, receipts and the access list. Belongs to the account that polls.
data = {data}
# Queues and what the gate hands over. Belongs to the account that machines log in to; may be the same one.
gate = {gate}

# The private keys with which this node logs in to machines, and signs receipts. init makes them.
pull_key = {pull}
receipts_key = {receipts}

# How machines and restorers reach this node, as client add tells them; and the host key that they pin. Default: the owner
# of gate at this machine's name, and the key in /etc/ssh.
{address}
{read_address}
{host_key}

# Groups that read what the gate serves, and the mirrors. Default: all of it has the group of data itself.
{groups}

# Who may sign the first access list: public keys, each with a name behind it.
{admins}

# How many machines are served side by side.
# workers = 8
# The longest time that fetching one request may take.
# fetch_time = \"12h\"
# How much room must be left for a fetch to begin; until there is, requests wait. Default: none.
# keep_free = \"50 GiB\"
# Where sockets of kept ssh connections are; the path must be short. Default: run in data.
# runtime = \"/run/nightsafe\"
",
        name = quoted(args.name.as_str()),
        data = quoted_path(&absolute(&args.data))?,
        gate = quoted_path(&absolute(&args.gate))?,
        pull = quoted_path(&folder.join("pull"))?,
        receipts = quoted_path(&folder.join("receipts"))?,
        groups = groups(args),
        address = reached("address", args.address.as_ref(), "gate@backup.example.org"),
        read_address = reached("read_address", args.read_address.as_ref(), "read@backup.example.org"),
    );
    // The gate's account reads it as well.
    atomic::write_new(config, text.as_bytes(), 0o644)
}

/// The table of groups, or an example.
fn groups(args: &Args) -> String {
    let of = |name: &str, group: Option<&String>| group.map(|group| format!("{name} = {}", quoted(group)));
    let said: Vec<String> =
        [of("gate", args.gate_group.as_ref()), of("mirrors", args.mirrors_group.as_ref())].into_iter().flatten().collect();
    if said.is_empty() {
        "# groups = { gate = \"ns-serve\", mirrors = \"ns-web\" }".into()
    } else {
        format!("groups = {{ {} }}", said.join(", "))
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn quoted_path(path: &Path) -> Result<String> {
    path.to_str().map(quoted).ok_or_else(|| Error::usage(format!("{} is not UTF-8", path.display())))
}
