//! Reading the file, and what may be wrong with it.

use std::path::{Path, PathBuf};

use super::{Config, MAX_SLOTS};

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("configuration {}: {}", path.display(), problems.join("; "))]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Each mistake, with the setting that it is in.
    pub problems: Vec<String>,
}

impl Config {
    /// Reads the file; `variable` looks an environment variable up.
    pub fn load(
        path: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let failed = |problems| ConfigError {
            path: path.to_owned(),
            problems,
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| failed(vec![format!("cannot be read: {error}")]))?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            failed(vec![
                error.message().to_owned() + &place(&text, error.span()),
            ])
        })?;
        if let Some(url) = variable("SOURDOUGH_NATS_URL") {
            config.nats.url = url;
        }
        config.telemetry.complete(variable);
        let problems = config.problems();
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(failed(problems))
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = self.telemetry.problems();
        if !self.state.is_absolute() {
            problems.push(format!(
                "state: must be an absolute path, is {}",
                self.state.display()
            ));
        }
        problems.extend(self.problems_of_slots());
        if self.max_parked > 4096 {
            problems.push(format!(
                "max_parked: must be at most 4096, is {}",
                self.max_parked
            ));
        }
        if self.cache_max_mib == 0 {
            problems.push("cache_max_mib: must be at least 1".into());
        }
        if !self.ca_bundle.is_absolute() {
            problems.push(format!(
                "ca_bundle: must be an absolute path, is {}",
                self.ca_bundle.display()
            ));
        }
        problems.extend(self.problem_of_trust());
        problems
    }

    fn problems_of_slots(&self) -> Vec<String> {
        let settings = [
            ("slots", self.slots.unwrap_or(1), MAX_SLOTS),
            ("slot_vcpu", self.slot_vcpu, 32),
            ("slot_memory_mib", self.slot_memory_mib, 1 << 20),
            ("slot_disk_mib", self.slot_disk_mib, 1 << 20),
        ];
        let wrong = settings
            .into_iter()
            .filter(|(_, value, most)| *value == 0 || value > most);
        wrong
            .map(|(setting, value, most)| {
                format!("{setting}: must be between 1 and {most}, is {value}")
            })
            .collect()
    }

    fn problem_of_trust(&self) -> Option<String> {
        if self.trust.is_empty() {
            return Some("trust: must name at least one of trusted and untrusted".into());
        }
        self.accepted().is_empty().then(|| {
            "trust: only untrusted jobs, which this worker must not run under software emulation; \
             set untrusted_under_tcg = true to accept that"
                .into()
        })
    }
}

/// ` (line N)` for a place in the text.
fn place(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let line = |span: std::ops::Range<usize>| {
        text.get(..span.start)
            .map(|before| before.lines().count().max(1))
    };
    span.and_then(line)
        .map(|line| format!(" (line {line})"))
        .unwrap_or_default()
}
