//! `client add`: takes in a machine, by the line that it printed or by what an administrator says of it.
//!
//! Grants nothing that `--allow` does not name.

use super::pattern;
use crate::access::{edit, scan};
use crate::commands::{AdminKey, host_key, public_key};
use crate::node::Node;
use crate::{enrol, output};
use base::config::SshAddress;
use base::{At, ByteSize, DatasetPattern, Error, Keep, Name, Result, Span};
use queue::access::{ClientChange, NewClient, limits};
use queue::enrol::{ClientLine, LINE_LIMIT, is_client_line, within};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Add {
    /// The line that nightsafe init printed on the machine; or - to find it in the standard input; or what the machine is to
    /// be called, with --key, --address and --host-key or --scan, or --key and --dial.
    #[arg(value_name = "LINE|NAME")]
    who: String,
    /// The machine's public ssh key, which signs its requests.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The account on the machine from which the node fetches, USER@HOST or USER@HOST:PORT. With a line: in place of what it says.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SshAddress>,
    /// The account from which git repositories are fetched, where it is another one.
    #[arg(long, value_name = "ADDRESS")]
    git_address: Option<SshAddress>,
    /// The machine dials in, so it has no address (docs/dial.md). With a line: whatever that says.
    #[arg(long, conflicts_with_all = ["address", "git_address", "host_key", "scan"])]
    dial: bool,
    /// The machine's host key: the text "ssh-ed25519 AAAA…", or a file that holds it.
    #[arg(long, value_name = "KEY", value_hint = clap::ValueHint::FilePath, conflicts_with = "scan")]
    host_key: Option<String>,
    /// Ask the machine itself for its host key, and ask you whether it is the right one.
    #[arg(long)]
    scan: bool,
    /// What is taken: MODULE:PATH, where the path may end in /* or /**, or MODULE:*. May be given several times.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    allow: Vec<DatasetPattern>,
    /// Take what the line asks for, beside what --allow names.
    #[arg(long)]
    allow_asked: bool,
    /// Let the machine restore what it sent itself, with the key that its line names for that.
    #[arg(long)]
    let_restore: bool,
    /// How much may be kept, as in "200 GiB".
    #[arg(long, value_name = "SIZE")]
    quota: Option<ByteSize>,
    /// What is kept of each dataset: "daily=7,weekly=4" or "1W:1D,4W:1W". Default: as [defaults] says, or else everything.
    #[arg(long, value_name = "RULES")]
    keep: Option<Keep>,
    /// How often a snapshot is expected, as in 1d: those that come sooner do not count for "last".
    #[arg(long, value_name = "TIME")]
    expect: Option<Span>,
    /// What it may use: bytes_a_day=50GiB, requests_a_day=500, packs=50000, fetches=1, time=6h, bandwidth=20MiB or sessions=16. May
    /// be given several times.
    #[arg(long, value_name = "LIMIT=VALUE")]
    limit: Vec<limits::Change>,
    /// Do not ask whether to go on.
    #[arg(long)]
    yes: bool,
    /// Print the answer as an array with one object: client, line, code.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminKey,
}

impl Add {
    /// Runs the command.
    pub fn run(&self, node: &Node) -> Result<()> {
        if self.who == "-" {
            let bytes =
                base::untrusted::read_bounded(std::io::stdin().lock(), 4 * LINE_LIMIT).at("read the line from", "the standard input")?;
            let text = String::from_utf8(bytes).map_err(|_| Error::usage("what came on the standard input is no text"))?;
            return self.by_line(node, within(&text));
        }
        if is_client_line(&self.who) || self.who.len() > 63 {
            return self.by_line(node, &self.who);
        }
        let name = Name::new(self.who.as_str()).map_err(|error| error.hint("Give the line that nightsafe init printed, or a name."))?;
        self.by_hand(node, &name)
    }

    fn change(&self) -> ClientChange {
        ClientChange { keep: Some(self.keep.clone()), expect: Some(self.expect), quota: None, limits: self.limit.clone() }
    }

    fn by_line(&self, node: &Node, text: &str) -> Result<()> {
        let line = ClientLine::parse(text)?;
        let given = [("--key", self.key.is_some()), ("--host-key", self.host_key.is_some()), ("--scan", self.scan)];
        if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
            return Err(Error::usage(format!("{option} cannot be given with a line, which names the keys itself"))
                .hint("Leave it out; or leave out the line, and give NAME, --key, --address and --host-key."));
        }
        if self.let_restore && line.restore_key.is_none() {
            return Err(Error::usage(format!("{} has no key to restore with", line.name))
                .hint("Run nightsafe init --restore there, and take the line that it prints."));
        }
        let mut allow = self.allow.clone();
        if self.allow_asked {
            allow.extend(line.wants.iter().filter(|pattern| !self.allow.contains(pattern)).cloned());
        }
        let answer = enrol::Answer {
            allow,
            address: self.address.clone(),
            git_address: self.git_address.clone(),
            dial: self.dial,
            quota: self.quota,
            change: self.change(),
            let_restore: self.let_restore,
            yes: self.yes,
            json: self.json,
        };
        let nothing = answer.allow.is_empty();
        enrol::take_in(node, &line, &answer, &self.admin.signer()?)?;
        self.warn_of_nothing(&line.name, nothing);
        Ok(())
    }

    fn by_hand(&self, node: &Node, name: &Name) -> Result<()> {
        let missing = |option: &str| {
            Error::usage(format!("{option} is missing for {name}"))
                .hint("Give --key, and --address and --host-key or --scan, or --dial; or the line that nightsafe init printed on the machine, which has all of it.")
        };
        for (option, given) in [("--allow-asked", self.allow_asked), ("--let-restore", self.let_restore), ("--json", self.json)] {
            if given {
                return Err(Error::usage(format!("{option} is for the line that nightsafe init printed, and this is a name")));
            }
        }
        let key = public_key(self.key.as_deref().ok_or_else(|| missing("--key"))?)?;
        let host_key = match (&self.address, &self.host_key) {
            _ if self.dial => None,
            (None, _) => return Err(missing("--address or --dial")),
            (Some(_), Some(given)) => host_key(given)?,
            (Some(address), None) if self.scan => Some(scan::confirmed(address)?),
            (Some(_), None) => return Err(missing("--host-key or --scan")),
        };
        let signer = self.admin.signer()?;
        let allowed: Vec<&str> = self.allow.iter().map(DatasetPattern::as_str).collect();
        let taken = if allowed.is_empty() { "nothing yet".to_owned() } else { allowed.join(", ") };
        let from = self.address.as_ref().map_or_else(|| "dialling in".to_owned(), |address| format!("from {address}"));
        let message = format!("Take in {name}\n\n{from}: {taken}\n");
        let new = NewClient {
            key,
            address: self.address.clone(),
            git_address: self.git_address.clone(),
            host_key,
            allow: self.allow.clone(),
            quota: self.quota,
        };
        edit::change(node, &signer, &message, |list| {
            list.add_client(name, new)?;
            if self.dial {
                list.let_dial(name)?;
            }
            list.set_client(name, self.change())
        })?;
        self.warn_of_nothing(name, self.allow.is_empty());
        Ok(())
    }

    fn warn_of_nothing(&self, name: &Name, nothing: bool) {
        if nothing && !self.json {
            output::warning(&format!("{name} may log in, and nothing is taken from it until --allow names it"));
        }
    }
}
