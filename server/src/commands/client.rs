//! `client`: which machines may send, what is taken from them, and how the node reaches them.
//!
//! Each change is a commit to the access list, signed by an administrator.

use super::{AdminKey, public_key, text_of};
use crate::access::{edit, scan};
use crate::node::Node;
use crate::{keys, output};
use base::config::SshAddress;
use base::{ByteSize, DatasetPattern, Error, Exit, Keep, Name, Result, Span};
use clap::Subcommand;
use queue::access::NewClient;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Say which machines may send, and what is taken from them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Add a machine. Nothing is taken from it but what --allow names.
    Add(Box<Add>),
    /// Show the machines and what is taken from them.
    List {
        /// Print an array of objects.
        #[arg(long)]
        json: bool,
    },
    /// Say what is kept of a machine, and how often a snapshot is expected.
    Set {
        /// The machine.
        name: Name,
        /// What is kept of each dataset: "daily=7,weekly=4" or "1W:1D,4W:1W"; "default" as [defaults] says.
        #[arg(long, value_name = "RULES", value_parser = or_default::<Keep>, required_unless_present = "expect")]
        keep: Option<OrDefault<Keep>>,
        /// How often a snapshot is expected, as in 1d; "default" as [defaults] says.
        #[arg(long, value_name = "TIME", value_parser = or_default::<Span>)]
        expect: Option<OrDefault<Span>>,
        #[command(flatten)]
        admin: AdminKey,
    },
    /// Take a machine out of the list; what it stored is kept.
    Remove {
        /// The machine.
        name: Name,
        #[command(flatten)]
        admin: AdminKey,
    },
    /// Take nothing from a machine for now; its requests wait.
    Pause {
        /// The machine.
        name: Name,
        /// Go on again.
        #[arg(long)]
        off: bool,
        #[command(flatten)]
        admin: AdminKey,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// What the machine is called here and in its own configuration.
    name: Name,
    /// The machine's public ssh key, which signs its requests.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The account on the machine from which the node fetches, USER@HOST or USER@HOST:PORT.
    #[arg(long, value_name = "ADDRESS")]
    address: SshAddress,
    /// The account from which git repositories are fetched, where it is another one.
    #[arg(long, value_name = "ADDRESS")]
    git_address: Option<SshAddress>,
    /// The machine's host key: the text "ssh-ed25519 AAAA…", or a file that holds it.
    #[arg(long, value_name = "KEY", conflicts_with = "scan", required_unless_present = "scan")]
    host_key: Option<String>,
    /// Ask the machine itself for its host key, and ask you whether it is the right one.
    #[arg(long)]
    scan: bool,
    /// What is taken: MODULE:PATH, where the path may end in /* or /**, or MODULE:*. May be given several times.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    allow: Vec<DatasetPattern>,
    /// How much may be kept, as in "200 GiB".
    #[arg(long, value_name = "SIZE")]
    quota: Option<ByteSize>,
    /// What is kept of each dataset: "daily=7,weekly=4" or "1W:1D,4W:1W". Default: as [defaults] says, or else everything.
    #[arg(long, value_name = "RULES")]
    keep: Option<Keep>,
    /// How often a snapshot is expected, as in 1d: those that come sooner do not count for "last".
    #[arg(long, value_name = "TIME")]
    expect: Option<Span>,
    #[command(flatten)]
    admin: AdminKey,
}

/// A setting, or that it is taken out.
#[derive(Debug, Clone)]
struct OrDefault<T>(Option<T>);

fn or_default<T: FromStr<Err = Error>>(text: &str) -> Result<OrDefault<T>> {
    if text == "default" { Ok(OrDefault(None)) } else { text.parse().map(|value| OrDefault(Some(value))) }
}

fn pattern(text: &str) -> Result<DatasetPattern> {
    DatasetPattern::new(text)
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    match &args.what {
        What::Add(add) => self::add(&node, add)?,
        What::List { json } => list(&node, *json)?,
        What::Set { name, keep, expect, admin } => {
            let mut words: Vec<String> = Vec::new();
            if let Some(OrDefault(keep)) = keep {
                words.push(keep.as_ref().map_or("keep as by default".into(), |keep| format!("keep = {keep}")));
            }
            if let Some(OrDefault(expect)) = expect {
                words.push(expect.map_or("expect as by default".into(), |expect| format!("expect = {}", String::from(expect))));
            }
            let (keep, expect) = (keep.clone().map(|keep| keep.0), expect.clone().map(|expect| expect.0));
            let message = format!("Change what is kept of {name}\n\n{}\n", words.join("\n"));
            edit::change(&node, &admin.signer()?, &message, |list| list.set_client(name, keep, expect))?;
        }
        What::Remove { name, admin } => {
            edit::change(&node, &admin.signer()?, &format!("Take nothing from {name} any more\n\nWhat it stored is kept.\n"), |list| {
                list.remove_client(name)
            })?;
        }
        What::Pause { name, off, admin } => {
            let message = if *off { format!("Go on with {name}\n") } else { format!("Pause {name}\n") };
            edit::change(&node, &admin.signer()?, &message, |list| list.pause_client(name, !*off))?;
        }
    }
    Ok(Exit::Done)
}

fn add(node: &Node, add: &Add) -> Result<()> {
    let key = public_key(&add.key)?;
    let host_key = match &add.host_key {
        Some(given) => host_key(given)?,
        None => scan::confirmed(&add.address)?,
    };
    let signer = add.admin.signer()?;
    let allowed: Vec<&str> = add.allow.iter().map(DatasetPattern::as_str).collect();
    let taken = if allowed.is_empty() { "nothing yet".to_owned() } else { allowed.join(", ") };
    let message = format!("Take in {}\n\nfrom {}: {taken}\n", add.name, add.address);
    let new = NewClient {
        key,
        address: Some(add.address.clone()),
        git_address: add.git_address.clone(),
        host_key: Some(host_key),
        allow: add.allow.clone(),
        quota: add.quota,
    };
    edit::change(node, &signer, &message, |list| {
        list.add_client(&add.name, new)?;
        list.set_client(&add.name, Some(add.keep.clone()), Some(add.expect))
    })?;
    if add.allow.is_empty() {
        output::warning(&format!("{} may log in, and nothing is taken from it until --allow names it", add.name));
    }
    Ok(())
}

/// A host key as text, or from a file as sshd has it.
fn host_key(given: &str) -> Result<String> {
    let text = if given.trim_start().starts_with("ssh-") || given.trim_start().starts_with("ecdsa-") {
        given.to_owned()
    } else {
        text_of(Path::new(given))?
    };
    let key = queue::signature::parse_public_key(text.trim()).map_err(|error| error.context("the host key is not usable"))?;
    keys::openssh(&key)
}

#[derive(Serialize)]
struct Row {
    name: String,
    address: Option<String>,
    git_address: Option<String>,
    host_key: Option<String>,
    keys: Vec<String>,
    allow: Vec<String>,
    quota: Option<u64>,
    /// As it is written in the list.
    keep: Option<String>,
    expect_seconds: Option<u64>,
    /// Datasets with rules of their own: pattern and rules.
    keep_for: Vec<(String, Option<String>)>,
    paused: bool,
}

fn list(node: &Node, json: bool) -> Result<()> {
    let access = crate::access::current(node)?;
    let rows: Vec<Row> = access
        .list
        .clients
        .iter()
        .map(|(name, grant)| Row {
            name: name.to_string(),
            address: grant.address.as_ref().map(ToString::to_string),
            git_address: grant.git_address.as_ref().map(ToString::to_string),
            host_key: grant.host_key.clone(),
            keys: grant.keys.iter().map(|key| key.fingerprint(ssh_key::HashAlg::Sha256).to_string()).collect(),
            allow: grant.allow.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
            quota: grant.quota.map(|quota| quota.0),
            keep: grant.keep.as_ref().or(access.list.default_keep.as_ref()).map(ToString::to_string),
            expect_seconds: grant.expect.or(access.list.default_expect).map(|span| span.0.as_secs()),
            keep_for: grant
                .keep_for
                .iter()
                .map(|own| (own.datasets.as_str().to_owned(), own.keep.as_ref().map(ToString::to_string)))
                .collect(),
            paused: grant.paused,
        })
        .collect();
    if json {
        return output::json(&rows);
    }
    let cells: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            vec![
                row.name,
                row.address.unwrap_or_else(|| "-".into()),
                row.quota.map_or_else(|| "none".into(), |quota| ByteSize(quota).to_string()),
                row.keep.unwrap_or_else(|| "all".into()),
                if row.paused { "paused".into() } else { String::new() },
                row.allow.join(" "),
            ]
        })
        .collect();
    output::table(&["CLIENT", "ADDRESS", "QUOTA", "KEEP", "", "ALLOWED"], &cells)
}
