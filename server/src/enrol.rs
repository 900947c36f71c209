//! Taking in a client by the line that it printed: what it says is shown, granted as far as the administrator says, pinned by
//! a signed commit, and answered by a line of the node's own.
//!
//! Believes nothing of the line but what a person confirms; whether it came unchanged, the code says at the other end.

use crate::access::{self, edit};
use crate::node::Node;
use crate::{keys, output};
use base::config::{Reach, SshAddress};
use base::{At, ByteSize, DatasetPattern, Error, Name, Result};
use queue::access::{AccessList, ClientChange, NewClient};
use queue::enrol::{ClientLine, NodeKeys, NodeLine, Pinned, code::Code, here};
use queue::verdict::Role;
use queue::{PublicKey, Signer};
use serde::Serialize;
use std::os::unix::fs::MetadataExt;

/// What the administrator says to a client's line.
#[derive(Debug)]
pub struct Answer {
    /// What is taken from it.
    pub allow: Vec<DatasetPattern>,
    /// How it is reached, where the line says it wrong or not at all.
    pub address: Option<SshAddress>,
    /// As `address`, for git repositories.
    pub git_address: Option<SshAddress>,
    /// Whether it dials, whatever the line says.
    pub dial: bool,
    /// How much it may keep.
    pub quota: Option<ByteSize>,
    /// Everything else that holds for it.
    pub change: ClientChange,
    /// Whether its restore key may read what it sent.
    pub let_restore: bool,
    /// Whether nobody is asked.
    pub yes: bool,
    /// Whether a program reads the answer.
    pub json: bool,
}

impl Answer {
    /// The options that say what holds for the client from now on, of those that were given.
    fn given(&self) -> Vec<&'static str> {
        let options = [
            ("--allow", !self.allow.is_empty()),
            ("--git-address", self.git_address.is_some()),
            ("--quota", self.quota.is_some()),
            ("--keep", self.change.keep.as_ref().is_some_and(Option::is_some)),
            ("--expect", self.change.expect.is_some_and(|expect| expect.is_some())),
            ("--limit", !self.change.limits.is_empty()),
        ];
        options.into_iter().filter(|(_, given)| *given).map(|(option, _)| option).collect()
    }
}

/// The node's answer, for programs.
#[derive(Serialize)]
struct Row {
    client: String,
    line: String,
    code: String,
}

/// Takes the client in and prints the answer. A client that is in the list as the line says stays as it is, and is answered
/// again.
///
/// # Errors
/// Of kind usage when the line does not fit the list; refused when a person says no, or the signer is no administrator.
pub fn take_in(node: &Node, line: &ClientLine, answer: &Answer, signer: &Signer) -> Result<()> {
    node.check_owner()?;
    let mut pinned = pinned(line, answer)?;
    let before = access::current(node)?.list;
    let known = known(&before, &pinned)?;
    // The answer says no more than the list does.
    if let Some(key) = pinned.restore_key.clone().filter(|_| known)
        && before.who(&public(&key)?) != Some(Role::Restorer(line.name.clone()))
    {
        output::warning(&format!("{0} is in the list already, and may not restore: see nightsafe-server restorer add", line.name));
        pinned.restore_key = None;
    }
    // What the answer needs is looked up first: a client that was let in and gets no answer would be half a step.
    let (text, code) = answer_line(node, &pinned)?;
    let told = describe(line, &pinned, answer, known)?;
    if !answer.json {
        told.iter().try_for_each(|text| output::line(text))?;
    } else if !known && !answer.yes {
        // Whoever is asked sees what about, beside what a program reads.
        told.iter().for_each(|text| output::beside(text));
    }
    if known {
        let given = answer.given();
        if !given.is_empty() {
            let options = given.join(", ");
            output::warning(&format!(
                "{0} is in the list already and stays as it is there, whatever {options} says; nightsafe-server client set {0} changes what is kept and what it may use, the list in admin.git all of it",
                line.name
            ));
        }
    } else {
        confirm(line, answer)?;
        enter(node, line, &pinned, answer, signer)?;
    }
    print(&pinned, &text, &code, answer.json)
}

/// What is held to from now on.
fn pinned(line: &ClientLine, answer: &Answer) -> Result<Pinned> {
    let restore_key = line.restore_key.clone().filter(|_| answer.let_restore);
    if answer.dial || line.reach == Reach::Dial && answer.address.is_none() && answer.git_address.is_none() {
        let (name, key) = (line.name.clone(), line.key.clone());
        return Ok(Pinned { name, key, reach: Reach::Dial, host_key: None, address: None, restore_key });
    }
    let address = answer.address.clone().or_else(|| line.address.clone());
    if line.host_key.is_none() && (address.is_some() || answer.git_address.is_some()) {
        return Err(Error::usage(format!("the line of {} names no host key, so this node cannot log in to it", line.name))
            .hint("Run nightsafe init --host-key FILE on the client, and take the line that it prints."));
    }
    Ok(Pinned { name: line.name.clone(), key: line.key.clone(), reach: Reach::Ssh, host_key: line.host_key.clone(), address, restore_key })
}

/// Whether the list has just this client. Another machine of that name, or this machine under another name, is an error.
fn known(list: &AccessList, pinned: &Pinned) -> Result<bool> {
    let key = public(&pinned.key)?;
    if let Some(role) = list.who(&key).filter(|role| role.name() != &pinned.name || role.word() != "client") {
        return Err(Error::usage(format!("the key in this line belongs to {} {} already", role.word(), role.name()))
            .hint("Each machine makes keys of its own: run nightsafe init there with a state folder of its own."));
    }
    let Some(grant) = list.clients.get(&pinned.name) else { return Ok(false) };
    let same_key = grant.keys.iter().any(|known| known.key_data() == key.key_data());
    let other = match () {
        () if !same_key => "another key",
        () if grant.reach != pinned.reach => {
            let (has, change) = match grant.reach {
                Reach::Dial => ("dials in", "--no-dial --address ADDRESS --host-key KEY"),
                Reach::Ssh => ("does not dial in", "--dial"),
            };
            return Err(Error::usage(format!("{} {has} as the list has it, and this line says otherwise", pinned.name))
                .hint(format!("To go by the line: nightsafe-server client set {} {change}; then this again.", pinned.name)));
        }
        () if grant.host_key != pinned.host_key => "another host key",
        () if grant.address != pinned.address => "another address",
        () => return Ok(true),
    };
    Err(Error::usage(format!("there is a client {} already, with {other} than this line has", pinned.name)).hint(format!(
        "If it was set up anew: nightsafe-server client remove {0}, then this again (what it stored is kept). If it is another machine, it needs another name: nightsafe init --name.",
        pinned.name
    )))
}

fn public(text: &str) -> Result<PublicKey> {
    queue::signature::parse_public_key(text)
}

fn fingerprint(text: &str) -> Result<String> {
    let key = public(text)?;
    Ok(format!("{} ({})", key.fingerprint(ssh_key::HashAlg::Sha256), key.algorithm()))
}

fn words(patterns: &[DatasetPattern]) -> String {
    if patterns.is_empty() { "nothing".into() } else { patterns.iter().map(DatasetPattern::as_str).collect::<Vec<_>>().join(", ") }
}

/// What the line says, and what becomes of it.
fn describe(line: &ClientLine, pinned: &Pinned, answer: &Answer, known: bool) -> Result<Vec<String>> {
    let mut told = vec![format!("{} says of itself:", line.name), format!("  logs in with     {}", fingerprint(&line.key)?)];
    told.push(match (line.reach, &line.address) {
        (Reach::Dial, _) => "  is reached       by nobody: it dials".to_owned(),
        (Reach::Ssh, Some(address)) => format!("  is reached at    {address}"),
        (Reach::Ssh, None) => "  is reached at    nowhere".to_owned(),
    });
    if let Some(address) = &line.git_address {
        told.push(format!("  and for git at   {address}"));
    }
    if let Some(key) = &line.host_key {
        told.push(format!("  has the host key {}", fingerprint(key)?));
    }
    if let Some(key) = &line.restore_key {
        told.push(format!("  restores with    {}", fingerprint(key)?));
    }
    told.push(format!("  asks for         {}", words(&line.wants)));
    if known {
        told.push("It is in the list just so; nothing is changed.".to_owned());
        return Ok(told);
    }
    told.push("What is done:".to_owned());
    told.push(match (pinned.reach, &pinned.address) {
        (Reach::Dial, _) => "  its key is pinned; it dials in, and this node logs in nowhere".to_owned(),
        (Reach::Ssh, Some(address)) => format!("  both keys are pinned; this node logs in to {address}"),
        (Reach::Ssh, None) => "  its key is pinned; this node logs in nowhere, so it fetches nothing".to_owned(),
    });
    told.push(format!("  taken from it:   {}", words(&answer.allow)));
    told.push(format!("  it may restore:  {}", if pinned.restore_key.is_some() { "what it sent itself" } else { "nothing" }));
    Ok(told)
}

fn confirm(line: &ClientLine, answer: &Answer) -> Result<()> {
    if answer.yes {
        return Ok(());
    }
    match output::ask(&format!("Take {} in like this? yes or no: ", line.name)).as_deref() {
        Some("yes" | "y") => Ok(()),
        Some(_) => Err(Error::refused("nothing was changed")),
        None => {
            Err(Error::usage("a person must confirm this at a terminal").hint("In a script say --yes, when what is done was looked at."))
        }
    }
}

/// The signed commit.
fn enter(node: &Node, line: &ClientLine, pinned: &Pinned, answer: &Answer, signer: &Signer) -> Result<()> {
    let dials = pinned.reach == Reach::Dial;
    let from = match &pinned.address {
        Some(address) => format!("from {address}"),
        None => (if dials { "dialling in" } else { "from no address" }).to_owned(),
    };
    let mut message = format!("Take in {}\n\n{from}: {}\n", line.name, words(&answer.allow));
    if pinned.restore_key.is_some() {
        message.push_str("It may restore what it sent itself.\n");
    }
    let new = NewClient {
        key: public(&pinned.key)?,
        address: pinned.address.clone(),
        git_address: answer.git_address.clone().or_else(|| line.git_address.clone()).filter(|_| !dials),
        host_key: pinned.host_key.clone(),
        allow: answer.allow.clone(),
        quota: answer.quota,
    };
    edit::change(node, signer, &message, |list| {
        list.add_client(&line.name, new)?;
        if dials {
            list.let_dial(&line.name)?;
        }
        list.set_client(&line.name, answer.change.clone())?;
        match &pinned.restore_key {
            Some(key) => list.add_restorer(&line.name, &public(key)?, vec![(line.name.clone(), DatasetPattern::new("*")?)]),
            None => Ok(()),
        }
    })
}

/// What this node answers, with the code for it.
fn answer_line(node: &Node, pinned: &Pinned) -> Result<(String, Code)> {
    let config = &node.config;
    let address = match &config.address {
        Some(address) => address.clone(),
        None => here::address(&owner(node)?).map_err(|error| error.hint("Write address = \"USER@HOST\" into node.toml."))?,
    };
    let host = here::host_key(config.host_key.as_deref())?.ok_or_else(|| {
        Error::usage(format!("this machine's sshd has none of {}", here::HOST_KEYS.join(", ")))
            .hint("Write host_key = \"ssh-ed25519 AAAA…\" into node.toml: clients pin it.")
    })?;
    let own = |key: &std::path::Path| queue::access::openssh(&crate::commands::public_key(&keys::with_pub(key))?);
    let keys = NodeKeys { host, receipts: own(&config.receipts_key)?, pull: own(&config.pull_key)? };
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Error::failed(format!("no random bytes from the system: {error}")))?;
    let mut line = NodeLine::new(config.name.clone(), address, &keys, pinned.clone(), random)?;
    line.read_address = config.read_address.clone();
    line.to_line()
}

/// Whom clients log in as: whose the gate's folder is.
fn owner(node: &Node) -> Result<String> {
    let uid = std::fs::metadata(&node.config.gate).at("look at", &node.config.gate)?.uid();
    let user = uzers::get_user_by_uid(uid).ok_or_else(|| {
        Error::usage(format!("the gate's folder belongs to uid {uid}, which has no name"))
            .hint("Write address = \"USER@HOST\" into node.toml.")
    })?;
    Ok(user.name().to_string_lossy().into_owned())
}

fn print(pinned: &Pinned, line: &str, code: &Code, json: bool) -> Result<()> {
    let name: &Name = &pinned.name;
    if json {
        return output::json(&[Row { client: name.to_string(), line: line.to_owned(), code: code.to_string() }]);
    }
    output::line("")?;
    output::line(&format!("{name} is let in. On {name}, run nightsafe node add with this line:"))?;
    output::line("")?;
    output::line(line)?;
    output::line("")?;
    output::line("It asks for this code, which goes another way than the line, as by telephone:")?;
    output::line("")?;
    output::line(&code.to_string())?;
    output::line("")?;
    output::line(&format!("If it finds another one, a line was changed on the way: nightsafe-server client remove {name}"))
}
