//! `receipts-wait`: held open by a client that waits, and answered the moment its receipts change.
//!
//! Only a wake-up: it tells the tip's id, and the client fetches. Reads the ref by itself, so that a thousand waiting
//! clients are a thousand sleeping processes and not a thousand gits.

use crate::{handover, refs};
use base::{At, Exit, Result};
use notify::{RecursiveMode, Watcher};
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(600);
/// How often it is looked at without a wake-up: notifications are lost over some file systems.
const LOOK: Duration = Duration::from_secs(5);
/// The same where nothing notifies: a client that waits for its first receipt has no repository yet, and a machine gives out so many
/// watches and no more.
const LOOK_BLINDLY: Duration = Duration::from_millis(200);

enum Event {
    Changed,
    Gone,
}

/// Waits until the receipts at `repository` are at another commit than `known`, and prints that one; after
/// [`LONGEST`], or when the other end closes its side, whatever it is then.
///
/// # Errors
/// With the path.
pub fn receipts(repository: &Path, known: &str) -> Result<ExitCode> {
    let (sender, events) = channel();
    let changed = sender.clone();
    let mut watcher = None;
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock().take(1 << 20), &mut std::io::sink());
        let _ = sender.send(Event::Gone);
    });
    let deadline = Instant::now() + LONGEST;
    let found = loop {
        let there = repository.join("refs/heads").is_dir();
        // Before the look, so that nothing falls between the two.
        if watcher.is_none() && there {
            watcher = watch(repository, changed.clone());
        }
        let tip = refs::tip(repository, "receipts")?.unwrap_or_else(|| handover::NOTHING.into());
        let left = deadline.saturating_duration_since(Instant::now());
        if tip != known || left.is_zero() {
            break tip;
        }
        let look = if watcher.is_some() { LOOK } else { LOOK_BLINDLY };
        if matches!(events.recv_timeout(left.min(look)), Ok(Event::Gone)) {
            break tip;
        }
    };
    writeln!(std::io::stdout(), "{found}").at("write to", "stdout")?;
    Ok(Exit::Done.into())
}

fn watch(repository: &Path, sender: Sender<Event>) -> Option<notify::RecommendedWatcher> {
    let tell = move |event: notify::Result<notify::Event>| {
        // That the ref was read, by ourselves above all, is no news.
        if event.is_ok_and(|event| event.kind.is_create() || event.kind.is_modify() || event.kind.is_remove()) {
            let _ = sender.send(Event::Changed);
        }
    };
    let mut watcher = notify::recommended_watcher(tell).ok()?;
    for folder in [repository.join("refs/heads"), repository.to_owned()] {
        watcher.watch(&folder, RecursiveMode::NonRecursive).ok()?;
    }
    Some(watcher)
}
