//! `client.toml`: what a client backs up, to which nodes, and who can read it.
//!
//! The tables of modules (`[module.NAME]`) are kept as they stand; each module reads its own.

use super::{AllowEntry, Choosing, DatasetEntry, GROUP, GroupEntry, MailConfig, MetricsFile, PingUrl, Reach, SshAddress};
use crate::error::{At, Error, Result};
use crate::{ByteSize, Dataset, Name, Span};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A client's configuration, or that of a restorer, who needs `[[node]]` alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    version: i64,
    /// This client's name; not needed for restoring.
    pub name: Option<Name>,
    /// Where pool, queues, keys and caches are. Default `/var/lib/nightsafe`.
    #[serde(default = "default_state")]
    pub state: PathBuf,
    /// age recipients (`age1…`) that can open what this client sends; at least one is needed for archives.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// Where control sockets of ssh are. Default: `run` in `state`, or a folder of the user's where that is too long.
    pub runtime: Option<PathBuf>,
    /// The client's own ssh key, which logs in to nodes and signs requests. Default: `id_ed25519` in `state`.
    pub key: Option<PathBuf>,
    /// Where packs wait for nodes.
    #[serde(default)]
    pub spool: Spool,
    /// How long the dump of a database is held back at most while the spool is full. Default: an hour.
    #[serde(default = "default_stream_wait")]
    pub stream_wait: Span,
    /// A pack of which a dataset uses a smaller share than this is not referred to any more: what is still used of it is sent again.
    /// From 0 (never) to 0.9. Default: 0.5.
    #[serde(default = "default_rewrite_below")]
    pub rewrite_below: f64,
    /// The nodes; the first is the default one.
    #[serde(default, rename = "node")]
    pub nodes: Vec<ClientNode>,
    /// What is backed up.
    #[serde(default, rename = "dataset")]
    pub datasets: Vec<DatasetEntry>,
    /// What of it is backed up together.
    #[serde(default, rename = "group")]
    pub groups: Vec<GroupEntry>,
    /// What `submit` may name without its being listed.
    #[serde(default, rename = "allow")]
    pub allow: Vec<AllowEntry>,
    /// Mails to whoever looks after this machine. Default: none are sent.
    pub mail: Option<MailConfig>,
    /// An address that hears of every backup. Default: none.
    pub ping: Option<PingUrl>,
    /// A file for node_exporter, written anew by every send and every minute by watch. Default: none.
    pub metrics: Option<MetricsFile>,
    /// Settings of modules by their names.
    #[serde(default)]
    pub module: toml::Table,
    /// Where this was read, absolute: the gate reads it too. Not part of the file.
    #[serde(skip)]
    pub file: PathBuf,
}

fn default_state() -> PathBuf {
    "/var/lib/nightsafe".into()
}

fn default_stream_wait() -> Span {
    Span(Duration::from_secs(3600))
}

fn default_rewrite_below() -> f64 {
    0.5
}

/// Settings of the export folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spool {
    /// The folder. Default: `export` in the state folder.
    pub dir: Option<PathBuf>,
    /// How many bytes may wait for each node. Default: 4 GiB.
    #[serde(default = "default_spool_limit")]
    pub limit: ByteSize,
}

impl Default for Spool {
    fn default() -> Self {
        Self { dir: None, limit: default_spool_limit() }
    }
}

impl Spool {
    /// The least limit: room for the packs that are being written, and as much again for what waits.
    pub const LEAST: ByteSize = ByteSize(64 << 20);
}

fn default_spool_limit() -> ByteSize {
    ByteSize(4 << 30)
}

/// One node as the client sees it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientNode {
    /// The node's name.
    pub name: Name,
    /// `user@host` or `user@host:port` of the gate.
    pub ssh: SshAddress,
    /// The node's host key, `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// The public key that signs receipts.
    pub receipts_key: String,
    /// The public key with which the node logs in here; `config check` looks whether it is let in.
    pub pull_key: Option<String>,
    /// How restores log in, where that differs from `ssh` and the client's own key.
    pub restore: Option<RestoreLogin>,
    /// How the node gets to this machine: `ssh`, by logging in (the default), or `dial`, by a session that this machine opens.
    #[serde(default)]
    pub reach: Reach,
    /// How long a `send` that dials waits for the node to fetch something. Default: `"10m"`.
    pub dial_for: Option<Span>,
}

impl ClientNode {
    /// How long a `send` that dials waits for the node to fetch something.
    pub fn dials_for(&self) -> Duration {
        self.dial_for.map_or(Duration::from_secs(600), |Span(time)| time)
    }
}

/// A restorer's login.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreLogin {
    /// `user@host[:port]` of the restorers' account. Default: the gate's.
    pub ssh: Option<SshAddress>,
    /// The ssh key to log in with.
    pub key: PathBuf,
}

impl ClientConfig {
    /// Reads and checks `path`.
    ///
    /// # Errors
    /// Of kind usage, with file, line and field, or the version that is needed.
    pub fn load(path: &Path) -> Result<Self> {
        let config = super::load(path, Self::check)?;
        Ok(Self { file: std::path::absolute(path).at("find", path)?, ..config })
    }

    fn check(&self) -> Result<()> {
        let _ = self.version;
        if !self.state.is_absolute() {
            return Err(Error::usage("state must be an absolute path"));
        }
        if self.spool.limit < Spool::LEAST {
            return Err(Error::usage(format!("spool.limit is {}, and packs need at least {}", self.spool.limit, Spool::LEAST))
                .hint("It is how much of the disk what waits for one node may take; a backup may be of any size."));
        }
        if !(0.0..=0.9).contains(&self.rewrite_below) {
            return Err(Error::usage(format!("rewrite_below is {}, and must be from 0 to 0.9", self.rewrite_below))
                .hint("0.5 sends the rest of a pack again once less than half of it is used; 0 never does."));
        }
        self.mail.as_ref().map_or(Ok(()), MailConfig::check)?;
        for (i, node) in self.nodes.iter().enumerate() {
            if self.nodes[..i].iter().any(|other| other.name == node.name) {
                return Err(Error::usage(format!("the node {} is there twice", node.name)));
            }
            if node.dial_for.is_some() && node.reach != Reach::Dial {
                return Err(Error::usage(format!("dial_for of the node {} is for reach = \"dial\"", node.name)));
            }
        }
        for (i, entry) in self.datasets.iter().enumerate() {
            if self.datasets[..i].iter().any(|other| other.address == entry.address) {
                return Err(Error::usage(format!("the dataset {} is there twice", entry.address)));
            }
            if let Some(unknown) = entry.nodes.iter().find(|name| self.node(name).is_none()) {
                return Err(Error::usage(format!(
                    "the dataset {} names the node {unknown}, for which there is no [[node]]",
                    entry.address
                ))
                .hint(crate::names::hint(unknown.as_str(), self.nodes.iter().map(|node| node.name.as_str()))));
            }
        }
        for entry in &self.datasets {
            entry.check().map_err(|error| error.context(format!("the [[dataset]] {} is wrong", entry.address)))?;
        }
        for (i, group) in self.groups.iter().enumerate() {
            if self.groups[..i].iter().any(|other| other.name == group.name) {
                return Err(Error::usage(format!("the group {} is there twice", group.name)));
            }
            group.check(self).map_err(|error| error.context(format!("the [[group]] {} is wrong", group.name)))?;
        }
        for allow in &self.allow {
            if allow.under != "*" {
                Dataset::new(&allow.module, &allow.under).map_err(|e| e.context("an [[allow]] is wrong"))?;
            }
        }
        Ok(())
    }

    /// This client's name.
    ///
    /// # Errors
    /// Of kind usage when the configuration is a restorer's and has none.
    pub fn client_name(&self) -> Result<&Name> {
        self.name.as_ref().ok_or_else(|| {
            Error::usage("the configuration has no name, so this machine sends no backups")
                .hint("Write name = \"…\" as the node's administrator knows this machine.")
        })
    }

    /// The node called `name`.
    pub fn node(&self, name: &Name) -> Option<&ClientNode> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// Whether `submit` may name `dataset`: it is listed, or lies under an `[[allow]]`, or a group is called so.
    pub fn allows(&self, dataset: &Dataset) -> bool {
        self.base_of(dataset).is_some() || self.group_of(dataset).is_some()
    }

    /// The group that `subject` stands for, as in `group:shop`.
    pub fn group_of(&self, subject: &Dataset) -> Option<&GroupEntry> {
        if subject.module() != GROUP {
            return None;
        }
        self.groups.iter().find(|group| group.name == subject.path())
    }

    /// The folder that the administrator allowed and below which `dataset` is opened without following links: for a
    /// listed dataset its own path. `None` when it is not allowed.
    pub fn base_of(&self, dataset: &Dataset) -> Option<&str> {
        if let Some(entry) = self.listed(dataset) {
            return Some(entry.address.path());
        }
        let allow = self.allow.iter().find(|allow| allow.holds(dataset))?;
        Some(if allow.under == "*" { "/" } else { allow.under.as_str() })
    }

    /// Whether the dataset goes through the encrypted archive where its module would make something that the node can read.
    pub fn sealed(&self, dataset: &Dataset) -> bool {
        match self.listed(dataset) {
            Some(entry) => entry.sealed,
            // One of several that hold it is enough: nothing is to be in the clear by accident.
            None => self.allow.iter().any(|allow| allow.holds(dataset) && allow.sealed),
        }
    }

    /// The `[[dataset]]` of this address.
    pub fn listed(&self, dataset: &Dataset) -> Option<&DatasetEntry> {
        self.datasets.iter().find(|entry| entry.address == *dataset)
    }

    /// What of `dataset` is taken: as its `[[dataset]]` says, or the `[[allow]]` that [`Self::base_of`] goes by.
    pub fn choosing(&self, dataset: &Dataset) -> Choosing {
        match self.listed(dataset) {
            Some(entry) => entry.choosing(),
            None => self.allow.iter().find(|allow| allow.holds(dataset)).map(AllowEntry::choosing).unwrap_or_default(),
        }
    }

    /// The nodes that `dataset` goes to when `submit` names none.
    pub fn nodes_of(&self, dataset: &Dataset) -> Vec<&ClientNode> {
        let group = self.group_of(dataset).into_iter().flat_map(|group| &group.nodes);
        let named = self.listed(dataset).into_iter().flat_map(|entry| &entry.nodes).chain(group);
        let listed: Vec<_> = named.filter_map(|name| self.node(name)).collect();
        if listed.is_empty() { self.nodes.first().into_iter().collect() } else { listed }
    }

    /// What goes to a node of all that is listed: datasets, and members of groups, each once.
    pub fn sent_to(&self, node: &Name) -> Vec<&Dataset> {
        let goes = |subject: &Dataset| self.nodes_of(subject).iter().any(|goes| goes.name == *node);
        let groups = self.groups.iter().filter(|group| group.subject().is_ok_and(|subject| goes(&subject)));
        let datasets = self.datasets.iter().map(|entry| &entry.address).filter(|address| goes(address));
        let mut sent: Vec<&Dataset> = Vec::new();
        for dataset in datasets.chain(groups.flat_map(|group| &group.members)) {
            if !sent.contains(&dataset) {
                sent.push(dataset);
            }
        }
        sent
    }

    /// The client's ssh key.
    pub fn key_path(&self) -> PathBuf {
        self.key.clone().unwrap_or_else(|| self.state.join("id_ed25519"))
    }

    /// The pool: `inbox/` (submitters write) and `work/` (the sender's own).
    pub fn pool_path(&self) -> PathBuf {
        self.state.join("pool")
    }

    /// The queue of one node, a bare git repository.
    pub fn queue_path(&self, node: &Name) -> PathBuf {
        self.state.join("queues").join(format!("{node}.git"))
    }

    /// The copy of one node's receipts, a bare git repository.
    pub fn receipts_path(&self, node: &Name) -> PathBuf {
        self.state.join("receipts").join(format!("{node}.git"))
    }

    /// The folder from which one node fetches packs.
    pub fn export_path(&self, node: &Name) -> PathBuf {
        self.export_root().join(node.as_str())
    }

    /// The folder with the export folders of all nodes.
    pub fn export_root(&self) -> PathBuf {
        self.spool.dir.clone().unwrap_or_else(|| self.state.join("export"))
    }

    /// Where modules put what they need for the length of one backup or restore: where the packs wait, so that a spool
    /// with room has it.
    pub fn staging_path(&self) -> PathBuf {
        // No node is called so.
        self.spool.dir.as_ref().map_or_else(|| self.state.join("staging"), |dir| dir.join(".staging"))
    }

    /// The folder for control sockets.
    pub fn runtime_path(&self) -> PathBuf {
        self.runtime.clone().unwrap_or_else(|| super::runtime_folder(&self.state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spool_has_a_limit() {
        let read = |text: &str| {
            let config: ClientConfig = crate::config::parse("c", format!("version = 1\n{text}").as_bytes())?;
            config.check().map(|()| (config.spool.limit, config.stream_wait.0.as_secs()))
        };
        assert_eq!(read("").unwrap(), (ByteSize(4 << 30), 3600));
        assert_eq!(read("spool = { dir = \"/x\" }\nstream_wait = \"5m\"").unwrap(), (ByteSize(4 << 30), 300));
        assert_eq!(read("spool = { limit = \"256 MiB\" }").unwrap().0, ByteSize(256 << 20));
        let error = read("spool = { limit = \"63 MiB\" }").unwrap_err().render();
        assert!(error.contains("spool.limit is 63.0 MiB") && error.contains("64.0 MiB"), "{error}");
    }

    #[test]
    fn how_much_of_a_pack_is_wasted() {
        let read = |text: &str| {
            let config: ClientConfig = crate::config::parse("c", format!("version = 1\n{text}").as_bytes())?;
            config.check().map(|()| config.rewrite_below.to_string())
        };
        for (text, share) in [("", "0.5"), ("rewrite_below = 0.0", "0"), ("rewrite_below = 0.9", "0.9")] {
            assert_eq!(read(text).unwrap(), share);
        }
        for bad in ["0.91", "-0.1", "nan", "inf", "\"half\""] {
            assert!(read(&format!("rewrite_below = {bad}")).unwrap_err().render().contains("rewrite_below"), "{bad}");
        }
    }

    #[test]
    fn what_is_done_around_datasets_and_groups() {
        let read = |text: &str| {
            let head = "version = 1\n[[allow]]\nmodule = \"files\"\nunder = \"/srv\"\n";
            let config: ClientConfig = crate::config::parse("c", format!("{head}{text}").as_bytes())?;
            config.check().map(|()| config)
        };
        let dataset = "[[dataset]]\naddress = \"files:/a\"\n";
        let group = "[[group]]\nname = \"shop\"\nmembers = [\"files:/a\", \"files:/srv/b\"]\n";
        let good = "every = \"6h\"\nbefore = [\"true\"]\nsnapshot = \"lvm\"\none_file_system = true\nsnapshot_size = \"1 GiB\"\nlevel = 19\nbandwidth = \"20 MiB\"";
        let config = read(&format!("{dataset}{good}\n{group}every = \"1d\"\nafter = [\"true\", \"x\"]")).unwrap();
        let subject = config.groups[0].subject().unwrap();
        assert!(config.allows(&subject) && config.base_of(&subject).is_none());
        assert!(!config.allows(&"group:other".parse().unwrap()));
        assert_eq!(config.groups[0].commands().time_limit.as_secs(), 600);
        let bad = [
            (format!("{dataset}every = \"0s\""), "every must be"),
            (format!("{dataset}before = [\"\"]"), "before names no program"),
            (format!("{dataset}after = [\"a\\u0000\"]"), "after names no program"),
            (format!("{dataset}before = \"true\""), "sequence"),
            (format!("{dataset}command_time_limit = \"8d\"\nafter = [\"true\"]"), "command_time_limit must be from"),
            (format!("{dataset}command_time_limit = \"1m\""), "command_time_limit is for before and after"),
            (format!("{dataset}{group}command_time_limit = \"1m\""), "command_time_limit is for before and after"),
            (
                format!("{dataset}[[node]]\nname = \"n1\"\nssh = \"g@h\"\nhost_key = \"k\"\nreceipts_key = \"k\"\ndial_for = \"1h\""),
                "dial_for of the node n1",
            ),
            ("[mail]\nto = [\"root@example.org\"]\nat = \"08:00\"".into(), "no digest"),
            (format!("{dataset}level = 20"), "level must be from 1 to 19"),
            (format!("{dataset}level = 0"), "level must be from 1 to 19"),
            (format!("{dataset}bandwidth = \"64 KiB\""), "bandwidth must be at least"),
            (format!("{dataset}snapshot = \"btrfs\""), "one_file_system = true"),
            (format!("{dataset}snapshot = \"xfs\""), "xfs"),
            (format!("{dataset}snapshot_size = \"1 GiB\""), "snapshot_size"),
            (group.into(), "member files:/a is neither listed nor allowed"),
            (format!("{dataset}{group}{group}"), "twice"),
            (format!("{dataset}{}", group.replace("/srv/b", "/a")), "names files:/a twice"),
            (format!("{dataset}{}", group.replace("shop", "Shop")), "group's name"),
            (format!("{dataset}{group}nodes = [\"n9\"]"), "the node n9"),
            ("[[group]]\nname = \"x\"\nmembers = []".into(), "0 datasets"),
            (format!("{dataset}{group}[[group]]\nname = \"two\"\nmembers = [\"group:shop\"]"), "no groups"),
        ];
        for (text, word) in bad {
            let error = read(&text).unwrap_err().render();
            assert!(error.contains(word), "{word} is missing in {error}");
        }
    }

    #[test]
    fn allowed_and_where_they_go() {
        let text = r#"
            version = 1
            name = "web1"
            [[node]]
            name = "n1"
            ssh = "g@h"
            host_key = "k"
            receipts_key = "k"
            [[node]]
            name = "n2"
            ssh = "g@h"
            host_key = "k"
            receipts_key = "k"
            [[dataset]]
            address = "files:/var/www"
            nodes = ["n2", "n1"]
            [[allow]]
            module = "git"
            under = "/srv/git"
            [[allow]]
            module = "postgres"
            under = "*"
        "#;
        let config: ClientConfig = crate::config::parse("c", text.as_bytes()).unwrap();
        config.check().unwrap();
        let at = |text: &str| config.base_of(&text.parse().unwrap()).map(str::to_owned);
        assert_eq!(at("files:/var/www").as_deref(), Some("/var/www"));
        assert_eq!(at("files:/var/www/a"), None);
        assert_eq!(at("git:/srv/git/a/b.git").as_deref(), Some("/srv/git"));
        assert_eq!(at("git:/srv/gitx"), None);
        assert_eq!(at("postgres:shop").as_deref(), Some("/"));
        let nodes = |text: &str| config.nodes_of(&text.parse().unwrap()).iter().map(|n| n.name.to_string()).collect::<Vec<_>>();
        assert_eq!(nodes("files:/var/www"), ["n2", "n1"]);
        assert_eq!(nodes("git:/srv/git/a"), ["n1"]);
    }
}
