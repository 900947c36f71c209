//! What a request says of the group that it belongs to: several datasets that form one restore point.

use crate::error::{Error, Result};
use crate::{Dataset, RequestId};
use serde::{Deserialize, Serialize};

/// The most datasets in a group.
pub const MEMBERS_LIMIT: usize = 32;
/// The most bytes in a group's name.
pub const NAME_LIMIT: usize = 64;

/// The group that a request belongs to. All requests of one restore point carry the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// One for each restore point; unique for the client, and no request's id.
    pub id: RequestId,
    /// The group's name in the client's configuration.
    pub name: String,
    /// All its datasets, whether or not there is a request for each.
    pub members: Vec<Dataset>,
    /// Those of them that could not be prepared, and that have no request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Dataset>,
}

impl Group {
    /// Holds it against what every reader checks; `dataset` is the one whose request carries it.
    ///
    /// # Errors
    /// Of kind refused, with the rule that is broken.
    pub fn check(&self, dataset: &Dataset) -> Result<()> {
        let refused = |why: String| Err(Error::refused(why));
        check_name(&self.name).map_err(|error| error.with_kind(crate::Kind::Refused))?;
        if self.id.part().is_some() {
            return refused(format!("the group's id {} is that of a part", self.id));
        }
        if self.members.is_empty() || self.members.len() > MEMBERS_LIMIT {
            return refused(format!("the group has {} members, and 1 to {MEMBERS_LIMIT} are allowed", self.members.len()));
        }
        if let Some(twice) = self.members.iter().enumerate().find(|(i, one)| self.members[..*i].contains(one)) {
            return refused(format!("the group names {} twice", twice.1));
        }
        if !self.members.contains(dataset) {
            return refused(format!("{dataset} is no member of the group {}", self.name));
        }
        // In the members' order, each once: one spelling for one meaning.
        let lacks: Vec<&Dataset> = self.members.iter().filter(|one| self.lacks.contains(one)).collect();
        if !lacks.iter().copied().eq(&self.lacks) || self.lacks.contains(dataset) {
            return refused("what the group lacks are no members, or not in their order".into());
        }
        Ok(())
    }

    /// Its name and id, as people are shown it.
    pub fn shown(&self) -> String {
        format!("{} {}", self.name, self.id)
    }
}

/// Checks a group's name.
///
/// # Errors
/// Of kind usage, with the rule.
pub fn check_name(name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if first && name.len() <= NAME_LIMIT && name.bytes().all(good) {
        return Ok(());
    }
    Err(Error::usage(format!("{name:?} cannot be a group's name"))
        .hint("It has 1 to 64 of a-z, 0-9, '.', '_' and '-', and begins with a letter or a digit."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_together_is_held_against_rules() {
        let dataset: Dataset = "files:/a".parse().unwrap();
        let other: Dataset = "postgres:shop".parse().unwrap();
        let good = Group {
            id: "20261120T031500Z-3f9a1c7e".parse().unwrap(),
            name: "shop".into(),
            members: vec![dataset.clone(), other.clone()],
            lacks: vec![],
        };
        good.check(&dataset).unwrap();
        Group { lacks: vec![other.clone()], ..good.clone() }.check(&dataset).unwrap();
        let many = (0..33).map(|n| format!("files:/{n}").parse().unwrap()).collect();
        let bad = [
            Group { name: String::new(), ..good.clone() },
            Group { name: "-x".into(), ..good.clone() },
            Group { name: "a/b".into(), ..good.clone() },
            Group { name: "x".repeat(65), ..good.clone() },
            Group { id: good.id.with_part(1).unwrap(), ..good.clone() },
            Group { members: vec![], ..good.clone() },
            Group { members: vec![other.clone()], ..good.clone() },
            Group { members: vec![dataset.clone(), dataset.clone()], ..good.clone() },
            Group { members: many, ..good.clone() },
            Group { lacks: vec![dataset.clone()], ..good.clone() },
            Group { lacks: vec!["files:/other".parse().unwrap()], ..good.clone() },
            Group { lacks: vec![other.clone(), other], ..good },
        ];
        for group in bad {
            assert_eq!(group.check(&dataset).unwrap_err().kind(), crate::Kind::Refused, "{group:?}");
        }
    }
}
