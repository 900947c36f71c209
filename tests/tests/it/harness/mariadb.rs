//! A MariaDB server of one's own, without a port; under another account where the tests run as root.

use super::run::{Run, command, root};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running server; `root` may do everything and needs no password.
pub struct Maria {
    /// The server's socket.
    pub socket: PathBuf,
    child: Child,
    temp: tempfile::TempDir,
}

impl Maria {
    /// Makes and starts one that runs no events.
    pub fn start() -> Self {
        Self::start_with("--event-scheduler=OFF")
    }

    /// Makes and starts one that runs events.
    pub fn with_events() -> Self {
        Self::start_with("--event-scheduler=ON")
    }

    fn start_with(option: &str) -> Self {
        let temp = tempfile::Builder::new().prefix("nsm-").tempdir_in("/tmp").unwrap();
        let folder = temp.path();
        if root() {
            super::run::run(command("chown", folder).arg("nobody").arg(folder)).ok();
        }
        let data = format!("--datadir={}", folder.join("data").display());
        let mut install = server("mariadb-install-db", folder);
        install.args(["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]);
        super::run::run(&mut install).ok();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let socket = folder.join("s");
        let mut start = server("mariadbd", folder);
        start.args(["--no-defaults", &data, "--skip-networking", option, "--character-set-server=utf8mb4"]);
        start.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=32M"]);
        start.arg(format!("--socket={}", socket.display())).arg(format!("--pid-file={}", folder.join("pid").display()));
        let child = start.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let this = Self { socket, child, temp };
        super::wait::until("the server answers", || this.run("SELECT 1", "").code == Some(0));
        this
    }

    /// SQL as root, in a database or none.
    #[must_use]
    pub fn run(&self, sql: &str, database: &str) -> Run {
        self.run_as("root", sql, database)
    }

    /// SQL as another account.
    #[must_use]
    pub fn run_as(&self, user: &str, sql: &str, database: &str) -> Run {
        let mut client = self.client("mariadb");
        client.args(["--batch", "--raw", "--skip-column-names", "--user", user, database]);
        let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The client may end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(sql.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Run { line: sql.to_owned(), code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// What SQL as root prints.
    #[track_caller]
    pub fn ask(&self, sql: &str, database: &str) -> String {
        self.run(sql, database).ok().trim().to_owned()
    }

    /// A client program that reaches this server.
    pub fn client(&self, program: &str) -> Command {
        let mut command = command(program, self.temp.path());
        command.arg("--no-defaults").arg(format!("--socket={}", self.socket.display())).arg("--default-character-set=utf8mb4");
        command
    }

    /// A dump of a database, whatever it is called.
    #[track_caller]
    pub fn dump(&self, database: &str) -> String {
        let mut dump = self.client("mariadb-dump");
        dump.args(["--user=root", "--routines", "--events", "--triggers", "--skip-dump-date", database]);
        super::run::run(&mut dump)
            .ok()
            .replace(&format!("`{database}`"), "`NAME`")
            .replace(&format!(" {database}\n"), " NAME\n")
            .replace(&format!("'{database}'"), "'NAME'")
    }
}

/// A program of the server's package, as an account that may run it: never root.
///
/// Its temporary tables go into its own folder: a server that starts removes from there whatever looks like a temporary
/// table, and in `/tmp` those are another running server's.
fn server(program: &str, folder: &Path) -> Command {
    let mut server = if root() {
        let mut command = command("setpriv", folder);
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--pdeathsig=KILL", "--", program]).current_dir(folder);
        command
    } else {
        command(program, folder)
    };
    server.env("TMPDIR", folder);
    server
}

impl Drop for Maria {
    fn drop(&mut self) {
        // Nothing of it is needed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
