//! Reading snapshots where they are: a node over ssh, or a client's store on a local path.
//!
//! Proves nothing of what it reads; `proof` does.

use super::choose::Offered;
use archive::PackSource;
use archive::epoch::{KEY_FILE_BYTES, KEY_FILES, KeyFile};
use archive::limits;
use archive::manifest::{Manifest, Public};
use archive::store::{Store, StoredContent, key_file_name};
use base::config::ClientConfig;
use base::{Blake3, Dataset, Error, Monitor, Name, Payload, Proof, ReadAt, RequestId, Result};
use modules::MirrorFrom;
use queue::listing::{self, Listed};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use transport::{Endpoint, Peer, Sftp};

/// The longest listing that is read from a node: some hundred thousand snapshots.
const LISTING_LIMIT: usize = 64 << 20;

/// How long a node may take to list.
const LISTING_TIME: Duration = Duration::from_secs(300);

/// How many snapshots that claim to repair something are looked at, the newest first.
const CLAIMS: usize = 100;

/// The largest commit or tree that is read.
const OBJECT_LIMIT: usize = 1 << 20;

/// A place that snapshots are read from.
pub enum Source {
    /// A store on this machine.
    Local {
        /// One client's folder.
        store: Store,
    },
    /// A node.
    Remote {
        /// Its name in the configuration.
        node: Name,
        /// The way to it, as a restorer.
        peer: Arc<Peer>,
        /// One session for everything: opening one costs more than most files.
        session: Mutex<Option<Arc<Sftp>>>,
    },
}

impl Source {
    /// The store of one client in `folder`.
    ///
    /// # Errors
    /// Of kind usage when it is none.
    pub fn local(folder: &Path) -> Result<Self> {
        Ok(Self::Local { store: Store::open_existing(folder)? })
    }

    /// A node of the configuration, reached as a restorer.
    ///
    /// # Errors
    /// Of kind usage when there is no such node.
    pub fn remote(config: &ClientConfig, name: Option<&Name>) -> Result<Self> {
        let node = match name {
            Some(name) => config.node(name).ok_or_else(|| {
                Error::usage(format!("the configuration has no node {name}"))
                    .hint(base::names::hint(name.as_str(), config.nodes.iter().map(|node| node.name.as_str())))
            })?,
            None => config.nodes.first().ok_or_else(|| Error::usage("the configuration has no [[node]] to read from"))?,
        };
        let login = node.restore.as_ref();
        let peer = Peer::new(Endpoint {
            alias: node.name.to_string(),
            address: login.and_then(|login| login.ssh.clone()).unwrap_or_else(|| node.ssh.clone()),
            host_key: node.host_key.clone(),
            key: login.map_or_else(|| config.key_path(), |login| login.key.clone()),
            runtime: runtime(config),
        })?;
        Ok(Self::Remote { node: node.name.clone(), peer: Arc::new(peer), session: Mutex::default() })
    }

    /// What to call it in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Local { store } => store.path().display().to_string(),
            Self::Remote { node, .. } => node.to_string(),
        }
    }

    /// The node, where one is asked: what is proven must have been meant for it.
    pub fn node(&self) -> Option<&Name> {
        match self {
            Self::Local { .. } => None,
            Self::Remote { node, .. } => Some(node),
        }
    }

    /// What is offered, in the order of acceptance.
    ///
    /// # Errors
    /// When it cannot be read; a node is not believed more than a bounded list of lines.
    pub fn list(&self) -> Result<Vec<Offered>> {
        self.list_telling(&crate::output::Complaints)
    }

    /// As [`Source::list`]; `monitor` is told of snapshots that are there and cannot be listed.
    ///
    /// # Errors
    /// As [`Source::list`].
    pub fn list_telling(&self, monitor: &dyn Monitor) -> Result<Vec<Offered>> {
        let mut offered: Vec<Offered> = match self {
            Self::Local { store } => store.readable_snapshots(monitor)?.into_iter().map(|one| Offered::from(one.accepted)).collect(),
            Self::Remote { node, peer, session } => {
                listing(peer, open_session(peer, session)).map_err(|error| {
                    error.hint(format!("Listing and restoring need a restorer's key: set restore = {{ key = \"…\" }} in the [[node]] {node} of the configuration."))
                })?
                .into_iter()
                .filter_map(|row| offered(node, row, monitor))
                .collect()
            }
        };
        offered.sort_by(|a, b| (&a.client, a.order, &a.snapshot).cmp(&(&b.client, b.order, &b.snapshot)));
        Ok(offered)
    }

    /// The raw proof of one snapshot.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn proof(&self, client: &Name, id: &RequestId) -> Result<Proof> {
        match self {
            Self::Local { store } => Ok(store.snapshot(id)?.proof),
            Self::Remote { peer, session, .. } => {
                let sftp = open_session(peer, session)?;
                let read = |name: &str| sftp.read(&format!("{client}/snapshots/{id}/{name}"), OBJECT_LIMIT);
                // Side by side: far away each of them takes several times as long as its bytes do.
                std::thread::scope(|scope| {
                    let (commit, tree) = (scope.spawn(|| read("commit")), scope.spawn(|| read("tree")));
                    let request = read("request.toml");
                    let done = |thread: std::thread::ScopedJoinHandle<'_, Result<Vec<u8>>>| {
                        thread.join().unwrap_or_else(|_| Err(Error::failed("the reading thread failed")))
                    };
                    Ok(Proof { commit: done(commit)?, tree: done(tree)?, request: request? })
                })
            }
        }
    }

    /// The manifest or the list of refs of one snapshot, as its payload says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn content(&self, client: &Name, id: &RequestId, payload: &Payload) -> Result<Vec<u8>> {
        let name = match payload {
            Payload::Manifest(_) => "manifest",
            Payload::Refs(_) => "refs",
            Payload::Nothing => return Ok(Vec::new()),
        };
        match self {
            Self::Local { store } => match store.snapshot(id)?.content {
                StoredContent::Manifest(bytes) | StoredContent::Refs(bytes) => Ok(bytes),
            },
            Self::Remote { peer, session, .. } => {
                open_session(peer, session)?.read(&format!("{client}/snapshots/{id}/{name}"), limits::MANIFEST)
            }
        }
    }

    /// The packs of a client.
    ///
    /// # Errors
    /// When the node cannot be reached.
    pub fn packs(&self, client: &Name) -> Result<Arc<dyn PackSource>> {
        match self {
            Self::Local { store } => Ok(store.packs()),
            Self::Remote { peer, session, .. } => {
                let (peer, sftp) = (Arc::clone(peer), open_session(peer, session)?);
                Ok(Arc::new(RemotePacks { peer, sftp, client: client.clone() }))
            }
        }
    }

    /// The mirror of a git repository.
    pub fn mirror(&self, client: &Name, dataset: &Dataset) -> MirrorFrom {
        let name = modules::mirror_name(dataset);
        match self {
            Self::Local { store } => MirrorFrom::Local(store.path().join("mirrors").join(name)),
            Self::Remote { peer, .. } => MirrorFrom::Remote { peer: Arc::clone(peer), name: format!("{client}/mirrors/{name}") },
        }
    }
}

/// What a node lists for a restorer: read in the session that is needed anyway, which spares a command.
fn listing(peer: &Peer, session: Result<Arc<Sftp>>) -> Result<Vec<Listed>> {
    let read = match session {
        // It cannot be reached, or is another one.
        Err(error) if error.kind() != base::Kind::Failed => return Err(error),
        opened => opened.and_then(|sftp| sftp.read(listing::FILE, LISTING_LIMIT)),
    };
    let bytes = match read {
        Ok(bytes) => bytes,
        // The command says why it cannot be had, and a node that lists for long is waited for.
        Err(_) => peer.exec(listing::FILE, LISTING_LIMIT, LISTING_TIME)?,
    };
    serde_json::from_slice(&bytes).map_err(|e| Error::failed("the node gave a listing that cannot be read").because(e))
}

/// The session for small files, opened when it is first needed.
fn open_session(peer: &Peer, session: &Mutex<Option<Arc<Sftp>>>) -> Result<Arc<Sftp>> {
    let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(open) = session.as_ref().filter(|open| !open.is_over()) {
        return Ok(Arc::clone(open));
    }
    let opened = Arc::new(peer.sftp()?);
    *session = Some(Arc::clone(&opened));
    Ok(opened)
}

/// Where control sockets go: a restorer's machine may have no state folder that he can write.
fn runtime(config: &ClientConfig) -> PathBuf {
    let configured = config.runtime_path();
    let usable =
        configured.is_dir() || configured.parent().is_some_and(|parent| rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_ok());
    let ours = !configured.exists()
        || std::fs::metadata(&configured)
            .is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == rustix::process::getuid().as_raw());
    if usable && ours {
        return configured;
    }
    let uid = rustix::process::getuid().as_raw();
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if folder.len() <= 40 => Path::new(&folder).join("nightsafe"),
        _ => std::env::temp_dir().join(format!("nightsafe-{uid}")),
    }
}

/// Packs of a client at a node.
struct RemotePacks {
    peer: Arc<Peer>,
    sftp: Arc<Sftp>,
    client: Name,
}

impl PackSource for RemotePacks {
    fn pack(&self, digest: &Blake3) -> Result<Box<dyn ReadAt>> {
        Ok(Box::new(self.sftp.open(&format!("{}/packs/{}", self.client, digest.hex()))?))
    }

    fn repairs(&self) -> Result<Vec<Public>> {
        let mut claims = Vec::new();
        let listed: Vec<Offered> = listing(&self.peer, Ok(Arc::clone(&self.sftp)))?.into_iter().filter_map(Listed::snapshot).collect();
        let ours = listed.iter().filter(|one| one.client == self.client && !one.repairs.is_empty());
        let mut ours: Vec<_> = ours.collect();
        ours.sort_by_key(|one| std::cmp::Reverse(one.order));
        for one in ours.into_iter().take(CLAIMS) {
            let name = format!("{}/snapshots/{}/manifest", self.client, one.snapshot);
            match self.sftp.read(&name, limits::MANIFEST).and_then(|bytes| Manifest::parse(&bytes)) {
                Ok(manifest) => claims.push(manifest.public),
                Err(error) if error.kind() == base::Kind::NotNow => return Err(error),
                Err(error) => tracing::warn!("{name} is passed over: {}", error.one_line()),
            }
        }
        Ok(claims)
    }

    fn key_files(&self, recipient: &str) -> Result<Vec<KeyFile>> {
        let mut files = Vec::new();
        for number in 1..=KEY_FILES {
            let name = format!("{}/{}", self.client, key_file_name(recipient, number));
            let read = match self.sftp.try_open(&name) {
                Ok(None) => continue,
                Ok(Some(_)) => self.sftp.read(&name, KEY_FILE_BYTES).and_then(|bytes| KeyFile::parse(&bytes)),
                Err(error) => Err(error),
            };
            match read {
                Ok(file) => files.push(file),
                Err(error) if error.kind() == base::Kind::NotNow => return Err(error),
                // It opens nothing then, and the manifest's own key file is as good as ever.
                Err(error) => tracing::warn!("{name} is passed over: {}", error.one_line()),
            }
        }
        Ok(files)
    }
}

/// What a row of a node's listing offers; a damaged snapshot is told of instead.
fn offered(node: &Name, row: Listed, monitor: &dyn Monitor) -> Option<Offered> {
    match row {
        Listed::Snapshot(snapshot) => Some(snapshot),
        Listed::Damaged(one) => {
            let short = |text: &str| base::text::excerpt(text.as_bytes(), 300);
            let (client, snapshot, why) = (short(&one.client), short(&one.snapshot), short(&one.damaged));
            monitor.problem(
                &Error::failed(format!("{node} cannot offer {client}'s snapshot {snapshot}: {why}"))
                    .hint("It may be the newest of its dataset. The node's nightsafe-server scrub names all that is damaged."),
            );
            None
        }
    }
}
