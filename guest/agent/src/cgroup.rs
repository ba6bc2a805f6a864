//! One cgroup for each command: so that its whole tree can be killed, measured and kept from taking the machine with it.
//!
//! What always holds: a command is in its group before its program starts, and an unprivileged command cannot leave it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wire::Usage;

/// Where cgroup version 2 is mounted.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// Processes and threads a command may have: above what any real build uses, below what a 1 GiB guest can hold.
const MAX_PROCESSES: u32 = 8192;

/// Share of the memory that commands do not get, so that the kernel and the agent can go on when a command takes all: one
/// sixteenth.
const RESERVED_SHARE: u64 = 16;

/// Makes the controllers available to the groups below the root.
pub(crate) fn prepare() -> io::Result<()> {
    let control = Path::new(ROOT).join("cgroup.subtree_control");
    fs::write(&control, "+cpu +memory +pids +io")
        .map_err(crate::boot::doing(&format!("write {}", control.display())))
}

/// The group of one command; removed when dropped.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the group `name` with its limits.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        let path = Path::new(ROOT).join(name);
        fs::create_dir(&path)?;
        let group = Self { path };
        group.write(
            "memory.max",
            &(crate::memory::total()? / RESERVED_SHARE * (RESERVED_SHARE - 1)).to_string(),
        )?;
        // One process killed for memory is the end of the command, not of some compiler inside it.
        group.write("memory.oom.group", "1")?;
        group.write("pids.max", &MAX_PROCESSES.to_string())?;
        Ok(group)
    }

    /// The file into which a new process writes `0` to join.
    pub(crate) fn door(&self) -> io::Result<File> {
        File::options()
            .write(true)
            .open(self.path.join("cgroup.procs"))
    }

    /// Sends `signal` to every process in the group.
    pub(crate) fn signal(&self, signal: Signal) {
        let members = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.parse().ok()) {
            // Gone between the list and the signal: that is what was wanted.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Kills every process in the group, also those that are being forked at this moment, and waits until none is left.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.write("cgroup.kill", "1")?;
        let events = File::open(self.path.join("cgroup.events"))?;
        while self.field("cgroup.events", "populated") != Some(0) {
            let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            // The kernel wakes the poll at a change; the limit only guards against one that came between read and poll.
            match poll(&mut fds, PollTimeout::from(100_u8)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether the kernel killed it for want of memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        self.field("memory.events", "oom_kill")
            .is_some_and(|count| count > 0)
    }

    /// What the group has used so far; a value that the kernel does not give is 0.
    pub(crate) fn usage(&self) -> Usage {
        let peak = fs::read_to_string(self.path.join("memory.peak")).ok();
        Usage {
            cpu: Duration::from_micros(self.field("cpu.stat", "usage_usec").unwrap_or(0)),
            peak_memory_bytes: peak.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
            disk_written_bytes: self.written(),
        }
    }

    /// Sum of `wbytes=` over the devices of `io.stat`.
    fn written(&self) -> u64 {
        let text = fs::read_to_string(self.path.join("io.stat")).unwrap_or_default();
        let fields = text
            .split_whitespace()
            .filter_map(|field| field.strip_prefix("wbytes="));
        fields.filter_map(|bytes| bytes.parse::<u64>().ok()).sum()
    }

    /// The number behind `name` in a file of `name number` lines.
    fn field(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.path.join(file)).ok()?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.parse().ok()
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.path.join(file), value)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A group that is still populated stays; its number is not used again in this session.
        drop(fs::remove_dir(&self.path));
    }
}
