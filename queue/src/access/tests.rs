use super::*;
use proptest::prelude::*;
use ssh_key::public::{Ed25519PublicKey, KeyData};

fn key(n: u8) -> PublicKey {
    // Any 32 bytes have the form of a key; the curve is only looked at when a signature is checked.
    let mut bytes = [0; 32];
    bytes[0] = n;
    PublicKey::from(KeyData::Ed25519(Ed25519PublicKey(bytes)))
}

fn key_text(n: u8) -> String {
    key(n).to_openssh().unwrap()
}

fn keys(names: &[(&str, u8)]) -> BTreeMap<String, Vec<u8>> {
    names.iter().map(|(name, n)| ((*name).to_owned(), format!("{} somebody@host\n", key_text(*n)).into_bytes())).collect()
}

const LIST_TEXT: &str = r#"# Our backups.
# Ask alice.
version = 1

[defaults]
quota = "200 GiB"

[admin.alice]
keys = ["alice.pub", "alice2.pub"]

[client.web1]
keys = ["web1.pub"]
reach = "ssh"
address = "nightsafe@web1.example.org"
git_address = "git@web1.example.org:2222"
host_key = "HOST"
allow = ["files:/var/www", "git:/srv/git/**", "postgres:*"]

[client."db.example"]
keys = ["db.pub"]
quota = "1 TiB"
paused = true

[restorer.carol]
keys = ["carol.pub"]
read = ["web1:*", "db.example:postgres:*"]
"#;

fn sample() -> (String, BTreeMap<String, Vec<u8>>) {
    let files = keys(&[("alice.pub", 1), ("alice2.pub", 2), ("web1.pub", 3), ("db.pub", 4), ("carol.pub", 5), ("unused.pub", 6)]);
    (LIST_TEXT.replace("HOST", &key_text(9)), files)
}

#[test]
fn the_list_of_the_handbook() {
    let (text, files) = sample();
    let list = AccessList::parse(text.as_bytes(), &files).unwrap();
    assert_eq!(list.header, ["# Our backups.", "# Ask alice."]);
    let web1 = &list.clients[&Name::new("web1").unwrap()];
    assert_eq!(web1.quota, Some(ByteSize(200 << 30)));
    assert!(web1.allows(&"git:/srv/git/a/b.git".parse().unwrap()) && !web1.allows(&"files:/etc".parse().unwrap()));
    let db = &list.clients[&Name::new("db.example").unwrap()];
    assert_eq!((db.quota, db.paused, db.allow.len()), (Some(ByteSize(1 << 40)), true, 0));
    assert_eq!(list.who(&key(2)), Some(Role::Admin(Name::new("alice").unwrap())));
    assert_eq!(list.who(&key(5)), Some(Role::Restorer(Name::new("carol").unwrap())));
    assert_eq!(list.who(&key(6)), None);
    let carol = &list.restorers[&Name::new("carol").unwrap()];
    let client = |name: &str| Name::new(name).unwrap();
    assert!(carol.reads_all(&client("web1")) && !carol.reads_all(&client("db.example")) && carol.reads_any(&client("db.example")));
    assert!(carol.reads(&client("db.example"), &"postgres:shop".parse().unwrap()));
    assert!(!carol.reads(&client("db.example"), &"files:/".parse().unwrap()) && !carol.reads_any(&client("x")));

    let again = list.to_files().unwrap();
    let again_keys = again.iter().filter_map(|(path, bytes)| Some((path.strip_prefix("keys/")?.to_owned(), bytes.clone()))).collect();
    assert_eq!(AccessList::parse(&again[LIST], &again_keys).unwrap(), list);

    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(KEYS)).unwrap();
    for (path, bytes) in &again {
        std::fs::write(dir.path().join(path), bytes).unwrap();
    }
    assert_eq!(AccessList::load(dir.path()).unwrap(), list);
    assert_eq!(entry(dir.path(), &Role::Client(client("web1"))).unwrap(), Entry::Client(Box::new(web1.clone())));
    assert_eq!(entry(dir.path(), &Role::Restorer(client("carol"))).unwrap(), Entry::Restorer(carol.clone()));
    assert_eq!(entry(dir.path(), &Role::Admin(client("alice"))).unwrap(), Entry::Admin);
    for absent in [Role::Client(client("alice")), Role::Admin(client("web1")), Role::Restorer(client("web1")), Role::Export(client("web1"))]
    {
        assert_eq!(entry(dir.path(), &absent).unwrap(), Entry::Absent);
    }
    let limited = list.to_toml().replace("[defaults]\n", "[defaults]\nlimits = { packs = 5, sessions = 9 }\n");
    let limited = limited.replace("[client.web1]\n", "[client.web1]\nlimits = { packs = 7 }\n");
    std::fs::write(dir.path().join(LIST), limited).unwrap();
    let Entry::Client(web1) = entry(dir.path(), &Role::Client(client("web1"))).unwrap() else { panic!("a client") };
    assert_eq!(web1.limits.to_toml(), "{ packs = 7, sessions = 9 }", "a client's own come first");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    // (replace this, by this, expected in the message)
    let table: &[(&str, &str, &str)] = &[
        ("version = 1", "version = 2", "version = 2"),
        ("version = 1", "", "no version"),
        ("[admin.alice]\nkeys = [\"alice.pub\", \"alice2.pub\"]\n", "", "no administrator"),
        ("[\"alice.pub\", \"alice2.pub\"]", "[]", "line 9: admin alice has no key"),
        ("\"web1.pub\"", "\"nobody.pub\"", "line 12: client web1 names keys/nobody.pub"),
        ("\"web1.pub\"", "\"../web1.pub\"", "line 12"),
        ("\"web1.pub\"", "\"web1\"", "line 12"),
        ("\"web1.pub\"", "\"alice.pub\"", "line 12: keys/alice.pub of client web1 holds the same key as one of admin alice"),
        ("\"web1.pub\"", "\"web1.pub\", \"web1.pub\"", "line 12"),
        ("\"carol.pub\"", "\"alice2.pub\"", "same key"),
        ("reach = \"ssh\"", "reach = \"dial\"", "line 14: client web1 has reach = \"dial\" and an address"),
        ("reach = \"ssh\"", "reach = \"raven\"", "line 13: unknown variant `raven`, expected `ssh` or `dial`"),
        ("reach = \"ssh\"", "keep = { dayly = 7 }", "line 13"),
        ("reach = \"ssh\"", "keep = { daily = 0 }", "line 13: daily must be 1 to"),
        ("reach = \"ssh\"", "keep = {}", "line 13: it holds no rule"),
        ("reach = \"ssh\"", "keep = \"1W:1D,4W\"", "line 13: \"4W\" is no step"),
        ("reach = \"ssh\"", "expect = \"1 day\"", "line 13"),
        ("reach = \"ssh\"", "keep_for = [{ datasets = \"postgres\", keep = \"U:U\" }]", "line 13: \"postgres\" is no pattern"),
        ("reach = \"ssh\"", "keep_for = [{ keep = \"U:U\" }]", "line 13: missing field `datasets`"),
        ("reach = \"ssh\"", "part_ttl = \"1 day\"", "line 13"),
        ("reach = \"ssh\"", "limits = { request_a_day = 5 }", "line 13: unknown field `request_a_day`"),
        ("quota = \"200 GiB\"", "limits = { fetches = 9 }", "line 6: fetches is 1"),
        ("reach = \"ssh\"", "raech = \"ssh\"", "line 13"),
        ("quota = \"200 GiB\"", "keep = { daily = 7, weakly = 1 }", "line 6"),
        ("quota = \"200 GiB\"", "quota = 200", "line 6"),
        ("quota = \"1 TiB\"", "quota = \"1 TB\"", "line 21"),
        ("\"nightsafe@web1.example.org\"", "\"-oProxyCommand=x@h\"", "line 14"),
        ("\"git@web1.example.org:2222\"", "\"web1\"", "line 15"),
        ("host_key = ", "#", "line 14: client web1 has an address but no host_key"),
        ("\"files:/var/www\"", "\"files:/var/../www\"", "line 17"),
        ("paused = true", "paused = \"yes\"", "line 22"),
        ("\"web1:*\"", "\"*\"", "line 26"),
        ("\"web1:*\"", "\"../web1:*\"", "line 26"),
        ("\"web1:*\"", "\"web1:/etc\"", "line 26"),
        ("[client.web1]", "[client.admin]", "line 11"),
        ("[client.web1]", "[client.\"../x\"]", "line 11"),
        ("[client.web1]", "[client.\"db.example\"]", "line"),
        ("[restorer.carol]", "[restore.carol]", "line 24"),
    ];
    for (from, to, expected) in table {
        let (text, files) = sample();
        assert!(text.contains(from), "{from}");
        let error = AccessList::parse(text.replacen(from, to, 1).as_bytes(), &files).unwrap_err();
        assert!(error.one_line().contains(expected), "{to}: {}", error.one_line());
    }
    let (text, _) = sample();
    assert!(AccessList::parse(b"\xff\xfe", &BTreeMap::new()).is_err());
    let rsa_short = "ssh-dss AAAAB3NzaC1kc3MAAAADAQAB x";
    for bad in [
        "",
        "\n# x\n",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "no key at all",
        rsa_short,
        &format!("{0}\n{0}", key_text(3)),
        &format!("command=\"x\" {}", key_text(3)),
        "\u{0}",
    ] {
        let (_, mut files) = sample();
        files.insert("web1.pub".into(), bad.as_bytes().to_vec());
        let error = AccessList::parse(text.as_bytes(), &files).unwrap_err().one_line();
        assert!(error.contains("line 12: keys/web1.pub of client web1"), "{bad:?}: {error}");
    }
}

#[test]
fn lines_for_sshd() {
    let (text, files) = sample();
    let list = AccessList::parse(text.as_bytes(), &files).unwrap();
    let lines = list.authorized_keys(Path::new("/usr/lib/nightsafe-gate"), Path::new("/etc/nightsafe/node.toml")).unwrap();
    let web1 = format!("command=\"/usr/lib/nightsafe-gate --config /etc/nightsafe/node.toml client web1\",restrict {} web1", key_text(3));
    assert!(lines.lines().any(|line| line == web1), "{lines}");
    assert_eq!(lines.lines().count(), 6);
    for bad in ["relative", "/a b", "/a\"b", "/a'b", "/a\nb", "/a;b", "/a$b", "/a`b", "/a\\b", "/a&b", "/ä", "/a*"] {
        assert!(list.authorized_keys(Path::new(bad), Path::new("/c")).is_err(), "{bad}");
        assert!(list.authorized_keys(Path::new("/c"), Path::new(bad)).is_err(), "{bad}");
    }
}

#[test]
fn edits() {
    let name = |text: &str| Name::new(text).unwrap();
    let mut list = AccessList::first(&name("alice"), &key(1)).unwrap();
    list.default_quota = Some(ByteSize(5));
    let new = |n: u8, address: Option<&str>, host_key: Option<String>| NewClient {
        key: key(n),
        address: address.map(|a| a.parse().unwrap()),
        git_address: None,
        host_key,
        allow: vec![],
        quota: None,
    };
    list.add_client(&name("alice"), new(2, Some("a@b"), Some(key_text(9)))).unwrap();
    assert_eq!(list.clients[&name("alice")].key_files, ["alice@2.pub"], "the administrator's file stays the administrator's");
    assert_eq!(list.clients[&name("alice")].quota, Some(ByteSize(5)));
    assert!(list.add_client(&name("alice"), new(3, None, None)).is_err());
    assert!(list.add_client(&name("web1"), new(1, None, None)).unwrap_err().one_line().contains("admin alice"));
    assert!(list.add_client(&name("web1"), new(3, Some("a@b"), None)).unwrap_err().one_line().contains("host key"));
    assert!(list.add_client(&name("web1"), new(3, Some("a@b"), Some("x".into()))).is_err());
    for (quota, own) in [(Some(ByteSize(7)), 7), (None, 5)] {
        let limits = vec!["packs=5".parse().unwrap(), "packs=6".parse().unwrap(), "time=1h".parse().unwrap()];
        list.set_client(&name("alice"), ClientChange { quota: Some(quota), limits, ..ClientChange::default() }).unwrap();
        let grant = &list.clients[&name("alice")];
        assert_eq!((grant.quota, grant.default_quota), (Some(ByteSize(own)), quota.is_none()));
        assert_eq!(grant.limits.to_toml(), "{ packs = 6, time = \"1h\" }");
    }
    assert!(list.set_client(&name("bob"), ClientChange::default()).is_err());
    list.let_dial(&name("alice")).unwrap();
    let grant = &list.clients[&name("alice")];
    assert!(grant.reach == Reach::Dial && grant.address.is_none() && grant.host_key.is_none() && list.to_files().is_ok());
    assert!(list.let_log_in(&name("alice"), "c@d".parse().unwrap(), None, "x").is_err());
    list.let_log_in(&name("alice"), "c@d".parse().unwrap(), None, &format!("{} comment", key_text(9))).unwrap();
    let grant = &list.clients[&name("alice")];
    assert_eq!((grant.reach, grant.host_key.clone()), (Reach::Ssh, Some(key_text(9))));
    assert!(list.let_dial(&name("bob")).is_err() && list.let_log_in(&name("bob"), "c@d".parse().unwrap(), None, &key_text(9)).is_err());
    list.pause_client(&name("alice"), true).unwrap();
    assert!(list.pause_client(&name("bob"), true).is_err());
    list.add_admin(&name("alice"), &key(7)).unwrap();
    list.add_admin(&name("bob"), &key(8)).unwrap();
    list.add_restorer(&name("carol"), &key(10), vec![(name("web1"), DatasetPattern::new("*").unwrap())]).unwrap();
    assert!(list.add_restorer(&name("dave"), &key(10), vec![]).is_err());
    let files = list.to_files().unwrap();
    assert_eq!(files.len(), 6, "{:?}", files.keys());
    list.remove_client(&name("alice")).unwrap();
    list.remove_restorer(&name("carol")).unwrap();
    assert!(list.remove_client(&name("alice")).is_err() && list.remove_restorer(&name("carol")).is_err());
}

fn any_name() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9.-]{0,12}".prop_filter_map("a reserved word", |text| Name::new(text).ok())
}

fn any_pattern() -> impl Strategy<Value = DatasetPattern> {
    prop_oneof![
        Just(DatasetPattern::new("*").unwrap()),
        "(files|git):/[a-z \"'#\\\\]{1,10}(/\\*\\*?)?".prop_filter_map("not clean", |text| DatasetPattern::new(text).ok()),
        Just(DatasetPattern::new("postgres:*").unwrap()),
    ]
}

fn any_keep() -> impl Strategy<Value = Keep> {
    prop::sample::select(vec!["daily=7,weekly=4", "last=3,hourly=1,monthly=2,yearly=1,within=30d", "U:U", "1W:1D,4W:1W,12M:1M"])
        .prop_map(|text| text.parse().unwrap())
}

#[test]
fn the_first_that_names_a_dataset_says_what_is_kept() {
    let (text, files) = sample();
    let text = text.replace("quota = \"200 GiB\"", "quota = \"200 GiB\"\nkeep = { daily = 7 }\nexpect = \"1d\"");
    let text = text.replace(
        "[client.\"db.example\"]",
        "keep = \"4W:1D\"\n\n[[client.web1.keep_for]]\ndatasets = \"postgres:*\"\nexpect = \"1h\"\n\n\
         [[client.web1.keep_for]]\ndatasets = \"postgres:shop\"\nkeep = { last = 1 }\n\n[[client.web1.keep_for]]\ndatasets = \"git:*\"\nkeep = \"U:U\"\n\n\
         [client.\"db.example\"]",
    );
    let list = AccessList::parse(text.as_bytes(), &files).map_err(|e| e.render()).unwrap();
    for (client, dataset, keep, hours) in [
        ("web1", "files:/var/www", Some("\"4W:1D\""), 24),
        ("web1", "postgres:shop", Some("\"4W:1D\""), 1),
        ("web1", "git:/srv/git/a.git", Some("\"U:U\""), 24),
        ("db.example", "postgres:shop", Some("{ daily = 7 }"), 24),
        ("nobody", "postgres:shop", None, 0),
    ] {
        let (found, expect) = list.keeping(&Name::new(client).unwrap(), &dataset.parse().unwrap());
        assert_eq!((found.map(ToString::to_string).as_deref(), expect), (keep, Duration::from_secs(hours * 3600)), "{client} {dataset}");
    }
    assert_eq!(AccessList::parse(list.to_toml().as_bytes(), &files).unwrap(), list);
    let (text, files) = sample();
    let list = AccessList::parse(text.as_bytes(), &files).unwrap();
    assert_eq!(list.keeping(&Name::new("web1").unwrap(), &"files:/var/www".parse().unwrap()), (None, Duration::ZERO));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        admins in prop::collection::btree_map(any_name(), 1usize..3, 1..4),
        clients in prop::collection::btree_map(any_name(), (prop::collection::vec(any_pattern(), 0..4), prop::option::of(any::<u64>()), any::<bool>(), (any::<bool>(), any::<bool>())), 0..6),
        restorers in prop::collection::btree_map(any_name(), prop::collection::vec((any_name(), any_pattern()), 0..4), 0..4),
        quota in prop::option::of(any::<u64>()),
        ttl in prop::option::of(0u64..1_000_000_000),
        (packs, bandwidth) in (prop::option::of(1u32..), prop::option::of(1u64 << 14..)),
        header in prop::collection::vec("# ?[a-zä]{0,10}", 0..3),
        keeps in prop::collection::vec(prop::option::of(any_keep()), 3),
        patterns in prop::collection::vec(any_pattern(), 0..3),
    ) {
        let mut next = 0u8;
        let mut fresh = || { next += 1; key(next) };
        let default_part_ttl = ttl.map(|seconds| base::Span(std::time::Duration::from_secs(seconds)));
        let mut list = AccessList { header, default_quota: quota.map(ByteSize), default_part_ttl, ..AccessList::default() };
        list.default_keep = keeps[0].clone();
        list.default_expect = default_part_ttl;
        list.default_limits.bandwidth = bandwidth.map(ByteSize);
        for (name, count) in &admins {
            for _ in 0..*count {
                list.add_admin(name, &fresh()).unwrap();
            }
        }
        for (name, (allow, quota, paused, (reachable, dials))) in clients {
            let address = reachable.then(|| "u@[::1]:22".parse().unwrap());
            let host_key = reachable.then(|| key_text(255));
            let new = NewClient { key: fresh(), address: address.clone(), git_address: address, host_key, allow, quota: quota.map(ByteSize) };
            list.add_client(&name, new).unwrap();
            list.pause_client(&name, paused).unwrap();
            if dials {
                list.let_dial(&name).unwrap();
            }
            let expect = Some(default_part_ttl.filter(|_| !paused));
            list.set_client(&name, ClientChange { keep: Some(keeps[1].clone()), expect, ..ClientChange::default() }).unwrap();
            let grant = list.clients.get_mut(&name).unwrap();
            grant.limits.packs = packs.and_then(std::num::NonZeroU32::new);
            grant.part_ttl = default_part_ttl.filter(|_| paused);
            grant.keep_for = patterns.iter().map(|datasets| KeepFor { datasets: datasets.clone(), keep: keeps[2].clone(), expect: default_part_ttl }).collect();
        }
        for (name, read) in restorers {
            list.add_restorer(&name, &fresh(), read).unwrap();
        }
        let files = list.to_files().unwrap();
        let key_files = files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix("keys/")?.to_owned(), bytes.clone()))).collect();
        let read = AccessList::parse(&files[LIST], &key_files).map_err(|e| TestCaseError::fail(e.render()))?;
        prop_assert_eq!(&read, &list);
        prop_assert_eq!(read.to_files().unwrap(), files);
    }

    #[test]
    fn no_bytes_make_it_panic(list: Vec<u8>, text in ".{0,200}") {
        let _ = AccessList::parse(&list, &BTreeMap::new());
        let _ = AccessList::parse(format!("version = 1\n{text}").as_bytes(), &BTreeMap::new());
    }
}
