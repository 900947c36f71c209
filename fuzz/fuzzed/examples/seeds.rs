//! Writes those seeds that no installation has: `cargo run -p fuzzed --example seeds -- FOLDER`, the folder of the corpora.
//! `fuzz/seeds.sh` calls it and adds real files.

use archive::catalog::Child;
use archive::entry::FileDigest;
use archive::epoch::Secrets;
use archive::reference::{Member, RunId};
use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).expect("the folder of the corpora");
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)
    };
    for (number, text) in COMMANDS.iter().enumerate() {
        for who in 0..4u8 {
            put("command", &format!("seed-{number}-{who}"), &[&[who], text.as_bytes()].concat())?;
        }
    }
    put("catalog", "seed-all", CATALOG.join("\n").as_bytes().iter().chain(b"\n").copied().collect::<Vec<_>>().as_slice())?;
    for (number, line) in CATALOG.iter().enumerate() {
        put("catalog", &format!("seed-{number}"), format!("{line}\n").as_bytes())?;
    }
    put("pack", "seed-flat", &flat())?;
    put("pack", "seed-levels", &levels())?;
    let raw = [&[0, 0][..], &plain(b"not zstd at all")].concat();
    put("pack", "seed-plain", &raw)?;
    let frame = flat()[4..].to_vec();
    let length = u32::try_from(frame.len()).expect("short").to_be_bytes();
    put("pack", "seed-frame", &[&[2, 0][..], &length[1..], &zstd::bulk::compress(&frame, 3)?].concat())?;
    put("pack", "seed-file", &[&[3, 0][..], b"age-encryption.org/v1\n-> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc\nEmECAEcKN+n/Vs9SbWiV+Hu0r+E8R77DdWYyd83nw7U\n--- Vn+54jqiiUCE+WZcEVY3f1sqHjlu/z1LCQ/T7Xm7qI0\n0123456789abcdef0123456789abcdef"].concat())?;
    put("sftp", "seed-whole", &[&[7][..], &sftp()].concat())?;
    put("sftp", "seed-bytewise", &[&[1][..], &sftp()].concat())
}

const COMMANDS: &[&str] = &[
    "ping",
    "list",
    "sftp",
    "git-receive-pack 'queue'",
    "git-upload-pack '/queue'",
    "git-upload-pack 'receipts'",
    "git-receive-pack 'admin'",
    "git-upload-pack 'web1/log'",
    "git-upload-pack 'web1/receipts'",
    "git-upload-pack 'db/mirrors/0123456789abcdef0123456789abcdef.git'",
    "git-upload-pack '/srv/git/a.git'",
    "git-upload-pack '/home/a/x.git'",
    "receipts-wait 0123456789abcdef0123456789abcdef01234567",
];

const CATALOG: &[&str] = &[
    r#"{"path":"","type":"dir","mode":"1777","uid":0,"gid":0,"mtime":"0.000000000"}"#,
    r#"{"path":"a","type":"fifo","mode":"0644","uid":0,"gid":0,"mtime":"0.000000000","hard_link":3}"#,
    r#"{"path":"b","type":"char","mode":"0644","uid":0,"gid":0,"mtime":"0.000000000","major":1,"minor":3}"#,
    r#"{"path":"c","type":"file","mode":"0644","uid":0,"gid":0,"mtime":"0.000000000","size":9000,"digest":"000102030405060708090a0b0c0d0e0f","data":0,"holes":"0+9000"}"#,
    r#"{"path":"d","type":"file","mode":"0644","uid":0,"gid":0,"user":"root","mtime":"-1.500000000","size":5,"chunks":"00000000000000ab/3/0","digest":"000102030405060708090a0b0c0d0e0f"}"#,
    r#"{"path":"e/","type":"dir","mode":"0755","uid":0,"gid":0,"mtime":"0.000000000","acl":"user::rwx,user:7:r--,group::r-x,mask::r-x,other::r-x","default_acl":"user::rwx,group::r-x,other::r-x","acl_names":{"user:7":"alice"},"xattrs":{"user.a":"eA=="},"xattrs_b64":{"dXNlci7/":""}}"#,
    r#"{"path":"f","type":"link","mode":"0777","uid":0,"gid":0,"mtime":"0.000000000","target":"x","xattrs_more":"00000000000000ab/3/0"}"#,
    r#"{"path_b64":"/w==","type":"link","mode":"0777","uid":0,"gid":0,"mtime":"0.000000000","target_b64":"/w=="}"#,
    r#"{"path":"g","type":"file","mode":"0644","uid":0,"gid":0,"mtime":"0.000000000","size":9,"more":"00000000000000ab/3/0-4","digest":"000102030405060708090a0b0c0d0e0f","data":4,"holes_more":"00000000000000ab/3/5"}"#,
    r#"{"first":"a","ref":"00000000000000ab/3/0","id":"0000000000000000000000000000000000000000000000000000000000000000"}"#,
];

fn at(frame: u32, n: u32) -> Member {
    Member { run: RunId(0), frame, n }
}

fn secrets() -> Secrets {
    Secrets::from_bytes([7; 32])
}

/// The line of a file with this content, at these places.
fn file(path: &str, places: &str, content: &[u8]) -> String {
    let digest = base::digest::to_hex(&FileDigest::of(&secrets().chunk_id(content).0).0);
    let size = content.len();
    format!(
        r#"{{"path":"{path}","type":"file","mode":"0644","uid":0,"gid":0,"mtime":"0.000000000","size":{size},"chunks":"{places}","digest":"{digest}"}}"#
    )
}

fn frame(chunks: &[(Member, &[u8])]) -> Vec<u8> {
    let mut frame = Vec::new();
    for (at, chunk) in chunks {
        archive::frame::append(&mut frame, *at, chunk).expect("a chunk");
    }
    [&u16::try_from(frame.len()).expect("short").to_be_bytes()[..], &frame].concat()
}

/// One segment, with a folder, a file of two chunks, and what else there is.
fn flat() -> Vec<u8> {
    let lines = [CATALOG[0].to_owned(), CATALOG[1].to_owned(), CATALOG[3].to_owned(), file("z", "0000000000000000/0/1-2", b"onetwo")];
    let segment = format!("{}\n", lines.join("\n"));
    [&[1, 0][..], &frame(&[(at(0, 0), segment.as_bytes()), (at(0, 1), b"one"), (at(0, 2), b"two")])].concat()
}

/// A root, two segments below it, and a file's list in a chunk of its own.
fn levels() -> Vec<u8> {
    let low = format!("{}\n{}\n", CATALOG[0], file("a", "0000000000000000/0/3", b"one"));
    let high = format!("{}\n", file("b", "0000000000000000/1/0", b"two"));
    let child = |first: &[u8], n, segment: &str| {
        Child { first: first.to_vec(), at: at(0, n), id: secrets().chunk_id(segment.as_bytes()) }.to_line().expect("a line")
    };
    let root = format!("{}\n{}\n", child(b"", 1, &low), child(b"b", 2, &high));
    let first = frame(&[(at(0, 0), root.as_bytes()), (at(0, 1), low.as_bytes()), (at(0, 2), high.as_bytes()), (at(0, 3), b"one")]);
    [&[1, 1][..], &first, &frame(&[(at(1, 0), b"two")])].concat()
}

/// A pack's plaintext of one frame.
fn plain(frame: &[u8]) -> Vec<u8> {
    let mut table = archive::pack::FrameTable::default();
    table.push(frame, frame.len()).expect("a frame");
    [frame, &table.trailer()].concat()
}

/// A whole conversation.
fn sftp() -> Vec<u8> {
    let text = |text: &[u8]| [&u32::try_from(text.len()).expect("short").to_be_bytes()[..], text].concat();
    let number = |n: u32| n.to_be_bytes().to_vec();
    let packets: [&[Vec<u8>]; 9] = [
        &[vec![1], number(3)],
        &[vec![200], number(1), text(b"limits@openssh.com")],
        &[vec![16], number(2), text(b".")],
        &[vec![3], number(3), text(b"pack"), number(1), number(0)],
        &[vec![8], number(4), text(&[0, 0, 0, 0])],
        &[vec![5], number(5), text(&[0, 0, 0, 0]), number(0), number(4), number(100)],
        &[vec![17], number(6), text(b"/pack")],
        &[vec![4], number(7), text(&[0, 0, 0, 0])],
        &[vec![13], number(8), text(b"pack")],
    ];
    packets.iter().flat_map(|parts| text(&parts.concat())).collect()
}
