//! The lines by which a client and a node get to know each other. One prints its line, people carry it, the other takes it
//! in: the client's names its keys and how it is reached, the node's answers it, and the code ([`code`]) binds both.
//!
//! A line holds nothing secret. What it holds is believed only as far as a person says so: whoever carries it may have
//! written it.

pub mod code;
pub mod here;

use crate::access;
use crate::signature::parse_public_key;
use base::config::{Reach, SshAddress};
use base::{DatasetPattern, Error, Kind, Name, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The longest line that is read, in bytes.
pub const LINE_LIMIT: usize = 16 << 10;
/// How a client's line begins.
const CLIENT: &str = "nightsafe-client";
/// How a node's line begins.
const NODE: &str = "nightsafe-node";
/// How many digits the checksum has.
const SUM: usize = 16;
/// How many datasets a client may ask for in its line.
const WANTS: usize = 200;

/// Whether this is meant to be a client's line, and not a name.
pub fn is_client_line(text: &str) -> bool {
    text.trim_start().starts_with(CLIENT) && text.contains('.') && text.trim().len() > 64
}

/// The line in what somebody piped: from its beginning to the next empty line, whatever words stand around it.
pub fn within(text: &str) -> &str {
    let begins = [CLIENT, NODE].iter().filter_map(|kind| text.find(&format!("{kind}."))).min();
    let rest = begins.map_or(text, |at| &text[at..]);
    rest.split("\n\n").next().unwrap_or(rest).split("\r\n\r\n").next().unwrap_or(rest)
}

/// What a client says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientLine {
    version: i64,
    /// What it is called.
    pub name: Name,
    /// The key that logs in and signs requests.
    pub key: String,
    /// How a node gets to it.
    #[serde(default, skip_serializing_if = "Reach::is_ssh")]
    pub reach: Reach,
    /// Its host key, where a node can log in to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// The account that a node logs in to.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "address")]
    pub address: Option<SshAddress>,
    /// The account that serves git repositories, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "address")]
    pub git_address: Option<SshAddress>,
    /// The key with which it would restore what it sent itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_key: Option<String>,
    /// What it would like to have backed up.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "patterns")]
    pub wants: Vec<DatasetPattern>,
}

/// What a node answers to one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeLine {
    version: i64,
    /// What the node is called.
    pub name: Name,
    /// Its gate.
    #[serde(serialize_with = "plain_address")]
    pub address: SshAddress,
    /// Where restorers log in, if that is another account.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "address")]
    pub read_address: Option<SshAddress>,
    /// Its host key.
    pub host_key: String,
    /// The key that signs its receipts.
    pub receipts_key: String,
    /// The key with which it logs in to clients.
    pub pull_key: String,
    /// 32 random hex digits, made after the client's line was there: nobody can look for a line with the same code before.
    pub nonce: String,
    /// Whom it answers, with what it has pinned.
    pub client: Pinned,
}

/// What a node holds a client to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// Its name.
    pub name: Name,
    /// Its login key.
    pub key: String,
    /// How the node gets to it.
    #[serde(default, skip_serializing_if = "Reach::is_ssh")]
    pub reach: Reach,
    /// Its host key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// Where it is reached.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "address")]
    pub address: Option<SshAddress>,
    /// The key that may restore what this client sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_key: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde hands it on so")]
fn address<S: serde::Serializer>(address: &Option<SshAddress>, to: S) -> std::result::Result<S::Ok, S::Error> {
    match address {
        Some(address) => to.collect_str(address),
        None => to.serialize_none(),
    }
}

fn plain_address<S: serde::Serializer>(address: &SshAddress, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_str(address)
}

fn patterns<S: serde::Serializer>(patterns: &[DatasetPattern], to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_seq(patterns.iter().map(DatasetPattern::as_str))
}

impl ClientLine {
    /// A line that names its keys alone.
    ///
    /// # Errors
    /// When the key is of no usable kind.
    pub fn new(name: Name, key: &str) -> Result<Self> {
        let version = base::config::VERSION;
        let key = plain_key("key", key)?;
        let reach = Reach::default();
        Ok(Self { version, name, key, reach, host_key: None, address: None, git_address: None, restore_key: None, wants: Vec::new() })
    }

    /// The line.
    ///
    /// # Errors
    /// When it would be too long, or cannot be written.
    pub fn to_line(&self) -> Result<String> {
        write(CLIENT, self)
    }

    /// Reads a line; white space in it, as mails bring it in, is left out.
    ///
    /// # Errors
    /// Of kind usage, with what is wrong and where a right one comes from.
    pub fn parse(text: &str) -> Result<Self> {
        let mut line: Self = read(CLIENT, text)?;
        line.key = plain_key("key", &line.key)?;
        line.host_key = line.host_key.map(|key| plain_key("host_key", &key)).transpose()?;
        line.restore_key = line.restore_key.map(|key| plain_key("restore_key", &key)).transpose()?;
        if line.host_key.is_none() && (line.address.is_some() || line.git_address.is_some()) {
            return Err(wrong(CLIENT, "it has an address and no host_key"));
        }
        if line.reach == Reach::Dial && line.host_key.is_some() {
            return Err(wrong(CLIENT, "it says that the machine dials, and has a host key to log in by"));
        }
        if line.restore_key.as_ref() == Some(&line.key) {
            return Err(wrong(CLIENT, "key and restore_key are the same, and each key does one thing"));
        }
        if line.wants.len() > WANTS {
            return Err(wrong(CLIENT, &format!("it asks for {} datasets, and {WANTS} are the most", line.wants.len())));
        }
        if line.wants.iter().any(|pattern| pattern.as_str() == "*") {
            return Err(wrong(CLIENT, "it asks for everything; who wants that names modules, as in files:/**"));
        }
        Ok(line)
    }
}

impl NodeLine {
    /// An answer with a nonce of these bytes, which nobody may know before.
    ///
    /// # Errors
    /// When a key is of no usable kind.
    pub fn new(name: Name, address: SshAddress, keys: &NodeKeys, client: Pinned, random: [u8; 16]) -> Result<Self> {
        Ok(Self {
            version: base::config::VERSION,
            name,
            address,
            read_address: None,
            host_key: plain_key("host_key", &keys.host)?,
            receipts_key: plain_key("receipts_key", &keys.receipts)?,
            pull_key: plain_key("pull_key", &keys.pull)?,
            nonce: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            client,
        })
    }

    /// The line, and the code that belongs to it.
    ///
    /// # Errors
    /// As [`ClientLine::to_line`].
    pub fn to_line(&self) -> Result<(String, code::Code)> {
        let line = write(NODE, self)?;
        let code = code::Code::of(&payload(NODE, &line)?);
        Ok((line, code))
    }

    /// Reads a line, as [`ClientLine::parse`] does, and gives the code that belongs to it.
    ///
    /// # Errors
    /// As there.
    pub fn parse(text: &str) -> Result<(Self, code::Code)> {
        let code = code::Code::of(&payload(NODE, text)?);
        let mut line: Self = read(NODE, text)?;
        line.host_key = plain_key("host_key", &line.host_key)?;
        line.receipts_key = plain_key("receipts_key", &line.receipts_key)?;
        line.pull_key = plain_key("pull_key", &line.pull_key)?;
        line.client.key = plain_key("client.key", &line.client.key)?;
        line.client.host_key = line.client.host_key.map(|key| plain_key("client.host_key", &key)).transpose()?;
        line.client.restore_key = line.client.restore_key.map(|key| plain_key("client.restore_key", &key)).transpose()?;
        if line.client.reach == Reach::Dial && (line.client.host_key.is_some() || line.client.address.is_some()) {
            return Err(wrong(NODE, "it says that the client dials, and has an address or a host key to log in by"));
        }
        if line.nonce.len() != 32 || !line.nonce.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong(NODE, "nonce must be 32 hex digits"));
        }
        if line.pull_key == line.client.key || line.pull_key == line.receipts_key || line.receipts_key == line.client.key {
            return Err(wrong(NODE, "two of its keys are the same, and each key does one thing"));
        }
        Ok((line, code))
    }
}

/// A node's public keys, as text.
#[derive(Debug, Clone)]
pub struct NodeKeys {
    /// sshd's.
    pub host: String,
    /// That which signs receipts.
    pub receipts: String,
    /// That which logs in to clients.
    pub pull: String,
}

/// The key as `kind base64`, if it is one that is used here.
fn plain_key(field: &str, text: &str) -> Result<String> {
    let key = parse_public_key(text).and_then(|key| access::openssh(&key));
    key.map_err(|error| error.context(format!("{field} is no public key that is taken here")).with_kind(Kind::Usage))
}

/// What people call the line.
fn called(kind: &str) -> &'static str {
    if kind == CLIENT { "the client's line" } else { "the node's line" }
}

fn wrong(kind: &str, what: &str) -> Error {
    let from = match kind {
        CLIENT => "nightsafe init prints it on the client; copy the whole of it, from nightsafe-client to its last digit.",
        _ => "nightsafe-server client add prints it on the node; copy the whole of it, from nightsafe-node to its last digit.",
    };
    Error::usage(format!("{} cannot be used: {what}", called(kind))).hint(from)
}

fn checksum(head: &str) -> String {
    blake3::hash(head.as_bytes()).to_hex()[..SUM].to_owned()
}

fn write<T: Serialize>(kind: &str, line: &T) -> Result<String> {
    let text = toml::to_string(line).map_err(|error| Error::failed(format!("could not write {}", called(kind))).because(error))?;
    let head = format!("{kind}.{}", URL_SAFE_NO_PAD.encode(text));
    let line = format!("{head}.{}", checksum(&head));
    if line.len() > LINE_LIMIT {
        return Err(Error::usage(format!("{} would be longer than {LINE_LIMIT} bytes", called(kind)))
            .hint("Ask for fewer datasets; the node's administrator can allow more later."));
    }
    Ok(line)
}

/// The bytes that a line carries, if it is whole.
fn payload(kind: &str, text: &str) -> Result<Vec<u8>> {
    if text.len() > LINE_LIMIT {
        return Err(wrong(kind, &format!("it is longer than {LINE_LIMIT} bytes")));
    }
    let line: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if line.is_empty() {
        return Err(wrong(kind, "it is empty"));
    }
    if !line.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(wrong(kind, "it holds characters that no such line has"));
    }
    let parts: Vec<&str> = line.split('.').collect();
    let other = if kind == CLIENT { NODE } else { CLIENT };
    match parts.first() {
        Some(&first) if first == kind => {}
        Some(&first) if first == other => {
            return Err(Error::usage(format!("this is {}, and {} belongs here", called(other), called(kind))).hint(match kind {
                CLIENT => "A node's line is for the client: nightsafe node add LINE.",
                _ => "A client's line is for the node: nightsafe-server client add LINE.",
            }));
        }
        _ => return Err(wrong(kind, &format!("it does not begin with {kind}."))),
    }
    let [_, body, sum] = parts[..] else {
        return Err(wrong(kind, "it does not have three parts with a dot between them; its end is missing, or something was added"));
    };
    if checksum(&format!("{kind}.{body}")) != sum {
        return Err(wrong(kind, "its checksum does not fit, so something of it was lost or changed on the way"));
    }
    URL_SAFE_NO_PAD.decode(body).map_err(|_| wrong(kind, "its middle part is no base64"))
}

fn read<T: serde::de::DeserializeOwned>(kind: &str, text: &str) -> Result<T> {
    let bytes = payload(kind, text)?;
    base::config::parse(called(kind), &bytes)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
