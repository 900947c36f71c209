//! No file of tests lies here without being run.

use std::collections::BTreeSet;
use std::path::Path;

/// The modules that `text` declares.
fn declared(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.trim().trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned))
        .collect()
}

fn present(folder: &Path, own: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let relevant = entries.filter(|path| path.is_dir() || path.extension().is_some_and(|e| e == "rs") && !path.ends_with(own));
    relevant.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_file_is_declared() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    assert_eq!(present(&here, "-"), BTreeSet::from(["it".to_owned()]), "all tests are in one binary, tests/it");
    for (folder, own) in [(here.join("it"), "main.rs"), (here.join("it/harness"), "mod.rs")] {
        let text = std::fs::read_to_string(folder.join(own)).unwrap();
        assert_eq!(present(&folder, own), declared(&text), "{}", folder.join(own).display());
    }
}
