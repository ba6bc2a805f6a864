//! Percentiles, and the file that they are written to.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::machine;

/// What a figure must be: one that is not, or that was not measured, is a failure.
///
/// | figure | why |
/// | --- | --- |
/// | `store.dedup_ratio` | a second lockfile adds about a third of a snapshot at most |
/// | `store.fetch_vs_zstd` | verifying while fetching costs no more than two further passes |
/// | `store.peak_memory_mib` | a fetch has few chunks in memory, however large the snapshot |
/// | `bake.rebake_over_template` | a bake from a snapshot is no slower than one from power on |
/// | `queue.claim_ms_p50` | a job starts when it is published, and not at the next look at the queue |
/// | `queue.report_ms_p50` | what follows the last step is one message |
/// | `queue.jobs_per_s_fake` | the queue is never what a fleet waits for |
/// | `queue.idle_cpu_percent` | waiting costs nothing |
const BOUNDS: [(&str, Bound); 8] = [
    ("store.dedup_ratio", Bound::AtMost(0.35)),
    ("store.fetch_vs_zstd", Bound::AtMost(3.0)),
    ("store.peak_memory_mib", Bound::AtMost(256.0)),
    ("bake.rebake_over_template", Bound::AtMost(1.0)),
    ("queue.claim_ms_p50", Bound::AtMost(5.0)),
    ("queue.report_ms_p50", Bound::AtMost(15.0)),
    ("queue.jobs_per_s_fake", Bound::AtLeast(500.0)),
    ("queue.idle_cpu_percent", Bound::AtMost(1.0)),
];

/// Where a figure must lie.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// What was measured, by name. The last part of a name is its unit and percentile.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Adds `<name>_ms_p50` of some measurements.
    pub(super) fn median(&mut self, name: &str, measured: &[Duration]) {
        self.percentile(name, measured, 50);
    }

    /// Adds `<name>_ms_p<percent>`.
    pub(super) fn percentile(&mut self, name: &str, measured: &[Duration], percent: usize) {
        if let Some(value) = nearest_rank(measured, percent) {
            // A tenth of a millisecond is what repeats from run to run.
            let tenths = (value.as_secs_f64() * 10_000.0).round();
            self.0
                .insert(format!("{name}_ms_p{percent}"), tenths / 10.0);
        }
    }

    /// Adds a quotient, to three digits after the point.
    pub(super) fn ratio(&mut self, name: &str, value: f64) {
        self.0
            .insert(name.to_owned(), (value * 1000.0).round() / 1000.0);
    }

    /// Adds a whole number.
    pub(super) fn count(&mut self, name: &str, value: u64) {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.0.insert(name.to_owned(), value.into());
    }

    /// Adds the quotient of two medians.
    pub(super) fn quotient(&mut self, name: &str, over: &[Duration], under: &[Duration]) {
        if let (Some(over), Some(under)) = (nearest_rank(over, 50), nearest_rank(under, 50)) {
            self.ratio(name, over.as_secs_f64() / under.as_secs_f64());
        }
    }

    /// Whether every figure that has a bound was measured and is within it.
    pub(super) fn check(&self) -> Result<()> {
        self.check_those_of("")
    }

    /// The same of the figures whose names begin with `part`.
    pub(super) fn check_those_of(&self, part: &str) -> Result<()> {
        let mut problems = Vec::new();
        for (name, bound) in BOUNDS.iter().filter(|(name, _)| name.starts_with(part)) {
            match self.0.get(*name) {
                Some(value) if bound.holds(*value) => {}
                Some(value) => problems.push(format!("{name} is {value}, must be {bound}")),
                None => problems.push(format!("{name} was not measured")),
            }
        }
        ensure!(problems.is_empty(), "{}", problems.join("; "));
        Ok(())
    }

    /// The figures as JSON.
    pub(super) fn print(&self) -> Result<String> {
        serde_json::to_string_pretty(&self.0).context("print the figures")
    }

    /// Writes `{"machine": …, "commit": …, "figures": …}`.
    pub(super) fn write(&self, path: &Path) -> Result<String> {
        let report = json!({
            "machine": machine::describe(),
            "commit": machine::commit(),
            "figures": self.0,
        });
        let text = serde_json::to_string_pretty(&report).context("print the figures")?;
        fs::write(path, format!("{text}\n"))
            .with_context(|| format!("write {}", path.display()))?;
        Ok(text)
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(formatter, "at most {most}"),
            Self::AtLeast(least) => write!(formatter, "at least {least}"),
        }
    }
}

/// The smallest measurement that at least `percent` of 100 do not exceed.
fn nearest_rank(measured: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = measured.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_measurements() {
        let measured: Vec<_> = (1..=30).rev().map(Duration::from_millis).collect();
        assert_eq!(nearest_rank(&measured, 50), Some(Duration::from_millis(15)));
        assert_eq!(nearest_rank(&measured, 99), Some(Duration::from_millis(30)));
        assert_eq!(nearest_rank(&[], 50), None);
    }

    #[test]
    fn a_figure_beyond_its_bound_and_one_that_is_missing_are_both_told() {
        let mut figures = Figures::default();
        for (name, bound) in BOUNDS {
            let (Bound::AtMost(value) | Bound::AtLeast(value)) = bound;
            figures.ratio(name, value);
        }
        figures.check().unwrap();
        figures.ratio("store.dedup_ratio", 0.36);
        figures.ratio("queue.jobs_per_s_fake", 499.0);
        figures.0.remove("store.fetch_vs_zstd");
        let problems = figures.check().unwrap_err().to_string();
        assert!(problems.contains("dedup_ratio is 0.36"), "{problems}");
        assert!(
            problems.contains("fake is 499, must be at least 500"),
            "{problems}"
        );
        figures.check_those_of("bake.").unwrap();
        assert!(
            problems.contains("fetch_vs_zstd was not measured"),
            "{problems}"
        );
    }

    #[test]
    fn a_figure_is_named_with_its_unit_and_percentile() {
        let mut figures = Figures::default();
        figures.median("fork.first_command", &[Duration::from_micros(1_260)]);
        assert!((figures.0["fork.first_command_ms_p50"] - 1.3).abs() < f64::EPSILON);
    }
}
