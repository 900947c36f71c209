//! `log --verify`: the whole signed history, on both sides, by our programs and by plain git.

use crate::harness::{Loopback, blocks, run, source_root};

/// One thing that is done to a side's repositories, and what it then says.
struct Case {
    what: &'static str,
    script: &'static str,
    kinds: &'static [&'static str],
    /// Where the client sees it otherwise than the node.
    client: Option<&'static [&'static str]>,
    says: &'static str,
}

/// `$queue` and `$receipts` are that side's.
const CASES: &[Case] = &[
    Case { what: "a receipt is gone", script: "git -C $receipts update-ref refs/heads/receipts receipts~1", kinds: &["unanswered"],
        // It might still come; but it was seen before.
        client: Some(&["went-back"]),
        says: "receipt" },
    Case { what: "a request is gone", script: "git -C $queue update-ref refs/heads/requests requests~1", kinds: &["unasked"], client: None, says: "answers a request that is not there" },
    Case {
        what: "a request in the middle is gone",
        script: "tree=$(git -C $queue rev-parse requests^{tree}); new=$(git -C $queue cat-file commit requests | sed \"s/^parent .*/parent $(git -C $queue rev-parse requests~2)/\" | git -C $queue hash-object -t commit -w --stdin)
                 git -C $queue update-ref refs/heads/requests $new",
        kinds: &["not-proven", "unasked", "unasked"],
        client: None,
        says: "the signature",
    },
    Case {
        what: "somebody put a commit on top",
        script: "new=$(git -C $queue -c user.name=x -c user.email=x@x commit-tree -p requests -m x requests^{tree}); git -C $queue update-ref refs/heads/requests $new",
        kinds: &["not-proven"],
        client: None,
        says: "is not signed",
    },
    Case {
        what: "a receipt by a stranger on top",
        script: "new=$(git -C $receipts -c user.name=x -c user.email=x@x -c gpg.format=ssh -c user.signingKey=$PWD/restorer/id_ed25519.pub commit-tree -S -p receipts -m x receipts^{tree})
                 git -C $receipts update-ref refs/heads/receipts $new",
        kinds: &["not-proven"],
        client: Some(&["not-proven", "went-back"]),
        says: "no key of node1",
    },
    Case {
        what: "an object is gone",
        script: "rm -f $queue/objects/pack/*.keep; mkdir -p loose; mv $queue/objects/pack/*.pack loose/ 2>/dev/null && for p in loose/*.pack; do git -C $queue unpack-objects -q <$p; done; rm -f $queue/objects/pack/*
                 oid=$(git -C $queue rev-parse requests~1); rm -f $queue/objects/$(echo $oid | cut -c1-2)/$(echo $oid | cut -c3-)",
        kinds: &["not-proven", "unasked", "unasked", "unasked"],
        client: None,
        says: "cannot be gone through",
    },
];

#[test]
fn each_side_says_what_does_not_fit() {
    let safe = Loopback::start();
    for path in ["x", "y", "x"] {
        safe.back_up("dummy", path);
    }
    safe.client(&["log", "--verify"]).says(&["6 signed commits hold; 3 requests, 3 receipts, 0 waiting; 0 things do not fit"]).exits(0);
    safe.node(&["log", "--verify"]).says(&["web1: 3 requests, 3 receipts, 0 waiting", "commits hold, 0 do not"]).exits(0);
    safe.client(&["log", "--verify", "dummy:x"]).exits(2);
    type Side = fn(&Loopback, &[&str]) -> crate::harness::Run;
    let sides: [(&str, &str, &str, Side); 2] = [
        ("client", "client/queues/node1.git", "client/receipts/node1.git", Loopback::client),
        ("node", "node/data/log/web1.git", "node/data/web1/receipts.git", Loopback::node),
    ];
    for (side, queue, receipts, program) in sides {
        safe.sh(&format!("mkdir kept; cp -a {queue} kept/queue; cp -a {receipts} kept/receipts"));
        for case in CASES {
            safe.sh(&format!("queue=$PWD/{queue}; receipts=$PWD/{receipts}; {}", case.script));
            let said = program(&safe, &["log", "--verify"]).exits(1);
            let json = program(&safe, &["log", "--verify", "--json"]).exits(1);
            let found: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
            let of = if side == "node" { &found[0]["clients"][0] } else { &found[0] };
            let kinds: Vec<_> = of["misfits"].as_array().unwrap().iter().map(|misfit| misfit["kind"].as_str().unwrap()).collect();
            let expected = case.client.filter(|_| side == "client").unwrap_or(case.kinds);
            assert_eq!(kinds, expected, "{side}: {}: {json}", case.what);
            assert!(said.stderr.contains(case.says), "{side}: {}: {said}", case.what);
            safe.sh(&format!("rm -rf {queue} {receipts} loose; cp -a kept/queue {queue}; cp -a kept/receipts {receipts}"));
        }
        safe.sh("rm -rf kept");
        program(&safe, &["log", "--verify"]).exits(0);
    }
}

/// What a key signed while it was trusted holds after the next one is.
#[test]
fn former_keys_hold_for_what_they_signed() {
    let safe = Loopback::start();
    safe.back_up("dummy", "x");
    for _ in 0..2 {
        safe.sh("rm -f node/receipts node/receipts.pub; ssh-keygen -q -t ed25519 -N '' -C node1 -f node/receipts");
        safe.client(&["node", "trust", "node1", &safe.text("node/receipts.pub"), "--yes"]).exits(0);
        safe.back_up("dummy", "x");
    }
    let mut alone = safe.command("nightsafe");
    alone.env_remove("NIGHTSAFE_SIGNERS").args(["log", "--verify"]);
    run(&mut alone).says(&["3 requests, 3 receipts", "0 things do not fit"]).exits(0);
    // A node knows its own key of now; an auditor names those of before.
    safe.node(&["log", "--verify"]).says(&["no key of node1"]).exits(1);
    safe.sh("for key in $(cut -d' ' -f2 client/trusted/node1.formerly); do echo \"node1 namespaces=\\\"git\\\" ssh-ed25519 $key\"; done >former");
    safe.node(&["log", "--verify", "--signers", &safe.text("former")]).says(&["0 do not"]).exits(0);
}

#[test]
fn the_page_on_the_log_runs() {
    let safe = Loopback::start();
    safe.back_up("dummy", "x");
    safe.back_up("dummy", "y");
    safe.client(&["submit", "dummy", "z"]).ok();
    safe.client(&["send"]).silent();
    let text = std::fs::read_to_string(source_root().join("docs/log.md")).unwrap();
    run(safe.command("bash").args(["-euxc", &blocks(&text, "sh").concat()])).exits(0);
    let script = format!("state={}; signers={}\n{}", safe.text("client"), safe.text("allowed_signers"), blocks(&text, "bash").concat());
    let words = ["3 commits are signed by web1", "2 commits are signed by node1", "3 requests, 2 receipts"];
    run(safe.command("bash").args(["-eu", "-o", "pipefail", "-c", &script])).says(&words).exits(0);
    // It finds what is wrong, too.
    safe.git("client/queues/node1.git", &["update-ref", "refs/heads/requests", "requests~2"]);
    let found = run(safe.command("bash").args(["-eu", "-o", "pipefail", "-c", &script]));
    assert_ne!(found.code, Some(0), "{found}");
}
