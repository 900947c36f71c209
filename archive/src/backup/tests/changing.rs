//! Sources that change while they are read, and things that are left out.

use super::*;

#[test]
fn sockets_are_left_out_and_said_to_be() {
    let mut setup = Setup::new();
    let tree = setup.at("tree");
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.join("fifo"), rustix::fs::Mode::from_raw_mode(0o640)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    fs::write(tree.join("good"), b"good").unwrap();
    let (prepared, snapshot) = setup.tree();
    assert_eq!((prepared.unreadable, prepared.ledger.len(), prepared.skipped), (0, 0, 1));
    assert_eq!(snapshot.sealed.unreadable, []);
    let skipped = &snapshot.sealed.skipped;
    assert!(skipped.len() == 1 && skipped[0].path == b"socket" && skipped[0].why.contains("socket"), "{skipped:?}");
    let kinds: Vec<_> = snapshot.entries.iter().map(|entry| (entry.shown_path(), entry.kind.word())).collect();
    assert_eq!(kinds, [(String::new(), "dir"), ("fifo".into(), "fifo"), ("good".into(), "file")]);
}

/// Small files are read ahead of their turn, but for those with another name.
fn read_in_turn(setup: &Setup, names: &[&str]) {
    for (number, name) in names.iter().enumerate() {
        fs::hard_link(setup.at("tree").join(name), setup.at(&format!("other name {number}"))).unwrap();
    }
}

/// Removes files as soon as something was read, and puts other things in the place of some.
struct Remover(PathBuf);

impl Monitor for Remover {
    fn bytes(&self, _bytes: u64) {
        let at = |name: &str| self.0.join(name);
        if fs::remove_file(at("b")).is_ok() {
            fs::remove_dir_all(at("c")).unwrap();
            fs::remove_dir_all(at("d")).unwrap();
            symlink("/", at("d")).unwrap();
            fs::remove_file(at("e")).unwrap();
            symlink("/etc/passwd", at("e")).unwrap();
            fs::remove_file(at("f")).unwrap();
            fs::create_dir(at("f")).unwrap();
        }
    }
}

#[test]
fn what_vanishes_or_is_replaced_is_in_the_ledger_and_the_rest_is_kept() {
    let mut setup = Setup::new();
    let tree = setup.at("tree");
    for name in ["c", "d"] {
        fs::create_dir(tree.join(name)).unwrap();
        fs::write(tree.join(name).join("in"), name).unwrap();
    }
    for name in ["a", "b", "e", "f", "z"] {
        fs::write(tree.join(name), name).unwrap();
    }
    read_in_turn(&setup, &["a", "b", "c/in", "d/in", "e", "f", "z"]);
    let remover = Remover(tree.clone());
    let (id, prepared) = setup.with(|spec| backup_tree(&BackupSpec { monitor: &remover, ..*spec }, Source::Path(&tree)));
    let (prepared, snapshot) = setup.take(&id, prepared.unwrap());
    let lost: Vec<_> = prepared.ledger.iter().map(|line| (String::from_utf8(line.path.clone()).unwrap(), line.why.clone())).collect();
    let (gone, replaced) = ("it vanished while the folder was read", "it was replaced while the folder was read");
    // All names were listed before the first file was read, and folders opened: what is no longer in them has vanished.
    let expected = [("b", gone), ("c/in", gone), ("d/in", gone), ("e", replaced), ("f", replaced)];
    assert_eq!(lost, expected.map(|(path, why)| (path.to_owned(), why.to_owned())));
    assert_eq!(snapshot.sealed.unreadable, prepared.ledger);
    assert_eq!(snapshot.bytes.keys().map(|path| &path[..]).collect::<Vec<_>>(), [&b"a"[..], b"z"]);
}

/// Writes to the file that is being read, whenever the backup reports bytes.
struct Meddler(PathBuf);

impl Monitor for Meddler {
    fn bytes(&self, _bytes: u64) {
        use std::io::Write as _;
        fs::OpenOptions::new().append(true).open(&self.0).unwrap().write_all(b"more").unwrap();
    }
}

#[test]
fn a_file_that_changes_is_noted_and_stored_as_read() {
    let mut setup = Setup::new();
    let tree = setup.at("tree");
    fs::write(tree.join("log"), b"line").unwrap();
    read_in_turn(&setup, &["log"]);
    let meddler = Meddler(tree.join("log"));
    let (id, prepared) = setup.with(|spec| backup_tree(&BackupSpec { monitor: &meddler, ..*spec }, Source::Path(&tree)));
    let (prepared, snapshot) = setup.take(&id, prepared.unwrap());
    assert_eq!(prepared.unreadable, 1);
    assert!(snapshot.sealed.unreadable[0].why.contains("changed"));
    assert_eq!(snapshot.bytes[&b"log"[..]], b"linemore");
}
