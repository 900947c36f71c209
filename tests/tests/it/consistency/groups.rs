//! Groups: one restore point of several datasets, from submit to restore.

use super::configure;
use crate::harness::{Killed, Loopback, run, until};

/// Two trees and a repository, with a group of them.
fn shop(safe: &Loopback, more: &str) -> (String, String, String) {
    let (one, two, git) = (safe.text("source/one"), safe.text("source/two"), safe.text("source/a.git"));
    safe.sh(&format!("mkdir -p '{one}' '{two}'; echo 1 >'{one}/x'; echo 1 >'{two}/y'; git init -q --bare '{git}'"));
    safe.sh(&format!(
        "git init -q work; cd work; git -c user.name=x -c user.email=x@x commit -q --allow-empty -m one; git push -q '{git}' HEAD:refs/heads/main"
    ));
    configure(safe, &format!("[[group]]\nname = \"shop\"\nmembers = [\"files:{one}\", \"git:{git}\", \"files:{two}\"]\n{more}"));
    (one, two, git)
}

#[test]
fn a_restore_point_goes_and_comes_back_as_one() {
    let safe = Loopback::start();
    let log = safe.text("log");
    let around =
        format!("before = [\"sh\", \"-c\", \"echo before >>{log}\"]\nafter = [\"sh\", \"-c\", \"echo after $NIGHTSAFE_OUTCOME >>{log}\"]");
    let (one, two, git) = shop(&safe, &around);
    safe.client(&["submit", "group", "shp"]).exits(2).says(&["shop"]);
    safe.client(&["submit", "group", "shop"]).exits(0).says(&["group:shop for node1"]);
    safe.client(&["submit", "group", "shop"]).exits(0).says(&["waiting already"]);
    safe.round();
    assert_eq!(safe.read("log"), "before\nafter done\n");
    let listed = safe.client(&["snapshots", "--json"]).json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 3);
    let ids: std::collections::BTreeSet<String> = listed.iter().map(|one| one["group"]["id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.len() == 1 && listed.iter().all(|one| one["group"]["name"] == "shop"));
    let first = ids.into_iter().next().unwrap();
    safe.client(&["snapshots"]).says(&["GROUP", &format!("shop {first}")]);
    safe.client(&["status"]).says(&["group:shop"]);
    safe.node(&["log", "--verify"]).exits(0);
    safe.client(&["log", "--verify"]).exits(0);
    // All are asked for in one commit, which says so.
    assert!(safe.git("node/data/log/web1.git", &["log", "-1", "--format=%B"]).contains("back up the group shop (3 datasets)"));
    // A second one, and a later snapshot of one member by itself.
    safe.sh(&format!("echo 2 >'{one}/x'; echo 2 >'{two}/y'"));
    safe.client(&["submit", "--all"]).exits(0).says(&["group:shop"]);
    safe.round();
    safe.sh(&format!("echo 3 >'{one}/x'"));
    safe.back_up("files", &one);
    let back = safe.text("back/shop");
    safe.client(&["restore", "--group", "shop", "--target", &back]).exits(0);
    assert_eq!(
        (safe.read(&format!("back/shop/files{one}/x")), safe.read(&format!("back/shop/files{two}/y"))),
        ("2\n".into(), "2\n".into())
    );
    let heads = |path: &str| run(safe.command("git").args(["-C", path, "show-ref"])).ok();
    assert_eq!(heads(&git), heads(&format!("{back}/git{git}")));
    let at = safe.text("back/first");
    safe.client(&["restore", "--group", "web1:shop", "--at", &first, "--target", &at]).exits(0);
    assert_eq!(safe.read(&format!("back/first/files{one}/x")), "1\n");
    safe.client(&["restore", "--group", "shap", "--target", &at]).exits(1).says(&["shop"]);
    safe.client(&["restore", "--group", "shop", "--in-place"]).exits(2);
    safe.client(&["verify"]).exits(0);
    // A node that passes another snapshot off as the group's: the client has signed which one it is.
    let listed = safe.client(&["snapshots", "--json"]).json();
    let of_one: Vec<_> = listed.as_array().unwrap().iter().filter(|row| row["dataset"] == format!("files:{one}")).cloned().collect();
    let notes = |row: &serde_json::Value| format!("node/data/web1/snapshots/{}/accepted.toml", row["snapshot"].as_str().unwrap());
    let (grouped, single) = (safe.read(&notes(&of_one[1])), safe.read(&notes(&of_one[2])));
    let (own, group) = grouped.split_once("\n[group]").unwrap();
    safe.write(&notes(&of_one[1]), own);
    safe.write(&notes(&of_one[2]), &format!("{single}\n[group]{group}"));
    let forged = safe.text("back/forged");
    safe.client(&["restore", "--group", "shop", "--target", &forged]).exits(4).says(&["has signed something else"]);
    assert!(!safe.at(&format!("back/forged/files{one}/x")).exists());
    assert!(safe.names("client/groups").is_empty() && safe.names("client/around").is_empty());
}

#[test]
fn a_group_that_lacks_a_member_says_so_and_keeps_the_rest() {
    let safe = Loopback::start();
    let (one, two, _) = shop(&safe, "");
    safe.client(&["submit", "group", "shop"]).exits(0);
    safe.round();
    let whole = safe.client(&["snapshots", "--json"]).json()[0]["group"]["id"].as_str().unwrap().to_owned();
    safe.client(&["submit", "group", "shop"]).exits(0);
    safe.sh(&format!("mv '{two}' '{two}-away'; echo 2 >'{one}/x'"));
    safe.client(&["send"]).exits(1).says(&["source/two"]);
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).exits(1).says(&["the group shop", "incomplete, 2 of 3 stored", "source/two"]);
    safe.client(&["status"]).says(&["group:shop", "incomplete, 2 of 3 stored"]);
    let receipts = safe.git("node/data/web1/receipts.git", &["log", "--format=%B", "receipts"]);
    assert!(receipts.contains("the group shop") && receipts.contains("lacks"), "{receipts}");
    // The newest that is whole comes back, unless the other is asked for.
    let back = safe.text("back/a");
    let said = safe.client(&["restore", "--group", "shop", "--target", &back]).exits(0).says(&["incomplete"]);
    assert_eq!(safe.read(&format!("back/a/files{one}/x")), "1\n", "{said}");
    let listed = safe.client(&["snapshots", "--json"]).json();
    let ids = listed.as_array().unwrap().iter().map(|one| one["group"]["id"].as_str().unwrap().to_owned());
    let lacking = ids.into_iter().find(|id| *id != whole).unwrap();
    let back = safe.text("back/b");
    safe.client(&["restore", "--group", "shop", "--at", &lacking, "--target", &back]).exits(3).says(&["could not be prepared", &two]);
    assert_eq!(safe.read(&format!("back/b/files{one}/x")), "2\n");
    // A member that cannot come back keeps none of the others back.
    safe.sh(&format!("mkdir -p 'back/c/files{one}'; echo x >'back/c/files{one}/mine'"));
    let back = safe.text("back/c");
    safe.client(&["restore", "--group", "shop", "--target", &back]).exits(4).says(&["does not come back", "other things"]);
    assert_eq!(safe.read(&format!("back/c/files{two}/y")), "1\n");
    // The next one is whole again, and status is content.
    safe.sh(&format!("mv '{two}-away' '{two}'"));
    safe.client(&["submit", "group", "shop", "--wait", "--timeout", "1s"]).exits(75);
    safe.round();
    assert!(!safe.client(&["status"]).exits(0).stdout.contains("incomplete"));
}

/// A failing `before` of the group fails all of it, and what a member waits for keeps the group waiting.
#[test]
fn a_group_waits_and_fails_as_one() {
    let safe = Loopback::start();
    let (one, _, _) = shop(&safe, "before = [\"sh\", \"-c\", \"test -e open || { echo closed; exit 1; }\"]");
    safe.client(&["submit", "group", "shop"]).exits(0);
    safe.client(&["send"]).exits(1).says(&["closed", "the group shop"]);
    assert!(safe.names("client/groups").is_empty() && safe.names("client/export/node1").is_empty());
    let work = safe.names("client/pool/work");
    assert!(work.len() == 4 && work.iter().all(|name| name.starts_with('F')), "{work:?}");
    safe.client(&["status"]).says(&["closed"]);
    // One member waits for its receipt: the group is not begun before.
    safe.client(&["submit", "files", &one]).exits(0);
    safe.client(&["send"]).silent();
    safe.client(&["submit", "group", "shop"]).exits(0);
    safe.client(&["send"]).silent();
    assert_eq!(safe.names("client/pool/inbox").len(), 1);
    safe.node(&["poll"]).silent();
    safe.sh("touch home/open");
    safe.edit("client.toml", "test -e open", &format!("test -e {}", safe.text("home/open")));
    safe.client(&["send"]).silent();
    safe.round();
    assert_eq!(super::snapshots(&safe, &format!("files:{one}")), 2);
    // A member that is asked for by a stranger's file is not a member.
    let forged = "version = 1\nid = \"20261120T031500Z-3f9a1c7e\"\nmodule = \"group\"\npath = \"none\"\nnode = \"node1\"\ntags = []\nreason = \"manual\"\n";
    safe.write("client/pool/inbox/C20261120T031500Z-3f9a1c7e", forged);
    safe.client(&["send"]).exits(1).says(&["no group none"]);
}

/// Cancelled, or taken out of the configuration, after a sender was ended that had begun with it: its members go without a word.
#[test]
fn a_group_that_is_taken_back_takes_its_members_along() {
    let safe = Loopback::start();
    let (open, pid) = (safe.text("open"), safe.text("pid"));
    let plain = safe.read("client.toml");
    shop(&safe, &format!("before = [\"sh\", \"-c\", \"echo $$ >{pid}; test -e {open} || exec sleep 300\"]"));
    let begun = || {
        safe.sh("rm -f open; : >pid");
        let said = safe.client(&["submit", "group", "shop"]).exits(0).stdout;
        let mut sender = Killed::start(safe.command("nightsafe").arg("send"));
        until("its command runs", || safe.read("pid").ends_with('\n'));
        sender.child().kill().unwrap();
        sender.wait();
        safe.sh("kill $(cat pid); touch open");
        let waiting = safe.names("client/pool/work").into_iter().filter(|name| name.starts_with('P')).count();
        assert_eq!(waiting, 4, "the group and its members");
        said.split_whitespace().next().unwrap().to_owned()
    };
    let nothing_is_left = || {
        safe.client(&["send"]).silent();
        safe.client(&["status"]).exits(0);
        let work = safe.names("client/pool/work");
        assert!(work.iter().all(|name| name.starts_with('F')), "{work:?}");
        for folder in ["client/groups", "client/around", "client/export/node1"] {
            assert!(safe.names(folder).is_empty(), "{folder}");
        }
    };
    let id = begun();
    safe.client(&["cancel", &id]).exits(0);
    nothing_is_left();
    begun();
    safe.write("client.toml", &plain);
    safe.client(&["send"]).exits(1).says(&["no group shop"]);
    nothing_is_left();
}
