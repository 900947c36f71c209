use super::*;

const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

fn key(seed: u8) -> String {
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&[seed; 32]);
    access::openssh(&ssh_key::PublicKey::from(ssh_key::public::KeyData::Ed25519(pair.public))).unwrap()
}

fn client() -> ClientLine {
    let mut line = ClientLine::new(Name::new("web1").unwrap(), &format!("{ED} web1")).unwrap();
    line.host_key = Some(key(1));
    line.address = Some("root@web1.example.org:2222".parse().unwrap());
    line.wants = vec![DatasetPattern::new("files:/var/www").unwrap(), DatasetPattern::new("git:/srv/git/**").unwrap()];
    line
}

fn node() -> NodeLine {
    let keys = NodeKeys { host: key(2), receipts: key(3), pull: key(4) };
    let client = client();
    let pinned = Pinned {
        name: client.name,
        key: client.key,
        reach: Reach::Ssh,
        host_key: client.host_key,
        address: client.address,
        restore_key: None,
    };
    NodeLine::new(Name::new("node1").unwrap(), "gate@backup.example.org".parse().unwrap(), &keys, pinned, [7; 16]).unwrap()
}

/// An answer to a client that dials.
fn dialling() -> NodeLine {
    NodeLine { client: Pinned { reach: Reach::Dial, host_key: None, address: None, ..node().client }, ..node() }
}

#[test]
fn how_a_client_is_reached_is_in_both_lines() {
    assert!(!text_of(&client().to_line().unwrap()).contains("reach"), "as before there were others");
    let dials = ClientLine { reach: Reach::Dial, host_key: None, address: None, ..client() };
    assert_eq!(ClientLine::parse(&dials.to_line().unwrap()).unwrap(), dials);
    let (line, code) = dialling().to_line().unwrap();
    assert_eq!(NodeLine::parse(&line).unwrap(), (dialling(), code.clone()));
    // The same answer but for how the client is reached is another code.
    let logs_in = NodeLine { client: Pinned { reach: Reach::Ssh, ..dialling().client }, ..dialling() };
    assert_eq!(code.compare(&logs_in.to_line().unwrap().1.to_string()), code::Said::Other);
    let both = NodeLine { client: Pinned { reach: Reach::Dial, ..node().client }, ..node() };
    assert!(NodeLine::parse(&both.to_line().unwrap().0).unwrap_err().render().contains("the client dials"));
}

/// A line around any text, with a checksum that fits.
fn sealed(kind: &str, text: &str) -> String {
    let head = format!("{kind}.{}", URL_SAFE_NO_PAD.encode(text));
    format!("{head}.{}", checksum(&head))
}

fn text_of(line: &str) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(line.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[test]
fn what_is_written_is_read_also_as_mails_break_it() {
    let line = client().to_line().unwrap();
    assert!(is_client_line(&line) && !is_client_line("web1") && !is_client_line("nightsafe-client.x"));
    assert_eq!(ClientLine::parse(&line).unwrap(), client());
    let broken: String = line.chars().enumerate().flat_map(|(i, c)| (i % 70 == 69).then_some('\n').into_iter().chain([c])).collect();
    assert_eq!(ClientLine::parse(&format!("  {broken}\r\n")).unwrap(), client());
    let mail = format!("Hello,\n\nthe line is:\n{broken}\n\nBye, nightsafe-client. x\n");
    assert_eq!(ClientLine::parse(within(&mail)).unwrap(), client());
    assert_eq!(within("nothing"), "nothing");
    let (line, code) = node().to_line().unwrap();
    assert_eq!(NodeLine::parse(&line).unwrap(), (node(), code.clone()));
    // One other nonce, or one other key of either side, is another code.
    let others = [
        NodeLine { nonce: "0".repeat(32), ..node() },
        NodeLine { pull_key: key(9), ..node() },
        NodeLine { receipts_key: key(9), ..node() },
        NodeLine { host_key: key(9), ..node() },
        NodeLine { address: "gate@elsewhere.example.org".parse().unwrap(), ..node() },
        NodeLine { client: Pinned { key: key(9), ..node().client }, ..node() },
        NodeLine { client: Pinned { host_key: Some(key(9)), ..node().client }, ..node() },
        dialling(),
    ];
    for other in others {
        assert_eq!(code.compare(&other.to_line().unwrap().1.to_string()), code::Said::Other, "{other:?}");
    }
}

#[test]
fn any_letter_that_was_changed_is_found() {
    let line = client().to_line().unwrap();
    for at in 0..line.len() {
        let mut bytes = line.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let error = ClientLine::parse(std::str::from_utf8(&bytes).unwrap()).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{at}");
        assert!(ClientLine::parse(&line[..at]).is_err(), "{at}");
    }
}

#[test]
fn hostile_lines_of_clients() {
    let good = text_of(&client().to_line().unwrap());
    let with = |old: &str, new: &str| {
        assert!(good.contains(old), "{old}");
        good.replace(old, new)
    };
    let rsa1024 = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7";
    let cases: Vec<(&str, String, &str)> = vec![
        ("a newer version", with("version = 1", "version = 2"), "version = 2"),
        ("no version", with("version = 1\n", ""), "no version"),
        ("an unknown field", format!("{good}sudo = true\n"), "unknown field `sudo`"),
        ("another's name as a path", with("\"web1\"", "\"../web2\""), "cannot be a name"),
        ("a name with a line end", with("\"web1\"", "\"web1\\nadmin\""), "cannot be a name"),
        ("a folder of the node's", with("\"web1\"", "\"access\""), "meaning of its own"),
        ("a name of a module", with("\"web1\"", "\"files\""), "meaning of its own"),
        ("a name that is long", with("\"web1\"", &format!("{:?}", "a".repeat(64))), "cannot be a name"),
        ("an option as address", with("root@web1.example.org:2222", "root@-oProxyCommand=x"), "no ssh address"),
        ("an option as user", with("root@web1.example.org:2222", "-oProxyCommand=x@h"), "no ssh address"),
        ("a command in the address", with("root@web1.example.org:2222", "root@h;reboot"), "no ssh address"),
        ("a line end in the address", with("root@web1.example.org:2222", "root@h\\nHost *"), "no ssh address"),
        ("a port too large", with(":2222", ":99999"), "no ssh address"),
        ("a key that is none", with(ED, "ssh-ed25519 AAAA"), "key is no public key"),
        ("two keys", with(ED, &format!("{ED}\\n{ED}")), "key is no public key"),
        ("a key with options before it", with(ED, &format!("command=\\\"sh\\\" {ED}")), "key is no public key"),
        ("a kind that is not used", with(ED, "ssh-dss AAAAB3NzaC1kc3MAAACBAP"), "key is no public key"),
        ("an RSA key that is short", with(ED, rsa1024), "key is no public key"),
        ("a marker as host key", with("host_key = \"ssh", "host_key = \"@cert-authority * ssh"), "host_key is no public key"),
        (
            "an address without a host key",
            good.lines().filter(|line| !line.starts_with("host_key")).collect::<Vec<_>>().join("\n"),
            "no host_key",
        ),
        ("one that dials and has a host key", format!("reach = \"dial\"\n{good}"), "the machine dials"),
        ("a way that there is not", format!("reach = \"fax\"\n{good}"), "fax"),
        ("a restore key that is the login key", format!("restore_key = \"{ED}\"\n{good}"), "each key does one thing"),
        ("a pattern that is none", with("files:/var/www", "files:/var/../etc"), "pattern"),
        ("a pattern that steers a terminal", with("files:/var/www", "files:/\\u001b[2J"), "pattern"),
        ("everything at once", with("files:/var/www", "*"), "asks for everything"),
        ("a list of another type", with("[\"files:/var/www\", \"git:/srv/git/**\"]", "5"), "wants"),
        ("too many wants", with("[\"files:/var/www\"", &format!("[{}\"files:/var/www\"", "\"dummy:x\", ".repeat(200))), "200 are the most"),
        ("a name twice", format!("name = \"web2\"\n{good}"), "duplicate"),
        ("no TOML", "\u{0}\u{1b}[2J".into(), "the client's line"),
        ("deep", format!("x = {}", "[".repeat(3000)), "the client's line"),
        ("nothing", String::new(), "no version"),
    ];
    for (what, text, words) in cases {
        let error = ClientLine::parse(&sealed(CLIENT, &text)).expect_err(what);
        let said = error.render();
        assert!(said.contains(words), "{what}: {said}");
        assert_eq!(error.kind(), Kind::Usage, "{what}: {said}");
        assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{what}: {said:?}");
    }
}

#[test]
fn hostile_lines_as_such() {
    let (client_line, node_line) = (client().to_line().unwrap(), node().to_line().unwrap().0);
    for (what, line, words) in [
        ("empty", String::new(), "it is empty"),
        ("white space", " \n\t ".into(), "it is empty"),
        ("huge", format!("{CLIENT}.{}", "A".repeat(LINE_LIMIT)), "longer than"),
        ("control characters", format!("{client_line}\u{1b}[2J"), "characters that no such line has"),
        ("a shell's", format!("{client_line};reboot"), "characters that no such line has"),
        ("letters that look alike", client_line.replace('a', "\u{430}"), "characters that no such line has"),
        ("the other side's", node_line.clone(), "nightsafe node add"),
        ("a name", "web1".into(), "does not begin with nightsafe-client."),
        ("an option", "--admin-key".into(), "does not begin with"),
        ("cut off", client_line[..client_line.len() - 20].into(), "three parts"),
        ("a part more", format!("{client_line}.00"), "three parts"),
        (
            "no base64",
            {
                let head = format!("{CLIENT}.A");
                format!("{head}.{}", checksum(&head))
            },
            "no base64",
        ),
        (
            "not UTF-8",
            {
                let head = format!("{CLIENT}.{}", URL_SAFE_NO_PAD.encode([0xff, 0xfe]));
                format!("{head}.{}", checksum(&head))
            },
            "not UTF-8",
        ),
    ] {
        let error = ClientLine::parse(&line).expect_err(what);
        assert!(error.render().contains(words), "{what}: {}", error.render());
        assert_eq!(error.kind(), Kind::Usage, "{what}");
    }
    assert!(NodeLine::parse(&client_line).unwrap_err().render().contains("nightsafe-server client add"));
}

#[test]
fn hostile_lines_of_nodes() {
    let good = text_of(&node().to_line().unwrap().0);
    for (what, old, new, words) in [
        ("an option as address", "gate@backup.example.org", "gate@-oProxyCommand=x", "no ssh address"),
        ("another's name", "\"node1\"", "\"../n\"", "cannot be a name"),
        ("a nonce that is none", "07070707", "0707070g", "nonce"),
        ("a nonce that is short", "07070707", "", "nonce"),
        ("a pull key that is the client's own", &key(4), ED, "each key does one thing"),
        ("one key for two things", &key(3), &key(4), "each key does one thing"),
        ("options in front of the pull key", "pull_key = \"ssh", "pull_key = \"restrict,pty ssh", "pull_key is no public key"),
        ("no client", "[client]\n", "[other]\n", "unknown field `other`"),
        ("a newer version", "version = 1", "version = 3", "version = 3"),
    ] {
        assert!(good.contains(old), "{what}: {good}");
        let error = NodeLine::parse(&sealed(NODE, &good.replacen(old, new, 1))).expect_err(what);
        assert!(error.render().contains(words), "{what}: {}", error.render());
    }
}

#[test]
fn a_line_has_a_limit() {
    let mut line = client();
    line.wants = (0..190).map(|i| DatasetPattern::new(format!("files:/{}/{i}", "x".repeat(200))).unwrap()).collect();
    assert!(line.to_line().unwrap_err().render().contains("Ask for fewer"));
}
