use super::*;
use proptest::prelude::*;

struct Files(tempfile::TempDir);

impl Tree for Files {
    fn open(&mut self, name: &str) -> std::result::Result<File, Denied> {
        open_beneath(beneath::folder(self.0.path()).unwrap(), Path::new(name))
    }
}

fn files() -> Files {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), (0..100_000u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>()).unwrap();
    std::fs::write(dir.path().join("empty"), b"").unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
    Files(dir)
}

fn packet(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&(u32::try_from(body.len()).unwrap() + 1).to_be_bytes()[..], &[kind], &body].concat()
}

fn text(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

fn n(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn open(id: u32, name: &str, flags: u32) -> Vec<u8> {
    packet(3, &[&n(id), &text(name.as_bytes()), &n(flags), &n(0)])
}

fn read(id: u32, handle: u32, offset: u64, length: u32) -> Vec<u8> {
    packet(5, &[&n(id), &text(&n(handle)), &offset.to_be_bytes(), &n(length)])
}

fn init() -> Vec<u8> {
    packet(1, &[&n(3)])
}

/// Talks, and gives the replies as (type, id, rest).
fn talk(tree: &mut dyn Tree, requests: &[Vec<u8>]) -> std::io::Result<Vec<(u8, u32, Vec<u8>)>> {
    let mut output = Vec::new();
    converse(tree, &mut requests.concat().as_slice(), &mut output)?;
    let (mut rest, mut replies) = (output.as_slice(), Vec::new());
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let (body, next) = tail.split_at(u32::from_be_bytes(*head) as usize);
        replies.push((body[0], u32::from_be_bytes(body[1..5].try_into().unwrap()), body[5..].to_vec()));
        rest = next;
    }
    Ok(replies)
}

fn code(reply: &(u8, u32, Vec<u8>)) -> u32 {
    assert_eq!(reply.0, 101, "{reply:?}");
    u32::from_be_bytes(reply.2[..4].try_into().unwrap())
}

#[test]
fn reads_in_order() {
    let mut tree = files();
    let requests = [
        init(),
        open(1, "/a", 1),
        read(2, 0, 0, 8),
        read(3, 0, 399_996, 100),
        read(4, 0, 400_000, 10),
        read(5, 0, u64::MAX, 10),
        read(6, 0, 4, 1 << 30),
        packet(8, &[&n(7), &text(&n(0))]),
        packet(4, &[&n(8), &text(&n(0))]),
        read(9, 0, 0, 1),
    ];
    let replies = talk(&mut tree, &requests).unwrap();
    assert_eq!(replies.iter().map(|r| r.1).collect::<Vec<_>>(), [3, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(replies[2].2, text(&[0, 0, 0, 0, 0, 0, 0, 1]));
    assert_eq!(replies[3].2, text(&99_999u32.to_be_bytes()));
    assert_eq!((code(&replies[4]), code(&replies[5])), (1, 1));
    assert_eq!(replies[6].2.len(), 4 + READ_LIMIT);
    assert_eq!(replies[7].2[4..12], 400_000u64.to_be_bytes());
    assert_eq!((code(&replies[8]), code(&replies[9])), (0, 4));
}

#[test]
fn nothing_but_reading_of_plain_files() {
    let mut tree = files();
    // (request, expected status)
    let mut table: Vec<(Vec<u8>, u32)> = [
        ("absent", 2),
        ("link", 3),
        ("folder", 3),
        ("../a", 3),
        ("/etc/passwd", 2),
        ("//a", 3),
        ("a\0", 3),
        ("folder/../a", 3),
        ("", 3),
        ("/", 3),
    ]
    .iter()
    .map(|(name, status)| (open(1, name, 1), *status))
    .collect();
    for flags in [0, 2, 3, 4, 8, 9, 0x19, u32::MAX] {
        table.push((open(1, "a", flags), 3));
    }
    for kind in [6u8, 9, 10, 13, 14, 15, 18, 20] {
        table.push((packet(kind, &[&n(1), &text(b"a"), &text(b"b")]), 3));
    }
    for kind in [2u8, 11, 12, 19, 21, 99, 101, 201, 255] {
        table.push((packet(kind, &[&n(1), &text(b"/")]), 8));
    }
    for extension in ["posix-rename@openssh.com", "hardlink@openssh.com", "copy-data", "expand-path@openssh.com"] {
        table.push((packet(200, &[&n(1), &text(extension.as_bytes()), &text(b"a"), &text(b"b")]), 8));
    }
    table.push((read(1, 0, 0, 1), 4));
    table.push((read(1, u32::MAX, 0, 1), 4));
    table.push((packet(4, &[&n(1), &text(b"a handle that is not ours")]), 4));
    table.push((packet(17, &[&n(1), &text(b"absent")]), 2));
    table.push((packet(16, &[&n(1), &text(b"a\0b")]), 3));
    for (request, expected) in &table {
        let replies = talk(&mut tree, &[init(), request.clone()]).unwrap();
        assert_eq!(code(&replies[1]), *expected, "{request:?}");
    }
    assert_eq!(std::fs::read(tree.0.path().join("a")).unwrap().len(), 400_000);
}

#[test]
fn handles_are_bounded_and_used_again() {
    let mut tree = files();
    let limit = u32::try_from(HANDLES).unwrap();
    let mut requests = vec![init()];
    requests.extend((0..=limit).map(|id| open(id, "a", 1)));
    requests.push(packet(4, &[&n(100), &text(&n(7))]));
    requests.push(open(101, "empty", 1));
    requests.push(read(102, 7, 0, 10));
    let replies = talk(&mut tree, &requests).unwrap();
    assert_eq!(replies.iter().filter(|r| r.0 == 102).count(), HANDLES + 1);
    assert_eq!(code(&replies[HANDLES + 1]), 4);
    assert_eq!(code(replies.last().unwrap()), 1);
}

#[test]
fn what_is_no_sftp_ends_the_conversation() {
    let good = open(1, "a", 1);
    let table: Vec<Vec<Vec<u8>>> = vec![
        vec![good.clone()],
        vec![init(), init()],
        vec![vec![0, 0, 0, 0]],
        vec![vec![0xff, 0xff, 0xff, 0xff, 1]],
        vec![init(), vec![0, 4, 4, 1, 3]],
        vec![init(), good[..good.len() - 1].to_vec()],
        vec![init(), packet(3, &[&n(1), &n(5000), b"short"])],
        vec![init(), packet(5, &[&n(1), &text(&n(0)), &n(1)])],
        vec![init(), packet(17, &[&n(1), &n(u32::MAX)])],
        vec![b"GET / HTTP/1.0\r\n\r\n".to_vec()],
    ];
    for requests in table {
        assert!(talk(&mut files(), &requests).is_err(), "{requests:?}");
    }
}

proptest! {
    // Each case makes files of its own.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kinds in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20)) {
        let mut tree = files();
        let _ = talk(&mut tree, &[init(), bytes]);
        let mut requests = vec![init(), open(1, "a", 1)];
        requests.extend(kinds.iter().map(|(kind, body)| packet(*kind, &[body])));
        let _ = talk(&mut tree, &requests);
    }

    #[test]
    fn packets_survive_any_cut(sizes in prop::collection::vec(1usize..50, 1..30)) {
        struct Pieces<'a>(&'a [u8], std::vec::IntoIter<usize>);
        impl Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let n = self.1.next().unwrap_or(usize::MAX).min(self.0.len()).min(buffer.len());
                buffer[..n].copy_from_slice(&self.0[..n]);
                self.0 = &self.0[n..];
                Ok(n)
            }
        }
        let requests = [init(), open(1, "a", 1), read(2, 0, 5, 100_000), read(3, 0, 9, 9)].concat();
        let (mut whole, mut cut) = (Vec::new(), Vec::new());
        converse(&mut files(), &mut requests.as_slice(), &mut whole).unwrap();
        converse(&mut files(), &mut Pieces(&requests, sizes.into_iter()), &mut cut).unwrap();
        prop_assert!(whole == cut);
    }
}
