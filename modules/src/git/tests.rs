//! Both halves and the way back against real repositories, without a network.

mod cut_off;

use super::client::CLIENT;
use super::server::{Source, fetch_from};
use super::{mirror_name, mirrors_size};
use crate::testing::{Node, claim, claim_of, config, git, is_stored, local, restore_context};
use crate::{ClientContext, ClientModule, Fetched, PreparedRequest, RestoreReport, RestoreSource};
use base::{At, Claim, Dataset, Kind, Payload, RequestId, Result, Sha256, Silent, process};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use transport::{FetchOutcome, GitFetch};

/// What is restored, by its name.
const SNAPSHOT: &str = "20261120T031500Z-3f9a1c7e";

/// A repository on this machine in the place of one behind ssh.
struct Local(PathBuf);

impl Source for Local {
    fn list(&self, time: Duration) -> Result<Vec<u8>> {
        let mut command = process::git();
        command.args(["ls-remote", "--symref", "--"]).arg(&self.0);
        process::run_ok(command, 1 << 24, time)
    }

    fn fetch(&self, repository: &Path, refspecs: &[String], options: GitFetch) -> Result<FetchOutcome> {
        let mut command = process::git();
        command
            .args(["-c", "fetch.unpackLimit=1", "-c", "protocol.version=2", "--git-dir"])
            .arg(repository)
            .args(["fetch", "--quiet", "--no-tags", if options.heads { "--write-fetch-head" } else { "--no-write-fetch-head" }, "--"])
            .arg(&self.0)
            .args(refspecs);
        let output = process::run(command, 1 << 20, options.time)?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(if output.status.success() {
            FetchOutcome::Fetched
        } else if words.contains("not our ref") {
            FetchOutcome::Gone(words)
        } else if words.contains("invalid index-pack output") {
            // As over ssh: the source was reached, and git was not satisfied.
            return Err(base::Error::failed(words));
        } else {
            return Err(base::Error::not_now(words));
        })
    }

    fn lfs_list(&self, _time: Duration) -> Result<Vec<u8>> {
        Ok(std::fs::read(self.0.join(".git/lfs/list")).unwrap_or_default())
    }

    fn lfs_object(&self, id: &Sha256, _size: u64, to: &mut dyn Write) -> Result<bool> {
        match std::fs::read(super::lfs::place(&self.0.join(".git"), id)) {
            Ok(bytes) => to.write_all(&bytes).at("write", "x").map(|()| true),
            Err(_) => Ok(false),
        }
    }
}

struct Setup {
    folder: tempfile::TempDir,
    node: Node,
    dataset: Dataset,
    seq: u64,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("a repo");
        std::fs::create_dir(&path).unwrap();
        git(&path, &["init", "-q"]);
        let dataset = Dataset::new("git", path.join(".git").to_str().unwrap()).unwrap();
        Self { folder, node: Node::new(), dataset, seq: 0 }
    }

    /// The work tree.
    fn path(&self) -> &Path {
        Path::new(self.dataset.path()).parent().unwrap()
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(self.path(), arguments)
    }

    fn commit(&self, text: &str) -> String {
        std::fs::write(self.path().join("file"), text).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", text]);
        self.git(&["rev-parse", "HEAD"]).trim().into()
    }

    fn prepare(&self) -> PreparedRequest {
        let config = config(&self.folder.path().join("state"), "", "");
        let context = ClientContext {
            config: &config,
            node: &config.nodes[0],
            id: &RequestId::generate().unwrap(),
            tags: &[],
            heal: false,
            monitor: &Silent,
            frozen: None,
            parts: None,
        };
        CLIENT.prepare(&context, &self.dataset).unwrap()
    }

    fn claim(&mut self, prepared: &PreparedRequest) -> Claim {
        self.seq += 1;
        claim(&self.dataset, prepared.payload, self.seq)
    }

    fn send(&self, claim: &Claim, list: Option<&[u8]>) -> Fetched {
        self.node.with(|context| fetch_from(&Local(self.path().into()), context, claim, list)).unwrap()
    }

    /// One backup from end to end; gives the list.
    fn back_up(&mut self) -> (Vec<u8>, Fetched) {
        let prepared = self.prepare();
        let claim = self.claim(&prepared);
        self.node.later += 1;
        let list = prepared.attachment.unwrap();
        let fetched = self.send(&claim, Some(&list));
        if is_stored(&fetched) {
            git(&self.mirror(), &["fsck", "--full", "--strict"]);
            assert_eq!(git(&self.mirror(), &["cat-file", "blob", &format!("refs/nightsafe/states/{}", claim.id)]).as_bytes(), list);
            let Fetched::Stored { refs, snapshot, .. } = &fetched else { panic!() };
            assert_eq!((*refs, snapshot.as_deref()), (Some(Sha256::of(&list)), Some(claim.id.as_str())));
            assert!(!self.node.store.incoming(&claim.id).exists());
        }
        (list, fetched)
    }

    fn mirror(&self) -> PathBuf {
        self.node.mirrors().join(mirror_name(&self.dataset))
    }

    fn mirrored(&self) -> String {
        git(&self.mirror(), &["for-each-ref", "--format=%(objectname) %(refname)"])
            .lines()
            .filter(|line| !line.contains("refs/nightsafe/"))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    fn restore(&self, list: &[u8], name: &str) -> Result<(PathBuf, RestoreReport)> {
        let target = self.folder.path().join(name);
        let report = CLIENT.restore(
            &restore_context(&self.dataset, &target),
            RestoreSource::Mirror { from: local(&self.mirror()), snapshot: SNAPSHOT.parse().unwrap(), refs: list.to_vec() },
        )?;
        Ok((target, report))
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The lines of a list that are refs.
fn refs_of(list: &[u8]) -> String {
    text(list).lines().skip(1).filter(|line| !line.starts_with("left-out ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_state_can_be_had_again() {
    let mut setup = Setup::new();
    let first = setup.commit("one");
    setup.git(&["branch", "a"]);
    setup.git(&["tag", "-a", "v1", "-m", "first"]);
    setup.git(&["update-ref", "refs/kept/x", "HEAD"]);
    let tag = setup.git(&["rev-parse", "v1"]).trim().to_owned();
    let (list, fetched) = setup.back_up();
    assert_eq!(
        text(&list),
        format!("HEAD refs/heads/main\nleft-out 1\n{first} refs/heads/a\n{first} refs/heads/main\n{tag} refs/tags/v1\n")
    );
    let Fetched::Stored { bytes_fetched, changed, .. } = &fetched else { panic!("{fetched:?}") };
    assert!(*bytes_fetched > 100 && changed.len() == 4 && changed[1].ends_with("is new"), "{fetched:?}");
    assert!(changed[0].starts_with("of the source, 1 ref below refs/kept/"), "{fetched:?}");
    assert_eq!(setup.mirrored(), refs_of(&list));
    setup.git(&["update-ref", "-d", "refs/kept/x"]);
    assert!(!setup.mirror().join("objects/info/alternates").exists());
    assert_eq!(std::fs::read_to_string(setup.mirror().join("nightsafe-dataset")).unwrap().trim_end(), setup.dataset.to_string());

    // Nothing new, then: forced, renamed to a folder of its own name, moved tag, detached HEAD.
    assert!(matches!(setup.back_up().1, Fetched::Stored { bytes_fetched: 0, ref changed, .. } if changed.is_empty()));
    setup.git(&["branch", "-D", "a"]);
    setup.git(&["branch", "a/b"]);
    setup.git(&["tag", "-f", "-a", "v1", "-m", "second"]);
    setup.git(&["commit", "-q", "--amend", "-m", "forced"]);
    let forced = setup.git(&["rev-parse", "HEAD"]).trim().to_owned();
    setup.git(&["checkout", "-q", "--detach"]);
    let (later, fetched) = setup.back_up();
    assert!(is_stored(&fetched), "{fetched:?}");
    assert!(text(&later).starts_with(&format!("HEAD {forced}\n{first} refs/heads/a/b\n{forced} refs/heads/main\n")));
    let mirrored = setup.mirrored();
    for kept in [
        format!("{first} refs/kept/20270115T080003Z/heads/a\n"),
        format!("{first} refs/kept/20270115T080003Z/heads/main\n"),
        format!("{tag} refs/kept/20270115T080003Z/tags/v1\n"),
    ] {
        assert!(mirrored.contains(&kept), "{mirrored}");
    }
    assert_eq!(std::fs::read_to_string(setup.mirror().join("HEAD")).unwrap().trim(), forced);

    // A detached HEAD that nothing else leads to is kept when it goes; and everything goes.
    let lost = setup.commit("on no branch");
    setup.back_up();
    setup.git(&["checkout", "-q", "main"]);
    setup.git(&["checkout", "-q", "--orphan", "other"]);
    for name in ["refs/heads/main", "refs/heads/a/b", "refs/tags/v1"] {
        setup.git(&["update-ref", "-d", name]);
    }
    let (none, fetched) = setup.back_up();
    assert!(is_stored(&fetched) && text(&none) == "HEAD refs/heads/other\n", "{fetched:?}");
    assert!(setup.mirrored().contains(&format!("{lost} refs/kept/20270115T080005Z/HEAD\n")));

    for (n, list) in [list, later, none].iter().enumerate() {
        let (target, report) = setup.restore(list, &format!("back{n}")).unwrap();
        let refs = refs_of(list);
        assert_eq!(git(&target, &["for-each-ref", "--format=%(objectname) %(refname)"]), refs);
        assert_eq!(report.entries as usize, refs.lines().count());
        git(&target, &["fsck", "--full", "--strict"]);
        assert!(git(&target, &["config", "core.bare"]).contains("true"));
        assert!(!target.join("objects/info/alternates").exists());
    }
    assert_eq!(git(&setup.folder.path().join("back0"), &["cat-file", "blob", "HEAD:file"]), "one");
    assert_eq!(setup.restore(b"HEAD -\n", "back0").unwrap_err().kind(), Kind::Refused);
    assert!(setup.restore(format!("HEAD -\n{} refs/heads/x\n", "1".repeat(40)).as_bytes(), "absent").is_err());
}

#[test]
fn what_was_signed_is_what_is_fetched() {
    let mut setup = Setup::new();
    let first = setup.commit("one");
    let prepared = setup.prepare();
    let list = prepared.attachment.clone().unwrap();
    // A push comes in between.
    let second = setup.commit("two");
    let old = setup.claim(&prepared);
    assert!(is_stored(&setup.send(&old, Some(&list))));
    assert!(setup.mirrored().contains(&first) && !setup.mirrored().contains(&second));
    // The same request again repeats the answer, also when its list must be asked for and is another one now.
    let before = setup.mirrored();
    assert!(is_stored(&setup.send(&old, Some(&list))));
    assert_eq!(setup.mirrored(), before);
    let again = setup.prepare();
    let asked = setup.claim(&again);
    assert!(is_stored(&setup.send(&asked, None)));
    assert!(setup.mirrored().contains(&second));
    // An older request that comes later moves nothing back.
    setup.git(&["checkout", "-q", "--detach", &first]);
    let side = setup.commit("side");
    assert!(is_stored(&setup.send(&asked, None)), "repeated, its list is in the mirror");
    let aside = setup.prepare();
    let late = claim(&setup.dataset, aside.payload, 1);
    let shown = |setup: &Setup| setup.mirrored().lines().filter(|line| !line.contains("refs/kept/")).map(str::to_owned).collect::<Vec<_>>();
    let before = shown(&setup);
    assert!(is_stored(&setup.send(&late, aside.attachment.as_deref())));
    assert_eq!(shown(&setup), before);
    assert!(setup.mirrored().contains(&format!("{side} refs/kept/")));
    // The list is asked for, and is not the one that was signed.
    let stale = setup.claim(&prepared);
    assert!(matches!(setup.send(&stale, None), Fetched::Failed { reason } if reason.contains("submit it again")));
    // What was signed is gone.
    let gone = format!("HEAD -\n{} refs/heads/x\n", "1".repeat(40)).into_bytes();
    let claim_gone = claim(&setup.dataset, Payload::Refs(Sha256::of(&gone)), 50);
    assert!(matches!(setup.send(&claim_gone, Some(&gone)), Fetched::Failed { reason } if reason.contains("submit it again")));
}

#[test]
fn what_breaks_a_rule_is_refused_and_moves_nothing() {
    let mut setup = Setup::new();
    let first = setup.commit("one");
    setup.git(&["tag", "-a", "v1", "-m", "t"]);
    let tag = setup.git(&["rev-parse", "v1"]).trim().to_owned();
    let tree = setup.git(&["rev-parse", "HEAD^{tree}"]).trim().to_owned();
    setup.back_up();
    let before = setup.mirrored();
    let lists = [
        format!("HEAD -\n{tag} refs/heads/x\n"),
        format!("HEAD -\n{tree} refs/heads/x\n"),
        format!("HEAD -\n{first} refs/kept/x\n"),
        format!("HEAD -\n{first} refs/nightsafe/states/x\n"),
        format!("HEAD -\n{first} refs/heads/../../x\n"),
        format!("HEAD refs/tags/absent\n{first} refs/heads/x\n"),
        "HEAD ../../x\n".into(),
        String::new(),
    ];
    for list in lists {
        let claim = claim(&setup.dataset, Payload::Refs(Sha256::of(list.as_bytes())), 9);
        let fetched = setup.send(&claim, Some(list.as_bytes()));
        assert!(matches!(fetched, Fetched::Refused { .. }), "{list:?}: {fetched:?}");
    }
    let good = format!("HEAD -\n{first} refs/heads/x\n");
    let other = claim(&setup.dataset, Payload::Refs(Sha256::of(b"other")), 9);
    assert!(matches!(setup.send(&other, Some(good.as_bytes())), Fetched::Refused { .. }));
    let wrong = claim(&setup.dataset, Payload::Nothing, 9);
    assert!(matches!(setup.send(&wrong, Some(good.as_bytes())), Fetched::Refused { .. }));
    // A ref to a tree is odd and allowed; a repository that is over its quota is not.
    let odd = format!("HEAD -\n{tree} refs/odd/tree\n");
    setup.commit("more");
    setup.node.quota = Some(mirrors_size(&setup.node.mirrors()).unwrap() + setup.node.store.bytes_used().unwrap());
    assert!(matches!(setup.back_up().1, Fetched::Refused { reason, .. } if reason.contains("quota")));
    assert_eq!(setup.mirrored(), before);
    setup.node.quota = None;
    let claim_odd = claim_of(RequestId::generate().unwrap(), &setup.dataset, Payload::Refs(Sha256::of(odd.as_bytes())), 10);
    assert!(is_stored(&setup.send(&claim_odd, Some(odd.as_bytes()))));
}

#[test]
fn a_history_that_is_not_whole_is_not_taken() {
    let mut setup = Setup::new();
    setup.commit("one");
    setup.back_up();
    // The commit alone is in the mirror, as a hostile source could have sent it beside something else.
    let lone = setup.commit("two");
    let raw = setup.git(&["cat-file", "commit", &lone]);
    let written = super::mirror::feed_ok(
        super::mirror::git(&setup.mirror(), &["hash-object", "-w", "-t", "commit", "--stdin"]),
        raw.into_bytes(),
        100,
        Duration::from_secs(10),
    )
    .unwrap();
    assert_eq!(text(&written).trim(), lone);
    // It is fetched all the same, with what belongs to it.
    let (_, fetched) = setup.back_up();
    assert!(matches!(fetched, Fetched::Stored { bytes_fetched: 1.., .. }), "{fetched:?}");
}

/// Git takes what is said to be cut off without a complaint, and without having looked whether the rest is there.
#[test]
fn a_source_that_says_its_history_is_cut_off_is_refused() {
    let mut setup = Setup::new();
    setup.commit("one");
    setup.commit("two");
    let prepared = setup.prepare();
    let claim = setup.claim(&prepared);
    let list = prepared.attachment.unwrap();
    let shallow = setup.path().join(".git/shallow");
    std::fs::write(&shallow, setup.git(&["rev-parse", "HEAD"])).unwrap();
    let fetched = setup.send(&claim, Some(&list));
    assert!(matches!(&fetched, Fetched::Refused { reason, .. } if reason.contains("not whole")), "{fetched:?}");
    std::fs::remove_file(&shallow).unwrap();
    assert!(is_stored(&setup.back_up().1));
}

#[test]
fn old_history_comes_back() {
    let mut setup = Setup::new();
    setup.commit("one");
    let tree = setup.git(&["rev-parse", "HEAD^{tree}"]);
    let raw = format!("tree {}\nauthor a <a@b>1 +0000\ncommitter a b@c> 99999999999999999999 +00000\n\nold\n", tree.trim());
    let command = super::mirror::git(Path::new(setup.dataset.path()), &["hash-object", "-w", "-t", "commit", "--literally", "--stdin"]);
    let id = super::mirror::feed_ok(command, raw.into_bytes(), 100, Duration::from_secs(10)).unwrap();
    setup.git(&["update-ref", "refs/heads/old", text(&id).trim()]);
    let prepared = setup.prepare();
    let claim = setup.claim(&prepared);
    let list = prepared.attachment.unwrap();
    assert!(is_stored(&setup.send(&claim, Some(&list))));
    let (target, report) = setup.restore(&list, "back").unwrap();
    assert_eq!(report.entries, 2);
    assert_eq!(git(&target, &["rev-parse", "refs/heads/old"]).as_bytes(), id);
}

#[test]
fn a_repository_that_shows_another_one_is_not_listed() {
    let setup = Setup::new();
    setup.commit("one");
    let root = setup.folder.path().canonicalize().unwrap();
    let config = config(&root.join("state"), "", "");
    let other = root.join("other");
    std::fs::create_dir_all(other.join("objects/pack")).unwrap();
    std::fs::create_dir_all(other.join("refs")).unwrap();
    std::fs::write(other.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    std::os::unix::fs::symlink(Path::new(setup.dataset.path()).join("refs/heads"), other.join("refs/heads")).unwrap();
    let context = ClientContext {
        config: &config,
        node: &config.nodes[0],
        id: &RequestId::generate().unwrap(),
        tags: &[],
        heal: false,
        monitor: &Silent,
        frozen: None,
        parts: None,
    };
    let error = CLIENT.prepare(&context, &Dataset::new("git", other.to_str().unwrap()).unwrap()).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{}", error.render());
}

#[test]
fn only_news_travel_and_packs_are_put_together() {
    let mut setup = Setup::new();
    let mut state = 1u32;
    let noise: Vec<u8> = (0..400_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect();
    std::fs::write(setup.path().join("large"), noise).unwrap();
    let first = setup.commit("0");
    assert!(matches!(setup.back_up().1, Fetched::Stored { bytes_fetched: 400_000.., .. }));
    for n in 1..4 {
        setup.commit(&n.to_string());
        if n == 3 {
            setup.git(&["reset", "-q", "--hard", &first]);
        }
        assert!(matches!(setup.back_up().1, Fetched::Stored { bytes_fetched: 0..10_000, .. }));
    }
    let mirror = super::mirror::Mirror::open_or_create(&setup.mirror(), &setup.dataset, Duration::from_secs(60)).unwrap();
    let before = setup.mirrored();
    let objects = |setup: &Setup| git(&setup.mirror(), &["cat-file", "--batch-all-objects", "--batch-check"]);
    let all = objects(&setup);
    mirror.tidy(0).unwrap();
    let packs = std::fs::read_dir(setup.mirror().join("objects/pack"))
        .unwrap()
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "pack"));
    assert!(packs.count() < 3);
    assert_eq!((setup.mirrored(), objects(&setup)), (before, all));
    git(&setup.mirror(), &["fsck", "--full", "--strict"]);
}

#[test]
fn sources_that_cannot_be_backed_up_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let config = config(&root.join("state"), "", "");
    let prepare = |path: &Path| {
        let context = ClientContext {
            config: &config,
            node: &config.nodes[0],
            id: &RequestId::generate().unwrap(),
            tags: &[],
            heal: false,
            monitor: &Silent,
            frozen: None,
            parts: None,
        };
        CLIENT.prepare(&context, &Dataset::new("git", path.to_str().unwrap()).unwrap())
    };
    let make = |name: &str, more: &[&str]| {
        git(&root, &[&["init", "-q"], more, &[name]].concat());
        root.join(name)
    };
    let empty = make("empty.git", &["--bare"]);
    assert_eq!(prepare(&empty).unwrap().attachment.unwrap(), b"HEAD -\n");
    let sha256 = make("sha256", &["--object-format=sha256"]);
    assert!(prepare(&sha256.join(".git")).unwrap_err().one_line().contains("SHA-256"));
    let plain = make("plain", &[]);
    git(&plain, &["commit", "-q", "--allow-empty", "-m", "a"]);
    git(&plain, &["commit", "-q", "--allow-empty", "-m", "b"]);
    git(&root, &["clone", "-q", "--depth=1", &format!("file://{}", plain.display()), "shallow"]);
    assert!(prepare(&root.join("shallow/.git")).unwrap_err().one_line().contains("shallow"));
    git(&plain, &["worktree", "add", "-q", "../tree"]);
    std::fs::create_dir(root.join("folder")).unwrap();
    std::os::unix::fs::symlink(&plain, root.join("link")).unwrap();
    std::fs::create_dir(root.join("linked")).unwrap();
    std::os::unix::fs::symlink(plain.join(".git"), root.join("linked/.git")).unwrap();
    assert!(prepare(&plain).unwrap_err().render().contains("plain/.git"));
    for bad in ["tree", "plain/.git/worktrees/tree", "folder", "link", "link/.git", "linked/.git", "absent"] {
        assert!(prepare(&root.join(bad)).is_err(), "{bad}");
    }
    // Git refuses repositories of others unless it is told; root may give one away to try it.
    if rustix::process::getuid().is_root() {
        for owned in [&plain, &empty] {
            let mut command = process::command("chown");
            command.args(["-R", "65534:65534"]).arg(owned);
            process::run_ok(command, 100, Duration::from_secs(10)).unwrap();
            assert!(prepare(&if owned == &plain { plain.join(".git") } else { empty.clone() }).is_ok());
        }
    }
    let dataset = Dataset::new("git", root.join("folder").to_str().unwrap()).unwrap();
    assert!(CLIENT.check(&config, &dataset).is_err());
    assert!(CLIENT.check(&config, &Dataset::new("git", plain.join(".git").to_str().unwrap()).unwrap()).is_ok());
    assert!(CLIENT.check(&config, &Dataset::new("git", "name").unwrap()).is_err());
}

/// What the source sends is right, and what is here is damaged: that is no reason to refuse anything.
#[test]
fn damage_of_the_mirror_is_not_the_sources() {
    let mut setup = Setup::new();
    let content: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    setup.commit(&content);
    assert!(is_stored(&setup.back_up().1));
    let packs = setup.mirror().join("objects/pack");
    let pack = std::fs::read_dir(&packs).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.extension().unwrap() == "pack");
    let pack = pack.unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    setup.commit("2");
    let (list, fetched) = setup.back_up();
    let Fetched::Stored { changed, .. } = &fetched else { panic!("{fetched:?}") };
    let mirror = setup.mirror().display().to_string();
    assert!(changed.iter().any(|line| line.contains(&mirror) && line.contains("is damaged") && line.contains("anew")), "{changed:?}");
    setup.restore(&list, "back").unwrap();
    assert_eq!(crate::git::upkeep::check_repository(&setup.mirror(), Duration::from_secs(60)).unwrap(), Vec::<String>::new());
}

/// What git-lfs keeps beside the source: no size, name or number that it states is believed.
#[test]
fn objects_of_lfs_are_held_against_their_names_and_bounds() {
    let mut setup = Setup::new();
    let (good, lies) = (Sha256::of(b"good"), Sha256::of(b"lies"));
    let beside = Path::new(setup.dataset.path()).to_owned();
    for (id, text) in [(&good, "good"), (&lies, "LIES")] {
        let place = super::lfs::place(&beside, id);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, text).unwrap();
    }
    let list = |text: String| std::fs::write(beside.join("lfs/list"), text).unwrap();
    setup.commit("one");
    list(format!("{} 4\n", good.hex()));
    setup.node.quota = Some(3);
    assert!(
        matches!(setup.back_up().1, Fetched::Refused { reason, .. } if reason.contains("over quota: what git-lfs keeps needs 4 bytes"))
    );
    setup.node.quota = None;
    let (_, fetched) = setup.back_up();
    let Fetched::Stored { changed, bytes_fetched, bytes_stored, .. } = &fetched else { panic!("{fetched:?}") };
    assert!(changed.len() == 1 && *bytes_fetched > 4 && *bytes_stored > 4, "{fetched:?}");
    assert_eq!(std::fs::read(super::lfs::place(&setup.mirror(), &good)).unwrap(), b"good");
    assert!(mirrors_size(&setup.node.mirrors()).unwrap() > super::mirror::packs_size(&setup.mirror()).unwrap());
    setup.commit("two");
    list(format!("{} 4\n{} 4\n{} 4\n", good.hex(), lies.hex(), Sha256::of(b"gone").hex()));
    let (_, fetched) = setup.back_up();
    let Fetched::Stored { changed, .. } = &fetched else { panic!("{fetched:?}") };
    assert_eq!(changed.len(), 3, "{changed:?}");
    assert!(changed.iter().any(|line| line.contains(&lies.hex()) && line.ends_with("it is not what its name says")), "{changed:?}");
    assert!(changed.iter().any(|line| line.ends_with("it is not there")), "{changed:?}");
    assert!(!super::lfs::place(&setup.mirror(), &lies).exists());
    // A list that is none keeps nothing from coming.
    for bad in ["x", "abc 4", "\u{0}", "../../x 4", &format!("{} -1", good.hex()), &format!("{} 99999999999999999999999", good.hex())] {
        setup.commit(&format!("beside {bad:?}"));
        list(format!("{bad}\n"));
        assert!(is_stored(&setup.back_up().1), "{bad:?}");
    }
}
