//! Who has which line, who wants one, and what follows from that: pure decisions over names and times.
//!
//! Opens nothing and waits for nothing. Connections are numbers here.

use base::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// So many lines of one client wait at once; one is usual, and more are those that were cut off without a word.
const LINES: usize = 4;
/// How long somebody may take to say who it is.
const MANNERS: Duration = Duration::from_secs(5);
/// How many there may be who have said nothing yet.
const SILENT: usize = 64;
/// A client that had a line so lately opens another in a moment.
const LATELY: Duration = Duration::from_secs(30);
/// How long that moment is at most.
const MOMENT: Duration = Duration::from_secs(10);
/// How long lines take to come that are held at the gate when the poller starts.
const GRACE: Duration = Duration::from_secs(2);

/// Where somebody came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desk {
    /// By the gate, with a line.
    Gate,
    /// A program of the poller's own, which wants one.
    Own,
}

/// Why somebody is sent away, in the words that are for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Away {
    /// Somebody with a line.
    Line(String),
    /// Somebody who wants one, or has been answered.
    Taker(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// This line goes to that taker; both are forgotten here.
    Hand {
        /// The line.
        line: u64,
        /// Who gets it.
        to: u64,
    },
    /// Somebody is sent away, and forgotten here.
    Send {
        /// Who.
        guest: u64,
        /// With these words.
        away: Away,
    },
    /// A client has dialled in that was not here lately.
    Tell(Name),
}

/// All lines and takers.
#[derive(Debug)]
pub struct Board {
    begun: Instant,
    most: usize,
    expected: BTreeSet<Name>,
    /// Who has not said anything yet, and until when that may last.
    silent: BTreeMap<u64, (Desk, Instant)>,
    /// The oldest first.
    lines: BTreeMap<Name, Vec<u64>>,
    /// Whose line is wanted, and until when; the oldest first.
    takers: BTreeMap<u64, (Name, Instant)>,
    lately: BTreeMap<Name, Instant>,
}

impl Board {
    /// Nobody is here yet; there may be `most` at once.
    pub fn new(now: Instant, most: usize) -> Self {
        Self {
            begun: now,
            most,
            expected: BTreeSet::new(),
            silent: BTreeMap::new(),
            lines: BTreeMap::new(),
            takers: BTreeMap::new(),
            lately: BTreeMap::new(),
        }
    }

    /// Lines of these clients are taken; true when others are to be sent away by the next [`Board::tick`].
    pub fn expect(&mut self, clients: BTreeSet<Name>) -> bool {
        self.expected = clients;
        self.lately.retain(|client, _| self.expected.contains(client));
        self.lines.keys().any(|client| !self.expected.contains(client))
    }

    /// Whether a line of the client's waits.
    pub fn has(&self, client: &Name) -> bool {
        self.lines.contains_key(client)
    }

    /// The clients of which a line waits.
    pub fn here(&self) -> impl Iterator<Item = &Name> {
        self.lines.keys()
    }

    /// How long it is worth waiting for lines that are held at the gate.
    pub fn grace(&self, now: Instant) -> Duration {
        (self.begun + GRACE).saturating_duration_since(now)
    }

    /// How long it is worth waiting for a line of the client's.
    pub fn patience(&self, client: &Name, now: Instant) -> Duration {
        let lately = self.lately.get(client).is_some_and(|then| now.saturating_duration_since(*then) < LATELY);
        if self.has(client) || lately { MOMENT } else { self.grace(now) }
    }

    /// Somebody came in.
    pub fn came(&mut self, guest: u64, desk: Desk, now: Instant) -> Vec<Step> {
        let all = self.silent.len() + self.takers.len() + self.lines.values().map(Vec::len).sum::<usize>();
        // Ours are as many as there are workers, and are never turned away.
        if desk == Desk::Gate && (all >= self.most || self.silent.len() >= SILENT) {
            return vec![Step::Send { guest, away: Away::Line("the node has no room for another line now".into()) }];
        }
        self.silent.insert(guest, (desk, now + MANNERS));
        Vec::new()
    }

    /// Somebody who came in said this.
    pub fn said(&mut self, guest: u64, text: &str, now: Instant) -> Vec<Step> {
        let Some((desk, _)) = self.silent.remove(&guest) else { return Vec::new() };
        let client = Name::new(text).ok().filter(|client| self.expected.contains(client));
        match (desk, client) {
            (Desk::Gate, Some(client)) => {
                let lines = self.lines.entry(client.clone()).or_default();
                lines.push(guest);
                // The oldest is the one that is least likely to lead anywhere.
                let old = (lines.len() > LINES).then(|| lines.remove(0));
                let before = self.lately.insert(client.clone(), now);
                let news = before.is_none_or(|then| now.saturating_duration_since(then) >= LATELY);
                let away = old.map(|guest| Step::Send { guest, away: Away::Line("there are newer lines of this client".into()) });
                away.into_iter().chain(news.then_some(Step::Tell(client))).collect()
            }
            (Desk::Gate, None) => {
                vec![Step::Send { guest, away: Away::Line("the node's access list has nobody of this name who is to dial in".into()) }]
            }
            (Desk::Own, _) if text == super::WHO => {
                let lately =
                    self.lately.iter().filter(|(_, then)| now.saturating_duration_since(**then) < LATELY).map(|(client, _)| client);
                let here: BTreeSet<&Name> = self.lines.keys().chain(lately).collect();
                let all: String = here.into_iter().flat_map(|client| [client.as_str(), "\n"]).chain(["\n"]).collect();
                vec![Step::Send { guest, away: Away::Taker(all) }]
            }
            (Desk::Own, Some(client)) => {
                let until = now + self.patience(&client, now);
                self.takers.insert(guest, (client, until));
                Vec::new()
            }
            (Desk::Own, None) => {
                vec![Step::Send { guest, away: Away::Taker("the access list has nobody of this name who is to dial in".into()) }]
            }
        }
    }

    /// Somebody is gone.
    pub fn left(&mut self, guest: u64) {
        self.silent.remove(&guest);
        self.takers.remove(&guest);
        self.lines.retain(|_, lines| {
            lines.retain(|line| *line != guest);
            !lines.is_empty()
        });
    }

    /// What is due: lines for those who want them, the newest first, and the end of patience.
    pub fn tick(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        let gone: Vec<Name> = self.lines.keys().filter(|client| !self.expected.contains(client)).cloned().collect();
        for guest in gone.iter().filter_map(|client| self.lines.remove(client)).flatten() {
            steps.push(Step::Send { guest, away: Away::Line("the node takes no lines of this client any more".into()) });
        }
        let silent: Vec<u64> = self.silent.iter().filter(|(_, (_, until))| *until <= now).map(|(guest, _)| *guest).collect();
        for guest in silent {
            self.silent.remove(&guest);
            steps.push(Step::Send { guest, away: Away::Taker(String::new()) });
        }
        let takers: Vec<u64> = self.takers.keys().copied().collect();
        for to in takers {
            let Some((client, until)) = self.takers.get(&to) else { continue };
            if let Some(lines) = self.lines.get_mut(client)
                && let Some(line) = lines.pop()
            {
                if lines.is_empty() {
                    self.lines.remove(client);
                }
                self.lately.insert(client.clone(), now);
                self.takers.remove(&to);
                steps.push(Step::Hand { line, to });
            } else if *until <= now {
                let words = format!("{client} has not dialled in; its requests wait until it does");
                self.takers.remove(&to);
                steps.push(Step::Send { guest: to, away: Away::Taker(words) });
            }
        }
        steps
    }

    /// How long nothing is due by time alone; `None` where nothing will be.
    pub fn next_deadline(&self, now: Instant) -> Option<Duration> {
        let silent = self.silent.values().map(|(_, until)| *until);
        let takers = self.takers.values().map(|(_, until)| *until);
        silent.chain(takers).min().map(|until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn board(now: Instant) -> Board {
        let mut board = Board::new(now, 1000);
        board.expect(["web1", "web2"].map(name).into());
        board
    }

    fn line(board: &mut Board, guest: u64, client: &str, now: Instant) -> Vec<Step> {
        let mut steps = board.came(guest, Desk::Gate, now);
        steps.extend(board.said(guest, client, now));
        steps.extend(board.tick(now));
        steps
    }

    fn taker(board: &mut Board, guest: u64, client: &str, now: Instant) -> Vec<Step> {
        let mut steps = board.came(guest, Desk::Own, now);
        steps.extend(board.said(guest, client, now));
        steps.extend(board.tick(now));
        steps
    }

    #[test]
    fn lines_go_to_those_who_want_them() {
        let now = Instant::now();
        let mut board = board(now);
        assert_eq!(line(&mut board, 1, "web1", now), [Step::Tell(name("web1"))]);
        // Whoever comes again and again is no news.
        assert_eq!(line(&mut board, 2, "web1", now), []);
        // The newest one first, and nobody's but the client's.
        assert_eq!(taker(&mut board, 3, "web2", now), []);
        assert_eq!(taker(&mut board, 4, "web1", now), [Step::Hand { line: 2, to: 4 }]);
        assert_eq!(line(&mut board, 5, "web2", now), [Step::Tell(name("web2")), Step::Hand { line: 5, to: 3 }]);
        // A line that is gone is not handed out.
        board.left(1);
        assert_eq!(taker(&mut board, 6, "web1", now), []);
        assert_eq!(board.next_deadline(now), Some(MOMENT));
        let later = now + MOMENT;
        assert!(
            matches!(&board.tick(later)[..], [Step::Send { guest: 6, away: Away::Taker(words) }] if words.contains("has not dialled in"))
        );
    }

    #[test]
    fn nobody_waits_for_who_is_not_there() {
        let now = Instant::now();
        let mut board = board(now);
        // What is held at the gate comes soon after the start.
        assert_eq!(board.patience(&name("web1"), now), GRACE);
        let later = now + GRACE;
        assert_eq!(board.patience(&name("web1"), later), Duration::ZERO);
        assert!(matches!(&taker(&mut board, 1, "web1", later)[..], [Step::Send { guest: 1, .. }]));
        // Who has just been here opens another.
        line(&mut board, 2, "web1", later);
        board.left(2);
        assert_eq!(board.patience(&name("web1"), later), MOMENT);
        assert_eq!(board.patience(&name("web1"), later + LATELY), Duration::ZERO);
        assert_eq!(line(&mut board, 3, "web1", later + LATELY), [Step::Tell(name("web1"))]);
    }

    #[test]
    fn who_may_not_come_and_who_comes_too_often() {
        let now = Instant::now();
        let mut board = board(now);
        let sent = |steps: &[Step]| matches!(steps, [Step::Send { .. }]);
        for bad in ["web3", "", "?", "web1 ", "WEB1", "../web1"] {
            assert!(sent(&line(&mut board, 1, bad, now)), "{bad:?}");
        }
        for guest in 10..10 + LINES as u64 {
            line(&mut board, guest, "web1", now);
        }
        let over = line(&mut board, 99, "web1", now);
        assert!(matches!(&over[..], [Step::Send { guest: 10, away: Away::Line(_) }]), "{over:?}");
        // Many who say nothing: the crowd stays small, ours are let in, and the silent go.
        let crowd = (100..1000).filter(|guest| board.came(*guest, Desk::Gate, now).is_empty()).count();
        assert_eq!(crowd, SILENT);
        assert_eq!(taker(&mut board, 2000, "web1", now), [Step::Hand { line: 99, to: 2000 }]);
        assert_eq!(board.tick(now + MANNERS).len(), SILENT);
        // Out of the list, out of the house.
        assert!(board.expect([name("web2")].into()));
        assert_eq!(board.tick(now).len(), LINES - 1);
        assert!(!board.has(&name("web1")));
        let mut full = Board::new(now, 2);
        full.expect([name("web1")].into());
        line(&mut full, 1, "web1", now);
        line(&mut full, 2, "web1", now);
        assert!(sent(&full.came(3, Desk::Gate, now)));
    }

    #[test]
    fn who_is_there_is_told() {
        let now = Instant::now();
        let mut board = board(now);
        line(&mut board, 1, "web2", now);
        line(&mut board, 2, "web1", now);
        assert_eq!(taker(&mut board, 3, "?", now), [Step::Send { guest: 3, away: Away::Taker("web1\nweb2\n\n".into()) }]);
    }

    proptest! {
        /// Whatever happens in whatever order: a line is handed out once, to one who wants that client's, and nobody is forgotten.
        #[test]
        fn every_line_goes_once(events in prop::collection::vec((0u8..5, 0u64..12, 0u8..3), 0..80)) {
            let begun = Instant::now();
            let mut board = board(begun);
            let mut now = begun;
            let mut of: BTreeMap<u64, (Desk, &str)> = BTreeMap::new();
            let mut next = 0;
            for (what, who, whose) in events {
                let client = ["web1", "web2", "web3"][usize::from(whose)];
                let steps = match what {
                    0 | 1 => {
                        next += 1;
                        let desk = if what == 0 { Desk::Gate } else { Desk::Own };
                        of.insert(next, (desk, client));
                        if what == 0 { line(&mut board, next, client, now) } else { taker(&mut board, next, client, now) }
                    }
                    2 => {
                        board.left(who);
                        of.remove(&who);
                        board.tick(now)
                    }
                    _ => {
                        now += Duration::from_secs(who);
                        board.tick(now)
                    }
                };
                for step in steps {
                    match step {
                        Step::Hand { line, to } => {
                            let (line, to) = (of.remove(&line).unwrap(), of.remove(&to).unwrap());
                            prop_assert_eq!((line.0, to.0, line.1), (Desk::Gate, Desk::Own, to.1));
                        }
                        Step::Send { guest, .. } => prop_assert!(of.remove(&guest).is_some()),
                        Step::Tell(_) => {}
                    }
                }
            }
            let here = board.silent.len() + board.takers.len() + board.lines.values().map(Vec::len).sum::<usize>();
            prop_assert_eq!(here, of.len());
        }
    }
}
