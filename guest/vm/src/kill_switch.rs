//! What ends a VM from any thread, whatever its owner is doing.
//!
//! A [`crate::Vm`] is ended by its owner, in the async runtime; when that is wedged, or the owner must not be waited for, the
//! switch is what is left.
//!
//! What always holds: a switch kills its own VM and nothing else, also when that VM has long ended; it needs no runtime and
//! waits for nothing that a guest or a network could delay.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Kills one VM. Clones kill the same one. Keeping a switch keeps nothing of the VM alive.
#[derive(Clone)]
pub struct KillSwitch {
    shared: Arc<Shared>,
}

struct Shared {
    what: String,
    pulled: AtomicBool,
    kill: Box<dyn Fn() + Send + Sync>,
}

impl KillSwitch {
    /// For drivers: a switch for `what`, as a log line would name it. `kill` is called each time the switch is used, from any
    /// thread: it needs no runtime, does nothing to a VM that has ended, and never anything to another.
    pub fn new(what: impl Into<String>, kill: impl Fn() + Send + Sync + 'static) -> Self {
        let shared = Shared {
            what: what.into(),
            pulled: AtomicBool::new(false),
            kill: Box::new(kill),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Kills the VM now; its session ends, and [`crate::Vm::stop`] then says [`crate::Exit::Killed`]. Does nothing to a VM
    /// that has ended.
    pub fn kill(&self) {
        // Before the blow, so that whoever sees the VM dead sees why.
        self.shared.pulled.store(true, Ordering::SeqCst);
        (self.shared.kill)();
    }

    /// Whether the switch was used, before the VM's end or after.
    pub fn is_pulled(&self) -> bool {
        self.shared.pulled.load(Ordering::SeqCst)
    }
}

/// What it kills.
impl fmt::Display for KillSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shared.what)
    }
}

impl fmt::Debug for KillSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KillSwitch")
            .field("what", &self.shared.what)
            .field("pulled", &self.is_pulled())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn every_clone_of_a_switch_kills_the_same_vm() {
        let (kill, killed) = channel();
        let switch = KillSwitch::new("a test's VM", move || kill.send(()).unwrap());
        assert!(!switch.is_pulled());
        switch.clone().kill();
        switch.kill();
        assert!(switch.is_pulled());
        assert_eq!(killed.try_iter().count(), 2);
    }
}
