//! What git runs in the gate's repositories: `pre-receive`, which decides, and `post-receive`, which hands over.
//!
//! Links to this program, in a folder of the gate's own. Which repository it is, and whose push, the gate says in two
//! variables.

use crate::{admin, handover, log, queues};
use base::config::NodeConfig;
use base::{At, Error, Exit, Name, Result, atomic, crash, untrusted};
use queue::Repository;
use queue::access::{self, AccessList, Entry, history};
use queue::verdict::Role;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Tells a hook where the configuration is.
pub const CONFIG: &str = "NIGHTSAFE_GATE_CONFIG";
/// Tells a hook whose push it is: `client web1` or `admin alice`.
pub const ROLE: &str = "NIGHTSAFE_GATE_ROLE";

const NAMES: [(&str, Hook); 2] = [("pre-receive", Hook::PreReceive), ("post-receive", Hook::PostReceive)];

/// The most bytes of ref commands that a hook reads: one command is a hundred.
const COMMANDS_LIMIT: usize = 64 << 10;

/// A hook of git's.
#[derive(Debug, Clone, Copy)]
pub enum Hook {
    /// Decides on a push.
    PreReceive,
    /// Hands over what was pushed.
    PostReceive,
}

/// The hook that this process was started as, by its name.
pub fn asked() -> Option<Hook> {
    let program = std::env::args_os().next()?;
    let name = Path::new(&program).file_name()?.to_str()?;
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, hook)| *hook)
}

/// Makes the folder of hooks, or brings its links up to date, and gives its path.
///
/// # Errors
/// With the path.
pub fn install(gate: &Path) -> Result<PathBuf> {
    let folder = gate.join("hooks");
    atomic::make_folder(&folder, 0o750)?;
    let program = std::env::current_exe().at("find", "this program")?;
    for (name, _) in NAMES {
        let link = folder.join(name);
        if std::fs::read_link(&link).is_ok_and(|found| found == program) {
            continue;
        }
        let temp = folder.join(format!("{}{name}-{}", atomic::TEMP_PREFIX, std::process::id()));
        atomic::remove(&temp)?;
        std::os::unix::fs::symlink(&program, &temp).at("link", &temp)?;
        atomic::rename(&temp, &link)?;
    }
    folder.canonicalize().at("open", &folder)
}

/// Whose push it is, and on which node.
struct Push {
    config: NodeConfig,
    role: Role,
}

impl Hook {
    /// Runs the hook.
    ///
    /// # Errors
    /// Of kind refused, with the words that the other end is told.
    pub fn run(self) -> Result<ExitCode> {
        let push = Push::from_environment()?;
        let commands =
            untrusted::read_bounded(std::io::stdin().lock(), COMMANDS_LIMIT).map_err(|_| Error::refused("the push changes too many refs"));
        match self {
            Self::PreReceive => {
                push.judge(commands)?;
                crash::point("decided");
            }
            Self::PostReceive => {
                commands?;
                crash::point("received");
                push.hand_over()?;
            }
        }
        Ok(Exit::Done.into())
    }
}

/// One ref command of a push.
#[derive(Debug, PartialEq, Eq)]
struct Command {
    old: Option<String>,
    new: String,
    name: String,
}

impl Command {
    /// The only command in what git gives a hook.
    fn one(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::refused("the ref's name is not UTF-8 text"))?;
        let mut lines = text.lines();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(Error::refused("a push may change one branch alone"));
        };
        let mut words = line.splitn(3, ' ');
        let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else {
            return Err(Error::failed("git gave no ref command"));
        };
        let id = |text: &str| crate::refs::oid(text).ok_or_else(|| Error::failed(format!("{text:?} is no commit's id")));
        let (old, new) = (id(old)?, id(new)?);
        if new == handover::NOTHING {
            return Err(Error::refused("a branch cannot be deleted here"));
        }
        Ok(Self { old: Some(old).filter(|old| old != handover::NOTHING), new, name: name.to_owned() })
    }
}

impl Push {
    fn from_environment() -> Result<Self> {
        let missing = || Error::failed("this is a hook of the gate's and cannot be run by hand");
        let config = std::env::var_os(CONFIG).ok_or_else(missing)?;
        let role = std::env::var(ROLE).map_err(|_| missing())?;
        let role = match role.split_once(' ').ok_or_else(missing)? {
            ("client", name) => Role::Client(Name::new(name)?),
            ("admin", name) => Role::Admin(Name::new(name)?),
            _ => return Err(missing()),
        };
        Ok(Self { config: NodeConfig::load(Path::new(&config))?, role })
    }

    fn slot(&self) -> queues::Slot {
        match &self.role {
            Role::Admin(_) => admin::slot(&self.config),
            other => queues::slot(&self.config, other.name()),
        }
    }

    /// Decides, and notes what is refused: the other end may belong to somebody who shows its words to nobody.
    fn judge(&self, commands: Result<Vec<u8>>) -> Result<()> {
        let decided = commands.and_then(|commands| self.decide(&Command::one(&commands)?));
        if let Err(error) = &decided {
            log::refused(&self.config.gate, &self.role, Some("a push"), &error.one_line());
        }
        decided
    }

    fn decide(&self, command: &Command) -> Result<()> {
        let slot = self.slot();
        if command.name != format!("refs/heads/{}", slot.branch) {
            return Err(Error::refused(format!(
                "only the branch {} can be pushed here, not {}",
                slot.branch,
                base::text::printable(&command.name)
            )));
        }
        let repository = Repository::open_quarantined(slot.branch)?;
        if repository.path() != slot.path.canonicalize().at("open", &slot.path)? {
            return Err(Error::failed("git runs this hook in another repository than the gate asked for"));
        }
        if repository.tip()? != command.old {
            return Err(Error::not_now("somebody else pushed in this moment"));
        }
        match &self.role {
            Role::Client(client) => self.decide_requests(client, &repository, command),
            _ => self.decide_list(&repository, command),
        }
    }

    fn decide_requests(&self, client: &Name, repository: &Repository, command: &Command) -> Result<()> {
        let keys = match access::entry(&self.config.access_path(), &self.role)? {
            Entry::Client(grant) => grant.keys,
            _ => return Err(Error::refused(format!("{client} is not in the list any more"))),
        };
        let last_seq = repository.last_seq()?;
        let checked =
            queue::check::check_push(repository, command.old.as_deref(), &command.new, client, &self.config.name, &keys, last_seq)?;
        log::let_through(&self.config.gate, &self.role, &checked.requests);
        Ok(())
    }

    fn decide_list(&self, repository: &Repository, command: &Command) -> Result<()> {
        let before = match &command.old {
            Some(old) => history::list_at(repository, old)?,
            // Before the first push the published list is that of node.toml's administrators.
            None => AccessList::load(&self.config.access_path())?,
        };
        history::check_push(repository, command.old.as_deref(), &command.new, before).map(drop)
    }

    /// The gate, whose child git is, holds the slot's lock.
    fn hand_over(&self) -> Result<()> {
        handover::catch_up(&self.config, &self.slot(), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_alone() {
        let (a, b, none) = ("a".repeat(40), "b".repeat(40), handover::NOTHING);
        let good = Command::one(format!("{none} {a} refs/heads/requests\n").as_bytes()).unwrap();
        assert_eq!(good, Command { old: None, new: a.clone(), name: "refs/heads/requests".into() });
        assert_eq!(Command::one(format!("{b} {a} x y\n").as_bytes()).unwrap().name, "x y");
        for bad in [String::new(), format!("{a} {b} x\n{a} {b} y\n"), format!("{a} {none} x\n"), format!("{a} {b}\n"), "x y z\n".into()] {
            assert!(Command::one(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
