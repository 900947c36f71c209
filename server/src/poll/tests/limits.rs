//! Limits by client, and a client that floods.

use super::*;

fn limit(play: &Play, text: &str) {
    let limits: queue::access::Limits = toml::from_str(text).unwrap();
    play.change(|list| {
        list.clients.get_mut(&name()).unwrap().limits = limits;
        Ok(())
    })
    .unwrap();
}

#[test]
fn requests_beyond_a_days_are_refused_and_say_when() {
    let mut play = Play::new();
    limit(&play, "requests_a_day = 3");
    // What is refused for another reason takes no room.
    let mut ids: Vec<RequestId> = ["dummy:a", "git:/not/granted", "dummy:b"].map(|dataset| play.submit(dataset).id).into();
    play.hand_over();
    assert_eq!(play.poll(), None);
    ids.extend(["dummy:c", "dummy:d", "dummy:e"].map(|dataset| play.submit(dataset).id));
    play.hand_over();
    assert_eq!(play.poll(), None);
    let outcomes: Vec<Outcome> = ids.iter().map(|id| play.receipt(id).unwrap().outcome).collect();
    use Outcome::{Refused, Stored};
    assert_eq!(outcomes, [Stored, Refused, Stored, Stored, Refused, Refused]);
    let reason = play.receipt(&ids[4]).unwrap().reason.unwrap();
    assert!(
        reason.starts_with("over the limit requests_a_day = 3: 3 within 24 hours") && reason.contains("possible again from"),
        "{reason}"
    );
    assert_eq!(play.log_tip(), play.handed, "the log goes on");
    // The administrator gives more room: what comes now is taken.
    limit(&play, "requests_a_day = 4");
    let next = play.submit("dummy:f");
    play.hand_over();
    assert_eq!(play.poll(), None);
    assert_eq!(play.receipt(&next.id).unwrap().outcome, Stored);
}

#[test]
fn a_flood_of_one_client_is_taken_in_between_the_requests_of_others() {
    let mut play = Play::new();
    // Three packs, of which the first two are more than one round takes.
    let mut flood = Vec::new();
    for _ in 0..3 {
        let requests: Vec<Request> = (0..150).map(|_| play.request("git:/not/granted")).collect();
        let files: Vec<(String, Vec<u8>)> = requests.iter().map(|request| (request.file_name(), request.to_toml())).collect();
        play.queue.commit_files(&files, "many\n", &play.web1, "web1").unwrap();
        flood.push(play.hand_over());
    }
    // Whose name comes behind, and whose request came last.
    let (web2, signer) = (Name::new("web2").unwrap(), Signer::from_file(&play.at("mallory")).unwrap());
    let allow = vec!["dummy:*".to_owned().try_into().unwrap()];
    let new = NewClient { key: signer.public().clone(), address: None, git_address: None, host_key: None, allow, quota: None };
    play.change(|list| list.add_client(&web2, new)).unwrap();
    let queue = Repository::open_or_create(&play.at("queue2.git"), LOG_BRANCH).unwrap();
    let request = Request { client: web2.clone(), seq: 1, ..play.request("dummy:x") };
    let tip = queue.commit_files(&[(request.file_name(), request.to_toml())], &request.message(), &signer, "web2").unwrap();
    play.put(queue.path(), "web2", None, &tip);

    let poller = Poller::open(play.node.clone(), false).unwrap().unwrap();
    crew::serve_once(&poller, poller.look(false).unwrap()).unwrap();
    let other = Client::open(&play.node, &web2).unwrap();
    let receipt = receipts::find(&play.node, &other, &request.id).unwrap();
    assert_eq!(receipt.map(|receipt| receipt.outcome), Some(Outcome::Stored), "one round is enough for the others");
    assert!(poller.unfinished() && flood[2].exists() && !flood[0].exists(), "the flood is still coming in");
    while poller.unfinished() {
        poller.look(false).unwrap();
    }
    assert!(!flood[2].exists() && play.log_tip() == play.handed);
    assert_eq!((play.receipts(), play.alarms()), (450, Vec::new()));
}

/// One pack with more commits than a round takes, and a poller that is killed in the middle.
#[test]
fn a_pack_that_takes_several_rounds_survives_a_new_start() {
    let mut play = Play::new();
    for _ in 0..6 {
        let requests: Vec<Request> = (0..100).map(|_| play.request("git:/not/granted")).collect();
        let files: Vec<(String, Vec<u8>)> = requests.iter().map(|request| (request.file_name(), request.to_toml())).collect();
        play.queue.commit_files(&files, "many\n", &play.web1, "web1").unwrap();
    }
    let pack = play.hand_over();
    let poller = Poller::open(play.node.clone(), false).unwrap().unwrap();
    let mut before = None;
    for _ in 0..2 {
        poller.look(false).unwrap();
        assert!(poller.unfinished() && pack.exists() && play.log_tip() != before && play.log_tip() != play.handed);
        before = play.log_tip();
    }
    drop(poller);
    let poller = Poller::open(play.node.clone(), false).unwrap().unwrap();
    poller.look(false).unwrap();
    while poller.unfinished() {
        poller.look(false).unwrap();
    }
    assert!(!pack.exists() && play.log_tip() == play.handed);
    assert_eq!((play.receipts(), play.alarms()), (600, Vec::new()));
}
