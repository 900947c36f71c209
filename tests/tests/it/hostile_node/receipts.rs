//! What a node may say in its receipts: older, forged, swapped ones. The client frees nothing, says what is wrong, and
//! `log --verify` names it.

use super::{keep, put_back};
use crate::harness::Loopback;

/// One thing that a node says instead of the truth.
struct Case {
    what: &'static str,
    /// Makes the branch that is served, in a clone of the honest one. `rc` writes a receipt, `commit KEY` signs.
    script: &'static str,
    /// What `send` or `status` says of it; nothing where only the log shows it.
    told: &'static [&'static str],
    /// What `log --verify` says of it.
    proven: &'static [&'static str],
}

/// `$W` waits for its receipt and `$D` is its digest; `$X` and `$DX` are of a request that was answered.
const HELPERS: &str = r#"
    cd w; git checkout -q -f -B receipts origin/receipts; git rm -q -r .
    rc() { git show "$(git log --format=%H -1 --diff-filter=A -- RC$X.toml)":RC$X.toml | sed -e "s/^id = .*/id = \"$2\"/" -e "s|^request = .*|request = \"$3\"|" -e "s|^dataset = .*|dataset = \"$SET\"|" >RC$1.toml; }
    put() { sed -i "s|^$2 = .*|$2 = $3|" RC$1.toml; }
    commit() { git add -A .; git -c user.signingKey=../$1 commit -q -S -m 'a receipt'; }
"#;

const CASES: &[Case] = &[
    Case {
        what: "the history of yesterday",
        script: "git checkout -q -f -B receipts origin/receipts~1",
        told: &["do not follow those that it gave before", "nothing was freed", "node trust node1 --new-history"],
        proven: &["lack the newest 1 that it gave before"],
    },
    Case {
        what: "a history with the same receipts, signed anew",
        script: "git checkout -q --orphan anew; git checkout -q origin/receipts~1 -- .; commit node/receipts; git rm -q -r .; git checkout -q origin/receipts -- .; commit node/receipts",
        told: &["do not follow those that it gave before"],
        proven: &["are another history than what it gave before"],
    },
    Case {
        what: "a history that forks before the last receipt",
        script: "git checkout -q -f -B receipts origin/receipts~1; git rm -q -r .; rc $W $W $D; commit node/receipts",
        told: &["do not follow those that it gave before"],
        proven: &["are another history than what it gave before"],
    },
    Case {
        what: "no history at all",
        script: "git checkout -q --detach; git -C ../node/data/web1/receipts.git update-ref -d refs/heads/receipts; touch ../none",
        told: &["node1"],
        proven: &[],
    },
    Case {
        what: "a receipt that a stranger signed",
        script: "rc $W $W $D; commit restorer/id_ed25519",
        told: &["not by the pinned one; nothing was freed", "node trust"],
        proven: &["no key of node1"],
    },
    Case {
        what: "a receipt that this client signed",
        script: "rc $W $W $D; commit client/id_ed25519",
        told: &["not by the pinned one; nothing was freed"],
        proven: &["no key of node1"],
    },
    Case {
        what: "a receipt that an administrator signed",
        script: "rc $W $W $D; commit admin/id_ed25519",
        told: &["not by the pinned one; nothing was freed"],
        proven: &["no key of node1"],
    },
    Case {
        what: "a receipt that nobody signed",
        script: "rc $W $W $D; git add -A .; git commit -q -m x",
        told: &["no valid key", "nothing was freed"],
        proven: &["the commit is not signed"],
    },
    Case {
        what: "a receipt for other bytes",
        script: "rc $W $W sha256:0000000000000000000000000000000000000000000000000000000000000000; commit node/receipts",
        told: &["answers other bytes than the ones that this machine signed"],
        proven: &["answers other bytes than those that were signed as number 3"],
    },
    Case {
        what: "a receipt with the digest of another request",
        script: "rc $W $W $DX; commit node/receipts",
        told: &["answers other bytes than the ones that this machine signed"],
        proven: &["answers other bytes"],
    },
    Case {
        what: "a genuine receipt under another request's name",
        script: "rc $W $X $DX; commit node/receipts",
        told: &["is called by another id"],
        proven: &["is a receipt of node1 for request"],
    },
    Case {
        what: "a receipt for another client",
        script: "rc $W $W $D; put $W client '\"web2\"'; commit node/receipts",
        told: &["is of node1 for web2"],
        proven: &["of web2"],
    },
    Case {
        what: "a receipt of another node",
        script: "rc $W $W $D; put $W node '\"node2\"'; commit node/receipts",
        told: &["is of node2 for web1"],
        proven: &["a receipt of node2"],
    },
    Case {
        what: "a receipt about another dataset",
        script: "rc $W $W $D; put $W dataset '\"files:/etc\"'; commit node/receipts",
        told: &["is about files:/etc, and the request asked for"],
        proven: &["is about files:/etc, and the request asked for files:"],
    },
    Case {
        what: "a receipt for what nobody asked for",
        script: "rc 20200101T000000Z-00000000 20200101T000000Z-00000000 $D; commit node/receipts",
        told: &["which this machine never made"],
        proven: &["answers a request that is not there"],
    },
    Case {
        what: "a second receipt that says otherwise",
        script: "rc $X $X $DX; put $X outcome '\"failed\"'; commit node/receipts",
        told: &[],
        proven: &["has two receipts"],
    },
    Case {
        what: "a receipt that cannot be read",
        script: "echo 'version = [' >RC$W.toml; commit node/receipts",
        told: &["A receipt of node1 is not believed"],
        proven: &["the receipt"],
    },
    Case {
        what: "a receipt with an outcome of its own",
        script: "rc $W $W $D; put $W outcome '\"perhaps\"'; commit node/receipts",
        told: &["A receipt of node1 is not believed"],
        proven: &["the receipt"],
    },
    Case {
        what: "a receipt that would write on the terminal",
        script: "rc $W $W $D; put $W outcome '\"failed\"'; printf 'reason = \"\\\\u001b[2Jall is well\"\\n' >>RC$W.toml; commit node/receipts",
        told: &["A receipt of node1 is not believed"],
        proven: &["the receipt"],
    },
    Case {
        what: "a receipt without an end",
        script: "rc $W $W $D; head -c 3000000 /dev/zero | tr '\\0' '#' >>RC$W.toml; commit node/receipts",
        told: &["A receipt of node1 is not believed"],
        proven: &["bytes"],
    },
    Case {
        what: "a receipt that is a link",
        script: "ln -s /etc/passwd RC$W.toml; commit node/receipts",
        told: &["A receipt of node1 is not believed"],
        proven: &["is not a name that belongs here"],
    },
    Case {
        what: "a merge",
        script: "git checkout -q -b side origin/receipts~1; git -c user.signingKey=../node/receipts commit -q -S --allow-empty -m s; git checkout -q -f receipts; git reset -q --hard; git -c user.signingKey=../node/receipts merge -q -S -s ours side -m m",
        told: &["do not follow those that it gave before"],
        proven: &["are another history than what it gave before"],
    },
    Case {
        what: "a notice that a stranger signed",
        script: "echo 'version = 1' >NT$W.toml; commit restorer/id_ed25519",
        told: &[],
        proven: &["no key of node1"],
    },
    Case {
        what: "a notice of nonsense",
        script: "echo 'version = 1' >NT$W.toml; commit node/receipts",
        told: &["A notice of node1 is not believed"],
        proven: &[],
    },
];

#[test]
fn receipts_that_lie_free_nothing() {
    let safe = Loopback::start();
    for path in ["x", "y"] {
        safe.back_up("dummy", path);
    }
    let (path, exported) = safe.exported(100_000);
    safe.client(&["log", "--verify"]).says(&["3 requests, 2 receipts, 1 waiting; 0 things do not fit"]).exits(0);
    safe.sh("git clone -q -b receipts node/data/web1/receipts.git w; cd w; git config user.name node1; git config user.email node1@nightsafe.invalid; git config gpg.format ssh");
    let log = safe.client(&["log", "--json"]).json();
    let one = |dataset: &str| log.as_array().unwrap().iter().find(|line| line["dataset"] == dataset).unwrap().clone();
    let digest = |id: &str| {
        safe.git(
            "client/queues/node1.git",
            &["log", "--format=%H", "-1", "--diff-filter=A", "refs/heads/requests", "--", &format!("RQ{id}.toml")],
        )
    };
    let of = |dataset: &str| {
        let id = one(dataset)["id"].as_str().unwrap().to_owned();
        let commit = digest(&id);
        let sum =
            safe.sh(&format!("git -C client/queues/node1.git cat-file blob {}:RQ{id}.toml | sha256sum | cut -d' ' -f1", commit.trim()));
        (id, format!("sha256:{}", sum.trim()))
    };
    let ((waiting, its), (answered, other)) = (of(&format!("files:{path}")), of("dummy:x"));
    let names = format!("W={waiting}; D={its}; X={answered}; DX={other}; SET=files:{path}");
    let folders = ["client", "node/data/web1/receipts.git"];
    keep(&safe, &folders);
    let mut wrong = Vec::new();
    for case in CASES {
        let what = case.what;
        safe.sh(&format!("{names}\n{HELPERS}\n{}\n[ -e ../none ] || git push -q -f ../node/data/web1/receipts.git HEAD:refs/heads/receipts; rm -f ../none", case.script));
        let sent = safe.client(&["send"]);
        let status = safe.client(&["status"]);
        let proven = safe.client(&["log", "--verify"]);
        let said = format!("{sent}{status}{proven}");
        let mut check = |holds: bool, words: &str| {
            if !holds {
                wrong.push(format!("=== {what}: {words}\n{said}"));
            }
        };
        check(case.told.iter().all(|words| sent.stderr.contains(words) || status.stdout.contains(words)), "send and status do not say it");
        check(case.proven.iter().all(|words| proven.stderr.contains(words)), "log --verify does not say it");
        check(proven.code == Some(i32::from(!case.proven.is_empty())), "log --verify ends otherwise");
        check(!said.contains('\x1b'), "something writes on the terminal");
        check(safe.names("client/export/node1") == exported, "something was freed");
        check(safe.names("client/pool/work").contains(&format!("P{waiting}")), "it does not wait any more");
        put_back(&safe, &folders);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // With the honest history all goes on, and the request gets its receipt.
    safe.round();
    safe.client(&["log", "--verify"]).says(&["3 requests, 3 receipts, 0 waiting; 0 things do not fit"]).exits(0);
    assert!(safe.names("client/export/node1").is_empty());
}
