//! A QEMU process as what kills it sees it.
//!
//! ```text
//! owner's switch ─────────▶ kill ──▶ Exit::Killed
//! lifetime's end ─────────▶
//! the host's disk fails ──▶ kill ──▶ Exit::VmmFailed, with what failed
//! ```
//!
//! What always holds: it is killed by its process descriptor, which never comes to mean another process.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::Child;
use vm::KillSwitch;

/// The process, and what of this host's it died of.
#[derive(Debug)]
pub(super) struct Victim {
    id: u32,
    process: OwnedFd,
    broken: OnceLock<String>,
}

impl Victim {
    /// Of a child that nobody has waited for.
    pub(super) fn of(child: &Child) -> io::Result<Arc<Self>> {
        let id = child.id().expect("nobody has waited for it");
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        let pid = pid.expect("a process id is a positive i32");
        Ok(Arc::new(Self {
            id,
            // It is not reaped before it is waited for, so the number is its own until then.
            process: pidfd_open(pid, PidfdFlags::empty())?,
            broken: OnceLock::new(),
        }))
    }

    /// What kills it from anywhere.
    pub(super) fn kill_switch(self: &Arc<Self>) -> KillSwitch {
        let victim = Arc::clone(self);
        KillSwitch::new(format!("QEMU process {}", self.id), move || victim.kill())
    }

    /// Kills it because something of this host's is broken, which the guest could only have taken for its own.
    pub(super) fn give_up(&self, broken: String) {
        // The first is what the others follow from.
        let _ = self.broken.set(broken);
        self.kill();
    }

    /// What was broken, if that is why it was killed.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    fn kill(&self) {
        // It fails only where the process has ended.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }
}
