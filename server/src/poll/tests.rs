//! The poller against a gate that is played by the test: packs are put where the gate puts them, honest and otherwise.

use super::*;
use crate::access::{BRANCH, edit};
use crate::keys;
use base::{Dataset, Payload, Reason, RequestId, process};
use queue::access::NewClient;
use queue::{Outcome, Receipt, Repository, Request};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod limits;
mod quiet;

struct Play {
    dir: tempfile::TempDir,
    node: Node,
    web1: Signer,
    queue: Repository,
    seq: u64,
    handed: Option<String>,
}

impl Play {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for key in ["pull", "receipts", "alice", "web1", "mallory"] {
            keys::make(&at(key), key).unwrap();
        }
        let alice = Signer::from_file(&at("alice")).unwrap();
        let text = format!(
            "version = 1\nname = \"node1\"\ndata = \"{0}/data\"\ngate = \"{0}/gate\"\npull_key = \"{0}/pull\"\nreceipts_key = \"{0}/receipts\"\nadmins = [\"{1} alice\"]\n",
            dir.path().display(),
            queue::access::openssh(alice.public()).unwrap()
        );
        fs::write(at("node.toml"), text).unwrap();
        let mut node = Node::load(&at("node.toml")).unwrap();
        node.gate = Some("/bin/true".into());
        let web1 = Signer::from_file(&at("web1")).unwrap();
        let queue = Repository::open_or_create(&at("queue.git"), LOG_BRANCH).unwrap();
        let play = Self { node, web1, queue, seq: 0, handed: None, dir };
        let new = NewClient {
            key: play.web1.public().clone(),
            address: None,
            git_address: None,
            host_key: None,
            allow: vec!["dummy:*".to_owned().try_into().unwrap(), "files:/**".to_owned().try_into().unwrap()],
            quota: None,
        };
        play.change(|list| list.add_client(&name(), new)).unwrap();
        play
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn change(&self, change: impl FnOnce(&mut queue::access::AccessList) -> Result<()>) -> Result<()> {
        edit::change(&self.node, &Signer::from_file(&self.at("alice")).unwrap(), "change\n", change)
    }

    fn request(&mut self, dataset: &str) -> Request {
        self.seq += 1;
        Request {
            id: RequestId::generate().unwrap(),
            client: name(),
            node: Name::new("node1").unwrap(),
            dataset: dataset.parse::<Dataset>().unwrap(),
            seq: self.seq,
            prev: None,
            submitted: clock::now(),
            by: "root".into(),
            reason: Reason::Manual,
            tags: vec![],
            payload: Payload::Nothing,
            repairs: Vec::new(),
            group: None,
        }
    }

    fn commit(&self, request: &Request, signer: &Signer) -> String {
        self.queue.commit_files(&[(request.file_name(), request.to_toml())], &request.message(), signer, "web1").unwrap()
    }

    fn submit(&mut self, dataset: &str) -> Request {
        let request = self.request(dataset);
        self.commit(&request, &self.web1);
        request
    }

    /// Puts a pack where the gate puts it.
    fn put(&self, repository: &Path, who: &str, old: Option<&str>, new: &str) -> PathBuf {
        let folder = self.node.config.handover_path().join(who);
        fs::create_dir_all(&folder).unwrap();
        let pack = folder.join(format!("{}-{new}.pack", old.unwrap_or(handover::NONE)));
        let revisions = self.at("revisions");
        fs::write(&revisions, old.map_or_else(|| format!("{new}\n"), |old| format!("{new}\n^{old}\n"))).unwrap();
        let mut git = process::git();
        git.arg("--git-dir")
            .arg(repository)
            .args(["pack-objects", "--revs", "--stdout", "-q", "--thin"])
            .stdin(fs::File::open(&revisions).unwrap());
        fs::write(&pack, process::run_ok(git, 1 << 24, Duration::from_secs(30)).unwrap()).unwrap();
        fs::write(self.node.config.handover_path().join("wake").join(who), b"").unwrap();
        pack
    }

    fn hand_over(&mut self) -> PathBuf {
        let new = self.queue.tip().unwrap().unwrap();
        let pack = self.put(self.queue.path(), "web1", self.handed.as_deref(), &new);
        self.handed = Some(new);
        pack
    }

    fn poll(&self) -> Option<Kind> {
        let poller = Poller::open(self.node.clone(), false).unwrap().unwrap();
        let mut names = poller.look(false).unwrap();
        names.extend(poller.with_requests());
        crew::serve_once(&poller, names).unwrap();
        poller.worst().unwrap()
    }

    fn receipt(&self, id: &RequestId) -> Option<Receipt> {
        let client = Client::open(&self.node, &name()).unwrap();
        receipts::find(&self.node, &client, id).unwrap()
    }

    fn receipts(&self) -> usize {
        let repository = Repository::open(&self.node.config.receipts_path(&name()), RECEIPTS_BRANCH).unwrap();
        let Some(tip) = repository.tip().unwrap() else { return 0 };
        repository.commits(None, &tip).unwrap().iter().map(|commit| commit.entries.len()).sum()
    }

    fn log_tip(&self) -> Option<String> {
        Repository::open(&self.node.config.log_path(&name()), LOG_BRANCH).unwrap().tip().unwrap()
    }

    fn alarms(&self) -> Vec<String> {
        alarms::all(&self.node.config.client_path(&name())).into_iter().map(|alarm| alarm.words).collect()
    }

    fn waiting(&self) -> usize {
        let pool = NodePool::open(&self.node.config.client_path(&name()).join("pool")).unwrap();
        pool.waiting().unwrap().len() + pool.processing().unwrap().len()
    }
}

fn name() -> Name {
    Name::new("web1").unwrap()
}

#[test]
fn a_request_gets_one_receipt_and_every_step_may_come_twice() {
    let mut play = Play::new();
    let request = play.submit("dummy:x");
    let pack = play.hand_over();
    let kept = fs::read(&pack).unwrap();
    assert_eq!(play.poll(), None);
    assert!(!pack.exists());
    let receipt = play.receipt(&request.id).unwrap();
    assert_eq!((receipt.outcome, &receipt.dataset), (Outcome::Stored, &request.dataset));
    assert_eq!(play.log_tip(), play.handed);
    // The same hand-over again, and a crash between the receipt and the rename.
    // Its mark was removed by somebody who was killed before he looked.
    fs::write(&pack, kept).unwrap();
    let pool = play.node.config.client_path(&name()).join("pool");
    fs::rename(pool.join(format!("F{}", request.id)), pool.join(format!("P{}", request.id))).unwrap();
    assert_eq!(play.poll(), None);
    assert_eq!((play.receipts(), play.receipt(&request.id).unwrap(), play.waiting()), (1, receipt, 0));
    assert!(!pack.exists() && play.alarms().is_empty(), "{:?}", play.alarms());
    // It had failed before, and a process was killed when it had answered and not forgotten that.
    let client = Client::open(&play.node, &name()).unwrap();
    client.retry(|retry| retry.failed(request.id.as_str(), "away".into(), clock::now(), 0.0)).unwrap();
    assert_eq!(play.poll(), Some(Kind::NotNow));
    Poller::open(play.node.clone(), true).unwrap().unwrap().swept().unwrap();
    assert_eq!(play.poll(), None);
}

#[test]
fn what_may_not_be_is_refused_and_the_rest_goes_on() {
    let mut play = Play::new();
    let not_granted = play.submit("git:/srv/git/a");
    let mut elsewhere = play.request("dummy:x");
    elsewhere.node = Name::new("node2").unwrap();
    play.commit(&elsewhere, &play.web1);
    let mut backwards = play.request("dummy:y");
    backwards.seq = 1;
    play.commit(&backwards, &play.web1);
    let good = play.submit("dummy:z");
    play.hand_over();
    assert_eq!(play.poll(), None);
    for (request, word) in [(&not_granted, "git"), (&elsewhere, "node2"), (&backwards, "number")] {
        let receipt = play.receipt(&request.id).unwrap();
        assert_eq!((receipt.outcome, receipt.node.as_str()), (Outcome::Refused, "node1"));
        assert!(receipt.reason.as_ref().unwrap().contains(word), "{receipt:?}");
    }
    assert_eq!(play.receipt(&good.id).unwrap().outcome, Outcome::Stored);
    let last = client::read_last(&play.node.config.client_path(&name()));
    assert_eq!(last.trouble.len(), 3, "{last:?}");
}

#[test]
fn a_commit_that_proves_nothing_is_passed_over() {
    let mut play = Play::new();
    play.submit("dummy:a");
    play.hand_over();
    assert_eq!(play.poll(), None);
    let mallory = Signer::from_file(&play.at("mallory")).unwrap();
    let forged = play.request("dummy:b");
    play.commit(&forged, &mallory);
    let before = play.log_tip();
    play.hand_over();
    assert_eq!(play.poll(), Some(Kind::Failed));
    assert_eq!((play.log_tip(), play.receipt(&forged.id), play.alarms().len()), (before, None, 1));
    // What the client itself puts on top of it goes on.
    let good = play.submit("dummy:c");
    play.hand_over();
    play.poll();
    assert_eq!(play.receipt(&good.id).unwrap().outcome, Outcome::Stored);
    assert_eq!(play.log_tip(), play.handed);
}

#[test]
fn a_history_that_was_changed_is_an_alarm_and_nothing_more() {
    let mut play = Play::new();
    play.submit("dummy:a");
    play.hand_over();
    play.poll();
    let before = play.log_tip();
    let other = Repository::open_or_create(&play.at("other.git"), LOG_BRANCH).unwrap();
    let request = play.request("dummy:b");
    let tip = other.commit_files(&[(request.file_name(), request.to_toml())], "m", &play.web1, "web1").unwrap();
    let pack = play.put(other.path(), "web1", None, &tip);
    assert_eq!(play.poll(), Some(Kind::Failed));
    assert!(!pack.exists() && play.receipt(&request.id).is_none());
    assert_eq!((play.log_tip(), play.alarms().len()), (before, 1));
    // What the gate lost in between leaves the rest unreadable; then the gate hands over all that we lack.
    play.submit("dummy:c");
    let lost = play.hand_over();
    fs::remove_file(lost).unwrap();
    let last = play.submit("dummy:d");
    let pack = play.hand_over();
    assert_eq!(play.poll(), Some(Kind::Failed));
    assert!(!pack.exists() && play.receipt(&last.id).is_none());
    assert_eq!(play.alarms().len(), 2, "{:?}", play.alarms());
    play.put(play.queue.path(), "web1", play.log_tip().as_deref(), play.handed.as_deref().unwrap());
    assert_eq!(play.poll(), None);
    assert_eq!(play.receipt(&last.id).unwrap().outcome, Outcome::Stored);
}

#[test]
fn the_first_of_an_id_holds() {
    let mut play = Play::new();
    let first = play.submit("dummy:a");
    let mut second = play.request("dummy:b");
    second.id = first.id.clone();
    play.commit(&second, &play.web1);
    play.hand_over();
    assert_eq!(play.poll(), Some(Kind::Failed));
    assert_eq!((play.receipt(&first.id).unwrap().dataset, play.receipts()), (first.dataset, 1));
    assert!(play.alarms()[0].contains("first one holds"), "{:?}", play.alarms());
}

#[test]
fn what_does_not_work_now_gets_no_receipt_and_holds_up_nobody() {
    let mut play = Play::new();
    let mut files = play.request("files:/var/www");
    files.payload = Payload::Manifest(base::Blake3::of(b"a manifest that must be fetched"));
    play.commit(&files, &play.web1);
    let dummy = play.submit("dummy:a");
    play.hand_over();
    // The access list says nowhere how this client is reached.
    assert_eq!(play.poll(), Some(Kind::NotNow));
    assert_eq!((play.receipt(&files.id), play.receipt(&dummy.id).unwrap().outcome), (None, Outcome::Stored));
    let waits = client::read_retry(&play.node.config.client_path(&name()));
    let wait = &waits.wait[files.id.as_str()];
    assert!(wait.failures == 1 && wait.words.contains("address") && wait.next > wait.since, "{wait:?}");
    // It is not tried again before its time, and at once when the list was changed.
    assert_eq!(play.poll(), Some(Kind::NotNow));
    assert_eq!(client::read_retry(&play.node.config.client_path(&name())), waits);
    play.change(|list| {
        list.clients.get_mut(&name()).unwrap().allow.pop();
        Ok(())
    })
    .unwrap();
    assert_eq!(play.poll(), None);
    let receipt = play.receipt(&files.id).unwrap();
    assert!(receipt.outcome == Outcome::Refused && receipt.reason.unwrap().contains("does not take"));
    assert!(client::read_retry(&play.node.config.client_path(&name())).wait.is_empty());
}

#[test]
fn paused_and_removed_clients_wait() {
    let mut play = Play::new();
    play.change(|list| list.pause_client(&name(), true)).unwrap();
    let request = play.submit("dummy:a");
    play.hand_over();
    assert_eq!(play.poll(), None);
    assert!(play.receipt(&request.id).is_none() && play.waiting() == 1);
    play.change(|list| list.pause_client(&name(), false)).unwrap();
    assert_eq!(play.poll(), None);
    assert_eq!(play.receipt(&request.id).unwrap().outcome, Outcome::Stored);
    play.change(|list| list.remove_client(&name())).unwrap();
    let request = play.submit("dummy:b");
    let pack = play.hand_over();
    assert_eq!(play.poll(), None);
    assert!(pack.exists() && play.receipt(&request.id).is_none());
}

#[test]
fn a_key_that_left_the_list_still_proves_what_it_signed_before() {
    let mut play = Play::new();
    play.change(|list| list.pause_client(&name(), true)).unwrap();
    let request = play.submit("dummy:a");
    play.hand_over();
    play.poll();
    play.change(|list| {
        list.remove_client(&name())?;
        let key = Signer::from_file(&play.at("mallory"))?.public().clone();
        list.add_client(
            &name(),
            NewClient { key, address: None, git_address: None, host_key: None, allow: vec!["dummy:*".to_owned().try_into()?], quota: None },
        )
    })
    .unwrap();
    assert_eq!(play.poll(), None);
    assert_eq!(play.receipt(&request.id).unwrap().outcome, Outcome::Stored);
}

#[test]
fn the_access_list_follows_administrators_alone() {
    let play = Play::new();
    let copy = Repository::open(&play.node.config.admin_path(), BRANCH).unwrap();
    let tip = copy.tip().unwrap().unwrap();
    // An administrator's clone, as the gate would hand it over.
    let mut clone = process::git();
    clone.args(["clone", "-q", "--bare"]).arg(copy.path()).arg(play.at("clone.git"));
    process::run_ok(clone, 1000, Duration::from_secs(30)).unwrap();
    let clone = Repository::open(&play.at("clone.git"), BRANCH).unwrap();
    let mut list = access::current(&play.node).unwrap().list;
    list.pause_client(&name(), true).unwrap();
    let bad = edit::commit(&clone, &list, "m", &Signer::from_file(&play.at("mallory")).unwrap(), "mallory").unwrap();
    let pack = play.put(clone.path(), "admin", Some(&tip), &bad);
    assert_eq!(play.poll(), Some(Kind::Failed));
    assert!(!pack.exists() && !alarms::all(&play.node.state_path()).is_empty());
    assert!(!access::current(&play.node).unwrap().list.clients[&name()].paused);
    clone.reset_to(&tip).unwrap();
    let good = edit::commit(&clone, &list, "m", &Signer::from_file(&play.at("alice")).unwrap(), "alice").unwrap();
    play.put(clone.path(), "admin", Some(&tip), &good);
    assert_eq!(play.poll(), None);
    let now = access::current(&play.node).unwrap();
    assert!(now.list.clients[&name()].paused && now.tip.as_deref() == Some(good.as_str()));
    assert_eq!(fs::read_to_string(play.node.config.access_path().join("commit")).unwrap().trim(), good);
    let lines = fs::read_to_string(play.node.config.access_path().join("authorized_keys")).unwrap();
    assert!(
        lines.lines().filter(|line| !line.starts_with('#')).count() == 2 && lines.contains("client web1") && lines.contains("admin alice"),
        "{lines}"
    );
}

#[test]
fn there_is_one_poller() {
    let play = Play::new();
    let _first = Poller::open(play.node.clone(), false).unwrap().unwrap();
    assert!(Poller::open(play.node.clone(), false).unwrap().is_none());
}
