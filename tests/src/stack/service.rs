//! A service of ours as a process: the bakery or the worker.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::launch::{Launch, Lifetime};
use crate::process::Process;

/// 2 min until it says that it is ready: it waits for its servers, and everything else it does is quick.
const READY_DEADLINE: Duration = Duration::from_mins(2);

/// 45 s for a service to end its work: a worker gives its jobs 30 s.
pub const GRACE: Duration = Duration::from_secs(45);

/// The word that a service logs when it serves.
const READY: &str = "ready";

/// What to start.
#[derive(Debug, Clone)]
pub struct Service {
    /// Name in messages and of its log.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments after `--config FILE`.
    pub arguments: Vec<String>,
    /// Its configuration.
    pub config: PathBuf,
    /// Where its log is written.
    pub directory: PathBuf,
    /// Added to our own environment.
    pub environment: Vec<(String, String)>,
}

impl Service {
    /// Starts it, without waiting until it is ready. Its log is begun afresh.
    pub fn spawn(&self, lifetime: Lifetime) -> Result<Process> {
        let log = self.directory.join(format!("{}.log", self.name));
        // It may be the first run.
        let _absent = fs::remove_file(&log);
        let config = ["--config".into(), self.config.clone().into_os_string()];
        Process::spawn(Launch {
            name: self.name,
            program: self.program.clone(),
            arguments: config
                .into_iter()
                .chain(self.arguments.iter().map(Into::into))
                .collect(),
            environment: self.environment.clone(),
            log,
            lifetime,
            leftovers: Vec::new(),
        })
    }

    /// Starts it and waits until it serves.
    pub async fn start(&self, lifetime: Lifetime) -> Result<Process> {
        let mut process = self.spawn(lifetime)?;
        becomes_ready(&mut process).await?;
        Ok(process)
    }

    /// Another of the same kind, with a state, a configuration and a log of its own below `directory`. `change` has the last word
    /// about its configuration.
    pub fn sibling(
        &self,
        name: &'static str,
        directory: &Path,
        change: impl FnOnce(&mut toml::Table),
    ) -> Result<Self> {
        let text = fs::read_to_string(&self.config)
            .with_context(|| format!("read {}", self.config.display()))?;
        let mut config: toml::Table = text.parse().context("read a configuration")?;
        let state = directory.join(name);
        fs::create_dir_all(&state).with_context(|| format!("make {}", state.display()))?;
        config["state"] = state.to_str().context("a path in UTF-8")?.into();
        change(&mut config);
        let path = directory.join(format!("{name}.toml"));
        fs::write(&path, config.to_string())
            .with_context(|| format!("write {}", path.display()))?;
        Ok(Self {
            name,
            config: path,
            directory: directory.to_owned(),
            ..self.clone()
        })
    }

    /// Its program with `arguments` after `--config FILE`, to be run to the end.
    pub fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .kill_on_drop(true);
        command
    }

    /// Runs its program to the end; what it says goes to standard error.
    pub async fn run(&self, arguments: &[&str]) -> Result<()> {
        let status = self
            .command(arguments)
            .stdout(std::io::stderr())
            .status()
            .await
            .with_context(|| format!("start {}", self.program.display()))?;
        ensure!(
            status.success(),
            "{} {}: {status}",
            self.name,
            arguments.join(" ")
        );
        Ok(())
    }
}

/// Waits until a service says in its log that it serves.
pub async fn becomes_ready(process: &mut Process) -> Result<()> {
    let log = process.log().to_owned();
    process
        .ready(READY_DEADLINE, async || says(&log, READY).then_some(()))
        .await
}

/// Whether `word` stands in a log, by itself.
pub fn says(log: &Path, word: &str) -> bool {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_only_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        fs::write(&log, "INFO already here\n").unwrap();
        assert!(!says(&log, READY));
        fs::write(&log, "INFO ready worker=w1\n").unwrap();
        assert!(says(&log, READY));
    }
}
