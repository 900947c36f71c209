//! The text of a pool file on a client: which dataset, for which node, and why.
//!
//! Knows nothing of folders and states. Files from the inbox are hostile until [`PoolFile::parse`] has read them.

use base::{Dataset, Error, Name, Reason, RequestId, Result};
use serde::{Deserialize, Serialize};

/// The most tags that a request carries.
const TAGS_LIMIT: usize = 16;

/// One request as the pool of a client keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFile {
    /// The request's id, which is also in the file's name.
    pub id: RequestId,
    /// The dataset's module.
    pub module: String,
    /// The dataset's path.
    pub path: String,
    /// The node that is asked.
    pub node: Name,
    /// Words that the snapshot is marked with.
    pub tags: Vec<String>,
    /// Why it was asked for.
    pub reason: Reason,
    /// The request for a group that it belongs to; only the sender itself makes such files.
    pub group: Option<RequestId>,
}

/// The TOML form. `by` and `group` are there only once the sender has written the file anew.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: i64,
    id: RequestId,
    module: String,
    path: String,
    node: Name,
    #[serde(default)]
    tags: Vec<String>,
    reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

impl PoolFile {
    /// A new request with an id of this moment.
    ///
    /// # Errors
    /// When a tag is not allowed, or the system gives no random bytes.
    pub fn new(dataset: &Dataset, node: &Name, tags: &[String], reason: Reason) -> Result<Self> {
        let file = Self {
            id: RequestId::generate()?,
            module: dataset.module().into(),
            path: dataset.path().into(),
            node: node.clone(),
            tags: tags.to_vec(),
            reason,
            group: None,
        };
        file.check()?;
        Ok(file)
    }

    /// The dataset that module and path name.
    ///
    /// # Errors
    /// Of kind usage when they name none; never for a file that was parsed.
    pub fn dataset(&self) -> Result<Dataset> {
        Dataset::new(&self.module, &self.path)
    }

    /// Whether both ask for the same dataset on the same node.
    pub fn same_subject(&self, other: &Self) -> bool {
        self.module == other.module && self.path == other.path && self.node == other.node
    }

    /// Reads a file of the inbox; `by` in it is refused, because the owner of the file says who it was.
    ///
    /// # Errors
    /// Of kind usage, with the line, or with the rule that was broken.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        match Self::parse_with_by(name, bytes)? {
            (file, None) if file.group.is_none() => Ok(file),
            (_, None) => Err(Error::usage(format!("{name} says that it belongs to a group; who asks for one asks for all of it"))),
            (_, Some(_)) => Err(Error::usage(format!("{name} says who asked for it; the file's owner says that"))),
        }
    }

    /// Reads a file that may be the sender's own.
    pub(super) fn parse_with_by(name: &str, bytes: &[u8]) -> Result<(Self, Option<String>)> {
        let text: Text = base::config::parse(name, bytes)?;
        let file = Self {
            id: text.id,
            module: text.module,
            path: text.path,
            node: text.node,
            tags: text.tags,
            reason: text.reason,
            group: text.group,
        };
        file.check().map_err(|error| error.context(format!("{name} is not usable")))?;
        Ok((file, text.by))
    }

    pub(super) fn check(&self) -> Result<()> {
        self.dataset()?;
        self.id.clone().only_whole()?;
        let good = |tag: &String| {
            (1..=64).contains(&tag.len())
                && tag.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
        };
        if self.tags.len() > TAGS_LIMIT || !self.tags.iter().all(good) {
            return Err(Error::usage("the tags are not usable").hint("At most 16 tags, each 1 to 64 of a-z, 0-9, '.', '_' and '-'."));
        }
        Ok(())
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// When they cannot be written as TOML.
    pub fn to_toml(&self, by: Option<&str>) -> Result<Vec<u8>> {
        let text = Text {
            version: base::config::VERSION,
            id: self.id.clone(),
            module: self.module.clone(),
            path: self.path.clone(),
            node: self.node.clone(),
            tags: self.tags.clone(),
            reason: self.reason,
            group: self.group.clone(),
            by: by.map(Into::into),
        };
        let text = toml::to_string(&text).map_err(|e| Error::failed("could not write a request as TOML").because(e))?;
        Ok(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "version = 1\nid = \"20261120T031500Z-3f9a1c7e\"\nmodule = \"files\"\npath = \"/var/www\"\nnode = \"node1\"\ntags = [\"a\"]\nreason = \"hook\"\n";

    #[test]
    fn hostile_files() {
        assert!(PoolFile::parse("C", GOOD.as_bytes()).is_ok());
        let bad = [
            GOOD.replace("version = 1", "version = 2"),
            GOOD.replace("files", "../files"),
            GOOD.replace("/var/www", "/var/../etc"),
            GOOD.replace("/var/www", "-x"),
            GOOD.replace("/var/www", "/a\\nb"),
            GOOD.replace("node1", "../n"),
            GOOD.replace("node1", "admin"),
            GOOD.replace("hook", "root"),
            GOOD.replace("[\"a\"]", "[\"A\"]"),
            GOOD.replace("[\"a\"]", "[\"\"]"),
            GOOD.replace("[\"a\"]", &format!("[{}]", "\"a\",".repeat(17))),
            GOOD.replace("3f9a1c7e", "3f9a1c7/"),
            format!("{GOOD}by = \"root\"\n"),
            format!("{GOOD}url = \"x\"\n"),
            format!("{GOOD}group = \"20261120T031500Z-3f9a1c7f\"\n"),
            String::new(),
            "\0".into(),
        ];
        for text in bad {
            assert!(PoolFile::parse("C", text.as_bytes()).is_err(), "{text}");
        }
        assert!(PoolFile::parse("C", b"\xff").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(path in "/[a-zA-Z0-9 ä\"'#=\\\\-]{1,40}", tags in prop::collection::vec("[a-z0-9._-]{1,64}", 0..16)) {
            let file = PoolFile::new(&Dataset::cleaned("files", &path).unwrap(), &Name::new("node1").unwrap(), &tags, Reason::Manual).unwrap();
            prop_assert_eq!(PoolFile::parse("C", &file.to_toml(None).unwrap()).unwrap(), file.clone());
            let (read, by) = PoolFile::parse_with_by("P", &file.to_toml(Some("gît")).unwrap()).unwrap();
            prop_assert_eq!((&read, by.as_deref()), (&file, Some("gît")));
            let member = PoolFile { group: Some(RequestId::generate().unwrap()), ..file };
            let (read, _) = PoolFile::parse_with_by("P", &member.to_toml(Some("x")).unwrap()).unwrap();
            prop_assert_eq!(read, member);
        }
    }
}
