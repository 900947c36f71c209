//! Repositories that we write and git reads.

use crate::harness::{files, git, git_ok, git_with, id, name, public, request, signed_commit, signer};
use base::Payload;
use queue::check::judge_commit;
use queue::repository::Repository;
use queue::{Expect, prove};
use std::time::Instant;

type Files = Vec<(String, Vec<u8>)>;

#[test]
fn git_reads_what_we_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/node1.git");
    let repository = Repository::open_or_create(&path, "requests").unwrap();
    let signer = signer(dir.path(), 1);
    assert_eq!(repository.tip().unwrap(), None);
    for seq in 1..=3 {
        let request = request(seq, "files:/var/www");
        repository.commit_files(&files(std::slice::from_ref(&request)), &request.message(), &signer, "web1").unwrap();
    }
    let tip = repository.tip().unwrap().unwrap();
    assert_eq!(git_ok(&path, &["rev-parse", "HEAD"]).trim(), tip);
    assert_eq!(
        git_ok(&path, &["rev-parse", "--is-bare-repository", "--show-object-format", "--symbolic-full-name", "HEAD"]),
        "true\nsha1\nrefs/heads/requests\n"
    );
    assert_eq!(git_ok(&path, &["fsck", "--strict", "--full"]), "");
    let signers = dir.path().join("signers");
    std::fs::write(&signers, format!("web1 namespaces=\"git\" {}\n", public(signer.public()))).unwrap();
    let option = format!("gpg.ssh.allowedSignersFile={}", signers.display());
    let log = git_ok(&path, &["-c", &option, "log", "--show-signature", "--format=%G? %GS %an %ae%n%s"]);
    assert_eq!(log.matches("Good \"git\" signature for web1").count(), 3, "{log}");
    assert_eq!(
        log.matches("G web1 web1 web1@nightsafe.invalid\nweb1 asks node1 to back up files:/var/www (manual, by alice)").count(),
        3,
        "{log}"
    );
    assert_eq!(git_ok(&path, &["ls-tree", "-r", "HEAD"]).lines().count(), 1);
    // And again after git has packed everything.
    git(&path, &["repack", "-adq"]);
    git(&path, &["pack-refs", "--all"]);
    let again = Repository::open(&path, "requests").unwrap();
    assert_eq!(again.commits(None, &tip).unwrap().len(), 3);
    assert_eq!(again.last_seq().unwrap(), 3);
    let request = request(4, "files:/var/www");
    let four = again.commit_files(&files(std::slice::from_ref(&request)), &request.message(), &signer, "web1").unwrap();
    assert_eq!(git_ok(&path, &["rev-list", "--count", "HEAD"]).trim(), "4");
    assert_eq!(git_ok(&path, &["fsck", "--strict", "--full"]), "");
    let (proof, attachment) = repository.proof(&four, &request.id).unwrap();
    assert_eq!(attachment, None);
    let keys = |_: &base::Name| vec![signer.public().clone()];
    assert_eq!(prove(&proof, &keys, &Expect::default()).unwrap().commit, four);
}

/// A branch that was lost is no new beginning, one that names nothing is no history, and `HEAD` says nothing that is not known.
#[test]
fn a_damaged_branch_is_told_and_a_head_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.git");
    let open = || Repository::open_or_create(&path, "requests").unwrap();
    open().check_branch().unwrap();
    let request = request(1, "files:/var/www");
    let tip = open().commit_files(&files(std::slice::from_ref(&request)), &request.message(), &signer(dir.path(), 1), "web1").unwrap();
    assert_eq!(open().last_seq().unwrap(), 1);
    let branch = path.join("refs/heads/requests");
    for head in [None, Some(""), Some("ref: r"), Some("\u{0}\u{0}")] {
        match head {
            None => std::fs::remove_file(path.join("HEAD")).unwrap(),
            Some(text) => std::fs::write(path.join("HEAD"), text).unwrap(),
        }
        let opened = open();
        opened.check_branch().unwrap();
        assert_eq!(git_ok(&path, &["rev-parse", "HEAD"]).trim(), tip, "{head:?}");
    }
    let said = |words: &[&str]| {
        let error = open().check_branch().unwrap_err().render();
        assert!(words.iter().chain(&[branch.to_str().unwrap(), "--lost-found"]).all(|word| error.contains(word)), "{error}");
    };
    std::fs::write(&branch, format!("{}\n", "1".repeat(40))).unwrap();
    said(&["is damaged"]);
    std::fs::write(&branch, "").unwrap();
    said(&[]);
    std::fs::remove_file(&branch).unwrap();
    said(&["is not there", &tip]);
    open().reset_to(&tip).unwrap();
    open().check_branch().unwrap();
}

#[test]
fn walks_and_moves() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::open_or_create(&dir.path().join("a.git"), "requests").unwrap();
    let signer = signer(dir.path(), 1);
    let commit = |seq| repository.commit_files(&files(&[request(seq, "files:/a")]), "words", &signer, "web1").unwrap();
    let oids: Vec<_> = (1..=5).map(commit).collect();
    assert_eq!(repository.walk(None, &oids[4]).unwrap(), oids);
    assert_eq!(repository.walk(Some(&oids[1]), &oids[3]).unwrap(), oids[2..4]);
    assert_eq!(repository.walk(Some(&oids[3]), &oids[3]).unwrap(), [""; 0]);
    assert!(repository.walk(Some(&oids[3]), &oids[1]).unwrap_err().one_line().contains("does not descend"));
    assert!(repository.walk(None, &"1".repeat(40)).is_err());
    assert!(repository.walk(None, "HEAD").is_err());
    assert!(repository.walk(None, git_ok(repository.path(), &["rev-parse", "HEAD^{tree}"]).trim()).is_err());
    // The branch moves only from where it is thought to be.
    assert_eq!(repository.set_tip(&oids[2], Some(&oids[3])).unwrap_err().kind(), base::Kind::NotNow);
    assert_eq!(repository.set_tip(&oids[2], None).unwrap_err().kind(), base::Kind::NotNow);
    repository.set_tip(&oids[2], Some(&oids[4])).unwrap();
    assert_eq!((repository.tip().unwrap().unwrap(), repository.last_seq().unwrap()), (oids[2].clone(), 3));
    repository.reset_to(&oids[4]).unwrap();
    assert_eq!(repository.last_seq().unwrap(), 5);
    assert!(repository.reset_to(&"1".repeat(40)).is_err());
    // A merge is nowhere gone past.
    let tree = git_ok(repository.path(), &["rev-parse", "HEAD^{tree}"]);
    let merge = git_ok(
        repository.path(),
        &["-c", "user.name=x", "-c", "user.email=x@y", "commit-tree", tree.trim(), "-m", "m", "-p", &oids[4], "-p", &oids[3]],
    );
    assert!(repository.walk(None, merge.trim()).unwrap_err().one_line().contains("merge"));
}

#[test]
fn commits_need_plain_names_and_stay_whole() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::open_or_create(&dir.path().join("a.git"), "requests").unwrap();
    let signer = signer(dir.path(), 1);
    for bad in [
        vec![],
        vec!["a/b/c"],
        vec!["/a"],
        vec!["a/"],
        vec!["a", "a.b", "a/b"],
        vec!["../a"],
        vec![".git"],
        vec![""],
        vec!["a", "a"],
        vec!["a\n"],
    ] {
        let files: Vec<_> = bad.iter().map(|name| ((*name).to_owned(), vec![])).collect();
        assert!(repository.commit_files(&files, "words", &signer, "web1").is_err(), "{bad:?}");
    }
    for bad in ["", "a <b>", "a\nb", " a"] {
        assert!(repository.commit_files(&[("a".into(), vec![])], "words", &signer, bad).is_err(), "{bad:?}");
    }
    assert_eq!(repository.tip().unwrap(), None);
    repository
        .commit_files(
            &[("b".into(), vec![1]), ("a.b".into(), vec![2]), ("a".into(), vec![3]), ("keys/a.pub".into(), vec![4])],
            "s\n\nbody\n\n\n",
            &signer,
            "Ä b",
        )
        .unwrap();
    assert_eq!(git_ok(repository.path(), &["fsck", "--strict"]), "");
    assert_eq!(git_ok(repository.path(), &["log", "--format=%B%an %ae"]), "s\n\nbody\nÄ b --b@nightsafe.invalid\n");
}

#[test]
fn many_writers_make_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.git");
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (path, folder) = (&path, dir.path());
            scope.spawn(move || {
                let folder = folder.join(thread.to_string());
                std::fs::create_dir(&folder).unwrap();
                let (repository, signer) = (Repository::open_or_create(path, "requests").unwrap(), signer(&folder, 1));
                for n in 0..10 {
                    let request = request(thread * 100 + n + 1, &format!("files:/{thread}"));
                    repository.commit_files(&files(&[request]), "words", &signer, "web1").unwrap();
                }
            });
        }
    });
    let repository = Repository::open(&path, "requests").unwrap();
    let tip = repository.tip().unwrap().unwrap();
    assert_eq!(repository.walk(None, &tip).unwrap().len(), 40);
    for thread in 0..4 {
        assert_eq!(repository.last_request(&format!("files:/{thread}").parse().unwrap()).unwrap(), Some(id(thread * 100 + 10)));
    }
    assert_eq!(repository.last_seq().unwrap(), 310);
    assert_eq!(git_ok(&path, &["fsck", "--strict"]), "");
}

#[test]
fn notes_are_made_again_when_they_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.git");
    let signer = signer(dir.path(), 1);
    let notes = path.join("nightsafe-history");
    let open = || Repository::open_or_create(&path, "requests").unwrap();
    let mut oids = Vec::new();
    for seq in 1..=6 {
        oids.push(
            open()
                .commit_files(
                    &files(&[request(seq, if seq % 2 == 0 { "files:/even" } else { "files:/odd one" })]),
                    "words",
                    &signer,
                    "web1",
                )
                .unwrap(),
        );
    }
    let ask = |repository: &Repository| {
        let last = |text: &str| repository.last_request(&text.parse().unwrap()).unwrap();
        (last("files:/even"), last("files:/odd one"), last("files:/none"), repository.last_seq().unwrap())
    };
    let right = (Some(id(6)), Some(id(5)), None, 6);
    let whole = std::fs::read_to_string(&notes).unwrap();
    assert_eq!((whole.lines().count(), ask(&open())), (6, right.clone()));
    let first_three: String = whole.lines().take(3).map(|line| format!("{line}\n")).collect();
    let turned: String = whole.lines().rev().map(|line| format!("{line}\n")).collect();
    for damage in
        ["", "x", "x\n", &first_three, &whole[..whole.len() - 5], &turned, &whole.replace(&oids[5], &"1".repeat(40)), &"\u{0}".repeat(100)]
    {
        std::fs::write(&notes, damage).unwrap();
        assert_eq!(ask(&open()), right, "{damage}");
        assert_eq!(ask(&open()), right, "{damage}");
    }
    std::fs::remove_file(&notes).unwrap();
    assert_eq!(ask(&open()), right);
    let found = open().find_file("RQ20261120T031500Z-00000002.toml").unwrap().unwrap();
    assert_eq!((found.commit, found.bytes), (oids[1].clone(), request(2, "files:/even").to_toml()));
    assert_eq!(open().find_file("RQ20261120T031500Z-000000ff.toml").unwrap(), None);
    open().reset_to(&oids[2]).unwrap();
    assert_eq!(ask(&open()), (Some(id(2)), Some(id(3)), None, 3));
    // The same while one process holds the repository open and another one writes.
    let (reader, writer) = (open(), open());
    assert_eq!(reader.last_seq().unwrap(), 3);
    writer.commit_files(&files(&[request(9, "files:/even")]), "words", &signer, "web1").unwrap();
    assert_eq!(reader.last_request(&"files:/even".parse().unwrap()).unwrap(), Some(id(9)));
}

#[test]
fn what_a_killed_process_left_is_no_hindrance() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.git");
    // A repository that was half made, and one of whose writers was killed while it held git's own lock.
    std::fs::create_dir_all(dir.path().join(".tmp-a.git/objects")).unwrap();
    let repository = Repository::open_or_create(&path, "requests").unwrap();
    let signer = signer(dir.path(), 1);
    let left = [
        "refs/heads/requests.lock",
        "objects/tmp_object_git2_1",
        "objects/pack/pack_git2_1",
        "objects/tmp_objdir-incoming-1/pack/x",
        "objects/pack/tmp_new",
    ];
    let day = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 86_400);
    for name in left {
        let file = path.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, b"").unwrap();
        if name != "objects/pack/tmp_new" {
            let top = path.join(name.replace("/pack/x", ""));
            std::fs::File::open(top).unwrap().set_modified(day).unwrap();
        }
    }
    let oid = repository.commit_files(&files(&[request(1, "files:/a")]), "words", &signer, "web1").unwrap();
    repository.tidy().unwrap();
    let still: Vec<_> = left.into_iter().filter(|name| path.join(name).exists()).collect();
    assert_eq!(still, ["objects/pack/tmp_new"]);
    assert_eq!(repository.tip().unwrap(), Some(oid));
}

#[test]
fn large_objects_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::open_or_create(&dir.path().join("a.git"), "requests").unwrap();
    let signer = signer(dir.path(), 1);
    let large = vec![0u8; 65 * 1024];
    let oid = repository.commit_files(&[(request(1, "files:/a").file_name(), large.clone())], "words", &signer, "web1").unwrap();
    let commit = repository.load(&oid).unwrap();
    assert_eq!(commit.entries[0].size, 65 * 1024);
    assert!(repository.blob(&commit.entries[0].oid, 64 * 1024).unwrap_err().one_line().contains("66560 bytes"));
    assert_eq!(repository.blob(&commit.entries[0].oid, 65 * 1024).unwrap(), large);
    let keys = [signer.public().clone()];
    let verdict = judge_commit(&commit, &repository, &name("web1"), &name("node1"), &keys);
    assert!(verdict.unwrap_err().one_line().contains("66560 bytes"));
    // Something that is no commit is not read as one.
    assert!(repository.load(&commit.entries[0].oid).unwrap_err().one_line().contains("commit"));
}

#[test]
fn large_commits_are_packs_and_tidying_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.git");
    let repository = Repository::open_or_create(&path, "requests").unwrap();
    let signer = signer(dir.path(), 1);
    let requests: Vec<_> = (1..=1400).map(|seq| request(seq, "files:/a")).collect();
    for some in requests.chunks(20) {
        repository.commit_files(&files(some), "words", &signer, "web1").unwrap();
    }
    let packs = || {
        std::fs::read_dir(path.join("objects/pack"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "pack"))
            .count()
    };
    let all = || repository.commits(None, &repository.tip().unwrap().unwrap()).unwrap().len();
    assert!(git_ok(&path, &["count-objects"]).starts_with("0 "));
    let (before, seq) = (packs(), repository.last_seq().unwrap());
    assert_eq!((all(), seq, git_ok(&path, &["fsck", "--strict", "--full"])), (70, 1400, String::new()));
    repository.tidy().unwrap();
    assert!(packs() < 50 && packs() <= before, "{before} {}", packs());
    assert_eq!((all(), git_ok(&path, &["fsck", "--strict", "--full"])), (70, String::new()));
    let again = Repository::open(&path, "requests").unwrap();
    assert_eq!(again.file_of(&again.tip().unwrap().unwrap(), &requests[1399].file_name()).unwrap(), requests[1399].to_toml());
}

#[test]
fn verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::open_or_create(&dir.path().join("a.git"), "requests").unwrap();
    let (mine, other) = (signer(dir.path(), 1), signer(dir.path(), 2));
    let (client, node, keys) = (name("web1"), name("node1"), [mine.public().clone()]);
    let seen = |files: &[(String, Vec<u8>)], signer: &queue::Signer, message: &str| {
        let oid = repository.commit_files(files, message, signer, "web1").unwrap();
        let commit = repository.load(&oid).unwrap();
        let words = |verdict: queue::check::Verdict| match verdict {
            queue::check::Verdict::Accept(request) => format!("accept {}", request.claim.seq),
            queue::check::Verdict::Refuse(claim, why) => format!("refuse {} {why}", claim.seq),
            queue::check::Verdict::Alarm(why) => format!("alarm {why}"),
        };
        let judged =
            judge_commit(&commit, &repository, &client, &node, &keys).map(|all| all.into_iter().map(words).collect::<Vec<_>>().join("; "));
        judged.unwrap_or_else(|error| error.one_line())
    };
    let (one, mut two, mut three) = (request(1, "files:/a"), request(2, "files:/b"), request(3, "files:/c"));
    two.payload = Payload::Manifest(base::Blake3::of(b"manifest"));
    three.node = name("node2");
    let with = |file: (&str, &[u8])| [files(std::slice::from_ref(&one)), vec![(file.0.to_owned(), file.1.to_vec())]].concat();
    let attached = |bytes: &[u8]| [files(&[one.clone(), two.clone()]), vec![(two.attachment_name(), bytes.to_vec())]].concat();
    let mut of_web2 = one.clone();
    of_web2.client = name("web2");
    // By number, whatever the names' order is.
    let (mut late, mut early) = (request(1, "files:/x"), request(2, "files:/y"));
    (late.seq, early.seq) = (2, 1);
    let cases: Vec<(Files, &str)> = vec![
        (files(std::slice::from_ref(&one)), "accept 1"),
        (files(&[late, early]), "accept 1; accept 2"),
        (attached(b"manifest"), "accept 1; accept 2"),
        (attached(b"another"), "accept 1; refuse 2 MF"),
        (files(&[one.clone(), three]), "accept 1; refuse 3 it asks node2"),
        (with((&one.attachment_name(), b"x")), "refuse 1 MF"),
        (with((&two.attachment_name(), b"x")), "without its request"),
        (with(("README", b"x")), "README is not a name"),
        (with(("RQ1.toml", b"x")), "RQ1.toml is not a name"),
        (with((&format!("{}x", two.file_name()), b"x")), "is not a name"),
        (with(("\u{1b}[2J", b"x")), "\\u{1b}[2J is not a name"),
        (with((&two.file_name(), b"x")), "alarm RQ20261120T031500Z-00000002.toml: the request, line 1"),
        (with((&two.file_name(), &one.to_toml())), "is in the tree twice"),
        (files(&[of_web2]), "alarm RQ20261120T031500Z-00000001.toml holds a request of web2"),
    ];
    for (files, words) in cases {
        let said = seen(&files, &mine, "words");
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(seen(&files(std::slice::from_ref(&one)), &other, "words").contains("no key of web1"));
    assert!(seen(&files(&[one]), &mine, "\u{1b}[2J").contains("cannot be shown"));
}

#[test]
fn trees_that_are_no_list_of_plain_files() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::open_or_create(&dir.path().join("a.git"), "requests").unwrap();
    let path = repository.path().to_owned();
    let signer = signer(dir.path(), 1);
    let one = request(1, "files:/a");
    let (name_of_one, attachment) = (one.file_name(), one.attachment_name());
    let blob = git_with(&path, &["hash-object", "-w", "--stdin"], std::str::from_utf8(&one.to_toml()).unwrap());
    let empty = git_with(&path, &["mktree"], "");
    let good = format!("100644 blob {blob}\t{name_of_one}\n");
    let judge = |tree: &str, parents: &[&str]| {
        let oid = signed_commit(&path, tree, parents, &signer);
        let commit = repository.load(&oid).map_err(|error| error.one_line())?;
        judge_commit(&commit, &repository, &name("web1"), &name("node1"), &[signer.public().clone()])
            .map(|all| all.len())
            .map_err(|error| error.one_line())
    };
    assert_eq!(judge(&good, &[]), Ok(1));
    let absent = "1".repeat(40);
    let cases = [
        (format!("100755 blob {blob}\t{name_of_one}\n"), "mode 100755"),
        (format!("120000 blob {blob}\t{name_of_one}\n"), "mode 120000"),
        (format!("160000 commit {absent}\t{name_of_one}\n"), "mode 160000"),
        (format!("040000 tree {empty}\t{name_of_one}\n"), "mode 40000"),
        (format!("{good}120000 blob {blob}\t{attachment}\n"), "mode 120000"),
        (format!("{good}100644 blob {absent}\t{attachment}\n"), "could not read an object"),
        (format!("{good}100644 blob {blob}\t.gitattributes\n"), ".gitattributes is not a name"),
        (format!("{good}100644 blob {blob}\t-x\n"), "-x is not a name"),
        (String::new(), "0 files"),
    ];
    for (tree, words) in cases {
        let said = judge(&tree, &[]).unwrap_err();
        assert!(said.contains(words), "{words}: {said}");
    }
    let parent = signed_commit(&path, &good, &[], &signer);
    let other = signed_commit(&path, &good, &[&parent], &signer);
    assert!(judge(&good, &[&parent, &other]).unwrap_err().contains("merge"));
}

#[test]
fn receipts() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::open_or_create(&dir.path().join("a.git"), "receipts").unwrap();
    let (node_key, other) = (signer(dir.path(), 1), signer(dir.path(), 2));
    let receipt = queue::Receipt {
        id: id(1),
        node: name("node1"),
        client: name("web1"),
        dataset: "files:/a".parse().unwrap(),
        request: base::Sha256::of(b"x"),
        outcome: queue::Outcome::Stored,
        reason: None,
        received: "2026-11-20T03:15:00Z".parse().unwrap(),
        bytes_fetched: 1,
        bytes_stored: 1,
        seconds: 1,
        snapshot: None,
        unreadable: 0,
        refs: None,
        changed: vec![],
        missing: vec![],
    };
    let read = |files: &[(String, Vec<u8>)], signer: &queue::Signer, client: &str| {
        let oid = repository.commit_files(files, &receipt.message(), signer, "node1").unwrap();
        queue::check::check_receipts(
            &repository.load(&oid).unwrap(),
            &repository,
            &name(client),
            &name("node1"),
            &[node_key.public().clone()],
        )
    };
    let file = (receipt.file_name(), receipt.to_toml());
    let notice = (format!("NT{}.toml", id(2)), b"whatever".to_vec());
    assert_eq!(read(&[file.clone(), notice], &node_key, "web1").unwrap(), std::slice::from_ref(&receipt));
    assert!(read(std::slice::from_ref(&file), &other, "web1").is_err());
    assert!(read(std::slice::from_ref(&file), &node_key, "web2").is_err());
    assert!(read(&[(format!("RC{}.toml", id(3)), receipt.to_toml())], &node_key, "web1").is_err());
    assert!(read(&[file, ("x".into(), vec![])], &node_key, "web1").is_err());
}

#[test]
fn a_long_history_is_quick_to_ask() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.git");
    let signer = signer(dir.path(), 1);
    let repository = Repository::open_or_create(&path, "requests").unwrap();
    for seq in 1..=300 {
        repository.commit_files(&files(&[request(seq, &format!("files:/{}", seq % 7))]), "words", &signer, "web1").unwrap();
    }
    let start = Instant::now();
    for _ in 0..200 {
        assert_eq!(repository.last_request(&"files:/3".parse().unwrap()).unwrap(), Some(id(297)));
    }
    assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
}
