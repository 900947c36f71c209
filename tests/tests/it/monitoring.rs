//! Prometheus: the rules and the board against the metrics that there are, and a real one that reads a real node.

use crate::harness::{Killed, Loopback, blocks, command, port, run, source_root, started, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// Gives out a folder's files as a web server does that knows what metrics are, and keeps what is posted.
const SERVER: &str = r#"
import http.server, os, sys
folder, port = sys.argv[1], int(sys.argv[2])
class Door(http.server.SimpleHTTPRequestHandler):
    extensions_map = {"": "text/plain; version=0.0.4; charset=utf-8"}
    def __init__(self, *args):
        super().__init__(*args, directory=folder)
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with open(os.path.join(folder, "posted"), "ab") as out:
            out.write(self.path.encode() + b" " + body + b"\n")
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Door).serve_forever()
"#;

fn serve(folder: &Path, port: u16) -> Killed {
    let mut python = Command::new("/usr/bin/python3");
    let server = Killed::start(python.args(["-c", SERVER]).arg(folder).arg(port.to_string()).stderr(Stdio::null()));
    until("the web server is there", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    server
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// What is in the first column of the tables of metrics in docs/monitoring.md.
fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string(source_root().join("docs/monitoring.md")).unwrap();
    let name = |line: &str| Some(line.strip_prefix("| `nightsafe_")?.split_once('`')?.0.to_owned());
    text.lines().filter_map(name).map(|name| format!("nightsafe_{name}")).collect()
}

/// All that is called as our metrics are in a text.
fn named(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    text.split(|c| !word(c))
        .filter(|name| name.starts_with("nightsafe_node_") || name.starts_with("nightsafe_client_"))
        .map(str::to_owned)
        .collect()
}

/// The families of a page.
fn families(page: &str) -> BTreeSet<String> {
    page.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned())).collect()
}

#[test]
fn rules_and_board_hold_and_name_metrics_that_there_are() {
    let folder = source_root().join("deploy/prometheus");
    let promtool = |args: &[&str]| run(command("promtool", Path::new("/tmp")).current_dir(&folder).args(args)).ok();
    promtool(&["check", "rules", "nightsafe.rules.yml"]);
    promtool(&["test", "rules", "nightsafe.test.yml"]);
    let (known, mut used) = (documented(), BTreeSet::new());
    let rules = std::fs::read_to_string(folder.join("nightsafe.rules.yml")).unwrap();
    let expressions: String = rules.lines().filter(|line| !line.trim_start().starts_with('#')).map(|line| format!("{line}\n")).collect();
    let tests = std::fs::read_to_string(folder.join("nightsafe.test.yml")).unwrap();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        // Each by its whole name, or as one of those that a test takes together.
        let tested = tests.contains(&format!("\"{alert}\"")) || tests.contains(&format!("alertname: {alert}\n"));
        assert!(tested, "no test says when {alert} fires");
    }
    used.extend(named(&expressions));
    let board: Value = serde_json::from_slice(&std::fs::read(folder.join("grafana.json")).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap();
    assert!(panels.len() >= 8 && panels.iter().all(|panel| panel["title"].as_str().is_some_and(|title| !title.is_empty())));
    for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
        let expression = target["expr"].as_str().unwrap();
        assert!(!named(expression).is_empty(), "{expression}");
        used.extend(named(expression));
    }
    let unknown: Vec<_> = used.difference(&known).collect();
    assert!(unknown.is_empty(), "docs/monitoring.md does not have {unknown:?}");
}

/// A Prometheus with our rules that reads a file of metrics from one port, and the status page from another. What the page has
/// is called `page_…` there, so that nothing is counted twice.
fn prometheus(safe: &Loopback, file: u16, page: u16) -> (Killed, u16) {
    let port = port();
    let rules = source_root().join("deploy/prometheus/nightsafe.rules.yml");
    safe.write(
        "prometheus.yml",
        &format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\nscrape_configs:\n\
             - job_name: nightsafe\n  metrics_path: /node.prom\n  static_configs: [{{ targets: ['127.0.0.1:{file}'] }}]\n\
             - job_name: page\n  static_configs: [{{ targets: ['127.0.0.1:{page}'] }}]\n  metric_relabel_configs:\n  \
             - {{ source_labels: [__name__], regex: 'nightsafe_(.*)', target_label: __name__, replacement: 'page_$1' }}\n",
            rules.display()
        ),
    );
    let mut program = safe.command("prometheus");
    program.args([&format!("--config.file={}", safe.text("prometheus.yml")), &format!("--storage.tsdb.path={}", safe.text("tsdb"))]);
    let log = std::fs::File::create(safe.at("prometheus.log")).unwrap();
    let daemon = Killed::start(program.arg(format!("--web.listen-address=127.0.0.1:{port}")).stdout(Stdio::null()).stderr(log));
    until("Prometheus is there", || get(port, "/-/ready").is_some_and(|body| body.contains("Ready")));
    (daemon, port)
}

fn query(port: u16, expression: &str) -> Vec<Value> {
    let coded: String =
        expression.bytes().map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") }).collect();
    let answer = get(port, &format!("/api/v1/query?query={coded}")).unwrap_or_default();
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    answer["data"]["result"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_prometheus_reads_a_node_and_hears_of_files_that_somebody_encrypts() {
    let safe = Loopback::start();
    safe.sh("mkdir www 'source/a \"b\\ c{}'; yes text | head -c 12000000 >'source/a \"b\\ c{}/text'");
    let path = safe.text("source/a \"b\\ c{}");
    let node = safe.read("node.toml");
    safe.write("node.toml", &format!("metrics = \"{}\"\n{node}", safe.text("www/node.prom")));
    let client = safe.read("client.toml");
    safe.write("client.toml", &format!("metrics = \"{}\"\n{client}", safe.text("www/client.prom")));
    safe.back_up("files", &path);
    let page = safe.node(&["metrics"]).ok();
    assert!(page.contains(r#"path=""#) && page.contains(r#"/source/a \"b\\ c{}"} "#), "{page}");
    let text = std::fs::read_to_string(source_root().join("docs/monitoring.md")).unwrap();
    run(safe.command("bash").args(["-euxc", &blocks(&text, "sh").concat()]))
        .says(&["nightsafe_node_last_success_timestamp_seconds{"])
        .exits(0);
    assert!(families(&page).is_subset(&documented()), "{page}");
    let own = safe.client(&["metrics"]).ok();
    assert!(own.contains("nightsafe_client_last_success_timestamp_seconds{node=\"node1\",client=\"web1\",module=\"files\",path="), "{own}");
    assert!(families(&own).is_subset(&documented()) && families(&safe.read("www/client.prom")) == families(&own), "{own}");
    // What lies there for node_exporter is the same page.
    assert_eq!(families(&safe.read("www/node.prom")), families(&page));
    assert!(safe.names("www") == ["client.prom", "node.prom"], "{:?}", safe.names("www"));
    let checked = safe.run("sh", &["-euc", "promtool check metrics <www/node.prom"]);
    assert!(checked.code == Some(0), "{checked:?}");
    let web = port();
    let _server = serve(&safe.at("www"), web);
    let page = port();
    let mut served = safe.command("nightsafe-server");
    served.args(["web", "--listen", &format!("127.0.0.1:{page}")]);
    let _page = started(served);
    until("the status page is there", || TcpStream::connect(("127.0.0.1", page)).is_ok());
    let (_prometheus, prometheus) = prometheus(&safe, web, page);
    let files = |metric: &str| query(prometheus, &format!("nightsafe_node_{metric}{{module=\"files\"}}"));
    until("Prometheus has read the node", || !files("last_success_timestamp_seconds").is_empty());
    assert_eq!(files("snapshots")[0]["metric"]["path"], path.as_str());
    assert_eq!(files("snapshot_files")[0]["value"][1], "1");
    let firing = || query(prometheus, "ALERTS{alertname=\"NightsafeMuchChangedAndIncompressible\",alertstate=\"firing\"}");
    assert!(firing().is_empty());
    safe.sh(&format!(
        "openssl enc -aes-128-ctr -nosalt -K 00 -iv 00 -in '{path}/text' -out '{path}/text.locked' 2>/dev/null; rm '{path}/text'"
    ));
    safe.back_up("files", &path);
    until("the alert fires", || !firing().is_empty());
    assert_eq!(firing()[0]["metric"]["path"], path.as_str());
    assert_eq!(firing()[0]["metric"]["severity"], "critical");
    // The page says by HTTP what the file says, of the second snapshot too.
    let value = |name: &str| query(prometheus, &format!("{name}{{module=\"files\"}}")).first().map(|one| one["value"][1].clone());
    until("Prometheus has read the page", || {
        value("page_node_snapshots") == Some("2".into())
            && value("page_node_last_success_timestamp_seconds") == value("nightsafe_node_last_success_timestamp_seconds")
    });
    assert_eq!(query(prometheus, "up{job=\"page\"}")[0]["value"][1], "1");
    assert_eq!(query(prometheus, "page_node_build_info")[0]["metric"]["node"], "node1");
    assert!(!query(prometheus, "page_node_last_sweep_timestamp_seconds").is_empty());

    // What was restored and verified here, and not what would be.
    let back = |name: &str| ["restore".to_owned(), format!("files:{path}"), "--target".into(), safe.text(name)];
    let restore = |name: &str, more: &[&str]| {
        let words = back(name);
        safe.client(&words.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>()).exits(0);
    };
    restore("dry", &["--dry-run"]);
    safe.client(&["verify", "--remote"]).exits(0);
    let own = || safe.client(&["metrics"]).ok();
    let said =
        |what: &str| format!("nightsafe_client_last_{what}_timestamp_seconds{{node=\"node1\",client=\"web1\",module=\"files\",path=");
    assert!(["restore", "verify"].iter().all(|what| !own().contains(&said(what))), "{}", own());
    restore("back", &[]);
    assert!(own().contains(&said("restore")) && !own().contains(&said("verify")), "{}", own());
    safe.client(&["verify"]).exits(0);
    assert!(own().contains(&said("verify")) && families(&own()).is_subset(&documented()), "{}", own());
}

#[test]
fn a_file_that_cannot_be_written_is_told_once_and_stops_nothing() {
    let safe = Loopback::start();
    let node = safe.read("node.toml");
    safe.write("node.toml", &format!("metrics = \"{}\"\n{node}", safe.text("absent/node.prom")));
    let told = safe.node(&["poll"]).exits(0);
    assert!(told.stderr.contains("absent") && told.stderr.contains("metrics"), "{told:?}");
    safe.node(&["poll", "--sweep"]).silent();
    safe.node(&["status"]).says(&["the metrics could not be written"]);
    safe.sh("mkdir absent");
    safe.node(&["poll", "--sweep"]).silent();
    assert!(safe.read("absent/node.prom").contains("nightsafe_node_build_info") && !safe.node(&["status"]).ok().contains("ALARM"));
    safe.write("node.toml", &format!("metrics = \"node.prom\"\n{node}"));
    safe.node(&["poll"]).says(&["line 1", "absolute path that ends in .prom"]).exits(2);
}

#[test]
fn pings_say_when_a_backup_begins_is_stored_and_fails() {
    let safe = Loopback::start();
    safe.sh("mkdir www source/a source/b; echo x >source/a/x");
    let (a, b, web) = (safe.text("source/a"), safe.text("source/b"), port());
    let config = safe.read("client.toml");
    let datasets = format!(
        "\n[[dataset]]\naddress = \"files:{a}\"\nping = \"http://127.0.0.1:{web}/of-a\"\n\n[[dataset]]\naddress = \"files:{b}\"\nfiles_from = \"{}\"\n",
        safe.text("list")
    );
    safe.write("client.toml", &format!("ping = \"http://127.0.0.1:{web}/all\"\n{config}{datasets}"));
    // Nobody listens, and nobody is bothered.
    safe.back_up("files", &a);
    let server = serve(&safe.at("www"), web);
    let posted = || safe.sh("cat www/posted 2>/dev/null || true; rm -f www/posted");
    safe.back_up("files", &a);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&posted()), ["/of-a/start ", "/all/start ", "/of-a ", "/all "]);
    safe.client(&["submit", "files", &b]).exits(0);
    safe.client(&["send"]).exits(1);
    let told = lines(&posted());
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0] == "/all/start " && told[1].starts_with("/all/fail files:") && told[1].contains("list"), "{told:?}");
    // While one fails, the whole is not well; the other one is.
    safe.back_up("files", &a);
    assert_eq!(lines(&posted()), ["/of-a/start ", "/all/start ", "/of-a "]);
    safe.sh("echo x >list");
    safe.write("source/b/x", "y");
    safe.back_up("files", &b);
    assert_eq!(lines(&posted()), ["/all/start ", "/all "]);
    drop(server);
    safe.write("client.toml", &format!("ping = \"https://user:hush@127.0.0.1/x\"\n{config}"));
    let refused = safe.client(&["status"]).exits(2);
    assert!(refused.stderr.contains("line 1") && refused.stderr.contains("ping"), "{refused:?}");
}
