//! `restorer`: who may read what is kept, without being the client it came from.
//!
//! Each change is a commit to the access list, signed by an administrator.

use super::{AdminKey, public_key};
use crate::access::edit;
use crate::node::Node;
use crate::output;
use base::{DatasetPattern, Error, Exit, Name, Result};
use clap::Subcommand;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Say who may restore what.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Let somebody read what clients stored.
    Add {
        /// What the restorer is called.
        name: Name,
        /// The restorer's public ssh key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// What may be read: CLIENT:* for all of a client, or CLIENT:MODULE:PATH, which may end in /* or /**.
        #[arg(long, value_name = "PATTERN", required = true)]
        read: Vec<String>,
        #[command(flatten)]
        admin: AdminKey,
    },
    /// Take a restorer out of the list.
    Remove {
        /// The restorer.
        name: Name,
        #[command(flatten)]
        admin: AdminKey,
    },
    /// Show who may read what.
    List {
        /// Print an array of objects.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Row {
    name: String,
    read: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    match &args.what {
        What::Add { name, key, read, admin } => {
            let key = public_key(key)?;
            let read = read.iter().map(|text| pattern(text)).collect::<Result<Vec<_>>>()?;
            let words: Vec<String> = read.iter().map(|(client, pattern)| format!("{client}:{}", pattern.as_str())).collect();
            let message = format!("Let {name} restore\n\n{}\n", words.join("\n"));
            edit::change(&node, &admin.signer()?, &message, |list| list.add_restorer(name, &key, read))?;
        }
        What::Remove { name, admin } => {
            edit::change(&node, &admin.signer()?, &format!("Let {name} restore no more\n"), |list| list.remove_restorer(name))?;
        }
        What::List { json } => list(&node, *json)?,
    }
    Ok(Exit::Done)
}

fn pattern(text: &str) -> Result<(Name, DatasetPattern)> {
    let wrong = || {
        Error::usage(format!("{text:?} says not whose data may be read"))
            .hint("Write CLIENT:*, or CLIENT:MODULE:PATH, as in web1:files:/var/www.")
    };
    let (client, pattern) = text.split_once(':').ok_or_else(wrong)?;
    let client = Name::new(client).map_err(|error| wrong().because(error))?;
    Ok((client, DatasetPattern::new(pattern)?))
}

fn list(node: &Node, json: bool) -> Result<()> {
    let access = crate::access::current(node)?;
    let rows: Vec<Row> = access
        .list
        .restorers
        .iter()
        .map(|(name, grant)| Row {
            name: name.to_string(),
            read: grant.read.iter().map(|(client, pattern)| format!("{client}:{}", pattern.as_str())).collect(),
        })
        .collect();
    if json {
        return output::json(&rows);
    }
    let cells: Vec<Vec<String>> = rows.into_iter().map(|row| vec![row.name, row.read.join(" ")]).collect();
    output::table(&["RESTORER", "MAY READ"], &cells)
}
