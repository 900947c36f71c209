//! The notice: what a node has to tell a client beside the answers to its requests. It asks to have damage mended.
//!
//! Travels as `NT<id>.toml` on the branch of receipts, signed as they are. Does not know how the node found out, nor what
//! the client does with it.

use crate::canonical::{self, Lines};
use base::{Blake3, Dataset, Error, Name, RequestId, Result};
use jiff::Timestamp;
use serde::Deserialize as DeserializeMacro;
use std::collections::BTreeSet;

/// The largest notice, in bytes.
pub const FILE_LIMIT: usize = 64 * 1024;
/// The most packs that one notice names.
pub const PACKS_LIMIT: usize = 400;
/// The most datasets that one notice names.
pub const DATASETS_LIMIT: usize = 100;
/// The most bytes that the names of its datasets have together; escapes in the file may double them.
pub const DATASETS_BYTES: usize = 12 * 1024;
/// The most bytes in `reason`.
pub const REASON_LIMIT: usize = 1024;

/// What a node found damaged, and what it asks to be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The notice's own; no request has it.
    pub id: RequestId,
    /// The node that tells.
    pub node: Name,
    /// The client that is told.
    pub client: Name,
    /// The node's clock when it found the damage.
    pub found: Timestamp,
    /// Packs that are lost: nothing may be left out of a backup because it is in them.
    pub packs: Vec<Blake3>,
    /// Datasets whose snapshots are touched, and which are to be sent again.
    pub datasets: Vec<Dataset>,
    /// What happened, for people.
    pub reason: String,
}

#[derive(DeserializeMacro)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: i64,
    id: RequestId,
    node: Name,
    client: Name,
    #[serde(deserialize_with = "canonical::time")]
    found: Timestamp,
    #[serde(default)]
    packs: Vec<Blake3>,
    datasets: Vec<Dataset>,
    #[serde(deserialize_with = "canonical::printable::<_, REASON_LIMIT>")]
    reason: String,
}

impl Notice {
    /// Reads a notice's file.
    ///
    /// # Errors
    /// Of kind refused, with line and field.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > FILE_LIMIT {
            return Err(Error::refused(format!("the notice is longer than {FILE_LIMIT} bytes")));
        }
        let file: File = base::config::parse("the notice", bytes).map_err(|error| error.with_kind(base::Kind::Refused))?;
        let notice = Self {
            id: file.id,
            node: file.node,
            client: file.client,
            found: file.found,
            packs: file.packs,
            datasets: file.datasets,
            reason: file.reason,
        };
        notice.check()?;
        Ok(notice)
    }

    /// Whether every client would read this notice.
    ///
    /// # Errors
    /// Of kind refused, with the rule that is broken.
    pub fn check(&self) -> Result<()> {
        let wrong = |why: String| Err(Error::refused(format!("the notice {} is wrong: {why}", self.id)));
        if self.datasets.is_empty() || self.datasets.len() > DATASETS_LIMIT {
            return wrong(format!("it names {} datasets, and 1 to {DATASETS_LIMIT} are allowed", self.datasets.len()));
        }
        if self.datasets.iter().map(|dataset| dataset.to_string().len()).sum::<usize>() > DATASETS_BYTES {
            return wrong("the names of its datasets are too long".into());
        }
        if self.packs.len() > PACKS_LIMIT {
            return wrong(format!("it names {} packs, and at most {PACKS_LIMIT} are allowed", self.packs.len()));
        }
        if self.packs.iter().collect::<BTreeSet<_>>().len() != self.packs.len()
            || self.datasets.iter().map(ToString::to_string).collect::<BTreeSet<_>>().len() != self.datasets.len()
        {
            return wrong("it names something twice".into());
        }
        Ok(())
    }

    /// The file's bytes: always the same for the same notice. The reason is made printable and short enough.
    pub fn to_toml(&self) -> Vec<u8> {
        Lines::new()
            .text("id", self.id.as_str())
            .text("node", self.node.as_str())
            .text("client", self.client.as_str())
            .time("found", self.found)
            .list("packs", &self.packs)
            .list("datasets", &self.datasets)
            .text("reason", &canonical::fit(&self.reason, REASON_LIMIT))
            .bytes()
    }

    /// The name of the notice's file: `NT<id>.toml`.
    pub fn file_name(&self) -> String {
        notice_name(&self.id)
    }

    /// The message of the commit that carries it.
    pub fn message(&self) -> String {
        crate::message::of_notice(self)
    }
}

/// `NT<id>.toml`.
pub fn notice_name(id: &RequestId) -> String {
    format!("NT{id}.toml")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Notice {
        Notice {
            id: "20261120T050000Z-3f9a1c7e".parse().unwrap(),
            node: Name::new("node1").unwrap(),
            client: Name::new("web1").unwrap(),
            found: "2026-11-20T05:00:12Z".parse().unwrap(),
            packs: vec![Blake3([1; 32]), Blake3([2; 32])],
            datasets: vec!["files:/var/www".parse().unwrap()],
            reason: "its bytes are not those that its name says".into(),
        }
    }

    #[test]
    fn hostile_notices_are_refused() {
        let good = String::from_utf8(sample().to_toml()).unwrap();
        assert_eq!(Notice::parse(good.as_bytes()).unwrap(), sample());
        let many = |n: usize| (0..n).map(|n| format!("\"files:/{n}\"")).collect::<Vec<_>>().join(", ");
        let pack = format!("\"{}\"", Blake3([1; 32]));
        for (from, to) in [
            ("version = 1", "version = 2"),
            ("\"node1\"", "\"../node1\""),
            ("\"web1\"", "\"admin\""),
            ("12Z", "12+01:00"),
            ("\"files:/var/www\"", "\"files:/var/../etc\""),
            ("\"files:/var/www\"", ""),
            ("\"files:/var/www\"", &many(DATASETS_LIMIT + 1)),
            ("\"files:/var/www\"", "\"files:/a\", \"files:/a\""),
            ("\"files:/var/www\"", &format!("\"files:/{}\"", "x".repeat(DATASETS_BYTES))),
            (&pack, "\"blake3:00\""),
            (&pack, &format!("{pack}, {pack}")),
            ("reason = \"", "reason = \"\\u001b[2J"),
            ("reason = \"", "url = \"x\"\nreason = \""),
        ] {
            assert!(good.contains(from), "{from}");
            let error = Notice::parse(good.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert_eq!(error.kind(), base::Kind::Refused, "{to}");
        }
        assert!(Notice::parse(&vec![b'#'; FILE_LIMIT + 1]).is_err() && Notice::parse(b"").is_err() && Notice::parse(b"\xff").is_err());
    }

    proptest! {
        #[test]
        fn every_notice_survives_its_file(
            packs in proptest::collection::btree_set(any::<[u8; 32]>(), 0..PACKS_LIMIT),
            datasets in proptest::collection::btree_set("/[a-z0-9 ä\"\\\\]{1,60}", 1..DATASETS_LIMIT),
            reason in ".{0,2000}",
        ) {
            let datasets: BTreeSet<String> = datasets.iter().filter_map(|path| Some(Dataset::cleaned("files", path).ok()?.to_string())).collect();
            prop_assume!(!datasets.is_empty());
            let notice = Notice {
                packs: packs.into_iter().map(Blake3).collect(),
                datasets: datasets.iter().map(|text| text.parse().unwrap()).collect(),
                reason: canonical::fit(&reason, REASON_LIMIT),
                ..sample()
            };
            prop_assume!(notice.check().is_ok());
            let bytes = notice.to_toml();
            prop_assert!(bytes.len() <= FILE_LIMIT);
            prop_assert_eq!(Notice::parse(&bytes).unwrap(), notice);
        }
    }
}
