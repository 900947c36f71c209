//! Which modules there are: those that are built in, and those that a configuration declares.
//!
//! Carries out nothing. A new module is one folder and one line in `CLIENT`; one line in [`server_module`] as well where
//! it carries something else than archives.

use crate::declared::Declared;
use crate::{ClientModule, Lane, ServerModule, archived, dummy, files, git, mariadb, postgres, sqlite};
use base::config::ClientConfig;
use base::{Error, Result};
use std::ops::Deref;

/// The client halves that are built in.
const CLIENT: &[&dyn ClientModule] = &[&files::CLIENT, &git::CLIENT, &postgres::CLIENT, &mariadb::CLIENT, &sqlite::CLIENT, &dummy::CLIENT];

/// A client half that was looked up by its name.
pub enum Module {
    /// One of this program's own.
    BuiltIn(&'static dyn ClientModule),
    /// One that the table `[module.NAME]` of `client.toml` describes.
    Declared(Declared),
}

impl Deref for Module {
    type Target = dyn ClientModule;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::BuiltIn(module) => *module,
            Self::Declared(module) => module,
        }
    }
}

fn built_in(name: &str) -> Option<&'static dyn ClientModule> {
    CLIENT.iter().copied().find(|module| module.name() == name)
}

/// The names that `config` declares, whether or not their tables are right.
fn declared(config: Option<&ClientConfig>) -> impl Iterator<Item = &str> {
    let tables = config.into_iter().flat_map(|config| config.module.keys());
    tables.map(String::as_str).filter(|name| built_in(name).is_none() && Declared::new(name).is_ok())
}

/// The client half called `name`: built in, or declared by `config`.
pub fn client_module(config: Option<&ClientConfig>, name: &str) -> Option<Module> {
    if let Some(module) = built_in(name) {
        return Some(Module::BuiltIn(module));
    }
    declared(config).find(|declared| *declared == name).and_then(|name| Declared::new(name).ok()).map(Module::Declared)
}

/// As [`client_module`] for bringing back: what was made by a module that this machine's configuration does not declare
/// comes back as files.
///
/// # Errors
/// Of kind usage when `name` cannot be a module's name.
pub fn restoring_module(config: Option<&ClientConfig>, name: &str) -> Result<Module> {
    client_module(config, name).map_or_else(|| Declared::new(name).map(Module::Declared), Ok)
}

/// The server half called `name`. What is not built in is an archive; whether the node takes it the access list says.
pub fn server_module(name: &str) -> &'static dyn ServerModule {
    match name {
        git::NAME => &git::SERVER,
        dummy::NAME => &dummy::SERVER,
        _ => &archived::SERVER,
    }
}

/// The names of all modules: the built-in ones, then those that `config` declares.
pub fn names(config: Option<&ClientConfig>) -> Vec<&str> {
    CLIENT.iter().map(|module| module.name()).chain(declared(config)).collect()
}

/// Checks what a configuration says of modules: each that it names is there, and each table is right.
///
/// # Errors
/// Of kind usage, with the table or the field.
pub fn check_settings(config: &ClientConfig) -> Result<()> {
    let datasets = config.datasets.iter().map(|entry| ("a [[dataset]]", entry.address.module()));
    let allowed = config.allow.iter().map(|entry| ("an [[allow]]", entry.module.as_str()));
    let tables = config.module.keys().map(|name| ("a table [module.…]", name.as_str()));
    for (place, name) in datasets.chain(allowed).chain(tables) {
        if client_module(Some(config), name).is_none() {
            return Err(Error::usage(format!("{place} names the module {name:?}, which is neither built in nor declared")).hint(format!(
                "{} Others are declared by a table [module.NAME].",
                base::names::hint(name, names(Some(config)).iter().copied())
            )));
        }
    }
    let listed = config.datasets.iter().map(|entry| (entry.address.to_string(), entry.address.module(), entry.particular()));
    let allowed = config.allow.iter().map(|entry| {
        let place = format!("the [[allow]] of {} under {}", entry.module, entry.under);
        (place, entry.module.as_str(), entry.particular())
    });
    for (place, name, particular) in listed.chain(allowed) {
        let known = client_module(Some(config), name).map(|module| module.dataset_settings()).unwrap_or_default();
        if let Some(unknown) = particular.iter().find(|name| !known.contains(name)) {
            return Err(Error::usage(format!("{place} has the setting {unknown}, which the module {name} does not carry out"))
                .hint("Take it out, or name another module."));
        }
    }
    for entry in &config.datasets {
        let archived = client_module(Some(config), entry.address.module())
            .is_some_and(|module| module.lane_of(config, &entry.address) == Lane::Archive);
        if let Some(setting) = entry.of_archives().first().filter(|_| !archived) {
            return Err(Error::usage(format!("{} has the setting {setting}, and does not go through the archive", entry.address))
                .hint("Take it out. A git dataset goes through the archive with sealed = true."));
        }
    }
    let all = names(Some(config)).into_iter().filter_map(|name| client_module(Some(config), name));
    all.into_iter().try_for_each(|module| module.settings(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ClientConfig {
        base::config::parse("c", format!("version = 1\n{text}").as_bytes()).unwrap()
    }

    #[test]
    fn what_a_configuration_says_of_modules_is_held_against_what_there_is() {
        let check = |text: &str| check_settings(&parse(text));
        for good in ["", "[module.git]", "[module.postgres]\nport = 5433", "[[allow]]\nmodule = \"git\"\nunder = \"/srv\""] {
            check(good).unwrap();
        }
        let bad = [
            ("[module.postgers]\nport = 5433", "postgers"),
            ("[module.Trac]\nstream = [\"cat\"]", "Trac"),
            ("[module.git]\nsealed = true", "sealed"),
            ("[module.dummy]\nx = 1", "x"),
            ("[module.postgres]\nprot = 5433", "prot"),
            ("[[dataset]]\naddress = \"fils:/a\"", "fils"),
            ("[[allow]]\nmodule = \"gti\"\nunder = \"/srv\"", "gti"),
            ("[[dataset]]\naddress = \"git:/a.git\"\nexclude = [\"*.o\"]", "git:/a.git has the setting exclude"),
            ("[[allow]]\nmodule = \"dummy\"\nunder = \"/\"\none_file_system = true", "one_file_system"),
        ];
        for (text, word) in bad {
            let error = check(text).unwrap_err();
            assert!(error.kind() == base::Kind::Usage && error.one_line().contains(word), "{}", error.one_line());
        }
    }

    #[test]
    fn built_in_names_are_no_clients_names_and_both_halves_agree() {
        for name in names(None) {
            assert!(base::Name::new(name).is_err(), "{name} is a module's name and could be a client's");
            assert_eq!(client_module(None, name).unwrap().lane(), server_module(name).lane());
        }
    }

    #[test]
    fn what_is_not_built_in_is_declared_or_comes_back_as_files() {
        let config = parse("[module.trac]\n[module.Bad]\n[module.git]");
        assert_eq!(names(Some(&config)).last(), Some(&"trac"));
        assert_eq!(names(Some(&config)).len(), names(None).len() + 1);
        assert_eq!(client_module(Some(&config), "trac").unwrap().name(), "trac");
        assert!(client_module(None, "trac").is_none() && client_module(Some(&config), "Bad").is_none());
        assert!(matches!(client_module(Some(&config), "git"), Some(Module::BuiltIn(_))));
        assert_eq!(restoring_module(None, "trac").unwrap().name(), "trac");
        assert!(restoring_module(Some(&config), "Bad").is_err());
    }
}
