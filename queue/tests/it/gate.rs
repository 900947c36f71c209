//! A real push into a repository whose `pre-receive` runs our checks in git's quarantine.

use crate::harness::{files, git, git_ok, name, public, request, signer};
use queue::check::check_push;
use queue::repository::Repository;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The hook is this test binary, which runs the ignored test below.
fn install_hook(folder: &Path, key: &str) -> PathBuf {
    let hooks = folder.join("hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let hook = hooks.join("pre-receive");
    let program = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nNIGHTSAFE_TEST_KEY='{key}' NIGHTSAFE_TEST_OUT='{}' exec '{}' --exact gate::hook --ignored --nocapture --test-threads=1\n",
        folder.join("out").display(),
        program.display()
    );
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    hooks
}

#[test]
#[ignore = "run by git as a hook"]
fn hook() {
    let (Ok(key), Ok(out)) = (std::env::var("NIGHTSAFE_TEST_KEY"), std::env::var("NIGHTSAFE_TEST_OUT")) else { return };
    let mut line = String::new();
    std::io::stdin().read_to_string(&mut line).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    let [old, new, "refs/heads/requests"] = words[..] else { panic!("{line}") };
    let old = (!old.bytes().all(|b| b == b'0')).then_some(old);
    let key = queue::signature::parse_public_key(&key).unwrap();
    let start = Instant::now();
    let repository = Repository::open_quarantined("requests").unwrap();
    let last_seq = repository.last_seq().unwrap();
    let checked = check_push(&repository, old, new, &name("web1"), &name("node1"), &[key], last_seq);
    let text = match &checked {
        Ok(checked) => format!("{} requests up to {} in {} ms", checked.requests, checked.last_seq, start.elapsed().as_millis()),
        Err(error) => error.one_line(),
    };
    std::fs::write(out, &text).unwrap();
    assert!(checked.is_ok(), "{text}");
}

struct Setup {
    dir: tempfile::TempDir,
    client: Repository,
    gate: Repository,
    signer: queue::Signer,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer(dir.path(), 1);
    let hooks = install_hook(dir.path(), &public(signer.public()));
    let client = Repository::open_or_create(&dir.path().join("client.git"), "requests").unwrap();
    let gate = Repository::open_receiving(&dir.path().join("gate.git"), "requests", &hooks).unwrap();
    Setup { dir, client, gate, signer }
}

impl Setup {
    fn commit(&self, requests: &[queue::Request]) -> String {
        self.client.commit_files(&files(requests), &queue::message::of_requests(requests), &self.signer, "web1").unwrap()
    }

    /// Pushes and gives what the hook said, and whether git took it.
    fn push(&self, refspec: &str) -> (bool, String) {
        let out = self.dir.path().join("out");
        let _ = std::fs::remove_file(&out);
        let output = git(self.client.path(), &["push", "-q", self.gate.path().to_str().unwrap(), refspec]);
        (output.status.success(), std::fs::read_to_string(out).unwrap_or_else(|_| String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

#[test]
fn pushes_are_checked_in_quarantine() {
    let setup = setup();
    let one = setup.commit(&[request(1, "files:/a")]);
    let (taken, said) = setup.push(&format!("{one}:refs/heads/requests"));
    assert!(taken && said.starts_with("1 requests up to 1 "), "{said}");
    let three = setup.commit(&[request(2, "files:/a"), request(3, "files:/b")]);
    let (taken, said) = setup.push("requests:requests");
    assert!(taken && said.starts_with("2 requests up to 3 "), "{said}");
    assert_eq!(setup.gate.tip().unwrap(), Some(three.clone()));
    assert_eq!(git_ok(setup.gate.path(), &["fsck", "--strict"]), "");
    assert_eq!(setup.gate.last_seq().unwrap(), 3);
    // A number that was there; nothing of it stays.
    let again = setup.commit(&[request(3, "files:/b")]);
    let (taken, said) = setup.push("requests:requests");
    assert!(!taken && said.contains("has the number 3"), "{said}");
    assert_eq!(setup.gate.tip().unwrap(), Some(three.clone()));
    assert!(setup.gate.load(&again).is_err());
    setup.client.reset_to(&three).unwrap();
    // Another's key.
    let thief = signer(setup.dir.path(), 2);
    setup.client.commit_files(&files(&[request(4, "files:/b")]), "words", &thief, "web1").unwrap();
    let (taken, said) = setup.push("requests:requests");
    assert!(!taken && said.contains("no key of web1"), "{said}");
    setup.client.reset_to(&three).unwrap();
    // Git itself refuses to go back, and to forget.
    assert!(!setup.push(&format!("+{one}:refs/heads/requests")).0);
    assert!(!setup.push(":refs/heads/requests").0);
    assert_eq!(setup.gate.tip().unwrap(), Some(three));
    assert!(Repository::open_with_quarantine(setup.gate.path(), "requests", Some(setup.dir.path())).is_err());
}

#[test]
fn a_thousand_requests_are_checked_quickly() {
    let setup = setup();
    let requests: Vec<_> = (1..=1000).map(|seq| request(seq, &format!("files:/{seq}"))).collect();
    for some in requests[..900].chunks(450) {
        setup.commit(some);
    }
    for one in &requests[900..] {
        setup.commit(std::slice::from_ref(one));
    }
    let (taken, said) = setup.push("requests:requests");
    assert!(taken && said.starts_with("1000 requests up to 1000 in "), "{said}");
    let took: u64 = said.split(' ').nth(6).unwrap().parse().unwrap();
    println!("{said}");
    assert!(took < 5000, "{said}");
}

#[test]
fn too_much_is_refused() {
    let setup = setup();
    let many: Vec<_> = (1..=1001).map(|seq| request(seq, "files:/a")).collect();
    setup.commit(&many);
    let (taken, said) = setup.push("requests:requests");
    assert!(!taken && said.contains("1001 files"), "{said}");
}

#[test]
fn settings_of_a_receiving_repository() {
    let setup = setup();
    let expected = [
        ("receive.fsckObjects", "true"),
        ("receive.denyDeletes", "true"),
        ("receive.denyNonFastForwards", "true"),
        ("receive.autogc", "false"),
        ("receive.unpackLimit", "1"),
        ("receive.shallowUpdate", "false"),
        ("receive.advertisePushOptions", "false"),
        ("core.logAllRefUpdates", "always"),
        ("gc.auto", "0"),
        ("gc.pruneExpire", "never"),
        ("core.useReplaceRefs", "false"),
        ("core.fsync", "all"),
        ("receive.maxInputSize", "8m"),
    ];
    for (key, value) in expected {
        assert_eq!(git_ok(setup.gate.path(), &["config", "--local", key]).trim(), value, "{key}");
    }
    assert_eq!(git_ok(setup.gate.path(), &["config", "core.hooksPath"]).trim(), setup.dir.path().join("hooks").to_str().unwrap());
    for bad in ["relative", "/a\"b", "/a\nb"] {
        assert!(Repository::open_receiving(&setup.dir.path().join("x.git"), "requests", Path::new(bad)).is_err());
    }
    // A git that was killed while it held the branch leaves a mark.
    let mark = setup.gate.path().join("refs/heads/requests.lock");
    std::fs::write(&mark, b"").unwrap();
    // Opened again with other hooks, it obeys those.
    Repository::open_receiving(setup.gate.path(), "requests", Path::new("/elsewhere")).unwrap();
    assert_eq!(git_ok(setup.gate.path(), &["config", "core.hooksPath"]).trim(), "/elsewhere");
    assert!(!mark.exists());
}
