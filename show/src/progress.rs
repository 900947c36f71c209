//! Progress: a line on a terminal for work that lasts over a second, now and then a line in the log where one is wanted, and
//! silence everywhere else.
//!
//! Does not know what is being done: it shows what a library tells its `Monitor`.

use base::{ByteSize, Error, Monitor};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Work that is done sooner than this shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the line is drawn.
const DRAWN: Duration = Duration::from_millis(200);
/// How often the log hears of work that goes on.
const LOGGED: Duration = Duration::from_secs(30);
/// The rate is that of so long.
const RECENT: Duration = Duration::from_secs(5);

/// The lines of all that goes on in this process.
static LINES: LazyLock<MultiProgress> = LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));

/// Prints something while lines of progress may be shown: they make way for it.
pub fn aside<T>(print: impl FnOnce() -> T) -> T {
    LINES.suspend(print)
}

/// Says what is going on for as long as it lives.
#[derive(Debug)]
pub struct Progress {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    entries: AtomicU64,
    task: Mutex<Task>,
    changed: Condvar,
}

/// What is going on.
#[derive(Debug, Default, Clone)]
struct Task {
    /// Who does it, where several things go on at once.
    who: String,
    name: String,
    total: Option<u64>,
    /// Counts tasks.
    number: u64,
    over: bool,
}

impl Shared {
    fn task(&self) -> MutexGuard<'_, Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// One that shows nothing but what it is told.
    pub fn new() -> Self {
        Self::of("")
    }

    /// One that says before everything whom it is about, because others may go on beside it.
    pub fn of(who: &str) -> Self {
        let shared = Arc::new(Shared::default());
        shared.task().who = if who.is_empty() { String::new() } else { format!("{}: ", base::text::printable(who)) };
        let watched = std::io::stderr().is_terminal();
        // Nobody pays for what nobody sees.
        let thread = (watched || tracing::enabled!(tracing::Level::INFO)).then(|| {
            let (shared, span) = (Arc::clone(&shared), tracing::Span::current());
            std::thread::spawn(move || span.in_scope(|| if watched { draw(&shared) } else { log(&shared) }))
        });
        Self { shared, thread }
    }

    /// Shows `text` as what is going on now.
    pub fn say(&self, text: &str) {
        self.task(text, None);
    }
}

impl Monitor for Progress {
    fn task(&self, name: &str, total: Option<u64>) {
        let name = base::text::printable(name);
        let mut task = self.shared.task();
        tracing::info!("{}{name}", task.who);
        *task = Task { name, total, number: task.number + 1, ..task.clone() };
        self.shared.bytes.store(0, Ordering::Relaxed);
        self.shared.entries.store(0, Ordering::Relaxed);
    }

    fn bytes(&self, bytes: u64) {
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn entries(&self, entries: u64) {
        self.shared.entries.fetch_add(entries, Ordering::Relaxed);
    }

    fn note(&self, text: &str) {
        let _ = aside(|| writeln!(std::io::stderr().lock(), "nightsafe: {}", base::text::printable(text)));
    }

    fn problem(&self, error: &Error) {
        tracing::warn!("{}", error.one_line());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.task().over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It clears its line; what is printed next begins there.
            let _ = thread.join();
        }
    }
}

/// Waits for so long; what is going on then, unless it is over.
fn later(shared: &Shared, time: Duration) -> Option<Task> {
    let (task, _) = shared.changed.wait_timeout_while(shared.task(), time, |task| !task.over).unwrap_or_else(PoisonError::into_inner);
    (!task.over).then(|| task.clone())
}

/// Keeps a line on the terminal.
fn draw(shared: &Shared) {
    let mut speed = Speed::default();
    if later(shared, PATIENCE).is_none() {
        return;
    }
    let line = LINES.add(ProgressBar::no_length());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
        line.set_style(style);
    }
    while let Some(task) = later(shared, DRAWN) {
        line.set_message(words(shared, &task, &mut speed));
        line.tick();
    }
    line.finish_and_clear();
    LINES.remove(&line);
}

/// Tells the log that it still goes on.
fn log(shared: &Shared) {
    let mut speed = Speed::default();
    while let Some(task) = later(shared, LOGGED) {
        tracing::info!("{}", words(shared, &task, &mut speed));
    }
}

fn words(shared: &Shared, task: &Task, speed: &mut Speed) -> String {
    let (bytes, entries) = (shared.bytes.load(Ordering::Relaxed), shared.entries.load(Ordering::Relaxed));
    let rate = speed.of(task.number, bytes, Instant::now());
    format!("{}{}", task.who, describe(&task.name, entries, bytes, task.total, rate))
}

/// How fast it was lately.
#[derive(Debug, Default)]
struct Speed {
    number: u64,
    seen: VecDeque<(Instant, u64)>,
}

impl Speed {
    /// Bytes a second of this task, where that can be told.
    fn of(&mut self, number: u64, bytes: u64, now: Instant) -> Option<u64> {
        if self.number != number {
            *self = Self { number, seen: VecDeque::new() };
        }
        self.seen.push_back((now, bytes));
        // The first one stays that is older than the span, so that slow drawing still spans it.
        while self.seen.get(1).is_some_and(|(time, _)| now.duration_since(*time) >= RECENT) {
            self.seen.pop_front();
        }
        let (since, before) = self.seen.front()?;
        let millis = u64::try_from(now.duration_since(*since).as_millis()).ok().filter(|millis| *millis > 0)?;
        Some(bytes.saturating_sub(*before).saturating_mul(1000) / millis)
    }
}

/// What is going on, in one line: how much of it is done, how fast, and how long it takes yet.
fn describe(name: &str, entries: u64, bytes: u64, total: Option<u64>, rate: Option<u64>) -> String {
    let mut text = name.to_owned();
    if entries > 0 {
        text.push_str(&format!(", {entries} {}", if entries == 1 { "entry" } else { "entries" }));
    }
    match (bytes, total) {
        (0, None) => return text,
        (_, Some(total)) => text.push_str(&format!(", {} of {}", ByteSize(bytes), ByteSize(total))),
        (_, None) => text.push_str(&format!(", {}", ByteSize(bytes))),
    }
    let Some(rate) = rate.filter(|rate| *rate > 0) else { return text };
    text.push_str(&format!(", {}/s", ByteSize(rate)));
    if let Some(total) = total {
        text.push_str(&format!(", {} left", time(total.saturating_sub(bytes) / rate)));
    }
    text
}

fn time(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_how_fast_and_how_long() {
        let mib = 1 << 20;
        let cases = [
            (describe("listing", 0, 0, None, None), "listing"),
            (describe("reading", 1, 5 * mib, None, Some(mib)), "reading, 1 entry, 5.0 MiB, 1.0 MiB/s"),
            (
                describe("reading", 20, 5 * mib, Some(25 * mib), Some(2 * mib)),
                "reading, 20 entries, 5.0 MiB of 25.0 MiB, 2.0 MiB/s, 10 s left",
            ),
            (describe("x", 0, 0, Some(9 * mib), Some(0)), "x, 0 B of 9.0 MiB"),
            // More than was said is no reason to fall over.
            (describe("x", 0, 2 * mib, Some(mib), Some(mib)), "x, 2.0 MiB of 1.0 MiB, 1.0 MiB/s, 0 s left"),
            (describe("x", 0, 0, Some(u64::MAX), Some(mib << 20)), "x, 0 B of 16777216.0 TiB, 1.0 TiB/s, 4660 h 20 min left"),
        ];
        for (text, expected) in cases {
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn the_speed_is_that_of_the_last_seconds() {
        let (begin, mut speed) = (Instant::now(), Speed::default());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        assert_eq!(speed.of(1, 0, at(0)), None);
        assert_eq!(speed.of(1, 1000, at(1)), Some(1000));
        for second in 2..20 {
            speed.of(1, 1000, at(second));
        }
        assert_eq!(speed.of(1, 1000, at(20)), Some(0), "it stands still");
        assert_eq!(speed.of(2, 0, at(21)), None, "another task");
    }

    #[test]
    fn who_waits_for_the_next_look_hears_that_it_is_over() {
        let shared = Arc::new(Shared::default());
        let (told, ended) = std::sync::mpsc::channel();
        let (progress, waiting) = (Progress { shared: Arc::clone(&shared), thread: None }, shared);
        progress.task("x", None);
        let thread = std::thread::spawn(move || told.send(later(&waiting, Duration::from_secs(86_400)).map(|task| task.name)));
        // That it waits nobody can see. Should it come later, it need not be told.
        std::thread::sleep(Duration::from_millis(50));
        drop(progress);
        assert_eq!(ended.recv_timeout(Duration::from_secs(300)), Ok(None));
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn what_shows_it_ends_with_it() {
        for show in [draw, log] {
            let shared = Arc::new(Shared::default());
            let shown = Arc::clone(&shared);
            let progress = Progress { shared, thread: Some(std::thread::spawn(move || show(&shown))) };
            progress.task("x", Some(5));
            progress.bytes(5);
            progress.entries(1);
            let (told, ended) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                drop(progress);
                told.send(())
            });
            assert_eq!(ended.recv_timeout(Duration::from_secs(240)), Ok(()));
        }
    }
}
