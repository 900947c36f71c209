//! Mirrors in a browser: real nginx, fcgiwrap and cgit, set up by the files in `deploy/`, over mirrors that the node made.

use crate::harness::{Loopback, Site, get, source_root};

/// What nobody would call a repository.
const NAME: &str = "a <script>alert(1)<b> \"&%2e%2e?x=1#y;$HOME ü";
/// What it is called in a URL; docs/cgit.md says how.
const PLACE: &str = "a~20~3cscript~3ealert~281~29~3cb~3e~20~22~26~252e~252e~3fx~3d1~23y~3b~24HOME~20~c3~bc";

/// An installation for which cgit is set up.
fn with_cgit() -> Loopback {
    let safe = Loopback::start();
    let node = safe.read("node.toml");
    let about =
        format!("[[cgit.about]]\nof = \"web1:git:{}\"\ndescription = \"The <i>shop</i>\"\nowner = \"ops\"\n", safe.text("source/shop.git"));
    safe.write("node.toml", &format!("{node}\n[cgit]\nurl = \"/cgit/\"\n{about}"));
    safe
}

/// A repository of somebody who wants to be more than a repository.
fn hostile(safe: &Loopback) -> String {
    let path = safe.text(&format!("source/{NAME}"));
    let quoted = path.replace('$', "\\$").replace('"', "\\\"");
    safe.sh(&format!(
        "git init -q -b main work; cd work; git config user.name '<img src=x onerror=alert(2)>'; git config user.email 'x@<script>'
         printf '<script>alert(3)</script>' >README.html; cp README.html README.md; cp README.html evil.svg
         printf 'about-filter=touch {dir}/ran\\nsource-filter=touch {dir}/ran\\ndesc=taken over\\n' >cgitrc
         ln -s /etc/passwd link; touch -- '<img src=x onerror=alert(4)>' '-x' 'a?h=b&c'
         git add -A; git commit -q -m '<script>alert(5)</script>'; git branch 'b<script>alert(6)<q'
         git checkout -q -b big; head -c 24000000 /dev/zero >huge; git add huge; git commit -q -m big; git checkout -q main
         cd ..; git clone -q --bare work \"{quoted}\"; cp work/cgitrc \"{quoted}/cgitrc\"; cp work/README.html \"{quoted}/description\"",
        dir = safe.dir.display(),
    ));
    path
}

#[test]
fn mirrors_are_browsed_with_what_they_had_before() {
    let safe = with_cgit();
    safe.sh("git init -q -b main work; cd work; git config user.name t; git config user.email t@example.org
         mkdir sub; echo 'hello from the shop' >sub/file; git add .; git commit -q -m 'Open the shop'; git tag v1
         cd ..; git clone -q --bare work source/shop.git");
    let path = safe.text("source/shop.git");
    safe.back_up("git", &path);
    let list = safe.read("node/data/_cgit/repositories");
    safe.sh("cd work; echo more >>sub/file; git commit -q --amend -am 'Another beginning'; git push -q -f ../source/shop.git main");
    safe.back_up_saying("git", &path, &["the default branch refs/heads/main was rewritten"]);
    assert_eq!(list, safe.read("node/data/_cgit/repositories"), "the same mirrors are the same list");

    let site = Site::start(&safe);
    for place in ["/cgit/", "/"] {
        get(site.port, place).is(401);
    }
    let home = format!("/cgit/web1{path}/");
    let index = site.get("/cgit/").is(200).shows(&["The &lt;i&gt;shop&lt;/i&gt;", "ops", &home]);
    let policy = index.header("Content-Security-Policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("script-src"), "{policy}");
    assert_eq!(index.header("X-Content-Type-Options"), "nosniff");
    site.get(&home).is(200).shows(&["Another beginning", "v1", "main"]).hides(&["Clone"]);
    site.get(&format!("{home}log/")).is(200).shows(&["Another beginning"]).hides(&["Open the shop"]);
    site.get(&format!("{home}tree/")).is(200).shows(&["sub"]);
    site.get(&format!("{home}tree/sub/file")).is(200).shows(&["hello from the shop"]);
    site.get(&format!("{home}plain/sub/file")).is(200).shows(&["more"]);
    site.get("/cgit-data/cgit.css").is(200).shows(&["#cgit"]);
    // What a ref was before is looked at by the name under which the node keeps it.
    let mirror =
        format!("node/data/web1/mirrors/{}", safe.names("node/data/web1/mirrors").iter().find(|name| name.ends_with(".git")).unwrap());
    let kept = safe.git(&mirror, &["for-each-ref", "--format=%(refname)", "refs/kept"]);
    let kept = kept.lines().next().unwrap();
    site.get(&format!("{home}log/?h={kept}")).is(200).shows(&["Open the shop"]);
    site.get(&format!("{home}tree/sub/file?h={kept}")).is(200).hides(&["more"]);

    // A mirror that is new is there at once, one that goes is gone with the next sweep.
    safe.sh("git clone -q --bare work source/second.git");
    safe.back_up("git", &safe.text("source/second.git"));
    assert!(safe.read("node/data/_cgit/repositories").contains("source/second.git\n"));
    safe.sh(&format!("rm -r {mirror}"));
    safe.node(&["poll", "--sweep"]).silent();
    assert!(!safe.read("node/data/_cgit/repositories").contains("source/shop.git\n"));
}

#[test]
fn the_page_says_what_the_configuration_takes() {
    let safe = Loopback::start();
    let page = std::fs::read_to_string(source_root().join("docs/cgit.md")).unwrap();
    let table = page.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let node = safe.read("node.toml");
    safe.write("node.toml", &format!("{node}\n{table}"));
    safe.node(&["config", "check"]).exits(0);
    assert!(table.contains("[[cgit.about]]"));
}

#[test]
fn what_a_repository_holds_stays_text_and_inside() {
    let safe = with_cgit();
    let path = hostile(&safe);
    safe.back_up("git", &path);
    // As if it had got there: cgit would read it of a repository that it found by itself.
    let mirror = safe.names("node/data/web1/mirrors").into_iter().find(|name| name.ends_with(".git")).unwrap();
    let mirror = format!("node/data/web1/mirrors/{mirror}");
    safe.sh(&format!("cp work/cgitrc {mirror}/cgitrc; mkdir -p node/data/web1/mirrors/other.git; cp -r {mirror}/. node/data/web1/mirrors/other.git; rm node/data/web1/mirrors/other.git/nightsafe-dataset"));
    safe.node(&["poll", "--sweep"]).exits(0);
    let list = safe.read("node/data/_cgit/repositories");
    assert_eq!(list.matches("repo.url=").count(), 1, "{list}");

    let site = Site::start(&safe);
    let scripts = ["<script", "<img src=x", "onerror=alert(4)>", "taken over"];
    let home = format!("/cgit/web1{}/{PLACE}/", safe.text("source"));
    let index = site.get("/cgit/").is(200).shows(&[&home, "a &lt;script"]).hides(&scripts);
    assert!(!index.body.contains("alert(3)"), "a description comes from the node's configuration alone: {index}");
    for page in [
        "",
        "log/",
        "tree/",
        "commit/",
        "refs/",
        "tree/README.html",
        "tree/cgitrc",
        "log/?h=b<script>alert(6)<q",
        "?h=<script>",
        "tree/-x",
        "tree/<script>",
        "log/?qt=grep&q=<script>",
    ] {
        let page = page.replace('<', "%3C").replace('>', "%3E");
        let answer = site.get(&format!("{home}{page}")).hides(&["<script", "<img src=x"]);
        assert!([200, 404].contains(&answer.status), "{answer}");
        assert!(answer.header("Content-Security-Policy").contains("default-src 'none'"), "{answer}");
    }
    site.get(&home).is(200);
    for name in ["README.html", "README.md", "evil.svg"] {
        let plain = site.get(&format!("{home}plain/{name}")).is(200);
        assert!(plain.header("Content-Type").starts_with("text/plain"), "{plain}");
        assert_eq!(plain.header("X-Content-Type-Options"), "nosniff");
    }
    // Nothing outside of mirrors that are in the list, and of these nothing but what git shows.
    let inside = safe.text(&mirror);
    for path in [
        "/cgit/../../etc/passwd",
        "/cgit/%2e%2e/%2e%2e/etc/passwd",
        "/cgit/web1/../../../etc/passwd",
        "/cgit-data/../../../etc/passwd",
        "/cgit-data../doc/cgit/copyright",
        "/cgit/?url=/etc/passwd",
        "/cgit/?r=../../../../etc",
        &format!("/cgit/?r={inside}"),
        &format!("/cgit/?url={inside}/log"),
        &format!("/cgit/{inside}/"),
        &format!("{home}plain/../config"),
        &format!("{home}plain/%2e%2e/config"),
        &format!("{home}plain/link/passwd"),
        &format!("{home}tree/?h=../../../../etc/passwd"),
        &format!("{home}atom/?h=--output={}", safe.text("ran")),
        &format!("{home}diff/?id=--output={}", safe.text("ran")),
        &format!("{home}snapshot/main.tar.gz"),
        &format!("{home}info/refs?service=git-upload-pack"),
        &format!("{home}HEAD"),
        &format!("{home}objects/info/packs"),
        "/cgit/web1/other.git/",
    ] {
        let answer = site.get(path);
        for word in ["root:x:", "repositoryformatversion", "refs/heads/main\t", "pack-", "nightsafe-dataset", "Copyright"] {
            assert!(!answer.body.contains(word), "{word}: {answer}");
        }
    }
    site.get(&format!("{home}plain/link")).is(200).shows(&["/etc/passwd"]);
    for method in ["POST", "PUT", "DELETE", "PROPFIND"] {
        let refused = site.ask(method, &home, "x=1");
        assert!([400, 403, 405].contains(&refused.status), "{refused}");
    }
    // What takes too much memory ends, and nothing else does.
    for page in ["tree/huge?h=big", "plain/huge?h=big", "commit/?h=big"] {
        let answer = site.get(&format!("{home}{page}"));
        assert!(answer.status != 200 || answer.body.len() < 1_000_000, "{} bytes came of {page}", answer.body.len());
    }
    site.get(&home).is(200);
    assert!(!safe.at("ran").exists());
}
