//! One node's installation: its configuration, its folders with their modes, its keys and the gate's program.
//!
//! Does not know what is done with them.

use crate::groups;
use base::config::NodeConfig;
use base::config::node::Groups;
use base::{At, Error, Name, Result, atomic};
use rustix::fs::OFlags;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The gate's program.
const GATE: &str = "nightsafe-gate";

/// A node whose configuration was read.
#[derive(Debug, Clone)]
pub struct Node {
    /// What `node.toml` says.
    pub config: NodeConfig,
    /// Where it was read, absolute: `authorized_keys` names it.
    pub file: PathBuf,
    /// The gate's program: beside this one, else on the search path.
    pub gate: Option<PathBuf>,
}

impl Node {
    /// Reads `file`.
    ///
    /// # Errors
    /// Of kind usage.
    pub fn load(file: &Path) -> Result<Self> {
        let config = NodeConfig::load(file)?;
        let file = std::path::absolute(file).at("find", file)?;
        Ok(Self { config, file, gate: base::process::beside(GATE) })
    }

    /// The clients asked for: one, or all that are in the list or have a folder here.
    ///
    /// # Errors
    /// When nothing is kept of the one, or the access list cannot be read.
    pub fn clients(&self, only: Option<&Name>) -> Result<Vec<Name>> {
        if let Some(name) = only {
            if !self.config.client_path(name).is_dir() {
                return Err(Error::usage(format!("this node keeps nothing of a client {name}")));
            }
            return Ok(vec![name.clone()]);
        }
        let mut names: Vec<Name> = crate::access::current(self)?.list.clients.keys().cloned().collect();
        if let Ok(folders) = fs::read_dir(&self.config.data) {
            // The node's own folders have names that no client can have.
            let kept = folders
                .flatten()
                .filter(|entry| entry.path().join("snapshots").is_dir())
                .filter_map(|entry| Name::new(entry.file_name().to_str()?).ok());
            names.extend(kept);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The folder for what is the node's own and no client's.
    pub fn state_path(&self) -> PathBuf {
        self.config.data.join("state")
    }

    /// Makes the folders that are missing. Groups are inherited, so that the gate's and the restorers' accounts can
    /// read what their group may; the published list can be read by all.
    ///
    /// # Errors
    /// With the path.
    pub fn prepare(&self) -> Result<()> {
        let config = &self.config;
        let data = &config.data;
        for (path, mode) in [
            (data.clone(), 0o2750),
            (data.join("log"), 0o2750),
            (self.state_path(), 0o2750),
            (config.access_path(), 0o2755),
            (config.access_path().join("keys"), 0o2755),
        ] {
            folder(&path, mode)?;
        }
        if config.groups != Groups::default() {
            groups::open_way(data)?;
        }
        Ok(())
    }

    /// As [`Node::prepare`], for the gate's folders. Where uids are split these are the gate's, and are there already; the
    /// group writes in both directions.
    ///
    /// # Errors
    /// With the path; what the gate put there instead is no reason not to serve what it handed over before.
    pub fn prepare_gate(&self) -> Result<()> {
        let handover = self.config.handover_path();
        for (path, mode) in [(self.config.gate.clone(), 0o2750), (handover.clone(), 0o2770), (handover.join("wake"), 0o2770)] {
            folder(&path, mode)?;
        }
        Ok(())
    }

    /// Refuses to write as another user than the one whose data it is: what root left there, the poller could not
    /// change any more.
    ///
    /// # Errors
    /// Of kind usage, with the user to be.
    pub fn check_owner(&self) -> Result<()> {
        let Ok(meta) = fs::metadata(&self.config.data) else { return Ok(()) };
        if meta.uid() == rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        let data = self.config.data.display();
        Err(Error::usage(format!("{data} belongs to uid {}, and this is uid {}", meta.uid(), rustix::process::geteuid().as_raw()))
            .hint(format!("Run it as that user: sudo -u '#{}' nightsafe-server …", meta.uid())))
    }

    /// Makes the folder of one client, and lets those read in it who may.
    ///
    /// # Errors
    /// With the path.
    pub fn prepare_client(&self, client: &Name) -> Result<()> {
        let (path, groups) = (self.config.client_path(client), &self.config.groups);
        folder(&path, 0o2750)?;
        if *groups != Groups::default() {
            groups::open_way(&path)?;
        }
        groups::give(&self.config.receipts_path(client), groups.gate.as_deref())?;
        let mirrors = path.join("mirrors");
        if groups.mirrors.is_some() {
            folder(&mirrors, 0o2750)?;
        }
        groups::give(&mirrors, groups.mirrors.as_deref())
    }

    /// Whether the gate runs under the poller's own uid, so that the poller does the gate's upkeep.
    pub fn one_uid(&self) -> bool {
        fs::metadata(&self.config.gate).is_ok_and(|meta| meta.uid() == rustix::process::geteuid().as_raw())
    }

    /// The gate's program.
    ///
    /// # Errors
    /// When there is none.
    pub fn gate_program(&self) -> Result<&Path> {
        self.gate.as_deref().ok_or_else(|| {
            Error::failed(format!("the program {GATE} is neither beside nightsafe-server nor on the search path"))
                .hint("Install all three programs in the same folder.")
        })
    }
}

/// Makes a folder with exactly `mode`, whatever the umask is; one that is there stays as it is.
pub fn folder(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    atomic::make_folder(path, mode)?;
    // By its descriptor: where the folder above is another account's, a link may stand there by now.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = fs::File::from(rustix::fs::openat(rustix::fs::CWD, path, flags, rustix::fs::Mode::empty()).at("open the folder", path)?);
    made.set_permissions(Permissions::from_mode(mode)).at("set the mode of", path)
}
