//! A real push into a repository whose `pre-receive` runs our checks in git's quarantine.

use crate::harness::{files, git, git_ok, name, public, request, signer};
use queue::check::check_push;
use queue::repository::Repository;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

/// The hook gives what git tells it to the test, beside which it runs, and waits for the verdict. It does not outlive the folder.
const HOOK: &str = r#"#!/bin/sh
cd "${0%/*}/.." || exit 2
{ printf '%s\n' "$GIT_OBJECT_DIRECTORY"; cat; } > asked.new
mv asked.new asked
until [ -e verdict ]; do
    [ -e asked ] || exit 2
    sleep 0.01
done
read -r verdict < verdict
exit "$verdict"
"#;

fn install_hook(folder: &Path) -> PathBuf {
    let hooks = folder.join("hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let hook = hooks.join("pre-receive");
    std::fs::write(&hook, HOOK).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    hooks
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
    let hooks = install_hook(dir.path());
    let client = Repository::open_or_create(&dir.path().join("client.git"), "requests").unwrap();
    let gate = Repository::open_receiving(&dir.path().join("gate.git"), "requests", &hooks).unwrap();
    Setup { dir, client, gate, signer }
}

impl Setup {
    fn commit(&self, requests: &[queue::Request]) -> String {
        self.client.commit_files(&files(requests), &queue::message::of_requests(requests), &self.signer, "web1").unwrap()
    }

    /// Pushes and gives what the check said, or git where it did not ask the hook; and whether git took it.
    fn push(&self, refspec: &str) -> (bool, String) {
        let (asked, verdict) = (self.dir.path().join("asked"), self.dir.path().join("verdict"));
        let _ = std::fs::remove_file(&verdict);
        let (client, gate) = (self.client.path().to_owned(), self.gate.path().to_str().unwrap().to_owned());
        let refspec = refspec.to_owned();
        let pushing = std::thread::spawn(move || -> Output { git(&client, &["push", "-q", &gate, &refspec]) });
        while !asked.exists() && !pushing.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let said = asked.exists().then(|| {
            let checked = self.check(&std::fs::read_to_string(&asked).unwrap());
            let new = verdict.with_extension("new");
            std::fs::write(&new, if checked.is_ok() { "0\n" } else { "1\n" }).unwrap();
            std::fs::rename(new, &verdict).unwrap();
            checked.unwrap_or_else(|said| said)
        });
        let output = pushing.join().unwrap();
        let _ = std::fs::remove_file(&asked);
        (output.status.success(), said.unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// What git told the hook, checked as the gate does it, while the objects are in quarantine.
    fn check(&self, asked: &str) -> Result<String, String> {
        let (quarantine, line) = asked.split_once('\n').unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        let [old, new, "refs/heads/requests"] = words[..] else { panic!("{line}") };
        let old = (!old.bytes().all(|b| b == b'0')).then_some(old);
        // Git makes none where nothing new comes.
        let quarantine = (!quarantine.is_empty()).then(|| self.gate.path().join(quarantine));
        let key = queue::signature::parse_public_key(&public(self.signer.public())).unwrap();
        let start = Instant::now();
        let repository = Repository::open_with_quarantine(self.gate.path(), "requests", quarantine.as_deref()).unwrap();
        let last_seq = repository.last_seq().unwrap();
        match check_push(&repository, old, new, &name("web1"), &name("node1"), &[key], last_seq) {
            Ok(checked) => {
                Ok(format!("{} requests up to {} in {} ms", checked.requests.len(), checked.last_seq, start.elapsed().as_millis()))
            }
            Err(error) => Err(error.one_line()),
        }
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
