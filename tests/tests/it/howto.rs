//! The recipes of `docs/howto.md`, section by section, with real servers.

use crate::harness::{Cluster, Loopback, Maria, Run, blocks, run, source_root};

/// The shell blocks of a page below a heading, up to the next one; `path` is the heading, with those that it stands under before it.
fn section_of(page: &str, path: &[&str]) -> String {
    let text = std::fs::read_to_string(source_root().join("docs").join(page)).unwrap();
    let mut rest = text.as_str();
    for heading in path {
        let line = format!("\n{heading}\n");
        rest = &rest[rest.find(&line).unwrap_or_else(|| panic!("the page has no {heading:?}")) + line.len()..];
    }
    // A line of a block may begin with # as well.
    let end = rest.find("\n## ").into_iter().chain(rest.find("\n### ")).min().unwrap_or(rest.len());
    let blocks = blocks(&rest[..end], "sh");
    assert!(!blocks.is_empty(), "{path:?} shows nothing to do");
    blocks.concat()
}

fn section(path: &[&str]) -> String {
    section_of("howto.md", path)
}

/// Runs a section in `safe`'s environment with these variables more.
fn follow(safe: &Loopback, path: &[&str], more: &[(&str, &str)]) -> Run {
    shell(safe, &section(path), more)
}

fn shell(safe: &Loopback, script: &str, more: &[(&str, &str)]) -> Run {
    run(safe.command("bash").args(["-euxo", "pipefail", "-c", script]).envs(more.iter().copied())).exits(0)
}

/// Runs what a page shows under "Restoring", each line as the way by itself that it is: `before` makes for it what it needs, by
/// its number, and `after` looks at what it did.
fn each_way(safe: &Loopback, page: &str, more: &[(&str, &str)], before: &dyn Fn(usize), after: &dyn Fn(usize, Run)) -> usize {
    let block = section_of(page, &["## Restoring"]);
    for (n, line) in block.lines().enumerate() {
        before(n);
        after(n, shell(safe, line, more));
    }
    block.lines().count()
}

#[test]
fn files_git_sqlite_and_declared_modules() {
    let safe = Loopback::start();
    safe.sh("mkdir -p home/papers home/git home/app home/notes && echo dear >home/papers/letter.txt && echo x >home/papers/other && echo note >home/notes/n");
    safe.back_up("files", &safe.text("home/papers"));
    safe.sh("echo changed >home/papers/letter.txt");
    safe.back_up("files", &safe.text("home/papers"));
    let told = follow(&safe, &["## A file as it was"], &[]).says(&["1 of 2", "M letter.txt", "Restored 1 entry"]);
    assert!(told.stdout.contains("\ndear\n"), "{told}");
    assert_eq!(safe.read("home/as-it-was/letter.txt"), "dear\n");
    safe.sh("rm home/papers/letter.txt; echo mine >home/papers/mine");
    follow(&safe, &["## A folder, where it was"], &[]).says(&["create", "Restored 2 entries"]);
    assert_eq!(safe.sh("cd home/papers && cat letter.txt mine"), "changed\nmine\n");

    // A mirror that is overwritten, and a sealed repository.
    let sealed =
        format!("{}\n[[dataset]]\naddress = \"git:{}\"\nsealed = true\n", safe.read("client.toml"), safe.text("home/git/secret.git"));
    safe.write("client.toml", &sealed);
    safe.sh("git init -q -b main w && cd w && git config user.name u && git config user.email e && git commit -q --allow-empty -m first \
         && for name in site secret; do git clone -q --mirror . ../home/git/$name.git; done");
    safe.back_up("git", &safe.text("home/git/site.git"));
    safe.back_up("git", &safe.text("home/git/secret.git"));
    follow(&safe, &["## A git repository"], &[]).says(&["first"]);
    assert_eq!(
        safe.sh("rm -rf home/site.git; git --git-dir home/git/site.git rev-parse main"),
        safe.sh("git --git-dir home/git/secret.git rev-parse main")
    );
    safe.sh("cd w && git commit -q --amend --allow-empty -m other && git push -q -f ../home/git/site.git main");
    safe.back_up_saying("git", &safe.text("home/git/site.git"), &["was rewritten"]);
    follow(&safe, &["## A git repository", "### A branch that was overwritten or deleted"], &[]).says(&["refs/heads/main", "first"]);
    let secret = section(&["## A git repository"]).replace("site.git", "secret.git");
    run(safe.command("bash").args(["-euxc", &secret])).exits(0).says(&["first"]);

    safe.sh("sqlite3 home/app/app.db 'CREATE TABLE t (a); INSERT INTO t VALUES (42)'");
    safe.back_up("sqlite", &safe.text("home/app/app.db"));
    safe.sh("sqlite3 home/app/app.db 'DELETE FROM t'");
    follow(&safe, &["## A SQLite database"], &[]).says(&["ok"]);
    assert_eq!(safe.sh("sqlite3 home/app/app.db 'SELECT a FROM t'"), "42\n");

    let table = "\n[[allow]]\nmodule = \"notes\"\nunder = \"/\"\n[module.notes]\nprepare = [\"cp\", \"-a\", \"{path}/.\", \"{staging}\"]\nrestore = [\"cp\", \"-aT\", \"{staging}\", \"{target}\"]\n";
    safe.write("client.toml", &format!("{}{table}", safe.read("client.toml")));
    safe.back_up("notes", &safe.text("home/notes"));
    follow(&safe, &["## What a configuration declares: trac, Drupal, LDAP and others"], &[]).says(&["n"]);
    assert_eq!(safe.sh("cat home/notes-files/n home/notes-back/n"), "note\nnote\n");
}

#[test]
fn postgres_databases_tables_and_servers() {
    let (safe, cluster) = (Loopback::start(), Cluster::start());
    safe.set_postgres(&cluster.table("user = \"postgres\""));
    cluster.psql("postgres", "CREATE ROLE clerk").exits(0);
    cluster.psql("postgres", "CREATE DATABASE shop OWNER clerk").exits(0);
    cluster
        .psql("shop", "CREATE TABLE orders (n int); INSERT INTO orders SELECT generate_series(1, 7); CREATE TABLE other (n int)")
        .exits(0);
    safe.back_up("postgres", "shop");
    safe.back_up("postgres", "*");
    let psql = cluster.client("psql");
    let variables: Vec<(String, String)> = psql
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned())))
        .filter(|(name, _)| name.starts_with("PG"))
        .collect();
    let more: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    follow(&safe, &["## A PostgreSQL database"], &more).says(&["7"]);
    follow(&safe, &["## A PostgreSQL database", "### One table that is gone"], &more).says(&["7"]);
    cluster.psql("postgres", "DROP DATABASE shop").exits(0);
    cluster.psql("postgres", "DROP DATABASE shop_old").exits(0);
    cluster.psql("postgres", "DROP ROLE clerk").exits(0);
    follow(&safe, &["## A PostgreSQL database", "### A whole server"], &more).says(&["7"]);
    cluster.psql("postgres", "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'shop'").says(&["clerk"]);

    // The page of the module.
    let sql = |database: &str, statements: &[&str]| {
        for statement in statements {
            cluster.psql(database, statement).exits(0);
        }
    };
    let before = |n: usize| match n {
        1 => sql("postgres", &["DROP DATABASE shop2"]),
        2 | 3 => sql("postgres", &["DROP DATABASE shop", "DROP DATABASE IF EXISTS shop2", "DROP ROLE clerk"]),
        4 => {
            sql("postgres", &["CREATE DATABASE shop OWNER clerk"]);
            sql("shop", &["CREATE TABLE other (n int)"]);
        }
        _ => {}
    };
    let orders = |database: &str| assert_eq!(cluster.psql(database, "SELECT count(*) FROM orders").ok().trim(), "7");
    let after = |n: usize, run: Run| match n {
        0 | 1 => orders("shop2"),
        2 | 4 => orders("shop"),
        3 => assert_eq!(cluster.psql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'clerk'").ok().trim(), "1"),
        5 => drop(run.says(&["TABLE DATA public orders"])),
        6 => drop(safe.sh("test -s DIR/databases/shop.dump; grep -q 'CREATE ROLE clerk' DIR/globals.sql")),
        n => panic!("nothing looks at line {n}"),
    };
    assert_eq!(each_way(&safe, "postgres.md", &more, &before, &after), 7);
}

#[test]
fn mariadb_databases_tables_and_servers() {
    let (safe, maria) = (Loopback::start(), Maria::start());
    maria
        .run(
            "CREATE DATABASE shop; CREATE TABLE shop.orders (n int); INSERT INTO shop.orders VALUES (1), (2); CREATE USER clerk@localhost",
            "",
        )
        .exits(0);
    let file = safe.text("root.cnf");
    safe.write("root.cnf", &format!("[client]\nuser=root\nsocket={}\n", maria.socket.display()));
    safe.sh("chmod 0600 root.cnf");
    safe.write("client.toml", &format!("{}\n[module.mariadb]\ndefaults_file = \"{file}\"\n", safe.read("client.toml")));
    safe.back_up("mariadb", "shop");
    safe.back_up("mariadb", "*");
    // The page's client finds the server as its user has it configured.
    safe.sh("cp root.cnf home/.my.cnf && chmod 0600 home/.my.cnf");
    follow(&safe, &["## A MariaDB database"], &[]).says(&["2"]);
    assert_eq!(maria.ask("SELECT count(*) FROM orders", "shop"), "2");
    maria.ask("DROP TABLE orders", "shop");
    follow(&safe, &["## A MariaDB database", "### One table that is gone"], &[]);
    assert_eq!(maria.ask("SELECT count(*) FROM orders", "shop"), "2");
    maria.ask("DROP DATABASE shop; DROP DATABASE shop_back", "");
    follow(&safe, &["## A MariaDB database", "### A whole server"], &[]);
    assert_eq!(maria.ask("SELECT count(*) FROM orders", "shop"), "2");
    // The page of the module.
    let before = |n: usize| match n {
        3 | 7 => drop(maria.ask("DROP DATABASE shop2", "")),
        4 => drop(maria.ask("DROP DATABASE shop", "")),
        5 => drop(maria.ask("DROP USER clerk@localhost", "")),
        6 => drop(maria.ask("DROP USER clerk@localhost; DROP DATABASE shop", "")),
        _ => {}
    };
    let orders = |database: &str| assert_eq!(maria.ask("SELECT count(*) FROM orders", database), "2");
    let clerk = || assert_eq!(maria.ask("SELECT count(*) FROM mysql.user WHERE user = 'clerk'", ""), "1");
    let after = |n: usize, _: Run| match n {
        0 | 3 | 7 => orders("shop2"),
        1 => orders("shop_table"),
        2 => drop(safe.sh("grep -q 'INSERT INTO .orders' shop.sql")),
        4 => orders("shop"),
        5 => clerk(),
        6 => {
            clerk();
            orders("shop");
        }
        n => panic!("nothing looks at line {n}"),
    };
    assert_eq!(each_way(&safe, "mariadb.md", &[], &before, &after), 8);
}
