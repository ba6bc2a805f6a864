//! Percentiles, and the file that they are written to.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::machine;

/// What must not be exceeded: a figure that is larger, or that was not measured, is a failure.
///
/// | figure | why |
/// | --- | --- |
/// | `store.dedup_ratio` | a second lockfile adds about a third of a snapshot at most |
/// | `store.fetch_vs_zstd` | verifying while fetching costs no more than two further passes |
/// | `store.peak_memory_mib` | a fetch has few chunks in memory, however large the snapshot |
/// | `bake.rebake_over_template` | a bake from a snapshot is no slower than one from power on |
const BOUNDS: [(&str, f64); 4] = [
    ("store.dedup_ratio", 0.35),
    ("store.fetch_vs_zstd", 3.0),
    ("store.peak_memory_mib", 256.0),
    ("bake.rebake_over_template", 1.0),
];

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
        let mut problems = Vec::new();
        for (name, bound) in BOUNDS {
            match self.0.get(name) {
                Some(value) if *value <= bound => {}
                Some(value) => problems.push(format!("{name} is {value}, the bound {bound}")),
                None => problems.push(format!("{name} was not measured")),
            }
        }
        ensure!(problems.is_empty(), "{}", problems.join("; "));
        Ok(())
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
            figures.ratio(name, bound);
        }
        figures.check().unwrap();
        figures.ratio("store.dedup_ratio", 0.36);
        figures.0.remove("store.fetch_vs_zstd");
        let problems = figures.check().unwrap_err().to_string();
        assert!(problems.contains("dedup_ratio is 0.36"), "{problems}");
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
