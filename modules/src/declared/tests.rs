//! Declared modules from one end to the other without a network: real commands, good and bad ones.

use crate::archived::tests::Setup;
use crate::archived::{Staging, sweep_staging};
use crate::testing::{is_stored, restore_context};
use crate::{Destination, RestoreContext, RestoreReport, RestoreSource, client_module, restoring_module};
use base::{Claim, Error, Kind, Monitor, Result};
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

/// A client that declares the module `x` and may back up everything with it.
fn setup(table: &str, path: Option<&str>) -> Setup {
    let allow = "[[allow]]\nmodule = \"x\"\nunder = \"/\"\n[[dataset]]\naddress = \"x:main\"\n";
    let setup = Setup::new("x", path, &format!("{allow}[module.x]\n{table}"));
    crate::check_settings(&setup.config).unwrap();
    setup
}

/// `prepare` that runs `script`: `$0` is the path, `$1` the staging folder.
fn preparing(script: &str) -> String {
    format!("prepare = [\"sh\", \"-c\", {script:?}, \"{{path}}\", \"{{staging}}\"]\n")
}

/// A backup that the node has.
fn stored(setup: &mut Setup) -> Claim {
    let (prepared, claim) = setup.prepare();
    assert_eq!(prepared.unreadable, 0);
    let fetched = setup.fetch(&claim, prepared.attachment.as_deref());
    assert!(is_stored(&fetched), "{fetched:?}");
    setup.settle(&claim, &fetched);
    claim
}

/// What is below a folder: names with content, `/` for folders, `-> target` for links.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap()) {
            let kind = entry.file_type().unwrap();
            let content = if kind.is_dir() {
                folders.push(entry.path());
                "/".into()
            } else if kind.is_symlink() {
                format!("-> {}", std::fs::read_link(entry.path()).unwrap().display())
            } else {
                std::fs::read_to_string(entry.path()).unwrap()
            };
            found.insert(entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned(), content);
        }
    }
    found
}

fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, content)| ((*name).into(), (*content).into())).collect()
}

/// No request leaves anything behind.
fn is_clean(setup: &Setup) -> bool {
    let staging = setup.config.staging_path();
    let left: Vec<_> = std::fs::read_dir(staging).into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect();
    setup.exported().is_empty() && left.iter().all(|name| name == ".lock")
}

/// Whether a process with `word` in its command line runs.
fn runs(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).split('\0').any(|part| part == word))
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_prepare_writes_is_the_dataset_and_comes_back_without_any_table() {
    let mut setup =
        setup(&preparing("cp -a \"$0\"/. \"$1\"; echo dumped > \"$1/db\"; ln -s /etc/passwd \"$1/link\"; ls -ld \"$1\" >&2"), None);
    std::fs::create_dir(setup.data("sub")).unwrap();
    std::fs::write(setup.data("sub/a"), "a").unwrap();
    setup.module().check(&setup.config, &setup.dataset).unwrap();
    let claim = stored(&mut setup);
    assert!(is_clean(&setup));
    let content = expected(&[("db", "dumped\n"), ("link", "-> /etc/passwd"), ("sub", "/"), ("sub/a", "a")]);
    assert_eq!(tree(&setup.restore(&claim, "back")), content);
    let elsewhere = restoring_module(None, "x").unwrap();
    let target = setup.folder.path().join("elsewhere");
    elsewhere.restore(&restore_context(&setup.dataset, &target), RestoreSource::Archive(setup.open(&claim))).unwrap();
    assert_eq!(tree(&target), content);
    let again = stored(&mut setup);
    assert_eq!(tree(&setup.restore(&again, "again")), content);
}

#[test]
fn a_command_that_insists_on_making_its_folder_makes_it() {
    // As trac-admin hotcopy does.
    let script = "if [ -e \"$1\" ]; then echo \"can't overwrite existing '$1'\" >&2; exit 2; fi; cp -a \"$0\" \"$1\"";
    let mut setup = setup(&preparing(script), None);
    std::fs::write(setup.data("a"), "a").unwrap();
    let claim = stored(&mut setup);
    assert_eq!(tree(&setup.restore(&claim, "back")), expected(&[("a", "a")]));
    assert!(is_clean(&setup));
}

#[test]
fn arguments_arrive_as_they_are_and_the_environment_is_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let name = "a b;$(touch hacked)`id`'\"*?\\{path}-- é";
    let path = folder.path().canonicalize().unwrap().join(name);
    std::fs::create_dir(&path).unwrap();
    let table = "stream = [\"sh\", \"-c\", \"printf '[%s]\\\\n' \\\"$@\\\"; env; pwd\", \"sh\", \"{path}\", \"--db={path}/x\", \"{dataset}\", \"{{path}}\", \"\"]\n\
        name = \"said\"\nenv = { NAME = \"<{path}>\", PATH = \"/usr/bin:/bin\" }\nfolder = \"{path}\"\n";
    let mut setup = setup(table, Some(path.to_str().unwrap()));
    let claim = stored(&mut setup);
    let said = std::fs::read_to_string(setup.restore(&claim, "back").join("said")).unwrap();
    let shown = path.display();
    let begins = format!("[{shown}]\n[--db={shown}/x]\n[x:{shown}]\n[{{path}}]\n[]\n");
    assert!(said.starts_with(&begins), "{said}");
    assert!(
        said.contains(&format!("NAME=<{shown}>\n")) && said.contains("PATH=/usr/bin:/bin\n") && said.ends_with(&format!("{shown}\n")),
        "{said}"
    );
    assert!(!said.contains("CARGO"), "{said}");
    assert!(!path.join("hacked").exists());
}

#[test]
fn streams_and_files_are_one_restore_point_in_the_order_of_their_names() {
    let table = "streams = { \"site.sql\" = [\"echo\", \"site\"], \"a.sql\" = [\"echo\", \"a\"] }\n\
        take = { site = \"{path}\", conf = \"{path}/conf/one\" }\n";
    let mut setup = setup(table, None);
    std::fs::create_dir(setup.data("conf")).unwrap();
    std::fs::write(setup.data("conf/one"), "1").unwrap();
    std::fs::write(setup.data("page"), "page").unwrap();
    let claim = stored(&mut setup);
    let back = setup.restore(&claim, "back");
    let content = [
        ("a.sql", "a\n"),
        ("conf", "1"),
        ("site", "/"),
        ("site.sql", "site\n"),
        ("site/conf", "/"),
        ("site/conf/one", "1"),
        ("site/page", "page"),
    ];
    assert_eq!(tree(&back), expected(&content));
    // Only an absolute path has files to be taken, and no link leads elsewhere.
    setup.dataset = "x:main".parse().unwrap();
    assert!(setup.module().check(&setup.config, &setup.dataset).is_err() && setup.try_prepare().is_err());
    symlink("/etc", setup.data("link")).unwrap();
    setup.dataset = format!("x:{}", setup.data("link").canonicalize().unwrap().display()).parse().unwrap();
    setup.dataset = format!("x:{}/link", setup.folder.path().canonicalize().unwrap().join("data").display()).parse().unwrap();
    assert!(setup.module().check(&setup.config, &setup.dataset).unwrap_err().one_line().contains("symbolic link"));
    assert!(setup.try_prepare().is_err() && is_clean(&setup));
}

#[test]
fn what_a_dataset_chooses_holds_for_its_files() {
    let table = preparing("mkdir \"$1/db\"; echo 1 > \"$1/db/t.tmp\"")
        + "take = { sub = \"{path}/sub\", all = \"{path}\", db = \"{staging}/db\" }\n";
    let mut setup = setup(&table, None);
    std::fs::create_dir_all(setup.data("sub/x")).unwrap();
    for name in ["a.tmp", "keep", "sub/x/b.tmp", "sub/x/c"] {
        std::fs::write(setup.data(name), name).unwrap();
    }
    let address = setup.dataset.to_string();
    let path = setup.config.state.parent().unwrap().join("client.toml");
    let text = format!(
        "version = 1\nname = \"web1\"\nstate = {:?}\nrecipients = [{:?}]\n[[node]]\nname = \"node1\"\nssh = \"g@h\"\nhost_key = \"k\"\nreceipts_key = \"k\"\n[[dataset]]\naddress = {address:?}\nexclude = [\"*.tmp\", \"/x/c\"]\n[module.x]\n{table}",
        setup.config.state, setup.config.recipients[0]
    );
    std::fs::write(&path, text).unwrap();
    setup.config = base::config::ClientConfig::load(&path).unwrap();
    crate::check_settings(&setup.config).unwrap();
    let claim = stored(&mut setup);
    let content = [
        ("all", "/"),
        ("all/keep", "keep"),
        ("all/sub", "/"),
        ("all/sub/x", "/"),
        ("all/sub/x/c", "sub/x/c"),
        ("db", "/"),
        ("db/t.tmp", "1\n"),
        ("sub", "/"),
        ("sub/x", "/"),
    ];
    assert_eq!(tree(&setup.restore(&claim, "back")), expected(&content));
}

#[test]
fn what_prepare_writes_may_stand_beside_files() {
    let table = format!(
        "{}take = {{ files = \"{{path}}\", database = \"{{staging}}/db\" }}\n",
        preparing("mkdir \"$1/db\" \"$1/junk\"; echo 1 > \"$1/db/t\"")
    );
    let mut setup = setup(&table, None);
    std::fs::write(setup.data("a"), "a").unwrap();
    let claim = stored(&mut setup);
    let content = [("database", "/"), ("database/t", "1\n"), ("files", "/"), ("files/a", "a")];
    assert_eq!(tree(&setup.restore(&claim, "back")), expected(&content));
}

#[test]
fn commands_that_fail_make_no_snapshot_and_leave_nothing() {
    let long = "time_limit = \"1h\"\n";
    let short = "time_limit = \"1s\"\n";
    let cases = [
        (preparing("echo x > \"$1/x\"; echo 'the disk is gone' >&2; exit 1") + long, "the disk is gone"),
        (preparing("echo x > \"$1/x\"; kill -9 $$") + long, "signal: 9"),
        (preparing("rm -rf \"$1\"") + long, "left no staging folder"),
        (preparing("true") + long, "left the staging folder empty"),
        (preparing("rmdir \"$1\"; echo x > \"$1\"") + long, "something else"),
        (preparing("rmdir \"$1\"; ln -s /etc \"$1\"") + long, "something else"),
        (preparing("echo some > \"$1/x\"; echo 'waits for a lock' >&2; sleep 7411") + short, "waits for a lock"),
        (preparing("sleep 7411 & wait") + short, "took longer"),
        (preparing("yes >&2") + short, "took longer"),
        (preparing("yes") + short, "took longer"),
        ("prepare = [\"no-such-tool\", \"{staging}\"]\n".into(), "no-such-tool"),
        ("prepare = [\"/etc/passwd\", \"{staging}\"]\n".into(), "/etc/passwd"),
        ("stream = [\"sh\", \"-c\", \"echo half; echo broken >&2; exit 3\"]\n".into(), "broken"),
        ("stream = [\"sh\", \"-c\", \"echo half; exec sleep 7411\"]\n".to_owned() + short, "took longer"),
        ("stream = [\"cat\", \"/dev/zero\"]\n".to_owned() + short, "took longer"),
        ("streams = { a = [\"echo\", \"a\"], b = [\"false\"] }\n".into(), "b of x:"),
        ("stream = [\"echo\", \"a\"]\ncheck = [\"sh\", \"-c\", \"echo 'not in order' >&2; false\"]\n".into(), "not in order"),
        ("stream = [\"echo\", \"a\"]\nfolder = \"/nowhere\"\n".into(), "/nowhere"),
        ("stream = [\"echo\", \"a\"]\ntake = { files = \"{path}/absent\" }\n".into(), "absent"),
        (preparing("echo x > \"$1/x\"") + "take = { files = \"{staging}/absent\" }\n", "absent"),
        (preparing("ln -s /etc \"$1/l\"") + "take = { files = \"{staging}/l/ssh\" }\n", "{staging}/l/ssh"),
    ];
    for (table, word) in cases {
        let mut setup = setup(&table, None);
        let error = setup.try_prepare().unwrap_err();
        assert!(error.kind() != Kind::NotNow && error.one_line().contains(word), "{table}: {}", error.one_line());
        assert!(is_clean(&setup), "{table}");
        until("everything that was started has ended", || !runs("7411"));
    }
}

#[test]
fn nobody_is_waited_for_who_was_left_behind_and_the_streams_are_whole() {
    let mut one = setup(&preparing("sleep 7412 & echo x > \"$1/x\""), None);
    stored(&mut one);
    let mut two = setup("stream = [\"sh\", \"-c\", \"sleep 7412 & echo whole\"]\n", None);
    let claim = stored(&mut two);
    assert_eq!(tree(&two.restore(&claim, "back")), expected(&[("dump", "whole\n")]));
    until("what was left behind has ended", || !runs("7412"));
}

#[test]
fn a_folder_that_its_command_closed_is_removed_all_the_same() {
    let mut setup = setup(&preparing("mkdir -p \"$1/a/b\"; echo x > \"$1/a/b/c\"; chmod 500 \"$1/a/b\" \"$1/a\""), None);
    let claim = stored(&mut setup);
    assert!(is_clean(&setup));
    let back = setup.restore(&claim, "back");
    assert_eq!(std::fs::metadata(back.join("a/b")).unwrap().permissions().mode() & 0o777, 0o500);
    std::fs::set_permissions(back.join("a"), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::set_permissions(back.join("a/b"), PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn folders_of_the_dead_are_swept_and_those_of_the_living_stay() {
    let setup = setup(&preparing("true"), None);
    let root = setup.config.staging_path();
    assert!(sweep_staging(&setup.config).is_ok() && !root.exists());
    let living = Staging::make(&setup.config, "living").unwrap();
    std::fs::write(living.data().join("x"), "x").unwrap();
    std::fs::create_dir_all(root.join("20261120T031501Z-3f9a1c7e/data/closed")).unwrap();
    std::fs::set_permissions(root.join("20261120T031501Z-3f9a1c7e/data"), PermissionsExt::from_mode(0o000)).unwrap();
    sweep_staging(&setup.config).unwrap();
    assert!(!root.join("20261120T031501Z-3f9a1c7e").exists() && living.data().join("x").exists());
    assert!(Staging::make(&setup.config, "living").is_err());
    // Whoever works for the dead is ended; whoever has got the id of such a one is not.
    let start = || {
        use std::os::unix::process::CommandExt;
        let mut command = base::process::command("sleep");
        command.arg("7414").process_group(0).spawn().unwrap()
    };
    let (mut orphan, mut other) = (start(), start());
    let id = |child: &std::process::Child| rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    living.note(id(&orphan)).unwrap();
    std::fs::create_dir(root.join("dead")).unwrap();
    std::fs::rename(living.folder().join("group"), root.join("dead/group")).unwrap();
    std::fs::create_dir(root.join("older")).unwrap();
    std::fs::write(root.join("older/group"), format!("{} 17", other.id())).unwrap();
    sweep_staging(&setup.config).unwrap();
    assert!(!orphan.wait().unwrap().success() && other.try_wait().unwrap().is_none());
    assert!(!root.join("dead").exists() && !root.join("older").exists());
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(std::fs::metadata(living.folder()).unwrap().permissions().mode() & 0o777, 0o700);
    drop(living);
    assert!(is_clean(&setup));
    // Another account has its own folder beside this one.
    if std::os::unix::fs::chown(&root, Some(65_534), None).is_ok() {
        let beside = Staging::make(&setup.config, "restore").unwrap();
        assert_eq!(beside.folder().parent().unwrap(), root.with_file_name("staging-0"));
    }
}

#[test]
fn nothing_runs_for_what_nobody_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("ran");
    let mut setup = setup(&format!("stream = [\"touch\", {:?}]\n", mark.to_str().unwrap()), None);
    setup.dataset = "x:other".parse().unwrap();
    assert_eq!(setup.try_prepare().unwrap_err().kind(), Kind::Refused);
    for bad in ["x:a:b", "x:files:/etc"] {
        setup.dataset = bad.parse().unwrap();
        assert!(setup.module().check(&setup.config, &setup.dataset).is_err() && setup.try_prepare().is_err());
    }
    assert!(!mark.exists());
}

/// Everything, by the command.
const WHOLE: (&[String], bool) = (&[], false);

/// Restores with the commands of `table`, as on a restorer's machine.
fn restored(setup: &Setup, claim: &Claim, table: &str, to: Destination<'_>, how: (&[String], bool)) -> Result<RestoreReport> {
    let state = setup.folder.path().join("restorer");
    let text = format!("version = 1\nstate = {:?}\n[module.x]\n{table}", state.to_str().unwrap());
    let config = base::config::parse("c", text.as_bytes()).unwrap();
    crate::check_settings(&config)?;
    let monitor = Told::default();
    let (paths, no_command) = how;
    let context = RestoreContext {
        config: Some(&config),
        paths,
        to,
        no_command,
        monitor: &monitor,
        ..restore_context(&setup.dataset, Path::new("/"))
    };
    let report = client_module(Some(&config), "x").unwrap().restore(&context, RestoreSource::Archive(setup.open(claim)));
    let left =
        std::fs::read_dir(config.staging_path()).into_iter().flatten().filter(|entry| entry.as_ref().unwrap().file_name() != ".lock");
    assert_eq!(left.count(), 0);
    report
}

#[derive(Default)]
struct Told(std::sync::Mutex<Vec<String>>);

impl Monitor for Told {
    fn problem(&self, error: &Error) {
        self.0.lock().unwrap().push(error.one_line());
    }
}

#[test]
fn a_restore_command_gets_the_stream_or_the_staging_folder_and_runs_only_when_it_is_meant() {
    let mut setup = setup("stream = [\"printf\", \"one\\ntwo\\n\"]\nname = \"list\"\n", Some("main"));
    let claim = stored(&mut setup);
    let root = setup.folder.path().to_owned();
    let (made, folder) = (root.join("made"), root.join("folder"));
    let stdin = "restore = [\"sh\", \"-c\", \"{{ echo $0; cat; }} > $1\", \"{dataset}\", \"{target}\"]\n";
    let report = restored(&setup, &claim, stdin, Destination::Folder(&made), WHOLE).unwrap();
    assert_eq!(std::fs::read_to_string(&made).unwrap(), "x:main\none\ntwo\n");
    assert_eq!((report.entries, report.bytes, report.problems.len()), (1, 8, 0));
    let staged = "restore = [\"sh\", \"-c\", \"cp -r $0 $1; ls -ld $0 >&2\", \"{staging}\", \"{target}\"]\n";
    restored(&setup, &claim, staged, Destination::Folder(&folder), WHOLE).unwrap();
    assert_eq!(tree(&folder), expected(&[("list", "one\ntwo\n")]));
    let named = "restore = [\"sh\", \"-c\", \"cat > $0/$1\", \"ROOT\", \"{target}\"]\n".replace("ROOT", root.to_str().unwrap());
    restored(&setup, &claim, &named, Destination::Database("db"), WHOLE).unwrap();
    assert_eq!(std::fs::read_to_string(root.join("db")).unwrap(), "one\ntwo\n");
    // Files: because it is asked, because only a part is asked, because there is no command.
    let paths = ["list".to_owned()];
    restored(&setup, &claim, "restore = [\"false\", \"{target}\"]\n", Destination::Folder(&root.join("f1")), (&[], true)).unwrap();
    restored(&setup, &claim, "restore = [\"false\", \"{target}\"]\n", Destination::Folder(&root.join("f2")), WHOLE).unwrap_err();
    restored(&setup, &claim, "restore = [\"false\", \"{target}\"]\n", Destination::Folder(&root.join("f2")), (&paths, false)).unwrap();
    restored(&setup, &claim, "stream = [\"true\"]\n", Destination::Folder(&root.join("f3")), WHOLE).unwrap();
    for name in ["f1", "f2", "f3"] {
        assert_eq!(tree(&root.join(name)), expected(&[("list", "one\ntwo\n")]), "{name}");
    }
    // A command without {target} goes to its own place alone.
    let own = format!("restore = [\"sh\", \"-c\", \"cat > {}\"]\n", root.join("own").display());
    let error = restored(&setup, &claim, &own, Destination::Folder(&root.join("f4")), WHOLE).unwrap_err();
    assert!(error.render().contains("no {target}") && error.render().contains("--in-place"), "{}", error.render());
    restored(&setup, &claim, &own, Destination::Folder(Path::new("main")), WHOLE).unwrap();
    assert_eq!(std::fs::read_to_string(root.join("own")).unwrap(), "one\ntwo\n");
    restored(&setup, &claim, "stream = [\"true\"]\n", Destination::Folder(Path::new("main")), WHOLE).unwrap_err();
}

#[test]
fn restore_commands_that_fail_say_so() {
    let mut setup = setup("stream = [\"head\", \"-c\", \"3000000\", \"/dev/zero\"]\n", Some("main"));
    let claim = stored(&mut setup);
    let target = setup.folder.path().join("t");
    for (command, more, word) in [
        ("cat > /dev/null; echo 'no such base' >&2; exit 1", "", "no such base"),
        ("echo 'will not read' >&2; exit 4", "", "will not read"),
        ("exit 0", "", "took no more"),
        ("sleep 7413", "time_limit = \"1s\"\n", "took longer"),
        ("cat > /dev/null; sleep 7413", "time_limit = \"1s\"\n", "took longer"),
        ("sleep 7413 & exit 1", "", "exit status: 1"),
    ] {
        let table = format!("restore = [\"sh\", \"-c\", {command:?}, \"{{target}}\"]\n{more}");
        let error = restored(&setup, &claim, &table, Destination::Folder(&target), WHOLE).unwrap_err();
        assert!(error.one_line().contains(word), "{command}: {}", error.one_line());
        until("everything that was started has ended", || !runs("7413"));
    }
    // A snapshot that is not whole is given to nobody.
    let packs = setup.packs();
    let largest = packs.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mark = setup.folder.path().join("whole");
    let mut bytes = std::fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(largest, bytes).unwrap();
    for command in ["cat > /dev/null; touch \\\"$1\\\"", "touch \\\"$1\\\" # {staging}"] {
        let table = format!("restore = [\"sh\", \"-c\", \"{command}\", \"{{target}}\", {:?}]\n", mark.to_str().unwrap());
        assert!(restored(&setup, &claim, &table, Destination::Folder(&target), WHOLE).is_err());
        assert!(!mark.exists(), "{command}");
    }
}

#[test]
fn the_examples_of_the_page_are_configurations() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/modules.md")).unwrap();
    let blocks: Vec<&str> = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(["module.trac", "module.drupal", "module.ldap"].iter().all(|name| blocks.iter().any(|block| block.contains(name))));
    for block in blocks {
        let config = base::config::parse("c", format!("version = 1\nname = \"web1\"\n{block}").as_bytes()).unwrap();
        crate::check_settings(&config).unwrap_or_else(|error| panic!("{block}\n{}", error.render()));
        for entry in &config.datasets {
            super::settings::check_form(&entry.address).unwrap();
        }
    }
}

#[test]
fn what_would_be_done_is_told_and_programs_are_looked_for() {
    let table = "prepare = [\"sh\", \"-c\", \"exit 1\", \"{path}\", \"{staging}\"]\ncheck = [\"test\", \"-d\", \"{path}\"]\nrestore = [\"no-such-tool\", \"{staging}\"]\n";
    let setup = setup(table, None);
    let context = crate::LookContext { config: &setup.config, tell: &|_| (), monitor: &base::Silent };
    let lines = setup.module().look(&context, &setup.dataset).unwrap().lines.join("\n");
    let path = setup.dataset.path();
    assert!(
        lines.contains(&format!("The check went well: test -d {path}")) && lines.contains(&format!("sh -c 'exit 1' {path} {{staging}}")),
        "{lines}"
    );
    assert!(is_clean(&setup));
    let found: Vec<String> =
        setup.module().programs(&setup.config).into_iter().map(|found| found.unwrap_or_else(|error| error.one_line())).collect();
    assert_eq!(found.len(), 3);
    assert!(found[0].contains("/test") && found[2].contains("there is no program no-such-tool"), "{found:?}");
    let failing = self::setup("stream = [\"echo\"]\ncheck = [\"false\"]\n", None);
    let context = crate::LookContext { config: &failing.config, tell: &|_| (), monitor: &base::Silent };
    assert!(failing.module().look(&context, &failing.dataset).is_err());
}
