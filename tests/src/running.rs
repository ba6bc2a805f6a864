//! What it takes to stop a process that someone else started: its id, and when it began, so that no other process that
//! was given the same id later is hit.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::wait;

/// 10 s from `SIGKILL` to the end: what the kernel still has to write back.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A process that runs on its own. It can be written to a file and read by another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Name in messages.
    pub name: String,
    /// Process id.
    pub pid: i32,
    /// When it began, in clock ticks since the machine did (field 22 of `/proc/PID/stat`, proc(5)).
    pub started_ticks: u64,
    /// Files that it leaves behind when it is killed.
    pub leftovers: Vec<PathBuf>,
}

impl Running {
    /// The record of a process that runs now.
    pub fn of(name: &str, pid: Pid, leftovers: Vec<PathBuf>) -> Result<Self> {
        let started_ticks = started(pid).with_context(|| format!("{name} is not running"))?;
        Ok(Self {
            name: name.to_owned(),
            pid: pid.as_raw(),
            started_ticks,
            leftovers,
        })
    }

    /// Whether that very process still runs. One that has ended and that nobody has waited for does not.
    pub fn is_running(&self) -> bool {
        started(Pid::from_raw(self.pid)) == Some(self.started_ticks)
    }

    /// Asks it to end with `SIGTERM`, kills it after `grace`, and removes its leftovers. Nothing happens to a process that
    /// has ended already.
    pub async fn stop(&self, grace: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        if self.has_ended_within(grace).await.is_err() {
            self.signal(Signal::SIGKILL)?;
            self.has_ended_within(KILL_DEADLINE).await?;
        }
        for path in &self.leftovers {
            // It may never have been made.
            let _absent = fs::remove_file(path);
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("send {signal} to {}", self.name)),
        }
    }

    async fn has_ended_within(&self, deadline: Duration) -> Result<()> {
        let what = format!("{} ({}) to end", self.name, self.pid);
        wait::until(&what, deadline, async || {
            Ok((!self.is_running()).then_some(()))
        })
        .await
    }
}

/// When the process began, or `None` if it has ended.
fn started(pid: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything; the third, the state, follows it.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    // Field 22 of all, so 18 after the state.
    let started = fields.nth(18)?.parse().ok()?;
    (state != "Z").then_some(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_running_and_one_that_began_earlier_under_its_id_is_not() {
        let running = Running::of("test", Pid::this(), Vec::new()).unwrap();
        assert!(running.is_running());
        let earlier = Running {
            started_ticks: running.started_ticks - 1,
            ..running
        };
        assert!(!earlier.is_running());
    }

    #[tokio::test]
    async fn stopping_what_has_ended_removes_what_it_left() {
        let directory = tempfile::tempdir().unwrap();
        let leftover = directory.path().join("socket");
        fs::write(&leftover, "").unwrap();
        let running = Running {
            name: "gone".to_owned(),
            pid: Pid::this().as_raw(),
            started_ticks: 0,
            leftovers: vec![leftover.clone()],
        };
        running.stop(Duration::from_secs(1)).await.unwrap();
        assert!(!leftover.exists());
    }
}
