//! Progress on a terminal for work that lasts over a second; silence everywhere else.
//!
//! Does not know what is being done: it shows what a library tells its `Monitor`.

use base::{ByteSize, Error, Monitor};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Work that is done sooner than this shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// A line on stderr that says what is going on.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Whether somebody looks; asked once, because it is a system call and files are many.
    watched: bool,
    since: Instant,
    bytes: AtomicU64,
    entries: AtomicU64,
    task: Mutex<(String, Option<u64>)>,
}

impl Progress {
    /// One that is shown on a terminal, after a second, and nowhere else.
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            watched: super::output::watched(),
            since: Instant::now(),
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            task: Mutex::default(),
        }
    }

    /// Shows `text` as what is going on now.
    pub fn say(&self, text: &str) {
        self.task(text, None);
    }

    fn show(&self) {
        if !self.watched || self.since.elapsed() < PATIENCE {
            return;
        }
        if self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let (bytes, entries) = (self.bytes.load(Ordering::Relaxed), self.entries.load(Ordering::Relaxed));
        let Ok(task) = self.task.lock() else { return };
        let mut text = task.0.clone();
        if entries > 0 {
            text.push_str(&format!(", {entries} entries"));
        }
        match (bytes, task.1) {
            (0, _) => {}
            (_, Some(total)) => text.push_str(&format!(", {} of {}", ByteSize(bytes), ByteSize(total))),
            (_, None) => text.push_str(&format!(", {}", ByteSize(bytes))),
        }
        drop(task);
        self.bar.set_message(text);
        self.bar.tick();
    }
}

impl Monitor for Progress {
    fn task(&self, name: &str, total: Option<u64>) {
        if let Ok(mut task) = self.task.lock() {
            *task = (base::text::printable(name), total);
        }
        self.bytes.store(0, Ordering::Relaxed);
        self.entries.store(0, Ordering::Relaxed);
        self.show();
    }

    fn bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.show();
    }

    fn entries(&self, entries: u64) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.show();
    }

    fn note(&self, text: &str) {
        self.bar.suspend(|| super::output::note(format_args!("nightsafe: {}", base::text::printable(text))));
    }

    fn problem(&self, error: &Error) {
        tracing::warn!("{}", error.one_line());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
