//! Every child is reaped: commands, and the orphans that become children of PID 1.
//!
//! What always holds: a command's status reaches whoever started it, because a child is registered before it can be
//! reaped: both happen under one lock.

use std::collections::HashMap;
use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::session::Event;

/// Starts children and reaps them; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Reaper {
    waiting: Arc<Mutex<HashMap<Pid, Sender<Event>>>>,
}

impl Reaper {
    /// Starts the thread that reaps. To be called before there are other threads: SIGCHLD is blocked for all of them, so
    /// that it waits for this one. (A started program gets an empty mask from the standard library.)
    pub(crate) fn start() -> io::Result<Self> {
        let mut child_signal = SigSet::empty();
        child_signal.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&child_signal), None)?;
        let reaper = Self {
            waiting: Arc::default(),
        };
        let own = reaper.clone();
        std::thread::Builder::new()
            .name("reaper".into())
            .spawn(move || {
                loop {
                    // An error here (there is none for a valid set) would only mean to look once more.
                    let _ = child_signal.wait();
                    own.reap();
                }
            })?;
        Ok(reaper)
    }

    /// Starts `command`; its end goes to `events`.
    pub(crate) fn spawn(&self, command: &mut Command, events: Sender<Event>) -> io::Result<Child> {
        let mut waiting = self.waiting.lock().expect("no holder panics");
        let child = command.spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        waiting.insert(pid, events);
        Ok(child)
    }

    /// Reaps all that can be reaped: signals of one kind merge, so one signal may mean many children.
    fn reap(&self) {
        loop {
            let mut waiting = self.waiting.lock().expect("no holder panics");
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(status) => {
                    let owner = status.pid().and_then(|pid| waiting.remove(&pid));
                    if let Some(owner) = owner {
                        // Its channel may be gone; then nobody waits.
                        drop(owner.send(Event::Exited(status)));
                    }
                }
                Err(_) => {}
            }
        }
    }
}
