//! Sudden death on demand: in builds with the feature `crash-points`, a process ends itself as `kill -9` would, at a place
//! that a test names. Without the feature nothing of this is in the program.
//!
//! Knows no names of places: a place is a line of ours at which state has just changed, and what was done there, as in
//! `server/src/poll/serve.rs:12 renamed`. So none is forgotten where [`crate::atomic`] does the work, and a test can read all
//! of them off the sources.

/// State has just changed, and the process may die here; `what` is a word for what was done.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub const fn point(what: &str) {
    let _ = what;
}

/// State has just changed, and the process may die here; `what` is a word for what was done.
///
/// It dies if `NIGHTSAFE_CRASH` names this place; or if it is the path of a file that is there and does not name it yet: then
/// the place is added to that file first, so that each place has one death, and who runs a command until it gets through
/// has let it die at all of them. A place may end in ` #2`: the second time that one process comes by. The file's first line
/// says how many times of each place are wanted.
#[cfg(feature = "crash-points")]
#[track_caller]
pub fn point(what: &str) {
    armed::come_by(std::panic::Location::caller(), what);
}

/// The variable that names where to die.
#[cfg(feature = "crash-points")]
pub(crate) const VARIABLE: &str = "NIGHTSAFE_CRASH";

#[cfg(feature = "crash-points")]
mod armed {
    use std::collections::BTreeMap;
    use std::io::Write as _;
    use std::panic::Location;
    use std::sync::{Mutex, PoisonError};

    /// How often this process came by each place.
    static TIMES: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

    pub(super) fn come_by(at: &Location<'_>, what: &str) {
        let Ok(wanted) = std::env::var(super::VARIABLE) else { return };
        let place = format!("{}:{} {what}", at.file(), at.line());
        // Held to the end: the threads of one process die one death.
        let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
        let time = times.entry(place.clone()).or_default();
        *time += 1;
        let place = if *time == 1 { place } else { format!("{place} #{time}") };
        if !wanted.starts_with('/') {
            if place == wanted {
                die();
            }
            return;
        }
        let Ok(known) = std::fs::read_to_string(&wanted) else { return };
        let mut known = known.lines();
        let most = known.next().and_then(|line| line.parse().ok()).unwrap_or(1);
        if *time <= most && !known.any(|known| known == place) {
            // One write, which no other process's comes between. Not durable: only processes die here.
            let added =
                std::fs::File::options().append(true).open(&wanted).and_then(|mut file| file.write_all(format!("{place}\n").as_bytes()));
            if added.is_ok() {
                die();
            }
        }
    }

    fn die() -> ! {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    const CHILD: &str = "NIGHTSAFE_TEST_CRASHES";

    /// Run by the test below as a program of its own, which a place in it may end.
    #[test]
    fn somebody_comes_by() {
        let Some(folder) = std::env::var_os(CHILD).map(std::path::PathBuf::from) else { return };
        crate::atomic::write(&folder.join("state"), b"new", 0o600).unwrap();
        super::point("written");
        std::fs::write(folder.join("lived"), b"").unwrap();
    }

    /// Says whether the process lived, where `wanted` is where it should die.
    fn lives(folder: &std::path::Path, wanted: &str) -> bool {
        let mut program = std::process::Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "crash::tests::somebody_comes_by"]).env(CHILD, folder).env("NIGHTSAFE_CRASH", wanted);
        let lived = program.output().unwrap().status.success();
        assert_eq!(lived, std::fs::remove_file(folder.join("lived")).is_ok());
        lived
    }

    fn line_of(text: &str) -> usize {
        include_str!("crash.rs").lines().position(|line| line.trim() == text).unwrap() + 1
    }

    #[cfg(not(feature = "crash-points"))]
    #[test]
    fn builds_without_the_feature_know_no_places() {
        let dir = tempfile::tempdir().unwrap();
        assert!(lives(dir.path(), &format!("base/src/crash.rs:{} written", line_of("super::point(\"written\");"))));
    }

    #[cfg(feature = "crash-points")]
    #[test]
    fn a_process_dies_where_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let written = format!("base/src/crash.rs:{} written", line_of("super::point(\"written\");"));
        let write = line_of("crate::atomic::write(&folder.join(\"state\"), b\"new\", 0o600).unwrap();");
        let (drafted, renamed) = (format!("base/src/crash.rs:{write} drafted"), format!("base/src/crash.rs:{write} renamed"));
        let state = || std::fs::read(dir.path().join("state")).unwrap();
        assert!(lives(dir.path(), "base/src/crash.rs:1 written") && lives(dir.path(), &format!("{written} #2")));
        std::fs::write(dir.path().join("state"), b"old").unwrap();
        assert!(!lives(dir.path(), &drafted) && state() == b"old");
        assert!(!lives(dir.path(), &renamed) && state() == b"new");
        assert!(!lives(dir.path(), &written));
        // With a file it is one death for each place; without that file it is none.
        let file = dir.path().join("deaths");
        assert!(lives(dir.path(), file.to_str().unwrap()));
        std::fs::write(&file, "1\n").unwrap();
        let deaths = (0..10).take_while(|_| !lives(dir.path(), file.to_str().unwrap())).count();
        assert_eq!((deaths, std::fs::read_to_string(&file).unwrap()), (3, format!("1\n{drafted}\n{renamed}\n{written}\n")));
    }
}
