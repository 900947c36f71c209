//! `import-gitosis`: brings the members of an old gitosis into the access list, by one signed commit.
//!
//! The repositories lay on one machine, a client of this node: what people could fetch there they may restore here. Grants nothing
//! beside that, and nobody the list itself, unless it is said.

use super::AdminKey;
use crate::access::{self, edit};
use crate::node::Node;
use crate::output;
use base::{At, DatasetPattern, Error, Exit, Name, Result, names, untrusted};
use queue::PublicKey;
use queue::access::gitosis::{self, Gitosis, Member};
use queue::access::{AccessList, NewClient};
use queue::verdict::Role;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The largest file with a member's keys.
const KEYS_LIMIT: usize = 256 << 10;

/// Bring the members, groups and keys of a gitosis into the access list.
///
/// Its repositories lie on one machine, which is a client here: they are taken from it (allow), and whoever could fetch one there may
/// restore it here. Members whose names --machine gives become clients that may send what they could push. Members that could
/// change gitosis become administrators with --admins only.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder with gitosis.conf and keydir/, as a clone of gitosis-admin is.
    folder: PathBuf,
    /// The client whose repositories gitosis kept.
    #[arg(long)]
    client: Name,
    /// Where that client has them, as in /home/git/repositories.
    #[arg(long, value_name = "PATH")]
    under: String,
    /// A member that is a machine and not a person. May be given several times.
    #[arg(long, value_name = "MEMBER")]
    machine: Vec<String>,
    /// Let those that could change gitosis change the access list; with the same key they can restore nothing then.
    #[arg(long)]
    admins: bool,
    /// Say what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminKey,
}

/// What one member becomes.
#[derive(Debug)]
struct Entry {
    member: String,
    role: Role,
    keys: Vec<PublicKey>,
    patterns: Vec<DatasetPattern>,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    node.check_owner()?;
    let read = Gitosis::parse(&text(&args.folder.join("gitosis.conf"), gitosis::LIMIT)?)?;
    for words in &read.left_out {
        output::warning(words);
    }
    if let Some(unknown) = args.machine.iter().find(|name| !read.members.contains_key(*name)) {
        return Err(Error::usage(format!("gitosis.conf has no member {unknown}"))
            .hint(names::hint(unknown, read.members.keys().map(String::as_str))));
    }
    let taken = read.repositories.iter().map(|repository| pattern(args, repository)).collect::<Result<Vec<_>>>()?;
    let entries = entries(args, &read)?;
    let signer = args.admin.signer()?;
    let mut list = access::current(&node)?.list;
    let Applied { words, kept } = apply(args, &mut list, &entries, &taken)?;
    for words in &kept {
        output::warning(words);
    }
    if words.is_empty() {
        output::line("The list has all of it; nothing is changed.")?;
        return Ok(Exit::Done);
    }
    if args.dry_run {
        output::line("Nothing is changed; this would be so afterwards:")?;
    } else {
        let message = format!("Bring in what gitosis went by\n\n{}\n", words.join("\n"));
        edit::change(&node, &signer, &message, |list| apply(args, list, &entries, &taken).map(drop))?;
    }
    words.iter().try_for_each(|line| output::line(line))?;
    Ok(Exit::Done)
}

fn text(path: &Path, limit: usize) -> Result<String> {
    let file = File::open(path).at("open", path).map_err(|error| error.with_kind(base::Kind::Usage))?;
    let bytes = untrusted::read_bounded(file, limit).at("read", path)?;
    String::from_utf8(bytes).map_err(|_| Error::usage(format!("{} is no UTF-8 text", path.display())))
}

/// A repository of gitosis as a dataset of the client.
fn pattern(args: &Args, repository: &str) -> Result<DatasetPattern> {
    if !args.under.starts_with('/') {
        return Err(Error::usage(format!("{} is no absolute path", args.under)).hint("Say it with --under as in /home/git/repositories."));
    }
    DatasetPattern::new(format!("git:{}/{repository}.git", args.under.trim_end_matches('/')))
}

/// What becomes of each member, as far as it has keys that are used here.
fn entries(args: &Args, read: &Gitosis) -> Result<Vec<Entry>> {
    let (mut entries, mut owners): (Vec<Entry>, BTreeMap<Vec<u8>, String>) = (Vec::new(), BTreeMap::new());
    for (member, may) in &read.members {
        let keys = keys(&args.folder.join("keydir").join(format!("{member}.pub")), member)?;
        if keys.is_empty() {
            output::warning(&format!("{member} has no key that is used here, and is left out"));
            continue;
        }
        for key in &keys {
            let id = key.to_bytes().map_err(|error| Error::failed(format!("a key of {member} cannot be written")).because(error))?;
            if let Some(other) = owners.insert(id, member.clone()) {
                return Err(Error::usage(format!("{member} and {other} have the same key"))
                    .hint("Each key has one owner: take it out of one of the two."));
            }
        }
        let (role, repositories) = role(args, member, may)?;
        let patterns = repositories.iter().map(|repository| pattern(args, repository)).collect::<Result<Vec<_>>>()?;
        if patterns.is_empty() && !matches!(role, Role::Admin(_)) {
            output::warning(&format!("{member} may fetch nothing, and is left out"));
            continue;
        }
        if let Some(other) = entries.iter().find(|entry| entry.role == role) {
            return Err(Error::usage(format!("{member} and {} would both be {} {}", other.member, role.word(), role.name()))
                .hint("Rename one of them in gitosis.conf and keydir."));
        }
        entries.push(Entry { member: member.clone(), role, keys, patterns });
    }
    Ok(entries)
}

fn role(args: &Args, member: &str, may: &Member) -> Result<(Role, Vec<String>)> {
    // gitosis took letters and signs that no name has here.
    let plain: String = member.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let name =
        Name::new(plain.trim_matches(['-', '.'])).map_err(|error| error.context(format!("the member {member} cannot be brought in")))?;
    if args.machine.iter().any(|machine| machine == member) {
        return Ok((Role::Client(name), may.writes.iter().cloned().collect()));
    }
    if args.admins && may.is_admin {
        return Ok((Role::Admin(name), Vec::new()));
    }
    Ok((Role::Restorer(name), may.writes.union(&may.reads).cloned().collect()))
}

/// The usable keys in a file of keydir, which may hold several.
fn keys(path: &Path, member: &str) -> Result<Vec<PublicKey>> {
    // The member's name is a line's word of somebody's file: no path is made of it that leads elsewhere.
    if member.contains('/') || member.starts_with('.') || !path.is_file() {
        return Ok(Vec::new());
    }
    let text = text(path, KEYS_LIMIT)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut keys: Vec<PublicKey> = Vec::new();
    for line in lines {
        match queue::signature::parse_public_key(line) {
            Ok(key) if keys.iter().all(|known| known.key_data() != key.key_data()) => keys.push(key),
            Ok(_) => {}
            Err(error) => output::warning(&format!("a key of {member} is left out: {}", error.one_line())),
        }
    }
    Ok(keys)
}

/// What bringing it in comes to.
struct Applied {
    /// What was changed, a line each.
    words: Vec<String>,
    /// Keys that stay whose they are, a line each.
    kept: Vec<String>,
}

/// Changes the list; what it has already is no change.
fn apply(args: &Args, list: &mut AccessList, entries: &[Entry], taken: &[DatasetPattern]) -> Result<Applied> {
    let (mut words, mut kept) = (Vec::new(), Vec::new());
    for entry in entries {
        let name = entry.role.name();
        let mut new: Vec<&PublicKey> = Vec::new();
        for key in &entry.keys {
            match list.who(key) {
                None => new.push(key),
                Some(role) if role == entry.role => {}
                Some(role) => {
                    kept.push(format!("{}'s key belongs to {} {} already, and stays there", entry.member, role.word(), role.name()));
                }
            }
        }
        let known = match &entry.role {
            Role::Client(name) => list.clients.contains_key(name),
            Role::Admin(name) => list.admins.contains_key(name),
            Role::Restorer(name) => list.restorers.contains_key(name),
            Role::Export(_) => true,
        };
        let mut new = new.into_iter();
        if !known {
            let Some(first) = new.next() else { continue };
            add(args, list, entry, first)?;
            words.push(format!("{} is {} {name}{}", entry.member, entry.role.word(), granted(&entry.patterns)));
        }
        for key in new {
            list.add_key(&entry.role, key)?;
            words.push(format!("{} {name} has one key more", entry.role.word()));
        }
    }
    let added = list.allow_also(&args.client, taken).map_err(|error| {
        error.hint(format!("Take in the machine that keeps the repositories first: nightsafe-server client add. Known: {}", known(list)))
    })?;
    if !added.is_empty() {
        words.push(format!("from {} is taken{}", args.client, granted(&added)));
    }
    Ok(Applied { words, kept })
}

fn known(list: &AccessList) -> String {
    let names: Vec<&str> = list.clients.keys().map(Name::as_str).collect();
    if names.is_empty() { "none yet.".into() } else { format!("{}.", names.join(", ")) }
}

fn granted(patterns: &[DatasetPattern]) -> String {
    if patterns.is_empty() {
        String::new()
    } else {
        format!(": {}", patterns.iter().map(DatasetPattern::as_str).collect::<Vec<_>>().join(", "))
    }
}

fn add(args: &Args, list: &mut AccessList, entry: &Entry, key: &PublicKey) -> Result<()> {
    match &entry.role {
        Role::Client(name) => {
            // How it is reached gitosis did not know: nothing is fetched until an administrator says so.
            let new = NewClient {
                key: key.clone(),
                address: None,
                git_address: None,
                host_key: None,
                allow: entry.patterns.clone(),
                quota: None,
            };
            list.add_client(name, new)
        }
        Role::Admin(name) => list.add_admin(name, key),
        Role::Restorer(name) => {
            let read = entry.patterns.iter().map(|pattern| (args.client.clone(), pattern.clone())).collect();
            list.add_restorer(name, key, read)
        }
        Role::Export(_) => Ok(()),
    }
}
