//! The status page: what it shows and to whom, by plain requests and in a real browser, also behind the reverse proxy.

use crate::harness::{Answer, Browser, Ended, Loopback, Site, ask, ask_socket, get, port, started, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

/// The name of a folder that would be more.
const NAME: &str = "a <script>alert(1)<b> \"&%2e?x=1#y ü\u{202e}";

/// The status page of an installation, at a port of its own.
struct Web {
    port: u16,
    _process: Ended,
}

impl Web {
    fn start(safe: &Loopback) -> Self {
        let port = port();
        let mut command = safe.command("nightsafe-server");
        command.args(["web", "--listen", &format!("127.0.0.1:{port}")]);
        command.env("NIGHTSAFE_NOW", safe.at("clock"));
        let web = Self { port, _process: started(command) };
        until("the page is there", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        web
    }

    fn get(&self, path: &str) -> Answer {
        get(self.port, path)
    }
}

/// A node of which there is something to see: data of four weeks, a mirror with a past, what is overdue, refused and hostile.
fn lived_in() -> Loopback {
    let safe = Loopback::with_clock();
    let node = safe.read("node.toml");
    safe.write("node.toml", &format!("{node}\n[web]\nhosts = [\"status.example.org\"]\n[cgit]\nurl = \"/cgit/\"\n"));
    safe.edit("admin/access.toml", "allow = [\"*\"]", "allow = [\"files:*\", \"git:*\"]\nexpect = \"2d\"\nquota = \"4 MiB\"");
    safe.loopback("start").exits(0);
    safe.sh("mkdir source/www source/mail; git init -q -b main work; cd work; git config user.name t; git config user.email t@t; echo 1 >f; git add f; git commit -q -m one; git clone -q --bare . ../source/shop.git");
    let (www, mail, shop) = (safe.text("source/www"), safe.text("source/mail"), safe.text("source/shop.git"));
    for (ago, size) in [(27, 200), (20, 260), (13, 300), (6, 700), (4, 720)] {
        safe.write("clock", &format!("-{ago}d"));
        safe.sh(&format!("head -c {size}000 /dev/urandom >source/www/data; echo {ago} >source/mail/x"));
        safe.client(&["submit", "files", &www]).exits(0);
        if ago > 13 {
            safe.client(&["submit", "files", &mail]).exits(0);
        }
        if ago == 27 {
            safe.client(&["submit", "git", &shop]).exits(0);
        }
        safe.round();
    }
    safe.write("clock", "-1h");
    safe.sh("cd work; echo 2 >f; git commit -q --amend -am two; git push -q -f ../source/shop.git main");
    let hostile = safe.text(&format!("source/{NAME}"));
    std::fs::create_dir_all(&hostile).unwrap();
    safe.client(&["submit", "files", &hostile]).exits(0);
    safe.client(&["submit", "dummy", "forbidden"]).exits(0);
    safe.client(&["submit", "git", &shop]).exits(0);
    safe.client(&["send"]).silent();
    safe.node(&["poll"]).says(&["the default branch refs/heads/main was rewritten"]).exits(0);
    safe.client(&["send"]).says(&["has refused dummy:forbidden"]).exits(1);
    // A person's word, and what the rules then condemn.
    let first = safe.names("node/data/web1/snapshots").into_iter().find(|name| name.starts_with("2")).unwrap();
    safe.node(&["hold", &first, "--reason", "<script>evidence"]).exits(0);
    safe.node(&["prune", "web1", "--keep-last", "3"]).exits(0);
    safe.write("clock", "+0s");
    safe
}

#[test]
fn the_page_says_how_everything_stands_to_who_may_ask() {
    let safe = lived_in();
    let web = Web::start(&safe);
    let www = format!("files:{}", safe.text("source/www"));
    let (in_url, mirror) =
        (www.replace('/', "%2F").replace(':', "%3A"), format!("git%3A{}", safe.text("source/shop.git").replace('/', "%2F")));
    let front =
        web.get("/").is(200).shows(&["overdue", "not stored", "web1", &www, "does not take dummy:forbidden"]).hides(&["<script", "<img"]);
    assert!(front.body.find("overdue").unwrap() < front.body.find("not stored").unwrap(), "what is overdue comes first");
    web.get("/client/web1")
        .is(200)
        .shows(&[&www, "every 2 d", "&lt;script&gt;alert(1)", "\\u{202e}", "/cgit/web1/"])
        .hides(&["<script", "\u{202e}"]);
    let dataset = web.get(&format!("/client/web1/dataset?name={in_url}")).is(200);
    let dataset = dataset.shows(&["<svg", "Age of the newest", "expected every 2 d", "703.1 KiB", "Took in the store"]);
    assert_eq!(dataset.body.matches("data-label=\"Snapshot\"").count(), 5);
    let kept = web.get(&format!("/client/web1/dataset?name={mirror}")).is(200);
    kept.shows(&["What refs were before", "/log/?h=refs%2Fkept%2F", "Browse the mirror in cgit"]);
    let log = web.get("/log").is(200).shows(&["stored", "refused", "dummy:forbidden", "not forward", "by hand"]);
    assert_eq!(log.body.matches("data-label=\"Signed\"").count(), 11);
    web.get("/log?client=web1").is(200).shows(&["What web1 asked for", "refused"]);
    // The node's own log: a person's hold, what was condemned then, and what went.
    let deeds = web.get("/deeds").is(200).shows(&["held", "because: &lt;script&gt;evidence", "prune planned", "condemned"]);
    let deeds = deeds.hides(&["<script", "pruned<"]);
    assert_eq!(deeds.body.matches("data-label=\"Signed\"").count(), 2);
    safe.node(&["prune", "web1", "--keep-last", "3", "--grace", "0s"]).exits(0);
    web.get("/deeds?client=web1").is(200).shows(&["What this node did about web1", "pruned<", " removed, with "]);
    web.get("/deeds?page=7").is(200).shows(&["Nothing yet"]);
    web.get("/metrics").is(200).shows(&["nightsafe_node_build_info", "client=\"web1\""]);
    for (path, words) in [
        ("/client/web9", "knows no client"),
        ("/client/..%2f..%2fetc", "knows no client"),
        ("/client/web1/dataset?name=files%3A%2Fnone", "keeps nothing of"),
        ("/client/web1/dataset?name=%3Cscript%3E", "keeps nothing of"),
        ("/log?client=%3Cscript%3E", "knows no client"),
        ("/deeds?client=web9", "knows no client"),
        ("/node.toml", "no such page"),
        ("/../node.toml", "no such page"),
    ] {
        web.get(path).is(404).shows(&[words]).hides(&["<script"]);
    }
    for path in ["/?page=x", "/client/%ff", "/client/web1/dataset", "/?page=99999999999999999999999"] {
        assert!([400, 404].contains(&web.get(path).hides(&["panicked"]).status), "{path}");
    }
    web.get("/?page=99999999&q=nothing").is(200).shows(&["No client or dataset has that"]);
    web.get("/log?page=99999999").is(200);

    // Who may ask, and what a browser is told.
    let host = |host: &str| ask(web.port, "GET", "/", &[("Host", host)], "").status;
    assert_eq!(
        [host("localhost:1"), host("127.0.0.1"), host("status.example.org"), host("evil.example"), host("")],
        [200, 200, 200, 421, 421]
    );
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        ask(web.port, method, "/", &[], "x=1").is(405);
    }
    let head = ask(web.port, "HEAD", "/", &[], "").is(200);
    assert!(head.body.is_empty());
    for answer in [front, head, host_answer(&web), web.get("/style.css"), web.get("/nothing")] {
        let policy = answer.header("Content-Security-Policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'self';") && !policy.contains("unsafe"), "{answer}");
        for (name, value) in [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("X-Frame-Options", "DENY")] {
            assert_eq!(answer.header(name), value, "{answer}");
        }
    }
}

fn host_answer(web: &Web) -> Answer {
    ask(web.port, "GET", "/", &[("Host", "evil.example")], "").is(421).shows(&["hosts of [web] in node.toml"])
}

#[test]
fn behind_the_proxy_there_is_a_login_and_a_socket_for_its_group() {
    let safe = Loopback::start();
    let node = safe.read("node.toml");
    let socket = safe.text("site/web.sock");
    safe.write("node.toml", &format!("{node}\n[web]\nlisten = \"{socket}\"\n"));
    safe.back_up("dummy", "x");
    let site = Site::start(&safe);
    get(site.port, "/").is(401).hides(&["web1"]);
    site.get("/").is(502);
    let serve = || {
        let mut command = safe.command("nightsafe-server");
        command.arg("web");
        started(command)
    };
    let listens = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
    let mut first = serve();
    until("it listens", listens);
    // It listens a moment before the group may write to it.
    until("its group may use it", || std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777 == 0o660);
    site.get("/").is(200).shows(&["web1"]);
    ask_socket(safe.at("site/web.sock").as_path(), "GET", "/", &[("Host", "evil.example")]).is(421);
    assert!([403, 405].contains(&site.ask("POST", "/", "x").status));
    // Nobody takes a socket away at which somebody listens; one that was left is taken over.
    safe.node(&["web"]).says(&["another program listens"]).exits(75);
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    assert!(safe.at("site/web.sock").exists());
    let _second = serve();
    until("it listens again", listens);
    site.get("/").is(200).shows(&["web1"]);
    safe.write("plain", "x");
    safe.node(&["web", "--listen", &safe.text("plain")]).says(&["is no socket"]).exits(2);
    assert_eq!(safe.read("plain"), "x");
}

#[test]
fn many_clients_are_paged_and_slow_readers_hold_up_nobody() {
    let safe = Loopback::start();
    safe.sh("for n in $(seq 1000 1250); do mkdir -p node/data/host$n/snapshots; done");
    let web = Web::start(&safe);
    let front = web.get("/").is(200).shows(&["host1000", "page=1", "Find"]);
    assert_eq!(front.body.matches("data-label=\"State\"").count(), 100);
    web.get("/?page=2").is(200).shows(&["host1250"]);
    let found = web.get("/?q=host124").is(200).shows(&["host1249"]).hides(&["host1000"]);
    assert_eq!(found.body.matches("data-label=\"State\"").count(), 10);
    // Many that say half a request, and many that never read what they asked for.
    let mut slow = Vec::new();
    for n in 0..300 {
        let mut stream = TcpStream::connect(("127.0.0.1", web.port)).unwrap();
        let text = if n % 2 == 0 { "GET / HTTP/1.1\r\nHost: local" } else { "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" };
        let _ = stream.write_all(text.as_bytes());
        slow.push(stream);
    }
    for _ in 0..5 {
        web.get("/client/host1001").is(200).shows(&["not in the list"]);
    }
    // The oldest were closed for the others.
    let mut rest = Vec::new();
    let _ = slow[0].read_to_end(&mut rest);
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    let long = format!("/?q={}", "x".repeat(30_000));
    assert!([0, 400, 414, 431].contains(&web.get(&long).status));
    web.get("/").is(200);
}

#[test]
fn the_pages_work_in_a_browser_at_both_widths() {
    let safe = lived_in();
    let web = Web::start(&safe);
    let browser = Browser::start(&safe);
    let folder = std::env::var("NIGHTSAFE_PICTURES").unwrap_or_else(|_| safe.text("pictures"));
    let dataset = |name: &str| format!("/client/web1/dataset?name={}", name.replace('/', "%2F").replace(':', "%3A"));
    let pages = [
        ("overview", "/".to_owned()),
        ("client", "/client/web1".to_owned()),
        ("files", dataset(&format!("files:{}", safe.text("source/www")))),
        ("mirror", dataset(&format!("git:{}", safe.text("source/shop.git")))),
        ("log", "/log".to_owned()),
        ("deeds", "/deeds".to_owned()),
        ("missing", "/client/web9".to_owned()),
    ];
    let mut wrong = Vec::new();
    for (name, path) in &pages {
        for (width, dark) in [(360, false), (1440, true), (360, true), (1440, false)] {
            browser.looks_as(width, dark);
            browser.open(&format!("http://127.0.0.1:{}{path}", web.port));
            let what = format!("{name}-{width}{}", if dark { "-dark" } else { "" });
            browser.picture(&safe, &folder, &what);
            let mut said = browser.console();
            // The browser itself notes an answer of 404.
            said.retain(|line| !(*name == "missing" && line.contains("404")));
            wrong.extend(said.iter().map(|line| format!("{what}: console: {line}")));
            let wide = browser.value("document.documentElement.scrollWidth").as_u64().unwrap();
            if wide > width.into() {
                let who = browser.value("[...document.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 120)).join('\\n')");
                wrong.push(format!("{what}: it is {wide} wide: {who}"));
            }
            wrong.extend(browser.axe().iter().map(|line| format!("{what}: {line}")));
            let outside = browser
                .value("performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith(location.origin)).join(' ')");
            assert_eq!(outside, "", "{what}");
            assert_eq!(browser.value("document.scripts.length"), 0, "{what}");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // It would have been found.
    browser.value("document.querySelector('main').insertAdjacentHTML('beforeend', '<p class=\"muted\"><a href=\"/\"></a><span class=\"line\">x</span></p>')");
    assert!(browser.axe().iter().any(|line| line.starts_with("link-name")), "{:?}", browser.axe());
    // By keyboard alone: first past the head, then along all links, each of which shows that it is the one.
    browser.open(&format!("http://127.0.0.1:{}/", web.port));
    browser.press("Tab");
    assert_eq!(browser.value("document.activeElement.className"), "skip");
    browser.press("Enter");
    until("the content is reached", || browser.value("location.hash") == "#main");
    browser.open(&format!("http://127.0.0.1:{}/client/web1", web.port));
    let all = browser.value("document.querySelectorAll('a, input, button, select').length").as_u64().unwrap();
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..all {
        browser.press("Tab");
        let seen = browser.value("(() => { const e = document.activeElement, s = getComputedStyle(e); return [e.outerHTML, s.outlineStyle, parseFloat(s.outlineWidth)] })()");
        assert!(seen[1] == "solid" && seen[2].as_f64().unwrap() >= 2.0, "{seen}");
        reached.insert(seen[0].as_str().unwrap().to_owned());
    }
    let links =
        browser.value("new Set([...document.querySelectorAll('a, input, button, select')].map(e => e.outerHTML)).size").as_u64().unwrap();
    assert_eq!(reached.len() as u64, links, "{reached:#?}");
    assert_eq!(browser.console(), Vec::<String>::new());
}
