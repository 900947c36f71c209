//! Root becomes the account that the node's data belongs to, before anything else is done: what root left there, the poller
//! could not change any more.
//!
//! Decides nothing about commands; the same command runs again, by another user and from another folder.

use crate::given::Given;
use base::config::NodeConfig;
use base::{At, Error, Result, process};
use clap::builder::ValueHint;
use clap::{Arg, ArgAction, ArgMatches};
use rustix::process::geteuid;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};

/// The option whose file both accounts read where it lies.
const CONFIG: &str = "config";
/// What says how the words of a command are shown.
const SHOWN: [&str; 3] = ["TERM", "NO_COLOR", "JOURNAL_STREAM"];

/// What was asked of root.
pub struct Asked<'a> {
    /// The node's configuration.
    pub config: &'a Path,
    /// Where the data will be, before there is a configuration.
    pub data: Option<&'a Path>,
    /// Has root say what only root is told, for the gate's account: a variable and its value.
    pub learn: &'a dyn Fn(&str) -> Option<(&'static str, String)>,
    /// The command line, as it is described and as it was understood.
    pub line: (&'a clap::Command, &'a ArgMatches),
}

/// Goes on as the owner of the data where root asked for it, and does not come back then.
///
/// # Errors
/// When root cannot become that user.
pub fn unless_root_owns(asked: &Asked<'_>) -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let configured = NodeConfig::load(asked.config).ok();
    // The command itself says what is wrong with a configuration.
    let Some(data) = configured.as_ref().map(|config| config.data.as_path()).or(asked.data) else { return Ok(()) };
    let Ok(meta) = std::fs::metadata(data) else { return Ok(()) };
    if meta.uid() == 0 {
        return Ok(());
    }
    let Again { arguments, given } = Again::of(asked.line, meta.uid())?;
    let mut command = process::command("setpriv");
    let kept = |name: &OsStr| name.to_string_lossy().starts_with("NIGHTSAFE_") || SHOWN.iter().any(|known| name == *known);
    command.envs(std::env::vars_os().filter(|(name, _)| kept(name)));
    command.envs(given.iter().map(Given::variable));
    let gate = configured.as_ref().and_then(|config| std::fs::metadata(&config.gate).ok());
    let gate = gate.and_then(|gate| uzers::get_user_by_uid(gate.uid()));
    command.envs(gate.and_then(|gate| (asked.learn)(&gate.name().to_string_lossy())));
    if let Some(home) = uzers::get_user_by_uid(meta.uid()).map(|user| uzers::os::unix::UserExt::home_dir(&user).to_owned()) {
        command.env("HOME", home);
    }
    command.args([format!("--reuid={}", meta.uid()), format!("--regid={}", meta.gid()), "--init-groups".into(), "--".into()]);
    command.arg(std::env::current_exe().at("find", "the program that is running")?).args(arguments);
    // Where root stood, the other account may not even look.
    let error = command.current_dir("/").stdin(std::process::Stdio::inherit()).exec();
    Err(Error::failed(format!("could not become the owner of {} (uid {})", data.display(), meta.uid()))
        .because(error)
        .hint(format!("Run it as that user: sudo -u '#{}' nightsafe-server …", meta.uid())))
}

/// A command line that says the same from another folder and to another user.
#[derive(Debug, Default)]
struct Again {
    arguments: Vec<OsString>,
    /// Files that it names, which that user may not be able to open.
    given: Vec<Given>,
}

impl Again {
    /// The command line that was understood, for `uid`.
    fn of((command, matches): (&clap::Command, &ArgMatches), uid: u32) -> Result<Self> {
        let mut again = Self::default();
        again.add(command, matches, uid)?;
        Ok(again)
    }

    fn add(&mut self, command: &clap::Command, matches: &ArgMatches, uid: u32) -> Result<()> {
        let mut positional = Vec::new();
        for argument in command.get_arguments() {
            let id = argument.get_id().as_str();
            // What came from a variable may name a file from here as well.
            let said = matches.value_source(id).is_some_and(|source| source != clap::parser::ValueSource::DefaultValue);
            if !said {
                continue;
            }
            let name = option(argument);
            match argument.get_action() {
                ArgAction::Count => self.arguments.extend((0..matches.get_count(id)).map(|_| name.clone())),
                action if !action.takes_values() => self.arguments.push(name),
                _ => {
                    for value in matches.get_raw(id).into_iter().flatten() {
                        let value = self.value(argument, value, uid)?;
                        if argument.is_positional() {
                            positional.push(value);
                        } else {
                            self.arguments.push([name.as_os_str(), OsStr::new("="), &value].into_iter().collect());
                        }
                    }
                }
            }
        }
        if let Some((name, inner)) = matches.subcommand()
            && let Some(command) = command.find_subcommand(name)
        {
            self.arguments.push(name.into());
            return self.add(command, inner, uid);
        }
        if !positional.is_empty() {
            self.arguments.push("--".into());
            self.arguments.append(&mut positional);
        }
        Ok(())
    }

    /// A value as the other user understands it: a path as a whole, and a file along with it.
    fn value(&mut self, argument: &Arg, value: &OsStr, uid: u32) -> Result<OsString> {
        let path = Path::new(value);
        let is_path = match argument.get_value_hint() {
            ValueHint::AnyPath => !value.is_empty(),
            // A text, or a file that holds it.
            ValueHint::FilePath => path.is_file(),
            _ => false,
        };
        if !is_path {
            return Ok(value.to_owned());
        }
        let path = whole(path)?;
        if argument.get_id() != CONFIG {
            self.given.extend(Given::copy(&path, uid)?);
        }
        Ok(path.into())
    }
}

/// The same path from everywhere. Its way does not lead through a folder only to leave it again, where the other user may not go.
fn whole(path: &Path) -> Result<PathBuf> {
    let goes_back = path.components().any(|part| part == Component::ParentDir);
    let there = path.parent().zip(path.file_name()).filter(|_| goes_back);
    if let Some((folder, name)) = there.and_then(|(folder, name)| Some((folder.canonicalize().ok()?, name))) {
        return Ok(folder.join(name));
    }
    std::path::absolute(path).at("find", path)
}

/// How an option is written.
fn option(argument: &Arg) -> OsString {
    match (argument.get_long(), argument.get_short()) {
        (Some(long), _) => format!("--{long}").into(),
        (None, Some(short)) => format!("-{short}").into(),
        (None, None) => OsString::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cli;
    use clap::{CommandFactory, FromArgMatches};
    use std::os::unix::ffi::OsStrExt;

    /// The line again, and what both lines are understood as.
    fn again(words: &[&OsStr]) -> (Again, [String; 2]) {
        let parsed = |words: &[&OsStr]| {
            let words = std::iter::once(OsStr::new("nightsafe-server")).chain(words.iter().copied());
            Cli::command().try_get_matches_from(words).unwrap()
        };
        let understood = |matches: &ArgMatches| format!("{:?}", Cli::from_arg_matches(matches).unwrap());
        let matches = parsed(words);
        let again = Again::of((&Cli::command(), &matches), geteuid().as_raw()).unwrap();
        let said: Vec<&OsStr> = again.arguments.iter().map(OsString::as_os_str).collect();
        let both = [understood(&matches), understood(&parsed(&said))];
        (again, both)
    }

    #[test]
    fn every_command_means_the_same_again() {
        let here = std::env::current_dir().unwrap();
        let line = format!("ssh-ed25519 {}", "A".repeat(40));
        for words in [
            vec!["status", "web1", "--json", "-vv"],
            vec!["--config", "/c", "client", "add", "--admin-key", "/k", "--", "-"],
            vec!["client", "add", "web1", "--host-key", &line, "--allow=git:/a", "--allow", "files:/b/*", "--admin-key", "/k", "--yes"],
            vec!["client", "pause", "web1", "--off", "--admin-key=/k"],
            vec!["client", "set", "web1", "--limit=fetches=1", "--keep", "default", "--admin-key", "/k"],
            vec!["client", "set", "web1", "--no-dial", "--address=backup@web1", "--host-key", &line, "--admin-key", "/k"],
            vec!["restorer", "add", "dora", "--key", "/not/there.pub", "--read=web1:*", "--read", "db1:files:/x", "--admin-key", "/k"],
            vec!["keys", "install", "/a", "/-b"],
            vec!["prune", "--dry-run"],
            vec!["poll"],
            // Where the client has its repositories is no path of this machine.
            vec!["adopt", "web1", "/old", "--under", "team", "--any-origin"],
            vec!["import-gitosis", "/g", "--client=web1", "--under", "/home/git", "--machine", "a", "--machine=b", "--admin-key", "/k"],
        ] {
            let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
            let (again, [one, two]) = again(&words);
            assert_eq!(one, two, "{words:?} became {:?}", again.arguments);
            assert!(again.given.is_empty(), "{words:?}");
        }
        // Relative paths are whole ones afterwards: an option's, a positional one's, one that is not there yet.
        for (words, whole) in [
            (&["--config", "node.toml", "poll"][..], "--config=HERE/node.toml"),
            (&["init", "--data", "d"], "--data=HERE/d"),
            (&["adopt", "web1", "old-mirrors"], "HERE/old-mirrors"),
            (&["config", "check", "--sshd-config=s"], "--sshd-config=HERE/s"),
            (&["--config", "src/../Cargo.toml", "poll"], "--config=HERE/Cargo.toml"),
        ] {
            let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
            let whole = OsString::from(whole.replace("HERE", here.to_str().unwrap()));
            let (again, _) = again(&words);
            assert!(again.arguments.contains(&whole), "{:?}", again.arguments);
        }
    }

    #[test]
    fn files_come_along_whatever_they_are_called() {
        let dir = tempfile::tempdir().unwrap();
        // No UTF-8, and one that looks like an option.
        let strange = dir.path().join(OsStr::from_bytes(b"key\xff.pub"));
        let dashed = dir.path().join("--b");
        for file in [&strange, &dashed] {
            std::fs::write(file, "x").unwrap();
        }
        let words = [OsStr::new("keys"), OsStr::new("install"), OsStr::new("--"), strange.as_os_str(), dashed.as_os_str()];
        let (first, [one, two]) = again(&words);
        assert_eq!(one, two);
        let names: Vec<OsString> = first.given.iter().map(|given| given.variable().1).collect();
        assert_eq!(names, [strange.as_os_str(), dashed.as_os_str()]);
        let host_key: OsString = [OsStr::new("--host-key="), dashed.as_os_str()].into_iter().collect();
        let words = ["client", "add", "web1", "--admin-key", "/not/there"].map(OsStr::new);
        let (second, [one, two]) = again(&[&words[..], &[host_key.as_os_str()]].concat());
        assert!(one == two && second.given.len() == 1, "{second:?}");
        let words = ["client", "set", "web1", "--no-dial", "--address=a@b", "--admin-key", "/not/there"].map(OsStr::new);
        let (third, [one, two]) = again(&[&words[..], &[host_key.as_os_str()]].concat());
        assert!(one == two && third.given.len() == 1, "{third:?}");
        // The configuration is read where it lies, also by what reads it later.
        let words = [OsStr::new("--config"), dashed.as_os_str(), OsStr::new("poll")];
        assert!(again(&words).0.given.is_empty());
    }
}
