//! Archives from one end to the other without a network: prepared, fetched, refused, settled, restored.

use super::dump::dump;
use super::server::{Exports, Way, fetch_from};
use crate::testing::{Node, claim_of, config, is_stored, restore_context};
use crate::{ClientContext, Fetched, Module, PreparedRequest, RestoreSource, client_module, settle};
use age::secrecy::ExposeSecret;
use archive::epoch::IdentityFile;
use archive::manifest::Manifest;
use archive::snapshot::SnapshotReader;
use base::config::ClientConfig;
use base::{Blake3, Claim, Dataset, Kind, Monitor, Name, Payload, RequestId, Result, Sha256, Silent};
use queue::receipt::{Outcome, Receipt};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The export folder itself in the place of sftp.
struct Folder(PathBuf);

impl Exports for Folder {
    fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        Ok(std::fs::read(self.0.join(name)).ok().inspect(|bytes| assert!(bytes.len() <= limit)))
    }

    fn pull(&self, name: &str, size: u64, sink: &mut dyn Write, _monitor: &dyn Monitor) -> Result<Option<u64>> {
        let Ok(bytes) = std::fs::read(self.0.join(name)) else { return Ok(None) };
        if bytes.len() as u64 != size {
            return Err(base::Error::refused("another size than stated"));
        }
        sink.write_all(&bytes).unwrap();
        Ok(Some(size))
    }

    fn has(&self, name: &str) -> Result<bool> {
        Ok(self.0.join(name).exists())
    }
}

/// A client and a node without a network between them.
pub(crate) struct Setup {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) config: ClientConfig,
    identities: IdentityFile,
    node: Node,
    pub(crate) dataset: Dataset,
    seq: u64,
}

impl Setup {
    pub(crate) fn new(module: &str, path: Option<&str>, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let identity = age::x25519::Identity::generate();
        let config = config(&root.join("state"), &identity.to_public().to_string(), &more.replace("ROOT", root.to_str().unwrap()));
        let identities = IdentityFile::parse(format!("{}\n", identity.to_string().expose_secret()).as_bytes()).unwrap();
        std::fs::create_dir(root.join("data")).unwrap();
        let dataset = Dataset::new(module, path.unwrap_or(root.join("data").to_str().unwrap())).unwrap();
        Self { folder, config, identities, node: Node::new(), dataset, seq: 0 }
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    pub(crate) fn export(&self) -> PathBuf {
        self.config.export_path(&Name::new("node1").unwrap())
    }

    pub(crate) fn exported(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.export()).map(|files| files.map(|file| file.unwrap().path()).collect()).unwrap_or_default()
    }

    pub(crate) fn module(&self) -> Module {
        client_module(Some(&self.config), self.dataset.module()).unwrap()
    }

    pub(crate) fn try_prepare(&mut self) -> Result<(PreparedRequest, Claim)> {
        let id = RequestId::generate().unwrap();
        let context = ClientContext {
            config: &self.config,
            node: &self.config.nodes[0],
            id: &id,
            tags: &["tag".into()],
            heal: false,
            monitor: &Silent,
            frozen: None,
            parts: None,
        };
        let prepared = self.module().prepare(&context, &self.dataset)?;
        self.seq += 1;
        let claim = claim_of(id, &self.dataset, prepared.payload, self.seq);
        Ok((prepared, claim))
    }

    pub(crate) fn prepare(&mut self) -> (PreparedRequest, Claim) {
        self.try_prepare().unwrap()
    }

    pub(crate) fn fetch(&self, claim: &Claim, attachment: Option<&[u8]>) -> Fetched {
        let open = |_: Way| -> Result<Box<dyn Exports>> { Ok(Box::new(Folder(self.export()))) };
        self.node.with(|context| fetch_from(&open, context, claim, attachment, Instant::now())).unwrap()
    }

    pub(crate) fn settle(&self, claim: &Claim, fetched: &Fetched) {
        let (outcome, missing) = match fetched {
            Fetched::Stored { .. } => (Outcome::Stored, Vec::new()),
            Fetched::Refused { missing, .. } => (Outcome::Refused, missing.clone()),
            Fetched::Failed { .. } => (Outcome::Failed, Vec::new()),
        };
        let receipt = Receipt { missing, ..Receipt::plain(claim.node.clone(), claim, outcome, None, claim.submitted) };
        for _ in 0..2 {
            settle(&self.config, &self.config.nodes[0], &claim.id, &claim.dataset, &receipt).unwrap();
        }
        assert!(self.exported().is_empty());
    }

    /// The packs that the node has.
    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.node.folder.path().join("packs")).unwrap().map(|file| file.unwrap().path()).collect()
    }

    pub(crate) fn open(&self, claim: &Claim) -> SnapshotReader {
        let manifest = std::fs::read(self.node.folder.path().join("snapshots").join(claim.id.as_str()).join("manifest")).unwrap();
        SnapshotReader::open(Manifest::parse(&manifest).unwrap(), &self.identities, self.node.store.packs()).unwrap()
    }

    pub(crate) fn restore(&self, claim: &Claim, name: &str) -> PathBuf {
        let reader = self.open(claim);
        let target = self.folder.path().join(name);
        let report = self.module().restore(&restore_context(&self.dataset, &target), RestoreSource::Archive(reader)).unwrap();
        assert!(report.problems.is_empty() && report.entries > 0, "{report:?}");
        target
    }
}

fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ seed;
    let next = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        state.to_be_bytes()[0]
    };
    (0..size).map(|_| next(&mut state)).collect()
}

#[test]
fn files_go_and_come_back_and_only_news_travel() {
    let mut setup = Setup::new("files", None, "");
    std::fs::write(setup.data("a"), noise(3_000_000, 1)).unwrap();
    std::fs::create_dir(setup.data("folder")).unwrap();
    std::fs::write(setup.data("folder/ä"), b"small").unwrap();
    setup.module().check(&setup.config, &setup.dataset).unwrap();
    let (prepared, first) = setup.prepare();
    let fetched = setup.fetch(&first, prepared.attachment.as_deref());
    let Fetched::Stored { bytes_fetched, bytes_stored, snapshot, .. } = &fetched else { panic!("{fetched:?}") };
    assert!(*bytes_fetched > 3_000_000 && bytes_stored >= bytes_fetched && snapshot.as_deref() == Some(first.id.as_str()));
    // Done twice, nothing more is done, and the answer is the same one.
    assert_eq!(setup.fetch(&first, prepared.attachment.as_deref()), fetched);
    setup.settle(&first, &fetched);

    std::fs::write(setup.data("b"), noise(10_000, 2)).unwrap();
    let (prepared, second) = setup.prepare();
    // The manifest may also lie beside the packs.
    std::fs::write(setup.export().join(format!("{}.manifest", second.id)), prepared.attachment.unwrap()).unwrap();
    let fetched = setup.fetch(&second, None);
    assert!(matches!(fetched, Fetched::Stored { bytes_fetched: 10_000..1_000_000, .. }), "{fetched:?}");
    setup.settle(&second, &fetched);

    // Nothing is new: no pack travels, and the client need not be reached.
    let (prepared, third) = setup.prepare();
    let unreachable = |_: Way| -> Result<Box<dyn Exports>> { Err(base::Error::not_now("away")) };
    let fetched = setup.node.with(|context| fetch_from(&unreachable, context, &third, prepared.attachment.as_deref(), Instant::now()));
    assert!(setup.exported().is_empty());
    assert!(is_stored(&fetched.unwrap()));
    for (claim, name) in [(&first, "one"), (&second, "two")] {
        let back = setup.restore(claim, name);
        assert!(std::fs::read(back.join("a")).unwrap() == noise(3_000_000, 1));
        assert_eq!(std::fs::read(back.join("folder/ä")).unwrap(), b"small");
        assert_eq!(back.join("b").exists(), name == "two");
    }
}

#[test]
fn what_breaks_a_rule_is_refused_and_nothing_is_kept() {
    let mut setup = Setup::new("files", None, "");
    std::fs::write(setup.data("a"), noise(100_000, 1)).unwrap();
    let (prepared, claim) = setup.prepare();
    let manifest = prepared.attachment.unwrap();
    let other = RequestId::generate().unwrap();
    let of = |change: &dyn Fn(&mut Claim)| {
        let mut changed = claim.clone();
        change(&mut changed);
        changed
    };
    let garbage = b"{}\n".to_vec();
    let cases: Vec<(&str, Claim, &[u8])> = vec![
        ("another digest", of(&|c| c.payload = Payload::Manifest(Blake3::of(b"x"))), &manifest),
        ("another kind", of(&|c| c.payload = Payload::Refs(Sha256::of(&manifest))), &manifest),
        ("nothing", of(&|c| c.payload = Payload::Nothing), &manifest),
        ("another id", of(&|c| c.id = other.clone()), &manifest),
        ("another client", of(&|c| c.client = Name::new("web2").unwrap()), &manifest),
        ("another node", of(&|c| c.node = Name::new("node2").unwrap()), &manifest),
        ("another dataset", of(&|c| c.dataset = Dataset::new("files", "/etc").unwrap()), &manifest),
        ("garbage", of(&|c| c.payload = Payload::Manifest(Blake3::of(&garbage))), &garbage),
    ];
    for (name, claim, attachment) in cases {
        let fetched = setup.fetch(&claim, Some(attachment));
        assert!(matches!(&fetched, Fetched::Refused { missing, .. } if missing.is_empty()), "{name}: {fetched:?}");
    }
    assert!(matches!(setup.fetch(&claim, None), Fetched::Failed { .. }), "the manifest is not in the folder");
    setup.node.quota = Some(50_000);
    assert!(matches!(setup.fetch(&claim, Some(&manifest)), Fetched::Refused { reason, .. } if reason.contains("quota")));
    setup.node.quota = None;
    let pack = setup.exported().into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let good = std::fs::read(&pack).unwrap();
    let flipped = [&good[..good.len() - 1], &[good[good.len() - 1] ^ 1]].concat();
    for bad in [flipped, [&good[..], b"x"].concat(), good[1..].to_vec(), Vec::new()] {
        std::fs::write(&pack, bad).unwrap();
        let fetched = setup.fetch(&claim, Some(&manifest));
        assert!(matches!(&fetched, Fetched::Refused { missing, .. } if missing.is_empty()), "{fetched:?}");
    }
    assert!(!setup.node.folder.path().join("snapshots").exists());
    std::fs::write(&pack, good).unwrap();
    assert!(is_stored(&setup.fetch(&claim, Some(&manifest))));
    // Away for a moment is no answer at all.
    let (prepared, claim) = {
        std::fs::write(setup.data("b"), noise(1000, 3)).unwrap();
        setup.prepare()
    };
    let unreachable = |_: Way| -> Result<Box<dyn Exports>> { Err(base::Error::not_now("away")) };
    let error =
        setup.node.with(|context| fetch_from(&unreachable, context, &claim, prepared.attachment.as_deref(), Instant::now())).unwrap_err();
    assert_eq!(error.kind(), Kind::NotNow);
}

#[test]
fn what_the_node_lost_is_sent_again() {
    let mut setup = Setup::new("files", None, "");
    std::fs::write(setup.data("a"), noise(200_000, 1)).unwrap();
    let (prepared, first) = setup.prepare();
    let fetched = setup.fetch(&first, prepared.attachment.as_deref());
    assert!(is_stored(&fetched));
    setup.settle(&first, &fetched);
    let packs = setup.node.folder.path().join("packs");
    let lost: Vec<PathBuf> = std::fs::read_dir(&packs).unwrap().map(|file| file.unwrap().path()).collect();
    for pack in &lost {
        std::fs::remove_file(pack).unwrap();
    }
    std::fs::write(setup.data("b"), b"new").unwrap();
    let (prepared, second) = setup.prepare();
    let fetched = setup.fetch(&second, prepared.attachment.as_deref());
    let Fetched::Refused { reason, missing } = &fetched else { panic!("{fetched:?}") };
    assert_eq!(reason, "missing");
    assert!(!missing.is_empty() && missing.iter().all(|pack| lost.contains(&packs.join(pack.hex()))));
    setup.settle(&second, &fetched);
    let (prepared, third) = setup.prepare();
    assert!(is_stored(&setup.fetch(&third, prepared.attachment.as_deref())));
    assert!(std::fs::read(setup.restore(&third, "back").join("a")).unwrap() == noise(200_000, 1));
}

/// Remembers what it was told.
#[derive(Default)]
struct Told(std::sync::Mutex<Vec<String>>);

impl Monitor for Told {
    fn problem(&self, error: &base::Error) {
        self.0.lock().unwrap().push(error.one_line());
    }
}

impl Setup {
    /// Prepares what `script` prints, run by a shell; `$0` is a file of this test's own.
    fn dump(&mut self, script: &str, limit: Duration, told: &Told) -> Result<(PreparedRequest, Claim)> {
        let mut command = base::process::command("sh");
        command.args(["-c", script]).arg(self.data("own"));
        self.prepare_with(|streams| dump(streams, "dump", command, "the thing", limit, told).map(drop))
    }

    fn prepare_with(&mut self, fill: impl FnOnce(&mut archive::backup::Streams<'_, '_>) -> Result<()>) -> Result<(PreparedRequest, Claim)> {
        let id = RequestId::generate().unwrap();
        let context = ClientContext {
            config: &self.config,
            node: &self.config.nodes[0],
            id: &id,
            tags: &[],
            heal: false,
            monitor: &Silent,
            frozen: None,
            parts: None,
        };
        let prepared = super::client::prepare(&context, &self.dataset, |spec| archive::backup::backup_streams(spec, fill))?;
        self.seq += 1;
        let claim = claim_of(id, &self.dataset, prepared.payload, self.seq);
        Ok((prepared, claim))
    }
}

/// Whether the process whose id is in the file `name` has ended.
fn has_ended(setup: &Setup, name: &str) -> bool {
    let pid = std::fs::read_to_string(setup.data(name)).unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    state.is_empty() || state.rsplit(") ").next().unwrap().starts_with('Z')
}

#[test]
fn a_dump_that_ends_badly_is_no_snapshot() {
    let mut setup = Setup::new("postgres", Some("shop"), "");
    let long = Duration::from_secs(600);
    for (script, word) in [
        ("head -c 300000 /dev/zero; echo 'relation is gone' >&2; exit 1", "relation is gone"),
        ("head -c 300000 /dev/zero; kill -9 $$", "signal: 9"),
        ("exit 3", "said nothing"),
        // Much on stderr does not stall it, and does not fill the memory.
        ("yes 'no, no' | head -c 10000000 >&2; exit 1", "no, no"),
        // Who holds the pipe, and has left the group, does not hold us up.
        ("setsid sleep 30 >/dev/null & echo $! > $0; echo bad >&2; exit 1", "bad"),
    ] {
        let told = Told::default();
        let before = Instant::now();
        let error = setup.dump(script, long, &told).unwrap_err();
        assert!(error.kind() == Kind::Failed && error.one_line().contains(word), "{}", error.one_line());
        assert!(error.one_line().contains("the thing") && told.0.lock().unwrap().is_empty() && before.elapsed() < long / 2);
        assert!(setup.exported().is_empty());
    }
    let mut absent = base::process::command("/nonexistent/pg_dump");
    absent.arg("x");
    let error = setup.prepare_with(|streams| dump(streams, "dump", absent, "the thing", long, &Silent).map(drop)).unwrap_err();
    assert!(error.one_line().contains("/nonexistent/pg_dump"), "{}", error.one_line());
}

#[test]
fn a_dump_that_hangs_is_ended_with_all_that_it_started() {
    let mut setup = Setup::new("postgres", Some("shop"), "");
    // With its output open, with its output closed, and with a child that goes on.
    for script in [
        "echo $$ > $0; echo some; echo 'waiting for a lock' >&2; sleep 1000",
        "echo $$ > $0; echo 'waiting for a lock' >&2; exec >&-; sleep 1000",
        "sleep 1000 & echo $! > $0; echo 'waiting for a lock' >&2; wait",
    ] {
        let error = setup.dump(script, Duration::from_secs(1), &Told::default()).unwrap_err();
        let line = error.one_line();
        assert!(line.contains("longer than 1s") && line.contains("waiting for a lock"), "{line}");
        assert!(has_ended(&setup, "own"), "{script}");
        assert!(setup.exported().is_empty());
    }
    // The time is over too when the program never stops writing.
    assert!(setup.dump("echo $$ > $0; cat /dev/zero", Duration::from_secs(1), &Told::default()).is_err());
    assert!(has_ended(&setup, "own"));
    // One that ended well leaves nothing behind either, and when the archive fails first it is ended at once.
    setup.dump("sleep 1000 >/dev/null 2>&1 & echo $! > $0; echo whole", Duration::from_secs(600), &Told::default()).unwrap();
    assert!(has_ended(&setup, "own"));
    let mut command = base::process::command("sh");
    command.args(["-c", "echo $$ > $0; cat /dev/zero"]).arg(setup.data("own"));
    let bad_name = setup.prepare_with(|streams| dump(streams, "../x", command, "the thing", Duration::from_secs(600), &Silent).map(drop));
    assert!(bad_name.is_err() && (!setup.data("own").exists() || has_ended(&setup, "own")));
}

#[test]
fn a_dump_ends_with_its_program_whoever_holds_its_output_open() {
    let mut setup = Setup::new("postgres", Some("shop"), "");
    // In its group, out of its group, and writing on out of its group, until nobody reads it.
    let left_group = "& while ! [ -s $0 ]; do sleep 0.01; done; echo whole";
    for (script, ended) in [
        ("sleep 1000 & echo $! > $0; echo whole", true),
        (&*format!("setsid sh -c 'echo $$ > $0; exec sleep 1000' $0 {left_group}"), false),
        (&*format!("setsid sh -c 'echo $$ > $0; exec yes' $0 {left_group}"), true),
    ] {
        let _ = std::fs::remove_file(setup.data("own"));
        let before = Instant::now();
        let (prepared, claim) = setup.dump(script, Duration::from_secs(600), &Told::default()).unwrap();
        assert!(before.elapsed() < Duration::from_secs(60), "{script}");
        if ended {
            while !has_ended(&setup, "own") {
                std::thread::sleep(Duration::from_millis(5));
            }
        } else {
            assert!(!has_ended(&setup, "own"), "{script}");
            let pid = std::fs::read_to_string(setup.data("own")).unwrap();
            let mut kill = base::process::command("kill");
            kill.args(["-9", pid.trim()]);
            base::process::run(kill, 100, Duration::from_secs(9)).unwrap();
        }
        assert!(is_stored(&setup.fetch(&claim, prepared.attachment.as_deref())));
        let content = std::fs::read(setup.restore(&claim, "back").join("dump")).unwrap();
        assert!(content.windows(6).any(|word| word == b"whole\n"), "{script}");
        std::fs::remove_dir_all(setup.folder.path().join("back")).unwrap();
    }
}

#[test]
fn a_dump_that_only_warns_is_stored_and_its_words_are_logged() {
    let mut setup = Setup::new("postgres", Some("shop"), "");
    let told = Told::default();
    let (prepared, claim) = setup.dump("echo data; echo 'warning: circular' >&2", Duration::from_secs(600), &told).unwrap();
    assert!(is_stored(&setup.fetch(&claim, prepared.attachment.as_deref())));
    assert_eq!(std::fs::read_to_string(setup.restore(&claim, "back").join("dump")).unwrap(), "data\n");
    let told = told.0.lock().unwrap();
    assert!(told.len() == 1 && told[0].contains("sh said") && told[0].contains("warning: circular"), "{told:?}");
}

#[test]
fn pg_dump_is_asked_in_a_way_that_no_name_changes() {
    let more = "[module.postgres]\nbin = \"ROOT/bin\"\nhost = \"/run/pg\"\npassfile = \"/etc/pgpass\"\n";
    let mut setup = Setup::new("postgres", Some("host=evil"), more);
    let bin = setup.folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let program = |name: &str, script: &str| {
        std::fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(bin.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    };
    let dump = |version: &str| {
        let words = "for word in \"$@\"; do echo \"$word\"; done; echo $PGPASSFILE";
        program("pg_dump", &format!("if [ \"$1\" = --version ]; then echo 'pg_dump (PostgreSQL) {version}'; else {words}; fi"));
    };
    program("psql", "echo 150018");
    dump("15.18");
    let (prepared, claim) = setup.prepare();
    assert!(is_stored(&setup.fetch(&claim, prepared.attachment.as_deref())));
    let said = std::fs::read_to_string(setup.restore(&claim, "back").join("dump")).unwrap();
    let expected =
        "--no-password\n-d\nhost='/run/pg' dbname='host=evil'\n--format=custom\n--compress=0\n--lock-wait-timeout=600000\n/etc/pgpass\n";
    assert_eq!(said, expected);
    // Older than the server: said before anything is dumped, with what to install.
    dump("13.4");
    let error = setup.try_prepare().unwrap_err();
    assert!(error.render().contains("15.18") && error.render().contains("postgresql-client-15"), "{}", error.render());
    program("psql", "echo 'FATAL:  no password supplied' >&2; exit 2");
    assert!(setup.try_prepare().unwrap_err().render().contains(".pgpass"));
    assert!(setup.module().check(&setup.config, &Dataset::new("postgres", &"x".repeat(64)).unwrap()).is_err());
}

#[test]
fn links_out_of_what_is_allowed_are_not_followed() {
    let mut setup = Setup::new("files", None, "");
    std::os::unix::fs::symlink("/etc", setup.data("link")).unwrap();
    let path = |setup: &Setup, name: &str| {
        Dataset::new("files", setup.folder.path().canonicalize().unwrap().join("data").join(name).to_str().unwrap()).unwrap()
    };
    for bad in ["link", "link/ssh", "absent"] {
        setup.dataset = path(&setup, bad);
        assert!(setup.try_prepare().is_err(), "{bad}");
    }
    setup.dataset = Dataset::new("files", "name").unwrap();
    assert!(setup.module().check(&setup.config, &setup.dataset).is_err());
}
