//! `client`: which machines may send, what is taken from them, and how the node reaches them.
//!
//! Each change is a commit to the access list, signed by an administrator.

mod add;

use super::{AdminKey, host_key};
use crate::access::{edit, scan};
use crate::node::Node;
use crate::output;
use crate::poll::client::read_spent;
use crate::poll::spent::{Count, Used};
use base::config::{Reach, SshAddress};
use base::{ByteSize, DatasetPattern, Error, Exit, Keep, Name, Result, Span, clock};
use clap::Subcommand;
use queue::access::{AccessList, ClientChange, ClientGrant, Limits, limits};
use serde::Serialize;
use std::path::Path;
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
    Add(Box<add::Add>),
    /// Show the machines, what is taken from them, and what they used of their limits within 24 hours.
    List {
        /// Print an array of objects.
        #[arg(long)]
        json: bool,
    },
    /// Say what is kept of a machine, how often a snapshot is expected, what it may use, and how it is reached.
    Set(Box<Set>),
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
struct Set {
    /// The machine.
    name: Name,
    /// What is kept of each dataset: "daily=7,weekly=4" or "1W:1D,4W:1W"; "default" as [defaults] says.
    #[arg(long, value_name = "RULES", value_parser = or_default::<Keep>, required_unless_present_any = ["expect", "quota", "limit", "dial", "no_dial"])]
    keep: Option<OrDefault<Keep>>,
    /// How often a snapshot is expected, as in 1d; "default" as [defaults] says.
    #[arg(long, value_name = "TIME", value_parser = or_default::<Span>)]
    expect: Option<OrDefault<Span>>,
    /// How much may be kept, as in "200 GiB"; "default" as [defaults] says.
    #[arg(long, value_name = "SIZE", value_parser = or_default::<ByteSize>)]
    quota: Option<OrDefault<ByteSize>>,
    /// What it may use: bytes_a_day=50GiB, requests_a_day=500, packs=50000, fetches=1, time=6h, bandwidth=20MiB or sessions=16;
    /// "default" as [defaults] says. May be given several times.
    #[arg(long, value_name = "LIMIT=VALUE")]
    limit: Vec<limits::Change>,
    /// The machine dials in from now on: its address and its host key go from the list (docs/dial.md).
    #[arg(long)]
    dial: bool,
    /// The node logs in to the machine from now on, at --address; also where it did and the address or the host key is another one.
    #[arg(long, requires = "address", conflicts_with = "dial")]
    no_dial: bool,
    /// The account on the machine from which the node fetches, USER@HOST or USER@HOST:PORT.
    #[arg(long, value_name = "ADDRESS", requires = "no_dial")]
    address: Option<SshAddress>,
    /// The account from which git repositories are fetched, where it is another one.
    #[arg(long, value_name = "ADDRESS", requires = "no_dial")]
    git_address: Option<SshAddress>,
    /// The machine's host key: the text "ssh-ed25519 AAAA…", or a file that holds it.
    #[arg(long, value_name = "KEY", value_hint = clap::ValueHint::FilePath, requires = "no_dial", conflicts_with = "scan")]
    host_key: Option<String>,
    /// Ask the machine itself for its host key, and ask you whether it is the right one.
    #[arg(long, requires = "no_dial")]
    scan: bool,
    #[command(flatten)]
    admin: AdminKey,
}

impl Set {
    /// Where the node is to log in, and the host key there.
    fn place(&self) -> Result<Option<(SshAddress, String)>> {
        let Some(address) = &self.address else { return Ok(None) };
        let host_key = match &self.host_key {
            Some(given) => host_key(given)?,
            None if self.scan => Some(scan::confirmed(address)?),
            None => None,
        };
        let missing = || {
            Error::usage(format!("--host-key or --scan is missing for {}", self.name))
                .hint("The node talks to nobody whose host key it does not know.")
        };
        Ok(Some((address.clone(), host_key.ok_or_else(missing)?)))
    }
}

/// A setting, or that it is taken out.
#[derive(Debug, Clone, Copy)]
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
        What::Add(add) => add.run(&node)?,
        What::List { json } => list(&node, *json)?,
        What::Set(set) => self::set(&node, set)?,
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

fn set(node: &Node, set: &Set) -> Result<()> {
    let mut words: Vec<String> = Vec::new();
    let mut say = |name: &str, value: Option<String>| {
        words.push(value.map_or_else(|| format!("{name} as by default"), |value| format!("{name} = {value}")));
    };
    if let Some(OrDefault(keep)) = &set.keep {
        say("keep", keep.as_ref().map(ToString::to_string));
    }
    if let Some(OrDefault(expect)) = set.expect {
        say("expect", expect.map(String::from));
    }
    if let Some(OrDefault(quota)) = set.quota {
        say("quota", quota.map(String::from));
    }
    words.extend(set.limit.iter().map(ToString::to_string));
    let place = set.place()?;
    words.extend(set.dial.then(|| "it dials in".to_owned()));
    words.extend(place.as_ref().map(|(address, _)| format!("this node logs in to {address}")));
    let message = format!("Change what holds for {0}\n\n{1}\n", set.name, words.join("\n"));
    let change = ClientChange {
        keep: set.keep.clone().map(|keep| keep.0),
        expect: set.expect.map(|expect| expect.0),
        quota: set.quota.map(|quota| quota.0),
        limits: set.limit.clone(),
    };
    edit::change(node, &set.admin.signer()?, &message, |list| {
        if set.dial {
            list.let_dial(&set.name)?;
        }
        if let Some((address, host_key)) = place {
            list.let_log_in(&set.name, address, set.git_address.clone(), &host_key)?;
        }
        list.set_client(&set.name, change)
    })
}

#[derive(Serialize)]
struct Row {
    name: String,
    reach: Reach,
    address: Option<String>,
    git_address: Option<String>,
    host_key: Option<String>,
    keys: Vec<String>,
    allow: Vec<String>,
    quota: Option<u64>,
    limits: Limited,
    spent: Spent,
    /// As it is written in the list.
    keep: Option<String>,
    expect_seconds: Option<u64>,
    /// Datasets with rules of their own: pattern and rules.
    keep_for: Vec<(String, Option<String>)>,
    paused: bool,
    #[serde(skip)]
    words: String,
}

/// The limits that hold for a client, its own or those of `[defaults]`.
#[derive(Serialize)]
struct Limited {
    bytes_a_day: Option<u64>,
    requests_a_day: Option<u32>,
    packs: Option<u32>,
    fetches: Option<u8>,
    time_seconds: Option<u64>,
    /// Bytes in a second.
    bandwidth: Option<u64>,
    sessions: u16,
}

/// What came of a client within 24 hours.
#[derive(Serialize)]
struct Spent {
    bytes: u64,
    requests: u64,
}

impl From<Limits> for Limited {
    fn from(limits: Limits) -> Self {
        Self {
            bytes_a_day: limits.bytes_a_day.map(|size| size.0),
            requests_a_day: limits.requests_a_day.map(Into::into),
            packs: limits.packs.map(Into::into),
            fetches: limits.fetches,
            time_seconds: limits.time.map(|span| span.0.as_secs()),
            bandwidth: limits.bandwidth.map(|size| size.0),
            sessions: limits.sessions(),
        }
    }
}

fn row(node: &Node, list: &AccessList, name: &Name, grant: &ClientGrant) -> Row {
    let limits = list.limits(grant);
    let (spent, now) = (read_spent(&node.config.client_path(name)), clock::now());
    // What is counted by the day with what was used of it, the others as they stand in the list.
    let mut words: Vec<String> = Used::of_day(&limits, &spent, now).iter().map(ToString::to_string).collect();
    let others = Limits { bytes_a_day: None, requests_a_day: None, ..limits }.to_toml();
    words.extend(Some(others.trim_matches(['{', '}', ' ']).to_owned()).filter(|others| !others.is_empty()));
    Row {
        name: name.to_string(),
        reach: grant.reach,
        address: grant.address.as_ref().map(ToString::to_string),
        git_address: grant.git_address.as_ref().map(ToString::to_string),
        host_key: grant.host_key.clone(),
        keys: grant.keys.iter().map(|key| key.fingerprint(ssh_key::HashAlg::Sha256).to_string()).collect(),
        allow: grant.allow.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
        quota: grant.quota.map(|quota| quota.0),
        limits: limits.into(),
        spent: Spent { bytes: spent.used(Count::Bytes, now), requests: spent.used(Count::Requests, now) },
        keep: grant.keep.as_ref().or(list.default_keep.as_ref()).map(ToString::to_string),
        expect_seconds: grant.expect.or(list.default_expect).map(|span| span.0.as_secs()),
        keep_for: grant.keep_for.iter().map(|own| (own.datasets.as_str().to_owned(), own.keep.as_ref().map(ToString::to_string))).collect(),
        paused: grant.paused,
        words: words.join(", "),
    }
}

fn list(node: &Node, json: bool) -> Result<()> {
    let list = crate::access::current(node)?.list;
    let rows: Vec<Row> = list.clients.iter().map(|(name, grant)| row(node, &list, name, grant)).collect();
    if json {
        return output::json(&rows);
    }
    let cells: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            vec![
                row.name,
                row.address.unwrap_or_else(|| if row.reach == Reach::Dial { "dials in".into() } else { "-".into() }),
                row.quota.map_or_else(|| "none".into(), |quota| ByteSize(quota).to_string()),
                if row.words.is_empty() { "none".into() } else { row.words },
                row.keep.unwrap_or_else(|| "all".into()),
                if row.paused { "paused".into() } else { String::new() },
                row.allow.join(" "),
            ]
        })
        .collect();
    output::table(&["CLIENT", "ADDRESS", "QUOTA", "LIMITS", "KEEP", "", "ALLOWED"], &cells)
}
