//! How large the workers are: `VmRSS` of `/proc/PID/status`, noted before each fault and at the end.

use std::fmt;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;

/// What the largest worker may have at the end over what the largest had after a third of the jobs: half as much again and 16 MiB. The
/// difference between two runs of one worker, and what an allocator keeps of a burst of uploads, is less; a worker that kept a part of each
/// of 100 jobs would have more.
const FACTOR: (u64, u64) = (3, 2);

/// See [`FACTOR`].
const SLACK_KIB: u64 = 16 << 10;

/// What was noted.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The largest that was noted when a third of the jobs had been done for the first time, and a little later, of each worker.
    third_kib: u64,
    /// The process ids that were noted at that moment.
    noted: Vec<Pid>,
    /// Of each worker what was noted last.
    last: Vec<(Pid, u64)>,
}

impl Memory {
    /// Notes the size of a worker, when of `progress.0` jobs `progress.1` were done.
    pub(super) fn note(&mut self, worker: Pid, progress: (usize, usize)) -> Result<()> {
        let size = resident_kib(worker)?;
        let (all, done) = progress;
        if done * 3 >= all && self.noted.len() < 2 && !self.noted.contains(&worker) {
            self.noted.push(worker);
            self.third_kib = self.third_kib.max(size);
        }
        self.last.push((worker, size));
        // Two workers: what is older is of no interest.
        if self.last.len() > 2 {
            self.last.remove(0);
        }
        Ok(())
    }

    /// Whether it is flat.
    pub(super) fn check(&self) -> Result<()> {
        let bound = self.third_kib * FACTOR.0 / FACTOR.1 + SLACK_KIB;
        ensure!(self.end_kib() <= bound, "{self}: more than {bound} KiB");
        Ok(())
    }

    fn end_kib(&self) -> u64 {
        let sizes = self.last.iter().map(|(_, size)| *size);
        sizes.max().unwrap_or(0)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (third, end) = (self.third_kib, self.end_kib());
        write!(
            formatter,
            "the largest worker has {third} KiB after a third of the jobs, {end} KiB at the end"
        )
    }
}

fn resident_kib(process: Pid) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.with_context(|| format!("{path} has no VmRSS"))?
        .parse()
        .with_context(|| format!("read VmRSS in {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_size() {
        assert!(resident_kib(Pid::this()).unwrap() > 100);
    }

    #[test]
    fn growth_beyond_the_bound_is_told() {
        let mut memory = Memory {
            third_kib: 60 << 10,
            last: vec![(Pid::this(), 106 << 10)],
            ..Memory::default()
        };
        memory.check().unwrap();
        memory.last[0].1 += 1;
        assert!(memory.check().is_err());
    }
}
