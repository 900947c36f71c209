//! Modules that the configuration declares, as docs/modules.md has them: backed up and restored, with the real programs.

use crate::harness::{Killed, Loopback, Maria, blocks, command, run, same_trees, source_root, tree, until};
use std::path::Path;
use std::process::Stdio;

/// The block of docs/modules.md that has `word`.
fn example(language: &str, word: &str) -> String {
    let text = std::fs::read_to_string(source_root().join("docs/modules.md")).unwrap();
    let found = blocks(&text, language).into_iter().find(|block| block.contains(word));
    found.unwrap_or_else(|| panic!("docs/modules.md has no example with {word}"))
}

/// Adds to the client's configuration.
fn declare(safe: &Loopback, text: &str) {
    safe.write("client.toml", &format!("{}\n{text}", safe.read("client.toml")));
}

/// A slapd with its configuration and one database, in folders of its own.
struct Slapd {
    // Ends before its folder goes.
    process: Option<Killed>,
    folder: tempfile::TempDir,
}

impl Slapd {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("nsl-").tempdir_in("/tmp").unwrap();
        let this = Self { process: None, folder };
        for name in ["conf", "data"] {
            std::fs::create_dir(this.folder.path().join(name)).unwrap();
        }
        let ldif = format!(
            "dn: cn=config\nobjectClass: olcGlobal\ncn: config\n\n\
             dn: cn=module{{0}},cn=config\nobjectClass: olcModuleList\ncn: module{{0}}\nolcModulePath: /usr/lib/ldap\nolcModuleLoad: back_mdb\n\n\
             dn: cn=schema,cn=config\nobjectClass: olcSchemaConfig\ncn: schema\n\n\
             include: file:///etc/ldap/schema/core.ldif\n\ninclude: file:///etc/ldap/schema/cosine.ldif\n\n\
             include: file:///etc/ldap/schema/inetorgperson.ldif\n\n\
             dn: olcDatabase={{1}}mdb,cn=config\nobjectClass: olcDatabaseConfig\nobjectClass: olcMdbConfig\nolcDatabase: {{1}}mdb\n\
             olcDbDirectory: {}\nolcSuffix: dc=example,dc=org\nolcRootDN: cn=admin,dc=example,dc=org\nolcRootPW: secret\n",
            this.text("data")
        );
        std::fs::write(this.folder.path().join("config.ldif"), ldif).unwrap();
        this.tool("slapadd", &["-n", "0", "-l", &this.text("config.ldif")]);
        this
    }

    fn text(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// One of slapd's tools on this configuration.
    fn tool(&self, program: &str, args: &[&str]) -> String {
        run(command(program, self.folder.path()).arg("-F").arg(self.text("conf")).args(args)).ok()
    }

    fn url(&self) -> String {
        format!("ldapi://{}", self.text("socket").replace('/', "%2F"))
    }

    fn start(&mut self) {
        let mut slapd = command("slapd", self.folder.path());
        slapd.args(["-d", "0", "-F", &self.text("conf"), "-h", &self.url()]);
        self.process = Some(Killed::start(slapd.stdout(Stdio::null()).stderr(Stdio::null())));
        until("slapd answers", || self.client("ldapwhoami", "").code == Some(0));
    }

    /// A program that talks to the running server as its administrator.
    fn client(&self, program: &str, stdin: &str) -> crate::harness::Run {
        let file = self.folder.path().join("stdin");
        std::fs::write(&file, stdin).unwrap();
        let mut command = command(program, self.folder.path());
        command.args(["-x", "-H", &self.url(), "-D", "cn=admin,dc=example,dc=org", "-w", "secret"]);
        run(command.stdin(std::fs::File::open(&file).unwrap()))
    }
}

#[test]
fn ldap_as_the_page_has_it() {
    let safe = Loopback::start();
    let mut first = Slapd::new();
    first.start();
    let mut people = "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n".to_owned();
    for n in 0..500 {
        // Values that are not text, spaces at the end, lines that are folded.
        people.push_str(&format!(
            "dn: cn=Person {n},dc=example,dc=org\nobjectClass: inetOrgPerson\ncn: Person {n}\nsn:: w4QgIA==\ndescription: {}\n\n",
            "long ".repeat(60)
        ));
    }
    first.client("ldapadd", &people).ok();
    declare(&safe, &example("toml", "streams = { \"config.ldif\" = [\"slapcat\"").replace("/etc/ldap/slapd.d", &first.text("conf")));
    safe.client(&["config", "check"]).says(&["slapcat", "slapadd"]).exits(0);
    // While the server runs.
    let dataset = format!("ldap:{}", first.text("conf"));
    safe.back_up("ldap", &first.text("conf"));
    let before = first.tool("slapcat", &["-n", "1"]);
    assert!(before.len() > 500 * 300, "{}", before.len());
    first.client("ldapadd", "dn: cn=Later,dc=example,dc=org\nobjectClass: inetOrgPerson\ncn: Later\nsn: L\n").ok();

    let second = Slapd::new();
    safe.client(&["restore", &dataset, "--target", &second.text("conf")]).exits(0);
    assert_eq!(second.tool("slapcat", &["-n", "1"]), before);
    safe.client(&["restore", &dataset, "--no-command", "--target", &safe.text("ldif")]).exits(0);
    assert_eq!(safe.names("ldif"), ["config.ldif", "data.ldif"]);
    assert_eq!(safe.read("ldif/data.ldif"), before);
    let data = safe.client(&["restore", &dataset, "data.ldif", "--stdout"]);
    assert_eq!(data.ok(), before);
    // A machine without the declaration has the files, and understands the address.
    let restorer: String =
        safe.read("client.toml").lines().take_while(|line| !line.starts_with("[module")).map(|l| format!("{l}\n")).collect();
    safe.write("restorer.toml", &restorer.replace("name = \"web1\"\n", ""));
    let config = safe.text("restorer.toml");
    safe.client(&["--config", &config, "restore", &format!("web1:{dataset}"), "--target", &safe.text("elsewhere")]).exits(0);
    assert_eq!(safe.read("elsewhere/data.ldif"), before);
    // Into a server that has data already, slapadd will not; and what it says is said.
    let again = safe.client(&["restore", &dataset, "--target", &second.text("conf")]);
    assert_eq!(again.code, Some(1), "{again}");
    again.says(&["slapadd", "was not restored"]);
}

#[test]
fn files_and_a_database_are_one_restore_point_as_the_page_has_it() {
    let (safe, maria) = (Loopback::start(), Maria::start());
    let options = format!("--no-defaults --socket={} --user=root ", maria.socket.display());
    maria.ask("CREATE DATABASE drupal", "");
    maria.ask("CREATE TABLE file_managed (fid INT PRIMARY KEY AUTO_INCREMENT, uri VARCHAR(255), digest CHAR(64)) ENGINE=InnoDB", "drupal");
    let site = safe.at("site");
    tree(&site);
    std::fs::create_dir_all(site.join("sites/default/files/php")).unwrap();
    std::fs::write(site.join("sites/default/files/php/compiled"), "made anew").unwrap();
    let upload = |n: usize| {
        // As Drupal does: the file first, then the row that refers to it.
        std::fs::write(site.join(format!("sites/default/files/{n}")), format!("file {n}")).unwrap();
        maria.ask(&format!("INSERT INTO file_managed (uri, digest) VALUES ('{n}', SHA2('file {n}', 256))"), "drupal");
    };
    for n in 0..20 {
        upload(n);
    }
    let quoted: String = options.split_whitespace().map(|option| format!(", {option:?}")).collect();
    let text = example("toml", "module.drupal")
        .replace("/var/www/drupal", site.to_str().unwrap())
        .replace("[\"mariadb-dump\"", &format!("[\"mariadb-dump\"{quoted}"));
    declare(&safe, &text);
    safe.client(&["submit", "--all"]).exits(0);
    // Uploads go on while the backup is made.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let uploaded = std::thread::scope(|scope| {
        let writer =
            scope.spawn(|| (20..).take_while(|_| !stop.load(std::sync::atomic::Ordering::Relaxed)).inspect(|n| upload(*n)).count());
        safe.round();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert!(uploaded > 0);

    let script = example("sh", "drupal_back")
        .replace("drupal:/var/www/drupal", &format!("drupal:{}", site.display()))
        .replace("/srv/", &format!("{}/", safe.dir.display()))
        .replace("mariadb -", &format!("mariadb {options}-"));
    safe.sh(&script);
    assert_eq!(safe.names("back"), ["database.sql", "files"]);
    let back = safe.at("drupal-back");
    let rows = maria.ask("SELECT uri, digest FROM file_managed ORDER BY fid", "drupal_back");
    assert!(rows.lines().count() >= 20, "{rows}");
    for row in rows.lines() {
        let (name, digest) = row.split_once('\t').unwrap();
        let found = safe.sh(&format!("sha256sum <{}/sites/default/files/{name}", back.display()));
        assert!(found.starts_with(digest), "{name} of the database is not the file that was restored");
    }
    assert!(back.join("sites/default/files/php").exists() && !back.join("sites/default/files/php/compiled").exists());
    // But for what was written meanwhile or left out, the site is the same one.
    for folder in [site, back] {
        std::fs::remove_dir_all(folder.join("sites")).unwrap();
        run(command("touch", Path::new("/")).args(["-d", "2020-02-29 UTC"]).arg(folder)).ok();
    }
    same_trees(&safe.at("site"), &safe.at("drupal-back"));
}

#[test]
fn what_a_declared_command_does_wrong_is_a_failed_request() {
    let safe = Loopback::start();
    declare(
        &safe,
        "[module.tool]\nprepare = [\"sh\", \"-c\", \"echo half >\\\"$1/x\\\"; echo 'no connection' >&2; exit 7\", \"{path}\", \"{staging}\"]\n\
         [module.good]\nprepare = [\"cp\", \"-a\", \"{path}/.\", \"{staging}\"]\n\
         [[allow]]\nmodule = \"tool\"\nunder = \"/\"\n[[allow]]\nmodule = \"good\"\nunder = \"/\"\n",
    );
    tree(&safe.at("source"));
    safe.client(&["submit", "tool", &safe.text("source")]).ok();
    let sent = safe.client(&["send"]);
    assert_eq!(sent.code, Some(1), "{sent}");
    sent.says(&["no connection", "tool:"]);
    safe.node(&["poll"]).silent();
    assert!(safe.names("client/export/node1").is_empty() && safe.names("client/staging").iter().all(|name| name == ".lock"));
    safe.client(&["status"]).says(&["tool:"]);
    // What a sender that was killed left behind goes with the next one.
    std::fs::create_dir_all(safe.at("client/staging/20261120T031501Z-3f9a1c7e/data/half")).unwrap();
    safe.back_up("good", &safe.text("source"));
    assert!(safe.names("client/staging").iter().all(|name| name == ".lock"));
    let dataset = format!("good:{}", safe.text("source"));
    safe.client(&["restore", &dataset, "--target", &safe.text("back")]).exits(0);
    same_trees(&safe.at("source"), &safe.at("back"));
    // Names that nobody declared are refused where they are written.
    safe.client(&["submit", "gud", "/x"]).says(&["gud", "good"]).exits(2);
    safe.write("client.toml", &safe.read("client.toml").replace("{staging}\"]\n[module.good]", "{stagin}\"]\n[module.good]"));
    safe.client(&["submit", "good", &safe.text("source")]).says(&["[module.tool]", "{stagin}"]).exits(2);
    assert!(Path::new(&safe.text("source/a")).exists());
}
