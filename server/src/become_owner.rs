//! Root becomes the account that the node's data belongs to, before anything else is done: what root left there, the poller
//! could not change any more.
//!
//! Decides nothing about commands; the same command line runs again, by another user.

use base::config::NodeConfig;
use base::{At, Error, Result, process};
use rustix::fs::{MemfdFlags, Mode, fchmod, fchown, memfd_create};
use rustix::process::{Uid, geteuid};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

/// Options whose value is a file that may be named from where the command was typed.
const FILES: [&str; 4] = ["--config", "--key", "--admin-key", "--host-key"];
/// The option with a key that root alone may be able to read.
const KEY: &str = "--admin-key";
/// The longest private key.
const KEY_LIMIT: usize = 64 << 10;

/// Goes on as the owner of the data where root asked for it, and does not come back then. `data` is where it will be, before
/// there is a configuration.
///
/// # Errors
/// When root cannot become that user.
pub fn unless_root_owns(config: &Path, data: Option<&Path>) -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let configured = NodeConfig::load(config).ok().map(|config| config.data);
    // The command itself says what is wrong with a configuration.
    let Some(data) = configured.as_deref().or(data) else { return Ok(()) };
    let Ok(meta) = std::fs::metadata(data) else { return Ok(()) };
    if meta.uid() == 0 {
        return Ok(());
    }
    let (arguments, _held) = arguments(std::env::args_os().skip(1), meta.uid())?;
    let mut command = process::command("setpriv");
    for (name, value) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NIGHTSAFE_")) {
        command.env(name, value);
    }
    // What only root is told, and what config check wants to know.
    if let Some((name, value)) = owner_of(config).and_then(|gate| crate::commands::config::remember_sshd(&gate)) {
        command.env(name, value);
    }
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

/// Whose the gate's folder is, if the command looks at sshd at all.
fn owner_of(config: &Path) -> Option<String> {
    std::env::args().any(|argument| argument == "check").then_some(())?;
    let gate = NodeConfig::load(config).ok()?.gate;
    let user = uzers::get_user_by_uid(std::fs::metadata(gate).ok()?.uid())?;
    Some(user.name().to_string_lossy().into_owned())
}

/// The same arguments for another folder and another user; a private key of an administrator's goes along in memory, and is
/// open for as long as the second value lives.
fn arguments(given: impl Iterator<Item = OsString>, uid: u32) -> Result<(Vec<OsString>, Vec<OwnedFd>)> {
    let (mut all, mut held): (Vec<OsString>, Vec<OwnedFd>) = (Vec::new(), Vec::new());
    let mut option: Option<&str> = None;
    for argument in given {
        let text = argument.to_str();
        let (name, value) = match (option.take(), text.and_then(|text| text.split_once('='))) {
            (Some(name), _) => (name, Some(argument.clone())),
            (None, Some((name, value))) if FILES.contains(&name) => {
                let name = FILES.iter().find(|known| **known == name).copied().unwrap_or_default();
                all.push(name.into());
                (name, Some(value.into()))
            }
            (None, _) => {
                option = text.and_then(|text| FILES.iter().find(|known| **known == text).copied());
                ("", None)
            }
        };
        let Some(value) = value else {
            all.push(argument);
            continue;
        };
        let path = Path::new(&value);
        // A public one names a key of the agent's; and what is no file there is for the command to complain of.
        if name == KEY && path.extension().is_none_or(|ending| ending != "pub") && path.is_file() {
            let copy = in_memory(path, uid)?;
            all.push(format!("/proc/self/fd/{}", copy.as_raw_fd()).into());
            held.push(copy);
        } else if path.exists() {
            all.push(std::path::absolute(path).at("find", path)?.into());
        } else {
            all.push(value);
        }
    }
    Ok((all, held))
}

/// A copy of a file that `uid` alone can read, and that is gone with the process.
fn in_memory(path: &Path, uid: u32) -> Result<OwnedFd> {
    let source = File::open(path).at("open the key", path)?;
    let bytes = base::untrusted::read_bounded(source, KEY_LIMIT).at("read the key", path)?;
    // It stays open across exec: that is what it is for.
    let memory = memfd_create("nightsafe-key", MemfdFlags::empty()).at("make a file in memory for", path)?;
    let mut file = File::from(memory);
    file.write_all(&bytes).at("copy", path)?;
    fchmod(&file, Mode::from_raw_mode(0o600)).at("set the mode of the copy of", path)?;
    fchown(&file, Some(Uid::from_raw(uid)), None).at("give away the copy of", path)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_from_everywhere_and_names_stay() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("alice");
        std::fs::write(&key, "secret").unwrap();
        let key = key.to_str().unwrap();
        let me = geteuid().as_raw();
        let of = |words: &[&str]| {
            let (all, held) = arguments(words.iter().map(OsString::from), me).unwrap();
            (all.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>(), held)
        };
        for words in [vec!["client", "add", "x", "--admin-key", key], vec!["client", "add", "x", &format!("--admin-key={key}")]] {
            let (all, held) = of(&words);
            assert_eq!(&all[..4], ["client", "add", "x", "--admin-key"]);
            assert_eq!(all[4], format!("/proc/self/fd/{}", held[0].as_raw_fd()));
            assert_eq!(std::fs::read_to_string(&all[4]).unwrap(), "secret");
        }
        // Cargo runs tests in the crate's own folder.
        assert!(of(&["--config", "Cargo.toml", "status"]).0[1].ends_with("server/Cargo.toml"));
        for same in
            [vec!["client", "remove", "src"], vec!["--config", "/not/there", "poll"], vec!["x", "--admin-key"], vec!["-v", "--key=/n.pub"]]
        {
            let (all, held) = of(&same);
            assert_eq!(all.join(" ").replace("--key /", "--key=/"), same.join(" "));
            assert!(held.is_empty());
        }
    }
}
