//! How many sessions a client has at once, whatever they are and however they end.

use crate::site::{NOTHING, Site, name, site, words};
use queue::access::{ClientChange, NewClient};
use queue::verdict::Role;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

fn start(site: &Site, command: &str) -> Child {
    let mut gate = site.gate(&Role::Client(name("web1")), Some(command));
    gate.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(sessions: &mut [Child]) -> usize {
    sessions.iter_mut().filter_map(|session| session.try_wait().unwrap()).count()
}

fn end(mut session: Child) {
    drop(session.stdin.take());
    session.wait().unwrap();
}

#[test]
fn a_session_holds_its_slot_to_its_end() {
    let mut site = site();
    let new = NewClient { key: site.public("mallory"), address: None, git_address: None, host_key: None, allow: vec![], quota: None };
    site.list.add_client(&name("web2"), new).unwrap();
    // [defaults] counts where a client has no limit of its own.
    site.list.default_limits.sessions = Some(4);
    site.publish();
    let ping = |who: &Role| site.run(who, "ping");
    let web1 = Role::Client(name("web1"));
    let mut sessions: Vec<Child> = (0..7).map(|_| start(&site, &format!("receipts-wait {NOTHING}"))).collect();
    let begun = Instant::now();
    while ended(&mut sessions) < 3 {
        assert!(begun.elapsed() < Duration::from_secs(120), "three too many are sent away");
        std::thread::sleep(Duration::from_millis(5));
    }
    let refused = ping(&web1);
    assert_eq!((refused.status.code(), ended(&mut sessions)), (Some(75), 3));
    assert!(
        words(&refused).contains("web1 has 4 sessions open here") && words(&refused).contains("limit \"sessions\""),
        "{}",
        words(&refused)
    );
    let log = std::fs::read_to_string(site.at("gate/gate.log")).unwrap();
    assert!(log.lines().filter(|line| line.contains("client web1 from 192.0.2.1: web1 has 4 sessions open here")).count() == 4, "{log}");
    for other in [Role::Client(name("web2")), Role::Admin(name("alice")), Role::Restorer(name("carol"))] {
        assert!(ping(&other).status.success(), "{other:?}");
    }
    let mut open: Vec<Child> =
        sessions.into_iter().filter_map(|mut session| session.try_wait().unwrap().is_none().then_some(session)).collect();
    end(open.pop().unwrap());
    assert!(ping(&web1).status.success(), "one has ended");
    // What the gate becomes, and what it starts and waits for, counts as well.
    for command in ["git-upload-pack 'queue'", "git-receive-pack 'queue'"] {
        let mut git = start(&site, command);
        git.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
        assert_eq!(ping(&web1).status.code(), Some(75), "{command}");
        end(git);
        assert!(ping(&web1).status.success(), "{command}");
    }
    // A limit of its own, at once.
    let change = ClientChange { limits: vec!["sessions=5".parse().unwrap()], ..ClientChange::default() };
    open.push(start(&site, "git-upload-pack 'queue'"));
    open.last_mut().unwrap().stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
    assert_eq!(ping(&web1).status.code(), Some(75));
    site.list.set_client(&name("web1"), change).unwrap();
    site.publish();
    assert!(site.run(&web1, "ping").status.success());
    open.into_iter().for_each(end);
}
