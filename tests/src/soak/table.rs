//! What a soak did and what came of it, as a person reads it.

use std::collections::BTreeMap;
use std::fmt;

use super::board::Board;
use super::faults::Fault;
use super::jobs::Kind;
use super::memory::Memory;

/// What a soak did and what came of it.
#[derive(Debug)]
pub struct Report {
    seed: u64,
    kinds: Vec<(Kind, usize)>,
    /// Each fault, and how often it was done.
    pub(super) faults: BTreeMap<Fault, usize>,
    results: BTreeMap<String, usize>,
    /// How large the workers were.
    pub(super) memory: Memory,
}

impl Report {
    /// Nothing was done yet.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            kinds: Vec::new(),
            faults: BTreeMap::new(),
            results: BTreeMap::new(),
            memory: Memory::default(),
        }
    }

    /// How many faults were done.
    pub fn faults(&self) -> usize {
        self.faults.values().sum()
    }

    /// Counts the jobs of each kind.
    pub(super) fn count_kinds(&mut self, board: &Board) {
        self.kinds = Kind::ALL.map(|kind| (kind, board.count(kind))).into();
    }

    /// Counts the results of each reason.
    pub(super) fn count_results(&mut self, board: &Board) {
        for result in board.results() {
            let word = format!("{}: {}", result.status, result.reason);
            *self.results.entry(word).or_default() += 1;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "seed {}", self.seed)?;
        writeln!(formatter, "\n jobs  kind")?;
        for (kind, count) in &self.kinds {
            writeln!(formatter, "{count:>5}  {kind}")?;
        }
        writeln!(formatter, "\ntimes  fault")?;
        for (fault, count) in &self.faults {
            writeln!(formatter, "{count:>5}  {fault}")?;
        }
        writeln!(formatter, "\n jobs  result")?;
        for (result, count) in &self.results {
            writeln!(formatter, "{count:>5}  {result}")?;
        }
        writeln!(formatter, "\n{}", self.memory)
    }
}
