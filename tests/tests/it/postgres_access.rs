//! PostgreSQL with a role that may do little, with passwords, with several clusters, and with programs that misbehave.

use crate::harness::{Cluster, Loopback, blocks, source_root};
use std::os::unix::fs::PermissionsExt;

/// Submits and sends; gives what sending said.
fn send(safe: &Loopback, path: &str) -> crate::harness::Run {
    safe.client(&["submit", "postgres", path]).ok();
    let sent = safe.client(&["send"]);
    safe.node(&["poll"]).silent();
    let _ = safe.client(&["send"]);
    sent
}

#[test]
fn the_role_of_the_page_backs_up_and_can_do_no_more() {
    let (safe, cluster) = (Loopback::start(), Cluster::start());
    let page = std::fs::read_to_string(source_root().join("docs/postgres.md")).unwrap();
    cluster.psql("postgres", &blocks(&page, "sql").concat()).exits(0);
    for sql in [
        "CREATE ROLE clerk LOGIN PASSWORD 'x'",
        "CREATE DATABASE shop OWNER clerk",
        "CREATE DATABASE hidden",
        "REVOKE CONNECT ON DATABASE hidden FROM PUBLIC",
    ] {
        cluster.psql("postgres", sql).exits(0);
    }
    cluster.psql("shop", "CREATE SCHEMA s; CREATE TABLE s.a (id serial, t text); INSERT INTO s.a (t) VALUES ('x'); REVOKE ALL ON s.a FROM PUBLIC; ALTER TABLE s.a OWNER TO clerk").exits(0);
    // By its password alone, which stands in a file that the settings name.
    cluster.psql("postgres", "ALTER ROLE nightsafe PASSWORD 'geheim'").exits(0);
    cluster.ask_password("nightsafe");
    safe.set_postgres(&cluster.table("user = \"nightsafe\""));
    send(&safe, "shop").exits(1).says(&["no password supplied", "shop"]);
    safe.client(&["config", "check"]).exits(0);
    safe.write("pgpass", "*:*:*:nightsafe:geheim\n");
    std::fs::set_permissions(safe.at("pgpass"), PermissionsExt::from_mode(0o600)).unwrap();
    let role = format!("user = \"nightsafe\"\npassfile = \"{}\"", safe.at("pgpass").display());
    safe.set_postgres(&cluster.table(&role));
    send(&safe, "shop").exits(0);
    safe.client(&["restore", "postgres:shop", "--into-db", "back"]).exits(1).says(&["permission denied to create database"]);

    // Of a whole server what it may not dump is said each time.
    send(&safe, "*").exits(3).says(&["postgres:*", "1 entry"]);
    cluster.psql("postgres", "GRANT CONNECT ON DATABASE hidden TO nightsafe").exits(0);
    safe.set_postgres(&cluster.table(&format!("{role}\nrole_passwords = true")));
    send(&safe, "*").exits(0);
    safe.client(&["restore", "postgres:*", "globals.sql", "--stdout"]).says(&["SCRAM-SHA-256$"]);
    // A role that may not read passwords says that too, unless they are not wanted.
    cluster.psql("postgres", "CREATE ROLE plain LOGIN").exits(0);
    cluster.psql("shop", "GRANT USAGE ON SCHEMA s TO plain; GRANT SELECT ON ALL TABLES IN SCHEMA s TO plain; GRANT SELECT ON ALL SEQUENCES IN SCHEMA s TO plain").exits(0);
    cluster.psql("postgres", "GRANT CONNECT ON DATABASE hidden TO plain").exits(0);
    safe.set_postgres(&cluster.table("user = \"plain\"\nrole_passwords = true"));
    send(&safe, "*").exits(1).says(&["role_passwords"]);
    safe.set_postgres(&cluster.table("user = \"plain\""));
    send(&safe, "*").exits(3).says(&["1 entry"]);
    safe.set_postgres(&cluster.table("user = \"plain\"\nrole_passwords = false"));
    send(&safe, "*").exits(0);
    assert!(!safe.client(&["restore", "postgres:*", "globals.sql", "--stdout"]).ok().contains("SCRAM"));

    // As a superuser it comes back: roles first, or what hangs on them is missing and said.
    let other = Cluster::start();
    safe.set_postgres(&other.table("user = \"postgres\""));
    safe.client(&["restore", "postgres:*", "shop", "--into-db", "early"]).exits(3).says(&["role \"clerk\" does not exist", "--globals"]);
    assert_eq!(other.psql("early", "SELECT t FROM s.a").ok().trim(), "x");
    safe.client(&["restore", "postgres:*", "--globals"]).exits(3).says(&["without a password", "clerk", "nightsafe"]);
    safe.client(&["restore", "postgres:*", "shop", "--into-db", "late", "--globals"]).exits(0);
    assert_eq!(other.dump("late"), cluster.dump("shop"));

    // What the role may not read makes the request fail: there is no dump without some rows.
    safe.set_postgres(&cluster.table(&format!("{role}\nrole_passwords = false")));
    let snapshots = safe.names("node/data/web1/snapshots");
    cluster.psql("shop", "ALTER TABLE s.a ENABLE ROW LEVEL SECURITY").exits(0);
    send(&safe, "shop").exits(1).says(&["row-level security"]);
    cluster.psql("shop", "ALTER TABLE s.a DISABLE ROW LEVEL SECURITY; SELECT lo_from_bytea(0, 'x')").exits(0);
    send(&safe, "shop").exits(1).says(&["large object"]);
    assert_eq!(safe.names("node/data/web1/snapshots"), snapshots);
    assert!(safe.names("client/export/node1").is_empty());
}

#[test]
fn several_clusters_are_reached_by_their_names() {
    let (safe, one, two) = (Loopback::start(), Cluster::start(), Cluster::start());
    for (cluster, word) in [(&one, "one"), (&two, "two")] {
        cluster.psql("postgres", "CREATE DATABASE shop").exits(0);
        cluster.psql("shop", &format!("CREATE TABLE t AS SELECT '{word}'::text AS word")).exits(0);
    }
    safe.write("services", &format!("[second]\nhost={}\nuser=postgres\n", two.socket.display()));
    let table = format!(
        "\n[module.postgres]\nuser = \"postgres\"\n[module.postgres.cluster.first]\nhost = \"{}\"\n[module.postgres.cluster.second]\nservice = \"second\"\nservice_file = \"{}\"\n",
        one.socket.display(),
        safe.at("services").display()
    );
    safe.set_postgres(&table);
    safe.client(&["submit", "postgres", "shop"]).exits(2).says(&["first, second"]);
    safe.client(&["submit", "postgres", "third/shop"]).exits(2).says(&["third"]);
    for path in ["first/shop", "second/shop", "second/*"] {
        safe.back_up("postgres", path);
    }
    safe.client(&["restore", "postgres:second/shop", "--into-db", "first/back"]).exits(0);
    assert_eq!(one.psql("back", "SELECT word FROM t").ok().trim(), "two");
    safe.client(&["restore", "postgres:first/shop", "--into-db", "back"]).exits(2).says(&["first, second"]);
    safe.client(&["restore", "postgres:second/*", "shop", "--into-db", "first/again", "--globals"]).exits(0);
    assert_eq!(one.psql("again", "SELECT word FROM t").ok().trim(), "two");
}

#[test]
fn a_dump_that_hangs_is_ended_and_the_next_request_goes_on() {
    let (safe, cluster) = (Loopback::start(), Cluster::start());
    cluster.psql("postgres", "CREATE DATABASE shop").exits(0);
    cluster.psql("shop", "CREATE TABLE t (a int)").exits(0);
    let bin = safe.at("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(cluster.programs().join("psql"), bin.join("psql")).unwrap();
    let real = cluster.programs().join("pg_dump").display().to_string();
    let script = format!(
        "#!/bin/sh\necho $$ > {}\n[ \"$1\" = --version ] && exec {real} --version\n{real} \"$@\"\nsleep 1000\n",
        safe.at("pid").display()
    );
    std::fs::write(bin.join("pg_dump"), script).unwrap();
    std::fs::set_permissions(bin.join("pg_dump"), PermissionsExt::from_mode(0o755)).unwrap();
    let hanging = cluster.table(&format!("user = \"postgres\"\nbin = \"{}\"\ntime_limit = \"2s\"", bin.display()));
    safe.set_postgres(&hanging);
    std::fs::create_dir(safe.at("folder")).unwrap();
    safe.client(&["submit", "postgres", "shop"]).ok();
    safe.client(&["submit", "files", safe.at("folder").to_str().unwrap()]).ok();
    safe.client(&["send"]).exits(1).says(&["longer than 2s", "time_limit"]);
    let pid = safe.read("pid");
    assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "it still runs");
    safe.node(&["poll"]).silent();
    safe.client(&["send"]).exits(0);
    assert_eq!(safe.names("node/data/web1/snapshots").len(), 1, "the folder, and no dump");
    // A cluster that is not there is said by config check too.
    safe.set_postgres("\n[module.postgres]\nhost = \"/nonexistent\"\n[[dataset]]\naddress = \"postgres:shop\"\n");
    safe.client(&["config", "check"]).says(&["postgres:shop cannot be backed up", "/nonexistent"]);
}
