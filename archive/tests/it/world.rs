//! A client, its keyholder and a node's store in one folder, and what a tree looks like to lstat.

use archive::PackSource;
use archive::backup::{BackupSpec, Prepared, Source, backup_tree};
use archive::cache::{CachePlace, GRANULARITY};
use archive::epoch::{Epoch, IdentityFile, Secrets};
use archive::index::{Index, PackInfo};
use archive::manifest::Manifest;
use archive::part::Parts;
use archive::restore::{FileOptions, RestoreReport, RestoreSpec, restore_tree};
use archive::snapshot::SnapshotReader;
use archive::store::retention::Policy;
use archive::store::{By, Content, PruneRules, Quota, Stats, Store};
use base::{Blake3, Claim, Dataset, Name, Payload, Proof, Reason, RequestId, Sha256, Silent};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// A client, its keyholder, and a node's store, all in one folder.
pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) store: Store,
    identities: IdentityFile,
    epoch: Epoch,
    secrets: Secrets,
    made: u32,
    /// What is backed up.
    pub(crate) dataset: Dataset,
    /// When snapshots are received: so many days after the first day of this world.
    pub(crate) day: i64,
    /// Packs are closed at this size, if not at that of great ones.
    pub(crate) pack_size: Option<u64>,
}

/// No parts are made, but packs are as small as for a spool of this limit.
struct SmallPacks(u64);

impl Parts for SmallPacks {
    fn limit(&self) -> u64 {
        self.0
    }

    fn begin(&self, _: bool) {}

    fn reserve(&self, _: &BackupSpec<'_>, _: u64) -> base::Result<()> {
        Ok(())
    }

    fn closed(&self, _: &BackupSpec<'_>, _: &PackInfo, _: u64) -> base::Result<()> {
        Ok(())
    }

    fn unanswered(&self) -> base::Result<Vec<RequestId>> {
        Ok(Vec::new())
    }
}

impl World {
    pub(crate) fn new() -> Self {
        use age::secrecy::ExposeSecret;
        let dir = tempfile::tempdir().unwrap();
        let key = age::x25519::Identity::generate();
        let identity = dir.path().join("identity.txt");
        fs::write(&identity, key.to_string().expose_secret()).unwrap();
        for folder in ["export", "index", "source"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Self {
            store: Store::open(&dir.path().join("web1")).unwrap(),
            identities: IdentityFile::load(&identity).unwrap(),
            epoch: Epoch::current(&dir.path().join("epoch.toml"), &[key.to_public().to_string()], "2026-11-20T00:00:00Z".parse().unwrap())
                .unwrap(),
            secrets: Secrets::load_or_create(&dir.path().join("secret")).unwrap(),
            dir,
            made: 0,
            dataset: "files:/var/www".parse().unwrap(),
            day: 0,
            pack_size: None,
        }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.at("source")
    }

    fn prepare<T>(&mut self, make: impl FnOnce(&BackupSpec<'_>) -> T) -> (RequestId, T) {
        self.made += 1;
        let id: RequestId = format!("20261120T031500Z-{:08x}", self.made).parse().unwrap();
        let (client, node): (Name, Name) = ("web1".parse().unwrap(), "node1".parse().unwrap());
        let dataset = self.dataset.clone();
        let parts = self.pack_size.map(|size| SmallPacks(16 * size));
        let index = Index::load(&self.at("index"), &self.epoch.public().recipient).unwrap();
        let cache = self.at(&format!("cache-{}", &Blake3::of(dataset.to_string().as_bytes()).hex()[..8]));
        let export = self.at("export");
        let (secrets, epoch) = (&self.secrets, &self.epoch);
        let spec = BackupSpec {
            id: &id,
            client: &client,
            node: &node,
            dataset: &dataset,
            tags: &[],
            secrets,
            epoch,
            index: &index,
            export: &export,
            lost: None,
            monitor: &Silent,
            parts: parts.as_ref().map(|parts| parts as &dyn Parts),
            level: archive::backup::DEFAULT_LEVEL,
            cache: Some(CachePlace { path: &cache, granularity: GRANULARITY, any_device: false }),
        };
        let made = make(&spec);
        (id, made)
    }

    /// Backs up, fetches, accepts, acknowledges.
    pub(crate) fn keep(&mut self, make: impl FnOnce(&BackupSpec<'_>) -> base::Result<Prepared>) -> Manifest {
        let (id, prepared) = self.prepare(make);
        let prepared = prepared.unwrap();
        let export = self.at("export");
        let manifest = Manifest::parse(&prepared.manifest).unwrap();
        assert_eq!(manifest.digest, prepared.digest);
        for pack in self.store.to_fetch(&id, &manifest.public).unwrap() {
            let mut writer = self.store.begin_pack(&id, &pack).unwrap();
            writer.write_all(&fs::read(export.join(format!("{id}.{}", pack.digest.hex()))).unwrap()).unwrap();
            writer.finish().unwrap();
        }
        let request = format!("id = \"{id}\"\nmanifest = \"{}\"\n", prepared.digest).into_bytes();
        let claim = Claim {
            id: id.clone(),
            client: "web1".parse().unwrap(),
            node: "node1".parse().unwrap(),
            dataset: self.dataset.clone(),
            seq: self.made.into(),
            prev: None,
            submitted: "2026-11-20T03:15:00Z".parse().unwrap(),
            by: "root".into(),
            reason: Reason::Manual,
            payload: Payload::Manifest(prepared.digest),
            repairs: prepared.repairs.clone(),
            group: None,
            request_digest: Sha256::of(&request),
            commit: "0".repeat(40),
            proof: Proof { commit: b"c".to_vec(), tree: b"t".to_vec(), request },
        };
        let received = self.now();
        self.store.accept(&claim, Content::Manifest(&manifest), received, &Quota::default(), Stats::default()).unwrap();
        Index::acknowledge(&self.at("index"), &id).unwrap();
        for file in fs::read_dir(export).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        manifest
    }

    /// The node's clock: far away, so that the packs' files are old.
    fn now(&self) -> Timestamp {
        "2096-11-20T04:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24 * self.day)
    }

    /// Keeps the last so many days of each dataset, and takes the rest away at once.
    pub(crate) fn prune(&self, days: u32) {
        let policy = |_: &Dataset| Policy { keep: Some(format!("{{ daily = {days} }}").parse().unwrap()), ..Policy::default() };
        let (now, zone, grace) = (self.now(), TimeZone::UTC, Duration::ZERO);
        let rules = PruneRules { policy: &policy, by: By::Policy, only: None, now, zone, grace, monitor: &base::Silent };
        let pruned = self.store.prune(&rules).unwrap();
        assert_eq!(pruned.unreadable, Vec::<String>::new());
        self.store.empty_trash().unwrap();
    }

    /// The names and sizes of the packs that the node has.
    pub(crate) fn packs(&self) -> BTreeMap<String, u64> {
        // There is no folder before the first one.
        let files = fs::read_dir(self.store.path().join("packs")).into_iter().flatten();
        files.map(|file| file.unwrap()).map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().len())).collect()
    }

    /// Which packs the client's index has.
    pub(crate) fn indexed(&self) -> Vec<PackInfo> {
        Index::load(&self.at("index"), &self.epoch.public().recipient).unwrap().packs().to_vec()
    }

    /// Backing up `path` is refused, and this is said.
    pub(crate) fn refuses(&mut self, path: &Path, said: &str) {
        self.prepare(|spec| {
            let error = backup_tree(spec, Source::Path(path)).unwrap_err();
            assert!(error.render().contains(said), "{}", error.render());
        });
    }

    pub(crate) fn keep_tree(&mut self) -> Manifest {
        let source = self.source();
        self.keep(|spec| backup_tree(spec, Source::Path(&source)))
    }

    pub(crate) fn reader(&self, manifest: &Manifest) -> SnapshotReader {
        self.reader_of(manifest, self.store.packs())
    }

    pub(crate) fn reader_of(&self, manifest: &Manifest, source: Arc<dyn PackSource>) -> SnapshotReader {
        SnapshotReader::open(manifest.clone(), &self.identities, source).unwrap()
    }

    pub(crate) fn restore(&self, manifest: &Manifest, name: &str) -> RestoreReport {
        self.restore_from(&self.reader(manifest), name)
    }

    pub(crate) fn restore_from(&self, reader: &SnapshotReader, name: &str) -> RestoreReport {
        restore_tree(reader, RestoreSpec { paths: Vec::new(), target: &self.at(name), options: FileOptions::default(), monitor: &Silent })
            .unwrap()
    }

    /// Restores with the independent reader.
    pub(crate) fn restore_independently(&self, manifest: &Manifest, name: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reader.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(self.store.path()).arg(manifest.public.id.as_str()).arg(self.at("identity.txt")).arg(self.at(name));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What lstat and reading tell of everything below `root`, and of `root` itself.
pub(crate) fn state(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut inodes = BTreeMap::new();
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = path.symlink_metadata().unwrap();
        let relative = path.strip_prefix(root).unwrap().to_owned();
        let what = if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|item| item.unwrap().path()));
            "folder".to_owned()
        } else if meta.is_symlink() {
            format!("link {:?}", fs::read_link(&path).unwrap())
        } else {
            inodes.entry(meta.ino()).or_insert_with(Vec::new).push(relative.clone());
            format!("file {} {}", meta.len(), Blake3::of(&fs::read(&path).unwrap()))
        };
        found.insert(relative, format!("{what} {:o} {}:{} {}.{:09}", meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec()));
    }
    for mut names in inodes.into_values().filter(|names| names.len() > 1) {
        names.sort();
        for name in &names {
            found.entry(name.clone()).and_modify(|text| text.push_str(&format!(" = {:?}", names[0])));
        }
    }
    found
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

pub(crate) fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
