//! Any tree survives.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_survives(
        names in prop::collection::btree_set("[a-c]{1,2}(/[a-c.-]{1,2}){0,3}", 1..40),
        sizes in prop::collection::vec(prop::collection::vec(0usize..6000, 0..6), 40),
        kinds in prop::collection::vec(0u8..8, 40),
        lines in 1usize..9,
        frame in 600usize..20_000,
    ) {
        let mut forge = Forge::new();
        (forge.segment_lines, forge.frame_size) = (lines.max(2), frame);
        let mut entries: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
        entries.insert(Vec::new(), folder(""));
        let mut shared: Vec<Member> = Vec::new();
        for ((name, chunks), kind) in names.iter().zip(&sizes).zip(&kinds) {
            if name.split('/').any(|part| matches!(part, "." | "..")) {
                continue;
            }
            let parents: Vec<String> = name.match_indices('/').map(|(at, _)| name[..=at].to_owned()).collect();
            let free = |entries: &BTreeMap<Vec<u8>, Entry>, name: &str| !entries.contains_key(name.trim_end_matches('/').as_bytes()) && !entries.contains_key(format!("{}/", name.trim_end_matches('/')).as_bytes());
            if !free(&entries, name) || parents.iter().any(|parent| entries.contains_key(parent.trim_end_matches('/').as_bytes())) {
                continue;
            }
            for parent in parents {
                entries.insert(parent.clone().into_bytes(), folder(&parent));
            }
            let made = match kind {
                0 => folder(&format!("{name}/")),
                1 => link(name, "../target"),
                _ => {
                    let mut members = Vec::new();
                    let mut content = Vec::new();
                    for (i, size) in chunks.iter().enumerate() {
                        // Now and then a chunk that another file has already, so that lists jump back.
                        let bytes = vec![u8::try_from(size % 251).unwrap(); size + 1];
                        let reuse = shared.get(size % 7).copied().filter(|_| kind % 2 == 0 && i % 2 == 1);
                        let at = reuse.unwrap_or_else(|| forge.chunk(&bytes));
                        shared.push(at);
                        members.push((at, bytes, reuse.is_some()));
                    }
                    let mut list = Vec::new();
                    for (at, bytes, reused) in members {
                        if reused { continue }
                        content.extend(&bytes);
                        list.push(at);
                        if kind % 3 == 0 {
                            content.extend(&bytes);
                            list.push(at);
                        }
                    }
                    // Backwards, for lists that no order of frames suits.
                    if kind % 5 == 4 {
                        list.clear();
                        content.clear();
                        for size in chunks.iter().rev() {
                            let bytes = vec![u8::try_from(size % 251).unwrap(); size + 1];
                            let at = forge.chunk(&bytes);
                            list.insert(0, at);
                            content.splice(0..0, bytes);
                        }
                    }
                    forge.file_at(name, References::of(list), &content)
                }
            };
            entries.insert(made.path.clone(), made);
        }
        let all: Vec<Entry> = entries.values().cloned().collect();
        let forged = forge.finish(all.clone());
        let reader = forged.reader();
        prop_assert_eq!(&reader.entries().collect::<Result<Vec<_>>>().unwrap(), &all);
        for entry in &all {
            let found = reader.find(&entry.path).unwrap();
            prop_assert_eq!(found.as_ref(), Some(entry));
            let below: Vec<Entry> = reader.below(&entry.path).unwrap().collect::<Result<_>>().unwrap();
            let expected: Vec<Entry> = all.iter().filter(|other| *other == entry || entry.kind == EntryKind::Dir && other.path.starts_with(&entry.path)).cloned().collect();
            prop_assert_eq!(below, expected);
            if entry.kind == EntryKind::Dir {
                let children: Vec<Entry> = reader.children(&entry.path).collect::<Result<_>>().unwrap();
                let rest = |path: &[u8]| path.strip_prefix(entry.path.as_slice()).map(<[u8]>::to_vec).filter(|rest| !rest.is_empty());
                let direct = |path: &[u8]| rest(path).is_some_and(|rest| !rest[..rest.len() - 1].contains(&b'/'));
                let expected: Vec<Entry> = all.iter().filter(|other| direct(&other.path)).cloned().collect();
                prop_assert_eq!(children, expected);
            }
        }
        for absent in ["", "0", "a-", "b/..", "zz", "a/zz/zz"] {
            let there = all.iter().any(|entry| entry.shown_path().trim_end_matches('/') == absent);
            prop_assert_eq!(reader.find(absent.as_bytes()).unwrap().is_some(), there, "{}", absent);
        }
        let dir = tempfile::tempdir().unwrap();
        let report = restore(&forged, dir.path()).unwrap();
        prop_assert_eq!(report.problems, Vec::<String>::new());
        prop_assert_eq!(report.entries, all.len() as u64);
        for entry in &all {
            let path = dir.path().join(entry.shown_path());
            let mtime = path.symlink_metadata().unwrap().mtime();
            prop_assert_eq!(mtime, entry.mtime.seconds, "{:?}", path);
            if matches!(entry.kind, EntryKind::File { .. }) {
                let mut content = Vec::new();
                reader.read_file(entry, &mut content).unwrap();
                prop_assert_eq!(fs::read(&path).unwrap(), content);
            }
        }
    }
}
