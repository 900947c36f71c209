//! A whole PostgreSQL server there and back, single tables, and dumps that are consistent.

use crate::harness::{Cluster, Loopback};
use std::os::unix::fs::PermissionsExt;

/// A shop: a foreign key, a type, a partitioned table, a function, a trigger, rights, comments, a setting.
const SHOP: &str = "CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('good', 'bad');
    CREATE TABLE s.customers (id serial PRIMARY KEY, mood s.mood DEFAULT 'good', note text);
    CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES s.customers (id), what text);
    CREATE INDEX orders_what ON orders (what);
    CREATE TABLE log (at int, what text) PARTITION BY RANGE (at);
    CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (500); CREATE TABLE log_2 PARTITION OF log DEFAULT;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
    CREATE TRIGGER touching BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
    INSERT INTO s.customers (note) SELECT 'tab\there \\. and ''quotes''' || i FROM generate_series(1, 300) i;
    INSERT INTO orders (customer, what) SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 300) i;
    INSERT INTO log SELECT i, (SELECT string_agg(md5((i * 100 + j)::text), '') FROM generate_series(1, 60) j) FROM generate_series(1, 1000) i;
    SELECT lo_from_bytea(0, 'a large object');
    COMMENT ON TABLE orders IS E'two\\nlines'; GRANT SELECT ON orders TO clerk; ALTER TABLE s.customers OWNER TO clerk";

fn fill(cluster: &Cluster) {
    for sql in [
        "CREATE ROLE clerk LOGIN PASSWORD 'secret'",
        "CREATE ROLE \"odd ; ' role\"",
        "GRANT clerk TO \"odd ; ' role\"",
        "COMMENT ON ROLE clerk IS E'a\\n\\\\! touch /tmp/nightsafe-pwned\\nb'",
        "CREATE DATABASE shop OWNER clerk TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ENCODING 'SQL_ASCII'",
        "ALTER DATABASE shop SET work_mem TO '5MB'",
        "COMMENT ON DATABASE shop IS 'a shop'",
        "REVOKE TEMPORARY ON DATABASE shop FROM PUBLIC",
        "CREATE DATABASE \"it's a/b * \"\"ü\"",
        "CREATE DATABASE \"closed\"",
        "ALTER DATABASE closed ALLOW_CONNECTIONS false",
    ] {
        cluster.psql("postgres", sql).exits(0);
    }
    cluster.psql("shop", SHOP).exits(0);
    cluster.psql("it's a/b * \"ü", "CREATE TABLE \"odd 'table\" (a int); INSERT INTO \"odd 'table\" VALUES (7)").exits(0);
    cluster.psql("template1", "CREATE TABLE in_every_new_one (a int)").exits(0);
}

const ODD: &str = "it's a/b * \"ü";

#[test]
fn a_whole_server_comes_back_with_its_roles() {
    let (safe, cluster, other) = (Loopback::start(), Cluster::start(), Cluster::start());
    fill(&cluster);
    safe.set_postgres(&cluster.table("user = \"postgres\""));
    safe.back_up("postgres", "*");
    let first = safe.snapshots_in_order().pop().unwrap();
    safe.client(&["ls", "--recursive", "postgres:*"]).says(&[
        "databases/shop.dump",
        "databases/it's a%2Fb * \"ü.dump",
        "databases/template1.dump",
        "globals.sql",
    ]);
    assert!(!safe.client(&["ls", "--recursive", "postgres:*"]).ok().contains("closed"), "it allows no connections");

    // Onto another server, on which one of the roles is already.
    safe.set_postgres(&other.table("user = \"postgres\""));
    other.psql("postgres", "CREATE ROLE \"odd ; ' role\" CREATEDB").exits(0);
    let restored = safe.client(&["restore", "postgres:*", "--into-db", "*", "--globals"]);
    let restored = restored.exits(0).says(&["made: clerk", "stay as they are: odd ; ' role, postgres"]);
    assert!(!restored.stderr.contains("SCRAM") && !restored.stdout.contains("SCRAM"), "{restored}");
    for database in ["shop", ODD, "template1"] {
        assert_eq!(cluster.dump(database), other.dump(database), "{database}");
    }
    let of_roles = "SELECT rolname, rolcanlogin, shobj_description(oid, 'pg_authid'), rolpassword FROM pg_authid WHERE rolname = 'clerk'";
    assert_eq!(cluster.psql("postgres", of_roles).ok(), other.psql("postgres", of_roles).ok());
    assert_eq!(other.psql("postgres", "SELECT rolcreatedb FROM pg_roles WHERE rolname LIKE 'odd%'").ok().trim(), "t");
    let of_databases = "SELECT datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a), setconfig,
        shobj_description(d.oid, 'pg_database') FROM pg_database d LEFT JOIN pg_db_role_setting ON setdatabase = d.oid WHERE datname = 'shop'";
    assert_eq!(cluster.psql("postgres", of_databases).ok(), other.psql("postgres", of_databases).ok());
    assert_eq!(other.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'nightsafe%'").ok().trim(), "0");
    assert_eq!(other.psql("shop", "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'orders'").ok().trim(), "t", "it was analysed");
    assert!(!std::path::Path::new("/tmp/nightsafe-pwned").exists());
    // A second time nothing is overwritten: what is there is named. What is still empty is taken.
    safe.client(&["restore", "postgres:*", "--into-db", "*"]).exits(3).says(&["shop is there and is not empty"]);
    // One of them, under another name; and the files.
    safe.client(&["restore", "postgres:*", "shop", "--into-db", "shop 2"]).exits(0);
    assert_eq!(cluster.dump("shop"), other.dump("shop 2"));
    safe.client(&["restore", "postgres:*", "--into-db", "x"]).exits(2).says(&["databases, and one name"]);
    safe.client(&["restore", "postgres:*", "nosuch", "--into-db", "x"]).exits(1).says(&["nosuch", "shop"]);
    safe.client(&["restore", "postgres:*", ODD, "--target", safe.at("files").to_str().unwrap()]).exits(0);
    assert_eq!(safe.names("files/databases"), ["it's a%2Fb * \"ü.dump"]);

    // The next night: little is new, and the roles' text is the same to the byte.
    safe.set_postgres(&cluster.table("user = \"postgres\""));
    let stored = || safe.sh("du -sb node/data/web1/packs | cut -f1").trim().parse::<u64>().unwrap();
    let before = stored();
    safe.back_up("postgres", "*");
    assert!(stored() - before < before / 2, "{before} then {}", stored());
    let globals = |at: &str| safe.client(&["restore", "postgres:*", "globals.sql", "--at", at, "--stdout"]).ok();
    let second = safe.snapshots_in_order().pop().unwrap();
    assert!(second != first && globals(&first) == globals(&second) && globals(&first).contains("CREATE ROLE clerk"));
}

#[test]
fn a_table_comes_back_alone() {
    let (safe, cluster) = (Loopback::start(), Cluster::start());
    fill(&cluster);
    safe.set_postgres(&cluster.table("user = \"postgres\""));
    safe.back_up("postgres", "shop");
    let table = |name: &str| cluster.client("pg_dump").args(["-d", "shop", "-t", name]).output().unwrap().stdout;
    let without_key =
        |dump: &[u8]| String::from_utf8_lossy(dump).lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n");
    let before = without_key(&table("orders"));
    let into = |database: &str, tables: &[&str]| {
        let tables = tables.iter().flat_map(|table| ["--table", table]);
        safe.client(&["restore", "postgres:shop", "--into-db", database].into_iter().chain(tables).collect::<Vec<_>>())
    };
    // While it is there it is left alone.
    into("shop", &["orders"]).exits(4).says(&["orders", "already"]);
    into("shop", &["nosuch"]).exits(2).says(&["no table \"nosuch\""]);
    cluster.psql("shop", "DROP TABLE orders; DELETE FROM log").exits(0);
    into("shop", &["orders"]).exits(0);
    assert_eq!(without_key(&table("orders")), before);
    assert_eq!(cluster.psql("shop", "SELECT count(*) FROM log").ok().trim(), "0", "nothing else was touched");
    assert_eq!(cluster.psql("shop", "INSERT INTO orders (what) VALUES ('new') RETURNING id").ok().trim(), "301", "its sequence goes on");
    // Into a new database, with what it needs; partitions come with the whole.
    into("tables", &["s.customers", "log"]).exits(0);
    assert_eq!(cluster.psql("tables", "SELECT (SELECT count(*) FROM log), (SELECT count(*) FROM s.customers)").ok().trim(), "1000|300");
    assert_eq!(cluster.psql("tables", "SELECT to_regclass('orders') IS NULL").ok().trim(), "t");
    // What cannot come back is said, and the rest is there.
    into("lonely", &["orders"]).exits(3).says(&["schema \"s\" does not exist"]);
    assert_eq!(cluster.psql("lonely", "SELECT count(*) FROM orders").ok().trim(), "300");
    // The dump itself, for pg_restore.
    let listed = safe.sh("nightsafe restore postgres:shop --stdout 2>/dev/null | pg_restore --list | grep -c 'TABLE DATA'");
    assert_eq!(listed.trim(), "4");
}

#[test]
fn a_change_in_the_middle_of_a_dump_is_wholly_out() {
    let (safe, cluster) = (Loopback::start(), Cluster::start());
    cluster.psql("postgres", "CREATE DATABASE bank").exits(0);
    let tables = "CREATE TABLE a (n int, pad text); CREATE TABLE z (n int, pad text);
        INSERT INTO a SELECT 100, repeat('x', 1000) FROM generate_series(1, 3000); INSERT INTO z SELECT 0, 'y' FROM generate_series(1, 3000)";
    cluster.psql("bank", tables).exits(0);
    // A pg_dump whose output is held up in the middle of the first table until somebody says go: the pipe fills, and it waits.
    let bin = safe.at("bin");
    std::fs::create_dir(&bin).unwrap();
    let (middle, go) = (safe.at("middle"), safe.at("go"));
    let real = cluster.programs().display().to_string();
    let script = format!(
        "#!/bin/bash\n[ \"$1\" != --version ] || exec {real}/pg_dump --version\nset -o pipefail\n\
         {real}/pg_dump \"$@\" | (head -c 1000000; touch {}; while [ ! -e {} ]; do sleep 0.02; done; cat)\n",
        middle.display(),
        go.display()
    );
    std::fs::write(bin.join("pg_dump"), script).unwrap();
    std::fs::set_permissions(bin.join("pg_dump"), PermissionsExt::from_mode(0o755)).unwrap();
    for program in ["psql", "pg_restore"] {
        std::os::unix::fs::symlink(cluster.programs().join(program), bin.join(program)).unwrap();
    }
    safe.set_postgres(&cluster.table(&format!("user = \"postgres\"\nbin = \"{}\"", bin.display())));
    safe.client(&["submit", "postgres", "bank"]).ok();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| safe.client(&["send"]));
        while !middle.exists() {
            assert!(!sending.is_finished(), "{}", sending.join().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // Half of the first table is in the archive's hands, and nothing of the last one.
        cluster.psql("bank", "BEGIN; UPDATE a SET n = n - 100; UPDATE z SET n = n + 100; COMMIT").exits(0);
        std::fs::write(&go, "").unwrap();
        sending.join().unwrap().exits(0);
    });
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).exits(0);
    safe.client(&["restore", "postgres:bank", "--into-db", "then"]).exits(0);
    let sums = "SELECT (SELECT sum(n) FROM a), (SELECT sum(n) FROM z)";
    assert_eq!(cluster.psql("bank", sums).ok().trim(), "0|300000");
    assert_eq!(cluster.psql("then", sums).ok().trim(), "300000|0");
    // And the next one has it wholly in.
    safe.back_up("postgres", "bank");
    safe.client(&["restore", "postgres:bank", "--into-db", "now"]).exits(0);
    assert_eq!(cluster.psql("now", sums).ok().trim(), "0|300000");
}

#[test]
fn a_restore_that_is_cut_off_leaves_nothing_that_looks_whole() {
    let (safe, cluster) = (Loopback::start(), Cluster::start());
    fill(&cluster);
    safe.set_postgres(&cluster.table("user = \"postgres\""));
    safe.back_up("postgres", "shop");
    // A pg_restore that is killed when it comes to the data.
    let bin = safe.at("bin");
    std::fs::create_dir(&bin).unwrap();
    for program in ["psql", "pg_dump"] {
        std::os::unix::fs::symlink(cluster.programs().join(program), bin.join(program)).unwrap();
    }
    let real = cluster.programs().join("pg_restore").display().to_string();
    let script = format!("#!/bin/sh\ncase \"$*\" in *--section=data*) kill -9 $$ ;; esac\nexec {real} \"$@\"\n");
    std::fs::write(bin.join("pg_restore"), script).unwrap();
    std::fs::set_permissions(bin.join("pg_restore"), PermissionsExt::from_mode(0o755)).unwrap();
    safe.set_postgres(&cluster.table(&format!("user = \"postgres\"\nbin = \"{}\"", bin.display())));
    let names = || cluster.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'nightsafe%' OR datname = 'back'").ok();
    let cut = safe.client(&["restore", "postgres:shop", "--into-db", "back"]);
    cut.exits(1).says(&["the data did not come back", "nightsafe-restoring-", "drop it before"]);
    let left = names();
    assert!(left.starts_with("nightsafe-restoring-") && !left.contains("back"), "{left}");
    // The next one clears up, and is whole.
    safe.set_postgres(&cluster.table("user = \"postgres\""));
    safe.client(&["restore", "postgres:shop", "--into-db", "back"]).exits(0);
    assert_eq!((names().trim(), cluster.dump("back")), ("back", cluster.dump("shop")));
    // What comes damaged from the archive is found before anything is made.
    cluster.psql("postgres", "DROP DATABASE back").exits(0);
    safe.sh("for pack in node/data/web1/packs/*; do chmod u+w $pack; printf damaged | dd of=$pack bs=1 seek=3000 conv=notrunc status=none; done");
    safe.client(&["restore", "postgres:shop", "--into-db", "back"]).exits(1);
    assert_eq!(names(), "");
}
