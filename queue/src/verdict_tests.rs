use super::*;
use base::DatasetPattern;
use proptest::prelude::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn client(paused: bool) -> ClientGrant {
    ClientGrant {
        keys: vec![],
        key_files: vec![],
        reach: Reach::Ssh,
        address: None,
        git_address: None,
        host_key: None,
        allow: vec![],
        quota: None,
        default_quota: true,
        limits: crate::access::Limits::default(),
        part_ttl: None,
        keep: None,
        expect: None,
        keep_for: Vec::new(),
        paused,
    }
}

#[test]
fn only_clients_that_are_to_dial_may() {
    let web1 = Role::Client(name("web1"));
    let dials = |paused| ClientGrant { reach: Reach::Dial, ..client(paused) };
    let decided = |role: &Role, grant: &Grant<'_>| verdict(role, grant, Some("dial"));
    assert_eq!(decided(&web1, &Grant::Client(&dials(false))), Verdict::Run(Verb::Dial));
    let refused = |verdict: Verdict, words: &str| matches!(verdict, Verdict::Refuse(why) if why.contains(words));
    assert!(refused(decided(&web1, &Grant::Client(&client(false))), "reach = \"dial\""));
    assert!(refused(decided(&web1, &Grant::Client(&dials(true))), "paused"));
    assert!(refused(decided(&Role::Admin(name("alice")), &Grant::Admin), "does not allow"));
    assert!(refused(decided(&Role::Restorer(name("carol")), &Grant::Restorer(&restorer())), "does not allow"));
    assert!(refused(decided(&Role::Export(name("node1")), &Grant::Export(&config())), "does not allow"));
    for near in ["dial ", " dial", "Dial", "dial web2", "dial\n", "dialed"] {
        assert!(matches!(verdict(&web1, &Grant::Client(&dials(false)), Some(near)), Verdict::Refuse(_)), "{near:?}");
    }
}

fn restorer() -> RestorerGrant {
    let read = vec![(name("web1"), DatasetPattern::new("*").unwrap()), (name("db"), DatasetPattern::new("postgres:*").unwrap())];
    RestorerGrant { keys: vec![], key_files: vec![], read }
}

fn config() -> ClientConfig {
    let text = "version = 1\nname = \"web1\"\n[[dataset]]\naddress = \"git:/home/a/x.git\"\n[[dataset]]\naddress = \"files:/var/www\"\n[[allow]]\nmodule = \"git\"\nunder = \"/srv/git\"\n";
    base::config::parse("client.toml", text.as_bytes()).unwrap()
}

const ZERO: &str = "0000000000000000000000000000000000000000";
const HEX: &str = "0123456789abcdef0123456789abcdef";

/// No role may ever run any of these.
const NEVER: &[&str] = &[
    "",
    " ",
    "sh",
    "bash -i",
    "/bin/sh",
    "ls /",
    "scp -t /tmp",
    "scp -f /etc/passwd",
    "rsync --server --sender . /",
    "internal-sftp",
    "/usr/lib/openssh/sftp-server",
    "sftp-server",
    "sftp -R",
    "sftp ",
    " sftp",
    "SFTP",
    "git",
    "git upload-pack 'queue'",
    "git receive-pack 'queue'",
    "git shell",
    "git-shell",
    "git-upload-archive 'queue'",
    "git-upload-archive '/srv/git/a.git'",
    "git-lfs-authenticate 'queue' download",
    "git-upload-pack",
    "git-upload-pack ",
    "git-upload-pack queue",
    "git-upload-pack \"queue\"",
    "git-upload-pack  'queue'",
    "git-upload-pack\t'queue'",
    "git-upload-pack 'queue' ",
    "git-upload-pack 'queue' 'receipts'",
    "git-upload-pack 'queue';id",
    "git-upload-pack 'queue' | sh",
    "git-upload-pack 'queue'\nid",
    "git-upload-pack 'queue\n'",
    "git-upload-pack 'queue\0'",
    "git-upload-pack 'que'ue'",
    "git-upload-pack ''queue''",
    "git-upload-pack 'queue'\\''x'",
    "git-upload-pack '$(id)'",
    "git-upload-pack '`id`'",
    "git-upload-pack '--help'",
    "git-upload-pack '-cqueue'",
    "git-upload-pack --strict 'queue'",
    "git-upload-pack --timeout=9 'queue'",
    "git-upload-pack '../queue'",
    "git-upload-pack '//queue'",
    "git-upload-pack 'queue/'",
    "git-upload-pack 'queue.git'",
    "git-upload-pack 'QUEUE'",
    "git-upload-pack 'quèue'",
    "git-upload-pack ''",
    "git-upload-pack '/'",
    "git-upload-pack '~/queue'",
    "git-receive-pack 'receipts'",
    "git-receive-pack 'web2'",
    "git-receive-pack 'queues/web2.git'",
    "git-receive-pack '../web2/queue'",
    "git-receive-pack 'admin.git'",
    "git-receive-pack '/srv/git/a.git'",
    "git-receive-pack '/home/a/x.git'",
    "git-receive-pack 'web1/mirrors/0123456789abcdef0123456789abcdef.git'",
    "env LD_PRELOAD=x git-upload-pack 'queue'",
    "GIT_DIR=/x git-upload-pack 'queue'",
    "env --split-string=sh",
    "exec git-upload-pack 'queue'",
    "ping ",
    "ping -c1 host",
    "PING",
    "list web1",
    "receipts-wait",
    "receipts-wait ",
    "receipts-wait HEAD",
    "receipts-wait 000000000000000000000000000000000000000",
    "receipts-wait 00000000000000000000000000000000000000000",
    "receipts-wait 000000000000000000000000000000000000000G",
    "receipts-wait 000000000000000000000000000000000000000A",
    "receipts-wait  0000000000000000000000000000000000000000",
    "receipts-wait 0000000000000000000000000000000000000000 x",
    "receipts-wait --help",
    "git-upload-pack '/etc'",
    "git-upload-pack '/srv'",
    "git-upload-pack '/srv/gitx/a.git'",
    "git-upload-pack '/srv/git/../../etc'",
    "git-upload-pack '/srv/git/./a.git'",
    "git-upload-pack '/srv/git/a.git/'",
    "git-upload-pack '/srv//git/a.git'",
    "git-upload-pack '//srv/git/a.git'",
    "git-upload-pack 'srv/git/a.git'",
    "git-upload-pack '/srv/git/a\\b'",
    "git-upload-pack '/srv/git/a!b'",
    "git-upload-pack '/var/www'",
    "git-upload-pack '/home/a/x.git/x'",
    "git-upload-pack 'web1'",
    "git-upload-pack 'web1/'",
    "git-upload-pack 'web1/queue'",
    "git-upload-pack 'web1/log/x'",
    "git-upload-pack 'web1/mirrors/x.git'",
    "git-upload-pack 'web1/mirrors/../log'",
    "git-upload-pack 'web1/mirrors/0123456789abcdef0123456789abcdef'",
    "git-upload-pack 'web1/mirrors/0123456789ABCDEF0123456789ABCDEF.git'",
    "git-upload-pack 'web1/mirrors/0123456789abcdef0123456789abcdef0.git'",
    "git-upload-pack '../web1/log'",
    "git-upload-pack 'db/log'",
    "git-upload-pack 'db/receipts'",
    "git-upload-pack 'web2/log'",
    "git-upload-pack 'web2/receipts'",
    "git-upload-pack 'web2/mirrors/0123456789abcdef0123456789abcdef.git'",
    "git-upload-pack 'admin/log'",
    "git-upload-pack 'log/web1'",
    "git-upload-pack 'web1.git'",
];

#[test]
fn what_no_key_may_run() {
    assert!(NEVER.len() >= 60);
    let (grant, reads, config) = (client(false), restorer(), config());
    let roles = [
        (Role::Client(name("web1")), Grant::Client(&grant)),
        (Role::Admin(name("alice")), Grant::Admin),
        (Role::Restorer(name("carol")), Grant::Restorer(&reads)),
        (Role::Export(name("node1")), Grant::Export(&config)),
    ];
    let long = format!("git-upload-pack '/srv/git/{}'", "x".repeat(5000));
    for (role, grant) in &roles {
        for command in NEVER.iter().copied().chain([long.as_str()]) {
            assert!(matches!(verdict(role, grant, Some(command)), Verdict::Refuse(_)), "{role:?} {command:?}");
        }
        assert!(matches!(verdict(role, grant, None), Verdict::Refuse(_)), "a shell for {role:?}");
    }
}

#[test]
fn what_each_key_may_run() {
    let (grant, reads, config) = (client(false), restorer(), config());
    let web1 = (Role::Client(name("web1")), Grant::Client(&grant));
    let alice = (Role::Admin(name("alice")), Grant::Admin);
    let carol = (Role::Restorer(name("carol")), Grant::Restorer(&reads));
    let node1 = (Role::Export(name("node1")), Grant::Export(&config));
    let mirror = |client: &str| Verb::UploadPackMirror { client: name(client), hex: HEX.into() };
    let wait = format!("receipts-wait {ZERO}");
    let (web1_mirror, db_mirror) =
        (format!("git-upload-pack 'web1/mirrors/{HEX}.git'"), format!("git-upload-pack '/db/mirrors/{HEX}.git'"));
    let path = |text: &str| Verb::UploadPackPath(Dataset::new("git", text).unwrap());
    let good: Vec<(&(Role, Grant<'_>), &str, Verb)> = vec![
        (&web1, "git-receive-pack 'queue'", Verb::ReceivePackQueue),
        (&web1, "git-receive-pack '/queue'", Verb::ReceivePackQueue),
        (&web1, "git-upload-pack 'queue'", Verb::UploadPackQueue),
        (&web1, "git-upload-pack 'receipts'", Verb::UploadPackReceipts),
        (&web1, "git-upload-pack '/receipts'", Verb::UploadPackReceipts),
        (&web1, &wait, Verb::ReceiptsWait(ZERO.into())),
        (&web1, "ping", Verb::Ping),
        (&alice, "git-receive-pack 'admin'", Verb::ReceivePackAdmin),
        (&alice, "git-upload-pack '/admin'", Verb::UploadPackAdmin),
        (&alice, "ping", Verb::Ping),
        (&carol, "list", Verb::List),
        (&carol, "sftp", Verb::Sftp),
        (&carol, "ping", Verb::Ping),
        (&carol, &web1_mirror, mirror("web1")),
        (&carol, &db_mirror, mirror("db")),
        (&carol, "git-upload-pack 'web1/log'", Verb::UploadPackLog(name("web1"))),
        (&carol, "git-upload-pack '/web1/receipts'", Verb::UploadPackReceiptsOf(name("web1"))),
        (&node1, "sftp", Verb::Sftp),
        (&node1, "ping", Verb::Ping),
        (&node1, "git-upload-pack '/srv/git'", path("/srv/git")),
        (&node1, "git-upload-pack '/srv/git/a b/ä.git'", path("/srv/git/a b/ä.git")),
        (&node1, "git-upload-pack '/home/a/x.git'", path("/home/a/x.git")),
    ];
    for ((role, grant), command, verb) in &good {
        assert_eq!(verdict(role, grant, Some(command)), Verdict::Run(verb.clone()), "{role:?} {command}");
    }
    // What one kind of key may run, no other may, but for the words that both know.
    for (_, command, verb) in &good {
        for (role, grant) in [&web1, &alice, &carol, &node1] {
            let own = good.iter().any(|((other, _), known, _)| other == role && known == command);
            let run = verdict(role, grant, Some(command));
            assert_eq!(matches!(run, Verdict::Run(_)), own, "{role:?} {command} {verb:?}");
        }
    }
}

#[test]
fn who_is_paused_or_gone_is_told_so() {
    let (grant, reads) = (client(true), restorer());
    let words = |role: Role, grant: Grant<'_>| match verdict(&role, &grant, Some("git-receive-pack 'queue'")) {
        Verdict::Refuse(words) => words,
        Verdict::Run(verb) => panic!("{verb:?}"),
    };
    assert!(words(Role::Client(name("web1")), Grant::Client(&grant)).contains("paused"));
    assert!(words(Role::Client(name("web1")), Grant::Absent).contains("not in the list"));
    // The forced command's word and the list's entry must be of one kind.
    for mixed in [Grant::Admin, Grant::Restorer(&reads)] {
        assert!(words(Role::Client(name("web1")), mixed).contains("not in the list"));
    }
}

proptest! {
    #[test]
    fn nothing_is_run_but_the_texts_that_are_known(command in ".{0,60}") {
        let grant = client(false);
        if let Verdict::Run(verb) = verdict(&Role::Client(name("web1")), &Grant::Client(&grant), Some(&command)) {
            prop_assert!(verb == Verb::Ping && command == "ping", "{verb:?} {command:?}");
        }
        let config = config();
        let quoted = format!("git-upload-pack '{command}'");
        if let Verdict::Run(Verb::UploadPackPath(dataset)) = verdict(&Role::Export(name("node1")), &Grant::Export(&config), Some(&quoted)) {
            prop_assert!(dataset.path() == command && config.allows(&dataset));
        }
    }
}
