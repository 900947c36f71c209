//! Mails to administrators: through a real SMTP server with STARTTLS and login, and through a program.

use crate::harness::{Killed, Loopback, blocks, port, source_root, until};
use std::process::Command;

/// A mail server that takes STARTTLS and a login alone, and keeps each mail as a file.
const SERVER: &str = r#"
import ssl, sys, time
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, SMTP
folder, port = sys.argv[1], int(sys.argv[2])
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(folder + "/server.pem", folder + "/server.key")
def login(server, session, envelope, mechanism, data):
    good = data.login == b"web1" and data.password == b"it's a secret"
    return AuthResult(success=good, handled=False)
class Keep:
    count = 0
    async def handle_DATA(self, server, session, envelope):
        self.count += 1
        with open("%s/mail-%d" % (folder, self.count), "wb") as out:
            out.write(envelope.content)
        return "250 kept"
class Door(Controller):
    def factory(self):
        return SMTP(self.handler, require_starttls=True, tls_context=tls, authenticator=login, auth_required=True)
Door(Keep(), hostname="127.0.0.1", port=port).start()
open(folder + "/ready", "w").close()
time.sleep(600)
"#;

/// Starts it, with its files in the installation's folder `smtp`.
fn mail_server(safe: &Loopback, port: u16) -> Killed {
    safe.sh(
            r#"mkdir -p smtp; cd smtp
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem 2>/dev/null
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr 2>/dev/null
            printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' >ext
            openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem 2>/dev/null
            printf "it's a secret\n" >password; chmod 600 password; rm -f ready"#,
        );
    let mut python = Command::new("/usr/bin/python3");
    let log = std::fs::File::create(safe.at("smtp/log")).unwrap();
    let server = Killed::start(python.args(["-W", "ignore", "-c", SERVER]).arg(safe.at("smtp")).arg(port.to_string()).stderr(log));
    until("the mail server is there", || safe.at("smtp/ready").exists());
    server
}

fn mails(safe: &Loopback) -> Vec<String> {
    let names = safe.names("smtp");
    names.iter().filter(|name| name.starts_with("mail-")).map(|name| safe.read(&format!("smtp/{name}"))).collect()
}

#[test]
fn a_change_of_state_is_one_mail_through_starttls_and_login() {
    let safe = Loopback::start();
    let port = port();
    let table = format!(
        "[mail]\nto = [\"root@example.org\", \"b@example.org\"]\nfrom = \"n@example.org\"\nsmtp = {{ host = \"localhost\", port = {port}, user = \"web1\", password_file = \"{}\", ca = \"{}\" }}\n",
        safe.text("smtp/password"),
        safe.text("smtp/ca.pem")
    );
    let server = mail_server(&safe, port);
    let client = safe.read("client.toml");
    safe.write("client.toml", &format!("{client}\n{table}"));
    safe.client(&["config", "check", "--mail"]).says(&["A mail was sent to"]).exits(0);
    assert!(
        mails(&safe)[0].contains("Subject: [nightsafe web1] a test") && mails(&safe)[0].contains("To: root@example.org, b@example.org")
    );
    // A password that others can read is not used, and a wrong one is not taken.
    safe.sh("chmod 644 smtp/password");
    safe.client(&["config", "check"]).says(&["smtp/password", "chmod 600"]).exits(2);
    safe.sh("chmod 600 smtp/password; echo wrong >smtp/password");
    safe.client(&["config", "check", "--mail"]).says(&["localhost", "did not take it"]).exits(2);
    safe.sh("printf \"it's a secret\" >smtp/password; mv smtp/ca.pem smtp/good; cp smtp/server.pem smtp/other; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ca -keyout /dev/null -out smtp/ca.pem 2>/dev/null");
    safe.client(&["config", "check", "--mail"]).exits(2);
    safe.sh("mv smtp/good smtp/ca.pem");
    assert_eq!(mails(&safe).len(), 1);
    // A request that fails for good, twice, while no mail can be sent; then one that is stored.
    safe.sh("mkdir source/t; echo x >source/t/x");
    let path = safe.text("source/t");
    safe.sh(&format!("cat >>client.toml <<'END'\n\n[[dataset]]\naddress = \"files:{path}\"\nfiles_from = \"{}\"\nEND", safe.text("list")));
    drop(server);
    safe.sh("rm smtp/mail-*");
    for _ in 0..2 {
        safe.client(&["submit", "files", &path]).exits(0);
        safe.client(&["send"]).exits(1);
    }
    let server = mail_server(&safe, port);
    until("the mail is tried again", || {
        safe.client(&["send"]).silent();
        !mails(&safe).is_empty()
    });
    safe.client(&["send"]).silent();
    let told = mails(&safe);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("went") || told[0].contains("failed"), "{}", told[0]);
    assert!(!told[0].contains("secret") && told[0].contains("Auto-Submitted: auto-generated"), "{}", told[0]);
    safe.write("list", "x\n");
    safe.client(&["submit", "files", &path]).exits(0);
    safe.round();
    let told = mails(&safe);
    assert!(told.len() == 2 && told[1].contains("well again"), "{told:?}");
    drop(server);
}

#[test]
fn a_node_that_is_away_is_told_after_a_while_and_when_it_is_back() {
    let safe = Loopback::start();
    safe.sh("printf '#!/bin/sh\\ncat >\"$(mktemp %s/mail-XXXX)\"\\n' \"$PWD/box\" >sendmail; chmod +x sendmail; mkdir box");
    let text = std::fs::read_to_string(source_root().join("docs/mail.md")).unwrap();
    let table = blocks(&text, "toml").concat();
    let table = table.split("[mail]").nth(1).unwrap().replace("/usr/sbin/sendmail", &safe.text("sendmail"));
    for file in ["client.toml", "node.toml"] {
        let config = safe.read(file);
        safe.write(file, &format!("{config}\n[mail]{table}\n"));
    }
    safe.node(&["config", "check", "--mail"]).exits(0);
    assert_eq!(safe.names("box").len(), 1);
    safe.sh("rm box/*");
    safe.loopback("stop").exits(0);
    safe.client(&["submit", "dummy", "x"]).exits(0);
    let at = |now: &str| crate::harness::run(safe.command("nightsafe").env("NIGHTSAFE_NOW", now).args(["send", "--now"]));
    at("2026-11-20T00:00:00Z").exits(75);
    at("2026-11-21T01:59:59Z").exits(75);
    assert!(safe.names("box").is_empty());
    at("2026-11-21T02:00:00Z").exits(75);
    at("2026-11-22T02:00:00Z").exits(75);
    assert_eq!(safe.names("box").len(), 1);
    assert!(safe.sh("cat box/*").contains("Subject: [nightsafe web1] node1 cannot be reached"));
    safe.loopback("start").ok();
    safe.client(&["send", "--now"]).exits(0);
    assert_eq!(safe.names("box").len(), 2);
    assert!(safe.sh("cat box/*").contains("node1 is well again"));
    // The node tells of what it refuses, once, and so does the client.
    let access = |from: &str, to: &str| {
        safe.edit("admin/access.toml", from, to);
        safe.loopback("start").exits(0);
    };
    safe.round();
    safe.sh("rm box/*");
    access("allow = [\"*\"]", "allow = [\"files:*\"]");
    for _ in 0..2 {
        safe.client(&["submit", "dummy", "x"]).exits(0);
        safe.client(&["send"]).exits(0);
        let _ = safe.node(&["poll"]);
        let _ = safe.client(&["send"]);
    }
    let told = safe.sh("cat box/*");
    assert!(told.contains("Subject: [nightsafe node1] web1:dummy:x was refused"), "{told}");
    assert!(told.contains("Subject: [nightsafe web1] dummy:x to node1 failed"), "{told}");
    assert_eq!(safe.names("box").len(), 2, "{told}");
    access("allow = [\"files:*\"]", "allow = [\"*\"]");
    safe.back_up("dummy", "x");
    let told = safe.sh("cat box/*");
    assert!(told.contains("web1:dummy:x is well again") && told.contains("dummy:x to node1 is well again"), "{told}");
    assert_eq!(safe.names("box").len(), 4, "{told}");
}

#[test]
fn the_digest_comes_once_a_day_as_text_and_html() {
    let safe = Loopback::start();
    let port = port();
    let server = mail_server(&safe, port);
    let table = format!(
        "[mail]\nto = [\"root@example.org\"]\nfrom = \"n@example.org\"\ndigest = \"daily\"\nat = \"07:00\"\nsmtp = {{ host = \"localhost\", port = {port}, user = \"web1\", password_file = \"{}\", ca = \"{}\" }}\n",
        safe.text("smtp/password"),
        safe.text("smtp/ca.pem")
    );
    let node = safe.read("node.toml");
    safe.write("node.toml", &format!("{node}\n{table}"));
    safe.sh("mkdir 'source/<b>x'; echo x >'source/<b>x/x'");
    safe.client(&["submit", "files", &safe.text("source/<b>x")]).exits(0);
    safe.client(&["send"]).silent();
    let at = |now: &str| crate::harness::run(safe.command("nightsafe-server").env("NIGHTSAFE_NOW", now).args(["poll", "--sweep"])).silent();
    // A node that was just set up has missed none.
    at("2030-01-01T06:59:00Z");
    assert!(mails(&safe).is_empty());
    for (now, count) in [
        ("2030-01-01T07:00:00Z", 1),
        ("2030-01-01T07:01:00Z", 1),
        ("2030-01-01T06:50:00Z", 1),
        ("2030-01-01T23:59:00Z", 1),
        ("2030-01-05T12:00:00Z", 2),
        ("2030-01-05T12:01:00Z", 2),
    ] {
        at(now);
        assert_eq!(mails(&safe).len(), count, "{now}");
    }
    let parsed = |number: u32| {
        safe.sh(&format!(
            "/usr/bin/python3 -c 'import email, email.policy, sys
mail = email.message_from_bytes(open(\"smtp/mail-{number}\", \"rb\").read(), policy=email.policy.default)
print(mail[\"subject\"], mail.get_content_type(), mail[\"auto-submitted\"])
for part in mail.iter_parts(): print(part.get_content_type(), part.get_content())'"
        ))
    };
    let of_client = |safe: &Loopback| {
        let client = safe.read("client.toml");
        safe.write("client.toml", &format!("{client}\n{table}"));
        for (now, count) in [("2030-02-01T06:59:00Z", 2), ("2030-02-01T07:00:00Z", 3), ("2030-02-01T07:01:00Z", 3)] {
            crate::harness::run(safe.command("nightsafe").env("NIGHTSAFE_NOW", now).arg("send")).exits(0);
            assert_eq!(mails(safe).len(), count, "{now}");
        }
    };
    of_client(&safe);
    let told = parsed(3);
    assert!(told.starts_with("[nightsafe web1] all is well with 1 dataset multipart/alternative auto-generated"), "{told}");
    assert!(told.contains("/source/<b>x  node1") && told.contains("node1: last seen"), "{told}");
    let parsed = parsed(1);
    assert!(parsed.starts_with("[nightsafe node1] all is well with 1 dataset multipart/alternative auto-generated"), "{parsed}");
    let (plain, html) = parsed.split_once("text/html").unwrap();
    assert!(plain.contains("text/plain") && plain.contains("LAST STORED") && plain.contains("/source/<b>x  60 s ago"), "{plain}");
    assert!(html.contains("/source/&lt;b&gt;x</td>") && !html.contains("<b>"), "{html}");
    drop(server);
}
