//! The numbers by which the kernel knows what it was shown, for as long as it remembers them.
//!
//! Does not know what things hold.

use archive::entry::{Entry, EntryKind};
use base::RequestId;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of the mount's own folder, which the kernel never forgets.
pub const ROOT: u64 = 1;

/// One thing that is shown.
#[derive(Debug, Clone)]
pub enum Node {
    /// A folder above the snapshots.
    Above(Vec<String>),
    /// The link to the newest snapshot of the dataset whose folders these are.
    Latest(Vec<String>, RequestId),
    /// A snapshot's own folder, and when it was accepted.
    Snapshot(RequestId, Timestamp),
    /// Something in a snapshot.
    Inside(RequestId, Arc<Entry>),
}

/// What makes two nodes one and the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Above(Vec<String>),
    Latest(Vec<String>),
    Snapshot(RequestId),
    Path(RequestId, Vec<u8>),
    /// Names of one thing, by their group in the catalog.
    Linked(RequestId, u64),
}

impl Node {
    fn key(&self) -> Key {
        match self {
            Self::Above(at) => Key::Above(at.clone()),
            Self::Latest(at, _) => Key::Latest(at.clone()),
            Self::Snapshot(id, _) => Key::Snapshot(id.clone()),
            Self::Inside(id, entry) => match entry.hard_link {
                Some(group) if entry.kind != EntryKind::Dir => Key::Linked(id.clone(), group),
                _ => Key::Path(id.clone(), entry.path.clone()),
            },
        }
    }
}

/// All that the kernel remembers.
#[derive(Debug)]
pub struct Nodes(Mutex<Known>);

#[derive(Debug)]
struct Known {
    next: u64,
    /// Each with how often the kernel was told of it.
    nodes: HashMap<u64, (Arc<Node>, u64)>,
    numbers: HashMap<Key, u64>,
}

impl Nodes {
    /// With the mount's own folder alone.
    pub fn new() -> Self {
        let root = Node::Above(Vec::new());
        let numbers = HashMap::from([(root.key(), ROOT)]);
        Self(Mutex::new(Known { next: ROOT + 1, nodes: HashMap::from([(ROOT, (Arc::new(root), 1))]), numbers }))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has this number.
    pub fn get(&self, number: u64) -> Option<Arc<Node>> {
        self.lock().nodes.get(&number).map(|(node, _)| Arc::clone(node))
    }

    /// The number of `node`, of which the kernel is about to be told once more.
    pub fn tell(&self, node: &Arc<Node>) -> u64 {
        let mut known = self.lock();
        let next = known.next;
        let number = *known.numbers.entry(node.key()).or_insert(next);
        if number == next {
            known.next += 1;
        }
        let (kept, count) = known.nodes.entry(number).or_insert_with(|| (Arc::clone(node), 0));
        *count += 1;
        // Which snapshot is the newest changes; what is in one does not.
        if matches!(**node, Node::Latest(..)) {
            *kept = Arc::clone(node);
        }
        number
    }

    /// The kernel forgets what it was told `count` times.
    pub fn forget(&self, number: u64, count: u64) {
        let mut known = self.lock();
        let Some((node, told)) = known.nodes.get_mut(&number).filter(|_| number != ROOT) else { return };
        *told = told.saturating_sub(count);
        if *told == 0 {
            let key = node.key();
            known.nodes.remove(&number);
            known.numbers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_keeps_its_number_until_the_kernel_forgets_it() {
        let nodes = Nodes::new();
        let folder = |name: &str| Arc::new(Node::Above(vec![name.to_owned()]));
        let a = nodes.tell(&folder("a"));
        assert!(a != ROOT && nodes.tell(&folder("a")) == a && nodes.tell(&folder("b")) != a);
        assert_eq!(nodes.tell(&Arc::new(Node::Above(Vec::new()))), ROOT);
        nodes.forget(a, 1);
        assert!(nodes.get(a).is_some());
        nodes.forget(a, 1);
        assert!(nodes.get(a).is_none());
        nodes.forget(a, 5);
        assert_ne!(nodes.tell(&folder("a")), a, "a number is never given twice");
        nodes.forget(ROOT, 100);
        assert!(nodes.get(ROOT).is_some());
    }

    #[test]
    fn names_of_one_file_have_one_number() {
        let id: RequestId = "20261120T031500Z-3f9a1c7e".parse().unwrap();
        let line = |path: &str, group: &str| {
            let line = format!(r#"{{"path":"{path}","type":"fifo","mode":"0644","uid":0,"gid":0,"mtime":"0.000000000"{group}}}"#);
            Arc::new(Node::Inside(id.clone(), Arc::new(Entry::parse(line.as_bytes()).unwrap())))
        };
        let nodes = Nodes::new();
        let (a, b, c) = (line("a", r#","hard_link":3"#), line("b", r#","hard_link":3"#), line("c", ""));
        assert_eq!(nodes.tell(&a), nodes.tell(&b));
        assert_ne!(nodes.tell(&a), nodes.tell(&c));
    }
}
