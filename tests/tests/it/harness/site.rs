//! nginx and cgit as `deploy/` sets them up, with an installation's own folders and free ports; and `nightsafe-server web`.

use super::http::{Answer, ask};
use super::install::Loopback;
use super::run::{port, run, source_root};
use super::wait::until;
use rustix::process::{Pid, Signal, kill_process_group};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Who may log in, and how they say so.
const LOGIN: (&str, &str) = ("Authorization", "Basic YWxpY2U6c2VjcmV0");

/// A web server in front of an installation.
pub struct Site {
    pub port: u16,
    _nginx: Ended,
    _fcgiwrap: Ended,
}

/// A program that is asked to end, with what it started, when this goes.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

impl Site {
    /// Starts nginx and fcgiwrap from the files in `deploy/`; the site's own files are in the installation's folder `site`.
    pub fn start(safe: &Loopback) -> Self {
        let port = port();
        let dir = safe.text("site");
        safe.sh("mkdir -p site/cache site/temp; printf 'alice:%s\\n' \"$(openssl passwd -6 secret)\" >site/htpasswd");
        let here = |file: &str| {
            let mut text = std::fs::read_to_string(source_root().join("deploy").join(file)).unwrap();
            for (old, new) in [
                ("/etc/nginx/nightsafe/", format!("{dir}/")),
                ("/srv/nightsafe", safe.text("node/data")),
                ("/var/cache/nightsafe-cgit", format!("{dir}/cache")),
                ("/run/nightsafe-cgit/socket", format!("{dir}/cgit.sock")),
                ("/run/nightsafe-web/socket", format!("{dir}/web.sock")),
                ("listen 443 ssl;", format!("listen 127.0.0.1:{port};")),
                ("backup.example.org;", "localhost;".into()),
            ] {
                text = text.replace(old, &new);
            }
            // Certificates are the administrator's own.
            text.lines().filter(|line| !line.contains("ssl")).map(|line| format!("{line}\n")).collect::<String>()
        };
        safe.write("site/cgitrc", &here("cgit/cgitrc"));
        safe.write("site/cgit.conf", &here("cgit/nginx.conf"));
        safe.write("site/site.conf", &here("web/nginx.conf"));
        // A page of the tests' needs less than one in earnest.
        safe.write("site/fcgiwrap.sh", &here("cgit/fcgiwrap.sh").replace("$((512 * 1024))", "$((20 * 1024))"));
        let temps: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("    {name}_temp_path {dir}/temp/{name};\n"))
            .collect();
        safe.write(
            "site/nginx.conf",
            &format!(
                "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\nevents {{ worker_connections 256; }}\n\
                 http {{\n    include /etc/nginx/mime.types;\n    default_type application/octet-stream;\n    access_log {dir}/access.log;\n{temps}    include {dir}/site.conf;\n}}\n"
            ),
        );
        let mut nginx = safe.command("nginx");
        nginx.args(["-e", &format!("{dir}/error.log"), "-c", &format!("{dir}/nginx.conf")]);
        run(safe.command("nginx").args(["-t", "-e", &format!("{dir}/error.log"), "-c", &format!("{dir}/nginx.conf")])).exits(0);
        let mut fcgiwrap = safe.command("bash");
        fcgiwrap.args([&format!("{dir}/fcgiwrap.sh"), &format!("{dir}/cgit.sock")]);
        let site = Self { port, _fcgiwrap: started(fcgiwrap), _nginx: started(nginx) };
        // The socket is there before anybody listens at it.
        let cgit = safe.at("site/cgit.sock");
        until("cgit and nginx listen", || UnixStream::connect(&cgit).is_ok() && TcpStream::connect(("127.0.0.1", port)).is_ok());
        site
    }

    /// GET with a login.
    pub fn get(&self, path: &str) -> Answer {
        ask(self.port, "GET", path, &[LOGIN], "")
    }

    /// Any request with a login.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        ask(self.port, method, path, &[LOGIN], body)
    }
}

/// Starts a program that stays.
pub fn started(mut command: Command) -> Ended {
    Ended(command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}
