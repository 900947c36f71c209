//! The node's own log of what it takes away and what people hold or forget: `audit.git`, signed with the receipts key, and
//! readable with plain `git log`.
//!
//! Decides nothing. Each commit's message says it in words, and its one file, a [`Record`], says it for programs.

use crate::node::Node;
use archive::store::{Change, PrunePlan, Pruned, StoredSnapshot};
use base::clock::toml_time;
use base::text::printable;
use base::{ByteSize, Error, Name, RequestId, Result, Span, clock};
use jiff::Timestamp;
use queue::{Repository, Signer};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The branch of the log.
pub const BRANCH: &str = "audit";

/// What a commit says for programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    version: i64,
    /// `plan` and `result` of a prune; what a person did: `held`, `released`, `forgotten`, `remembered`.
    pub deed: String,
    node: Name,
    /// Whose data it is about.
    pub client: Name,
    /// When.
    #[serde(with = "toml_time")]
    pub time: Timestamp,
    /// The account on the node, and who had become it, as `sudo` says.
    pub by: String,
    /// Why, where a person said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a plan: how long what is condemned stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
    /// Of a result: how many packs went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packs: Option<u64>,
    /// Of a result: their bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What became of which snapshots.
    #[serde(default, rename = "snapshot")]
    pub snapshots: Vec<Line>,
}

/// One snapshot in a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The snapshot.
    pub id: RequestId,
    /// Condemned, spared, pinned or removed; or the person's deed.
    pub became: String,
    /// Whose snapshot it is, where that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// When it had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    received: Option<String>,
    /// Why that became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Record {
    /// Reads the file of a commit.
    ///
    /// # Errors
    /// When it is no record, of this version.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        base::config::parse("the node's own log", bytes)
    }
}

/// The log, for one client.
#[derive(Debug)]
pub struct Audit<'a> {
    node: &'a Node,
    client: &'a Name,
}

impl<'a> Audit<'a> {
    /// What is about to be written down is about `client`.
    pub fn of(node: &'a Node, client: &'a Name) -> Self {
        Self { node, client }
    }

    /// What a plan condemns, spares and pins. Gives the commit, which is the plan's name.
    ///
    /// # Errors
    /// When the log cannot be written; then the plan must not be carried out.
    pub fn plan(&self, plan: &PrunePlan, grace: Duration) -> Result<String> {
        let mut lines = Vec::new();
        for planned in &plan.snapshots {
            match planned.change {
                Some(Change::Condemned) => lines.push(line(&planned.snapshot, "condemned", None)),
                Some(Change::Spared) => {
                    let why: Vec<String> = planned.reasons.iter().map(ToString::to_string).collect();
                    lines.push(line(&planned.snapshot, "spared", Some(why.join(", "))));
                }
                None => {}
            }
            if let Some((_, by)) = plan.pins.iter().find(|(id, _)| *id == planned.snapshot.id) {
                lines.push(line(&planned.snapshot, "pinned", Some(format!("{by} is much smaller"))));
            }
        }
        let count = |what: &str| lines.iter().filter(|line| line.became == what).count();
        let words: Vec<String> = ["condemned", "spared", "pinned"]
            .into_iter()
            .filter(|what| count(what) > 0)
            .map(|what| format!("{} {what}", count(what)))
            .collect();
        let subject = format!("{}: {}", self.client, words.join(", "));
        let more = format!("What is condemned goes after {}.", String::from(Span(grace)));
        self.commit(&subject, Some(&more), Record { grace: Some(Span(grace)), ..self.record("plan", lines) })
    }

    /// What was taken away.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn result(&self, pruned: &Pruned) -> Result<String> {
        let lines: Vec<Line> = pruned
            .snapshots
            .iter()
            .map(|(id, note)| Line {
                id: id.clone(),
                became: "removed".into(),
                dataset: note.as_ref().map(|note| note.dataset.to_string()),
                received: note.as_ref().map(|note| note.received.to_string()),
                why: None,
            })
            .collect();
        let subject =
            format!("{}: {} removed, with {} packs of {}", self.client, snapshots(lines.len()), pruned.packs, ByteSize(pruned.bytes));
        self.commit(&subject, None, Record { packs: Some(pruned.packs), bytes: Some(pruned.bytes), ..self.record("result", lines) })
    }

    /// What a person does with snapshots: `held`, `released`, `forgotten`, `remembered`.
    ///
    /// # Errors
    /// When the log cannot be written; then it must not be done.
    pub fn deed(&self, became: &'static str, of: &[StoredSnapshot], reason: Option<&str>) -> Result<String> {
        let lines: Vec<Line> = of.iter().map(|snapshot| line(snapshot, became, None)).collect();
        let subject = match lines.as_slice() {
            [one] => format!("{}: {} {became}", self.client, one.id),
            _ => format!("{}: {} {became}", self.client, snapshots(lines.len())),
        };
        self.commit(&subject, reason, Record { reason: reason.map(str::to_owned), ..self.record(became, lines) })
    }

    fn record(&self, deed: &str, snapshots: Vec<Line>) -> Record {
        Record {
            version: base::config::VERSION,
            deed: deed.to_owned(),
            node: self.node.config.name.clone(),
            client: self.client.clone(),
            time: clock::now(),
            by: who(),
            reason: None,
            grace: None,
            packs: None,
            bytes: None,
            snapshots,
        }
    }

    fn commit(&self, subject: &str, more: Option<&str>, record: Record) -> Result<String> {
        let mut body: Vec<String> = more.map(str::to_owned).into_iter().collect();
        body.extend(record.snapshots.iter().map(|line| {
            let Line { id, became, dataset, received, why } = line;
            let text = |text: &Option<String>| text.as_ref().map_or_else(String::new, |text| format!(" {text}"));
            let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            format!("{became} {id}{}{}{why}", text(dataset), text(received))
        }));
        body.push(format!("by {}", record.by));
        let bytes = toml::to_string(&record).map_err(|error| Error::failed("could not write down what is done").because(error))?;
        let signer = Signer::from_file(&self.node.config.receipts_key)?;
        let log = Repository::open_or_create(&self.node.config.audit_path(), BRANCH)?;
        let files = [(format!("{}.toml", record.deed), bytes.into_bytes())];
        log.commit_files(&files, &queue::message::text(subject, &body), &signer, self.node.config.name.as_str())
    }
}

fn snapshots(count: usize) -> String {
    if count == 1 { "1 snapshot".into() } else { format!("{count} snapshots") }
}

fn line(snapshot: &StoredSnapshot, became: &str, why: Option<String>) -> Line {
    Line {
        id: snapshot.id.clone(),
        became: became.to_owned(),
        dataset: Some(snapshot.dataset.to_string()),
        received: Some(snapshot.received.to_string()),
        why,
    }
}

/// Who does it: the account, and who became it. No proof, as whoever is that account can say anything.
fn who() -> String {
    let uid = rustix::process::getuid().as_raw();
    let became = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    printable(&became.map_or_else(|| format!("uid {uid}"), |name| format!("{name} as uid {uid}")))
}
