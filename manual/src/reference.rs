//! The pages in `docs/reference/`.
//!
//! Knows which page is of what, and the words that no source has.

use crate::commands::cell;
use crate::fields::{Sources, Table};
use crate::{commands, programs, put, source, unclear};
use base::{At, Result};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// What each page begins with, so that nobody edits it.
const MARK: &str = "<!-- Written by \"make reference\" from the sources; change those. -->\n\n";

/// Variables that the programs look at beside those of options. Those without words are told by git, sshd or us to ourselves, or
/// are for tests.
const VARIABLES: &[(&str, &str)] = &[
    ("GIT_OBJECT_DIRECTORY", ""),
    ("GIT_PROTOCOL", ""),
    ("HOME", "Where files of the user's own are, such as the notes of a restorer on what was restored."),
    ("JOURNAL_STREAM", "Set by systemd: then the log has no times of its own."),
    ("NIGHTSAFE_IDENTITY", "age identity files, where `--identity` is not given."),
    ("NIGHTSAFE_NOW", ""),
    ("NIGHTSAFE_SIGNERS", "The file of who signs for which client, where `--signers` is not given."),
    ("NIGHTSAFE_SSHD_CONFIG", ""),
    ("NO_COLOR", "Whether tables on a terminal are without colours: where it is not empty."),
    ("PATH", "Where age's plugins are looked for. Other programs are started with a search path of their own."),
    ("RUST_LOG", "What is logged, where `-v` is not given: `debug`, or as in `modules=debug,transport=info`."),
    ("SSH_ORIGINAL_COMMAND", ""),
    ("SUDO_USER", "Who became the administrator that holds, forgets or prunes, for the node's own log."),
    ("TERM", "What the terminal is; tables have no colours where it is empty or `dumb`."),
    ("TMPDIR", "Where files without names are during a restore. Default: `/tmp`."),
    ("XDG_RUNTIME_DIR", "Where sockets of ssh are whose path would be too long otherwise."),
    ("XDG_STATE_HOME", "Where a restorer's notes are. Default: `.local/state` in `HOME`."),
];

/// One configuration file: its page, what it is, and the types that read it, each with its heading and, where the source does not
/// say it for people, what it is.
type Part = (&'static str, &'static str, &'static str, Option<&'static str>);
const FILES: &[(&str, &str, &[Part])] = &[
    (
        "client.toml",
        "What a client backs up, to which nodes, and who can read it. Also a restorer's, who needs `[[node]]` alone. `nightsafe` reads it where `--config` says, else `/etc/nightsafe/client.toml`.",
        &[
            ("base/src/config/client.rs", "ClientConfig", "", Some("")),
            (
                "modules/src/postgres/settings.rs",
                "Table",
                "[module.postgres]",
                Some("PostgreSQL: one cluster, or several by their names (`docs/postgres.md`)."),
            ),
            ("modules/src/mariadb/programs.rs", "Settings", "[module.mariadb]", Some("MariaDB (`docs/mariadb.md`).")),
            ("modules/src/sqlite/program.rs", "Settings", "[module.sqlite]", Some("SQLite (`docs/sqlite.md`).")),
            ("modules/src/declared/settings.rs", "Table", "[module.NAME]", Some("A kind of data of your own (`docs/modules.md`).")),
        ],
    ),
    (
        "node.toml",
        "Where a node keeps what it keeps, and which keys it uses and trusts. `nightsafe-server` reads it where `--config` says, else `/etc/nightsafe/node.toml`; the gate reads it as well, so it holds no secrets.",
        &[("base/src/config/node.rs", "NodeConfig", "", Some(""))],
    ),
    (
        "access.toml",
        "Who may send, who may read, and who may change this list. It is a file in the repository `admin` of the node, pushed there in commits that an administrator signed; the keys lie beside it in `keys/`.",
        &[("queue/src/access/parse.rs", "Raw", "", Some(""))],
    ),
];

/// Writes all pages into `dir`, and takes away what else is there.
pub fn write(root: &Path, dir: &Path) -> Result<()> {
    let pages = pages(root)?;
    for (name, text) in &pages {
        put(&dir.join(name), text.as_bytes())?;
    }
    for entry in std::fs::read_dir(dir).at("read the folder", dir)? {
        let path = entry.at("read the folder", dir)?.path();
        if path.file_name().and_then(|name| name.to_str()).is_none_or(|name| !pages.contains_key(name)) {
            std::fs::remove_file(&path).at("remove", &path)?;
        }
    }
    Ok(())
}

/// All pages by their names.
fn pages(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut pages = BTreeMap::new();
    let exits = source::exits(root)?;
    let variables = variables(root)?;
    for program in programs() {
        let name = program.get_name().to_owned();
        let mut text = format!("# `{name}`\n\n{MARK}{}", commands::page(&program));
        // Writing into a String does not fail.
        text.push_str("## Variables\n\n| variable | meaning |\n| --- | --- |\n");
        variables.iter().for_each(|(variable, meaning)| {
            let _ = writeln!(text, "| `{variable}` | {} |", cell(meaning));
        });
        text.push_str("\nThose of options stand beside these. Not every program has a use for each.\n\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n");
        exits.iter().for_each(|exit| {
            let _ = writeln!(text, "| {} | {} |", exit.code, cell(&exit.meaning));
        });
        pages.insert(format!("{name}.md"), text);
    }
    let sources = Sources::load(root)?;
    for (name, about, parts) in FILES {
        let mut text = format!("# `{name}`\n\n{MARK}{about}\n\nTOML. What is not known here is refused, never ignored.\n\n");
        for (file, of, heading, words) in *parts {
            sources.tables(file, of, heading, *words)?.iter().for_each(|table| add(table, &mut text));
        }
        pages.insert(format!("{name}.md"), format!("{}\n", text.trim_end()));
    }
    Ok(pages)
}

fn add(table: &Table, text: &mut String) {
    if !table.heading.is_empty() {
        let _ = write!(text, "## `{}`\n\n", table.heading);
    }
    if !table.about.is_empty() {
        let _ = write!(text, "{}\n\n", table.about);
    }
    text.push_str("| field | type | default | meaning |\n| --- | --- | --- | --- |\n");
    for row in &table.rows {
        let _ = writeln!(text, "| `{}` | {} | {} | {} |", row.name, cell(&row.kind), cell(&row.default), cell(&row.meaning));
    }
    text.push('\n');
}

/// The variables that people may set, each with its words.
fn variables(root: &Path) -> Result<Vec<(String, &'static str)>> {
    let mut found = Vec::new();
    for name in source::variables(root)? {
        match VARIABLES.iter().find(|(known, _)| *known == name) {
            Some((_, "")) => {}
            Some((_, words)) => found.push((name, *words)),
            None => return Err(unclear(format!("the variable {name} is asked for, and manual/src/reference.rs has no words for it"))),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_what_the_sources_say() {
        let root = source::root();
        let pages = pages(&root).unwrap();
        let there: Vec<_> = std::fs::read_dir(root.join("docs/reference")).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in there {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(pages.contains_key(name), "docs/reference/{name} is of nothing any more; run: make reference");
        }
        for (name, text) in pages {
            let stands = std::fs::read_to_string(root.join("docs/reference").join(&name)).unwrap_or_default();
            let line = stands.lines().zip(text.lines()).find(|(stands, is)| stands != is);
            assert!(stands == text, "docs/reference/{name} is not what the sources say; run: make reference\nfirst difference: {line:?}");
        }
    }
}
