//! Restores that were cut off go on, and take no more than they may.

use super::*;
use crate::{MirrorLimit, RestoreContext};

/// What a restore leaves in its target until it is done.
fn mark(target: &Path) -> PathBuf {
    target.join(format!(".nightsafe-restore-{SNAPSHOT}"))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_restore_goes_on_where_it_was_cut_off_and_nowhere_else() {
    let mut setup = Setup::new();
    setup.commit("one");
    let (list, _) = setup.back_up();
    let (target, _) = setup.restore(&list, "honest").unwrap();
    assert!(!mark(&target).exists());
    // As git leaves it that was killed, in whatever it did.
    let (target, packs) = (setup.folder.path().join("back"), "objects/pack");
    let whole = archive::restore::Whole::begin(&target, &SNAPSHOT.parse().unwrap()).unwrap();
    drop(whole);
    git(setup.folder.path(), &["init", "-q", "--bare", target.to_str().unwrap()]);
    std::fs::create_dir_all(target.join("lfs")).unwrap();
    let left = [
        "config.lock",
        "HEAD.lock",
        "packed-refs.lock",
        "packed-refs.new",
        ".tmp-packed-refs.x",
        "lfs/.tmp-x",
        "objects/pack/tmp_pack_x",
        "objects/pack/pack-1.pack",
        "objects/pack/pack-1.rev",
    ];
    for name in left {
        std::fs::write(target.join(name), "half").unwrap();
    }
    let (_, report) = setup.restore(&list, "back").unwrap();
    assert_eq!(report.entries, 1);
    assert!(!mark(&target).exists() && left.iter().all(|name| !target.join(name).exists()));
    assert_eq!(names(&target.join(packs)).len(), names(&setup.folder.path().join("honest").join(packs)).len());
    assert_eq!(git(&target, &["cat-file", "blob", "main:file"]), "one");
    git(&target, &["fsck", "--full", "--strict"]);
    // What is done is nobody's to write into, and what another snapshot left neither.
    assert_eq!(setup.restore(&list, "back").unwrap_err().kind(), Kind::Refused);
    let other = setup.folder.path().join("other");
    drop(archive::restore::Whole::begin(&other, &"20261121T031500Z-3f9a1c7e".parse().unwrap()).unwrap());
    assert_eq!(setup.restore(&list, "other").unwrap_err().kind(), Kind::Refused);
    assert_eq!(names(&other), [".nightsafe-restore-20261121T031500Z-3f9a1c7e"]);
}

#[test]
fn a_mirror_that_is_larger_than_it_may_be_is_not_kept() {
    let mut setup = Setup::new();
    let noise: Vec<u8> = (0..60_000u32).flat_map(|n| Sha256::of(&n.to_le_bytes()).0).take(300_000).collect();
    std::fs::write(setup.path().join("noise"), noise).unwrap();
    setup.commit("one");
    let (list, _) = setup.back_up();
    let target = setup.folder.path().join("back");
    let restore_to = |target: &Path, limit| {
        let context = RestoreContext { limit: MirrorLimit::Said(limit), ..restore_context(&setup.dataset, target) };
        let from = RestoreSource::Mirror { from: local(&setup.mirror()), snapshot: SNAPSHOT.parse().unwrap(), refs: list.clone() };
        CLIENT.restore(&context, from)
    };
    let restore = |limit| restore_to(&target, limit);
    let error = restore(100_000).unwrap_err();
    assert!(error.kind() == Kind::Refused && error.one_line().contains("larger than the 97.7 KiB of --limit"), "{}", error.render());
    assert!(mark(&target).exists() && names(&target.join("objects/pack")).is_empty());
    // With more it goes on.
    assert_eq!(restore(1_000_000).unwrap().entries, 1);
    assert!(!mark(&target).exists());
    // Just as much as it takes is enough, and a byte less is not.
    let size = crate::git::mirror::packs_size(&target).unwrap();
    let other = setup.folder.path().join("other");
    assert_eq!(restore_to(&other, size - 1).unwrap_err().kind(), Kind::Refused);
    assert!(names(&other.join("objects/pack")).is_empty());
    assert_eq!(restore_to(&other, size).unwrap().entries, 1);
}
