//! Lines of clients that dial in: the gate brings them, programs of the poller's own take them, one for each command.
//!
//! A thread of its own waits for both. It believes the gate one thing, whose line it is: a gate that lies about that gets the
//! name of a dataset to hear, and whatever it then sends is held against what the client signed, as all that comes is.

mod board;

use crate::groups;
use crate::node::Node;
use base::dial::{self, Kind};
use base::{At, Name, Result};
use board::{Away, Board, Desk, Step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A line break ends what somebody says; nobody has more to say than a name.
const SAID: usize = 128;

/// What is asked in place of a name: who has dialled in. No client is called so.
pub const WHO: &str = "?";
/// How long a program of ours may take to hear all names.
const HEARD: Duration = Duration::from_secs(5);
/// The most that the names are: every connection has one, and each is a line.
const NAMES: usize = MOST * 64;
/// The most connections, however many files this process may open.
const MOST: usize = 20_000;

/// The lines of one node, as long as this lives.
#[derive(Debug)]
pub struct Lines {
    shared: Arc<Shared>,
    // Its other end ends the thread when this is gone.
    bell: UnixStream,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    board: Mutex<Board>,
    changed: Condvar,
    news: Mutex<Option<Sender<Name>>>,
}

impl Lines {
    /// Makes both sockets and waits for lines of `clients`, and for whoever wants one. The caller is the node's poller.
    ///
    /// # Errors
    /// With the path.
    pub fn open(node: &Node, clients: BTreeSet<Name>) -> Result<Self> {
        let config = &node.config;
        // Where accounts are not split the gate is of our own.
        let (mode, group) = if node.one_uid() { (0o600, None) } else { (0o660, groups::id(config.groups.gate.as_deref())?) };
        base::atomic::make_folder(&config.runtime_path(), 0o700)?;
        let outer = dial::bind(&config.dial_path(), mode, group)?;
        let inner = dial::bind(&config.lines_path(), 0o600, None)?;
        let gate = std::fs::metadata(&config.gate).at("look at", &config.gate)?.uid();
        let own = rustix::process::geteuid().as_raw();
        for listener in [&outer, &inner] {
            listener.set_nonblocking(true).at("use", "the socket for lines")?;
        }
        let (bell, rung) = UnixStream::pair().at("make", "a socket")?;
        rung.set_nonblocking(true).at("use", "a socket")?;
        // Whoever holds a line at the gate is here the moment that the socket is.
        let mut board = Board::new(Instant::now(), room());
        board.expect(clients);
        let shared = Arc::new(Shared { board: Mutex::new(board), changed: Condvar::new(), news: Mutex::default() });
        let attendant = Attendant {
            shared: Arc::clone(&shared),
            doors: [(outer, Desk::Gate, gate), (inner, Desk::Own, own)],
            guests: BTreeMap::new(),
            next: 0,
        };
        let thread = std::thread::spawn(move || attendant.attend(&rung));
        Ok(Self { shared, bell, thread: Some(thread) })
    }

    /// Says of whom lines are taken; of others they are not, and those that are there go.
    pub fn expect(&self, clients: BTreeSet<Name>) {
        if lock(&self.shared.board).expect(clients) {
            let _ = (&self.bell).write_all(b"x");
        }
    }

    /// Tells `news` of the clients that are here, and of each that dials in later and was not here lately.
    pub fn tell(&self, news: Option<Sender<Name>>) {
        let mut teller = lock(&self.shared.news);
        if let Some(news) = &news {
            lock(&self.shared.board).here().for_each(|client| drop(news.send(client.clone())));
        }
        *teller = news;
    }

    /// Whether nobody takes in lines any more: then it is to be opened anew.
    pub fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
    }

    /// Whether a line of the client's is there, or will be in a moment.
    pub fn reaches(&self, client: &Name) -> bool {
        let now = Instant::now();
        lock(&self.shared.board).patience(client, now) > Duration::ZERO
    }

    /// Waits, for as short as a line takes that is held at the gate, until all of `clients` have one; gives those that do.
    pub fn gather(&self, clients: &BTreeSet<Name>) -> BTreeSet<Name> {
        let mut board = lock(&self.shared.board);
        loop {
            let there: BTreeSet<Name> = clients.iter().filter(|client| board.has(client)).cloned().collect();
            let left = board.grace(Instant::now());
            if there.len() == clients.len() || left.is_zero() {
                return there;
            }
            board = self.shared.changed.wait_timeout(board, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.bell.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The clients that have dialled in at this moment; `None` where no poller takes in lines, or has no time to say all.
pub fn who(node: &Node) -> Option<BTreeSet<Name>> {
    let mut desk = dial::connect(&node.config.lines_path()).ok()?;
    desk.set_read_timeout(Some(HEARD)).ok()?;
    desk.write_all(format!("{WHO}\n").as_bytes()).ok()?;
    let said = base::untrusted::read_bounded(&desk, NAMES).ok()?;
    names(&String::from_utf8_lossy(&said))
}

/// Whether no poller takes in lines, so that nobody can have dialled in; an account that may not ask does not know that.
pub fn is_shut(node: &Node) -> bool {
    dial::connect(&node.config.lines_path())
        .is_err_and(|error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
}

/// What was answered to [`WHO`]: a name a line, and an empty line at the end, so that an answer which was cut off is none.
fn names(said: &str) -> Option<BTreeSet<Name>> {
    let all = said.strip_suffix('\n').filter(|all| all.is_empty() || all.ends_with('\n'))?;
    Some(all.lines().filter_map(|name| Name::new(name).ok()).collect())
}

/// How many connections there may be: half of the files that this process may have open, which are as many from here on as it may
/// say itself.
fn room() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let allowed = getrlimit(Resource::Nofile).maximum;
    // systemd and cron begin with 1024.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: allowed, maximum: allowed });
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / 2).unwrap_or(usize::MAX).min(MOST)
}

/// The thread behind it.
struct Attendant {
    shared: Arc<Shared>,
    doors: [(UnixListener, Desk, u32); 2],
    guests: BTreeMap<u64, Guest>,
    next: u64,
}

/// A connection, and what was said on it so far.
struct Guest {
    stream: UnixStream,
    said: Vec<u8>,
    named: bool,
}

impl Attendant {
    fn attend(mut self, rung: &UnixStream) {
        loop {
            let wait = lock(&self.shared.board).next_deadline(Instant::now());
            let ids: Vec<u64> = self.guests.keys().copied().collect();
            let ready: Vec<bool> = {
                let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(rung, PollFlags::IN)];
                fds.extend(self.doors.iter().map(|(door, ..)| PollFd::new(door, PollFlags::IN)));
                fds.extend(self.guests.values().map(|guest| PollFd::new(&guest.stream, PollFlags::IN)));
                let wait = wait.and_then(|wait| Timespec::try_from(wait + Duration::from_millis(1)).ok());
                if let Err(error) = poll(&mut fds, wait.as_ref())
                    && error != rustix::io::Errno::INTR
                {
                    // The poller's next look opens it anew.
                    return tracing::error!("no lines of clients that dial are taken in: could not wait for them: {error}");
                }
                fds.iter().map(|fd| !fd.revents().is_empty()).collect()
            };
            if ready[0] {
                match (&mut &*rung).read(&mut [0; 64]) {
                    Ok(0) => return,
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
            let mut steps = Vec::new();
            for (id, _) in ids.into_iter().zip(&ready[3..]).filter(|(_, ready)| **ready) {
                self.hear(id, &mut steps);
            }
            for door in 0..self.doors.len() {
                if ready[1 + door] {
                    self.let_in(door, &mut steps);
                }
            }
            steps.extend(lock(&self.shared.board).tick(Instant::now()));
            steps.into_iter().for_each(|step| self.carry_out(step));
            self.shared.changed.notify_all();
        }
    }

    /// One at a time: whoever comes in crowds does not keep the others from being heard.
    fn let_in(&mut self, door: usize, steps: &mut Vec<Step>) {
        let (door, desk, user) = &self.doors[door];
        let Ok((stream, _)) = door.accept() else {
            // Out of files: those that wait outside keep the poll awake.
            std::thread::sleep(Duration::from_millis(20));
            return;
        };
        let known = dial::user_of(&stream).is_ok_and(|found| found == *user || (found == 0 && matches!(desk, Desk::Own)));
        if !known {
            // In a moment it would come again, if it knew no reason not to.
            let words = "this is not the account that the node's gate runs as".to_owned();
            return send_away(&stream, &if *desk == Desk::Gate { Away::Line(words) } else { Away::Taker(words) });
        }
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        self.next += 1;
        self.guests.insert(self.next, Guest { stream, said: Vec::new(), named: false });
        steps.extend(lock(&self.shared.board).came(self.next, *desk, Instant::now()));
    }

    fn hear(&mut self, id: u64, steps: &mut Vec<Step>) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        let mut bytes = [0; SAID];
        match guest.stream.read(&mut bytes) {
            // Nobody has anything to say after a name.
            Ok(n @ 1..) if !guest.named => guest.said.extend_from_slice(&bytes[..n]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            _ => {
                self.guests.remove(&id);
                return lock(&self.shared.board).left(id);
            }
        }
        let line = guest.said.iter().position(|byte| *byte == b'\n');
        let text = line.and_then(|end| (end + 1 == guest.said.len()).then(|| std::str::from_utf8(&guest.said[..end]).ok())?);
        guest.named = line.is_some();
        match text {
            Some(text) => steps.extend(lock(&self.shared.board).said(id, text, Instant::now())),
            None if line.is_none() && guest.said.len() < SAID => {}
            None => {
                self.guests.remove(&id);
                lock(&self.shared.board).left(id);
            }
        }
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Hand { line, to } => {
                let (Some(line), Some(to)) = (self.guests.remove(&line), self.guests.remove(&to)) else { return };
                // Who has it from here on waits on it, and so do we not.
                if let Err(error) = line.stream.set_nonblocking(false).and_then(|()| hand(&line.stream, &to.stream)) {
                    tracing::warn!("a line could not be handed on: {error}");
                }
            }
            Step::Send { guest, away } => {
                if let Some(guest) = self.guests.remove(&guest) {
                    send_away(&guest.stream, &away);
                }
            }
            Step::Tell(client) => {
                if let Some(news) = &*lock(&self.shared.news) {
                    let _ = news.send(client);
                }
            }
        }
    }
}

/// Says somebody's last words. Who is not there any more misses nothing.
fn send_away(mut stream: &UnixStream, away: &Away) {
    let _ = match away {
        // A few bytes into an empty socket.
        Away::Line(why) => dial::write(&mut stream, Kind::Leave, why.as_bytes()),
        // All names may be more than a socket holds; whoever asks for them is of our own, and reads.
        Away::Taker(why) => {
            let waits = stream.set_nonblocking(false).and_then(|()| stream.set_write_timeout(Some(HEARD)));
            waits.and_then(|()| stream.write_all(why.as_bytes()))
        }
    };
}

/// Gives a connection to another process.
fn hand(line: &UnixStream, to: &UnixStream) -> io::Result<()> {
    use std::os::fd::AsFd;
    let handed = [line.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&handed));
    sendmsg(to, &[IoSlice::new(&[transport::HERE])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn node(dir: &std::path::Path) -> Node {
        let file = dir.join("node.toml");
        let (data, gate) = (dir.join("data"), dir.join("gate"));
        std::fs::create_dir_all(data.join("access")).unwrap();
        std::fs::create_dir(&gate).unwrap();
        let text = format!(
            "version = 1\nname = \"node1\"\ndata = \"{}\"\ngate = \"{}\"\nruntime = \"{}\"\npull_key = \"/p\"\nreceipts_key = \"/r\"\n",
            data.display(),
            gate.display(),
            dir.join("run").display()
        );
        std::fs::write(&file, text).unwrap();
        Node::load(&file).unwrap()
    }

    #[test]
    fn an_answer_that_was_cut_off_is_none() {
        assert_eq!(names("web1\nweb10\n\n"), Some(["web1", "web10"].map(name).into()));
        assert_eq!(names("\n"), Some(BTreeSet::new()));
        for cut in ["", "web1", "web1\nweb1", "web1\nweb10\n"] {
            assert_eq!(names(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn all_names_are_said_however_many() {
        let (here, mut there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let all: String = (0..MOST).map(|n| format!("{n:0>63}\n")).collect();
        let reader = std::thread::spawn(move || {
            let mut heard = String::new();
            there.read_to_string(&mut heard).unwrap();
            heard
        });
        send_away(&here, &Away::Taker(all.clone()));
        drop(here);
        assert!(reader.join().unwrap() == all, "not all of it came");
    }

    #[test]
    fn lines_are_taken_in_anew_when_that_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path());
        let lines = Lines::open(&node, [name("web1")].into()).unwrap();
        assert!(!lines.ended());
        assert_eq!(who(&node), Some(BTreeSet::new()));
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!(files.current, files.maximum);
        // As when its thread panics.
        lines.bell.shutdown(std::net::Shutdown::Both).unwrap();
        let begun = Instant::now();
        while !lines.ended() {
            assert!(begun.elapsed() < Duration::from_secs(240), "it did not end");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(who(&node), None);
        assert!(is_shut(&node));
        let again = Lines::open(&node, [name("web1")].into()).unwrap();
        assert!(who(&node).is_some() && !again.ended() && !is_shut(&node));
    }

    #[test]
    fn another_account_hears_why_it_is_sent_away() {
        let dir = tempfile::tempdir().unwrap();
        let (outer, inner) = (dir.path().join("dial"), dir.path().join("lines"));
        let own = rustix::process::geteuid().as_raw();
        let doors = [
            (dial::bind(&outer, 0o600, None).unwrap(), Desk::Gate, own + 1),
            (dial::bind(&inner, 0o600, None).unwrap(), Desk::Own, own + 1),
        ];
        let board = Mutex::new(Board::new(Instant::now(), 10));
        let shared = Arc::new(Shared { board, changed: Condvar::new(), news: Mutex::default() });
        let mut attendant = Attendant { shared, doors, guests: BTreeMap::new(), next: 0 };
        let mut gate = dial::connect(&outer).unwrap();
        attendant.let_in(0, &mut Vec::new());
        let (kind, why) = dial::read(&mut gate).unwrap().unwrap();
        assert!(kind == Kind::Leave && String::from_utf8(why).unwrap().contains("not the account"));
        if own != 0 {
            let mut taker = dial::connect(&inner).unwrap();
            attendant.let_in(1, &mut Vec::new());
            let mut why = String::new();
            taker.read_to_string(&mut why).unwrap();
            assert!(why.contains("not the account"));
        }
        assert!(attendant.guests.is_empty());
    }
}
