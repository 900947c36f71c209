//! What a gate tells its visitor of itself, for `config check`: the answer to the verb `look`.
//!
//! Says nothing that the visitor could not find out by using what it may use.

use base::config::Reach;
use base::{Error, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest answer that is read.
pub const LIMIT: usize = 1 << 20;
/// How long who is asked may think about it.
pub const TIME: Duration = Duration::from_secs(60);
/// From how many seconds on two clocks differ.
const SKEW: u64 = 120;

/// What a node's gate says to a client, and a client's gate to a node. Fields that a newer gate adds are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// The version of the gate's program.
    pub gate: String,
    /// Its clock.
    pub time: Timestamp,
    /// What is taken from this client, as the access list says it.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Whether there is room for another fetch at the node.
    #[serde(default)]
    pub room: Option<bool>,
    /// Whether the node gets to this client: it is to dial in, or the list has an address and a host key for it.
    #[serde(default)]
    pub reached: Option<bool>,
    /// How the node gets to this client, as the access list says it.
    #[serde(default)]
    pub reach: Option<Reach>,
}

impl Sight {
    /// What `who` answered.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(bytes: &[u8], who: &str) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| Error::failed(format!("{who} gave an answer that cannot be read")).because(error))
    }

    /// Whether the clock of `who` agrees with the one here, which shows `now`.
    ///
    /// # Errors
    /// Of kind not-now, with both times, when it does not.
    pub fn clocks_agree(&self, who: &str, now: Timestamp) -> Result<()> {
        let apart = now.duration_since(self.time).unsigned_abs().as_secs();
        if apart <= SKEW {
            return Ok(());
        }
        Err(Error::not_now(format!("the clock of {who} shows {}, this one {now}: {apart} s apart", self.time))
            .hint("Let both follow a time server: what is kept, and what is late, is reckoned by the node's clock."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_its_clock_looked_at() {
        let sight = Sight::read(br#"{"gate": "1", "time": "2026-11-20T03:00:00Z", "later": 1}"#, "web1").unwrap();
        assert_eq!((sight.allow.len(), sight.room), (0, None));
        assert!(Sight::read(b"{}", "web1").unwrap_err().one_line().starts_with("web1 gave an answer"));
        for (now, agree) in [
            ("2026-11-20T03:02:00Z", true),
            ("2026-11-20T02:58:00Z", true),
            ("2026-11-20T03:02:01Z", false),
            ("2026-11-20T02:57:59Z", false),
        ] {
            assert_eq!(sight.clocks_agree("web1", now.parse().unwrap()).is_ok(), agree, "{now}");
        }
        let apart = sight.clocks_agree("web1", "2026-11-21T03:00:00Z".parse().unwrap()).unwrap_err();
        assert!(apart.one_line().ends_with("this one 2026-11-21T03:00:00Z: 86400 s apart"), "{}", apart.one_line());
    }
}
