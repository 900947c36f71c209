//! `accepted.toml`: what a node wrote down when it accepted a snapshot. The gate lists from it, the store writes it.
//!
//! It proves nothing to others: who restores recomputes everything from the signed commit that lies beside it.

use crate::clock::toml_time;
use crate::error::{Error, Result};
use crate::{Dataset, Name, RequestId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The largest such file that is read, in bytes.
pub const ACCEPTED_LIMIT: usize = 64 << 10;

/// One accepted snapshot in the node's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    version: i64,
    /// The request's id, and the snapshot's name.
    pub id: RequestId,
    /// Whose data it is.
    pub client: Name,
    /// What was kept.
    pub dataset: Dataset,
    /// The request's number, as the client counts.
    pub seq: u64,
    /// The client's clock.
    #[serde(with = "toml_time")]
    pub submitted: Timestamp,
    /// The node's clock at acceptance; age is told by this alone.
    #[serde(with = "toml_time")]
    pub received: Timestamp,
    /// Counts up for each client; order is told by this alone.
    pub order: u64,
    /// Bytes that came over the network.
    pub bytes_fetched: u64,
    /// Bytes by which the store grew.
    pub bytes_stored: u64,
    /// How long fetching took.
    pub seconds: u64,
    /// The data's own size, as the manifest counts it; 0 for git.
    pub bytes: u64,
    /// How many packs the manifest names; 0 for git.
    pub packs: u64,
    /// How much the client could not read, as the manifest counts it.
    pub unreadable: u64,
    /// How many files it holds, as the manifest counts them; none for git, and where this was not written down yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// The recipient of the epoch that an archive is sealed to, as the manifest names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Packs that were lost, and of which it claims to bring again what the client still had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<crate::Blake3>,
    /// The group whose restore point it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<crate::Group>,
}

impl Accepted {
    /// What a proven request says of its snapshot; nothing is counted yet, and no epoch is named.
    pub fn of(claim: &crate::Claim, received: Timestamp, order: u64) -> Self {
        Self {
            version: crate::config::VERSION,
            id: claim.id.clone(),
            client: claim.client.clone(),
            dataset: claim.dataset.clone(),
            seq: claim.seq,
            submitted: claim.submitted,
            received,
            order,
            bytes_fetched: 0,
            bytes_stored: 0,
            seconds: 0,
            bytes: 0,
            packs: 0,
            unreadable: 0,
            files: None,
            epoch: None,
            repairs: claim.repairs.clone(),
            group: claim.group.clone(),
        }
    }

    /// Reads the file's bytes; `name` is what errors call it.
    ///
    /// # Errors
    /// Of kind failed, with line and field, or the version that is needed.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        crate::config::parse(name, bytes).map_err(|error| error.with_kind(crate::Kind::Failed))
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// When a number is too large for TOML.
    pub fn to_toml(&self) -> Result<Vec<u8>> {
        let text = toml::to_string(self).map_err(|error| Error::failed("could not write down what was accepted").because(error))?;
        Ok(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Accepted {
        Accepted {
            version: 1,
            id: "20261120T031500Z-3f9a1c7e".parse().unwrap(),
            client: Name::new("web1").unwrap(),
            dataset: "files:/var/www".parse().unwrap(),
            seq: 7,
            submitted: "2026-11-20T03:15:00Z".parse().unwrap(),
            received: "2026-11-20T03:16:00Z".parse().unwrap(),
            order: 3,
            bytes_fetched: 10,
            bytes_stored: 11,
            seconds: 2,
            bytes: 1000,
            packs: 1,
            unreadable: 0,
            files: Some(12),
            epoch: Some("age1x".into()),
            repairs: vec![crate::Blake3([3; 32])],
            group: Some(crate::Group {
                id: "20261120T031400Z-3f9a1c7d".parse().unwrap(),
                name: "shop".into(),
                members: vec!["files:/var/www".parse().unwrap()],
                lacks: vec![],
            }),
        }
    }

    #[test]
    fn survives_its_text_and_refuses_what_is_newer() {
        let text = String::from_utf8(sample().to_toml().unwrap()).unwrap();
        assert!(text.starts_with("version = 1\n") && text.contains("received = 2026-11-20T03:16:00Z\n"), "{text}");
        assert_eq!(Accepted::parse("a", text.as_bytes()).unwrap(), sample());
        for bad in
            [text.replace("version = 1", "version = 2"), format!("{text}more = 1\n"), text.replace("2026-11-20T03:16:00Z", "2026-11-20")]
        {
            assert!(Accepted::parse("a", bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
