use super::*;
use base::{Name, Reason, Silent};
use std::os::unix::fs::symlink;
use std::sync::Mutex;

struct Problems(Mutex<Vec<String>>);

impl Monitor for Problems {
    fn problem(&self, error: &Error) {
        self.0.lock().unwrap().push(error.one_line());
    }
}

fn problems() -> Problems {
    Problems(Mutex::new(Vec::new()))
}

fn request(dataset: &str) -> PoolFile {
    PoolFile::new(&dataset.parse().unwrap(), &Name::new("node1").unwrap(), &[], Reason::Manual).unwrap()
}

fn pool() -> (tempfile::TempDir, ClientPool) {
    let dir = tempfile::tempdir().unwrap();
    let pool = ClientPool::create(&dir.path().join("pool")).unwrap();
    (dir, pool)
}

fn any(_: &PoolFile) -> bool {
    true
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What the sender makes itself, for a group's members.
#[test]
fn taken_into_process() {
    let dir = tempfile::tempdir().unwrap();
    let pool = ClientPool::create(&dir.path().join("pool")).unwrap();
    let file = |path: &str| {
        let dataset = base::Dataset::new("files", path).unwrap();
        PoolFile {
            group: Some(RequestId::generate().unwrap()),
            ..PoolFile::new(&dataset, &"n1".parse().unwrap(), &[], base::Reason::Manual).unwrap()
        }
    };
    let one = file("/a");
    let taken = pool.take(&one, "alice").unwrap();
    assert_eq!((&taken.file, taken.by.as_str()), (&one, "alice"));
    assert_eq!(pool.take(&one, "alice").unwrap_err().kind(), Kind::NotNow);
    assert_eq!(pool.take(&file("/a"), "alice").unwrap_err().kind(), Kind::NotNow);
    pool.take(&file("/b"), "alice").unwrap();
    drop(taken);
    pool.take(&one, "alice").unwrap();
    assert_eq!(pool.find(&one.id).unwrap().unwrap().1, one);
    // Somebody in the submit group writes a request of that id.
    let forged = PoolFile { group: None, ..file("/c") };
    let forged = PoolFile { id: one.id.clone(), ..forged };
    fs::write(State::Complete.path(&pool.inbox, &one.id), forged.to_toml(None).unwrap()).unwrap();
    assert_eq!(pool.find(&one.id).unwrap().unwrap().0, State::Complete);
    assert_eq!(pool.find_claimed(&one.id), Some((State::Process, one.clone())));
    assert_eq!(pool.in_process().unwrap().len(), 2);
    pool.finish(&one.id).unwrap();
    assert_eq!(pool.find_claimed(&one.id), Some((State::Finished, one)));
    assert_eq!(pool.find_claimed(&RequestId::generate().unwrap()), None);
}

#[test]
fn from_submit_to_finished() {
    let (_dir, pool) = pool();
    assert_eq!(fs::metadata(pool.inbox()).unwrap().mode() & 0o7777, 0o1770);
    let first = request("files:/var/www");
    assert_eq!(pool.submit(&first).unwrap(), Submitted::New(first.id.clone()));
    assert_eq!(fs::metadata(State::Complete.path(&pool.inbox, &first.id)).unwrap().mode() & 0o777, 0o640);
    let second = request("files:/var/www");
    assert_eq!(pool.submit(&second).unwrap(), Submitted::AlreadyWaiting(first.id.clone()));
    let other_node = PoolFile { node: Name::new("node2").unwrap(), ..second.clone() };
    assert_eq!(pool.submit(&other_node).unwrap(), Submitted::New(other_node.id.clone()));
    pool.cancel(&other_node.id, &|_| Ok(false)).unwrap();

    let claimed = pool.claim_next(&any, &Silent).unwrap().unwrap();
    assert_eq!(claimed.file, first);
    assert_eq!(pool.list().unwrap().iter().map(|(state, ..)| *state).collect::<Vec<_>>(), [State::Process]);
    // One of a dataset is in process, so the next one of it waits; another dataset does not.
    assert_eq!(pool.submit(&second).unwrap(), Submitted::New(second.id.clone()));
    assert!(pool.claim_next(&any, &Silent).unwrap().is_none());
    let other = request("git:/srv/a.git");
    pool.submit(&other).unwrap();
    assert!(pool.claim_next(&|file| file.module == "files", &Silent).unwrap().is_none());
    let other = pool.claim_next(&|file| file.module == "git", &Silent).unwrap().unwrap();

    assert_eq!(pool.cancel(&other.file.id, &|_| Ok(false)).unwrap_err().kind(), Kind::NotNow);
    drop(claimed);
    pool.finish(&first.id).unwrap();
    pool.finish(&first.id).unwrap();
    assert_eq!(pool.claim_next(&any, &Silent).unwrap().unwrap().file, second);
    assert_eq!(pool.find(&first.id).unwrap().unwrap().0, State::Finished);
    let retried = pool.retry(&first.id).unwrap();
    assert!(matches!(&retried, Submitted::New(id) if *id != first.id));
    assert_eq!(pool.retry(&second.id).unwrap(), Submitted::AlreadyWaiting(second.id.clone()));
    assert_eq!(pool.sweep_finished(Duration::from_secs(7 * 86_400)).unwrap(), 0);
    assert_eq!(pool.sweep_finished(Duration::ZERO).unwrap(), 1);
    assert_eq!(pool.cancel(&first.id, &|_| Ok(false)).unwrap(), Cancelled::Unknown);
}

#[test]
fn more_tags_are_another_request() {
    let (_dir, pool) = pool();
    let plain = request("files:/a");
    pool.submit(&plain).unwrap();
    let tagged = PoolFile { tags: vec!["release".into()], ..request("files:/a") };
    assert_eq!(pool.submit(&tagged).unwrap(), Submitted::New(tagged.id.clone()));
    assert_eq!(
        pool.submit(&PoolFile { tags: vec!["release".into()], ..request("files:/a") }).unwrap(),
        Submitted::AlreadyWaiting(tagged.id)
    );
}

#[test]
fn a_crash_at_any_step_is_taken_up_again() {
    let (_dir, pool) = pool();
    let file = request("files:/var/www");
    pool.submit(&file).unwrap();
    // Killed between the rename and the writing anew.
    fs::rename(State::Complete.path(&pool.inbox, &file.id), State::Process.path(&pool.work, &file.id)).unwrap();
    let claimed = pool.crashed(&|_| Ok(false), &Silent).unwrap();
    assert_eq!((claimed.len(), &claimed[0].file), (1, &file));
    let by = claimed[0].by.clone();
    assert!(pool.crashed(&|_| Ok(false), &Silent).unwrap().is_empty(), "somebody works on it");
    drop(claimed);
    assert!(pool.crashed(&|_| Ok(true), &Silent).unwrap().is_empty(), "it waits for its receipt");
    let again = pool.crashed(&|_| Ok(false), &Silent).unwrap();
    assert_eq!((again.len(), &again[0].by), (1, &by));
    drop(again);
    assert_eq!(pool.cancel(&file.id, &|_| Ok(true)).unwrap(), Cancelled::Sent);
    assert_eq!(pool.cancel(&file.id, &|_| Ok(false)).unwrap(), Cancelled::Done);
    assert!(names(&pool.work).is_empty());
}

#[test]
fn hostile_files_go_and_block_nobody() {
    let (dir, pool) = pool();
    let inbox = pool.inbox().to_owned();
    let honest = request("files:/var/www");
    let at = |n: u32| inbox.join(format!("C20000101T000000Z-{n:08x}"));
    let with_id = |n: u32| PoolFile { id: format!("20000101T000000Z-{n:08x}").parse().unwrap(), ..request("files:/x") };
    let text = |n: u32| String::from_utf8(with_id(n).to_toml(None).unwrap()).unwrap();
    fs::write(at(0), "not toml at all {{{").unwrap();
    fs::write(at(1), vec![b'#'; FILE_LIMIT + 1]).unwrap();
    symlink("/etc/passwd", at(2)).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at(3), rustix::fs::Mode::from_raw_mode(0o666)).unwrap();
    fs::create_dir(at(4)).unwrap();
    fs::write(at(5), text(5)).unwrap();
    fs::hard_link(at(5), dir.path().join("second-name")).unwrap();
    fs::write(at(6), text(7)).unwrap();
    fs::write(at(8), text(8) + "by = \"root\"\n").unwrap();
    fs::create_dir(at(9)).unwrap();
    fs::write(at(9).join("x"), "a folder that cannot simply be removed").unwrap();
    fs::write(inbox.join("C-no-id"), "").unwrap();
    // The id of a request that is there in another state.
    let used = with_id(10);
    fs::write(State::Finished.path(&pool.work, &used.id), used.to_toml(Some("git")).unwrap()).unwrap();
    fs::write(State::Complete.path(&inbox, &used.id), used.to_toml(None).unwrap()).unwrap();

    // The last one to come.
    pool.submit(&honest).unwrap();
    let seen = problems();
    assert_eq!(pool.claim_next(&|f| f.path == "/var/www", &seen).unwrap().unwrap().file, honest);
    let seen = seen.0.into_inner().unwrap();
    assert!(seen.len() >= 9, "{seen:#?}");
    assert_eq!(names(&inbox), ["C-no-id".to_owned(), at(9).file_name().unwrap().to_string_lossy().into_owned()]);
    assert!(seen.iter().any(|line| line.contains("could not be removed")), "{seen:#?}");
    assert_eq!(pool.list().unwrap().len(), 2);
}

#[test]
fn what_changes_while_it_is_taken_over_is_refused() {
    let (_dir, pool) = pool();
    let file = request("files:/a");
    pool.submit(&file).unwrap();
    // The submitter holds the file open and writes into it after it was looked at.
    let claimed = pool.claim_next(
        &|seen| {
            let changed = PoolFile { path: "/etc".into(), ..seen.clone() };
            fs::write(State::Complete.path(&pool.inbox, &seen.id), changed.to_toml(None).unwrap()).unwrap();
            true
        },
        &Silent,
    );
    assert!(claimed.unwrap().is_none());
    assert!(names(&pool.work).is_empty() && names(&pool.inbox).is_empty());
}

#[test]
fn a_failed_submit_leaves_nothing() {
    let (_dir, pool) = pool();
    let file = request("files:/a");
    fs::create_dir(State::Complete.path(&pool.inbox, &file.id)).unwrap();
    assert!(pool.submit(&file).is_err());
    assert_eq!(names(&pool.inbox).len(), 1);
    assert!(pool.submit(&PoolFile { path: "../x".into(), ..request("files:/a") }).is_err());
    assert!(ClientPool::open(Path::new("/does-not-exist")).unwrap_err().render().contains("nightsafe init"));
}

#[test]
fn many_claim_at_once_and_each_request_is_claimed_once() {
    let (_dir, pool) = pool();
    let files: Vec<_> = (0..40).map(|n| request(&format!("files:/{n}"))).collect();
    for file in &files {
        pool.submit(file).unwrap();
    }
    let claimed: Mutex<Vec<RequestId>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(one) = pool.claim_next(&any, &Silent).unwrap() {
                    claimed.lock().unwrap().push(one.file.id.clone());
                }
            });
        }
    });
    let mut claimed = claimed.into_inner().unwrap();
    claimed.sort();
    let mut all: Vec<_> = files.into_iter().map(|f| f.id).collect();
    all.sort();
    assert_eq!(claimed, all);
}

#[test]
fn what_came_first_is_claimed_first_whatever_its_id_says() {
    let (_dir, pool) = pool();
    let order = ["20261120T031500Z-00000009", "20261120T031500Z-00000003", "19700101T000000Z-00000000"];
    for (n, id) in order.iter().enumerate() {
        let file = PoolFile { id: id.parse().unwrap(), ..request(&format!("files:/{n}")) };
        pool.submit(&file).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    // A time that its owner has set says nothing either.
    let last = File::options().write(true).open(State::Complete.path(&pool.inbox, &order[2].parse().unwrap())).unwrap();
    last.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let claimed: Vec<Claimed> = std::iter::from_fn(|| pool.claim_next(&any, &Silent).unwrap()).collect();
    assert_eq!(claimed.iter().map(|claimed| claimed.file.id.as_str()).collect::<Vec<_>>(), order);
}
