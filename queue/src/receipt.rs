//! The receipt: a node's signed answer to one request.
//!
//! Does not know how the node came to its answer, nor what the client does with it.

use crate::canonical::{self, Lines};
use base::{Blake3, Claim, Dataset, Error, Name, RequestId, Result, Sha256};
use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Deserialize as DeserializeMacro, Serialize};
use std::fmt;

/// The largest receipt, in bytes.
pub const FILE_LIMIT: usize = 64 * 1024;
/// The most bytes in `reason`.
pub const REASON_LIMIT: usize = 1024;
/// The most bytes in one line of `changed`.
pub const CHANGED_LIMIT: usize = 512;
/// The most packs that one receipt names as missing; a client that sends those again hears of the rest.
pub const MISSING_LIMIT: usize = 400;
/// The most bytes that all lines of `changed` have together; escapes in the file may double them.
const CHANGED_TOTAL: usize = 24 * 1024;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, DeserializeMacro)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The data is in the node's store, checked and durable.
    Stored,
    /// A rule forbids it, or packs are missing.
    Refused,
    /// The node tried and could not; the dataset must be submitted again.
    Failed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stored => "stored",
            Self::Refused => "refused",
            Self::Failed => "failed",
        })
    }
}

/// What a node answers to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The request's id.
    pub id: RequestId,
    /// The node that answers.
    pub node: Name,
    /// The client that asked.
    pub client: Name,
    /// What was to be kept.
    pub dataset: Dataset,
    /// SHA-256 of the request file's bytes.
    pub request: Sha256,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it was not stored; or what is to be known beside.
    pub reason: Option<String>,
    /// The node's clock at acceptance (or at the refusal), to the second.
    pub received: Timestamp,
    /// Bytes that were fetched.
    pub bytes_fetched: u64,
    /// Bytes by which the store grew.
    pub bytes_stored: u64,
    /// How long fetching and checking took.
    pub seconds: u64,
    /// The snapshot's name, where there is one.
    pub snapshot: Option<String>,
    /// Source entries that the client could not read, as its manifest counts them.
    pub unreadable: u64,
    /// For git, the digest of the whole list of refs.
    pub refs: Option<Sha256>,
    /// For git, the refs that changed, a line each.
    pub changed: Vec<String>,
    /// Packs that the node lacks (`refused`): they must be sent again.
    pub missing: Vec<Blake3>,
}

impl Receipt {
    /// What `node` says of a request that says nothing more than the outcome and why.
    pub fn plain(node: Name, claim: &Claim, outcome: Outcome, reason: Option<String>, received: Timestamp) -> Self {
        Self {
            id: claim.id.clone(),
            node,
            client: claim.client.clone(),
            dataset: claim.dataset.clone(),
            request: claim.request_digest,
            outcome,
            reason,
            received,
            bytes_fetched: 0,
            bytes_stored: 0,
            seconds: 0,
            snapshot: None,
            unreadable: 0,
            refs: None,
            changed: Vec::new(),
            missing: Vec::new(),
        }
    }
}

#[derive(DeserializeMacro)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: i64,
    id: RequestId,
    node: Name,
    client: Name,
    dataset: Dataset,
    request: Sha256,
    outcome: Outcome,
    #[serde(default, deserialize_with = "canonical::maybe_printable::<_, REASON_LIMIT>")]
    reason: Option<String>,
    #[serde(deserialize_with = "canonical::time")]
    received: Timestamp,
    #[serde(default)]
    bytes_fetched: u64,
    #[serde(default)]
    bytes_stored: u64,
    #[serde(default)]
    seconds: u64,
    #[serde(default, deserialize_with = "canonical::maybe_printable::<_, 128>")]
    snapshot: Option<String>,
    #[serde(default)]
    unreadable: u64,
    refs: Option<Sha256>,
    #[serde(default, deserialize_with = "read_changed")]
    changed: Vec<String>,
    #[serde(default)]
    missing: Vec<Blake3>,
}

fn read_changed<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<String>, D::Error> {
    let lines = Vec::<String>::deserialize(from)?;
    for line in &lines {
        canonical::check_printable(line, CHANGED_LIMIT).map_err(|error| D::Error::custom(error.one_line()))?;
    }
    Ok(lines)
}

impl Receipt {
    /// Reads a receipt's file.
    ///
    /// # Errors
    /// Of kind refused, with line and field.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > FILE_LIMIT {
            return Err(Error::refused(format!("the receipt is longer than {FILE_LIMIT} bytes")));
        }
        let file: File = base::config::parse("the receipt", bytes).map_err(|error| error.with_kind(base::Kind::Refused))?;
        Ok(Self {
            id: file.id,
            node: file.node,
            client: file.client,
            dataset: file.dataset,
            request: file.request,
            outcome: file.outcome,
            reason: file.reason,
            received: file.received,
            bytes_fetched: file.bytes_fetched,
            bytes_stored: file.bytes_stored,
            seconds: file.seconds,
            snapshot: file.snapshot,
            unreadable: file.unreadable,
            refs: file.refs,
            changed: file.changed,
            missing: file.missing,
        })
    }

    /// The receipt with texts printable and lists short enough for [`Receipt::parse`]; what is left out is counted.
    #[must_use]
    pub fn fitted(mut self) -> Self {
        self.reason = self.reason.map(|text| canonical::fit(&text, REASON_LIMIT));
        self.snapshot = self.snapshot.map(|text| canonical::fit(&text, 128));
        self.missing.truncate(MISSING_LIMIT);
        // The last line may use what is set aside for counting the rest, so that fitting twice changes nothing.
        let (mut used, total) = (0, self.changed.len());
        let mut kept: Vec<String> = Vec::new();
        for (number, line) in self.changed.iter().enumerate() {
            let line = canonical::fit(line, CHANGED_LIMIT);
            used += line.len() + 4;
            if used > if number + 1 == total { CHANGED_TOTAL } else { CHANGED_TOTAL - 64 } {
                break;
            }
            kept.push(line);
        }
        if kept.len() < total {
            let more = total - kept.len();
            kept.push(format!("and {more} more"));
        }
        self.changed = kept;
        self
    }

    /// The file's bytes: always the same for the same receipt. Texts are [fitted](Receipt::fitted) first.
    pub fn to_toml(&self) -> Vec<u8> {
        let fitted = self.clone().fitted();
        Lines::new()
            .text("id", fitted.id.as_str())
            .text("node", fitted.node.as_str())
            .text("client", fitted.client.as_str())
            .text("dataset", &fitted.dataset.to_string())
            .text("request", &fitted.request.to_string())
            .text("outcome", &fitted.outcome.to_string())
            .maybe("reason", fitted.reason)
            .time("received", fitted.received)
            .number("bytes_fetched", fitted.bytes_fetched)
            .number("bytes_stored", fitted.bytes_stored)
            .number("seconds", fitted.seconds)
            .maybe("snapshot", fitted.snapshot)
            .number("unreadable", fitted.unreadable)
            .maybe("refs", fitted.refs)
            .list("changed", fitted.changed)
            .list("missing", fitted.missing)
            .bytes()
    }

    /// The name of the receipt's file: `RC<id>.toml`.
    pub fn file_name(&self) -> String {
        receipt_name(&self.id)
    }

    /// The message of the commit that carries this receipt alone.
    pub fn message(&self) -> String {
        crate::message::of_receipts(std::slice::from_ref(self))
    }
}

/// `RC<id>.toml`.
pub fn receipt_name(id: &RequestId) -> String {
    format!("RC{id}.toml")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn sample() -> Receipt {
        Receipt {
            id: "20261120T031500Z-3f9a1c7e".parse().unwrap(),
            node: Name::new("node1").unwrap(),
            client: Name::new("web1").unwrap(),
            dataset: "files:/var/www".parse().unwrap(),
            request: Sha256([1; 32]),
            outcome: Outcome::Stored,
            reason: None,
            received: "2026-11-20T03:15:09Z".parse().unwrap(),
            bytes_fetched: 12_900_000,
            bytes_stored: 12_900_000,
            seconds: 3,
            snapshot: Some("20261120T031500Z-3f9a1c7e".into()),
            unreadable: 0,
            refs: None,
            changed: vec![],
            missing: vec![],
        }
    }

    #[test]
    fn strict() {
        let good = String::from_utf8(sample().to_toml()).unwrap();
        for (from, to, word) in [
            ("\"stored\"", "\"cancelled\"", "line 7"),
            ("seconds = 3", "seconds = -3", "line 11"),
            ("seconds = 3", "seconds = 3\nsecond = 3", "line 12"),
            ("version = 1", "version = 9", "version = 9"),
        ] {
            let error = Receipt::parse(good.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert!(error.one_line().contains(word), "{}", error.one_line());
        }
    }

    #[test]
    fn long_lists_are_cut_and_the_rest_is_counted() {
        let mut receipt = sample();
        receipt.changed = (0..5000).map(|n| format!("refs/heads/\"{n}\"\n")).collect();
        receipt.missing = (0..5000u32).map(|n| Blake3::of(&n.to_le_bytes())).collect();
        receipt.reason = Some("\"".repeat(5000));
        let bytes = receipt.to_toml();
        let read = Receipt::parse(&bytes).unwrap();
        assert!(bytes.len() <= FILE_LIMIT);
        assert_eq!(read.missing.len(), MISSING_LIMIT);
        assert!(read.changed.last().unwrap().starts_with("and "), "{:?}", read.changed.last());
        assert_eq!(read, receipt.fitted());
    }

    proptest! {
        #[test]
        fn every_receipt_survives_its_file(
            (fetched, stored, seconds, unreadable) in (0..i64::MAX as u64, 0..i64::MAX as u64, 0..1_000_000_000u64, 0..i64::MAX as u64),
            reason in proptest::option::of(".{0,2000}"),
            changed in proptest::collection::vec(".{0,700}", 0..100),
            missing in proptest::collection::vec(any::<[u8; 32]>(), 0..600),
            refs in proptest::option::of(any::<[u8; 32]>()),
            outcome in prop_oneof![Just(Outcome::Stored), Just(Outcome::Refused), Just(Outcome::Failed)],
        ) {
            let receipt = Receipt {
                outcome, reason, bytes_fetched: fetched, bytes_stored: stored, seconds, unreadable, changed,
                refs: refs.map(Sha256), missing: missing.into_iter().map(Blake3).collect(), ..sample()
            }.fitted();
            let bytes = receipt.to_toml();
            prop_assert_eq!(Receipt::parse(&bytes).unwrap(), receipt);
        }
    }
}
