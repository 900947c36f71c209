//! What the kernel asks, answered from proven snapshots.
//!
//! Every name and number that comes from the kernel was given to it before; what does not fit is answered with an error.
//! Nothing can be changed through it.

use super::above::{self, Above};
use super::attr::Looks;
use super::content::Content;
use super::nodes::{Node, Nodes};
use super::snapshots::Snapshots;
use archive::entry::{ACCESS, DEFAULT, Entry, EntryKind, XattrMap};
use base::{Error, Kind, RequestId};
use fuser::{
    Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the kernel may believe what it was told: of folders that new snapshots come into, and of what never changes.
const PASSING: Duration = Duration::from_secs(1);
const LASTING: Duration = Duration::from_secs(24 * 60 * 60);
/// How many larger files may be open at once: each has a thread and a file of its own.
const LARGE: usize = 64;

/// The file system.
pub struct View {
    snapshots: Snapshots,
    nodes: Nodes,
    open: Mutex<Open>,
    looks: Looks,
}

/// What is open, by the number that the kernel was given.
#[derive(Default)]
struct Open {
    last: u64,
    folders: HashMap<u64, Arc<Folder>>,
    files: HashMap<u64, Arc<Content>>,
}

/// A folder as it was when it was opened, and its own number.
struct Folder {
    own: (u64, Arc<Node>),
    inside: Vec<(OsString, Arc<Node>)>,
}

type Answer<T> = Result<T, Errno>;

impl View {
    /// Shows these snapshots.
    pub fn new(snapshots: Snapshots) -> Self {
        Self { snapshots, nodes: Nodes::new(), open: Mutex::default(), looks: Looks::new() }
    }

    fn opened(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, number: INodeNo) -> Answer<Arc<Node>> {
        self.nodes.get(number.0).ok_or(Errno::ESTALE)
    }

    /// Tells the person, and says what the program gets that asked.
    fn errno(&self, error: &Error) -> Errno {
        self.snapshots.tell(error);
        match error.kind() {
            Kind::Refused | Kind::Usage => Errno::EACCES,
            Kind::NotNow | Kind::Failed => Errno::EIO,
        }
    }

    /// Everything in a folder. What of it cannot be read is told, and the rest is shown.
    fn inside(&self, node: &Node) -> Answer<Vec<(OsString, Arc<Node>)>> {
        match node {
            Node::Above(at) => {
                let offered = self.snapshots.offered();
                let node = |name: &str, what| match what {
                    Above::Folder => Node::Above([at.as_slice(), &[name.to_owned()]].concat()),
                    Above::Snapshot(id, received) => Node::Snapshot(id, received),
                    Above::Latest(id) => Node::Latest(at.clone(), id),
                };
                Ok(above::inside(&offered, at)
                    .into_iter()
                    .map(|(name, what)| {
                        let node = Arc::new(node(&name, what));
                        (name.into(), node)
                    })
                    .collect())
            }
            Node::Snapshot(id, _) => self.entries(id, b""),
            Node::Inside(id, entry) if entry.kind == EntryKind::Dir => self.entries(id, &entry.path),
            Node::Inside(..) | Node::Latest(..) => Err(Errno::ENOTDIR),
        }
    }

    fn entries(&self, id: &RequestId, folder: &[u8]) -> Answer<Vec<(OsString, Arc<Node>)>> {
        let reader = self.snapshots.reader(id).map_err(|error| self.errno(&error))?;
        let mut found = Vec::new();
        if folder.is_empty()
            && let Some(only) = self.only(id)?
        {
            return Ok(vec![only]);
        }
        for entry in reader.children(folder) {
            match entry {
                Ok(entry) => found.push((name_of(&entry, folder), Arc::new(Node::Inside(id.clone(), Arc::new(entry))))),
                // Part of a folder is no folder for a program that copies it.
                Err(error) => return Err(self.errno(&error.context(format!("a folder of {id} cannot be shown")))),
            }
        }
        Ok(found)
    }

    /// The one file of a dataset that is no folder: it is shown in its snapshot's folder by its own name.
    fn only(&self, id: &RequestId) -> Answer<Option<(OsString, Arc<Node>)>> {
        let reader = self.snapshots.reader(id).map_err(|error| self.errno(&error))?;
        let own = reader.find(b"").map_err(|error| self.errno(&error))?.filter(|entry| entry.kind != EntryKind::Dir);
        let Some(entry) = own else { return Ok(None) };
        let offered = self.snapshots.offered();
        let path = offered.iter().find(|one| one.snapshot == *id).map_or("", |one| one.dataset.path());
        let name = Path::new(path).file_name().unwrap_or_else(|| OsStr::new("content"));
        Ok(Some((name.to_owned(), Arc::new(Node::Inside(id.clone(), Arc::new(entry))))))
    }

    /// One thing of a folder, by its name.
    fn child(&self, parent: &Node, name: &OsStr) -> Answer<Arc<Node>> {
        let (id, folder): (_, &[u8]) = match parent {
            Node::Snapshot(id, _) => (id, b""),
            Node::Inside(id, entry) => (id, &entry.path),
            Node::Above(_) | Node::Latest(..) => {
                let inside = self.inside(parent)?;
                return inside.into_iter().find(|(one, _)| one == name).map(|(_, node)| node).ok_or(Errno::ENOENT);
            }
        };
        if folder.is_empty()
            && let Some((only, node)) = self.only(id)?
        {
            return if only == name { Ok(node) } else { Err(Errno::ENOENT) };
        }
        let reader = self.snapshots.reader(id).map_err(|error| self.errno(&error))?;
        let found = reader.find(&[folder, name.as_bytes()].concat()).map_err(|error| self.errno(&error))?;
        found.map(|entry| Arc::new(Node::Inside(id.clone(), Arc::new(entry)))).ok_or(Errno::ENOENT)
    }

    fn attributes(&self, number: INodeNo) -> Answer<XattrMap> {
        let node = self.node(number)?;
        let Node::Inside(id, entry) = &*node else { return Ok(XattrMap::new()) };
        let Some(attributes) = &entry.attributes else { return Ok(XattrMap::new()) };
        let reader = self.snapshots.reader(id).map_err(|error| self.errno(&error))?;
        let mut all = reader.xattrs(&attributes.xattrs).map_err(|error| self.errno(&error))?;
        for (name, list) in [(ACCESS, &attributes.acl), (DEFAULT, &attributes.default_acl)] {
            all.extend(list.as_ref().map(|list| (name.to_vec(), list.to_xattr())));
        }
        Ok(all)
    }

    fn open_file(&self, number: INodeNo, flags: OpenFlags) -> Answer<FileHandle> {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return Err(Errno::EROFS);
        }
        let node = self.node(number)?;
        let Node::Inside(id, entry) = &*node else { return Err(Errno::EISDIR) };
        if !matches!(entry.kind, EntryKind::File { .. }) {
            return Err(Errno::EINVAL);
        }
        let reader = self.snapshots.reader(id).map_err(|error| self.errno(&error))?;
        let content = Arc::new(Content::new(reader, Arc::clone(entry)));
        let mut open = self.opened();
        if content.is_large() && open.files.values().filter(|file| file.is_large()).count() >= LARGE {
            return Err(Errno::EMFILE);
        }
        open.last += 1;
        let handle = open.last;
        open.files.insert(handle, content);
        Ok(FileHandle(handle))
    }

    fn open_folder(&self, number: INodeNo) -> Answer<FileHandle> {
        let node = self.node(number)?;
        let inside = self.inside(&node)?;
        let mut open = self.opened();
        open.last += 1;
        let handle = open.last;
        open.folders.insert(handle, Arc::new(Folder { own: (number.0, node), inside }));
        Ok(FileHandle(handle))
    }

    fn folder(&self, handle: FileHandle) -> Answer<Arc<Folder>> {
        self.opened().folders.get(&handle.0).cloned().ok_or(Errno::EBADF)
    }
}

/// The entry's own name in its folder.
fn name_of(entry: &Entry, folder: &[u8]) -> OsString {
    let name = entry.path.get(folder.len()..).unwrap_or_default();
    OsString::from_vec(name.strip_suffix(b"/").unwrap_or(name).to_vec())
}

/// How long the kernel may remember a node.
fn lifetime(node: &Node) -> Duration {
    match node {
        Node::Above(_) | Node::Latest(..) => PASSING,
        Node::Snapshot(..) | Node::Inside(..) => LASTING,
    }
}

/// Answers with a value of which the kernel may have asked the length first.
fn sized(bytes: &[u8], size: u32, reply: ReplyXattr) {
    match u32::try_from(bytes.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(bytes),
        _ => reply.error(Errno::ERANGE),
    }
}

impl Filesystem for View {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Both only save round trips: without them the kernel asks for each name of a folder by itself.
        for wish in [InitFlags::FUSE_DO_READDIRPLUS, InitFlags::FUSE_CACHE_SYMLINKS, InitFlags::FUSE_PARALLEL_DIROPS] {
            let _ = config.add_capabilities(wish);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.node(parent).and_then(|parent| self.child(&parent, name)) {
            Ok(node) => {
                let number = self.nodes.tell(&node);
                reply.entry(&lifetime(&node), &self.looks.of(number, &node), Generation(0));
            }
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, count: u64) {
        self.nodes.forget(number.0, count);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(number) {
            Ok(node) => reply.attr(&lifetime(&node), &self.looks.of(number.0, &node)),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.node(number).as_deref() {
            Ok(Node::Latest(_, id)) => reply.data(id.as_str().as_bytes()),
            Ok(Node::Inside(_, entry)) if let EntryKind::Link { target } = &entry.kind => reply.data(target),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(*error),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_file(number, flags) {
            Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let content = self.opened().files.get(&handle.0).cloned();
        match content.map(|content| content.read(offset, size)) {
            Some(Ok(bytes)) => reply.data(&bytes),
            Some(Err(error)) => reply.error(self.errno(&error)),
            None => reply.error(Errno::EBADF),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, _: Option<LockOwner>, _: bool, reply: ReplyEmpty) {
        let content = self.opened().files.remove(&handle.0);
        if let Some(content) = content {
            content.close();
        }
        reply.ok();
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_folder(number) {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let folder = match self.folder(handle) {
            Ok(folder) => folder,
            Err(error) => return reply.error(error),
        };
        for (place, (name, node)) in folder.from(offset) {
            // The number is looked up when the name is; here it only has to be none that is in use.
            if reply.add(INodeNo(u64::MAX), place, self.looks.of(0, node).kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let folder = match self.folder(handle) {
            Ok(folder) => folder,
            Err(error) => return reply.error(error),
        };
        for (place, (name, node)) in folder.from(offset) {
            let dots = place <= 2;
            let number = if dots { folder.own.0 } else { self.nodes.tell(node) };
            if reply.add(INodeNo(number), place, name, &lifetime(node), &self.looks.of(number, node), Generation(0)) {
                if !dots {
                    self.nodes.forget(number, 1);
                }
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.opened().folders.remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, 512, 255, 512);
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.attributes(number) {
            Ok(all) => match all.get(name.as_bytes()) {
                Some(value) => sized(value, size, reply),
                None => reply.error(Errno::ENODATA),
            },
            Err(error) => reply.error(error),
        }
    }

    fn listxattr(&self, _: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        match self.attributes(number) {
            Ok(all) => sized(&all.keys().flat_map(|name| [name, b"\0".as_slice()].concat()).collect::<Vec<_>>(), size, reply),
            Err(error) => reply.error(error),
        }
    }
}

impl Folder {
    /// What comes behind `offset`, each with the offset behind it. The folder itself comes first, as `.` and `..`, whose
    /// numbers the kernel knows better.
    fn from(&self, offset: u64) -> impl Iterator<Item = (u64, (&OsStr, &Arc<Node>))> {
        let dots = [".", ".."].map(|name| (OsStr::new(name), &self.own.1));
        let all = dots.into_iter().chain(self.inside.iter().map(|(name, node)| (name.as_os_str(), node)));
        (1..).zip(all).skip(usize::try_from(offset).unwrap_or(usize::MAX))
    }
}
