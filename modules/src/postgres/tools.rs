//! PostgreSQL's programs: where they are, which version they have, and which of them fit a server.
//!
//! Connects to nothing.

use base::{Error, Result, process};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A version of a server or of its programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    /// As in 15.
    pub major: u32,
    /// As in 18 of 15.18.
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    /// What a server says as `server_version_num`, as in 150018.
    pub fn of_server(number: &str) -> Option<Self> {
        let number: u32 = number.trim().parse().ok()?;
        // Before 10 there were three parts, and the first two were what is one now.
        let minor = if number >= 100_000 { number % 10_000 } else { number / 100 % 100 };
        Some(Self { major: number / 10_000, minor })
    }

    /// What a program says for `--version`, as in `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, also `17beta1`.
    fn of_program(said: &str) -> Option<Self> {
        let word = said.split_once("(PostgreSQL)")?.1.split_whitespace().next()?;
        let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
        let (major, minor) = word.split_once('.').unwrap_or((word, "0"));
        Some(Self { major: number(major)?, minor: number(minor).unwrap_or(0) })
    }

    /// Whether `psql` and `pg_dumpall` of this version know `\restrict`, which came with corrections of August 2025.
    pub fn knows_restrict(self) -> bool {
        match self.major {
            13 => self.minor >= 22,
            14 => self.minor >= 19,
            15 => self.minor >= 14,
            16 => self.minor >= 10,
            17 => self.minor >= 6,
            other => other >= 18,
        }
    }
}

/// The programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tools {
    /// The folder they are in.
    pub bin: PathBuf,
    /// Their version.
    pub version: Version,
}

/// All that are installed, or those in `bin` alone; the newest first.
///
/// # Errors
/// When there are none.
pub(super) fn installed(bin: Option<&Path>) -> Result<Vec<Tools>> {
    let folders = bin.map_or_else(folders, |bin| vec![bin.to_owned()]);
    let mut found: Vec<Tools> = folders.into_iter().filter_map(|bin| version_in(&bin).map(|version| Tools { bin, version })).collect();
    found.sort_by_key(|tools| std::cmp::Reverse(tools.version));
    if !found.is_empty() {
        return Ok(found);
    }
    Err(match bin {
        Some(bin) => Error::failed(format!("there is no pg_dump that works in {}", bin.display()))
            .hint("Set bin in client.toml to the folder of PostgreSQL's programs, or leave it out."),
        None => Error::failed("PostgreSQL's programs are not installed here").hint("Install the package postgresql-client."),
    })
}

fn version_in(bin: &Path) -> Option<Version> {
    let mut command = process::command(bin.join("pg_dump"));
    command.arg("--version");
    let said = process::run_ok(command, 4096, Duration::from_secs(20)).ok()?;
    Version::of_program(&String::from_utf8_lossy(&said))
}

/// Where the programs may be: one folder for each version as distributions have it; else what is on the path.
fn folders() -> Vec<PathBuf> {
    let mut found = Vec::new();
    // Debian; PGDG on Red Hat; SUSE; Alpine.
    for (root, prefix, rest) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/usr/lib", "postgresql", "bin"),
        ("/usr/libexec", "postgresql", ""),
    ] {
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|number| number.parse::<u32>().ok());
            let bin = entry.path().join(rest);
            if number.is_some() && bin.join("pg_dump").exists() {
                found.push(bin);
            }
        }
    }
    // What is on the path may be a wrapper that chooses by rules of its own.
    if found.is_empty() {
        found.extend(process::PATH.split(':').map(PathBuf::from).filter(|bin| bin.join("pg_dump").exists()).take(1));
    }
    found
}

/// The programs for a server: those of its own version, else the newest, which know older servers.
///
/// # Errors
/// When all are older than the server.
pub(super) fn fitting(tools: &[Tools], server: Version) -> Result<&Tools> {
    let own = tools.iter().find(|tools| tools.version.major == server.major);
    let newest = tools.iter().max_by_key(|tools| tools.version).filter(|tools| tools.version.major > server.major);
    own.or(newest).ok_or_else(|| {
        let newest = tools.iter().map(|tools| tools.version).max().map_or_else(|| "missing".into(), |version| version.to_string());
        Error::failed(format!(
            "the server is PostgreSQL {server}, and PostgreSQL's programs here are {newest}: they must not be older than the server"
        ))
        .hint(format!("Install the package postgresql-client-{}, or set bin in client.toml to where such programs are.", server.major))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(major: u32, minor: u32) -> Version {
        Version { major, minor }
    }

    #[test]
    fn versions_are_read() {
        for (said, version) in [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(v(15, 18))),
            ("pg_dump (PostgreSQL) 17beta1", Some(v(17, 0))),
            ("pg_dump (PostgreSQL) 18devel\n", Some(v(18, 0))),
            ("pg_dump (PostgreSQL) 9.6.24", Some(v(9, 6))),
            ("pg_dump 15", None),
            ("", None),
        ] {
            assert_eq!(Version::of_program(said), version, "{said}");
        }
        for (number, version) in [("150018\n", Some(v(15, 18))), ("130022", Some(v(13, 22))), ("90624", Some(v(9, 6))), ("x", None)] {
            assert_eq!(Version::of_server(number), version, "{number}");
        }
    }

    #[test]
    fn restrict_is_known_since_august_2025() {
        for version in [v(13, 22), v(14, 19), v(15, 14), v(15, 18), v(16, 10), v(17, 6), v(18, 0), v(19, 3)] {
            assert!(version.knows_restrict(), "{version}");
        }
        for version in [v(12, 99), v(13, 21), v(14, 18), v(15, 13), v(16, 9), v(17, 5), v(9, 6)] {
            assert!(!version.knows_restrict(), "{version}");
        }
    }

    #[test]
    fn the_programs_that_fit() {
        let tools = |majors: &[u32]| majors.iter().map(|m| Tools { bin: format!("/{m}").into(), version: v(*m, 1) }).collect::<Vec<_>>();
        let pick = |majors: &[u32], server: u32| fitting(&tools(majors), v(server, 9)).map(|tools| tools.version.major);
        assert_eq!(pick(&[17, 15, 13], 15).unwrap(), 15, "its own");
        assert_eq!(pick(&[17, 16, 13], 15).unwrap(), 17, "the newest");
        assert_eq!(pick(&[17], 17).unwrap(), 17);
        for (majors, server) in [(&[15, 13][..], 17), (&[13], 14)] {
            let error = pick(majors, server).unwrap_err().render();
            assert!(error.contains(&format!("postgresql-client-{server}")) && error.contains(&format!("{server}.9")), "{error}");
        }
    }

    #[test]
    fn what_is_installed_is_found() {
        let found = installed(None).unwrap();
        assert!(found[0].version.major >= 13 && found.is_sorted_by(|a, b| a.version >= b.version));
        let error = installed(Some(Path::new("/nonexistent"))).unwrap_err();
        assert!(error.one_line().contains("/nonexistent"));
    }
}
