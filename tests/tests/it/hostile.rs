//! What each key cannot do, tried with plain ssh, git and sftp against the real gate.

use crate::harness::{Loopback, Run, run};
use std::process::Stdio;

/// Keys of every kind against commands that no key of that kind may run.
#[test]
fn no_key_opens_more_than_its_own_verbs() {
    let safe = Loopback::start();
    safe.sh("git init -q --bare source/p.git");
    safe.back_up("git", &safe.text("source/p.git"));
    let mirror = safe.names("node/data/web1/mirrors")[0].clone();
    safe.write(
        "client.toml",
        &safe
            .read("client.toml")
            .replace("module = \"git\"\nunder = \"/\"", &format!("module = \"git\"\nunder = \"{}\"", safe.text("source"))),
    );
    let marker = safe.text("marker");
    let everybody: Vec<String> = [
        "sh",
        "/bin/sh",
        "bash -i",
        "id",
        "scp -t /tmp",
        "rsync --server . /",
        "/usr/lib/openssh/sftp-server",
        "internal-sftp",
        "git-upload-archive 'queue'",
        "git upload-pack 'queue'",
        "git-upload-pack queue",
        "git-upload-pack",
        "git-upload-pack ''",
        "git-upload-pack '/'",
        "git-upload-pack '../queue'",
        "git-upload-pack 'queue/../admin'",
        "git-upload-pack '--help'",
        "git-upload-pack 'queue' '--help'",
        "git-receive-pack 'web1/queue'",
        "git-receive-pack 'queue.git'",
        "receipts-wait",
        "receipts-wait x",
        "receipts-wait ../../../../etc/passwd",
        "PING",
        "ping ",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([
        format!("touch {marker}"),
        format!("ping; touch {marker}"),
        format!("ping\ntouch {marker}"),
        format!("git-upload-pack 'queue'; touch {marker}"),
        format!("git-upload-pack '`touch {marker}`'"),
        format!("git-upload-pack '$(touch {marker})'"),
        format!("git-upload-pack --upload-pack='touch {marker}' 'queue'"),
    ])
    .collect();
    let own: &[(&str, &[String])] = &[
        (
            "client/id_ed25519",
            &[
                "sftp".into(),
                "list".into(),
                "git-receive-pack 'receipts'".into(),
                "git-upload-pack 'admin'".into(),
                "git-receive-pack 'admin'".into(),
                format!("git-upload-pack 'web1/mirrors/{mirror}'"),
                "git-upload-pack 'web1/log'".into(),
                format!("git-upload-pack '{}'", safe.text("node/data/log/web1.git")),
            ],
        ),
        (
            "restorer/id_ed25519",
            &[
                "git-upload-pack 'queue'".into(),
                "git-receive-pack 'queue'".into(),
                "git-upload-pack 'admin'".into(),
                format!("git-receive-pack 'web1/mirrors/{mirror}'"),
                "git-upload-pack 'web2/log'".into(),
                "git-upload-pack 'web1/../web1/log'".into(),
                format!("git-upload-pack 'web2/mirrors/{mirror}'"),
                "git-upload-pack 'log'".into(),
            ],
        ),
        ("admin/id_ed25519", &["git-upload-pack 'queue'".into(), "sftp".into(), "list".into(), "git-upload-pack 'web1/log'".into()]),
        (
            "node/pull",
            &[
                "list".into(),
                "git-upload-pack '/etc'".into(),
                format!("git-receive-pack '{}'", safe.text("source/p.git")),
                format!("git-upload-pack '{}'", safe.text("node/data/log/web1.git")),
                format!("git-upload-pack '{}/../node/data/log/web1.git'", safe.text("source")),
                format!("git-upload-pack '{}'", safe.text("source/../admin")),
            ],
        ),
    ];
    for (key, more) in own {
        let shell = safe.ssh(key, None);
        assert!(shell.code != Some(0) && shell.stdout.is_empty(), "{key} opened a shell: {shell}");
        for command in everybody.iter().chain(*more) {
            let tried = safe.ssh(key, Some(command));
            assert!(tried.code != Some(0) && tried.stdout.is_empty(), "{key} may run {command:?}: {tried}");
        }
    }
    assert!(!safe.at("marker").exists());
}

#[test]
fn forwarding_and_environment_are_closed() {
    let safe = Loopback::start();
    let port = safe.port();
    // -W asks sshd for a connection to itself, which would carry one anywhere else as well.
    let mut forward = safe.ssh_command("client/id_ed25519");
    let forwarded = run(forward.args(["-W", &format!("127.0.0.1:{port}")]).arg(safe.login()));
    assert!(forwarded.code != Some(0) && !forwarded.stdout.contains("SSH-2.0"), "{forwarded}");
    let mut environment = safe.ssh_command("client/id_ed25519");
    environment
        .args(["-o", "SendEnv=GIT_*", "-o", "SendEnv=LD_PRELOAD"])
        .env("LD_PRELOAD", "")
        .env("GIT_TRACE", safe.at("trace"))
        .env("GIT_PROTOCOL", "version=2:evil");
    run(environment.arg(safe.login()).arg("ping")).exits(0).says(&["nightsafe-gate", "client web1"]);
    assert!(!safe.at("trace").exists());
}

/// The gate's sftp: nothing but the export folder to the node, nothing but packs and snapshots to a restorer, never writing.
#[test]
fn sftp_serves_what_it_must_and_nothing_else() {
    let safe = Loopback::start();
    let path = safe.text("source/a");
    safe.sh(&format!("mkdir '{path}'; head -c 100000 /dev/urandom >'{path}/x'"));
    safe.client(&["submit", "files", &path]).ok();
    safe.client(&["send"]).silent();
    let exported = safe.names("client/export/node1");
    safe.sh(&format!("ln -s ../../id_ed25519 client/export/node1/{}x", exported[0]));
    safe.sh("mkfifo client/export/node1/fifo");
    let key = safe.text("client/id_ed25519");
    for bad in ["../../id_ed25519", "/etc/passwd", &key, &format!("{}x", exported[0]), "fifo", "./../../id_ed25519", ""] {
        let got = sftp(&safe, "node/pull", &format!("get \"{bad}\" {}", safe.text("got")));
        assert!(got.code != Some(0) && !safe.at("got").exists(), "{bad}: {got}");
    }
    sftp(&safe, "node/pull", &format!("get {} {}", exported[0], safe.text("got"))).exits(0);
    safe.sh(&format!("cmp got client/export/node1/{}; rm got client/export/node1/fifo client/export/node1/*x", exported[0]));
    for bad in [
        format!("put client.toml {}", exported[0]),
        "put client.toml new".into(),
        format!("rm {}", exported[0]),
        format!("rename {} b", exported[0]),
        "mkdir d".into(),
        "ln -s /etc/passwd l".into(),
        format!("chmod 777 {}", exported[0]),
    ] {
        let tried = sftp(&safe, "node/pull", &bad);
        assert_ne!(tried.code, Some(0), "{bad}: {tried}");
    }
    assert_eq!(safe.names("client/export/node1"), exported);
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).silent();

    let pack = safe.names("node/data/web1/packs")[0].clone();
    sftp(&safe, "restorer/id_ed25519", &format!("get web1/packs/{pack} {}", safe.text("got"))).exits(0);
    safe.sh("rm got; echo secret >node/data/web1/packs/notes");
    for bad in [
        "web1/receipts.git/HEAD",
        "web1/pool/x",
        "access/access.toml",
        "../receipts",
        "web1/packs/../../../receipts",
        "/etc/passwd",
        "web1/packs/notes",
        "web2/packs/x",
        "log/web1.git/HEAD",
    ] {
        let got = sftp(&safe, "restorer/id_ed25519", &format!("get {bad} {}", safe.text("got")));
        assert!(got.code != Some(0) && !safe.at("got").exists(), "{bad}: {got}");
    }
    for bad in [format!("rm web1/packs/{pack}"), format!("put client.toml web1/packs/{pack}")] {
        assert_ne!(sftp(&safe, "restorer/id_ed25519", &bad).code, Some(0), "{bad}");
    }
    assert!(safe.at("node/data/web1/packs").join(pack).exists());
}

/// Runs one command of the sftp program over the gate's verb.
fn sftp(safe: &Loopback, key: &str, batch: &str) -> Run {
    let ssh = safe.ssh_command(key);
    let words: Vec<String> = std::iter::once("ssh".to_owned()).chain(ssh.get_args().map(|arg| arg.to_str().unwrap().to_owned())).collect();
    std::fs::write(safe.at("batch"), format!("{batch}\n")).unwrap();
    let mut sftp = safe.command("sftp");
    run(sftp.arg("-b").arg(safe.at("batch")).arg("-D").arg(format!("{} {} sftp", words.join(" "), safe.login())).stdin(Stdio::null()))
}

/// Whatever a client pushes that is not its own, well-formed, signed request is refused before anything is kept.
#[test]
fn the_queue_takes_nothing_but_requests() {
    let safe = Loopback::start();
    safe.back_up("dummy", "x");
    let tip = safe.git("client/queues/node1.git", &["rev-parse", "refs/heads/requests"]);
    let commits = || safe.git("node/gate/queues/web1.git", &["for-each-ref"]);
    let before = commits();
    safe.sh("git clone -q client/queues/node1.git -b requests w; cd w; git config user.name web1; git config user.email web1@nightsafe.invalid; git config gpg.format ssh; git config user.signingKey ../client/id_ed25519.pub");
    let cases: &[(&str, &str)] = &[
        ("another file", "git rm -q -r .; echo x >x; git add x; git commit -q -S -m x"),
        ("a request of nonsense", "git rm -q -r .; echo x >RQ20261120T031500Z-3f9a1c7e.toml; git add .; git commit -q -S -m x"),
        ("a link", "git rm -q -r .; ln -s /etc/passwd RQ20261120T031500Z-3f9a1c7e.toml; git add .; git commit -q -S -m x"),
        (
            "a program",
            "f=$(ls); git rm -q --cached $f; g=RQ20261120T031500Z-3f9a1c7e.toml; sed 's/^id = .*/id = \"20261120T031500Z-3f9a1c7e\"/' $f >$g; rm $f; chmod +x $g; git add $g; git commit -q -S -m x",
        ),
        (
            "a folder",
            "git rm -q -r .; mkdir RQ20261120T031500Z-3f9a1c7e.toml; echo x >RQ20261120T031500Z-3f9a1c7e.toml/x; git add .; git commit -q -S -m x",
        ),
        ("a large file", "git rm -q -r .; head -c 70000 /dev/zero >MF20261120T031500Z-3f9a1c7e; git add .; git commit -q -S -m x"),
        (
            "no signature",
            "f=$(ls); g=RQ20261120T031500Z-3f9a1c7e.toml; sed 's/^id = .*/id = \"20261120T031500Z-3f9a1c7e\"/; s/^seq = .*/seq = 2/' $f >$g; git rm -q $f; git add $g; git commit -q -m x",
        ),
        (
            "another's signature",
            "f=$(ls); g=RQ20261120T031500Z-3f9a1c7e.toml; sed 's/^id = .*/id = \"20261120T031500Z-3f9a1c7e\"/; s/^seq = .*/seq = 2/' $f >$g; git rm -q $f; git add $g; git -c user.signingKey=../restorer/id_ed25519.pub commit -q -S -m x",
        ),
        (
            "another client's name",
            "f=$(ls); g=RQ20261120T031500Z-3f9a1c7e.toml; sed 's/^id = .*/id = \"20261120T031500Z-3f9a1c7e\"/; s/^seq = .*/seq = 2/; s/web1/web2/' $f >$g; git rm -q $f; git add $g; git commit -q -S -m x",
        ),
        ("history rewritten", "git commit -q -S --amend -m other"),
        ("history of its own", "git checkout -q --orphan o; git commit -q -S -m x"),
        (
            "a merge",
            "git checkout -q -b side; git commit -q -S --allow-empty -m s; git checkout -q requests; git commit -q -S --allow-empty -m e; git merge -q -S side -m m",
        ),
        ("an empty commit", "git commit -q -S --allow-empty -m e"),
    ];
    for (what, script) in cases {
        safe.sh(&format!("cd w; git checkout -q -f -B requests {}; git clean -q -fd; {script}", tip.trim()));
        let pushed = push(&safe, "HEAD:refs/heads/requests");
        assert_ne!(pushed.code, Some(0), "{what}: {pushed}");
        assert_eq!(commits(), before, "{what}: {pushed}");
    }
    safe.sh(&format!("cd w; git checkout -q -f -B requests {}; git clean -q -fd", tip.trim()));
    for refspec in [
        "HEAD:refs/heads/other",
        "HEAD:refs/tags/t",
        "HEAD:refs/replace/0123456789012345678901234567890123456789",
        ":refs/heads/requests",
        "+HEAD~0:refs/heads/a",
    ] {
        let pushed = push(&safe, refspec);
        assert_ne!(pushed.code, Some(0), "{refspec}: {pushed}");
        assert_eq!(commits(), before, "{refspec}");
    }
    // And nothing of it stands in the way of what comes after.
    safe.back_up("dummy", "y");
}

fn push(safe: &Loopback, refspec: &str) -> Run {
    let ssh = safe.ssh_command("client/id_ed25519");
    let words: Vec<String> = std::iter::once("ssh".to_owned()).chain(ssh.get_args().map(|arg| arg.to_str().unwrap().to_owned())).collect();
    let mut git = safe.command("git");
    git.env("GIT_SSH_COMMAND", words.join(" ")).env("GIT_SSH_VARIANT", "ssh").current_dir(safe.at("w"));
    run(git.args(["push", "-q", &format!("{}:queue", safe.login()), refspec]))
}
