//! Whole logs, honest and not: every kind of misfit between requests and receipts in real repositories.

use crate::harness::{files, id, name, request, signer};
use base::{Blake3, Payload, RequestId, Sha256};
use queue::prove_log::{Kind, MOST, Proven, Sides, prove_log};
use queue::receipt::Outcome;
use queue::{Receipt, Repository, Request, Signer};
use std::collections::HashSet;
use std::path::Path;

/// What each side did, a commit each.
#[derive(Default)]
struct Story {
    requests: Vec<(Vec<Request>, u8)>,
    receipts: Vec<(Vec<Receipt>, u8)>,
    in_pool: Vec<RequestId>,
    on_client: bool,
}

/// The seeds of web1's key, of node1's, and of a stranger's.
const WEB1: u8 = 1;
const NODE1: u8 = 2;
const STRANGER: u8 = 3;

fn receipt(request: &Request) -> Receipt {
    Receipt {
        id: request.id.clone(),
        node: request.node.clone(),
        client: request.client.clone(),
        dataset: request.dataset.clone(),
        request: Sha256::of(&request.to_toml()),
        outcome: Outcome::Stored,
        reason: None,
        received: request.submitted,
        bytes_fetched: 0,
        bytes_stored: 0,
        seconds: 0,
        snapshot: None,
        unreadable: 0,
        refs: None,
        changed: vec![],
        missing: vec![],
    }
}

/// Two datasets by turns, numbered and linked as an honest client does it.
fn honest(count: u64) -> Vec<Request> {
    let one = |seq: u64| {
        let mut request = request(seq, if seq % 2 == 1 { "files:/a" } else { "files:/b" });
        request.prev = (seq > 2).then(|| id(seq - 2));
        request
    };
    (1..=count).map(one).collect()
}

fn story(count: u64) -> Story {
    let requests = honest(count);
    Story {
        receipts: requests.iter().map(|request| (vec![receipt(request)], NODE1)).collect(),
        requests: requests.into_iter().map(|request| (vec![request], WEB1)).collect(),
        in_pool: vec![],
        on_client: false,
    }
}

/// The files of one commit.
type Files = Vec<(String, Vec<u8>)>;

fn repository(folder: &Path, branch: &str, commits: Vec<(Files, Signer)>, author: &str) -> Repository {
    let repository = Repository::open_or_create(&folder.join(branch), branch).unwrap();
    for (files, signer) in commits {
        repository.commit_files(&files, "a commit\n", &signer, author).unwrap();
    }
    repository
}

fn prove(story: Story) -> Proven {
    let dir = tempfile::tempdir().unwrap();
    let key = |seed: u8| signer(dir.path(), seed);
    let requests = story.requests.iter().map(|(requests, by)| (files(requests), key(*by))).collect();
    let asked = repository(dir.path(), "requests", requests, "web1");
    let given = |receipts: &Vec<Receipt>| receipts.iter().map(|receipt| (receipt.file_name(), receipt.to_toml())).collect();
    let receipts = story.receipts.iter().map(|(receipts, by)| (given(receipts), key(*by))).collect();
    let answered = repository(dir.path(), "receipts", receipts, "node1");
    let (client, node) = (name("web1"), name("node1"));
    let sides = Sides {
        client: &client,
        node: &node,
        client_keys: &[key(WEB1).public().clone()],
        node_keys: &[key(NODE1).public().clone()],
        requests: Some(&asked),
        receipts: Some(&answered),
        answering: !story.on_client,
    };
    let in_pool: HashSet<RequestId> = story.in_pool.iter().cloned().collect();
    prove_log(&sides, &|| Ok(in_pool.clone())).unwrap()
}

#[test]
fn an_honest_log_fits() {
    let mut waiting = story(5);
    waiting.receipts.pop();
    waiting.in_pool = vec![id(5)];
    let proven = prove(waiting);
    assert_eq!((proven.commits, proven.requests, proven.receipts, proven.wrong()), (9, 5, 4, 0), "{:?}", proven.misfits);
    assert_eq!(proven.waiting.iter().map(|waiting| waiting.seq).collect::<Vec<_>>(), [5]);
    // A client that lost its pool waits for the newest of each dataset, and knows that the others are never answered.
    let mut lost = story(5);
    lost.on_client = true;
    lost.receipts.remove(3);
    lost.receipts.remove(0);
    let proven = prove(lost);
    assert_eq!(proven.waiting.iter().map(|waiting| waiting.seq).collect::<Vec<_>>(), [4]);
    assert_eq!(proven.misfits.iter().map(|misfit| misfit.kind).collect::<Vec<_>>(), [Kind::Unanswered], "{:?}", proven.misfits);
    // Receipts come in any order and several in a commit; parts have numbers and receipts of their own.
    let mut story = story(4);
    let whole = story.requests[3].0[0].clone();
    let mut part = whole.clone();
    part.id = whole.id.with_part(1).unwrap();
    part.payload = Payload::Manifest(Blake3::of(b"part"));
    let mut last = Request { seq: 5, prev: Some(part.id.clone()), ..whole };
    last.submitted = part.submitted;
    story.receipts = vec![(story.receipts[..3].iter().rev().map(|(receipts, _)| receipts[0].clone()).collect(), NODE1)];
    story.receipts.push((vec![receipt(&part), receipt(&last)], NODE1));
    story.requests.truncate(3);
    story.requests.push((vec![part, last], WEB1));
    let proven = prove(story);
    assert_eq!((proven.commits, proven.requests, proven.receipts, proven.wrong()), (6, 5, 5, 0), "{:?}", proven.misfits);
    assert_eq!(prove(Story::default()).wrong(), 0);
}

#[test]
fn every_misfit_is_told() {
    type Case = (&'static str, fn(&mut Story), &'static [Kind], &'static str);
    let cases: &[Case] = &[
        ("a request is gone", |s| drop(s.requests.remove(1)), &[Kind::Gap, Kind::Predecessor, Kind::Unasked], "number 2 is missing"),
        (
            "several are gone",
            |s| drop(s.requests.drain(0..3)),
            &[Kind::Gap, Kind::Predecessor, Kind::Unasked, Kind::Unasked, Kind::Unasked],
            "numbers 1 to 3 are missing",
        ),
        (
            "a number goes back",
            |s| s.requests[3].0[0].seq = 2,
            &[Kind::Order, Kind::OtherRequest],
            "has the number 2, and the one before it had 3",
        ),
        (
            "a wrong predecessor",
            |s| s.requests[3].0[0].prev = Some(id(1)),
            &[Kind::Predecessor, Kind::OtherRequest],
            "and it was 20261120T031500Z-00000002",
        ),
        ("no predecessor", |s| s.requests[3].0[0].prev = None, &[Kind::Predecessor, Kind::OtherRequest], "before it was none"),
        (
            "a predecessor where there is none",
            |s| s.requests[0].0[0].prev = Some(id(9)),
            &[Kind::Predecessor, Kind::OtherRequest],
            "and it was none",
        ),
        (
            "an id comes again",
            |s| {
                let mut again = s.requests[1].0[0].clone();
                again.by = "mallory".into();
                s.requests.push((vec![again], WEB1));
            },
            &[Kind::SameId],
            "the first one holds",
        ),
        ("a request by a stranger", |s| s.requests[3].1 = STRANGER, &[Kind::NotProven, Kind::Unasked], "no key of web1"),
        (
            "a request of another client",
            |s| s.requests[3].0[0].client = name("web2"),
            &[Kind::NotProven, Kind::Unasked],
            "a request of web2",
        ),
        ("a request of which the node signs", |s| s.requests[3].1 = NODE1, &[Kind::NotProven, Kind::Unasked], "no key of web1"),
        ("a receipt is gone", |s| drop(s.receipts.remove(1)), &[Kind::Unanswered], "number 2, of files:/b has no receipt"),
        ("all receipts after some are gone", |s| s.receipts.truncate(2), &[Kind::Unanswered, Kind::Unanswered], "number 3"),
        (
            "a receipt comes twice",
            |s| {
                let again = s.receipts[0].clone();
                s.receipts.push(again);
            },
            &[Kind::Twice],
            "has two receipts",
        ),
        (
            "a second receipt says otherwise",
            |s| {
                let mut again = s.receipts[0].clone();
                again.0[0].outcome = Outcome::Failed;
                s.receipts.push(again);
            },
            &[Kind::Twice],
            "has two receipts",
        ),
        (
            "a receipt of other bytes",
            |s| s.receipts[1].0[0].request = Sha256::of(b"x"),
            &[Kind::OtherRequest],
            "other bytes than those that were signed as number 2",
        ),
        (
            "a receipt with another's digest",
            |s| {
                let other = s.receipts[0].0[0].request;
                s.receipts[1].0[0].request = other;
            },
            &[Kind::OtherRequest],
            "other bytes",
        ),
        (
            "a receipt of another dataset",
            |s| s.receipts[1].0[0].dataset = "files:/c".parse().unwrap(),
            &[Kind::OtherRequest],
            "is about files:/c",
        ),
        (
            "a receipt nobody asked for",
            |s| {
                let other = receipt(&request(9, "files:/a"));
                s.receipts.push((vec![other], NODE1));
            },
            &[Kind::Unasked],
            "answers a request that is not there",
        ),
        ("a receipt by a stranger", |s| s.receipts[3].1 = STRANGER, &[Kind::NotProven, Kind::Unanswered], "no key of node1"),
        ("a receipt that the client signs", |s| s.receipts[3].1 = WEB1, &[Kind::NotProven, Kind::Unanswered], "no key of node1"),
        (
            "a receipt of another node",
            |s| s.receipts[3].0[0].node = name("node2"),
            &[Kind::NotProven, Kind::Unanswered],
            "a receipt of node2",
        ),
        ("a receipt for another client", |s| s.receipts[3].0[0].client = name("web2"), &[Kind::NotProven, Kind::Unanswered], "of web2"),
    ];
    for (what, bend, kinds, words) in cases {
        let mut story = story(4);
        bend(&mut story);
        let proven = prove(story);
        assert_eq!(&proven.misfits.iter().map(|misfit| misfit.kind).collect::<Vec<_>>(), kinds, "{what}: {:#?}", proven.misfits);
        assert!(proven.misfits.iter().any(|misfit| misfit.text.contains(words)), "{what}: {:#?}", proven.misfits);
    }
}

/// A history that is damaged says so and ends nothing; a hostile one does not fill the memory or the terminal.
#[test]
fn damage_and_floods_have_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let key = signer(dir.path(), WEB1);
    let asked = repository(
        dir.path(),
        "requests",
        vec![(files(&honest(1)), signer(dir.path(), WEB1)), (files(&honest(2)[1..]), signer(dir.path(), WEB1))],
        "web1",
    );
    let first = asked.walk(None, &asked.tip().unwrap().unwrap()).unwrap().remove(0);
    // A new handle: the one that wrote it still has it in memory.
    let asked = Repository::open(asked.path(), "requests").unwrap();
    std::fs::remove_file(asked.path().join("objects").join(&first[..2]).join(&first[2..])).unwrap();
    let (client, node) = (name("web1"), name("node1"));
    let keys = [key.public().clone()];
    let sides = Sides {
        client: &client,
        node: &node,
        client_keys: &keys,
        node_keys: &keys,
        requests: Some(&asked),
        receipts: None,
        answering: false,
    };
    let proven = prove_log(&sides, &|| Ok(HashSet::new())).unwrap();
    assert_eq!((proven.misfits.len(), proven.misfits[0].kind), (1, Kind::NotProven), "{:?}", proven.misfits);
    assert!(proven.misfits[0].text.contains("the history of requests cannot be gone through"));

    let floods: Vec<Receipt> = (1..=MOST as u64 + 5).map(|number| receipt(&request(number, "files:/a"))).collect();
    let receipts = floods.chunks(500).map(|some| (some.to_vec(), NODE1)).collect();
    let proven = prove(Story { receipts, ..Story::default() });
    assert_eq!((proven.misfits.len(), proven.more, proven.wrong()), (MOST, 5, MOST + 5));
}
