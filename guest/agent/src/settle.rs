//! Makes the guest ready to be frozen: everything on its disk, what is free of its disk given back, what is free of its memory zero.
//!
//! What programs left behind in memory that is free would be in every fork of the snapshot, and in the snapshot's size. A child of
//! this program takes the free memory, which the kernel clears for it, and exits; the pages return to the kernel as zeroes. The page
//! cache stays: forks start faster with it.
//!
//! ```text
//! sync ─▶ trim ─▶ watermarks low ─▶ child: take memory until little is left, exit ─▶ watermarks as they were
//! ```
//!
//! What always holds: nothing but the child can be killed for want of memory that it took; what cannot be done is reported and stops
//! nothing.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::wait::WaitStatus;
use wire::Settled;

use crate::memory;
use crate::operations::Failure;
use crate::reaper::Reaper;
use crate::session::{Channel, Event};
use crate::watermarks::Watermarks;

/// The argument that makes this program the child.
const ARGUMENT: &str = "take-free-memory";

/// This program, wherever its file is by now.
const MYSELF: &str = "/proc/self/exe";

/// 1 min for the child, and another for each GiB: ample, where a GiB takes 2.6 s under emulation, and 10 s on a busy machine.
const LIMIT_OF_GIB: Duration = Duration::from_mins(1);

/// 3 min at most: the host waits 5 min for all of this without a word, and writing back to the disk takes its part of them.
const MOST: Duration = Duration::from_mins(3);

/// 30 s for a killed child to be gone: the kernel takes its memory back first.
const DYING: Duration = Duration::from_secs(30);

/// `FITRIM` of linux/fs.h: `_IOWR('X', 121, struct fstrim_range)`.
const TRIM: libc::Ioctl = 0xc018_5879_u64 as libc::Ioctl;

/// `struct fstrim_range` of linux/fs.h.
#[repr(C)]
struct TrimRange {
    start: u64,
    /// How many bytes; afterwards how many were trimmed.
    length: u64,
    /// Smaller pieces are left.
    smallest: u64,
}

/// Does all of it.
pub(crate) fn settle(channel: &mut Channel, reaper: &Reaper) -> Result<Settled, Failure> {
    let begun = Instant::now();
    nix::unistd::sync();
    let (trimmed_bytes, not_trimmed) = match trim("/") {
        Ok(bytes) => (bytes, None),
        Err(error) => (0, Some(format!("trim the root filesystem: {error}"))),
    };
    let (zeroed_bytes, not_zeroed) = match take_free_memory(channel, reaper) {
        Ok(bytes) => (bytes, None),
        Err(Failure::Problem(problem)) => (0, Some(problem)),
        Err(Failure::Gone) => return Err(Failure::Gone),
    };
    // A failure of either leaves the other done.
    let problems: Vec<String> = not_trimmed.into_iter().chain(not_zeroed).collect();
    Ok(Settled {
        zeroed_bytes,
        left_bytes: memory::free().unwrap_or(0).saturating_sub(zeroed_bytes),
        trimmed_bytes,
        took: begun.elapsed(),
        problem: (!problems.is_empty()).then(|| problems.join("; ")),
    })
}

/// Tells the disk which blocks of the filesystem at `path` are unused; gives the number of bytes.
fn trim(path: &str) -> std::io::Result<u64> {
    let root = File::open(path)?;
    let mut range = TrimRange {
        start: 0,
        length: u64::MAX,
        smallest: 0,
    };
    // SAFETY: the request reads and writes one fstrim_range, which lives until it returns.
    #[expect(unsafe_code, reason = "FITRIM has no wrapper")]
    let trimmed = unsafe { libc::ioctl(root.as_raw_fd(), TRIM, &raw mut range) };
    if trimmed < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(range.length)
    }
}

/// Has a child take the free memory; gives the number of bytes that it took.
fn take_free_memory(channel: &mut Channel, reaper: &Reaper) -> Result<u64, Failure> {
    let lowered = Watermarks::lower().map_err(Failure::doing("lower the watermarks"))?;
    let mut command = Command::new(MYSELF);
    command
        .arg(ARGUMENT)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let child = reaper.spawn(&mut command, channel.half().events());
    let mut child = child.map_err(Failure::doing("start the child that takes free memory"))?;
    let ended = wait(channel, &child, limit(memory::total().unwrap_or(0)));
    drop(lowered);
    let status = ended?;
    let mut text = String::new();
    if let Some(stdout) = &mut child.stdout {
        let read = stdout.read_to_string(&mut text);
        read.map_err(Failure::doing("read how much memory was taken"))?;
    }
    let taken = text.trim().parse();
    taken.map_err(|_| Failure::Problem(format!("the child that takes free memory: {status:?}")))
}

/// How long the child may take in a machine with `total` bytes of memory.
fn limit(total: u64) -> Duration {
    let gib = u32::try_from(total.div_ceil(1 << 30)).unwrap_or(u32::MAX);
    LIMIT_OF_GIB.saturating_mul(gib.saturating_add(1)).min(MOST)
}

/// Waits for the child's end; brings it about when its time is over, or when nobody waits for the answer.
fn wait(channel: &mut Channel, child: &Child, limit: Duration) -> Result<WaitStatus, Failure> {
    let mut until = Instant::now() + limit;
    let kill = || {
        let child = nix::unistd::Pid::from_raw(child.id().cast_signed());
        // Gone already: that is what was wanted.
        let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
    };
    let mut late = false;
    loop {
        match channel.next_within(until.saturating_duration_since(Instant::now())) {
            Some(Event::Exited(status)) => return Ok(status),
            Some(Event::Gone) => {
                kill();
                return Err(Failure::Gone);
            }
            None if late => return Err(Failure::Problem("the child does not end".into())),
            None => {
                late = true;
                kill();
                until = Instant::now() + DYING;
            }
            Some(Event::Message(_) | Event::Data(_) | Event::Closed | Event::SaidAll) => {}
        }
    }
}

/// Whether this process is the child.
pub(crate) fn is_child(argument: Option<&OsStr>) -> bool {
    argument.is_some_and(|argument| argument == ARGUMENT)
}

/// The child: takes memory, says how much, and gives it back by its end.
pub(crate) fn child() -> ExitCode {
    match memory::take() {
        Ok(bytes) => {
            println!("{bytes}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sourdough-agent: take free memory: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_machine_gets_more_time_but_less_than_the_host_waits() {
        let minutes = |gib: u64| limit(gib << 30).as_secs() / 60;
        assert_eq!([0, 1, 2, 3, 64].map(minutes), [1, 2, 3, 3, 3]);
    }
}
