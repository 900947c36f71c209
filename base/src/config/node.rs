//! `node.toml`: where a node keeps what it keeps, and which keys it uses and trusts.

use super::{CgitConfig, MailConfig, MetricsFile, SshAddress, WebConfig};
use crate::error::{Error, Result};
use crate::{ByteSize, DayTime, Keep, KeepWords, Name, Span};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A node's configuration. The gate reads it too, so it holds no secrets, only paths to them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    version: i64,
    /// The node's name.
    pub name: Name,
    /// What the poller owns: stores, mirrors, logs, receipts, the published access list.
    pub data: PathBuf,
    /// What the gate's account owns: queues, the way in for the access list, the hand-over.
    pub gate: PathBuf,
    /// Who may read what of `data`, where accounts are split. Default: all of it has the group of the folder itself.
    #[serde(default)]
    pub groups: Groups,
    /// The private ssh key with which the node logs in to clients.
    pub pull_key: PathBuf,
    /// The private ssh key that signs receipts.
    pub receipts_key: PathBuf,
    /// Where clients reach the gate, as `client add` tells them. Default: the owner of `gate`, at this machine's name.
    pub address: Option<SshAddress>,
    /// Where restorers log in, if that is another account.
    pub read_address: Option<SshAddress>,
    /// The host key that clients pin: its text, or a file that holds it. Default: the one in /etc/ssh.
    pub host_key: Option<String>,
    /// Public keys (`ssh-ed25519 AAAA… name`) of the administrators who sign the first access list.
    #[serde(default)]
    pub admins: Vec<String>,
    /// How many clients are served side by side. Default 8.
    #[serde(default = "default_workers")]
    pub workers: u16,
    /// The longest time that fetching one request may take. Default 12 h.
    #[serde(default = "default_fetch_time")]
    pub fetch_time: Span,
    /// How much room must be left where `data` lies for a fetch to begin. Default: none.
    pub keep_free: Option<ByteSize>,
    /// Reading again what is kept, a share a day. Default: only by hand.
    pub scrub: Option<ScrubConfig>,
    /// What is kept whatever the access list says. Default: nothing but what always is.
    pub floor: Option<Floor>,
    /// When snapshots that the access list does not keep are taken away. Default: at 04:00, 3 days after they were condemned.
    #[serde(default)]
    pub prune: PruneTimes,
    /// From when on refs that a mirror's source has no more are told at once. Default: more than 50 % and at least 10.
    #[serde(default)]
    pub mirror_losses: Losses,
    /// Mails to the node's administrators. Default: none are sent.
    pub mail: Option<MailConfig>,
    /// The status page. Default: `127.0.0.1:8017`, for this machine alone.
    #[serde(default)]
    pub web: WebConfig,
    /// cgit for the mirrors. Default: no list of repositories is written.
    pub cgit: Option<CgitConfig>,
    /// A file for node_exporter, written anew by every poll and every minute by watch. Default: none.
    pub metrics: Option<MetricsFile>,
    /// Where control sockets of ssh are. Default: `run` in `data`, or a folder of the user's where that is too long.
    pub runtime: Option<PathBuf>,
}

/// When the node reads again what it keeps, and how much of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubConfig {
    /// The time of day, the node's own.
    pub at: DayTime,
    /// The share of each day, in percent. Default 4, so that everything is read within 25 days.
    #[serde(default = "default_percent")]
    pub percent: f64,
}

impl ScrubConfig {
    /// The share that is read where nothing else is said, in percent.
    pub const PERCENT: f64 = 4.0;
}

fn default_percent() -> f64 {
    ScrubConfig::PERCENT
}

/// What no administrator and no command takes away: rules as in `keep`, and the shortest grace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "RawFloor")]
pub struct Floor {
    /// What is kept, in addition to what the access list says.
    pub keep: Option<Keep>,
    /// How long a snapshot stays condemned at least.
    pub grace: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFloor {
    /// At least so many snapshots.
    last: Option<u32>,
    /// At least one of each of so many hours.
    hourly: Option<u32>,
    /// At least one of each of so many days.
    daily: Option<u32>,
    /// At least one of each of so many weeks.
    weekly: Option<u32>,
    /// At least one of each of so many months.
    monthly: Option<u32>,
    /// At least one of each of so many years.
    yearly: Option<u32>,
    /// Everything that is not older.
    within: Option<Span>,
    /// How long a snapshot stays condemned at least.
    grace: Option<Span>,
}

impl TryFrom<RawFloor> for Floor {
    type Error = Error;
    fn try_from(raw: RawFloor) -> Result<Self> {
        let RawFloor { last, hourly, daily, weekly, monthly, yearly, within, grace } = raw;
        let words = KeepWords { last, hourly, daily, weekly, monthly, yearly, within };
        if words.is_empty() && grace.is_none() {
            return Err(Error::usage("it says nothing; write as in { daily = 7, grace = \"3d\" }, or leave it out"));
        }
        Ok(Self { keep: if words.is_empty() { None } else { Some(words.try_into()?) }, grace })
    }
}

/// When the node prunes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PruneTimes {
    /// The node's local time.
    pub at: DayTime,
    /// How long a snapshot stays condemned before it goes.
    pub grace: Span,
}

impl Default for PruneTimes {
    fn default() -> Self {
        Self { at: DayTime::at(4, 0), grace: Span(std::time::Duration::from_secs(3 * 86_400)) }
    }
}

/// Groups that read one part of the node's data and no other; the poller's account is a member of both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Groups {
    /// Reads what the gate serves: receipts, and the history of the access list.
    pub gate: Option<String>,
    /// Reads the mirrors, as cgit does.
    pub mirrors: Option<String>,
}

/// How many refs may go from a mirror in one backup before a person hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Losses {
    /// The share of the refs that there were, in percent: told are more.
    pub percent: f64,
    /// How many: told are so many and more.
    pub refs: u32,
}

impl Default for Losses {
    fn default() -> Self {
        Self { percent: 50.0, refs: 10 }
    }
}

fn default_workers() -> u16 {
    8
}

fn default_fetch_time() -> Span {
    Span(std::time::Duration::from_secs(12 * 3600))
}

/// How the gate's mark ends for a client that is about to push; no client's name has it.
pub const SOON: &str = "+";

impl NodeConfig {
    /// Reads and checks `path`.
    ///
    /// # Errors
    /// Of kind usage, with file, line and field, or the version that is needed.
    pub fn load(path: &Path) -> Result<Self> {
        super::load(path, Self::check)
    }

    fn check(&self) -> Result<()> {
        let _ = self.version;
        for (field, path) in
            [("data", &self.data), ("gate", &self.gate), ("pull_key", &self.pull_key), ("receipts_key", &self.receipts_key)]
        {
            if !path.is_absolute() {
                return Err(Error::usage(format!("{field} must be an absolute path")));
            }
        }
        self.mail.as_ref().map_or(Ok(()), MailConfig::check)?;
        self.web.check()?;
        self.cgit.as_ref().map_or(Ok(()), CgitConfig::check)?;
        if self.scrub.as_ref().is_some_and(|scrub| !(scrub.percent > 0.0 && scrub.percent <= 100.0)) {
            return Err(Error::usage("scrub.percent must be above 0 and at most 100"));
        }
        if !(0.0..=100.0).contains(&self.mirror_losses.percent) {
            return Err(Error::usage("mirror_losses.percent must be 0 to 100"));
        }
        if self.prune.grace < self.least_grace() {
            let (grace, least) = (String::from(self.prune.grace), String::from(self.least_grace()));
            return Err(Error::usage(format!("grace in prune is {grace}, and floor allows no less than {least}")));
        }
        if self.workers == 0 || self.workers > 64 {
            return Err(Error::usage("workers must be 1 to 64"));
        }
        Ok(())
    }

    /// The shortest grace that anybody may ask for.
    pub fn least_grace(&self) -> Span {
        self.floor.as_ref().and_then(|floor| floor.grace).unwrap_or(Span(std::time::Duration::ZERO))
    }

    /// The node's own log of what it pruned, held and forgot.
    pub fn audit_path(&self) -> PathBuf {
        self.data.join("audit.git")
    }

    /// The folder of one client: its store, pool, mirrors and receipts.
    pub fn client_path(&self, client: &Name) -> PathBuf {
        self.data.join(client.as_str())
    }

    /// The poller's own copy of a client's queue: the audit log.
    pub fn log_path(&self, client: &Name) -> PathBuf {
        self.data.join("log").join(format!("{client}.git"))
    }

    /// The commit that [`NodeConfig::log_path`] is at, for the gate, which may not read it.
    pub fn tip_path(&self, client: &Name) -> PathBuf {
        self.access_path().join("tips").join(client.as_str())
    }

    /// The receipts for one client, a bare repository that the gate serves.
    pub fn receipts_path(&self, client: &Name) -> PathBuf {
        self.client_path(client).join("receipts.git")
    }

    /// The poller's own copy of the signed access list.
    pub fn admin_path(&self) -> PathBuf {
        self.data.join("admin.git")
    }

    /// What the poller publishes for the gate and sshd: `access.toml`, `keys/`, `authorized_keys` and `tips/`.
    pub fn access_path(&self) -> PathBuf {
        self.data.join("access")
    }

    /// The gate's repository for one client's queue.
    pub fn gate_queue_path(&self, client: &Name) -> PathBuf {
        self.gate.join("queues").join(format!("{client}.git"))
    }

    /// Where the gate counts a client's sessions: a lock for each that may be open at once.
    pub fn gate_sessions_path(&self, client: &Name) -> PathBuf {
        self.gate.join("sessions").join(client.as_str())
    }

    /// The gate's repository for the access list.
    pub fn gate_admin_path(&self) -> PathBuf {
        self.gate.join("admin.git")
    }

    /// The socket at which the gate joins clients that dial in to the poller. It lies where only the poller can put something.
    pub fn dial_path(&self) -> PathBuf {
        self.access_path().join("dial")
    }

    /// The poller's own socket, where its programs ask for a line of a client that has dialled in.
    pub fn lines_path(&self) -> PathBuf {
        self.runtime_path().join("lines")
    }

    /// Where the gate hands over: a folder for each client (and `admin`) with packs `<old>-<new>.pack`, and `wake/`.
    pub fn handover_path(&self) -> PathBuf {
        self.gate.join("handover")
    }

    /// The folder with the list of repositories for cgit; no client can have its name.
    pub fn cgit_path(&self) -> PathBuf {
        self.data.join("_cgit")
    }

    /// The folder for control sockets.
    pub fn runtime_path(&self) -> PathBuf {
        self.runtime.clone().unwrap_or_else(|| super::runtime_folder(&self.data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> Result<NodeConfig> {
        let text =
            format!("version = 1\nname = \"node1\"\ndata = \"/d\"\ngate = \"/g\"\npull_key = \"/p\"\nreceipts_key = \"/r\"\n{more}\n");
        let config: NodeConfig = crate::config::parse("node.toml", text.as_bytes())?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn floors_and_the_time_of_pruning() {
        let plain = read("").unwrap();
        assert_eq!(
            (plain.prune.at.to_string(), String::from(plain.prune.grace), plain.least_grace().0.as_secs()),
            ("04:00".into(), "3d".into(), 0)
        );
        let full = read("floor = { daily = 7, within = \"2d\", grace = \"1d\" }\nprune = { at = \"23:15\", grace = \"1d\" }").unwrap();
        assert_eq!(
            full.floor.clone().and_then(|floor| floor.keep).map(|keep| keep.to_string()).as_deref(),
            Some("{ daily = 7, within = \"2d\" }")
        );
        assert_eq!((full.prune.at.to_string(), full.least_grace().0.as_secs()), ("23:15".into(), 86_400));
        assert_eq!(read("floor = { grace = \"2d\" }").unwrap().floor.unwrap().keep, None);
        for (bad, words) in [
            ("floor = {}", "line 7: it says nothing"),
            ("floor = { dayly = 7 }", "line 7: unknown field `dayly`"),
            ("floor = { daily = 0 }", "line 7: daily must be 1 to"),
            ("floor = { grace = \"4d\" }", "grace in prune is 3d, and floor allows no less than 4d"),
            ("prune = { at = \"4:00\" }", "line 7: \"4:00\" is no time of day"),
            ("prune = { grace = \"3 days\" }", "line 7: \"3 days\" is no span"),
            ("prune = { when = \"04:00\" }", "line 7: unknown field `when`"),
            ("mirror_losses = { percent = 101 }", "mirror_losses.percent must be 0 to 100"),
            ("mirror_losses = { percent = nan }", "mirror_losses.percent must be 0 to 100"),
            ("mirror_losses = { share = 5 }", "line 7: unknown field `share`"),
        ] {
            let error = read(bad).unwrap_err().one_line();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
