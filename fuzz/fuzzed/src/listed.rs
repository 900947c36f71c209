//! The access list.

use queue::access::AccessList;
use std::collections::BTreeMap;
use std::path::Path;

/// Key files that a list may name. Nobody has the private halves.
pub(crate) const KEYS: [(&str, &str); 6] = [
    ("a.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMH0iC8qvICJ/gEJTRbjWEfMEms7iWm4CAkPNgy0vULw"),
    ("b.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICBdwKdQEWyi56CW85GFetaIdTUDNzwMzGB9UY97PNWo"),
    ("c.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBfPdRlPgP4cjkG65N5fJCLqjawP6MIhFl6wsDo96yKS"),
    ("d.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILDH+W6f2+22U5OM903cOJDh3CEG/u0tDEYVTWSyqNvc"),
    (
        "e.pub",
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBL1brV4r4DrQbnoeDyWc1yZGKJkRs5ONgs7aGJvvOLJ2UrZzOTENLqnCouFeCSdYUPM0jjlHGyP8YrPCdIeja4=",
    ),
    (
        "f.pub",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC9AMs07v/bYCHKNS7alCSjp/Y1737qrhiAmxWZ4Pfcm3zC9VfLZ+oXIPIZnD8xMWGFGy53RLaIDVt5NJZ1pHuysQLe4C+2gJ9NvTyo9zzbJr5FuvOUmtablUGgjQ0Kyj5YLGXvG4pd6jdzObt2uZNZVoyOvxBGTCm22jVuv9fgWWM4/jbBe5FIx5a5yTdhaxhXjZVk1ibSrMcvYWOuetdEefZrjRmzUhfjzaVCS6v+CG/8tNmXkcY0ki+6PbE9fnXNw/T7a8W//Zgi8bwJH5gsYvNKpSfEpodWpEqBK2zP22xZf/sXGBXIq48QaLeoc1ln7dKUEralBRe3B1hZaF+/",
    ),
];

/// `access.toml`, with the key files `a.pub` to `f.pub` beside it; or, when it begins as one, a key file. What is read
/// survives being written, and sshd's file has one line for each key and nothing else.
pub fn access(bytes: &[u8]) {
    let mut keys: BTreeMap<String, Vec<u8>> = KEYS.iter().map(|(file, key)| ((*file).to_owned(), key.as_bytes().to_vec())).collect();
    let one = b"version = 1\n[admin.alice]\nkeys = [\"a.pub\"]\n";
    let is_key = bytes.starts_with(b"ssh-") || bytes.starts_with(b"ecdsa-") || bytes.starts_with(b"sk-");
    let list = if is_key {
        keys.insert("a.pub".into(), bytes.to_vec());
        &one[..]
    } else {
        bytes
    };
    let Ok(list) = AccessList::parse(list, &keys) else { return };
    let files = list.to_files().expect("a list can be written");
    let key_files = files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix("keys/")?.to_owned(), bytes.clone()))).collect();
    let again = AccessList::parse(&files[queue::access::LIST], &key_files).expect("what is written is read");
    assert!(again == list, "it survives its own files");
    let lines = list.authorized_keys(Path::new("/gate"), Path::new("/node.toml")).expect("sshd's file");
    let (mut count, prefix) = (0, "command=\"/gate --config /node.toml ");
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let (command, rest) = line.strip_prefix(prefix).and_then(|rest| rest.split_once("\",restrict ")).expect("the gate alone");
        let word = |b: u8| b.is_ascii_alphanumeric() || b".- ".contains(&b);
        assert!(command.bytes().all(word) && !rest.contains('"') && !rest.contains(char::is_control), "{line:?}");
        count += 1;
    }
    assert_eq!(count, key_files.len(), "a line for each key");
}
