//! The request: one small TOML file that asks a node to fetch one dataset.
//!
//! Says what is well formed. Whether it was signed, and by whom, is judged by [`crate::prove()`].

use crate::canonical::{self, Lines};
use base::{Blake3, Claim, Dataset, Error, Group, Name, Payload, Proof, Reason, RequestId, Result, Sha256};
use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, Error as _};

/// The largest request, manifest or list of refs that travels in a commit, in bytes.
pub const FILE_LIMIT: usize = 64 * 1024;
/// The most bytes in `by`.
pub const BY_LIMIT: usize = 64;
/// The most tags.
pub const TAGS_LIMIT: usize = 16;
/// The most lost packs that one request repairs.
pub const REPAIRS_LIMIT: usize = 400;
/// The most bytes in one tag.
pub const TAG_LIMIT: usize = 64;

/// What a client asks of a node. One for a part of a long backup has the part's number in its id; the file says it as `part`
/// too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Unique for the client.
    pub id: RequestId,
    /// Whose data it is.
    pub client: Name,
    /// The node that is asked.
    pub node: Name,
    /// What is to be kept.
    pub dataset: Dataset,
    /// One up for each request of this client to this node; the first is 1.
    pub seq: u64,
    /// The request before for the same dataset and node.
    pub prev: Option<RequestId>,
    /// The client's clock, to the second.
    pub submitted: Timestamp,
    /// Who asked for it on the client: the owner of the pool file.
    pub by: String,
    /// Why.
    pub reason: Reason,
    /// Words of the submitter's own, each of `a-z0-9._-`.
    pub tags: Vec<String>,
    /// What the signature covers beside the request.
    pub payload: Payload,
    /// Packs that were lost at the node, and of which this brings again what the client still has.
    pub repairs: Vec<Blake3>,
    /// The group whose restore point it is part of.
    pub group: Option<Group>,
}

/// The file as it is written. Checks stand in the fields' own readers, so that errors name the line.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: i64,
    id: RequestId,
    client: Name,
    node: Name,
    dataset: Dataset,
    #[serde(deserialize_with = "read_seq")]
    seq: u64,
    prev: Option<RequestId>,
    #[serde(deserialize_with = "canonical::time")]
    submitted: Timestamp,
    #[serde(deserialize_with = "canonical::printable::<_, BY_LIMIT>")]
    by: String,
    reason: Reason,
    #[serde(default, deserialize_with = "read_tags")]
    tags: Vec<String>,
    manifest: Option<Blake3>,
    refs: Option<Sha256>,
    part: Option<u16>,
    #[serde(default, deserialize_with = "read_repairs")]
    repairs: Vec<Blake3>,
    group: Option<RequestId>,
    group_name: Option<String>,
    group_members: Option<Vec<Dataset>>,
    group_lacks: Option<Vec<Dataset>>,
}

fn read_seq<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<u64, D::Error> {
    match u64::deserialize(from)? {
        0 => Err(D::Error::custom("seq begins at 1")),
        seq => Ok(seq),
    }
}

fn read_repairs<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<Blake3>, D::Error> {
    let packs = Vec::<Blake3>::deserialize(from)?;
    let sorted = packs.windows(2).all(|two| two[0] < two[1]);
    match packs.len() {
        1..=REPAIRS_LIMIT if sorted => Ok(packs),
        _ => Err(D::Error::custom(format!("repairs names 1 to {REPAIRS_LIMIT} packs, each once and in order"))),
    }
}

fn read_tags<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<String>, D::Error> {
    let tags = Vec::<String>::deserialize(from)?;
    check_tags(&tags).map_err(|error| D::Error::custom(error.one_line()))?;
    Ok(tags)
}

/// Whether `tags` are such that a request may carry them.
///
/// # Errors
/// Of kind usage, with the rule.
pub fn check_tags(tags: &[String]) -> Result<()> {
    if tags.len() > TAGS_LIMIT {
        return Err(Error::usage(format!("there are {} tags, and at most {TAGS_LIMIT} are allowed", tags.len())));
    }
    let plain = |tag: &str| tag.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'));
    match tags.iter().find(|tag| tag.is_empty() || tag.len() > TAG_LIMIT || !plain(tag)) {
        Some(tag) => Err(Error::usage(format!("{tag:?} is no tag")).hint("Use 1 to 64 of a-z, 0-9, '.', '_' and '-'.")),
        None => Ok(()),
    }
}

impl Request {
    /// Reads a request's file.
    ///
    /// # Errors
    /// Of kind refused, with line and field.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > FILE_LIMIT {
            return Err(Error::refused(format!("the request is longer than {FILE_LIMIT} bytes")));
        }
        let file: File = base::config::parse("the request", bytes).map_err(|error| error.with_kind(base::Kind::Refused))?;
        let payload = match (file.manifest, file.refs) {
            (Some(_), Some(_)) => return Err(Error::refused("the request has both a manifest and refs; it can have one of them")),
            (Some(digest), None) => Payload::Manifest(digest),
            (None, Some(digest)) => Payload::Refs(digest),
            (None, None) => Payload::Nothing,
        };
        if !file.repairs.is_empty() && !matches!(payload, Payload::Manifest(_)) {
            return Err(Error::refused("the request repairs packs and has no manifest"));
        }
        if file.part != file.id.part() {
            let part = file.part.map_or_else(|| "no part".into(), |part| format!("part {part}"));
            return Err(Error::refused(format!("the request has the id {} and names {part}", file.id)));
        }
        if file.part.is_some() && (!matches!(payload, Payload::Manifest(_)) || !file.repairs.is_empty()) {
            return Err(Error::refused("the request is for a part, and is none of an archive, or repairs something"));
        }
        let group = match (file.group, file.group_name, file.group_members, file.group_lacks) {
            (None, None, None, None) => None,
            (Some(id), Some(name), Some(members), lacks) => Some(Group { id, name, members, lacks: lacks.unwrap_or_default() }),
            _ => return Err(Error::refused("the request says of a group only in part which one it is")),
        };
        if let Some(group) = &group {
            group.check(&file.dataset)?;
            if file.part.is_some() {
                return Err(Error::refused("the request is for a part; the whole belongs to the group"));
            }
        }
        Ok(Self {
            id: file.id,
            client: file.client,
            node: file.node,
            dataset: file.dataset,
            seq: file.seq,
            prev: file.prev,
            submitted: file.submitted,
            by: file.by,
            reason: file.reason,
            tags: file.tags,
            payload,
            repairs: file.repairs,
            group,
        })
    }

    /// Whether every node would read this request as it stands; what [`Request::parse`] checks of a file.
    ///
    /// # Errors
    /// Of kind refused, with the rule that is broken.
    pub fn check(&self) -> Result<()> {
        match Self::parse(&self.to_toml())? == *self {
            true => Ok(()),
            false => Err(Error::refused("the request does not survive being written (is its time to the second?)")),
        }
    }

    /// The file's bytes: always the same for the same request.
    pub fn to_toml(&self) -> Vec<u8> {
        let mut lines = Lines::new();
        lines
            .text("id", self.id.as_str())
            .text("client", self.client.as_str())
            .text("node", self.node.as_str())
            .text("dataset", &self.dataset.to_string())
            .number("seq", self.seq)
            .maybe("prev", self.prev.as_ref())
            .time("submitted", self.submitted)
            .text("by", &self.by)
            .text("reason", reason_word(self.reason))
            .list("tags", &self.tags);
        match self.payload {
            Payload::Manifest(digest) => lines.text("manifest", &digest.to_string()),
            Payload::Refs(digest) => lines.text("refs", &digest.to_string()),
            Payload::Nothing => &mut lines,
        };
        lines.list("repairs", &self.repairs);
        if let Some(group) = &self.group {
            lines.text("group", group.id.as_str()).text("group_name", &group.name).list("group_members", &group.members);
            lines.list("group_lacks", &group.lacks);
        }
        if let Some(part) = self.id.part() {
            lines.number("part", part.into());
        }
        lines.bytes()
    }

    /// The name of the request's file in the queue: `RQ<id>.toml`.
    pub fn file_name(&self) -> String {
        request_name(&self.id)
    }

    /// The name of what travels with it, a manifest or a list of refs: `MF<id>`.
    pub fn attachment_name(&self) -> String {
        attachment_name(&self.id)
    }

    /// The message of the commit that carries this request alone.
    pub fn message(&self) -> String {
        crate::message::of_requests(std::slice::from_ref(self))
    }

    /// `by` as a request can carry it: printable and short.
    pub fn fit_by(text: &str) -> String {
        canonical::fit(text, BY_LIMIT)
    }

    /// The claim, for [`crate::prove()`], which has checked that all of it belongs together.
    pub(crate) fn into_claim(self, commit: String, proof: Proof) -> Claim {
        Claim {
            id: self.id,
            client: self.client,
            node: self.node,
            dataset: self.dataset,
            seq: self.seq,
            prev: self.prev,
            submitted: self.submitted,
            by: self.by,
            reason: self.reason,
            payload: self.payload,
            repairs: self.repairs,
            group: self.group,
            request_digest: Sha256::of(&proof.request),
            commit,
            proof,
        }
    }
}

/// `RQ<id>.toml`.
pub fn request_name(id: &RequestId) -> String {
    format!("RQ{id}.toml")
}

/// `MF<id>`.
pub fn attachment_name(id: &RequestId) -> String {
    format!("MF{id}")
}

/// The word that stands for `reason` in files and messages.
pub fn reason_word(reason: Reason) -> &'static str {
    match reason {
        Reason::Hook => "hook",
        Reason::Schedule => "schedule",
        Reason::Manual => "manual",
        Reason::Heal => "heal",
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
pub(crate) mod tests;
