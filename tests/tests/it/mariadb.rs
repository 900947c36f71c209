//! MariaDB: dumps streamed into the archive, restored into real servers, and compared there; hostile dumps.

use crate::harness::{Loopback, Maria, blocks, run, source_root, until};
use std::os::unix::fs::PermissionsExt;

/// Everything that a database can hold.
const SHOP: &str = r"
CREATE DATABASE shop CHARACTER SET latin1 COLLATE latin1_german1_ci;
USE shop;
CREATE TABLE a (id int PRIMARY KEY AUTO_INCREMENT, t text, b varbinary(300), bits bit(9), n int, g int AS (n * 2) STORED,
  p point, d datetime(6), u text CHARACTER SET utf8mb4, e enum('x','y'), f double, j json);
INSERT INTO a (t, b, bits, n, p, d, u, e, f, j) VALUES
  ('x\ny\'\\', x'00010a0d1a275cff2d2d', b'100000001', 7, POINT(1, 2), '2026-01-01 02:03:04.000005', '\u{1f600}ä', 'y', 1e-300, '{}'),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO a (t, n) SELECT repeat(md5(seq), 5), seq FROM seq_1_to_6000;
CREATE TABLE child (a int, FOREIGN KEY (a) REFERENCES a (id));
INSERT INTO child VALUES (1), (2);
CREATE TABLE `o``d d` (x int) ENGINE=MyISAM;
INSERT INTO `o``d d` VALUES (1), (2);
CREATE SEQUENCE s START 41;
SELECT nextval(s);
CREATE VIEW v AS SELECT count(*) AS c FROM a;
CREATE VIEW vv AS SELECT c + 1 AS c FROM v;
CREATE USER app@localhost IDENTIFIED BY 'secret';
GRANT ALL ON shop.* TO app@localhost;
CREATE ROLE readers;
GRANT SELECT ON shop.* TO readers;
GRANT readers TO app@localhost;
SET DEFAULT ROLE readers FOR app@localhost;
DELIMITER //
CREATE DEFINER=app@localhost PROCEDURE pr()
BEGIN
  SELECT 'CREATE DEFINER=`a`@`b` ;;
CREATE DEFINER=`root`@`localhost` x';
END//
CREATE FUNCTION f(x int) RETURNS int DETERMINISTIC RETURN x + 1//
CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW BEGIN SET NEW.t = concat(NEW.t, '!'); END//
CREATE EVENT ev ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DO BEGIN INSERT INTO child VALUES (1); END//
SET sql_mode = ORACLE//
CREATE PACKAGE pk AS FUNCTION one RETURN int; END//
CREATE PACKAGE BODY pk AS FUNCTION one RETURN int AS BEGIN RETURN 1; END; END//
";

/// What `dump` leaves out: the database itself, and definers.
fn around(maria: &Maria, database: &str) -> String {
    maria
        .ask(
            &format!(
            "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '{database}';
             CHECKSUM TABLE {database}.a, {database}.child, {database}.`o``d d`;
             SELECT 'view', DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = '{database}' ORDER BY TABLE_NAME;
             SELECT ROUTINE_NAME, ROUTINE_TYPE, DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{database}' ORDER BY 1, 2;
             SELECT TRIGGER_NAME, DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{database}';
             SELECT EVENT_NAME, STATUS, DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{database}';"
        ),
            "",
        )
        .replace(&format!("{database}."), "NAME.")
}

/// Adds `[module.mariadb]` that logs in by an option file.
fn connect(safe: &Loopback, maria: &Maria, user: &str, password: &str, more: &str) {
    let file = safe.text(&format!("{user}.cnf"));
    safe.write(&format!("{user}.cnf"), &format!("[client]\nuser={user}\npassword={password}\nsocket={}\n", maria.socket.display()));
    run(safe.command("chmod").args(["0600", &file])).ok();
    let text = safe.read("client.toml");
    let text = text.split("\n[module.mariadb]").next().unwrap();
    safe.write("client.toml", &format!("{text}\n[module.mariadb]\ndefaults_file = \"{file}\"\n{more}"));
}

/// A program in a folder of its own, in front of the real one.
fn program(safe: &Loopback, name: &str, text: &str) {
    std::fs::create_dir_all(safe.at("bin")).unwrap();
    safe.write(&format!("bin/{name}"), text);
    std::fs::set_permissions(safe.at(&format!("bin/{name}")), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_database_comes_back_with_all_that_is_in_it() {
    let (safe, maria) = (Loopback::start(), Maria::start());
    maria.run(SHOP, "").exits(0);
    // The roles of the page do it, and one that lacks something is found out.
    let page = std::fs::read_to_string(source_root().join("docs/mariadb.md")).unwrap();
    blocks(&page, "sql").iter().for_each(|sql| drop(maria.run(sql, "").exits(0)));
    maria.ask("ALTER USER nsshop@localhost IDENTIFIED BY 'quiet'; REVOKE TRIGGER ON shop.* FROM nsshop@localhost", "");
    connect(&safe, &maria, "nsshop", "quiet", "");
    safe.client(&["submit", "mariadb", "shop"]).exits(0);
    let sent = safe.client(&["send"]);
    assert_ne!(sent.code, Some(0), "{sent}");
    sent.says(&["lacks TRIGGER", "GRANT TRIGGER ON `shop`.* TO `nsshop`@`localhost`"]);
    assert!(safe.names("client/export/node1").is_empty());
    maria.ask("GRANT TRIGGER ON shop.* TO nsshop@localhost", "");
    safe.client(&["submit", "mariadb", "shop"]).exits(0);
    // Tables without transactions are named.
    safe.client(&["--verbose", "send"]).exits(0).says(&["o`d d (MyISAM)"]);
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).silent();
    let (before, definers) = (maria.dump("shop"), around(&maria, "shop"));

    // Back into a new database, with the account that may do so.
    maria.ask("UPDATE a SET t = 'later'", "shop");
    connect(&safe, &maria, "root", "", "");
    safe.client(&["restore", "mariadb:shop", "--into-db", "back"]).exits(0).says(&["now run as nightsafe_"]);
    let owner = maria.ask("SELECT CONCAT(user, '@', host) FROM mysql.user WHERE user LIKE 'nightsafe\\_%'", "");
    let without = |text: &str| {
        let mut text = text.to_owned();
        for definer in ["root@localhost", "app@localhost", &owner, "`root`@`localhost`", "`app`@`localhost`", "\"root\"@\"localhost\""] {
            text = text.replace(definer, "DEFINER");
        }
        let (user, host) = owner.split_once('@').unwrap();
        // The body of `pr` names one as well, which stays.
        text.replace(&format!("`{user}`@`{host}`"), "DEFINER").replace(&format!("\"{user}\"@\"{host}\""), "DEFINER")
    };
    assert_eq!(without(&before), without(&maria.dump("back")));
    assert_eq!(without(&definers), without(&around(&maria, "back")));
    // It works at once, and nobody can log in as the account that it runs as.
    assert_eq!(
        maria.ask("SELECT c FROM vv; SELECT f(1); INSERT INTO a (t) VALUES ('n'); SELECT t FROM a WHERE t LIKE 'n%'", "back"),
        "6003\n2\nn!"
    );
    maria.ask("CALL pr()", "back");
    let account = maria.ask(&format!("SHOW CREATE USER {}", owner.replace('@', "@'") + "'"), "");
    assert!(account.contains("ACCOUNT LOCK"), "{account}");
    let grants = maria.ask(&format!("SHOW GRANTS FOR {}", owner.replace('@', "@'") + "'"), "");
    assert!(grants.lines().count() == 2 && grants.contains("ON `back`.*"), "{grants}");

    // A database with something in it is left alone; nothing but the dump is refused halfway.
    safe.client(&["restore", "mariadb:shop", "--into-db", "back"]).exits(4).says(&["not empty"]);
    safe.client(&["restore", "mariadb:shop", "--into-db", "mysql"]).exits(2);
    // Trusted, all is as it was.
    safe.client(&["restore", "mariadb:shop", "--globals", "--into-db", "same"]).exits(0);
    assert_eq!(before, maria.dump("same"));
    assert_eq!(definers, around(&maria, "same"));
    // One table, with its trigger.
    safe.client(&["restore", "mariadb:shop", "--table", "a", "--table", "o`d d", "--into-db", "part"]).exits(0);
    assert_eq!(maria.ask("SHOW TABLES", "part"), "a\no`d d");
    assert_eq!(maria.ask("CHECKSUM TABLE a", "part").replace("part", "same"), maria.ask("CHECKSUM TABLE a", "same"));
    assert_eq!(maria.ask("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'part'", ""), "tr");
    safe.client(&["restore", "mariadb:shop", "--table", "absent", "--into-db", "none"]).exits(1).says(&["no table absent"]);
    assert_eq!(maria.ask("SHOW DATABASES LIKE 'none'", ""), "");
    // The dump itself.
    let dump = safe.client(&["restore", "mariadb:shop", "--stdout"]).ok();
    assert!(dump.starts_with("ALTER DATABASE CHARACTER SET latin1") && dump.ends_with("-- Dump completed\n"), "{dump:.200}");
    safe.client(&["restore", "mariadb:shop", "--target", &safe.text("back/files")]).exits(0);
    assert_eq!(String::from_utf8_lossy(&std::fs::read(safe.at("back/files/dump.sql")).unwrap()), dump);
    assert!(std::fs::read_dir("/tmp").unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().starts_with("nightsafe_")));

    // A second dump is mostly what the first was.
    let stored = || safe.sh("du -sb node/data/web1/packs | cut -f1").trim().parse::<u64>().unwrap();
    connect(&safe, &maria, "root", "", "");
    maria.ask("DROP DATABASE shop; CREATE DATABASE shop", "");
    safe.client(&["restore", "mariadb:shop", "--globals", "--into-db", "shop"]).exits(0);
    let first = stored();
    safe.back_up("mariadb", "shop");
    assert!(stored() - first < first / 4, "{first} then {}", stored());
}

#[test]
fn a_whole_server_comes_back() {
    let (safe, maria) = (Loopback::start(), Maria::start());
    maria.run(SHOP, "").exits(0);
    maria.run("CREATE DATABASE `my shöp.2`; CREATE TABLE `my shöp.2`.t AS SELECT 1 AS x; CREATE DATABASE empty", "").exits(0);
    let page = std::fs::read_to_string(source_root().join("docs/mariadb.md")).unwrap();
    maria.run(&blocks(&page, "sql")[0], "").exits(0);
    maria.ask("ALTER USER nightsafe@localhost IDENTIFIED BY 'quiet'", "");
    connect(&safe, &maria, "nightsafe", "quiet", "");
    safe.back_up("mariadb", "*");
    let files = safe.client(&["ls", "mariadb:*", "--recursive"]).ok();
    for file in ["databases/shop.sql", "databases/my%20shöp%2E2.sql", "databases/empty.sql", "users.sql"] {
        assert!(files.contains(file), "{files}");
    }
    assert!(!files.contains("information_schema") && !files.contains("mysql.sql"), "{files}");

    let other = Maria::start();
    connect(&safe, &other, "root", "", "");
    safe.client(&["restore", "mariadb:*", "--into-db", "x"]).exits(2).says(&["my shöp.2"]);
    safe.client(&["restore", "mariadb:*", "nosuch", "--into-db", "x"]).exits(1).says(&["nosuch"]);
    safe.client(&["restore", "mariadb:*", "shop", "--stdout"]).exits(0).says(&["CREATE TABLE `child`"]);
    safe.client(&["restore", "mariadb:*", "my shöp.2", "--into-db", "x"]).exits(0);
    assert_eq!(other.ask("SELECT x FROM t", "x"), "1");
    assert_eq!(other.ask("SELECT COUNT(*) FROM mysql.user WHERE user IN ('app', 'nightsafe') OR user LIKE 'nightsafe\\_%'", ""), "0");

    safe.client(&["restore", "mariadb:*", "--globals", "--into-db", "*"]).exits(0);
    for database in ["shop", "my shöp.2", "empty"] {
        assert_eq!(maria.dump(database), other.dump(database));
    }
    assert_eq!(around(&maria, "shop"), around(&other, "shop"));
    let users = |maria: &Maria| {
        maria.ask(
            "SHOW CREATE USER app@localhost; SHOW GRANTS FOR app@localhost; SHOW GRANTS FOR readers; SHOW GRANTS FOR nightsafe@localhost",
            "",
        )
    };
    assert_eq!(users(&maria), users(&other));
    assert_eq!(other.ask("SELECT User FROM mysql.user WHERE User LIKE 'mariadb\\_dump%'", ""), "");
    // Users alone, again: what is there stays.
    safe.client(&["restore", "mariadb:*", "--globals"]).exits(0);
    assert_eq!(users(&maria), users(&other));
}

#[test]
fn a_transaction_is_wholly_in_a_dump_or_wholly_out() {
    let (safe, maria) = (Loopback::start(), Maria::start());
    maria
        .run(
            "CREATE DATABASE bank; USE bank; CREATE TABLE a (v int); CREATE TABLE m (t text); CREATE TABLE z (v int);
             INSERT INTO a VALUES (100); INSERT INTO z VALUES (0);
             INSERT INTO m SELECT repeat(md5(seq), 100) FROM seq_1_to_6000;",
            "",
        )
        .exits(0);
    connect(&safe, &maria, "root", "", &format!("bin = \"{}\"\n", safe.text("bin")));
    // The dump stands still in the middle of `m`: `a` was read, and `z` was not.
    program(&safe, "mariadb", "#!/bin/sh\nexec /usr/bin/mariadb \"$@\"\n");
    let (middle, go) = (safe.text("middle"), safe.text("go"));
    let gate = format!("head -c 1000000; touch {middle}; while [ ! -e {go} ]; do sleep 0.05; done; cat");
    program(&safe, "mariadb-dump", &format!("#!/bin/bash\nset -o pipefail\n/usr/bin/mariadb-dump \"$@\" | {{ {gate}; }}\n"));
    safe.client(&["submit", "mariadb", "bank"]).exits(0);
    let mut send = safe.command("nightsafe");
    let mut sending = send.arg("send").spawn().unwrap();
    until("the dump is in the middle", || safe.at("middle").exists());
    maria.ask("START TRANSACTION; UPDATE a SET v = v - 10; UPDATE z SET v = v + 10; COMMIT", "bank");
    safe.write("go", "");
    assert!(sending.wait().unwrap().success());
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).silent();
    safe.client(&["restore", "mariadb:bank", "--into-db", "back"]).exits(0);
    assert_eq!(maria.ask("SELECT a.v, z.v FROM a, z", "back"), "100\t0");
    assert_eq!(maria.ask("SELECT a.v, z.v FROM a, z", "bank"), "90\t10");
}

#[test]
fn a_hostile_dump_touches_nothing_but_its_own_database() {
    let (safe, maria) = (Loopback::start(), Maria::with_events());
    connect(&safe, &maria, "root", "", &format!("bin = \"{}\"\n", safe.text("bin")));
    let mark = safe.text("mark");
    safe.write("source.sql", "CREATE TABLE sourced (x int);\n");
    let source = safe.text("source.sql");
    // Each of them after something harmless, and before something that says whether the rest was run.
    let table: Vec<String> = vec![
        format!("\\! touch {mark}\n"),
        format!("system touch {mark}\n"),
        format!("system touch {mark};\n"),
        format!("source {source}\n"),
        format!("\\. {source}\n"),
        format!("tee {mark}\n"),
        format!("\\T {mark}\n"),
        format!("pager touch {mark}\nSELECT 1;\n"),
        format!("\\P touch {mark}\nSELECT 1;\n"),
        "\\e\n".into(),
        "edit\n".into(),
        "\\r x 127.0.0.1\n".into(),
        format!("DELIMITER ;;\nsystem touch {mark};;\nDELIMITER ;\n"),
        format!("DELIMITER \\!\n\\! touch {mark}\nSELECT 1 \\! touch {mark}\n"),
        format!("/*\n*/ \\! touch {mark}\n"),
        "USE mysql;\n".into(),
        "\\u mysql\n".into(),
        "INSERT INTO victim.t VALUES (666);\n".into(),
        "DROP DATABASE victim;\n".into(),
        "CREATE VIEW spy AS SELECT * FROM victim.t;\n".into(),
        "CREATE TABLE spy AS SELECT * FROM mysql.global_priv;\n".into(),
        "CREATE USER evil@localhost;\n".into(),
        "GRANT ALL ON *.* TO CURRENT_USER();\n".into(),
        "SET GLOBAL max_connections = 10;\n".into(),
        "SET PASSWORD FOR root@localhost = PASSWORD('x');\n".into(),
        "DELIMITER ;;\nCREATE SQL SECURITY DEFINER DEFINER=`root`@`localhost` VIEW e AS SELECT 1 ;;\nDELIMITER ;\n".into(),
        "CREATE /* */ DEFINER=root@localhost EVENT e ON SCHEDULE AT NOW() DO CREATE USER evil@localhost;\n".into(),
        "CREATE /**/ DEFINER=root@localhost PROCEDURE p() CREATE USER evil@localhost;\n".into(),
        "CREATE EVENT e ON SCHEDULE AT NOW() DO CREATE USER evil@localhost;\nSET ROLE evil;\n".into(),
        format!("LOAD DATA LOCAL INFILE '{source}' INTO TABLE first;\n"),
        format!("LOAD DATA INFILE '{source}' INTO TABLE first;\n"),
        format!("SELECT 1 INTO OUTFILE '{mark}';\n"),
        "INSTALL SONAME 'ha_connect';\n".into(),
        "CREATE FUNCTION udf RETURNS STRING SONAME 'udf.so';\n".into(),
        "SHUTDOWN;\n".into(),
    ];
    maria.run("CREATE DATABASE victim; CREATE TABLE victim.t (x int); INSERT INTO victim.t VALUES (1)", "").exits(0);
    for (i, hostile) in table.iter().enumerate() {
        maria.ask(&format!("CREATE DATABASE h{i}"), "");
        safe.write(&format!("h{i}.sql"), &format!("CREATE TABLE first (t text);\n{hostile}CREATE TABLE last (x int);\n"));
    }
    program(&safe, "mariadb", "#!/bin/sh\nexec /usr/bin/mariadb \"$@\"\n");
    let fake = format!("#!/bin/sh\nfor last; do :; done\n[ -e {0}/$last.sql ] || exit 0\nexec cat {0}/$last.sql\n", safe.dir.display());
    program(&safe, "mariadb-dump", &fake);
    safe.back_up("mariadb", "*");
    let state = || {
        maria
            .ask(
                "SELECT user, host, priv FROM mysql.global_priv JOIN (SELECT 1) x WHERE user NOT LIKE 'nightsafe\\_%' ORDER BY 1, 2;
             SELECT * FROM victim.t; SELECT @@global.max_connections; SELECT * FROM mysql.func; SELECT * FROM mysql.plugin;
             SELECT COUNT(*) FROM mysql.proc WHERE definer LIKE 'root%'; SELECT COUNT(*) FROM mysql.event WHERE definer LIKE 'root%'",
                "",
            )
            .replace("host\tuser", "")
    };
    let before = state();
    for (i, hostile) in table.iter().enumerate() {
        let restored = safe.client(&["restore", "mariadb:*", &format!("h{i}"), "--into-db", &format!("r{i}")]);
        assert_eq!(restored.code, Some(1), "{hostile:?}: {restored}");
        assert!(!safe.at("mark").exists(), "{hostile:?} ran a program: {restored}");
        assert_eq!(state(), before, "{hostile:?} reached further: {restored}");
        assert_eq!(maria.ask("SHOW TABLES", &format!("r{i}")), "first", "{hostile:?}: {restored}");
        assert_eq!(maria.ask("SELECT COUNT(*) FROM first", &format!("r{i}")), "0", "{hostile:?}");
        let left = maria.ask("SELECT user FROM mysql.user WHERE user LIKE 'nightsafe\\_%'", "");
        assert_eq!(left, "", "{hostile:?} leaves the account");
    }
}

#[test]
fn a_dump_that_ends_badly_is_no_snapshot() {
    let (safe, maria) = (Loopback::start(), Maria::start());
    maria.run("CREATE DATABASE shop; CREATE TABLE shop.t AS SELECT 1 AS x", "").exits(0);
    program(&safe, "mariadb", "#!/bin/sh\nexec /usr/bin/mariadb \"$@\"\n");
    let table = [
        ("echo 'mariadb-dump: lost connection' >&2; exit 2", "lost connection"),
        ("kill -9 $$", "signal"),
        ("sleep 600", "took longer than 2s"),
    ];
    for (end, words) in table {
        program(&safe, "mariadb-dump", &format!("#!/bin/sh\nseq 100000\n{end}\n"));
        connect(&safe, &maria, "root", "", &format!("bin = \"{}\"\ntime_limit = \"2s\"\n", safe.text("bin")));
        safe.client(&["submit", "mariadb", "shop"]).exits(0);
        let sent = safe.client(&["send"]);
        assert_ne!(sent.code, Some(0), "{sent}");
        sent.says(&[words, "the database shop"]);
        assert!(safe.names("client/export/node1").is_empty() && safe.names("node/data/web1/snapshots").is_empty());
    }
    connect(&safe, &maria, "root", "wrong", "");
    for (dataset, words) in [("shop", "Access denied"), ("*", "Access denied")] {
        safe.client(&["submit", "mariadb", dataset]).exits(0);
        let sent = safe.client(&["send"]);
        assert_ne!(sent.code, Some(0), "{sent}");
        sent.says(&[words]);
    }
    connect(&safe, &maria, "root", "", "");
    safe.client(&["submit", "mariadb", "nosuch"]).exits(0);
    let sent = safe.client(&["send"]);
    assert_ne!(sent.code, Some(0), "{sent}");
    sent.says(&["no database nosuch"]);
    for bad in ["mysql", "a/b", "information_schema"] {
        safe.client(&["submit", "mariadb", bad]).exits(2);
    }
}
