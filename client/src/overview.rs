//! All that this machine knows of how its backups stand, as one value: `status` prints it, metrics are made of it.
//!
//! Reads what `send` wrote down; asks no node, and needs no key. What of it is wrong is decided here, once, by pure functions.

use crate::contact::Contact;
use crate::history::{Held, History, Past, Size};
use crate::ledger::Ledger;
use crate::schedule;
use crate::send::is_dialled;
use base::config::client::ClientNode;
use base::config::{ClientConfig, GroupEntry, Reach};
use base::{Dataset, Name, RequestId, Result, Span, clock};
use jiff::{SignedDuration, Timestamp};
use queue::pool::{ClientPool, PoolFile, State};
use serde::Serialize;
use std::collections::BTreeMap;

/// A snapshot is late by this much at least before anybody is bothered.
const LEAST_LATE: SignedDuration = SignedDuration::from_hours(1);
/// A node that was not reached for this long is wrong; until then it may be a laptop that is on the way.
const AWAY: SignedDuration = SignedDuration::from_hours(24);

/// How everything stands on this client. Bounded by the number of datasets and nodes, not by that of snapshots.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// This client's name; none on a machine that only restores.
    pub client: Option<Name>,
    /// The release of this program.
    pub version: &'static str,
    /// When this was gathered.
    pub at: Timestamp,
    /// Each dataset and each group at each of its nodes: configured, waiting, or sent before and still allowed.
    pub datasets: Vec<DatasetView>,
    /// The nodes of the configuration, in its order.
    pub nodes: Vec<NodeView>,
}

/// What a dataset is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// Nobody has asked for it yet.
    NeverAsked,
    /// A request waits: it is not prepared yet, or its node is away.
    Waiting,
    /// A request is prepared here or fetched by the node.
    BeingFetched,
    /// The last request is stored, and none is under way.
    Stored,
    /// The last request has failed or was refused, and none is under way.
    Failed,
}

impl Doing {
    /// As people are told.
    pub fn words(self) -> &'static str {
        match self {
            Self::NeverAsked => "never asked for",
            Self::Waiting => State::Complete.words(),
            Self::BeingFetched => State::Process.words(),
            Self::Stored => State::Finished.words(),
            Self::Failed => "failed",
        }
    }
}

/// What is wrong with a dataset or a node: then `status` exits with 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// The last request has failed or was refused.
    Failed,
    /// Nothing was stored for longer than is expected.
    Overdue,
    /// Something on this machine keeps the request from being prepared.
    Held,
    /// The last snapshot lacks what could not be read.
    Incomplete,
    /// The node was not reached for a day.
    Away,
    /// The node's receipts are not believed.
    Alarm,
}

/// One dataset at one node.
#[derive(Debug, Clone, Serialize)]
pub struct DatasetView {
    /// The dataset.
    pub dataset: Dataset,
    /// The node.
    pub node: Name,
    /// What it is doing.
    pub state: Doing,
    /// What is wrong with it; empty when all is well.
    pub wrong: Vec<Wrong>,
    /// How often it is to be stored, in seconds, where the configuration says so.
    pub expected_seconds: Option<u64>,
    /// When it is due by its age; in the past, it is asked for with the next look.
    pub due: Option<Timestamp>,
    /// When the node last confirmed that it keeps a snapshot, by our clock.
    pub last_success: Option<Timestamp>,
    /// How long ago that was, in seconds.
    pub age_seconds: Option<i64>,
    /// When a request was last prepared or answered, whatever came of it.
    pub last_attempt: Option<Timestamp>,
    /// When a request last failed or was refused, also if one was stored since.
    pub last_failure: Option<Timestamp>,
    /// How many have failed or were refused since the last success.
    pub failures: u32,
    /// When the first of these was.
    pub failing_since: Option<Timestamp>,
    /// Why the last of these failed.
    pub error: Option<String>,
    /// The last snapshot.
    pub snapshot: Option<String>,
    /// How much that is.
    #[serde(flatten)]
    pub size: Size,
    /// Entries that it lacks because they could not be read.
    pub unreadable: u64,
    /// The first of these, where this user may know.
    pub not_read: Vec<String>,
    /// Sockets that were left out.
    pub skipped: u64,
    /// What keeps the present request from being prepared.
    pub held: Option<Held>,
    /// How many requests wait or are under way.
    pub waiting: usize,
    /// The oldest of them.
    pub request: Option<RequestId>,
    /// When that one was submitted.
    pub waiting_since: Option<Timestamp>,
}

/// One node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeView {
    /// The node.
    pub node: Name,
    /// What is wrong with it; empty when all is well.
    pub wrong: Vec<Wrong>,
    /// When it last answered.
    pub last_contact: Option<Timestamp>,
    /// How many tries in a row have failed since.
    pub failures: u32,
    /// When the first of these was.
    pub failing_since: Option<Timestamp>,
    /// When the next try is due.
    pub next_try: Option<Timestamp>,
    /// Where this machine dials the node: whether it has a line to it at this moment.
    pub dialled_in: Option<bool>,
    /// Why the node's gate does not take that line.
    pub dial_trouble: Option<String>,
    /// By how many seconds this machine's clock is behind the node's, at least.
    pub clock_behind_seconds: i64,
    /// What went wrong, in the words of whoever said it.
    pub error: Option<String>,
    /// Why its receipts are not believed.
    pub alarm: Option<String>,
    /// What a person should know, the newest last.
    pub warnings: Vec<String>,
}

impl Overview {
    /// Gathers it from this machine's files.
    ///
    /// # Errors
    /// When the pool is not there, or the state of a node cannot be read.
    pub fn gather(config: &ClientConfig) -> Result<Self> {
        let at = clock::now();
        let contacts = config.nodes.iter().map(|node| Contact::load(config, &node.name)).collect::<Result<Vec<_>>>()?;
        let mut datasets = configured(config)?;
        let (states, asked): (Vec<State>, Vec<PoolFile>) =
            ClientPool::open(&config.pool_path())?.unfinished()?.into_iter().map(|(state, file, _)| (state, file)).unzip();
        for node in &config.nodes {
            for (dataset, past) in History::wanted(config, &node.name, &asked).datasets {
                let view = datasets.entry((dataset.clone(), node.name.clone())).or_insert_with(|| DatasetView::new(&dataset, &node.name));
                view.due = schedule::next(config, &node.name, &dataset, Some(&past), None);
                let ledger = past.snapshot.as_deref().map(|id| Ledger::read(config, id)).unwrap_or_default();
                view.remember(past, &ledger, at);
            }
        }
        for (state, file) in states.into_iter().zip(asked) {
            let dataset = file.dataset()?;
            let away = config.nodes.iter().zip(&contacts).any(|(node, contact)| node.name == file.node && contact.failures > 0);
            let view = datasets.entry((dataset.clone(), file.node.clone())).or_insert_with(|| DatasetView::new(&dataset, &file.node));
            view.is_asked(state, file, away, at);
        }
        for view in datasets.values_mut() {
            if view.due.is_none() {
                view.due = schedule::next(config, &view.node, &view.dataset, None, None);
            }
            view.expected_seconds = expected(config, &view.dataset).map(|span| span.0.as_secs());
            view.judge(at);
        }
        let line = |node: &ClientNode| (node.reach == Reach::Dial).then(|| is_dialled(config, &node.name));
        let node = |(node, contact)| NodeView { dialled_in: line(node), ..NodeView::new(node, contact, at) };
        Ok(Self {
            client: config.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            at,
            datasets: datasets.into_values().collect(),
            nodes: config.nodes.iter().zip(contacts).map(node).collect(),
        })
    }

    /// Whether anything is wrong.
    pub fn is_well(&self) -> bool {
        self.datasets.iter().all(|view| view.wrong.is_empty()) && self.nodes.iter().all(|view| view.wrong.is_empty())
    }
}

/// How often `dataset` is to be stored, where the configuration says so.
fn expected(config: &ClientConfig, dataset: &Dataset) -> Option<Span> {
    schedule::every(config, dataset).map(Span)
}

/// Every dataset and every group of the configuration at each of its nodes.
fn configured(config: &ClientConfig) -> Result<BTreeMap<(Dataset, Name), DatasetView>> {
    let groups = config.groups.iter().map(GroupEntry::subject).collect::<Result<Vec<_>>>()?;
    let of_one = |dataset: &Dataset| {
        let views = config.nodes_of(dataset).into_iter().map(|node| DatasetView::new(dataset, &node.name));
        views.map(|view| ((view.dataset.clone(), view.node.clone()), view)).collect::<Vec<_>>()
    };
    Ok(config.datasets.iter().map(|entry| &entry.address).chain(&groups).flat_map(of_one).collect())
}

/// Whether something that is expected so often is overdue after so long: late by half of it, and by an hour at least, as the
/// node reckons too.
pub fn is_overdue(expected_seconds: u64, age: SignedDuration) -> bool {
    let every = SignedDuration::from_secs(i64::try_from(expected_seconds).unwrap_or(i64::MAX));
    age.saturating_sub(every) >= LEAST_LATE.max(every / 2)
}

impl DatasetView {
    /// One of which nothing is known.
    pub fn new(dataset: &Dataset, node: &Name) -> Self {
        Self {
            dataset: dataset.clone(),
            node: node.clone(),
            state: Doing::NeverAsked,
            wrong: Vec::new(),
            expected_seconds: None,
            due: None,
            last_success: None,
            age_seconds: None,
            last_attempt: None,
            last_failure: None,
            failures: 0,
            failing_since: None,
            error: None,
            snapshot: None,
            size: Size::default(),
            unreadable: 0,
            not_read: Vec::new(),
            skipped: 0,
            held: None,
            waiting: 0,
            request: None,
            waiting_since: None,
        }
    }

    /// Takes in what became of its requests until now.
    fn remember(&mut self, past: Past, ledger: &Ledger, now: Timestamp) {
        self.state = match (past.failures, past.last_success) {
            (1.., _) => Doing::Failed,
            (0, Some(_)) => Doing::Stored,
            (0, None) => self.state,
        };
        self.not_read = ledger.first(past.unreadable);
        self.skipped = ledger.skipped;
        self.last_success = past.last_success;
        self.age_seconds = past.last_success.map(|time| now.duration_since(time).as_secs().max(0));
        // Older releases did not note it.
        self.last_attempt = past.last_attempt.max(past.last_success);
        self.last_failure = past.last_failure.max(past.failing_since);
        self.failures = past.failures;
        self.failing_since = past.failing_since;
        self.error = past.error;
        self.snapshot = past.snapshot;
        self.size = past.size.unwrap_or_default();
        self.unreadable = past.unreadable;
        self.held = past.held;
    }

    /// Takes in a request that is not finished.
    fn is_asked(&mut self, state: State, file: PoolFile, node_is_away: bool, now: Timestamp) {
        self.waiting += 1;
        // What is not prepared, or what a node that is away does not fetch, is waiting, whatever we have done for it.
        let waits = node_is_away || self.held.is_some() || state == State::Complete;
        self.state = if waits && self.state != Doing::BeingFetched { Doing::Waiting } else { Doing::BeingFetched };
        let since = file.id.said_time().filter(|time| *time <= now);
        if self.request.is_none() || since < self.waiting_since {
            (self.request, self.waiting_since) = (Some(file.id), since);
        }
    }

    /// Decides what is wrong.
    fn judge(&mut self, now: Timestamp) {
        let since = |time: Option<Timestamp>| time.map(|time| now.duration_since(time));
        let overdue = self.expected_seconds.is_some_and(|every| match (since(self.last_success), since(self.waiting_since)) {
            (Some(age), _) | (None, Some(age)) => is_overdue(every, age),
            // It was never stored, and nobody has asked for it either.
            (None, None) => true,
        });
        let found = [
            (Wrong::Failed, self.failures > 0),
            (Wrong::Overdue, overdue),
            (Wrong::Held, self.held.is_some() && self.request.is_some()),
            (Wrong::Incomplete, self.failures == 0 && self.unreadable > 0),
        ];
        self.wrong = found.into_iter().filter(|(_, is)| *is).map(|(wrong, _)| wrong).collect();
    }
}

impl NodeView {
    fn new(node: &ClientNode, contact: Contact, now: Timestamp) -> Self {
        let away = contact.failing_since.is_some_and(|since| now.duration_since(since) >= AWAY);
        let found = [(Wrong::Away, away), (Wrong::Alarm, contact.alarm.is_some())];
        Self {
            node: node.name.clone(),
            wrong: found.into_iter().filter(|(_, is)| *is).map(|(wrong, _)| wrong).collect(),
            last_contact: contact.last_contact,
            failures: contact.failures,
            failing_since: contact.failing_since,
            next_try: contact.next_try,
            dialled_in: None,
            dial_trouble: contact.dial_trouble,
            clock_behind_seconds: contact.clock_behind,
            error: contact.error,
            alarm: contact.alarm,
            warnings: contact.warnings.into_iter().map(|warning| format!("{}: {}", warning.at, warning.text)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Reason;

    const NOW: i64 = 1_800_000_000;

    fn at(hours_ago: i64) -> Timestamp {
        Timestamp::from_second(NOW - hours_ago * 3600).unwrap()
    }

    fn view(past: Past, every: Option<u64>) -> DatasetView {
        let mut view = DatasetView::new(&"files:/a".parse().unwrap(), &Name::new("n1").unwrap());
        view.remember(past, &Ledger::default(), at(0));
        view.expected_seconds = every.map(|hours| hours * 3600);
        view
    }

    #[test]
    fn what_is_listed_and_what_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "version = 1\nname = \"web1\"\nstate = \"{}\"\n[[node]]\nname = \"n1\"\nssh = \"g@h\"\nhost_key = \"k\"\nreceipts_key = \"k\"\n\
             [[dataset]]\naddress = \"files:/a\"\n[[allow]]\nmodule = \"files\"\nunder = \"/b\"\n\
             [[group]]\nname = \"shop\"\nmembers = [\"files:/a\"]\nevery = \"1d\"\n",
            dir.path().display()
        );
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        crate::state::make_folders(&config).unwrap();
        let pool = ClientPool::create(&config.pool_path()).unwrap();
        let name = Name::new("n1").unwrap();
        let mut history = History::default();
        for dataset in ["files:/b", "files:/gone"] {
            let id = RequestId::generate().unwrap();
            let outcome = crate::outcome::OutcomeFile::new(&id, &dataset.parse().unwrap(), &name, crate::outcome::Ending::Failed);
            history.add(&config, &outcome).unwrap();
        }
        let gathered = || {
            let overview = Overview::gather(&config).unwrap();
            overview.datasets.into_iter().map(|view| (view.dataset.to_string(), view.wrong)).collect::<Vec<_>>()
        };
        let row = |dataset: &str, wrong: &[Wrong]| (dataset.to_owned(), wrong.to_vec());
        // A group that was never asked for is as late as a dataset; what was taken out of the configuration is nobody's trouble.
        let rest = [row("files:/a", &[]), row("files:/b", &[Wrong::Failed]), row("group:shop", &[Wrong::Overdue])];
        assert_eq!(gathered(), rest);
        pool.submit(&PoolFile::new(&"files:/gone".parse().unwrap(), &name, &[], Reason::Manual).unwrap()).unwrap();
        let mut more = rest.to_vec();
        more.insert(2, row("files:/gone", &[Wrong::Failed]));
        assert_eq!(gathered(), more);
    }

    fn wrong(mut view: DatasetView) -> Vec<Wrong> {
        view.judge(at(0));
        view.wrong
    }

    #[test]
    fn what_is_late_by_half_is_overdue() {
        let stored = |hours| Past { last_success: Some(at(hours)), ..Past::default() };
        assert_eq!(wrong(view(stored(8), Some(6))), []);
        assert_eq!(wrong(view(stored(9), Some(6))), [Wrong::Overdue]);
        assert_eq!(wrong(view(stored(9000), None)), [], "nobody expects it");
        // An hour is nothing, however often it is to come.
        assert!(!is_overdue(60, SignedDuration::from_mins(60)) && is_overdue(60, SignedDuration::from_mins(61)));
        assert!(!is_overdue(u64::MAX, SignedDuration::MAX) && !is_overdue(0, SignedDuration::MIN));
        // A clock that was set back.
        assert_eq!(view(stored(-5), Some(1)).age_seconds, Some(0));
    }

    #[test]
    fn what_never_came_is_overdue_unless_it_is_on_its_way() {
        assert_eq!(wrong(view(Past::default(), Some(6))), [Wrong::Overdue]);
        let asked = |hours: i64| {
            let mut view = view(Past::default(), Some(6));
            let id: RequestId = format!("{}-3f9a1c7e", at(hours).strftime("%Y%m%dT%H%M%SZ")).parse().unwrap();
            let file = PoolFile { id, ..PoolFile::new(&view.dataset, &view.node, &[], Reason::Manual).unwrap() };
            view.is_asked(State::Process, file, false, at(0));
            (view.state, wrong(view))
        };
        assert_eq!(asked(1), (Doing::BeingFetched, vec![]));
        assert_eq!(asked(10), (Doing::BeingFetched, vec![Wrong::Overdue]));
    }

    #[test]
    fn failures_go_before_what_they_left_unread() {
        let past = Past { failures: 2, unreadable: 3, failing_since: Some(at(5)), ..Past::default() };
        let view = view(past, None);
        assert_eq!((view.state, view.last_failure), (Doing::Failed, Some(at(5))));
        assert_eq!(wrong(view), [Wrong::Failed]);
    }

    #[test]
    fn the_oldest_request_is_shown() {
        let mut view = view(Past { last_success: Some(at(9)), ..Past::default() }, None);
        for (hours, state) in [(2, State::Process), (1, State::Complete)] {
            let id: RequestId = format!("{}-3f9a1c7e", at(hours).strftime("%Y%m%dT%H%M%SZ")).parse().unwrap();
            let file = PoolFile { id, ..PoolFile::new(&view.dataset, &view.node, &[], Reason::Manual).unwrap() };
            view.is_asked(state, file, false, at(0));
        }
        assert_eq!((view.state, view.waiting, view.waiting_since), (Doing::BeingFetched, 2, Some(at(2))));
    }

    #[test]
    fn a_node_is_away_after_a_day() {
        let node: ClientNode = toml::from_str("name = \"n1\"\nssh = \"a@b\"\nhost_key = \"k\"\nreceipts_key = \"k\"").unwrap();
        let of = |hours| {
            let mut contact = Contact::default();
            contact.failing_since = Some(at(hours));
            NodeView::new(&node, contact, at(0)).wrong
        };
        assert_eq!((of(23), of(24)), (vec![], vec![Wrong::Away]));
    }
}
