//! The choice held against git itself, and what the walk makes of it on real trees.

use super::*;
use crate::look::{Fate, look};
use crate::walk::Source;
use proptest::prelude::*;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn choice(exclude: &[&str], include: &[&str]) -> Choice {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Choice::new(&owned(exclude), &owned(include)).unwrap()
}

fn taken(choice: &Choice, path: &str) -> bool {
    choice.judge(path.trim_end_matches('/').as_bytes(), path.ends_with('/')) == Verdict::Take
}

#[test]
fn exceptions_reach_where_they_say() {
    let it = choice(&["*.tmp", "/cache/", "node_modules/", "!keep.tmp"], &["/cache/wanted/", "**/node_modules/mine/*.js", "*.conf"]);
    for path in [
        "a",
        "cache",
        "x/cache/",
        "keep.tmp",
        "cache/wanted/",
        "cache/wanted/deep/a",
        "a/node_modules/mine/x.js",
        "node_modules/mine/x.js",
        "a.conf",
        "x/cache/a",
    ] {
        assert!(taken(&it, path), "{path} is taken");
    }
    for path in [
        "a.tmp",
        "x/a.tmp",
        "cache/",
        "cache/a",
        "cache/a.conf",
        "cache/keep.tmp",
        "cache/wanted/a.tmp",
        "node_modules/",
        "node_modules/a.conf",
        "a/node_modules/mine/",
        "a/node_modules/mine/x.css",
        "a/node_modules/mine/deep/x.js",
    ] {
        assert!(!taken(&it, path), "{path} is left out");
    }
    assert!(matches!(it.judge(b"cache", true), Verdict::Pass(Why::Pattern("/cache/"))));
    assert!(matches!(it.judge(b"cache/other", true), Verdict::Pass(_)), "**/node_modules could be anywhere");
    let near = choice(&["/cache/"], &["/cache/wanted/", "*.conf"]);
    assert_eq!(near.judge(b"cache/other", true), Verdict::Leave(Why::Folder));
    assert_eq!(near.judge(b"cache/other/a.conf", false), Verdict::Leave(Why::Folder));
    assert!(taken(&near, "b.conf"));
}

#[test]
fn names_are_bytes() {
    let it = choice(&["caf?", "*.t\u{e9}xt"], &[]);
    assert!(matches!(it.judge(b"caf\xe9", false), Verdict::Leave(_)));
    assert!(matches!(it.judge(b"\xff\xfe\n.t\xc3\xa9xt", false), Verdict::Leave(_)));
    assert_eq!(it.judge(b"\xff.t\xe9xt", false), Verdict::Take);
}

#[test]
fn patterns_that_git_would_pass_over_are_errors() {
    for bad in
        ["", "/", "#a", "!", "!/", "!!a", "a ", "a\\", "[a", "[[:alfa:]]", "a//b", "./a", "a/../b", "..", "a\nb", "a\0", "[a/b]", "[!"]
    {
        let error = check_pattern(bad, true).unwrap_err();
        assert!(error.kind() == base::Kind::Usage && error.one_line().contains("pattern"), "{bad:?}: {}", error.one_line());
    }
    for good in
        ["a", "/a/", "!a", "\\#a", "\\!a", "a\\ ", "[]a]", "[!]a]", "[[:alpha:]]x", "[a\\]]", "**/a", "a/**", "{a,b}", "...", ".a", "[[a]"]
    {
        check_pattern(good, true).unwrap_or_else(|error| panic!("{good:?}: {}", error.one_line()));
    }
    assert!(check_pattern("!a", false).is_err());
}

#[test]
fn many_stars_are_no_trap() {
    let it = choice(&["*a*a*a*a*a*a*a*a*a*a*a*a*b", "**/a*/**/a*/**/a*/**/a*/**/a*/**/b"], &[]);
    let begun = std::time::Instant::now();
    assert_eq!(it.judge(&[b'a'; 250], false), Verdict::Take);
    assert_eq!(it.judge("aaaa/".repeat(100).trim_end_matches('/').as_bytes(), false), Verdict::Take);
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn a_list_names_what_is_taken() {
    let mut it = Choice::default();
    it.only(b"a/b\n./c//d/\n/srv/data/e\n/srv/other\n../f\n", Path::new("/srv/data")).unwrap();
    for path in ["a/", "a/b", "a/b/", "a/b/x", "c/", "c/d/", "c/d/x/y", "e", "e/x"] {
        assert!(taken(&it, path), "{path}");
    }
    for path in ["a", "a/c", "a/bb", "c/e/", "f", "other", "srv/"] {
        assert!(!taken(&it, path), "{path}");
    }
    assert_eq!(it.names.as_ref().unwrap().wrong().len(), 2);
    let mut zero = Choice::default();
    zero.only(b"with\nfeed\0.\0", Path::new("/")).unwrap();
    assert!(taken(&zero, "anything") && zero.names.as_ref().unwrap().find(b"with\nfeed").is_some());
    assert!(Choice::default().only(b"\n\n", Path::new("/")).is_err());
}

/// Parts of patterns and of paths, few and alike, so that they meet.
fn part() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["a", "b", "ab", "abc", "a.c", "b.c", ".a", "A", "a b", "c", "{a,b}", "a]"]).prop_map(str::to_owned)
}

/// Without `a**`: git's manual takes these asterisks for one, and so do we; git itself matches slashes with them.
fn pattern() -> impl Strategy<Value = String> {
    let wild = proptest::sample::select(vec![
        "*",
        "a*",
        "*b",
        "*.c",
        "?",
        "a?",
        "[ab]",
        "[!a]",
        "[^a]*",
        "[a-c]",
        "[[:lower:]]",
        "[[:upper:]]",
        "**",
        "**b",
        "\\a",
        "\\{a,b\\}",
        "[]]",
        "*\\]",
        "\\*",
    ]);
    let parts = proptest::collection::vec(prop_oneof![part(), wild.prop_map(str::to_owned)], 1..4);
    (any::<bool>(), proptest::bool::weighted(0.3), parts, proptest::bool::weighted(0.3)).prop_map(|(not, root, parts, folder)| {
        let path = parts.join("/");
        format!("{}{}{path}{}", if not { "!" } else { "" }, if root { "/" } else { "" }, if folder { "/" } else { "" })
    })
}

/// What git says is ignored of `paths` (folders end in a slash).
fn ignored_by_git(root: &Path, patterns: &[String], paths: &[String]) -> Vec<bool> {
    std::fs::write(root.join(".git/info/exclude"), patterns.join("\n") + "\n").unwrap();
    let mut command = Command::new("git");
    command.args(["check-ignore", "--no-index", "--stdin", "-z", "-v", "-n"]).current_dir(root);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", root);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // git looks at the disk for what is a folder; a slash at the end would mean what is in it.
    let input = paths.iter().map(|path| path.trim_end_matches('/')).collect::<Vec<_>>().join("\0");
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    // source, line, pattern, path
    let fields: Vec<&[u8]> = output.stdout.split(|b| *b == 0).collect();
    let rows: Vec<_> = fields.chunks_exact(4).collect();
    assert_eq!(rows.len(), paths.len());
    rows.iter().map(|row| !row[2].is_empty() && !row[2].starts_with(b"!")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn exclude_is_what_git_ignores(
        patterns in proptest::collection::vec(pattern(), 1..6),
        files in proptest::collection::vec(proptest::collection::vec(part(), 1..5), 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(Command::new("git").args(["init", "-q"]).current_dir(root).status().unwrap().success());
        let mut paths = Vec::new();
        for file in &files {
            let path = root.join(file.join("/"));
            // Where a file has a folder's place already, the tree is made without it.
            if std::fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() && std::fs::write(&path, "").is_ok() {
                paths.push(file.join("/"));
                paths.extend((1..file.len()).map(|depth| file[..depth].join("/") + "/"));
            }
        }
        let git = ignored_by_git(root, &patterns, &paths);
        let it = Choice::new(&patterns, &[]).unwrap();
        for (path, ignored) in paths.iter().zip(git) {
            prop_assert_eq!(!taken(&it, path), ignored, "{} with {:?}", path, &patterns);
        }
    }

    #[test]
    fn an_exception_is_never_out_of_reach(
        exclude in proptest::collection::vec(pattern(), 0..5),
        include in proptest::collection::vec(pattern().prop_map(|text| text.trim_start_matches('!').to_owned()), 0..4),
        path in proptest::collection::vec(part(), 1..5),
    ) {
        let it = Choice::new(&exclude, &include).unwrap();
        // Whatever an exception with a place matches is found, however many folders above it are left out.
        let joined = path.join("/");
        if it.patterns.reaches(joined.as_bytes(), false) {
            prop_assert_eq!(it.judge(joined.as_bytes(), false), Verdict::Take);
        }
    }
}

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&[u8], &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(OsStr::from_bytes(name));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What is taken, left out and unreadable, each with its name.
    fn look(&self, choice: &Choice) -> [Vec<String>; 3] {
        let seen: RefCell<[Vec<String>; 3]> = RefCell::default();
        let tell = |path: &[u8], fate: Fate<'_>| {
            let name = String::from_utf8_lossy(path).into_owned();
            let mut seen = seen.borrow_mut();
            match fate {
                Fate::Taken(_) => seen[0].push(name),
                Fate::LeftOut(why) => seen[1].push(format!("{name}: {why}")),
                Fate::Unreadable(why) => seen[2].push(format!("{name}: {why}")),
            }
        };
        look(Source::Path(self.0.path()), choice, &tell, &base::Silent).unwrap();
        seen.into_inner()
    }
}

#[test]
fn folders_on_the_way_are_there_only_when_something_is_below() {
    let tree = Tree::new(&[(b"out/far/keep/a", b"1"), (b"out/far/b", b"2"), (b"out/near/c", b"3"), (b"z", b"4")]);
    let [taken, left, wrong] = tree.look(&choice(&["/out/"], &["/out/*/keep/"]));
    assert_eq!(taken, ["", "out/", "out/far/", "out/far/keep/", "out/far/keep/a", "z"]);
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(wrong.is_empty());
    let [taken, left, _] = tree.look(&choice(&["/out/"], &["/out/*/absent"]));
    assert_eq!(taken, ["", "z"]);
    assert!(left.contains(&"out/: exclude \"/out/\"".into()), "{left:?}");
}

#[test]
fn of_a_cache_the_tag_stays() {
    let tag = [CACHE_SIGNATURE, b"\n# made by a test\n"].concat();
    let tree =
        Tree::new(&[(b"c/CACHEDIR.TAG", &tag), (b"c/x/y", b"1"), (b"c/z", b"1"), (b"d/CACHEDIR.TAG", b"no"), (b"d/x", b"1"), (b"e", b"")]);
    std::fs::create_dir(tree.path("f")).unwrap();
    std::os::unix::fs::symlink("../c/CACHEDIR.TAG", tree.path("f/CACHEDIR.TAG")).unwrap();
    let it = Choice { exclude_caches: true, ..Choice::default() };
    let [taken, left, _] = tree.look(&it);
    assert_eq!(taken, ["", "c/", "c/CACHEDIR.TAG", "d/", "d/CACHEDIR.TAG", "d/x", "e", "f/", "f/CACHEDIR.TAG"]);
    assert_eq!(left.len(), 2);
}

#[test]
fn size_and_own_folders() {
    let tree = Tree::new(&[(b"own/pack", b"1"), (b"big", b"12345"), (b"small", b"1234")]);
    let own = std::fs::metadata(tree.path("own")).unwrap();
    let own = vec![(std::os::unix::fs::MetadataExt::dev(&own), std::os::unix::fs::MetadataExt::ino(&own))];
    let it = Choice { max_file_size: Some(4), own, ..Choice::default() };
    let [taken, left, _] = tree.look(&it);
    assert_eq!(taken, ["", "own/", "small"]);
    assert_eq!(left.len(), 2);
    assert!(left[0].starts_with("big: larger") && left[1].starts_with("own/: nightsafe's own"), "{left:?}");
}

#[test]
fn what_a_list_names_and_is_not_there_is_told() {
    let tree = Tree::new(&[(b"a/b", b"1"), (b"a/c", b"1"), (b"\xff", b"1"), (b"d.tmp", b"")]);
    let mut it = choice(&["*.tmp"], &[]);
    it.only(b"a/b\n\xff\nabsent/x\nd.tmp\ngone.tmp\n/etc/passwd\n", tree.0.path()).unwrap();
    let [taken, left, wrong] = tree.look(&it);
    assert_eq!(taken, ["", "a/", "a/b", "\u{fffd}"]);
    assert_eq!(left, ["a/c: not named in files_from", "d.tmp: exclude \"*.tmp\""]);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].contains("/etc/passwd") && wrong[1].starts_with("absent/x: it is named"), "{wrong:?}");
}
