//! `[[group]]` of `client.toml`: datasets that are backed up together, as one restore point.

use super::{ClientConfig, Commands};
use crate::error::{Error, Result};
use crate::group::{MEMBERS_LIMIT, check_name};
use crate::{Dataset, Name, Span};
use serde::Deserialize;

/// What stands in a module's place where a group is meant, as in `submit group shop`. No module is called so.
pub const GROUP: &str = "group";

/// The most bytes that the names of a group's members have together: each of its requests carries all of them.
const MEMBERS_BYTES: usize = 16 << 10;

/// Datasets that form one restore point.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupEntry {
    /// Its name, of `a-z0-9._-`.
    pub name: String,
    /// The datasets, in the order in which they are read.
    pub members: Vec<Dataset>,
    /// Nodes that get it. Default: the default node.
    #[serde(default)]
    pub nodes: Vec<Name>,
    /// It is due when its last success is older than this. Default: never by itself.
    pub every: Option<Span>,
    /// A program and its arguments, run before the first member is read.
    #[serde(default)]
    pub before: Vec<String>,
    /// A program and its arguments, run after the last member was read, whatever happened.
    #[serde(default)]
    pub after: Vec<String>,
    /// How long each of these may run. Default: 10 minutes.
    pub command_time_limit: Option<Span>,
}

impl GroupEntry {
    /// What the group is called where a dataset is expected: in the pool, in `status`.
    ///
    /// # Errors
    /// Never for a name that was checked.
    pub fn subject(&self) -> Result<Dataset> {
        Dataset::new(GROUP, &self.name)
    }

    /// What is run around it.
    pub fn commands(&self) -> Commands {
        Commands::new(&self.before, &self.after, self.command_time_limit)
    }

    /// Holds it against the rest of the configuration.
    pub(super) fn check(&self, config: &ClientConfig) -> Result<()> {
        check_name(&self.name)?;
        self.commands().check(self.command_time_limit.is_some())?;
        super::around::check_every(self.every)?;
        if self.members.is_empty() || self.members.len() > MEMBERS_LIMIT {
            return Err(Error::usage(format!("members names {} datasets, and 1 to {MEMBERS_LIMIT} are allowed", self.members.len())));
        }
        if self.members.iter().map(|member| member.to_string().len()).sum::<usize>() > MEMBERS_BYTES {
            return Err(Error::usage(format!("the names in members have more than {MEMBERS_BYTES} bytes together")));
        }
        for (i, member) in self.members.iter().enumerate() {
            if self.members[..i].contains(member) {
                return Err(Error::usage(format!("members names {member} twice")));
            }
            if member.module() == GROUP || !config.allows(member) {
                return Err(Error::usage(format!("its member {member} is neither listed nor allowed"))
                    .hint("Add a [[dataset]] or an [[allow]] for it; a group has datasets and no groups."));
            }
        }
        match self.nodes.iter().find(|name| config.node(name).is_none()) {
            Some(unknown) => Err(Error::usage(format!("it names the node {unknown}, for which there is no [[node]]"))),
            None => Ok(()),
        }
    }
}
