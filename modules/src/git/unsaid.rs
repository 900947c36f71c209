//! What a receipt has to say of a mirror's refs, written down before they move.
//!
//! A process that is killed when they have moved finds nothing any more that changes, and a request may come to nothing at that
//! point; the receipt, or the next one, says it all the same.

use base::{At, Claim, RequestId, Result, atomic};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file, in the mirror.
const FILE: &str = "nightsafe-changed";
/// The largest such file.
const FILE_LIMIT: usize = 1 << 20;
/// How many changed refs a receipt names.
const MOST: usize = 100;

#[derive(Serialize, Deserialize)]
struct Unsaid {
    /// Whose receipt is to say it.
    id: RequestId,
    /// What.
    changed: Vec<String>,
}

/// Notes what the receipt of `claim` has to say: `changed`, and what was noted for an earlier request that was not stored, which
/// `is_stored` knows. Asked again for the same request, it says the same again.
pub(super) fn note(
    mirror: &Path,
    claim: &Claim,
    changed: &[String],
    is_stored: impl Fn(&RequestId) -> Result<bool>,
) -> Result<Vec<String>> {
    let path = mirror.join(FILE);
    let known: Option<Unsaid> = match base::untrusted::read(&path, FILE_LIMIT) {
        Ok(found) => serde_json::from_slice(&found.bytes).ok(),
        Err(_) if !path.exists() => None,
        Err(error) => return Err(error),
    };
    let mut all = match known {
        Some(known) if known.id == claim.id => return Ok(known.changed),
        Some(known) if !is_stored(&known.id)? => known.changed,
        said => {
            if said.is_some() && changed.is_empty() {
                atomic::remove(&path)?;
            }
            Vec::new()
        }
    };
    all.extend_from_slice(changed);
    let more = all.len().saturating_sub(MOST);
    if more > 0 {
        all.truncate(MOST);
        all.push(format!("and {more} more"));
    }
    if !all.is_empty() {
        let bytes = serde_json::to_vec(&Unsaid { id: claim.id.clone(), changed: all.clone() });
        atomic::write(&path, &bytes.at("write", &path)?, 0o640)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::claim;
    use base::{Dataset, Payload};

    #[test]
    fn nothing_goes_unsaid_and_nothing_is_said_twice() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = Dataset::new("git", "/a").unwrap();
        let claims: Vec<_> = (1..6).map(|seq| claim(&dataset, Payload::Nothing, seq)).collect();
        let note = |n: usize, changed: &[&str], stored: bool| {
            let changed: Vec<String> = changed.iter().map(|line| (*line).to_owned()).collect();
            note(folder.path(), &claims[n], &changed, |_| Ok(stored)).unwrap()
        };
        assert!(note(0, &[], true).is_empty() && !folder.path().join(FILE).exists());
        assert_eq!(note(0, &["a"], true), ["a"]);
        // It was killed when the refs had moved.
        assert_eq!(note(0, &[], false), ["a"]);
        // It was refused then.
        assert_eq!(note(1, &["b"], false), ["a", "b"]);
        assert_eq!(note(2, &["c"], true), ["c"]);
        assert!(note(3, &[], true).is_empty() && note(4, &[], false).is_empty());
        let many: Vec<String> = (0..MOST + 7).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(note(4, &many, true).last().unwrap(), "and 7 more");
    }
}
