//! `keys`: key files that a keyholder made, so that somebody else can open an epoch that is stored here.
//!
//! Opens nothing: a node has no key. Whoever restores checks what comes out of a key file.

use crate::node::Node;
use crate::{given, output};
use archive::epoch::{KEY_FILE_BYTES, KeyFile};
use archive::store::{Installed, Store};
use base::{At, Error, Exit, Name, Result, untrusted};
use clap::Subcommand;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Put key files of keyholders into the store, so that others can open what is there.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Put key files into the stores of the clients that they are for. No pack and no snapshot is touched.
    Install {
        /// What `nightsafe keys add-recipient` wrote.
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Show the key files that were installed.
    List {
        /// Only those of this client.
        client: Option<Name>,
        /// Print an array of objects.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Row {
    client: String,
    epoch: String,
    made: String,
    recipients: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    match &args.what {
        What::Install { files } => {
            node.check_owner()?;
            for path in files {
                install(&node, path).map_err(|error| error.context(format!("{} was not installed", path.display())))?;
            }
        }
        What::List { client, json } => list(&node, client.as_ref(), *json)?,
    }
    Ok(Exit::Done)
}

fn install(node: &Node, path: &Path) -> Result<()> {
    let file = given::open(path).at("open", path)?;
    let bytes = untrusted::read_bounded(file, KEY_FILE_BYTES).at("read", path)?;
    let file = KeyFile::parse(&bytes)?;
    let folder = node.config.client_path(&file.client);
    if !folder.is_dir() {
        return Err(Error::refused(format!("it is for the client {}, of which this node keeps nothing", file.client)));
    }
    let who = file.epoch.recipients.join(", ");
    match Store::open(&folder)?.install_key_file(&bytes)? {
        Installed::New(_) => output::line(&format!("{} of {} can be opened by {who} too.", file.epoch.recipient, file.client)),
        Installed::Before(_) => output::line(&format!("{} of {}: this key file was there before.", file.epoch.recipient, file.client)),
    }
}

fn list(node: &Node, client: Option<&Name>, json: bool) -> Result<()> {
    let mut rows = Vec::new();
    for client in node.clients(client)? {
        let store = Store::open(&node.config.client_path(&client))?;
        let epochs: BTreeSet<String> = store.snapshots()?.into_iter().filter_map(|snapshot| snapshot.accepted.epoch).collect();
        for epoch in epochs {
            rows.extend(store.key_files(&epoch).into_iter().map(|file| Row {
                client: client.to_string(),
                epoch: epoch.clone(),
                made: file.made.to_string(),
                recipients: file.epoch.recipients,
            }));
        }
    }
    if json {
        return output::json(&rows);
    }
    let cells: Vec<Vec<String>> = rows.into_iter().map(|row| vec![row.client, row.epoch, row.made, row.recipients.join(" ")]).collect();
    output::table(&["CLIENT", "EPOCH", "MADE", "FOR"], &cells)
}
