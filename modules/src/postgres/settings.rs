//! The table `[module.postgres]`: one cluster, or several by their names, and how each is reached.
//!
//! Reads the configuration alone: whether a cluster answers is not known here.

use super::{NAME, names};
use base::config::ClientConfig;
use base::{Error, Result, Span};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    service: Option<String>,
    service_file: Option<PathBuf>,
    passfile: Option<PathBuf>,
    bin: Option<PathBuf>,
    role_passwords: Option<bool>,
    #[serde(default = "crate::settings::time_limit")]
    time_limit: Span,
    /// Several clusters, by their names: for each what differs from this table.
    #[serde(default)]
    cluster: BTreeMap<String, Cluster>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            host: None,
            port: None,
            user: None,
            service: None,
            service_file: None,
            passfile: None,
            bin: None,
            role_passwords: None,
            time_limit: crate::settings::time_limit(),
            cluster: BTreeMap::new(),
        }
    }
}

/// One of several clusters: what differs from the table of all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cluster {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    service: Option<String>,
    service_file: Option<PathBuf>,
    passfile: Option<PathBuf>,
    bin: Option<PathBuf>,
    role_passwords: Option<bool>,
}

/// How one cluster is reached, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// Its name, where several are configured.
    pub cluster: Option<String>,
    /// The server's host, or the folder of its socket.
    pub host: Option<String>,
    /// The server's port.
    pub port: Option<u16>,
    /// The role that dumps.
    pub user: Option<String>,
    /// A service of libpq's service file.
    pub service: Option<String>,
    /// That file. Default: `~/.pg_service.conf`.
    pub service_file: Option<PathBuf>,
    /// The file of passwords. Default: `~/.pgpass`.
    pub passfile: Option<PathBuf>,
    /// The folder of `pg_dump`. Default: that of the version that fits best.
    pub bin: Option<PathBuf>,
    /// Whether passwords of roles are taken. Default: they are, and where the role may not read them that is in the ledger.
    pub role_passwords: Option<bool>,
    /// How long a program may run.
    pub time_limit: Span,
}

/// What a dataset's path, or what follows `--into-db`, names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The cluster.
    pub server: Server,
    /// The database; `None` for all of the cluster.
    pub database: Option<String>,
}

/// The table, read and checked.
#[derive(Debug)]
pub(super) struct Settings(Vec<Server>);

impl Settings {
    /// Reads and checks the table; without a configuration, the server is the one that libpq finds by itself.
    ///
    /// # Errors
    /// Of kind usage, with the field.
    pub fn of(config: Option<&ClientConfig>) -> Result<Self> {
        let table: Table = config.map_or_else(|| Ok(Table::default()), |config| crate::settings::table(config, NAME))?;
        let Table { host, port, user, service, service_file, passfile, bin, role_passwords, time_limit, cluster } = table;
        let common = Server { cluster: None, host, port, user, service, service_file, passfile, bin, role_passwords, time_limit };
        let servers =
            if cluster.is_empty() { vec![common] } else { cluster.into_iter().map(|(name, cluster)| common.with(name, cluster)).collect() };
        servers.iter().try_for_each(Server::check)?;
        Ok(Self(servers))
    }

    /// The server whose databases `path` is about, for what belongs to none of them.
    ///
    /// # Errors
    /// Of kind usage, where there are several and none of them is named.
    pub fn server_of(&self, path: &str) -> Result<Server> {
        match self.0.as_slice() {
            [server] => Ok(server.clone()),
            _ => self.place(path).map(|place| place.server),
        }
    }

    /// What `path` names: `shop`, `*`, or with several clusters `main/shop` and `main/*`.
    ///
    /// # Errors
    /// Of kind usage.
    pub fn place(&self, path: &str) -> Result<Place> {
        let (server, database) = match self.0.as_slice() {
            [server] if server.cluster.is_none() => (server, path),
            clusters => {
                let names = clusters.iter().filter_map(|server| server.cluster.as_deref()).collect::<Vec<_>>().join(", ");
                let hint = || format!("These are configured: {names}. Write CLUSTER/DATABASE, or CLUSTER/* for all of its databases.");
                let (cluster, database) = path
                    .split_once('/')
                    .ok_or_else(|| Error::usage(format!("{path:?} does not say which cluster of PostgreSQL is meant")).hint(hint()))?;
                let server = clusters.iter().find(|server| server.cluster.as_deref() == Some(cluster));
                let server = server.ok_or_else(|| Error::usage(format!("there is no [module.postgres.cluster.{cluster}]")).hint(hint()))?;
                (server, database)
            }
        };
        let database = if database == "*" { None } else { Some(names::check(database)?.to_owned()) };
        Ok(Place { server: server.clone(), database })
    }
}

impl Server {
    /// This one with what a cluster's own table says differently.
    fn with(&self, name: String, own: Cluster) -> Self {
        // A service may say everything else itself, so what is common does not stand in its way.
        let alone = own.service.is_some();
        let common = |value: &Option<String>| if alone { None } else { value.clone() };
        Self {
            cluster: Some(name),
            host: own.host.or_else(|| common(&self.host)),
            port: own.port.or(if alone { None } else { self.port }),
            user: own.user.or_else(|| common(&self.user)),
            service: own.service.or_else(|| self.service.clone()),
            service_file: own.service_file.or_else(|| self.service_file.clone()),
            passfile: own.passfile.or_else(|| self.passfile.clone()),
            bin: own.bin.or_else(|| self.bin.clone()),
            role_passwords: own.role_passwords.or(self.role_passwords),
            time_limit: self.time_limit,
        }
    }

    fn check(&self) -> Result<()> {
        let table = self.cluster.as_ref().map_or_else(|| "[module.postgres]".into(), |name| format!("[module.postgres.cluster.{name}]"));
        let wrong = |why: &str| Err(Error::usage(format!("{table} is wrong: {why}")));
        if self.cluster.as_ref().is_some_and(|name| name.is_empty() || name.len() > 63 || name.contains(['/', '*']) || has_control(name)) {
            return wrong("a cluster's name must not be empty, and has no '/', '*' or control character");
        }
        for (field, text) in [("host", &self.host), ("user", &self.user), ("service", &self.service)] {
            if text.as_ref().is_some_and(|text| text.is_empty() || has_control(text)) {
                return wrong(&format!("{field} must not be empty, and has no control character"));
            }
        }
        for (field, path) in [("bin", &self.bin), ("passfile", &self.passfile), ("service_file", &self.service_file)] {
            if path.as_ref().is_some_and(|path| !path.is_absolute()) {
                return wrong(&format!("{field} must be an absolute path"));
            }
        }
        Ok(())
    }

    /// The words that libpq takes for this server and `database`, which is never taken for words of its own.
    pub fn words(&self, database: &str) -> String {
        let port = self.port.map(|port| port.to_string());
        let words = [("service", &self.service), ("host", &self.host), ("port", &port), ("user", &self.user)];
        let words = words.into_iter().filter_map(|(word, value)| value.as_deref().map(|value| (word, value)));
        let quoted = |(word, value): (&str, &str)| format!("{word}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
        words.chain([("dbname", database)]).map(quoted).collect::<Vec<_>>().join(" ")
    }

    /// The server as people read it.
    pub fn shown(&self) -> String {
        match (&self.cluster, &self.service, &self.host, self.port) {
            (Some(cluster), ..) => format!("the cluster {cluster}"),
            (_, Some(service), ..) => format!("the service {service}"),
            (_, _, Some(host), Some(port)) => format!("the server at {host}, port {port}"),
            (_, _, Some(host), None) => format!("the server at {host}"),
            (_, _, None, Some(port)) => format!("the server at port {port}"),
            _ => "the server".into(),
        }
    }
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(table: &str) -> Result<Settings> {
        Settings::of(Some(&base::config::parse("c", format!("version = 1\n[module.postgres]\n{table}").as_bytes()).unwrap()))
    }

    #[test]
    fn one_cluster() {
        let all = settings("host = \"/run/pg\"\nport = 5433\nuser = \"it's\"\ntime_limit = \"6h\"").unwrap();
        let place = all.place("shop").unwrap();
        assert_eq!(place.server.words("host=evil"), "host='/run/pg' port='5433' user='it\\'s' dbname='host=evil'");
        assert_eq!(place.server.words("a\\b"), "host='/run/pg' port='5433' user='it\\'s' dbname='a\\\\b'");
        assert_eq!((place.database.as_deref(), String::from(place.server.time_limit).as_str()), (Some("shop"), "6h"));
        assert_eq!(all.place("*").unwrap().database, None);
        assert_eq!(all.place("a/b").unwrap().database.as_deref(), Some("a/b"));
        assert_eq!(Settings::of(None).unwrap().place("shop").unwrap().server.words("shop"), "dbname='shop'");
    }

    #[test]
    fn several_clusters() {
        let all = settings(
            "user = \"backup\"\nport = 1\n[module.postgres.cluster.main]\nport = 2\n[module.postgres.cluster.\"old one\"]\nservice = \"old\"",
        );
        let all = all.unwrap();
        assert_eq!(all.place("main/shop").unwrap().server.words("shop"), "port='2' user='backup' dbname='shop'");
        assert_eq!(all.place("old one/a/b").unwrap().server.words("a/b"), "service='old' dbname='a/b'");
        assert_eq!(all.place("main/*").unwrap().database, None);
        for bad in ["shop", "*", "other/shop", "main/", "/shop"] {
            let error = all.place(bad).unwrap_err();
            assert!(bad == "main/" || error.render().contains("main, old one"), "{bad}: {}", error.render());
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for bad in [
            "hots = \"a\"",
            "port = 70000",
            "bin = \"bin\"",
            "user = \"\"",
            "host = \"a\\nb\"",
            "password = \"x\"",
            "time_limit = \"long\"",
            "passfile = \"pgpass\"",
            "[module.postgres.cluster.\"a/b\"]",
            "[module.postgres.cluster.a]\ntime_limit = \"1h\"",
        ] {
            assert!(settings(bad).is_err(), "{bad}");
        }
    }
}
