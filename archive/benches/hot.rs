//! The hot parts of a backup and of a restore, each alone: cutting and naming chunks, frames, the catalog's lines.
//!
//! `cargo bench -p archive`; whole backups are measured by `make bench` (docs/benchmarks.md).

use archive::chunk::{Chunker, Cutter, FILES, STREAMS};
use archive::entry::{Content, Entry, EntryKind, FileDigest, Mtime};
use archive::epoch::Secrets;
use archive::pack::FrameTable;
use archive::reference::{Member, References, RunId};
use archive::{catalog, frame};
use criterion::{Criterion, Throughput};
use std::fmt::Write as _;
use std::hint::black_box;

const RUN: RunId = RunId(0x0123_4567_89ab_cdef);

/// The same bytes in every run, with as little order as content can have.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Lines as sources have them, the same in every run.
fn text(length: usize) -> Vec<u8> {
    let mut text = String::with_capacity(length + 64);
    let mut number: u64 = 1;
    while text.len() < length {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let _ = writeln!(text, "static int field_{:x} = read_register({}, 0x{:x});", number >> 52, number >> 58, number >> 40);
    }
    text.truncate(length);
    text.into_bytes()
}

fn chunks(c: &mut Criterion) {
    let secrets = Secrets::from_bytes([7; 32]);
    let content = noise(64 << 20);
    let mut group = c.benchmark_group("chunks");
    group.throughput(Throughput::Bytes(content.len() as u64)).sample_size(20);
    for (name, sizes) in [("cut a large file", FILES), ("cut a stream", STREAMS)] {
        let cutter = Cutter::new(&secrets, sizes);
        let mut chunker = Chunker::default();
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut source = content.as_slice();
                chunker.begin();
                let mut found = 0;
                while let Some(chunk) = chunker.next(&mut source, &cutter).expect("memory can be read") {
                    found += black_box(chunk).len();
                }
                assert_eq!(found, content.len());
            });
        });
    }
    group.bench_function("name", |b| {
        b.iter(|| content.chunks(512 << 10).for_each(|chunk| _ = black_box(secrets.chunk_id(chunk))));
    });
    group.finish();
}

fn frames(c: &mut Criterion) {
    let content = text(frame::TARGET);
    let fill = |bytes: &mut Vec<u8>| {
        for (n, chunk) in (0..).zip(content.chunks(16 << 10)) {
            frame::append(bytes, Member { run: RUN, frame: 3, n }, chunk).expect("the chunk fits");
        }
    };
    let mut plain = Vec::new();
    fill(&mut plain);
    let compressed = zstd::bulk::compress(&plain, 3).expect("it can be compressed");
    let mut group = c.benchmark_group("frames");
    group.throughput(Throughput::Bytes(plain.len() as u64));
    group.bench_function("fill", |b| {
        let mut bytes = Vec::new();
        b.iter(|| {
            bytes.clear();
            fill(&mut bytes);
        });
    });
    group.bench_function("compress", |b| b.iter(|| zstd::bulk::compress(black_box(&plain), 3).expect("it can be compressed")));
    group.bench_function("decompress", |b| {
        b.iter(|| zstd::bulk::decompress(black_box(&compressed), plain.len()).expect("it was compressed"))
    });
    group.bench_function("members", |b| b.iter(|| frame::members(black_box(&plain), RUN, 3).expect("the frame is whole")));
    group.bench_function("table of a pack", |b| {
        b.iter(|| {
            let mut table = FrameTable::default();
            table.push(black_box(&compressed), plain.len()).expect("the frame fits");
            FrameTable::parse(&table.to_bytes()).expect("the table is whole")
        });
    });
    group.finish();
}

/// A segment of the catalog as a source tree has it.
fn segment(entries: u32) -> Vec<u8> {
    let mut text = Vec::new();
    for n in 0..entries {
        let list = References::of([Member { run: RUN, frame: n / 200, n: n % 200 }]);
        let entry = Entry {
            path: format!("drivers/net/ethernet/vendor-{:02}/file-{n:04}.c", n / 40).into_bytes(),
            kind: EntryKind::File {
                size: 16_000 + u64::from(n),
                content: Content::Chunks(list),
                digest: FileDigest(u128::from(n).to_le_bytes()),
                sparse: None,
            },
            mode: 0o644,
            uid: 0,
            gid: 0,
            user: Some("root".into()),
            group: Some("root".into()),
            mtime: Mtime { seconds: 1_700_000_000 + i64::from(n), nanos: 123_456_789 },
            hard_link: None,
            attributes: None,
        };
        text.extend_from_slice(entry.to_line().expect("the line is short").as_bytes());
        text.push(b'\n');
    }
    text
}

fn lines(c: &mut Criterion) {
    let segment = segment(400);
    let entries: Vec<Entry> =
        catalog::lines(&segment).expect("the segment is whole").map(|line| Entry::parse(line).expect("the line is good")).collect();
    let mut group = c.benchmark_group("catalog");
    group.throughput(Throughput::Elements(entries.len() as u64));
    group.bench_function("parse", |b| {
        b.iter(|| {
            for line in catalog::lines(black_box(&segment)).expect("the segment is whole") {
                black_box(Entry::parse(line).expect("the line is good"));
            }
        });
    });
    group.bench_function("write", |b| {
        b.iter(|| entries.iter().for_each(|entry| _ = black_box(entry.to_line().expect("the line is short"))));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for part in [chunks, frames, lines] {
        part(&mut criterion);
    }
    criterion.final_summary();
}
