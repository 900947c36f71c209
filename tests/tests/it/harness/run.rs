//! Running programs: a cleared environment, the output kept, what was expected said where it fails.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

/// The folder of this workspace.
pub fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Where the built programs are. Unless `NIGHTSAFE_BIN` says so, they are brought up to date first, once for all tests.
pub fn bin() -> &'static Path {
    static BIN: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Some(bin) = std::env::var_os("NIGHTSAFE_BIN").filter(|bin| !bin.is_empty()) {
            return bin.into();
        }
        // This program is target/PROFILE/deps/it-HASH.
        let bin = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--offline", "--locked", "--workspace", "--bins"]).current_dir(source_root());
        if cfg!(feature = "crash-points") {
            cargo.args(["--features", "crash-points"]);
        }
        if bin.ends_with("release") {
            cargo.arg("--release");
        }
        // Build scripts that look at what cargo told this test about itself would run anew each time.
        for (name, _) in std::env::vars_os() {
            let own = |text: &str| text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_");
            if name.to_str().is_some_and(own) {
                cargo.env_remove(name);
            }
        }
        assert!(cargo.status().unwrap().success(), "the programs do not build");
        bin
    });
    &BIN
}

/// A command in a cleared environment, with our programs first on the search path.
pub fn command(program: impl AsRef<std::ffi::OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", bin().display()))
        .env("HOME", home)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null());
    command
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Run {
    pub line: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs to the end.
#[must_use]
pub fn run(command: &mut Command) -> Run {
    let line = format!("{command:?}").replace('"', "");
    let output = command.output().unwrap_or_else(|error| panic!("{line}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { line, code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Run {
    /// It exited with `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// It exited with 0; gives what it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        self.exits(0).stdout
    }

    /// It exited with 0 and printed nothing at all, as is right under cron.
    #[track_caller]
    pub fn silent(self) {
        let run = self.exits(0);
        assert!(run.stdout.is_empty() && run.stderr.is_empty(), "it was not silent: {run}");
    }

    /// It said each of `words`, on either channel.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stdout.contains(word) || self.stderr.contains(word), "it did not say {word:?}: {self}");
        }
        self
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nexit {:?}\n--- stdout\n{}\n--- stderr\n{}", self.line, self.code, self.stdout, self.stderr)
    }
}

/// Whether the tests run as root. The few that need other accounts say so and do nothing otherwise.
pub fn root() -> bool {
    rustix::process::getuid().is_root()
}

/// Says on the runner's own output, past what it keeps to itself of a test that passes, that something could not be tried here.
pub fn not_tested(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {what}: {why}");
}

/// A free loopback port, which nobody else in this program was given. It is below the range from which the kernel takes ports for
/// outgoing connections, so that none of those gets it before whoever asked listens there.
pub fn port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..10_000 {
        let random = RandomState::new().build_hasher().finish();
        let port = 20_000 + u16::try_from(random % 12_000).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return port;
        }
    }
    panic!("no loopback port from 20000 to 31999 is free");
}
