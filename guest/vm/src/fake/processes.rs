//! The processes of one fake guest, by process group.
//!
//! What always holds: a group is signalled only while its leader is not reaped, so its number cannot have gone to
//! somebody else; after [`Processes::kill_all`] none is started any more.

use std::collections::HashSet;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// How long the kernel may take to end what was killed. It takes microseconds; a process that hangs in the host's disk is
/// left to it.
const DYING: Duration = Duration::from_secs(2);

/// The groups of a guest's running commands; `None` once the guest is at its end.
#[derive(Debug)]
pub(super) struct Processes {
    groups: Mutex<Option<HashSet<Pid>>>,
}

impl Default for Processes {
    fn default() -> Self {
        Self {
            groups: Mutex::new(Some(HashSet::new())),
        }
    }
}

impl Processes {
    /// Starts a command that leads a process group of its own.
    pub(super) fn spawn(self: &Arc<Self>, command: &mut Command) -> io::Result<(Child, Group)> {
        let mut groups = self.lock();
        let groups = groups
            .as_mut()
            .ok_or_else(|| io::Error::other("the guest is at its end"))?;
        let child = command.spawn()?;
        let id = i32::try_from(child.id()).expect("a process id is a positive i32");
        let id = Pid::from_raw(id);
        groups.insert(id);
        let processes = Arc::clone(self);
        Ok((child, Group { id, processes }))
    }

    /// Kills every process and lets no new one start; returns once they are dead.
    pub(super) fn kill_all(&self) {
        let mut lock = self.lock();
        let groups = lock.take().unwrap_or_default();
        for group in &groups {
            // None is reaped before the lock is given back, so each still has its number.
            let _ = killpg(*group, Signal::SIGKILL);
        }
        drop(lock);
        let patience = Instant::now() + DYING;
        while groups.iter().any(|group| is_alive(*group)) && Instant::now() < patience {
            std::thread::yield_now();
        }
    }

    fn signal(&self, group: Pid, signal: Signal) {
        if let Some(groups) = &*self.lock()
            && groups.contains(&group)
        {
            // A group whose last process is just ending has nobody to be told.
            let _ = killpg(group, signal);
        }
    }

    /// Kills what is left of a group and forgets it.
    fn retire(&self, group: Pid) {
        if let Some(groups) = &mut *self.lock()
            && groups.remove(&group)
        {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashSet<Pid>>> {
        self.groups
            .lock()
            .expect("nothing panics while it holds the groups")
    }
}

/// A running command's process group. Dropping it kills the group.
#[derive(Debug)]
pub(super) struct Group {
    id: Pid,
    processes: Arc<Processes>,
}

impl Group {
    /// Sends a signal to every process in it.
    pub(super) fn signal(&self, signal: Signal) {
        self.processes.signal(self.id, signal);
    }

    /// What [`Waiter::wait`] needs, for a thread of its own.
    pub(super) fn waiter(&self, child: Child) -> Waiter {
        Waiter {
            child,
            id: self.id,
            processes: Arc::clone(&self.processes),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.processes.signal(self.id, Signal::SIGKILL);
    }
}

/// The end of a command, to be waited for on a thread that may block.
#[derive(Debug)]
pub(super) struct Waiter {
    child: Child,
    id: Pid,
    processes: Arc<Processes>,
}

impl Waiter {
    /// Waits for the main process, kills what it left, and reaps it, in this order: while it is not reaped, the group's
    /// number is its own.
    pub(super) fn wait(mut self) -> ExitStatus {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while let Err(nix::errno::Errno::EINTR) = waitid(Id::Pid(self.id), flags) {}
        self.processes.retire(self.id);
        let status = self
            .child
            .wait()
            .unwrap_or_else(|_| ExitStatus::from_raw(Signal::SIGKILL as i32));
        let patience = Instant::now() + DYING;
        while is_alive(self.id) && Instant::now() < patience {
            std::thread::yield_now();
        }
        status
    }
}

/// Whether a group has a process that is not a zombie. Nobody may be there to reap those whose parent has ended.
fn is_alive(group: Pid) -> bool {
    if killpg(group, None).is_err() {
        return false;
    }
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return false;
    };
    processes
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .any(|stat| is_member(&stat, group).unwrap_or(false))
}

/// Reads `/proc/PID/stat`: `id (name) state parent group …`, where the name may hold anything.
fn is_member(stat: &str, group: Pid) -> Option<bool> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let id = fields.nth(1)?.parse().ok()?;
    Some(Pid::from_raw(id) == group && !matches!(state, "Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_no_living_member_of_its_group() {
        let group = Pid::from_raw(42);
        assert_eq!(is_member("43 (a ) b) S 1 42 42 0", group), Some(true));
        assert_eq!(is_member("43 (a ) b) Z 1 42 42 0", group), Some(false));
        assert_eq!(is_member("43 (sh) S 1 7 42 0", group), Some(false));
        assert_eq!(is_member("", group), None);
    }
}
