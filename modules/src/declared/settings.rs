//! The table `[module.NAME]` of a declared module, read and held against what can be carried out.
//!
//! Runs nothing, and looks at no disk.

use super::words::{Place, Word};
use crate::settings;
use base::config::ClientConfig;
use base::{Dataset, Error, Result, Span};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a stream is called in the archive when nobody says.
const STREAM: &str = "dump";
/// The longest name that every file system takes.
const NAME: usize = 255;

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// A command that runs before anything is read.
    prepare: Option<Vec<String>>,
    /// A command that prints what is archived.
    stream: Option<Vec<String>>,
    /// What that is called in the archive. Default: `dump`.
    name: Option<String>,
    /// Several such commands, by the names in the archive.
    streams: Option<BTreeMap<String, Vec<String>>>,
    /// Trees that are archived, by the names in the archive: below `{path}` or `{staging}`.
    take: Option<BTreeMap<String, String>>,
    /// A command that fails when a backup would.
    check: Option<Vec<String>>,
    /// The command that brings back.
    restore: Option<Vec<String>>,
    /// How long each command may run. Default: `"1d"`.
    time_limit: Option<Span>,
    /// What is in the commands' environment beside the least.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// The commands' working folder: an absolute path, or one that begins with `{path}`. Default: `/`.
    folder: Option<String>,
}

/// A command: the program, then its arguments.
pub(super) type Words = Vec<Word>;

/// A tree that is taken beside what commands make.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Take {
    /// Whether it is below the staging folder, and not below the dataset's path.
    pub staged: bool,
    /// Its path below that; empty for the whole.
    pub inner: String,
}

/// The table, found to be right.
#[derive(Debug)]
pub(super) struct Settings {
    /// Runs before anything is read.
    pub prepare: Option<Words>,
    /// Print what is archived, by the names in the archive.
    pub streams: BTreeMap<String, Words>,
    /// Trees that are archived, by the names in the archive. None of both: the staging folder is the dataset.
    pub take: BTreeMap<String, Take>,
    /// Fails when a backup would.
    pub check: Option<Words>,
    /// Brings back.
    pub restore: Option<Words>,
    /// How long each command may run.
    pub time_limit: Duration,
    /// What is in the commands' environment beside the least.
    pub env: BTreeMap<String, Word>,
    /// The commands' working folder.
    pub folder: Word,
}

impl Take {
    /// Where the tree is, where it is below the dataset's path.
    pub fn path(&self, dataset: &Dataset) -> PathBuf {
        let path = Path::new(dataset.path());
        if self.inner.is_empty() { path.to_owned() } else { path.join(&self.inner) }
    }

    /// The tree as a person would write it, for a dataset of this path.
    pub fn shown(&self, path: &str) -> String {
        let base = if self.staged { "{staging}" } else { path.trim_end_matches('/') };
        if self.inner.is_empty() { base.to_owned() } else { format!("{base}/{}", self.inner) }
    }
}

impl Settings {
    /// Reads and checks the table of the module `name`.
    ///
    /// # Errors
    /// Of kind usage, with table and field.
    pub fn of(config: &ClientConfig, name: &str) -> Result<Self> {
        if !config.module.contains_key(name) {
            return Err(undeclared(name));
        }
        let table: Table = settings::table(config, name)?;
        let settings = Self::read(table).map_err(|error| error.context(format!("[module.{name}] is wrong")))?;
        crate::choosing::check(config, name)?;
        let chosen = config.datasets.iter().filter(|entry| entry.address.module() == name).flat_map(|entry| entry.particular());
        let chosen = chosen.chain(config.allow.iter().filter(|entry| entry.module == name).flat_map(|entry| entry.particular())).next();
        match chosen {
            Some(setting) if !settings.takes_path() => Err(Error::usage(format!(
                "a dataset of the module {name} has the setting {setting}, which chooses files of the dataset's path, and [module.{name}] takes none"
            ))
            .hint("Take it out, or write take = { files = \"{path}\" } where files belong to the backup.")),
            _ => Ok(settings),
        }
    }

    fn read(table: Table) -> Result<Self> {
        const BACKUP: [Place; 2] = [Place::Path, Place::Dataset];
        const STAGED: [Place; 3] = [Place::Path, Place::Dataset, Place::Staging];
        const RESTORE: [Place; 4] = [Place::Path, Place::Dataset, Place::Staging, Place::Target];
        let command =
            |field: &str, words: Option<Vec<String>>, places: &[Place]| words.map(|words| words_of(field, &words, places)).transpose();
        let mut streams = BTreeMap::new();
        match (table.stream, table.streams, &table.name) {
            (Some(_), Some(_), _) => return Err(Error::usage("there are both stream and streams; write all into streams")),
            (None, _, Some(_)) => return Err(Error::usage("name is that of a stream, and there is no stream")),
            (Some(words), None, name) => {
                let name = name.as_deref().unwrap_or(STREAM);
                streams.insert(plain_name(name)?.to_owned(), words_of("stream", &words, &BACKUP)?);
            }
            (None, Some(table), None) => {
                for (name, words) in table {
                    streams.insert(plain_name(&name)?.to_owned(), words_of(&format!("streams.{name:?}"), &words, &BACKUP)?);
                }
                if streams.is_empty() {
                    return Err(Error::usage("streams has no stream"));
                }
            }
            (None, None, None) => {}
        }
        let mut take = BTreeMap::new();
        for (name, text) in table.take.unwrap_or_default() {
            if streams.contains_key(&name) {
                return Err(Error::usage(format!("{name:?} is the name of a stream and of something in take")));
            }
            take.insert(plain_name(&name)?.to_owned(), tree_of(&text)?);
        }
        let mut env = BTreeMap::new();
        for (name, text) in table.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(Error::usage(format!("env has {name:?}, which cannot be the name of a variable")));
            }
            env.insert(name, Word::parse(&text, &BACKUP).map_err(|error| error.context("env is wrong"))?);
        }
        let folder =
            Word::parse(table.folder.as_deref().unwrap_or("/"), &[Place::Path]).map_err(|error| error.context("folder is wrong"))?;
        if folder.after(Place::Path).is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/'))
            && !folder.text().is_some_and(|text| text.starts_with('/'))
        {
            return Err(Error::usage("folder must be an absolute path, or {path}, or a path below that"));
        }
        let time_limit = table.time_limit.unwrap_or_else(settings::time_limit).0;
        if time_limit.is_zero() {
            return Err(Error::usage("time_limit must be longer than nothing"));
        }
        let settings = Self {
            prepare: command("prepare", table.prepare, &STAGED)?,
            streams,
            take,
            check: command("check", table.check, &BACKUP)?,
            restore: command("restore", table.restore, &RESTORE)?,
            time_limit,
            env,
            folder,
        };
        settings.fit()?;
        Ok(settings)
    }

    /// Whether the parts belong together.
    fn fit(&self) -> Result<()> {
        let fills = self.stages();
        let staged = self.take.values().any(|take| take.staged);
        let wrong = if !self.backs_up() && (self.restore.is_none() || !self.take.is_empty()) {
            "it has neither prepare nor stream: nothing says what is archived"
        } else if !self.backs_up() {
            // For a restorer's machine, which makes no backups.
            return Ok(());
        } else if staged && !fills {
            "take names {staging}, and prepare does not: nothing would be in it"
        } else if fills && !staged && !self.is_folder() {
            "prepare writes into {staging}, and neither take nor anything else archives that"
        } else if self.is_folder() && !fills {
            "prepare does not have {staging}: nothing would be archived"
        } else if self.restore.as_ref().is_some_and(|words| !words.iter().any(|word| word.has(Place::Staging)))
            && self.single_stream().is_none()
        {
            "restore does not have {staging}, where it finds what was archived; only a single stream can be read from standard input"
        } else {
            return Ok(());
        };
        Err(Error::usage(wrong).hint("docs/modules.md has examples."))
    }

    /// Whether it says what a backup is, and not only how one comes back.
    pub fn backs_up(&self) -> bool {
        self.prepare.is_some() || !self.streams.is_empty()
    }

    /// Whether `prepare` is given a staging folder.
    pub fn stages(&self) -> bool {
        self.prepare.iter().flatten().any(|word| word.has(Place::Staging))
    }

    /// Whether the staging folder is what the dataset consists of.
    pub fn is_folder(&self) -> bool {
        self.streams.is_empty() && self.take.is_empty()
    }

    /// Whether files of the dataset's own path are taken.
    pub fn takes_path(&self) -> bool {
        self.take.values().any(|take| !take.staged)
    }

    /// The name of the stream, where it is all that there is.
    pub fn single_stream(&self) -> Option<&str> {
        self.streams.keys().next().filter(|_| self.streams.len() == 1 && self.take.is_empty()).map(String::as_str)
    }

    /// The commands that a backup runs, by the field that has them.
    pub fn backup_commands(&self) -> impl Iterator<Item = (&str, &Words)> {
        let streams = self.streams.values().map(|words| ("stream", words));
        let check = self.check.iter().map(|words| ("check", words));
        check.chain(self.prepare.iter().map(|words| ("prepare", words))).chain(streams)
    }

    /// Whether a backup or its check makes use of the dataset's path.
    pub fn uses_path(&self) -> bool {
        let in_words = self.backup_commands().flat_map(|(_, words)| words).any(|word| word.has(Place::Path));
        in_words || self.takes_path() || self.folder.has(Place::Path) || self.env.values().any(|word| word.has(Place::Path))
    }
}

/// The error for a name that has no table.
pub(super) fn undeclared(name: &str) -> Error {
    Error::usage(format!("no module {name:?} is declared on this machine"))
        .hint(format!("Write a table [module.{name}] into client.toml; docs/modules.md has examples."))
}

/// What the name of a dataset of a declared module may be, beside an absolute path: without a colon, so that an address
/// can be read in one way alone.
///
/// # Errors
/// Of kind usage.
pub(super) fn check_form(dataset: &Dataset) -> Result<()> {
    let path = dataset.path();
    if path.starts_with('/') || !path.contains(':') {
        return Ok(());
    }
    Err(Error::usage(format!("{path:?} cannot be the name of a dataset of the module {}", dataset.module()))
        .hint("Write an absolute path, or a name without a colon."))
}

fn words_of(field: &str, words: &[String], places: &[Place]) -> Result<Words> {
    let words: Words = words
        .iter()
        .map(|word| Word::parse(word, places))
        .collect::<Result<_>>()
        .map_err(|error| error.context(format!("{field} is wrong")))?;
    let program = words.first().and_then(Word::text).unwrap_or_default();
    let plain = !program.is_empty() && !program.contains('/') && !matches!(program, "." | "..");
    if plain || Path::new(program).is_absolute() {
        return Ok(words);
    }
    Err(Error::usage(format!("{field} must begin with a program: its name, or its absolute path, with nothing to be filled in"))
        .hint("As in [\"slapcat\", \"-n\", \"1\"]; there is no shell that would split a line into words."))
}

fn plain_name(name: &str) -> Result<&str> {
    let plain = !matches!(name, "" | "." | "..") && name.len() <= NAME && !name.contains('/') && !name.chars().any(char::is_control);
    if plain { Ok(name) } else { Err(Error::usage(format!("{name:?} cannot be a name in the archive"))) }
}

fn tree_of(text: &str) -> Result<Take> {
    let word = Word::parse(text, &[Place::Path, Place::Staging]).map_err(|error| error.context("take is wrong"))?;
    let found = [(false, Place::Path), (true, Place::Staging)].into_iter().find_map(|(staged, place)| Some((staged, word.after(place)?)));
    let clean = |inner: &str| {
        inner.is_empty() || inner.strip_prefix('/').is_some_and(|inner| inner.split('/').all(|part| !matches!(part, "" | "." | "..")))
    };
    match found {
        Some((staged, inner)) if clean(inner) => Ok(Take { staged, inner: inner.trim_start_matches('/').into() }),
        _ => Err(Error::usage(format!("take has {text:?}, which is neither {{path}} nor {{staging}} nor a plain path below one of them"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<Settings> {
        let text = format!("version = 1\n[module.x]\n{table}");
        Settings::of(&base::config::parse("c", text.as_bytes()).unwrap(), "x")
    }

    #[test]
    fn tables_that_can_be_carried_out() {
        let trac = read("prepare = [\"trac-admin\", \"{path}\", \"hotcopy\", \"{staging}\"]").unwrap();
        assert!(trac.is_folder() && trac.stages() && trac.uses_path() && !trac.takes_path());
        assert_eq!((trac.time_limit, trac.folder.text()), (Duration::from_secs(86_400), Some("/")));
        let ldap =
            read("stream = [\"slapcat\"]\nname = \"ldap.ldif\"\nrestore = [\"slapadd\", \"-F\", \"{target}\"]\ntime_limit = \"10m\"")
                .unwrap();
        assert_eq!((ldap.single_stream(), ldap.uses_path()), (Some("ldap.ldif"), false));
        assert_eq!(ldap.time_limit, Duration::from_secs(600));
        assert_eq!(read("stream = [\"a\"]").unwrap().single_stream(), Some("dump"));
        let both = read("streams = { \"b\" = [\"x\"], a = [\"y\"] }\ntake = { files = \"{path}/sites\" }").unwrap();
        assert_eq!(both.streams.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(both.take["files"], Take { staged: false, inner: "sites".into() });
        assert!(both.single_stream().is_none() && both.takes_path());
        for good in [
            "prepare = [\"/bin/x\", \"--to={staging}/d\"]\ntake = { d = \"{staging}/d\", f = \"{path}\" }",
            "prepare = [\"sync\"]\ntake = { f = \"{path}\" }",
            "stream = [\"x\"]\nenv = { A = \"{path}\" }\nfolder = \"{path}/sub\"",
            "streams = { a = [\"x\"], b = [\"y\"] }\nrestore = [\"z\", \"{staging}/a\", \"{staging}/b\"]",
            // On a restorer's machine, which need not say how backups are made.
            "restore = [\"z\"]",
        ] {
            read(good).unwrap();
        }
    }

    #[test]
    fn tables_that_are_refused_with_the_reason() {
        for (table, word) in [
            ("", "neither prepare nor stream"),
            ("take = { f = \"{path}\" }", "neither prepare nor stream"),
            ("prepare = []", "must begin with a program"),
            ("prepare = [\"\"]", "must begin with a program"),
            ("prepare = [\"{path}/tool\", \"{staging}\"]", "must begin with a program"),
            ("prepare = [\"bin/tool\", \"{staging}\"]", "must begin with a program"),
            ("prepare = \"tool {staging}\"", "sequence"),
            ("prepare = [\"tool\"]", "nothing would be archived"),
            ("prepare = [\"tool\", \"{staging}\"]\ntake = { f = \"{path}\" }", "neither take"),
            ("prepare = [\"tool\"]\ntake = { f = \"{staging}\" }", "nothing would be in it"),
            ("prepare = [\"tool\", \"{target}\"]", "{target}"),
            ("prepare = [\"tool\", \"{home}\"]", "{home}"),
            ("prepare = [\"tool\", \"{staging\"]", "single brace"),
            ("stream = [\"x\", \"{staging}\"]", "{staging}"),
            ("stream = [\"x\"]\nstreams = { a = [\"x\"] }", "both stream and streams"),
            ("streams = {}", "no stream"),
            ("streams = { a = [\"x\"] }\nname = \"b\"", "no stream"),
            ("prepare = [\"x\", \"{staging}\"]\nname = \"b\"", "no stream"),
            ("stream = [\"x\"]\nname = \"a/b\"", "a/b"),
            ("stream = [\"x\"]\nname = \"..\"", ".."),
            ("stream = [\"x\"]\nname = \"a\\nb\"", "cannot be a name"),
            ("stream = [\"x\"]\nname = \"a\"\ntake = { a = \"{path}\" }", "name of a stream and"),
            ("stream = [\"x\"]\ntake = { a = \"/etc\" }", "/etc"),
            ("stream = [\"x\"]\ntake = { a = \"{path}/../etc\" }", "../etc"),
            ("stream = [\"x\"]\ntake = { a = \"{path}x\" }", "{path}x"),
            ("stream = [\"x\"]\ntake = { \"a/b\" = \"{path}\" }", "a/b"),
            ("stream = [\"x\"]\nenv = { \"A=B\" = \"c\" }", "A=B"),
            ("stream = [\"x\"]\nenv = { A = \"{staging}\" }", "{staging}"),
            ("stream = [\"x\"]\nfolder = \"here\"", "absolute path"),
            ("stream = [\"x\"]\nfolder = \"{path}x\"", "absolute path"),
            ("stream = [\"x\"]\ntime_limit = \"0s\"", "time_limit"),
            ("stream = [\"x\"]\ntime_limit = \"soon\"", "soon"),
            ("stream = [\"x\"]\nshell = true", "shell"),
            ("stream = [\"x\"]\nuser = \"root\"", "user"),
            ("streams = { a = [\"x\"], b = [\"y\"] }\nrestore = [\"z\"]", "{staging}"),
            ("prepare = [\"x\", \"{staging}\"]\nrestore = [\"z\", \"{target}\"]", "{staging}"),
        ] {
            let error = read(table).map(drop).unwrap_err();
            assert!(error.kind() == base::Kind::Usage && error.render().contains(word), "{table}: {}", error.render());
            assert!(error.render().contains("module.x"), "{table}: {}", error.render());
        }
    }

    #[test]
    fn files_are_chosen_only_where_files_are_taken() {
        let read = |module: &str| {
            let text =
                format!("version = 1\n[[dataset]]\naddress = \"x:/srv\"\nexclude = [\"*.tmp\"]\n[module.x]\nstream = [\"a\"]\n{module}");
            Settings::of(&base::config::parse("c", text.as_bytes()).unwrap(), "x").map(drop)
        };
        read("take = { files = \"{path}\" }").unwrap();
        assert!(read("").unwrap_err().one_line().contains("exclude"));
    }

    #[test]
    fn names_of_datasets_leave_one_reading_of_an_address() {
        for (dataset, good) in [("x:/a:b", true), ("x:main", true), ("x:main/sub", true), ("x:files:a", false), ("x:a:/b", false)] {
            assert_eq!(check_form(&dataset.parse().unwrap()).is_ok(), good, "{dataset}");
        }
    }
}
