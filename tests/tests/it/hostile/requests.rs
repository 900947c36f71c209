//! Requests that are signed as they should be, and say what they must not: schema, sizes, others' names, ids and numbers used
//! again, paths outside what is granted.

use super::attacker::{Attacker, PLAIN, Push};
use super::{Case, Fate, attack};

/// A request in which one text stands for another.
macro_rules! instead {
    ($name:literal, $fate:expr, $old:expr => $new:expr) => {
        Case { name: $name, fate: $fate, attack: |a| a.replaced($old.as_ref(), $new.as_ref()) }
    };
}

/// A dataset instead of the one that is granted.
macro_rules! dataset {
    ($name:literal, $fate:expr, $dataset:expr) => {
        Case { name: $name, fate: $fate, attack: |a| a.replaced("dummy:x", $dataset.as_ref()) }
    };
}

/// One line more.
macro_rules! line {
    ($name:literal, $fate:expr, $line:expr) => {
        Case { name: $name, fate: $fate, attack: |a| a.changed(|text| format!("{text}{}\n", $line)) }
    };
}

use Fate::{Alarm, Gate, Harmless, Receipt};

const REFS: &str = "refs = \"sha256:0707070707070707070707070707070707070707070707070707070707070707\"";
const MANIFEST: &str = "manifest = \"blake3:0707070707070707070707070707070707070707070707070707070707070707\"";

/// A list of refs, signed for and sent along, of a repository that the node may fetch.
fn refs(a: &Attacker, list: &str) -> Push {
    let id = a.new_id();
    let digest = a.safe.sh(&format!("printf '%s' '{}' | sha256sum | cut -c1-64", list.replace('\'', "'\\''")));
    let text = a.request(&id).replacen("dummy:x", &format!("git:{}/p.git", a.safe.text("source")), 1)
        + &format!("refs = \"sha256:{}\"\n", digest.trim());
    let push =
        a.files(&[(PLAIN, format!("MF{id}").as_bytes(), list.as_bytes()), (PLAIN, format!("RQ{id}.toml").as_bytes(), text.as_bytes())]);
    Push { id, ..push }
}

fn attached(a: &Attacker, line: &str, attachment: &[u8]) -> Push {
    let id = a.new_id();
    let text = a.request(&id) + line + "\n";
    let push = a.files(&[(PLAIN, format!("MF{id}").as_bytes(), attachment), (PLAIN, format!("RQ{id}.toml").as_bytes(), text.as_bytes())]);
    Push { id, ..push }
}

pub const CASES: &[Case] = &[
    // Schema.
    Case { name: "an empty file", fate: Gate("version"), attack: |a| a.changed(|_| String::new()) },
    Case { name: "no TOML", fate: Gate("line 1"), attack: |a| a.changed(|_| "<?xml version='1.0'?>".into()) },
    Case { name: "brackets 30,000 deep", fate: Gate(""), attack: |a| a.changed(|text| text + "tags = " + &"[".repeat(30_000)) },
    Case { name: "tables 10,000 deep", fate: Gate(""), attack: |a| a.changed(|text| text + &"a.".repeat(10_000) + "a = 1\n") },
    Case {
        name: "longer than a request may be",
        fate: Gate("bytes, and at most"),
        attack: |a| a.changed(|text| text + &"#".repeat(70_000)),
    },
    instead!("a newer version", Gate("version = 2"), "version = 1" => "version = 2"),
    instead!("no version", Gate("version"), "version = 1\n" => ""),
    line!("a field that is not known", Gate("retention"), "retention = \"0d\""),
    line!("a field twice", Gate("duplicate"), "client = \"web2\""),
    line!("both kinds of data", Gate("both"), format!("{REFS}\n{MANIFEST}")),
    instead!("a number for a name", Gate("line 3"), "\"web1\"" => "1"),
    instead!("a name with an escape", Gate("cannot be shown"), "\"root\"" => "\"\\u001b[2J\""),
    instead!("a name of 100,000 letters", Gate(""), "\"root\"" => format!("\"{}\"", "x".repeat(60_000))),
    instead!("another reason", Gate("whim"), "\"manual\"" => "\"whim\""),
    line!("1,000 tags", Gate("tags"), format!("tags = [{}]", "\"a\",".repeat(1000))),
    line!("a tag that is a path", Gate("tag"), "tags = [\"../../x\"]"),
    line!("a part of what has no parts", Gate("part"), "part = 1"),
    line!("repairs of other packs", Gate("repairs"), format!("repairs = [\"blake3:{}\"]", "07".repeat(32))),
    instead!("an old time", Harmless, "2026-11-20T03:15:00Z" => "1970-01-01T00:00:00Z"),
    instead!("a time in the future", Harmless, "2026-11-20T03:15:00Z" => "2999-01-01T00:00:00Z"),
    instead!("a time that is none", Gate("line 7"), "2026-11-20T03:15:00Z" => "2026-13-40T99:99:99Z"),
    // Others' names.
    instead!("another client's name", Gate("web2"), "\"web1\"" => "\"web2\""),
    instead!("a client that looks the same", Gate("line 3"), "\"web1\"" => "\"wеb1\""),
    instead!("another node", Gate("node2"), "\"node1\"" => "\"node2\""),
    instead!("a client that is a path", Gate("line 3"), "\"web1\"" => "\"../web2\""),
    // Ids and numbers.
    Case {
        name: "the file's name and the request's id differ",
        fate: Gate("is not in the tree"),
        attack: |a| {
            let (one, other) = (a.new_id(), a.new_id());
            a.files(&[(PLAIN, format!("RQ{one}.toml").as_bytes(), a.request(&other).as_bytes())])
        },
    },
    Case { name: "a number that was used", fate: Gate("has the number"), attack: |a| a.replaced("seq = ", "seq = 1 # ") },
    instead!("the number nought", Gate("begins at 1"), "seq = " => "seq = 0 # "),
    instead!("a number below nought", Gate("line 6"), "seq = " => "seq = -"),
    instead!("a number as text", Gate("line 6"), "seq = " => "seq = \"1\" # "),
    instead!("the highest number that there is, so that none comes after", Gate("ahead"), "seq = " => "seq = 9223372036854775807 # "),
    instead!("a number that fits nowhere", Gate("line 6"), "seq = " => "seq = 99999999999999999999 # "),
    Case {
        name: "an id that was used, for something else",
        fate: Alarm("came again with another request"),
        attack: |a| {
            let id = format!("20261120T031500Z-{:08x}", 0xaaaa_0001u32);
            let first = a.files(&[(PLAIN, format!("RQ{id}.toml").as_bytes(), a.request(&id).as_bytes())]);
            a.send(&first);
            a.safe.node(&["poll"]).exits(0);
            let text = a.request(&id).replacen("dummy:x", "dummy:other", 1);
            a.files(&[(PLAIN, format!("RQ{id}.toml").as_bytes(), text.as_bytes())])
        },
    },
    Case {
        name: "the same request again in a new commit",
        fate: Gate("has the number"),
        attack: |a| {
            let id = format!("20261120T031500Z-{:08x}", 0xaaaa_0002u32);
            let text = a.request(&id);
            let name = format!("RQ{id}.toml");
            a.send(&a.files(&[(PLAIN, name.as_bytes(), text.as_bytes())]));
            a.files(&[(PLAIN, name.as_bytes(), text.as_bytes())])
        },
    },
    Case {
        name: "two requests of one number in one commit",
        fate: Gate("has the number"),
        attack: |a| {
            let (one, two) = (a.new_id(), a.new_id());
            let files = [(format!("RQ{one}.toml"), a.request(&one)), (format!("RQ{two}.toml"), a.request(&two))];
            let files: Vec<_> = files.iter().map(|(name, text)| (PLAIN, name.as_bytes(), text.as_bytes())).collect();
            a.files(&files)
        },
    },
    line!("the request before is one that never was", Harmless, "prev = \"20200101T000000Z-00000000\""),
    // Datasets.
    dataset!("a path that goes up", Gate("shortest form"), "files:/source/../../etc"),
    dataset!("a path with two slashes", Gate("shortest form"), "files://etc"),
    dataset!("a path that looks like an option", Gate("line 5"), "git:--upload-pack=touch x"),
    dataset!("a path with a line break", Gate("line 5"), "files:/a\\nb"),
    dataset!("a path of 2,000 letters", Gate("line 5"), format!("files:/{}", "x".repeat(2000))),
    dataset!("no path", Gate("line 5"), "files:"),
    dataset!("a module with a path in it", Gate("line 5"), "../files:/x"),
    dataset!("a path outside what is granted", Receipt("does not take files:/etc"), "files:/etc"),
    dataset!("a repository outside what is granted", Receipt("does not take git:/etc"), "git:/etc"),
    dataset!("a module that is not granted", Receipt("does not take postgres:shop"), "postgres:shop"),
    dataset!("a module that nobody knows", Receipt("does not take evil:/x"), "evil:/x"),
    dataset!("the access list", Receipt("does not take admin:access"), "admin:access"),
    Case {
        name: "a granted path in other letters",
        fate: Receipt("does not take files:"),
        attack: |a| {
            let path = a.safe.text("source").to_uppercase();
            a.replaced("dummy:x", &format!("files:{path}/a"))
        },
    },
    Case {
        name: "a granted path as a beginning",
        fate: Receipt("does not take files:"),
        attack: |a| {
            let path = a.safe.text("source");
            a.replaced("dummy:x", &format!("files:{path}-other/a"))
        },
    },
    dataset!("a name in composed letters", Harmless, "dummy:caf\u{e9}"),
    dataset!("the same name in letters put together", Harmless, "dummy:cafe\u{301}"),
    dataset!("a name with a slash that is none", Harmless, "dummy:..\u{2215}..\u{2215}etc"),
    // What travels with them.
    Case { name: "an attachment that was not signed for", fate: Gate("digest"), attack: |a| attached(a, MANIFEST, b"x") },
    Case { name: "an attachment for what has none", fate: Gate("digest"), attack: |a| attached(a, "", b"x") },
    Case { name: "an attachment that is too long", fate: Gate("bytes, and at most"), attack: |a| attached(a, MANIFEST, &[0; 70_000]) },
    Case {
        name: "a list with a ref of the node's own",
        fate: Receipt(""),
        attack: |a| refs(a, &format!("HEAD refs/heads/main\n{} refs/kept/x\n", "12".repeat(20))),
    },
    Case {
        name: "a list with a replacement",
        fate: Receipt(""),
        attack: |a| refs(a, &format!("HEAD refs/heads/main\n{0} refs/replace/{0}\n", "12".repeat(20))),
    },
    Case {
        name: "a list with a name that goes up",
        fate: Receipt(""),
        attack: |a| refs(a, &format!("HEAD refs/heads/main\n{} refs/heads/../../x\n", "12".repeat(20))),
    },
    Case {
        name: "a list whose HEAD is a file",
        fate: Receipt(""),
        attack: |a| refs(a, &format!("HEAD /etc/passwd\n{} refs/heads/main\n", "12".repeat(20))),
    },
    Case {
        name: "a list with an option for git",
        fate: Receipt(""),
        attack: |a| refs(a, "HEAD refs/heads/main\n--upload-pack=x refs/heads/main\n"),
    },
];

#[test]
fn a_signed_request_still_may_not_say_everything() {
    attack(CASES);
}
