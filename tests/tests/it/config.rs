//! Broken files, and what people are told: the file, the line, the field, what is allowed.

use crate::harness::Loopback;

#[test]
fn broken_configurations_name_file_line_and_field() {
    let safe = Loopback::start();
    let (client, node) = (safe.read("client.toml"), safe.read("node.toml"));
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("client.toml", "state = ", "stat = ", &["client.toml", "line 3", "stat", "expected"]),
        ("client.toml", "version = 1", "version = 2", &["client.toml", "version = 2", "version 1"]),
        ("client.toml", "version = 1\n", "", &["client.toml", "no version"]),
        ("client.toml", "name = \"web1\"", "name = \"Web 1\"", &["client.toml", "line 2", "Web 1"]),
        ("client.toml", "name = \"web1\"", "name = ", &["client.toml", "line 2"]),
        ("client.toml", "@127.0.0.1", "-127.0.0.1", &["client.toml", "ssh address"]),
        ("node.toml", "data = ", "dato = ", &["node.toml", "line 3", "dato", "expected"]),
        ("node.toml", "version = 1", "version = 9", &["node.toml", "version = 9"]),
        ("node.toml", "version = 1", "version = 1\nscrub = { at = \"25:00\" }", &["node.toml", "line 2", "25:00"]),
        ("node.toml", "version = 1", "version = 1\nfloor = { daily = -1 }", &["node.toml", "floor"]),
    ];
    for (file, old, new, words) in cases {
        let text = if *file == "client.toml" { &client } else { &node };
        assert!(text.contains(old), "{old}");
        safe.write(file, &text.replacen(old, new, 1));
        let run = if *file == "client.toml" { safe.client(&["submit", "dummy", "x"]) } else { safe.node(&["poll"]) };
        let run = run.exits(2);
        assert!(run.stdout.is_empty(), "{run}");
        run.says(words);
        safe.write(file, text);
    }
    assert!(safe.names("client/pool/inbox").is_empty());
    safe.round();
}

#[test]
fn config_check_says_what_is_wrong_and_changes_nothing() {
    let safe = Loopback::start();
    safe.client(&["config", "check"]).exits(0);
    safe.node(&["config", "check"]).exits(0);
    safe.edit("client.toml", "recipients = [\"age1", "recipients = [\"ag1");
    assert_ne!(safe.client(&["config", "check"]).says(&["recipient"]).code, Some(0));
    safe.sh("chmod 0644 node/pull");
    assert_ne!(safe.node(&["config", "check"]).says(&["pull"]).code, Some(0));
}

/// A bad access list is refused at the push, with the line, and changes nothing.
#[test]
fn a_bad_access_list_changes_nothing() {
    let safe = Loopback::start();
    let good = safe.read("admin/access.toml");
    let published = safe.read("node/data/access/authorized_keys");
    let cases: &[(&str, String, &[&str])] = &[
        ("a typing error", good.replace("allow = [", "alow = ["), &["access.toml", "line", "alow"]),
        ("no administrator", good.replace("[admin.alice]\nkeys = [\"alice.pub\"]\n", ""), &["administrator"]),
        ("a key twice", good.replace("carol.pub", "web1.pub"), &["web1"]),
        ("a key that is not there", good.replace("carol.pub", "dave.pub"), &["dave.pub"]),
        ("a span that is none", good.replace("allow = [", "expect = \"often\"\nallow = ["), &["access.toml", "line", "often"]),
        (
            "words of retention that are none",
            good.replace("allow = [", "keep = { dayly = 7 }\nallow = ["),
            &["access.toml", "line", "dayly"],
        ),
        ("no TOML", "version = ".into(), &["access.toml", "line 1"]),
    ];
    for (what, bad, words) in cases {
        assert_ne!(&good, bad, "{what}");
        safe.write("admin/access.toml", bad);
        let pushed = safe.loopback("start");
        assert_ne!(pushed.code, Some(0), "{what}: {pushed}");
        pushed.says(words);
        safe.git("admin", &["reset", "-q", "--hard", "HEAD~1"]);
        safe.node(&["poll"]).silent();
        assert_eq!(safe.read("node/data/access/authorized_keys"), published, "{what}");
    }
    // An unsigned commit, and one by somebody who is no administrator.
    for signing in ["", "-c user.signingKey=../restorer/id_ed25519.pub -c gpg.format=ssh -S"] {
        let (options, sign) = signing.rsplit_once(' ').unwrap_or(("", ""));
        safe.write("admin/access.toml", &format!("{good}\n# {signing}\n"));
        safe.sh(&format!("cd admin; git -c user.name=x -c user.email=x {options} commit -q -a {sign} -m bad"));
        let pushed = safe.loopback("start");
        assert_ne!(pushed.code, Some(0), "{pushed}");
        safe.git("admin", &["reset", "-q", "--hard", "HEAD~1"]);
        assert_eq!(safe.read("node/data/access/authorized_keys"), published);
    }
    safe.round();
}
