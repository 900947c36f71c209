//! A PostgreSQL cluster of one's own, without a port; under another account where the tests run as root.

use super::Loopback;
use super::run::{Run, command, root, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running cluster with the superuser `postgres`, reached by a socket in `socket`.
pub struct Cluster {
    /// The folder of the socket, which is what `PGHOST` takes.
    pub socket: PathBuf,
    data: PathBuf,
    programs: PathBuf,
    temp: tempfile::TempDir,
}

impl Cluster {
    /// Makes and starts one.
    pub fn start() -> Self {
        // Not below the installation's folder: the account of PostgreSQL must be able to get there.
        let temp = tempfile::Builder::new().prefix("nsp-").tempdir_in("/tmp").unwrap();
        if root() {
            run(command("chown", Path::new("/")).arg("postgres").arg(temp.path())).ok();
        }
        let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql").unwrap().map(|entry| entry.unwrap().path()).collect();
        versions.sort();
        let programs = versions.pop().expect("PostgreSQL's server is installed by deploy/packages.sh").join("bin");
        let this = Self { socket: temp.path().to_owned(), data: temp.path().join("data"), programs, temp };
        let data = this.data.to_str().unwrap();
        run(this.server("initdb").args(["-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"])).ok();
        this.launch();
        this
    }

    fn launch(&self) {
        let options = format!("-k {} -c listen_addresses='' -c fsync=off", self.socket.display());
        let log = self.temp.path().join("log");
        let mut start = self.server("pg_ctl");
        start.arg("-D").arg(&self.data).args(["-w", "-l"]).arg(&log).args(["-o", &options, "start"]);
        // The server must not inherit a pipe that somebody waits on.
        run(start.stdout(std::process::Stdio::null())).exits(0);
    }

    fn stop(&self, how: &str) -> Run {
        run(self.server("pg_ctl").arg("-D").arg(&self.data).args(["-m", how, "-w", "stop"]))
    }

    /// Makes the last page of a table unreadable, as a bad disk would.
    pub fn break_table(&self, database: &str, table: &str) {
        let relative = self.psql(database, &format!("SELECT pg_relation_filepath('{table}')")).ok();
        self.stop("fast").exits(0);
        let path = self.data.join(relative.trim());
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 8192;
        bytes[last..last + 64].fill(0xff);
        // Written in place, so that owner and mode stay.
        std::fs::write(&path, bytes).unwrap();
        self.launch();
    }

    /// A program of the server's package, as the account that may run it: never root.
    fn server(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        if !root() {
            return command(program, self.temp.path());
        }
        let mut command = command("runuser", self.temp.path());
        command.args(["-u", "postgres", "--"]).arg(program).current_dir(self.temp.path());
        command
    }

    /// Lets a role in by its password alone; the rest is trusted as before.
    pub fn ask_password(&self, role: &str) {
        let path = self.data.join("pg_hba.conf");
        let rules = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("local all {role} scram-sha-256\n{rules}")).unwrap();
        self.psql("postgres", "SELECT pg_reload_conf()").exits(0);
    }

    /// The folder of the real programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The table `[module.postgres]` for this cluster.
    pub fn table(&self, more: &str) -> String {
        format!("\n[module.postgres]\nhost = \"{}\"\n{more}\n", self.socket.display())
    }

    /// psql with one statement, plain output.
    pub fn psql(&self, database: &str, sql: &str) -> Run {
        run(self.client("psql").args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]))
    }

    /// A client program that reaches this cluster.
    pub fn client(&self, program: &str) -> Command {
        let mut command = command(program, self.temp.path());
        command.env("PGHOST", &self.socket).env("PGUSER", "postgres");
        command
    }

    /// A dump as SQL, without what differs in every dump.
    pub fn dump(&self, database: &str) -> String {
        let text = run(self.client("pg_dump").arg(database)).ok();
        text.lines()
            .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

impl Loopback {
    /// Puts the table `[module.postgres]`, and what comes after it, in the place of the one before.
    pub fn set_postgres(&self, table: &str) {
        let text = self.read("client.toml");
        let before = text.split_once("\n[module.postgres]").map_or(text.as_str(), |(before, _)| before);
        self.write("client.toml", &format!("{before}{table}"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = self.stop("immediate");
        if !std::thread::panicking() {
            stopped.exits(0);
        }
    }
}
