//! A walk merged with the last catalog, as it is kept in the stat cache: what a backup costs of a tree in which nothing, or little, has
//! changed. Nothing but this engine takes part: no request, no network.
//!
//! `cargo bench -p archive --bench merge`.

use archive::backup::{BackupSpec, Prepared, Source, backup_tree, discard};
use archive::cache::CachePlace;
use archive::epoch::{Epoch, Secrets};
use archive::index::Index;
use base::{Name, RequestId, Silent, clock};
use criterion::{BatchSize, Criterion, Throughput};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Folders, and files in each.
const FOLDERS: usize = 200;
const FILES: usize = 100;
/// Of the times that are told apart here. The tree is older than that when it is backed up first.
const GRANULARITY: Duration = Duration::from_millis(20);

/// A client's folders, and a tree.
struct Client {
    dir: tempfile::TempDir,
    secrets: Secrets,
    epoch: Epoch,
    next: u32,
}

impl Client {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("there is room");
        let identity = age::x25519::Identity::generate();
        let recipients = [identity.to_public().to_string()];
        let epoch = Epoch::current(&dir.path().join("epochs/node1.toml"), &recipients, clock::now()).expect("an epoch can be made");
        fs::create_dir(dir.path().join("export")).expect("there is room");
        let client = Self { secrets: Secrets::from_bytes([5; 32]), epoch, next: 0, dir };
        for folder in 0..FOLDERS {
            let path = client.at("tree").join(format!("folder-{folder:03}"));
            fs::create_dir_all(&path).expect("there is room");
            for file in 0..FILES {
                fs::write(path.join(format!("file-{file:03}.c")), format!("{folder} {file}\n").repeat(20)).expect("there is room");
            }
        }
        client
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Backs the tree up, as a client does that has an index and a cache.
    fn back_up(&mut self) -> (RequestId, Prepared) {
        self.next += 1;
        let id: RequestId = format!("20261120T031500Z-{:08x}", self.next).parse().expect("it is an id");
        let (client, node) = (Name::new("web1").expect("it is a name"), Name::new("node1").expect("it is a name"));
        let dataset = "files:/tree".parse().expect("it is a dataset");
        let (export, cache) = (self.at("export"), self.at("cache"));
        let index = Index::load(&self.at("index"), &self.epoch.public().recipient).expect("the index can be read");
        let spec = BackupSpec {
            id: &id,
            client: &client,
            node: &node,
            dataset: &dataset,
            tags: &[],
            secrets: &self.secrets,
            epoch: &self.epoch,
            index: &index,
            export: &export,
            lost: None,
            monitor: &Silent,
            parts: None,
            level: archive::backup::DEFAULT_LEVEL,
            cache: Some(CachePlace { path: &cache, granularity: GRANULARITY, any_device: false }),
        };
        let prepared = backup_tree(&spec, Source::Path(&self.at("tree"))).expect("the tree can be backed up");
        (id, prepared)
    }

    /// As if the node had said that it has it all.
    fn acknowledge(&self, id: &RequestId) {
        Index::acknowledge(&self.at("index"), id).expect("the index can be written");
        self.forget(id);
    }

    /// What was prepared is of no more use.
    fn forget(&self, id: &RequestId) {
        discard(&self.at("export"), &self.at("index"), id, &[]).expect("it can be removed");
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut client = Client::new();
    std::thread::sleep(2 * GRANULARITY);
    let (id, first) = client.back_up();
    client.acknowledge(&id);
    let entries = first.counts.entries;
    // What is measured is what it is said to be.
    let (id, again) = client.back_up();
    assert!(again.packs.is_empty() && again.counts == first.counts, "{again:?}");
    client.acknowledge(&id);

    let mut group = criterion.benchmark_group("merge");
    group.throughput(Throughput::Elements(entries)).sample_size(20);
    group.bench_function("nothing has changed", |b| {
        b.iter(|| {
            let (id, _) = client.back_up();
            client.forget(&id);
        });
    });
    let tree = client.at("tree");
    let mut round = 0;
    group.bench_function("one file in 100 has changed", |b| {
        b.iter_batched(
            || {
                round += 1;
                for folder in 0..FOLDERS {
                    let file = tree.join(format!("folder-{folder:03}/file-{:03}.c", folder % FILES));
                    fs::write(file, format!("{folder} in round {round}\n").repeat(20)).expect("there is room");
                }
                std::thread::sleep(2 * GRANULARITY);
            },
            |()| {
                let (id, _) = client.back_up();
                client.forget(&id);
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    criterion.final_summary();
}
