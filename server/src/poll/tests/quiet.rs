//! What a poll from cron passes over, what it must not, and that it looks on while it fetches.

use super::super::{meanwhile, quiet};
use super::*;

#[test]
fn nothing_to_do_is_remembered_until_something_comes() {
    let mut play = Play::new();
    let still = |play: &Play| quiet::still(&play.node).unwrap();
    let poll = |play: &Play| {
        let poller = Poller::open(play.node.clone(), true).unwrap().unwrap();
        assert!(!still(play), "a poller is at work");
        let mut names = poller.look(true).unwrap();
        poller.note_sweep().unwrap();
        names.extend(poller.with_requests());
        crew::serve_once(&poller, names).unwrap();
        poller.tidy().unwrap();
        quiet::begin(&poller).unwrap();
    };
    assert!(!still(&play), "nobody has looked yet");
    poll(&play);
    assert!(still(&play) && still(&play));

    // A request, from its mark to its receipt.
    let request = play.submit("dummy:x");
    play.hand_over();
    assert!(!still(&play));
    poll(&play);
    assert!(still(&play) && play.receipt(&request.id).is_some());

    // Another access list.
    play.change(|list| list.remove_client(&name())).unwrap();
    assert!(!still(&play));
    poll(&play);
    assert!(still(&play));

    // Another configuration, and a sweep that is due.
    let before = play.node.config.workers;
    play.node.config.workers += 1;
    assert!(!still(&play));
    play.node.config.workers = before;
    assert!(still(&play));
    let sweep = fs::File::options().write(true).open(play.node.state_path().join("sweep")).unwrap();
    sweep.set_modified(SystemTime::now() - SWEEP).unwrap();
    assert!(!still(&play));
}

#[test]
fn what_waits_is_not_passed_over() {
    let mut play = Play::new();
    let mut request = play.request("files:/srv/a");
    request.payload = Payload::Manifest(Blake3::of(b"a manifest"));
    play.commit(&request, &play.web1);
    play.hand_over();
    // It has no address, so it cannot be fetched.
    assert!(play.poll().is_some());
    let poller = Poller::open(play.node.clone(), false).unwrap().unwrap();
    poller.swept().unwrap();
    quiet::begin(&poller).unwrap();
    assert!(!quiet::still(&play.node).unwrap());
}

#[test]
fn what_is_handed_over_meanwhile_is_taken_in_and_the_look_is_noted() {
    let mut play = Play::new();
    let poller = Poller::open(play.node.clone(), true).unwrap().unwrap();
    poller.look(true).unwrap();
    assert!(last_sweep(&play.node).is_none());
    let waits = meanwhile::looking(&poller, Duration::from_millis(5), || {
        play.submit("dummy:x");
        play.hand_over();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(240) && (last_sweep(&play.node).is_none() || poller.with_requests().is_empty()) {
            std::thread::sleep(Duration::from_millis(2));
        }
        last_sweep(&play.node).is_some() && poller.with_requests().contains(&name())
    });
    assert!(waits);
}
