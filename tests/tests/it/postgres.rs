//! PostgreSQL: a dump streamed into the archive, restored into another database, compared by `pg_dump`.

use crate::harness::{Cluster, Loopback};

fn with_cluster(safe: &Loopback, cluster: &Cluster) {
    let text = safe.read("client.toml");
    safe.write("client.toml", &format!("{text}\n[module.postgres]\nhost = \"{}\"\nuser = \"postgres\"\n", cluster.socket.display()));
}

#[test]
fn a_database_comes_back() {
    let (safe, cluster) = (Loopback::start(), Cluster::start());
    with_cluster(&safe, &cluster);
    cluster.psql("postgres", "CREATE DATABASE shop").ok();
    cluster
        .psql(
            "shop",
            "CREATE TABLE a (id serial PRIMARY KEY, t text, b bytea);
             INSERT INTO a (t, b) SELECT repeat(md5(i::text), 20), decode(md5(i::text), 'hex') FROM generate_series(1, 5000) i;
             CREATE VIEW v AS SELECT count(*) FROM a; CREATE SEQUENCE s START 41; SELECT nextval('s')",
        )
        .exits(0);
    safe.back_up("postgres", "shop");
    let before = cluster.dump("shop");
    cluster.psql("shop", "INSERT INTO a (t) VALUES ('later')").ok();
    cluster.psql("postgres", "CREATE DATABASE back").ok();
    safe.client(&["restore", "postgres:shop", "--into-db", "back"]).exits(0);
    assert_eq!(before, cluster.dump("back"));
    assert_eq!(cluster.psql("back", "SELECT count(*) FROM a").ok().trim(), "5000");

    // A second dump is mostly what the first was.
    let stored = || safe.sh("du -sb node/data/web1/packs | cut -f1").trim().parse::<u64>().unwrap();
    let first = stored();
    safe.back_up("postgres", "shop");
    assert!(stored() - first < first / 2, "{first} then {}", stored());
}

#[test]
fn a_dump_that_fails_is_a_failed_request_and_never_a_snapshot() {
    let (safe, cluster) = (Loopback::start(), Cluster::start());
    with_cluster(&safe, &cluster);
    cluster.psql("postgres", "CREATE DATABASE shop").ok();
    cluster.psql("shop", "CREATE TABLE a AS SELECT repeat(md5(i::text), 50) AS t FROM generate_series(1, 3000) i").ok();
    // The table breaks after much of the dump is written: its last page is overwritten with nonsense.
    cluster.psql("shop", "CREATE TABLE z AS SELECT md5(i::text) AS t FROM generate_series(1, 3000) i").ok();
    cluster.break_table("shop", "z");
    safe.client(&["submit", "postgres", "shop"]).ok();
    let sent = safe.client(&["send"]);
    assert_ne!(sent.code, Some(0), "{sent}");
    sent.says(&["pg_dump"]);
    safe.node(&["poll"]).silent();
    let _ = safe.client(&["send"]);
    assert!(safe.names("node/data/web1/snapshots").is_empty());
    safe.client(&["status"]).says(&["postgres:shop"]);
    safe.client(&["restore", "postgres:shop", "--into-db", "shop"]).exits(1);

    safe.client(&["submit", "postgres", "nosuch"]).ok();
    let sent = safe.client(&["send"]);
    assert_ne!(sent.code, Some(0), "{sent}");
    assert!(safe.names("client/export/node1").is_empty());
}
