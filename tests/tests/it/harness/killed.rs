//! Programs that are killed when the test is over, however it ends.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};

/// A program that stays. It is killed, with what it started and did not send into the background, when this goes.
pub struct Killed(Option<Child>);

impl Killed {
    /// Starts it, in a process group of its own.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let child = command.process_group(0).spawn();
        Self(Some(child.unwrap_or_else(|error| panic!("{command:?}: {error}"))))
    }

    /// The program itself: its id, its pipes, and a way to kill it alone.
    pub fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it is taken by what ends it alone")
    }

    /// Waits for an end that it comes to by itself, or by a signal that was sent before.
    pub fn wait(mut self) -> ExitStatus {
        let mut child = self.0.take().expect("it is taken here alone");
        child.wait().unwrap()
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = rustix::process::kill_process_group(rustix::process::Pid::from_child(child), rustix::process::Signal::KILL);
            let _ = child.wait();
        }
    }
}
