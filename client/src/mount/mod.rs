//! Snapshots as folders and files of a read-only file system (FUSE).
//!
//! `above` makes the folders that lead to them, `snapshots` proves and opens them, `nodes` numbers what was shown, `content`
//! reads open files, `view` answers the kernel. What the kernel asks for is read when it asks, and nothing before.

mod above;
mod attr;
mod content;
mod nodes;
mod snapshots;
mod view;

pub use snapshots::Snapshots;

use crate::output;
use base::{At, Error, Exit, Result};
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use view::View;

/// Where the kernel takes file systems from programs.
const DEVICE: &str = "/dev/fuse";
/// How many things the kernel may ask for at once.
const THREADS: usize = 4;
/// How long it is waited for those who still use it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Shows `snapshots` in `folder` until a signal comes or somebody unmounts it.
///
/// # Errors
/// Of kind usage where nothing can be mounted there; otherwise as mounting fails.
pub fn run(snapshots: Snapshots, folder: &Path, everybody: bool) -> Result<Exit> {
    check(folder)?;
    let offered = snapshots.offered();
    let shown = offered.iter().filter(|one| above::is_archive(one)).count() as u64;
    let mirrors = offered.len() as u64 - shown;
    drop(offered);
    let (end, ended) = channel();
    let mut signals = crate::interrupt::signals()?;
    let stop = signals.handle();

    let waiting = std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _ = end.send(());
        }
    });
    let session = Session::new(View::new(snapshots), folder, &config(everybody)).and_then(Session::spawn);
    let session = session.map_err(|e| refused(folder, everybody, e))?;
    output::line(format_args!(
        "{} in {}. Ctrl-C ends it, and so does: {}",
        output::count(shown, "snapshot", "snapshots"),
        folder.display(),
        unmounting(folder)
    ));
    if mirrors > 0 {
        let snapshots = output::count(mirrors, "snapshot of a git mirror is", "snapshots of git mirrors are");
        output::note(format_args!("nightsafe: {snapshots} not shown; restore clones them."));
    }
    while !session.guard.is_finished() && ended.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Timeout) {}
    stop.close();
    let _ = waiting.join();
    unmount(session, folder);
    Ok(Exit::Done)
}

/// Whether something can be mounted there.
fn check(folder: &Path) -> Result<()> {
    if !Path::new(DEVICE).exists() {
        return Err(Error::usage(format!("this machine has no {DEVICE}"))
            .hint("Load the kernel's module with modprobe fuse. In a container, let it have that device; or restore instead."));
    }
    let mut entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {
            return Err(Error::usage(format!("{} is what a mount left behind that was killed", folder.display()))
                .hint(format!("Remove it with: {}", unmounting(folder))));
        }
        other => other.at("read", folder)?,
    };
    if entries.next().is_some() {
        return Err(
            Error::usage(format!("{} is not empty", folder.display())).hint("Mount on an empty folder: what is in it would be hidden.")
        );
    }
    Ok(())
}

/// What a person types to unmount it.
fn unmounting(folder: &Path) -> String {
    let program = if rustix::process::getuid().is_root() { "umount" } else { "fusermount3 -u" };
    format!("{program} {}", folder.display())
}

fn config(everybody: bool) -> Config {
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::RO, MountOption::NoSuid, MountOption::NoDev, MountOption::NoAtime, MountOption::FSName("nightsafe".into())];
    if everybody {
        // Then modes and owners decide, as they did where it was backed up.
        config.mount_options.push(MountOption::DefaultPermissions);
        config.acl = SessionACL::All;
    }
    config.n_threads = Some(THREADS);
    config
}

fn refused(folder: &Path, everybody: bool, error: std::io::Error) -> Error {
    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let failed = Error::failed(format!("nothing could be mounted on {}", folder.display())).because(error);
    if everybody && denied {
        failed.hint("--allow-other needs the line user_allow_other in /etc/fuse.conf, or root.")
    } else {
        failed.hint("Without root it takes a /dev/fuse that everybody may open, the program fusermount3, from the package fuse3, and a folder of your own.")
    }
}

/// Unmounts it, also where somebody still uses it: then it goes from its folder now, and programs that have files of it
/// open get errors.
fn unmount(session: BackgroundSession, folder: &Path) {
    let (done, joined) = channel();
    let _ = std::thread::Builder::new().name("unmount".into()).spawn(move || {
        let _ = done.send(session.umount_and_join());
    });
    if !matches!(joined.recv_timeout(PATIENCE), Ok(Ok(()))) {
        let _ = rustix::mount::unmount(folder, rustix::mount::UnmountFlags::DETACH);
        output::note(format_args!("nightsafe: {} was still in use; it is unmounted all the same.", folder.display()));
    }
}
