//! `admin-recover`: the way back in when no administrator's key is left. Run by root on the node itself.
//!
//! Keeps everything that the list says but for who may change it; the old history stays beside the new one.

use crate::access::{self, edit};
use crate::node::Node;
use crate::output;
use base::{At, Error, Exit, Name, Result, atomic, clock};
use queue::Repository;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Make a new key an administrator's, when all administrators have lost theirs.
///
/// Adds the key to admins in the configuration, and starts the signed access list anew from what the poller last
/// accepted, with that administrator added. The old history is kept beside it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the administrator is called; may be one that is in the list.
    #[arg(long)]
    admin: Name,
    /// The administrator's private ssh key, or a .pub file whose other half the ssh agent holds.
    #[arg(long, value_name = "FILE")]
    admin_key: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let owner = fs::metadata(&node.config.data).at("find", &node.config.data)?;
    let me = rustix::process::geteuid().as_raw();
    if me != 0 && me != owner.uid() {
        return Err(Error::refused("only root, or the account that owns the data, may do this"));
    }
    let signer = super::signer(&args.admin_key)?;
    node.prepare()?;
    node.prepare_gate()?;
    let _lock = access::lock(&node)?;
    let mut list = access::current(&node)?.list;
    if list.admin_of(signer.public()).is_none() {
        list.add_admin(&args.admin, signer.public())?;
    }
    name_in_config(config, &node, &format!("{} {}", queue::access::openssh(signer.public())?, args.admin))?;
    let path = node.config.admin_path();
    if path.exists() {
        let aside = node.config.data.join(format!("admin-until-{}.git", clock::now().strftime("%Y%m%dT%H%M%SZ")));
        atomic::rename(&path, &aside)?;
        output::line(&format!("the history so far is in {}", aside.display()))?;
    }
    let copy = Repository::open_or_create(&path, access::BRANCH)?;
    let message = format!("Start the access list anew with {}\n\nadmin-recover was run on the node itself.\n", args.admin);
    let tip = edit::commit(&copy, &list, &message, &signer, args.admin.as_str())?;
    access::publish(&node, tip, list)?;
    if me == 0 && owner.uid() != 0 {
        for path in [path, node.config.access_path(), node.state_path()] {
            give(&path, owner.uid(), owner.gid())?;
        }
    }
    edit::wake(&node);
    Ok(Exit::Done)
}

/// Adds the key to `admins` in the configuration, leaving everything else in the file as it is.
fn name_in_config(config: &Path, node: &Node, line: &str) -> Result<()> {
    let key = |text: &str| text.split_ascii_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    if node.config.admins.iter().any(|known| key(known) == key(line)) {
        return Ok(());
    }
    let text = fs::read_to_string(config).at("read", config)?;
    let changed = with_admin(&text, line).ok_or_else(|| {
        Error::usage(format!("admins in {} could not be changed", config.display()))
            .hint(format!("Add this to admins by hand, and run it again: {line:?}"))
    })?;
    let meta = fs::metadata(config).at("stat", config)?;
    atomic::write(config, changed.as_bytes(), meta.mode() & 0o777)?;
    std::os::unix::fs::chown(config, Some(meta.uid()), Some(meta.gid())).at("give back", config)
}

/// The configuration's text with one more administrator.
fn with_admin(text: &str, line: &str) -> Option<String> {
    let value = toml::Value::from(line).to_string();
    let mut changed = None;
    let mut at = 0;
    for row in text.split_inclusive('\n') {
        let trimmed = row.trim_start();
        if trimmed.strip_prefix("admins").is_some_and(|rest| rest.trim_start().starts_with('=')) {
            let open = at + row.find('[')? + 1;
            changed = Some(format!("{}{value}, {}", &text[..open], &text[open..]));
            break;
        }
        // Tables begin here: what stands behind belongs to them.
        if trimmed.starts_with('[') {
            break;
        }
        at += row.len();
    }
    let changed = changed.unwrap_or_else(|| format!("{}admins = [{value}]\n{}", &text[..at], &text[at..]));
    let read: toml::Table = changed.parse().ok()?;
    let admins = read.get("admins")?.as_array()?;
    admins.iter().any(|admin| admin.as_str() == Some(line)).then_some(changed)
}

/// Gives what root made to the account that owns the data.
fn give(path: &Path, uid: u32, gid: u32) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).at("give away", path)?;
    if fs::symlink_metadata(path).at("stat", path)?.is_dir() {
        for entry in fs::read_dir(path).at("read the folder", path)? {
            give(&entry.at("read the folder", path)?.path(), uid, gid)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_configuration_stays() {
        let line = "ssh-ed25519 AAAA bob";
        for text in [
            "version = 1\n# who\nadmins = [\"ssh-ed25519 BBBB alice\"] # first\nworkers = 3\n",
            "version = 1\nadmins = []\n",
            "version = 1\n# admins = [\"x\"]\n",
            "version = 1\nadmins = [\n  \"ssh-ed25519 BBBB alice\",\n]\n",
        ] {
            let changed = with_admin(text, line).unwrap();
            let read: toml::Table = changed.parse().unwrap();
            assert!(read["admins"].as_array().unwrap().iter().any(|a| a.as_str() == Some(line)), "{changed}");
            assert!(
                text.lines()
                    .filter(|l| l.starts_with('#') || l.starts_with("version") || l.starts_with("workers"))
                    .all(|l| changed.contains(l))
            );
        }
        assert!(with_admin("version = 1\nadmins = \"x\"\n", line).is_none());
    }
}
