//! Says what is being done, and what each phase took.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The phases so far. They are told on standard error as they come, since standard output belongs to results.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    phases: Vec<(String, Duration)>,
}

impl Progress {
    /// Nothing was done yet.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            phases: Vec::new(),
        }
    }

    /// Does `work` as the phase `name`.
    pub async fn phase<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        eprintln!("==> {name}");
        let start = Instant::now();
        let outcome = work.await;
        let took = start.elapsed();
        match &outcome {
            Ok(_) => eprintln!("    done in {}", seconds(took)),
            Err(_) => eprintln!("    failed after {}", seconds(took)),
        }
        self.phases.push((name.to_owned(), took));
        outcome
    }

    /// One line for each phase, and one for all of them.
    pub fn table(&self) -> String {
        let all = ("all of it".to_owned(), self.start.elapsed());
        let rows = self.phases.iter().chain([&all]);
        let lines = rows.map(|(name, took)| format!("{:>9}  {name}\n", seconds(*took)));
        lines.collect::<Vec<_>>().concat()
    }
}

/// A duration for a person, as `1.3 s`.
fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[tokio::test]
    async fn a_phase_that_failed_is_in_the_table_too() {
        let mut progress = Progress::start();
        progress.phase("first", async { Ok(()) }).await.unwrap();
        let failed: Result<()> = progress.phase("second", async { bail!("no") }).await;
        assert!(failed.is_err());
        let table = progress.table();
        let names: Vec<_> = table.lines().map(|line| &line[11..]).collect();
        assert_eq!(names, ["first", "second", "all of it"]);
    }
}
