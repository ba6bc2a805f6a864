//! How large the workers are, noted before each fault and at the end.
//!
//! What always holds: sizes are compared within one life of a worker, from when it has warmed up to its end; lives that were too short to
//! say anything are not counted.

use std::fmt;

use anyhow::{Result, ensure};
use nix::unistd::Pid;

use crate::resident::resident_kib;

/// After 10 jobs of its life a worker has made what it makes once: connections, threads, the first snapshot in its cache.
const WARM: usize = 10;

/// 20 jobs more, before the size of a life says something.
const LONG: usize = 20;

/// What a worker may have at the end of its life over what it had when it was warm: half as much again and 16 MiB. What an allocator
/// keeps of a burst of uploads is less; small leaks are for a worker that nobody disturbs.
const FACTOR: (u64, u64) = (3, 2);

/// See [`FACTOR`].
const SLACK_KIB: u64 = 16 << 10;

/// What was noted.
#[derive(Debug, Default)]
pub(super) struct Memory {
    lives: Vec<Life>,
}

/// One process.
#[derive(Debug)]
struct Life {
    process: Pid,
    /// Jobs of the worker that were done before.
    before: usize,
    /// Once it was warm.
    warm: Option<Size>,
    last: Size,
}

/// What a process had after so many jobs of its life.
#[derive(Debug, Clone, Copy)]
struct Size {
    jobs: usize,
    kib: u64,
}

impl Memory {
    /// Notes the size of a worker that has done so many jobs, those of the lives before included.
    pub(super) fn note(&mut self, process: Pid, done: usize) -> Result<()> {
        self.note_size(process, done, resident_kib(process)?);
        Ok(())
    }

    fn note_size(&mut self, process: Pid, done: usize, kib: u64) {
        let known = self.lives.iter_mut().find(|life| life.process == process);
        let Some(life) = known else {
            self.lives.push(Life {
                process,
                before: done,
                warm: None,
                last: Size { jobs: 0, kib },
            });
            return;
        };
        let jobs = done.saturating_sub(life.before);
        life.last = Size { jobs, kib };
        if jobs >= WARM {
            life.warm.get_or_insert(life.last);
        }
    }

    /// Whether it is flat.
    pub(super) fn check(&self) -> Result<()> {
        for (warm, last) in self.long_lives() {
            let bound = warm.kib * FACTOR.0 / FACTOR.1 + SLACK_KIB;
            ensure!(last.kib <= bound, "{self}: more than {bound} KiB");
        }
        Ok(())
    }

    fn long_lives(&self) -> impl Iterator<Item = (Size, Size)> {
        let lives = self.lives.iter();
        let lives = lives.filter_map(|life| Some((life.warm?, life.last)));
        lives.filter(|(warm, last)| last.jobs >= warm.jobs + LONG)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grown = |(warm, last): &(Size, Size)| last.kib.saturating_sub(warm.kib);
        let most = self.long_lives().max_by_key(grown);
        let (count, all) = (self.long_lives().count(), self.lives.len());
        write!(
            formatter,
            "{count} of {all} lives of a worker were long enough to compare"
        )?;
        let Some((warm, last)) = most else {
            return Ok(());
        };
        write!(
            formatter,
            "; the one that grew most had {} KiB after {} jobs, {} KiB after {}",
            warm.kib, warm.jobs, last.kib, last.jobs
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 60 << 10;

    /// One life, with a size after so many jobs.
    fn of(sizes: &[(usize, u64)]) -> Memory {
        let mut memory = Memory::default();
        for (jobs, kib) in sizes {
            memory.note_size(Pid::this(), 100 + jobs, *kib);
        }
        memory
    }

    #[test]
    fn growth_beyond_the_bound_is_told() {
        let bound = KIB * 3 / 2 + SLACK_KIB;
        of(&[(0, 1), (12, KIB), (40, bound)]).check().unwrap();
        assert!(of(&[(0, 1), (12, KIB), (40, bound + 1)]).check().is_err());
    }

    #[test]
    fn a_life_that_was_too_short_says_nothing() {
        let memory = of(&[(0, 1), (12, KIB), (31, 10 * KIB)]);
        memory.check().unwrap();
        assert!(memory.to_string().starts_with("0 of 1"), "{memory}");
    }

    #[test]
    fn two_lives_are_not_compared() {
        let mut memory = of(&[(0, 1), (12, KIB), (40, KIB)]);
        memory.note_size(Pid::from_raw(1), 140, 10 * KIB);
        memory.note_size(Pid::from_raw(1), 180, 10 * KIB);
        memory.check().unwrap();
    }
}
